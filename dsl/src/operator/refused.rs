//! The rows of a batch whose key or result a store does not take.

use headwater_core::serde::Data;
use headwater_engine::{
    processor::{Context, ProcessorError, Record},
    store::StoreError,
};

/// Rows that were refused, each with why; their fate is decided once the store is no longer borrowed.
#[derive(Default)]
pub(super) struct Refused(Vec<(Record<(), ()>, StoreError)>);

impl Refused {
    /// Adds a row, without its key and value.
    pub(super) fn add(&mut self, row: Record<(), ()>, why: StoreError) {
        self.0.push((row, why));
    }

    /// Drops and counts rows whose key is null, and sends the others to the dead letters.
    pub(super) fn settle<K: Data, V: Data>(
        self,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        for (row, why) in self.0 {
            context.begin(&row);
            context.check(Err(why.into()))?;
        }
        Ok(())
    }
}

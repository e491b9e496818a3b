//! Turns the updates of a table into records: the new values alone.

use crate::table::Change;
use headwater_core::serde::Data;
use headwater_engine::processor::{BatchProcessor, Context, ProcessorError, Rows};

/// Forwards new values.
pub(crate) struct ToStream;

impl<K: Data, V: Data> BatchProcessor<Rows<K, Change<V>>> for ToStream {
    type KOut = K;
    type VOut = Option<V>;

    fn process_batch(
        &mut self,
        rows: Rows<K, Change<V>>,
        context: &mut Context<'_, K, Option<V>>,
    ) -> Result<(), ProcessorError> {
        let updates = rows.into_iter().map(|record| record.map(|key, change| (key, change.new)));
        context.forward_all(updates.collect());
        Ok(())
    }
}

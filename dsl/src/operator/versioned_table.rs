//! Keeps the versions of each key of a table.
//!
//! # Guarantees
//!
//! - A record that is older than the history is dropped and counted as late; every other one is forwarded, one that is not the
//!   latest of its key as such.
//! - A record whose key is null is dropped and counted.

use super::Results;
use crate::table::Change;
use headwater_core::serde::Data;
use headwater_engine::processor::{BatchProcessor, Context, ProcessorError, Rows};
use std::{marker::PhantomData, sync::Arc};

/// Keeps versions and forwards updates; `row` gives the value of what comes.
pub(crate) struct VersionedTable<K, T, V, R> {
    versions: Results<K, V>,
    row: Arc<R>,
    input: PhantomData<fn(T)>,
}

impl<K: Data, T, V: Data, R> VersionedTable<K, T, V, R> {
    pub(crate) fn new(versions: Results<K, V>, row: &Arc<R>) -> Self {
        Self { versions, row: Arc::clone(row), input: PhantomData }
    }
}

impl<K, T, V, R> BatchProcessor<Rows<K, T>> for VersionedTable<K, T, V, R>
where
    K: Data,
    T: Data,
    V: Data,
    R: Fn(T) -> Option<V> + Send + Sync,
{
    type KOut = K;
    type VOut = Change<V>;

    fn process_batch(
        &mut self,
        rows: Rows<K, T>,
        context: &mut Context<'_, K, Change<V>>,
    ) -> Result<(), ProcessorError> {
        let mut changes = Vec::with_capacity(rows.len());
        for record in rows {
            context.begin(&record);
            let (frame, key, value) = record.split();
            match self.versions.put(&key, (self.row)(value), frame.timestamp, context) {
                Ok(change) => {
                    changes.extend(change.map(|change| frame.map(|(), ()| (key, change))));
                }
                Err(why) => context.check(Err(why))?,
            }
        }
        context.forward_all(changes);
        Ok(())
    }
}

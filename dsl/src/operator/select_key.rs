//! Gives each record another key.

use headwater_core::serde::Data;
use headwater_engine::processor::{BatchProcessor, Context, ProcessorError, Record, Rows};
use std::sync::Arc;

/// Derives the key from key and value.
pub(crate) struct SelectKey<F> {
    select: Arc<F>,
}

impl<F> SelectKey<F> {
    pub(crate) fn new(select: &Arc<F>) -> Self {
        Self { select: Arc::clone(select) }
    }
}

impl<K, V, K2, F> BatchProcessor<Rows<K, V>> for SelectKey<F>
where
    K: Data,
    V: Data,
    K2: Data,
    F: Fn(&K, &V) -> K2 + Send + Sync,
{
    type KOut = K2;
    type VOut = V;

    fn process_batch(
        &mut self,
        rows: Rows<K, V>,
        context: &mut Context<'_, K2, V>,
    ) -> Result<(), ProcessorError> {
        let select = |record: Record<K, V>| {
            let key = (self.select)(&record.key, &record.value);
            record.with_key(key)
        };
        context.forward_all(rows.into_iter().map(select).collect());
        Ok(())
    }
}

//! Maps the value; the key stays.

use headwater_core::serde::Data;
use headwater_engine::processor::{BatchProcessor, Context, ProcessorError, Record, Rows};
use std::sync::Arc;

/// Maps the value.
pub(crate) struct MapValues<F> {
    map: Arc<F>,
}

impl<F> MapValues<F> {
    pub(crate) fn new(map: &Arc<F>) -> Self {
        Self { map: Arc::clone(map) }
    }

    fn apply<K, V, V2>(&self, record: Record<K, V>) -> Record<K, V2>
    where
        F: Fn(&K, V) -> V2,
    {
        record.map(|key, value| {
            let value = (self.map)(&key, value);
            (key, value)
        })
    }
}

impl<K, V, V2, F> BatchProcessor<Rows<K, V>> for MapValues<F>
where
    K: Data,
    V: Data,
    V2: Data,
    F: Fn(&K, V) -> V2 + Send + Sync,
{
    type KOut = K;
    type VOut = V2;

    fn process_batch(
        &mut self,
        rows: Rows<K, V>,
        context: &mut Context<'_, K, V2>,
    ) -> Result<(), ProcessorError> {
        context.forward_all(rows.into_iter().map(|record| self.apply(record)).collect());
        Ok(())
    }
}

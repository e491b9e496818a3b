//! Maps a record to another one.

use headwater_core::serde::Data;
use headwater_engine::processor::{BatchProcessor, Context, ProcessorError, Rows};
use std::sync::Arc;

/// Maps key and value.
pub(crate) struct Map<F> {
    map: Arc<F>,
}

impl<F> Map<F> {
    pub(crate) fn new(map: &Arc<F>) -> Self {
        Self { map: Arc::clone(map) }
    }
}

impl<K, V, K2, V2, F> BatchProcessor<Rows<K, V>> for Map<F>
where
    K: Data,
    V: Data,
    K2: Data,
    V2: Data,
    F: Fn(K, V) -> (K2, V2) + Send + Sync,
{
    type KOut = K2;
    type VOut = V2;

    fn process_batch(
        &mut self,
        rows: Rows<K, V>,
        context: &mut Context<'_, K2, V2>,
    ) -> Result<(), ProcessorError> {
        context.forward_all(rows.into_iter().map(|record| record.map(&*self.map)).collect());
        Ok(())
    }
}

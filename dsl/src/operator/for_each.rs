//! Takes records and forwards nothing.

use headwater_core::serde::Data;
use headwater_engine::processor::{BatchProcessor, Context, ProcessorError, Rows};
use std::sync::Arc;

/// Calls a function on each record.
pub(crate) struct ForEach<F> {
    take: Arc<F>,
}

impl<F> ForEach<F> {
    pub(crate) fn new(take: &Arc<F>) -> Self {
        Self { take: Arc::clone(take) }
    }
}

impl<K, V, F> BatchProcessor<Rows<K, V>> for ForEach<F>
where
    K: Data,
    V: Data,
    F: Fn(K, V) + Send + Sync,
{
    type KOut = K;
    type VOut = V;

    fn process_batch(
        &mut self,
        rows: Rows<K, V>,
        _context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        rows.into_iter().for_each(|record| (self.take)(record.key, record.value));
        Ok(())
    }
}

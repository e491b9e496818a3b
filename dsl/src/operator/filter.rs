//! Keeps the records that a predicate holds for.

use headwater_core::serde::Data;
use headwater_engine::processor::{BatchProcessor, Context, ProcessorError, Rows};
use std::sync::Arc;

/// Keeps the records that `keep` holds for.
pub(crate) struct Filter<F> {
    keep: Arc<F>,
}

impl<F> Filter<F> {
    pub(crate) fn new(keep: &Arc<F>) -> Self {
        Self { keep: Arc::clone(keep) }
    }
}

impl<K, V, F> BatchProcessor<Rows<K, V>> for Filter<F>
where
    K: Data,
    V: Data,
    F: Fn(&K, &V) -> bool + Send + Sync,
{
    type KOut = K;
    type VOut = V;

    fn process_batch(
        &mut self,
        mut rows: Rows<K, V>,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        rows.retain(|record| (self.keep)(&record.key, &record.value));
        context.forward_all(rows);
        Ok(())
    }
}

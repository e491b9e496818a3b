//! Looks at records on their way.

use headwater_core::serde::Data;
use headwater_engine::processor::{BatchProcessor, Context, ProcessorError, Rows};
use std::sync::Arc;

/// Calls a function on each record and passes it on.
pub(crate) struct Peek<F> {
    look: Arc<F>,
}

impl<F> Peek<F> {
    pub(crate) fn new(look: &Arc<F>) -> Self {
        Self { look: Arc::clone(look) }
    }
}

impl<K, V, F> BatchProcessor<Rows<K, V>> for Peek<F>
where
    K: Data,
    V: Data,
    F: Fn(&K, &V) + Send + Sync,
{
    type KOut = K;
    type VOut = V;

    fn process_batch(
        &mut self,
        rows: Rows<K, V>,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        rows.iter().for_each(|record| (self.look)(&record.key, &record.value));
        context.forward_all(rows);
        Ok(())
    }
}

//! Sends each record to the first branch that wants it.

use headwater_core::serde::Data;
use headwater_engine::processor::{BatchProcessor, Context, ProcessorError, Rows};
use std::sync::Arc;

/// The branches' predicates, in the order of the node's children.
pub(crate) type Predicates<K, V> = Vec<Arc<dyn Fn(&K, &V) -> bool + Send + Sync>>;

/// Sends each record to the child whose predicate is the first to hold; to none if none does.
pub(crate) struct Branch<K, V> {
    predicates: Arc<Predicates<K, V>>,
}

impl<K, V> Branch<K, V> {
    pub(crate) fn new(predicates: &Arc<Predicates<K, V>>) -> Self {
        Self { predicates: Arc::clone(predicates) }
    }
}

impl<K: Data, V: Data> BatchProcessor<Rows<K, V>> for Branch<K, V> {
    type KOut = K;
    type VOut = V;

    fn process_batch(
        &mut self,
        rows: Rows<K, V>,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        for record in rows {
            let wants = self.predicates.iter().position(|wants| wants(&record.key, &record.value));
            if let Some(child) = wants.and_then(|child| u16::try_from(child).ok()) {
                context.forward_to_nth(child, record);
            }
        }
        Ok(())
    }
}

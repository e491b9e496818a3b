//! Filters or maps the rows of a table; a row that is filtered out is deleted.

use headwater_core::serde::Data;
use headwater_engine::processor::{BatchProcessor, Context, ProcessorError, Rows};
use std::sync::Arc;

/// Maps a row to its new value or to none; deletions stay deletions.
pub(crate) struct TableValues<F> {
    map: Arc<F>,
}

impl<F> TableValues<F> {
    pub(crate) fn new(map: &Arc<F>) -> Self {
        Self { map: Arc::clone(map) }
    }
}

impl<K, V, V2, F> BatchProcessor<Rows<K, Option<V>>> for TableValues<F>
where
    K: Data,
    V: Data,
    V2: Data,
    F: Fn(&K, V) -> Option<V2> + Send + Sync,
{
    type KOut = K;
    type VOut = Option<V2>;

    fn process_batch(
        &mut self,
        rows: Rows<K, Option<V>>,
        context: &mut Context<'_, K, Option<V2>>,
    ) -> Result<(), ProcessorError> {
        let map = |key: K, value: Option<V>| {
            let value = value.and_then(|value| (self.map)(&key, value));
            (key, value)
        };
        context.forward_all(rows.into_iter().map(|record| record.map(map)).collect());
        Ok(())
    }
}

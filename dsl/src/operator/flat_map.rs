//! Maps a record to any number of others.

use headwater_core::serde::Data;
use headwater_engine::processor::{BatchProcessor, Context, ProcessorError, Rows};
use std::sync::Arc;

/// Maps key and value to any number of pairs, which keep their order and the record's timestamp and headers.
pub(crate) struct FlatMap<F> {
    map: Arc<F>,
}

impl<F> FlatMap<F> {
    pub(crate) fn new(map: &Arc<F>) -> Self {
        Self { map: Arc::clone(map) }
    }
}

impl<K, V, K2, V2, I, F> BatchProcessor<Rows<K, V>> for FlatMap<F>
where
    K: Data,
    V: Data,
    K2: Data,
    V2: Data,
    I: IntoIterator<Item = (K2, V2)>,
    F: Fn(K, V) -> I + Send + Sync,
{
    type KOut = K2;
    type VOut = V2;

    fn process_batch(
        &mut self,
        rows: Rows<K, V>,
        context: &mut Context<'_, K2, V2>,
    ) -> Result<(), ProcessorError> {
        for record in rows {
            let (frame, key, value) = record.split();
            for (key, value) in (self.map)(key, value) {
                context.forward(frame.clone().map(|(), ()| (key, value)));
            }
        }
        Ok(())
    }
}

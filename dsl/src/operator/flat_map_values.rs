//! Maps a value to any number of others; the key stays.

use headwater_core::serde::Data;
use headwater_engine::processor::{BatchProcessor, Context, ProcessorError, Rows};
use std::sync::Arc;

/// Maps the value to any number of values, which keep their order and the record's key, timestamp and headers.
pub(crate) struct FlatMapValues<F> {
    map: Arc<F>,
}

impl<F> FlatMapValues<F> {
    pub(crate) fn new(map: &Arc<F>) -> Self {
        Self { map: Arc::clone(map) }
    }
}

impl<K, V, V2, I, F> BatchProcessor<Rows<K, V>> for FlatMapValues<F>
where
    K: Data,
    V: Data,
    V2: Data,
    I: IntoIterator<Item = V2>,
    F: Fn(&K, V) -> I + Send + Sync,
{
    type KOut = K;
    type VOut = V2;

    fn process_batch(
        &mut self,
        rows: Rows<K, V>,
        context: &mut Context<'_, K, V2>,
    ) -> Result<(), ProcessorError> {
        for record in rows {
            let (frame, key, value) = record.split();
            for value in (self.map)(&key, value) {
                context.forward(frame.clone().map(|(), ()| (key.clone(), value)));
            }
        }
        Ok(())
    }
}

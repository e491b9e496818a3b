//! Of the updates of a windowed table, the first of each key and window.

use crate::table::Change;
use headwater_core::serde::Data;
use headwater_engine::{
    processor::{BatchProcessor, Context, ProcessorError, Record, Rows},
    store::Windowed,
};

/// Forwards the values that were preceded by none, under their keys alone.
pub(crate) struct First;

impl<K: Data, V: Data> BatchProcessor<Rows<Windowed<K>, Change<V>>> for First {
    type KOut = K;
    type VOut = V;

    fn process_batch(
        &mut self,
        rows: Rows<Windowed<K>, Change<V>>,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        let first = |record: Record<Windowed<K>, Change<V>>| {
            let (frame, key, Change { new, old, .. }) = record.split();
            let value = new.filter(|_| old.is_none())?;
            Some(frame.map(|(), ()| (key.key, value)))
        };
        context.forward_all(rows.into_iter().filter_map(first).collect());
        Ok(())
    }
}

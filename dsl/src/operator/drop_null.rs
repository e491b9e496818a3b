//! Drops nulls and counts them, so that what follows has none in its types.

use headwater_core::{metrics::DropReason, serde::Data};
use headwater_engine::processor::{BatchProcessor, Context, ProcessorError, Rows};

/// Drops records whose key is null.
pub(crate) struct DropNullKeys;

impl<K: Data, V: Data> BatchProcessor<Rows<Option<K>, V>> for DropNullKeys {
    type KOut = K;
    type VOut = V;

    fn process_batch(
        &mut self,
        rows: Rows<Option<K>, V>,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        for record in rows {
            let (frame, key, value) = record.split();
            match key {
                Some(key) => context.forward(frame.map(|(), ()| (key, value))),
                None => context.drop_record(DropReason::NullKey),
            }
        }
        Ok(())
    }
}

/// Drops records whose value is null.
pub(crate) struct DropNullValues;

impl<K: Data, V: Data> BatchProcessor<Rows<K, Option<V>>> for DropNullValues {
    type KOut = K;
    type VOut = V;

    fn process_batch(
        &mut self,
        rows: Rows<K, Option<V>>,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        for record in rows {
            let (frame, key, value) = record.split();
            match value {
                Some(value) => context.forward(frame.map(|(), ()| (key, value))),
                None => context.drop_record(DropReason::NullValue),
            }
        }
        Ok(())
    }
}

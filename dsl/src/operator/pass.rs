//! Passes records on: a node where streams meet, or that gives a stream a name of its own.

use headwater_core::serde::Data;
use headwater_engine::processor::{Context, Processor, ProcessorError, Record, Rows};

/// Passes every record on.
pub(crate) struct Pass;

impl<K: Data, V: Data> Processor<K, V> for Pass {
    type KOut = K;
    type VOut = V;

    fn process(
        &mut self,
        record: Record<K, V>,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        context.forward(record);
        Ok(())
    }

    fn process_batch(
        &mut self,
        rows: Rows<K, V>,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        context.forward_all(rows);
        Ok(())
    }
}

//! Passes records on: a node where streams meet, or that gives a stream a name of its own.

use headwater_core::serde::Data;
use headwater_engine::processor::{BatchProcessor, Context, ProcessorError, Rows};

/// Passes every record on.
pub(crate) struct PassThrough;

impl<K: Data, V: Data> BatchProcessor<Rows<K, V>> for PassThrough {
    type KOut = K;
    type VOut = V;

    fn process_batch(
        &mut self,
        rows: Rows<K, V>,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        context.forward_all(rows);
        Ok(())
    }
}

//! Makes records of a stream of what is read for a table.
//!
//! # Guarantees
//!
//! - A null becomes what the stream's serde reads as null; where that is nothing, the record is a dead letter, as it would be at a
//!   source of the stream's own.

use headwater_core::serde::{Data, SharedSerde};
use headwater_engine::processor::{BatchProcessor, Context, ProcessorError, Rows};

/// Makes records of a stream of what is read for a table; `values` reads those of the stream.
pub(crate) struct ValuesOfTable<V> {
    values: SharedSerde<V>,
}

impl<V> ValuesOfTable<V> {
    pub(crate) fn new(values: &SharedSerde<V>) -> Self {
        Self { values: SharedSerde::clone(values) }
    }
}

impl<K: Data, V: Data> BatchProcessor<Rows<K, Option<V>>> for ValuesOfTable<V> {
    type KOut = K;
    type VOut = V;

    fn process_batch(
        &mut self,
        rows: Rows<K, Option<V>>,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        let mut values = Vec::with_capacity(rows.len());
        for row in rows {
            context.begin(&row);
            let (frame, key, value) = row.split();
            match value.map_or_else(|| self.values.deserialize(None), Ok) {
                Ok(value) => values.push(frame.map(|(), ()| (key, value))),
                Err(why) => context.check(Err(ProcessorError::Record {
                    kind: "DeserializationError",
                    cause: why.to_string(),
                }))?,
            }
        }
        context.forward_all(values);
        Ok(())
    }
}

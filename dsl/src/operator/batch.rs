//! Hands whole batches to a function of the user's.

use headwater_core::serde::Data;
use headwater_engine::processor::{BatchProcessor, Context, ProcessorError, Record, Rows};
use std::{fmt, marker::PhantomData, sync::Arc};

/// The kind of failure of a row that a function of batches refuses.
const BATCH_ERROR: &str = "BatchError";

/// Where the results of a batch go; see [`KStream::process_batch`](crate::KStream::process_batch).
///
/// Example: [`KStream::process_batch`](crate::KStream::process_batch).
pub struct BatchOutput<'a, 'c, K, V> {
    context: &'a mut Context<'c, K, V>,
    rows: Rows<K, V>,
}

impl<K, V> fmt::Debug for BatchOutput<'_, '_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchOutput").field("rows", &self.rows.len()).finish_non_exhaustive()
    }
}

impl<K: Data, V: Data> BatchOutput<'_, '_, K, V> {
    /// Forwards a key and a value that come of `row`, with its timestamp and its headers.
    pub fn forward<K1, V1>(&mut self, row: &Record<K1, V1>, key: K, value: V) {
        self.rows.push(Record::made(key, value, row.headers.clone(), row.stamp()));
    }

    /// Makes `row` a dead letter.
    pub fn reject<K1, V1>(&mut self, row: &Record<K1, V1>, cause: impl fmt::Display) {
        self.context.begin(row);
        let why = ProcessorError::Record { kind: BATCH_ERROR, cause: cause.to_string() };
        // That a record is bad is an error for nobody but the record.
        let _ = self.context.check(Err(why));
    }
}

/// From which rows to which.
type FromTo<K, V, K2, V2> = PhantomData<fn(K, V) -> (K2, V2)>;

/// Hands batches to a function.
pub(crate) struct Batches<K, V, K2, V2, F> {
    process: Arc<F>,
    rows: FromTo<K, V, K2, V2>,
}

impl<K, V, K2, V2, F> Batches<K, V, K2, V2, F> {
    pub(crate) fn new(process: &Arc<F>) -> Self {
        Self { process: Arc::clone(process), rows: PhantomData }
    }
}

impl<K, V, K2, V2, F> BatchProcessor<Rows<K, V>> for Batches<K, V, K2, V2, F>
where
    K: Data,
    V: Data,
    K2: Data,
    V2: Data,
    F: Fn(&[Record<K, V>], &mut BatchOutput<'_, '_, K2, V2>) -> Result<(), ProcessorError>
        + Send
        + Sync,
{
    type KOut = K2;
    type VOut = V2;

    fn process_batch(
        &mut self,
        rows: Rows<K, V>,
        context: &mut Context<'_, K2, V2>,
    ) -> Result<(), ProcessorError> {
        let mut output = BatchOutput { context, rows: Vec::with_capacity(rows.len()) };
        (self.process)(&rows, &mut output)?;
        let BatchOutput { context, rows } = output;
        context.forward_all(rows);
        Ok(())
    }
}

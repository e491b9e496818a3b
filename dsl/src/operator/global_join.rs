//! Joins each record of a stream with the row of a global table that it names.
//!
//! # Guarantees
//!
//! - Only the stream forwards: a change of the table does not.
//! - A record that names no key finds no row: an inner join drops and counts it, a left join emits it unjoined.
//! - The result carries the stream record's key, timestamp and headers.

use headwater_core::{metrics::DropReason, serde::Data};
use headwater_engine::{
    processor::{BatchProcessor, Context, ProcessorError, Rows},
    store::GlobalStore,
};
use std::{marker::PhantomData, sync::Arc};

/// What becomes of records that name no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keyless {
    /// They are dropped and counted.
    Dropped,
    /// They are joined with no row.
    Unjoined,
}

/// Joins records with the rows of a global table: `select` gives the key of a record's row, `join` the result, if there is
/// one.
pub(crate) struct GlobalJoin<K, G, T, S, F> {
    table: GlobalStore<G, T>,
    select: Arc<S>,
    join: Arc<F>,
    keyless: Keyless,
    keys: PhantomData<fn(K)>,
}

impl<K, G, T, S, F> GlobalJoin<K, G, T, S, F> {
    pub(crate) fn new(
        table: GlobalStore<G, T>,
        select: &Arc<S>,
        join: &Arc<F>,
        keyless: Keyless,
    ) -> Self {
        let (select, join) = (Arc::clone(select), Arc::clone(join));
        Self { table, select, join, keyless, keys: PhantomData }
    }
}

impl<K, V, G, T, V2, S, F> BatchProcessor<Rows<K, V>> for GlobalJoin<K, G, T, S, F>
where
    K: Data,
    V: Data,
    G: Data,
    T: Data,
    V2: Data,
    S: Fn(&K, &V) -> Option<G> + Send + Sync,
    F: Fn(&K, V, Option<T>) -> Option<V2> + Send + Sync,
{
    type KOut = K;
    type VOut = V2;

    fn process_batch(
        &mut self,
        rows: Rows<K, V>,
        context: &mut Context<'_, K, V2>,
    ) -> Result<(), ProcessorError> {
        let keys: Vec<Option<G>> =
            rows.iter().map(|row| (self.select)(&row.key, &row.value)).collect();
        let named: Vec<&G> = keys.iter().flatten().collect();
        let mut found = self.table.get_all(&named)?.into_iter();
        let mut joined = Vec::with_capacity(rows.len());
        for (record, key) in rows.into_iter().zip(&keys) {
            context.begin(&record);
            let row = match key.as_ref().and_then(|_| found.next()).transpose() {
                Ok(row) => row.flatten().map(|row| row.value),
                Err(why) => {
                    context.check(Err(why.into()))?;
                    continue;
                }
            };
            if key.is_none() && self.keyless == Keyless::Dropped {
                context.drop_record(DropReason::NullKey);
                continue;
            }
            let (frame, key, value) = record.split();
            let value = (self.join)(&key, value, row);
            joined.extend(value.map(|value| frame.map(|(), ()| (key, value))));
        }
        context.forward_all(joined);
        Ok(())
    }
}

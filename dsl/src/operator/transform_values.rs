//! Transforms the values of a table by what a user's function keeps in stores, and keeps the results.
//!
//! # Guarantees
//!
//! - The function is called once for each update, deletions included, and sees no old values: what was forwarded before is
//!   what is kept.
//! - Where it fails for a row, its result stays as it was.
//! - An update that is not the newest of its row is dropped and counted.

use crate::table::{Change, OldValues};
use headwater_core::{metrics::DropReason, serde::Data};
use headwater_engine::{
    processor::{BatchProcessor, Context, ProcessorError, Rows, Stores},
    store::{KeyValueStore, StoreKey, ValueAndTimestamp},
};
use std::{marker::PhantomData, mem::replace};

/// Forwards and keeps what `transform` makes of each row.
pub(crate) struct TransformValues<K, V, V2, F> {
    transform: F,
    results: StoreKey<KeyValueStore<K, V2>>,
    old_values: OldValues,
    rows: PhantomData<fn(V)>,
}

impl<K, V, V2, F> TransformValues<K, V, V2, F> {
    pub(crate) fn new(
        transform: F,
        results: StoreKey<KeyValueStore<K, V2>>,
        old_values: OldValues,
    ) -> Self {
        Self { transform, results, old_values, rows: PhantomData }
    }
}

impl<K, V, V2, F> BatchProcessor<Rows<K, Change<V>>> for TransformValues<K, V, V2, F>
where
    K: Data,
    V: Data,
    V2: Data,
    F: FnMut(&K, Option<V>, &mut Stores<'_>) -> Result<Option<V2>, ProcessorError> + Send,
{
    type KOut = K;
    type VOut = Change<V2>;

    fn process_batch(
        &mut self,
        rows: Rows<K, Change<V>>,
        context: &mut Context<'_, K, Change<V2>>,
    ) -> Result<(), ProcessorError> {
        let mut changes = Vec::with_capacity(rows.len());
        for record in rows {
            context.begin(&record);
            if !record.value.is_latest {
                context.drop_record(DropReason::Late);
                continue;
            }
            let (frame, key, change) = record.split();
            let kept = (self.transform)(&key, change.new, &mut context.stores()).and_then(|new| {
                let (store, timestamp) = (context.store(self.results), frame.timestamp);
                let old = match self.old_values {
                    OldValues::Omitted => store.put(&key, new.clone(), timestamp).map(|()| None),
                    OldValues::Sent => store.update(&key, |value, at| {
                        let timestamp = replace(at, timestamp);
                        let old = replace(value, new.clone());
                        old.map(|value| ValueAndTimestamp { value, timestamp })
                    }),
                };
                Ok(Change::latest(new, old?))
            });
            match kept {
                Ok(change) => changes.push(frame.map(|(), ()| (key, change))),
                Err(why) => context.check(Err(why))?,
            }
        }
        context.forward_all(changes);
        Ok(())
    }
}

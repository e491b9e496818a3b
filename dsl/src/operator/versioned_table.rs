//! Keeps the versions of each key of a table.
//!
//! # Guarantees
//!
//! - A record that is older than the history is dropped and counted as late; every other one is forwarded, one that is not the
//!   latest of its key as such.
//! - A record whose key is null is dropped and counted.

use crate::table::{Change, OldValues};
use headwater_core::{metrics::DropReason, serde::Data};
use headwater_engine::{
    processor::{BatchProcessor, Context, ProcessorError, Rows},
    store::{PutOutcome, StoreError, StoreKey, ValueAndTimestamp, VersionedKeyValueStore},
};
use std::{marker::PhantomData, sync::Arc};

/// Keeps versions and forwards updates; `row` gives the value of what comes.
pub(crate) struct VersionedTable<K, T, V, R> {
    store: StoreKey<VersionedKeyValueStore<K, V>>,
    row: Arc<R>,
    old_values: OldValues,
    input: PhantomData<fn(T)>,
}

impl<K: Data, T, V: Data, R> VersionedTable<K, T, V, R> {
    pub(crate) fn new(
        store: StoreKey<VersionedKeyValueStore<K, V>>,
        row: &Arc<R>,
        old_values: OldValues,
    ) -> Self {
        Self { store, row: Arc::clone(row), old_values, input: PhantomData }
    }
}

impl<K, T, V, R> BatchProcessor<Rows<K, T>> for VersionedTable<K, T, V, R>
where
    K: Data,
    T: Data,
    V: Data,
    R: Fn(T) -> Option<V> + Send + Sync,
{
    type KOut = K;
    type VOut = Change<V>;

    fn process_batch(
        &mut self,
        rows: Rows<K, T>,
        context: &mut Context<'_, K, Change<V>>,
    ) -> Result<(), ProcessorError> {
        let mut changes = Vec::with_capacity(rows.len());
        for record in rows {
            context.begin(&record);
            let store = context.store(self.store);
            let (time, sends_old) = (record.timestamp, self.old_values == OldValues::Sent);
            let (frame, key, value) = record.split();
            let new = (self.row)(value);
            let put = if sends_old { store.get(&key) } else { Ok(None) }.and_then(|old| {
                let put = store.put(&key, new.clone(), time)?;
                Ok::<_, StoreError>((put, old.map(ValueAndTimestamp::from)))
            });
            let is_latest = match put {
                Ok((PutOutcome::Latest, _)) => true,
                Ok((PutOutcome::ValidUntil(_), _)) => false,
                Ok((PutOutcome::Rejected, _)) => {
                    context.drop_record(DropReason::Late);
                    continue;
                }
                Err(refused) => {
                    context.check(Err(refused.into()))?;
                    continue;
                }
            };
            let old = put.ok().and_then(|(_, old)| old);
            changes.push(frame.map(|(), ()| (key, Change { new, old, is_latest })));
        }
        context.forward_all(changes);
        Ok(())
    }
}

//! Keeps the versions of each key of a topic.
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
    store::{
        PutOutcome, StoreError, StoreKey, ValueAndTimestamp, VersionedKeyValueStore,
        VersionedRecord,
    },
};

/// Keeps versions and forwards updates.
pub(crate) struct VersionedTable<K, V> {
    store: StoreKey<VersionedKeyValueStore<K, V>>,
    old_values: OldValues,
}

impl<K: Data, V: Data> VersionedTable<K, V> {
    pub(crate) fn new(
        store: StoreKey<VersionedKeyValueStore<K, V>>,
        old_values: OldValues,
    ) -> Self {
        Self { store, old_values }
    }
}

impl<K: Data, V: Data> BatchProcessor<Rows<K, Option<V>>> for VersionedTable<K, V> {
    type KOut = K;
    type VOut = Change<V>;

    fn process_batch(
        &mut self,
        rows: Rows<K, Option<V>>,
        context: &mut Context<'_, K, Change<V>>,
    ) -> Result<(), ProcessorError> {
        let mut changes = Vec::with_capacity(rows.len());
        for record in rows {
            context.begin(&record);
            let store = context.store(self.store);
            let (time, sends_old) = (record.timestamp, self.old_values == OldValues::Sent);
            let put = if sends_old { store.get(&record.key) } else { Ok(None) }.and_then(|old| {
                let put = store.put(&record.key, record.value.clone(), time)?;
                let before = |VersionedRecord { value, timestamp, .. }| ValueAndTimestamp {
                    value,
                    timestamp,
                };
                Ok::<_, StoreError>((put, old.map(before)))
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
            changes.push(record.map(|key, new| (key, Change { new, old, is_latest })));
        }
        context.forward_all(changes);
        Ok(())
    }
}

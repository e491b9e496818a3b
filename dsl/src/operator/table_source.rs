//! Keeps the newest value of each key of a topic.
//!
//! # Guarantees
//!
//! - Every record is forwarded, also one that changes nothing; the store is written first.
//! - A record whose key is null is dropped and counted.
//! - What arrives last wins, whatever its timestamp.
//! - Old values are read only where an operator below needs them.

use super::refused::Refused;
use crate::table::{Change, OldValues};
use headwater_core::{record::Timestamp, serde::Data};
use headwater_engine::{
    processor::{BatchProcessor, Context, ProcessorError, Rows},
    store::{KeyValueStore, StoreError, StoreKey},
};

/// Writes records to a store and passes them on.
pub(crate) struct TableSource<K, V> {
    store: StoreKey<KeyValueStore<K, V>>,
    old_values: OldValues,
}

/// What a row's value was, or why it is not replaced.
type Replaced<V> = Result<Option<V>, StoreError>;

impl<K: Data, V: Data> TableSource<K, V> {
    pub(crate) fn new(store: StoreKey<KeyValueStore<K, V>>, old_values: OldValues) -> Self {
        Self { store, old_values }
    }

    /// Puts all rows, and gives what was there before each.
    fn replace(
        store: &mut KeyValueStore<K, V>,
        rows: &Rows<K, Option<V>>,
    ) -> Result<Vec<Replaced<V>>, ProcessorError> {
        let slots = store.locate(rows.iter().map(|record| &record.key))?;
        let put = |entry: &mut Option<V>, at: &mut Timestamp, (value, timestamp)| {
            *at = timestamp;
            std::mem::replace(entry, value)
        };
        let replaced = rows.iter().zip(slots).map(|(record, slot)| {
            let value = (record.value.clone(), record.timestamp);
            match slot {
                Some(slot) => store.update_at(slot, |entry, at| put(entry, at, value)),
                None => store.refusal(&record.key).map_or(Ok(None), Err),
            }
        });
        Ok(replaced.collect())
    }
}

impl<K: Data, V: Data> BatchProcessor<Rows<K, Option<V>>> for TableSource<K, V> {
    type KOut = K;
    type VOut = Change<V>;

    fn process_batch(
        &mut self,
        rows: Rows<K, Option<V>>,
        context: &mut Context<'_, K, Change<V>>,
    ) -> Result<(), ProcessorError> {
        let store = context.store(self.store);
        let replaced = match self.old_values {
            OldValues::Sent => Self::replace(store, &rows)?,
            OldValues::Omitted => {
                let keys = rows.iter().map(|record| &record.key);
                let value_of = |row: usize| {
                    rows.get(row).map_or((None, 0), |row| (row.value.clone(), row.timestamp))
                };
                let put = store.put_all(keys, value_of).into_iter();
                put.map(|put| put.map(|()| None)).collect()
            }
        };
        let (mut updates, mut refused) = (Vec::with_capacity(rows.len()), Refused::default());
        for (record, replaced) in rows.into_iter().zip(replaced) {
            match replaced {
                Ok(old) => updates.push(record.map(|key, new| (key, Change::latest(new, old)))),
                Err(why) => refused.add(record.split().0, why),
            }
        }
        context.forward_all(updates);
        refused.settle(context)
    }
}

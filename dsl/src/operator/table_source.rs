//! Keeps the newest value of each key of a topic.
//!
//! # Guarantees
//!
//! - Every record is forwarded, also one that changes nothing; the store is written first.
//! - A record whose key is null is dropped and counted.
//! - What arrives last wins, whatever its timestamp.

use super::refused::Refused;
use headwater_core::serde::Data;
use headwater_engine::{
    processor::{BatchProcessor, Context, ProcessorError, Rows},
    store::{KeyValueStore, StoreKey},
};
/// Writes records to a store and passes them on.
pub(crate) struct TableSource<K, V> {
    store: StoreKey<KeyValueStore<K, V>>,
}

impl<K, V> TableSource<K, V> {
    pub(crate) fn new(store: StoreKey<KeyValueStore<K, V>>) -> Self {
        Self { store }
    }
}

impl<K: Data, V: Data> BatchProcessor<Rows<K, Option<V>>> for TableSource<K, V> {
    type KOut = K;
    type VOut = Option<V>;

    fn process_batch(
        &mut self,
        rows: Rows<K, Option<V>>,
        context: &mut Context<'_, K, Option<V>>,
    ) -> Result<(), ProcessorError> {
        let store = context.store(self.store);
        let (mut taken, mut refused) = (Vec::with_capacity(rows.len()), Refused::default());
        for record in rows {
            match store.put(&record.key, record.value.clone(), record.timestamp) {
                Ok(()) => taken.push(record),
                Err(why) => refused.add(record.split().0, why),
            }
        }
        context.forward_all(taken);
        refused.settle(context)
    }
}

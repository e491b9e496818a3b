//! Key-value stores: the newest value of each key, with its timestamp.

use super::{
    KeyBatch, KeyValueBytes, Serdes, Slot, StateStore, StoreBuilder, StoreChanges, StoreError,
    StoreKind, ValueAndTimestamp,
    form::{Form, Keys, StoreId},
    scan::as_slice,
};
use headwater_core::{
    ports::state::{Order, StateError},
    record::Timestamp,
    serde::{Data, SharedSerde},
};
use std::{any::Any, ops::RangeBounds, sync::Arc};

/// The newest value of each key: a shell of the key's type around [`KeyValueBytes`].
pub struct KeyValueStore<K, V> {
    keys: Keys<K>,
    entries: KeyValueBytes<V>,
    scratch: Vec<u8>,
    batch: KeyBatch,
}

opaque_debug!(KeyValueStore<K, V>);

impl<K: Data, V: Data> KeyValueStore<K, V> {
    /// Declares such a store.
    ///
    /// ```
    /// use headwater_core::serde::for_type;
    /// use headwater_engine::store::KeyValueStore;
    ///
    /// let totals = KeyValueStore::<String, i64>::builder("totals", for_type(), for_type());
    /// assert_eq!(totals.spec().schema, "utf8 -> i64");
    /// ```
    #[must_use]
    pub fn builder(name: &str, keys: SharedSerde<K>, values: SharedSerde<V>) -> StoreBuilder {
        let schema = format!("{} -> {}", keys.schema(), values.schema());
        let named: Arc<str> = name.into();
        let serdes = Serdes {
            kind: StoreKind::KeyValue,
            keys: SharedSerde::clone(&keys),
            values: SharedSerde::clone(&values),
            history_ms: 0,
        };
        let builder = StoreBuilder::new(name, schema, move |shard, partition| {
            let id = StoreId { name: Arc::clone(&named), partition };
            let keys = Keys::new(&keys, &id);
            Box::new(Self {
                entries: KeyValueBytes::new(Form::new(keys.check(), &values, &id), shard),
                keys,
                scratch: Vec::new(),
                batch: KeyBatch::default(),
            })
        });
        builder.readable(serdes)
    }

    /// The value of `key`; a null key has none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] if the key has no form in bytes, [`StoreError::State`] if the state cannot be read or holds
    /// something else.
    pub fn get(&mut self, key: &K) -> Result<Option<ValueAndTimestamp<V>>, StoreError> {
        match self.keys.write(key, &mut self.scratch) {
            Err(StoreError::NullKey) => return Ok(None),
            written => written?,
        }
        let slot = self.entries.locate_one(&self.scratch)?;
        Ok(self.get_at(slot))
    }

    /// Sets or, with `None`, deletes the value of `key`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NullKey`] and [`StoreError::Key`] if there is no place for the key, [`StoreError::Value`] if the
    /// value cannot be kept; the old one then still is.
    pub fn put(
        &mut self,
        key: &K,
        value: Option<V>,
        timestamp: Timestamp,
    ) -> Result<(), StoreError> {
        self.keys.write(key, &mut self.scratch)?;
        self.entries.put(&self.scratch, value, timestamp)
    }

    /// Changes the value of `key` in place: `change` gets the value, if any, with its timestamp, and leaves the new one.
    /// Returns what `change` does.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put), and [`StoreError::State`].
    pub fn update<R>(
        &mut self,
        key: &K,
        change: impl FnOnce(&mut Option<V>, &mut Timestamp) -> R,
    ) -> Result<R, StoreError> {
        self.keys.write(key, &mut self.scratch)?;
        let slot = self.entries.locate_one(&self.scratch)?;
        self.entries.update(slot, change)
    }

    /// Where the store holds each of `keys`, having read what the cache lacked in one go: good for
    /// [`get_at`](Self::get_at) until the call of the processor ends. A key that is
    /// null, or has no form in bytes that can be read back, is nowhere; [`refusal`](Self::refusal) says which.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read, [`StateError::Unreadable`] if it
    /// holds something else.
    pub fn locate<'k>(
        &mut self,
        keys: impl Iterator<Item = &'k K>,
    ) -> Result<Vec<Option<Slot>>, StateError>
    where
        K: 'k,
    {
        self.keys.write_all(keys, &mut self.batch);
        self.entries.locate(&self.batch)
    }

    /// Why [`locate`](Self::locate) had no place for the key of a row, if it had none.
    #[must_use]
    pub fn refusal(&self, row: usize) -> Option<StoreError> {
        self.entries.refusal(&self.batch, row)
    }

    /// As [`get`](Self::get), for a key that was located in the same call of the processor.
    ///
    /// # Panics
    ///
    /// If it was not.
    pub fn get_at(&mut self, slot: Slot) -> Option<ValueAndTimestamp<V>> {
        let (value, timestamp) = self.entries.get(slot);
        value.map(|value| ValueAndTimestamp::of(value, timestamp))
    }

    /// The entries whose keys lie within `range`, by their keys' bytes; see [`KeyValueBytes::scan`].
    ///
    /// # Errors
    ///
    /// [`StoreError::NullKey`] and [`StoreError::Key`] for a bound that no key can have, [`StoreError::State`] if the
    /// state cannot be read or holds something else, here or while the scan goes on.
    pub fn range(
        &mut self,
        range: impl RangeBounds<K>,
        order: Order,
    ) -> Result<impl Iterator<Item = Result<(K, ValueAndTimestamp<V>), StateError>>, StoreError>
    {
        let Self { keys, entries, .. } = self;
        let (from, to) = (keys.bound(range.start_bound())?, keys.bound(range.end_bound())?);
        let found = entries.scan((as_slice(&from), as_slice(&to)), order)?;
        Ok(found.map(|entry| entry.and_then(|entry| Ok((keys.read(&entry.key)?, entry.value)))))
    }

    /// The entries whose keys' bytes begin with `prefix`, by their keys' bytes.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read, [`StateError::Unreadable`] if it
    /// holds something else, here or while the scan goes on.
    pub fn prefix(
        &mut self,
        prefix: &[u8],
        order: Order,
    ) -> Result<impl Iterator<Item = Result<(K, ValueAndTimestamp<V>), StateError>>, StateError>
    {
        let Self { keys, entries, .. } = self;
        let found = entries.scan_prefix(prefix, order)?;
        Ok(found.map(|entry| entry.and_then(|entry| Ok((keys.read(&entry.key)?, entry.value)))))
    }

    /// All entries, by their keys' bytes.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read, [`StateError::Unreadable`] if it
    /// holds something else.
    pub fn all(&mut self) -> Result<Vec<(K, ValueAndTimestamp<V>)>, StateError> {
        self.prefix(&[], Order::Ascending)?.collect()
    }

    /// The store without the type of its keys.
    pub fn by_bytes(&mut self) -> &mut KeyValueBytes<V> {
        &mut self.entries
    }
}

impl<K: Data, V: Data> StateStore for KeyValueStore<K, V> {
    fn keep_within(&mut self, record_bytes_max: usize) {
        self.entries.keep_within(record_bytes_max);
    }

    fn commit(&mut self, epoch: u64) -> Result<StoreChanges, StateError> {
        self.entries.commit(epoch)
    }

    fn published(&mut self, epoch: u64, bytes_max: usize) {
        self.entries.published(epoch, bytes_max);
    }

    fn size_bytes(&self) -> usize {
        self.entries.size_bytes()
    }

    fn dirty_bytes(&self) -> usize {
        self.entries.dirty_bytes()
    }

    fn by_bytes(&mut self) -> &mut dyn Any {
        &mut self.entries
    }
}

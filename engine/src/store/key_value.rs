//! Key-value stores: the newest value of each key, with its timestamp.

use super::{
    StateStore, StoreBuilder, StoreChanges, ValueAndTimestamp, cache::Cache, key_batch::KeyBatch,
};
use headwater_core::{
    ports::state::{Order, Shard, StateError, Stored},
    record::{RecordSetBuilder, SetFull, Timestamp},
    serde::{Data, SerdeError, SharedSerde},
};
use std::{ops::Bound, sync::Arc};

/// Where a store holds a key; see [`KeyValueStore::locate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located(u32);

/// The newest value of each key.
pub struct KeyValueStore<K, V> {
    name: Arc<str>,
    keys: SharedSerde<K>,
    values: SharedSerde<V>,
    shard: Arc<dyn Shard>,
    cache: Cache<V>,
    scratch: Vec<u8>,
    batch: KeyBatch,
}

opaque_debug!(KeyValueStore<K, V>);

impl<K: Data, V: Data> KeyValueStore<K, V> {
    /// Declares such a store.
    #[must_use]
    pub fn builder(name: &str, keys: SharedSerde<K>, values: SharedSerde<V>) -> StoreBuilder {
        let schema = format!("{} -> {}", keys.schema(), values.schema());
        let named: Arc<str> = name.into();
        StoreBuilder::new(name, schema, move |shard| {
            Box::new(Self {
                name: Arc::clone(&named),
                keys: Arc::clone(&keys),
                values: Arc::clone(&values),
                cache: Cache::new(shard.position().is_none()),
                shard,
                scratch: Vec::new(),
                batch: KeyBatch::default(),
            })
        })
    }

    /// The value of `key`.
    ///
    /// # Errors
    ///
    /// The state cannot be read, or holds something else.
    pub fn get(&mut self, key: &K) -> Result<Option<ValueAndTimestamp<V>>, StateError> {
        let slot = self.load(key)?;
        let entry = self.cache.touch(slot);
        Ok(entry.value.clone().map(|value| ValueAndTimestamp { value, timestamp: entry.timestamp }))
    }

    /// Sets or, with `None`, deletes the value of `key`.
    ///
    /// # Errors
    ///
    /// The key has no form in bytes.
    pub fn put(
        &mut self,
        key: &K,
        value: Option<V>,
        timestamp: Timestamp,
    ) -> Result<(), StateError> {
        self.encode(key)?;
        let slot = self.cache.find_or_insert(&self.scratch);
        let entry = self.cache.change(slot);
        entry.value = value;
        entry.timestamp = timestamp;
        Ok(())
    }

    /// Changes the value of `key` in place: `change` gets the value, if any, with its timestamp, and leaves the new one.
    /// Returns what `change` does.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn update<R>(
        &mut self,
        key: &K,
        change: impl FnOnce(&mut Option<V>, &mut Timestamp) -> R,
    ) -> Result<R, StateError> {
        let slot = self.load(key)?;
        let entry = self.cache.change(slot);
        Ok(change(&mut entry.value, &mut entry.timestamp))
    }

    /// Reads what the cache lacks of `keys` in one go, ahead of as many single calls.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn prefetch<'k>(&mut self, keys: impl Iterator<Item = &'k K>) -> Result<(), StateError>
    where
        K: 'k,
    {
        if self.cache.is_complete() {
            return Ok(());
        }
        let mut missing: Vec<Vec<u8>> = Vec::new();
        for key in keys {
            self.encode(key)?;
            if self.cache.find(&self.scratch).is_none() {
                missing.push(self.scratch.clone());
            }
        }
        self.read(missing)
    }

    fn read(&mut self, mut missing: Vec<Vec<u8>>) -> Result<(), StateError> {
        missing.sort_unstable();
        missing.dedup();
        let wanted: Vec<&[u8]> = missing.iter().map(Vec::as_slice).collect();
        for (key, stored) in missing.iter().zip(self.shard.multi_get(&wanted)?) {
            self.adopt(key, stored)?;
        }
        Ok(())
    }

    /// Where the store holds each of `keys`, having read what the cache lacked in one go: good for
    /// [`update_located`](Self::update_located) until the call of the processor ends.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn locate<'k>(
        &mut self,
        keys: impl Iterator<Item = &'k K>,
    ) -> Result<Vec<Located>, StateError>
    where
        K: 'k,
    {
        let mut batch = std::mem::take(&mut self.batch);
        batch.clear();
        for key in keys {
            batch
                .push(|out| self.keys.serialize(key, out).map(drop))
                .map_err(|e| self.corrupt(&e))?;
        }
        let located = self.locate_all(&batch);
        self.batch = batch;
        located
    }

    fn locate_all(&mut self, keys: &KeyBatch) -> Result<Vec<Located>, StateError> {
        let mut slots = self.cache.find_all(keys);
        if !self.cache.is_complete() && slots.contains(&None) {
            let missing = keys
                .iter()
                .zip(&slots)
                .filter(|(_, slot)| slot.is_none())
                .map(|(key, _)| key.to_vec());
            self.read(missing.collect())?;
        }
        for (slot, key) in slots.iter_mut().zip(keys.iter()).filter(|(slot, _)| slot.is_none()) {
            *slot = Some(self.cache.find_or_insert(key));
        }
        Ok(slots.into_iter().flatten().map(Located).collect())
    }

    /// As [`update`](Self::update), for a key that was located in the same call of the processor.
    ///
    /// # Panics
    ///
    /// If it was not.
    pub fn update_located<R>(
        &mut self,
        located: Located,
        change: impl FnOnce(&mut Option<V>, &mut Timestamp) -> R,
    ) -> R {
        let entry = self.cache.change(located.0);
        change(&mut entry.value, &mut entry.timestamp)
    }

    /// The keys that changed since the last commit, with their values, in the order of their first change.
    ///
    /// # Errors
    ///
    /// The state holds something else.
    pub fn changed(&self) -> impl Iterator<Item = Result<(K, Option<V>, Timestamp), StateError>> {
        self.cache.dirty().map(|entry| {
            let key = self.keys.deserialize(Some(&entry.key)).map_err(|e| self.corrupt(&e))?;
            Ok((key, entry.value.clone(), entry.timestamp))
        })
    }

    /// All entries, by their keys' bytes.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn all(&mut self) -> Result<Vec<(K, ValueAndTimestamp<V>)>, StateError> {
        if !self.cache.is_complete() {
            self.load_all()?;
        }
        let mut live: Vec<_> = self.cache.live().collect();
        live.sort_unstable_by(|(a, _), (b, _)| a.key.cmp(&b.key));
        live.into_iter()
            .map(|(entry, value)| {
                let key = self.keys.deserialize(Some(&entry.key)).map_err(|e| self.corrupt(&e))?;
                Ok((key, ValueAndTimestamp { value: value.clone(), timestamp: entry.timestamp }))
            })
            .collect()
    }

    fn load_all(&mut self) -> Result<(), StateError> {
        let shard = Arc::clone(&self.shard);
        for entry in shard.scan((Bound::Unbounded, Bound::Unbounded), Order::Ascending)? {
            let (key, stored) = entry?;
            if self.cache.find(&key).is_none() {
                self.adopt(&key, Some(stored))?;
            }
        }
        self.cache.mark_complete();
        Ok(())
    }

    /// The slot of `key`, read from the state if it is not cached.
    fn load(&mut self, key: &K) -> Result<u32, StateError> {
        self.encode(key)?;
        if let Some(slot) = self.cache.find(&self.scratch) {
            return Ok(slot);
        }
        if self.cache.is_complete() {
            return Ok(self.cache.insert(&self.scratch, None, 0));
        }
        let stored = self.shard.get(&self.scratch)?;
        let key = std::mem::take(&mut self.scratch);
        let slot = self.adopt(&key, stored);
        self.scratch = key;
        slot
    }

    fn adopt(&mut self, key: &[u8], stored: Option<Stored>) -> Result<u32, StateError> {
        let Some(Stored { timestamp, value }) = stored else {
            return Ok(self.cache.insert(key, None, 0));
        };
        let value = self.values.deserialize(Some(&value)).map_err(|e| self.corrupt(&e))?;
        Ok(self.cache.insert(key, Some(value), timestamp))
    }

    fn encode(&mut self, key: &K) -> Result<(), StateError> {
        self.scratch.clear();
        self.keys.serialize(key, &mut self.scratch).map_err(|e| self.corrupt(&e))?;
        Ok(())
    }

    fn corrupt(&self, error: &SerdeError) -> StateError {
        StateError::Corrupt {
            store: Arc::clone(&self.name),
            partition: 0,
            detail: error.to_string(),
        }
    }
}

/// Why a changelog record could not be written.
pub(super) struct NotWritten(String);

impl From<SetFull> for NotWritten {
    fn from(error: SetFull) -> Self {
        Self(error.to_string())
    }
}

/// Writes one entry as a changelog record.
pub(super) fn write_change<V>(
    records: &mut RecordSetBuilder,
    serde: &SharedSerde<V>,
    (key, value, timestamp): (&[u8], Option<&V>, Timestamp),
) -> Result<(), NotWritten> {
    records.push_encoded(timestamp, Some(key), &[], |out| match value {
        None => Ok(false),
        Some(value) => serde.serialize(value, out).map_err(|e| NotWritten(e.to_string())),
    })
}

impl NotWritten {
    pub(super) fn in_store(self, store: &Arc<str>) -> StateError {
        StateError::Corrupt { store: Arc::clone(store), partition: 0, detail: self.0 }
    }
}

impl<K: Data, V: Data> StateStore for KeyValueStore<K, V> {
    fn commit(&mut self, epoch: u64) -> Result<StoreChanges, StateError> {
        let mut records = RecordSetBuilder::default();
        let values = &self.values;
        self.cache
            .commit(epoch, |entry| {
                write_change(
                    &mut records,
                    values,
                    (&entry.key, entry.value.as_ref(), entry.timestamp),
                )
            })
            .map_err(|e| e.in_store(&self.name))?;
        Ok(StoreChanges { records: records.build(), expire_below: None })
    }

    fn published(&mut self, epoch: u64, bytes_max: usize) {
        self.cache.evict(epoch, bytes_max);
    }

    fn size_bytes(&self) -> usize {
        self.cache.size_bytes()
    }

    fn dirty_bytes(&self) -> usize {
        self.cache.dirty_len() * (size_of::<V>() + 32)
    }

    fn shard(&self) -> &Arc<dyn Shard> {
        &self.shard
    }
}

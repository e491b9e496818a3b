//! Window stores: the newest value of each key and window start, laid out by start so that expiry drops whole buckets.
//!
//! Stored keys are the window's start (8 bytes, big-endian) and then the key's bytes: windows lie in time order, and
//! all that expires is one range.

use super::{
    StateStore, StoreBuilder, StoreChanges, ValueAndTimestamp,
    cache::Cache,
    key_value::{NotWritten, write_change},
};
use headwater_core::{
    ports::state::{Order, Shard, StateError, Stored},
    record::{RecordSetBuilder, Timestamp},
    serde::{Data, Serde, SerdeError, SharedSerde},
};
use std::{collections::BTreeMap, ops::Bound, sync::Arc};

/// A stretch of time, from `start` up to but not including `end`, in ms.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Window {
    /// The first instant that belongs to it.
    pub start: Timestamp,
    /// The first instant that no longer does.
    pub end: Timestamp,
}

/// A key within a window.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Windowed<K> {
    /// The key.
    pub key: K,
    /// The window.
    pub window: Window,
}

/// A windowed key as Kafka writes it: the key's bytes, then the start as 8 big-endian bytes; the end follows from the size.
pub struct WindowedSerde<K> {
    inner: SharedSerde<K>,
    size_ms: i64,
}

opaque_debug!(WindowedSerde<K>);

impl<K> WindowedSerde<K> {
    /// For windows of `size_ms` over keys that `inner` writes.
    pub fn new(inner: SharedSerde<K>, size_ms: i64) -> Self {
        Self { inner, size_ms }
    }
}

impl<K: Data> Serde<Windowed<K>> for WindowedSerde<K> {
    fn serialize(&self, value: &Windowed<K>, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        self.inner.serialize(&value.key, out)?;
        out.extend_from_slice(&value.window.start.to_be_bytes());
        Ok(true)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Windowed<K>, SerdeError> {
        let (key, start) =
            bytes.ok_or(SerdeError::Null)?.split_last_chunk::<8>().ok_or_else(|| {
                SerdeError::Malformed {
                    expected: "a windowed key",
                    detail: "it has fewer than 8 bytes".into(),
                }
            })?;
        let start = i64::from_be_bytes(*start);
        let window = Window { start, end: start.saturating_add(self.size_ms) };
        Ok(Windowed { key: self.inner.deserialize(Some(key))?, window })
    }

    fn placed_by<'b>(&self, key: &'b [u8]) -> &'b [u8] {
        key.split_last_chunk::<8>().map_or(key, |(inner, _)| self.inner.placed_by(inner))
    }

    fn schema(&self) -> String {
        format!("window({}, {} ms)", self.inner.schema(), self.size_ms)
    }
}

/// Emptied buckets that are kept for the next windows.
const SPARE_MAX: usize = 2;

/// The newest value of each key and window start.
pub struct WindowStore<K, V> {
    name: Arc<str>,
    keys: SharedSerde<K>,
    values: SharedSerde<V>,
    shard: Arc<dyn Shard>,
    buckets: BTreeMap<Timestamp, Cache<V>>,
    /// Emptied buckets of expired windows: the next window is about as large.
    spare: Vec<Cache<V>>,
    /// Windows that start below this one are gone, here and, once committed, in the state.
    floor: Timestamp,
    floor_moved: bool,
    scratch: Vec<u8>,
}

/// One entry of a window store.
pub type WindowEntry<K, V> = (K, Timestamp, ValueAndTimestamp<V>);

opaque_debug!(WindowStore<K, V>);

impl<K: Data, V: Data> WindowStore<K, V> {
    /// Declares such a store.
    #[must_use]
    pub fn builder(name: &str, keys: SharedSerde<K>, values: SharedSerde<V>) -> StoreBuilder {
        let schema = format!("window start, {} -> {}", keys.schema(), values.schema());
        let named: Arc<str> = name.into();
        StoreBuilder::new(name, schema, move |shard| {
            Box::new(Self {
                name: Arc::clone(&named),
                keys: Arc::clone(&keys),
                values: Arc::clone(&values),
                shard,
                buckets: BTreeMap::new(),
                spare: Vec::new(),
                floor: Timestamp::MIN,
                floor_moved: false,
                scratch: Vec::new(),
            })
        })
    }

    /// Learns which windows the state holds; called once before the first record, and costs a look-up a window start.
    ///
    /// # Errors
    ///
    /// The state cannot be read.
    pub fn open(&mut self) -> Result<(), StateError> {
        if self.shard.position().is_none() {
            return Ok(());
        }
        let shard = Arc::clone(&self.shard);
        let mut from = 0_i64.to_be_bytes();
        while let Some(first) =
            shard.scan((Bound::Included(&from), Bound::Unbounded), Order::Ascending)?.next()
        {
            let (key, _) = first?;
            let start = self.split(&key)?.0;
            self.buckets.insert(start, Cache::new(false));
            let Some(next) = start.checked_add(1) else { break };
            from = next.to_be_bytes();
        }
        Ok(())
    }

    /// Changes the value of `key` in the window that starts at `start`: `change` gets the value, if any, with its
    /// timestamp, and leaves the new one. Returns what `change` does.
    ///
    /// # Errors
    ///
    /// The state cannot be read, or holds something else.
    pub fn update<R>(
        &mut self,
        key: &K,
        start: Timestamp,
        change: impl FnOnce(&mut Option<V>, &mut Timestamp) -> R,
    ) -> Result<R, StateError> {
        let slot = self.load(key, start)?;
        let entry = self.buckets.entry(start).or_insert_with(|| Cache::new(false)).change(slot);
        Ok(change(&mut entry.value, &mut entry.timestamp))
    }

    /// The value of `key` in the window that starts at `start`.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    pub fn fetch(
        &mut self,
        key: &K,
        start: Timestamp,
    ) -> Result<Option<ValueAndTimestamp<V>>, StateError> {
        let slot = self.load(key, start)?;
        let entry = self.buckets.get_mut(&start).map(|bucket| bucket.touch(slot));
        Ok(entry.and_then(|entry| {
            Some(ValueAndTimestamp { value: entry.value.clone()?, timestamp: entry.timestamp })
        }))
    }

    /// The start of the oldest window that is kept.
    #[must_use]
    pub fn oldest(&self) -> Option<Timestamp> {
        self.buckets.first_key_value().map(|(start, _)| *start)
    }

    /// Every entry of the windows that start below `end`, by start and then by the key's bytes.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    pub fn entries_below(&mut self, end: Timestamp) -> Result<Vec<WindowEntry<K, V>>, StateError> {
        let starts: Vec<Timestamp> = self.buckets.range(..end).map(|(start, _)| *start).collect();
        let mut entries = Vec::new();
        for start in starts {
            self.complete(start)?;
            let Some(bucket) = self.buckets.get(&start) else { continue };
            let mut live: Vec<_> = bucket.live().collect();
            live.sort_unstable_by(|(a, _), (b, _)| a.key.cmp(&b.key));
            for (entry, value) in live {
                let key = self.keys.deserialize(Some(&entry.key)).map_err(|e| self.corrupt(&e))?;
                let stored = ValueAndTimestamp { value: value.clone(), timestamp: entry.timestamp };
                entries.push((key, start, stored));
            }
        }
        Ok(entries)
    }

    /// The entries that changed since the last commit, by window start and then in the order of their first change.
    ///
    /// # Errors
    ///
    /// The state holds something else.
    pub fn changed(
        &self,
    ) -> impl Iterator<Item = Result<(K, Timestamp, Option<V>, Timestamp), StateError>> {
        self.buckets.iter().flat_map(move |(start, bucket)| {
            bucket.dirty().map(move |entry| {
                let key = self.keys.deserialize(Some(&entry.key)).map_err(|e| self.corrupt(&e))?;
                Ok((key, *start, entry.value.clone(), entry.timestamp))
            })
        })
    }

    /// Removes every window that starts below `floor`. What changed in them since the last commit is never written.
    pub fn expire_below(&mut self, floor: Timestamp) {
        if floor > self.floor {
            let kept = self.buckets.split_off(&floor);
            for mut expired in
                std::mem::replace(&mut self.buckets, kept).into_values().take(SPARE_MAX)
            {
                if self.spare.len() < SPARE_MAX {
                    expired.restart(true);
                    self.spare.push(expired);
                }
            }
            self.floor = floor;
            self.floor_moved = true;
        }
    }

    fn load(&mut self, key: &K, start: Timestamp) -> Result<u32, StateError> {
        self.scratch.clear();
        self.scratch.extend_from_slice(&start.to_be_bytes());
        self.keys.serialize(key, &mut self.scratch).map_err(|e| self.corrupt(&e))?;
        let key = self.scratch.get(8..).unwrap_or_default();
        let spare = &mut self.spare;
        let bucket = self
            .buckets
            .entry(start)
            .or_insert_with(|| spare.pop().unwrap_or_else(|| Cache::new(true)));
        if let Some(slot) = bucket.find(key) {
            return Ok(slot);
        }
        if bucket.is_complete() {
            return Ok(bucket.insert(key, None, 0));
        }
        let stored = self.shard.get(&self.scratch)?;
        let key = std::mem::take(&mut self.scratch);
        let slot = self.adopt(start, key.get(8..).unwrap_or_default(), stored);
        self.scratch = key;
        slot
    }

    /// Reads what the bucket of `start` lacks.
    fn complete(&mut self, start: Timestamp) -> Result<(), StateError> {
        if self.buckets.get(&start).is_none_or(Cache::is_complete) {
            return Ok(());
        }
        let (from, to) = (start.to_be_bytes(), start.saturating_add(1).to_be_bytes());
        let shard = Arc::clone(&self.shard);
        for entry in shard.scan((Bound::Included(&from), Bound::Excluded(&to)), Order::Ascending)? {
            let (stored_key, stored) = entry?;
            let (_, key) = self.split(&stored_key)?;
            if self.buckets.get(&start).is_some_and(|bucket| bucket.find(key).is_none()) {
                self.adopt(start, key, Some(stored))?;
            }
        }
        if let Some(bucket) = self.buckets.get_mut(&start) {
            bucket.mark_complete();
        }
        Ok(())
    }

    fn adopt(
        &mut self,
        start: Timestamp,
        key: &[u8],
        stored: Option<Stored>,
    ) -> Result<u32, StateError> {
        let (value, timestamp) = match stored {
            None => (None, 0),
            Some(Stored { timestamp, value }) => (
                Some(self.values.deserialize(Some(&value)).map_err(|e| self.corrupt(&e))?),
                timestamp,
            ),
        };
        Ok(self
            .buckets
            .entry(start)
            .or_insert_with(|| Cache::new(false))
            .insert(key, value, timestamp))
    }

    fn split<'k>(&self, stored_key: &'k [u8]) -> Result<(Timestamp, &'k [u8]), StateError> {
        let (start, key) =
            stored_key.split_first_chunk::<8>().ok_or_else(|| StateError::Corrupt {
                store: Arc::clone(&self.name),
                partition: 0,
                detail: "a key has no window start".into(),
            })?;
        Ok((i64::from_be_bytes(*start), key))
    }

    fn corrupt(&self, error: &SerdeError) -> StateError {
        StateError::Corrupt {
            store: Arc::clone(&self.name),
            partition: 0,
            detail: error.to_string(),
        }
    }
}

impl<K: Data, V: Data> StateStore for WindowStore<K, V> {
    fn commit(&mut self, epoch: u64) -> Result<StoreChanges, StateError> {
        let mut records = RecordSetBuilder::default();
        let (values, mut stored_key) = (&self.values, Vec::new());
        for (start, bucket) in &mut self.buckets {
            bucket
                .commit::<NotWritten>(epoch, |entry| {
                    stored_key.clear();
                    stored_key.extend_from_slice(&start.to_be_bytes());
                    stored_key.extend_from_slice(&entry.key);
                    write_change(
                        &mut records,
                        values,
                        (&stored_key, entry.value.as_ref(), entry.timestamp),
                    )
                })
                .map_err(|e| e.in_store(&self.name))?;
        }
        let expire_below =
            std::mem::take(&mut self.floor_moved).then(|| self.floor.to_be_bytes().to_vec());
        Ok(StoreChanges { records: records.build(), expire_below })
    }

    fn published(&mut self, epoch: u64, bytes_max: usize) {
        let mut size = self.size_bytes();
        for bucket in self.buckets.values_mut() {
            if size <= bytes_max {
                break;
            }
            let before = bucket.size_bytes();
            bucket.evict(epoch, before.saturating_sub(size - bytes_max));
            size -= before.saturating_sub(bucket.size_bytes());
        }
    }

    fn size_bytes(&self) -> usize {
        self.buckets.values().map(Cache::size_bytes).sum()
    }

    fn dirty_bytes(&self) -> usize {
        let dirty: usize = self.buckets.values().map(Cache::dirty_len).sum();
        dirty * (size_of::<V>() + 40)
    }

    fn shard(&self) -> &Arc<dyn Shard> {
        &self.shard
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::serde::Utf8;

    #[test]
    fn every_window_of_a_key_is_placed_by_the_key() {
        let serde = WindowedSerde::new(Arc::new(Utf8) as SharedSerde<String>, 60_000);
        for start in [0, 60_000] {
            let (mut bytes, window) = (Vec::new(), Window { start, end: start + 60_000 });
            serde.serialize(&Windowed { key: "vin".to_owned(), window }, &mut bytes).unwrap();
            assert_eq!(serde.placed_by(&bytes), b"vin");
        }
    }
}

//! Key-value stores by their keys' bytes: what every skin of a key-value store is made of.

use super::{
    CacheReads, KeyBatch, OldValues, Scanned, StoreChanges, StoreError, StoreOperation,
    ValueAndTimestamp,
    cache::{Cache, Found, find_all},
    form::Form,
    key_bytes::Hashed,
    meter::Meter,
    scan::{ScanSource, as_slice, beginning_with},
    updates::Olds,
};
use headwater_core::{
    ports::state::{KeyRange, Order, Shard, StateError},
    record::{Headers, RecordSetBuilder, Timestamp},
    serde::{Data, SerdeError},
};
use std::{ops::Bound, sync::Arc};

/// Where a store holds a key; see [`KeyValueBytes::locate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(pub(super) u32);

/// An entry of a store as it is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryRef<'a, V> {
    /// The key's bytes.
    pub key: &'a [u8],
    /// The value; none if it was deleted.
    pub value: Option<&'a V>,
    /// In ms.
    pub timestamp: Timestamp,
}

/// An entry that changed since the last flush.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Updated<'a, V> {
    /// The entry as it is now.
    pub entry: EntryRef<'a, V>,
    /// The value that it had at the last flush, where the store [keeps it](KeyValueBytes::hold_updates_back).
    pub old: Option<ValueAndTimestamp<V>>,
    /// The headers that were [kept](KeyValueBytes::keep_headers) with its last change.
    pub headers: Option<Box<Headers>>,
}

/// The newest value of each key, by the key's bytes.
pub struct KeyValueBytes<V> {
    form: Form<V>,
    shard: Arc<dyn Shard>,
    cache: Cache<V>,
    pub(super) reads: CacheReads,
    /// Whether it was asked for anything since the last commit.
    was_read: bool,
    pub(crate) meter: Meter,
    holds_back: bool,
}

opaque_debug!(KeyValueBytes<V>);

impl<V: Data> KeyValueBytes<V> {
    pub(super) fn new(form: Form<V>, shard: Arc<dyn Shard>) -> Self {
        let is_empty = shard.position().is_none();
        let cache = if is_empty { Cache::complete() } else { Cache::new() };
        let (reads, meter) = (CacheReads::default(), Meter::default());
        Self { form, shard, cache, reads, was_read: false, meter, holds_back: false }
    }

    /// Where the store holds the key of each row, having read what the cache lacked in one go: good until the call of the
    /// processor ends.
    ///
    /// A row without a key is nowhere, nor is a new key that cannot be read back.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read, [`StateError::Unreadable`] if it
    /// holds something else.
    pub fn locate(&mut self, keys: &KeyBatch) -> Result<Vec<Option<Slot>>, StateError> {
        let asked = keys.iter().flatten().count();
        self.was_read = true;
        let began = self.meter.begin(StoreOperation::Get, asked);
        let Found { hashes, mut slots } = find_all(|_| Some(&self.cache), keys);
        let mut misses = 0;
        if !self.cache.is_complete() {
            let missing = keys.iter().zip(&slots).filter(|(_, slot)| slot.is_none());
            let mut missing: Vec<&[u8]> = missing.filter_map(|(key, _)| key).collect();
            missing.sort_unstable();
            missing.dedup();
            misses = missing.len();
            if !missing.is_empty() {
                let stored = self.shard.multi_get(&missing)?;
                for (key, stored) in missing.into_iter().zip(stored) {
                    self.form.load(&mut self.cache, Hashed::new(key), stored.as_ref())?;
                }
            }
        }
        self.reads.count(asked, misses);
        let rows = slots.iter_mut().zip(keys.iter()).zip(hashes);
        for ((slot, bytes), hash) in rows.filter(|((slot, _), _)| slot.is_none()) {
            let Some(bytes) = bytes else { continue };
            *slot = self.form.find_or_add(&mut self.cache, bytes, hash);
        }
        self.meter.end(StoreOperation::Get, asked, began);
        Ok(slots.into_iter().map(|slot| slot.map(Slot)).collect())
    }

    /// Why [`locate`](Self::locate) has no place for the key of a row, if it has none.
    #[must_use]
    pub fn refusal(&self, keys: &KeyBatch, row: usize) -> Option<StoreError> {
        self.form.refusal(keys, row)
    }

    /// The error for a key of this store that cannot be read back.
    #[must_use]
    pub fn unreadable(&self, cause: &SerdeError) -> StateError {
        self.form.id.unreadable(cause)
    }

    /// Where the store holds `key`, read from the state if it is not cached: good until the call of the processor ends.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] if the key is new and cannot be read back, [`StoreError::State`] as
    /// [`locate`](Self::locate).
    pub fn locate_one(&mut self, key: &[u8]) -> Result<Slot, StoreError> {
        let began = self.meter.begin(StoreOperation::Get, 1);
        let place = self.place(key);
        self.meter.end(StoreOperation::Get, 1, began);
        place
    }

    /// The same as a part of something else, which is counted.
    pub(super) fn place(&mut self, key: &[u8]) -> Result<Slot, StoreError> {
        let key = Hashed::new(key);
        self.was_read = true;
        if let Some(slot) = self.cache.find(key) {
            self.reads.count(1, 0);
            return Ok(Slot(slot));
        }
        self.reads.count(1, usize::from(!self.cache.is_complete()));
        let stored = if self.cache.is_complete() { None } else { self.shard.get(key.bytes)? };
        Ok(Slot(match stored {
            Some(stored) => self.form.adopt(&mut self.cache, key, &stored)?,
            None => self.form.add(&mut self.cache, key)?,
        }))
    }

    /// The value in `slot`, if there is one, and its timestamp.
    pub fn get(&mut self, slot: Slot) -> (Option<&V>, Timestamp) {
        let entry = self.cache.touch(slot.0);
        (entry.value.as_ref(), entry.timestamp)
    }

    /// Changes the value in `slot` in place: `change` gets the value, if any, with its timestamp, and leaves the new
    /// one. Returns what `change` does.
    ///
    /// # Errors
    ///
    /// [`StoreError::Value`] if the new value cannot be kept; the old one then still is.
    pub fn update<R>(
        &mut self,
        slot: Slot,
        change: impl FnOnce(&mut Option<V>, &mut Timestamp) -> R,
    ) -> Result<R, StoreError> {
        let began = self.meter.begin(StoreOperation::Put, 1);
        let changed = self.change(slot, change);
        self.meter.end(StoreOperation::Put, 1, began);
        changed
    }

    /// The same as a part of something else, which is counted.
    pub(crate) fn change<R>(
        &mut self,
        slot: Slot,
        change: impl FnOnce(&mut Option<V>, &mut Timestamp) -> R,
    ) -> Result<R, StoreError> {
        self.form.update(&mut self.cache, slot.0, change)
    }

    /// Sets or, with `None`, deletes the value of `key`, without reading the old one unless old values are kept.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] and [`StoreError::Value`] if they cannot be kept; the old value then still is.
    pub fn put(
        &mut self,
        key: &[u8],
        value: Option<V>,
        timestamp: Timestamp,
    ) -> Result<(), StoreError> {
        let began = self.meter.begin(StoreOperation::Put, 1);
        let length = self.form.check(key.len(), value.as_ref())?;
        let hashed = Hashed::new(key);
        let slot = match self.cache.find(hashed) {
            Some(slot) => slot,
            None if self.cache.keeps_olds() => self.place(key)?.0,
            None => self.form.add(&mut self.cache, hashed)?,
        };
        self.set(slot, value, timestamp, length);
        self.meter.end(StoreOperation::Put, 1, began);
        Ok(())
    }

    fn set(&mut self, slot: u32, value: Option<V>, timestamp: Timestamp, length: usize) {
        let entry = self.cache.touch(slot);
        let old = std::mem::replace(&mut entry.value, value);
        let before = std::mem::replace(&mut entry.timestamp, timestamp);
        let old = old.map(|value| ValueAndTimestamp { value, timestamp: before });
        self.cache.changed(slot, length, old);
    }

    /// Where the cache holds the key of each row, all found at once and nothing read: good for
    /// [`put_found`](Self::put_found) until the call of the processor ends.
    #[must_use]
    pub fn find(&self, keys: &KeyBatch) -> Vec<Option<Slot>> {
        find_all(|_| Some(&self.cache), keys).slots.into_iter().map(|slot| slot.map(Slot)).collect()
    }

    /// As [`put`](Self::put), for a key that was found, or was not.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] and [`StoreError::Value`], as [`put`](Self::put).
    pub fn put_found(
        &mut self,
        found: Option<Slot>,
        key: &[u8],
        value: Option<V>,
        timestamp: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(Slot(slot)) = found else { return self.put(key, value, timestamp) };
        let began = self.meter.begin(StoreOperation::Put, 1);
        let length = self.form.check(key.len(), value.as_ref())?;
        self.set(slot, value, timestamp, length);
        self.meter.end(StoreOperation::Put, 1, began);
        Ok(())
    }

    /// Says that updates are held back until they are [taken](Self::take_updates), with what entries held when they were
    /// last, if those are sent.
    pub fn hold_updates_back(&mut self, old_values: OldValues) {
        self.holds_back = true;
        self.cache.keep(old_values.into());
    }

    /// Keeps what entries held when their updates were last taken for [`flushed`](Self::flushed), if updates are held back.
    pub fn look_up_old_values(&mut self) {
        if self.holds_back {
            self.cache.keep(Olds::LookedUp);
        }
    }

    /// The value that the entry in `slot` had at the last flush, with its timestamp, if updates are held back, or else the one
    /// that it has: what whoever takes the updates knows of it.
    pub fn flushed(&mut self, slot: Slot) -> Option<ValueAndTimestamp<V>> {
        self.cache.flushed(slot.0)
    }

    /// Keeps the headers of the record that changed the value in `slot` last, for [`take_updates`](Self::take_updates).
    pub fn keep_headers(&mut self, slot: Slot, headers: Option<Box<Headers>>) {
        self.cache.keep_headers(slot.0, headers);
    }

    /// The next entries that changed since the last commit and were not taken since, in the order of their first change, at
    /// most `entries_max`.
    pub fn take_updates(&mut self, entries_max: usize) -> impl Iterator<Item = Updated<'_, V>> {
        self.cache.take_updates(entries_max)
    }

    /// How many entries changed and were not taken since.
    #[must_use]
    pub fn updates_len(&self) -> usize {
        self.cache.updates_len()
    }

    /// The entries within `range` that have a value, by their keys' bytes. The first scan has the cache keep its keys in
    /// order from then on.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read, [`StateError::Unreadable`] if it
    /// holds something else, here or while it goes on.
    pub fn scan(
        &mut self,
        range: KeyRange<'_>,
        order: Order,
    ) -> Result<impl Iterator<Item = Result<Scanned<V>, StateError>> + use<'_, V>, StateError> {
        let is_all = matches!(range, (Bound::Unbounded, Bound::Unbounded));
        let operation = if is_all { StoreOperation::All } else { StoreOperation::Range };
        self.scan_as(operation, range, order)
    }

    fn scan_as(
        &mut self,
        operation: StoreOperation,
        range: KeyRange<'_>,
        order: Order,
    ) -> Result<impl Iterator<Item = Result<Scanned<V>, StateError>> + use<'_, V>, StateError> {
        self.cache.keep_order();
        self.was_read = true;
        let Self { form, cache, shard, meter, .. } = self;
        meter.one(operation, || ScanSource { form, cache, shard: &**shard }.scan(&[], range, order))
    }

    /// As [`scan`](Self::scan), for the keys whose bytes begin with `prefix`.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`], [`StateError::Corrupt`] and [`StateError::Unreadable`], as [`scan`](Self::scan).
    pub fn scan_prefix(
        &mut self,
        prefix: &[u8],
        order: Order,
    ) -> Result<impl Iterator<Item = Result<Scanned<V>, StateError>> + use<'_, V>, StateError> {
        let (from, to) = beginning_with(prefix);
        self.scan_as(StoreOperation::PrefixScan, (as_slice(&from), as_slice(&to)), order)
    }

    /// Whether the state holds an entry; asked before the first record, when nothing has changed.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read.
    pub(crate) fn has_stored(&self) -> Result<bool, StateError> {
        let all = (Bound::Unbounded, Bound::Unbounded);
        self.shard.scan(all, Order::Ascending)?.next().transpose().map(|entry| entry.is_some())
    }

    pub(super) fn keep_within(&mut self, record_bytes_max: usize) {
        self.form.keep_within(record_bytes_max, record_bytes_max);
    }

    pub(super) fn commit(&mut self, epoch: u64) -> Result<StoreChanges, StateError> {
        let began = self.meter.begin(StoreOperation::Flush, 1);
        let (count, bytes) = (self.cache.dirty_len(), self.cache.changelog_bytes());
        let mut records = RecordSetBuilder::with_capacity(count, bytes);
        let form = &self.form;
        self.cache
            .commit(epoch, |entry| form.write_change(&mut records, &entry.key, &entry.as_ref()))?;
        let records = records.build();
        self.meter.end(StoreOperation::Flush, 1, began);
        Ok(StoreChanges { records, expire_below: None })
    }

    pub(super) fn published(&mut self, epoch: u64, bytes_max: usize) {
        self.cache.evict(epoch, bytes_max);
    }

    pub(super) fn take_was_read(&mut self) -> bool {
        std::mem::take(&mut self.was_read)
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.cache.size_bytes()
    }

    pub(super) fn dirty_bytes(&self) -> usize {
        self.cache.dirty_bytes()
    }
}

//! Window stores by their keys' bytes, laid out by window start so that expiry drops whole buckets.
//!
//! Stored keys are the window's start (8 bytes, big-endian) and then the key's bytes: windows lie in time order, and
//! all that expires is one range.

use super::{
    EntryRef, KeyBatch, StoreChanges, StoreError,
    cache::{Cache, find_all},
    form::Form,
};
use headwater_core::{
    ports::state::{Order, Shard, StateError},
    record::{RecordSetBuilder, Timestamp},
    serde::Data,
};
use std::{collections::BTreeMap, ops::Bound, sync::Arc};

/// Emptied buckets that keep their memory for the next windows, which are about as large.
const SPARE_MAX: usize = 2;

/// Where a window store holds a key; see [`WindowBytes::locate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSlot {
    bucket: u32,
    slot: u32,
}

/// The newest value of each key and window start, by the key's bytes.
pub struct WindowBytes<V> {
    form: Form<V>,
    shard: Arc<dyn Shard>,
    /// By window start: the place of its entries in `buckets`, which stays the same while the window is kept.
    starts: BTreeMap<Timestamp, u32>,
    buckets: Vec<Cache<V>>,
    /// Places in `buckets` that no window takes.
    free: Vec<u32>,
    /// Windows that start below this one are gone, here and, once committed, in the state.
    floor: Timestamp,
    /// One past the start of the newest window that expired since the last commit: what the changelog is told. It
    /// depends on the rows alone, where the floor also depends on when it was asked for.
    expired_below: Option<Timestamp>,
}

opaque_debug!(WindowBytes<V>);

impl<V: Data> WindowBytes<V> {
    pub(super) fn new(form: Form<V>, shard: Arc<dyn Shard>) -> Self {
        Self {
            form,
            shard,
            starts: BTreeMap::new(),
            buckets: Vec::new(),
            free: Vec::new(),
            floor: Timestamp::MIN,
            expired_below: None,
        }
    }

    /// Learns which windows the state holds; called once before the first record, and costs a look-up a window start.
    ///
    /// # Errors
    ///
    /// [`StateError`] if the state cannot be read.
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
            self.add_bucket(start, false);
            let Some(next) = start.checked_add(1) else { break };
            from = next.to_be_bytes();
        }
        Ok(())
    }

    /// Where the store holds the key of each row in the window that starts at the same place of `starts`, having read what
    /// the cache lacked in one go: good until windows are removed. A row without a key or a start is nowhere,
    /// nor is a new key that cannot be read back.
    ///
    /// # Errors
    ///
    /// [`StateError`] if the state cannot be read, or holds something else.
    pub fn locate(
        &mut self,
        starts: &[Option<Timestamp>],
        keys: &KeyBatch,
    ) -> Result<Vec<Option<WindowSlot>>, StateError> {
        let buckets = self.buckets_of(starts);
        let bucket_at = |row: usize| self.buckets.get((*buckets.get(row)?)? as usize);
        let mut slots = find_all(bucket_at, keys);
        let mut missing: Vec<(Timestamp, &[u8])> = Vec::new();
        for (row, (key, slot)) in keys.iter().zip(&slots).enumerate() {
            let is_missing =
                slot.is_none() && bucket_at(row).is_some_and(|bucket| !bucket.is_complete());
            let start = starts.get(row).copied().flatten().filter(|_| is_missing);
            missing.extend(start.zip(key));
        }
        if !missing.is_empty() {
            self.read(missing)?;
        }
        let rows = keys.iter().zip(&buckets).zip(&mut slots);
        for ((key, bucket), slot) in rows.filter(|(_, slot)| slot.is_none()) {
            let Some((key, bucket)) = key.zip(*bucket) else { continue };
            let Self { form, buckets, .. } = &mut *self;
            let entries = bucket_in(buckets, bucket);
            *slot = entries
                .find(key)
                .map_or_else(|| form.load(entries, key, None), |slot| Ok(Some(slot)))?;
        }
        let located = slots.into_iter().zip(buckets);
        Ok(located
            .map(|(slot, bucket)| Some(WindowSlot { bucket: bucket?, slot: slot? }))
            .collect())
    }

    /// The bucket of each row.
    fn buckets_of(&mut self, starts: &[Option<Timestamp>]) -> Vec<Option<u32>> {
        // Neighbours mostly share a window.
        let mut last: Option<(Timestamp, u32)> = None;
        let bucket_of = |start: &Option<Timestamp>| {
            let start = (*start)?;
            let bucket = match last {
                Some((before, bucket)) if before == start => bucket,
                _ => self.bucket_of(start),
            };
            last = Some((start, bucket));
            Some(bucket)
        };
        starts.iter().map(bucket_of).collect()
    }

    /// Reads keys that the cache lacks from the state.
    fn read(&mut self, mut missing: Vec<(Timestamp, &[u8])>) -> Result<(), StateError> {
        missing.sort_unstable();
        missing.dedup();
        let stored_keys: Vec<Vec<u8>> =
            missing.iter().map(|(start, key)| [&start.to_be_bytes(), *key].concat()).collect();
        let stored_keys: Vec<&[u8]> = stored_keys.iter().map(Vec::as_slice).collect();
        let found = self.shard.multi_get(&stored_keys)?;
        for ((start, key), stored) in missing.into_iter().zip(found) {
            let bucket = self.bucket_of(start);
            let Self { form, buckets, .. } = self;
            form.load(bucket_in(buckets, bucket), key, stored.as_ref())?;
        }
        Ok(())
    }

    /// Where the store holds `key` in the window that starts at `start`, read from the state if it is not cached: good
    /// until windows are removed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] if the key is new and cannot be read back, [`StoreError::State`] as
    /// [`locate`](Self::locate).
    pub fn locate_one(&mut self, start: Timestamp, key: &[u8]) -> Result<WindowSlot, StoreError> {
        let bucket = self.bucket_of(start);
        let entries = self.bucket(bucket);
        if let Some(slot) = entries.find(key) {
            return Ok(WindowSlot { bucket, slot });
        }
        let is_complete = entries.is_complete();
        let stored = if is_complete {
            None
        } else {
            self.shard.get(&[&start.to_be_bytes(), key].concat())?
        };
        let Self { form, buckets, .. } = self;
        let entries = bucket_in(buckets, bucket);
        let slot = match stored {
            Some(stored) => form.adopt(entries, key, &stored)?,
            None => form.add(entries, key)?,
        };
        Ok(WindowSlot { bucket, slot })
    }

    /// The value in `slot`, if there is one, and its timestamp.
    pub fn get(&mut self, slot: WindowSlot) -> (Option<&V>, Timestamp) {
        let entry = self.bucket(slot.bucket).touch(slot.slot);
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
        slot: WindowSlot,
        change: impl FnOnce(&mut Option<V>, &mut Timestamp) -> R,
    ) -> Result<R, StoreError> {
        let Self { form, buckets, .. } = self;
        form.update(bucket_in(buckets, slot.bucket), slot.slot, change)
    }

    /// The start of the oldest window that is kept.
    #[must_use]
    pub fn oldest(&self) -> Option<Timestamp> {
        self.starts.first_key_value().map(|(start, _)| *start)
    }

    /// The starts of the windows that start below `end`.
    #[must_use]
    pub fn starts_below(&self, end: Timestamp) -> Vec<Timestamp> {
        self.starts.range(..end).map(|(start, _)| *start).collect()
    }

    /// Every entry of the window that starts at `start`, by the keys' bytes.
    ///
    /// # Errors
    ///
    /// As [`locate`](Self::locate).
    pub fn entries_of(&mut self, start: Timestamp) -> Result<Vec<EntryRef<'_, V>>, StateError> {
        let Some(bucket) = self.starts.get(&start).copied() else { return Ok(Vec::new()) };
        if !self.bucket(bucket).is_complete() {
            self.load_all(start, bucket)?;
        }
        Ok(self.bucket(bucket).live_in_order())
    }

    /// The entries that changed since the last commit, by window start and then in the order of their first change.
    pub fn changed(&self) -> impl Iterator<Item = (Timestamp, EntryRef<'_, V>)> {
        let buckets = self.starts.iter().filter_map(|(start, bucket)| {
            self.buckets.get(*bucket as usize).map(|bucket| (*start, bucket))
        });
        buckets.flat_map(|(start, bucket)| bucket.dirty().map(move |entry| (start, entry.as_ref())))
    }

    /// Removes every window that starts below `floor`. What changed in them since the last commit is never written.
    pub fn expire_below(&mut self, floor: Timestamp) {
        if floor <= self.floor {
            return;
        }
        let kept = self.starts.split_off(&floor);
        let expired = std::mem::replace(&mut self.starts, kept);
        if let Some((newest, _)) = expired.last_key_value() {
            self.expired_below = Some(newest.saturating_add(1));
        }
        for bucket in expired.into_values() {
            let spare = self.free.len() < SPARE_MAX;
            let entries = self.bucket(bucket);
            if spare {
                entries.restart(true);
            } else {
                *entries = Cache::new(true);
            }
            self.free.push(bucket);
        }
        self.floor = floor;
    }

    /// Reads what the bucket of `start` lacks.
    fn load_all(&mut self, start: Timestamp, bucket: u32) -> Result<(), StateError> {
        let (from, to) = (start.to_be_bytes(), start.saturating_add(1).to_be_bytes());
        let shard = Arc::clone(&self.shard);
        for entry in shard.scan((Bound::Included(&from), Bound::Excluded(&to)), Order::Ascending)? {
            let (stored_key, stored) = entry?;
            let key = self.split(&stored_key)?.1;
            let Self { form, buckets, .. } = self;
            let entries = bucket_in(buckets, bucket);
            if entries.find(key).is_none() {
                form.adopt(entries, key, &stored)?;
            }
        }
        self.bucket(bucket).mark_complete();
        Ok(())
    }

    fn split<'k>(&self, stored_key: &'k [u8]) -> Result<(Timestamp, &'k [u8]), StateError> {
        let no_start = || self.form.id.damaged("a key has no window start");
        let (start, key) = stored_key.split_first_chunk::<8>().ok_or_else(no_start)?;
        Ok((i64::from_be_bytes(*start), key))
    }

    /// The bucket of the window that starts at `start`, made if there is none: it is then new to the state too.
    fn bucket_of(&mut self, start: Timestamp) -> u32 {
        match self.starts.get(&start) {
            Some(bucket) => *bucket,
            None => self.add_bucket(start, true),
        }
    }

    fn add_bucket(&mut self, start: Timestamp, complete: bool) -> u32 {
        let bucket = self.free.pop().unwrap_or_else(|| {
            self.buckets.push(Cache::new(complete));
            u32::try_from(self.buckets.len() - 1).expect("a task keeps fewer than 2^32 windows")
        });
        self.bucket(bucket).restart(complete);
        self.starts.insert(start, bucket);
        bucket
    }

    fn bucket(&mut self, bucket: u32) -> &mut Cache<V> {
        bucket_in(&mut self.buckets, bucket)
    }

    pub(super) fn commit(&mut self, epoch: u64) -> Result<StoreChanges, StateError> {
        let mut records = RecordSetBuilder::default();
        let mut stored_key = Vec::new();
        let Self { form, starts, buckets, .. } = self;
        for (start, bucket) in starts {
            bucket_in(buckets, *bucket).commit(epoch, |entry| {
                stored_key.clear();
                stored_key.extend_from_slice(&start.to_be_bytes());
                stored_key.extend_from_slice(&entry.key);
                form.write_change(&mut records, &stored_key, &entry.as_ref())
            })?;
        }
        let expire_below = self.expired_below.take().map(|below| below.to_be_bytes().to_vec());
        Ok(StoreChanges { records: records.build(), expire_below })
    }

    pub(super) fn published(&mut self, epoch: u64, bytes_max: usize) {
        let mut size = self.size_bytes();
        let Self { starts, buckets, .. } = self;
        for bucket in starts.values() {
            if size <= bytes_max {
                break;
            }
            let bucket = bucket_in(buckets, *bucket);
            let before = bucket.size_bytes();
            bucket.evict(epoch, before.saturating_sub(size - bytes_max));
            size -= before.saturating_sub(bucket.size_bytes());
        }
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.buckets.iter().map(Cache::size_bytes).sum()
    }

    pub(super) fn dirty_bytes(&self) -> usize {
        self.buckets.iter().map(Cache::dirty_bytes).sum()
    }

    pub(super) fn shard(&self) -> &Arc<dyn Shard> {
        &self.shard
    }
}

fn bucket_in<V>(buckets: &mut [Cache<V>], bucket: u32) -> &mut Cache<V> {
    buckets.get_mut(bucket as usize).expect("a window's bucket is there until the window expires")
}

//! Window stores by their keys' bytes: a bucket for each window start, or for each segment of time.

use super::{
    EntryRef, KeyBatch, OldValues, Scanned, StoreError, StoreOperation, Updated, ValueAndTimestamp,
    cache::{Found, find_all},
    key_bytes::Hashed,
    meter::Meter,
    segments::{Bucket, Segments},
    time_bytes,
};
use headwater_core::{
    ports::state::{Order, StateError},
    record::{Headers, Timestamp},
    serde::{Data, SerdeError},
};
use std::{
    borrow::Cow,
    ops::{Bound, Range, RangeBounds},
};

/// How much longer a record may be than a window's key: whoever forwards windows in parts saves where it is, key and all.
const KEY_ROOM: usize = 512;

/// Where a window store holds a key; see [`WindowBytes::locate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSlot {
    bucket: Bucket,
    slot: u32,
}

/// What a window store does with a second value of a key in one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplicates {
    /// It takes the first one's place.
    Replaced,
    /// Both are kept, in the order in which they came. Nothing deletes them before their time.
    Retained,
}

/// How windows lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// A bucket for each start, in which own keys are keys: windows that many keys share, as the kernel aggregates in.
    ByStart,
    /// A bucket for each segment of time, and own keys as in a [time store](super::TimeBytes): windows that start anywhere.
    BySegment { segment_ms: i64, duplicates: Duplicates },
}

impl Layout {
    /// The start of the stretch in which windows lie that start at `start`.
    pub(super) fn stretch_of(self, start: Timestamp) -> Timestamp {
        match self {
            Self::ByStart => start,
            Self::BySegment { segment_ms, .. } => start - start.rem_euclid(segment_ms),
        }
    }

    /// The own key of the first value of a key and a start.
    fn own_key(self, key: &[u8], start: Timestamp) -> Cow<'_, [u8]> {
        match self {
            Self::ByStart => Cow::Borrowed(key),
            Self::BySegment { .. } => Cow::Owned(time_bytes::own_key(key, start, 0)),
        }
    }
}

/// The newest value of each key and window start, by the key's bytes.
pub struct WindowBytes<V> {
    pub(super) windows: Segments<V>,
    pub(super) layout: Layout,
    /// Windows that start below this have expired, though they may not have been removed.
    pub(super) kept_from: Timestamp,
    pub(crate) meter: Meter,
}

opaque_debug!(WindowBytes<V>);

impl<V: Data> WindowBytes<V> {
    pub(super) fn new(windows: Segments<V>, layout: Layout) -> Self {
        Self { windows, layout, kept_from: Timestamp::MIN, meter: Meter::default() }
    }

    pub(super) fn keep_within(&mut self, record_bytes_max: usize) {
        let key_bytes_max = record_bytes_max.saturating_sub(KEY_ROOM).max(record_bytes_max / 2);
        self.windows.keep_within(record_bytes_max, key_bytes_max);
    }

    /// Learns which windows the state holds; called once before the first record, and costs a look-up a window start.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read.
    pub fn open(&mut self) -> Result<(), StateError> {
        self.windows.open()?;
        self.kept_from = self.kept_from.max(self.windows.oldest_kept().unwrap_or(Timestamp::MIN));
        Ok(())
    }

    /// Where the store holds the key of each row in the window that starts at the same place of `starts`, having read what the
    /// cache lacked in one go: good until windows are removed.
    ///
    /// A row without a key or a start is nowhere, nor is a new key that cannot be read back.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read, [`StateError::Unreadable`] if it
    /// holds something else.
    pub fn locate(
        &mut self,
        starts: &[Option<Timestamp>],
        keys: &KeyBatch,
    ) -> Result<Vec<Option<WindowSlot>>, StateError> {
        let asked = keys.iter().flatten().count();
        let began = self.meter.begin(StoreOperation::Fetch, asked);
        let located = if self.layout == Layout::ByStart {
            self.locate_all(starts, keys)
        } else {
            self.locate_each(starts, keys)
        };
        self.meter.end(StoreOperation::Fetch, asked, began);
        located
    }

    /// As [`locate`](Self::locate), all at once.
    fn locate_all(
        &mut self,
        starts: &[Option<Timestamp>],
        keys: &KeyBatch,
    ) -> Result<Vec<Option<WindowSlot>>, StateError> {
        let buckets = self.buckets_of(starts);
        let entries_at =
            |row: usize| buckets.get(row).copied().flatten().map(|b| self.windows.entries(b));
        let Found { hashes, mut slots } = find_all(entries_at, keys);
        let (mut asked, mut missing) = (0, Vec::<(Timestamp, &[u8])>::new());
        for (row, (key, slot)) in keys.iter().zip(&slots).enumerate() {
            let Some((key, entries)) = key.zip(entries_at(row)) else { continue };
            asked += 1;
            if slot.is_none() && !entries.is_complete() {
                missing.extend(starts.get(row).copied().flatten().map(|start| (start, key)));
            }
        }
        let misses = if missing.is_empty() { 0 } else { self.read(missing)? };
        self.windows.reads.count(asked, misses);
        let rows = keys.iter().zip(hashes).zip(&buckets).zip(&mut slots);
        for (((bytes, hash), bucket), slot) in rows.filter(|(_, slot)| slot.is_none()) {
            let Some((bytes, bucket)) = bytes.zip(*bucket) else { continue };
            let (form, entries) = self.windows.with_form(bucket);
            *slot = form.find_or_add(entries, bytes, hash);
        }
        let located = slots.into_iter().zip(buckets);
        Ok(located
            .map(|(slot, bucket)| Some(WindowSlot { bucket: bucket?, slot: slot? }))
            .collect())
    }

    /// The bucket of each row.
    fn buckets_of(&mut self, starts: &[Option<Timestamp>]) -> Vec<Option<Bucket>> {
        // Neighbours mostly share a window.
        let mut last: Option<(Timestamp, Bucket)> = None;
        let bucket_of = |start: &Option<Timestamp>| {
            let start = (*start)?;
            let bucket = match last {
                Some((before, bucket)) if before == start => bucket,
                _ => self.windows.bucket_of(start),
            };
            last = Some((start, bucket));
            Some(bucket)
        };
        starts.iter().map(bucket_of).collect()
    }

    /// Reads keys that the cache lacks from the state; gives how many they are.
    fn read(&mut self, mut missing: Vec<(Timestamp, &[u8])>) -> Result<usize, StateError> {
        missing.sort_unstable();
        missing.dedup();
        let count = missing.len();
        let stored_keys: Vec<Vec<u8>> =
            missing.iter().map(|(start, key)| [&start.to_be_bytes(), *key].concat()).collect();
        let stored_keys: Vec<&[u8]> = stored_keys.iter().map(Vec::as_slice).collect();
        let found = self.windows.shard.multi_get(&stored_keys)?;
        for ((start, key), stored) in missing.into_iter().zip(found) {
            let bucket = self.windows.bucket_of(start);
            let (form, entries) = self.windows.with_form(bucket);
            form.load(entries, Hashed::new(key), stored.as_ref())?;
        }
        Ok(count)
    }

    /// Why [`locate`](Self::locate) has no place for the key of a row, if it has none.
    #[must_use]
    pub fn refusal(&self, keys: &KeyBatch, row: usize) -> Option<StoreError> {
        self.windows.form.refusal(keys, row)
    }

    /// The error for a key of this store that cannot be read back.
    #[must_use]
    pub fn unreadable(&self, cause: &SerdeError) -> StateError {
        self.windows.form.id.unreadable(cause)
    }

    /// Where the store holds `key` in the window that starts at `start`, read from the state if it is not cached: good
    /// until windows are removed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] if the key is new and cannot be read back, [`StoreError::State`] as
    /// [`locate`](Self::locate).
    pub fn locate_one(&mut self, start: Timestamp, key: &[u8]) -> Result<WindowSlot, StoreError> {
        let began = self.meter.begin(StoreOperation::Fetch, 1);
        let place = self.place(start, key);
        self.meter.end(StoreOperation::Fetch, 1, began);
        place
    }

    /// The same as a part of something else, which is counted.
    pub(super) fn place(&mut self, start: Timestamp, key: &[u8]) -> Result<WindowSlot, StoreError> {
        let (stretch, own_key) = (self.layout.stretch_of(start), self.layout.own_key(key, start));
        let bucket = self.windows.bucket_of(stretch);
        let own_key = Hashed::new(&own_key);
        let entries = self.windows.entries(bucket);
        if let Some(slot) = entries.find(own_key) {
            self.windows.reads.count(1, 0);
            return Ok(WindowSlot { bucket, slot });
        }
        let misses = usize::from(!entries.is_complete());
        let stored = if entries.is_complete() {
            None
        } else {
            self.windows.shard.get(&[&stretch.to_be_bytes(), own_key.bytes].concat())?
        };
        self.windows.reads.count(1, misses);
        let (form, entries) = self.windows.with_form(bucket);
        let slot = match stored {
            Some(stored) => form.adopt(entries, own_key, &stored)?,
            None => form.add_under(entries, key, own_key)?,
        };
        Ok(WindowSlot { bucket, slot })
    }

    /// The value in `slot`, if there is one, and its timestamp.
    pub fn get(&mut self, slot: WindowSlot) -> (Option<&V>, Timestamp) {
        let entry = self.windows.entries_mut(slot.bucket).touch(slot.slot);
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
        let began = self.meter.begin(StoreOperation::Put, 1);
        let changed = self.change(slot, change);
        self.meter.end(StoreOperation::Put, 1, began);
        changed
    }

    /// The same as a part of something else, which is counted.
    pub(crate) fn change<R>(
        &mut self,
        slot: WindowSlot,
        change: impl FnOnce(&mut Option<V>, &mut Timestamp) -> R,
    ) -> Result<R, StoreError> {
        let (form, entries) = self.windows.with_form(slot.bucket);
        form.update(entries, slot.slot, change)
    }

    /// Has every window that starts below `floor` count as expired for those who look it up, before it is
    /// [removed](Self::expire_below): when that is depends on commits.
    pub fn keep_from(&mut self, floor: Timestamp) {
        self.kept_from = self.kept_from.max(floor);
    }

    /// Whether a window that starts at `start` may be kept.
    #[must_use]
    pub fn has(&self, start: Timestamp) -> bool {
        start >= self.kept_from && self.windows.find(self.layout.stretch_of(start)).is_some()
    }

    /// The start of the oldest window that is kept and starts at `start` or after.
    #[must_use]
    pub fn first_from(&self, start: Timestamp) -> Option<Timestamp> {
        self.windows.first_from(start)
    }

    /// The starts of the windows that start within `range`, ascending.
    #[must_use]
    pub fn starts_in(&self, range: Range<Timestamp>) -> Vec<Timestamp> {
        if range.is_empty() { Vec::new() } else { self.windows.starts_in(range) }
    }

    /// The next entries of the window that starts at `start`, by their keys' bytes: those past the key `after`, at most
    /// `entries_max` of them.
    ///
    /// What the cache lacks is read from the state and not kept.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read, [`StateError::Unreadable`] if it
    /// holds something else.
    pub fn next_chunk(
        &mut self,
        start: Timestamp,
        after: Option<&[u8]>,
        entries_max: usize,
    ) -> Result<Vec<Scanned<V>>, StateError> {
        let Some(bucket) = self.windows.find(start) else { return Ok(Vec::new()) };
        self.windows.entries_mut(bucket).keep_order();
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        self.windows.scan(start, bucket, range, Order::Ascending)?.take(entries_max).collect()
    }

    /// Every entry of the window that starts at `start`, by the keys' bytes.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read, [`StateError::Unreadable`] if it
    /// holds something else.
    pub fn entries_of(&mut self, start: Timestamp) -> Result<Vec<EntryRef<'_, V>>, StateError> {
        let Some(bucket) = self.windows.find(start) else { return Ok(Vec::new()) };
        if !self.windows.entries(bucket).is_complete() {
            self.windows.load_all(start, bucket)?;
        }
        Ok(self.windows.entries(bucket).live_in_order())
    }

    /// Says that updates are held back until they are [taken](Self::take_updates), with what entries held when they were
    /// last, if those are sent.
    pub fn hold_updates_back(&mut self, old_values: OldValues) {
        self.windows.hold_updates_back(old_values);
    }

    /// Keeps what entries held when their updates were last taken for [`flushed`](Self::flushed), if updates are held back.
    pub fn look_up_old_values(&mut self) {
        self.windows.look_up_old_values();
    }

    /// As [`KeyValueBytes::flushed`](super::KeyValueBytes::flushed).
    pub fn flushed(&mut self, slot: WindowSlot) -> Option<ValueAndTimestamp<V>> {
        self.windows.entries_mut(slot.bucket).flushed(slot.slot)
    }

    /// Keeps the headers of the record that changed the value in `slot` last, for [`take_updates`](Self::take_updates).
    pub fn keep_headers(&mut self, slot: WindowSlot, headers: Option<Box<Headers>>) {
        self.windows.entries_mut(slot.bucket).keep_headers(slot.slot, headers);
    }

    /// The next entries of windows that start within `range` which changed since the last commit and were not taken since, by
    /// window start and then in the order of their first change, at most `entries_max`.
    pub fn take_updates(
        &mut self,
        range: impl RangeBounds<Timestamp>,
        entries_max: usize,
    ) -> impl Iterator<Item = (Timestamp, Updated<'_, V>)> {
        self.windows.take_updates(range, entries_max)
    }

    /// How many entries of windows that start within `range` changed and were not taken since.
    #[must_use]
    pub fn updates_len(&self, range: impl RangeBounds<Timestamp>) -> usize {
        self.windows.updates_len(range)
    }

    /// Removes every window that starts below `floor`, or in segments those that lie below it as a whole. What changed in
    /// them since the last commit is never written.
    pub fn expire_below(&mut self, floor: Timestamp) {
        let floor = match self.layout {
            Layout::ByStart => floor,
            Layout::BySegment { segment_ms, .. } => {
                floor.saturating_sub(segment_ms).saturating_add(1)
            }
        };
        self.windows.expire_below(floor);
    }
}

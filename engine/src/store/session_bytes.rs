//! Session stores by their keys' bytes: the windows of a key by their last and first instants, in coarse segments of time.
//!
//! An entry's own key, within the segment that its last instant lies in, is
//!
//! | part | bytes |
//! |---|---|
//! | the key | as in a [time store](super::TimeBytes) |
//! | the window's end | 8, big-endian |
//! | the window's start | 8, big-endian |

use super::{
    KeyBatch, OldValues, Scanned, StoreError, StoreOperation, Updated, ValueAndTimestamp, Window,
    across::own_keys,
    form::StoreId,
    key_bytes::Hashed,
    meter::Meter,
    segments::{Bucket, LAST_TIME, Segments},
    time_bytes::{push_escaped, unescape},
};
use crate::broken::broken;
use headwater_core::{
    ports::state::{Order, StateError},
    record::{Headers, Timestamp},
    serde::{Data, SerdeError},
};
use std::ops::{Bound, RangeInclusive};

/// Where a session store holds a key and a window; see [`SessionBytes::locate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionSlot {
    bucket: Bucket,
    slot: u32,
}

/// A window of a key, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session<V> {
    /// From its first to its last instant.
    pub window: Window,
    /// The value.
    pub value: V,
    /// The value's timestamp.
    pub timestamp: Timestamp,
}

/// A window of a key, and the key's bytes.
type OfKey<V> = (Vec<u8>, Session<V>);

/// A window of a key that changed since the last flush.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdatedSession<V> {
    /// The key's bytes.
    pub key: Vec<u8>,
    /// From its first to its last instant.
    pub window: Window,
    /// Its value from now on; none if it was deleted.
    pub new: Option<V>,
    /// What it had at the last flush, where the store [keeps that](SessionBytes::hold_updates_back).
    pub old: Option<ValueAndTimestamp<V>>,
    /// The timestamp of the new value, or of the deletion.
    pub timestamp: Timestamp,
    /// The headers that were [kept](SessionBytes::keep_headers) with its last change.
    pub headers: Option<Box<Headers>>,
}

/// The newest value of each key and window, both ends of which belong to it, by the key's bytes.
pub struct SessionBytes<V> {
    pub(super) segments: Segments<V>,
    segment_ms: i64,
    /// Windows that end below this have expired, though they may not have been removed.
    kept_from: Timestamp,
    pub(super) meter: Meter,
}

opaque_debug!(SessionBytes<V>);

impl<V: Data> SessionBytes<V> {
    pub(super) fn new(segments: Segments<V>, segment_ms: i64) -> Self {
        let (kept_from, meter) = (Timestamp::MIN, Meter::default());
        Self { segments, segment_ms: segment_ms.max(1), kept_from, meter }
    }

    /// Learns which segments the state holds; called once before the first record, and costs a look-up for each.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read.
    pub fn open(&mut self) -> Result<(), StateError> {
        if self.segments.is_open() {
            return Ok(());
        }
        self.segments.open()?;
        for start in self.segments.starts_in(..) {
            self.bucket_of(start);
        }
        self.kept_from = self.kept_from.max(self.segments.oldest_kept().unwrap_or(Timestamp::MIN));
        Ok(())
    }

    /// Sets or, with `None`, deletes the value of `key` in `window`; its timestamp is the window's end. A window that is no
    /// longer kept takes nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] and [`StoreError::Value`] if they cannot be kept, [`StoreError::State`] if the state cannot be read
    /// or holds something else.
    pub fn put(
        &mut self,
        key: &[u8],
        Window { start, end }: Window,
        value: Option<V>,
    ) -> Result<(), StoreError> {
        let window = Window { start, end: end.min(LAST_TIME) };
        if window.end < self.kept_from {
            return Ok(());
        }
        let began = self.meter.begin(StoreOperation::Put, 1);
        let slot = self.place(key, window)?;
        self.change(slot, |entry, timestamp| (*entry, *timestamp) = (value, window.end))?;
        self.meter.end(StoreOperation::Put, 1, began);
        self.segments.observe(window.end);
        if let Some(oldest) = self.segments.oldest_kept()
            && oldest > self.kept_from
        {
            self.kept_from = oldest;
            self.expire_below(oldest);
        }
        Ok(())
    }

    /// The windows of the keys within `keys` whose ends lie within `ends`, by key, end and start. One entry is held of each
    /// segment.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read, [`StateError::Unreadable`] if it holds something
    /// else, here or while it goes on.
    pub fn fetch_keys(
        &mut self,
        keys: (Bound<Vec<u8>>, Bound<Vec<u8>>),
        ends: RangeInclusive<Timestamp>,
        order: Order,
    ) -> Result<impl Iterator<Item = Result<OfKey<V>, StateError>> + use<'_, V>, StateError> {
        let (from, to) = ((*ends.start()).max(self.kept_from).max(0), *ends.end());
        let is_all = matches!(keys, (Bound::Unbounded, Bound::Unbounded));
        let operation = if is_all { StoreOperation::All } else { StoreOperation::Fetch };
        let (first, last) = (0, Timestamp::MAX);
        let range = own_keys(
            keys,
            |key| own_key(key, Window { start: first, end: first }),
            |key| own_key(key, Window { start: last, end: last }),
        );
        let id = self.segments.form.id.clone();
        let stretches = self.segment_of(from)..=self.segment_of(to.max(from));
        let Self { segments, meter, .. } = self;
        let found = meter.one(operation, || segments.across(stretches, &range, order))?;
        let found = found.map(move |entry| {
            let (_, Scanned { key, value }) = entry?;
            let parts = key_of(&key).zip(window_of(&key));
            let (key, window) = parts.ok_or_else(|| damaged(&id))?;
            Ok((key, Session { window, value: value.value, timestamp: value.timestamp }))
        });
        Ok(found.filter(move |entry| match entry {
            Ok((_, session)) => (from..=to).contains(&session.window.end),
            Err(_) => true,
        }))
    }

    /// When the last window of all keys ends, if there is any.
    ///
    /// # Errors
    ///
    /// Those of [`fetch_keys`](Self::fetch_keys).
    pub fn last_end(&mut self) -> Result<Option<Timestamp>, StateError> {
        for start in self.segments.starts_in(..).into_iter().rev() {
            let ends = start..=start.saturating_add(self.segment_ms - 1);
            let all = (Bound::Unbounded, Bound::Unbounded);
            let mut last = None;
            for window in self.fetch_keys(all, ends, Order::Ascending)? {
                last = last.max(Some(window?.1.window.end));
            }
            if last.is_some() {
                return Ok(last);
            }
        }
        Ok(None)
    }

    /// Where the store holds `key` in `window`, read from the state if it is not cached: good until windows are removed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] if the key is new and cannot be read back, [`StoreError::State`] if the state cannot be read
    /// or holds something else.
    pub fn locate(&mut self, key: &[u8], window: Window) -> Result<SessionSlot, StoreError> {
        let began = self.meter.begin(StoreOperation::Fetch, 1);
        let place = self.place(key, window);
        self.meter.end(StoreOperation::Fetch, 1, began);
        place
    }

    /// The same as a part of something else, which is counted.
    fn place(&mut self, key: &[u8], window: Window) -> Result<SessionSlot, StoreError> {
        let start = self.segment_of(window.end);
        let bucket = self.bucket_of(start);
        let own_key = own_key(key, window);
        let own_key = Hashed::new(&own_key);
        let entries = self.segments.entries(bucket);
        if let Some(slot) = entries.find(own_key) {
            self.segments.reads.count(1, 0);
            return Ok(SessionSlot { bucket, slot });
        }
        let misses = usize::from(!entries.is_complete());
        let stored = if entries.is_complete() {
            None
        } else {
            self.segments.shard.get(&[&start.to_be_bytes(), own_key.bytes].concat())?
        };
        self.segments.reads.count(1, misses);
        let (form, entries) = self.segments.with_form(bucket);
        let slot = match stored {
            Some(stored) => form.adopt(entries, own_key, &stored)?,
            None => form.add_under(entries, key, own_key)?,
        };
        Ok(SessionSlot { bucket, slot })
    }

    /// The value in `slot`, if there is one, and its timestamp.
    pub fn get(&mut self, slot: SessionSlot) -> (Option<&V>, Timestamp) {
        let entry = self.segments.entries_mut(slot.bucket).touch(slot.slot);
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
        slot: SessionSlot,
        change: impl FnOnce(&mut Option<V>, &mut Timestamp) -> R,
    ) -> Result<R, StoreError> {
        let began = self.meter.begin(StoreOperation::Put, 1);
        let changed = self.change(slot, change);
        self.meter.end(StoreOperation::Put, 1, began);
        changed
    }

    /// The same as a part of something else, which is counted.
    fn change<R>(
        &mut self,
        slot: SessionSlot,
        change: impl FnOnce(&mut Option<V>, &mut Timestamp) -> R,
    ) -> Result<R, StoreError> {
        let (form, entries) = self.segments.with_form(slot.bucket);
        form.update(entries, slot.slot, change)
    }

    /// The windows of `key` whose ends lie within `ends`, by end and then by start.
    ///
    /// What the cache lacks is read from the state, segment by segment as the iteration comes to it, and not kept.
    pub fn fetch(
        &self,
        key: &[u8],
        ends: RangeInclusive<Timestamp>,
        order: Order,
    ) -> impl Iterator<Item = Result<Session<V>, StateError>> + use<'_, V> {
        // What is read is read as the iteration comes to it: that is not timed.
        self.meter.begin(StoreOperation::Fetch, 1);
        // No record is older than time zero.
        let (from, to) = ((*ends.start()).max(self.kept_from).max(0), *ends.end());
        let mut starts = Vec::new();
        if from <= to {
            starts = self.segments.starts_in(self.segment_of(from)..=self.segment_of(to));
        }
        if order == Order::Descending {
            starts.reverse();
        }
        let first = own_key(key, Window { start: 0, end: from });
        let last = own_key(key, Window { start: Timestamp::MAX, end: to });
        starts.into_iter().flat_map(move |start| {
            let range = (Bound::Included(first.as_slice()), Bound::Included(last.as_slice()));
            let bucket = self.segments.find(start);
            let scan = bucket.map(|bucket| self.segments.scan(start, bucket, range, order));
            let (scan, failed) = match scan.transpose() {
                Ok(scan) => (scan, None),
                Err(failed) => (None, Some(Err(failed))),
            };
            let id = &self.segments.form.id;
            let session = move |Scanned { key, value }: Scanned<V>| {
                let window = window_of(&key).ok_or_else(|| damaged(id))?;
                Ok(Session { window, value: value.value, timestamp: value.timestamp })
            };
            let scan = scan.into_iter().flatten();
            scan.map(move |entry| entry.and_then(&session)).chain(failed)
        })
    }

    /// Why [`locate`](Self::locate) has no place for the key of a row, if it has none.
    #[must_use]
    pub fn refusal(&self, keys: &KeyBatch, row: usize) -> Option<StoreError> {
        self.segments.form.refusal(keys, row)
    }

    /// The error for a key of this store that cannot be read back.
    #[must_use]
    pub fn unreadable(&self, cause: &SerdeError) -> StateError {
        self.segments.form.id.unreadable(cause)
    }

    /// Says that updates are held back until they are [taken](Self::take_updates), with what entries held when they were
    /// last, if those are sent.
    pub fn hold_updates_back(&mut self, old_values: OldValues) {
        self.segments.hold_updates_back(old_values);
    }

    /// Keeps what entries held when their updates were last taken for [`flushed`](Self::flushed), if updates are held back.
    pub fn look_up_old_values(&mut self) {
        self.segments.look_up_old_values();
    }

    /// As [`KeyValueBytes::flushed`](super::KeyValueBytes::flushed).
    pub fn flushed(&mut self, slot: SessionSlot) -> Option<ValueAndTimestamp<V>> {
        self.segments.entries_mut(slot.bucket).flushed(slot.slot)
    }

    /// Keeps the headers of the record that changed the value in `slot` last, for [`take_updates`](Self::take_updates).
    pub fn keep_headers(&mut self, slot: SessionSlot, headers: Option<Box<Headers>>) {
        self.segments.entries_mut(slot.bucket).keep_headers(slot.slot, headers);
    }

    /// The next entries that changed since the last commit and were not taken since, by segment and then in the order of
    /// their first change, at most `entries_max`.
    pub fn take_updates(
        &mut self,
        entries_max: usize,
    ) -> impl Iterator<Item = UpdatedSession<V>> + use<'_, V> {
        self.segments.take_updates(.., entries_max).map(|(_, updated)| {
            let Updated { entry, old, headers } = updated;
            let (key, window) = match (key_of(entry.key), window_of(entry.key)) {
                (Some(key), Some(window)) => (key, window),
                _ => broken("an entry that changed was located by a key and a window"),
            };
            let (new, timestamp) = (entry.value.cloned(), entry.timestamp);
            UpdatedSession { key, window, new, old, timestamp, headers }
        })
    }

    /// How many entries changed and were not taken since.
    #[must_use]
    pub fn updates_len(&self) -> usize {
        self.segments.updates_len(..)
    }

    /// Has every window that ends below `floor` count as expired for those who look it up, before it is
    /// [removed](Self::expire_below).
    pub fn keep_from(&mut self, floor: Timestamp) {
        self.kept_from = self.kept_from.max(floor);
    }

    /// Removes the segments whose windows all end below `floor`. What changed in them since the last commit is never
    /// written.
    pub fn expire_below(&mut self, floor: Timestamp) {
        self.segments.expire_below(floor.saturating_sub(self.segment_ms).saturating_add(1));
    }

    fn segment_of(&self, time: Timestamp) -> Timestamp {
        time.saturating_sub(time.rem_euclid(self.segment_ms))
    }

    /// The bucket of the segment that starts at `start`, which can be scanned.
    fn bucket_of(&mut self, start: Timestamp) -> Bucket {
        let bucket = self.segments.bucket_of(start);
        self.segments.entries_mut(bucket).keep_order();
        bucket
    }
}

fn own_key(key: &[u8], Window { start, end }: Window) -> Vec<u8> {
    let mut own = Vec::with_capacity(key.len() + 18);
    push_escaped(key, &mut own);
    own.extend_from_slice(&end.to_be_bytes());
    own.extend_from_slice(&start.to_be_bytes());
    own
}

/// The first and the last stored key that `key` may have in the segment that starts at `segment`, ending at `earliest_end`
/// or later.
pub(crate) fn stored_keys(
    segment: Timestamp,
    key: &[u8],
    earliest_end: Timestamp,
) -> (Vec<u8>, Vec<u8>) {
    let stored = |window| [&segment.to_be_bytes(), own_key(key, window).as_slice()].concat();
    let last = Window { start: Timestamp::MAX, end: Timestamp::MAX };
    (stored(Window { start: 0, end: earliest_end.max(0) }), stored(last))
}

/// The key that stands in an own key.
pub(crate) fn key_of(own_key: &[u8]) -> Option<Vec<u8>> {
    unescape(own_key.get(..own_key.len().checked_sub(16)?)?)
}

/// The window that stands after the key in an own key.
pub(crate) fn window_of(own_key: &[u8]) -> Option<Window> {
    let (rest, start) = own_key.split_last_chunk::<8>()?;
    let (_, end) = rest.split_last_chunk::<8>()?;
    Some(Window { start: Timestamp::from_be_bytes(*start), end: Timestamp::from_be_bytes(*end) })
}

pub(crate) fn damaged(id: &StoreId) -> StateError {
    id.damaged("a key does not end with a window")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_keys_order_by_key_then_end_then_start_and_come_apart() {
        let keys: [&[u8]; 6] = [b"", b"\0", b"\0\0", b"\0a", b"a", b"a\0"];
        let windows = [(0, 0), (3, 5), (5, 5), (0, 6), (7, Timestamp::MAX)];
        let mut own = Vec::new();
        for key in keys {
            for window in windows.map(|(start, end)| Window { start, end }) {
                own.push(own_key(key, window));
                let last = own.last().unwrap();
                assert_eq!((key_of(last).unwrap(), window_of(last)), (key.to_vec(), Some(window)));
            }
        }
        assert!(own.is_sorted());
    }
}

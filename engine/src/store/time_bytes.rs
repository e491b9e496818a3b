//! Time stores by their keys' bytes: several values of a key and a time, in coarse segments of time.
//!
//! An entry's own key, within its segment, is
//!
//! | part | bytes |
//! |---|---|
//! | the key | each 0 followed by 255, and two 0 after it, so that keys keep their order and none is another's beginning |
//! | the time | 8, big-endian |
//! | the sequence | 4, big-endian: 0 for the first value of the key and the time |

use super::{
    Scanned, StoreError, StoreOperation,
    form::{Form, StoreId},
    key_bytes::Hashed,
    meter::Meter,
    segments::{Bucket, Segments},
};
use headwater_core::{
    ports::state::{Order, Shard, StateError},
    record::Timestamp,
    serde::Data,
};
use std::{
    ops::{Bound, RangeInclusive},
    sync::Arc,
};

/// A value of a key, and when it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timed<V> {
    /// In ms.
    pub time: Timestamp,
    /// Which of the values of its key and time it is, from 0.
    pub sequence: u32,
    /// The value.
    pub value: V,
}

/// Values by key, time and sequence, by the key's bytes.
pub struct TimeBytes<V> {
    pub(super) segments: Segments<V>,
    segment_ms: i64,
    pub(super) meter: Meter,
}

opaque_debug!(TimeBytes<V>);

impl<V: Data> TimeBytes<V> {
    pub(super) fn new(form: Form<V>, shard: Arc<dyn Shard>, segment_ms: i64) -> Self {
        let (segments, meter) = (Segments::new(form, shard), Meter::default());
        Self { segments, segment_ms: segment_ms.max(1), meter }
    }

    /// Learns which segments the state holds; called once before the first record, and costs a look-up for each.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read.
    pub fn open(&mut self) -> Result<(), StateError> {
        self.segments.open()
    }

    /// Adds a value of `key` at `time`, after those that are there, and gives its sequence.
    ///
    /// # Errors
    ///
    /// [`StoreError::Value`] if it cannot be kept, [`StoreError::State`] if the state cannot be read.
    pub fn add(&mut self, key: &[u8], time: Timestamp, value: V) -> Result<u32, StoreError> {
        let start = self.segment_of(time);
        let Self { segments, meter, .. } = self;
        meter.one(StoreOperation::Put, || add(segments, start, key, time, value))
    }

    /// Removes a value.
    ///
    /// # Errors
    ///
    /// [`StoreError::State`] if the state cannot be read, or holds something else.
    pub fn remove(&mut self, key: &[u8], time: Timestamp, sequence: u32) -> Result<(), StoreError> {
        let began = self.meter.begin(StoreOperation::Delete, 1);
        let Some((bucket, slot)) = self.locate(key, time, sequence)? else { return Ok(()) };
        let (form, entries) = self.segments.with_form(bucket);
        form.update(entries, slot, |entry, _| *entry = None)?;
        self.meter.end(StoreOperation::Delete, 1, began);
        Ok(())
    }

    /// The value of `key` at `time` that has this sequence.
    ///
    /// # Errors
    ///
    /// [`StoreError::State`] if the state cannot be read, or holds something else.
    pub fn get(
        &mut self,
        key: &[u8],
        time: Timestamp,
        sequence: u32,
    ) -> Result<Option<V>, StoreError> {
        let began = self.meter.begin(StoreOperation::Get, 1);
        let located = self.locate(key, time, sequence)?;
        self.meter.end(StoreOperation::Get, 1, began);
        let Some((bucket, slot)) = located else { return Ok(None) };
        Ok(self.segments.entries_mut(bucket).touch(slot).value.clone())
    }

    /// The bucket and the slot of an entry, be it deleted.
    fn locate(
        &mut self,
        key: &[u8],
        time: Timestamp,
        sequence: u32,
    ) -> Result<Option<(Bucket, u32)>, StoreError> {
        let start = self.segment_of(time);
        let Some(bucket) = self.segments.find(start) else { return Ok(None) };
        let own_key = own_key(key, time, sequence);
        let own_key = Hashed::new(&own_key);
        let entries = self.segments.entries(bucket);
        let mut slot = entries.find(own_key);
        if slot.is_none() && !entries.is_complete() {
            let stored_key = [&start.to_be_bytes(), own_key.bytes].concat();
            let stored = self.segments.shard.get(&stored_key)?;
            let (form, entries) = self.segments.with_form(bucket);
            slot = stored.map(|stored| form.adopt(entries, own_key, &stored)).transpose()?;
        }
        Ok(slot.map(|slot| (bucket, slot)))
    }

    /// The values of `key` within `times`, by time and sequence.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read, [`StateError::Unreadable`] if it
    /// holds something else, here or while it goes on.
    pub fn fetch(
        &mut self,
        key: &[u8],
        times: RangeInclusive<Timestamp>,
        order: Order,
    ) -> Result<impl Iterator<Item = Result<Timed<V>, StateError>> + use<'_, V>, StateError> {
        let began = self.meter.begin(StoreOperation::Fetch, 1);
        // No record is older than time zero.
        let (from, to) = ((*times.start()).max(0), *times.end());
        let mut starts = Vec::new();
        if from <= to {
            starts = self.segments.starts_in(self.segment_of(from)..=self.segment_of(to));
        }
        if order == Order::Descending {
            starts.reverse();
        }
        let (first, last) = (own_key(key, from, 0), own_key(key, to, u32::MAX));
        let range = (Bound::Included(first.as_slice()), Bound::Included(last.as_slice()));
        let buckets = starts.iter().filter_map(|start| Some((*start, self.segments.find(*start)?)));
        let buckets: Vec<_> = buckets.collect();
        for (_, bucket) in &buckets {
            self.segments.entries_mut(*bucket).keep_order();
        }
        let scan = |(start, bucket)| self.segments.scan(start, bucket, range, order);
        let scans: Vec<_> = buckets.into_iter().map(scan).collect::<Result<_, _>>()?;
        self.meter.end(StoreOperation::Fetch, 1, began);
        let id = &self.segments.form.id;
        Ok(scans.into_iter().flatten().map(move |entry| {
            let Scanned { key, value, .. } = entry?;
            let (time, sequence) = time_and_sequence(id, &key)?;
            Ok(Timed { time, sequence, value: value.value })
        }))
    }

    /// Removes the segments that lie below `floor` as a whole. What changed in them since the last commit is never
    /// written.
    pub fn expire_below(&mut self, floor: Timestamp) {
        self.segments.expire_below(floor.saturating_sub(self.segment_ms).saturating_add(1));
    }

    fn segment_of(&self, time: Timestamp) -> Timestamp {
        time.saturating_sub(time.rem_euclid(self.segment_ms))
    }
}

/// Adds a value in the segment that starts at `start`, after those of its key and time, and gives its sequence.
pub(super) fn add<V: Data>(
    segments: &mut Segments<V>,
    start: Timestamp,
    key: &[u8],
    time: Timestamp,
    value: V,
) -> Result<u32, StoreError> {
    let bucket = segments.bucket_of(start);
    segments.entries_mut(bucket).keep_order();
    let (mut own_key, mut sequence) = (own_key(key, time, 0), 0);
    let entries = segments.entries(bucket);
    if !entries.is_complete() || entries.find(Hashed::new(&own_key)).is_some() {
        let last = self::own_key(key, time, u32::MAX);
        let range = (Bound::Included(own_key.as_slice()), Bound::Included(last.as_slice()));
        let newest = segments.scan(start, bucket, range, Order::Descending)?.next();
        if let Some(newest) = newest.transpose()? {
            let (_, before) = time_and_sequence(&segments.form.id, &newest.key)?;
            sequence = before.saturating_add(1);
            own_key = self::own_key(key, time, sequence);
        }
    }
    let (form, entries) = segments.with_form(bucket);
    let own_key = Hashed::new(&own_key);
    let slot = entries.find(own_key).map_or_else(|| form.add_under(entries, key, own_key), Ok)?;
    form.update(entries, slot, |entry, at| (*entry, *at) = (Some(value), time))?;
    Ok(sequence)
}

pub(crate) fn own_key(key: &[u8], time: Timestamp, sequence: u32) -> Vec<u8> {
    let mut own = Vec::with_capacity(key.len() + 14);
    push_escaped(key, &mut own);
    own.extend_from_slice(&time.to_be_bytes());
    own.extend_from_slice(&sequence.to_be_bytes());
    own
}

/// Appends a key so that keys keep their order and none is another's beginning.
pub(super) fn push_escaped(key: &[u8], out: &mut Vec<u8>) {
    for byte in key {
        out.push(*byte);
        if *byte == 0 {
            out.push(u8::MAX);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

/// The key that was [appended](push_escaped).
pub(super) fn unescape(escaped: &[u8]) -> Option<Vec<u8>> {
    let mut key = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.strip_suffix(&[0, 0])?.iter();
    while let Some(byte) = bytes.next() {
        key.push(*byte);
        if *byte == 0 && bytes.next() != Some(&u8::MAX) {
            return None;
        }
    }
    Some(key)
}

/// The key that stands in an own key.
pub(crate) fn key_of(own_key: &[u8]) -> Option<Vec<u8>> {
    unescape(own_key.get(..own_key.len().checked_sub(12)?)?)
}

/// What stands after the key in an own key.
pub(crate) fn time_and_sequence(
    id: &StoreId,
    own_key: &[u8],
) -> Result<(Timestamp, u32), StateError> {
    let parts = own_key.split_last_chunk::<4>().and_then(|(rest, sequence)| {
        let (_, time) = rest.split_last_chunk::<8>()?;
        Some((i64::from_be_bytes(*time), u32::from_be_bytes(*sequence)))
    });
    parts.ok_or_else(|| id.damaged("a key does not end with a time and a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_keys_order_by_key_then_time_then_sequence() {
        let keys: [&[u8]; 6] = [b"", b"\0", b"\0\0", b"\0a", b"a", b"a\0"];
        let id = StoreId { name: "times".into(), partition: 0 };
        let mut own: Vec<Vec<u8>> = Vec::new();
        for key in keys {
            for (time, sequence) in [(0, 0), (0, 1), (0, u32::MAX), (1, 0), (Timestamp::MAX, 7)] {
                own.push(own_key(key, time, sequence));
                let parted = time_and_sequence(&id, own.last().unwrap()).unwrap();
                assert_eq!(parted, (time, sequence));
            }
        }
        assert!(own.is_sorted());
    }
}

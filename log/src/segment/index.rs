//! A segment's sparse indexes in memory and in Kafka's bytes.
//!
//! # Invariants
//!
//! - Both are hints derived from the log file: a lookup gives a batch boundary at or before what is wanted, never
//!   after it.
//! - Entries follow Kafka's rule (one when more than 4 KiB were appended since the last), so that Kafka's own tools
//!   find them right.

use crate::batch::Header;

const INTERVAL_BYTES: u64 = 4096;

/// `.index` and `.timeindex` of one segment, offsets relative to its base.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    /// A batch's last offset, and where the batch starts.
    offsets: Vec<(u32, u32)>,
    /// The largest timestamp so far, and the last offset of the batch that holds it.
    times: Vec<(i64, u32)>,
    since: u64,
    max: Option<(i64, u32)>,
}

impl Index {
    /// Takes note of the batch at `position`, in the order of positions.
    pub(crate) fn note(&mut self, base: i64, position: u64, header: &Header) {
        let last = u32::try_from(header.last_offset - base).unwrap_or(u32::MAX);
        if self.max.is_none_or(|(max, _)| header.max_timestamp > max) {
            self.max = Some((header.max_timestamp, last));
        }
        if self.since > INTERVAL_BYTES {
            self.offsets.push((last, u32::try_from(position).unwrap_or(u32::MAX)));
            self.note_time();
            self.since = 0;
        }
        self.since += header.size as u64;
    }

    fn note_time(&mut self) {
        if let Some((max, last)) = self.max
            && self.times.last().is_none_or(|(before, _)| max > *before)
        {
            self.times.push((max, last));
        }
    }

    /// Puts the entries of what lies in front of this index's batches before its own.
    pub(crate) fn prepend(&mut self, mut front: Self) {
        let floor = front.max.map(|(max, _)| max);
        front.offsets.append(&mut self.offsets);
        front
            .times
            .extend(self.times.iter().filter(|(time, _)| floor.is_none_or(|floor| *time > floor)));
        front.max = match (front.max, self.max) {
            (Some(front), Some(own)) if own.0 <= front.0 => Some(front),
            (front, own) => own.or(front),
        };
        front.since = self.since;
        *self = front;
    }

    /// Where to start walking for the batch that holds `offset` (relative): before it or at it.
    pub(crate) fn position_for(&self, offset: u32) -> u64 {
        let after = self.offsets.partition_point(|(last, _)| *last <= offset);
        after
            .checked_sub(1)
            .and_then(|i| self.offsets.get(i))
            .map_or(0, |(_, position)| u64::from(*position))
    }

    /// The first offset (relative) that may have a timestamp of at least `timestamp`.
    pub(crate) fn offset_for(&self, timestamp: i64) -> u32 {
        let after = self.times.partition_point(|(time, _)| *time < timestamp);
        after.checked_sub(1).and_then(|i| self.times.get(i)).map_or(0, |(_, last)| last + 1)
    }

    /// The largest timestamp of all.
    pub(crate) fn max_timestamp(&self) -> Option<i64> {
        self.max.map(|(max, _)| max)
    }

    /// The bytes of the `.index` and `.timeindex` file of a sealed segment.
    pub(crate) fn files(&self) -> (Vec<u8>, Vec<u8>) {
        let mut sealed = Self { times: self.times.clone(), max: self.max, ..Self::default() };
        sealed.note_time();
        let mut offsets = Vec::with_capacity(self.offsets.len() * 8);
        for (last, position) in &self.offsets {
            offsets.extend_from_slice(&last.to_be_bytes());
            offsets.extend_from_slice(&position.to_be_bytes());
        }
        let mut times = Vec::with_capacity(sealed.times.len() * 12);
        for (time, last) in &sealed.times {
            times.extend_from_slice(&time.to_be_bytes());
            times.extend_from_slice(&last.to_be_bytes());
        }
        (offsets, times)
    }
}

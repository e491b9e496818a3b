//! Kafka's two index files of a sealed segment, for Kafka's tools: the log itself goes by the segment's marks.
//!
//! Entries follow Kafka's rule: one when more than 4 KiB were appended since the last.

use crate::batch::Header;

const INTERVAL_BYTES: u64 = 4096;

/// The bytes of `.index` and `.timeindex`, offsets relative to the segment's base.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) offsets: Vec<u8>,
    pub(super) times: Vec<u8>,
    since: u64,
    /// The largest timestamp so far, and the last offset of the batch that holds it.
    max: Option<(i64, u32)>,
    noted: Option<i64>,
}

impl Index {
    /// Takes note of the batch at `position`, in the order of positions.
    pub(super) fn note(&mut self, base: i64, position: u64, header: &Header) {
        let last = u32::try_from(header.last_offset - base).unwrap_or(u32::MAX);
        if self.max.is_none_or(|(max, _)| header.max_timestamp > max) {
            self.max = Some((header.max_timestamp, last));
        }
        if self.since > INTERVAL_BYTES {
            let position = u32::try_from(position).unwrap_or(u32::MAX);
            self.offsets.extend_from_slice(&last.to_be_bytes());
            self.offsets.extend_from_slice(&position.to_be_bytes());
            self.note_time();
            self.since = 0;
        }
        self.since += header.size as u64;
    }

    /// Notes the largest timestamp, if it rose: with each entry, and once more when the segment is sealed.
    pub(super) fn note_time(&mut self) {
        if let Some((max, last)) = self.max
            && self.noted.is_none_or(|noted| max > noted)
        {
            self.times.extend_from_slice(&max.to_be_bytes());
            self.times.extend_from_slice(&last.to_be_bytes());
            self.noted = Some(max);
        }
    }
}

//! Record sets to batches.

use super::{CRC_FROM, HEADER_BYTES, PREFIX_BYTES, fill, varint};
use crate::limits::check_record;
use headwater_core::{
    broken::broken,
    ports::log::{Limits, LogError},
    record::{RecordRef, RecordSet, TopicPartition},
};

/// A batch is closed once it has grown to this.
const BATCH_BYTES: usize = 1 << 20;

/// About how many bytes they are encoded in, and rather fewer.
pub(crate) fn bytes_of(records: &RecordSet) -> usize {
    records.size_bytes() + HEADER_BYTES
}

/// Encodes all records for `partition` into `out`, which is empty, the first at offset 0; see [`place`](super::place).
pub(crate) fn encode(
    partition: &TopicPartition,
    records: &RecordSet,
    limits: &Limits,
    mut out: Vec<u8>,
) -> Result<Vec<u8>, LogError> {
    let mut open: Option<Open> = None;
    for (index, record) in records.iter().enumerate() {
        check_record(partition, index, &record, limits)?;
        let batch = open.get_or_insert_with(|| Open::start(&mut out, index, record.timestamp));
        batch.push(&mut out, &record);
        if out.len() - batch.start >= BATCH_BYTES {
            batch.finish(&mut out);
            open = None;
        }
    }
    if let Some(batch) = open {
        batch.finish(&mut out);
    }
    Ok(out)
}

/// A batch whose header is still blank.
#[derive(Debug)]
struct Open {
    start: usize,
    first: usize,
    base_timestamp: i64,
    max_timestamp: i64,
    records: usize,
}

impl Open {
    fn start(out: &mut Vec<u8>, first: usize, base_timestamp: i64) -> Self {
        let start = out.len();
        out.resize(start + HEADER_BYTES, 0);
        Self { start, first, base_timestamp, max_timestamp: i64::MIN, records: 0 }
    }

    fn push(&mut self, out: &mut Vec<u8>, record: &RecordRef<'_>) {
        let headers: &[u8] = if record.headers.is_empty() { &[0] } else { record.headers };
        let time_delta = record.timestamp.wrapping_sub(self.base_timestamp);
        let offset_delta = length(self.records);
        let body = 1
            + varint::size(time_delta)
            + varint::size(offset_delta)
            + size_of_bytes(record.key)
            + size_of_bytes(record.value)
            + headers.len();
        varint::put(out, length(body));
        out.push(0);
        varint::put(out, time_delta);
        varint::put(out, offset_delta);
        put_bytes(out, record.key);
        put_bytes(out, record.value);
        out.extend_from_slice(headers);
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        self.records += 1;
    }

    fn finish(&self, out: &mut [u8]) {
        let Some(batch) = out.get_mut(self.start..) else {
            broken("a batch begins with its header")
        };
        let Ok(size) = u32::try_from(batch.len() - PREFIX_BYTES) else {
            broken("a batch holds about 1 MiB and one record")
        };
        let Ok(records) = u32::try_from(self.records) else {
            broken("a batch of about 1 MiB has less than 2^32 records")
        };
        let mut header = [0_u8; HEADER_BYTES];
        let fields: [(usize, &[u8]); 9] = [
            (0, &length(self.first).to_be_bytes()),
            (8, &size.to_be_bytes()),
            (16, &[2]),
            (23, &(records - 1).to_be_bytes()),
            (27, &self.base_timestamp.to_be_bytes()),
            (35, &self.max_timestamp.to_be_bytes()),
            (43, &[0xff; 8]),
            (51, &[0xff; 6]),
            (57, &records.to_be_bytes()),
        ];
        for (at, field) in fields {
            fill(&mut header, at, field);
        }
        fill(batch, 0, &header);
        let crc = crc32c::crc32c(
            batch.get(CRC_FROM..).unwrap_or_else(|| broken("a batch begins with its header")),
        );
        fill(batch, 17, &crc.to_be_bytes());
    }
}

fn length(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn size_of_bytes(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varint::size(length(bytes.len())) + bytes.len())
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => varint::put(out, -1),
        Some(bytes) => {
            varint::put(out, length(bytes.len()));
            out.extend_from_slice(bytes);
        }
    }
}

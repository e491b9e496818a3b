//! Batches to record sets.
//!
//! # Invariants
//!
//! - What is allocated is bounded by the bytes that are there, not by a count or length in them; a record that
//!   would reach past its batch is damage.
//! - A batch whose CRC is wrong gives no record.

use super::{CRC_FROM, HEADER_BYTES, Header, varint};
use crate::cursor::Malformed;
use headwater_core::record::RecordSetOver;

/// A start and a length in the arena.
type Place = (usize, usize);

/// A length, attributes, two deltas, two nulls and a count of headers, in a byte each.
const RECORD_BYTES_MIN: usize = 7;

/// Compares the batch's CRC with its bytes.
pub(crate) fn check(batch: &[u8], header: &Header) -> Result<(), Malformed> {
    let covered = batch.get(CRC_FROM..header.size).ok_or(Malformed("the batch ends early"))?;
    if crc32c::crc32c(covered) == header.crc {
        Ok(())
    } else {
        Err(Malformed("the batch's CRC is wrong"))
    }
}

/// Adds the records from offset `from` on of the checked batch at `start` of `arena`; control batches add none.
pub(crate) fn decode(
    arena: &[u8],
    start: usize,
    header: &Header,
    from: i64,
    out: &mut RecordSetOver,
) -> Result<(), Malformed> {
    // No more than the batch has bytes for, whatever it counts.
    out.reserve((header.records as usize).min(header.size / RECORD_BYTES_MIN));
    walk(arena, start, header, |record| {
        if record.offset < from {
            return Ok(true);
        }
        let places = [record.key, record.value, record.headers];
        out.push(record.offset, record.timestamp, places)
            .map_err(|_| Malformed("the batch is too large"))?;
        Ok(true)
    })
}

/// The first offset from `from` on whose timestamp is at least `timestamp`, in a checked batch.
pub(crate) fn find_timestamp(
    batch: &[u8],
    header: &Header,
    from: i64,
    timestamp: i64,
) -> Result<Option<i64>, Malformed> {
    let mut found = None;
    walk(batch, 0, header, |record| {
        if record.offset >= from && record.timestamp >= timestamp {
            found = Some(record.offset);
        }
        Ok(found.is_none())
    })?;
    Ok(found)
}

struct Walked {
    offset: i64,
    timestamp: i64,
    key: Option<Place>,
    value: Option<Place>,
    headers: Option<Place>,
}

/// Calls `visit` with each record until it says `false`.
fn walk(
    arena: &[u8],
    start: usize,
    header: &Header,
    mut visit: impl FnMut(Walked) -> Result<bool, Malformed>,
) -> Result<(), Malformed> {
    if header.is_control() {
        return Ok(());
    }
    if header.is_compressed() {
        return Err(Malformed("the batch is compressed, which this version does not read"));
    }
    let bytes = arena.get(..start + header.size).ok_or(Malformed("the batch ends early"))?;
    let mut at = start + HEADER_BYTES;
    let mut least_delta = 0;
    for _ in 0..header.records {
        let (delta, mut record, next) =
            record(bytes, at, header).ok_or(Malformed("a record is malformed"))?;
        at = next;
        if delta < least_delta || delta > header.last_offset - header.base_offset {
            return Err(Malformed("a record's offset is outside its batch"));
        }
        record.offset = header.base_offset + delta;
        least_delta = delta + 1;
        if !visit(record)? {
            return Ok(());
        }
    }
    if at == bytes.len() { Ok(()) } else { Err(Malformed("bytes follow the batch's last record")) }
}

/// The record at `at`, its offset delta, and where the next one starts.
///
/// Inlined, so that place and record stay in registers: a call passes both through memory, which takes as long as the
/// record itself.
#[inline(always)]
fn record(bytes: &[u8], mut at: usize, header: &Header) -> Option<(i64, Walked, usize)> {
    let length = usize::try_from(varint::take(bytes, &mut at)?).ok()?;
    let end = at.checked_add(length)?;
    let bytes = bytes.get(..end)?;
    let _attributes = bytes.get(at)?;
    at += 1;
    let time_delta = varint::take(bytes, &mut at)?;
    let offset_delta = varint::take(bytes, &mut at)?;
    let key = place(bytes, &mut at)?;
    let value = place(bytes, &mut at)?;
    // A lone zero is the count of no headers.
    let headers = match bytes.get(at..)? {
        [] => return None,
        [0] => None,
        more => Some((at, more.len())),
    };
    let timestamp = if header.is_append_time() {
        header.max_timestamp
    } else {
        header.base_timestamp.wrapping_add(time_delta)
    };
    Some((offset_delta, Walked { offset: 0, timestamp, key, value, headers }, end))
}

/// The outer `None` is damage, the inner a null.
#[inline(always)]
fn place(bytes: &[u8], at: &mut usize) -> Option<Option<Place>> {
    let length = varint::take(bytes, at)?;
    let Ok(length) = usize::try_from(length) else { return (length == -1).then_some(None) };
    let start = *at;
    *at = start.checked_add(length).filter(|end| *end <= bytes.len())?;
    Some(Some((start, length)))
}

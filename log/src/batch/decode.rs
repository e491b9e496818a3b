//! Batches to record sets.
//!
//! # Invariants
//!
//! - What is allocated is bounded by the bytes that are there, not by a count or length in them; a record that
//!   would reach past its batch is damage.
//! - A batch whose CRC is wrong gives no record.

use super::{CRC_FROM, HEADER_BYTES, Header, varint};
use crate::cursor::Malformed;
use headwater_core::record::{RecordSetOver, Span};

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
        let spans = [record.key, record.value, record.headers];
        out.push(record.offset, record.timestamp, spans)
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
    key: Span,
    value: Span,
    headers: Span,
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
    let end = start + header.size;
    let batch = arena.get(start..end).ok_or(Malformed("the batch ends early"))?;
    let end = u32::try_from(end).map_err(|_| Malformed("the batch is too large"))?;
    let mut rest = batch.get(HEADER_BYTES..).unwrap_or_default();
    let mut least_delta = 0;
    for _ in 0..header.records {
        let (delta, mut record) =
            record(&mut rest, end, header).ok_or(Malformed("a record is malformed"))?;
        if delta < least_delta || delta > header.last_offset - header.base_offset {
            return Err(Malformed("a record's offset is outside its batch"));
        }
        record.offset = header.base_offset + delta;
        least_delta = delta + 1;
        if !visit(record)? {
            return Ok(());
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(Malformed("bytes follow the batch's last record")) }
}

/// Takes a record off the front of `rest`, which ends at `end` of the arena; its offset's delta beside it.
///
/// Inlined, so that what is left and the record stay in registers: a call passes both through memory, which takes as long
/// as the record itself.
#[inline(always)]
fn record(rest: &mut &[u8], end: u32, header: &Header) -> Option<(i64, Walked)> {
    let (_attributes, mut fields) = varint::take_block(rest)??.split_first()?;
    let end = end - length_of(rest);
    let time_delta = varint::take(&mut fields)?;
    let offset_delta = varint::take(&mut fields)?;
    let key = field(&mut fields, end)?;
    let value = field(&mut fields, end)?;
    // A lone zero is the count of no headers.
    let headers = match fields {
        [] => return None,
        [0] => Span::NULL,
        more => Span::new(end - length_of(more), length_of(more)),
    };
    let timestamp = if header.is_append_time() {
        header.max_timestamp
    } else {
        header.base_timestamp.wrapping_add(time_delta)
    };
    Some((offset_delta, Walked { offset: 0, timestamp, key, value, headers }))
}

/// Takes a key or value off the front of `fields`, which end at `end` of the arena; `None` is damage.
#[inline(always)]
fn field(fields: &mut &[u8], end: u32) -> Option<Span> {
    let Some(bytes) = varint::take_block(fields)? else { return Some(Span::NULL) };
    Some(Span::new(end - length_of(fields) - length_of(bytes), length_of(bytes)))
}

#[expect(clippy::cast_possible_truncation, reason = "it is part of an arena that ends at a `u32`")]
fn length_of(part: &[u8]) -> u32 {
    part.len() as u32
}

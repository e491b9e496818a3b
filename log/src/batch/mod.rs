//! Kafka's record batch, format v2: the unit that is appended, stored, checked and fetched.
//!
//! | part | does |
//! |---|---|
//! | [`Header`] | the 61 bytes in front of the records |
//! | [`encode()`](encode::encode) | a record set to batches of about 1 MiB, placed at offset 0 |
//! | [`place`] | gives encoded batches their offsets: base offset and leader epoch lie outside the batch's CRC |
//! | [`decode`](decode::decode) | a checked batch to entries of a record set, nothing allocated a record |
//!
//! # Not here
//!
//! Compression and control batches are recognised but never written.

pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod varint;

#[cfg(test)]
pub(crate) mod tests;

use crate::cursor::{Cursor, Malformed};
use headwater_core::broken::broken;

/// Bytes of a batch in front of its records.
pub(crate) const HEADER_BYTES: usize = 61;
/// Bytes in front of what the batch's length field counts.
const PREFIX_BYTES: usize = 12;
/// Where the CRC's coverage starts.
const CRC_FROM: usize = 21;

/// The fields in front of a batch's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) base_offset: i64,
    /// Of the whole batch, in bytes.
    pub(crate) size: usize,
    /// The generation of the log that wrote it.
    pub(crate) leader_epoch: u32,
    pub(crate) crc: u32,
    pub(crate) attributes: u16,
    pub(crate) last_offset: i64,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) records: u32,
}

impl Header {
    /// Reads the first [`HEADER_BYTES`] of `bytes`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let base_offset = cursor.i64()?;
        let length = cursor.u32()?;
        let leader_epoch = cursor.u32()?;
        if cursor.u8()? != 2 {
            return Err(Malformed("no record batch of format v2 starts here"));
        }
        let crc = cursor.u32()?;
        let attributes = cursor.u16()?;
        let last_delta = cursor.u32()?;
        let base_timestamp = cursor.i64()?;
        let max_timestamp = cursor.i64()?;
        cursor.bytes(14)?;
        let records = cursor.u32()?;
        let size = length as usize + PREFIX_BYTES;
        if size < HEADER_BYTES || length > i32::MAX as u32 {
            return Err(Malformed("the batch's length is impossible"));
        }
        let last_offset = base_offset
            .checked_add(i64::from(last_delta))
            .filter(|_| last_delta <= i32::MAX as u32);
        let Some(last_offset) = last_offset.filter(|_| base_offset >= 0) else {
            return Err(Malformed("the batch's offsets are impossible"));
        };
        Ok(Self {
            base_offset,
            size,
            leader_epoch,
            crc,
            attributes,
            last_offset,
            base_timestamp,
            max_timestamp,
            records,
        })
    }

    /// Whether it holds markers instead of records.
    pub(crate) fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }

    fn is_compressed(&self) -> bool {
        self.attributes & 0x07 != 0
    }

    fn is_append_time(&self) -> bool {
        self.attributes & 0x08 != 0
    }
}

/// Moves batches that [`encode()`](encode::encode) made so that the first record gets `base_offset`, and stamps the leader's
/// epoch. Each batch keeps its distance to the first.
pub(crate) fn place(batches: &mut [u8], base_offset: i64, leader_epoch: u32) {
    let mut rest = batches;
    while !rest.is_empty() {
        let Ok(header) = Header::parse(rest) else { broken("what was encoded is batches") };
        let Some((batch, after)) = rest.split_at_mut_checked(header.size) else {
            broken("what was encoded is whole batches")
        };
        fill(batch, 0, &(header.base_offset + base_offset).to_be_bytes());
        fill(batch, 12, &leader_epoch.to_be_bytes());
        rest = after;
    }
}

/// Writes a field of a header.
fn fill(target: &mut [u8], at: usize, field: &[u8]) {
    match target.get_mut(at..at + field.len()) {
        Some(place) => place.copy_from_slice(field),
        None => broken("a field lies within its header"),
    }
}

/// The checksum of all that `crc` covers and of these batches after it, from the checksums that they hold.
pub(crate) fn sum(mut crc: u32, batches: &[u8]) -> u32 {
    let mut rest = batches;
    while let Ok(header) = Header::parse(rest)
        && let Some((batch, after)) = rest.split_at_checked(header.size)
        && let Some((front, covered)) = batch.split_at_checked(CRC_FROM)
    {
        crc = crc32c::crc32c_append(crc, front);
        crc = crc32c::crc32c_combine(crc, header.crc, covered.len());
        rest = after;
    }
    crc32c::crc32c_append(crc, rest)
}

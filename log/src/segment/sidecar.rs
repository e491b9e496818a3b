//! The checksums of a segment's batch headers, and the sidecar file that keeps them for a sealed one.
//!
//! A batch's own CRC leaves out its base offset, length and leader epoch; these checksums cover them. They are
//! cumulative, with one noted about every MiB, so that damage can be located.

use crate::{
    batch::HEADER_BYTES,
    cursor::{Cursor, Malformed, Put},
};

const MAGIC: u32 = u32::from_be_bytes(*b"HWCK");
const VERSION: u32 = 1;
const RUN_BYTES: u64 = 1 << 20;

/// The cumulative CRC-32C of all batch headers in front of `position`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) position: u64,
    pub(crate) crc: u32,
}

/// Checksums of the headers walked so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Headers {
    pub(crate) crc: u32,
    pub(crate) marks: Vec<Mark>,
    marked: u64,
}

impl Headers {
    /// Continues after a part whose checksum is known.
    pub(crate) fn continued(crc: u32, position: u64) -> Self {
        Self { crc, marks: vec![Mark { position, crc }], marked: position }
    }

    /// Takes in the header of the batch that ends at `end`.
    pub(crate) fn note(&mut self, batch: &[u8], end: u64) {
        let header = batch.get(..HEADER_BYTES).unwrap_or(batch);
        self.crc = crc32c::crc32c_append(self.crc, header);
        if end >= self.marked + RUN_BYTES {
            self.marks.push(Mark { position: end, crc: self.crc });
            self.marked = end;
        }
    }
}

/// What the `.checksum` file of a sealed segment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sidecar {
    pub(crate) length: u64,
    pub(crate) next_offset: i64,
    pub(crate) marks: Vec<Mark>,
}

impl Sidecar {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u32(MAGIC);
        out.put_u32(VERSION);
        out.put_u64(self.length);
        out.put_i64(self.next_offset);
        out.put_count(self.marks.len());
        for mark in &self.marks {
            out.put_u64(mark.position);
            out.put_u32(mark.crc);
        }
        let crc = crc32c::crc32c(&out);
        out.put_u32(crc);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (covered, crc) =
            bytes.split_last_chunk::<4>().ok_or(Malformed("the bytes end early"))?;
        if crc32c::crc32c(covered).to_be_bytes() != *crc {
            return Err(Malformed("the sidecar's CRC is wrong"));
        }
        let mut cursor = Cursor::new(covered);
        if cursor.u32()? != MAGIC || cursor.u32()? != VERSION {
            return Err(Malformed("this is no sidecar of version 1"));
        }
        let (length, next_offset) = (cursor.u64()?, cursor.i64()?);
        let count = cursor.u32()?;
        let mut marks = Vec::new();
        for _ in 0..count {
            marks.push(Mark { position: cursor.u64()?, crc: cursor.u32()? });
        }
        Ok(Self { length, next_offset, marks })
    }
}

//! The sidecar file of a sealed segment: the marks at which its runs end, by which it is read and checked.

use super::mark::{Mark, put_marks, take_marks};
use crate::cursor::{Cursor, Malformed, Put};

const MAGIC: u32 = u32::from_be_bytes(*b"HWCK");
const VERSION: u32 = 2;

/// What the `.checksum` file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sidecar {
    /// The length of the `.index` file.
    pub(super) index_bytes: u64,
    /// The length of the `.timeindex` file.
    pub(super) times_bytes: u64,
    pub(super) marks: Vec<Mark>,
}

impl Sidecar {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u32(MAGIC);
        out.put_u32(VERSION);
        out.put_u64(self.index_bytes);
        out.put_u64(self.times_bytes);
        put_marks(&mut out, &self.marks);
        let crc = crc32c::crc32c(&out);
        out.put_u32(crc);
        out
    }

    /// Reads the sidecar of the segment with this base offset.
    pub(super) fn decode(bytes: &[u8], base: i64) -> Result<Self, Malformed> {
        let (covered, crc) =
            bytes.split_last_chunk::<4>().ok_or(Malformed("the bytes end early"))?;
        if crc32c::crc32c(covered).to_be_bytes() != *crc {
            return Err(Malformed("the sidecar's CRC is wrong"));
        }
        let mut cursor = Cursor::new(covered);
        if cursor.u32()? != MAGIC || cursor.u32()? != VERSION {
            return Err(Malformed("this is no sidecar of version 2"));
        }
        let (index_bytes, times_bytes) = (cursor.u64()?, cursor.u64()?);
        Ok(Self { index_bytes, times_bytes, marks: take_marks(&mut cursor, base)? })
    }
}

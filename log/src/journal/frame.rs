//! The frame: what one round of the committer writes, valid as a whole or not at all.
//!
//! The CRC covers header and payload. The log's number is not told to clients, so that no record that looks like a frame
//! passes for one when a torn journal is searched. Frames start at multiples of [`ALIGNMENT`], so that a torn write never
//! touches the frame in front of it.

use super::Stamp;
use crate::cursor::{Cursor, Malformed, Put};

const MAGIC: u32 = u32::from_be_bytes(*b"HWJF");
const VERSION: u32 = 2;
/// Bytes in front of a frame's payload.
pub(crate) const HEADER_BYTES: usize = 44;
/// Where frames may start.
pub(crate) const ALIGNMENT: usize = 4096;

/// What a frame says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label {
    /// The log and the opening that wrote it.
    pub(crate) stamp: Stamp,
    pub(crate) sequence: u64,
    /// The last frame that was known to be on the disk when this one was written.
    pub(crate) durable: u64,
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) label: Label,
    /// Of the payload.
    pub(crate) length: u32,
    crc: u32,
}

impl FrameHeader {
    /// Bytes of header and payload.
    pub(crate) fn bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.length)
    }

    /// Bytes from this frame's start to the next one's.
    pub(crate) fn stride(&self) -> u64 {
        self.bytes().next_multiple_of(ALIGNMENT as u64)
    }

    /// Whether `frame`, header and payload, has this header's CRC.
    pub(crate) fn covers(&self, frame: &[u8]) -> bool {
        checksum(frame) == Some(self.crc)
    }
}

/// The header of a frame whose payload has `length` bytes, but for the checksum at its end.
pub(crate) fn fields(label: Label, length: usize) -> Vec<u8> {
    let mut fields = Vec::with_capacity(HEADER_BYTES);
    fields.put_u32(MAGIC);
    fields.put_u32(VERSION);
    fields.put_u64(label.stamp.log);
    fields.put_u64(label.sequence);
    fields.put_u64(label.durable);
    fields.put_u32(label.stamp.generation);
    fields.put_count(length);
    fields
}

/// The header of the frame that starts at the front of `bytes`; `None` if none does.
pub(crate) fn start(bytes: &[u8]) -> Option<FrameHeader> {
    parse(bytes).ok().flatten()
}

fn parse(bytes: &[u8]) -> Result<Option<FrameHeader>, Malformed> {
    let mut cursor = Cursor::new(bytes);
    // A torn header may say anything here; that the directory has another version is the checkpoint's to say.
    if cursor.u32()? != MAGIC || cursor.u32()? != VERSION {
        return Ok(None);
    }
    let (log, sequence, durable) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
    let (generation, length, crc) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
    let label = Label { stamp: Stamp { log, generation }, sequence, durable };
    Ok(Some(FrameHeader { label, length, crc }))
}

fn checksum(frame: &[u8]) -> Option<u32> {
    let header = frame.get(..HEADER_BYTES - 4)?;
    Some(crc32c::crc32c_append(crc32c::crc32c(header), frame.get(HEADER_BYTES..)?))
}

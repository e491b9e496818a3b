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

/// Room for the header, in front of the payload's first byte.
pub(crate) fn begin(out: &mut Vec<u8>) {
    out.clear();
    out.resize(HEADER_BYTES, 0);
}

/// Fills in the header and pads to the alignment.
pub(crate) fn finish(out: &mut Vec<u8>, label: Label) {
    let length = u32::try_from(out.len() - HEADER_BYTES)
        .expect("a round's commits are limited to less than 4 GiB");
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.put_u32(MAGIC);
    header.put_u32(VERSION);
    header.put_u64(label.stamp.log);
    header.put_u64(label.sequence);
    header.put_u64(label.durable);
    header.put_u32(label.stamp.generation);
    header.put_u32(length);
    fill(out, 0, &header);
    let crc = checksum(out).unwrap_or_default();
    fill(out, HEADER_BYTES - 4, &crc.to_be_bytes());
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
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

fn fill(out: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = out.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

//! The bytes of a frame that is being made, where direct writes take them from.

use super::{
    entry::Entry,
    frame::{self, ALIGNMENT, HEADER_BYTES, Label},
};
use crate::{batch, cursor::Put};
use headwater_core::broken::broken;
use std::slice::SliceIndex;

/// Batches shorter than this are summed with the rest: combining two checksums costs as much.
const COMBINED_BYTES_MIN: usize = 128 << 10;
const HOLDS_A_FRAME: &str = "a frame that is made is in its buffer";

/// A frame without its header, and then with it.
#[derive(Debug, Default)]
pub(crate) struct FrameBuffer {
    bytes: Vec<u8>,
    /// Where the frame starts: at an address that is a multiple of [`ALIGNMENT`].
    start: usize,
    /// The payload's checksum up to `summed`.
    crc: u32,
    summed: usize,
}

impl FrameBuffer {
    /// What a frame takes beside its payload: its header, its padding, and the way to the alignment.
    pub(crate) const BESIDE_BYTES: usize = HEADER_BYTES + 2 * ALIGNMENT;

    /// Over memory that is there.
    pub(crate) fn over(bytes: Vec<u8>) -> Self {
        Self { bytes, ..Self::default() }
    }

    /// Its memory.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Starts a frame whose payload has about `payload_bytes`.
    pub(crate) fn begin(&mut self, payload_bytes: usize) {
        self.bytes.clear();
        self.bytes.reserve(payload_bytes + Self::BESIDE_BYTES);
        self.start = to_alignment(&self.bytes);
        self.bytes.resize(self.start + HEADER_BYTES, 0);
        self.crc = 0;
        self.summed = self.bytes.len();
    }

    /// Adds an entry. The checksums of large batches are not computed a second time.
    pub(crate) fn push(&mut self, entry: &Entry<'_>) {
        entry.put(&mut self.bytes);
        if let Entry::Append { batches, .. } = entry
            && batches.len() >= COMBINED_BYTES_MIN
        {
            self.sum_to(self.bytes.len() - batches.len());
            self.crc = batch::sum(self.crc, batches);
            self.summed = self.bytes.len();
        }
    }

    /// Whether no entry was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.len() == self.start + HEADER_BYTES
    }

    /// Bytes that the frame takes up in a file.
    pub(crate) fn stride(&self) -> u64 {
        (self.bytes.len() - self.start).next_multiple_of(ALIGNMENT) as u64
    }

    /// Fills in the header; the bytes to write.
    pub(crate) fn finish(&mut self, label: Label) -> &[u8] {
        let payload = self.start + HEADER_BYTES;
        let length = self.bytes.len() - payload;
        let mut header = frame::fields(label, length);
        let crc = crc32c::crc32c(&header);
        let crc = if self.summed == payload {
            crc32c::crc32c_append(crc, part(&self.bytes, payload..))
        } else {
            self.sum_to(self.bytes.len());
            crc32c::crc32c_combine(crc, self.crc, length)
        };
        header.put_u32(crc);
        match self.bytes.get_mut(self.start..payload) {
            Some(place) => place.copy_from_slice(&header),
            None => broken(HOLDS_A_FRAME),
        }
        let end = self.start + (HEADER_BYTES + length).next_multiple_of(ALIGNMENT);
        self.bytes.resize(end, 0);
        self.align();
        part(&self.bytes, self.start..)
    }

    /// Moves the frame to the alignment, should it have grown and moved away.
    fn align(&mut self) {
        if self.start == to_alignment(&self.bytes) {
            return;
        }
        let mut moved = Self::default();
        moved.bytes.reserve(self.bytes.len() - self.start + ALIGNMENT);
        moved.start = to_alignment(&moved.bytes);
        moved.bytes.resize(moved.start, 0);
        moved.bytes.extend_from_slice(part(&self.bytes, self.start..));
        *self = moved;
    }

    fn sum_to(&mut self, end: usize) {
        self.crc = crc32c::crc32c_append(self.crc, part(&self.bytes, self.summed..end));
        self.summed = end;
    }
}

fn part(bytes: &[u8], range: impl SliceIndex<[u8], Output = [u8]>) -> &[u8] {
    bytes.get(range).unwrap_or_else(|| broken(HOLDS_A_FRAME))
}

/// Bytes from the start of the buffer to the first address that is aligned.
fn to_alignment(bytes: &[u8]) -> usize {
    bytes.as_ptr().align_offset(ALIGNMENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Stamp;
    use headwater_core::record::{TopicName, TopicPartition};
    use std::borrow::Cow;

    fn label() -> Label {
        Label { stamp: Stamp { log: 7, generation: 3 }, sequence: 9, durable: 8 }
    }

    #[test]
    fn a_frame_is_aligned_padded_and_covered_whatever_it_was_expected_to_hold() {
        let partition = TopicPartition::new(TopicName::new("t").unwrap(), 0);
        let mut buffer = FrameBuffer::default();
        // Used again, expected too small, and with batches whose checksums are combined.
        for (expected, batches) in [(0, 10), (100_000, 100_000), (10, 300_000), (0, 700_000)] {
            let batches = batch::tests::batches_of(batches);
            let entry =
                Entry::Append { partition: partition.clone(), batches: Cow::Owned(batches) };
            buffer.begin(expected);
            assert!(buffer.is_empty());
            buffer.push(&Entry::Claim { group: "g".into(), epoch: 1 });
            buffer.push(&entry);
            buffer.push(&Entry::Claim { group: "g".into(), epoch: 2 });
            let stride = buffer.stride();
            let frame = buffer.finish(label());
            assert_eq!(frame.len() as u64, stride);
            assert_eq!(frame.as_ptr().align_offset(ALIGNMENT), 0);
            let header = frame::start(frame).unwrap();
            assert_eq!(header.label, label());
            assert_eq!(header.stride(), stride);
            let whole = usize::try_from(header.bytes()).unwrap();
            assert!(header.covers(&frame[..whole]), "{expected}");
            assert!(frame[whole..].iter().all(|byte| *byte == 0));
        }
    }
}

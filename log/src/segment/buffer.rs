//! Read buffers that are used again: each thread keeps a few, so that a fetch neither clears memory nor faults it in.

use crate::disk;
use bytes::Bytes;
use headwater_core::ports::disk::{CachedRead, DiskFile};
use std::{cell::RefCell, io};

/// Idle buffers that a thread keeps.
const IDLE_MAX: usize = 4;
/// Sizes differ by so much: reads that are about as large use each other's buffers.
const BYTES_STEP: usize = 16 << 10;
/// A buffer of this size is lent whatever is read.
const BYTES_LENT_ALWAYS: usize = 64 << 10;
/// A larger buffer is given back.
const BYTES_MAX: usize = 2 << 20;

thread_local! {
    static IDLE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer on loan; only its first `length` bytes were read.
struct Loan {
    buffer: Vec<u8>,
    length: usize,
}

impl AsRef<[u8]> for Loan {
    fn as_ref(&self) -> &[u8] {
        self.buffer.get(..self.length).unwrap_or_default()
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        if buffer.len() > BYTES_MAX {
            return;
        }
        // A thread that is ending keeps nothing.
        let _ended = IDLE.try_with(|idle| {
            let mut idle = idle.borrow_mut();
            // The one that has lain longest may be of a size that is no longer read.
            if idle.len() == IDLE_MAX {
                idle.remove(0);
            }
            idle.push(buffer);
        });
    }
}

/// Where bytes were when they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Memory,
    Disk,
    Unknown,
}

/// Reads up to `length` bytes at `position`, fewer only at the end of the file, and tells where they were.
pub(super) fn read_at(
    file: &dyn DiskFile,
    position: u64,
    length: usize,
) -> io::Result<(Bytes, Origin)> {
    // A large buffer would be held by the records of a small read, and a small one moved to grow.
    let fits = |idle: &Vec<u8>| {
        idle.len() >= length && idle.len() <= length.saturating_mul(2).max(BYTES_LENT_ALWAYS)
    };
    let take = |idle: &mut Vec<Vec<u8>>| {
        let place = idle.iter().position(fits)?;
        Some(idle.swap_remove(place))
    };
    let idle = IDLE.try_with(|idle| take(&mut idle.borrow_mut())).ok().flatten();
    let fresh = || vec![0; length.next_multiple_of(BYTES_STEP)];
    let mut loan = Loan { buffer: idle.unwrap_or_else(fresh), length: 0 };
    let wanted = loan.buffer.get_mut(..length).unwrap_or_default();
    let (cached, origin) = fill_cached(file, wanted, position)?;
    loan.length = cached;
    if origin != Origin::Memory {
        let rest = wanted.get_mut(cached..).unwrap_or_default();
        loan.length += disk::fill(file, rest, position + cached as u64)?;
    }
    Ok((Bytes::from_owner(loan), origin))
}

/// Reads what is in memory; how many bytes, and whether that is all or what kept it from the rest.
fn fill_cached(
    file: &dyn DiskFile,
    bytes: &mut [u8],
    position: u64,
) -> io::Result<(usize, Origin)> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_cached_at(rest, position + filled as u64)? {
            CachedRead::Read(0) => break,
            CachedRead::Read(read) => filled += read,
            CachedRead::Absent => return Ok((filled, Origin::Disk)),
            CachedRead::Unknown => return Ok((filled, Origin::Unknown)),
        }
    }
    Ok((filled, Origin::Memory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::local::LocalDisk;
    use headwater_core::ports::disk::{Disk, OpenMode};

    #[test]
    fn a_buffer_that_is_used_again_shows_only_what_was_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = LocalDisk.open(&dir.path().join("file"), OpenMode::New).unwrap();
        file.write_at(b"abcdefgh", 0).unwrap();
        let read = |position, length| read_at(&*file, position, length).unwrap().0;
        let long = read(0, 8);
        assert_eq!(long, b"abcdefgh"[..]);
        drop(long);
        let (first, second) = (read(4, 2), read(6, 2));
        assert_eq!((&first[..], &second[..]), (&b"ef"[..], &b"gh"[..]));
        assert_eq!(read(4, 5), b"efgh"[..], "the file ends there");
    }
}

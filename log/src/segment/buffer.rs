//! Read buffers that are used again: each thread keeps a few, so that a fetch neither clears memory nor faults it in.

use crate::disk;
use bytes::Bytes;
use headwater_core::ports::disk::DiskFile;
use std::{cell::RefCell, io};

/// Idle buffers that a thread keeps.
const IDLE_MAX: usize = 4;
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
            if idle.len() < IDLE_MAX {
                idle.push(buffer);
            }
        });
    }
}

/// Reads up to `length` bytes at `position`; fewer only at the end of the file.
pub(super) fn read_at(file: &dyn DiskFile, position: u64, length: usize) -> io::Result<Bytes> {
    let idle = IDLE.try_with(|idle| idle.borrow_mut().pop()).ok().flatten();
    let mut loan = Loan { buffer: idle.unwrap_or_default(), length: 0 };
    if loan.buffer.len() < length {
        loan.buffer.resize(length, 0);
    }
    let wanted = loan.buffer.get_mut(..length).unwrap_or_default();
    loan.length = disk::fill(file, wanted, position)?;
    Ok(Bytes::from_owner(loan))
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
        let long = read_at(&*file, 0, 8).unwrap();
        assert_eq!(long, b"abcdefgh"[..]);
        drop(long);
        let (first, second) = (read_at(&*file, 4, 2).unwrap(), read_at(&*file, 6, 2).unwrap());
        assert_eq!((&first[..], &second[..]), (&b"ef"[..], &b"gh"[..]));
        assert_eq!(read_at(&*file, 4, 5).unwrap(), b"efgh"[..], "the file ends there");
    }
}

//! The disk port: files, their names, and what makes either last.
//!
//! The log reaches its directory through it alone, so that tests can put a disk below that keeps synced and unsynced bytes
//! and names apart, cuts the power between any two steps, or refuses one. What brings its own files, as RocksDB does, does
//! not go through it.
//!
//! # What lasts
//!
//! - Bytes last once [`DiskFile::sync_data`] has returned after they were written; before, any part of them may be lost.
//! - A name that was created, renamed or removed lasts once [`Disk::sync_dir`] of its directory has returned; before, either
//!   state may be found. A rename is found done or not done.
//! - After an error of a write or a sync nothing is known of what it covered.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// How a file is opened: to read and to write, unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// It must be there, and is only read.
    Read,
    /// It must be there.
    Existing,
    /// It is created, empty, and must not be there.
    New,
    /// It is created if it is not there; what it held is kept.
    Either,
    /// It is created or emptied.
    Empty,
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A file and its length in bytes.
    File(u64),
    /// A directory.
    Dir,
}

/// What came of reading bytes that may be in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CachedRead {
    /// So many bytes were in memory; 0 only at the end of the file.
    Read(usize),
    /// The byte at the position is not in memory.
    Absent,
    /// The disk cannot tell; nothing was read.
    Unknown,
}

/// A file system.
///
/// Errors are those of the system: [`io::ErrorKind::NotFound`] where a path leads nowhere.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// [`io::Error`] as the system gives it.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file that is there for writes that go past the system's cache: their position, length and address are
    /// multiples of 4096 bytes. `None` where the file system does not take such writes; one that says so only at the first
    /// of them fails that with [`io::ErrorKind::InvalidInput`].
    ///
    /// # Errors
    ///
    /// [`io::Error`] as the system gives it.
    fn open_direct(&self, path: &Path) -> io::Result<Option<Arc<dyn DiskFile>>>;

    /// Creates a directory in one that is there.
    ///
    /// # Errors
    ///
    /// [`io::Error`] as the system gives it; [`io::ErrorKind::AlreadyExists`] if the name is taken.
    fn make_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory last, and the absence of those that were removed.
    ///
    /// # Errors
    ///
    /// [`io::Error`] as the system gives it.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Renames a file, over another one if there is one; or a directory, over an empty one if there is one.
    ///
    /// # Errors
    ///
    /// [`io::Error`] as the system gives it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// [`io::Error`] as the system gives it.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Lists what is in a directory, in no order.
    ///
    /// # Errors
    ///
    /// [`io::Error`] as the system gives it.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;

    /// Tells what is at a path; `None` if nothing is.
    ///
    /// # Errors
    ///
    /// [`io::Error`] as the system gives it.
    fn find(&self, path: &Path) -> io::Result<Option<Found>>;

    /// Gives a file a second name. Unless implemented, as where two names are of different file systems, it cannot be done.
    ///
    /// # Errors
    ///
    /// [`io::Error`] as the system gives it.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _ = (from, to);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Removes a directory with all that is in it. Unless implemented, it cannot be done.
    ///
    /// # Errors
    ///
    /// [`io::Error`] as the system gives it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Counts the bytes that this process may still write below a directory.
    ///
    /// # Errors
    ///
    /// [`io::Error`] as the system gives it.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// An open file. It is closed when it is dropped.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Its length in bytes.
    ///
    /// # Errors
    ///
    /// [`io::Error`] as the system gives it.
    fn length(&self) -> io::Result<u64>;

    /// Reads at `position` into the front of `bytes`, and tells how many; 0 only at the end of the file.
    ///
    /// # Errors
    ///
    /// [`io::Error`] as the system gives it; never [`io::ErrorKind::Interrupted`].
    fn read_at(&self, bytes: &mut [u8], position: u64) -> io::Result<usize>;

    /// Reads as [`read_at`](Self::read_at) does, but only what is in memory: bytes that were checked once need not be
    /// checked again before they come from the disk again. Unless implemented, a file cannot tell.
    ///
    /// # Errors
    ///
    /// [`io::Error`] as the system gives it; never [`io::ErrorKind::Interrupted`].
    fn read_cached_at(&self, bytes: &mut [u8], position: u64) -> io::Result<CachedRead> {
        let _ = (bytes, position);
        Ok(CachedRead::Unknown)
    }

    /// Writes all of `bytes` at `position`, and extends the file where they reach past its end.
    ///
    /// # Errors
    ///
    /// [`io::Error`] as the system gives it; a part may be written then.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;

    /// Cuts or extends it; what is new is zero.
    ///
    /// # Errors
    ///
    /// [`io::Error`] as the system gives it.
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Has at least `length` bytes of disk set aside for it; its length stays. Does nothing where the file system cannot.
    ///
    /// # Errors
    ///
    /// [`io::Error`] as the system gives it.
    fn allocate(&self, length: u64) -> io::Result<()>;

    /// Makes its bytes and its length last.
    ///
    /// # Errors
    ///
    /// [`io::Error`] as the system gives it.
    fn sync_data(&self) -> io::Result<()>;

    /// Takes the file's lock for as long as it is open; `false` if another open file holds it.
    ///
    /// # Errors
    ///
    /// [`io::Error`] as the system gives it.
    fn try_lock(&self) -> io::Result<bool>;
}

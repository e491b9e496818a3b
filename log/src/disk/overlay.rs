//! A disk that is only read: what is written stays in memory, beside the files.
//!
//! A log whose disk is full is opened over it: recovery cuts segments and appends to them as ever, and what it writes is seen
//! by whoever opens the file again.
//!
//! # Invariants
//!
//! - Nothing below is changed.
//! - A file is its first bytes as they are on the disk, and what was written after them.
//!
//! # Not here
//!
//! Renaming, removing, and writing elsewhere than at a file's end: refused, since recovery needs none of it.

use super::{lock, read, write};
use hashbrown::HashMap;
use headwater_core::ports::disk::{CachedRead, Disk, DiskFile, Found, OpenMode};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, RwLock},
};

/// A disk, and what was written to its files since.
#[derive(Debug)]
pub(crate) struct OverlayDisk {
    below: Arc<dyn Disk>,
    /// Of the files that were opened.
    tails: Mutex<HashMap<PathBuf, Arc<RwLock<Tail>>>>,
}

/// What a file holds in place of all that the disk has from `from` on.
#[derive(Debug)]
struct Tail {
    from: u64,
    bytes: Vec<u8>,
}

impl Tail {
    fn after(from: u64) -> Arc<RwLock<Self>> {
        Arc::new(RwLock::new(Self { from, bytes: Vec::new() }))
    }

    fn end(&self) -> u64 {
        self.from + self.bytes.len() as u64
    }
}

impl OverlayDisk {
    pub(crate) fn over(below: Arc<dyn Disk>) -> Self {
        Self { below, tails: Mutex::default() }
    }
}

impl Disk for OverlayDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut tails = lock(&self.tails);
        let known = tails.get(path).map(Arc::clone);
        let file: Arc<dyn DiskFile> = match (mode, known) {
            (OpenMode::Empty, _) => {
                let tail = Tail::after(0);
                tails.insert(path.to_owned(), Arc::clone(&tail));
                Arc::new(OverlayFile { below: None, tail })
            }
            (OpenMode::Read | OpenMode::Existing, Some(tail)) if read(&tail).from == 0 => {
                Arc::new(OverlayFile { below: None, tail })
            }
            (OpenMode::Read | OpenMode::Existing, Some(tail)) => {
                Arc::new(OverlayFile { below: Some(self.below.open(path, mode)?), tail })
            }
            (OpenMode::Read | OpenMode::Existing, None) => {
                let below = self.below.open(path, mode)?;
                let tail = Tail::after(below.length()?);
                tails.insert(path.to_owned(), Arc::clone(&tail));
                Arc::new(OverlayFile { below: Some(below), tail })
            }
            (OpenMode::New | OpenMode::Either, _) => return Err(refused()),
        };
        Ok(file)
    }

    fn open_direct(&self, _path: &Path) -> io::Result<Option<Arc<dyn DiskFile>>> {
        Ok(None)
    }

    fn make_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn remove(&self, _path: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.below.list(path)
    }

    fn find(&self, path: &Path) -> io::Result<Option<Found>> {
        if let Some(tail) = lock(&self.tails).get(path) {
            return Ok(Some(Found::File(read(tail).end())));
        }
        self.below.find(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.below.free_bytes(path)
    }
}

#[derive(Debug)]
struct OverlayFile {
    /// The file on the disk; `None` if nothing of it counts.
    below: Option<Arc<dyn DiskFile>>,
    tail: Arc<RwLock<Tail>>,
}

impl OverlayFile {
    /// Reads from memory, or by `read_below` what is on the disk of the bytes wanted.
    fn read<T>(
        &self,
        bytes: &mut [u8],
        position: u64,
        read_below: impl FnOnce(&dyn DiskFile, &mut [u8]) -> io::Result<T>,
        of_memory: impl FnOnce(usize) -> T,
    ) -> io::Result<T> {
        let tail = read(&self.tail);
        if let (Some(below), Some(left)) = (&self.below, tail.from.checked_sub(position + 1)) {
            let wanted = bytes.len().min(usize::try_from(left + 1).unwrap_or(usize::MAX));
            return read_below(&**below, bytes.get_mut(..wanted).unwrap_or_default());
        }
        let at = usize::try_from(position - tail.from).unwrap_or(usize::MAX);
        let held = tail.bytes.get(at..).unwrap_or_default();
        let read = held.len().min(bytes.len());
        if let (Some(to), Some(from)) = (bytes.get_mut(..read), held.get(..read)) {
            to.copy_from_slice(from);
        }
        Ok(of_memory(read))
    }
}

impl DiskFile for OverlayFile {
    fn length(&self) -> io::Result<u64> {
        Ok(read(&self.tail).end())
    }

    fn read_at(&self, bytes: &mut [u8], position: u64) -> io::Result<usize> {
        self.read(bytes, position, |below, bytes| below.read_at(bytes, position), |read| read)
    }

    fn read_cached_at(&self, bytes: &mut [u8], position: u64) -> io::Result<CachedRead> {
        let below = |below: &dyn DiskFile, bytes: &mut [u8]| below.read_cached_at(bytes, position);
        self.read(bytes, position, below, CachedRead::Read)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut tail = write(&self.tail);
        if position != tail.end() {
            return Err(refused());
        }
        tail.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let mut tail = write(&self.tail);
        if length > tail.from || !tail.bytes.is_empty() {
            return Err(refused());
        }
        tail.from = length;
        Ok(())
    }

    fn allocate(&self, _length: u64) -> io::Result<()> {
        Err(refused())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.below.as_ref().map_or(Ok(true), |below| below.try_lock())
    }
}

fn refused() -> io::Error {
    io::ErrorKind::ReadOnlyFilesystem.into()
}

//! A disk that is watched, for tests: it tells what was read, says whether bytes are in memory as the test wants it, and
//! calls the test back before a file is touched.

use super::{local::LocalDisk, lock};
use headwater_core::ports::disk::{CachedRead, Disk, DiskFile, Found, OpenMode};
use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

/// What the disk says of bytes that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cache {
    /// All are in memory.
    Kept,
    /// None are.
    Dropped,
    /// It cannot tell.
    Silent,
}

type Hook = Box<dyn FnOnce() + Send>;

/// The disk of this machine, watched.
#[derive(Clone)]
pub(crate) struct WatchedDisk(Arc<Watched>);

struct Watched {
    cache: Mutex<Cache>,
    reads: Mutex<Vec<(PathBuf, usize)>>,
    hooks: Mutex<Vec<(PathBuf, Hook)>>,
}

impl WatchedDisk {
    pub(crate) fn new(cache: Cache) -> Self {
        let (cache, reads, hooks) = (Mutex::new(cache), Mutex::default(), Mutex::default());
        Self(Arc::new(Watched { cache, reads, hooks }))
    }

    pub(crate) fn set(&self, cache: Cache) {
        *lock(&self.0.cache) = cache;
    }

    /// How many bytes were read of files with this extension since the last call, and in how many steps.
    pub(crate) fn take_reads(&self, extension: &str) -> (usize, usize) {
        let reads = std::mem::take(&mut *lock(&self.0.reads));
        let of = |(path, _): &&(PathBuf, usize)| path.extension().is_some_and(|it| it == extension);
        let bytes: Vec<_> = reads.iter().filter(of).map(|(_, bytes)| *bytes).collect();
        (bytes.iter().sum(), bytes.len())
    }

    /// Calls `hook` once, before `path` is opened, read or synced.
    pub(crate) fn before_touching(&self, path: &Path, hook: impl FnOnce() + Send + 'static) {
        lock(&self.0.hooks).push((path.to_owned(), Box::new(hook)));
    }

    fn touch(&self, path: &Path) {
        let take = |hooks: &mut Vec<(PathBuf, Hook)>| {
            let at = hooks.iter().position(|(of, _)| of == path)?;
            Some(hooks.swap_remove(at).1)
        };
        let hook = take(&mut lock(&self.0.hooks));
        if let Some(hook) = hook {
            hook();
        }
    }

    fn note(&self, path: &Path, bytes: usize) {
        lock(&self.0.reads).push((path.to_owned(), bytes));
    }
}

impl fmt::Debug for WatchedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedDisk").finish_non_exhaustive()
    }
}

impl Disk for WatchedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        self.touch(path);
        let file = LocalDisk.open(path, mode)?;
        Ok(Arc::new(WatchedFile { file, path: path.to_owned(), disk: self.clone() }))
    }

    fn open_direct(&self, _path: &Path) -> io::Result<Option<Arc<dyn DiskFile>>> {
        Ok(None)
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        LocalDisk.make_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        LocalDisk.sync_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        LocalDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        LocalDisk.remove(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        LocalDisk.list(path)
    }

    fn find(&self, path: &Path) -> io::Result<Option<Found>> {
        LocalDisk.find(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        LocalDisk.free_bytes(path)
    }
}

#[derive(Debug)]
struct WatchedFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    disk: WatchedDisk,
}

impl DiskFile for WatchedFile {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn read_at(&self, bytes: &mut [u8], position: u64) -> io::Result<usize> {
        self.disk.touch(&self.path);
        let read = self.file.read_at(bytes, position)?;
        self.disk.note(&self.path, read);
        Ok(read)
    }

    fn read_cached_at(&self, bytes: &mut [u8], position: u64) -> io::Result<CachedRead> {
        let cache = *lock(&self.disk.0.cache);
        match cache {
            Cache::Kept => self.read_at(bytes, position).map(CachedRead::Read),
            Cache::Dropped => Ok(CachedRead::Absent),
            Cache::Silent => Ok(CachedRead::Unknown),
        }
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.file.write_at(bytes, position)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.file.set_length(length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.file.allocate(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.touch(&self.path);
        self.file.sync_data()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
}

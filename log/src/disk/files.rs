//! Open files, of which a log keeps a bounded number: the one that was used the longest time ago is closed first.
//!
//! # Invariants
//!
//! - Running out of descriptors is an error of the read that meets it, and of nothing else.
//! - What is in the journal is written on: whoever writes has files closed that are not in use, and then waits until
//!   somebody else in the process gives descriptors back. A log that is being opened or closed does not wait.

use super::{failed, lock, open};
use hashbrown::HashMap;
use headwater_core::ports::{
    disk::{Disk, DiskFile, OpenMode},
    log::LogError,
};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// How long a writer waits before it asks for a descriptor again.
const WAIT: Duration = Duration::from_millis(10);

/// What to do when the process, or the system, has no descriptor left and the log has none to give back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exhausted {
    Fail,
    Wait,
}

/// The files that a log has open.
#[derive(Debug)]
pub(crate) struct Files {
    disk: Arc<dyn Disk>,
    open_max: usize,
    open: Mutex<HashMap<u64, Used>>,
    /// Waited on with a limit: nobody tells that another part of the process closes something.
    closed: Condvar,
    waits: AtomicBool,
    uses: AtomicU64,
    next: AtomicU64,
}

#[derive(Debug)]
struct Used {
    file: Arc<dyn DiskFile>,
    last: u64,
}

impl Files {
    pub(crate) fn new(disk: Arc<dyn Disk>, open_max: usize) -> Arc<Self> {
        Arc::new(Self {
            disk,
            open_max,
            open: Mutex::default(),
            closed: Condvar::new(),
            waits: AtomicBool::new(false),
            uses: AtomicU64::new(0),
            next: AtomicU64::new(0),
        })
    }

    /// The disk that they are on.
    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Has [`Exhausted::Wait`] wait from now on; it fails before.
    pub(crate) fn start_waiting(&self) {
        self.waits.store(true, Ordering::Release);
    }

    /// Has [`Exhausted::Wait`] fail from now on, also where it waits already.
    pub(crate) fn stop_waiting(&self) {
        self.waits.store(false, Ordering::Release);
    }

    /// Does what opens files and may be done again, with files closed until it does not run out of descriptors.
    pub(crate) fn with_room<T>(
        &self,
        exhausted: Exhausted,
        mut open: impl FnMut() -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let mut told = false;
        loop {
            let error = match open() {
                Err(error @ LogError::TooManyOpenFiles { .. }) => error,
                opened => return opened,
            };
            if self.close_oldest() {
                continue;
            }
            if exhausted == Exhausted::Fail || !self.waits.load(Ordering::Acquire) {
                return Err(error);
            }
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(%error, "the log waits for a descriptor");
            }
            let waited = self.closed.wait_timeout(lock(&self.open), WAIT);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn close_oldest(&self) -> bool {
        let mut open = lock(&self.open);
        let oldest = open.iter().min_by_key(|(_, used)| used.last).map(|(id, _)| *id);
        let closed = oldest.and_then(|id| open.remove(&id));
        drop(open);
        closed.is_some()
    }

    fn cached(&self, id: u64) -> Option<Arc<dyn DiskFile>> {
        let mut open = lock(&self.open);
        let used = open.get_mut(&id)?;
        used.last = self.uses.fetch_add(1, Ordering::Relaxed);
        Some(Arc::clone(&used.file))
    }

    fn keep(&self, id: u64, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let last = self.uses.fetch_add(1, Ordering::Relaxed);
        let before = lock(&self.open).insert(id, Used { file: Arc::clone(&file), last });
        drop(before);
        while lock(&self.open).len() > self.open_max {
            self.close_oldest();
        }
        file
    }

    /// How many are open.
    #[cfg(test)]
    pub(crate) fn open_count(&self) -> usize {
        lock(&self.open).len()
    }
}

/// A file that is opened when it is used, and closed when the log has too many open.
#[derive(Debug)]
pub(crate) struct FileHandle {
    files: Arc<Files>,
    id: u64,
    path: PathBuf,
}

impl FileHandle {
    /// A file that is there, or is missing.
    pub(crate) fn new(files: &Arc<Files>, path: PathBuf) -> Self {
        let id = files.next.fetch_add(1, Ordering::Relaxed);
        Self { files: Arc::clone(files), id, path }
    }

    /// An empty file; its name is not synced.
    pub(crate) fn create(files: &Arc<Files>, path: PathBuf) -> Result<Self, LogError> {
        let handle = Self::new(files, path);
        let path = &handle.path;
        let create = || files.disk.open(path, OpenMode::Empty).map_err(failed("create", path));
        let file = files.with_room(Exhausted::Wait, create)?;
        files.keep(handle.id, file);
        Ok(handle)
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        self.files.disk()
    }

    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The open file; `None` if there is none of its name.
    pub(crate) fn get(&self, exhausted: Exhausted) -> Result<Option<Arc<dyn DiskFile>>, LogError> {
        if let Some(file) = self.files.cached(self.id) {
            return Ok(Some(file));
        }
        let opened = self.files.with_room(exhausted, || open(self.disk(), &self.path))?;
        Ok(opened.map(|file| self.files.keep(self.id, file)))
    }
}

impl Drop for FileHandle {
    fn drop(&mut self) {
        let closed = lock(&self.files.open).remove(&self.id);
        drop(closed);
    }
}

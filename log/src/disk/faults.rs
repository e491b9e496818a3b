//! A disk that refuses, for tests: the nth step that changes something below a directory, or all from there on. Also tells
//! which steps were taken.

use super::{local::LocalDisk, lock};
use headwater_core::ports::disk::{CachedRead, Disk, DiskFile, Found, OpenMode};
use rustix::io::Errno;
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
};

/// A step that changes the disk, or makes a change last; or one that needs a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Open,
    OpenToRead,
    MakeDir,
    Create,
    Preallocate,
    Write,
    WriteDirect,
    SetLength,
    Rename,
    Link,
    Remove,
    Sync,
    SyncDir,
}

impl Action {
    /// Whether a file that is there is opened, which changes nothing.
    pub(crate) const fn is_open(self) -> bool {
        matches!(self, Self::Open | Self::OpenToRead)
    }
}

static FAULTS: Mutex<Vec<Fault>> = Mutex::new(Vec::new());
static RECORDINGS: Mutex<Vec<Recording>> = Mutex::new(Vec::new());

/// What happens once the countdown is through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One step fails, later ones do not: a disk that had a bad moment.
    Once,
    /// Nothing changes any more: for what is on the disk, the process is dead.
    Dead,
    /// There is no room any more for anything.
    Full,
    /// Direct writes are refused, though files could be opened for them.
    NoDirectWrite,
    /// Nothing can be opened, since the process has no descriptor left.
    NoDescriptor,
}

#[derive(Debug)]
struct Fault {
    below: PathBuf,
    left: u64,
    kind: Kind,
    hit: bool,
}

/// A fault, armed until this is dropped.
#[derive(Debug)]
pub(crate) struct Armed(PathBuf);

impl Armed {
    /// Lets `steps` steps below `below` pass.
    pub(crate) fn after(below: &Path, steps: u64, kind: Kind) -> Self {
        let below = below.to_owned();
        lock(&FAULTS).push(Fault { below: below.clone(), left: steps, kind, hit: false });
        Self(below)
    }

    /// Whether a step was refused.
    pub(crate) fn was_hit(&self) -> bool {
        lock(&FAULTS).iter().any(|fault| fault.below == self.0 && fault.hit)
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        lock(&FAULTS).retain(|fault| fault.below != self.0);
    }
}

/// A step that a thread took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) thread: String,
    pub(crate) action: Action,
    pub(crate) path: PathBuf,
}

#[derive(Debug)]
struct Recording {
    below: PathBuf,
    taken: Vec<Taken>,
}

/// The steps taken below a directory, recorded until this is dropped.
#[derive(Debug)]
pub(crate) struct Steps(PathBuf);

impl Steps {
    pub(crate) fn below(below: &Path) -> Self {
        let below = below.to_owned();
        lock(&RECORDINGS).push(Recording { below: below.clone(), taken: Vec::new() });
        Self(below)
    }

    /// What was recorded since the last call.
    pub(crate) fn take(&self) -> Vec<Taken> {
        let mut recordings = lock(&RECORDINGS);
        let own = recordings.iter_mut().find(|recording| recording.below == self.0);
        own.map(|recording| std::mem::take(&mut recording.taken)).unwrap_or_default()
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        lock(&RECORDINGS).retain(|recording| recording.below != self.0);
    }
}

fn allowed(action: Action, path: &Path) -> io::Result<()> {
    for recording in lock(&RECORDINGS).iter_mut().filter(|it| path.starts_with(&it.below)) {
        let thread = thread::current().name().unwrap_or_default().to_owned();
        recording.taken.push(Taken { thread, action, path: path.to_owned() });
    }
    for fault in lock(&FAULTS).iter_mut().filter(|fault| path.starts_with(&fault.below)) {
        if fault.kind == Kind::NoDescriptor {
            if action.is_open() || matches!(action, Action::Create | Action::SyncDir) {
                fault.hit = true;
                return Err(Errno::MFILE.into());
            }
        } else if fault.kind == Kind::NoDirectWrite {
            if action == Action::WriteDirect {
                fault.hit = true;
                return Err(Errno::INVAL.into());
            }
        } else if action.is_open() {
            // Changes nothing.
        } else if fault.left > 0 {
            fault.left -= 1;
        } else if fault.kind == Kind::Full {
            fault.hit = true;
            return Err(Errno::NOSPC.into());
        } else if !fault.hit || fault.kind == Kind::Dead {
            fault.hit = true;
            return Err(io::Error::other("a fault that the test injected"));
        }
    }
    Ok(())
}

/// The disk of this machine, with the faults that are armed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FaultyDisk;

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let action = match mode {
            OpenMode::Read => Action::OpenToRead,
            OpenMode::Existing => Action::Open,
            OpenMode::New | OpenMode::Either | OpenMode::Empty => Action::Create,
        };
        allowed(action, path)?;
        let file = LocalDisk.open(path, mode)?;
        let write = Action::Write;
        Ok(Arc::new(FaultyFile { file, path: path.to_owned(), write }))
    }

    fn open_direct(&self, path: &Path) -> io::Result<Option<Arc<dyn DiskFile>>> {
        allowed(Action::Open, path)?;
        // A file system that has none is no matter of these tests.
        let file = match LocalDisk.open_direct(path)? {
            Some(file) => file,
            None => LocalDisk.open(path, OpenMode::Existing)?,
        };
        let write = Action::WriteDirect;
        Ok(Some(Arc::new(FaultyFile { file, path: path.to_owned(), write })))
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        allowed(Action::MakeDir, path)?;
        LocalDisk.make_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        allowed(Action::SyncDir, path)?;
        LocalDisk.sync_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        allowed(Action::Rename, to)?;
        LocalDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        allowed(Action::Remove, path)?;
        LocalDisk.remove(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        LocalDisk.list(path)
    }

    fn find(&self, path: &Path) -> io::Result<Option<Found>> {
        LocalDisk.find(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        allowed(Action::Link, to)?;
        LocalDisk.link(from, to)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        allowed(Action::Remove, path)?;
        LocalDisk.remove_dir_all(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        LocalDisk.free_bytes(path)
    }
}

#[derive(Debug)]
struct FaultyFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    /// What a write of it counts as.
    write: Action,
}

impl DiskFile for FaultyFile {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn read_at(&self, bytes: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(bytes, position)
    }

    fn read_cached_at(&self, bytes: &mut [u8], position: u64) -> io::Result<CachedRead> {
        self.file.read_cached_at(bytes, position)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        if let Err(refused) = allowed(self.write, &self.path) {
            // What is refused half-way leaves half of it, as a crash does.
            let half = bytes.len() / 2 / 4096 * 4096;
            let half = if self.write == Action::Write { bytes.len() / 2 } else { half };
            if refused.kind() != io::ErrorKind::InvalidInput {
                self.file.write_at(bytes.get(..half).unwrap_or_default(), position)?;
            }
            return Err(refused);
        }
        self.file.write_at(bytes, position)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        allowed(Action::SetLength, &self.path)?;
        self.file.set_length(length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        allowed(Action::Preallocate, &self.path)?;
        self.file.allocate(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        allowed(Action::Sync, &self.path)?;
        self.file.sync_data()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
}

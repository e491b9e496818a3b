//! What the file system is asked for more than once: atomic replacement, directory syncs, free space, and errors that
//! say which file.
//!
//! All that changes the disk goes through here, so that tests can make any single step of it fail.

#[cfg(test)]
pub(crate) mod faults;
pub(crate) mod files;

use headwater_core::ports::log::LogError;
use rustix::io::Errno;
use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

/// A step that changes the disk, or makes a change last; or one that needs a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Open,
    MakeDir,
    Create,
    Preallocate,
    Write,
    SetLength,
    Rename,
    Remove,
    Sync,
    SyncDir,
}

/// Names the file in what the system said.
pub(crate) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    move |source| {
        let path = path.to_owned();
        if matches!(Errno::from_io_error(&source), Some(Errno::MFILE | Errno::NFILE)) {
            return LogError::TooManyOpenFiles { path };
        }
        LogError::Io { action, path, source: Arc::new(source) }
    }
}

/// Makes created, renamed and removed names in `dir` last.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), LogError> {
    allowed(Action::SyncDir, dir)
        .and_then(|()| File::open(dir))
        .and_then(|dir| dir.sync_all())
        .map_err(failed("sync the directory", dir))
}

/// Creates the directory and those above it that are missing, so that their names last.
pub(crate) fn create_dirs(dir: &Path) -> Result<(), LogError> {
    if dir.as_os_str().is_empty() || dir.is_dir() {
        return Ok(());
    }
    if let Some(above) = dir.parent() {
        create_dirs(above)?;
    }
    create_dir(dir)
}

/// Creates the directory unless it is there, and makes its name last.
pub(crate) fn create_dir(dir: &Path) -> Result<(), LogError> {
    make_dir(dir)?;
    match dir.parent() {
        Some(above) if above.as_os_str().is_empty() => sync_dir(Path::new(".")),
        Some(above) => sync_dir(above),
        None => Ok(()),
    }
}

/// Creates the directory unless it is there. The caller syncs the one above.
pub(crate) fn make_dir(dir: &Path) -> Result<(), LogError> {
    match allowed(Action::MakeDir, dir).and_then(|()| fs::create_dir(dir)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        created => created.map_err(failed("create the directory", dir)),
    }
}

/// Writes all of `bytes` at `position`.
pub(crate) fn write_at(
    file: &File,
    path: &Path,
    bytes: &[u8],
    position: u64,
) -> Result<(), LogError> {
    let write = || {
        if let Err(refused) = allowed(Action::Write, path) {
            // What is refused half-way leaves half of it, as a crash does.
            file.write_all_at(bytes.get(..bytes.len() / 2).unwrap_or_default(), position)?;
            return Err(refused);
        }
        file.write_all_at(bytes, position)
    };
    write().map_err(failed("write to", path))
}

/// Puts the file's bytes, and its length, on the disk.
pub(crate) fn sync_data(file: &File, path: &Path) -> Result<(), LogError> {
    allowed(Action::Sync, path).and_then(|()| file.sync_data()).map_err(failed("sync", path))
}

/// Cuts or extends the file, unsynced.
pub(crate) fn set_length(file: &File, path: &Path, length: u64) -> Result<(), LogError> {
    allowed(Action::SetLength, path)
        .and_then(|()| file.set_len(length))
        .map_err(failed("set the length of", path))
}

/// Renames a file over another. The caller syncs the directory.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), LogError> {
    allowed(Action::Rename, to).and_then(|()| fs::rename(from, to)).map_err(failed("rename to", to))
}

/// Removes the file, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), LogError> {
    match allowed(Action::Remove, path).and_then(|()| fs::remove_file(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(failed("remove", path)),
    }
}

/// Whether a step may be taken; always, but for tests that make one fail.
#[cfg(test)]
pub(crate) fn allowed(action: Action, path: &Path) -> io::Result<()> {
    faults::allowed(action, path)
}

/// Whether a step may be taken; always, but for tests that make one fail.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "tests have it fail")]
pub(crate) fn allowed(_action: Action, _path: &Path) -> io::Result<()> {
    Ok(())
}

/// Puts `bytes` at `path`, whole or not at all: a temporary file, a sync, a rename. The caller syncs the directory.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), LogError> {
    let temporary = path.with_added_extension("tmp");
    let write = || {
        allowed(Action::Create, &temporary)?;
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        allowed(Action::Sync, &temporary)?;
        file.sync_all()
    };
    write().map_err(failed("write", &temporary))?;
    rename(&temporary, path)
}

/// The whole file, or `None` if there is none.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, LogError> {
    match allowed(Action::Open, path).and_then(|()| fs::read(path)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// The first `length` bytes of the file, fewer if it is shorter; none if there is no file.
pub(crate) fn read_prefix(path: &Path, length: usize) -> Result<Vec<u8>, LogError> {
    let open = || allowed(Action::Open, path).and_then(|()| File::open(path));
    match open().and_then(|file| read_at(&file, 0, length)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        bytes => bytes.map_err(failed("read", path)),
    }
}

/// Bytes that this process may still write below `dir`.
pub(crate) fn free_bytes(dir: &Path) -> Result<u64, LogError> {
    let stat =
        rustix::fs::statvfs(dir).map_err(|e| failed("ask for the free space of", dir)(e.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Reads up to `length` bytes at `position`; fewer only at the end of the file.
pub(crate) fn read_at(file: &File, position: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let at = position + bytes.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut bytes), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

// A panic while a lock is held cannot leave these values half changed in a way that matters more than stopping: the
// committer's own panic closes the log.

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn read<T>(value: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    value.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T>(value: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    value.write().unwrap_or_else(PoisonError::into_inner)
}

//! What the disk is asked for more than once: atomic replacement, directories with those above them, whole files; and
//! errors that say which file.

#[cfg(test)]
pub(crate) mod faults;
pub(crate) mod files;
pub(crate) mod local;
pub(crate) mod overlay;
#[cfg(test)]
pub(crate) mod watched;

use headwater_core::ports::{
    disk::{Disk, DiskFile, Found, OpenMode},
    log::LogError,
};
use rustix::io::Errno;
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

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

/// Whether the disk has no room, for anybody or for this user.
pub(crate) fn is_full(error: &LogError) -> bool {
    let LogError::Io { source, .. } = error else { return false };
    matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Makes created, renamed and removed names in `dir` last.
pub(crate) fn sync_dir(disk: &dyn Disk, dir: &Path) -> Result<(), LogError> {
    disk.sync_dir(dir).map_err(failed("sync the directory", dir))
}

/// Creates the directory and those above it that are missing, so that their names last.
pub(crate) fn create_dirs(disk: &dyn Disk, dir: &Path) -> Result<(), LogError> {
    if is_dir(disk, dir)? {
        return Ok(());
    }
    if let Some(above) = dir.parent() {
        create_dirs(disk, above)?;
    }
    create_dir(disk, dir)
}

/// Makes the names of a directory and of those above it last: a process may have ended after it created one of them and
/// before it synced the one above.
pub(crate) fn sync_names_above(disk: &dyn Disk, dir: &Path) -> Result<(), LogError> {
    for above in dir.ancestors().skip(1) {
        match disk.sync_dir(above) {
            // What may not be looked into or changed was not made by a log.
            Err(error) if is_of_others(&error) => {}
            synced => synced.map_err(failed("sync the directory", above))?,
        }
    }
    Ok(())
}

fn is_of_others(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem};
    [InvalidInput, PermissionDenied, ReadOnlyFilesystem].contains(&error.kind())
}

/// Creates the directory unless it is there, and makes its name last.
pub(crate) fn create_dir(disk: &dyn Disk, dir: &Path) -> Result<(), LogError> {
    make_dir(disk, dir)?;
    dir.parent().map_or(Ok(()), |above| sync_dir(disk, above))
}

/// Creates the directory unless it is there. The caller syncs the one above.
pub(crate) fn make_dir(disk: &dyn Disk, dir: &Path) -> Result<(), LogError> {
    match disk.make_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_dir(disk, dir)? => Ok(()),
        created => created.map_err(failed("create the directory", dir)),
    }
}

/// Whether there is a directory of this name.
pub(crate) fn is_dir(disk: &dyn Disk, path: &Path) -> Result<bool, LogError> {
    Ok(find(disk, path)? == Some(Found::Dir))
}

/// What is there, if anything is.
pub(crate) fn find(disk: &dyn Disk, path: &Path) -> Result<Option<Found>, LogError> {
    disk.find(path).map_err(failed("look at", path))
}

/// The file at `path`; `None` if there is none.
pub(crate) fn open(disk: &dyn Disk, path: &Path) -> Result<Option<Arc<dyn DiskFile>>, LogError> {
    open_if_there(disk, path, OpenMode::Existing)
}

fn open_if_there(
    disk: &dyn Disk,
    path: &Path,
    mode: OpenMode,
) -> Result<Option<Arc<dyn DiskFile>>, LogError> {
    match disk.open(path, mode) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("open", path)(error)),
    }
}

/// Writes all of `bytes` at `position`.
pub(crate) fn write_at(
    file: &dyn DiskFile,
    path: &Path,
    bytes: &[u8],
    position: u64,
) -> Result<(), LogError> {
    file.write_at(bytes, position).map_err(failed("write to", path))
}

/// Puts the file's bytes, and its length, on the disk.
pub(crate) fn sync_data(file: &dyn DiskFile, path: &Path) -> Result<(), LogError> {
    file.sync_data().map_err(failed("sync", path))
}

/// Cuts or extends the file, unsynced.
pub(crate) fn set_length(file: &dyn DiskFile, path: &Path, length: u64) -> Result<(), LogError> {
    file.set_length(length).map_err(failed("set the length of", path))
}

/// The file at `path`, which must be there, to read it alone.
pub(crate) fn open_to_read(disk: &dyn Disk, path: &Path) -> Result<Arc<dyn DiskFile>, LogError> {
    disk.open(path, OpenMode::Read).map_err(failed("open", path))
}

/// What is in the directory, in the order of its names.
pub(crate) fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>, LogError> {
    let mut paths = disk.list(dir).map_err(failed("list", dir))?;
    paths.sort();
    Ok(paths)
}

/// Renames a file over another. The caller syncs the directory.
pub(crate) fn rename(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), LogError> {
    disk.rename(from, to).map_err(failed("rename to", to))
}

/// Removes the file, if it is there.
pub(crate) fn remove(disk: &dyn Disk, path: &Path) -> Result<(), LogError> {
    match disk.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(failed("remove", path)),
    }
}

/// Puts `bytes` at `path`, whole or not at all: a temporary file, a sync, a rename. The caller syncs the directory.
pub(crate) fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), LogError> {
    let temporary = path.with_added_extension("tmp");
    let write = || {
        let file = disk.open(&temporary, OpenMode::Empty)?;
        file.write_at(bytes, 0)?;
        file.sync_data()
    };
    write().map_err(failed("write", &temporary))?;
    rename(disk, &temporary, path)
}

/// The whole file, or `None` if there is none.
pub(crate) fn read_if_there(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, LogError> {
    let Some(file) = open_if_there(disk, path, OpenMode::Read)? else { return Ok(None) };
    let read = || {
        let length = usize::try_from(file.length()?).unwrap_or(usize::MAX);
        read_at(&*file, 0, length)
    };
    read().map(Some).map_err(failed("read", path))
}

/// The first `length` bytes of the file, fewer if it is shorter; none if there is no file.
pub(crate) fn read_prefix(
    disk: &dyn Disk,
    path: &Path,
    length: usize,
) -> Result<Vec<u8>, LogError> {
    let Some(file) = open(disk, path)? else { return Ok(Vec::new()) };
    read_at(&*file, 0, length).map_err(failed("read", path))
}

/// Bytes that this process may still write below `dir`.
pub(crate) fn free_bytes(disk: &dyn Disk, dir: &Path) -> Result<u64, LogError> {
    disk.free_bytes(dir).map_err(failed("ask for the free space of", dir))
}

/// Reads up to `length` bytes at `position`; fewer only at the end of the file.
pub(crate) fn read_at(file: &dyn DiskFile, position: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let read = fill(file, &mut bytes, position)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Reads at `position` until `bytes` is full or the file ends; how many were read.
pub(crate) fn fill(file: &dyn DiskFile, bytes: &mut [u8], position: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, position + filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
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

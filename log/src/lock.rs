//! The directory's lock: one log at a time.

use crate::{
    disk::{self, failed, is_full},
    options::OpenError,
};
use headwater_core::ports::disk::{Disk, DiskFile, OpenMode};
use std::{path::Path, sync::Arc};

/// What is read of what the holder wrote.
const HOLDER_BYTES_MAX: usize = 4096;

/// Held as long as the log is open; the system gives it back when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct DirLock {
    /// `None` if the file was missing and there was no room for it: `journal/00.journal` is locked too.
    _file: Option<Arc<dyn DiskFile>>,
}

impl DirLock {
    pub(crate) fn take(disk: &dyn Disk, dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(".lock");
        // The text is the holder's until the lock is ours.
        let file = match disk.open(&path, OpenMode::Either).map_err(failed("open", &path)) {
            Err(error) if is_full(&error) => return Ok(Self { _file: None }),
            file => file?,
        };
        if !file.try_lock().map_err(failed("lock", &path))? {
            let held = disk::read_at(&*file, 0, HOLDER_BYTES_MAX).unwrap_or_default();
            let holder = str::from_utf8(&held).unwrap_or_default().trim();
            let holder = if holder.is_empty() { "another process" } else { holder };
            return Err(OpenError::Locked { dir: dir.to_owned(), holder: holder.to_owned() });
        }
        let text = format!("process {} (a Headwater log is open in it)\n", std::process::id());
        let written = file.set_length(0).and_then(|()| file.write_at(text.as_bytes(), 0));
        match written.map_err(failed("write", &path)) {
            // Whoever meets the lock is told less; it is held all the same.
            Err(error) if !is_full(&error) => Err(error.into()),
            _ => Ok(Self { _file: Some(file) }),
        }
    }
}

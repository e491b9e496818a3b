//! The directory's lock: one log at a time.

use crate::{
    disk::{self, failed},
    options::OpenError,
};
use headwater_core::ports::disk::{Disk, DiskFile, OpenMode};
use std::{path::Path, sync::Arc};

/// What is read of what the holder wrote.
const HOLDER_BYTES_MAX: usize = 4096;

/// Held as long as the log is open; the system gives it back when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct DirLock {
    _file: Arc<dyn DiskFile>,
}

impl DirLock {
    pub(crate) fn take(disk: &dyn Disk, dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(".lock");
        // The text is the holder's until the lock is ours.
        let file = disk.open(&path, OpenMode::Either).map_err(failed("open", &path))?;
        if !file.try_lock().map_err(failed("lock", &path))? {
            let held = disk::read_at(&*file, 0, HOLDER_BYTES_MAX).unwrap_or_default();
            let holder = str::from_utf8(&held).unwrap_or_default().trim();
            let holder = if holder.is_empty() { "another process" } else { holder };
            return Err(OpenError::Locked { dir: dir.to_owned(), holder: holder.to_owned() });
        }
        let text = format!("process {} (a Headwater log is open in it)\n", std::process::id());
        let written = file.set_length(0).and_then(|()| file.write_at(text.as_bytes(), 0));
        written.map_err(failed("write", &path))?;
        Ok(Self { _file: file })
    }
}

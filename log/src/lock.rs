//! The directory's lock: one log at a time.

use crate::{disk::failed, options::OpenError};
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Write},
    path::Path,
};

/// Held as long as the log is open; the system gives it back when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct DirLock {
    _file: File,
}

impl DirLock {
    pub(crate) fn take(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(".lock");
        let mut options = OpenOptions::new();
        // The text is the holder's until the lock is ours.
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let read = Read::by_ref(&mut file).take(4096).read_to_string(&mut holder);
                if read.is_err() || holder.trim().is_empty() {
                    "another process".clone_into(&mut holder);
                }
                return Err(OpenError::Locked {
                    dir: dir.to_owned(),
                    holder: holder.trim().to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error).into()),
        }
        let text = format!("process {} (a Headwater log is open in it)\n", std::process::id());
        let written = file.set_len(0).and_then(|()| file.write_all(text.as_bytes()));
        written.map_err(failed("write", &path))?;
        Ok(Self { _file: file })
    }
}

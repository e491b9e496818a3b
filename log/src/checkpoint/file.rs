//! The checkpoint's two files: the current one and the one before.

use super::Checkpoint;
use crate::{
    cursor::{Cursor, Malformed, Put},
    disk::{
        self,
        files::{Exhausted, Files},
    },
    options::OpenError,
};
use headwater_core::{
    ports::{disk::Disk, log::LogError},
    record::Timestamp,
};
use std::path::{Path, PathBuf};

const MAGIC: u32 = u32::from_be_bytes(*b"HWCP");
const VERSION: u32 = 4;

fn current(dir: &Path) -> PathBuf {
    dir.join("checkpoint")
}

fn previous(dir: &Path) -> PathBuf {
    dir.join("checkpoint.previous")
}

/// Whether there is a checkpoint to fall back to; a new log has none before its second.
pub(crate) fn has_previous(disk: &dyn Disk, dir: &Path) -> Result<bool, LogError> {
    Ok(disk::find(disk, &previous(dir))?.is_some())
}

/// The file of a checkpoint with this payload.
pub(crate) fn file_bytes(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(payload.len() + 12);
    bytes.put_u32(MAGIC);
    bytes.put_u32(VERSION);
    bytes.extend_from_slice(payload);
    let crc = crc32c::crc32c(&bytes);
    bytes.put_u32(crc);
    bytes
}

/// Makes `payload` the current checkpoint and keeps the one before.
pub(crate) fn store(dir: &Path, files: &Files, payload: &[u8]) -> Result<(), LogError> {
    let bytes = file_bytes(payload);
    let disk = files.disk();
    let (current, next) = (current(dir), dir.join("checkpoint.next"));
    files.with_room(Exhausted::Wait, || disk::replace(disk, &next, &bytes))?;
    if disk::find(disk, &current)?.is_some() {
        let previous = previous(dir);
        disk::rename(disk, &current, &previous)?;
    }
    disk::rename(disk, &next, &current)?;
    files.with_room(Exhausted::Wait, || disk::sync_dir(disk, dir))
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) checkpoint: Checkpoint,
    /// Whether it is the previous one, since the current one is damaged.
    pub(crate) current_is_damaged: bool,
}

/// The current checkpoint, or the previous one if the current is missing or damaged; `None` if there is neither.
pub(crate) fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<Loaded>, OpenError> {
    let path = current(dir);
    let damaged = match read(disk, &path)? {
        Some(Ok(checkpoint)) => {
            return Ok(Some(Loaded { checkpoint, current_is_damaged: false }));
        }
        Some(Err(why)) => Some(why),
        None => None,
    };
    let mut fallback = read(disk, &previous(dir))?;
    if let Some(Ok(checkpoint)) = &mut fallback {
        // The log may have been used since.
        checkpoint.heading.clean = false;
    }
    match (damaged, fallback) {
        (damaged, Some(Ok(checkpoint))) => {
            if let Some(why) = &damaged {
                tracing::error!(path = %path.display(), detail = why.0, "checkpoint is damaged; starting from the previous one");
            }
            Ok(Some(Loaded { checkpoint, current_is_damaged: damaged.is_some() }))
        }
        (None, None) => Ok(None),
        (Some(why), _) => Err(OpenError::Damaged { path, detail: why.0.to_owned() }),
        (None, Some(Err(why))) => {
            Err(OpenError::Damaged { path: previous(dir), detail: why.0.to_owned() })
        }
    }
}

/// Renames the current checkpoint, which is damaged, so that the next one does not push the good one out.
pub(crate) fn put_aside(disk: &dyn Disk, dir: &Path, now: Timestamp) -> Result<(), LogError> {
    disk::rename(disk, &current(dir), &dir.join(format!("checkpoint.corrupt-{now}")))?;
    disk::sync_dir(disk, dir)
}

fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Result<Checkpoint, Malformed>>, OpenError> {
    let Some(bytes) = disk::read_if_there(disk, path)? else { return Ok(None) };
    let Some((covered, crc)) = bytes.split_last_chunk::<4>() else {
        return Ok(Some(Err(Malformed("the checkpoint ends early"))));
    };
    if crc32c::crc32c(covered).to_be_bytes() != *crc {
        return Ok(Some(Err(Malformed("the checkpoint's CRC is wrong"))));
    }
    let mut cursor = Cursor::new(covered);
    let found = match (cursor.u32(), cursor.u32()) {
        (Ok(MAGIC), Ok(found)) => found,
        _ => return Ok(Some(Err(Malformed("this is no checkpoint")))),
    };
    if found != VERSION {
        return Err(OpenError::UnknownVersion { path: path.to_owned(), found, known: VERSION });
    }
    Ok(Some(Checkpoint::decode(covered.get(8..).unwrap_or_default())))
}

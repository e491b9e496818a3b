//! One file of the journal, and zeros that are written to it ahead of the frames.
//!
//! A direct write to blocks that hold data already leaves the file system's own records alone, and its sync is one flush;
//! a write to blocks that were only set aside changes them.

use super::frame::ALIGNMENT;
use crate::disk::{self, failed, lock};
use headwater_core::ports::{
    disk::{Disk, DiskFile},
    log::LogError,
};
use std::{
    io,
    ops::RangeInclusive,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

/// Zeros are written in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;
/// How far ahead of the frames zeros are written: as far as the frames have come, within these.
const AHEAD_BYTES: RangeInclusive<u64> = 1 << 20..=16 << 20;

/// One file of the journal.
#[derive(Debug)]
pub(crate) struct JournalFile {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    /// The same, for writes past the system's cache; `None` where they are not taken.
    direct: Option<Arc<dyn DiskFile>>,
    ahead: Arc<Ahead>,
    /// Whether its disk was set aside since the log was opened.
    is_set_aside: bool,
    /// The sequence number of its last frame, 0 for none.
    pub(crate) last: u64,
}

/// How far a file has data.
#[derive(Debug, Default)]
struct Ahead {
    /// Frames or zeros lie up to here. Held while zeros are written, so that they never meet a frame.
    up_to: Mutex<u64>,
    /// Whether zeros are due, and somebody was told.
    asked: AtomicBool,
}

/// Zeros to write.
#[derive(Debug)]
pub(crate) struct Zeros {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    ahead: Arc<Ahead>,
    up_to: u64,
}

impl JournalFile {
    pub(crate) fn new(path: PathBuf, file: Arc<dyn DiskFile>) -> Self {
        Self { path, file, direct: None, ahead: Arc::default(), is_set_aside: false, last: 0 }
    }

    /// Gets ready for frames from the start on, for which `bytes` are set aside.
    pub(super) fn prepare(&mut self, disk: &dyn Disk, bytes: u64) -> Result<(), LogError> {
        let path = &self.path;
        let length = self.file.length().map_err(failed("look at", path))?;
        if length < bytes {
            let with_last_claim = bytes + ALIGNMENT as u64;
            self.file.allocate(with_last_claim).map_err(failed("preallocate", path))?;
        }
        self.is_set_aside = true;
        *lock(&self.ahead.up_to) = length;
        if self.direct.is_none() {
            // Without it the frames go through the cache.
            self.direct = disk.open_direct(path).unwrap_or_else(|error| {
                tracing::debug!(%error, path = %path.display(), "not opened for direct writes");
                None
            });
        }
        Ok(())
    }

    /// Whether it may take up more disk before it holds `bytes`.
    pub(super) fn grows(&self, bytes: u64) -> Result<bool, LogError> {
        let length = self.file.length().map_err(failed("look at", &self.path))?;
        Ok(!self.is_set_aside && length < bytes)
    }

    /// Writes a frame at an aligned position.
    pub(super) fn write(&mut self, frame: &[u8], position: u64) -> Result<(), LogError> {
        let mut up_to = lock(&self.ahead.up_to);
        *up_to = (*up_to).max(position + frame.len() as u64);
        drop(up_to);
        if let Some(direct) = &self.direct {
            match direct.write_at(frame, position) {
                // Some file systems take the flag and not the write.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.direct = None,
                written => return written.map_err(failed("write to", &self.path)),
            }
        }
        disk::write_at(&*self.file, &self.path, frame, position)
    }

    /// The zeros that are to be written now that frames have come to `position`, if any.
    pub(super) fn zeros_due(&self, position: u64, file_bytes: u64) -> Option<Zeros> {
        let direct = self.direct.as_ref()?;
        let ahead = position.clamp(*AHEAD_BYTES.start(), *AHEAD_BYTES.end());
        let up_to = (position + ahead).min(file_bytes) / ALIGNMENT as u64 * ALIGNMENT as u64;
        // Half of it may be used up first.
        if *lock(&self.ahead.up_to) + ahead / 2 >= up_to
            || self.ahead.asked.swap(true, Ordering::AcqRel)
        {
            return None;
        }
        let (file, path, ahead) = (Arc::clone(direct), self.path.clone(), Arc::clone(&self.ahead));
        Some(Zeros { file, path, ahead, up_to })
    }
}

impl Zeros {
    /// Writes them piece by piece, as long as they are wanted. Should that fail, the frames' own writes find out.
    pub(crate) fn write(self, wanted: impl Fn() -> bool) {
        let zeros = vec![0; PIECE_BYTES + ALIGNMENT];
        let start = zeros.as_ptr().align_offset(ALIGNMENT);
        while wanted() {
            let mut up_to = lock(&self.ahead.up_to);
            let from = up_to.next_multiple_of(ALIGNMENT as u64);
            let left = usize::try_from(self.up_to.saturating_sub(from)).unwrap_or(usize::MAX);
            let piece = zeros.get(start..start + left.min(PIECE_BYTES)).unwrap_or_default();
            if piece.is_empty() {
                break;
            }
            if let Err(error) = self.file.write_at(piece, from) {
                tracing::debug!(%error, path = %self.path.display(), "no zeros were written ahead");
                break;
            }
            *up_to = from + piece.len() as u64;
        }
        self.ahead.asked.store(false, Ordering::Release);
    }
}

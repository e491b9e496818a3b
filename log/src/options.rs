//! How a log is opened, and why that may fail.

use crate::{disk::local::LocalDisk, partition::SEGMENT_BYTES_MAX};
use headwater_core::{
    descriptors::share,
    ports::{disk::Disk, log::LogError},
    time::{Clock, SystemClock},
};
use std::{path::PathBuf, sync::Arc, time::Duration};

/// The largest journal file.
const JOURNAL_BYTES_MAX: u64 = 1 << 30;

/// How an [`EmbeddedLog`](crate::EmbeddedLog) is kept.
///
/// ```
/// use headwater_log::LogOptions;
///
/// let options = LogOptions::new().segment_bytes(64 << 20);
/// # let _ = options;
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct LogOptions {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) segment_bytes: u64,
    pub(crate) journal_bytes: u64,
    pub(crate) reserve_bytes: u64,
    pub(crate) open_files_max: usize,
    /// How long nothing is to be written before the journal says what is on the disk.
    pub(crate) rest: Duration,
    /// A smaller round that nothing is in front of is written and applied by the committer itself: handing it on would take
    /// longer than what could be done meanwhile.
    pub(crate) staged_bytes_min: usize,
}

impl LogOptions {
    /// The machine's clock and disk, segments of 256 MiB, journal files of 64 MiB, 64 MiB of disk held back.
    ///
    /// 256 segments are open at once, or a quarter of the files that the process may have open if that is less.
    pub fn new() -> Self {
        Self {
            clock: Arc::new(SystemClock::new()),
            disk: Arc::new(LocalDisk),
            segment_bytes: 256 << 20,
            journal_bytes: 64 << 20,
            reserve_bytes: 64 << 20,
            open_files_max: share(4, 256),
            rest: Duration::from_millis(5),
            staged_bytes_min: 128 << 10,
        }
    }

    /// Where time comes from.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// What the directory is on; this machine's disk unless set.
    pub fn disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = disk;
        self
    }

    /// A segment that would grow past this is closed and another started; 256 MiB unless set, at most 1 GiB.
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes.clamp(1, SEGMENT_BYTES_MAX);
        self
    }

    /// The size of a journal file, of which there are up to four, each with its place on the disk from the start; 64 MiB unless
    /// set, at most 1 GiB.
    ///
    /// A checkpoint is made each time one is full.
    pub fn journal_bytes(mut self, bytes: u64) -> Self {
        self.journal_bytes = bytes.clamp(1, JOURNAL_BYTES_MAX);
        self
    }

    /// Appends are refused when less than this is free on the disk; 64 MiB unless set. Offsets and claims may use it.
    pub fn reserve_bytes(mut self, bytes: u64) -> Self {
        self.reserve_bytes = bytes;
        self
    }

    /// How long nothing is to be written before the journal says what is on the disk.
    #[cfg(test)]
    pub(crate) fn rest_after(mut self, rest: Duration) -> Self {
        self.rest = rest;
        self
    }

    /// Hands a round of at least so many bytes on to other threads, also if none is under way.
    #[cfg(test)]
    pub(crate) fn staged_from(mut self, bytes: usize) -> Self {
        self.staged_bytes_min = bytes;
        self
    }

    /// How many segments are open at once, at least one; as [`new`](Self::new) says unless set. Others are opened when they
    /// are used.
    pub fn open_files_max(mut self, files: usize) -> Self {
        self.open_files_max = files.max(1);
        self
    }
}

impl Default for LogOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a log could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another part of this one, has the directory open.
    #[error("{} is in use by {holder}; stop it, or use another directory", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// What the holder wrote into the lock file.
        holder: String,
    },

    /// What the log cannot do without is missing or damaged; nothing was changed.
    #[error("{} is damaged: {detail}", path.display())]
    Damaged {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong, and what to do.
        detail: String,
    },

    /// Another version wrote this; nothing was changed.
    #[error("{} has format version {found}, this program reads version {known} alone; use the program that wrote it, or another directory", path.display())]
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version that this program reads and writes.
        known: u32,
    },

    /// The log's files could not be read or written.
    #[error(transparent)]
    Log(#[from] LogError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_a_size_whatever_is_asked_for() {
        for (asked, bytes) in [(0, 1), (1, 1), (2, 2), (u64::MAX - 1, 1 << 30), (u64::MAX, 1 << 30)]
        {
            let options = LogOptions::new().segment_bytes(asked).journal_bytes(asked);
            assert_eq!((options.segment_bytes, options.journal_bytes), (bytes, bytes));
        }
        assert_eq!(LogOptions::new().open_files_max(0).open_files_max, 1);
    }
}

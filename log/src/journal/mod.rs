//! The commit journal: frames in a few preallocated files that are used in turn.
//!
//! | part | does |
//! |---|---|
//! | [`frame`] | one round's bytes: magic, sequence, generation, length, CRC, payload |
//! | [`buffer`] | a frame that is being made |
//! | [`entry`] | what a payload holds |
//! | [`file`] | a file, written past the system's cache where that is possible, zeros ahead of the frames |
//! | [`scan`] | finds the frames that are there when the log is opened |
//!
//! # Invariants
//!
//! - A file is written again only when the *previous* checkpoint covers all its frames.
//! - Frames of one file have consecutive sequence numbers and generations that do not fall, so that what is there of an
//!   earlier use is recognised.
//! - Before the first frame goes to another file, all frames of the last one are on the disk.
//! - After a while of rest an empty frame says that all others are on the disk: damage to the last is then told from a
//!   torn tail.
//! - All files exist, if empty, before the first checkpoint: a missing one is damage, never a file not yet needed.

pub(crate) mod buffer;
pub(crate) mod entry;
pub(crate) mod file;
pub(crate) mod frame;
#[cfg(test)]
mod golden;
pub(crate) mod scan;

use crate::{
    disk::{self, failed, sync_dir},
    options::OpenError,
};
use buffer::FrameBuffer;
pub(crate) use file::JournalFile;
use file::Zeros;
use frame::Label;
use headwater_core::{
    broken::broken,
    ports::{
        disk::{Disk, DiskFile, OpenMode},
        log::{Durability, LogError},
    },
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// As many files as there are: two retained by checkpoints, one being covered, one being written.
pub(crate) const FILES_MAX: usize = 4;

/// The journal as frames are written to it.
#[derive(Debug)]
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    file_bytes: u64,
    files: Vec<JournalFile>,
    current: usize,
    position: u64,
    sequence: u64,
    stamp: Stamp,
    durable: u64,
    /// What the last frame says to be on the disk.
    claimed: u64,
}

/// How far the journal goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JournalEnd {
    pub(crate) stamp: Stamp,
    /// The last frame.
    pub(crate) sequence: u64,
    /// Where the frame after that goes, if not to the start of another file.
    pub(crate) next: FramePlace,
    /// How many files must be there.
    pub(crate) files: u32,
}

/// What every frame is stamped with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The log's number, chosen at random when it was made.
    pub(crate) log: u64,
    /// How often the log was opened.
    pub(crate) generation: u32,
}

/// A place in the journal where a frame starts, or may start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FramePlace {
    /// Which file.
    pub(crate) file: usize,
    /// The byte.
    pub(crate) position: u64,
}

/// The path of file `index`.
pub(crate) fn file_path(dir: &Path, index: usize) -> PathBuf {
    dir.join(format!("{index:02}.journal"))
}

impl Journal {
    /// A journal over `files` that continues after frame `sequence`; [`switch`](Self::switch) before the first frame.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        file_bytes: u64,
        files: Vec<JournalFile>,
        sequence: u64,
        stamp: Stamp,
    ) -> Self {
        Self {
            disk,
            file_bytes,
            files,
            current: usize::MAX,
            position: 0,
            sequence,
            stamp,
            durable: sequence,
            claimed: sequence,
        }
    }

    /// How far it goes.
    pub(crate) fn end(&self) -> JournalEnd {
        let chosen = self.files.get(self.current);
        let next = chosen
            .map(|_| FramePlace { file: self.current, position: self.position })
            .unwrap_or_default();
        let Ok(files) = u32::try_from(self.files.len()) else { broken("there are a few files") };
        JournalEnd { stamp: self.stamp, sequence: self.sequence, next, files }
    }

    /// Bytes of disk that the next file will take up, 0 once all files have theirs.
    pub(crate) fn growth(&self) -> Result<u64, LogError> {
        for file in &self.files {
            if file.grows(self.file_bytes)? {
                return Ok(self.file_bytes);
            }
        }
        Ok(0)
    }

    /// Whether the frame needs another file. A frame larger than a file gets one to itself.
    pub(crate) fn is_full(&self, frame: &FrameBuffer) -> bool {
        self.position > 0 && self.position + frame.stride() > self.file_bytes
    }

    /// Writes the frame, and puts it on the disk if it is to be synced.
    pub(crate) fn write(
        &mut self,
        frame: &mut FrameBuffer,
        durability: Durability,
    ) -> Result<(), LogError> {
        let (sequence, durable) = (self.sequence + 1, self.durable);
        let bytes = frame.finish(Label { stamp: self.stamp, sequence, durable });
        let Some(target) = self.files.get_mut(self.current) else {
            broken("a file is chosen before the first frame")
        };
        target.write(bytes, self.position)?;
        self.sequence = sequence;
        self.claimed = durable;
        target.last = sequence;
        self.position += bytes.len() as u64;
        match durability {
            Durability::Fsync => self.sync(),
            Durability::Os => Ok(()),
        }
    }

    /// The zeros that are to be written ahead of the frames, if any are due.
    pub(crate) fn zeros_due(&self) -> Option<Zeros> {
        self.files.get(self.current)?.zeros_due(self.position, self.file_bytes)
    }

    /// Whether a frame is on the disk that no later one says to be there.
    pub(crate) fn has_unclaimed(&self) -> bool {
        self.durable == self.sequence && self.claimed < self.durable
    }

    /// Writes an empty frame, unsynced, that says of all others that they are on the disk. The last frame's damage could
    /// otherwise not be told from a torn tail.
    ///
    /// There is room for it at the end of a file, but for one whose only frame is larger than the file.
    pub(crate) fn claim(&mut self, frame: &mut FrameBuffer) -> Result<(), LogError> {
        frame.begin(0);
        if self.position <= self.file_bytes {
            self.write(frame, Durability::Os)?;
        }
        // This one claims nothing that a further one would have to.
        self.claimed = self.sequence;
        Ok(())
    }

    /// Puts all frames on the disk.
    pub(crate) fn sync(&mut self) -> Result<(), LogError> {
        if self.durable == self.sequence {
            return Ok(());
        }
        if let Some(current) = self.files.get(self.current) {
            disk::sync_data(&*current.file, &current.path)?;
        }
        self.durable = self.sequence;
        Ok(())
    }

    /// Continues at the start of a file whose frames are all covered by frame `retained`; `false` if there is none.
    pub(crate) fn switch(&mut self, retained: u64) -> Result<bool, LogError> {
        self.sync()?;
        let current = self.current;
        let mut candidates = self.files.iter_mut().enumerate();
        let free = candidates.find(|(at, file)| *at != current && file.last <= retained);
        let Some((index, file)) = free else { return Ok(false) };
        file.prepare(&*self.disk, self.file_bytes)?;
        self.current = index;
        self.position = 0;
        Ok(true)
    }
}

/// Opens the files that are there. The first is locked, in case the directory's own lock was removed.
pub(crate) fn open_files(
    disk: &dyn Disk,
    dir: &Path,
) -> Result<[Option<Arc<dyn DiskFile>>; FILES_MAX], OpenError> {
    let mut files = [const { None }; FILES_MAX];
    for (index, file) in files.iter_mut().enumerate() {
        *file = disk::open(disk, &file_path(dir, index))?;
    }
    if let Some(Some(first)) = files.first() {
        take_lock(&**first, dir)?;
    }
    Ok(files)
}

/// Puts on the disk what the files hold.
pub(crate) fn sync_files(disk: &dyn Disk, dir: &Path) -> Result<(), LogError> {
    for path in (0..FILES_MAX).map(|index| file_path(dir, index)) {
        if let Some(file) = disk::open(disk, &path)? {
            disk::sync_data(&*file, &path)?;
        }
    }
    Ok(())
}

/// Creates those files that a new journal does not have yet; they get their bytes when they are first used. Of an older
/// one, all `expected` must be there; a process that ended before its first checkpoint may have left more, their names unsynced.
pub(crate) fn create_missing(
    disk: &dyn Disk,
    dir: &Path,
    found: [Option<Arc<dyn DiskFile>>; FILES_MAX],
    expected: u32,
) -> Result<Vec<JournalFile>, OpenError> {
    let mut files = Vec::new();
    for ((index, number), found) in (0..).zip(0_u32..).zip(found) {
        let path = file_path(dir, index);
        let file = match found {
            Some(file) => file,
            None if number < expected => {
                let detail = "the file is missing, and commits with it; restore it from a backup";
                return Err(OpenError::Damaged { path, detail: detail.to_owned() });
            }
            None => {
                let file = disk.open(&path, OpenMode::New).map_err(failed("create", &path))?;
                if index == 0 {
                    take_lock(&*file, dir)?;
                }
                file
            }
        };
        files.push(JournalFile::new(path, file));
    }
    if (expected as usize) < FILES_MAX {
        sync_dir(disk, dir)?;
    }
    Ok(files)
}

fn take_lock(first: &dyn DiskFile, dir: &Path) -> Result<(), OpenError> {
    if first.try_lock().map_err(failed("lock", &file_path(dir, 0)))? {
        return Ok(());
    }
    let (dir, holder) = (dir.parent().unwrap_or(dir).to_owned(), "another process".to_owned());
    Err(OpenError::Locked { dir, holder })
}

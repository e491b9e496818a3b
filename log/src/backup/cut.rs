//! What the log holds at one commit, and how that gets into a backup.
//!
//! # Invariants
//!
//! - It is taken where commits are applied, between two of them.
//! - Segments that are listed in it keep their files until they are in the backup.

use crate::{
    checkpoint,
    disk::{
        self, failed,
        files::{Exhausted, Files},
        make_dir, open_to_read,
    },
    journal,
    segment::{HINTS, Segment},
};
use headwater_core::ports::{
    disk::{Disk, DiskFile, Found, OpenMode},
    log::{BackupProgress, LogError, TellProgress},
};
use std::{io, ops::ControlFlow, path::Path, sync::Arc};

/// How much is copied, or read, at once.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// What the log holds at one commit.
#[derive(Debug)]
pub(crate) struct Cut {
    /// The checkpoint of it.
    pub(crate) payload: Vec<u8>,
    pub(crate) segments: Vec<Listed>,
    /// How many files its journal must have.
    pub(crate) journal_files: u32,
}

/// A segment that a checkpoint lists.
#[derive(Debug)]
pub(crate) struct Listed {
    /// The name of its partition's directory.
    pub(crate) partition: String,
    pub(crate) segment: Arc<Segment>,
    /// The bytes of it that are listed.
    pub(crate) bytes: u64,
    /// Whether it has no more than these, ever.
    pub(crate) is_sealed: bool,
}

impl Cut {
    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|listed| listed.bytes).sum()
    }

    /// Puts a log that holds it into `dir`, which is not there yet; unsynced.
    pub(super) fn write(
        &self,
        dir: &Path,
        files: &Files,
        work: &mut Work<'_>,
    ) -> Result<(), LogError> {
        make_dir(work.disk, dir)?;
        let journal_dir = dir.join("journal");
        make_dir(work.disk, &journal_dir)?;
        for index in 0..self.journal_files as usize {
            // No frame follows the checkpoint.
            create(work.disk, &journal::file_path(&journal_dir, index))?;
        }
        for listed in &self.segments {
            let dir = dir.join(&listed.partition);
            make_dir(work.disk, &dir)?;
            files.with_room(Exhausted::Fail, || listed.write(&dir, work))?;
        }
        let (path, bytes) = (dir.join("checkpoint"), checkpoint::file_bytes(&self.payload));
        disk::write_at(&*create(work.disk, &path)?, &path, &bytes, 0)
    }
}

impl Listed {
    fn write(&self, dir: &Path, work: &mut Work<'_>) -> Result<(), LogError> {
        let from = self.segment.path();
        let Some(name) = from.file_name() else { return Ok(()) };
        let to = dir.join(name);
        // What an attempt without a descriptor left.
        disk::remove(work.disk, &to)?;
        let is_whole = disk::find(work.disk, from)? == Some(Found::File(self.bytes));
        if self.is_sealed && is_whole && work.link(from, &to, self.bytes)? {
            return self.write_hints(dir, work);
        }
        work.copy(from, &to, self.bytes)?;
        if self.is_sealed { self.write_hints(dir, work) } else { Ok(()) }
    }

    /// Hint files are made anew where they are missing, and replaced as a whole.
    fn write_hints(&self, dir: &Path, work: &mut Work<'_>) -> Result<(), LogError> {
        for extension in HINTS {
            let from = self.segment.path().with_extension(extension);
            let Some(name) = from.file_name() else { continue };
            let to = dir.join(name);
            disk::remove(work.disk, &to)?;
            let Some(Found::File(bytes)) = disk::find(work.disk, &from)? else { continue };
            if !work.link(&from, &to, 0)? {
                work.copy(&from, &to, bytes)?;
            }
        }
        Ok(())
    }
}

fn create(disk: &dyn Disk, path: &Path) -> Result<Arc<dyn DiskFile>, LogError> {
    disk.open(path, OpenMode::Empty).map_err(failed("create", path))
}

/// Links and copies, and says how far that has come.
pub(super) struct Work<'a> {
    pub(super) disk: &'a dyn Disk,
    progress: BackupProgress,
    pub(super) linked_bytes: u64,
    tell: &'a mut TellProgress<'a>,
}

impl<'a> Work<'a> {
    pub(super) fn new(disk: &'a dyn Disk, total: u64, tell: &'a mut TellProgress<'a>) -> Self {
        Self { disk, progress: BackupProgress { done: 0, total }, linked_bytes: 0, tell }
    }

    /// So many bytes more are done, up to those of `path`. Fails if the rest is not wanted any more.
    pub(super) fn note(&mut self, bytes: u64, path: &Path) -> Result<(), LogError> {
        let BackupProgress { done, total } = &mut self.progress;
        *done = (*done + bytes).min(*total);
        match (self.tell)(self.progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => {
                let cancelled = io::Error::new(io::ErrorKind::Interrupted, "it was cancelled");
                Err(failed("go on after", path)(cancelled))
            }
        }
    }

    /// Gives the file a second name; false where that does not go.
    fn link(&mut self, from: &Path, to: &Path, bytes: u64) -> Result<bool, LogError> {
        use io::ErrorKind::{
            CrossesDevices, NotFound, PermissionDenied, TooManyLinks, Unsupported,
        };
        match self.disk.link(from, to) {
            Ok(()) => {
                self.linked_bytes += bytes;
                self.note(bytes, from)?;
                Ok(true)
            }
            Err(error)
                if [CrossesDevices, NotFound, PermissionDenied, TooManyLinks, Unsupported]
                    .contains(&error.kind()) =>
            {
                Ok(false)
            }
            Err(error) => Err(failed("link", to)(error)),
        }
    }

    /// Copies the first `bytes` of a file, unsynced.
    pub(super) fn copy(&mut self, from: &Path, to: &Path, bytes: u64) -> Result<(), LogError> {
        let target = create(self.disk, to)?;
        let mut at = 0;
        self.read(from, bytes, |piece| {
            disk::write_at(&*target, to, piece, at)?;
            at += piece.len() as u64;
            Ok(())
        })
    }

    /// Hands on the first `bytes` of a file, a piece at a time; one that has fewer is an error.
    pub(super) fn read(
        &mut self,
        path: &Path,
        bytes: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let file = open_to_read(self.disk, path)?;
        let mut at = 0;
        while at < bytes {
            let length = usize::try_from(bytes - at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            let piece = disk::read_at(&*file, at, length).map_err(failed("read", path))?;
            if piece.is_empty() {
                return Err(failed("read", path)(io::ErrorKind::UnexpectedEof.into()));
            }
            take(&piece)?;
            at += piece.len() as u64;
            self.note(piece.len() as u64, path)?;
        }
        Ok(())
    }
}

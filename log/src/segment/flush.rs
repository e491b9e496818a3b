//! Putting a segment on the disk, and writing the hint files of a sealed one.
//!
//! # Invariants
//!
//! - The system tells an error of writing back to the descriptors that are open, and may tell nobody if none is: what was
//!   written by a descriptor that has been closed since is read again after its sync.

use super::{Segment, mark::Mark};
use crate::disk::{self, failed, files::Exhausted, read, write};
use headwater_core::ports::{disk::DiskFile, log::LogError};
use std::{
    io, mem,
    sync::{Arc, Weak, atomic::Ordering},
};

/// By which descriptor the bytes were written that no sync covers.
#[derive(Debug, Default)]
pub(super) enum UnsyncedBy {
    #[default]
    Nobody,
    One(Weak<dyn DiskFile>),
    Several,
}

impl UnsyncedBy {
    pub(super) fn wrote(&mut self, file: &Arc<dyn DiskFile>) {
        match self {
            Self::Nobody => *self = Self::One(Arc::downgrade(file)),
            Self::One(one) if is_of(one, file) => {}
            Self::One(_) | Self::Several => *self = Self::Several,
        }
    }

    /// Whether a sync of `file` tells all that became of them.
    fn is_none_but(&self, file: &Arc<dyn DiskFile>) -> bool {
        match self {
            Self::Nobody => true,
            Self::One(one) => is_of(one, file),
            Self::Several => false,
        }
    }
}

/// Whether the descriptor that wrote is this one.
fn is_of(writer: &Weak<dyn DiskFile>, file: &Arc<dyn DiskFile>) -> bool {
    std::ptr::addr_eq(writer.as_ptr(), Arc::as_ptr(file))
}

impl Segment {
    /// Syncs its bytes and its name, and writes the hint files if it is sealed.
    pub(crate) fn flush(&self) -> Result<(), LogError> {
        // Acquires what a concurrent `mark_dirty` that found it dirty had written before.
        self.dirty.swap(false, Ordering::AcqRel);
        self.sync()?;
        let files = self.file.files();
        let path = self.file.path();
        if let Some(dir) = path.parent().filter(|_| self.nameless.load(Ordering::Acquire)) {
            files.with_room(Exhausted::Wait, || disk::sync_dir(self.file.disk(), dir))?;
            self.nameless.store(false, Ordering::Release);
        }
        if self.is_sealed() {
            self.make_hints();
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), LogError> {
        // A file that is missing was when the log was opened, and takes no appends.
        let Some(file) = self.file.get(Exhausted::Wait)? else { return Ok(()) };
        let (from, to, writer) = {
            let mut state = write(&self.state);
            (state.synced, state.runs.end(), mem::take(&mut state.unsynced_by))
        };
        disk::sync_data(&*file, self.file.path())?;
        if !writer.is_none_but(&file) {
            self.verify(&*file, from, to)?;
        }
        write(&self.state).synced = to;
        Ok(())
    }

    /// Reads the batches between two marks again and compares them with their checksums.
    fn verify(&self, file: &dyn DiskFile, mut from: Mark, to: Mark) -> Result<(), LogError> {
        let marks = read(&self.state).runs.between(from, to);
        for to in marks {
            let checked = self.check_between(file, from, to);
            if let Err(LogError::Corrupt { detail, .. }) = &checked {
                let lost = format!("what was written is not on the disk: {detail}");
                return Err(failed("sync", self.file.path())(io::Error::other(lost)));
            }
            checked?;
            from = to;
        }
        Ok(())
    }
}

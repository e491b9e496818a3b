//! Putting a segment on the disk, and writing the hint files of a sealed one.
//!
//! # Invariants
//!
//! - The system tells an error of writing back to the descriptors that are open, and may tell nobody if none is: what was
//!   written by a descriptor that has been closed since is read again after its sync.

use super::{
    Segment,
    sidecar::{Headers, Mark, Sidecar},
    walk::{Step, Stop, Walk},
};
use crate::{
    batch::decode,
    disk::{self, failed, files::Exhausted, lock, read, write},
};
use headwater_core::ports::{disk::DiskFile, log::LogError};
use std::{
    io, mem,
    sync::{Arc, Weak, atomic::Ordering},
};

/// By which descriptor the bytes were written that no sync covers.
#[derive(Debug, Default)]
pub(super) enum Writer {
    #[default]
    Nobody,
    One(Weak<dyn DiskFile>),
    Several,
}

impl Writer {
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
            files.with_room(Exhausted::Wait, || self.walk_prefix())?;
            self.refresh_hints()?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), LogError> {
        // A file that is missing was when the log was opened, and takes no appends.
        let Some(file) = self.file.get(Exhausted::Wait)? else { return Ok(()) };
        let (from, to, writer) = {
            let mut state = write(&self.state);
            let to = Mark { position: state.length, crc: state.headers.crc };
            (state.synced, to, mem::take(&mut state.writer))
        };
        disk::sync_data(&*file, self.file.path())?;
        if !writer.is_none_but(&file) {
            self.verify(&*file, from, to)?;
        }
        write(&self.state).synced = to;
        Ok(())
    }

    /// Reads the batches in `[from, to)` again and compares them with their checksums.
    fn verify(&self, file: &dyn DiskFile, from: Mark, to: Mark) -> Result<(), LogError> {
        let lost = |detail: &str| {
            let error = io::Error::other(format!("what was written is not on the disk: {detail}"));
            failed("sync", self.file.path())(error)
        };
        let mut headers = Headers::continued(from.crc, from.position);
        let mut walk = Walk::new(file, from.position, to.position, self.base);
        loop {
            match walk.next() {
                Ok(Some(Step { position, header, bytes })) => {
                    headers.note(bytes, position + header.size as u64);
                    let batch = disk::read_at(file, position, header.size);
                    let batch = batch.map_err(failed("read", self.file.path()))?;
                    decode::check(&batch, &header).map_err(|why| lost(why.0))?;
                }
                Ok(None) if headers.crc == to.crc => return Ok(()),
                Ok(None) => return Err(lost("the batch headers differ from their checksum")),
                Err(Stop::Io(error)) => return Err(failed("read", self.file.path())(error)),
                Err(Stop::Damaged(damage)) => return Err(lost(&damage.detail)),
            }
        }
    }

    /// Has readers that still hold the segment write nothing any more: the directory is given back.
    pub(crate) fn freeze(&self) {
        *lock(&self.frozen) = true;
    }

    /// Writes those of a sealed segment's hint files that are missing or differ from what the log file says. Without a
    /// descriptor it leaves them to the next time that the log is opened.
    pub(super) fn refresh_hints(&self) -> Result<(), LogError> {
        match self.write_hints() {
            Err(LogError::TooManyOpenFiles { .. }) => Ok(()),
            written => written,
        }
    }

    fn write_hints(&self) -> Result<(), LogError> {
        // A reader and the checkpointer may both come here, and would take each other's temporary file away.
        let frozen = lock(&self.frozen);
        if *frozen {
            return Ok(());
        }
        let (offsets, times, sidecar) = {
            let state = read(&self.state);
            if state.damage.is_some() {
                return Ok(());
            }
            let (offsets, times) = state.index.files();
            let whole = Mark { position: state.length, crc: state.headers.crc };
            let mut marks = state.headers.marks.clone();
            marks.retain(|mark| mark.position > 0 && mark.position < whole.position);
            marks.dedup();
            marks.push(whole);
            (
                offsets,
                times,
                Sidecar { length: state.length, next_offset: state.next_offset, marks },
            )
        };
        let (disk, mut replaced) = (self.file.disk(), false);
        for (extension, bytes) in
            [("index", offsets), ("timeindex", times), ("checksum", sidecar.encode())]
        {
            let path = self.file.path().with_extension(extension);
            if disk::read_if_there(disk, &path)?.is_none_or(|there| there != bytes) {
                disk::replace(disk, &path, &bytes)?;
                replaced = true;
            }
        }
        match self.file.path().parent() {
            Some(dir) if replaced => disk::sync_dir(disk, dir),
            Some(_) | None => Ok(()),
        }
    }
}

//! The hint files of a sealed segment: the sidecar, by which it is read, and Kafka's indexes beside it.
//!
//! # Invariants
//!
//! - A sidecar counts if it ends where the checkpoint says that the segment does; otherwise the log file is walked, once.
//! - What is read is never less for a hint that cannot be read or written.

use super::{
    Marks, Segment,
    index::Index,
    mark::{Mark, Runs},
    sidecar::Sidecar,
    walk::{Step, Stop, Walk},
};
use crate::disk::{self, failed, files::Exhausted, lock, read, write};
use headwater_core::ports::{disk::Found, log::LogError};

/// Whether this log may write hint files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Directory {
    Held,
    /// Another log may have the directory open, or the segment's files are removed.
    GivenBack,
}

impl Segment {
    /// Learns where the runs of a segment end that was sealed when the log was opened.
    pub(super) fn load_marks(&self) -> Result<(), LogError> {
        if let Some(known) = self.known_marks() {
            return known;
        }
        let directory = lock(&self.directory);
        if let Some(known) = self.known_marks() {
            return known;
        }
        let sidecar = self.read_sidecar()?;
        let loaded = match sidecar {
            Some(sidecar) => Ok(sidecar.marks),
            None => self.walk(Exhausted::Fail).map(|(runs, index)| {
                self.try_to_write(*directory, &runs.marks(), &index);
                runs.marks()
            }),
        };
        match loaded {
            Ok(marks) => {
                let mut state = write(&self.state);
                state.runs = Runs::new(self.base, &marks);
                state.marks = Marks::Known;
                Ok(())
            }
            Err(error) => {
                if matches!(error, LogError::Corrupt { .. }) {
                    write(&self.state).marks = Marks::Damaged(error.clone());
                }
                Err(error)
            }
        }
    }

    fn known_marks(&self) -> Option<Result<(), LogError>> {
        match &read(&self.state).marks {
            Marks::Unread => None,
            Marks::Known => Some(Ok(())),
            Marks::Damaged(error) => Some(Err(error.clone())),
        }
    }

    /// The sidecar, if all hint files are there and it fits.
    fn read_sidecar(&self) -> Result<Option<Sidecar>, LogError> {
        let disk = self.file.disk();
        let path = self.file.path();
        let read = || disk::read_if_there(disk, &path.with_extension("checksum"));
        let bytes = match self.file.files().with_room(Exhausted::Fail, read) {
            Ok(bytes) => bytes.unwrap_or_default(),
            Err(error @ LogError::TooManyOpenFiles { .. }) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "a hint file cannot be read");
                return Ok(None);
            }
        };
        let Ok(sidecar) = Sidecar::decode(&bytes, self.base) else { return Ok(None) };
        let has_length = |extension, length| matches!(disk.find(&path.with_extension(extension)), Ok(Some(Found::File(found))) if found == length);
        let fits = Runs::new(self.base, &sidecar.marks).end() == self.end()
            && has_length("index", sidecar.index_bytes)
            && has_length("timeindex", sidecar.times_bytes);
        Ok(fits.then_some(sidecar))
    }

    /// Learns from the log file what the hint files say.
    fn walk(&self, exhausted: Exhausted) -> Result<(Runs, Index), LogError> {
        let file = self.open_file(exhausted)?;
        let end = self.end();
        let (mut runs, mut index) = (Runs::new(self.base, &[]), Index::default());
        let mut walk = Walk::new(&*file, 0, end.position, self.base);
        // Without the sidecar it is not known which batches in front fit their checksum.
        let start = Mark::start(self.base);
        loop {
            match walk.next() {
                Ok(Some(Step { position, header, bytes })) => {
                    index.note(self.base, position, &header);
                    runs.append(&header, bytes);
                }
                Ok(None) if runs.end() == end => break,
                Ok(None) => {
                    return Err(self.corrupt(start, "the batch headers differ from their checksum"));
                }
                Err(Stop::Io(error)) => return Err(failed("read", self.file.path())(error)),
                Err(Stop::Damaged(detail)) => {
                    let at = runs.end().position;
                    return Err(self.corrupt(start, &format!("{detail} (at byte {at})")));
                }
            }
        }
        index.note_time();
        Ok((runs, index))
    }

    /// Writes the hint files of a segment that is sealed. What fails is left to the next reader after the log is opened
    /// again: the data is not concerned.
    pub(super) fn make_hints(&self) {
        if self.short.is_some() {
            return;
        }
        let directory = lock(&self.directory);
        match self.walk(Exhausted::Wait) {
            Ok((runs, index)) => self.try_to_write(*directory, &runs.marks(), &index),
            // Readers will find it too.
            Err(error) => tracing::error!(%error, "a sealed segment cannot be read"),
        }
        // The walk may have read from the disk what was in memory when it was checked.
        write(&self.state).runs.forget_checked();
    }

    fn try_to_write(&self, directory: Directory, marks: &[Mark], index: &Index) {
        if let Err(error) = self.write_hints(directory, marks, index) {
            tracing::debug!(%error, "hint files cannot be written; the next opening walks the segment again");
        }
    }

    /// Writes the hint files that are missing or differ.
    fn write_hints(
        &self,
        directory: Directory,
        marks: &[Mark],
        index: &Index,
    ) -> Result<(), LogError> {
        if directory == Directory::GivenBack {
            return Ok(());
        }
        let Index { offsets, times, .. } = index;
        let (index_bytes, times_bytes) = (offsets.len() as u64, times.len() as u64);
        let sidecar = Sidecar { index_bytes, times_bytes, marks: marks.to_vec() }.encode();
        let disk = self.file.disk();
        for (extension, bytes) in [("index", offsets), ("timeindex", times), ("checksum", &sidecar)]
        {
            let path = self.file.path().with_extension(extension);
            if disk::read_if_there(disk, &path)?.is_none_or(|there| there != *bytes) {
                disk::replace(disk, &path, bytes)?;
            }
        }
        // Their names need not last, and the directory has those of segments: its sync must not fail where nobody is told.
        Ok(())
    }

    /// Has readers that still hold the segment write nothing any more.
    pub(crate) fn freeze(&self) {
        *lock(&self.directory) = Directory::GivenBack;
    }
}

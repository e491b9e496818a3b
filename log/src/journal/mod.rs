//! The commit journal: frames in a few preallocated files that are used in turn.
//!
//! | part | does |
//! |---|---|
//! | [`frame`] | one round's bytes: magic, sequence, generation, length, CRC, payload |
//! | [`entry`] | what a payload holds |
//! | [`scan`] | finds the frames that are there when the log is opened |
//!
//! # Invariants
//!
//! - A file is written again only when the *previous* checkpoint covers all its frames.
//! - Frames of one file have consecutive sequence numbers and generations that do not fall, so that what an earlier
//!   use left behind is recognised.
//! - Before the first frame goes to another file, all frames of the last one are on the disk.

pub(crate) mod entry;
pub(crate) mod frame;
pub(crate) mod scan;

use crate::disk::{failed, sync_dir};
use headwater_core::ports::log::LogError;
use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// As many files as there may be: two retained by checkpoints, one being covered, one being written.
pub(crate) const FILES_MAX: usize = 4;
/// A frame's buffer is given back when it grew past this.
const BUFFER_BYTES_KEPT: usize = 32 << 20;

/// One file of the journal.
#[derive(Debug)]
pub(crate) struct JournalFile {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    /// The sequence number of its last frame, 0 for none.
    pub(crate) last: u64,
}

/// The journal as the committer writes it.
#[derive(Debug)]
pub(crate) struct Journal {
    dir: PathBuf,
    file_bytes: u64,
    files: Vec<JournalFile>,
    current: usize,
    position: u64,
    sequence: u64,
    generation: u32,
    durable: u64,
    buffer: Vec<u8>,
}

/// The path of file `index`.
pub(crate) fn file_path(dir: &Path, index: usize) -> PathBuf {
    dir.join(format!("{index:02}.journal"))
}

impl Journal {
    /// A journal over `files` that goes on behind frame `sequence`; [`switch`](Self::switch) before the first frame.
    pub(crate) fn new(dir: PathBuf, file_bytes: u64, files: Vec<JournalFile>, sequence: u64, generation: u32) -> Self {
        let buffer = Vec::new();
        Self { dir, file_bytes, files, current: usize::MAX, position: 0, sequence, generation, durable: sequence, buffer }
    }

    /// The last frame's sequence number.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The generation that frames and batches are stamped with.
    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// How many files there are.
    pub(crate) fn files(&self) -> usize {
        self.files.len()
    }

    /// Starts a frame: its payload is appended to what is returned.
    pub(crate) fn begin(&mut self) -> &mut Vec<u8> {
        if self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer = Vec::new();
        }
        frame::begin(&mut self.buffer);
        &mut self.buffer
    }

    /// Whether the frame that was begun needs another file. A frame larger than a file gets one to itself.
    pub(crate) fn is_full(&self) -> bool {
        self.position > 0 && self.position + self.buffer.len() as u64 > self.file_bytes
    }

    /// Writes the frame that was begun, and puts it on the disk if `sync`.
    pub(crate) fn write(&mut self, sync: bool) -> Result<(), LogError> {
        frame::finish(&mut self.buffer, [self.sequence + 1, self.durable], self.generation);
        let target = self.files.get_mut(self.current).expect("a file is chosen before the first frame");
        target.file.write_all_at(&self.buffer, self.position).map_err(failed("write to", &target.path))?;
        self.sequence += 1;
        target.last = self.sequence;
        self.position += self.buffer.len() as u64;
        if sync { self.sync() } else { Ok(()) }
    }

    /// Puts all frames on the disk.
    pub(crate) fn sync(&mut self) -> Result<(), LogError> {
        if self.durable == self.sequence {
            return Ok(());
        }
        if let Some(current) = self.files.get(self.current) {
            current.file.sync_data().map_err(failed("sync", &current.path))?;
        }
        self.durable = self.sequence;
        Ok(())
    }

    /// Goes on at the start of a file whose frames are all covered by frame `retained`, or of a new one; `false` if
    /// there is none and there may be no more.
    pub(crate) fn switch(&mut self, retained: u64) -> Result<bool, LogError> {
        self.sync()?;
        let free = self.files.iter().enumerate().find(|(index, file)| *index != self.current && file.last <= retained);
        self.current = match free {
            Some((index, _)) => index,
            None if self.files.len() >= FILES_MAX => return Ok(false),
            None => {
                self.files.push(create(&file_path(&self.dir, self.files.len()), self.file_bytes)?);
                sync_dir(&self.dir)?;
                self.files.len() - 1
            }
        };
        self.position = 0;
        Ok(true)
    }
}

fn create(path: &Path, bytes: u64) -> Result<JournalFile, LogError> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).open(path).map_err(failed("create", path))?;
    match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        // A file system that cannot preallocate only makes syncs slower.
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
        Err(error) => return Err(failed("preallocate", path)(error.into())),
    }
    file.sync_all().map_err(failed("sync", path))?;
    Ok(JournalFile { path: path.to_owned(), file, last: 0 })
}

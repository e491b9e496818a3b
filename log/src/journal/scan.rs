//! Finding the frames that are there when the log is opened.
//!
//! # Invariants
//!
//! - What is given back is the longest run of valid frames after the checkpoint, from the place that the checkpoint names;
//!   what follows is a torn tail or stale.
//! - A frame that a later one says was on the disk, and that cannot be read, is damage and no torn tail.
//! - The generation is the latest of every whole frame, replayed or not: none is used twice.

use super::{
    FramePlace, JournalFile, Stamp,
    frame::{self, ALIGNMENT, FrameHeader, HEADER_BYTES, Label},
};
use crate::{
    disk::{self, failed},
    options::OpenError,
};
use headwater_core::{broken::broken, ports::disk::DiskFile};
use std::{io, path::Path};

/// How much of a file is read at once where it is searched.
const CHUNK_BYTES: usize = 1 << 20;

/// A frame that was found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) place: FramePlace,
    pub(crate) header: FrameHeader,
}

impl Frame {
    fn generation(&self) -> u32 {
        self.header.label.stamp.generation
    }
}

/// What the journal holds.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    /// The frames to replay, in order.
    pub(crate) replay: Vec<Frame>,
    /// The latest generation of any whole frame, 0 for none.
    pub(crate) generation: u32,
}

/// Where to look on from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScanStart {
    /// The log, frames of another do not count; and its latest known generation.
    pub(crate) stamp: Stamp,
    /// The last frame that the checkpoint covers.
    pub(crate) sequence: u64,
    /// Where the one after it was to be written, if not to the start of another file.
    pub(crate) next: FramePlace,
}

/// Looks for the frames after the checkpoint, and notes in `files` which of them is each one's last.
pub(crate) fn scan(files: &mut [JournalFile], from: ScanStart) -> Result<Scanned, OpenError> {
    let replay = follow(files, from)?;
    for frame in &replay {
        match files.get_mut(frame.place.file) {
            Some(file) => file.last = frame.header.label.sequence,
            None => broken("a frame lies in the file in which it was found"),
        }
    }
    let mut search = Search {
        log: from.stamp.log,
        next: from.sequence + replay.len() as u64 + 1,
        generation: from.stamp.generation,
    };
    for file in files.iter() {
        search.file(file)?;
    }
    Ok(Scanned { replay, generation: search.generation })
}

/// Whether a frame follows the checkpoint at once.
pub(crate) fn is_followed(files: &[JournalFile], from: ScanStart) -> Result<bool, OpenError> {
    Ok(!follow(files, from)?.is_empty())
}

/// Goes from frame to frame, from one file to the start of another where none follows.
fn follow(files: &[JournalFile], from: ScanStart) -> Result<Vec<Frame>, OpenError> {
    let mut replay: Vec<Frame> = Vec::new();
    // An older one is what a power cut left in front of the checkpoint.
    let (mut place, mut generation) = (from.next, from.stamp.generation);
    loop {
        let next = from.sequence + replay.len() as u64 + 1;
        let fits = |header: &FrameHeader| {
            let Label { stamp, sequence, .. } = header.label;
            stamp.log == from.stamp.log && stamp.generation >= generation && sequence == next
        };
        let mut found = whole_at(files, place, fits)?;
        if found.is_none() {
            for file in 0..files.len() {
                let other = whole_at(files, FramePlace { file, position: 0 }, fits)?;
                // Of two frames with one number, the one written later counts.
                found = found.into_iter().chain(other).max_by_key(Frame::generation);
            }
        }
        let Some(frame) = found else { return Ok(replay) };
        generation = frame.generation();
        place =
            FramePlace { position: frame.place.position + frame.header.stride(), ..frame.place };
        replay.push(frame);
    }
}

/// The whole frame at `place` if it is one that `fits`.
fn whole_at(
    files: &[JournalFile],
    place: FramePlace,
    fits: impl Fn(&FrameHeader) -> bool,
) -> Result<Option<Frame>, OpenError> {
    let Some(JournalFile { path, file, .. }) = files.get(place.file) else { return Ok(None) };
    let read = || {
        let bytes = disk::read_at(&**file, place.position, HEADER_BYTES)?;
        let Some(header) = frame::start(&bytes).filter(fits) else { return Ok(None) };
        let whole = is_whole(&**file, place.position, &header)?;
        Ok(whole.then_some(Frame { place, header }))
    };
    Ok(read().map_err(failed("read", path))?)
}

/// A look at all that is in the files, wherever it lies.
#[derive(Debug)]
struct Search {
    log: u64,
    /// The first frame that was not found.
    next: u64,
    /// The latest generation of a whole frame so far.
    generation: u32,
}

impl Search {
    /// Fails if a whole frame says that the missing one, or a later one, was on the disk.
    fn file(&mut self, JournalFile { path, file, .. }: &JournalFile) -> Result<(), OpenError> {
        let read_failed = |error| OpenError::from(failed("read", path)(error));
        let (length, mut at) = (file.length().map_err(read_failed)?, 0);
        while at < length {
            let chunk = disk::read_at(&**file, at, CHUNK_BYTES).map_err(read_failed)?;
            for (position, bytes) in (at..).step_by(ALIGNMENT).zip(chunk.chunks(ALIGNMENT)) {
                let Some(header) = frame::start(bytes) else { continue };
                let Label { stamp, durable, .. } = header.label;
                let tells = stamp.generation > self.generation || durable >= self.next;
                if stamp.log != self.log
                    || !tells
                    || !is_whole(&**file, position, &header).map_err(read_failed)?
                {
                    continue;
                }
                self.generation = self.generation.max(stamp.generation);
                if durable >= self.next {
                    return Err(lost(self.next, path, position));
                }
            }
            at += CHUNK_BYTES as u64;
        }
        Ok(())
    }
}

fn lost(frame: u64, path: &Path, position: u64) -> OpenError {
    let detail = format!(
        "frame {frame} was written and synced and cannot be read (the frame at byte {position} of {} follows it); \
         restore the directory from a backup",
        path.display()
    );
    OpenError::Damaged { path: path.parent().unwrap_or(path).to_owned(), detail }
}

fn is_whole(file: &dyn DiskFile, position: u64, header: &FrameHeader) -> io::Result<bool> {
    if header.bytes() > file.length()?.saturating_sub(position) {
        return Ok(false);
    }
    Ok(header.covers(&read_frame(file, position, header)?))
}

/// The frame's bytes, header included; fewer if the file ends early.
pub(crate) fn read_frame(
    file: &dyn DiskFile,
    position: u64,
    header: &FrameHeader,
) -> io::Result<Vec<u8>> {
    let length = usize::try_from(header.bytes()).unwrap_or(usize::MAX);
    disk::read_at(file, position, length)
}

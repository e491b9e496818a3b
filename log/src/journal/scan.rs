//! Finding the frames that are there when the log is opened.
//!
//! # Invariants
//!
//! - What is given back is the longest run of valid frames after the checkpoint; what follows is a torn tail or stale.
//! - A frame that a later one says was on the disk, and that cannot be read, is damage and no torn tail.

use super::{
    FILES_MAX, JournalFile, file_path,
    frame::{self, ALIGNMENT, FrameHeader, HEADER_BYTES, Start},
};
use crate::{
    disk::{self, failed},
    options::OpenError,
};
use headwater_core::ports::disk::{Disk, DiskFile};
use std::{collections::BTreeMap, io, path::Path};

/// Where a frame is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) file: usize,
    pub(crate) position: u64,
    pub(crate) header: FrameHeader,
}

/// What the journal holds.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) files: Vec<JournalFile>,
    /// The frames to replay, in order.
    pub(crate) replay: Vec<Place>,
    /// The latest generation of any frame after the checkpoint, 0 for none.
    pub(crate) generation: u32,
}

/// Where to look on from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct From {
    /// The log's number; frames of another do not count.
    pub(crate) log: u64,
    /// The last frame that the checkpoint covers.
    pub(crate) sequence: u64,
    /// How many files must be there.
    pub(crate) files: usize,
}

/// Looks through the journal's files for the frames after the checkpoint.
pub(crate) fn scan(disk: &dyn Disk, dir: &Path, from: From) -> Result<Scanned, OpenError> {
    let mut files: Vec<JournalFile> = Vec::new();
    let mut seen = Seen { from, frames: BTreeMap::new(), claims: Vec::new() };
    for index in 0..FILES_MAX.max(from.files) {
        let path = file_path(dir, index);
        let file = match disk::open(disk, &path)? {
            Some(file) => file,
            None if index >= from.files => break,
            None => {
                let detail = "the file is missing, and commits with it; restore it from a backup";
                return Err(OpenError::Damaged { path, detail: detail.to_owned() });
            }
        };
        let mut found = JournalFile { path, file, last: 0 };
        seen.scan_file(&mut found, index)?;
        files.push(found);
    }

    let Seen { mut frames, claims, .. } = seen;
    let generation = frames.values().map(|place| place.header.generation).max().unwrap_or_default();
    let mut replay: Vec<Place> = Vec::new();
    let mut next = from.sequence + 1;
    while let Some(place) = frames.remove(&next) {
        if replay.last().is_some_and(|before| before.header.generation > place.header.generation) {
            break;
        }
        replay.push(place);
        next += 1;
    }
    // Frames that were replayed make claims too, but only about those in front of them.
    if let Some((durable, path, position)) = claims.into_iter().max_by_key(|claim| claim.0)
        && durable >= next
    {
        let detail = format!(
            "frame {next} was written and synced and cannot be read (the frame at byte {position} of {} follows it); \
             restore the directory from a backup",
            path.display()
        );
        return Err(OpenError::Damaged { path: dir.to_owned(), detail });
    }
    Ok(Scanned { files, replay, generation })
}

/// A frame's statement that `.0` was on the disk, and where that frame is.
type Claim = (u64, std::path::PathBuf, u64);

/// What was found so far.
#[derive(Debug)]
struct Seen {
    from: From,
    frames: BTreeMap<u64, Place>,
    claims: Vec<Claim>,
}

impl Seen {
    fn scan_file(&mut self, found: &mut JournalFile, index: usize) -> Result<(), OpenError> {
        let read_failed = |error| OpenError::from(failed("read", &found.path)(error));
        let length = found.file.length().map_err(read_failed)?;
        let sequence = self.from.sequence;
        let mut position = 0;
        let mut before: Option<FrameHeader> = None;
        let mut in_run = true;
        while position < length {
            let bytes = disk::read_at(&*found.file, position, HEADER_BYTES).map_err(read_failed)?;
            let header = match frame::start(&bytes) {
                Start::Frame(header) if header.log == self.from.log => header,
                Start::Frame(_) | Start::Nothing => {
                    in_run = false;
                    position += ALIGNMENT as u64;
                    continue;
                }
            };
            let follows = before.is_none_or(|before| {
                header.sequence == before.sequence + 1 && header.generation >= before.generation
            });
            // Frames that the checkpoint covers only have to lead to those after it.
            let valid = header.sequence <= sequence
                || is_whole(&*found.file, position, &header).map_err(read_failed)?;
            in_run = in_run && follows && valid;
            if in_run {
                found.last = header.sequence;
                before = Some(header);
                if header.sequence > sequence {
                    self.insert(Place { file: index, position, header });
                }
            }
            // A torn frame claims nothing, even where the checkpoint covers it.
            if header.durable > sequence
                && is_whole(&*found.file, position, &header).map_err(read_failed)?
            {
                self.claims.push((header.durable, found.path.clone(), position));
            }
            position += if in_run { header.stride() } else { ALIGNMENT as u64 };
        }
        Ok(())
    }

    /// Of two frames with one number, the one written later counts.
    fn insert(&mut self, place: Place) {
        let there = self.frames.entry(place.header.sequence).or_insert(place);
        if there.header.generation < place.header.generation {
            *there = place;
        }
    }
}

fn is_whole(file: &dyn DiskFile, position: u64, header: &FrameHeader) -> io::Result<bool> {
    let left = file.length()?.saturating_sub(position);
    let length = HEADER_BYTES as u64 + u64::from(header.length);
    if length > left {
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
    disk::read_at(file, position, HEADER_BYTES + header.length as usize)
}

//! Finding the frames that are there when the log is opened.
//!
//! # Invariants
//!
//! - What is given back is the longest run of valid frames behind the checkpoint; what follows is a torn tail or stale.
//! - A frame that a later one says was on the disk, and that cannot be read, is damage and no torn tail.

use super::{
    FILES_MAX, JournalFile, file_path,
    frame::{self, ALIGNMENT, FrameHeader, HEADER_BYTES, Start},
};
use crate::{
    disk::{self, failed},
    options::OpenError,
};
use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io,
    path::Path,
};

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
}

/// Looks through the journal's files for the frames behind `sequence`.
pub(crate) fn scan(dir: &Path, sequence: u64, expected_files: usize) -> Result<Scanned, OpenError> {
    let mut files: Vec<JournalFile> = Vec::new();
    let mut frames = BTreeMap::new();
    let mut claims = Vec::new();
    for index in 0..FILES_MAX.max(expected_files) {
        let path = file_path(dir, index);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound && index >= expected_files => break,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(OpenError::Damaged { path, detail: "the file is missing".to_owned() });
            }
            Err(error) => return Err(failed("open", &path)(error).into()),
        };
        let mut found = JournalFile { path, file, last: 0 };
        scan_file(&mut found, index, sequence, &mut frames, &mut claims)?;
        files.push(found);
    }

    let mut replay: Vec<Place> = Vec::new();
    let mut next = sequence + 1;
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
    Ok(Scanned { files, replay })
}

/// A frame's statement that `.0` was on the disk, and where that frame is.
type Claim = (u64, std::path::PathBuf, u64);

fn scan_file(
    found: &mut JournalFile,
    index: usize,
    sequence: u64,
    frames: &mut BTreeMap<u64, Place>,
    claims: &mut Vec<Claim>,
) -> Result<(), OpenError> {
    let read_failed = |error| OpenError::from(failed("read", &found.path)(error));
    let length = found.file.metadata().map_err(read_failed)?.len();
    let mut position = 0;
    let mut before: Option<FrameHeader> = None;
    let mut in_run = true;
    while position < length {
        let header = match frame::start(&disk::read_at(&found.file, position, HEADER_BYTES).map_err(read_failed)?) {
            Start::Frame(header) => header,
            Start::Nothing => {
                in_run = false;
                position += ALIGNMENT as u64;
                continue;
            }
        };
        let follows = before.is_none_or(|before| {
            header.sequence == before.sequence + 1 && header.generation >= before.generation
        });
        // Frames that the checkpoint covers only have to lead to those behind it.
        let valid = header.sequence <= sequence || is_whole(&found.file, position, &header).map_err(read_failed)?;
        in_run = in_run && follows && valid;
        if in_run {
            found.last = header.sequence;
            before = Some(header);
            if header.sequence > sequence {
                insert(frames, Place { file: index, position, header });
            }
        }
        if valid && header.durable > sequence {
            claims.push((header.durable, found.path.clone(), position));
        }
        position += if in_run { header.stride() } else { ALIGNMENT as u64 };
    }
    Ok(())
}

/// Of two frames with one number, the one written later counts.
fn insert(frames: &mut BTreeMap<u64, Place>, place: Place) {
    let there = frames.entry(place.header.sequence).or_insert(place);
    if there.header.generation < place.header.generation {
        *there = place;
    }
}

fn is_whole(file: &File, position: u64, header: &FrameHeader) -> io::Result<bool> {
    let left = file.metadata()?.len().saturating_sub(position);
    let length = HEADER_BYTES as u64 + u64::from(header.length);
    if length > left {
        return Ok(false);
    }
    Ok(header.covers(&read_frame(file, position, header)?))
}

/// The frame's bytes, header included; fewer if the file ends early.
pub(crate) fn read_frame(file: &File, position: u64, header: &FrameHeader) -> io::Result<Vec<u8>> {
    disk::read_at(file, position, HEADER_BYTES + header.length as usize)
}

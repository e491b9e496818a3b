//! One segment of a partition: a run of record batches in one file, with its marks and indexes.
//!
//! | file | holds | if lost |
//! |---|---|---|
//! | `{base}.log` | the batches, back to back, in Kafka's format | the data |
//! | `{base}.checksum` | a sealed segment's marks: where its runs of about 1 MiB end, and the checksums of their headers | rebuilt at the next read |
//! | `{base}.index`, `{base}.timeindex` | Kafka's sparse indexes of a sealed segment, for Kafka's tools | rebuilt with it |
//!
//! | module | does |
//! |---|---|
//! | `mark` | marks and runs: where to read from, and what was checked |
//! | `read`, `buffer` | records by offset, offsets by timestamp |
//! | `flush` | puts a segment on the disk |
//! | `hints`, `sidecar`, `index`, `walk` | the files beside the log file |
//! | `check` | all of it against a checkpoint, for a backup's way back |
//!
//! # Invariants
//!
//! - Only the committer appends, through the page cache; what lies past the last checkpoint's length is in the
//!   journal too.
//! - What is read is compared with its checksums, a run at a time, when it is first read and when it came from the disk
//!   again; damage is reported, never stepped over.
//! - Nothing is walked when the log is opened: the checkpoint has the marks of the segment that still grows.
//!
//! # Not here
//!
//! When to roll is the partition's choice.

mod buffer;
mod check;
mod flush;
mod hints;
mod index;
mod mark;
mod read;
mod sidecar;
pub(crate) mod walk;

pub(crate) use check::check;
pub(crate) use mark::{Mark, put_marks, take_marks};

use crate::{
    batch::Header,
    disk::{
        self, failed,
        files::{Exhausted, FileHandle},
        read, write,
    },
};
use flush::UnsyncedBy;
use headwater_core::{
    broken::broken,
    ports::{
        disk::{Disk, Found},
        log::LogError,
    },
    record::TopicPartition,
};
use hints::Directory;
use mark::Runs;
use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Mutex, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// What the names of hint files end with.
pub(crate) const HINTS: [&str; 3] = ["index", "timeindex", "checksum"];
const MISSING: &str = "the file is missing";

/// What a checkpoint says of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentMeta {
    pub(crate) base: i64,
    /// Where its runs end; of a sealed segment, whose sidecar has them all, only the last. None if it is empty.
    pub(crate) marks: Vec<Mark>,
}

impl SegmentMeta {
    /// The bytes of its log file that the checkpoint covers.
    pub(crate) fn length(&self) -> u64 {
        self.marks.last().map_or(0, |end| end.position)
    }
}

/// A log file and what is known of it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base: i64,
    partition: TopicPartition,
    file: FileHandle,
    state: RwLock<State>,
    /// Held while hint files are read or written.
    directory: Mutex<Directory>,
    /// That the file was missing or too short when the log was opened: what is left can be read.
    short: Option<LogError>,
    sealed: AtomicBool,
    /// Whether it has bytes that no sync covers.
    dirty: AtomicBool,
    /// Whether no sync covers its name.
    nameless: AtomicBool,
}

#[derive(Debug)]
struct State {
    runs: Runs,
    marks: Marks,
    /// How far a sync reached.
    synced: Mark,
    unsynced_by: UnsyncedBy,
}

/// Whether it is known where the runs end.
#[derive(Debug)]
enum Marks {
    /// No: only the last mark is.
    Unread,
    Known,
    /// It cannot be known.
    Damaged(LogError),
}

/// Which of its partition's segments a segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The last one, which alone is appended to.
    Last,
    /// One in front of others.
    Sealed,
}

/// The path of a segment's log file.
pub(crate) fn log_path(dir: &Path, base: i64) -> PathBuf {
    dir.join(format!("{base:020}.log"))
}

impl Segment {
    /// A segment over an empty file. What had its name before were remains from after a sync point, which the journal
    /// holds.
    pub(crate) fn create(file: FileHandle, partition: &TopicPartition, base: i64) -> Self {
        let meta = SegmentMeta { base, marks: Vec::new() };
        let segment = Self::with(file, partition, &meta);
        segment.nameless.store(true, Ordering::Release);
        segment
    }

    /// The segment that a checkpoint knows. Bytes after its length are cut off, and the cut is synced, if it is the
    /// partition's last.
    pub(crate) fn open(
        file: FileHandle,
        partition: &TopicPartition,
        meta: &SegmentMeta,
        standing: Standing,
    ) -> Result<Self, LogError> {
        let mut segment = Self::with(file, partition, meta);
        if standing == Standing::Sealed {
            segment.sealed.store(true, Ordering::Release);
            write(&segment.state).marks = Marks::Unread;
        }
        let (path, end) = (segment.file.path(), segment.end());
        let Some(Found::File(length)) = disk::find(segment.file.disk(), path)? else {
            segment.short = Some(segment.corrupt(Mark::start(meta.base), MISSING));
            return Ok(segment);
        };
        if length < end.position {
            let found = Mark { position: length, ..Mark::start(meta.base) };
            let error = segment.corrupt(found, "the file is shorter than what was synced");
            segment.short = Some(error);
            return Ok(segment);
        }
        if standing == Standing::Last && length > end.position {
            tracing::info!(path = %path.display(), from = length, to = end.position, "segment cut back to its sync point");
            let open = segment.file.get(Exhausted::Fail)?.ok_or_else(|| vanished(path))?;
            disk::set_length(&*open, path, end.position)?;
            disk::sync_data(&*open, path)?;
        }
        Ok(segment)
    }

    fn with(file: FileHandle, partition: &TopicPartition, meta: &SegmentMeta) -> Self {
        let runs = Runs::new(meta.base, &meta.marks);
        let synced = runs.end();
        let state = State { runs, marks: Marks::Known, synced, unsynced_by: UnsyncedBy::Nobody };
        Self {
            base: meta.base,
            partition: partition.clone(),
            file,
            state: RwLock::new(state),
            directory: Mutex::new(Directory::Held),
            short: None,
            sealed: AtomicBool::new(false),
            dirty: AtomicBool::new(false),
            nameless: AtomicBool::new(false),
        }
    }

    /// What a checkpoint must know of it.
    pub(crate) fn meta(&self) -> SegmentMeta {
        let state = read(&self.state);
        let marks = if self.sealed.load(Ordering::Acquire) {
            state.runs.last().into_iter().collect()
        } else {
            state.runs.marks()
        };
        SegmentMeta { base: self.base, marks }
    }

    /// Where its log file is.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    fn end(&self) -> Mark {
        read(&self.state).runs.end()
    }

    /// One past its last offset.
    pub(crate) fn next_offset(&self) -> i64 {
        self.end().next_offset
    }

    /// Its length in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.end().position
    }

    /// That it was damaged when the log was opened.
    pub(crate) fn known_damage(&self) -> Option<LogError> {
        self.short.clone()
    }

    /// Marks it dirty; `true` if it was not.
    pub(crate) fn mark_dirty(&self) -> bool {
        !self.dirty.swap(true, Ordering::AcqRel)
    }

    /// Writes batches after the others, unsynced and at once.
    pub(crate) fn append(&self, batches: &[u8], headers: &[Header]) -> Result<(), LogError> {
        let end = self.end();
        let mut next_offset = end.next_offset;
        for header in headers {
            if header.base_offset < next_offset {
                return Err(self.corrupt(end, "what is to be appended has offsets that are taken"));
            }
            next_offset = header.last_offset.saturating_add(1);
        }
        let path = self.file.path();
        let file = self.file.get(Exhausted::Wait)?.ok_or_else(|| vanished(path))?;
        disk::write_at(&*file, path, batches, end.position)?;
        let mut state = write(&self.state);
        state.unsynced_by.wrote(&file);
        let mut rest = batches;
        for header in headers {
            state.runs.append(header, rest);
            let Some(after) = rest.get(header.size..) else {
                broken("the headers are those of the batches")
            };
            rest = after;
        }
        Ok(())
    }

    /// Takes no more appends; the hint files are written by [`flush`](Self::flush).
    pub(crate) fn seal(&self) {
        self.sealed.store(true, Ordering::Release);
    }

    /// Whether it takes no more appends.
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire) || self.short.is_some()
    }

    /// Removes its files.
    pub(crate) fn remove(&self) -> Result<(), LogError> {
        self.freeze();
        remove_files(self.file.disk(), self.file.path())
    }

    /// Damage between the batch boundary at `found` and the next that is known.
    fn corrupt(&self, found: Mark, detail: &str) -> LogError {
        LogError::Corrupt {
            partition: self.partition.clone(),
            path: self.file.path().to_owned(),
            position: found.position,
            offset: found.next_offset,
            detail: detail.to_owned(),
        }
    }
}

/// A file that was there a moment ago is gone.
fn vanished(path: &Path) -> LogError {
    failed("open", path)(io::ErrorKind::NotFound.into())
}

/// Removes a log file and its hint files, as far as they are there.
pub(crate) fn remove_files(disk: &dyn Disk, log: &Path) -> Result<(), LogError> {
    for extension in HINTS.into_iter().chain(["log"]) {
        disk::remove(disk, &log.with_extension(extension))?;
    }
    Ok(())
}

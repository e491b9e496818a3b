//! One segment of a partition: a run of record batches in one file, with its indexes.
//!
//! | file | holds | if lost |
//! |---|---|---|
//! | `{base}.log` | the batches, back to back, in Kafka's format | the data |
//! | `{base}.index`, `{base}.timeindex` | Kafka's sparse indexes of a sealed segment | rebuilt at the next read |
//! | `{base}.checksum` | checksums over a sealed segment's batch headers | rebuilt at the next read |
//!
//! # Invariants
//!
//! - Only the committer appends, through the page cache; what lies past the last checkpoint's length is in the
//!   journal too.
//! - What was there when the log was opened is walked and compared with the checkpoint's checksum before anything of
//!   it is read; damage is kept and reported, never stepped over.
//!
//! # Not here
//!
//! When to roll is the partition's choice.

mod buffer;
mod flush;
pub(crate) mod index;
mod read;
pub(crate) mod sidecar;
pub(crate) mod walk;

use crate::{
    batch::Header,
    disk::{
        self, failed,
        files::{Exhausted, FileHandle},
        lock, read, write,
    },
};
use flush::Writer;
use headwater_core::{
    ports::{
        disk::{Disk, Found},
        log::LogError,
    },
    record::TopicPartition,
};
use index::Index;
use sidecar::{Headers, Mark, Sidecar};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Mutex, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};
use walk::{Damage, Step, Stop, Walk};

const MISSING: &str = "the file is missing";

/// What a checkpoint says of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentMeta {
    pub(crate) base: i64,
    pub(crate) length: u64,
    pub(crate) next_offset: i64,
    pub(crate) headers_crc: u32,
}

/// A log file and what is known of it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base: i64,
    partition: TopicPartition,
    file: FileHandle,
    state: RwLock<State>,
    /// Held while the part that was there at open is walked.
    walking: Mutex<()>,
    /// Held while hint files are written; whether they may no longer be.
    frozen: Mutex<bool>,
    sealed: AtomicBool,
    /// Whether it has bytes that no sync covers.
    dirty: AtomicBool,
    /// Whether no sync covers its name.
    nameless: AtomicBool,
}

#[derive(Debug)]
struct State {
    length: u64,
    next_offset: i64,
    headers: Headers,
    index: Index,
    /// What was there at open.
    prefix: SegmentMeta,
    walked: bool,
    damage: Option<Damage>,
    /// How far a sync reached.
    synced: Mark,
    writer: Writer,
}

/// The path of a segment's log file.
pub(crate) fn log_path(dir: &Path, base: i64) -> PathBuf {
    dir.join(format!("{base:020}.log"))
}

impl Segment {
    /// A segment over an empty file. What had its name before were remains from after a sync point, which the journal
    /// holds.
    pub(crate) fn create(file: FileHandle, partition: &TopicPartition, base: i64) -> Self {
        let meta = SegmentMeta { base, length: 0, next_offset: base, headers_crc: 0 };
        let segment = Self::with(file, partition, meta);
        segment.nameless.store(true, Ordering::Release);
        segment
    }

    /// The segment that a checkpoint knows. Bytes after its length are cut off, and the cut is synced, if it is the
    /// partition's last.
    pub(crate) fn open(
        file: FileHandle,
        partition: &TopicPartition,
        meta: SegmentMeta,
        last: bool,
    ) -> Result<Self, LogError> {
        let path = file.path();
        let Some(Found::File(length)) = disk::find(file.disk(), path)? else {
            return Ok(Self::damaged(file, partition, meta, (0, MISSING)));
        };
        if length < meta.length {
            let found = (length, "the file is shorter than what was synced");
            return Ok(Self::damaged(file, partition, meta, found));
        }
        if last && length > meta.length {
            tracing::info!(path = %path.display(), from = length, to = meta.length, "segment cut back to its sync point");
            let open = file.get(Exhausted::Fail)?.ok_or_else(|| vanished(path))?;
            disk::set_length(&*open, path, meta.length)?;
            disk::sync_data(&*open, path)?;
        }
        let segment = Self::with(file, partition, meta);
        segment.sealed.store(!last, Ordering::Release);
        Ok(segment)
    }

    fn with(file: FileHandle, partition: &TopicPartition, meta: SegmentMeta) -> Self {
        let state = State {
            length: meta.length,
            next_offset: meta.next_offset,
            headers: Headers::continued(meta.headers_crc, meta.length),
            index: Index::default(),
            prefix: meta,
            walked: meta.length == 0,
            damage: None,
            synced: Mark { position: meta.length, crc: meta.headers_crc },
            writer: Writer::Nobody,
        };
        Self {
            base: meta.base,
            partition: partition.clone(),
            file,
            state: RwLock::new(state),
            walking: Mutex::new(()),
            frozen: Mutex::new(false),
            sealed: AtomicBool::new(false),
            dirty: AtomicBool::new(false),
            nameless: AtomicBool::new(false),
        }
    }

    fn damaged(
        file: FileHandle,
        partition: &TopicPartition,
        meta: SegmentMeta,
        (position, detail): (u64, &str),
    ) -> Self {
        let segment = Self::with(file, partition, meta);
        let mut state = write(&segment.state);
        state.damage = Some(Damage { position, offset: meta.base, detail: detail.to_owned() });
        // Which offset the damage hits is learnt by walking what is left, when it is read.
        state.walked = false;
        drop(state);
        segment.sealed.store(true, Ordering::Release);
        segment
    }

    /// What a checkpoint must know of it.
    pub(crate) fn meta(&self) -> SegmentMeta {
        let state = read(&self.state);
        SegmentMeta {
            base: self.base,
            length: state.length,
            next_offset: state.next_offset,
            headers_crc: state.headers.crc,
        }
    }

    /// One past its last offset.
    pub(crate) fn next_offset(&self) -> i64 {
        read(&self.state).next_offset
    }

    /// Its length in bytes.
    pub(crate) fn length(&self) -> u64 {
        read(&self.state).length
    }

    /// What is known to be damaged, as an error.
    pub(crate) fn known_damage(&self) -> Option<LogError> {
        read(&self.state).damage.clone().map(|damage| self.corrupt(damage))
    }

    /// Marks it dirty; `true` if it was not.
    pub(crate) fn mark_dirty(&self) -> bool {
        !self.dirty.swap(true, Ordering::AcqRel)
    }

    /// Writes one batch after the others, unsynced.
    pub(crate) fn append(&self, batch: &[u8], header: &Header) -> Result<(), LogError> {
        let path = self.file.path();
        let file = self.file.get(Exhausted::Wait)?.ok_or_else(|| vanished(path))?;
        let position = self.length();
        disk::write_at(&*file, path, batch, position)?;
        let mut state = write(&self.state);
        state.writer.wrote(&file);
        assert!(
            header.base_offset >= state.next_offset,
            "offsets of {} must not go back",
            self.partition
        );
        let end = position + batch.len() as u64;
        state.index.note(self.base, position, header);
        state.headers.note(batch, end);
        state.length = end;
        state.next_offset = header.last_offset + 1;
        Ok(())
    }

    /// Takes no more appends; the hint files are written by [`flush`](Self::flush).
    pub(crate) fn seal(&self) {
        self.sealed.store(true, Ordering::Release);
    }

    /// Whether it takes no more appends.
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// Walks what was there at open, once: builds its index and compares its headers with the checkpoint's checksum.
    fn walk_prefix(&self) -> Result<(), LogError> {
        if read(&self.state).walked {
            return Ok(());
        }
        let _alone = lock(&self.walking);
        let (prefix, damage) = {
            let state = read(&self.state);
            if state.walked {
                return Ok(());
            }
            (state.prefix, state.damage.clone())
        };
        let (index, headers, found) = self.walk_to(prefix, damage)?;
        let mut state = write(&self.state);
        state.index.prepend(index);
        let mut marks = headers.marks;
        marks.append(&mut state.headers.marks);
        state.headers.marks = marks;
        state.damage = found;
        state.walked = true;
        drop(state);
        if self.is_sealed() {
            self.refresh_hints()?;
        }
        Ok(())
    }

    fn walk_to(
        &self,
        prefix: SegmentMeta,
        known: Option<Damage>,
    ) -> Result<(Index, Headers, Option<Damage>), LogError> {
        let (mut index, mut headers) = (Index::default(), Headers::default());
        let Some(file) = self.file.get(Exhausted::Fail)? else {
            return Ok((index, headers, known.or_else(|| Some(self.missing()))));
        };
        let expected = self.expected_marks(prefix)?;
        let mut expected = expected.iter().peekable();
        let mut good = (0, self.base);
        let mut walk = Walk::new(&*file, 0, prefix.length, self.base);
        loop {
            let Step { position, header, bytes } = match walk.next() {
                Ok(Some(step)) => step,
                Ok(None) => return Ok((index, headers, known)),
                Err(Stop::Io(error)) => return Err(failed("read", self.file.path())(error)),
                Err(Stop::Damaged(Damage { position: at, detail, .. })) => {
                    // The culprit may be a batch in front, so nothing past the last checksum that fits is trusted.
                    let (position, offset) = good;
                    let detail = format!(
                        "{detail} (at byte {at}; the batches up to this byte fit their checksum)"
                    );
                    return Ok((index, headers, Some(Damage { position, offset, detail })));
                }
            };
            let end = position + header.size as u64;
            index.note(self.base, position, &header);
            headers.note(bytes, end);
            let Some(mark) = expected.next_if(|mark| mark.position <= end) else { continue };
            if mark.position != end || mark.crc != headers.crc {
                let (position, offset) = good;
                let detail = "the batch headers from here on differ from their checksum".to_owned();
                return Ok((index, headers, Some(Damage { position, offset, detail })));
            }
            good = (end, header.last_offset + 1);
        }
    }

    /// The checksums to compare with: the sidecar's, if it is there, and the checkpoint's at the end.
    fn expected_marks(&self, prefix: SegmentMeta) -> Result<Vec<Mark>, LogError> {
        let whole = Mark { position: prefix.length, crc: prefix.headers_crc };
        let path = self.file.path().with_extension("checksum");
        let read = || disk::read_if_there(self.file.disk(), &path);
        let bytes = self.file.files().with_room(Exhausted::Fail, read)?.unwrap_or_default();
        let mut marks = match Sidecar::decode(&bytes) {
            Ok(sidecar) if sidecar.length == prefix.length => sidecar.marks,
            Ok(_) | Err(_) => Vec::new(),
        };
        if marks.last() != Some(&whole) {
            marks.clear();
            marks.push(whole);
        }
        Ok(marks)
    }

    /// Removes its files.
    pub(crate) fn remove(&self) -> Result<(), LogError> {
        remove_files(self.file.disk(), self.file.path())
    }

    fn missing(&self) -> Damage {
        Damage { position: 0, offset: self.base, detail: MISSING.to_owned() }
    }

    fn corrupt(&self, damage: Damage) -> LogError {
        let Damage { position, offset, detail } = damage;
        LogError::Corrupt {
            partition: self.partition.clone(),
            path: self.file.path().to_owned(),
            position,
            offset,
            detail,
        }
    }
}

/// A file that was there a moment ago is gone.
fn vanished(path: &Path) -> LogError {
    failed("open", path)(io::ErrorKind::NotFound.into())
}

/// Removes a log file and its hint files, as far as they are there.
pub(crate) fn remove_files(disk: &dyn Disk, log: &Path) -> Result<(), LogError> {
    for extension in ["index", "timeindex", "checksum", "log"] {
        disk::remove(disk, &log.with_extension(extension))?;
    }
    Ok(())
}

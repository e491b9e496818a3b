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
//! - Only the committer appends, through the page cache; what lies behind the last checkpoint's length is in the
//!   journal too.
//! - What was there when the log was opened is walked and compared with the checkpoint's checksum before anything of
//!   it is read; damage is kept and reported, never stepped over.
//!
//! # Not here
//!
//! When to roll is the partition's choice.

mod buffer;
pub(crate) mod index;
mod read;
pub(crate) mod sidecar;
pub(crate) mod walk;

use crate::{
    batch::Header,
    disk::{self, Action, failed, lock, read, write},
};
use headwater_core::{ports::log::LogError, record::TopicPartition};
use index::Index;
use sidecar::{Headers, Mark, Sidecar};
use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{
        Mutex, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};
use walk::{Damage, Step, Stop, Walk};

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
    path: PathBuf,
    /// `None`: the file was missing when the log was opened.
    file: Option<File>,
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
}

/// The path of a segment's log file.
pub(crate) fn log_path(dir: &Path, base: i64) -> PathBuf {
    dir.join(format!("{base:020}.log"))
}

impl Segment {
    /// An empty segment; bytes under its name are remains from behind a sync point, which the journal holds.
    pub(crate) fn create(
        dir: &Path,
        partition: &TopicPartition,
        base: i64,
    ) -> Result<Self, LogError> {
        let path = log_path(dir, base);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = disk::allowed(Action::Create, &path).and_then(|()| options.open(&path));
        let file = file.map_err(failed("create", &path))?;
        let meta = SegmentMeta { base, length: 0, next_offset: base, headers_crc: 0 };
        let segment = Self::with(path, partition, Some(file), meta);
        segment.nameless.store(true, Ordering::Release);
        Ok(segment)
    }

    /// The segment that a checkpoint knows. Bytes behind its length are cut off, and the cut is synced, if it is the
    /// partition's last.
    pub(crate) fn open(
        dir: &Path,
        partition: &TopicPartition,
        meta: SegmentMeta,
        last: bool,
    ) -> Result<Self, LogError> {
        let path = log_path(dir, meta.base);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::damaged(path, partition, None, meta, (0, "the file is missing")));
            }
            Err(error) => return Err(failed("open", &path)(error)),
        };
        let length = file.metadata().map_err(failed("look at", &path))?.len();
        if length < meta.length {
            let found = (length, "the file is shorter than what was synced");
            return Ok(Self::damaged(path, partition, Some(file), meta, found));
        }
        if last && length > meta.length {
            tracing::info!(path = %path.display(), from = length, to = meta.length, "segment cut back to its sync point");
            disk::set_length(&file, &path, meta.length)?;
            disk::sync_data(&file, &path)?;
        }
        let segment = Self::with(path, partition, Some(file), meta);
        segment.sealed.store(!last, Ordering::Release);
        Ok(segment)
    }

    fn with(
        path: PathBuf,
        partition: &TopicPartition,
        file: Option<File>,
        meta: SegmentMeta,
    ) -> Self {
        let state = State {
            length: meta.length,
            next_offset: meta.next_offset,
            headers: Headers::continued(meta.headers_crc, meta.length),
            index: Index::default(),
            prefix: meta,
            walked: meta.length == 0,
            damage: None,
        };
        Self {
            base: meta.base,
            partition: partition.clone(),
            path,
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
        path: PathBuf,
        partition: &TopicPartition,
        file: Option<File>,
        meta: SegmentMeta,
        (position, detail): (u64, &str),
    ) -> Self {
        let segment = Self::with(path, partition, file, meta);
        let mut state = write(&segment.state);
        state.damage = Some(Damage { position, offset: meta.base, detail: detail.to_owned() });
        // Which offset the damage hits is learnt by walking what is left, when it is read.
        state.walked = segment.file.is_none();
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
    pub(crate) fn soil(&self) -> bool {
        !self.dirty.swap(true, Ordering::AcqRel)
    }

    /// Writes one batch behind the others, unsynced.
    pub(crate) fn append(&self, batch: &[u8], header: &Header) -> Result<(), LogError> {
        let file = self
            .file
            .as_ref()
            .expect("a segment whose file is missing is sealed and takes no appends");
        let position = self.length();
        disk::write_at(file, &self.path, batch, position)?;
        let mut state = write(&self.state);
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

    /// Takes no more appends; the hint files are written by [`settle`](Self::settle).
    pub(crate) fn seal(&self) {
        self.sealed.store(true, Ordering::Release);
    }

    /// Whether it takes no more appends.
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// Syncs its bytes and its name, and writes the hint files if it is sealed.
    pub(crate) fn settle(&self) -> Result<(), LogError> {
        // Acquires what a concurrent `soil` that found it dirty had written before.
        self.dirty.swap(false, Ordering::AcqRel);
        if let Some(file) = &self.file {
            disk::sync_data(file, &self.path)?;
        }
        if let Some(dir) = self.path.parent().filter(|_| self.nameless.load(Ordering::Acquire)) {
            disk::sync_dir(dir)?;
            self.nameless.store(false, Ordering::Release);
        }
        if self.is_sealed() {
            self.walk_prefix()?;
            self.refresh_hints()?;
        }
        Ok(())
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
        let Some(file) = &self.file else { return Ok((index, headers, known)) };
        let expected = self.expected_marks(prefix)?;
        let mut expected = expected.iter().peekable();
        let mut good = (0, self.base);
        let mut walk = Walk::new(file, 0, prefix.length, self.base);
        loop {
            let Step { position, header, bytes } = match walk.next() {
                Ok(Some(step)) => step,
                Ok(None) => return Ok((index, headers, known)),
                Err(Stop::Io(error)) => return Err(failed("read", &self.path)(error)),
                Err(Stop::Damaged(Damage { position: at, detail, .. })) => {
                    // The culprit may be a batch in front, so nothing behind the last checksum that fits is trusted.
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
        let bytes = disk::read_if_there(&self.path.with_extension("checksum"))?.unwrap_or_default();
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

    /// Has readers that go on with the segment write nothing any more: the directory is given back.
    pub(crate) fn freeze(&self) {
        *lock(&self.frozen) = true;
    }

    /// Writes those of a sealed segment's hint files that are missing or differ from what the log file says.
    fn refresh_hints(&self) -> Result<(), LogError> {
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
        let mut replaced = false;
        for (extension, bytes) in
            [("index", offsets), ("timeindex", times), ("checksum", sidecar.encode())]
        {
            let path = self.path.with_extension(extension);
            if disk::read_if_there(&path)?.is_none_or(|there| there != bytes) {
                disk::replace(&path, &bytes)?;
                replaced = true;
            }
        }
        match self.path.parent() {
            Some(dir) if replaced => disk::sync_dir(dir),
            Some(_) | None => Ok(()),
        }
    }

    /// Removes its files.
    pub(crate) fn remove(&self) -> Result<(), LogError> {
        remove_files(&self.path)
    }

    fn corrupt(&self, damage: Damage) -> LogError {
        let Damage { position, offset, detail } = damage;
        LogError::Corrupt {
            partition: self.partition.clone(),
            path: self.path.clone(),
            position,
            offset,
            detail,
        }
    }
}

/// Removes a log file and its hint files, as far as they are there.
pub(crate) fn remove_files(log: &Path) -> Result<(), LogError> {
    for extension in ["index", "timeindex", "checksum", "log"] {
        disk::remove(&log.with_extension(extension))?;
    }
    Ok(())
}

//! One partition: its segments, its offsets, and what a reader may see of them.
//!
//! # Invariants
//!
//! - `start <= end <= pending_end`; readers see `[start, end)` only.
//! - All ends that a frame moves do so at once for readers: under a lock that all partitions share, as positions of groups do.
//! - The committer alone appends and drops segments; a reader that holds one may still read it.
//!
//! # Not here
//!
//! Which offsets a commit gets is decided where commits are taken in; durability is the journal's.

mod epochs;

pub(crate) use epochs::{EpochStart, Epochs};

use crate::{
    backup::Listed,
    batch::Header,
    cursor::Malformed,
    disk::{
        failed,
        files::{FileHandle, Files},
        is_dir, make_dir, read, write,
    },
    segment::{Segment, SegmentMeta, Standing, log_path},
    wakers::Wakers,
};
use headwater_core::{
    broken::broken,
    ports::{
        disk::Disk,
        log::{Cleanup, Fetched, LogError, Offsets},
    },
    record::{Timestamp, TopicPartition},
};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock, RwLock,
        atomic::{AtomicI64, Ordering},
    },
};

/// Segments of a purged topic are smaller, since only whole ones are removed.
const PURGE_SEGMENT_BYTES: u64 = 16 << 20;
/// Kafka's index files hold positions and relative offsets of 31 bits.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// What the committer has to sync, write hints of, or remove with the next checkpoints.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    pub(crate) dirty: Vec<Arc<Segment>>,
    pub(crate) dropped: Vec<Arc<Segment>>,
    pub(crate) partitions: Vec<Arc<Partition>>,
    /// Those in which a group's position was committed.
    pub(crate) committed: Vec<Arc<Partition>>,
    /// Whether partitions got a directory whose name is not synced.
    pub(crate) new_dirs: bool,
}

/// What a checkpoint says of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PartitionMeta {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) epochs: Epochs,
    pub(crate) segments: Vec<SegmentMeta>,
}

/// Where the log's files are, and through what they are opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogFiles<'a> {
    pub(crate) root: &'a Path,
    pub(crate) files: &'a Arc<Files>,
}

/// How a partition's records are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    pub(crate) cleanup: Cleanup,
    pub(crate) segment_bytes: u64,
}

/// A partition that is open.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) id: TopicPartition,
    pub(crate) cleanup: Cleanup,
    dir: PathBuf,
    files: Arc<Files>,
    segment_bytes: u64,
    segments: RwLock<Vec<Arc<Segment>>>,
    epochs: RwLock<Epochs>,
    start: AtomicI64,
    end: AtomicI64,
    /// All partitions' own: held for writing while a frame is shown, for reading while an end is read.
    shown: Arc<RwLock<()>>,
    /// The end once all commits that were taken in are through; changed only while commits are taken in.
    pub(crate) pending_end: AtomicI64,
    /// Where the next batch goes at the earliest; the committer's own.
    written_end: AtomicI64,
    damage: OnceLock<LogError>,
    pub(crate) wakers: Arc<Wakers>,
    /// Who wants to know of groups' positions.
    pub(crate) offset_wakers: Arc<Wakers>,
}

impl Partition {
    /// Opens what the checkpoint knows of the partition; for a new one, the default.
    pub(crate) fn open(
        LogFiles { root, files }: LogFiles<'_>,
        id: TopicPartition,
        Kept { cleanup, segment_bytes }: Kept,
        meta: &PartitionMeta,
        shown: &Arc<RwLock<()>>,
    ) -> Result<Self, LogError> {
        let dir = root.join(id.to_string());
        let segment_bytes = if cleanup == Cleanup::Purge {
            segment_bytes.min(PURGE_SEGMENT_BYTES)
        } else {
            segment_bytes
        };
        let mut segments = Vec::new();
        let damage = OnceLock::new();
        for (index, segment) in meta.segments.iter().enumerate() {
            let is_last = index + 1 == meta.segments.len();
            let standing = if is_last { Standing::Last } else { Standing::Sealed };
            let file = FileHandle::new(files, log_path(&dir, segment.base));
            let segment = Segment::open(file, &id, segment, standing)?;
            if let Some(error) = segment.known_damage() {
                tracing::error!(%error, "partition is damaged");
                let _first = damage.set(error);
            }
            segments.push(Arc::new(segment));
        }
        Ok(Self {
            id,
            cleanup,
            dir,
            files: Arc::clone(files),
            segment_bytes: segment_bytes.min(SEGMENT_BYTES_MAX),
            segments: RwLock::new(segments),
            epochs: RwLock::new(meta.epochs.clone()),
            start: meta.start.into(),
            end: meta.end.into(),
            shown: Arc::clone(shown),
            pending_end: meta.end.into(),
            written_end: meta.end.into(),
            damage,
            wakers: Arc::default(),
            offset_wakers: Arc::default(),
        })
    }

    /// What a checkpoint must know.
    pub(crate) fn meta(&self) -> PartitionMeta {
        let segments = read(&self.segments).iter().map(|segment| segment.meta()).collect();
        PartitionMeta {
            start: self.start.load(Ordering::Acquire),
            end: self.written_end.load(Ordering::Acquire),
            epochs: read(&self.epochs).clone(),
            segments,
        }
    }

    /// Adds the segments that a checkpoint would list now; nothing is appended meanwhile.
    pub(crate) fn list(&self, listed: &mut Vec<Listed>) {
        listed.extend(read(&self.segments).iter().map(|segment| Listed {
            partition: self.id.to_string(),
            segment: Arc::clone(segment),
            bytes: segment.length(),
            is_sealed: segment.is_sealed(),
        }));
    }

    pub(crate) fn offsets(&self) -> Offsets {
        // The start first: it never passes an end that was read after it.
        let start = self.start.load(Ordering::Acquire);
        let shown = read(&self.shown);
        let end = self.end.load(Ordering::Acquire);
        drop(shown);
        Offsets { start, end }
    }

    /// The generation that wrote the record at `offset`, or the last one in front of it, that readers may see.
    pub(crate) fn generation_at(&self, offset: i64) -> Option<u32> {
        read(&self.epochs).at(offset.min(self.offsets().end - 1))
    }

    /// The damage found so far, if there is some: the partition takes no more appends.
    pub(crate) fn damage(&self) -> Option<LogError> {
        self.damage.get().cloned()
    }

    /// Writes encoded batches after the others, through the page cache.
    pub(crate) fn append(
        self: &Arc<Self>,
        batches: &[u8],
        touched: &mut Touched,
    ) -> Result<(), LogError> {
        let mut rest = batches;
        while !rest.is_empty() {
            let (first, ..) = split(rest).map_err(|why| self.malformed(why))?;
            if first.base_offset < self.written_end.load(Ordering::Acquire) {
                return Err(self.malformed(Malformed("it has offsets that are taken")));
            }
            let segment = self.segment_for(&first, touched)?;
            let (headers, length) = self.run_for(&segment, rest)?;
            let (run, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            segment.append(run, &headers)?;
            for header in &headers {
                if read(&self.epochs).are_before(header.leader_epoch) {
                    write(&self.epochs).note(header.leader_epoch, header.base_offset);
                }
                self.written_end.store(header.last_offset + 1, Ordering::Release);
            }
            if segment.mark_dirty() {
                touched.dirty.push(segment);
            }
            rest = after;
        }
        touched.partitions.push(Arc::clone(self));
        Ok(())
    }

    /// The batches at the front of `batches` that the segment takes, at least one, and their length: they are written at
    /// once.
    fn run_for(&self, segment: &Segment, batches: &[u8]) -> Result<(Vec<Header>, usize), LogError> {
        let (mut headers, mut length) = (Vec::new(), 0);
        while let Some(rest) = batches.get(length..).filter(|rest| !rest.is_empty()) {
            let (header, ..) = split(rest).map_err(|why| self.malformed(why))?;
            if length > 0 && !self.fits(segment, length as u64, &header) {
                break;
            }
            length += header.size;
            headers.push(header);
        }
        Ok((headers, length))
    }

    /// Whether the segment, with `pending` bytes more than it has, takes the batch.
    fn fits(&self, segment: &Segment, pending: u64, header: &Header) -> bool {
        let length = segment.length() + pending;
        (length == 0 || length + header.size as u64 <= self.segment_bytes)
            && header.last_offset - segment.base <= i64::from(i32::MAX)
    }

    fn segment_for(
        &self,
        header: &Header,
        touched: &mut Touched,
    ) -> Result<Arc<Segment>, LogError> {
        let last = read(&self.segments).last().map(Arc::clone);
        if let Some(last) = &last {
            if !last.is_sealed() && self.fits(last, 0, header) {
                return Ok(Arc::clone(last));
            }
            last.seal();
            // Its hint files are due with the next checkpoint.
            if last.mark_dirty() {
                touched.dirty.push(Arc::clone(last));
            }
        } else {
            make_dir(self.files.disk(), &self.dir)?;
            touched.new_dirs = true;
        }
        let file = FileHandle::create(&self.files, log_path(&self.dir, header.base_offset))?;
        let segment = Arc::new(Segment::create(file, &self.id, header.base_offset));
        write(&self.segments).push(Arc::clone(&segment));
        Ok(segment)
    }

    /// Has readers write no hint files any more.
    pub(crate) fn freeze(&self) {
        read(&self.segments).iter().for_each(|segment| segment.freeze());
    }

    /// Shows readers all that was appended; whether the end has moved. Whoever calls it holds [`shown`](Self::shown).
    pub(crate) fn publish(&self) -> bool {
        let written = self.written_end.load(Ordering::Acquire);
        let before = self.end.swap(written, Ordering::AcqRel);
        if before > written {
            broken("the high watermark of a partition does not go back");
        }
        before < written
    }

    /// Drops whole segments below `offset`, which the topic's reader has committed.
    pub(crate) fn purge(&self, offset: i64, touched: &mut Touched) {
        if self.cleanup != Cleanup::Purge {
            return;
        }
        let mut segments = write(&self.segments);
        let sealed = segments.len().saturating_sub(1);
        let below = segments
            .iter()
            .take(sealed)
            .take_while(|segment| segment.next_offset() <= offset)
            .count();
        if below == 0 {
            return;
        }
        touched.dropped.extend(segments.drain(..below));
        if let Some(first) = segments.first() {
            // Readers resolve offsets against the start, so it moves while they cannot look at the segments.
            self.start.fetch_max(first.base, Ordering::AcqRel);
            write(&self.epochs).prune(first.base);
        }
    }

    /// Records from `offset` on.
    pub(crate) fn fetch(&self, offset: i64, bytes_max: usize) -> Result<Fetched, LogError> {
        let mut next = offset;
        loop {
            let (segment, end) = self.segment_at(next)?;
            let Some(segment) = segment.filter(|_| next < end) else {
                return Ok(Fetched { next_offset: end, end, ..Fetched::default() });
            };
            match segment.fetch(next, end, bytes_max).map_err(|error| self.remember(next, error))? {
                Some((records, next_offset)) if !records.is_empty() => {
                    return Ok(Fetched { records, next_offset, end });
                }
                Some((_, next_offset)) => next = next_offset,
                None => next = segment.next_offset().clamp(next + 1, end),
            }
        }
    }

    /// The first offset whose record has at least this timestamp.
    pub(crate) fn offset_for_timestamp(
        &self,
        timestamp: Timestamp,
    ) -> Result<Option<i64>, LogError> {
        let Offsets { mut start, end } = self.offsets();
        while start < end {
            let looked = self.offset_in_segment_at(start, timestamp, end);
            if let Err(LogError::OffsetOutOfRange { start: moved, .. }) = &looked
                && *moved > start
            {
                // It was purged meanwhile.
                start = *moved;
                continue;
            }
            let (found, next) = looked?;
            if found.is_some() {
                return Ok(found);
            }
            start = next;
        }
        Ok(None)
    }

    /// What its segment says of the timestamp, from `start` on, and where to look after it.
    fn offset_in_segment_at(
        &self,
        start: i64,
        timestamp: Timestamp,
        end: i64,
    ) -> Result<(Option<i64>, i64), LogError> {
        let (Some(segment), _) = self.segment_at(start)? else { return Ok((None, end)) };
        let found = segment.offset_for_timestamp(timestamp, start, end);
        let found = found.map_err(|error| self.remember(start, error))?;
        Ok((found, segment.next_offset().max(start + 1)))
    }

    /// The segment that holds `offset`, or the first one after it, and the end.
    fn segment_at(&self, offset: i64) -> Result<(Option<Arc<Segment>>, i64), LogError> {
        // Purging moves the start while nobody looks at the segments: what lies at or after it is among them.
        let segments = read(&self.segments);
        let Offsets { start, end } = self.offsets();
        if offset < start || offset > end {
            return Err(self.out_of_range(offset));
        }
        let at = segments.partition_point(|segment| segment.next_offset() <= offset);
        Ok((segments.get(at).map(Arc::clone), end))
    }

    fn out_of_range(&self, offset: i64) -> LogError {
        let Offsets { start, end } = self.offsets();
        LogError::OffsetOutOfRange { partition: self.id.clone(), offset, start, end }
    }

    /// Keeps the damage that a read at `offset` found; none if the segment was purged under it.
    fn remember(&self, offset: i64, error: LogError) -> LogError {
        if !matches!(error, LogError::Corrupt { .. }) {
            return error;
        }
        if offset < self.start.load(Ordering::Acquire) {
            return self.out_of_range(offset);
        }
        let _first = self.damage.set(error.clone());
        error
    }

    fn malformed(&self, Malformed(why): Malformed) -> LogError {
        LogError::Corrupt {
            partition: self.id.clone(),
            path: self.dir.clone(),
            position: 0,
            offset: self.written_end.load(Ordering::Acquire),
            detail: format!("what is to be appended is malformed: {why}"),
        }
    }
}

/// The first batch of encoded ones, and what follows it.
fn split(batches: &[u8]) -> Result<(Header, &[u8], &[u8]), Malformed> {
    let header = Header::parse(batches)?;
    let parts = batches.split_at_checked(header.size);
    let (batch, after) = parts.ok_or(Malformed("a batch ends early"))?;
    Ok((header, batch, after))
}

/// Removes segments that purging dropped before a crash: files below the start that no checkpoint lists.
pub(crate) fn remove_purged(
    disk: &dyn Disk,
    root: &Path,
    id: &TopicPartition,
    meta: &PartitionMeta,
) -> Result<(), LogError> {
    let dir = root.join(id.to_string());
    if !is_dir(disk, &dir)? {
        return Ok(());
    }
    for path in disk.list(&dir).map_err(failed("list", &dir))? {
        let base = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .and_then(|stem| stem.parse::<i64>().ok());
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        let Some(base) = base.filter(|_| is_log) else { continue };
        if base < meta.start && meta.segments.first().is_some_and(|first| base < first.base) {
            crate::segment::remove_files(disk, &path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{batch::tests::batches_of, disk::local::LocalDisk};
    use headwater_core::record::TopicName;

    #[test]
    fn what_is_replayed_below_the_end_is_damage_also_where_another_segment_would_take_it() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(Arc::new(LocalDisk), 8);
        let id = TopicPartition::new(TopicName::new("t").unwrap(), 0);
        let kept = Kept { cleanup: Cleanup::Keep, segment_bytes: 1 };
        let files = LogFiles { root: dir.path(), files: &files };
        let opened =
            Partition::open(files, id, kept, &PartitionMeta::default(), &Arc::default()).unwrap();
        let (opened, mut touched) = (Arc::new(opened), Touched::default());
        opened.append(&batches_of(100), &mut touched).unwrap();
        opened.publish();
        let end = opened.offsets().end;
        let error = opened.append(&batches_of(100), &mut touched).unwrap_err();
        assert!(matches!(error, LogError::Corrupt { offset, .. } if offset == end), "{error}");
        assert!(!opened.publish());
        assert_eq!(opened.offsets().end, end);
    }
}

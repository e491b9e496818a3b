//! A log in memory: the log port as simply as it can be written, for tests and as a reference.
//!
//! # Invariants
//!
//! - A commit is applied whole, under one lock, or refused before anything is changed.
//! - It holds at most as many bytes as it was made for; past that, commits are refused.
//!
//! # Not here
//!
//! Durability, compaction and purging: what is committed stays until the log is dropped.

use headwater_core::{
    ports::log::{
        Commit, CommitTicket, Committed, Fetched, GroupOffset, Log, LogError, Offsets, Owner,
        Receipt, TopicSpec, Waker,
    },
    record::{RecordSet, RecordSetBuilder, Timestamp, TopicPartition},
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What it holds unless told otherwise.
const BYTES_MAX: usize = 1 << 30;
/// The longest metadata of a committed position.
const METADATA_BYTES_MAX: usize = 1 << 20;

/// A [`Log`] in memory. Commits are acknowledged at once.
///
/// ```
/// use headwater_log::MemoryLog;
/// use headwater_core::{ports::log::{Log, TopicSpec}, record::{TopicName, TopicPartition}};
///
/// let log = MemoryLog::new();
/// let topic = TopicName::new("cars").unwrap();
/// log.create_topic(&TopicSpec::new(topic.clone(), 2)).unwrap();
/// assert_eq!(log.offsets(&TopicPartition::new(topic, 1)).unwrap().end, 0);
/// ```
pub struct MemoryLog {
    inner: Mutex<Inner>,
    wakers: Mutex<Vec<Waker>>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Inner {
    topics: Vec<TopicSpec>,
    partitions: BTreeMap<TopicPartition, Partition>,
    committed: BTreeMap<(Arc<str>, TopicPartition), Committed>,
    epochs: BTreeMap<Arc<str>, u64>,
    bytes: usize,
    syncs: u64,
}

#[derive(Debug, Default)]
struct Partition {
    /// Runs of records without gaps inside; gaps may lie between them.
    sets: Vec<RecordSet>,
    end: i64,
}

impl fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        f.debug_struct("MemoryLog")
            .field("topics", &inner.topics.len())
            .field("bytes", &inner.bytes)
            .finish()
    }
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryLog {
    /// An empty log that holds up to 1 GiB.
    #[must_use]
    pub fn new() -> Self {
        Self::with_bytes_max(BYTES_MAX)
    }

    /// An empty log that refuses commits which would take it past `bytes_max`.
    #[must_use]
    pub fn with_bytes_max(bytes_max: usize) -> Self {
        Self { inner: Mutex::default(), wakers: Mutex::default(), bytes_max }
    }

    /// How often [`Log::sync`] was called.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic of another thread cannot leave it half changed: changes are checked before the first is made.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Done(Receipt);

impl CommitTicket for Done {
    fn wait(self: Box<Self>) -> Result<Receipt, LogError> {
        Ok(self.0)
    }
}

impl Inner {
    fn partition(&self, partition: &TopicPartition) -> Result<&Partition, LogError> {
        self.partitions
            .get(partition)
            .ok_or_else(|| LogError::UnknownPartition { partition: partition.clone() })
    }

    /// Checks everything about a commit that could make it fail, and says how many bytes it adds.
    fn check(&self, commit: &Commit, bytes_max: usize) -> Result<usize, LogError> {
        if let Some(Owner { group, epoch }) = &commit.owner {
            let current = self.epochs.get(group).copied().unwrap_or(0);
            if *epoch != current {
                return Err(LogError::Fenced { group: Arc::clone(group), epoch: *epoch, current });
            }
        }
        let mut ends: BTreeMap<&TopicPartition, i64> = BTreeMap::new();
        let mut bytes = 0;
        for append in &commit.appends {
            let end = self.partition(&append.partition)?.end;
            let end = ends.entry(&append.partition).or_insert(end);
            let base = append.base_offset.unwrap_or(*end);
            if base < *end {
                let refused =
                    format!("offset {base} of {} lies below its end {end}", append.partition);
                return Err(LogError::Refused(refused));
            }
            *end = base + length(&append.records);
            bytes += append.records.size_bytes();
        }
        for GroupOffset { partition, committed, .. } in &commit.offsets {
            self.partition(partition)?;
            if committed.metadata.len() > METADATA_BYTES_MAX {
                return Err(LogError::Refused(format!(
                    "the metadata for {partition} is longer than 1 MiB"
                )));
            }
        }
        if self.bytes + bytes > bytes_max {
            return Err(LogError::Refused(format!(
                "the log in memory holds at most {bytes_max} bytes"
            )));
        }
        Ok(bytes)
    }

    fn apply(&mut self, commit: Commit, bytes: usize) -> Receipt {
        let mut receipt = Receipt::default();
        for append in commit.appends {
            let partition = self.partitions.entry(append.partition).or_default();
            let base = append.base_offset.unwrap_or(partition.end);
            receipt.base_offsets.push(base);
            partition.end = base + length(&append.records);
            if !append.records.is_empty() {
                partition.sets.push(RecordSet::clone(&append.records).at_offset(base));
            }
        }
        for GroupOffset { group, partition, committed } in commit.offsets {
            self.committed.insert((group, partition), committed);
        }
        self.bytes += bytes;
        receipt
    }
}

fn length(records: &RecordSet) -> i64 {
    i64::try_from(records.len()).unwrap_or(i64::MAX)
}

/// The records of a run from `offset` on.
fn from_offset(set: &RecordSet, offset: i64) -> Result<RecordSet, LogError> {
    let mut part = RecordSetBuilder::default();
    for record in set.iter().filter(|record| record.offset >= offset) {
        part.push_encoded(record.timestamp, record.key, record.headers, |out| {
            out.extend_from_slice(record.value.unwrap_or_default());
            Ok::<_, headwater_core::record::SetFull>(record.value.is_some())
        })
        .map_err(|full| LogError::Refused(full.to_string()))?;
    }
    Ok(part.build().at_offset(offset))
}

impl Log for MemoryLog {
    fn create_topic(&self, spec: &TopicSpec) -> Result<(), LogError> {
        let mut inner = self.lock();
        if let Some(existing) = inner.topics.iter().find(|topic| topic.name == spec.name) {
            let (topic, existing, wanted) =
                (spec.name.clone(), existing.partitions, spec.partitions);
            let differs = LogError::TopicDiffers { topic, existing, wanted };
            return if existing == wanted { Ok(()) } else { Err(differs) };
        }
        for place in 0..spec.partitions {
            inner
                .partitions
                .insert(TopicPartition::new(spec.name.clone(), place), Partition::default());
        }
        inner.topics.push(spec.clone());
        inner.topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(())
    }

    fn topics(&self) -> Result<Vec<TopicSpec>, LogError> {
        Ok(self.lock().topics.clone())
    }

    fn fetch(
        &self,
        partition: &TopicPartition,
        offset: i64,
        bytes_max: usize,
    ) -> Result<Fetched, LogError> {
        let inner = self.lock();
        let held = inner.partition(partition)?;
        if offset < 0 || offset > held.end {
            let partition = partition.clone();
            return Err(LogError::OffsetOutOfRange { partition, offset, start: 0, end: held.end });
        }
        let last_of = |set: &RecordSet| set.iter().next_back().map_or(-1, |record| record.offset);
        let first = held.sets.partition_point(|set| last_of(set) < offset);
        let mut records = RecordSetBuilder::default();
        let mut next_offset = held.end;
        for set in held.sets.iter().skip(first) {
            if !records.is_empty() && records.size_bytes() + set.size_bytes() > bytes_max {
                next_offset = set.get(0).map_or(next_offset, |record| record.offset);
                break;
            }
            let starts_before = set.get(0).is_some_and(|record| record.offset < offset);
            let part = if starts_before { from_offset(set, offset)? } else { set.clone() };
            records.extend(&part).map_err(|full| LogError::Refused(full.to_string()))?;
        }
        Ok(Fetched { records: records.build(), next_offset, end: held.end })
    }

    fn offsets(&self, partition: &TopicPartition) -> Result<Offsets, LogError> {
        Ok(Offsets { start: 0, end: self.lock().partition(partition)?.end })
    }

    fn offset_for_timestamp(
        &self,
        partition: &TopicPartition,
        timestamp: Timestamp,
    ) -> Result<Option<i64>, LogError> {
        let inner = self.lock();
        let mut records = inner.partition(partition)?.sets.iter().flat_map(RecordSet::iter);
        Ok(records.find(|record| record.timestamp >= timestamp).map(|record| record.offset))
    }

    fn claim(&self, group: &str) -> Result<Owner, LogError> {
        let group: Arc<str> = group.into();
        let mut inner = self.lock();
        let epoch = inner.epochs.entry(Arc::clone(&group)).or_insert(0);
        *epoch += 1;
        Ok(Owner { group, epoch: *epoch })
    }

    fn commit(&self, commit: Commit) -> Result<Box<dyn CommitTicket>, LogError> {
        let mut inner = self.lock();
        let bytes = inner.check(&commit, self.bytes_max)?;
        let moved = !commit.appends.is_empty();
        let receipt = inner.apply(commit, bytes);
        drop(inner);
        if moved {
            // Called without the log's lock, so that a waker may read from the log.
            let wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner).clone();
            wakers.iter().for_each(|waker| waker());
        }
        Ok(Box::new(Done(receipt)))
    }

    fn committed(
        &self,
        group: &str,
        partition: &TopicPartition,
    ) -> Result<Option<Committed>, LogError> {
        Ok(self.lock().committed.get(&(group.into(), partition.clone())).cloned())
    }

    fn sync(&self) -> Result<(), LogError> {
        self.lock().syncs += 1;
        Ok(())
    }

    fn wake(&self, waker: Waker) {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::{
        ports::log::Append,
        record::{Headers, TopicName},
    };

    fn cars() -> TopicPartition {
        TopicPartition::new(TopicName::new("cars").unwrap(), 0)
    }

    fn log() -> MemoryLog {
        let log = MemoryLog::with_bytes_max(4_096);
        log.create_topic(&TopicSpec::new(cars().topic, 1)).unwrap();
        log
    }

    fn append(values: &[&str], base_offset: Option<i64>) -> Append {
        let mut records = RecordSetBuilder::default();
        for (timestamp, value) in (0..).zip(values) {
            records.push(timestamp, None, Some(value.as_bytes()), &Headers::new()).unwrap();
        }
        Append { partition: cars(), base_offset, records: Arc::new(records.build()) }
    }

    fn commit(log: &MemoryLog, appends: Vec<Append>) -> Result<Receipt, LogError> {
        log.commit(Commit { appends, ..Commit::default() })?.wait()
    }

    fn read(log: &MemoryLog, offset: i64, bytes_max: usize) -> (Vec<(i64, String)>, i64) {
        let fetched = log.fetch(&cars(), offset, bytes_max).unwrap();
        let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap().to_vec()).unwrap();
        (fetched.records.iter().map(|r| (r.offset, text(r.value))).collect(), fetched.next_offset)
    }

    #[test]
    fn a_fetch_starts_inside_a_set_and_passes_over_gaps() {
        let log = log();
        let receipt =
            commit(&log, vec![append(&["a", "b"], None), append(&["c"], Some(7))]).unwrap();
        assert_eq!(receipt.base_offsets, [0, 7]);
        let b_and_c = [(1, "b".to_owned()), (7, "c".to_owned())];
        assert_eq!(read(&log, 1, 1_000), (b_and_c.to_vec(), 8));
        assert_eq!(read(&log, 1, 1), (b_and_c[..1].to_vec(), 7));
        assert_eq!(read(&log, 8, 1), (Vec::new(), 8));
        assert!(matches!(log.fetch(&cars(), 9, 1), Err(LogError::OffsetOutOfRange { end: 8, .. })));
    }

    #[test]
    fn a_refused_commit_changes_nothing() {
        let log = log();
        let first = log.claim("g").unwrap();
        let second = log.claim("g").unwrap();
        let fenced =
            Commit { owner: Some(first), appends: vec![append(&["a"], None)], offsets: Vec::new() };
        assert!(matches!(log.commit(fenced), Err(LogError::Fenced { current: 2, .. })));
        assert_eq!(second.epoch, 2);
        assert!(commit(&log, vec![append(&["a"], Some(3)), append(&["b"], Some(1))]).is_err());
        assert!(commit(&log, vec![append(&[&"x".repeat(5_000)], None)]).is_err());
        assert_eq!(log.offsets(&cars()).unwrap().end, 0);
    }
}

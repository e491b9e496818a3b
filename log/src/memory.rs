//! A log in memory: the log port as simply as it can be written, for tests and as a reference.
//!
//! # Invariants
//!
//! - A commit is applied whole, under one lock, or refused before anything is changed.
//! - It holds at most as many bytes as it was made for; past that, commits are refused.
//! - A topic that is to be purged loses all that lies below a committed offset at once, so that whoever reads it again finds out.
//!
//! # Not here
//!
//! Durability and compaction: what is committed of other topics stays until the log is dropped.

use crate::{
    claims::Claims,
    identity::random_id,
    limits::{
        LIMITS, check_commit, check_group, check_offset, check_record, missing_topics, offsets_for,
    },
    wakers::Wakers,
};
use headwater_core::{
    broken::broken,
    ports::log::{
        Append, Claim, Cleanup, Commit, CommitTicket, Committed, Fetched, GroupOffset, Limits, Log,
        LogError, LogId, Offsets, Owner, Receipt, RecordEpoch, Subscription, TopicSpec, Waker,
    },
    record::{
        RecordRef, RecordSet, RecordSetBuilder, SetFull, Timestamp, TopicName, TopicPartition,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt, slice,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What it holds unless told otherwise.
const BYTES_MAX: usize = 1 << 30;

/// A [`Log`] in memory. Commits are acknowledged at once.
///
/// ```
/// use headwater_core::{
///     ports::log::{Append, Commit, Log, TopicSpec},
///     record::{Headers, RecordSetBuilder, TopicName, TopicPartition},
/// };
/// use headwater_log::MemoryLog;
///
/// let log = MemoryLog::new();
/// let cars = TopicName::new("cars")?;
/// log.create_topics(&[TopicSpec::new(cars.clone(), 2)])?;
///
/// let mut records = RecordSetBuilder::default();
/// records.push(5, Some(b"vin"), Some(b"97"), &Headers::new())?;
/// let partition = TopicPartition::new(cars, 1);
/// let records = records.build().into();
/// let append = Append { partition: partition.clone(), base_offset: None, records };
/// let receipt = log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
/// assert_eq!(receipt.base_offsets, [0]);
/// assert_eq!(log.offsets(&partition)?.end, 1);
/// assert_eq!(log.fetch(&partition, 0, 1 << 20)?.records.get(0).unwrap().value, Some(&b"97"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MemoryLog {
    id: LogId,
    inner: Mutex<Inner>,
    claims: Claims,
    /// Who wants to know of new topics.
    topic_wakers: Arc<Wakers>,
    bytes_max: usize,
    limits: Limits,
}

#[derive(Debug, Default)]
struct Inner {
    topics: BTreeMap<TopicName, TopicSpec>,
    partitions: BTreeMap<TopicPartition, Partition>,
    committed: BTreeMap<(Arc<str>, TopicPartition), Committed>,
    epochs: BTreeMap<Arc<str>, u64>,
    bytes: usize,
    syncs: u64,
}

#[derive(Debug, Default)]
struct Partition {
    /// Runs of records without gaps inside; gaps may lie between them.
    sets: VecDeque<RecordSet>,
    /// The first offset that is held; the first run may begin below it.
    start: i64,
    end: i64,
    wakers: Arc<Wakers>,
    /// Who wants to know of groups' positions.
    offset_wakers: Arc<Wakers>,
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
    /// An empty log that holds up to 1 GiB, with the limits of the log on disk.
    #[must_use]
    pub fn new() -> Self {
        Self {
            id: random_id(),
            inner: Mutex::default(),
            claims: Claims::default(),
            topic_wakers: Arc::default(),
            bytes_max: BYTES_MAX,
            limits: LIMITS,
        }
    }

    /// Refuses commits which would take it past `bytes_max`.
    #[must_use]
    pub fn with_bytes_max(mut self, bytes_max: usize) -> Self {
        self.bytes_max = bytes_max;
        self
    }

    /// Refuses what is larger than `limits`.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
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

impl Inner {
    fn partition(&self, partition: &TopicPartition) -> Result<&Partition, LogError> {
        self.partitions
            .get(partition)
            .ok_or_else(|| LogError::UnknownPartition { partition: partition.clone() })
    }

    fn partitions_of(&self, topics: &[TopicName]) -> Result<Vec<TopicPartition>, LogError> {
        let mut all = Vec::new();
        for topic in topics {
            let spec = self.topics.get(topic);
            let spec = spec.ok_or_else(|| LogError::UnknownTopic { topic: topic.clone() })?;
            let numbers = 0..spec.partitions;
            all.extend(numbers.map(|number| TopicPartition::new(topic.clone(), number)));
        }
        Ok(all)
    }

    /// Checks everything about a commit that could make it fail, and says how many bytes it adds.
    fn check(&self, commit: &Commit, limits: &Limits, bytes_max: usize) -> Result<usize, LogError> {
        if let Some(Owner { group, epoch }) = &commit.owner {
            let current = self.epochs.get(group).copied().unwrap_or(0);
            if *epoch != current {
                return Err(LogError::Fenced { group: Arc::clone(group), epoch: *epoch, current });
            }
        }
        let mut ends: BTreeMap<&TopicPartition, i64> = BTreeMap::new();
        let mut bytes = 0;
        for Append { partition, base_offset, records } in &commit.appends {
            let end = self.partition(partition)?.end;
            let end = ends.entry(partition).or_insert(end);
            for (index, record) in records.iter().enumerate() {
                check_record(partition, index, &record, limits)?;
            }
            let offsets = offsets_for(partition, *base_offset, *end, records.len())?;
            if !offsets.is_empty() {
                *end = offsets.end;
            }
            bytes += records.size_bytes();
        }
        for offset in &commit.offsets {
            self.partition(&offset.partition)?;
            check_offset(offset, limits)?;
        }
        check_commit(bytes, limits)?;
        if self.bytes + bytes > bytes_max {
            return Err(LogError::Full { bytes, bytes_max });
        }
        Ok(bytes)
    }

    /// Whom a commit wakes: those of each partition that it appends to, and of each that it commits a position in, once.
    fn moved_by(&self, commit: &Commit) -> Vec<Arc<Wakers>> {
        let appends = commit.appends.iter().filter(|append| !append.records.is_empty());
        let moved: BTreeSet<_> = appends.map(|append| &append.partition).collect();
        let committed: BTreeSet<_> = commit.offsets.iter().map(|it| &it.partition).collect();
        let held = |partition| self.partitions.get(partition);
        let moved = moved.into_iter().filter_map(held).map(|held| &held.wakers);
        let committed = committed.into_iter().filter_map(held).map(|held| &held.offset_wakers);
        moved.chain(committed).map(Arc::clone).collect()
    }

    fn apply(&mut self, commit: Commit, bytes: usize) -> Receipt {
        let mut receipt = Receipt::default();
        for append in commit.appends {
            let partition = self.partitions.entry(append.partition).or_default();
            let base = append.base_offset.unwrap_or(partition.end);
            receipt.base_offsets.push(base);
            if !append.records.is_empty() {
                partition.end = base + length(&append.records);
                partition.sets.push_back(RecordSet::clone(&append.records).at_offset(base));
            }
        }
        self.bytes += bytes;
        for GroupOffset { group, partition, committed } in commit.offsets {
            self.purge(&partition, committed.offset);
            self.committed.insert((group, partition), committed);
        }
        receipt
    }

    /// Drops what lies below `offset`, which the reader has committed, if the topic is to be purged.
    fn purge(&mut self, at: &TopicPartition, offset: i64) {
        let cleanup = self.topics.get(&at.topic).map(|spec| spec.cleanup);
        let Some(held) = self.partitions.get_mut(at).filter(|_| cleanup == Some(Cleanup::Purge))
        else {
            return;
        };
        held.start = held.start.max(offset.min(held.end));
        let start = held.start;
        while let Some(below) = held.sets.pop_front_if(|set| last_of(set) < start) {
            self.bytes -= below.size_bytes();
        }
    }
}

fn last_of(set: &RecordSet) -> i64 {
    set.iter().next_back().map_or(-1, |record| record.offset)
}

fn length(records: &RecordSet) -> i64 {
    i64::try_from(records.len()).unwrap_or(i64::MAX)
}

/// The records of a run from `offset` on.
fn from_offset(set: &RecordSet, offset: i64) -> RecordSet {
    let mut part = RecordSetBuilder::default();
    for record in set.iter().filter(|record| record.offset >= offset) {
        let pushed = part.push_encoded(record.timestamp, record.key, record.headers, |out| {
            out.extend_from_slice(record.value.unwrap_or_default());
            Ok::<_, SetFull>(record.value.is_some())
        });
        pushed.unwrap_or_else(|_| broken("a part of a set fits where the whole did"));
    }
    part.build().at_offset(offset)
}

impl Log for MemoryLog {
    fn id(&self) -> LogId {
        self.id.clone()
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn create_topics(&self, specs: &[TopicSpec]) -> Result<(), LogError> {
        let mut inner = self.lock();
        let existing = |name: &_| inner.topics.get(name).map(|topic: &TopicSpec| topic.partitions);
        let missing = missing_topics(specs, existing)?;
        if missing.is_empty() {
            return Ok(());
        }
        for spec in missing {
            for number in 0..spec.partitions {
                let id = TopicPartition::new(spec.name.clone(), number);
                inner.partitions.insert(id, Partition::default());
            }
            inner.topics.insert(spec.name.clone(), spec);
        }
        drop(inner);
        self.topic_wakers.wake();
        Ok(())
    }

    fn add_partitions(&self, topic: &TopicName, partitions: u32) -> Result<(), LogError> {
        let mut inner = self.lock();
        let spec = inner.topics.get(topic).cloned();
        let spec = spec.ok_or_else(|| LogError::UnknownTopic { topic: topic.clone() })?;
        let wider = TopicSpec { partitions, ..spec.clone() };
        missing_topics(slice::from_ref(&wider), |_| {
            (spec.partitions > partitions).then_some(spec.partitions)
        })?;
        for number in spec.partitions..partitions {
            let id = TopicPartition::new(topic.clone(), number);
            inner.partitions.insert(id, Partition::default());
        }
        inner.topics.insert(topic.clone(), wider);
        Ok(())
    }

    fn topics(&self) -> Result<Vec<TopicSpec>, LogError> {
        Ok(self.lock().topics.values().cloned().collect())
    }

    fn fetch(
        &self,
        partition: &TopicPartition,
        offset: i64,
        bytes_max: usize,
    ) -> Result<Fetched, LogError> {
        let inner = self.lock();
        let held = inner.partition(partition)?;
        if offset < held.start || offset > held.end {
            let (partition, start, end) = (partition.clone(), held.start, held.end);
            return Err(LogError::OffsetOutOfRange { partition, offset, start, end });
        }
        let first_of = |set: &RecordSet| set.get(0).map_or(held.end, |record| record.offset);
        let first = held.sets.partition_point(|set| last_of(set) < offset);
        let mut records = RecordSetBuilder::default();
        let mut next_offset = held.end;
        for set in held.sets.iter().skip(first) {
            if !records.is_empty() && records.size_bytes() + set.size_bytes() > bytes_max {
                next_offset = first_of(set);
                break;
            }
            let starts_before = set.get(0).is_some_and(|record| record.offset < offset);
            let part = if starts_before { from_offset(set, offset) } else { set.clone() };
            if records.extend(&part).is_err() {
                next_offset = first_of(set);
                break;
            }
        }
        Ok(Fetched { records: records.build(), next_offset, end: held.end })
    }

    fn offsets(&self, partition: &TopicPartition) -> Result<Offsets, LogError> {
        let inner = self.lock();
        let Partition { start, end, .. } = *inner.partition(partition)?;
        Ok(Offsets { start, end })
    }

    /// All of its records have one history, its own.
    fn record_epoch(
        &self,
        partition: &TopicPartition,
        offset: i64,
    ) -> Result<Option<RecordEpoch>, LogError> {
        let inner = self.lock();
        let held = inner.partition(partition)?;
        let first = held.sets.front().and_then(|set| set.get(0));
        let is_there = first.is_some_and(|first| first.offset.max(held.start) <= offset);
        Ok(is_there.then(|| RecordEpoch::new(self.id.as_str())))
    }

    fn offset_for_timestamp(
        &self,
        partition: &TopicPartition,
        timestamp: Timestamp,
    ) -> Result<Option<i64>, LogError> {
        let inner = self.lock();
        let held = inner.partition(partition)?;
        let mut records = held.sets.iter().flat_map(RecordSet::iter);
        let is_wanted =
            |record: &RecordRef<'_>| record.offset >= held.start && record.timestamp >= timestamp;
        Ok(records.find(is_wanted).map(|record| record.offset))
    }

    fn claim(&self, group: &str, topics: &[TopicName]) -> Result<Box<dyn Claim>, LogError> {
        check_group(group)?;
        let group: Arc<str> = group.into();
        let mut inner = self.lock();
        let partitions = inner.partitions_of(topics)?;
        let epoch = inner.epochs.entry(Arc::clone(&group)).or_insert(0);
        *epoch += 1;
        let owner = Owner { group, epoch: *epoch };
        drop(inner);
        Ok(self.claims.add(owner, partitions))
    }

    fn commit(&self, commit: Commit) -> Result<CommitTicket, LogError> {
        let mut inner = self.lock();
        let bytes = inner.check(&commit, &self.limits, self.bytes_max)?;
        let moved = inner.moved_by(&commit);
        let receipt = inner.apply(commit, bytes);
        drop(inner);
        // Called without the log's lock, so that a waker may read from the log.
        moved.iter().for_each(|wakers| wakers.wake());
        Ok(CommitTicket::complete(Ok(receipt)))
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

    fn subscribe(
        &self,
        partition: &TopicPartition,
        waker: Waker,
    ) -> Result<Subscription, LogError> {
        let wakers = Arc::clone(&self.lock().partition(partition)?.wakers);
        Ok(wakers.subscribe(waker))
    }

    fn subscribe_to_offsets(
        &self,
        partition: &TopicPartition,
        waker: Waker,
    ) -> Result<Subscription, LogError> {
        let wakers = Arc::clone(&self.lock().partition(partition)?.offset_wakers);
        Ok(wakers.subscribe(waker))
    }

    fn subscribe_to_topics(&self, waker: Waker) -> Subscription {
        self.topic_wakers.subscribe(waker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{self, commit, partition, put};
    use headwater_core::ports::log::LogErrorKind;

    #[test]
    fn it_does_what_every_log_must() {
        conformance::check(|| Arc::new(MemoryLog::new()));
    }

    #[test]
    fn a_purged_topic_loses_what_was_read_at_once_and_makes_room() {
        let log = MemoryLog::new();
        let spec = TopicSpec::new(partition("r", 0).topic, 1);
        log.create_topics(&[TopicSpec { cleanup: Cleanup::Purge, ..spec }]).unwrap();
        for _ in 0..3 {
            put(&log, &partition("r", 0), &["a", "b"]);
        }
        let bytes = log.lock().bytes;
        let committed = Committed { offset: 3, metadata: String::new() };
        let offset = GroupOffset { group: "g".into(), partition: partition("r", 0), committed };
        log.commit(Commit { offsets: vec![offset], ..Commit::default() }).unwrap().wait().unwrap();
        assert_eq!(log.offsets(&partition("r", 0)).unwrap(), Offsets { start: 3, end: 6 });
        let fetched = log.fetch(&partition("r", 0), 3, usize::MAX).unwrap();
        assert_eq!(fetched.records.iter().map(|it| it.offset).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(log.lock().bytes, bytes / 3 * 2, "the run of the first two is gone");
    }

    #[test]
    fn it_takes_smaller_limits_and_holds_to_them() {
        let limits =
            Limits { record_bytes_max: 64, commit_bytes_max: 10_000, metadata_bytes_max: 8 };
        conformance::check(|| Arc::new(MemoryLog::new().with_limits(limits)));
    }

    #[test]
    fn a_log_that_is_full_refuses_and_stays_readable() {
        let log = MemoryLog::new().with_bytes_max(400);
        log.create_topics(&[TopicSpec::new(partition("t", 0).topic, 1)]).unwrap();
        put(&log, &partition("t", 0), &["a"]);
        let large = conformance::append(&partition("t", 0), &[&"x".repeat(400)]);
        let error = commit(&log, vec![large]).unwrap_err();
        assert!(matches!(error, LogError::Full { bytes_max: 400, .. }), "{error}");
        assert_eq!(error.kind(), LogErrorKind::Refused);
        assert_eq!(conformance::read_all(&log, &partition("t", 0)).len(), 1);
    }
}

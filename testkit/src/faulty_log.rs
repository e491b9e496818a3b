//! A log in memory that is as slow, and fails, as a test wants.
//!
//! # Invariants
//!
//! - Held commits are applied in the order in which they were handed in, or not at all; a claim comes after all that were
//!   handed in before it.
//! - After a failure no commit is taken until the log is repaired, as a disk that failed takes none.

use headwater_core::{
    ports::log::{
        Assignment, Claim, Commit, CommitTicket, Committed, Completer, Fetched, Limits, Log,
        LogError, LogId, Offsets, Owner, RecordEpoch, Subscription, TopicSpec, Waker,
    },
    record::{Timestamp, TopicName, TopicPartition},
};
use headwater_log::MemoryLog;
use std::{
    collections::{BTreeMap, VecDeque},
    fmt, io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Changes of what a claim may read that the test asks for.
#[derive(Default)]
struct Moves {
    pending: VecDeque<Assignment>,
    waker: Option<Waker>,
    /// What was revoked and has been given back, by asking for the next change.
    given_back: Vec<TopicPartition>,
    revoked: Vec<TopicPartition>,
}

impl fmt::Debug for Moves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Moves").field("pending", &self.pending).finish_non_exhaustive()
    }
}

/// A claim whose partitions the test moves.
#[derive(Debug)]
struct MovedClaim {
    inner: Box<dyn Claim>,
    moves: Arc<Mutex<Moves>>,
}

impl Claim for MovedClaim {
    fn owner(&self) -> &Owner {
        self.inner.owner()
    }

    fn poll(&mut self, waker: &Waker) -> Result<Option<Assignment>, LogError> {
        if let Some(assignment) = self.inner.poll(waker)? {
            return Ok(Some(assignment));
        }
        let mut moves = self.moves.lock().unwrap_or_else(PoisonError::into_inner);
        let revoked = std::mem::take(&mut moves.revoked);
        moves.given_back.extend(revoked);
        let next = moves.pending.pop_front();
        if let Some(Assignment::Revoked(partitions)) = &next {
            moves.revoked.clone_from(partitions);
        }
        moves.waker = next.is_none().then(|| Arc::clone(waker));
        Ok(next)
    }
}

#[derive(Debug, Default)]
struct Faults {
    is_slow: bool,
    has_failed: bool,
    is_full: bool,
    /// What the test does to the newest claim.
    moves: Arc<Mutex<Moves>>,
    held: VecDeque<(Commit, Completer)>,
    /// What comes right after the next fetch of a partition that gives nothing.
    late: Option<(TopicPartition, Commit)>,
}

/// A [`MemoryLog`] whose commits wait until the test completes them, and that fails on request.
///
/// ```
/// use headwater_core::ports::log::{Commit, Log};
/// use headwater_testkit::FaultyLog;
///
/// let log = FaultyLog::new();
/// log.set_slow(true);
/// let mut ticket = log.commit(Commit::default()).unwrap();
/// assert!(ticket.poll().is_none());
/// log.complete_next();
/// assert!(ticket.poll().unwrap().is_ok());
/// ```
#[derive(Debug, Default)]
pub struct FaultyLog {
    inner: MemoryLog,
    faults: Mutex<Faults>,
    calls: AtomicU64,
    fetches: AtomicU64,
    read: Mutex<BTreeMap<TopicPartition, u64>>,
}

impl FaultyLog {
    /// An empty log without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds commits from now on, or takes them at once; those that are held stay so.
    pub fn set_slow(&self, is_slow: bool) {
        self.faults().is_slow = is_slow;
    }

    /// Applies and acknowledges the oldest held commit; false if none is held.
    pub fn complete_next(&self) -> bool {
        let Some((commit, completer)) = self.faults().held.pop_front() else { return false };
        let outcome = self.inner.commit(commit).and_then(CommitTicket::wait);
        completer.complete(outcome);
        true
    }

    /// Counts the held commits.
    #[must_use]
    pub fn held(&self) -> usize {
        self.faults().held.len()
    }

    /// Ends as a power cut does: so many of the held commits are durable, and the outcome of none is told.
    pub fn cut_power(&self, durable: usize) {
        let held = std::mem::take(&mut self.faults().held);
        for (place, (commit, completer)) in held.into_iter().enumerate() {
            if place < durable {
                // Nobody gets its answer.
                let _ = self.inner.commit(commit).map(CommitTicket::wait);
            }
            drop(completer);
        }
    }

    /// Fails: no commit is taken until the log is [repaired](Self::repair).
    pub fn fail(&self) {
        self.faults().has_failed = true;
    }

    /// Has no room: no commit is taken until the log is [repaired](Self::repair), which may happen by itself.
    pub fn fill(&self) {
        self.faults().is_full = true;
    }

    /// Takes commits again.
    pub fn repair(&self) {
        let mut faults = self.faults();
        (faults.has_failed, faults.is_full) = (false, false);
    }

    /// Takes a commit right after the next fetch of `partition` that gives nothing: as from somebody who is faster than a reader
    /// that has yet to fetch its other partitions.
    pub fn commit_after_empty_fetch(&self, partition: TopicPartition, commit: Commit) {
        self.faults().late = Some((partition, commit));
    }

    /// Changes what the holder of the newest claim may read, as a log does that has other members in the group.
    pub fn assign(&self, assignment: Assignment) {
        let moves = Arc::clone(&self.faults().moves);
        let mut moves = moves.lock().unwrap_or_else(PoisonError::into_inner);
        moves.pending.push_back(assignment);
        let waker = moves.waker.take();
        drop(moves);
        if let Some(waker) = waker {
            waker();
        }
    }

    /// Takes the partitions that were revoked and have been given back.
    #[must_use]
    pub fn given_back(&self) -> Vec<TopicPartition> {
        let moves = Arc::clone(&self.faults().moves);
        let mut moves = moves.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut moves.given_back)
    }

    /// Counts the calls that a log on a disk would turn into work.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Counts the fetches that gave records.
    #[must_use]
    pub fn fetches(&self) -> u64 {
        self.fetches.load(Ordering::Relaxed)
    }

    /// Counts the records that fetches gave, by partition.
    #[must_use]
    pub fn records_read(&self) -> BTreeMap<TopicPartition, u64> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn called(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }
}

impl Log for FaultyLog {
    fn id(&self) -> LogId {
        self.inner.id()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn create_topics(&self, specs: &[TopicSpec]) -> Result<(), LogError> {
        self.called();
        self.inner.create_topics(specs)
    }

    fn add_partitions(&self, topic: &TopicName, partitions: u32) -> Result<(), LogError> {
        self.called();
        self.inner.add_partitions(topic, partitions)
    }

    fn topics(&self) -> Result<Vec<TopicSpec>, LogError> {
        self.inner.topics()
    }

    fn fetch(
        &self,
        partition: &TopicPartition,
        offset: i64,
        bytes_max: usize,
    ) -> Result<Fetched, LogError> {
        self.called();
        let fetched = self.inner.fetch(partition, offset, bytes_max)?;
        self.fetches.fetch_add(u64::from(!fetched.records.is_empty()), Ordering::Relaxed);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        *read.entry(partition.clone()).or_default() += fetched.records.len() as u64;
        drop(read);
        if fetched.records.is_empty()
            && let Some((_, commit)) = self.faults().late.take_if(|(at, _)| at == partition)
        {
            self.inner.commit(commit)?.wait()?;
        }
        Ok(fetched)
    }

    fn offsets(&self, partition: &TopicPartition) -> Result<Offsets, LogError> {
        self.inner.offsets(partition)
    }

    fn record_epoch(
        &self,
        partition: &TopicPartition,
        offset: i64,
    ) -> Result<Option<RecordEpoch>, LogError> {
        self.inner.record_epoch(partition, offset)
    }

    fn offset_for_timestamp(
        &self,
        partition: &TopicPartition,
        timestamp: Timestamp,
    ) -> Result<Option<i64>, LogError> {
        self.inner.offset_for_timestamp(partition, timestamp)
    }

    fn claim(&self, group: &str, topics: &[TopicName]) -> Result<Box<dyn Claim>, LogError> {
        self.called();
        while self.complete_next() {}
        let (inner, moves) = (self.inner.claim(group, topics)?, Arc::default());
        self.faults().moves = Arc::clone(&moves);
        Ok(Box::new(MovedClaim { inner, moves }))
    }

    fn commit(&self, commit: Commit) -> Result<CommitTicket, LogError> {
        self.called();
        let mut faults = self.faults();
        if faults.has_failed {
            let source = Arc::new(io::Error::other("the test has the disk fail"));
            let path = PathBuf::from("memory");
            return Err(LogError::Io { action: "write to the log in", path, source });
        }
        if faults.is_full {
            let (path, available, reserved) = (PathBuf::from("memory"), 0, 0);
            return Err(LogError::DiskFull { path, available, reserved });
        }
        if !faults.is_slow && faults.held.is_empty() {
            drop(faults);
            return self.inner.commit(commit);
        }
        let (completer, ticket) = CommitTicket::pending();
        faults.held.push_back((commit, completer));
        Ok(ticket)
    }

    fn committed(
        &self,
        group: &str,
        partition: &TopicPartition,
    ) -> Result<Option<Committed>, LogError> {
        self.inner.committed(group, partition)
    }

    fn sync(&self) -> Result<(), LogError> {
        self.inner.sync()
    }

    fn subscribe(
        &self,
        partition: &TopicPartition,
        waker: Waker,
    ) -> Result<Subscription, LogError> {
        self.inner.subscribe(partition, waker)
    }

    fn subscribe_to_offsets(
        &self,
        partition: &TopicPartition,
        waker: Waker,
    ) -> Result<Subscription, LogError> {
        self.inner.subscribe_to_offsets(partition, waker)
    }

    fn subscribe_to_topics(&self, waker: Waker) -> Subscription {
        self.inner.subscribe_to_topics(waker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_log::conformance;

    #[test]
    fn without_faults_it_is_a_log() {
        conformance::check(|| Arc::new(FaultyLog::new()));
    }
}

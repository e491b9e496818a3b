//! Drives a source: poll, submit, await; a few commits are pending at a time, so that syncing does not limit reading.
//!
//! # Invariants
//!
//! - Records, dead letters and the position after them are one commit: a restart resumes exactly where the log ends.
//! - What a source gave is committed, also when it fails after that; without a position, once one is given.
//! - Counts and the position are those of all runs, and are reported once they are acknowledged.
//! - A source that had ended is polled until it ends again, so that it can check its input without holding up a stop. Until
//!   then it does not count as ended, and if it gives nothing, nothing is committed.

use super::{
    ConnectError, Stopped,
    attempt::attempt,
    dead_letter::{Route, dead_letters, ensure_topic, take_too_large},
    group_of,
    signal::{Signal, StopRequest, spawn},
};
use crate::broken::broken;
use headwater_core::{
    dead_letter::DeadLetter,
    ports::{
        connector::{
            ConnectorError, Resume, SourceBatch, SourceBatchParts, SourceConnector, SourceStatus,
        },
        log::{Append, Claim, Commit, CommitTicket, Committed, GroupOffset, Log},
    },
    record::{RecordSet, TopicName, TopicPartition},
    time::Clock,
};
use serde::{Deserialize, Serialize};
use std::{collections::VecDeque, mem, sync::Arc, thread::JoinHandle};

/// Pending commits at most: enough to read on while the disk syncs, few enough to bound memory.
const PENDING_COMMITS_MAX: usize = 4;

/// Topics that a source's records go to.
///
/// Those that do not exist are created; the dead-letter topic then has one partition.
#[derive(Debug, Clone)]
pub struct SourceTarget {
    /// The topic to fill.
    pub topic: TopicName,
    /// Its partitions.
    pub partitions: u32,
    /// The topic of records that cannot be taken.
    pub dead_letter_topic: TopicName,
}

/// Progress of a source.
///
/// Records, dead letters and position are those of all runs, as far as they are committed.
#[derive(Debug, Clone, Default)]
pub struct SourceProgress {
    /// Records in the topic.
    pub records: u64,
    /// Records in the dead-letter topic.
    pub dead_letters: u64,
    /// The committed position.
    pub position: i64,
    /// How much of the input this run has read, in the input's units.
    pub read: u64,
    /// How much there is, where that is known.
    pub total_hint: Option<u64>,
    /// Whether the input is used up and all of it committed.
    pub ended: bool,
    /// Why the task ended, if it failed.
    pub error: Option<Arc<ConnectError>>,
}

/// Task that runs a source on a thread of its own; dropping it stops it.
#[derive(Debug)]
pub struct SourceTask {
    signal: Arc<Signal<SourceProgress>>,
    thread: Option<JoinHandle<()>>,
}

impl SourceTask {
    /// Starts a source under a name that no other connector of the log has.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Connector`] if the source does not validate, [`ConnectError::Thread`] if the system gives no
    /// thread.
    pub fn start(
        name: &str,
        connector: Box<dyn SourceConnector>,
        log: Arc<dyn Log>,
        target: SourceTarget,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConnectError> {
        let name: Arc<str> = name.into();
        connector
            .validate()
            .map_err(|source| ConnectError::Connector { name: Arc::clone(&name), source })?;
        let signal = Arc::new(Signal::new());
        let (shared, group) = (Arc::clone(&signal), group_of(&name));
        let thread = spawn(&name, &signal, move || {
            Run::open(connector, log, target, &group, clock, shared)?.run()
        })?;
        Ok(Self { signal, thread: Some(thread) })
    }

    /// Progress so far.
    #[must_use]
    pub fn progress(&self) -> SourceProgress {
        let error = self.signal.error();
        SourceProgress { error, ..self.signal.progress() }
    }

    /// Waits until the input is used up and committed, or the task has stopped.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Connector`], [`ConnectError::Log`], [`ConnectError::Position`], [`ConnectError::TooLarge`] or
    /// [`ConnectError::Panicked`] if the task failed.
    pub fn wait_ended(&self) -> Result<SourceProgress, Arc<ConnectError>> {
        self.signal.wait_outcome()
    }

    /// Requests that the task commits what it has and stops; returns at once.
    pub fn stop(&self) {
        self.signal.request(StopRequest::Stop);
    }

    /// Stops the task and waits until it has.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Connector`], [`ConnectError::Log`], [`ConnectError::Position`], [`ConnectError::TooLarge`] or
    /// [`ConnectError::Panicked`] if the task failed.
    pub fn join(self) -> Result<SourceProgress, Arc<ConnectError>> {
        self.stop();
        self.wait_ended()
    }
}

impl Drop for SourceTask {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // A panic in it was caught and is its outcome.
            drop(thread.join());
        }
    }
}

/// Metadata that is committed with an offset, around the connector's own.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Position {
    records: u64,
    dead_letters: u64,
    ended: bool,
    connector: String,
}

/// A commit that the log has not acknowledged yet, and what is reported once it has.
#[derive(Debug)]
struct PendingCommit {
    ticket: CommitTicket,
    offset: i64,
    position: Position,
}

/// State of the task on its thread.
struct Run {
    connector: Box<dyn SourceConnector>,
    log: Arc<dyn Log>,
    target: SourceTarget,
    clock: Arc<dyn Clock>,
    signal: Arc<Signal<SourceProgress>>,
    claim: Box<dyn Claim>,
    input: String,
    partition: TopicPartition,
    position: Position,
    offset: i64,
    pending: VecDeque<PendingCommit>,
    /// What was given since the last position.
    batch: SourceBatch,
    /// How many batches were submitted.
    batches: u32,
}

/// Whether more of the input may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    GoesOn,
    Ended,
}

impl Run {
    fn open(
        mut connector: Box<dyn SourceConnector>,
        log: Arc<dyn Log>,
        mut target: SourceTarget,
        group: &str,
        clock: Arc<dyn Clock>,
        signal: Arc<Signal<SourceProgress>>,
    ) -> Result<Self, Stopped> {
        target.partitions = ensure_topic(&*log, &target.topic, target.partitions)?.partitions;
        ensure_topic(&*log, &target.dead_letter_topic, 1)?;
        let claim = log.claim(group, &[])?;
        let partition = TopicPartition::new(target.topic.clone(), 0);
        let resume = log
            .committed(group, &partition)?
            .map(|committed| Position::read(&committed).map(|read| (read, committed.offset)))
            .transpose()?;
        let (position, offset) = resume.unwrap_or_default();
        let resume =
            (!position.connector.is_empty() || offset != 0 || position.ended).then(|| Resume {
                position: Committed { offset, metadata: position.connector.clone() },
                ended: position.ended,
            });
        attempt(&signal, &*clock, connector.retry(), |_| connector.open(resume.as_ref()))?;
        let input = connector.input();
        let batch = SourceBatch::new(target.partitions, 0, &*clock);
        let run = Self {
            connector,
            log,
            target,
            clock,
            signal,
            claim,
            input,
            partition,
            position,
            offset,
            pending: VecDeque::new(),
            batch,
            batches: 0,
        };
        run.report(run.offset, &Position { ended: false, ..run.position.clone() });
        run.report_share();
        Ok(run)
    }

    fn run(mut self) -> Result<(), Stopped> {
        let outcome = self.poll_to_end();
        // What was submitted is acknowledged or refused by the log, whatever ended the reading.
        let acknowledged = self.await_commits(0);
        outcome.and(acknowledged)
    }

    fn poll_to_end(&mut self) -> Result<(), Stopped> {
        let (signal, clock) = (Arc::clone(&self.signal), Arc::clone(&self.clock));
        while signal.requested() != StopRequest::Stop {
            let status = attempt(&signal, &*clock, self.connector.retry(), |_| self.poll())?;
            match status {
                SourceStatus::More => {}
                SourceStatus::Idle(wait) => signal.wait(wait)?,
                SourceStatus::Ended => {
                    self.report(self.offset, &self.position);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Polls once and submits what the source gave, whether it failed after that or not: it never gives it again.
    fn poll(&mut self) -> Result<SourceStatus, Stopped> {
        self.batch.refresh_time(&*self.clock);
        let polled = self.connector.poll(&mut self.batch);
        let ended = matches!(polled, Ok(SourceStatus::Ended));
        let input = if ended { Input::Ended } else { Input::GoesOn };
        if ended || self.batch.has_position() {
            self.batches = self.batches.wrapping_add(1);
            let next = SourceBatch::new(self.target.partitions, self.batches, &*self.clock);
            let given = mem::replace(&mut self.batch, next);
            self.submit(given, input)?;
        } else if self.batch.is_full() {
            return Err(ConnectorError::BatchFull.into());
        }
        self.report_share();
        if !matches!(polled, Ok(SourceStatus::More)) {
            // Nothing follows for a while, so what was given shows as committed now.
            self.await_commits(0)?;
        }
        Ok(polled?)
    }

    /// Makes a commit of a batch, unless there is nothing new in it.
    fn submit(&mut self, batch: SourceBatch, input: Input) -> Result<(), Stopped> {
        let ended = input == Input::Ended;
        let (now, is_empty) = (batch.now(), batch.is_empty());
        let SourceBatchParts { mut records, mut dead_letters, position } = batch.into_parts();
        let stands = position.as_ref().is_none_or(|Committed { offset, metadata }| {
            *offset == self.offset && *metadata == self.position.connector
        });
        if is_empty && stands && (!ended || self.position.ended) {
            return Ok(());
        }
        let record_bytes_max = self.log.limits().record_bytes_max;
        for records in &mut records {
            dead_letters.extend(take_too_large(records, record_bytes_max, self.offset)?);
        }
        if let Some(Committed { offset, metadata }) = position {
            (self.offset, self.position.connector) = (offset, metadata);
        }
        self.await_commits(PENDING_COMMITS_MAX - 1)?;
        self.position.ended = ended;
        self.position.records += records.iter().map(RecordSet::len).sum::<usize>() as u64;
        self.position.dead_letters += dead_letters.len() as u64;
        let mut appends: Vec<Append> =
            (0..).zip(records).filter_map(|(number, set)| self.append(number, set)).collect();
        appends.extend(self.dead_letters(&dead_letters, now)?);
        let metadata = sonic_rs::to_string(&self.position)
            .unwrap_or_else(|_| broken("counts, a flag and a text can be written as JSON"));
        let committed = Committed { offset: self.offset, metadata };
        let group = Arc::clone(&self.claim.owner().group);
        let offsets = vec![GroupOffset { group, partition: self.partition.clone(), committed }];
        let owner = Some(self.claim.owner().clone());
        let ticket = self.log.commit(Commit { owner, appends, offsets })?;
        let (offset, position) = (self.offset, self.position.clone());
        self.pending.push_back(PendingCommit { ticket, offset, position });
        Ok(())
    }

    fn append(&self, number: u32, set: RecordSet) -> Option<Append> {
        let partition = TopicPartition::new(self.target.topic.clone(), number);
        (!set.is_empty()).then(|| Append { partition, base_offset: None, records: Arc::new(set) })
    }

    fn dead_letters(&self, letters: &[DeadLetter], now: i64) -> Result<Option<Append>, Stopped> {
        let route = Route {
            from: &self.input,
            partition: 0,
            to: &self.target.dead_letter_topic,
            record_bytes_max: self.log.limits().record_bytes_max,
        };
        dead_letters(&route, letters, now)
    }

    /// Awaits the oldest commits until at most `left` are pending.
    fn await_commits(&mut self, left: usize) -> Result<(), Stopped> {
        while self.pending.len() > left
            && let Some(PendingCommit { ticket, offset, position }) = self.pending.pop_front()
        {
            ticket.wait().map_err(Stopped::Log)?;
            self.report(offset, &position);
        }
        Ok(())
    }

    fn report(&self, offset: i64, position: &Position) {
        self.signal.update(|progress| {
            progress.records = position.records;
            progress.dead_letters = position.dead_letters;
            progress.position = offset;
            progress.ended = position.ended;
        });
    }

    fn report_share(&self) {
        let share = self.connector.share();
        self.signal.update(|progress| {
            progress.read = share.read;
            progress.total_hint = share.total;
        });
    }
}

impl Position {
    fn read(committed: &Committed) -> Result<Self, Stopped> {
        sonic_rs::from_str(&committed.metadata).map_err(|why| Stopped::Position(Arc::new(why)))
    }
}

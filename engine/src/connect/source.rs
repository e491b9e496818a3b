//! Drives a source: poll, place, commit; a few commits in flight so that syncing does not limit reading.
//!
//! # Invariants
//!
//! - Records, dead letters and the position after them are one commit: a restart goes on exactly where the log ends.
//! - What a source gave is committed, also when it fails after that; without a position, once one is given.
//! - Counts and the position are those of all runs, and are reported once they are acknowledged.
//! - After the end of its input is committed, a source is opened to check its input but never polled again.

use super::{
    ConnectError, Stopped,
    attempt::attempt,
    dead_letter::{Origin, dead_letters, ensure_topic},
    group_of,
    signal::{Signal, Wish, spawn},
};
use headwater_core::{
    dead_letter::DeadLetter,
    ports::{
        connector::{ConnectorError, Resume, SourceBatch, SourceConnector, SourceStatus},
        log::{Append, Claim, Commit, CommitTicket, Committed, GroupOffset, Log},
    },
    record::{RecordSet, TopicName, TopicPartition},
    time::Clock,
};
use serde::{Deserialize, Serialize};
use std::{collections::VecDeque, mem, sync::Arc, thread::JoinHandle};

/// Commits in flight at most: enough to read on while the disk syncs, few enough to bound memory.
const COMMITS_IN_FLIGHT_MAX: usize = 4;

/// Where a source's records go. Topics that do not exist are created; the dead-letter topic then has one partition.
#[derive(Debug, Clone)]
pub struct SourceTarget {
    /// The topic to fill.
    pub topic: TopicName,
    /// Its partitions.
    pub partitions: u32,
    /// Where records go that cannot be taken.
    pub dead_letter_topic: TopicName,
}

/// How far a source is; committed figures of all runs.
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

/// A source at work on its own thread; dropping it stops it.
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
    /// [`ConnectError::Connector`] if the source does not validate, [`ConnectError::Thread`].
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
            Run::open(connector, log, target, (group, clock, shared))?.run()
        })?;
        Ok(Self { signal, thread: Some(thread) })
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> SourceProgress {
        let (mut progress, outcome) = self.signal.progress();
        progress.error = outcome.and_then(Result::err);
        progress
    }

    /// Waits until the input is used up and committed, or the task has stopped.
    ///
    /// # Errors
    ///
    /// Why the task failed.
    pub fn wait_ended(&self) -> Result<SourceProgress, Arc<ConnectError>> {
        self.signal.wait_outcome()
    }

    /// Asks the task to commit what it has and to stop; returns at once.
    pub fn stop(&self) {
        self.signal.ask(Wish::Stop);
    }

    /// Stops the task and waits until it has.
    ///
    /// # Errors
    ///
    /// Why the task failed.
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

/// What the runtime commits around the connector's own position.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Position {
    records: u64,
    dead_letters: u64,
    ended: bool,
    connector: String,
}

#[derive(Debug)]
struct InFlight {
    ticket: CommitTicket,
    offset: i64,
    position: Position,
}

/// The task's state on its thread.
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
    in_flight: VecDeque<InFlight>,
    /// What was given since the last position, and how many batches were handed in.
    batch: SourceBatch,
    batches: u32,
}

type Shared = (Arc<str>, Arc<dyn Clock>, Arc<Signal<SourceProgress>>);

impl Run {
    fn open(
        mut connector: Box<dyn SourceConnector>,
        log: Arc<dyn Log>,
        mut target: SourceTarget,
        (group, clock, signal): Shared,
    ) -> Result<Self, Stopped> {
        target.partitions = ensure_topic(&*log, &target.topic, target.partitions)?.partitions;
        ensure_topic(&*log, &target.dead_letter_topic, 1)?;
        let claim = log.claim(&group, &[])?;
        let partition = TopicPartition::new(target.topic.clone(), 0);
        let resume = log
            .committed(&group, &partition)?
            .map(|committed| unwrap(&group, &committed))
            .transpose()?;
        let (position, offset) = resume.unwrap_or_default();
        let resume =
            (!position.connector.is_empty() || offset != 0 || position.ended).then(|| Resume {
                position: Committed { offset, metadata: position.connector.clone() },
                ended: position.ended,
            });
        attempt(&signal, connector.retry(), || connector.open(resume.as_ref()))?;
        let input = connector.input();
        let in_flight = VecDeque::new();
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
            in_flight,
            batch,
            batches: 0,
        };
        run.report(run.offset, &run.position.clone());
        run.share();
        Ok(run)
    }

    fn run(mut self) -> Result<(), Stopped> {
        let outcome = self.poll_to_end();
        // What was handed in is acknowledged or refused by the log, whatever ended the reading.
        let acknowledged = self.await_commits(0);
        outcome.and(acknowledged)
    }

    fn poll_to_end(&mut self) -> Result<(), Stopped> {
        let signal = Arc::clone(&self.signal);
        while !self.position.ended && signal.wish() != Wish::Stop {
            let status = attempt(&signal, self.connector.retry(), || self.poll())?;
            if let SourceStatus::Idle(wait) = status {
                signal.wait(wait)?;
            }
        }
        Ok(())
    }

    /// Polls once and hands in what the source gave, whether it failed after that or not: it never gives it again.
    fn poll(&mut self) -> Result<SourceStatus, Stopped> {
        self.batch.refresh_time(&*self.clock);
        let polled = self.connector.poll(&mut self.batch);
        let ended = matches!(polled, Ok(SourceStatus::Ended));
        if ended || self.batch.has_position() {
            self.batches = self.batches.wrapping_add(1);
            let next = SourceBatch::new(self.target.partitions, self.batches, &*self.clock);
            let given = mem::replace(&mut self.batch, next);
            self.hand_in(given, ended)?;
        } else if self.batch.is_full() {
            return Err(ConnectorError::BatchFull.into());
        }
        self.share();
        if !matches!(polled, Ok(SourceStatus::More)) {
            // Nothing follows for a while, so what was given shows as committed now.
            self.await_commits(0)?;
        }
        Ok(polled?)
    }

    fn hand_in(&mut self, batch: SourceBatch, ended: bool) -> Result<(), Stopped> {
        self.await_commits(COMMITS_IN_FLIGHT_MAX - 1)?;
        let now = batch.now();
        let (sets, letters, given) = batch.into_parts();
        if let Some(given) = given {
            self.offset = given.offset;
            self.position.connector = given.metadata;
        }
        self.position.ended = ended;
        self.position.records += sets.iter().map(RecordSet::len).sum::<usize>() as u64;
        self.position.dead_letters += letters.len() as u64;
        let mut appends: Vec<Append> =
            (0..).zip(sets).filter_map(|(place, set)| self.append(place, set)).collect();
        appends.extend(self.dead_letters(&letters, now)?);
        let metadata = sonic_rs::to_string(&self.position)
            .map_err(|error| Stopped::Setup(error.to_string()))?;
        let committed = Committed { offset: self.offset, metadata };
        let group = Arc::clone(&self.claim.owner().group);
        let offsets = vec![GroupOffset { group, partition: self.partition.clone(), committed }];
        let ticket = self.log.commit(Commit {
            owner: Some(self.claim.owner().clone()),
            appends,
            offsets,
        })?;
        self.in_flight.push_back(InFlight {
            ticket,
            offset: self.offset,
            position: self.position.clone(),
        });
        Ok(())
    }

    fn append(&self, place: u32, set: RecordSet) -> Option<Append> {
        let partition = TopicPartition::new(self.target.topic.clone(), place);
        (!set.is_empty()).then(|| Append { partition, base_offset: None, records: Arc::new(set) })
    }

    fn dead_letters(&self, letters: &[DeadLetter], now: i64) -> Result<Option<Append>, Stopped> {
        let origin = Origin { from: &self.input, partition: 0, to: &self.target.dead_letter_topic };
        dead_letters(&origin, letters, now)
    }

    /// Awaits the oldest commits until at most `left` are in flight.
    fn await_commits(&mut self, left: usize) -> Result<(), Stopped> {
        while self.in_flight.len() > left {
            let Some(InFlight { ticket, offset, position }) = self.in_flight.pop_front() else {
                break;
            };
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

    fn share(&self) {
        let share = self.connector.share();
        self.signal.update(|progress| {
            progress.read = share.read;
            progress.total_hint = share.total;
        });
    }
}

fn unwrap(group: &str, committed: &Committed) -> Result<(Position, i64), Stopped> {
    let position = sonic_rs::from_str(&committed.metadata).map_err(|error| {
        Stopped::Setup(format!(
            "the committed position of group {group} is not a source's: {error}"
        ))
    })?;
    Ok((position, committed.offset))
}

//! Drives a sink: read, put, prepare, commit, publish.
//!
//! # Invariants
//!
//! - What a sink prepared is published only after its positions are committed and the log is on the disk to that point,
//!   so that no sink is ever ahead of the log.
//! - A drain reads to the ends that the partitions had when it was requested, then prepares everything.
//! - A stop prepares and commits what was taken, so that a sink that can repeat records repeats none. If it is answered in
//!   part only, that part is committed, also when the sink fails.
//! - While it is held, what it committed is published, and nothing changes: neither its positions nor what it writes.

use super::{
    ConnectError, Stopped,
    attempt::attempt,
    dead_letter::{Route, dead_letters, ensure_topic},
    group_of,
    signal::{Signal, StopRequest, spawn},
};
use headwater_core::{
    ports::{
        connector::{Due, Prepared, SinkConnector, Waits},
        log::{Append, Claim, Commit, GroupOffset, Log, Subscription},
    },
    record::{TopicName, TopicPartition},
    time::Clock,
};
use std::{mem, sync::Arc, thread::JoinHandle, time::Duration};

/// Bytes of one fetch at about most.
const FETCH_BYTES: usize = 1 << 20;
/// Interval at which limits of time are checked while nothing arrives.
const IDLE_WAIT: Duration = Duration::from_millis(100);
/// A commit of several partitions has this part of the largest that the log takes, so that its framing fits as well.
const COMMIT_SHARE: usize = 8;

/// Progress of a sink.
#[derive(Debug, Clone, Default)]
pub struct SinkProgress {
    /// Records that it has taken in this run.
    pub taken: u64,
    /// Records delivered or published, as the sink counts them: those of all runs where it can know.
    pub delivered: u64,
    /// Records it left out on purpose, likewise.
    pub skipped: u64,
    /// Records sent to its dead-letter topic in this run.
    pub dead_letters: u64,
    /// Records of the topic that are not committed yet.
    pub lag: u64,
    /// Whether a drain is complete: all was delivered, committed and published.
    pub drained: bool,
    /// Why the task ended, if it failed.
    pub error: Option<Arc<ConnectError>>,
}

/// Task that runs a sink on a thread of its own; dropping it stops it.
#[derive(Debug)]
pub struct SinkTask {
    signal: Arc<Signal<SinkProgress>>,
    thread: Option<JoinHandle<()>>,
}

impl SinkTask {
    /// Starts a sink of a topic that exists, under a name that no other connector of the log has.
    ///
    /// Records that it refuses go to the topic `{name}-dead-letters`, which is created when it is first needed.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Connector`] if the sink does not validate, [`ConnectError::Name`] if its name cannot be part of
    /// a topic's name, [`ConnectError::Thread`] if the system gives no thread.
    pub fn start(
        name: &str,
        connector: Box<dyn SinkConnector>,
        log: Arc<dyn Log>,
        topic: TopicName,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConnectError> {
        let name: Arc<str> = name.into();
        connector
            .validate()
            .map_err(|source| ConnectError::Connector { name: Arc::clone(&name), source })?;
        let dead_letter_topic = TopicName::new(format!("{name}-dead-letters"))
            .map_err(|source| ConnectError::Name { name: Arc::clone(&name), source })?;
        let signal = Arc::new(Signal::new());
        let (shared, group) = (Arc::clone(&signal), group_of(&name));
        let thread = spawn(&name, &signal, move || {
            Run::open(connector, log, topic, dead_letter_topic, &group, clock, shared)?.run()
        })?;
        Ok(Self { signal, thread: Some(thread) })
    }

    /// Progress so far.
    #[must_use]
    pub fn progress(&self) -> SinkProgress {
        let error = self.signal.error();
        SinkProgress { error, ..self.signal.progress() }
    }

    /// Waits until everything up to the topic's present end is delivered, committed and published, then ends the task.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Connector`], [`ConnectError::Log`], [`ConnectError::NoTopic`], [`ConnectError::TooLarge`] or
    /// [`ConnectError::Panicked`] if the task failed.
    pub fn drain(&self) -> Result<SinkProgress, Arc<ConnectError>> {
        self.signal.request(StopRequest::Drain);
        self.signal.wait_outcome()
    }

    /// A handle to hold the task by, wherever that goes.
    #[must_use]
    pub fn handle(&self) -> SinkHandle {
        SinkHandle { signal: Arc::clone(&self.signal) }
    }

    /// Requests that the task commits what it has and stops; returns at once.
    pub fn stop(&self) {
        self.signal.request(StopRequest::Stop);
    }

    /// Stops the task and waits until it has.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Connector`], [`ConnectError::Log`], [`ConnectError::NoTopic`], [`ConnectError::TooLarge`] or
    /// [`ConnectError::Panicked`] if the task failed.
    pub fn join(self) -> Result<SinkProgress, Arc<ConnectError>> {
        self.stop();
        self.signal.wait_outcome()
    }
}

/// A handle of a [`SinkTask`], to hold it by.
#[derive(Debug, Clone)]
pub struct SinkHandle {
    signal: Arc<Signal<SinkProgress>>,
}

impl SinkHandle {
    /// Holds the task until what is given back is dropped: once this returns, what it committed is published, and neither its
    /// positions nor what it writes to changes. Its topic grows meanwhile.
    ///
    /// It waits for the task to come to rest: for as long as a call of the sink takes, with its retries, and `is_wanted` says yes.
    /// `None` if that says no first.
    #[must_use]
    pub fn hold(&self, is_wanted: &dyn Fn() -> bool) -> Option<SinkHold> {
        self.signal.hold(is_wanted).then(|| SinkHold { signal: Arc::clone(&self.signal) })
    }
}

/// Holds a [`SinkTask`] until it is dropped.
#[derive(Debug)]
pub struct SinkHold {
    signal: Arc<Signal<SinkProgress>>,
}

impl Drop for SinkHold {
    fn drop(&mut self) {
        self.signal.release();
    }
}

impl Drop for SinkTask {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // A panic in it was caught and is its outcome.
            drop(thread.join());
        }
    }
}

/// Offsets of one partition: the next to read, one past the last committed, and the end when it was last fetched.
#[derive(Debug)]
struct Reading {
    partition: TopicPartition,
    position: i64,
    committed: i64,
    end: i64,
    /// Wakes the task when the partition has grown.
    _subscription: Subscription,
}

/// State of the task on its thread.
struct Run {
    connector: Box<dyn SinkConnector>,
    log: Arc<dyn Log>,
    topic: TopicName,
    dead_letter_topic: TopicName,
    clock: Arc<dyn Clock>,
    signal: Arc<Signal<SinkProgress>>,
    claim: Box<dyn Claim>,
    readings: Vec<Reading>,
}

impl Run {
    fn open(
        mut connector: Box<dyn SinkConnector>,
        log: Arc<dyn Log>,
        topic: TopicName,
        dead_letter_topic: TopicName,
        group: &str,
        clock: Arc<dyn Clock>,
        signal: Arc<Signal<SinkProgress>>,
    ) -> Result<Self, Stopped> {
        let spec = log.topics()?.into_iter().find(|spec| spec.name == topic);
        let spec = spec.ok_or_else(|| Stopped::NoTopic(topic.clone()))?;
        let claim = log.claim(group, std::slice::from_ref(&topic))?;
        let mut readings = Vec::new();
        for number in 0..spec.partitions {
            let partition = TopicPartition::new(topic.clone(), number);
            let woken = Arc::clone(&signal);
            let subscription = log.subscribe(&partition, Arc::new(move || woken.wake()))?;
            let committed = log.committed(group, &partition)?;
            let retry = connector.retry();
            let open = |_: &mut Waits| connector.open(topic.as_str(), number, committed.as_ref());
            attempt(&signal, &*clock, retry, open)?;
            let offsets = log.offsets(&partition)?;
            let position = committed.map_or(offsets.start, |committed| committed.offset);
            readings.push(Reading {
                partition,
                position,
                committed: position,
                end: offsets.end,
                _subscription: subscription,
            });
        }
        let run = Self { connector, log, topic, dead_letter_topic, clock, signal, claim, readings };
        run.report(0, 0);
        Ok(run)
    }

    fn run(mut self) -> Result<(), Stopped> {
        let mut ends: Option<Vec<i64>> = None;
        loop {
            self.signal.rest_while_held();
            let requested = self.signal.requested();
            if requested == StopRequest::Stop {
                // If this fails, it is not tried again.
                return self.prepare(Due::All);
            }
            if requested == StopRequest::Drain && ends.is_none() {
                ends = Some(self.ends()?);
            }
            let found = match self.read() {
                // What it takes no more of now is left; what it took before is not left uncommitted.
                Err(Stopped::OnRequest) => return self.prepare(Due::All),
                found => found?,
            };
            if ends.as_ref().is_some_and(|ends| self.has_reached(ends)) {
                self.prepare(Due::All)?;
                self.signal.update(|progress| progress.drained = true);
                return Ok(());
            }
            self.prepare(Due::Reached(self.clock.elapsed()))?;
            if !found {
                self.signal.wait_woken(IDLE_WAIT);
            }
        }
    }

    fn ends(&self) -> Result<Vec<i64>, Stopped> {
        let ends =
            self.readings.iter().map(|reading| Ok(self.log.offsets(&reading.partition)?.end));
        ends.collect()
    }

    /// Whether all partitions are read to these ends.
    fn has_reached(&self, ends: &[i64]) -> bool {
        self.readings.iter().zip(ends).all(|(reading, end)| reading.position >= *end)
    }

    /// Reads each partition once; whether any had something.
    fn read(&mut self) -> Result<bool, Stopped> {
        let (mut found, mut taken, mut is_full) = (false, 0, false);
        let retry = self.connector.retry();
        for reading in &mut self.readings {
            let fetched = self.log.fetch(&reading.partition, reading.position, FETCH_BYTES)?;
            found |= fetched.next_offset > reading.position;
            reading.end = fetched.end;
            let (partition, records) = (reading.partition.partition, &fetched.records);
            let mut count = 0;
            if !records.is_empty() {
                let put = |_: &mut Waits| self.connector.put(partition, records);
                count = attempt(&self.signal, &*self.clock, retry, put)?;
            }
            taken += count as u64;
            is_full |= count < records.len();
            reading.position = records.get(count).map_or(fetched.next_offset, |left| left.offset);
        }
        if found {
            self.report(taken, 0);
        }
        if is_full {
            self.prepare(Due::All)?;
        }
        Ok(found)
    }

    /// Prepares what is due, commits it and has it published.
    fn prepare(&mut self, due: Due) -> Result<(), Stopped> {
        let (retry, connector) = (self.connector.retry(), &mut self.connector);
        let prepared = attempt(&self.signal, &*self.clock, retry, |waits| {
            let before = connector.answers();
            let prepared = connector.prepare(due);
            if connector.answers() != before {
                // What failed is another request than the one that was waited for.
                *waits = retry.waits();
            }
            prepared
        });
        match prepared {
            Ok(prepared) => self.conclude(&prepared),
            Err(stopped) => {
                let answered = self.connector.take_answered();
                self.conclude(&answered).and(Err(stopped))
            }
        }
    }

    /// Commits what was prepared or answered and has it published.
    fn conclude(&mut self, prepared: &[Prepared]) -> Result<(), Stopped> {
        if prepared.is_empty() {
            return Ok(());
        }
        let letters = prepared.iter().map(|p| p.dead_letters.len() as u64).sum();
        self.commit(prepared)?;
        let (retry, connector) = (self.connector.retry(), &mut self.connector);
        attempt(&self.signal, &*self.clock, retry, |_| connector.publish())?;
        self.report(0, letters);
        Ok(())
    }

    /// Commits what was prepared, in several commits if one could be larger than the log takes: a partition is whole in one,
    /// and can be committed without the others.
    fn commit(&mut self, prepared: &[Prepared]) -> Result<(), Stopped> {
        let bytes_max = self.log.limits().commit_bytes_max / COMMIT_SHARE;
        let owner = self.claim.owner().clone();
        let empty = || Commit { owner: Some(owner.clone()), ..Commit::default() };
        let (mut commit, mut bytes) = (empty(), 0);
        for part in prepared {
            let letters = self.dead_letters(part)?;
            let part_bytes = part.committed.metadata.len()
                + letters.as_ref().map_or(0, |letters| letters.records.size_bytes());
            if bytes > 0 && bytes + part_bytes > bytes_max {
                self.log.commit(mem::replace(&mut commit, empty()))?.wait()?;
                bytes = 0;
            }
            bytes += part_bytes;
            commit.appends.extend(letters);
            commit.offsets.push(GroupOffset {
                group: Arc::clone(&owner.group),
                partition: TopicPartition::new(self.topic.clone(), part.partition),
                committed: part.committed.clone(),
            });
        }
        self.log.commit(commit)?.wait()?;
        // A topic may be acknowledged before it is on the disk; what is published must not outlive its records.
        self.log.sync()?;
        for part in prepared {
            let mut readings = self.readings.iter_mut();
            if let Some(reading) =
                readings.find(|reading| reading.partition.partition == part.partition)
            {
                reading.committed = part.committed.offset;
            }
        }
        Ok(())
    }

    fn dead_letters(&self, part: &Prepared) -> Result<Option<Append>, Stopped> {
        if part.dead_letters.is_empty() {
            return Ok(None);
        }
        ensure_topic(&*self.log, &self.dead_letter_topic, 1)?;
        let route = Route {
            from: self.topic.as_str(),
            partition: part.partition,
            to: &self.dead_letter_topic,
            record_bytes_max: self.log.limits().record_bytes_max,
        };
        dead_letters(&route, &part.dead_letters, self.clock.now())
    }

    fn report(&self, taken: u64, dead_letters: u64) {
        let counts = self.connector.counts();
        let lag = |reading: &Reading| u64::try_from(reading.end - reading.committed).unwrap_or(0);
        let lag = self.readings.iter().map(lag).sum();
        self.signal.update(|progress| {
            progress.taken += taken;
            progress.dead_letters += dead_letters;
            progress.delivered = counts.delivered;
            progress.skipped = counts.skipped;
            progress.lag = lag;
        });
    }
}

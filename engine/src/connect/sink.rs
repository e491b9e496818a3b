//! Drives a sink: read, put, prepare, commit, publish.
//!
//! # Invariants
//!
//! - What a sink prepared is published only after its positions are committed and the log is on the disk to that point,
//!   so that no sink is ever ahead of the log.
//! - A drain reads to the ends that the partitions had when it was asked for, then prepares everything.
//! - A stop prepares and commits what was taken, so that a sink that can repeat records repeats none.

use super::{
    ConnectError, Stopped,
    attempt::attempt,
    dead_letter::{Origin, dead_letters, ensure_topic},
    group_of,
    signal::{Signal, Wish, spawn},
};
use headwater_core::{
    ports::{
        connector::{Due, Prepared, SinkConnector},
        log::{Append, Claim, Commit, GroupOffset, Log, Subscription},
    },
    record::{TopicName, TopicPartition},
    time::Clock,
};
use std::{sync::Arc, thread::JoinHandle, time::Duration};

/// What one fetch asks for.
const FETCH_BYTES: usize = 1 << 20;
/// How often limits of time are looked at while nothing arrives.
const IDLE_WAIT: Duration = Duration::from_millis(100);

/// How far a sink is.
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

/// A sink at work on its own thread; dropping it stops it.
#[derive(Debug)]
pub struct SinkTask {
    signal: Arc<Signal<SinkProgress>>,
    thread: Option<JoinHandle<()>>,
}

impl SinkTask {
    /// Starts a sink of a topic that exists, under a name that no other connector of the log has. Records that it
    /// refuses go to the topic `{name}-dead-letters`, which is created when it is first needed.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Connector`] if the sink does not validate, [`ConnectError::Setup`] if its name cannot be part of
    /// a topic's name, [`ConnectError::Thread`].
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
        let dead_letter_topic =
            TopicName::new(format!("{name}-dead-letters")).map_err(|invalid| {
                ConnectError::Setup { name: Arc::clone(&name), detail: invalid.to_string() }
            })?;
        let signal = Arc::new(Signal::new());
        let (shared, group) = (Arc::clone(&signal), group_of(&name));
        let thread = spawn(&name, &signal, move || {
            let topics = (topic, dead_letter_topic);
            Run::open(connector, log, topics, (group, clock, shared))?.run()
        })?;
        Ok(Self { signal, thread: Some(thread) })
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> SinkProgress {
        let (mut progress, outcome) = self.signal.progress();
        progress.error = outcome.and_then(Result::err);
        progress
    }

    /// Waits until everything up to the topic's present end is delivered, committed and published; then it has ended.
    ///
    /// # Errors
    ///
    /// Why the task failed.
    pub fn drain(&self) -> Result<SinkProgress, Arc<ConnectError>> {
        self.signal.ask(Wish::Drain);
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
    pub fn join(self) -> Result<SinkProgress, Arc<ConnectError>> {
        self.stop();
        self.signal.wait_outcome()
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

#[derive(Debug)]
struct Reading {
    partition: TopicPartition,
    position: i64,
    committed: i64,
    end: i64,
    /// Wakes the task when the partition has grown.
    _subscription: Subscription,
}

/// The task's state on its thread.
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

type Shared = (Arc<str>, Arc<dyn Clock>, Arc<Signal<SinkProgress>>);

impl Run {
    fn open(
        mut connector: Box<dyn SinkConnector>,
        log: Arc<dyn Log>,
        (topic, dead_letter_topic): (TopicName, TopicName),
        (group, clock, signal): Shared,
    ) -> Result<Self, Stopped> {
        let spec = log.topics()?.into_iter().find(|spec| spec.name == topic);
        let spec = spec
            .ok_or_else(|| Stopped::Setup(format!("there is no topic {topic}; create it first")))?;
        let claim = log.claim(&group, std::slice::from_ref(&topic))?;
        let mut readings = Vec::new();
        for place in 0..spec.partitions {
            let partition = TopicPartition::new(topic.clone(), place);
            let woken = Arc::clone(&signal);
            let subscription = log.subscribe(&partition, Arc::new(move || woken.wake()))?;
            let committed = log.committed(&group, &partition)?;
            let retry = connector.retry();
            attempt(&signal, retry, || connector.open(topic.as_str(), place, committed.as_ref()))?;
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
            let wish = self.signal.wish();
            if wish == Wish::Stop {
                return self.finish();
            }
            if wish == Wish::Drain && ends.is_none() {
                ends = Some(self.ends()?);
            }
            let moved = self.read()?;
            if ends.as_ref().is_some_and(|ends| self.is_behind(ends)) {
                self.finish()?;
                self.signal.update(|progress| progress.drained = true);
                return Ok(());
            }
            self.prepare(Due::Reached(self.clock.elapsed()))?;
            if !moved {
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
    fn is_behind(&self, ends: &[i64]) -> bool {
        self.readings.iter().zip(ends).all(|(reading, end)| reading.position >= *end)
    }

    /// Reads each partition once; whether any had something.
    fn read(&mut self) -> Result<bool, Stopped> {
        let mut moved = false;
        for place in 0..self.readings.len() {
            moved |= self.read_partition(place)?;
        }
        Ok(moved)
    }

    fn read_partition(&mut self, place: usize) -> Result<bool, Stopped> {
        let Some(reading) = self.readings.get_mut(place) else { return Ok(false) };
        let fetched = self.log.fetch(&reading.partition, reading.position, FETCH_BYTES)?;
        let moved = fetched.next_offset > reading.position;
        reading.end = fetched.end;
        let (count, partition) = (fetched.records.len(), reading.partition.partition);
        if count == 0 {
            reading.position = fetched.next_offset;
            return Ok(moved);
        }
        let (retry, connector) = (self.connector.retry(), &mut self.connector);
        let taken = attempt(&self.signal, retry, || connector.put(partition, &fetched.records))?;
        reading.position =
            fetched.records.get(taken).map_or(fetched.next_offset, |first_left| first_left.offset);
        self.report(taken as u64, 0);
        if taken < count {
            self.prepare(Due::All)?;
        }
        Ok(true)
    }

    /// Prepares everything, for an end. If that fails while the task is to stop, it is not tried again.
    fn finish(&mut self) -> Result<(), Stopped> {
        self.prepare(Due::All)
    }

    fn prepare(&mut self, due: Due) -> Result<(), Stopped> {
        let (retry, connector) = (self.connector.retry(), &mut self.connector);
        let prepared = attempt(&self.signal, retry, || connector.prepare(due))?;
        if prepared.is_empty() {
            return Ok(());
        }
        let letters = prepared.iter().map(|p| p.dead_letters.len() as u64).sum();
        self.commit(&prepared)?;
        let (retry, connector) = (self.connector.retry(), &mut self.connector);
        attempt(&self.signal, retry, || connector.published())?;
        self.report(0, letters);
        Ok(())
    }

    fn commit(&mut self, prepared: &[Prepared]) -> Result<(), Stopped> {
        let mut commit = Commit { owner: Some(self.claim.owner().clone()), ..Commit::default() };
        for part in prepared {
            commit.appends.extend(self.dead_letters(part)?);
            let partition = TopicPartition::new(self.topic.clone(), part.partition);
            let group = Arc::clone(&self.claim.owner().group);
            commit.offsets.push(GroupOffset {
                group,
                partition,
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
        let origin = Origin {
            from: self.topic.as_str(),
            partition: part.partition,
            to: &self.dead_letter_topic,
        };
        dead_letters(&origin, &part.dead_letters, self.clock.now())
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

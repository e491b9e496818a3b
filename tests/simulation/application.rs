//! An application of the simulation: what the schedule has asked of it, and what it must come to.

use crate::{
    expected::{self, Closed, PARTITIONS, partition},
    topology::{Shared, topology},
};
use headwater::{
    ports::log::{Append, Commit, CommitTicket, Log},
    prelude::*,
    record::{Headers, RecordSetBuilder, murmur2_partition},
    runtime::{Application, Repartitioning, Stepper, StreamsState, UncaughtExceptionResponse},
};
use headwater_testkit::{FaultyLog, FaultyState};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Event time goes on by this from one rest to the next: every window before it then closes.
const ERA: i64 = 120;
/// How far apart records between two rests are: less than the grace.
pub(crate) const SPREAD: usize = 30;

/// The most commits on their way beside which records are taken.
pub(crate) const HELD_MAX: usize = 4;

/// How an application was asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Close,
    Drain,
}

/// How it is set up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) threads: usize,
    pub(crate) rows_max: usize,
    pub(crate) is_caching: bool,
    pub(crate) repartitioning: Repartitioning,
}

pub(crate) struct App {
    pub(crate) id: &'static str,
    setup: Setup,
    pub(crate) shared: Arc<Shared>,
    state: Arc<FaultyState>,
    /// The faults that were over when its handler was last asked.
    handled: Arc<AtomicU64>,
    application: Option<Application>,
    pub(crate) end: Option<End>,
    pub(crate) is_paused: bool,
    /// Appends that are not acknowledged yet.
    tickets: Vec<CommitTicket>,
    next_value: i64,
    era: i64,
    /// It was drained: event time must go on before more is appended.
    is_frozen: bool,
    closed: Closed,
    /// How many records of its input were there when all had been through the first repartition.
    seen_of: i64,
}

/// How often its code has panicked or its state has failed.
fn faults(id: &str, shared: &Shared, state: &FaultyState) -> u64 {
    shared.panics.load(Ordering::SeqCst) + state.failures(id)
}

impl App {
    pub(crate) fn new(id: &'static str, setup: Setup, state: &Arc<FaultyState>) -> Self {
        Self {
            id,
            setup,
            shared: Arc::default(),
            state: Arc::clone(state),
            handled: Arc::default(),
            application: None,
            end: None,
            is_paused: false,
            tickets: Vec::new(),
            next_value: 0,
            era: 0,
            is_frozen: false,
            closed: Closed { below: 0, maybe_below: 0 },
            seen_of: 0,
        }
    }

    /// The topics that it needs.
    pub(crate) fn topics(id: &str) -> impl Iterator<Item = TopicSpec> {
        ["in", "copies", "ticks", "counts", "finals", "sums"]
            .map(|kind| TopicSpec::new(TopicName::new(format!("{id}-{kind}")).unwrap(), PARTITIONS))
            .into_iter()
    }

    pub(crate) fn start(&mut self, stepper: &Stepper) {
        let Setup { threads, rows_max, is_caching, repartitioning } = self.setup;
        let (handled, shared) = (Arc::clone(&self.handled), Arc::clone(&self.shared));
        let (id, state) = (self.id, Arc::clone(&self.state));
        state.cancel_failure(id);
        shared.taken.lock().unwrap().clear();
        let config = StreamsConfig::new(self.id)
            .with_num_stream_threads(threads)
            .with_batch_rows_max(rows_max)
            .with_repartitioning(repartitioning)
            .with_uncaught_exception_handler(move |_| {
                handled.store(faults(id, &shared, &state), Ordering::SeqCst);
                shared.taken.lock().unwrap().clear();
                UncaughtExceptionResponse::Replace
            });
        let topology = topology(self.id, &self.shared, is_caching);
        (self.end, self.is_paused) = (None, false);
        self.application = Some(stepper.start_application(topology, config).unwrap());
    }

    /// The process was killed.
    pub(crate) fn crashed(&mut self) {
        // Nobody knows whether the last commit of a drain is durable.
        self.closed.maybe_below =
            if self.is_frozen { self.era + ERA } else { self.closed.maybe_below };
        self.application = None;
        self.tickets.clear();
        self.handled.store(self.faults(), Ordering::SeqCst);
    }

    fn state(&self) -> StreamsState {
        match self.application.as_ref().map_or(StreamsState::NotRunning, Application::state) {
            StreamsState::Error(error) => panic!("{} failed: {error}", self.id),
            state => state,
        }
    }

    fn faults(&self) -> u64 {
        faults(self.id, &self.shared, &self.state)
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state(), StreamsState::NotRunning)
    }

    pub(crate) fn is_restarting(&self) -> bool {
        matches!(self.state(), StreamsState::Restarting(_))
    }

    pub(crate) fn set_paused(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
        if let Some(application) = &self.application {
            if is_paused { application.pause() } else { application.resume() }
        }
    }

    /// Asks for an end, and does not wait for it.
    pub(crate) fn ask(&mut self, end: End) {
        if self.end.is_some() || (end == End::Drain && !self.is_acknowledged()) {
            return;
        }
        let Some(application) = &self.application else { return };
        let asked = match end {
            End::Close => application.close_within(Duration::ZERO),
            End::Drain => application.drain_within(Duration::ZERO),
        };
        assert!(asked.is_err(), "{}: nobody has stepped it", self.id);
        self.end = Some(end);
        self.is_frozen |= end == End::Drain;
    }

    /// Starts it again if it has ended as it was asked to.
    pub(crate) fn start_if_ended(&mut self, stepper: &Stepper) -> bool {
        if !self.has_ended() {
            return false;
        }
        let end = self.end.unwrap_or_else(|| panic!("{} ended by itself", self.id));
        if end == End::Drain {
            let until = self.era + ERA;
            self.closed = Closed { below: until, maybe_below: until.max(self.closed.maybe_below) };
        }
        self.start(stepper);
        true
    }

    /// Whether every append is.
    fn is_acknowledged(&mut self) -> bool {
        self.tickets.retain_mut(|ticket| ticket.poll().is_none());
        self.tickets.is_empty()
    }

    /// Hands a record in; no number if it is to be a bad one.
    pub(crate) fn append(&mut self, log: &FaultyLog, (key, at): (usize, usize), is_bad: bool) {
        if self.is_frozen {
            return;
        }
        let key = format!("k{key}");
        let value = self.next_value;
        self.next_value += 1;
        let bytes = if is_bad { b"bad".to_vec() } else { value.to_be_bytes().to_vec() };
        let at = self.era + i64::try_from(at).unwrap();
        let mut records = RecordSetBuilder::default();
        records.push(at, Some(key.as_bytes()), Some(&bytes), &Headers::new()).unwrap();
        let number = murmur2_partition(key.as_bytes(), PARTITIONS);
        let append = Append {
            partition: partition(&format!("{}-in", self.id), number),
            base_offset: None,
            records: Arc::new(records.build()),
        };
        let commit = Commit { appends: vec![append], ..Commit::default() };
        self.tickets.push(log.commit(commit).unwrap());
    }

    /// How many records the log holds of its input.
    fn available(&self, log: &FaultyLog) -> i64 {
        let ends = (0..PARTITIONS).map(|number| partition(&format!("{}-in", self.id), number));
        ends.map(|at| log.offsets(&at).unwrap().end).sum()
    }

    /// Nobody is awake: whatever can be done without the clock or the log has been. `held` commits are on their way.
    pub(crate) fn check_at_rest(&mut self, log: &FaultyLog, held: usize) {
        let is_stopping = self.faults() > self.handled.load(Ordering::SeqCst);
        if self.has_ended() {
            assert!(self.end.is_some(), "{} ended by itself", self.id);
        }
        let waits = self.is_paused && self.end.is_none();
        if self.has_ended() || self.is_restarting() || waits || is_stopping {
            return;
        }
        if let Some(end) = self.end {
            assert!(held > 0, "{}: it was asked to {end:?}, and sleeps for ever", self.id);
            return;
        }
        // A slow disk holds commits up, not records that pass in memory. So many commits on their way do hold them up.
        if self.setup.repartitioning == Repartitioning::ThroughTopic && held > 0 {
            return;
        }
        let available = self.available(log);
        if held < HELD_MAX && available > self.seen_of {
            let seen = self.shared.seen.lock().unwrap();
            for record in expected::input(log, self.id) {
                let Some(value) = record.value else { continue };
                let is_seen = seen.contains(&(format!("of {}", record.key), value));
                assert!(is_seen, "{}: {record:?} is there, and everybody sleeps", self.id);
            }
            self.seen_of = available;
        }
    }

    /// All that was taken before it was paused has been committed.
    pub(crate) fn check_paused(&self, log: &FaultyLog) {
        let Some(application) = self.application.as_ref().filter(|_| self.is_paused) else {
            return;
        };
        let lags = application.lag().unwrap();
        // Not under its lock, which code that still runs wants.
        let taken = self.shared.taken.lock().unwrap().clone();
        for record in expected::input(log, self.id) {
            let is_taken = record.value.is_some_and(|value| taken.contains(&value));
            let lag = lags.iter().find(|lag| lag.partition.partition == record.partition).unwrap();
            let is_committed = record.offset < lag.committed;
            assert!(
                is_committed || !is_taken,
                "{}: {record:?} is not committed in a pause",
                self.id
            );
        }
    }

    /// Everything has been done that will be before more is appended: compares what came out with what went in.
    pub(crate) fn check_output(&mut self, log: &FaultyLog) {
        let application = self.application.as_ref().unwrap();
        for lag in application.lag().unwrap() {
            assert_eq!(lag.committed, lag.end, "{}: {}", self.id, lag.partition);
        }
        for node in ["first", "second"] {
            assert_eq!(application.dropped_records(node), 0, "{}: late in {node}", self.id);
        }
        expected::check(log, self.id, self.setup.is_caching, self.closed);
        self.era += ERA;
        self.is_frozen = false;
    }

    /// Times it went on from its last commit.
    pub(crate) fn restarts(&self) -> u64 {
        self.application.as_ref().map_or(0, |application| application.metrics().restarts)
    }
}

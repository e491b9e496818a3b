//! What a schedule acts on: a log that is slow and fails, a state, a clock, and two applications on one runtime.

use crate::random::Random;
use headwater::{
    dsl::{KStream, Materialized, StreamsBuilder},
    ports::log::{Append, Commit, CommitTicket, Log, TopicSpec},
    ports::state::{ApplicationState, State},
    prelude::*,
    record::{Headers, RecordSetBuilder},
    runtime::{Application, Stepper, StreamsState, UncaughtExceptionResponse},
    state::MemoryState,
    time::Clock,
};
use headwater_testkit::{FaultyLog, ManualClock};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Steps after which a schedule that was let run counts as hanging.
const STEPS_MAX: usize = 20_000;
const KEYS: usize = 5;
const PARTITIONS: u32 = 2;

/// Applications of the simulation: the second one never panics, and must not notice the first.
const APPLICATIONS: [&str; 2] = ["shaken", "steady"];

pub(crate) struct World {
    random: Random,
    log: Arc<FaultyLog>,
    state: Arc<MemoryState>,
    /// Keep what the state holds of the applications while they are down, as a disk does.
    kept: Vec<Arc<dyn ApplicationState>>,
    clock: Arc<ManualClock>,
    stepper: Option<Stepper>,
    applications: Vec<Application>,
    /// Has the first application's code panic at its next record.
    bomb: Arc<AtomicBool>,
    bombs_left: usize,
    threads: usize,
    rows_max: usize,
    is_caching: bool,
    /// Values appended, by key, in order.
    appended: BTreeMap<String, Vec<i64>>,
}

fn partition(topic: &str, number: u32) -> TopicPartition {
    TopicPartition::new(TopicName::new(topic).unwrap(), number)
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let log = Arc::new(FaultyLog::new());
        let mut topics = vec![TopicSpec::new(TopicName::new("in").unwrap(), PARTITIONS)];
        for application in APPLICATIONS {
            for kind in ["counts", "copies"] {
                let name = TopicName::new(format!("{application}-{kind}")).unwrap();
                topics.push(TopicSpec::new(name, PARTITIONS));
            }
        }
        log.create_topics(&topics).unwrap();
        let mut world = Self {
            threads: 1 + random.below(3),
            rows_max: [1, 2, 100][random.below(3)],
            is_caching: random.once_in(2),
            random,
            log,
            state: Arc::new(MemoryState::default()),
            kept: Vec::new(),
            clock: Arc::new(ManualClock::at(0)),
            stepper: None,
            applications: Vec::new(),
            bomb: Arc::default(),
            bombs_left: 4,
            appended: BTreeMap::new(),
        };
        world.start();
        world
    }

    fn topology(&self, application: &str) -> Topology {
        let builder = StreamsBuilder::new();
        let bomb = (application == "shaken").then(|| Arc::clone(&self.bomb));
        let records: KStream<String, i64> = builder.stream("in");
        let records = records.map_values(move |value| {
            let goes_off = bomb.as_ref().is_some_and(|bomb| bomb.swap(false, Ordering::SeqCst));
            assert!(!goes_off, "the schedule has the user's code panic");
            value
        });
        records.to(format!("{application}-copies"));
        // Keys change partitions on the way, so that tasks send each other records.
        let store = Materialized::named("counts");
        let store = if self.is_caching { store } else { store.with_caching_disabled() };
        let counts = records.group_by(|key, _| format!("of {key}")).count(store);
        counts.to_stream().drop_null_values().to(format!("{application}-counts"));
        builder.build().unwrap()
    }

    /// Starts both applications on a runtime of their own.
    fn start(&mut self) {
        let log = Arc::clone(&self.log) as Arc<dyn Log>;
        let (state, clock) = (Arc::clone(&self.state), Arc::clone(&self.clock));
        let stepper = Stepper::new(
            self.threads,
            log,
            state as Arc<dyn State>,
            Arc::clone(&clock) as Arc<dyn Clock>,
        );
        self.kept = APPLICATIONS.map(|id| self.state.application(id).unwrap()).into();
        for id in APPLICATIONS {
            let config = StreamsConfig::new(id)
                .with_num_stream_threads(self.threads)
                .with_batch_rows_max(self.rows_max)
                .with_uncaught_exception_handler(|_| UncaughtExceptionResponse::Replace);
            self.applications.push(stepper.start_application(self.topology(id), config).unwrap());
        }
        self.stepper = Some(stepper);
    }

    /// Does one thing that the seed decides.
    pub(crate) fn act(&mut self) {
        match self.random.below(100) {
            0..70 => self.step(),
            70..82 => self.append(),
            82..90 => drop(self.log.complete_next()),
            90..93 => {
                let is_slow = self.random.once_in(2);
                self.log.set_slow(is_slow);
            }
            93..97 => self.clock.advance(Duration::from_millis(self.random.below(200) as u64)),
            // After five restarts within ten minutes an application gives up.
            97 if self.bombs_left > 0 => {
                self.bombs_left -= 1;
                self.bomb.store(true, Ordering::SeqCst);
            }
            98 => {
                let application = self.random.below(APPLICATIONS.len());
                let application = &self.applications[application];
                application.pause();
                application.resume();
            }
            _ if self.random.once_in(3) => self.crash(),
            _ => {}
        }
    }

    fn step(&mut self) {
        let stepper = self.stepper.as_mut().unwrap();
        let actor = self.random.below(stepper.actors());
        stepper.step(actor);
    }

    fn append(&mut self) {
        let key = format!("k{}", self.random.below(KEYS));
        let values = self.appended.entry(key.clone()).or_default();
        let value = i64::try_from(values.len()).unwrap();
        values.push(value);
        let mut records = RecordSetBuilder::default();
        let bytes = value.to_be_bytes();
        records.push(value, Some(key.as_bytes()), Some(&bytes), &Headers::new()).unwrap();
        let number = headwater::record::murmur2_partition(key.as_bytes(), PARTITIONS);
        let append = Append {
            partition: partition("in", number),
            base_offset: None,
            records: Arc::new(records.build()),
        };
        let commit = Commit { appends: vec![append], ..Commit::default() };
        // Producers are not what is looked at: they wait for nobody. Held commits stay in order before it.
        while self.log.complete_next() {}
        self.log.set_slow(false);
        self.log.commit(commit).and_then(CommitTicket::wait).unwrap();
        let is_slow = self.random.once_in(2);
        self.log.set_slow(is_slow);
    }

    /// Kills the process: some of the commits on their way are durable.
    fn crash(&mut self) {
        let durable = self.random.below(4);
        self.stepper.take().unwrap().crash();
        self.log.cut_power(durable);
        self.applications.clear();
        if self.random.once_in(4) {
            self.kept.clear();
        }
        self.start();
    }

    /// Lets everything run: drains, until both applications have ended.
    pub(crate) fn run_to_the_end(&mut self) {
        self.bomb.store(false, Ordering::SeqCst);
        self.log.set_slow(false);
        for application in &self.applications {
            // Asks, and does not wait.
            assert!(application.drain_within(Duration::ZERO).is_err());
        }
        for _ in 0..STEPS_MAX {
            if self.applications.iter().all(has_ended) {
                return;
            }
            self.log.complete_next();
            self.step();
            // Time stands still but for what waits for a restart.
            if self.random.once_in(50) {
                self.clock.advance(Duration::from_millis(100));
            }
        }
        let states: Vec<_> = self.applications.iter().map(Application::state).collect();
        panic!("it hangs: {states:?}");
    }

    /// Compares what came out with what went in.
    pub(crate) fn check(&self) {
        for application in APPLICATIONS {
            let copies = self.read(&format!("{application}-copies"));
            assert_eq!(copies, self.appended, "{application}: each record once, in order");
            let counts = self.read(&format!("{application}-counts"));
            for (key, values) in &self.appended {
                let counted = counts.get(&format!("of {key}")).cloned().unwrap_or_default();
                let all = i64::try_from(values.len()).unwrap();
                if self.is_caching {
                    assert_eq!(
                        counted.last(),
                        Some(&all),
                        "{application}: the last count of {key}"
                    );
                    assert!(
                        counted.is_sorted_by(|a, b| a < b),
                        "{application}: {key}: {counted:?}"
                    );
                } else {
                    assert!(
                        counted.iter().copied().eq(1..=all),
                        "{application}: {key}: {counted:?}"
                    );
                }
            }
        }
    }

    /// The values in a topic, by key, in order.
    fn read(&self, topic: &str) -> BTreeMap<String, Vec<i64>> {
        let mut values: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for number in 0..PARTITIONS {
            let fetched = self.log.fetch(&partition(topic, number), 0, usize::MAX).unwrap();
            for record in fetched.records.iter() {
                let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
                let value = i64::from_be_bytes(record.value.unwrap().try_into().unwrap());
                values.entry(key).or_default().push(value);
            }
        }
        values
    }
}

fn has_ended(application: &Application) -> bool {
    match application.state() {
        StreamsState::NotRunning => true,
        StreamsState::Error(error) => panic!("an application failed: {error}"),
        _ => false,
    }
}

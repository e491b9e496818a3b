//! Many applications on one runtime: what they cost while nothing happens, counted and not timed.

#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

use headwater::{
    dsl::{Materialized, StreamsBuilder},
    ports::log::{Append, Commit, CommitTicket, Log, TopicSpec},
    prelude::*,
    record::{Headers, RecordSetBuilder},
    runtime::{Application, Runtime, Stepper},
    state::MemoryState,
};
use headwater_testkit::{ManualClock, MemoryLog};
use std::{sync::Arc, time::Duration};

const APPLICATIONS: usize = 50;
const TOPICS: [&str; 2] = ["one", "two"];
const PARTITIONS: u32 = 4;

fn log() -> Arc<MemoryLog> {
    let log = Arc::new(MemoryLog::new());
    let topic = |name| TopicSpec::new(TopicName::new(name).unwrap(), PARTITIONS);
    log.create_topics(&TOPICS.map(topic)).unwrap();
    log
}

/// Filter → count over a topic.
fn topology(topic: &str) -> Topology {
    let builder = StreamsBuilder::new();
    let records = builder.stream::<String, i64>(topic).filter(|_, value| *value >= 0);
    let _counts = records.group_by_key().count(Materialized::named("counts"));
    builder.build().unwrap()
}

/// The topic of an application: half of them read each.
fn topic(number: usize) -> &'static str {
    TOPICS.get(number % TOPICS.len()).unwrap()
}

fn append(log: &dyn Log, topic: &str, keys: usize) {
    for partition in 0..PARTITIONS {
        let mut set = RecordSetBuilder::default();
        for key in 0..keys {
            let (key, value) = (format!("{partition}-{key}"), 1_i64.to_be_bytes());
            set.push(0, Some(key.as_bytes()), Some(&value), &Headers::new()).unwrap();
        }
        let partition = TopicPartition::new(TopicName::new(topic).unwrap(), partition);
        let append = Append { partition, base_offset: None, records: Arc::new(set.build()) };
        let commit = Commit { appends: vec![append], ..Commit::default() };
        log.commit(commit).and_then(CommitTicket::wait).unwrap();
    }
}

/// Fifty applications that move when they are stepped.
struct World {
    log: Arc<MemoryLog>,
    clock: Arc<ManualClock>,
    stepper: Option<Stepper>,
    applications: Vec<Application>,
}

impl World {
    fn new() -> Self {
        let (log, clock) = (log(), Arc::new(ManualClock::at(0)));
        let (shared, time) =
            (Arc::clone(&log) as Arc<dyn Log>, Arc::clone(&clock) as Arc<dyn Clock>);
        let stepper = Stepper::new(2, shared, Arc::new(MemoryState::new()), time);
        let start = |number| {
            let config = StreamsConfig::new(format!("application-{number}"));
            stepper.start_application(topology(topic(number)), config).unwrap()
        };
        let applications = (0..APPLICATIONS).map(start).collect();
        Self { log, clock, stepper: Some(stepper), applications }
    }

    /// Turns and commits of the applications of each topic.
    fn done(&self) -> [(u64, u64); 2] {
        TOPICS.map(|of| {
            let numbered = self.applications.iter().enumerate();
            let of_topic = numbered.filter(|(number, _)| topic(*number) == of);
            of_topic.fold((0, 0), |(turns, commits), (_, application)| {
                let metrics = application.metrics();
                (turns + metrics.turns, commits + metrics.commits)
            })
        })
    }

    /// Steps every actor until none has anything to do.
    fn run(&mut self) {
        loop {
            let before = self.done();
            let stepper = self.stepper.as_mut().unwrap();
            let mut is_busy = false;
            for actor in 0..stepper.actors() {
                is_busy |= stepper.step(actor);
            }
            if !is_busy && self.done() == before {
                return;
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Nobody would step applications that are waited for.
        self.stepper.take().into_iter().for_each(Stepper::crash);
    }
}

fn counted(application: &Application) -> i64 {
    let counts = application.store::<String, i64>("counts").unwrap().all().unwrap();
    counts.iter().map(|(_, count)| count.value).sum()
}

#[test]
fn applications_cost_nothing_at_rest_and_nothing_for_the_topics_of_others() {
    let mut world = World::new();
    for topic in TOPICS {
        append(&*world.log, topic, 25);
    }
    world.run();
    assert!(world.applications.iter().all(|application| counted(application) == 100));

    // An hour at rest.
    let rest = world.done();
    for _ in 0..60 {
        world.clock.advance(Duration::from_secs(60));
        world.run();
    }
    assert_eq!(world.done(), rest, "turns and commits at rest");

    append(&*world.log, "one", 1);
    world.run();
    let [one, two] = world.done();
    assert_eq!(two, rest[1], "the other topic's applications were woken");
    assert!(one.0 > rest[0].0 && one.1 > rest[0].1);
    assert_eq!((counted(&world.applications[0]), counted(&world.applications[1])), (104, 100));
    drop(world);
    threads_are_those_of_one_application();
}

/// Called by the one test, so that no other's threads are counted.
fn threads_are_those_of_one_application() {
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let log = log();
    let clock = Arc::new(SystemClock::new());
    let shared = Arc::clone(&log) as Arc<dyn Log>;
    let before = threads();
    let runtime = Runtime::start(2, shared, Arc::new(MemoryState::new()), clock).unwrap();
    let start = |number| {
        let config = StreamsConfig::new(format!("application-{number}"));
        runtime.start_application(topology(topic(number)), config).unwrap()
    };
    let mut applications = vec![start(0)];
    let with_one = threads();
    applications.extend((1..APPLICATIONS).map(start));
    append(&*log, "one", 25);
    append(&*log, "two", 25);
    for application in &applications {
        application.drain().unwrap();
        assert_eq!(counted(application), 100);
    }
    assert_eq!(threads(), with_one);
    assert!(with_one - before <= 8, "{} threads", with_one - before);
}

//! Many applications on one runtime: what they cost while nothing happens, counted and not timed.

#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

use headwater::{
    dsl::{Materialized, StreamsBuilder},
    log::{EmbeddedLog, LogOptions},
    ports::log::{Append, Commit, CommitTicket, Log, TopicSpec},
    prelude::*,
    record::{Headers, RecordSetBuilder},
    runtime::{Application, Runtime, Stepper},
    state::MemoryState,
};
use headwater_testkit::{ManualClock, MemoryLog};
use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};
use tempfile::TempDir;

const APPLICATIONS: usize = 50;
const TOPICS: [&str; 2] = ["one", "two"];
const PARTITIONS: u32 = 4;

fn topic_of(name: &str) -> TopicSpec {
    TopicSpec::new(TopicName::new(name).unwrap(), PARTITIONS)
}

fn log() -> Arc<MemoryLog> {
    let log = Arc::new(MemoryLog::new());
    log.create_topics(&TOPICS.map(topic_of)).unwrap();
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
    threads_at_rest_do_not_run();
}

/// Called by the one test, so that no other's threads are counted.
fn threads_are_those_of_one_application() {
    let threads = || fs::read_dir("/proc/self/task").unwrap().count();
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

/// A runtime's threads.
const THREADS: [&str; 4] = ["committer", "stream", "stream", "supervisor"];

/// How often each of a runtime's threads has left its core, voluntarily and not, if all of them sleep until they are woken: none
/// runs, and none has a moment at which it would go on by itself.
fn asleep() -> Option<BTreeMap<String, [u64; 2]>> {
    let (mut names, mut switches) = (Vec::new(), BTreeMap::new());
    for thread in fs::read_dir("/proc/self/task").unwrap() {
        let thread = thread.unwrap().path();
        // One that cannot be read has ended meanwhile.
        let Ok(name) = fs::read_to_string(thread.join("comm")) else { continue };
        if !THREADS.contains(&name.trim()) {
            continue;
        }
        let status = fs::read_to_string(thread.join("status")).ok()?;
        let field = |field| status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        let count = |name| field(name).trim().parse::<u64>().unwrap();
        let counts = ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"].map(count);
        // The number of the call and its arguments; the fourth of a futex's is the time at which it gives up.
        let call = fs::read_to_string(thread.join("syscall")).ok()?;
        let is_timed = call.split_whitespace().nth(4) != Some("0x0");
        if !field("State:").trim().starts_with('S') || is_timed {
            return None;
        }
        names.push(name.trim().to_owned());
        switches.insert(thread.display().to_string(), counts);
    }
    names.sort();
    assert_eq!(names, THREADS);
    Some(switches)
}

/// Counts by a part of the key, and then how often each of these was updated; cached, over two repartitions.
fn topology_of_two_hops() -> Topology {
    let builder = StreamsBuilder::new();
    let records = builder.stream::<String, i64>("one");
    let counts = records.group_by(|key, _| key.chars().take(1).collect::<String>());
    let counts = counts.count(Materialized::named("counts")).to_stream();
    let updates = counts.map_values(|count| count.unwrap_or_default());
    let updates = updates.group_by(|_, count| (count % 2).to_string());
    updates.count(Materialized::named("updates")).to_stream().to("two");
    builder.build().unwrap()
}

/// An application at rest makes no call of the system: its threads do not even run.
fn threads_at_rest_do_not_run() {
    let (dir, clock) = (TempDir::new().unwrap(), Arc::new(ManualClock::at(0)));
    let log = Arc::new(EmbeddedLog::open(dir.path(), LogOptions::new()).unwrap());
    log.create_topics(&["one", "two", "unread"].map(topic_of)).unwrap();
    let (shared, time) = (Arc::clone(&log) as Arc<dyn Log>, Arc::clone(&clock) as Arc<dyn Clock>);
    let runtime = Runtime::start(2, shared, Arc::new(MemoryState::new()), time).unwrap();
    let config = StreamsConfig::new("app").with_num_stream_threads(2);
    let config = config.with_commit_interval(Duration::from_millis(1));
    let application = runtime.start_application(topology_of_two_hops(), config).unwrap();
    append(&*log, "one", 25);

    // What the threads had handed to the log before the first look lies there before what is appended, so that they were told: if
    // they have not run until the second look, nothing that is under way will wake them.
    let rest = (0..100_000).find_map(|_| {
        let before = asleep();
        clock.advance(Duration::from_secs(1));
        append(&*log, "unread", 1);
        before.filter(|before| counted(&application) == 100 && asleep().as_ref() == Some(before))
    });
    let rest = rest.expect("the threads come to rest");
    let turns = application.metrics().turns;

    // An hour at rest, with records that are for others.
    for _ in 0..60 {
        (0..60).for_each(|_| clock.advance(Duration::from_secs(1)));
        append(&*log, "unread", 1);
    }
    assert_eq!(asleep(), Some(rest), "context switches at rest");
    assert_eq!(application.metrics().turns, turns);
    drop(application);
}

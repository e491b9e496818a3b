//! An application that was given up by a time-out and replaced in the same process, and whose old thread then wakes within a
//! step of a commit; and a second process on a directory that has an owner.
//!
//! At each step the old thread is held, another application of the same id takes over and takes all there is; then the old
//! one is let go on. What it had not committed is refused, what it had is not done again, and its stores change nothing of
//! what the new owner's hold.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails here fails its test")]

mod gate;
mod standby;

use gate::{Gate, GatedLog, GatedState, STEPS, Step};
use headwater::{
    log::OpenError,
    ports::{
        log::{Append, Commit, LogError},
        state::{State, StateError},
    },
    prelude::*,
    record::{Headers, RecordSetBuilder},
    runtime::StreamsState,
    state::MemoryState,
};
use headwater_testkit::MemoryLog;
use std::{
    collections::BTreeMap,
    env,
    io::{self, Write},
    process::Command,
    sync::Arc,
    time::Duration,
};

const KEYS: i64 = 5;

fn only(topic: &str) -> TopicPartition {
    TopicPartition::new(TopicName::new(topic).unwrap(), 0)
}

/// Counts the values of each remainder below a repartition; each record gives one update.
fn topology(gate: Option<&Arc<Gate>>) -> Topology {
    let builder = StreamsBuilder::new();
    let gate = gate.map(Arc::clone);
    let records = builder.stream::<String, i64>("in").peek(move |_, _| {
        gate.iter().for_each(|gate| gate.pass(Step::Processing));
    });
    let grouped = records.group_by(|_, value| format!("r{}", value % KEYS));
    let counts = grouped.count(Materialized::named("counts").with_caching_disabled());
    counts.to_stream().drop_null_values().to("out");
    builder.build().unwrap()
}

/// A log and a state that outlive the applications on them.
struct World {
    log: Arc<dyn Log>,
    state: Arc<dyn State>,
    sent: i64,
}

impl World {
    fn new(log: Arc<dyn Log>, state: Arc<dyn State>) -> Self {
        let topics = ["in", "out"].map(|name| TopicSpec::new(TopicName::new(name).unwrap(), 1));
        log.create_topics(&topics).unwrap();
        Self { log, state, sent: 0 }
    }

    fn send(&mut self, count: i64) {
        let mut records = RecordSetBuilder::default();
        for value in self.sent..self.sent + count {
            let bytes = value.to_be_bytes();
            records.push(value, Some(b"car"), Some(&bytes), &Headers::new()).unwrap();
        }
        self.sent += count;
        let records = Arc::new(records.build());
        let append = Append { partition: only("in"), base_offset: None, records };
        let commit = Commit { appends: vec![append], ..Commit::default() };
        self.log.commit(commit).unwrap().wait().unwrap();
    }

    fn start(&self, gate: Option<&Arc<Gate>>) -> Streams {
        let (mut log, mut state) = (Arc::clone(&self.log), Arc::clone(&self.state));
        if let Some(gate) = gate {
            log = Arc::new(GatedLog::new(log, gate));
            state = Arc::new(GatedState { inner: state, gate: Arc::clone(gate) });
        }
        // Without caches, so that what the state holds is what is gone on from.
        let config = StreamsConfig::new("app")
            .with_commit_interval(Duration::ZERO)
            .with_statestore_cache_max_bytes(0);
        let clock = Arc::new(SystemClock::new());
        Streams::start(topology(gate), config, log, state, clock).unwrap()
    }

    /// Each record that was sent has one output, whoever has taken it.
    fn check(&self, when: &str) {
        let mut counts: BTreeMap<Vec<u8>, Vec<i64>> = BTreeMap::new();
        let (mut at, end) = (0, self.log.offsets(&only("out")).unwrap().end);
        while at < end {
            let fetched = self.log.fetch(&only("out"), at, 1 << 20).unwrap();
            at = fetched.next_offset;
            for record in fetched.records.iter() {
                let count = i64::from_be_bytes(record.value.unwrap().try_into().unwrap());
                counts.entry(record.key.unwrap().to_vec()).or_default().push(count);
            }
        }
        for key in 0..KEYS {
            let of_key = (0..self.sent).filter(|value| value % KEYS == key).count();
            let expected: Vec<i64> = (1..=of_key.try_into().unwrap()).collect();
            let seen = counts.remove(format!("r{key}").as_bytes()).unwrap_or_default();
            assert_eq!(seen, expected, "{when}: the updates of r{key}");
        }
        assert!(counts.is_empty(), "{when}: {counts:?}");
    }

    /// What the stores hold when the application is started once more and takes all there is.
    fn counts(&self) -> BTreeMap<String, i64> {
        let streams = self.start(None);
        streams.drain().unwrap();
        counts(&streams)
    }

    /// Waits until all that was sent is in the stores.
    fn wait_for(&self, streams: &Streams) {
        while counts(streams).values().sum::<i64>() < self.sent {
            assert!(matches!(streams.state(), StreamsState::Running), "{:?}", streams.state());
            std::thread::yield_now();
        }
    }
}

/// What the stores hold as of the last commit.
fn counts(streams: &Streams) -> BTreeMap<String, i64> {
    let counts = streams.store::<String, i64>("counts").unwrap().all().unwrap();
    counts.into_iter().map(|(key, row)| (key, row.value)).collect()
}

/// Holds the old owner at `step`, replaces it, and lets it go on.
fn replace_at(step: Step, mut world: World) {
    let gate = Arc::new(Gate::default());
    let old = world.start(Some(&gate));
    // A start passes some of the steps too.
    gate.close_at(step);
    world.send(7);
    gate.wait();
    assert!(
        matches!(old.close_within(Duration::ZERO), Err(StreamsError::StillEnding { .. })),
        "{step:?}: it has ended"
    );

    let new = world.start(None);
    world.send(8);
    world.wait_for(&new);
    let (held, when) = (counts(&new), format!("{step:?}, the old thread held"));
    world.check(&when);
    gate.open();
    let ended = old.close();
    assert_eq!(counts(&new), held, "{step:?}: the old thread was let go on");
    world.check(&format!("{step:?}, the old thread let go on ({ended:?})"));
    // What it had not handed in when it was replaced is refused.
    let is_refused = matches!(step, Step::Processing | Step::BeforeLog);
    match ended {
        Err(
            StreamsError::AssignmentLost { .. }
            | StreamsError::Log(LogError::Fenced { .. })
            | StreamsError::State(StateError::Fenced { .. }),
        ) => {}
        Ok(()) if !is_refused => {}
        other => panic!("{step:?}: the old owner ended with {other:?}"),
    }

    world.send(6);
    new.drain().unwrap();
    world.check(&format!("{step:?}, after more was sent"));
    let kept = world.counts();
    world.state = Arc::new(MemoryState::new());
    assert_eq!(kept, world.counts(), "{step:?}: kept, and rebuilt from the changelog");
    assert_eq!(kept.values().sum::<i64>(), world.sent);
}

/// Says past the harness how many there were.
fn tell() {
    writeln!(io::stdout().lock(), "\nreplaced owners: {}", STEPS.len()).unwrap();
}

#[test]
fn an_owner_that_was_replaced_changes_nothing_wherever_it_wakes() {
    for step in STEPS {
        replace_at(step, World::new(Arc::new(MemoryLog::new()), Arc::new(MemoryState::new())));
    }
    tell();
}

#[cfg(feature = "rocksdb")]
#[test]
fn an_owner_that_was_replaced_changes_nothing_on_a_disk() {
    for step in STEPS {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions::new().journal_bytes(1 << 20);
        let log: Arc<dyn Log> =
            Arc::new(EmbeddedLog::open(&dir.path().join("log"), options).unwrap());
        let options = RocksDbOptions::default().memory_bytes(8 << 20).log(Arc::clone(&log));
        let state = Arc::new(RocksDbState::open(dir.path().join("state"), options).unwrap());
        replace_at(step, World::new(log, state));
    }
    tell();
}

/// The test runs itself: the child finds the directory in use.
#[test]
fn a_second_process_on_a_directory_is_told_who_holds_it() {
    const TEST: &str = "a_second_process_on_a_directory_is_told_who_holds_it";
    if let Ok(dir) = env::var("HEADWATER_TEST_SECOND") {
        let Err(OpenError::Locked { holder, .. }) =
            EmbeddedLog::open(dir.as_ref(), LogOptions::new())
        else {
            panic!("it opens");
        };
        let parent = std::os::unix::process::parent_id();
        assert!(holder.contains(&format!("process {parent} ")), "{holder}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), LogOptions::new().journal_bytes(1 << 20)).unwrap();
    let mut second = Command::new(env::current_exe().unwrap());
    second.args([TEST, "--exact", "--nocapture"]).env("HEADWATER_TEST_SECOND", dir.path());
    assert!(second.status().unwrap().success());
    log.close().unwrap();
}

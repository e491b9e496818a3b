//! Two runtimes on one log: one runs the application, the other keeps a standby of it up. The first is held at a step of a
//! commit, for as long as the other one needs it, as if it had been killed; the second takes over. Then they change places, the
//! owner closed this time. What comes out, and what the stores hold, is as from one that nobody disturbed, and who takes over
//! reads nothing again of what its standby had.

use crate::{
    gate::{Gate, GatedLog, GatedState, STEPS, Step},
    only,
};
use headwater::{
    dsl::{BufferConfig, JoinWindows, Joined, Suppressed},
    ports::{
        log::{Append, Commit, LogError},
        state::{State, StateError},
    },
    prelude::*,
    record::{Headers, RecordSetBuilder},
    runtime::{Application, RunningStandby, Runtime},
    state::MemoryState,
    topology::TopologyOptimization,
};
use headwater_testkit::MemoryLog;
use std::{
    sync::{Arc, mpsc::channel},
    time::Duration,
};

const INPUTS: [&str; 5] = ["names", "prices", "limits", "other", "in"];
const OUTPUTS: [&str; 8] =
    ["counts", "finals", "held", "sessions", "joined", "named", "priced", "limited"];
/// How long a test waits for what must come, so that it fails where it would hang.
const PATIENCE: Duration = Duration::from_secs(120);

/// A store of each kind: below a repartition, windows whose finals come out, windows whose rows are held back, sessions, rows that
/// wait for their match, a table that is rebuilt from its topic, versions with records that wait for theirs, a global table.
fn topology(gate: &Arc<Gate>) -> Topology {
    let builder = StreamsBuilder::new()
        .with_topology_optimization(TopologyOptimization::REUSE_KTABLE_SOURCE_TOPICS);
    let (ms, gate) = (Duration::from_millis, Arc::clone(gate));
    let stream = builder.stream::<String, i64>("in").peek(move |_, _| gate.pass(Step::Processing));
    let kept = |name: &str| Materialized::named(name).with_caching_disabled();
    let counts = stream.group_by(|key, value| format!("{key}{}", value % 2)).count(kept("counts"));
    counts.to_stream().to("counts");
    let windows = TimeWindows::of_size_and_grace(ms(10), ms(5));
    let windowed = stream.group_by_key().windowed_by(windows);
    let finals = windowed.emit_strategy(EmitStrategy::on_window_close()).count(kept("finals"));
    finals.to_stream_with_key(|at, _| at.key.clone()).to("finals");
    let until = Suppressed::until_window_closes(BufferConfig::unbounded());
    let held = stream.group_by_key().windowed_by(windows).count(kept("windows")).suppress(until);
    held.to_stream_with_key(|at, _| at.key.clone()).to("held");
    let sessions = SessionWindows::of_inactivity_gap_with_no_grace(ms(7));
    let sessions = stream.group_by_key().windowed_by(sessions).count(kept("visits"));
    sessions.to_stream_with_key(|at, _| at.key.clone()).to("sessions");
    let within = JoinWindows::of_time_difference_with_no_grace(ms(5));
    let other = builder.stream::<String, i64>("other").within(within);
    stream.outer_join(other, |a, b| a.unwrap_or(0) * 100 + b.unwrap_or(0)).to("joined");
    let names = builder.table_with("names", Consumed::<String, i64>::default(), "names");
    stream.join(&names, |value, name| value * 1_000 + name).to("named");
    let versions = Materialized::named("prices").versioned(ms(100));
    let prices = builder.stream::<String, i64>("prices").to_table(versions);
    let priced = Joined::named("price").grace_period(ms(3));
    stream.join(prices.joined(priced), |value, price| value * price).to("priced");
    let limits = builder.global_table_with("limits", Consumed::<String, i64>::default(), "limits");
    let limited = |value: i64, limit: Option<i64>| value.min(limit.unwrap_or(i64::MAX));
    stream.left_join_global(&limits, |key, _| Some(key.clone()), limited).to("limited");
    builder.build().unwrap()
}

/// Records of a topic, as key, value and timestamp.
type Sent = (&'static str, &'static [(&'static str, i64, i64)]);

/// What is sent at a time. During the third the owner is held, before the last they change places.
const GROUPS: [&[Sent]; 4] = [
    &[
        ("names", &[("a", 1, 0), ("b", 2, 0)]),
        ("prices", &[("a", 2, 0), ("b", 3, 0), ("a", 4, 5)]),
        ("limits", &[("a", 2, 0), ("b", 5, 0)]),
        ("in", &[("a", 1, 1), ("b", 2, 2), ("a", 3, 4)]),
    ],
    &[("other", &[("a", 7, 6), ("c", 8, 7)]), ("limits", &[("c", 7, 8)]), ("in", &[("c", 4, 9)])],
    &[
        ("names", &[("a", 3, 12)]),
        ("prices", &[("a", 5, 11)]),
        ("in", &[("a", 5, 13), ("b", 6, 17), ("a", 7, 3), ("c", 8, 31)]),
    ],
    &[("limits", &[("c", 9, 32)]), ("in", &[("a", 9, 33), ("b", 10, 52), ("a", 11, 90)])],
];

fn send(log: &dyn Log, group: &[Sent]) {
    for (topic, sent) in group {
        let mut records = RecordSetBuilder::default();
        for (key, value, at) in *sent {
            let (key, value) = (key.as_bytes(), value.to_be_bytes());
            records.push(*at, Some(key), Some(&value), &Headers::new()).unwrap();
        }
        let records = Arc::new(records.build());
        let append = Append { partition: only(topic), base_offset: None, records };
        let commit = Commit { appends: vec![append], ..Commit::default() };
        log.commit(commit).unwrap().wait().unwrap();
    }
}

/// Waits until the application has committed all that was sent.
fn wait_committed(log: &dyn Log) {
    for topic in INPUTS.into_iter().filter(|topic| *topic != "limits") {
        let (committed, commits) = channel();
        let waker = move || committed.send(()).unwrap_or_default();
        let _subscription = log.subscribe_to_offsets(&only(topic), Arc::new(waker)).unwrap();
        let end = log.offsets(&only(topic)).unwrap().end;
        let at = || log.committed("app", &only(topic)).unwrap().map_or(0, |it| it.offset);
        while at() < end {
            commits.recv_timeout(PATIENCE).unwrap();
        }
    }
}

/// Lets go who is held, so that a test that fails does not wait for it.
struct Opens(Arc<Gate>);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// One of two that share a log.
struct Instance {
    // Dropped in this order.
    _opens: Opens,
    application: Option<Application>,
    standby: Option<RunningStandby>,
    runtime: Runtime,
    gate: Arc<Gate>,
    log: Arc<GatedLog>,
    config: StreamsConfig,
}

impl Instance {
    fn new(log: &Arc<dyn Log>, state: Arc<dyn State>) -> Self {
        let gate = Arc::new(Gate::default());
        let log = Arc::new(GatedLog::new(Arc::clone(log), &gate));
        let state = Arc::new(GatedState { inner: state, gate: Arc::clone(&gate) });
        let config = StreamsConfig::new("app").with_commit_interval(Duration::ZERO);
        let (shared, clock) = (Arc::clone(&log) as Arc<dyn Log>, Arc::new(SystemClock::new()));
        let runtime = Runtime::start(1, shared, state, clock).unwrap();
        let _opens = Opens(Arc::clone(&gate));
        Self { _opens, application: None, standby: None, runtime, gate, log, config }
    }

    fn start(&mut self) {
        let topology = topology(&self.gate);
        let started = self.runtime.start_application(topology, self.config.clone());
        self.application = Some(started.unwrap());
    }

    fn stand_by(&mut self) {
        let topology = topology(&self.gate);
        self.standby = Some(self.runtime.start_standby(topology, &self.config).unwrap());
    }

    /// Waits until the standby has all that is committed.
    fn wait_followed(&self) {
        let standby = self.standby.as_ref().unwrap();
        assert!(standby.wait_caught_up(PATIENCE).unwrap());
    }

    /// Takes over, and reads nothing again of what its standby has read.
    fn take_over(&mut self, when: &str) {
        self.start();
        assert_eq!(self.log.read_for_stores().1, 0, "{when}: read again");
        let ended = self.standby.take().unwrap();
        assert!(matches!(ended.lag(), Err(StreamsError::NotRunning)), "it has been promoted");
    }

    fn application(&self) -> &Application {
        self.application.as_ref().unwrap()
    }
}

/// What each output has, in order, and what the stores hold.
fn results(log: &dyn Log, application: &Application) -> Vec<String> {
    let mut all = Vec::new();
    for topic in OUTPUTS {
        let (mut at, end) = (0, log.offsets(&only(topic)).unwrap().end);
        let mut rows = Vec::new();
        while at < end {
            let fetched = log.fetch(&only(topic), at, 1 << 20).unwrap();
            at = fetched.next_offset;
            rows.extend(fetched.records.iter().map(|record| {
                let key = record.key.map(|key| key.escape_ascii().to_string());
                let value = record.value.map(|it| i64::from_be_bytes(it.try_into().unwrap()));
                format!("{key:?}={value:?}@{}", record.timestamp)
            }));
        }
        all.push(format!("{topic}: {}", rows.join(" ")));
    }
    let stores = application.snapshot().unwrap();
    for name in ["counts", "names", "limits"] {
        let rows = stores.key_value_store::<String, i64>(name).unwrap().all().unwrap();
        all.push(format!("{name} {rows:?}"));
    }
    for name in ["finals", "windows"] {
        let windows = stores.window_store::<String, i64>(name).unwrap();
        all.push(format!("{name} {:?}", windows.fetch_all(0..=i64::MAX).unwrap()));
    }
    let visits = stores.session_store::<String, i64>("visits").unwrap();
    let prices = stores.versioned_store::<String, i64>("prices").unwrap();
    for key in ["a", "b", "c"].map(str::to_owned) {
        let (visits, then) = (visits.fetch(&key).unwrap(), prices.get_as_of(&key, 7).unwrap());
        all.push(format!("{key} {visits:?} {then:?}"));
    }
    all
}

/// What has come of it when the third group is committed, and in the end.
type Results = [Vec<String>; 2];

/// What comes of it where nobody is killed.
fn undisturbed() -> Results {
    let log = log_with_topics(Arc::new(MemoryLog::new()));
    let mut instance = Instance::new(&log, Arc::new(MemoryState::new()));
    instance.start();
    let [before, more, during, last] = GROUPS;
    for group in [before, more, during] {
        send(&*log, group);
        wait_committed(&*log);
    }
    instance.application().close().unwrap();
    let closed = results(&*log, instance.application());
    instance.start();
    send(&*log, last);
    wait_committed(&*log);
    instance.application().drain().unwrap();
    [closed, results(&*log, instance.application())]
}

fn log_with_topics(log: Arc<dyn Log>) -> Arc<dyn Log> {
    let topics = INPUTS.into_iter().chain(OUTPUTS);
    let topics = topics.map(|name| TopicSpec::new(TopicName::new(name).unwrap(), 1));
    log.create_topics(&topics.collect::<Vec<_>>()).unwrap();
    log
}

/// Holds the owner at `step` of a commit of the third group, has the standby take over, and then change places with it.
fn killed_at(step: Step, log: &Arc<dyn Log>, states: [Arc<dyn State>; 2]) -> Results {
    let [mut first, mut second] = states.map(|state| Instance::new(log, state));
    // Before there is anything: its changelogs come with the application.
    second.stand_by();
    first.start();
    let [before, more, during, last] = GROUPS;
    for group in [before, more] {
        send(&**log, group);
        wait_committed(&**log);
    }
    second.wait_followed();
    assert!(second.log.read_for_stores().0 > 20, "{step:?}: by the standby alone");
    first.gate.close_at(step);
    send(&**log, during);
    first.gate.wait();
    second.wait_followed();
    second.take_over(&format!("{step:?}"));
    wait_committed(&**log);
    first.gate.open();
    match first.application().close() {
        Ok(())
        | Err(
            StreamsError::AssignmentLost { .. }
            | StreamsError::Log(LogError::Fenced { .. })
            | StreamsError::State(StateError::Fenced { .. }),
        ) => {}
        Err(other) => panic!("{step:?}: the old owner ended with {other:?}"),
    }
    first.stand_by();
    first.wait_followed();
    second.application().close().unwrap();
    let closed = results(&**log, second.application());
    first.wait_followed();
    first.take_over(&format!("{step:?}, back again"));
    send(&**log, last);
    wait_committed(&**log);
    first.application().drain().unwrap();
    [closed, results(&**log, first.application())]
}

#[test]
fn a_standby_takes_over_from_who_was_killed_at_any_step_and_reads_nothing_again() {
    let expected = undisturbed();
    for step in STEPS {
        let log = log_with_topics(Arc::new(MemoryLog::new()));
        let states = [(); 2].map(|()| Arc::new(MemoryState::new()) as Arc<dyn State>);
        assert_eq!(killed_at(step, &log, states), expected, "{step:?}");
    }
}

#[cfg(feature = "rocksdb")]
#[test]
fn a_standby_on_a_disk_takes_over_from_who_was_killed_at_any_step_and_reads_nothing_again() {
    let expected = undisturbed();
    for step in STEPS {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions::new().journal_bytes(1 << 20);
        let log = EmbeddedLog::open(&dir.path().join("log"), options).unwrap();
        let log = log_with_topics(Arc::new(log));
        let states = ["first", "second"].map(|name| {
            let options = RocksDbOptions::default().memory_bytes(8 << 20).log(Arc::clone(&log));
            let state = RocksDbState::open(dir.path().join(name), options).unwrap();
            Arc::new(state) as Arc<dyn State>
        });
        assert_eq!(killed_at(step, &log, states), expected, "{step:?}");
    }
}

/// Of an id there is the application or a standby on a runtime, never both; a standby ends with its handle, and with its runtime.
#[test]
fn a_runtime_has_no_standby_beside_its_application() {
    let log = log_with_topics(Arc::new(MemoryLog::new()));
    let mut instance = Instance::new(&log, Arc::new(MemoryState::new()));
    let again = |instance: &Instance| {
        let topology = topology(&instance.gate);
        instance.runtime.start_standby(topology, &instance.config)
    };
    instance.stand_by();
    assert!(matches!(again(&instance), Err(StreamsError::AlreadyRunning { .. })));
    instance.standby = None;
    instance.standby = Some(again(&instance).unwrap());
    instance.take_over("with nothing to read");
    assert!(matches!(again(&instance), Err(StreamsError::AlreadyRunning { .. })));
    instance.application().close().unwrap();
    let standby = again(&instance).unwrap();
    drop(instance.runtime);
    assert!(matches!(standby.snapshot(), Err(StreamsError::NotRunning)));
}

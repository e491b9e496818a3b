//! One memory budget for all applications of a runtime: what they keep stays within their shares of it, whatever the log is at and
//! however many keys there are.

#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

use headwater::{
    dsl::{Materialized, StreamsBuilder},
    memory::{MemoryBudget, Share},
    ports::log::{Append, Commit, CommitTicket, Log, TopicSpec},
    prelude::*,
    record::{Headers, RecordSetBuilder},
    runtime::{Application, Repartitioning, RuntimeConfig, Stepper},
    state::MemoryState,
};
use headwater_testkit::{FaultyLog, ManualClock, MemoryLog};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

const KEYS: usize = 5_000;
const APPLICATIONS: usize = 6;

fn partition(topic: &str, number: u32) -> TopicPartition {
    TopicPartition::new(TopicName::new(topic).unwrap(), number)
}

/// Appends records, by key and value, to a partition of `in`: so many at a time, since a batch is fetched whole.
fn append(log: &dyn Log, number: u32, records: &[(String, Vec<u8>)], count: usize) {
    for records in records.chunks(count) {
        let mut set = RecordSetBuilder::default();
        for (key, value) in records {
            set.push(0, Some(key.as_bytes()), Some(value), &Headers::new()).unwrap();
        }
        let records = Arc::new(set.build());
        let append = Append { partition: partition("in", number), base_offset: None, records };
        let commit = Commit { appends: vec![append], ..Commit::default() };
        log.commit(commit).and_then(CommitTicket::wait).unwrap();
    }
}

/// Gives what is in a topic of two partitions, by key and value.
fn contents(log: &dyn Log, topic: &str) -> Vec<(String, Vec<u8>)> {
    let mut contents = Vec::new();
    for number in 0..2 {
        let fetched = log.fetch(&partition(topic, number), 0, usize::MAX).unwrap();
        contents.extend(fetched.records.iter().map(|record| {
            let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
            (key, record.value.unwrap().to_vec())
        }));
    }
    contents
}

fn create_topics(log: &dyn Log, partitions: u32) {
    let topics =
        ["in", "out"].map(|name| TopicSpec::new(TopicName::new(name).unwrap(), partitions));
    log.create_topics(&topics).unwrap();
}

/// Counts by key.
fn counting() -> Topology {
    let builder = StreamsBuilder::new();
    let counts =
        builder.stream::<String, i64>("in").group_by_key().count(Materialized::named("counts"));
    counts.to_stream().to("out");
    builder.build().unwrap()
}

/// Steps every actor until none has anything to do.
fn run(stepper: &mut Stepper, applications: &[Application]) {
    let done = || applications.iter().map(|it| it.metrics().turns).sum::<u64>();
    loop {
        let before = done();
        let mut is_busy = false;
        for actor in 0..stepper.actors() {
            is_busy |= stepper.step(actor);
        }
        if !is_busy && done() == before {
            return;
        }
    }
}

#[test]
fn caches_keep_to_their_share_also_when_more_applications_come() {
    let log = Arc::new(MemoryLog::new());
    create_topics(&*log, 1);
    let records = (0..KEYS).map(|key| (key.to_string(), 1_i64.to_be_bytes().to_vec()));
    append(&*log, 0, &records.collect::<Vec<_>>(), KEYS);
    // What one application would like to keep is about as much as the share of all.
    let memory = Arc::new(MemoryBudget::new(1 << 20));
    let config = RuntimeConfig::new(2).with_memory(Arc::clone(&memory));
    let state = Arc::new(MemoryState::new());
    let clock = Arc::new(ManualClock::at(0));
    let mut stepper = Stepper::new(config, log as Arc<dyn Log>, state, clock);
    let (mut applications, mut cached) = (Vec::new(), Vec::new());
    for number in 0..APPLICATIONS {
        let config = StreamsConfig::new(format!("application-{number}"));
        applications.push(stepper.start_application(counting(), config).unwrap());
        run(&mut stepper, &applications);
        cached.push(memory.cached());
    }
    stepper.crash();
    let share = memory.share(Share::Caches);
    assert!(cached.iter().all(|cached| *cached <= share), "{cached:?} of {share}");
    assert!(cached.iter().all(|cached| *cached > share / 4), "unused: {cached:?} of {share}");
    drop(applications);
    assert_eq!(memory.cached(), 0);
}

/// An application on two threads that are stepped by hand. These end before it is dropped: it would wait for them.
struct Run<L> {
    stepper: Stepper,
    application: Application,
    log: Arc<L>,
    clock: Arc<ManualClock>,
}

impl<L: Log + 'static> Run<L> {
    fn start(
        log: Arc<L>,
        topology: Topology,
        config: StreamsConfig,
        memory: &Arc<MemoryBudget>,
    ) -> Self {
        let clock = Arc::new(ManualClock::at(0));
        let runtime = RuntimeConfig::new(2).with_memory(Arc::clone(memory));
        let (shared, time) = (Arc::clone(&log) as Arc<dyn Log>, Arc::clone(&clock));
        let stepper = Stepper::new(runtime, shared, Arc::new(MemoryState::new()), time);
        let application = stepper.start_application(topology, config).unwrap();
        Self { stepper, application, log, clock }
    }

    /// Steps whoever is awake until all sleep, 10 ms passing before each has its turn, and looks after each step.
    fn rest(&mut self, mut look: impl FnMut(&Self)) {
        loop {
            self.clock.advance(Duration::from_millis(10));
            let actors = 0..self.stepper.actors();
            let awake: Vec<_> = actors.filter(|it| self.stepper.is_awake(*it)).collect();
            if awake.is_empty() {
                return;
            }
            for actor in awake {
                self.stepper.step(actor);
                look(self);
            }
        }
    }
}

/// How much there is to take, a key a record.
const RECORDS: usize = 8_000;
const VALUE_BYTES: usize = 1_000;
/// What a thread takes in one go.
const BATCH_ROWS: usize = 16;

/// What was held at most, in bytes.
#[derive(Debug, Default, Clone, Copy)]
struct HeldMax {
    /// Values of outputs, of changes, and of records on their way to another sub-topology: until the log has them.
    waiting: usize,
    /// What caches had after a commit.
    cached: usize,
    /// What they had when they gave their changes to one.
    caching: usize,
    fetched: usize,
}

/// Copies `in`, and keeps the newest value of each key; counts what is taken, and what comes to the copy.
fn copying(
    taken: &Arc<AtomicUsize>,
    copied: &Arc<AtomicUsize>,
    is_repartitioned: bool,
) -> Topology {
    let (taken, copied) = (Arc::clone(taken), Arc::clone(copied));
    let builder = StreamsBuilder::new();
    let records = builder.stream::<String, Vec<u8>>("in").peek(move |_, _| {
        taken.fetch_add(1, Ordering::Relaxed);
    });
    let records = if is_repartitioned { records.repartition("by-key") } else { records };
    let records = records.peek(move |_, _| {
        copied.fetch_add(1, Ordering::Relaxed);
    });
    records.to("out");
    let _newest = records.group_by_key().reduce(|_, newest| newest, Materialized::named("newest"));
    builder.build().unwrap()
}

/// Appends so many records, each with a key of its own and a value of so many bytes, and gives them in the order of their values.
fn append_numbered(log: &dyn Log, count: usize, value_bytes: usize) -> Vec<(String, Vec<u8>)> {
    let value = |number: usize| [number.to_be_bytes().to_vec(), vec![0; value_bytes - 8]].concat();
    let records: Vec<_> = (0..count).map(|number| (number.to_string(), value(number))).collect();
    let (one, other) = records.split_at(count / 2);
    append(log, 0, one, 8);
    append(log, 1, other, 8);
    records
}

/// What came out, in the order of the values.
fn copies(log: &dyn Log) -> Vec<(String, Vec<u8>)> {
    let mut copies = contents(log, "out");
    copies.sort_unstable_by(|one, other| one.1.cmp(&other.1));
    copies
}

/// Runs an application whose log answers nothing for a while, and says what it held at most until then and after; that it rests
/// meanwhile, and that all comes out once in the end, is asserted.
fn stalled(
    memory: &Arc<MemoryBudget>,
    guarantee: ProcessingGuarantee,
    repartitioning: Option<Repartitioning>,
) -> HeldMax {
    let log = Arc::new(FaultyLog::new());
    create_topics(&*log, 2);
    let input = append_numbered(&*log, RECORDS, VALUE_BYTES);
    log.set_slow(true);
    let (taken, copied) = (Arc::default(), Arc::default());
    let topology = copying(&taken, &copied, repartitioning.is_some());
    let config = StreamsConfig::new("test")
        .with_processing_guarantee(guarantee)
        .with_repartitioning(repartitioning.unwrap_or_default())
        .with_num_stream_threads(2)
        .with_batch_rows_max(BATCH_ROWS);
    let mut run = Run::start(Arc::clone(&log), topology, config, memory);
    let mut held = HeldMax::default();
    let mut look = |run: &Run<FaultyLog>| {
        let (taken, copied) = (taken.load(Ordering::Relaxed), copied.load(Ordering::Relaxed));
        let tasks = run.application.metrics().tasks;
        let ends =
            |topic| (0..2).map(move |it| run.log.offsets(&partition(topic, it)).unwrap().end);
        let written = |topic| usize::try_from(ends(topic).sum::<i64>()).unwrap();
        let passed = match repartitioning {
            // What the topic has waits on a disk, and marks among it are no records.
            Some(Repartitioning::ThroughTopic) if written("test-by-key-repartition") > 0 => taken,
            Some(_) | None => copied,
        };
        // A record is held twice from then on: for the copy, and for the change of the store.
        let waiting = 2 * (copied - written("out")) + taken - passed;
        held.waiting = held.waiting.max(waiting * VALUE_BYTES);
        held.cached = held.cached.max(memory.cached());
        held.caching = held.caching.max(tasks.iter().map(|task| task.cache_bytes).sum());
        held.fetched = held.fetched.max(tasks.iter().map(|task| task.input_buffer_bytes).sum());
    };
    run.rest(&mut look);
    let resting = (taken.load(Ordering::Relaxed), copied.load(Ordering::Relaxed));
    assert!((1..RECORDS / 2).contains(&resting.0), "{resting:?}");
    run.clock.advance(Duration::from_secs(60));
    run.rest(&mut look);
    let still = (taken.load(Ordering::Relaxed), copied.load(Ordering::Relaxed));
    assert_eq!(still, resting, "no more is taken, however long it lasts");
    while log.complete_next() {
        run.rest(&mut look);
    }
    drop(run);
    assert_eq!(taken.load(Ordering::Relaxed), RECORDS);
    assert!(copies(&*log) == input, "each record comes out once");
    held
}

/// What is held keeps to the shares, but for the batch that each of two threads is at.
fn check_stalled(repartitionings: &[Option<Repartitioning>]) {
    let memory = Arc::new(MemoryBudget::new(4 << 20));
    let share = |of: Share| memory.share(of);
    let batches = 2 * BATCH_ROWS * VALUE_BYTES;
    for guarantee in [ProcessingGuarantee::ExactlyOnce, ProcessingGuarantee::AtLeastOnce] {
        for repartitioning in repartitionings {
            let held = stalled(&memory, guarantee, *repartitioning);
            let case = format!("{guarantee:?}, {repartitioning:?}: {held:?}");
            let exchange = repartitioning.map_or(0, |_| share(Share::Exchange));
            let waiting_max = share(Share::Uncommitted) + exchange + 2 * batches;
            assert!(held.waiting <= waiting_max, "{case}");
            assert!(held.waiting > share(Share::Uncommitted) / 2, "there is room for more: {case}");
            assert!(held.cached <= share(Share::Caches), "{case}");
            // What has changed stays until its commit can be read from the state.
            assert!(held.caching <= share(Share::Caches) + waiting_max, "{case}");
            assert!(held.fetched <= share(Share::Batches), "{case}");
        }
    }
}

#[test]
fn what_waits_for_a_log_that_does_not_answer_keeps_to_its_share() {
    check_stalled(&[None]);
}

#[test]
fn a_repartition_above_a_log_that_does_not_answer_keeps_to_its_share() {
    check_stalled(&[Some(Repartitioning::InMemory), Some(Repartitioning::ThroughTopic)]);
}

#[test]
fn a_record_that_is_larger_than_the_share_passes() {
    for guarantee in [ProcessingGuarantee::ExactlyOnce, ProcessingGuarantee::AtLeastOnce] {
        let log = Arc::new(FaultyLog::new());
        create_topics(&*log, 2);
        let memory = Arc::new(MemoryBudget::new(1 << 20));
        let records = append_numbered(&*log, 20, 2 * memory.share(Share::Uncommitted));
        log.set_slow(true);
        let topology = copying(&Arc::default(), &Arc::default(), true);
        let config = StreamsConfig::new("test").with_processing_guarantee(guarantee);
        let config = config.with_num_stream_threads(2);
        let mut run = Run::start(Arc::clone(&log), topology, config, &memory);
        run.rest(|_| ());
        while log.complete_next() {
            run.rest(|_| ());
        }
        drop(run);
        assert!(copies(&*log) == records, "{guarantee:?}: each record comes out once");
    }
}

#[test]
fn an_application_goes_on_beside_one_whose_log_does_not_answer() {
    let memory = Arc::new(MemoryBudget::new(1 << 20));
    let config = || StreamsConfig::new("test").with_num_stream_threads(2);
    let (stalled, going) = (Arc::new(FaultyLog::new()), Arc::new(MemoryLog::new()));
    create_topics(&*stalled, 2);
    create_topics(&*going, 2);
    let records = append_numbered(&*stalled, RECORDS, VALUE_BYTES);
    append_numbered(&*going, RECORDS, VALUE_BYTES);
    stalled.set_slow(true);
    let topology = copying(&Arc::default(), &Arc::default(), true);
    let mut waiting = Run::start(Arc::clone(&stalled), topology.clone(), config(), &memory);
    waiting.rest(|_| ());
    assert!(stalled.held() > 0 && copies(&*stalled).is_empty(), "its log answers nothing");
    let mut other = Run::start(Arc::clone(&going), topology, config(), &memory);
    other.rest(|_| ());
    assert!(copies(&*going) == records, "each record comes out once");
    drop(other);
    while stalled.complete_next() {
        waiting.rest(|_| ());
    }
    drop(waiting);
    assert!(copies(&*stalled) == records, "each record comes out once");
}

/// A hundred times as many keys as caches have room for.
const KEYS_MANY: usize = 100_000;
/// A record in eleven is of one of so many keys of its partition.
const KEYS_HOT: usize = 50;

/// Counts so many keys, all of them twice, and says what caches held at most after a commit. The counts are asserted.
fn counted(keys: usize, memory: &Arc<MemoryBudget>) -> usize {
    let log = Arc::new(MemoryLog::new());
    create_topics(&*log, 2);
    let mut expected = BTreeMap::<String, i64>::new();
    for part in 0..2 {
        let numbers = (0..keys / 2).chain(0..keys / 2);
        let numbers = numbers.flat_map(|number| {
            let hot = (number % 10 == 0).then_some(number / 10 % KEYS_HOT);
            [Some(number), hot].into_iter().flatten()
        });
        let records =
            numbers.map(|number| (format!("{part}-{number}"), 1_i64.to_be_bytes().to_vec()));
        let records: Vec<_> = records.collect();
        append(&*log, part, &records, 200);
        records.into_iter().for_each(|(key, _)| *expected.entry(key).or_default() += 1);
    }
    let config =
        StreamsConfig::new("test").with_num_stream_threads(2).with_batch_rows_max(BATCH_ROWS);
    let mut run = Run::start(log, counting(), config, memory);
    let mut cached = 0;
    run.rest(|_| cached = cached.max(memory.cached()));
    let (taken, outputs) = (run.application.metrics().records, contents(&*run.log, "out"));
    drop(run);
    assert_eq!(taken, expected.values().sum::<i64>().unsigned_abs());
    // The last count of each key stands.
    let counts: BTreeMap<String, i64> = outputs
        .into_iter()
        .map(|(key, count)| (key, i64::from_be_bytes(count.try_into().unwrap())))
        .collect();
    assert!(counts == expected, "each record is counted once");
    cached
}

#[test]
fn caches_keep_to_their_share_among_a_hundred_times_as_many_keys() {
    let hundredth = counted(KEYS_MANY / 100, &Arc::new(MemoryBudget::new(1 << 30)));
    // Caches have a quarter of it.
    let memory = Arc::new(MemoryBudget::new(hundredth * 4));
    let (cached, share) = (counted(KEYS_MANY, &memory), memory.share(Share::Caches));
    assert!((share / 2..=share).contains(&cached), "{cached} of {share}");
}

//! What operators' caches hold.

use crate::{BATCH_ROWS, Run, append, contents, create_topics, partition};
use headwater::{
    dsl::{Materialized, StreamsBuilder},
    memory::{MemoryBudget, Share},
    ports::log::Log,
    prelude::*,
    runtime::{Application, RuntimeConfig, Stepper},
    serde::{Serde, SerdeError, SharedSerde, Utf8},
    state::MemoryState,
    topology::Consumed,
};
use headwater_testkit::{FaultyLog, ManualClock, MemoryLog};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

const KEYS: usize = 5_000;
const APPLICATIONS: usize = 6;

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
    append(&*log, &partition("in", 0), &records.collect::<Vec<_>>(), KEYS);
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
        append(&*log, &partition("in", part), &records, 200);
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

/// A row that is known to live for as long as it does.
#[derive(Debug, Clone)]
struct Row {
    bytes: Vec<u8>,
    _lives: Arc<()>,
}

/// Reads rows as lives of this.
struct RowSerde(Arc<()>);

impl Serde<Row> for RowSerde {
    fn serialize(&self, row: &Row, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        out.extend_from_slice(&row.bytes);
        Ok(true)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Row, SerdeError> {
        let bytes = bytes.ok_or(SerdeError::Null)?.to_vec();
        Ok(Row { bytes, _lives: Arc::clone(&self.0) })
    }

    fn schema(&self) -> String {
        "row".to_owned()
    }
}

const ROW_BYTES: usize = 1_000;

/// Looks each record up in a table of rows, and keeps nothing of what it finds.
fn looking_up(lives: &Arc<()>, found: &Arc<AtomicUsize>) -> Topology {
    let builder = StreamsBuilder::new();
    let rows: SharedSerde<Row> = Arc::new(RowSerde(Arc::clone(lives)));
    let rows = Consumed::with(Arc::new(Utf8), rows);
    let rows = builder.table_with("rows", rows, Materialized::named("rows"));
    let records = builder.stream::<String, i64>("in").join(&rows, |_, row: Row| row.bytes.len());
    let found = Arc::clone(found);
    records.for_each(move |_, bytes| {
        assert_eq!(bytes, ROW_BYTES);
        found.fetch_add(1, Ordering::Relaxed);
    });
    builder.build().unwrap()
}

/// What is only read makes no commit due, and here none is answered.
#[test]
fn caches_keep_to_their_share_among_a_hundred_times_as_many_keys_while_the_log_answers_nothing() {
    let memory = Arc::new(MemoryBudget::new(1 << 20));
    let share = memory.share(Share::Caches);
    let rows = 100 * share / ROW_BYTES;
    let log = Arc::new(FaultyLog::new());
    create_topics(&*log, 2);
    let append_all = |topic, value: &[u8]| {
        let records = (0..rows).map(|number| (number.to_string(), value.to_vec()));
        let records: Vec<_> = records.collect();
        for (half, records) in (0..2).zip(records.chunks(rows.div_ceil(2))) {
            append(&*log, &partition(topic, half), records, 8);
        }
    };
    append_all("rows", &[0; ROW_BYTES]);
    let (lives, found) = (Arc::new(()), Arc::default());
    let config =
        StreamsConfig::new("test").with_num_stream_threads(2).with_batch_rows_max(BATCH_ROWS);
    let mut run = Run::start(Arc::clone(&log), looking_up(&lives, &found), config, &memory);
    run.rest(|_| ());
    append_all("in", &0_i64.to_be_bytes());
    log.set_slow(true);
    let mut cached = 0;
    run.rest(|_| cached = cached.max(Arc::strong_count(&lives) * ROW_BYTES));
    assert_eq!(found.load(Ordering::Relaxed), rows, "nothing waits for the log");
    assert!(log.held() > 0, "it answers nothing");
    while log.complete_next() {
        run.rest(|_| ());
    }
    drop(run);
    // An eighth may come beside it, and what each thread is at.
    let bytes_max = share + share / 8 + 2 * BATCH_ROWS * ROW_BYTES;
    assert!((share / 2..=bytes_max).contains(&cached), "{cached} of {share}");
}

//! The two ends of a repartition topic, on a worker each: a reader leaves its worker to others after a bounded number of
//! records, however many wait, and wakes the writer that waited for it.

use crate::expected::partition;
use headwater::{
    dsl::{Materialized, StreamsBuilder},
    memory::MemoryBudget,
    ports::log::{Append, Commit, CommitTicket, Log, TopicSpec},
    prelude::*,
    record::{Headers, RecordSetBuilder, murmur2_partition},
    runtime::{Application, RuntimeConfig, Stepper},
    state::MemoryState,
};
use headwater_testkit::{FaultyLog, ManualClock, MemoryLog};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

const RECORDS: usize = 40_000;
/// What one turn of a reader takes: 8,192 records, and what the batch at hand holds beyond.
const TURN_MAX: usize = 10_000;
const KEY: &str = "all";

/// Appends so many records to one partition of `in`.
fn append(log: &dyn Log, number: u32, count: usize) {
    let mut records = RecordSetBuilder::default();
    for _ in 0..count {
        records.push(0, Some(b"key"), Some(&1_i64.to_be_bytes()), &Headers::new()).unwrap();
    }
    let records = Arc::new(records.build());
    let append = Append { partition: partition("in", number), base_offset: None, records };
    let commit = Commit { appends: vec![append], ..Commit::default() };
    log.commit(commit).and_then(CommitTicket::wait).unwrap();
}

/// Counts what is taken above a repartition and below it.
fn topology(sent: &Arc<AtomicUsize>, read: &Arc<AtomicUsize>) -> Topology {
    let (sent, read) = (Arc::clone(sent), Arc::clone(read));
    let builder = StreamsBuilder::new();
    let records: KStream<String, i64> = builder.stream("in");
    let records = records.peek(move |_, _| {
        sent.fetch_add(1, Ordering::SeqCst);
    });
    let count = move |_: &String, _, count: i64| {
        read.fetch_add(1, Ordering::SeqCst);
        count + 1
    };
    let _counts =
        records.group_by(|_, _| KEY.to_owned()).aggregate(|| 0, count, Materialized::named("n"));
    builder.build().unwrap()
}

#[test]
fn a_reader_shares_its_worker_however_many_records_wait() {
    let log = Arc::new(MemoryLog::new());
    log.create_topics(&[TopicSpec::new(TopicName::new("in").unwrap(), 2)]).unwrap();
    // Worker n has the tasks of partition n: one sends, the other reads.
    let reader = murmur2_partition(KEY.as_bytes(), 2);
    append(&*log, 1 - reader, RECORDS);
    let (reader, writer) = (reader as usize, 1 - reader as usize);
    let (sent, read) = (Arc::default(), Arc::default());
    let config = RuntimeConfig::new(2).with_memory(Arc::new(MemoryBudget::new(1 << 30)));
    let (state, clock) = (Arc::new(MemoryState::new()), Arc::new(ManualClock::at(0)));
    let mut stepper = Stepper::new(config, log, state, clock);
    let config = StreamsConfig::new("app").with_num_stream_threads(2);
    let application: Application =
        stepper.start_application(topology(&sent, &read), config).unwrap();
    while sent.load(Ordering::SeqCst) < RECORDS {
        assert!(stepper.step(writer), "there is more to take");
    }
    assert_eq!(read.load(Ordering::SeqCst), 0, "the reader has had no turn");
    let (mut turns, mut before) = (Vec::new(), 0);
    while before < RECORDS && turns.len() < RECORDS {
        stepper.step(reader);
        let now = read.load(Ordering::SeqCst);
        turns.push(now - before);
        before = now;
    }
    // First of all: an application waits for its end when it is dropped.
    stepper.crash();
    drop(application);
    assert!(turns.iter().all(|taken| (1..=TURN_MAX).contains(taken)), "by turn: {turns:?}");
}

/// Nothing else wakes the writer: a commit is on its way, and until it is answered none is due.
#[test]
fn a_reader_wakes_the_writer_that_waited_for_it() {
    let log = Arc::new(FaultyLog::new());
    log.create_topics(&[TopicSpec::new(TopicName::new("in").unwrap(), 2)]).unwrap();
    let reader = murmur2_partition(KEY.as_bytes(), 2);
    append(&*log, reader, 1);
    append(&*log, 1 - reader, RECORDS);
    log.set_slow(true);
    let (reader, writer) = (reader as usize, 1 - reader as usize);
    let (sent, read) = (Arc::default(), Arc::default());
    let config = RuntimeConfig::new(2).with_memory(Arc::new(MemoryBudget::new(2 << 20)));
    let (state, clock) = (Arc::new(MemoryState::new()), Arc::new(ManualClock::at(0)));
    let (log_of, clock_of) = (Arc::clone(&log) as Arc<dyn Log>, Arc::clone(&clock));
    let mut stepper = Stepper::new(config, log_of, state, clock_of);
    let config = StreamsConfig::new("app").with_num_stream_threads(2);
    let application: Application =
        stepper.start_application(topology(&sent, &read), config).unwrap();
    // The record of the reader's own partition is what makes a commit due.
    while stepper.is_awake(reader) {
        stepper.step(reader);
    }
    clock.advance(Duration::from_secs(60));
    stepper.step(reader);
    let (mut waits, mut last) = (0, reader);
    while let Some(actor) = [2, 3, writer, reader].into_iter().find(|it| stepper.is_awake(*it)) {
        let is_wait = (last, actor) == (writer, reader) && log.held() > 0;
        waits += usize::from(is_wait && sent.load(Ordering::SeqCst) <= RECORDS);
        last = actor;
        stepper.step(actor);
    }
    let (held, read) = (log.held(), read.load(Ordering::SeqCst));
    // First of all: an application waits for its end when it is dropped.
    stepper.crash();
    drop(application);
    assert_eq!((held, read), (1, RECORDS + 1), "all is read, though the log answers nobody");
    assert!(waits > 1, "the writer has had to wait");
}

//! What is held while the log answers nothing.

use crate::{BATCH_ROWS, Run, append_numbered, copies, create_topics, partition};
use headwater::{
    dsl::{Materialized, StreamsBuilder},
    memory::{MemoryBudget, Share},
    ports::log::Log,
    prelude::*,
    runtime::Repartitioning,
};
use headwater_testkit::{FaultyLog, MemoryLog};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// How much there is to take, a key a record.
const RECORDS: usize = 8_000;
const VALUE_BYTES: usize = 1_000;

/// What was held at most, in bytes.
#[derive(Debug, Default, Clone, Copy)]
struct HeldMax {
    /// Values of outputs, of changes, and of records on their way to another sub-topology: until the log has them.
    waiting: usize,
    /// What caches kept when they last shrank.
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
            // What has changed stays until its commit can be read from the state.
            assert!(held.cached <= share(Share::Caches) * 9 / 8, "{case}");
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

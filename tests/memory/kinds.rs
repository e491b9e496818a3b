//! What waits for the log is counted whatever it is, and whatever of it is large: its key, its value or its headers.

use crate::{BATCH_ROWS, Run, create_topics, partition};
use headwater::{
    dsl::{BufferConfig, JoinWindows, StreamsBuilder, Suppressed},
    memory::{MemoryBudget, Share},
    ports::log::{Append, Commit, CommitTicket, Log},
    prelude::*,
    record::{Headers, RecordSetBuilder},
    runtime::{ErrorHandlerContext, ExceptionResponse, Repartitioning},
    topology::RecordContext,
};
use headwater_testkit::FaultyLog;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

const RECORDS: usize = 2_000;
/// What the large part of a record has.
const BYTES: usize = 1_000;
const HOUR: Duration = Duration::from_secs(3_600);

/// How many records were taken.
type Taken = Arc<AtomicUsize>;

/// Which part of a record is large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Large {
    Key,
    Value,
    Headers,
}

/// Appends all records to a partition of `in`, each with a key of its own.
fn append(log: &dyn Log, number: u32, large: Large) {
    let numbers: Vec<usize> = (0..RECORDS / 2).collect();
    for numbers in numbers.chunks(8) {
        let mut set = RecordSetBuilder::default();
        for number in numbers {
            let bytes = |is_large| if is_large { BYTES } else { 8 };
            let key = [number.to_be_bytes().to_vec(), vec![0; bytes(large == Large::Key) - 8]];
            let mut headers = Headers::new();
            if large == Large::Headers {
                headers.add("large", Some(vec![0; BYTES]));
            }
            let value = vec![0; bytes(large == Large::Value)];
            set.push(0, Some(&key.concat()), Some(&value), &headers).unwrap();
        }
        let (partition, records) = (partition("in", number), Arc::new(set.build()));
        let append = Append { partition, base_offset: None, records };
        let commit = Commit { appends: vec![append], ..Commit::default() };
        log.commit(commit).and_then(CommitTicket::wait).unwrap();
    }
}

/// The records of `in`, which are counted.
fn records(builder: &StreamsBuilder, taken: &Taken) -> KStream<Vec<u8>, Vec<u8>> {
    let taken = Arc::clone(taken);
    builder.stream("in").peek(move |_, _| {
        taken.fetch_add(1, Ordering::Relaxed);
    })
}

/// Checks that no more is taken than there is room for while the log answers nothing, and all of it when it does.
fn check(
    large: Large,
    repartitioning: Option<Repartitioning>,
    build: impl FnOnce(&StreamsBuilder, &Taken),
) {
    let log = Arc::new(FaultyLog::new());
    create_topics(&*log, 2);
    append(&*log, 0, large);
    append(&*log, 1, large);
    log.set_slow(true);
    let (builder, taken) = (StreamsBuilder::new(), Taken::default());
    build(&builder, &taken);
    let refused = Arc::clone(&taken);
    let config = StreamsConfig::new("test")
        .with_num_stream_threads(2)
        .with_batch_rows_max(BATCH_ROWS)
        .with_repartitioning(repartitioning.unwrap_or_default())
        .with_deserialization_exception_handler(move |_: &ErrorHandlerContext<'_>| {
            refused.fetch_add(1, Ordering::Relaxed);
            ExceptionResponse::DeadLetter(vec![])
        });
    let memory = Arc::new(MemoryBudget::new(1 << 20));
    let mut run = Run::start(Arc::clone(&log), builder.build().unwrap(), config, &memory);
    run.rest(|_| ());
    run.clock.advance(Duration::from_secs(60));
    run.rest(|_| ());
    let held = taken.load(Ordering::Relaxed) * BYTES;
    while log.complete_next() {
        run.rest(|_| ());
    }
    drop(run);
    assert_eq!(taken.load(Ordering::Relaxed), RECORDS);
    let share = memory.share(Share::Uncommitted);
    // And what each task of the two threads is at.
    let tasks = if repartitioning.is_some() { 4 } else { 2 };
    let exchange = repartitioning.map_or(0, |_| memory.share(Share::Exchange));
    let bytes_max = share + exchange + tasks * BATCH_ROWS * BYTES;
    assert!((share / 8..=bytes_max).contains(&held), "{large:?}: {held} of {share}");
}

#[test]
fn outputs_are_counted() {
    for large in [Large::Key, Large::Value, Large::Headers] {
        check(large, None, |builder, taken| drop(records(builder, taken).to("out")));
        check(large, None, |builder, taken| {
            let topic = |_: &Vec<u8>, _: &Vec<u8>, _: &RecordContext<'_>| "out".to_owned();
            let _chosen = records(builder, taken).to_dynamic(topic);
        });
    }
}

#[test]
fn records_on_their_way_to_a_sub_topology_are_counted() {
    for large in [Large::Key, Large::Value, Large::Headers] {
        for repartitioning in [Repartitioning::InMemory, Repartitioning::ThroughTopic] {
            check(large, Some(repartitioning), |builder, taken| {
                let _copies = records(builder, taken).repartition("by-key").to("out");
            });
        }
    }
}

#[test]
fn dead_letters_are_counted() {
    for large in [Large::Key, Large::Value, Large::Headers] {
        check(large, None, |builder, _| {
            // No value is `true` or `false`.
            let _none = builder.stream::<Vec<u8>, bool>("in").to("out");
        });
    }
}

#[test]
fn changes_of_tables_are_counted_wherever_they_are_written() {
    for large in [Large::Key, Large::Value] {
        let stores = [
            Materialized::named("rows"),
            Materialized::named("rows").with_logging_disabled(),
            Materialized::named("rows").versioned(HOUR),
        ];
        for store in stores {
            check(large, None, |builder, taken| {
                let _rows = records(builder, taken).to_table(store);
            });
        }
        // Its changes are in the log already.
        check(large, None, |builder, taken| {
            let taken = Arc::clone(taken);
            let rows = builder.table::<Vec<u8>, Vec<u8>>("in");
            let _counted = rows.to_stream().for_each(move |_, _| {
                taken.fetch_add(1, Ordering::Relaxed);
            });
        });
    }
}

#[test]
fn what_windows_and_joins_keep_is_counted() {
    for large in [Large::Key, Large::Value] {
        let windows = TimeWindows::of_size_and_grace(HOUR, HOUR);
        check(large, None, |builder, taken| {
            let grouped = records(builder, taken).group_by_key();
            let _newest =
                grouped.windowed_by(windows).reduce(|_, newest| newest, Materialized::named("n"));
        });
        let windows = SessionWindows::of_inactivity_gap_and_grace(HOUR, HOUR);
        check(large, None, |builder, taken| {
            let grouped = records(builder, taken).group_by_key();
            let _newest =
                grouped.windowed_by(windows).reduce(|_, newest| newest, Materialized::named("n"));
        });
        let windows = JoinWindows::of_time_difference_and_grace(HOUR, HOUR);
        check(large, None, |builder, taken| {
            let (records, rows) = (records(builder, taken), builder.stream("rows"));
            let joined = records.join(rows.within(windows), |record, _: Vec<u8>| record);
            let _joined = joined.to("out");
        });
    }
}

#[test]
fn updates_that_are_held_back_are_counted() {
    for large in [Large::Key, Large::Value, Large::Headers] {
        check(large, None, |builder, taken| {
            let grouped = records(builder, taken).group_by_key();
            let _newest = grouped.reduce(|_, newest| newest, Materialized::named("n")).to("out");
        });
    }
    for large in [Large::Key, Large::Value] {
        check(large, None, |builder, taken| {
            let rows = records(builder, taken).to_table(Materialized::named("rows"));
            let held = Suppressed::until_time_limit(HOUR, BufferConfig::unbounded());
            let _held = rows.suppress(held).to("out");
        });
    }
}

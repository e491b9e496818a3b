//! Every duration, size and count that a user may set, at nothing, one, the most and just below: each works, or is refused
//! with a reason that names it.

use headwater_core::{
    memory::MemoryBudget,
    ports::{
        connector::SourceBatch,
        log::{Append, Commit, Limits, Log, TopicSpec},
    },
    record::{Headers, RecordSetBuilder, Timestamp, TopicName, TopicPartition},
    serde::for_type,
    time::{Clock, SystemClock},
};
use headwater_dsl::{EmitStrategy, JoinWindows, Joined, Materialized, StreamsBuilder, TimeWindows};
use headwater_engine::{
    processor::{Cancellable, Context, Processor, ProcessorError, PunctuationType, Record},
    runtime::{Repartitioning, Runtime, RuntimeConfig, StreamsConfig, StreamsError},
    store::{TimeStore, Timers},
    topology::{Topology, TopologyError},
};
use headwater_testkit::{ManualClock, MemoryLog, MemoryState, TopologyTestDriver};
use std::{error::Error, sync::Arc, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const DAY: Duration = Duration::from_secs(86_400);
/// The most ms that timestamps tell, and what lies around it.
const MS_MAX: Duration = Duration::from_millis(i64::MAX.unsigned_abs());
const DURATIONS: [Duration; 8] = [
    Duration::ZERO,
    Duration::from_nanos(1),
    Duration::from_millis(1),
    DAY,
    Duration::from_millis(i64::MAX.unsigned_abs() - 1),
    MS_MAX,
    Duration::from_millis(u64::MAX),
    Duration::MAX,
];
const SIZES: [usize; 5] = [0, 1, 2, usize::MAX - 1, usize::MAX];

/// Takes records at these times, and again a day later; what came out, and what was dropped.
fn counted(topology: Topology, times: &[Timestamp]) -> Outcome<(usize, u64)> {
    let driver = TopologyTestDriver::new(topology)?;
    let input = driver.input_topic::<String, i64>("in");
    for time in times {
        input.pipe_input("a".into(), 1, *time)?;
    }
    driver.finish_input()?;
    // The end of the first must not have made these late.
    for time in times {
        input.pipe_input("b".into(), 1, time + 86_400_000)?;
    }
    driver.finish_input()?;
    let out = driver.output_topic::<String, i64>("out").read_records_to_list()?;
    Ok((out.len(), driver.dropped_records("counts")?))
}

fn windows(
    windows: TimeWindows,
    emit: EmitStrategy,
    retention: Option<Duration>,
) -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    let grouped = builder.stream::<String, i64>("in").group_by_key().windowed_by(windows);
    let mut store = Materialized::named("counts");
    if let Some(retention) = retention {
        store = store.with_retention(retention);
    }
    let counts = grouped.emit_strategy(emit).count(store).named("counts");
    counts.to_stream().drop_null_values().map(|key, count| (key.key, count)).to("out");
    builder.build()
}

/// Checks windows of a size and a grace over eleven records of two days.
fn check_windows(size: Duration, grace: Duration, emit: EmitStrategy) -> Outcome {
    let times: Vec<Timestamp> = (0..10).map(|second| second * 1_000).chain([0]).collect();
    let what = format!("{size:?} and {grace:?}, {emit:?}");
    let has_finals = emit == EmitStrategy::on_window_close();
    let never_close = size.as_millis() + grace.as_millis() > i64::MAX as u128 / 2;
    let topology = match windows(TimeWindows::of_size_and_grace(size, grace), emit, None) {
        Err(TopologyError::EmptyWindow { .. }) if size.as_millis() == 0 => return Ok(()),
        Err(TopologyError::NeverClose { .. }) if has_finals && never_close => return Ok(()),
        built => built.map_err(|e| format!("{what}: {e}"))?,
    };
    assert!(size.as_millis() > 0 && !(has_finals && never_close), "{what}");
    let (out, dropped) = counted(topology, &times)?;
    let is_late = size < Duration::from_secs(9) && grace < Duration::from_secs(8);
    let late = if is_late { 1 } else { 0 };
    assert_eq!(dropped, 2 * late, "{what}");
    let windows = if size < DAY { 10 } else { 1 };
    let a_day = if has_finals { windows } else { 11 - usize::try_from(late)? };
    assert_eq!(out, 2 * a_day, "{what}");
    Ok(())
}

#[test]
fn windows_of_any_size_and_grace_take_what_is_not_late_or_are_refused() -> Outcome {
    for size in DURATIONS {
        for grace in DURATIONS {
            check_windows(size, grace, EmitStrategy::on_window_update())?;
            check_windows(size, grace, EmitStrategy::on_window_close())?;
        }
    }
    Ok(())
}

#[test]
fn a_retention_of_any_length_keeps_windows_or_is_refused() -> Outcome {
    let minute = TimeWindows::of_size_and_grace(Duration::from_secs(60), Duration::MAX);
    for retention in DURATIONS {
        let of = TimeWindows::of_size_with_no_grace(Duration::from_secs(60));
        let built = windows(of, EmitStrategy::default(), Some(retention));
        if retention < Duration::from_secs(60) {
            let refused = built.unwrap_err().to_string();
            assert!(refused.contains("are kept for"), "{refused}");
        } else {
            assert_eq!(counted(built?, &[0, 100, 60_000, 100])?, (6, 2), "{retention:?}");
        }
        let kept_for_ever = windows(minute, EmitStrategy::default(), Some(retention));
        assert_eq!(kept_for_ever.is_ok(), retention >= MS_MAX, "{retention:?}");
    }
    Ok(())
}

/// How two inputs are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Join {
    Table,
    LeftTable,
    Inner,
    Left,
    Outer,
}

fn joined(kind: Join, difference: Duration, grace: Duration) -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    let input = builder.stream::<String, i64>("in");
    if matches!(kind, Join::Table | Join::LeftTable) {
        let versions = Materialized::named("t").versioned(Duration::MAX);
        let table = builder.table_with::<String, i64>("other", Default::default(), versions);
        let table = table.joined(Joined::with_grace_period(grace));
        let joined = if kind == Join::Table {
            input.join(table, |value, other| value + other)
        } else {
            input.left_join(table, |value, other| value + other.unwrap_or(0))
        };
        joined.to("out");
        return builder.build();
    }
    let other = builder.stream::<String, i64>("other");
    let other = other.within(JoinWindows::of_time_difference_and_grace(difference, grace));
    let joined = if kind == Join::Inner {
        input.join(other, |value, other| value + other)
    } else if kind == Join::Left {
        input.left_join(other, |value, other| value + other.unwrap_or(0))
    } else {
        input.outer_join(other, |a, b| a.unwrap_or(0) + b.unwrap_or(0))
    };
    joined.to("out");
    builder.build()
}

/// Pipes ten rows of a key that the other input has a row of, and one that it has none of; and all again, past the longest wait that ends.
fn brought_out(topology: Topology) -> Outcome<usize> {
    let driver = TopologyTestDriver::new(topology)?;
    let input = driver.input_topic::<String, i64>("in");
    let other = driver.input_topic::<String, i64>("other");
    for (key, day) in [("a", 0), ("c", 4 * 86_400_000)] {
        other.pipe_input(key.into(), 1, day)?;
        (0..10).try_for_each(|at| input.pipe_input(key.into(), 1, day + at).map(drop))?;
        input.pipe_input("b".into(), 1, day + 9)?;
        driver.finish_input()?;
    }
    Ok(driver.output_topic::<String, i64>("out").read_records_to_list()?.len())
}

#[test]
fn a_join_of_any_difference_and_grace_brings_all_out_or_is_refused() -> Outcome {
    for kind in [Join::Table, Join::LeftTable, Join::Inner, Join::Left, Join::Outer] {
        for difference in DURATIONS {
            for grace in DURATIONS {
                let what = format!("{kind:?} within {difference:?} and {grace:?}");
                let wait = match kind {
                    Join::Inner => Duration::ZERO,
                    Join::Table | Join::LeftTable => grace,
                    Join::Left | Join::Outer => difference.saturating_add(grace),
                };
                let is_endless = wait.as_millis() > i64::MAX as u128 / 2;
                let topology = match joined(kind, difference, grace) {
                    Err(TopologyError::NeverDue { .. }) if is_endless => continue,
                    built => built.map_err(|e| format!("{what}: {e}"))?,
                };
                assert!(!is_endless, "{what}");
                let each = match (kind, difference.as_millis()) {
                    (Join::Inner, near @ 0..=1) => usize::try_from(near)? + 1,
                    (Join::Table | Join::Inner, _) => 10,
                    (Join::LeftTable | Join::Left | Join::Outer, _) => 11,
                };
                assert_eq!(brought_out(topology)?, 2 * each, "{what}");
            }
        }
    }
    Ok(())
}

/// Forwards each punctuation.
struct Ticks;

impl Processor<String, i64> for Ticks {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        _: Record<String, i64>,
        _: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        Ok(())
    }

    fn punctuate(
        &mut self,
        _: Cancellable,
        time: Timestamp,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        context.forward(Record::new("tick".to_owned(), time, 0));
        Ok(())
    }
}

fn ticks(interval: Duration, kind: PunctuationType) -> Outcome<TopologyTestDriver> {
    let builder = StreamsBuilder::new();
    let ticks = builder.stream::<String, i64>("in").process(
        move |context| {
            context.schedule(interval, kind);
            Ok(Ticks)
        },
        &[],
    );
    ticks.to("out");
    Ok(TopologyTestDriver::new(builder.build()?)?)
}

#[test]
fn punctuations_of_any_interval_fire_when_it_is_over_and_only_then() -> Outcome {
    for interval in DURATIONS {
        let driver = ticks(interval, PunctuationType::StreamTime)?;
        let input = driver.input_topic::<String, i64>("in");
        let mut fired = Vec::new();
        for time in [0, 1, 2, 3 * 86_400_000, Timestamp::MAX, Timestamp::MAX] {
            input.pipe_input("a".into(), 0, time)?;
            fired.push(driver.output_topic::<String, i64>("out").read_records_to_list()?.len());
        }
        let expected = match interval {
            _ if interval <= Duration::from_millis(1) => [1, 2, 3, 4, 5, 5],
            DAY => [1, 1, 1, 2, 3, 3],
            _ => [1, 1, 1, 1, 2, 2],
        };
        assert_eq!(fired, expected, "{interval:?}");

        let driver = ticks(interval, PunctuationType::WallClockTime)?;
        let mut fired = Vec::new();
        for by in [Duration::from_millis(1), Duration::from_millis(1), 3 * DAY, MS_MAX, MS_MAX] {
            driver.advance_wall_clock_time(by)?;
            fired.push(driver.output_topic::<String, i64>("out").read_records_to_list()?.len());
        }
        let expected = match interval {
            _ if interval <= Duration::from_millis(1) => [1, 2, 3, 4, 4],
            DAY => [0, 0, 1, 2, 2],
            _ => [0, 0, 0, 1, 1],
        };
        assert_eq!(fired, expected, "{interval:?}");
    }
    Ok(())
}

/// Counts below a repartition, of three records; the dead letters and what came out.
fn run(config: StreamsConfig) -> Outcome<usize> {
    let builder = StreamsBuilder::new();
    let records = builder.stream::<String, i64>("in");
    records.group_by(|key, _| key.clone()).count("n").to_stream().to("out");
    let driver = TopologyTestDriver::with(builder.build()?, config, &[("in", 2)].into())?;
    let input = driver.input_topic::<String, i64>("in");
    for key in ["a", "b", "a"] {
        input.pipe_input(key.into(), 1, 0)?;
    }
    driver.finish_input()?;
    Ok(driver.output_topic::<String, i64>("out").read_records_to_list()?.len())
}

#[test]
fn an_application_runs_whatever_its_sizes_and_counts() -> Outcome {
    for size in SIZES {
        for repartitioning in [Repartitioning::InMemory, Repartitioning::ThroughTopic] {
            let config = StreamsConfig::new("test").with_repartitioning(repartitioning);
            let mut by_field = config.clone();
            (by_field.batch_rows_max, by_field.commit_bytes_max) = (size, size);
            (by_field.num_stream_threads, by_field.statestore_cache_max_bytes) = (size, size);
            let by_method = config
                .with_batch_rows_max(size)
                .with_num_stream_threads(size)
                .with_statestore_cache_max_bytes(size);
            for config in [by_field, by_method] {
                assert_eq!(run(config)?, 3, "{size}, {repartitioning:?}");
            }
        }
    }
    Ok(())
}

/// Drains an application of real threads.
fn drained(config: StreamsConfig, runtime: RuntimeConfig) -> Outcome<i64> {
    let builder = StreamsBuilder::new();
    let records = builder.stream::<String, i64>("in");
    records.group_by(|key, _| key.clone()).count("n").to_stream().to("out");
    let log = Arc::new(MemoryLog::new());
    for name in ["in", "out"] {
        log.create_topics(&[TopicSpec::new(TopicName::new(name)?, 1)])?;
    }
    let partition = |name| Outcome::Ok(TopicPartition::new(TopicName::new(name)?, 0));
    let mut records = RecordSetBuilder::default();
    records.push(0, Some(b"a"), Some(&1_i64.to_be_bytes()), &Headers::new())?;
    let records = Arc::new(records.build());
    let appends = vec![Append { partition: partition("in")?, base_offset: None, records }];
    log.commit(Commit { appends, ..Commit::default() })?.wait()?;
    let port = Arc::clone(&log) as Arc<dyn Log>;
    let clock = Arc::new(SystemClock::new());
    let runtime = Runtime::start(runtime, port, Arc::new(MemoryState::new()), clock)?;
    let application = runtime.start_application(builder.build()?, config)?;
    application.set_num_stream_threads(usize::MAX);
    application.drain_within(Duration::MAX)?;
    Ok(log.offsets(&partition("out")?)?.end)
}

#[test]
fn threads_memory_and_intervals_of_any_size_drain_or_are_refused() -> Outcome {
    for interval in DURATIONS {
        let config = StreamsConfig::new("test").with_commit_interval(interval);
        assert_eq!(drained(config, 1.into())?, 1, "{interval:?}");
    }
    for size in SIZES {
        let memory = Arc::new(MemoryBudget::new(size));
        let config = StreamsConfig::new("test").with_statestore_cache_max_bytes(size);
        let runtime = RuntimeConfig::new(2).with_memory(memory);
        assert_eq!(drained(config, runtime)?, 1, "a budget of {size}");
        let threads = drained(StreamsConfig::new("test"), size.into());
        if size < 3 {
            assert_eq!(threads?, 1, "{size} threads");
        } else {
            let refused = threads.unwrap_err();
            assert!(
                matches!(refused.downcast_ref(), Some(StreamsError::TooManyThreads { threads, .. }) if *threads == size),
                "{refused}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_time_store_has_segments_of_any_size() {
    for segment in DURATIONS {
        let store = TimeStore::<String, i64>::builder("t", for_type(), for_type(), segment);
        let ms = segment.as_millis().clamp(1, i64::MAX.unsigned_abs().into());
        assert!(store.spec().schema.starts_with(&format!("segment of {ms} ms")));
    }
    assert!(Timers::<String>::builder("t", for_type()).spec().schema.contains("timers"));
}

#[test]
fn a_clock_stands_at_the_end_of_time_and_a_batch_takes_a_record() -> Outcome {
    let clock = ManualClock::at(5);
    for by in DURATIONS.into_iter().rev() {
        let before = (clock.now(), clock.elapsed());
        clock.advance(by);
        assert!(clock.now() >= before.0 && clock.elapsed() >= before.1, "{by:?}");
    }
    for records_max in SIZES {
        let mut batch = SourceBatch::new(0, 7, &clock).with_records_max(records_max);
        assert!(!batch.is_full(), "{records_max}");
        batch.push(0, None, Some(b"v"), &Headers::new())?;
        assert_eq!(batch.is_full(), records_max < 2);
    }
    Ok(())
}

#[test]
fn a_log_of_any_limits_runs_an_application_or_is_refused() -> Outcome {
    for bytes in SIZES {
        let builder = StreamsBuilder::new();
        builder.stream::<String, i64>("in").to("out");
        let limits = Limits {
            record_bytes_max: bytes,
            commit_bytes_max: usize::MAX,
            metadata_bytes_max: bytes,
        };
        let log = MemoryLog::new().with_limits(limits).with_bytes_max(usize::MAX);
        let (topology, config) = (builder.build()?, StreamsConfig::new("test"));
        let driver = TopologyTestDriver::with_log(topology, config, &[].into(), Arc::new(log));
        assert_eq!(driver.is_ok(), bytes > 2, "{bytes}");
        if let Ok(driver) = driver {
            driver.input_topic::<String, i64>("in").pipe_input("a".into(), 1, 0)?;
            assert!(driver.output_topic::<String, i64>("out").read_record()?.is_some());
        }
    }
    Ok(())
}

//! Partitions that have had no records for long: with a timeout, what is held of them holds no time back below a repartition.

use headwater_core::{
    ports::log::{Append, Commit, Log, TopicSpec},
    record::{Headers, RecordSetBuilder, Timestamp, TopicName, TopicPartition, murmur2_partition},
    time::Clock,
};
use headwater_dsl::{EmitStrategy, Materialized, StreamsBuilder, TimeWindows};
use headwater_engine::{
    runtime::{Repartitioning, Stepper, StreamsConfig},
    topology::{Consumed, Topology},
};
use headwater_testkit::{MemoryLog, MemoryState, TopologyTestDriver};
use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const TIMEOUT: Duration = Duration::from_millis(100);

/// How many windows of 10 ms each key has had, counted in windows of 10 ms below a repartition.
fn topology() -> Outcome<Topology> {
    let windows = || TimeWindows::of_size_with_no_grace(Duration::from_millis(10));
    let builder = StreamsBuilder::new();
    let of_keys = builder.stream::<String, i64>("in").group_by_key().windowed_by(windows());
    let of_keys = of_keys.emit_strategy(EmitStrategy::on_window_close()).count("of-keys");
    let of_all = of_keys.to_stream().group_by(|_, _| "all".to_owned()).windowed_by(windows());
    let of_all = of_all.emit_strategy(EmitStrategy::on_window_close()).count("of-all");
    of_all.named("all").to_stream().map(|at, count| (at.key, count)).to("out");
    Ok(builder.build()?)
}

fn started(config: StreamsConfig) -> Outcome<TopologyTestDriver> {
    Ok(TopologyTestDriver::with(topology()?, config, &[("in", 2)].into())?)
}

/// A key that lies in the partition.
fn key_in(partition: u32) -> Outcome<&'static str> {
    let mut keys = ["a", "b", "c", "d"].into_iter();
    let key = keys.find(|key| murmur2_partition(key.as_bytes(), 2) == partition);
    Ok(key.ok_or("a key of each partition is among them")?)
}

/// Pipes records `@timestamp` of a key that lies in the partition.
fn pipe(driver: &TopologyTestDriver, partition: u32, times: &[i64]) -> Outcome {
    let key = key_in(partition)?;
    let records: Vec<_> = times.iter().map(|time| format!("{key}=1@{time}")).collect();
    Ok(driver.pipe::<String, i64>("in", &records.join(" "))?)
}

/// Lets time go by, and what that leads to come to its readers, which through a topic takes a commit.
fn advance(driver: &TopologyTestDriver, by: Duration) -> Outcome {
    driver.advance_wall_clock_time(by)?;
    driver.run_until_idle()?;
    Ok(driver.commit()?)
}

fn out(driver: &TopologyTestDriver) -> Outcome<String> {
    Ok(driver.read::<String, i64>("out")?)
}

fn config(way: Repartitioning) -> StreamsConfig {
    StreamsConfig::new("test").with_repartitioning(way)
}

#[test]
fn a_silent_partition_holds_no_time_back_once_it_was_silent_for_so_long() -> Outcome {
    for way in [Repartitioning::InMemory, Repartitioning::ThroughTopic] {
        let driver = started(config(way).with_source_idle_timeout(TIMEOUT))?;
        pipe(&driver, 0, &[5])?;
        pipe(&driver, 1, &[5, 15, 25, 35])?;
        advance(&driver, Duration::from_millis(99))?;
        assert_eq!(out(&driver)?, "", "{way:?}: the window of partition 0 is open");
        let told = driver.explain()?.to_string();
        assert!(told.contains("its time is that of in-0"), "{told}");
        advance(&driver, Duration::from_millis(1))?;
        assert_eq!(out(&driver)?, "all=1@5 all=1@15 all=1@25", "{way:?}");
        assert_eq!(driver.dropped_records("all")?, 0);

        // What was held of it is late by now, and what comes from now on is not.
        pipe(&driver, 1, &[45])?;
        pipe(&driver, 0, &[55, 65])?;
        assert_eq!(driver.dropped_records("all")?, 1, "{way:?}");
        pipe(&driver, 1, &[55, 65])?;
        driver.finish_input()?;
        let finals = "all=1@5 all=1@15 all=1@25 all=1@35 all=1@45 all=2@55 all=2@65";
        assert_eq!(out(&driver)?, finals, "{way:?}");
        assert_eq!(driver.dropped_records("all")?, 1, "{way:?}");
    }
    Ok(())
}

#[test]
fn without_a_timeout_it_holds_time_back_for_as_long_as_it_is_silent() -> Outcome {
    for way in [Repartitioning::InMemory, Repartitioning::ThroughTopic] {
        let driver = started(config(way))?;
        pipe(&driver, 0, &[5])?;
        pipe(&driver, 1, &[5, 15, 25, 35])?;
        advance(&driver, Duration::from_secs(86_400))?;
        assert_eq!(out(&driver)?, "", "{way:?}");
        pipe(&driver, 0, &[55])?;
        assert_eq!(out(&driver)?, "all=2@5 all=1@15 all=1@25", "{way:?}");
        assert_eq!(driver.dropped_records("all")?, 0, "{way:?}");
    }
    Ok(())
}

#[test]
fn the_silence_is_counted_from_the_last_record_and_begins_anew_with_a_restart() -> Outcome {
    for way in [Repartitioning::InMemory, Repartitioning::ThroughTopic] {
        let driver = started(config(way).with_source_idle_timeout(TIMEOUT))?;
        pipe(&driver, 0, &[5])?;
        pipe(&driver, 1, &[5, 15])?;
        advance(&driver, Duration::from_millis(99))?;
        pipe(&driver, 0, &[6])?;
        advance(&driver, Duration::from_millis(99))?;
        assert_eq!(out(&driver)?, "", "{way:?}: it has had a record since");
        driver.crash();
        driver.restart()?;
        advance(&driver, Duration::from_millis(99))?;
        assert_eq!(out(&driver)?, "", "{way:?}: it was just begun");
        pipe(&driver, 1, &[25])?;
        advance(&driver, TIMEOUT)?;
        assert_eq!(out(&driver)?, "all=1@5 all=1@15", "{way:?}");
    }
    Ok(())
}

/// Rows that live for an hour wait for time that a silent partition does not bring.
#[test]
fn rows_with_a_time_to_live_hold_no_time_back_either() -> Outcome {
    for way in [Repartitioning::InMemory, Repartitioning::ThroughTopic] {
        let builder = StreamsBuilder::new();
        let an_hour = Materialized::named("rows").with_ttl(Duration::from_secs(3_600));
        let table = builder.table_with("in", Consumed::<String, i64>::default(), an_hour);
        let windows = TimeWindows::of_size_with_no_grace(Duration::from_millis(10));
        let rows = table.to_stream().filter(|_, value| value.is_some());
        let of_all = rows.group_by(|_, _| "all".to_owned()).windowed_by(windows);
        let of_all = of_all.emit_strategy(EmitStrategy::on_window_close()).count("of-all");
        of_all.to_stream().map(|at, count| (at.key, count)).to("out");
        let config = config(way).with_source_idle_timeout(TIMEOUT);
        let driver = TopologyTestDriver::with(builder.build()?, config, &[("in", 2)].into())?;
        pipe(&driver, 0, &[5])?;
        pipe(&driver, 1, &[5, 15, 25, 35])?;
        advance(&driver, Duration::from_millis(99))?;
        assert_eq!(out(&driver)?, "", "{way:?}: the row of partition 0 lives");
        advance(&driver, Duration::from_millis(1))?;
        assert_eq!(out(&driver)?, "all=2@5 all=1@15 all=1@25", "{way:?}");
    }
    Ok(())
}

/// A clock that moves by a ms whenever somebody looks, so that a turn takes time.
#[derive(Debug, Default)]
struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        0
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// The silence of a partition falls due within a turn, after its task has stepped: nothing else wakes the thread.
#[test]
fn a_thread_wakes_for_a_silence_that_falls_due_while_it_is_busy() -> Outcome {
    let topics =
        [TopicSpec::new(TopicName::new("in")?, 2), TopicSpec::new(TopicName::new("out")?, 1)];
    let log = Arc::new(MemoryLog::new());
    log.create_topics(&topics)?;
    for (partition, times) in [(0, &[5][..]), (1, &[5, 15, 25, 35])] {
        let mut records = RecordSetBuilder::default();
        let (key, value) = (key_in(partition)?.as_bytes(), 1_i64.to_be_bytes());
        for time in times {
            records.push(*time, Some(key), Some(&value), &Headers::new())?;
        }
        let partition = TopicPartition::new(TopicName::new("in")?, partition);
        let append = Append { partition, base_offset: None, records: Arc::new(records.build()) };
        log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
    }
    let (shared, state) = (Arc::clone(&log) as Arc<dyn Log>, Arc::new(MemoryState::new()));
    let mut stepper = Stepper::new(1, shared, state, Arc::new(Ticking::default()));
    // Longer than a commit is waited for: that is another reason to wake.
    let timeout = Duration::from_secs(1);
    let config = config(Repartitioning::InMemory).with_source_idle_timeout(timeout);
    let _application = stepper.start_application(topology()?, config)?;
    for _ in 0..10_000 {
        let awake = (0..stepper.actors()).find(|actor| stepper.is_awake(*actor));
        match awake {
            Some(actor) => _ = stepper.step(actor),
            None if stepper.next_timer().is_none() => break,
            None => {}
        }
    }
    assert_eq!(stepper.next_timer(), None, "it does not come to rest");
    let finals = log.offsets(&TopicPartition::new(TopicName::new("out")?, 0))?.end;
    assert_eq!(finals, 3, "the windows before the last of partition 1");
    Ok(())
}

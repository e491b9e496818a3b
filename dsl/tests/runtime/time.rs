//! What time is at an operator: above a repartition its own records', below one what is carried to it.
//!
//! Records are written `key=value@timestamp`; what comes out of windows `key[start]=value@timestamp`.

use headwater_core::{
    record::murmur2_partition,
    serde::{SharedSerde, for_type},
};
use headwater_dsl::{EmitStrategy, KStream, KTable, Materialized, StreamsBuilder, TimeWindows};
use headwater_engine::{
    processor::{Context, Processor, ProcessorError, Record},
    runtime::StreamsConfig,
    store::{Windowed, WindowedSerde},
    topology::Topology,
};
use headwater_testkit::TopologyTestDriver;
use std::{collections::BTreeMap, error::Error, sync::Arc, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn windows(size_ms: u64, grace_ms: u64) -> TimeWindows {
    TimeWindows::of_size_and_grace(Duration::from_millis(size_ms), Duration::from_millis(grace_ms))
}

fn on_close() -> EmitStrategy {
    EmitStrategy::on_window_close()
}

fn uncached(name: &str) -> Materialized {
    Materialized::named(name).with_caching_disabled()
}

/// A topology from `in` to `out`.
fn draw(
    steps: impl FnOnce(KStream<String, i64>) -> KTable<Windowed<String>, i64>,
) -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    steps(builder.stream("in")).named("window").to_stream().drop_null_values().to("out");
    Ok(builder.build()?)
}

/// A driver whose topic `in` has so many partitions, and that moves when it is told to.
fn driver(topology: Topology, partitions: u32) -> Outcome<TopologyTestDriver> {
    let counts = BTreeMap::from([("in", partitions)]);
    Ok(TopologyTestDriver::with(topology, StreamsConfig::new("test"), &counts)?.by_hand())
}

fn pipe(driver: &TopologyTestDriver, records: &str) -> Outcome {
    let input = driver.input_topic::<String, i64>("in");
    for record in records.split_whitespace() {
        let (key, rest) = record.split_once('=').ok_or("no =")?;
        let (value, timestamp) = rest.split_once('@').ok_or("no @")?;
        input.pipe_input(key.into(), value.parse()?, timestamp.parse()?)?;
    }
    driver.run_until_idle()?;
    Ok(driver.commit()?)
}

/// Everything in `out`, which holds windows of `size_ms`.
fn read(driver: &TopologyTestDriver, size_ms: i64) -> Outcome<String> {
    let keys: SharedSerde<Windowed<String>> = Arc::new(WindowedSerde::new(for_type(), size_ms));
    let mut out = driver.output_topic_with::<Windowed<String>, i64>("out", keys, for_type());
    let rows = out
        .read_records_to_list()?
        .into_iter()
        .map(|r| format!("{}[{}]={}@{}", r.key.key, r.key.window.start, r.value, r.timestamp));
    Ok(rows.collect::<Vec<_>>().join(" "))
}

/// The same of windows of windows: `key[inner start][outer start]=value@timestamp`.
fn read_twice(driver: &TopologyTestDriver, inner_ms: i64, outer_ms: i64) -> Outcome<String> {
    type Twice = Windowed<Windowed<String>>;
    let inner: SharedSerde<Windowed<String>> = Arc::new(WindowedSerde::new(for_type(), inner_ms));
    let keys: SharedSerde<Twice> = Arc::new(WindowedSerde::new(inner, outer_ms));
    let mut out = driver.output_topic_with::<Twice, i64>("out", keys, for_type());
    let rows = out.read_records_to_list()?.into_iter().map(|row| {
        let Windowed { key: Windowed { key, window: inner }, window: outer } = row.key;
        format!("{key}[{}][{}]={}@{}", inner.start, outer.start, row.value, row.timestamp)
    });
    Ok(rows.collect::<Vec<_>>().join(" "))
}

#[test]
fn a_record_that_was_filtered_out_moves_no_time_above_a_repartition() -> Outcome {
    let topology = draw(|s| {
        s.filter(|_, v| *v > 0).group_by_key().windowed_by(windows(10, 0)).count(uncached("n"))
    })?;
    let driver = driver(topology, 1)?;
    pipe(&driver, "a=1@1 a=0@50 a=1@2")?;
    assert_eq!(read(&driver, 10)?, "a[0]=1@1 a[0]=2@2");
    Ok(())
}

#[test]
fn a_partition_whose_records_are_all_filtered_out_moves_time_below_a_repartition() -> Outcome {
    let topology = draw(|s| {
        let kept = s.filter(|_, v| *v > 0).group_by(|_, _| "all".to_owned());
        kept.windowed_by(windows(10, 0)).emit_strategy(on_close()).count("n")
    })?;
    let driver = driver(topology, 2)?;
    let key = |partition| {
        (0..).map(|n| format!("k{n}")).find(|key| murmur2_partition(key.as_bytes(), 2) == partition)
    };
    let (kept, filtered) = (key(0).ok_or("no key")?, key(1).ok_or("no key")?);
    let input = driver.input_topic::<String, i64>("in");
    for timestamp in [5, 25, 45] {
        input.pipe_input(kept.clone(), 1, timestamp)?;
        input.pipe_input(filtered.clone(), 0, timestamp)?;
    }
    // One step of each task: none has found the end of its input yet, which would make it idle.
    driver.step()?;
    driver.commit()?;
    assert_eq!(read(&driver, 10)?, "all[0]=1@5 all[20]=1@25");
    Ok(())
}

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

/// Rows around an hour's end, one of them late within a minute of grace.
const AROUND_THE_HOUR: [&str; 6] =
    ["a=1@3540000", "a=1@3599000", "a=1@3601000", "a=1@3598000", "a=1@3665000", "a=1@3725000"];

#[test]
fn how_new_a_table_is_says_nothing_of_the_records_that_are_joined_with_it() -> Outcome {
    let topology = || {
        let builder = StreamsBuilder::new();
        let cars = builder.table::<String, i64>("cars");
        let records = builder.stream::<String, i64>("in").join(&cars, |number, car| number + car);
        let grouped = records.group_by(|key, _| key.clone()).windowed_by(windows(10, 0));
        grouped.count(uncached("window")).to_stream().drop_null_values().to("out");
        Ok::<_, Box<dyn Error>>(builder.build()?)
    };
    let driver = driver(topology()?, 1)?;
    let update = |timestamp| {
        driver.input_topic::<String, i64>("cars").pipe_input("a".into(), 1, timestamp)?;
        driver.run_until_idle()
    };
    update(50)?;
    pipe(&driver, "a=1@2 a=1@4")?;
    assert_eq!(read(&driver, 10)?, "a[0]=1@2 a[0]=2@4");
    // Nor does it after a restart; what the records themselves have moved it to is kept.
    driver.restart()?;
    update(70)?;
    pipe(&driver, "a=1@6 a=1@12")?;
    driver.restart()?;
    pipe(&driver, "a=1@7 a=1@13")?;
    let read = read(&driver, 10)?;
    assert_eq!(read, "a[0]=1@2 a[0]=2@4 a[0]=3@6 a[10]=1@12 a[10]=2@13");
    Ok(())
}

#[test]
fn windows_below_windows_wait_for_what_those_may_still_say() -> Outcome {
    // A minute comes out once, and the last two of them together, of which their car's cached count is one update; or each
    // record is an update, the late one at the time of its car, in the next hour.
    let (once, each) =
        ("all[0]=1@3599000 all[3600000]=2@3725000", "all[0]=2@3599000 all[3600000]=4@3725000");
    for (emit, caching, expected) in [
        (on_close(), true, once),
        (EmitStrategy::on_window_update(), true, each),
        (EmitStrategy::on_window_update(), false, each),
    ] {
        let topology = draw(|s| {
            let minutes = s.group_by_key().windowed_by(windows(MINUTE, MINUTE));
            let store = if caching { Materialized::named("minutes") } else { uncached("minutes") };
            let minutes = minutes.emit_strategy(emit).count(store).to_stream().drop_null_values();
            let cars = minutes.map(|minute, count| (minute.key, count)).group_by_key();
            // A cached table between holds back what it has not forwarded yet.
            let cars = cars.count("cars").to_stream().drop_null_values();
            let all = cars.group_by(|_, _| "all".to_owned()).windowed_by(windows(HOUR, 0));
            all.emit_strategy(on_close()).count("hours")
        })?;
        let driver = driver(topology, 1)?;
        AROUND_THE_HOUR.iter().try_for_each(|record| pipe(&driver, record))?;
        driver.finish_input()?;
        assert_eq!(read(&driver, 3_600_000)?, expected, "{emit:?} {caching}");
        assert_eq!(driver.dropped_records("window")?, 0, "{emit:?} {caching}");
    }
    Ok(())
}

#[test]
fn finals_of_minutes_are_not_late_for_hours_above_a_repartition_either() -> Outcome {
    let builder = StreamsBuilder::new();
    let minutes = builder.stream::<String, i64>("in").group_by_key();
    let minutes = minutes.windowed_by(windows(MINUTE, MINUTE)).emit_strategy(on_close());
    let minutes = minutes.count("minutes").to_stream().drop_null_values();
    let hours = minutes.group_by_key().windowed_by(windows(HOUR, 0)).emit_strategy(on_close());
    hours.count("hours").named("window").to_stream().drop_null_values().to("out");
    let driver = driver(builder.build()?, 1)?;
    AROUND_THE_HOUR.iter().try_for_each(|record| pipe(&driver, record))?;
    driver.finish_input()?;
    // Each minute is one record of its hour, at the time of its last.
    let minutes = "a[3540000][0]=1@3599000 a[3600000][3600000]=1@3601000 \
                   a[3660000][3600000]=1@3665000 a[3720000][3600000]=1@3725000";
    assert_eq!(read_twice(&driver, 60_000, 3_600_000)?, minutes);
    assert_eq!(driver.dropped_records("window")?, 0);
    Ok(())
}

#[test]
fn windows_right_below_windows_below_a_repartition_lose_nothing() -> Outcome {
    for rows_max in [1, 2, 8_192] {
        let builder = StreamsBuilder::new();
        let cars = builder.stream::<String, i64>("in").group_by(|car, _| car.clone());
        let first = cars.windowed_by(windows(10, 0)).emit_strategy(on_close()).count("first");
        let first = first.to_stream().drop_null_values().group_by_key();
        let second = first.windowed_by(windows(10, 0)).emit_strategy(on_close()).count("second");
        second.named("window").to_stream().drop_null_values().to("out");
        let config = StreamsConfig::new("test").with_batch_rows_max(rows_max);
        let driver =
            TopologyTestDriver::with(builder.build()?, config, &BTreeMap::new())?.by_hand();
        let records: Vec<String> = (0..10).map(|n| format!("a=1@{}", 10 * n + 3)).collect();
        pipe(&driver, &records.join(" "))?;
        driver.finish_input()?;
        assert_eq!(driver.dropped_records("window")?, 0, "{rows_max} rows a batch");
        let rows = (0..100).step_by(10).map(|start| format!("a[{start}][{start}]=1@{}", start + 3));
        let rows: Vec<String> = rows.collect();
        assert_eq!(read_twice(&driver, 10, 10)?, rows.join(" "), "{rows_max} rows a batch");
    }
    Ok(())
}

#[test]
fn a_stream_merged_with_itself_below_a_repartition_moves_time() -> Outcome {
    let topology = draw(|s| {
        let cars = s.group_by(|car, _| car.clone()).count(uncached("cars")).to_stream();
        let cars = cars.drop_null_values();
        let twice = cars.merge(&cars).group_by_key();
        twice.windowed_by(windows(10, 0)).emit_strategy(on_close()).count("n")
    })?;
    let driver = driver(topology, 1)?;
    pipe(&driver, "a=1@3 a=1@14")?;
    assert_eq!(read(&driver, 10)?, "a[0]=2@3");
    Ok(())
}

/// Takes event time from the value.
struct TimeFromValue;

impl Processor<String, i64> for TimeFromValue {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        let time = record.value;
        context.forward(record.with_timestamp(time));
        Ok(())
    }
}

#[test]
fn time_begins_anew_below_a_processor_that_forwards_timestamps_of_its_own() -> Outcome {
    let topology = draw(|s| {
        let timed = s.process(|_| Ok(TimeFromValue), &[]).group_by_key();
        timed.windowed_by(windows(10, 0)).emit_strategy(on_close()).count("n")
    })?;
    let driver = driver(topology, 1)?;
    pipe(&driver, "a=1@9000 a=5@9001 a=12@9002 a=31@9003")?;
    driver.crash();
    driver.restart()?;
    pipe(&driver, "a=15@9004 a=33@9005")?;
    assert_eq!(driver.dropped_records("window")?, 1, "15 is late once 31 has come");
    driver.finish_input()?;
    assert_eq!(read(&driver, 10)?, "a[0]=2@5 a[10]=1@12 a[30]=2@33");
    Ok(())
}

/// Replaces the value with the stream time.
struct StreamTime;

impl Processor<String, i64> for StreamTime {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        let time = context.current_stream_time();
        context.forward(record.with_value(time));
        Ok(())
    }
}

#[test]
fn stream_time_is_the_tasks_with_the_record_at_hand_included() -> Outcome {
    for rows_max in [1, 2, 8_192] {
        let builder = StreamsBuilder::new();
        builder.stream::<String, i64>("in").process(|_| Ok(StreamTime), &[]).to("out");
        let config = StreamsConfig::new("test").with_batch_rows_max(rows_max);
        let driver =
            TopologyTestDriver::with(builder.build()?, config, &BTreeMap::new())?.by_hand();
        pipe(&driver, "a=0@1 a=0@5 a=0@3")?;
        driver.crash();
        driver.restart()?;
        pipe(&driver, "a=0@2")?;
        let rows = driver.output_topic::<String, i64>("out").read_records_to_list()?;
        let times: Vec<i64> = rows.into_iter().map(|row| row.value).collect();
        assert_eq!(times, [1, 5, 5, 5], "{rows_max} rows a batch");
    }
    Ok(())
}

#[test]
fn each_day_that_is_declared_complete_closes_its_own_windows() -> Outcome {
    for restart in [false, true] {
        let topology = draw(|s| {
            let grouped = s.group_by(|key, _| key.clone());
            grouped.windowed_by(windows(10, 0)).emit_strategy(on_close()).count("n")
        })?;
        let driver = driver(topology, 1)?;
        for day in [0, 100, 200] {
            pipe(&driver, &format!("a=1@{} a=1@{} a=1@{}", day + 1, day + 5, day + 12))?;
            driver.finish_input()?;
            if restart {
                driver.crash();
                driver.restart()?;
            }
        }
        let rows = "a[0]=2@5 a[10]=1@12 a[100]=2@105 a[110]=1@112 a[200]=2@205 a[210]=1@212";
        assert_eq!(read(&driver, 10)?, rows, "restarted: {restart}");
        assert_eq!(driver.dropped_records("window")?, 0);
    }
    Ok(())
}

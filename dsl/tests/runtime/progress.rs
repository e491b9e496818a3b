//! Steps that are huge: closing a window of many keys goes on in chunks, with commits and kills in between.

use headwater_core::{
    ports::log::{Append, Commit},
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition},
};
use headwater_dsl::{EmitStrategy, KStream, KTable, Materialized, StreamsBuilder, TimeWindows};
use headwater_engine::{runtime::StreamsConfig, store::Windowed, topology::Topology};
use headwater_testkit::TopologyTestDriver;
use std::{collections::BTreeMap, error::Error, sync::Arc, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// What nodes forward at a time.
const CHUNK: usize = 1_024;

fn windows(size_ms: u64) -> TimeWindows {
    TimeWindows::of_size_with_no_grace(Duration::from_millis(size_ms))
}

fn finals(
    stream: &KStream<String, i64>,
    size_ms: u64,
    store: &str,
) -> KTable<Windowed<String>, i64> {
    let windowed = stream.group_by_key().windowed_by(windows(size_ms));
    windowed.emit_strategy(EmitStrategy::on_window_close()).count(store)
}

/// The finals under `key@start`.
fn flat(table: &KTable<Windowed<String>, i64>) -> KStream<String, i64> {
    let finals = table.to_stream().drop_null_values();
    finals.map(|key, count| (format!("{}@{}", key.key, key.window.start), count))
}

/// A driver that moves when it is told to.
fn driver(topology: Topology, rows_max: usize) -> Outcome<TopologyTestDriver> {
    let config = StreamsConfig::new("test").with_batch_rows_max(rows_max);
    Ok(TopologyTestDriver::with(topology, config, &BTreeMap::new())?.by_hand())
}

/// Appends `keys` records to `in` in one go: key `k…`, value 1.
fn append(driver: &TopologyTestDriver, keys: std::ops::Range<u32>, timestamp: i64) -> Outcome {
    let mut records = RecordSetBuilder::default();
    for key in keys {
        let (key, value) = (format!("k{key:06}"), 1_i64.to_be_bytes());
        records.push(timestamp, Some(key.as_bytes()), Some(&value), &Headers::new())?;
    }
    let partition = TopicPartition::new(TopicName::new("in")?, 0);
    let append = Append { partition, base_offset: None, records: Arc::new(records.build()) };
    driver.log().commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
    Ok(())
}

/// All that was ever written to `out`.
fn read(driver: &TopologyTestDriver) -> Outcome<Vec<String>> {
    let rows = driver.output_topic::<String, i64>("out").read_records_to_list()?;
    Ok(rows.into_iter().map(|r| format!("{}={}@{}", r.key, r.value, r.timestamp)).collect())
}

/// How many records `out` holds.
fn written(driver: &TopologyTestDriver) -> Outcome<usize> {
    let out = TopicPartition::new(TopicName::new("out")?, 0);
    Ok(usize::try_from(driver.log().offsets(&out)?.end)?)
}

#[test]
fn a_window_of_many_keys_closes_in_chunks_and_each_final_comes_once_through_kills() -> Outcome {
    const KEYS: u32 = 200_000;
    for state_is_lost in [false, true] {
        let builder = StreamsBuilder::new();
        flat(&finals(&builder.stream("in"), 10, "window")).to("out");
        let driver = driver(builder.build()?, 8_192)?;
        // Some are in the cache alone, some in the state alone, some in both.
        for keys in [0..KEYS / 2, KEYS / 4..KEYS] {
            append(&driver, keys, 1)?;
            driver.run_until_idle()?;
            driver.commit()?;
        }
        append(&driver, 0..KEYS / 8, 2)?;
        append(&driver, 0..1, 10)?;
        // Steps that take records; the last one closes the window and forwards the first chunk.
        while written(&driver)? == 0 {
            driver.step()?;
            driver.commit()?;
        }
        let (mut chunks, mut kills) = (1, 0);
        while driver.step()? {
            chunks += 1;
            if chunks % 10 == 0 {
                driver.commit()?;
                let expected = (chunks * CHUNK).min(KEYS as usize);
                assert_eq!(written(&driver)?, expected, "what was handed on, and no more");
                // What is done from here on was never committed.
                driver.step()?;
                if state_is_lost {
                    driver.lose_state()
                } else {
                    driver.crash()
                }
                driver.restart()?;
                kills += 1;
            }
        }
        driver.commit()?;
        assert!(kills >= 19, "{kills} kills");
        let expected = (0..KEYS).map(|key| {
            let twice = u32::from((KEYS / 4..KEYS / 2).contains(&key));
            let late = key < KEYS / 8;
            format!("k{key:06}@0={}@{}", 1 + twice + u32::from(late), 1 + u32::from(late))
        });
        assert!(read(&driver)? == expected.collect::<Vec<_>>(), "lost: {state_is_lost}");
    }
    Ok(())
}

/// All of what a run at `rows_max` writes, with a commit after every group of records and at the end of input.
fn run(topology: Topology, rows_max: usize) -> Outcome<Vec<String>> {
    let driver = driver(topology, rows_max)?;
    for (keys, timestamp) in
        [(0..3_000, 1), (1_000..1_500, 12), (0..1, 25), (0..2_500, 38), (7..9, 200)]
    {
        append(&driver, keys, timestamp)?;
    }
    driver.run_until_idle()?;
    driver.commit()?;
    driver.finish_input()?;
    assert_eq!(driver.dropped_records("last")?, 0, "nothing is late below");
    read(&driver)
}

/// What stands above windows that close in chunks, or below.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Alone,
    /// Windows right below windows.
    Below,
    /// Windows below windows and a repartition.
    BelowRepartition,
    /// Below a stretch that runs record by record.
    BelowStepwise,
}

fn draw(shape: Shape) -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, i64>("in");
    match shape {
        Shape::Alone => flat(&finals(&stream, 10, "a").named("last")).to("out"),
        Shape::Below => {
            let first = finals(&stream, 10, "a").to_stream().drop_null_values();
            let second = first.group_by_key().windowed_by(windows(20));
            let second = second.emit_strategy(EmitStrategy::on_window_close()).count("b");
            let second = second.named("last").to_stream().drop_null_values();
            second.map(|key, n| (format!("{}@{}", key.key.key, key.window.start), n)).to("out")
        }
        Shape::BelowRepartition => {
            let first = finals(&stream, 10, "a").to_stream().drop_null_values();
            let cars = first.map(|key, count| (key.key, count));
            flat(&finals(&cars, 20, "b").named("last")).to("out")
        }
        Shape::BelowStepwise => {
            stream.filter(|key, _| key.ends_with("00")).to("out");
            let twice = stream.merge(&stream.filter(|key, _| key.ends_with('7')));
            flat(&finals(&twice, 10, "a").named("last")).to("out")
        }
    };
    Ok(builder.build()?)
}

#[test]
fn the_size_of_a_batch_never_shows_in_what_closes_in_chunks() -> Outcome {
    for shape in [Shape::Alone, Shape::Below, Shape::BelowRepartition, Shape::BelowStepwise] {
        let expected = run(draw(shape)?, 1)?;
        assert!(expected.len() > 2 * CHUNK, "{shape:?}: {} rows", expected.len());
        for rows_max in [2, 8_192] {
            assert!(run(draw(shape)?, rows_max)? == expected, "{shape:?}, {rows_max} rows a batch");
        }
    }
    Ok(())
}

#[test]
fn the_end_of_input_closes_in_chunks_too_and_what_comes_later_is_not_late() -> Outcome {
    let builder = StreamsBuilder::new();
    let first = finals(&builder.stream("in"), 10, "a").to_stream().drop_null_values();
    let second = finals(&first.map(|key, n| (key.key, n)), 10, "b").named("last");
    flat(&second).to("out");
    let driver = driver(builder.build()?, 8_192)?;
    for day in [0, 100] {
        append(&driver, 0..2_500, day + 1)?;
        driver.finish_input()?;
    }
    let expected = |day: i64| (0..2_500).map(move |k| format!("k{k:06}@{day}=1@{}", day + 1));
    assert!(read(&driver)? == expected(0).chain(expected(100)).collect::<Vec<_>>());
    assert_eq!(driver.dropped_records("last")?, 0);
    Ok(())
}

#[test]
fn time_below_waits_for_what_is_left_also_across_a_kill() -> Outcome {
    for state_is_lost in [false, true] {
        let builder = StreamsBuilder::new();
        let first = finals(&builder.stream("in"), 10, "a").to_stream().drop_null_values();
        let all = first.map(|_, n| ("all".to_owned(), n));
        let windowed = all.group_by_key().windowed_by(windows(10));
        let sums = windowed
            .emit_strategy(EmitStrategy::on_window_close())
            .reduce(|a, b| a + b, Materialized::named("b"))
            .named("last");
        flat(&sums).to("out");
        let driver = driver(builder.build()?, 8_192)?;
        append(&driver, 0..5_000, 1)?;
        append(&driver, 0..1, 35)?;
        // A chunk or two go across the repartition between kills.
        for _ in 0..8 {
            driver.step()?;
            driver.commit()?;
            driver.step()?;
            if state_is_lost {
                driver.lose_state()
            } else {
                driver.crash()
            }
            driver.restart()?;
        }
        driver.commit()?;
        driver.finish_input()?;
        assert_eq!(read(&driver)?, ["all@0=5000@1", "all@30=1@35"]);
        assert_eq!(driver.dropped_records("last")?, 0);
    }
    Ok(())
}

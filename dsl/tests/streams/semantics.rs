//! What operators forward, drop and keep, run through the test driver.
//!
//! Records are written `key=value@timestamp`, windowed keys `key[start]`, deletions `key=-@timestamp`.

use headwater_core::serde::{Json, Nullable, SharedSerde, for_type};
use headwater_dsl::{
    Branched, EmitStrategy, Grouped, KGroupedStream, KStream, KTable, Materialized, StreamsBuilder,
    TimeWindows,
};
use headwater_engine::{
    runtime::StreamsConfig,
    store::{Windowed, WindowedSerde},
    topology::{Consumed, Topology, TopologyError},
};
use headwater_testkit::{TestOutputTopic, TopologyTestDriver};
use std::{collections::BTreeMap, error::Error, fmt::Display, sync::Arc, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// A topology from records of `in` to `out`.
fn topology<V: serde::Serialize + serde::de::DeserializeOwned + Clone + Send + Sync + 'static>(
    draw: impl FnOnce(KStream<String, i64>) -> KStream<String, V>,
) -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    draw(builder.stream("in")).to("out");
    Ok(builder.build()?)
}

/// Windows of 10 ms with 5 ms of grace, aggregated to `out`.
fn windowed(
    draw: impl FnOnce(TimeWindows, KGroupedStream<String, i64>) -> KTable<Windowed<String>, i64>,
) -> Outcome<TopologyTestDriver> {
    let builder = StreamsBuilder::new();
    let windows =
        TimeWindows::of_size_and_grace(Duration::from_millis(10), Duration::from_millis(5));
    draw(windows, builder.stream("in").group_by_key()).named("window").to_stream().to("out");
    Ok(TopologyTestDriver::new(builder.build()?)?)
}

fn finals() -> Outcome<TopologyTestDriver> {
    windowed(|windows, grouped| {
        grouped.windowed_by(windows).emit_strategy(EmitStrategy::on_window_close()).count("w")
    })
}

fn pipe(driver: &TopologyTestDriver, records: &str) -> Outcome {
    pipe_to(driver, "in", records)
}

fn pipe_to(driver: &TopologyTestDriver, topic: &str, records: &str) -> Outcome {
    let input = driver.input_topic::<String, Option<i64>>(topic);
    for record in records.split_whitespace() {
        let (key, rest) = record.split_once('=').ok_or("no =")?;
        let (value, timestamp) = rest.split_once('@').ok_or("no @")?;
        let value = if value == "-" { None } else { Some(value.parse()?) };
        input.pipe_input(key.into(), value, timestamp.parse()?)?;
    }
    Ok(())
}

fn plain(driver: &TopologyTestDriver) -> TestOutputTopic<String, Option<i64>> {
    driver.output_topic("out")
}

fn in_windows(driver: &TopologyTestDriver) -> TestOutputTopic<Windowed<String>, Option<i64>> {
    let keys: SharedSerde<Windowed<String>> = Arc::new(WindowedSerde::new(for_type(), 10));
    let values: SharedSerde<i64> = for_type();
    driver.output_topic_with("out", keys, Arc::new(Nullable(values)))
}

fn read<V: Display + Clone + Send + Sync + 'static>(
    out: &mut TestOutputTopic<String, Option<V>>,
) -> Outcome<String> {
    let text = |value: Option<V>| value.map_or("-".to_owned(), |value| value.to_string());
    let rows = out.read_records_to_list()?;
    let rows: Vec<_> =
        rows.into_iter().map(|r| format!("{}={}@{}", r.key, text(r.value), r.timestamp)).collect();
    Ok(rows.join(" "))
}

fn read_windows(out: &mut TestOutputTopic<Windowed<String>, Option<i64>>) -> Outcome<String> {
    let rows = out.read_records_to_list()?.into_iter().map(|r| {
        let (key, value) = (r.key, r.value.map_or("-".to_owned(), |value| value.to_string()));
        format!("{}[{}]={value}@{}", key.key, key.window.start, r.timestamp)
    });
    Ok(rows.collect::<Vec<_>>().join(" "))
}

/// What comes out of `draw` for the records that go in, one by one and all at once.
fn check(
    draw: impl Fn(KStream<String, i64>) -> KStream<String, i64>,
    records: &str,
    expected: &str,
) -> Outcome {
    let driver = TopologyTestDriver::new(topology(&draw)?)?;
    pipe(&driver, records)?;
    assert_eq!(read(&mut plain(&driver))?, expected, "one by one");
    let driver = TopologyTestDriver::new(topology(&draw)?)?.by_hand();
    pipe(&driver, records)?;
    driver.run_until_idle()?;
    driver.commit()?;
    assert_eq!(read(&mut plain(&driver))?, expected, "all at once");
    Ok(())
}

#[test]
fn stateless_operators_keep_order_and_time() -> Outcome {
    check(|s| s.filter(|_, v| *v > 1), "a=1@5 b=2@3 c=3@9", "b=2@3 c=3@9")?;
    check(|s| s.filter_not(|_, v| *v > 1), "a=1@5 b=2@3", "a=1@5")?;
    check(|s| s.map(|k, v| (k + "x", v + 1)), "a=1@5 b=2@3", "ax=2@5 bx=3@3")?;
    check(|s| s.map_values_with_key(|k, v| v + k.len() as i64), "abc=1@5", "abc=4@5")?;
    check(
        |s| s.flat_map(|k, v| (0..v).map(move |i| (format!("{k}{i}"), i))),
        "a=2@5 b=0@6 c=1@7",
        "a0=0@5 a1=1@5 c0=0@7",
    )?;
    check(|s| s.flat_map_values(|v| [v, -v]), "a=2@5", "a=2@5 a=-2@5")?;
    check(|s| s.select_key(|k, v| format!("{k}{v}")), "a=2@5", "a2=2@5")?;
    check(
        |s| s.peek(|_, _| ()).merge(&s.map_values(|v| v * 10)),
        "a=1@5 b=2@6",
        "a=1@5 a=10@5 b=2@6 b=20@6",
    )
}

#[test]
fn the_first_branch_that_wants_a_record_gets_it_and_the_default_the_rest() -> Outcome {
    let draw = |s: KStream<String, i64>| {
        let split = s.split();
        let high = split.branch(|_, v| *v > 10).map_values(|v| v + 1000);
        let even = split.branch(|_, v| v % 2 == 0).map_values(|v| v + 100);
        high.merge(&even).merge(&split.default_branch())
    };
    check(draw, "a=12@1 b=2@2 c=3@3", "a=1012@1 b=102@2 c=3@3")?;
    check(|s| s.split().branch(|_, v| *v > 10), "a=12@1 b=2@2", "a=12@1")
}

#[test]
fn branches_stand_in_a_map_by_the_splits_name_and_their_own() -> Outcome {
    let builder = StreamsBuilder::new();
    let split = builder.stream::<String, i64>("in").split_named("of-");
    let _first = split.branch(|_, v| *v > 100);
    let branches = split
        .branch_with(|_, v| *v > 10, Branched::named("high"))
        .branch_with(|_, v| *v == 0, Branched::with_consumer(|s| drop(s.to("zeros"))))
        .branch_with(|_, v| v % 2 == 0, Branched::with_function(|s| s.map_values(|v| v * 100)))
        .default_branch_with(Branched::default());
    assert_eq!(branches.keys().collect::<Vec<_>>(), ["of-0", "of-1", "of-4", "of-high"]);
    for (name, stream) in &branches {
        stream.to(name);
    }
    let topology = builder.build()?;
    assert!(topology.describe().contains("Processor: of-high"), "{}", topology.describe());
    let driver = TopologyTestDriver::new(topology)?;
    driver.pipe::<String, i64>("in", "a=1@1 b=2@2 c=0@3 d=11@4 e=101@5")?;
    let expected = [
        ("of-0", "a=1@1"),
        ("of-4", "b=200@2"),
        ("zeros", "c=0@3"),
        ("of-high", "d=11@4"),
        ("of-1", "e=101@5"),
    ];
    for (topic, rows) in expected {
        assert_eq!(driver.read::<String, i64>(topic)?, rows, "{topic}");
    }
    // Without a name, that of the split is counted, and two branches are not called alike.
    let builder = StreamsBuilder::new();
    let split = builder.stream::<String, i64>("in").split();
    let branches = split.branch_with(|_, v| *v > 10, Branched::named("high")).no_default_branch();
    assert_eq!(branches.keys().collect::<Vec<_>>(), ["KSTREAM-BRANCH-in-0000000000high"]);
    let builder = StreamsBuilder::new();
    let split = builder.stream::<String, i64>("in").split_named("of-");
    let split = split.branch_with(|_, v| *v > 10, Branched::named("high"));
    split.branch_with(|_, v| *v > 5, Branched::named("high")).no_default_branch();
    assert!(matches!(builder.build(), Err(TopologyError::NameTaken { name }) if name == "of-high"));
    Ok(())
}

#[test]
fn nulls_are_dropped_and_counted() -> Outcome {
    let builder = StreamsBuilder::new();
    builder.stream::<String, Option<i64>>("in").drop_null_values().named("values").to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    pipe(&driver, "a=1@1 b=-@2 c=3@3")?;
    assert_eq!(read(&mut plain(&driver))?, "a=1@1 c=3@3");
    assert_eq!(driver.dropped_records("values")?, 1);
    Ok(())
}

#[test]
fn an_aggregate_keeps_the_largest_time_and_forwards_each_update_without_caching() -> Outcome {
    let count = |s: KStream<String, i64>| {
        let counts = s.group_by_key().count(Materialized::named("n").with_caching_disabled());
        counts.to_stream().drop_null_values()
    };
    check(count, "a=0@5 a=0@9 b=0@1 a=0@7", "a=1@5 a=2@9 b=1@1 a=3@9")?;
    let sum = |s: KStream<String, i64>| {
        let add = |_: &String, v, sum| sum + v;
        let sums = s.group_by_key().aggregate(
            || 100,
            add,
            Materialized::named("n").with_caching_disabled(),
        );
        sums.to_stream().drop_null_values()
    };
    check(sum, "a=1@1 a=2@2", "a=101@1 a=103@2")
}

#[test]
fn a_cached_aggregate_forwards_the_last_value_of_each_key_once_a_commit() -> Outcome {
    let reduce = |s: KStream<String, i64>| {
        s.group_by_key().reduce(|a, b| a * 10 + b, "n").to_stream().drop_null_values()
    };
    let driver = TopologyTestDriver::new(topology(reduce)?)?.by_hand();
    let mut out = plain(&driver);
    pipe(&driver, "a=1@5 b=7@1 a=2@3")?;
    driver.run_until_idle()?;
    driver.commit()?;
    assert_eq!(read(&mut out)?, "a=12@5 b=7@1");
    pipe(&driver, "b=8@2")?;
    driver.run_until_idle()?;
    driver.commit()?;
    driver.commit()?;
    assert_eq!(read(&mut out)?, "b=78@2");
    driver.finish_input()?;
    driver.commit()?;
    assert_eq!(read(&mut out)?, "");
    Ok(())
}

#[test]
fn the_end_of_input_does_not_repeat_cached_updates() -> Outcome {
    let driver =
        TopologyTestDriver::new(topology(|s| s.group_by_key().count("n").to_stream())?)?.by_hand();
    pipe(&driver, "a=1@5 a=2@6")?;
    driver.run_until_idle()?;
    driver.finish_input()?;
    driver.commit()?;
    assert_eq!(read(&mut plain(&driver))?, "a=2@6");
    Ok(())
}

#[test]
fn an_aggregate_that_ends_is_deleted_and_begins_anew() -> Outcome {
    let builder = StreamsBuilder::new();
    let until_negative = |_: &String, v: i64, sum: i64| (v >= 0).then_some(sum + v);
    let grouped = builder.stream::<String, i64>("in").group_by_key();
    grouped.aggregate_or_delete(|| 100, until_negative, "n").to_stream().to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    pipe(&driver, "a=1@9 a=-1@5 a=2@3")?;
    assert_eq!(read(&mut plain(&driver))?, "a=101@9 a=-@5 a=102@3");
    Ok(())
}

#[test]
fn a_changed_key_is_counted_across_partitions() -> Outcome {
    let count = |s: KStream<String, i64>| {
        let grouped = s.group_by(|_, v| format!("v{v}"));
        grouped
            .count(Materialized::named("n").with_caching_disabled())
            .to_stream()
            .drop_null_values()
    };
    check(count, "a=1@1 b=1@2 c=2@3", "v1=1@1 v1=2@2 v2=1@3")
}

#[test]
fn finals_come_out_once_in_order_when_time_passes_the_grace() -> Outcome {
    let driver = finals()?;
    let mut out = in_windows(&driver);
    pipe(&driver, "b=0@3 a=0@7 b=0@1 c=0@12 a=0@9 x=0@14")?;
    assert_eq!(read_windows(&mut out)?, "");
    pipe(&driver, "x=0@15")?;
    assert_eq!(read_windows(&mut out)?, "a[0]=2@9 b[0]=2@3");
    pipe(&driver, "a=0@9 x=0@16")?;
    assert_eq!((read_windows(&mut out)?.as_str(), driver.dropped_records("window")?), ("", 1));
    pipe(&driver, "x=0@1000")?;
    assert_eq!(read_windows(&mut out)?, "c[10]=1@12 x[10]=3@16");
    driver.finish_input()?;
    driver.commit()?;
    assert_eq!(read_windows(&mut out)?, "x[1000]=1@1000");
    Ok(())
}

#[test]
fn a_batch_closes_the_same_windows_as_its_records_one_by_one() -> Outcome {
    let driver = finals()?.by_hand();
    let mut out = in_windows(&driver);
    pipe(&driver, "b=0@3 a=0@7 x=0@15 a=0@9 c=0@12 x=0@1000 c=0@980")?;
    driver.run_until_idle()?;
    driver.commit()?;
    assert_eq!(read_windows(&mut out)?, "a[0]=1@7 b[0]=1@3 c[10]=1@12 x[10]=1@15");
    assert_eq!(driver.dropped_records("window")?, 2);
    Ok(())
}

#[test]
fn a_restart_forgets_neither_time_nor_open_windows() -> Outcome {
    for lose_state in [false, true] {
        let driver = finals()?;
        let mut out = in_windows(&driver);
        pipe(&driver, "a=0@3 x=0@16")?;
        assert_eq!(read_windows(&mut out)?, "a[0]=1@3");
        if lose_state {
            driver.lose_state();
        } else {
            driver.crash();
        }
        driver.restart()?;
        pipe(&driver, "a=0@4 x=0@17 x=0@40")?;
        assert_eq!(read_windows(&mut out)?, "x[10]=2@17", "state lost: {lose_state}");
        assert_eq!(driver.dropped_records("window")?, 1);
    }
    Ok(())
}

#[test]
fn a_fast_partition_above_a_repartition_makes_nothing_late() -> Outcome {
    let builder = StreamsBuilder::new();
    let windows = TimeWindows::of_size_with_no_grace(Duration::from_millis(10));
    let grouped = builder.stream::<String, i64>("in").group_by(|_, _| "all".to_owned());
    let counts =
        grouped.windowed_by(windows).emit_strategy(EmitStrategy::on_window_close()).count("w");
    counts.named("window").to_stream().to("out");
    let partitions = BTreeMap::from([("in", 4)]);
    let driver =
        TopologyTestDriver::with(builder.build()?, StreamsConfig::new("test"), &partitions)?
            .by_hand();
    for key in 'a'..='z' {
        // Time is in order within each partition, but one read to its end is far ahead of the others.
        pipe(&driver, &format!("{key}=0@{}", i64::from(u32::from(key)) * 1000))?;
    }
    driver.run_until_idle()?;
    driver.finish_input()?;
    driver.commit()?;
    let rows = read_windows(&mut in_windows(&driver))?;
    assert_eq!(rows.split_whitespace().count(), 26);
    assert_eq!(driver.dropped_records("window")?, 0);
    Ok(())
}

#[test]
fn a_join_of_topics_with_different_numbers_of_partitions_is_refused() -> Outcome {
    let builder = StreamsBuilder::new();
    let table = builder.table::<String, i64>("prices");
    builder
        .stream::<String, i64>("in")
        .join(&table, |v, price| v * price)
        .named("pricing")
        .to("out");
    let partitions = BTreeMap::from([("in", 2)]);
    let refused =
        TopologyTestDriver::with(builder.build()?, StreamsConfig::new("test"), &partitions);
    let error = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("`pricing`") && error.contains("in: 2, prices: 1"), "{error}");
    Ok(())
}

#[test]
fn the_end_of_time_drops_what_can_never_close_and_does_not_overflow() -> Outcome {
    let driver = finals()?;
    let mut out = in_windows(&driver);
    let last = i64::MAX;
    pipe(&driver, &format!("a=0@1 a=0@{last} a=0@2"))?;
    assert_eq!(read_windows(&mut out)?, "a[0]=1@1");
    assert_eq!(driver.dropped_records("window")?, 2);
    driver.finish_input()?;
    driver.commit()?;
    assert_eq!(read_windows(&mut out)?, "");
    Ok(())
}

#[test]
fn updates_of_windows_come_out_and_late_records_do_not_count() -> Outcome {
    let uncached = Materialized::named("w").with_caching_disabled();
    let driver = windowed(|windows, grouped| grouped.windowed_by(windows).count(uncached))?;
    let mut out = in_windows(&driver);
    pipe(&driver, "a=0@3 a=0@2 a=0@14 a=0@1 b=0@15 a=0@4")?;
    assert_eq!(read_windows(&mut out)?, "a[0]=1@3 a[0]=2@3 a[10]=1@14 a[0]=3@3 b[10]=1@15");
    assert_eq!(driver.dropped_records("window")?, 1);
    Ok(())
}

#[test]
fn cached_updates_of_windows_come_out_even_if_the_window_closes_before_the_commit() -> Outcome {
    let driver =
        windowed(|windows, grouped| grouped.windowed_by(windows).reduce(|a, b| a + b, "w"))?
            .by_hand();
    let mut out = in_windows(&driver);
    pipe(&driver, "a=1@3 a=2@2 b=5@100 a=4@3")?;
    driver.run_until_idle()?;
    driver.commit()?;
    assert_eq!(read_windows(&mut out)?, "a[0]=3@3 b[100]=5@100");
    assert_eq!(driver.dropped_records("window")?, 1);
    Ok(())
}

#[test]
fn a_stream_joins_the_tables_value_at_arrival() -> Outcome {
    let builder = StreamsBuilder::new();
    let table = builder.table::<String, i64>("prices");
    let positive = table.filter(|_, v| *v > 0).map_values(|v| v * 100);
    let stream = builder.stream::<String, i64>("in");
    let inner = stream.join(&table, |v, price| v * price);
    inner.merge(&stream.left_join(&positive, |v, price| price.unwrap_or(-v))).to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    let mut out = plain(&driver);
    pipe(&driver, "a=1@5")?;
    assert_eq!(read(&mut out)?, "a=-1@5");
    pipe_to(&driver, "prices", "a=7@900 b=-3@1")?;
    assert_eq!(read(&mut out)?, "");
    pipe(&driver, "a=2@6 b=1@7")?;
    assert_eq!(read(&mut out)?, "a=14@6 a=700@6 b=-3@7 b=-1@7");
    pipe_to(&driver, "prices", "a=-@8")?;
    pipe(&driver, "a=2@9")?;
    assert_eq!(read(&mut out)?, "a=-2@9");
    Ok(())
}

#[test]
fn a_table_forwards_every_update_and_rows_that_fall_out_of_a_filter_as_deletions() -> Outcome {
    let builder = StreamsBuilder::new();
    builder.table::<String, i64>("in").filter(|_, v| *v > 1).to_stream().to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    pipe(&driver, "a=2@5 a=2@6 a=1@7 a=-@8 a=-@9")?;
    assert_eq!(read(&mut plain(&driver))?, "a=2@5 a=2@6 a=-@7");
    Ok(())
}

#[test]
fn an_aggregate_of_none_returns_after_a_crash_and_a_negative_zero_too() -> Outcome {
    for lose in [false, true] {
        let builder = StreamsBuilder::new();
        let grouped = builder.stream::<String, i64>("in").group_by_key();
        let longest = |_: &String, value: i64, so_far: Option<i64>| match so_far {
            None => Some(1_000 + value),
            Some(_) => None,
        };
        let aggregated = grouped.aggregate(|| Some(0), longest, "longest");
        aggregated.to_stream().map_values(|v| v.map(|v| v.unwrap_or(-1))).to("out");
        let zero = |_: &String, value: i64, so_far: (bool, f64)| {
            (so_far.1.is_sign_negative(), if value == 1 { -0.0 } else { 0.0 })
        };
        let zeros = grouped.aggregate(|| (false, 0.0), zero, "zeros").to_stream();
        zeros.map_values(|v| v.map(|v| i64::from(v.0))).to("negative");
        let driver = TopologyTestDriver::new(builder.build()?)?;
        pipe(&driver, "a=1@1")?;
        if lose {
            driver.lose_state();
        } else {
            driver.crash();
        }
        driver.restart()?;
        pipe(&driver, "a=2@2")?;
        assert_eq!(read(&mut plain(&driver))?, "a=-1@1 a=1002@2", "state lost: {lose}");
        let mut negative = driver.output_topic::<String, Option<i64>>("negative");
        assert_eq!(read(&mut negative)?, "a=0@1 a=1@2", "state lost: {lose}");
        pipe(&driver, "a=3@3")?;
        let store = driver.key_value_store::<String, Option<i64>>("longest")?;
        assert_eq!(store.get(&"a".into())?.map(|stored| stored.value), Some(None));
    }
    Ok(())
}

/// A key is the bytes that the store's serde writes, not those in the log: JSON has several forms of one number.
#[test]
fn a_key_is_one_however_the_log_wrote_it() -> Outcome {
    let builder = StreamsBuilder::new();
    let keys: SharedSerde<f64> = Arc::new(Json);
    let stream = builder.stream_with("in", Consumed::with(Arc::clone(&keys), for_type::<i64>()));
    let grouped = stream.group_by_key_with(Grouped::with(Arc::clone(&keys), for_type()));
    grouped.count(Materialized::named("c").with_caching_disabled()).to_stream().to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    let input = driver.input_topic::<String, i64>("in");
    for key in ["1.0", "1", "1.00", "2", "1e0"] {
        input.pipe_input(key.into(), 0, 0)?;
    }
    let mut output = driver.output_topic_with("out", keys, for_type::<i64>());
    let counts: Vec<_> = output
        .read_records_to_list()?
        .into_iter()
        .map(|row| (row.key.to_string(), row.value))
        .collect();
    let expected = [("1", 1), ("1", 2), ("1", 3), ("2", 1), ("1", 4)];
    assert_eq!(counts, expected.map(|(key, count)| (key.to_owned(), count)));
    Ok(())
}

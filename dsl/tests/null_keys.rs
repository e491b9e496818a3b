//! A null key is no key: it is dropped and counted by whatever keeps state, on every path, and never becomes the empty
//! key.
//!
//! Records go in one by one and all at once; they are written `key=value@timestamp`, `∅` for null.

use headwater_core::serde::{Nullable, SharedSerde, for_type};
use headwater_dsl::{EmitStrategy, KStream, Materialized, StreamsBuilder, TimeWindows};
use headwater_engine::{
    store::{Windowed, WindowedSerde},
    topology::Topology,
};
use headwater_testkit::TopologyTestDriver;
use std::{error::Error, sync::Arc, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;
type Key = Option<String>;

fn key(text: &str) -> Key {
    (text != "∅").then(|| text.to_owned())
}

fn pipe(driver: &TopologyTestDriver, topic: &str, records: &str) -> Outcome {
    let input = driver.input_topic::<Key, Option<i64>>(topic);
    for record in records.split_whitespace() {
        let (name, rest) = record.split_once('=').ok_or("no =")?;
        let (value, timestamp) = rest.split_once('@').ok_or("no @")?;
        let value = if value == "∅" { None } else { Some(value.parse()?) };
        input.pipe_input(key(name), value, timestamp.parse()?)?;
    }
    Ok(())
}

fn topology(draw: impl FnOnce(&StreamsBuilder)) -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    draw(&builder);
    Ok(builder.build()?)
}

fn rows(driver: &TopologyTestDriver) -> Outcome<String> {
    let rows = driver.output_topic::<Key, Option<i64>>("out").read_records_to_list()?;
    let text = |value: Option<i64>| value.map_or("∅".to_owned(), |value| value.to_string());
    let rows = rows.into_iter().map(|row| {
        format!("{}={}@{}", row.key.as_deref().unwrap_or("∅"), text(row.value), row.timestamp)
    });
    Ok(rows.collect::<Vec<_>>().join(" "))
}

/// Runs `records` through `draw`, one by one and all at once, and compares what `read` gives and what the node drops.
fn check(
    draw: impl Fn(&StreamsBuilder),
    (records, node): (&str, &str),
    read: impl Fn(&TopologyTestDriver) -> Outcome<String>,
    (expected, dropped): (&str, u64),
) -> Outcome {
    for all_at_once in [false, true] {
        let mut driver = TopologyTestDriver::new(topology(&draw)?)?;
        if all_at_once {
            driver = driver.by_hand();
        }
        pipe(&driver, "in", records)?;
        driver.run_until_idle()?;
        driver.commit()?;
        driver.finish_input()?;
        assert_eq!(read(&driver)?, expected, "all at once: {all_at_once}");
        assert_eq!(driver.dropped_records(node), dropped, "all at once: {all_at_once}");
    }
    Ok(())
}

const RECORDS: &str = "∅=1@1 =2@2 ∅=3@3";

fn uncached(name: &str) -> Materialized {
    Materialized::named(name).with_caching_disabled()
}

#[test]
fn an_aggregation_drops_and_counts_them() -> Outcome {
    for caching in [true, false] {
        let materialized = |name| if caching { Materialized::named(name) } else { uncached(name) };
        let count = |stream: KStream<Key, i64>| {
            stream.group_by_key().count(materialized("n")).named("count").to_stream().to("out");
        };
        check(|b| count(b.stream("in")), (RECORDS, "count"), rows, ("=1@2", 2))?;
        let reduce = |stream: KStream<Key, i64>| {
            let grouped = stream.group_by_key();
            grouped.reduce(|a, b| a + b, materialized("n")).named("sum").to_stream().to("out");
        };
        check(|b| reduce(b.stream("in")), (RECORDS, "sum"), rows, ("=2@2", 2))?;
    }
    Ok(())
}

#[test]
fn a_grouping_below_a_repartition_drops_and_counts_them() -> Outcome {
    let draw = |builder: &StreamsBuilder| {
        let stream = builder.stream::<Key, i64>("in");
        let grouped = stream.group_by(|key, _| key.clone());
        grouped.count(uncached("n")).named("count").to_stream().to("out");
    };
    check(draw, (RECORDS, "count"), rows, ("=1@2", 2))
}

#[test]
fn a_window_drops_and_counts_them_and_they_move_no_time() -> Outcome {
    // The null key at 50 would close the window of the empty key at 3, which is in time.
    let records = "=1@1 ∅=1@50 =1@3 ∅=1@4";
    let windows = TimeWindows::of_size_with_no_grace(Duration::from_millis(10));
    let read = |driver: &TopologyTestDriver| -> Outcome<String> {
        let keys: SharedSerde<Windowed<Key>> = Arc::new(WindowedSerde::new(for_type(), 10));
        let values: SharedSerde<i64> = for_type();
        let mut out = driver.output_topic_with("out", keys, Arc::new(Nullable(values)));
        let rows = out.read_records_to_list()?.into_iter().map(|row| {
            format!("{:?}[{}]={:?}@{}", row.key.key, row.key.window.start, row.value, row.timestamp)
        });
        Ok(rows.collect::<Vec<_>>().join(" "))
    };
    for (emit, expected) in [
        (EmitStrategy::on_window_close(), r#"Some("")[0]=Some(2)@3"#),
        (EmitStrategy::on_window_update(), r#"Some("")[0]=Some(1)@1 Some("")[0]=Some(2)@3"#),
    ] {
        let draw = |builder: &StreamsBuilder| {
            let grouped = builder.stream::<Key, i64>("in").group_by_key();
            let counts = grouped.windowed_by(windows).emit_strategy(emit).count(uncached("n"));
            counts.named("window").to_stream().to("out");
        };
        check(draw, (records, "window"), read, (expected, 2))?;
    }
    Ok(())
}

#[test]
fn a_table_drops_and_counts_them() -> Outcome {
    let draw = |builder: &StreamsBuilder| {
        let _table = builder.table_with::<Key, i64>("in", Default::default(), "t").named("table");
        builder.stream::<Key, i64>("other").to("out");
    };
    let read = |driver: &TopologyTestDriver| -> Outcome<String> {
        let store = driver.key_value_store::<Key, i64>("t")?;
        assert_eq!(store.get(&None)?, None);
        assert_eq!(store.get(&key(""))?.map(|stored| stored.value), Some(2));
        Ok(format!("{:?}", store.all()?.into_iter().map(|(key, _)| key).collect::<Vec<_>>()))
    };
    check(draw, ("=2@2 ∅=3@3 ∅=∅@4", "table"), read, (r#"[Some("")]"#, 2))
}

#[test]
fn an_inner_join_drops_and_counts_them_and_a_left_join_emits_them_unjoined() -> Outcome {
    for (left, expected, dropped) in [(false, "=12@2", 2), (true, "∅=1@1 =12@2 ∅=3@3", 0)] {
        let builder = StreamsBuilder::new();
        let table = builder.table::<Key, i64>("table");
        let stream = builder.stream::<Key, i64>("in");
        let joined = if left {
            stream.left_join(&table, |value, side| value + side.unwrap_or(0))
        } else {
            stream.join(&table, |value, side| value + side)
        };
        joined.to("out");
        let topology = builder.build()?;
        let node = topology.describe().lines().find_map(|line| {
            line.trim().strip_prefix("Processor: KSTREAM-")?.split(' ').next().map(str::to_owned)
        });
        for all_at_once in [false, true] {
            let mut driver = TopologyTestDriver::new(topology.clone())?;
            pipe(&driver, "table", "=10@0")?;
            if all_at_once {
                driver = driver.by_hand();
            }
            pipe(&driver, "in", RECORDS)?;
            driver.run_until_idle()?;
            driver.commit()?;
            assert_eq!(rows(&driver)?, expected);
            let node = format!("KSTREAM-{}", node.as_deref().unwrap_or_default());
            assert_eq!(driver.dropped_records(&node), dropped, "{node}");
        }
    }
    Ok(())
}

#[test]
fn a_left_join_below_a_repartition_emits_them_unjoined() -> Outcome {
    let draw = |builder: &StreamsBuilder| {
        let table = builder.table::<Key, i64>("table");
        let keyed = builder.stream::<Key, Option<i64>>("in").select_key(|key, _| key.clone());
        let joined = keyed.left_join(&table, |value, side| value.or(side));
        joined.to("out");
    };
    // A record without key and value is no mark of time.
    let records = "∅=1@1 ∅=∅@2 =∅@3 ∅=∅@4";
    check(draw, (records, ""), rows, ("∅=1@1 ∅=∅@2 =∅@3 ∅=∅@4", 0))
}

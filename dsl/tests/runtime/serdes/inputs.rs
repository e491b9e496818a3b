//! What is joined, and what waits for calls: keys and values without a serde but those that are given.

use super::{Opaque, consumed, ms, opaque, read, sum};
use headwater_core::serde::Utf8;
use headwater_dsl::{
    AsyncCalls, JoinWindows, Joined, KStream, KTable, Materialized, MaterializedWith, StreamJoined,
    StreamsBuilder, TableJoined,
};
use headwater_engine::{
    runtime::{Repartitioning, StreamsConfig},
    topology::Produced,
};
use headwater_testkit::TopologyTestDriver;
use std::{collections::BTreeMap, error::Error, sync::Arc};

type Outcome = Result<(), Box<dyn Error>>;

type Stream = KStream<Opaque, Opaque>;
type Table = KTable<Opaque, Opaque>;

fn write(stream: &Stream, topic: &str) {
    let shown = stream.map(|key, value| (format!("{}", key.0), value));
    shown.to_with(topic, Produced::with(Arc::new(Utf8), opaque()));
}

fn write_table(table: &Table, topic: &str) {
    let some = table.to_stream().map(|key, value| (key, value.unwrap_or(Opaque(0))));
    write(&some, topic);
}

fn named(store: &str) -> MaterializedWith<Opaque, Opaque> {
    Materialized::named(store).with_value_serde(opaque())
}

fn table(stream: &Stream, kept: MaterializedWith<Opaque, Opaque>) -> Table {
    stream.to_table_with(opaque(), opaque(), kept)
}

/// Pipes `a=1@1`, and, after the state is lost, `a=2@2`, under the key 7, and compares what came out in the end. `draw` gets the odd
/// values and the even ones, whose keys have changed, so that they are repartitioned.
fn holds(draw: fn(&Stream, &Stream), expected: &[(&str, &str)]) -> Outcome {
    for repartitioning in [Repartitioning::InMemory, Repartitioning::ThroughTopic] {
        let builder = StreamsBuilder::new();
        let all = builder.stream_with("in", consumed()).map(|_, value| (Opaque(7), value));
        let (odd, even) =
            (all.filter(|_, value| value.0 % 2 == 1), all.filter(|_, value| value.0 % 2 == 0));
        draw(&odd, &even);
        let config = StreamsConfig::new("test").with_repartitioning(repartitioning);
        let driver = TopologyTestDriver::with(builder.build()?, config, &BTreeMap::new())?;
        let pipe = |value, at| {
            let input = driver.input_topic_with::<String, _>("in", Arc::new(Utf8), opaque());
            input.pipe_input("a".into(), Opaque(value), at)
        };
        pipe(1, 1)?;
        driver.crash();
        driver.lose_state();
        driver.restart()?;
        pipe(2, 2)?;
        driver.finish_input()?;
        for (topic, expected) in expected {
            assert_eq!(read(&driver, topic)?, *expected, "{topic}, {repartitioning:?}");
        }
        assert!(driver.dead_letters()?.is_empty());
    }
    Ok(())
}

fn near() -> JoinWindows {
    JoinWindows::of_time_difference_with_no_grace(ms(10))
}

fn told(name: &str) -> StreamJoined<Opaque, Opaque, Opaque> {
    StreamJoined::with(opaque(), opaque(), opaque()).with_name(name)
}

fn or_nine(value: Option<Opaque>) -> Opaque {
    value.unwrap_or(Opaque(9))
}

#[test]
fn streams_are_joined_by_the_serdes_given() -> Outcome {
    let draw = |odd: &Stream, even: &Stream| {
        write(&odd.join(even.within_with(near(), told("inner")), sum), "inner-out");
        let left = |odd, even| sum(odd, or_nine(even));
        write(&odd.left_join(even.within_with(near(), told("left")), left), "left-out");
        let outer = |odd, even| sum(or_nine(odd), or_nine(even));
        let apart = near().before(0_i64).after(0_i64);
        write(&odd.outer_join(even.within_with(apart, told("outer")), outer), "outer-out");
        write(&odd.join(odd.within_with(near(), told("self")), sum), "self-out");
    };
    holds(
        draw,
        &[
            ("inner-out", "7=3"),
            ("left-out", "7=3"),
            ("outer-out", "7=10 7=11"),
            ("self-out", "7=2"),
        ],
    )
}

#[test]
fn streams_are_joined_with_tables_by_the_serdes_given() -> Outcome {
    let draw = |odd: &Stream, even: &Stream| {
        let joined = |name: &str| Joined::named(name).with_serdes(opaque(), opaque());
        let rows = table(odd, named("rows"));
        write(&even.join(rows.joined(joined("inner")), sum), "inner-out");
        let left = |value, row| sum(value, or_nine(row));
        write(&even.left_join(rows.joined(joined("left")), left), "left-out");
        let versioned = Materialized::named("versions").versioned(ms(50));
        let versions = table(even, versioned.with_value_serde(opaque()));
        let graced = Joined::named("graced").grace_period(ms(5)).with_serdes(opaque(), opaque());
        write(&odd.left_join(versions.joined(graced), left), "graced-out");
    };
    holds(draw, &[("inner-out", "7=3"), ("left-out", "7=3"), ("graced-out", "7=10")])
}

#[test]
fn tables_are_joined_by_foreign_keys_by_the_serdes_given() -> Outcome {
    let draw = |odd: &Stream, even: &Stream| {
        let left = table(odd, named("left")).map_values(|value| Opaque(value.0 + 10));
        let right = table(even, named("right")).map_values(|value| Opaque(value.0 + 20));
        let same = |key: &Opaque, _: &Opaque| *key;
        let told = |name: &str| TableJoined::named(name).with_serdes(opaque(), opaque());
        let inner = left.join_on_with(&right, same, sum, told("fk"), named("inner"));
        write_table(&inner, "inner-out");
        let join = |value, other| sum(value, or_nine(other));
        let left =
            left.left_join_on_with(&right, same, join, told("left-fk"), named("left-joined"));
        write_table(&left, "left-out");
    };
    holds(draw, &[("inner-out", "7=33"), ("left-out", "7=20 7=33")])
}

#[test]
fn what_waits_for_calls_is_kept_by_the_serdes_given() -> Outcome {
    let draw = |odd: &Stream, even: &Stream| {
        let told =
            |name: &str| AsyncCalls::at_most(2).with_name(name).with_serdes(opaque(), opaque());
        let mapped = odd.map_async(told("map"), |key: Opaque, value: Opaque| async move {
            Ok::<_, &str>((key, sum(value, value)))
        });
        write(&mapped, "mapped-out");
        let mapped = even.map_values_async(told("map-values"), |key: Opaque, value| async move {
            Ok::<_, &str>(sum(key, value))
        });
        write(&mapped, "values-out");
        let made = even.process_async(told("process"), |row| async move {
            Ok::<_, &str>(vec![(row.key, row.value), (row.value, row.key)])
        });
        write(&made, "made-out");
    };
    holds(draw, &[("mapped-out", "7=2"), ("values-out", "7=9"), ("made-out", "7=2 2=7")])
}

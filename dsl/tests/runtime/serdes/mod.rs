//! Types that have no serde but those that are given.

mod inputs;
mod keys;

use headwater_core::serde::{Data, Nullable, Serde, SerdeError, SharedSerde, Utf8};
use headwater_dsl::{
    BufferConfig, Grouped, KTable, Materialized, MaterializedWith, SessionWindows, StreamsBuilder,
    Suppressed, TimeWindows,
};
use headwater_engine::{
    processor::Stores,
    store::Windowed,
    topology::{Consumed, Produced},
};
use headwater_testkit::TopologyTestDriver;
use std::{error::Error, sync::Arc, time::Duration};

/// A value without serde's traits.
#[derive(Debug, Clone, Copy)]
struct Opaque(u8);

/// Writes it as a tag and a byte.
struct OpaqueSerde;

const TAG: u8 = 0xf0;

impl Serde<Opaque> for OpaqueSerde {
    fn serialize(&self, value: &Opaque, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        out.extend([TAG, value.0]);
        Ok(true)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Opaque, SerdeError> {
        match bytes {
            Some(&[TAG, byte]) => Ok(Opaque(byte)),
            Some(other) => {
                Err(SerdeError::Malformed { expected: "opaque", detail: format!("{other:?}") })
            }
            None => Err(SerdeError::Null),
        }
    }

    fn schema(&self) -> String {
        "opaque".into()
    }
}

fn opaque() -> SharedSerde<Opaque> {
    Arc::new(OpaqueSerde)
}

fn named(store: &str) -> MaterializedWith<String, Opaque> {
    Materialized::named(store).with_value_serde(opaque())
}

fn grouped() -> Grouped<String, Opaque> {
    Grouped::with(Arc::new(Utf8), opaque())
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn sum(so_far: Opaque, value: Opaque) -> Opaque {
    Opaque(so_far.0 + value.0)
}

fn add(_: &String, value: Opaque, so_far: Opaque) -> Opaque {
    sum(so_far, value)
}

fn zero() -> Opaque {
    Opaque(0)
}

fn write<K: Data>(
    table: &KTable<K, Opaque>,
    text: impl Fn(&K) -> String + Send + Sync + 'static,
    topic: &str,
) {
    let updates = table.to_stream().map(move |key, value| (text(&key), value));
    updates.to_with(topic, Produced::with(Arc::new(Utf8), Arc::new(Nullable(opaque()))));
}

fn windowed(key: &Windowed<String>) -> String {
    format!("{}[{}]", key.key, key.window.start)
}

/// What is in a topic, as `key=value`.
fn read(driver: &TopologyTestDriver, topic: &str) -> Result<String, Box<dyn Error>> {
    let values: SharedSerde<Option<Opaque>> = Arc::new(Nullable(opaque()));
    let mut out = driver.output_topic_with::<String, _>(topic, Arc::new(Utf8), values);
    let read = out.read_records_to_list()?;
    let shown = read.iter().map(|record| match &record.value {
        Some(value) => format!("{}={}", record.key, value.0),
        None => format!("{}=∅", record.key),
    });
    Ok(shown.collect::<Vec<_>>().join(" "))
}

/// Pipes `a=1@1` and `a=2@2`, with the state rebuilt from its changelogs in between, and compares what came out.
fn holds(draw: impl Fn(&StreamsBuilder), expected: &[(&str, &str)]) -> Result<(), Box<dyn Error>> {
    let builder = StreamsBuilder::new();
    draw(&builder);
    let driver = TopologyTestDriver::new(builder.build()?)?;
    let pipe = |value, at| {
        let input = driver.input_topic_with::<String, _>("in", Arc::new(Utf8), opaque());
        input.pipe_input("a".into(), Opaque(value), at)
    };
    pipe(1, 1)?;
    driver.crash();
    driver.lose_state();
    driver.restart()?;
    pipe(2, 2)?;
    for (topic, expected) in expected {
        assert_eq!(read(&driver, topic)?, *expected, "{topic}");
    }
    assert!(driver.dead_letters()?.is_empty());
    Ok(())
}

fn consumed() -> Consumed<String, Opaque> {
    Consumed::with(Arc::new(Utf8), opaque())
}

#[test]
fn streams_are_aggregated_by_the_serdes_given() -> Result<(), Box<dyn Error>> {
    let draw = |builder: &StreamsBuilder| {
        let stream = builder.stream_with("in", consumed());
        let grouped = stream.group_by_with(|key, _| key.clone(), grouped());
        write(&grouped.reduce(sum, "reduced"), String::clone, "reduced-out");
        write(&grouped.aggregate(zero, add, named("aggregated")), String::clone, "aggregated-out");
        let cogrouped = grouped.cogroup(add).aggregate(zero, named("cogrouped"));
        write(&cogrouped, String::clone, "cogrouped-out");
        let in_windows = grouped.windowed_by(TimeWindows::of_size_with_no_grace(ms(10)));
        write(&in_windows.reduce(sum, "in-windows"), windowed, "in-windows-out");
        let in_windows = in_windows.aggregate(zero, add, named("of-windows"));
        write(&in_windows, windowed, "of-windows-out");
        let sessions = SessionWindows::of_inactivity_gap_with_no_grace(ms(10));
        let sessions = grouped.windowed_by(sessions);
        write(&sessions.reduce(sum, "sessions"), windowed, "sessions-out");
        let merge = |_: &String, so_far, session| sum(so_far, session);
        let sessions = sessions.aggregate(zero, add, merge, named("of-sessions"));
        write(&sessions, windowed, "of-sessions-out");
    };
    let sessions = "a[1]=1 a[1]=3 a[1]=∅";
    holds(
        draw,
        &[
            ("reduced-out", "a=1 a=3"),
            ("aggregated-out", "a=1 a=3"),
            ("cogrouped-out", "a=1 a=3"),
            ("in-windows-out", "a[0]=1 a[0]=3"),
            ("of-windows-out", "a[0]=1 a[0]=3"),
            ("sessions-out", sessions),
            ("of-sessions-out", sessions),
        ],
    )
}

#[test]
fn tables_are_kept_by_the_serdes_given() -> Result<(), Box<dyn Error>> {
    let draw = |builder: &StreamsBuilder| {
        let stream = builder.stream_with("in", consumed());
        let table = stream.to_table_with(Arc::new(Utf8), opaque(), named("table"));
        write(&table, String::clone, "table-out");
        let more = table.map_values(|value| Opaque(value.0 + 10)).materialized(named("more"));
        write(&more, String::clone, "more-out");
        let transformed = table.transform_values(
            |_| Ok(|_: &String, value: Option<Opaque>, _: &mut Stores<'_>| Ok(value)),
            &[],
            named("transformed"),
        );
        write(&transformed, String::clone, "transformed-out");
        let joined = table.join(&more, sum).materialized(named("joined"));
        write(&joined, String::clone, "joined-out");
        let held = Suppressed::until_time_limit(ms(1), BufferConfig::unbounded());
        write(&table.suppress_with(held, opaque()), String::clone, "held-out");
        let all = table.group_by_with(|_, value| ("all".to_owned(), *value), grouped());
        let subtract = |so_far: Opaque, value: Opaque| Opaque(so_far.0 - value.0);
        write(&all.reduce(sum, subtract, "all"), String::clone, "all-out");
        let subtract = move |_: &String, value, so_far| subtract(so_far, value);
        let all = all.aggregate(zero, add, subtract, named("of-all"));
        write(&all, String::clone, "of-all-out");
    };
    holds(
        draw,
        &[
            ("table-out", "a=1 a=2"),
            ("more-out", "a=11 a=12"),
            ("transformed-out", "a=1 a=2"),
            ("joined-out", "a=12 a=14"),
            ("held-out", "a=2"),
            ("all-out", "all=1 all=2"),
            ("of-all-out", "all=1 all=2"),
        ],
    )
}

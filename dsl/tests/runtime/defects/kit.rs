//! How the tests write records down and what they say of a result.

use headwater_core::{
    ports::log::Log,
    record::{Headers, TopicName, TopicPartition, murmur2_partition},
    serde::{Nullable, SharedSerde, for_type},
};
use headwater_dsl::{Materialized, TimeWindows};
use headwater_engine::{
    runtime::StreamsConfig,
    store::{Windowed, WindowedSerde},
    topology::Topology,
};
use headwater_testkit::TopologyTestDriver;
use std::{collections::BTreeMap, error::Error, sync::Arc, time::Duration};

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Asserts that what `text` tells is right.
#[track_caller]
pub(crate) fn holds(right: &str, text: impl FnOnce() -> Outcome<String>) {
    assert_eq!(text().unwrap_or_else(|error| error.to_string()), right);
}

pub(crate) fn windows(size_ms: u64, grace_ms: u64) -> TimeWindows {
    TimeWindows::of_size_and_grace(Duration::from_millis(size_ms), Duration::from_millis(grace_ms))
}

pub(crate) fn uncached(name: &str) -> Materialized {
    Materialized::named(name).with_caching_disabled()
}

pub(crate) fn config(rows_max: usize) -> StreamsConfig {
    StreamsConfig::new("test").with_batch_rows_max(rows_max)
}

/// A driver that moves when it is told to; `in` has so many partitions.
pub(crate) fn by_hand(topology: Topology, partitions: u32) -> Outcome<TopologyTestDriver> {
    let partitions = BTreeMap::from([("in", partitions)]);
    Ok(TopologyTestDriver::with(topology, config(2_048), &partitions)?.by_hand())
}

/// Splits `key=value@timestamp`.
pub(crate) fn record(text: &str) -> Outcome<(Option<&str>, Option<i64>, i64)> {
    let (key, rest) = text.split_once('=').ok_or("no =")?;
    let (value, timestamp) = rest.split_once('@').ok_or("no @")?;
    let value = if value == "-" { None } else { Some(value.parse()?) };
    Ok(((key != "-").then_some(key), value, timestamp.parse()?))
}

pub(crate) fn pipe(driver: &TopologyTestDriver, topic: &str, records: &str) -> Outcome {
    pipe_with(driver, topic, records, &Headers::new())
}

pub(crate) fn pipe_with(
    driver: &TopologyTestDriver,
    topic: &str,
    records: &str,
    headers: &Headers,
) -> Outcome {
    let input = driver.input_topic::<String, i64>(topic);
    for text in records.split_whitespace() {
        let (key, value, timestamp) = record(text)?;
        let value = value.map(i64::to_be_bytes);
        let value = value.as_ref().map(|bytes| &bytes[..]);
        input.pipe_bytes_with(key.map(str::as_bytes), value, timestamp, headers)?;
    }
    Ok(())
}

/// Pipes records, takes them all and commits.
pub(crate) fn take(driver: &TopologyTestDriver, records: &str) -> Outcome {
    pipe(driver, "in", records)?;
    driver.run_until_idle()?;
    Ok(driver.commit()?)
}

/// Everything in a topic, which holds numbers under texts.
pub(crate) fn read(driver: &TopologyTestDriver, topic: &str) -> Outcome<String> {
    let rows = driver.output_topic::<Option<String>, Option<i64>>(topic).read_records_to_list()?;
    let rows = rows.into_iter().map(|row| {
        let key = row.key.unwrap_or_else(|| "-".to_owned());
        format!("{key}={}@{}", shown(row.value), row.timestamp)
    });
    Ok(rows.collect::<Vec<_>>().join(" "))
}

/// Everything in `out`, which holds windows of 10 ms.
pub(crate) fn read_windows(driver: &TopologyTestDriver) -> Outcome<String> {
    let keys: SharedSerde<Windowed<String>> = Arc::new(WindowedSerde::new(for_type(), 10));
    let values: SharedSerde<i64> = for_type();
    let mut out = driver.output_topic_with("out", keys, Arc::new(Nullable(values)));
    let rows = out.read_records_to_list()?.into_iter().map(|row| {
        let Windowed { key, window } = row.key;
        format!("{key}[{}]={}@{}", window.start, shown(row.value), row.timestamp)
    });
    Ok(rows.collect::<Vec<_>>().join(" "))
}

fn shown(value: Option<i64>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

/// All dead letters, as key, value, offset and cause.
pub(crate) fn letters(log: &dyn Log) -> Outcome<String> {
    let at = only("test-dead-letters")?;
    let fetched = log.fetch(&at, 0, usize::MAX)?;
    let text = |bytes: Option<&[u8]>| match bytes {
        None => "-".to_owned(),
        Some(bytes) => match <[u8; 8]>::try_from(bytes) {
            Ok(number) => i64::from_be_bytes(number).to_string(),
            Err(_) => String::from_utf8_lossy(bytes).into_owned(),
        },
    };
    let mut letters = Vec::new();
    for letter in fetched.records.iter() {
        let headers = Headers::decode(letter.headers)?;
        let header = |name: &str| text(headers.last(&format!("__streams.errors.{name}")).flatten());
        let (key, value) = (text(letter.key), text(letter.value));
        letters.push(format!("{key}={value} {}: {}", header("offset"), header("message")));
    }
    Ok(letters.join(", "))
}

/// The only partition of a topic.
pub(crate) fn only(topic: &str) -> Outcome<TopicPartition> {
    Ok(TopicPartition::new(TopicName::new(topic)?, 0))
}

/// A key that lies in `partition` of two.
pub(crate) fn key_in(partition: u32) -> String {
    let mut keys = (0..).map(|n| format!("k{n}"));
    keys.find(|key| murmur2_partition(key.as_bytes(), 2) == partition).expect("keys lie in both")
}

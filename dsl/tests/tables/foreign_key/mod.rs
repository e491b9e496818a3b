//! Foreign-key joins: each left row has the key of a right one.
//!
//! Left rows are written `key=value@timestamp`, where the foreign key is the part of the value before the dot (`a=x.1@5` has
//! `x`; `a=-.1@5` has none); right rows likewise. `a=~@5` deletes.

mod memory;
mod random;
mod rows;
mod threads;

use headwater_core::record::Headers;
use headwater_dsl::{KTable, StreamsBuilder, TableJoined};
use headwater_engine::topology::{Topology, TopologyError};
use headwater_testkit::TopologyTestDriver;
use std::error::Error;

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    Inner,
    Left,
}

#[expect(clippy::ptr_arg, reason = "it is called with what a row has")]
pub(crate) fn foreign_key(_: &String, value: &String) -> Option<String> {
    value.split('.').next().filter(|key| *key != "-").map(str::to_owned)
}

pub(crate) fn joined(left: &str, right: Option<&str>) -> String {
    format!("{left}+{}", right.unwrap_or("none"))
}

pub(crate) fn join(
    left: &KTable<String, String>,
    right: &KTable<String, String>,
    join: Join,
) -> KTable<String, String> {
    let named = TableJoined::named("fk");
    match join {
        Join::Inner => {
            let each = |left: String, right: String| joined(&left, Some(&right));
            left.join_on_with(right, foreign_key, each, named, "joined")
        }
        Join::Left => {
            let each = |left: String, right: Option<String>| joined(&left, right.as_deref());
            left.left_join_on_with(right, foreign_key, each, named, "joined")
        }
    }
}

pub(crate) fn topology(kind: Join) -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    join(&builder.table("left"), &builder.table("right"), kind).to_stream().to("out");
    builder.build()
}

/// Appends records to a topic, each with its timestamp as a header.
pub(crate) fn pipe(driver: &TopologyTestDriver, topic: &str, records: &str) -> Outcome {
    let input = driver.input_topic::<String, Option<String>>(topic);
    for record in records.split_whitespace() {
        let (key, rest) = record.split_once('=').expect("=");
        let (value, at) = rest.split_once('@').expect("@");
        let mut headers = Headers::new();
        headers.add("from", Some(format!("{topic}{at}").into_bytes()));
        let value = Some(value.as_bytes()).filter(|value| *value != b"~");
        let key = Some(key.as_bytes()).filter(|key| *key != b"null");
        input.pipe_bytes_with(key, value, at.parse()?, &headers)?;
    }
    Ok(())
}

/// All that a topic holds: `key=value@timestamp`, and which record's headers it has.
pub(crate) fn read(driver: &TopologyTestDriver, topic: &str) -> Outcome<Vec<String>> {
    let mut rows = driver.output_topic::<String, Option<String>>(topic);
    let rows = rows.read_records_to_list()?.into_iter().map(|row| {
        let from = row.headers.last("from").flatten().map(String::from_utf8_lossy);
        let value = row.value.as_deref().unwrap_or("~");
        format!("{}={value}@{} {}", row.key, row.timestamp, from.unwrap_or("none".into()))
    });
    Ok(rows.collect())
}

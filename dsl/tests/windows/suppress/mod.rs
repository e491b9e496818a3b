//! Suppression: what is held back of a table, until when, and what comes out.
//!
//! Records are written `key=value@timestamp`, `-` for a deletion; what comes out of a window `key[start]=value@timestamp`. A
//! record has its timestamp as a header too, so that each line also says whose headers came out: `a=1@5(3)` has those of the
//! record of 3, and without brackets its own.

mod buffer;
mod finals;
mod limit;
mod windows;

use headwater_core::record::Headers;
use headwater_dsl::{KTable, MaterializedWith, StreamsBuilder, TimeWindows};
use headwater_engine::{runtime::StreamsConfig, store::Windowed, topology::Topology};
use headwater_testkit::TopologyTestDriver;
use std::{error::Error, time::Duration};

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Adds up the values of each key in windows of 10 ms; a record without a value deletes what there is.
pub(crate) fn sums(
    builder: &StreamsBuilder,
    grace: u64,
    kept: impl Into<MaterializedWith<String, i64>>,
) -> KTable<Windowed<String>, i64> {
    let windows = TimeWindows::of_size_and_grace(ms(10), ms(grace));
    let add = |_: &String, value: Option<i64>, sum: i64| value.map(|value| sum + value);
    let grouped = builder.stream::<String, Option<i64>>("in").group_by_key().windowed_by(windows);
    grouped.aggregate_or_delete(|| 0, add, kept)
}

/// Writes a table's updates to a topic, what is windowed as `key[start]`.
pub(crate) fn write(table: &KTable<Windowed<String>, i64>, topic: &str) {
    let key = |key: Windowed<String>| format!("{}[{}]", key.key, key.window.start);
    table.to_stream().map(move |windowed, value| (key(windowed), value)).to(topic);
}

/// A topology at work.
pub(crate) struct Run(pub(crate) TopologyTestDriver);

impl Run {
    /// Each record is taken by itself, and committed.
    pub(crate) fn of(topology: Topology) -> Outcome<Self> {
        Ok(Self(TopologyTestDriver::new(topology)?))
    }

    /// Records are taken in batches of at most `rows_max`, when told.
    pub(crate) fn by_hand(topology: Topology, rows_max: usize) -> Outcome<Self> {
        let config = StreamsConfig::new("app").with_batch_rows_max(rows_max);
        Ok(Self(TopologyTestDriver::with(topology, config, &[].into())?.by_hand()))
    }

    pub(crate) fn pipe(&self, records: &str) -> Outcome {
        let topic = self.0.input_topic::<String, Option<i64>>("in");
        for record in records.split_whitespace() {
            let (key, rest) = record.split_once('=').expect("=");
            let (value, at) = rest.split_once('@').expect("@");
            let mut headers = Headers::new();
            headers.add("at", Some(at.as_bytes().to_vec()));
            let value = value.parse::<i64>().ok().map(i64::to_be_bytes);
            let value = value.as_ref().map(|value| &value[..]);
            topic.pipe_bytes_with(Some(key.as_bytes()), value, at.parse()?, &headers)?;
        }
        Ok(())
    }

    /// Takes what there is, and commits.
    pub(crate) fn take(&self) -> Outcome {
        self.0.run_until_idle()?;
        Ok(self.0.commit()?)
    }

    /// All that a topic holds.
    pub(crate) fn read(&self, topic: &str) -> Outcome<String> {
        let mut rows = self.0.output_topic::<String, Option<i64>>(topic);
        let rows = rows.read_records_to_list()?.into_iter().map(|row| {
            let value = row.value.map_or("-".to_owned(), |value| value.to_string());
            let own = row.timestamp.to_string();
            let of = row.headers.last("at").flatten().map(String::from_utf8_lossy);
            let of = of.unwrap_or("none".into());
            let of = if *of == *own { String::new() } else { format!("({of})") };
            format!("{}={value}@{own}{of}", row.key)
        });
        Ok(rows.collect::<Vec<_>>().join(" "))
    }
}

/// What comes out when the records are taken one by one.
pub(crate) fn check(topology: Topology, records: &str, expected: &str) -> Outcome {
    let run = Run::of(topology)?;
    run.pipe(records)?;
    assert_eq!(run.read("out")?, expected, "of {records}");
    Ok(())
}

//! More is on its way between the sides than their share of memory: each side waits for the other, and goes on.

use super::{Join, Outcome, join, topology};
use headwater_core::{
    memory::MemoryBudget,
    ports::log::{Append, Commit, Log, TopicSpec},
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition, murmur2_partition},
    time::SystemClock,
};
use headwater_dsl::StreamsBuilder;
use headwater_engine::{
    runtime::{Runtime, RuntimeConfig, StreamsConfig},
    topology::Topology,
};
use headwater_testkit::{MemoryLog, MemoryState};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

const PARTITIONS: u32 = 2;
const ROWS: i64 = 2_000;
const FOREIGN_KEYS: i64 = 50;

fn append(
    log: &MemoryLog,
    topic: &str,
    rows: impl Iterator<Item = (String, String, i64)>,
) -> Outcome {
    let mut records = [RecordSetBuilder::default(), RecordSetBuilder::default()];
    for (key, value, timestamp) in rows {
        let partition = murmur2_partition(key.as_bytes(), PARTITIONS) as usize;
        let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
        let records = records.get_mut(partition).ok_or("a partition past the last")?;
        records.push(timestamp, key, value, &Headers::new())?;
    }
    let append = |(partition, records): (u32, RecordSetBuilder)| {
        let partition = TopicPartition::new(TopicName::new(topic)?, partition);
        Outcome::Ok(Append { partition, base_offset: None, records: Arc::new(records.build()) })
    };
    let appends = (0..).zip(records).map(append).collect::<Outcome<_>>()?;
    log.commit(Commit { appends, ..Commit::default() })?.wait()?;
    Ok(())
}

/// The last value of each key, once all input has been taken within 2 MiB.
fn last(topology: Topology, right_time: i64) -> Outcome<BTreeMap<String, String>> {
    let log = Arc::new(MemoryLog::new());
    for topic in ["left", "right", "out"] {
        log.create_topics(&[TopicSpec::new(TopicName::new(topic)?, PARTITIONS)])?;
    }
    let padding = "-".repeat(100);
    let left =
        (0..ROWS).map(|n| (format!("l{n}"), format!("r{}.{n}{padding}", n % FOREIGN_KEYS), n));
    append(&log, "left", left)?;
    let right = (0..FOREIGN_KEYS).map(|n| (format!("r{n}"), format!("row {n}"), right_time));
    append(&log, "right", right)?;
    let config = RuntimeConfig::new(2).with_memory(Arc::new(MemoryBudget::new(2 << 20)));
    let port = Arc::clone(&log) as Arc<dyn Log>;
    let runtime =
        Runtime::start(config, port, Arc::new(MemoryState::new()), Arc::new(SystemClock::new()))?;
    let application = runtime.start_application(topology, StreamsConfig::new("app"))?;
    application.drain_within(Duration::from_secs(60))?;
    let mut last = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let fetched =
            log.fetch(&TopicPartition::new(TopicName::new("out")?, partition), 0, usize::MAX)?;
        for row in fetched.records.iter() {
            let text = |bytes: Option<&[u8]>| {
                String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
            };
            last.insert(text(row.key), text(row.value));
        }
    }
    Ok(last)
}

fn check(last: &BTreeMap<String, String>, right: impl Fn(i64) -> String) {
    assert_eq!(last.len(), usize::try_from(ROWS).unwrap_or_default());
    for n in 0..ROWS {
        let value = &last[&format!("l{n}")];
        assert!(value.starts_with(&format!("r{}.{n}-", n % FOREIGN_KEYS)), "{value}");
        assert!(value.ends_with(&format!("+{}", right(n % FOREIGN_KEYS))), "{value}");
    }
}

#[test]
fn both_sides_go_on_whichever_was_drawn_first_and_whichever_is_older() -> Outcome {
    let right_first = || {
        let builder = StreamsBuilder::new();
        let right = builder.table("right");
        join(&builder.table("left"), &right, Join::Inner).to_stream().to("out");
        builder.build()
    };
    for right_time in [0, ROWS] {
        check(&last(right_first()?, right_time)?, |n| format!("row {n}"));
        check(&last(topology(Join::Inner)?, right_time)?, |n| format!("row {n}"));
    }
    Ok(())
}

#[test]
fn a_table_that_is_joined_with_itself_goes_on() -> Outcome {
    let builder = StreamsBuilder::new();
    let table = builder.table::<String, String>("left");
    let first =
        |_: &String, value: &String| value.split('.').next().map(|key| key.replace('r', "l"));
    let each = |left: String, right: String| format!("{left}+{}", right.trim_end_matches('-'));
    table.join_on(&table, first, each).to_stream().to("out");
    check(&last(builder.build()?, 0)?, |n| format!("r{n}.{n}"));
    Ok(())
}

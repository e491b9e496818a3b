//! Where sources have times from: Kafka's extractors and one's own, at a source or by default, over restarts.

use headwater_dsl::StreamsBuilder;
use headwater_engine::{
    runtime::{CommitStep, StreamsConfig},
    topology::{
        BuiltInExtractor, Consumed, FailOnInvalidTimestamp, LogAndSkipOnInvalidTimestamp, MaxAhead,
        SourceRecord, TimestampExtractor, Topology, UsePartitionTimeOnInvalidTimestamp,
        WallclockTimestampExtractor,
    },
};
use headwater_testkit::TopologyTestDriver;
use std::{error::Error, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const SOURCE: &str = "KSTREAM-SOURCE-in-0000000000";

/// A copy of `in` to `out`, with times as `consumed` takes them.
fn copied(consumed: Consumed<String, i64>) -> Topology {
    let builder = StreamsBuilder::new();
    builder.stream_with("in", consumed).to("out");
    builder.build().expect("it is a topology")
}

fn by(extractor: impl TimestampExtractor<String, i64> + 'static) -> Topology {
    copied(Consumed::default().timestamp_extractor(extractor))
}

/// What comes of records of which some have no timestamp, the keys of the dead letters, and how many were dropped.
fn taken(topology: Topology, config: StreamsConfig) -> Outcome<(String, String, u64)> {
    let driver = TopologyTestDriver::with(topology, config, &[].into())?;
    driver.set_wall_clock_time(100);
    driver.pipe::<String, i64>("in", "x=1@-1 a=1@5 b=1@-1 c=1@3 d=1@-1")?;
    let letters = driver.dead_letters()?.into_iter().map(|letter| letter.key);
    let letters = letters.collect::<Vec<_>>().join(" ");
    Ok((driver.read::<String, i64>("out")?, letters, driver.dropped_records(SOURCE)?))
}

#[test]
fn kafkas_extractors_differ_in_records_without_a_timestamp() -> Outcome {
    let cases: [(BuiltInExtractor, &str, &str, u64); 4] = [
        (FailOnInvalidTimestamp, "a=1@5 c=1@3", "x b d", 0),
        (LogAndSkipOnInvalidTimestamp, "a=1@5 c=1@3", "", 3),
        (UsePartitionTimeOnInvalidTimestamp, "a=1@5 b=1@5 c=1@3 d=1@5", "x", 0),
        (WallclockTimestampExtractor, "x=1@100 a=1@100 b=1@100 c=1@100 d=1@100", "", 0),
    ];
    let config = || StreamsConfig::new("test");
    for (extractor, out, letters, dropped) in cases {
        let expected = (out.to_owned(), letters.to_owned(), dropped);
        assert_eq!(taken(by(extractor), config())?, expected, "of the source: {extractor:?}");
        let by_default = config().with_default_timestamp_extractor(extractor);
        assert_eq!(taken(copied(Consumed::default()), by_default)?, expected, "{extractor:?}");
        let mut named = config();
        named.set("default.timestamp.extractor", &format!("org.example.{extractor:?}"))?;
        assert_eq!(taken(copied(Consumed::default()), named)?, expected, "{extractor:?}");
        // A source's own goes before.
        let of_wall_clock = config().with_default_timestamp_extractor(WallclockTimestampExtractor);
        assert_eq!(taken(by(extractor), of_wall_clock)?, expected, "before: {extractor:?}");
    }
    let refused = config().set("default.timestamp.extractor", "com.example.Mine").map(drop);
    assert!(refused.is_err_and(|why| why.to_string().contains("Consumed::timestamp_extractor")));
    Ok(())
}

#[test]
fn partition_time_is_that_of_committed_records_and_of_each_partition() -> Outcome {
    let topology = by(UsePartitionTimeOnInvalidTimestamp);
    let partitions = [("in", 2)].into();
    let driver = TopologyTestDriver::with(topology, StreamsConfig::new("test"), &partitions)?;
    let input = driver.input_topic::<String, i64>("in");
    // `a` and `d` lie in different partitions.
    input.pipe("a=1@50 d=1@7")?;
    driver.crash();
    driver.restart()?;
    input.pipe("a=2@-1 d=2@-1")?;
    // What is lost in the middle of a commit is taken again, by the time in front of it.
    let driver = driver.by_hand();
    input.pipe("d=3@-1 d=4@9 d=5@-1")?;
    driver.run_until_idle()?;
    driver.crash_before(CommitStep::Log)?;
    driver.restart()?;
    driver.run_until_idle()?;
    driver.commit()?;
    let mut records: Vec<_> = driver.output_topic::<String, i64>("out").read_records_to_list()?;
    records.sort_by_key(|record| (record.key.clone(), record.value));
    let times: Vec<_> = records.iter().map(|record| record.timestamp).collect();
    assert_eq!(times, [50, 50, 7, 7, 7, 9, 9]);
    Ok(())
}

/// The time of the partition so far, 1 to begin with, and one more for each record.
struct Counting;

impl TimestampExtractor<String, i64> for Counting {
    fn extract(
        &self,
        record: &SourceRecord<'_, String, i64>,
        partition_time: Option<i64>,
    ) -> Result<Option<i64>, String> {
        let is_marked = record.headers().last("leap").is_some();
        let time = partition_time.unwrap_or(0) + if is_marked { 1_000 } else { 1 };
        Ok((*record.value > 0).then_some(time))
    }

    fn extract_of_null(
        &self,
        _: &SourceRecord<'_, String, ()>,
        partition_time: Option<i64>,
    ) -> Result<Option<i64>, String> {
        Ok(partition_time)
    }
}

#[test]
fn an_extractor_is_told_record_and_partition_time_whatever_the_batch() -> Outcome {
    for rows_max in [1, 2, 1_024] {
        let ahead = MaxAhead::of_partition(Duration::from_millis(500));
        let bounded = Consumed::default().timestamp_extractor(Counting).max_ahead(ahead);
        // Held as it is ahead of the others, `d` moves no time.
        let cases = [
            (by(Counting), "a=1@1 b=2@2 d=4@1002 e=5@1003"),
            (copied(bounded), "a=1@1 b=2@2 e=5@3"),
        ];
        for (topology, expected) in cases {
            let config = StreamsConfig::new("test").with_batch_rows_max(rows_max);
            let driver = TopologyTestDriver::with(topology, config, &[].into())?.by_hand();
            driver.pipe::<String, i64>("in", "a=1@9 b=2@9 c=0@9 d=4@9{leap:1} e=5@9")?;
            driver.run_until_idle()?;
            driver.commit()?;
            let out = driver.read::<String, i64>("out")?.replace("{leap:1}", "");
            assert_eq!(out, expected, "{rows_max} rows a batch");
            assert_eq!(driver.dropped_records(SOURCE)?, 1);
        }
    }
    Ok(())
}

#[test]
fn a_tables_deletions_have_their_own_times_unless_the_extractor_says_so() -> Outcome {
    let value_as_time = |_: &String, value: &i64, _: i64| Ok(*value);
    let of = |consumed: Consumed<String, i64>| -> Outcome<String> {
        let builder = StreamsBuilder::new();
        builder.table_with("in", consumed, "rows").to_stream().to("out");
        let driver = TopologyTestDriver::new(builder.build()?)?;
        driver.set_wall_clock_time(100);
        driver.pipe::<String, Option<i64>>("in", "a=40@1 a=∅@2")?;
        Ok(driver.read::<String, Option<i64>>("out")?)
    };
    let own = Consumed::default().timestamp_extractor(value_as_time);
    assert_eq!(of(own)?, "a=40@40 a=∅@2");
    let counting = Consumed::default().timestamp_extractor(Counting);
    assert_eq!(of(counting)?, "a=40@1 a=∅@1");
    let wall_clock = Consumed::default().timestamp_extractor(WallclockTimestampExtractor);
    assert_eq!(of(wall_clock)?, "a=40@100 a=∅@100");
    Ok(())
}

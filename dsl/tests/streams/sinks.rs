//! Where records go: topics chosen for each record, partitioners, repartition topics that were asked for.

use headwater_core::record::{Headers, TopicName, TopicPartition, murmur2_partition};
use headwater_dsl::{Repartitioned, StreamsBuilder};
use headwater_engine::{
    runtime::{Repartitioning, StreamsConfig, StreamsError},
    topology::{Partitions, Produced, RecordContext, Topology, TopologyError},
};
use headwater_testkit::{TestDriverError, TopologyTestDriver};
use std::{collections::BTreeMap, error::Error};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn with(
    topology: Topology,
    partitions: &[(&str, u32)],
) -> Result<TopologyTestDriver, TestDriverError> {
    TopologyTestDriver::with(
        topology,
        StreamsConfig::new("app"),
        &partitions.iter().copied().collect(),
    )
}

fn pipe(driver: &TopologyTestDriver, records: &[(&str, i64)]) -> Outcome {
    let input = driver.input_topic::<String, i64>("in");
    for ((key, value), at) in records.iter().zip(1..) {
        input.pipe_input((*key).to_owned(), *value, at)?;
    }
    Ok(())
}

/// `key=value` by partition.
fn rows(driver: &TopologyTestDriver, topic: &str) -> Outcome<BTreeMap<u32, String>> {
    let mut rows = BTreeMap::<u32, String>::new();
    for row in driver.output_topic::<String, i64>(topic).read_records_to_list()? {
        let text = rows.entry(row.partition).or_default();
        *text = format!("{text} {}={}", row.key, row.value).trim().to_owned();
    }
    Ok(rows)
}

fn letters(driver: &TopologyTestDriver) -> Outcome<Vec<String>> {
    let topic = TopicPartition::new(TopicName::new("app-dead-letters")?, 0);
    let records = driver.log().fetch(&topic, 0, usize::MAX)?.records;
    let cause = |headers| -> Outcome<String> {
        let headers = Headers::decode(headers)?;
        let cause = headers.iter().find(|(name, _)| name.ends_with("message"));
        Ok(String::from_utf8(cause.and_then(|(_, value)| value).unwrap_or_default().to_vec())?)
    };
    records.iter().map(|record| cause(record.headers)).collect()
}

fn by_sign() -> Topology {
    let builder = StreamsBuilder::new();
    let by_sign = |_: &String, value: &i64, RecordContext { headers, .. }: &RecordContext<'_>| {
        let side = if *value < 0 { "below" } else { "above" };
        if headers.is_empty() { side.to_owned() } else { format!("{side}-marked") }
    };
    builder.stream::<String, i64>("in").to_dynamic(by_sign).named("by-sign");
    builder.build().expect("it is a topology")
}

#[test]
fn each_record_goes_to_the_topic_that_is_chosen_for_it() -> Outcome {
    let driver = with(by_sign(), &[])?;
    driver.create_topic("above", 4)?;
    pipe(&driver, &[("a", 1), ("b", 2), ("a", 3)])?;
    let mut expected = BTreeMap::<u32, Vec<&str>>::new();
    for (key, row) in [("a", "a=1"), ("b", "b=2"), ("a", "a=3")] {
        expected.entry(murmur2_partition(key.as_bytes(), 4)).or_default().push(row);
    }
    let expected = expected.into_iter().map(|(partition, rows)| (partition, rows.join(" ")));
    assert_eq!(rows(&driver, "above")?, expected.collect());
    assert!(driver_topics(&driver)?.iter().all(|topic| topic != "below"), "none is created");
    Ok(())
}

fn driver_topics(driver: &TopologyTestDriver) -> Outcome<Vec<String>> {
    Ok(driver.log().topics()?.into_iter().map(|topic| topic.name.to_string()).collect())
}

#[test]
fn a_record_for_a_topic_that_does_not_exist_is_a_dead_letter_until_it_does() -> Outcome {
    let driver = with(by_sign(), &[])?;
    driver.create_topic("above", 1)?;
    pipe(&driver, &[("a", -1), ("a", 1)])?;
    driver.create_topic("below", 1)?;
    pipe(&driver, &[("a", -2)])?;
    assert_eq!(rows(&driver, "below")?, [(0, "a=-2".to_owned())].into());
    assert_eq!(rows(&driver, "above")?, [(0, "a=1".to_owned())].into());
    let expected = "topic below does not exist; create it before records are sent to it";
    assert_eq!(letters(&driver)?, [expected]);
    Ok(())
}

#[test]
fn a_crash_takes_what_was_chosen_and_not_committed() -> Outcome {
    let driver = with(by_sign(), &[])?.by_hand();
    driver.create_topic("above", 1)?;
    pipe(&driver, &[("a", 1), ("a", 2)])?;
    driver.run_until_idle()?;
    driver.crash();
    assert!(rows(&driver, "above")?.is_empty());
    driver.restart()?;
    driver.run_until_idle()?;
    driver.commit()?;
    assert_eq!(rows(&driver, "above")?, [(0, "a=1 a=2".to_owned())].into());
    Ok(())
}

#[test]
fn a_description_says_that_topics_are_chosen() {
    let text = by_sign().describe();
    assert!(text.contains("Sink: by-sign (topic: chosen for each record)\n      <-- "), "{text}");
}

#[test]
fn a_partitioner_sends_records_to_one_partition_to_several_or_to_none() -> Outcome {
    let builder = StreamsBuilder::new();
    let chosen = |_: &String, value: &i64, count: u32| match value {
        0 => Partitions::Default,
        1 => Partitions::One(2),
        2 => Partitions::Each((0..count).collect()),
        3 => Partitions::Each(Vec::new()),
        _ => Partitions::One(count),
    };
    let produced = Produced::<String, i64>::default().partitioner(chosen);
    builder.stream::<String, i64>("in").to_with("out", produced);
    let driver = with(builder.build()?, &[("out", 3)])?;
    pipe(&driver, &[("a", 0), ("a", 1), ("a", 2), ("a", 3), ("a", 9)])?;
    let found = rows(&driver, "out")?;
    let by_key = murmur2_partition(b"a", 3);
    for partition in 0..3 {
        let mut expected = Vec::new();
        expected.extend((partition == by_key).then_some("a=0"));
        expected.extend((partition == 2).then_some("a=1"));
        expected.push("a=2");
        assert_eq!(found[&partition], expected.join(" "));
    }
    let expected = "its partitioner chose partition 3 of a topic that has 3";
    assert_eq!(letters(&driver)?, [expected]);
    Ok(())
}

#[test]
fn a_repartition_has_the_name_the_partitions_and_the_partitioner_that_were_asked_for() -> Outcome {
    for repartitioning in [Repartitioning::InMemory, Repartitioning::ThroughTopic] {
        let builder = StreamsBuilder::new();
        let asked =
            Repartitioned::named("placed").with_number_of_partitions(4).with_stream_partitioner(
                |_: &String, value: &i64, _| u32::try_from(*value).unwrap_or(0),
            );
        let placed = builder.stream::<String, i64>("in").repartition(asked);
        placed.group_by_key().count("counts").to_stream().to("out");
        let topology = builder.build()?;
        assert_eq!(topology.describe().matches("-repartition])").count(), 1, "no second one");
        let config = StreamsConfig::new("app").with_repartitioning(repartitioning);
        let driver = TopologyTestDriver::with(topology, config, &BTreeMap::new())?;
        pipe(&driver, &[("a", 3), ("a", 3), ("a", 1), ("b", 3)])?;
        for _ in 0..2 {
            driver.run_until_idle()?;
            driver.commit()?;
        }
        let topics = driver.log().topics()?;
        let topic = topics.iter().find(|it| it.name.as_str() == "app-placed-repartition");
        assert_eq!(topic.map(|it| it.partitions), Some(4));
        let mut counted: Vec<String> = rows(&driver, "out")?.into_values().collect();
        counted = counted.join(" ").split(' ').map(str::to_owned).collect();
        counted.sort();
        // Each task counts for itself what the partitioner sends it.
        assert_eq!(counted, ["a=1", "a=1", "a=2", "b=1"], "{repartitioning:?}");
    }
    Ok(())
}

#[test]
fn a_repartition_without_partitions_is_refused() {
    let builder = StreamsBuilder::new();
    let none = Repartitioned::named("placed").with_number_of_partitions(0);
    builder.stream::<String, i64>("in").repartition(none).to("out");
    assert!(
        matches!(builder.build(), Err(TopologyError::NoPartitions { topic }) if topic == "placed")
    );
}

#[test]
fn a_repartition_topic_adopts_the_partitions_of_what_it_is_joined_with() -> Outcome {
    let builder = StreamsBuilder::new();
    let table = builder.table::<String, i64>("table");
    let rekeyed = builder.stream::<String, i64>("in").select_key(|key, _| key.clone());
    rekeyed.join(&table, |value, row| value + row).to("out");
    let driver = with(builder.build()?, &[("in", 2), ("table", 5)])?;
    let table = driver.input_topic::<String, i64>("table");
    for key in 0..20 {
        table.pipe_input(format!("{key}"), 100 * key, 0)?;
        pipe(&driver, &[(&format!("{key}"), key)])?;
    }
    let joined = rows(&driver, "out")?.into_values().collect::<Vec<_>>().join(" ");
    assert_eq!(joined.split(' ').count(), 20, "each finds its row: {joined}");
    let topics = driver.log().topics()?;
    let internal = topics.iter().find(|topic| topic.name.as_str().ends_with("-repartition"));
    assert_eq!(internal.map(|topic| topic.partitions), Some(5));
    Ok(())
}

#[test]
fn a_number_that_was_asked_for_is_not_adopted_away() -> Outcome {
    let builder = StreamsBuilder::new();
    let table = builder.table::<String, i64>("table");
    let asked = Repartitioned::named("placed").with_number_of_partitions(2);
    let placed = builder.stream::<String, i64>("in").repartition(asked);
    placed.join(&table, |value, row| value + row).to("out");
    let refused = with(builder.build()?, &[("in", 5), ("table", 5)]);
    let Err(TestDriverError::Streams(StreamsError::Topology(why))) = refused else {
        return Err("it starts".into());
    };
    assert!(matches!(why, TopologyError::NotCopartitioned { .. }), "{why}");
    Ok(())
}

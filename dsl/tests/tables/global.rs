//! Global tables: whole in each task and on each instance, read before the first record, followed as they come.

use headwater_core::{
    ports::log::{Append, Commit, Limits, Log, LogError, TopicSpec},
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition, murmur2_partition},
    serde::for_type,
    time::SystemClock,
};
use headwater_dsl::StreamsBuilder;
use headwater_engine::{
    processor::{Context, Processor, ProcessorError, Record},
    runtime::{BadRecord, Streams, StreamsConfig, StreamsError},
    store::GlobalStore,
    topology::{Consumed, GlobalSerdes, Topology, TopologyError},
};
use headwater_testkit::{MemoryLog, MemoryState, TestDriverError, TopologyTestDriver};
use std::{collections::BTreeMap, error::Error, sync::Arc};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Roads with their limits; records name a road or none.
fn enriched() -> Topology {
    let builder = StreamsBuilder::new();
    let limits = builder.global_table_with("limits", Consumed::<String, i64>::default(), "limits");
    let roads = builder.stream::<String, Option<String>>("roads");
    let road = |_: &String, road: &Option<String>| road.clone();
    roads.join_global(&limits, road, |_, limit| limit).named("inner").to("inner");
    roads.left_join_global(&limits, road, |_, limit| limit.unwrap_or(-1)).to("left");
    builder.build().expect("it is a topology")
}

fn driver(limits: u32, roads: u32) -> Outcome<TopologyTestDriver> {
    let partitions = BTreeMap::from([("limits", limits), ("roads", roads)]);
    Ok(TopologyTestDriver::with(enriched(), StreamsConfig::new("app"), &partitions)?)
}

fn limit(driver: &TopologyTestDriver, road: &str, kmh: Option<i64>) -> Outcome {
    Ok(driver.input_topic::<String, Option<i64>>("limits").pipe_input(road.into(), kmh, 9)?)
}

fn drive(driver: &TopologyTestDriver, car: &str, road: Option<&str>, at: i64) -> Outcome {
    let roads = driver.input_topic::<String, Option<String>>("roads");
    Ok(roads.pipe_input(car.into(), road.map(str::to_owned), at)?)
}

fn read(driver: &TopologyTestDriver, topic: &str) -> Outcome<String> {
    let rows = driver.output_topic::<String, i64>(topic).read_records_to_list()?;
    let rows = rows.iter().map(|row| format!("{}={}@{}", row.key, row.value, row.timestamp));
    Ok(rows.collect::<Vec<_>>().join(" "))
}

#[test]
fn a_record_finds_the_row_that_it_names_at_its_arrival() -> Outcome {
    let driver = driver(1, 1)?;
    drive(&driver, "a", Some("A7"), 1)?;
    limit(&driver, "A7", Some(120))?;
    drive(&driver, "a", Some("A7"), 2)?;
    limit(&driver, "A7", Some(80))?;
    drive(&driver, "b", Some("A7"), 1)?;
    limit(&driver, "A7", None)?;
    drive(&driver, "a", Some("A7"), 3)?;
    drive(&driver, "a", None, 4)?;
    assert_eq!(read(&driver, "inner")?, "a=120@2 b=80@1");
    assert_eq!(read(&driver, "left")?, "a=-1@1 a=120@2 b=80@1 a=-1@3 a=-1@4");
    assert_eq!(driver.dropped_records("inner")?, 1, "the record that names no road");
    Ok(())
}

#[test]
fn each_task_has_every_row_without_a_repartition() -> Outcome {
    for (limits, roads) in [(1, 3), (3, 1), (3, 2)] {
        let driver = driver(limits, roads)?.by_hand();
        for road in 0..20 {
            drive(&driver, &format!("car {road}"), Some(&format!("road {road}")), road)?;
            limit(&driver, &format!("road {road}"), Some(road))?;
        }
        driver.run_until_idle()?;
        driver.commit()?;
        let mut rows: Vec<String> =
            read(&driver, "inner")?.replace("car ", "").split(' ').map(str::to_owned).collect();
        rows.sort_by_key(|row| row.split('=').next().and_then(|car| car.parse::<i64>().ok()));
        let expected: Vec<String> = (0..20).map(|n| format!("{n}={n}@{n}")).collect();
        assert_eq!(rows, expected, "{limits} and {roads} partitions");
        let topics = driver.log().topics()?;
        assert!(topics.iter().all(|topic| !topic.name.as_str().contains("repartition")));
    }
    Ok(())
}

/// Kafka's partitioner would have it elsewhere.
#[test]
fn a_row_in_any_partition_is_found() -> Outcome {
    for partition in 0..4 {
        let driver = driver(4, 1)?;
        let mut records = RecordSetBuilder::default();
        records.push(1, Some(b"A7"), Some(&120_i64.to_be_bytes()), &Headers::new())?;
        append(&*driver.log(), TopicPartition::new(TopicName::new("limits")?, partition), records)?;
        drive(&driver, "a", Some("A7"), 1)?;
        assert_eq!(read(&driver, "inner")?, "a=120@1");
        let limits = driver.key_value_store::<String, i64>("limits")?;
        assert_eq!(limits.get(&"A7".into())?.map(|row| row.value), Some(120));
        assert_eq!(limits.get(&"A8".into())?, None);
        assert_eq!(limits.all()?.len(), 1);
    }
    Ok(())
}

fn append(log: &dyn Log, partition: TopicPartition, records: RecordSetBuilder) -> Outcome {
    let append = Append { partition, base_offset: None, records: Arc::new(records.build()) };
    log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
    Ok(())
}

#[test]
fn a_restart_finds_all_rows_before_the_first_record_with_its_state_or_without() -> Outcome {
    for lose_state in [false, true] {
        let driver = driver(2, 1)?.by_hand();
        for road in 0..9 {
            limit(&driver, &format!("{road}"), Some(road))?;
        }
        limit(&driver, "3", None)?;
        driver.run_until_idle()?;
        driver.commit()?;
        limit(&driver, "4", Some(40))?;
        if lose_state {
            driver.lose_state();
        } else {
            driver.crash();
        }
        for road in 0..9 {
            drive(&driver, &format!("{road}"), Some(&format!("{road}")), road)?;
        }
        driver.restart()?;
        driver.run_until_idle()?;
        driver.commit()?;
        let expected = "0=0@0 1=1@1 2=2@2 4=40@4 5=5@5 6=6@6 7=7@7 8=8@8";
        assert_eq!(read(&driver, "inner")?, expected, "state lost: {lose_state}");
    }
    Ok(())
}

fn pipe_bad(driver: &TopologyTestDriver) -> Outcome {
    let limits = driver.input_topic::<String, i64>("limits");
    limits.pipe_bytes(Some(b"A7"), Some(b"fast"), 5)?;
    limits.pipe_bytes(None, Some(&7_i64.to_be_bytes()), 6)?;
    limit(driver, "A8", Some(8))
}

#[test]
fn a_record_that_cannot_be_read_is_a_dead_letter_once() -> Outcome {
    let driver = driver(1, 1)?;
    pipe_bad(&driver)?;
    let letters = |driver: &TopologyTestDriver| -> Outcome<usize> {
        let topic = TopicPartition::new(TopicName::new("app-dead-letters")?, 0);
        let letters = driver.log().fetch(&topic, 0, usize::MAX)?.records;
        if let Some(letter) = letters.get(0) {
            assert_eq!((letter.key, letter.value), (Some(&b"A7"[..]), Some(&b"fast"[..])));
        }
        Ok(letters.len())
    };
    assert_eq!(letters(&driver)?, 2);
    driver.lose_state();
    driver.restart()?;
    drive(&driver, "a", Some("A8"), 1)?;
    assert_eq!(read(&driver, "inner")?, "a=8@1");
    assert_eq!(letters(&driver)?, 2, "not again when the store is built anew");
    Ok(())
}

#[test]
fn more_bad_records_than_a_commit_holds_are_dead_letters_all_the_same() -> Outcome {
    let log = MemoryLog::new();
    let limits = Limits { commit_bytes_max: 64 << 10, ..log.limits() };
    let log: Arc<dyn Log> = Arc::new(log.with_limits(limits));
    log.create_topics(&[TopicSpec::new(TopicName::new("limits")?, 1)])?;
    let limits = TopicPartition::new(TopicName::new("limits")?, 0);
    for _ in 0..10 {
        let mut records = RecordSetBuilder::default();
        for _ in 0..200 {
            records.push(1, Some(b"A7"), Some(b"fast"), &Headers::new())?;
        }
        append(&*log, limits.clone(), records)?;
    }
    let (config, partitions) = (StreamsConfig::new("app"), BTreeMap::from([("limits", 1)]));
    let driver = TopologyTestDriver::with_log(enriched(), config, &partitions, Arc::clone(&log))?;
    limit(&driver, "A8", Some(8))?;
    drive(&driver, "a", Some("A8"), 1)?;
    assert_eq!(read(&driver, "inner")?, "a=8@1");
    driver.lose_state();
    driver.restart()?;
    let letters = TopicPartition::new(TopicName::new("app-dead-letters")?, 0);
    assert_eq!(log.offsets(&letters)?.end, 2_000, "each once");
    Ok(())
}

#[test]
fn one_that_was_taken_over_writes_no_dead_letters() -> Outcome {
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new());
    let driver = || {
        let (config, partitions) = (StreamsConfig::new("app"), BTreeMap::new());
        TopologyTestDriver::with_log(enriched(), config, &partitions, Arc::clone(&log))
    };
    let (first, second) = (driver()?.by_hand(), driver()?.by_hand());
    pipe_bad(&first)?;
    let refused = first.run_until_idle();
    let Err(TestDriverError::Streams(StreamsError::Log(LogError::Fenced { .. }))) = refused else {
        return Err(format!("it is {refused:?}").into());
    };
    let letters = TopicPartition::new(TopicName::new("app-dead-letters")?, 0);
    assert_eq!(log.offsets(&letters)?.end, 0);
    second.run_until_idle()?;
    assert_eq!(log.offsets(&letters)?.end, 2);
    Ok(())
}

#[test]
fn bad_records_are_skipped_or_stop_the_application_where_that_is_asked() -> Outcome {
    let with = |policy| {
        let config = StreamsConfig::new("app").with_bad_record(policy);
        TopologyTestDriver::with(enriched(), config, &BTreeMap::new())
    };
    let skipping = with(BadRecord::Continue)?;
    pipe_bad(&skipping)?;
    drive(&skipping, "a", Some("A8"), 1)?;
    assert_eq!(read(&skipping, "inner")?, "a=8@1");
    let failing = with(BadRecord::Fail)?;
    let Err(failed) = pipe_bad(&failing) else { return Err("it goes on".into()) };
    let failed = failed.downcast::<TestDriverError>()?;
    assert!(
        matches!(*failed, TestDriverError::Streams(StreamsError::GlobalStore(_))),
        "{failed:?}"
    );
    Ok(())
}

/// Looks a road up by hand.
struct Limit(GlobalStore<String, i64>);

impl Processor<String, String> for Limit {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, String>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        if let Some(limit) = self.0.get(&record.value)? {
            context.forward(record.with_value(limit.value));
        }
        Ok(())
    }
}

#[test]
fn processors_read_what_an_update_of_the_users_makes() -> Outcome {
    let builder = StreamsBuilder::new();
    let doubled = |road: String, limit: i64| (limit > 0).then_some((road, Some(limit * 2)));
    let consumed = Consumed::<String, i64>::default();
    let serdes = GlobalSerdes { key: for_type(), value: for_type() };
    builder.add_global_store("doubled", "limits", consumed, serdes, doubled);
    let roads = builder.stream::<String, String>("roads");
    let looked_up = roads.process(|context| Ok(Limit(context.global_store("doubled")?)), &[]);
    looked_up.to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    limit(&driver, "A7", Some(60))?;
    limit(&driver, "A7", Some(-1))?;
    drive(&driver, "a", Some("A7"), 1)?;
    assert_eq!(read(&driver, "out")?, "a=120@1");
    Ok(())
}

#[test]
fn a_topic_of_a_global_table_is_a_stream_or_a_table_as_well() -> Outcome {
    for global_first in [false, true] {
        let builder = StreamsBuilder::new();
        let global = || builder.global_table::<String, i64>("limits");
        let global_first = global_first.then(global);
        let stream = builder.stream::<String, i64>("limits");
        let _table = builder.table_with("limits", Consumed::<String, i64>::default(), "by-task");
        let global = global_first.unwrap_or_else(global);
        let double = |value: i64, limit: i64| value * 1_000 + limit;
        stream.join_global(&global, |road, _| road.clone(), double).to("out");
        let partitions = BTreeMap::from([("limits", 2)]);
        let config = StreamsConfig::new("app");
        let driver = TopologyTestDriver::with(builder.build()?, config, &partitions)?;
        for (road, kmh) in [("A7", 60), ("A8", 70), ("A7", 80)] {
            limit(&driver, road, Some(kmh))?;
        }
        driver.crash();
        driver.lose_state();
        driver.restart()?;
        limit(&driver, "A8", Some(90))?;
        let mut rows: Vec<_> = read(&driver, "out")?.split(' ').map(str::to_owned).collect();
        rows.sort();
        assert_eq!(rows, ["A7=60060@9", "A7=80080@9", "A8=70070@9", "A8=90090@9"]);
        let kept = driver.key_value_store::<String, i64>("by-task")?;
        assert_eq!(kept.get(&"A8".into())?.map(|row| row.value), Some(90));
    }
    Ok(())
}

#[test]
fn a_topic_fills_one_global_store_and_a_store_has_one_name() {
    let builder = StreamsBuilder::new();
    let _limits = builder.global_table::<String, i64>("limits");
    let _again = builder.global_table::<String, i64>("limits");
    assert!(matches!(builder.build(), Err(TopologyError::TopicReadTwice { .. })));
    let builder = StreamsBuilder::new();
    let consumed = Consumed::<String, i64>::default;
    let _limits = builder.global_table_with("limits", consumed(), "kept");
    let _table = builder.table_with("others", consumed(), "kept");
    assert!(matches!(builder.build(), Err(TopologyError::NameTaken { name }) if name == "kept"));
}

#[test]
fn a_description_tells_global_stores_apart() -> Outcome {
    let text = enriched().describe();
    let expected = "\
   Sub-topology: 1 for global store (will not generate tasks)
    Source: limits-source (topics: [limits])
      --> limits-update
    Processor: limits-update (stores: [limits])
      --> none
      <-- limits-source
";
    assert!(text.contains(expected), "{text}");
    Ok(())
}

#[test]
fn threads_see_rows_that_come_while_they_rest() -> Outcome {
    let log = Arc::new(MemoryLog::new());
    let topics = [("limits", 2), ("roads", 4), ("inner", 1), ("left", 1)];
    for (topic, partitions) in topics {
        log.create_topics(&[TopicSpec::new(TopicName::new(topic)?, partitions)])?;
    }
    let put = |topic: &str, partition, key: &str, value: &[u8]| -> Outcome {
        let mut records = RecordSetBuilder::default();
        records.push(1, Some(key.as_bytes()), Some(value), &Headers::new())?;
        append(&*log, TopicPartition::new(TopicName::new(topic)?, partition), records)
    };
    put("limits", 0, "A7", &120_i64.to_be_bytes())?;
    let streams = Streams::start(
        enriched(),
        StreamsConfig::new("app"),
        Arc::clone(&log) as Arc<dyn Log>,
        Arc::new(MemoryState::new()),
        Arc::new(SystemClock::new()),
    )?;
    let place = murmur2_partition(b"A8", 2);
    for round in 0..20 {
        put("limits", place, "A8", &i64::from(round).to_be_bytes())?;
        for partition in 0..4 {
            put("roads", partition, &format!("{round}"), b"A8")?;
        }
    }
    streams.drain()?;
    let out = TopicPartition::new(TopicName::new("inner")?, 0);
    let records = log.fetch(&out, 0, usize::MAX)?.records;
    for record in records.iter() {
        let round: i64 = String::from_utf8(record.key.unwrap_or_default().to_vec())?.parse()?;
        let seen = i64::from_be_bytes(record.value.unwrap_or_default().try_into()?);
        assert!(seen >= round, "a row is there before the records that were appended after it");
    }
    assert_eq!(records.len(), 80);
    Ok(())
}

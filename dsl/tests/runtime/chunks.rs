//! Steps that are huge in joins and tables: what one record leads to goes on in chunks, with commits and kills in between.

use headwater_core::{
    ports::log::{Append, Commit},
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition},
};
use headwater_dsl::{
    JoinWindows, Joined, KStream, Materialized, Repartitioned, StreamJoined, StreamsBuilder,
};
use headwater_engine::{
    runtime::{Repartitioning, StreamsConfig},
    topology::{Consumed, Topology},
};
use headwater_testkit::TopologyTestDriver;
use std::{collections::BTreeMap, error::Error, sync::Arc, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// What nodes forward at a time.
const CHUNK: usize = 1_024;

/// What goes at once where a chunk follows on records of the same step.
const STEP_MAX: usize = 2 * CHUNK + 64;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What goes across a repartition does so from one commit to the next: in memory, a commit takes all of it.
fn driver(topology: Topology) -> Outcome<TopologyTestDriver> {
    let config = StreamsConfig::new("test").with_repartitioning(Repartitioning::ThroughTopic);
    Ok(TopologyTestDriver::with(topology, config, &BTreeMap::new())?.by_hand())
}

/// Appends records to a topic in one go: `key=value@timestamp`.
fn append<'a>(
    driver: &TopologyTestDriver,
    topic: &str,
    written: impl IntoIterator<Item = (&'a str, i64, i64)>,
) -> Outcome {
    let mut records = RecordSetBuilder::default();
    for (key, value, timestamp) in written {
        let value = value.to_be_bytes();
        records.push(timestamp, Some(key.as_bytes()), Some(&value), &Headers::new())?;
    }
    let partition = TopicPartition::new(TopicName::new(topic)?, 0);
    let append = Append { partition, base_offset: None, records: Arc::new(records.build()) };
    driver.log().commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
    Ok(())
}

/// How many records `out` holds.
fn written(driver: &TopologyTestDriver) -> Outcome<usize> {
    let out = TopicPartition::new(TopicName::new("out")?, 0);
    Ok(usize::try_from(driver.log().offsets(&out)?.end)?)
}

/// Takes all there is.
fn commit_all(driver: &TopologyTestDriver) -> Outcome {
    for _ in 0..3 {
        driver.run_until_idle()?;
        driver.commit()?;
    }
    Ok(())
}

/// Steps to the end of the input with a commit after each, and a kill after every third step since then: no commit has more than a
/// chunk. Gives all that `out` holds.
fn run(driver: &TopologyTestDriver, state_is_lost: bool) -> Outcome<Vec<String>> {
    let (mut steps, mut kills, mut idle) = (0, 0, 0);
    loop {
        let before = written(driver)?;
        let ran = driver.step()?;
        driver.commit()?;
        let came = written(driver)? - before;
        assert!(came <= STEP_MAX, "{came} at once");
        idle = if ran { 0 } else { idle + 1 };
        // What was committed across a repartition is taken after that.
        if idle > 2 {
            break;
        }
        steps += 1;
        if steps % 3 == 0 && driver.step()? {
            if state_is_lost {
                driver.lose_state();
            } else {
                driver.crash();
            }
            driver.restart()?;
            kills += 1;
        }
    }
    assert!(kills > 2, "{kills} kills");
    let rows = driver.output_topic::<String, Option<i64>>("out").read_records_to_list()?;
    let text = |value: Option<i64>| value.map_or("∅".to_owned(), |value| value.to_string());
    Ok(rows.into_iter().map(|r| format!("{}={}@{}", r.key, text(r.value), r.timestamp)).collect())
}

const ROWS: i64 = 12_000;

/// The stream as it is, or through a repartition topic, which carries time.
fn through(stream: &KStream<String, i64>, carried: bool) -> KStream<String, i64> {
    if carried { stream.repartition(Repartitioned::named("again")) } else { stream.clone() }
}

#[test]
fn the_matches_of_one_record_come_in_chunks() -> Outcome {
    for (carried, state_is_lost) in [(false, false), (true, true)] {
        let builder = StreamsBuilder::new();
        let left = through(&builder.stream::<String, i64>("l"), carried);
        let right = builder.stream::<String, i64>("r");
        let right = if carried { right.repartition(Repartitioned::named("right")) } else { right };
        let near = JoinWindows::of_time_difference_with_no_grace(ms(10));
        let named = StreamJoined::new().with_name("join");
        left.join(right.within_with(near, named), |l, r| l * 1_000_000 + r).to("out");
        let driver = driver(builder.build()?)?;
        append(&driver, "l", (0..ROWS).map(|row| ("a", row, 1 + row % 5)))?;
        commit_all(&driver)?;
        append(&driver, "r", [("a", 7, 5), ("b", 8, 6), ("a", 9, 7)])?;
        let rows = (0..5).flat_map(|at| (0..ROWS).filter(move |row| row % 5 == at));
        let pairs = |right: i64| {
            rows.clone().map(move |row| format!("a={}@{}", row * 1_000_000 + right, right - 2))
        };
        let expected: Vec<_> = pairs(7).chain(pairs(9)).collect();
        assert!(run(&driver, state_is_lost)? == expected, "{carried}");
    }
    Ok(())
}

#[test]
fn so_do_those_of_a_stream_that_is_joined_with_itself() -> Outcome {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, i64>("in");
    let near = JoinWindows::of_time_difference_with_no_grace(ms(10));
    stream.join(stream.within(near), |l, r| l * 1_000_000 + r).to("out");
    let (driver, rows) = (driver(builder.build()?)?, 200_i64);
    append(&driver, "in", (0..rows).map(|row| ("a", row, row % 5)))?;
    append(&driver, "in", [("a", 999, 3)])?;
    let mut expected = Vec::new();
    let mut there: Vec<(i64, i64)> = Vec::new();
    for (value, at) in (0..rows).map(|row| (row, row % 5)).chain([(999, 3)]) {
        let place = there.partition_point(|(_, time)| *time <= at);
        for (other, time) in &there {
            expected.push(format!("a={}@{}", value * 1_000_000 + other, at.max(*time)));
        }
        there.insert(place, (value, at));
        for (other, time) in &there {
            expected.push(format!("a={}@{}", other * 1_000_000 + value, at.max(*time)));
        }
    }
    assert!(run(&driver, false)? == expected);
    Ok(())
}

#[test]
fn what_waits_for_the_grace_of_a_versioned_table_comes_in_chunks() -> Outcome {
    for (carried, state_is_lost) in [(false, true), (true, false)] {
        let builder = StreamsBuilder::new();
        let versioned = Materialized::named("table").versioned(ms(100_000));
        let table = builder.table_with("t", Consumed::<String, i64>::default(), versioned);
        let stream = through(&builder.stream("in"), carried);
        let joined = table.joined(Joined::with_grace_period(ms(10)));
        stream.left_join(joined, |value, found| value * 10 + found.unwrap_or(0)).to("out");
        let driver = driver(builder.build()?)?;
        append(&driver, "t", [("a", 1, 0)])?;
        commit_all(&driver)?;
        append(&driver, "in", (0..ROWS).map(|row| ("a", row, row % 5)))?;
        commit_all(&driver)?;
        append(&driver, "in", [("b", 1, 200), ("b", 2, 201), ("a", 3, 1), ("b", 4, 300)])?;
        let rows = (0..5).flat_map(|at| (0..ROWS).filter(move |row| row % 5 == at));
        let mut expected: Vec<_> =
            rows.map(|row| format!("a={}@{}", row * 10 + 1, row % 5)).collect();
        expected.extend(["a=31@1", "b=10@200", "b=20@201"].map(str::to_owned));
        let seen = run(&driver, state_is_lost)?;
        assert!(seen.starts_with(&expected), "{carried}: {:?}", &seen[seen.len() - 5..]);
    }
    Ok(())
}

#[test]
fn rows_that_have_lived_are_deleted_in_chunks() -> Outcome {
    for (carried, state_is_lost) in [(false, false), (true, true)] {
        let builder = StreamsBuilder::new();
        let stream = through(&builder.stream("in"), carried);
        let lives = Materialized::named("table").with_ttl(ms(10));
        stream.to_table::<i64>(lives).to("out");
        let driver = driver(builder.build()?)?;
        let keys: Vec<String> = (0..ROWS).map(|row| format!("k{row:06}")).collect();
        append(&driver, "in", keys.iter().map(|key| (&**key, 1, 5)))?;
        commit_all(&driver)?;
        append(&driver, "in", [("a", 1, 20), ("b", 2, 21), ("a", 3, 40)])?;
        // A row that carries time comes before what that makes due.
        let (before, after) = match carried {
            false => (&[][..], &["a=1@20", "b=2@21", "a=∅@30", "b=∅@31", "a=3@40"][..]),
            true => (&["a=1@20"][..], &["b=2@21", "a=3@40", "b=∅@31"][..]),
        };
        let owned = |rows: &[&str]| rows.iter().map(|row| (*row).to_owned()).collect::<Vec<_>>();
        let mut expected: Vec<_> = keys.iter().map(|key| format!("{key}=1@5")).collect();
        expected.extend(owned(before));
        expected.extend(keys.iter().map(|key| format!("{key}=∅@15")));
        expected.extend(owned(after));
        assert!(run(&driver, state_is_lost)? == expected, "{carried}");
    }
    Ok(())
}

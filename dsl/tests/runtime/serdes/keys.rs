//! Keys of stores that are written otherwise than those of the topics above.

use headwater_core::{
    record::{TopicPartition, murmur2_partition},
    serde::{Json, SharedSerde, for_type},
};
use headwater_dsl::{
    DefaultSerde, EmitStrategy, Grouped, KGroupedStream, KStream, KTable, Materialized,
    SessionWindows, SlidingWindows, StreamsBuilder, TableJoined, TimeWindows,
};
use headwater_engine::{
    processor::Stores,
    runtime::{Repartitioning, StreamsConfig},
    store::Windowed,
};
use headwater_testkit::TopologyTestDriver;
use std::{collections::BTreeMap, error::Error, sync::Arc, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;
type Grouping = KGroupedStream<i64, i64>;

/// Keys as text.
fn text() -> SharedSerde<i64> {
    Arc::new(Json)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn driver(builder: &StreamsBuilder, partitions: u32) -> Outcome<TopologyTestDriver> {
    let config = StreamsConfig::new("test").with_repartitioning(Repartitioning::ThroughTopic);
    let counts = BTreeMap::from([("in", partitions), ("left", partitions)]);
    Ok(TopologyTestDriver::with(builder.build()?, config, &counts)?)
}

/// The keys of all records in the topics whose names end so.
fn keys_in(driver: &TopologyTestDriver, end: &str) -> Outcome<Vec<Vec<u8>>> {
    let (log, mut keys) = (driver.log(), Vec::new());
    for topic in log.topics()?.into_iter().filter(|topic| topic.name.as_str().ends_with(end)) {
        for partition in 0..topic.partitions {
            let from = TopicPartition::new(topic.name.clone(), partition);
            let records = log.fetch(&from, log.offsets(&from)?.start, usize::MAX)?.records;
            keys.extend(records.iter().filter_map(|record| record.key.map(<[u8]>::to_vec)));
        }
    }
    Ok(keys)
}

/// The one key that records have; it is shown as 7.
const KEY: i64 = 7_777;

fn has(key: &[u8], written: &[u8]) -> bool {
    key.windows(written.len()).any(|bytes| bytes == written)
}

/// Has what was taken go through all repartition topics, of which a commit fills the next one.
fn go_on(driver: &TopologyTestDriver) -> Outcome {
    for _ in 0..4 {
        driver.run_until_idle()?;
        driver.commit()?;
    }
    Ok(())
}

/// Has a record of the key go through the repartition topic, where its key is one of 8 bytes.
fn take(driver: &TopologyTestDriver, value: &str) -> Outcome {
    driver.pipe::<i64, i64>("in", &format!("{KEY}={value}"))?;
    driver.step()?;
    driver.commit()?;
    let placed = keys_in(driver, "-repartition")?;
    let all = placed.iter().all(|key| has(key, &KEY.to_be_bytes()));
    assert!(!placed.is_empty() && all, "{placed:?}");
    go_on(driver)
}

/// Draws a table below a repartition with keys of 8 bytes, and compares its updates: those of a 1 at 1 and a 2 at 2, with the state
/// lost in between. Its store and its changelog have keys in text.
fn check<K: DefaultSerde>(
    draw: impl FnOnce(&Grouping, Materialized) -> KTable<K, i64>,
    shown: impl Fn(&K) -> i64 + Send + Sync + 'static,
    expected: &str,
) -> Outcome {
    let builder = StreamsBuilder::new();
    let numbers = Grouped::with(for_type(), for_type());
    let grouped = builder.stream::<i64, i64>("in").group_by_with(|key, _| *key, numbers);
    let table = draw(&grouped, Materialized::named("kept"));
    table.to_stream().map(move |key, value| (shown(&key), value)).to("out");
    let driver = driver(&builder, 2)?.by_hand();
    take(&driver, "1@1")?;
    driver.crash();
    driver.lose_state();
    driver.restart()?;
    take(&driver, "2@2")?;
    driver.finish_input()?;
    go_on(&driver)?;
    assert_eq!(driver.read::<i64, Option<i64>>("out")?, expected);
    let kept = keys_in(&driver, "kept-changelog")?;
    assert!(kept.iter().any(|key| has(key, KEY.to_string().as_bytes())), "{kept:?}");
    assert!(!kept.iter().any(|key| has(key, &KEY.to_be_bytes())), "{kept:?}");
    Ok(())
}

fn sum(_: &i64, value: i64, so_far: i64) -> i64 {
    so_far + value
}

#[test]
fn aggregations_write_keys_as_they_are_told() -> Outcome {
    let key = |key: &i64| key / 1_111;
    check(|group, kept| group.count(kept.with_key_serde(text())), key, "7=1@1 7=2@2")?;
    check(|group, kept| group.reduce(i64::max, kept.with_key_serde(text())), key, "7=1@1 7=2@2")?;
    let both = |kept: Materialized| kept.with_key_serde(text()).with_value_serde(text());
    check(|group, kept| group.aggregate(|| 0, sum, both(kept)), key, "7=1@1 7=3@2")?;
    check(|group, kept| group.reduce(|a, b| a + b, both(kept)), key, "7=1@1 7=3@2")?;
    check(
        |group, kept| group.aggregate(|| 0, sum, both(kept.versioned(ms(10)))),
        key,
        "7=1@1 7=3@2",
    )?;
    check(|group, kept| group.cogroup(sum).aggregate(|| 0, both(kept)), key, "7=1@1 7=3@2")
}

#[test]
fn windows_write_keys_as_they_are_told() -> Outcome {
    let start = |key: &Windowed<i64>| key.window.start;
    let fixed = TimeWindows::of_size_with_no_grace(ms(10));
    let told = |kept: Materialized| kept.with_key_serde(text());
    check(|group, kept| group.windowed_by(fixed).count(told(kept)), start, "0=1@1 0=2@2")?;
    let close = EmitStrategy::on_window_close();
    check(
        |group, kept| group.windowed_by(fixed).emit_strategy(close).reduce(i64::max, told(kept)),
        start,
        "0=2@2",
    )?;
    let sliding = SlidingWindows::of_time_difference_with_no_grace(ms(10));
    check(
        |group, kept| group.windowed_by(sliding).emit_strategy(close).count(told(kept)),
        start,
        "0=2@2 2=1@2",
    )?;
    let sessions = SessionWindows::of_inactivity_gap_with_no_grace(ms(10));
    check(
        |group, kept| group.windowed_by(sessions).emit_strategy(close).count(told(kept)),
        start,
        "1=2@2",
    )
}

#[test]
fn tables_write_keys_as_they_are_told() -> Outcome {
    let (key, numbers) = (|key: &i64| key / 1_111, || (for_type::<i64>(), for_type::<i64>()));
    let rows = |group: &Grouping, kept: Materialized| {
        group
            .reduce(|_, new| new, "rows")
            .to_stream()
            .map(|key, n| (key, n.unwrap_or(0)))
            .to_table_with(
                numbers().0,
                numbers().1,
                kept.with_key_serde(text()).with_value_serde(text()),
            )
    };
    check(rows, key, "7=1@1 7=2@2")?;
    check(
        |group, kept| group.count("counts").materialized(kept.with_key_serde(text())),
        key,
        "7=1@1 7=2@2",
    )?;
    let same = |_: &i64, n: Option<i64>, _: &mut Stores<'_>| Ok(n);
    check(
        |group, kept| {
            let told = kept.with_key_serde(text());
            group.count("counts").transform_values(move |_| Ok(same), &[], told)
        },
        key,
        "7=1@1 7=2@2",
    )?;
    check(
        |group, kept| {
            let (counts, told) = (group.count("counts"), TableJoined::named("fk"));
            let kept = kept.with_key_serde(text());
            counts.left_join_on_with(&counts, |_, _| None::<i64>, |n, _| n, told, kept)
        },
        key,
        "7=1@1 7=2@2",
    )
}

/// What is written further down has the keys of the store.
#[test]
fn a_table_is_written_with_the_keys_of_its_store() -> Outcome {
    let builder = StreamsBuilder::new();
    let counts = builder.stream::<i64, i64>("in").group_by_key();
    counts.count(Materialized::with(text(), text())).to("out");
    let driver = driver(&builder, 1)?;
    driver.check::<i64, i64, String, String>("in", "7=1@1 7=2@2", "out", "7=1@1 7=2@2")?;
    Ok(())
}

/// Rows lie where the topic above has them, whatever their store writes: a join by a foreign key finds them there, and who asks is
/// told so.
#[test]
fn rows_lie_where_the_keys_of_the_topic_have_them() -> Outcome {
    let told = || Materialized::named("counts").with_key_serde(text());
    finds_all(|stream| stream.group_by_key().count(told()))?;
    finds_all(|stream| stream.group_by_key_with(Grouped::key_serde(text())).count("counts"))?;
    finds_all(|stream| {
        let numbers = Grouped::with(for_type(), for_type());
        stream.group_by_with(|key, _| *key, numbers).count(told())
    })?;
    finds_all(|stream| {
        let table = stream.to_table::<i64>(Materialized::named("rows").with_key_serde(text()));
        table.to_stream().map_values(|_| 1).group_by_key().reduce(|_, one| one, "counts")
    })?;
    finds_all(|stream| {
        let ones = stream.map_values(|_| 1);
        ones.to_table_with(text(), text(), told().with_value_serde(text()))
    })?;
    finds_all(|stream| {
        let grouped = stream.group_by_key();
        grouped.cogroup(|_, _, count: i64| count + 1).aggregate(|| 0, told())
    })
}

fn finds_all(draw: impl FnOnce(&KStream<i64, i64>) -> KTable<i64, i64>) -> Outcome {
    let builder = StreamsBuilder::new();
    let counts = draw(&builder.stream("in"));
    let rows = builder.table::<i64, i64>("left");
    rows.join_on(&counts, |_, key| *key, |key, count| key * 10 + count).to("out");
    let driver = driver(&builder, 5)?;
    driver.pipe::<i64, i64>("in", "1=0@1 2=0@1 3=0@1 4=0@1 5=0@1 6=0@1 7=0@1 8=0@1")?;
    driver.pipe::<i64, i64>("left", "1=1@2 2=2@3 3=3@4 4=4@5 5=5@6 6=6@7 7=7@8 8=8@9")?;
    let joined = "1=11@2 2=21@3 3=31@4 4=41@5 5=51@6 6=61@7 7=71@8 8=81@9";
    assert_eq!(driver.read::<i64, i64>("out")?, joined);
    let snapshot = driver.snapshot()?;
    for key in 1..=8_i64 {
        let told = snapshot.query_metadata_for_key::<i64, i64>("counts", &key)?;
        assert_eq!(told.partition, murmur2_partition(&key.to_be_bytes(), 5));
    }
    Ok(())
}

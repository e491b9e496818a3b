//! Aggregations of tables: the old value of a row is subtracted, then the new one added, with no update in between.
//!
//! Records are written `key=value@timestamp`, `-` for none; a value is a group and a number.

use headwater_core::{record::Headers, serde::for_type};
use headwater_dsl::{KGroupedTable, KTable, Materialized, StreamsBuilder};
use headwater_engine::{
    runtime::{Repartitioning, StreamsConfig},
    topology::Topology,
};
use headwater_testkit::TopologyTestDriver;
use std::{collections::BTreeMap, error::Error};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;
type Groups = KGroupedTable<String, i64>;
type Totals = KTable<String, i64>;

/// The rows of `in`, in the groups that their values name.
fn groups(builder: &StreamsBuilder) -> Groups {
    let rows = builder.table::<String, String>("in");
    rows.group_by(|_, value| {
        let (group, number) = value.split_at(1);
        (group.to_owned(), number.parse().unwrap_or(0))
    })
}

fn uncached(name: &str) -> Materialized {
    Materialized::named(name).with_caching_disabled()
}

fn pipe(driver: &TopologyTestDriver, records: &str) -> Outcome {
    let input = driver.input_topic::<String, Option<String>>("in");
    for record in records.split_whitespace() {
        let (key, rest) = record.split_once('=').ok_or("no =")?;
        let (value, at) = rest.split_once('@').ok_or("no @")?;
        let value = (value != "-").then(|| value.to_owned());
        input.pipe_input(key.to_owned(), value, at.parse()?)?;
    }
    Ok(())
}

fn read(driver: &TopologyTestDriver) -> Outcome<String> {
    let rows = driver.output_topic::<String, Option<i64>>("out").read_records_to_list()?;
    let text = |value: Option<i64>| value.map_or("-".to_owned(), |value| value.to_string());
    let rows = rows.into_iter().map(|r| format!("{}={}@{}", r.key, text(r.value), r.timestamp));
    Ok(rows.collect::<Vec<_>>().join(" "))
}

fn topology(aggregate: impl Fn(&Groups) -> Totals) -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    aggregate(&groups(&builder)).to("out");
    Ok(builder.build()?)
}

fn check(aggregate: impl Fn(&Groups) -> Totals, records: &str, expected: &str) -> Outcome {
    let driver = TopologyTestDriver::new(topology(aggregate)?)?;
    pipe(&driver, records)?;
    assert_eq!(read(&driver)?, expected);
    Ok(())
}

fn sum(groups: &Groups) -> Totals {
    groups.reduce(|sum, value| sum + value, |sum, value| sum - value, uncached("t"))
}

/// Shows what it has been given, and in which order: `+` digits and `-` digits.
fn trace(groups: &Groups) -> Totals {
    let add = |_: &String, value: i64, so_far: i64| so_far * 100 + 10 + value;
    let subtract = |_: &String, value: i64, so_far: i64| so_far * 100 + 20 + value;
    groups.aggregate(|| 0, add, subtract, uncached("t"))
}

#[test]
fn a_row_that_stays_in_its_group_is_one_update_old_value_first() -> Outcome {
    check(trace, "a=x1@1 a=x2@2", "x=11@1 x=112112@2")
}

#[test]
fn a_row_that_changes_its_group_is_two_updates_old_group_first() -> Outcome {
    check(trace, "a=x1@1 a=y2@2", "x=11@1 x=1121@2 y=12@2")?;
    check(sum, "a=x1@1 b=x5@2 a=y2@3 b=-@4", "x=1@1 x=6@2 x=5@3 y=2@3 x=0@4")
}

#[test]
fn a_deleted_row_is_subtracted() -> Outcome {
    check(sum, "a=x1@1 b=x2@2 a=-@3", "x=1@1 x=3@2 x=2@3")
}

/// A row that was not there, and is not, is told of nowhere.
#[test]
fn a_deletion_of_no_row_is_no_update() -> Outcome {
    check(sum, "a=-@1 a=x1@2 a=-@3 a=-@4", "x=1@2 x=0@3")
}

#[test]
fn a_count_comes_to_rest_at_0_and_stays() -> Outcome {
    let builder = StreamsBuilder::new();
    groups(&builder).count(uncached("t")).to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    pipe(&driver, "a=x1@1 b=x2@2 a=-@3 b=y1@4")?;
    assert_eq!(read(&driver)?, "x=1@1 x=2@2 x=1@3 x=0@4 y=1@4");
    let rest = driver.key_value_store::<String, i64>("t")?.get(&"x".into())?;
    assert_eq!(rest.map(|row| (row.value, row.timestamp)), Some((0, 4)));
    Ok(())
}

/// An update is as late as any row that went into it, also one that subtracts.
#[test]
fn an_update_stands_at_the_latest_time_of_its_rows() -> Outcome {
    check(sum, "a=x1@9 b=x2@3 a=x4@5 b=-@1 b=-@12", "x=1@9 x=3@9 x=6@9 x=4@9")?;
    check(sum, "a=x1@9 a=y1@3", "x=1@9 x=0@9 y=1@3")
}

/// `None` deletes the row; its deletion is as late, and the next row begins anew, at its own time.
#[test]
fn a_subtractor_may_end_the_aggregate() -> Outcome {
    let ending = |groups: &Groups| {
        let subtract = |sum: i64, value: i64| Some(sum - value).filter(|sum| *sum != 0);
        groups.reduce_or_delete(|sum, value| Some(sum + value), subtract, uncached("t"))
    };
    check(ending, "a=x1@9 a=-@5 b=x2@6", "x=1@9 x=-@9 x=2@6")?;
    check(ending, "a=x1@9 a=x4@5", "x=1@9 x=4@9")
}

#[test]
fn an_adder_may_end_the_aggregate() -> Outcome {
    let ending = |groups: &Groups| {
        let add = |_: &String, value: i64, sum: i64| Some(sum + value).filter(|sum| *sum < 5);
        let subtract = |_: &String, value: i64, sum: i64| Some(sum - value);
        groups.aggregate_or_delete(|| 0, add, subtract, uncached("t"))
    };
    // What is subtracted from no aggregate changes nothing.
    check(ending, "a=x1@1 b=x4@2 a=-@3 c=x2@4", "x=1@1 x=-@2 x=-@3 x=2@4")
}

#[test]
fn a_selected_null_is_no_row() -> Outcome {
    let builder = StreamsBuilder::new();
    let rows = builder.table::<String, i64>("in");
    let grouped = rows.group_by(|_, value| {
        ((value % 2 == 0).then(|| "even".to_owned()), (value % 3 != 0).then_some(*value))
    });
    let sums = grouped.reduce(
        |sum, value| Some(sum? + value?),
        |sum, value| Some(sum? - value?),
        uncached("t"),
    );
    sums.map_values(|sum| sum.unwrap_or(-1)).to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    let input = driver.input_topic::<String, i64>("in");
    for (at, value) in [2, 3, 4, 6, 8].into_iter().enumerate() {
        input.pipe_input("a".into(), value, at as i64)?;
    }
    assert_eq!(read(&driver)?, "even=2@0 even=0@1 even=4@2 even=0@3 even=8@4");
    Ok(())
}

/// With caching the last update of a group comes out at the commit; what lies below sees what it replaces.
#[test]
fn caching_changes_no_final_row() -> Outcome {
    for caching in [true, false] {
        let builder = StreamsBuilder::new();
        let kept = Materialized::named("t");
        let kept = if caching { kept } else { kept.with_caching_disabled() };
        let sums =
            groups(&builder).reduce(|sum, value| sum + value, |sum, value| sum - value, kept);
        let again = sums.group_by(|group, sum| ((*sum > 4).to_string(), group.clone()));
        again.count(uncached("by-size")).to("out");
        let driver = TopologyTestDriver::new(builder.build()?)?.by_hand();
        for records in ["a=x1@1 b=x5@2 c=y2@3", "a=x7@4 b=y3@5 c=-@6", "a=-@7 b=y9@8"] {
            pipe(&driver, records)?;
            driver.run_until_idle()?;
            driver.commit()?;
        }
        driver.run_until_idle()?;
        driver.commit()?;
        let out = driver.output_topic::<String, i64>("out").read_records_to_list()?;
        let last: BTreeMap<_, _> = out.into_iter().map(|row| (row.key, row.value)).collect();
        let expected = BTreeMap::from([("false".to_owned(), 1), ("true".to_owned(), 1)]);
        assert_eq!(last, expected, "caching: {caching}");
    }
    Ok(())
}

/// Rows of three partitions meet in their groups, in memory and through the topic, killed with the state kept and lost.
#[test]
fn groups_are_the_same_over_partitions_and_kills() -> Outcome {
    let ways = [(false, false), (false, true), (true, false), (true, true)];
    for (through_topic, state_is_lost) in ways {
        let config = StreamsConfig::new("app");
        let config = match through_topic {
            true => config.with_repartitioning(Repartitioning::ThroughTopic),
            false => config,
        };
        let partitions = BTreeMap::from([("in", 3)]);
        let driver = TopologyTestDriver::with(topology(sum)?, config, &partitions)?.by_hand();
        for records in ["a=x1@1 b=x2@2 c=y3@3 d=y4@4", "a=y5@5 b=x6@6 c=-@7", "d=x1@8 e=x9@9"] {
            pipe(&driver, records)?;
            driver.step()?;
            if state_is_lost {
                driver.lose_state()
            } else {
                driver.crash()
            }
            driver.restart()?;
            driver.run_until_idle()?;
            driver.commit()?;
            driver.run_until_idle()?;
            driver.commit()?;
        }
        let sums = driver.key_value_store::<String, i64>("t")?.all()?;
        let sums: BTreeMap<_, _> = sums.into_iter().map(|(key, row)| (key, row.value)).collect();
        let expected = BTreeMap::from([("x".to_owned(), 16), ("y".to_owned(), 5)]);
        assert_eq!(sums, expected, "through the topic: {through_topic}, lost: {state_is_lost}");
    }
    Ok(())
}

#[test]
fn updates_have_the_headers_of_the_record_that_led_to_them() -> Outcome {
    let driver = TopologyTestDriver::new(topology(sum)?)?;
    let input = driver.input_topic::<String, String>("in");
    for (trace, value) in [(1, "x1"), (2, "y1")] {
        let mut headers = Headers::new();
        headers.add("trace", Some(vec![trace]));
        input.pipe_bytes_with(Some(b"a"), Some(value.as_bytes()), 1, &headers)?;
    }
    let rows = driver.output_topic::<String, i64>("out").read_records_to_list()?;
    let told: Vec<_> =
        rows.iter().map(|row| row.headers.last("trace").flatten().map(<[u8]>::to_vec)).collect();
    assert_eq!(told, [Some(vec![1]), Some(vec![2]), Some(vec![2])]);
    Ok(())
}

/// The topic is named after the grouping, or else after each store.
#[test]
fn a_grouped_table_is_always_repartitioned() -> Outcome {
    let builder = StreamsBuilder::new();
    let rows = builder.table::<String, i64>("in");
    let same = rows.group_by(|key, value| (key.clone(), *value));
    let _ = (same.count("a"), same.count("b"));
    let named = same.named("n");
    let _ = (named.count("c"), named.count("d"));
    let text = builder.build()?.describe();
    let topics = ["a-repartition", "b-repartition", "n-repartition"];
    assert!(topics.iter().all(|topic| text.contains(&format!("(topic: {topic})"))), "{text}");
    assert_eq!(text.matches("Sink: ").count(), 3, "{text}");
    Ok(())
}

/// A group's key that cannot be written is a dead letter where a row comes into the group; it leaves none. The other group is
/// as it should be.
#[test]
fn a_group_that_cannot_be_written_is_a_dead_letter() -> Outcome {
    let builder = StreamsBuilder::new();
    let rows = builder.table::<String, f64>("in");
    // JSON has no infinity.
    let grouped = rows.group_by(|_, value| ((*value, 0), 1_i64));
    grouped.count(uncached("t")).to_stream().map(|key, n| (key.0.to_string(), n)).to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    let mut bytes = Vec::new();
    for (at, value) in [1.5, f64::INFINITY, 2.5].into_iter().enumerate() {
        bytes.clear();
        for_type::<f64>().serialize(&value, &mut bytes)?;
        driver.input_topic::<String, f64>("in").pipe_bytes(Some(b"a"), Some(&bytes), at as i64)?;
    }
    assert_eq!(read(&driver)?, "1.5=1@0 1.5=0@1 2.5=1@2");
    let letters = driver
        .output_topic_with::<Vec<u8>, Vec<u8>>("test-dead-letters", for_type(), for_type())
        .read_records_to_list()?;
    assert_eq!(letters.len(), 1);
    Ok(())
}

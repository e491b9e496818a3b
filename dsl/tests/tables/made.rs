//! Tables that are made of streams and of other tables: `to_table`, stores of derived tables, and the ways back.
//!
//! Records are written `key=value@timestamp`, `-` for none.

use headwater_core::{record::Headers, serde::for_type};
use headwater_dsl::{KTable, StreamsBuilder};
use headwater_engine::{
    processor::{ProcessorError, Stores},
    runtime::StreamsConfig,
    store::KeyValueStore,
};
use headwater_testkit::TopologyTestDriver;
use std::{collections::BTreeMap, error::Error};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn pipe(driver: &TopologyTestDriver, topic: &str, records: &str) -> Outcome {
    let input = driver.input_topic::<Option<String>, Option<i64>>(topic);
    for record in records.split_whitespace() {
        let (key, rest) = record.split_once('=').ok_or("no =")?;
        let (value, at) = rest.split_once('@').ok_or("no @")?;
        let key = (key != "-").then(|| key.to_owned());
        input.pipe_input(key, value.parse().ok(), at.parse()?)?;
    }
    Ok(())
}

fn read(driver: &TopologyTestDriver, topic: &str) -> Outcome<String> {
    let rows = driver.output_topic::<String, Option<i64>>(topic).read_records_to_list()?;
    let text = |value: Option<i64>| value.map_or("-".to_owned(), |value| value.to_string());
    let rows = rows.into_iter().map(|r| format!("{}={}@{}", r.key, text(r.value), r.timestamp));
    Ok(rows.collect::<Vec<_>>().join(" "))
}

/// What a query finds, by key.
fn rows(driver: &TopologyTestDriver, store: &str) -> Outcome<String> {
    let mut rows = driver.key_value_store::<String, i64>(store)?.all()?;
    rows.sort_by(|one, other| one.0.cmp(&other.0));
    let text = rows.into_iter().map(|(k, row)| format!("{k}={}@{}", row.value, row.timestamp));
    Ok(text.collect::<Vec<_>>().join(" "))
}

/// Every record is forwarded, also one that repeats a value or a deletion, and what arrives last wins, whatever its time.
#[test]
fn a_stream_becomes_a_table_of_its_newest_values() -> Outcome {
    let builder = StreamsBuilder::new();
    builder.stream::<String, Option<i64>>("in").to_table::<i64>("t").to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    pipe(&driver, "in", "a=1@5 a=1@6 b=2@3 a=3@1 b=-@9 b=-@9 c=-@2")?;
    assert_eq!(read(&driver, "out")?, "a=1@5 a=1@6 b=2@3 a=3@1 b=-@9 b=-@9 c=-@2");
    assert_eq!(rows(&driver, "t")?, "a=3@1");
    Ok(())
}

#[test]
fn a_stream_without_nulls_becomes_a_table_too() -> Outcome {
    let builder = StreamsBuilder::new();
    let table = builder.stream::<String, i64>("in").to_table("t");
    table.filter(|_, value| *value > 1).to("out");
    assert_eq!(table.queryable_store_name(), Some("t"));
    let driver = TopologyTestDriver::new(builder.build()?)?;
    pipe(&driver, "in", "a=1@5 a=2@6 a=3@1 a=1@9 a=1@9")?;
    assert_eq!(read(&driver, "out")?, "a=2@6 a=3@1 a=-@9");
    Ok(())
}

#[test]
fn a_null_key_is_dropped_and_counted_by_to_table() -> Outcome {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<Option<String>, i64>("in");
    stream.to_table("t").named("node").to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    pipe(&driver, "in", "-=1@5 a=2@6 -=3@7")?;
    assert_eq!(read(&driver, "out")?, "a=2@6");
    assert_eq!(driver.dropped_records("node")?, 2);
    Ok(())
}

/// A marked stream goes through a topic named after the store, over any number of partitions.
#[test]
fn a_marked_stream_is_repartitioned_to_become_a_table() -> Outcome {
    let builder = StreamsBuilder::new();
    let keyed =
        builder.stream::<String, i64>("in").select_key(|_, value| format!("k{}", value % 5));
    keyed.to_table("t").to("out");
    let topology = builder.build()?;
    assert!(topology.describe().contains("(topic: t-repartition)"), "{}", topology.describe());
    let config = StreamsConfig::new("app");
    let driver = TopologyTestDriver::with(topology, config, &BTreeMap::from([("in", 3)]))?;
    pipe(&driver, "in", "a=1@1 b=2@2 c=3@3 d=4@4 e=6@6")?;
    driver.run_until_idle()?;
    driver.commit()?;
    assert_eq!(rows(&driver, "t")?, "k1=6@6 k2=2@2 k3=3@3 k4=4@4");
    Ok(())
}

/// An unmarked one does not.
#[test]
fn an_unmarked_stream_becomes_a_table_where_it_is() -> Outcome {
    let builder = StreamsBuilder::new();
    builder.stream::<String, i64>("in").filter(|_, v| *v > 0).to_table("t").to("out");
    assert!(!builder.build()?.describe().contains("repartition"));
    Ok(())
}

#[test]
fn updates_keep_the_headers_of_their_record() -> Outcome {
    let builder = StreamsBuilder::new();
    let table = builder.stream::<String, Option<i64>>("in").to_table::<i64>("t");
    table.map_values(|value| value + 1).materialized("kept").to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    let input = driver.input_topic::<String, i64>("in");
    let mut headers = Headers::new();
    headers.add("trace", Some(b"x".to_vec()));
    input.pipe_bytes_with(Some(b"a"), Some(&1_i64.to_be_bytes()), 1, &headers)?;
    input.pipe_bytes_with(Some(b"a"), None, 2, &headers)?;
    let rows = driver.output_topic::<String, Option<i64>>("out").read_records_to_list()?;
    let told: Vec<_> = rows.iter().map(|row| row.headers.last("trace").flatten()).collect();
    assert_eq!(told, [Some(&b"x"[..]), Some(&b"x"[..])]);
    Ok(())
}

type Make = fn(&KTable<String, i64>) -> KTable<String, i64>;

/// The store of a derived table has its rows, and a deletion takes them out; updates pass as without a store.
#[test]
fn a_derived_table_can_be_kept_and_queried() -> Outcome {
    let cases: [(Make, &str, &str); 3] = [
        (|t| t.filter(|_, v| *v > 1), "b=2@2 b=-@4 a=3@5", "a=3@5"),
        (|t| t.filter_not(|_, v| *v > 2), "a=1@1 b=2@2 a=1@3 b=-@4 a=-@5", ""),
        (|t| t.map_values(|v| v * 10), "a=10@1 b=20@2 a=10@3 b=-@4 a=30@5 b=-@6", "a=30@5"),
    ];
    for (make, updates, kept) in cases {
        let builder = StreamsBuilder::new();
        let derived = make(&builder.table::<String, i64>("in"));
        assert_eq!(derived.queryable_store_name(), None);
        let derived = derived.materialized("kept");
        assert_eq!(derived.queryable_store_name(), Some("kept"));
        derived.to("out");
        let driver = TopologyTestDriver::new(builder.build()?)?;
        pipe(&driver, "in", "a=1@1 b=2@2 a=1@3 b=-@4 a=3@5 b=-@6")?;
        assert_eq!(read(&driver, "out")?, updates);
        assert_eq!(rows(&driver, "kept")?, kept);
    }
    Ok(())
}

/// What lies below a kept table gets old values from its store, whatever is above.
#[test]
fn a_filter_below_a_kept_table_deletes_only_what_it_forwarded() -> Outcome {
    let builder = StreamsBuilder::new();
    let kept = builder.table::<String, i64>("in").map_values(|v| v * 10).materialized("kept");
    kept.filter(|_, v| *v > 10).to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    pipe(&driver, "in", "a=1@1 b=2@2 a=-@3 b=-@4 b=-@5")?;
    assert_eq!(read(&driver, "out")?, "b=20@2 b=-@4");
    Ok(())
}

/// Its rows survive a restart, with the state kept or lost.
#[test]
fn a_kept_table_is_there_after_a_restart() -> Outcome {
    for state_is_lost in [false, true] {
        let builder = StreamsBuilder::new();
        let kept = builder.stream::<String, i64>("in").to_table("t").map_values(|v| v * 10);
        kept.materialized("kept").filter(|_, v| *v > 10).to("out");
        let driver = TopologyTestDriver::new(builder.build()?)?.by_hand();
        pipe(&driver, "in", "a=2@1 b=1@2")?;
        driver.run_until_idle()?;
        driver.commit()?;
        if state_is_lost {
            driver.lose_state()
        } else {
            driver.crash()
        }
        driver.restart()?;
        pipe(&driver, "in", "a=1@3 b=1@4")?;
        driver.run_until_idle()?;
        driver.commit()?;
        assert_eq!(read(&driver, "out")?, "a=20@1 a=-@3", "lost: {state_is_lost}");
        assert_eq!(rows(&driver, "kept")?, "a=10@3 b=10@4");
    }
    Ok(())
}

/// With a key mapper the stream of updates is marked; the mapper sees deletions as none.
#[test]
fn updates_under_other_keys_are_a_marked_stream() -> Outcome {
    let builder = StreamsBuilder::new();
    let table = builder.table::<String, i64>("in");
    let renamed = table.to_stream_with_key(|key, value| format!("{key}{}", value.unwrap_or(0)));
    renamed.to("out");
    let _ = renamed.group_by_key().count("counts");
    let plain = table.to_stream();
    let _ = plain.group_by_key().count("plain");
    let text = builder.build()?.describe();
    assert!(text.contains("counts-repartition") && !text.contains("plain-repartition"), "{text}");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    pipe(&driver, "in", "a=1@1 a=-@2 b=1@3")?;
    assert_eq!(read(&driver, "out")?, "a1=1@1 a0=-@2 b1=1@3");
    Ok(())
}

/// The table with how many updates each row has had; 99 is refused.
fn counted(builder: &StreamsBuilder, table: &KTable<String, i64>) -> KTable<String, i64> {
    builder.add_state_store(KeyValueStore::<String, i64>::builder("seen", for_type(), for_type()));
    table.transform_values(
        |context| {
            let seen = context.store::<KeyValueStore<String, i64>>("seen")?;
            Ok(move |key: &String, value: Option<i64>, stores: &mut Stores<'_>| {
                if value == Some(99) {
                    return Err(ProcessorError::record("99 is none"));
                }
                let seen = stores.get(seen);
                let count = seen.update(key, |count, _| *count.insert(count.unwrap_or(0) + 1))?;
                Ok(value.map(|value| value * 10 + count))
            })
        },
        &["seen"],
        "counted",
    )
}

/// A deletion is seen and counted; an update for which the function fails is a dead letter, and the row stays.
#[test]
fn values_are_transformed_by_what_is_kept() -> Outcome {
    let builder = StreamsBuilder::new();
    let counted = counted(&builder, &builder.table::<String, i64>("in"));
    assert_eq!(counted.queryable_store_name(), Some("counted"));
    counted.to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    pipe(&driver, "in", "a=1@1 a=-@2 a=1@3 b=5@4 a=99@5 a=2@6")?;
    assert_eq!(read(&driver, "out")?, "a=11@1 a=-@2 a=13@3 b=51@4 a=24@6");
    assert_eq!(rows(&driver, "counted")?, "a=24@6 b=51@4");
    let mut letters = driver.output_topic::<String, Option<i64>>("test-dead-letters");
    assert_eq!(letters.read_records_to_list()?.len(), 1);
    Ok(())
}

/// The function runs once an update, and what lies below, or is joined, sees what it gave then.
#[test]
fn what_was_transformed_is_read_from_its_store() -> Outcome {
    let builder = StreamsBuilder::new();
    let table = builder.table::<String, i64>("in");
    let counted = counted(&builder, &table);
    counted.filter(|_, value| *value % 10 != 2).to("filtered");
    counted.join(&table, |counted, value| counted * 100 + value).to("joined");
    let stream = builder.stream::<String, i64>("stream");
    stream.join(&counted, |_, counted| counted).to("looked-up");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    pipe(&driver, "in", "a=1@1")?;
    pipe(&driver, "stream", "a=0@2 a=0@3")?;
    pipe(&driver, "in", "a=2@4 a=3@5 a=-@6")?;
    assert_eq!(read(&driver, "filtered")?, "a=11@1 a=-@4 a=33@5 a=-@6");
    assert_eq!(read(&driver, "joined")?, "a=1101@1 a=2202@4 a=3303@5 a=-@6");
    assert_eq!(read(&driver, "looked-up")?, "a=11@2 a=11@3");
    Ok(())
}

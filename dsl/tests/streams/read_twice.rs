//! One topic that is read several times: whoever reads it alike shares a source, be it for a stream or for a table.

use headwater_dsl::{KStream, KTable, StreamsBuilder};
use headwater_engine::{
    runtime::StreamsConfig,
    topology::{Consumed, OffsetReset, TopologyError, TopologyOptimization},
};
use headwater_testkit::TopologyTestDriver;
use std::error::Error;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn consumed() -> Consumed<String, i64> {
    Consumed::default()
}

/// A stream and a table of `in`, drawn in this order.
fn both(
    builder: &StreamsBuilder,
    table_first: bool,
) -> (KStream<String, i64>, KTable<String, i64>) {
    if table_first {
        let table = builder.table_with("in", consumed(), "rows");
        (builder.stream("in"), table)
    } else {
        let stream = builder.stream("in");
        (stream, builder.table_with("in", consumed(), "rows"))
    }
}

#[test]
fn a_topic_is_a_stream_and_a_table_in_whatever_order_they_are_drawn() -> Outcome {
    for table_first in [false, true] {
        let builder = StreamsBuilder::new();
        let (stream, table) = both(&builder, table_first);
        stream.map_values(|value| value * 10).to("stream");
        table.to_stream().to("table");
        let topology = builder.build()?;
        let text = topology.describe();
        assert_eq!(text.matches("Source:").count(), 1, "{text}");
        assert!(text.contains("Source: KSTREAM-SOURCE-in-0000000000 (topics: [in])"), "{text}");
        let driver = TopologyTestDriver::new(topology)?;
        driver.pipe::<String, Option<i64>>("in", "a=1@1 a=∅@2")?;
        driver.crash();
        driver.lose_state();
        driver.restart()?;
        driver.pipe::<String, Option<i64>>("in", "b=2@3 b=3@4")?;
        assert_eq!(driver.read::<String, i64>("stream")?, "a=10@1 b=20@3 b=30@4");
        assert_eq!(driver.read::<String, Option<i64>>("table")?, "a=1@1 a=∅@2 b=2@3 b=3@4");
        // A stream that knows no null has it as a dead letter, as without a table.
        let letters = driver.dead_letters()?;
        let [letter] = &letters[..] else { return Err(format!("{letters:?}").into()) };
        assert_eq!(
            (&*letter.key, &*letter.kind, &*letter.topic),
            ("a", "DeserializationError", "in")
        );
        let rows = driver.key_value_store::<String, i64>("rows")?;
        assert_eq!(rows.get(&"b".into())?.map(|row| row.value), Some(3));
    }
    Ok(())
}

#[test]
fn a_streams_name_stays_its_own_whenever_the_table_is_drawn() -> Outcome {
    for table_first in [false, true] {
        let builder = StreamsBuilder::new();
        let nulls = builder.stream::<String, Option<i64>>("in").named("nulls");
        let table = |builder: &StreamsBuilder| drop(builder.table_with("in", consumed(), "rows"));
        if table_first {
            table(&builder);
        }
        let stream = builder.stream::<String, i64>("in").named("values");
        if !table_first {
            table(&builder);
        }
        nulls.to("nulls-out");
        stream.to("values-out");
        let text = builder.build()?.describe();
        assert!(text.contains("Source: nulls (topics: [in])"), "{text}");
        assert!(text.contains("Processor: values (stores: [])\n      --> "), "{text}");
    }
    Ok(())
}

/// Of one record, what was drawn first comes first: a join finds the row of the record itself, or the one before.
#[test]
fn a_record_goes_first_where_it_was_drawn_to_first() -> Outcome {
    for (table_first, expected) in [(true, "a=11@1 a=22@2"), (false, "a=21@2")] {
        let builder = StreamsBuilder::new();
        let (stream, table) = both(&builder, table_first);
        stream.join(&table, |value, row| value * 10 + row).to("out");
        for rows_max in [1, 8_192] {
            let config = StreamsConfig::new("test").with_batch_rows_max(rows_max);
            let driver = TopologyTestDriver::with(builder.build()?, config, &[].into())?.by_hand();
            driver.pipe::<String, i64>("in", "a=1@1 a=2@2")?;
            driver.run_until_idle()?;
            driver.commit()?;
            assert_eq!(driver.read::<String, i64>("out")?, expected, "{rows_max} rows");
        }
    }
    Ok(())
}

#[test]
fn a_stream_that_knows_nulls_reads_as_a_table_does() -> Outcome {
    let builder = StreamsBuilder::new();
    let plain = builder.stream::<String, i64>("in");
    let nullable = builder.stream::<String, Option<i64>>("in");
    let _table = builder.table_with("in", consumed(), "rows");
    plain.to("plain");
    nullable.to("nullable");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    driver.pipe::<String, Option<i64>>("in", "a=1@1 a=∅@2")?;
    assert_eq!(driver.read::<String, i64>("plain")?, "a=1@1");
    assert_eq!(driver.read::<String, Option<i64>>("nullable")?, "a=1@1 a=∅@2");
    Ok(())
}

#[test]
fn two_tables_are_one_source_and_two_stores() -> Outcome {
    for optimization in [TopologyOptimization::NONE, TopologyOptimization::ALL] {
        let builder = StreamsBuilder::new().with_topology_optimization(optimization);
        let one = builder.table_with("in", consumed(), "one");
        let two = builder.table_with("in", consumed(), "two");
        one.join(&two, |one, two| one * 10 + two).to_stream().to("out");
        let driver = TopologyTestDriver::new(builder.build()?)?;
        driver.pipe::<String, i64>("in", "a=1@1")?;
        driver.crash();
        driver.lose_state();
        driver.restart()?;
        driver.pipe::<String, i64>("in", "b=2@2")?;
        for store in ["one", "two"] {
            let store = driver.key_value_store::<String, i64>(store)?;
            for (key, value) in [("a", 1), ("b", 2)] {
                assert_eq!(store.get(&key.into())?.map(|row| row.value), Some(value));
            }
        }
        assert_eq!(driver.read::<String, Option<i64>>("out")?, "a=11@1 b=22@2");
    }
    Ok(())
}

#[test]
fn sources_that_read_alike_are_one_and_others_are_refused() -> Outcome {
    let builder = StreamsBuilder::new();
    builder.stream_with("in", consumed().offset_reset(OffsetReset::Latest)).to("out");
    builder.stream_with("in", consumed().offset_reset(OffsetReset::Latest)).to("again");
    builder.build()?;
    type Draw = fn(&StreamsBuilder);
    let plain: Draw = |builder| drop(builder.stream::<String, i64>("in").to("out"));
    let latest: Draw = |builder| {
        let latest = consumed().offset_reset(OffsetReset::Latest);
        drop(builder.stream_with("in", latest).to("latest"));
    };
    let texts: Draw = |builder| drop(builder.stream::<String, String>("in").to("texts"));
    let table: Draw = |builder| drop(builder.table_with("in", consumed(), "rows"));
    let table_of_texts: Draw = |builder| drop(builder.table::<String, String>("in"));
    let timed: Draw = |builder| {
        let timed = consumed().timestamp(|value| *value);
        drop(builder.stream_with("in", timed).to("timed"));
    };
    let differing =
        [(plain, texts), (plain, latest), (plain, table_of_texts), (timed, timed), (timed, table)];
    for (place, (first, second)) in differing.into_iter().enumerate() {
        for (first, second) in [(first, second), (second, first)] {
            let builder = StreamsBuilder::new();
            first(&builder);
            second(&builder);
            let refused = builder.build().map(drop);
            let is_so =
                matches!(&refused, Err(TopologyError::TopicReadTwice { topic }) if topic == "in");
            assert!(is_so, "{place}: {refused:?}");
        }
    }
    Ok(())
}

//! Where sources begin, what their records' times are, and several topics in one stream.

use headwater_dsl::StreamsBuilder;
use headwater_engine::{
    runtime::StreamsError,
    topology::{Consumed, OffsetReset, Topology, TopologyError},
};
use headwater_testkit::{TestDriverError, TopologyTestDriver};
use std::{error::Error, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn from(reset: Option<OffsetReset>) -> Topology {
    let builder = StreamsBuilder::new();
    builder.stream::<String, i64>("other").to("others");
    if let Some(reset) = reset {
        let consumed = Consumed::<String, i64>::default().offset_reset(reset);
        builder.stream_with("in", consumed).to("out");
    } else {
        builder.stream::<String, i64>("in").to("out");
    }
    builder.build().expect("it is a topology")
}

fn without_in() -> Topology {
    let builder = StreamsBuilder::new();
    builder.stream::<String, i64>("other").to("others");
    builder.build().expect("it is a topology")
}

#[test]
fn a_source_without_an_offset_begins_where_it_is_told_and_then_goes_on() -> Outcome {
    for (reset, expected) in [
        (None, "a=1@1 a=2@2 a=3@3 a=4@4"),
        (Some(OffsetReset::Earliest), "a=1@1 a=2@2 a=3@3 a=4@4"),
        (Some(OffsetReset::Latest), "a=3@3 a=4@4"),
        (Some(OffsetReset::ByDuration(Duration::from_millis(9))), "a=1@1 a=2@2 a=3@3 a=4@4"),
        (Some(OffsetReset::ByDuration(Duration::from_millis(8))), "a=2@2 a=3@3 a=4@4"),
        (Some(OffsetReset::ByDuration(Duration::from_millis(7))), "a=3@3 a=4@4"),
        (Some(OffsetReset::ByDuration(Duration::MAX)), "a=1@1 a=2@2 a=3@3 a=4@4"),
    ] {
        let driver = TopologyTestDriver::new(without_in())?;
        driver.create_topic("in", 1)?;
        driver.create_topic("out", 1)?;
        driver.pipe::<String, i64>("in", "a=1@1 a=2@2")?;
        driver.set_wall_clock_time(10);
        driver.upgrade(from(reset))?;
        // The offset where it began is committed with the rest.
        driver.commit()?;
        driver.crash();
        driver.restart()?;
        driver.pipe::<String, i64>("in", "a=3@3")?;
        driver.crash();
        driver.restart()?;
        driver.pipe::<String, i64>("in", "a=4@4")?;
        assert_eq!(driver.read::<String, i64>("out")?, expected, "{reset:?}");
    }
    Ok(())
}

#[test]
fn a_source_that_begins_nowhere_stops_the_start() -> Outcome {
    let refused = TopologyTestDriver::new(from(Some(OffsetReset::Fail)));
    let Err(TestDriverError::Streams(StreamsError::NoOffset { partition })) = refused else {
        return Err("it starts".into());
    };
    assert_eq!(partition.to_string(), "in-0");
    // One that was committed will do.
    let driver = TopologyTestDriver::new(from(None))?;
    driver.pipe::<String, i64>("in", "a=1@1")?;
    driver.upgrade(from(Some(OffsetReset::Fail)))?;
    driver.pipe::<String, i64>("in", "a=2@2")?;
    assert_eq!(driver.read::<String, i64>("out")?, "a=1@1 a=2@2");
    Ok(())
}

#[test]
fn an_extractor_sees_key_value_and_the_records_own_time() -> Outcome {
    let builder = StreamsBuilder::new();
    let extract = |key: &String, value: &i64, own: i64| match key.as_str() {
        "own" => Ok(own),
        "value" => Ok(*value),
        "none" => Err("it tells no time".to_owned()),
        _ => Ok(-1),
    };
    let consumed = Consumed::<String, i64>::default().timestamp_extractor(extract);
    builder.stream_with("in", consumed).to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    driver.pipe::<String, i64>("in", "own=1@5 value=7@5 none=1@5 before=1@5")?;
    assert_eq!(driver.read::<String, i64>("out")?, "own=1@5 value=7@7");
    let letters = driver.dead_letters()?.into_iter().map(|letter| (letter.key, letter.cause));
    let expected = [("none", "it tells no time"), ("before", "its timestamp is -1, below 0")];
    assert_eq!(letters.collect::<Vec<_>>(), expected.map(|(k, c)| (k.to_owned(), c.to_owned())));
    Ok(())
}

#[test]
fn several_topics_are_one_stream_in_the_order_of_time() -> Outcome {
    let builder = StreamsBuilder::new();
    builder.stream_of::<String, i64>(&["east", "west", "north"]).to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?.by_hand();
    driver.pipe::<String, i64>("east", "a=1@1 a=4@4")?;
    driver.pipe::<String, i64>("west", "b=2@2 b=5@5")?;
    driver.pipe::<String, i64>("north", "c=3@3")?;
    driver.run_until_idle()?;
    driver.commit()?;
    assert_eq!(driver.read::<String, i64>("out")?, "a=1@1 b=2@2 c=3@3 a=4@4 b=5@5");
    let none = StreamsBuilder::new();
    none.stream_of::<String, i64>(&[]).to("out");
    let twice = StreamsBuilder::new();
    twice.stream_of::<String, i64>(&["east", "west", "east"]).to("out");
    let refused = twice.build().expect_err("each record would come twice");
    assert!(
        matches!(&refused, TopologyError::TopicReadTwice { topic } if topic == "east"),
        "{refused}"
    );
    assert!(matches!(none.build(), Err(TopologyError::TopicName(_))));
    Ok(())
}

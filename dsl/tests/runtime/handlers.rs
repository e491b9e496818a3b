//! Bad records by where they are found: each of the three handlers answers for its own.

use headwater_core::record::TopicName;
use headwater_dsl::StreamsBuilder;
use headwater_engine::{
    processor::{Context, ProcessorError, Record},
    runtime::{StreamsConfig, StreamsError},
};
use headwater_testkit::{TestDriverError, TopologyTestDriver};
use std::error::Error;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Refuses values below 0, writes NaN for 0, which JSON has no form for, and forwards each other value twice over siblings.
fn driver(properties: &[(&str, &str)]) -> Outcome<TopologyTestDriver> {
    let mut config = StreamsConfig::new("app");
    for (key, value) in properties {
        config.set(key, value)?;
    }
    let builder = StreamsBuilder::new();
    let input = builder.stream::<String, i64>("in");
    let check = |record: Record<String, i64>, context: &mut Context<'_, String, f32>| {
        let value = match record.value {
            0 => f32::NAN,
            value if value > 0 => value as f32,
            _ => return Err(ProcessorError::record("below 0")),
        };
        context.forward(record.with_value(value));
        Ok(())
    };
    input.process_fn(check, &[]).to("out");
    input.to("sibling");
    Ok(TopologyTestDriver::with(builder.build()?, config, &[].into())?)
}

/// A record that cannot be read, one that is refused, one that cannot be written, and a good one.
fn run(driver: &TopologyTestDriver) -> Result<(), TestDriverError> {
    driver.input_topic::<String, i64>("in").pipe_bytes(Some(b"a"), Some(b"?"), 1)?;
    driver.pipe::<String, i64>("in", "b=-1@2 c=0@3 d=4@4")
}

fn kinds(driver: &TopologyTestDriver) -> Outcome<Vec<String>> {
    Ok(driver.dead_letters()?.into_iter().map(|letter| letter.kind).collect())
}

const HANDLERS: [&str; 3] = ["deserialization", "processing", "production"];

const KINDS: [&str; 3] = ["DeserializationError", "ProcessorError", "SerializationError"];

#[test]
fn each_handler_may_continue_by_itself_and_counts() -> Outcome {
    for (handler, kind) in HANDLERS.iter().zip(KINDS) {
        let key = format!("{handler}.exception.handler");
        let driver = driver(&[(&key, "LogAndContinueExceptionHandler")])?;
        run(&driver)?;
        let others: Vec<_> = KINDS.into_iter().filter(|other| *other != kind).collect();
        assert_eq!(kinds(&driver)?, others, "{handler}");
        assert_eq!(driver.total_dropped_records()?, 1, "{handler}");
        assert_eq!(driver.read::<String, f32>("out")?, "d=4@4");
        assert_eq!(driver.read::<String, i64>("sibling")?, "b=-1@2 c=0@3 d=4@4", "siblings run on");
    }
    Ok(())
}

#[test]
fn each_handler_may_fail_by_itself() -> Outcome {
    for (handler, kind) in HANDLERS.iter().zip(KINDS) {
        let key = format!("{handler}.exception.handler");
        let driver = driver(&[(&key, "LogAndFailExceptionHandler")])?;
        let stopped = run(&driver).unwrap_err();
        let why = format!("{stopped:?}");
        assert!(
            matches!(stopped, TestDriverError::Streams(StreamsError::Processor { .. })),
            "{why}"
        );
        assert!(why.contains(kind), "{handler}: {why}");
    }
    Ok(())
}

#[test]
fn dead_letters_go_to_the_topic_that_is_named() -> Outcome {
    let driver = driver(&[("errors.dead.letter.queue.topic.name", "bad-ones")])?;
    run(&driver)?;
    assert_eq!(kinds(&driver)?, KINDS);
    let topics = driver.log().topics()?;
    let own = TopicName::new("app-dead-letters")?;
    assert!(topics.iter().all(|spec| spec.name != own), "the other is not made");
    let mut letters = driver.output_topic::<String, Vec<u8>>("bad-ones");
    let letters = letters.read_records_to_list()?;
    let raw: Vec<_> =
        letters.iter().map(|letter| (letter.key.as_str(), letter.timestamp)).collect();
    assert_eq!(raw, [("a", 1), ("b", 2), ("c", 3)], "the source's key and timestamp");
    Ok(())
}

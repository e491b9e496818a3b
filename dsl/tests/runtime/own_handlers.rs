//! Handlers of the user's: what they are told of a bad record, what each answer does, and the letters they write.

use super::lifecycle::Run;
use headwater_core::{
    ports::log::{Log, TopicSpec},
    record::{Headers, TopicName, TopicPartition},
};
use headwater_dsl::StreamsBuilder;
use headwater_engine::{
    processor::{
        Cancellable, Context, InitContext, Processor, ProcessorError, PunctuationType, Record,
    },
    runtime::{
        DeadLetterRecord, ErrorHandlerContext, ExceptionResponse, ProcessingGuarantee,
        StreamsConfig, StreamsError, StreamsState,
    },
    topology::{RecordContext, Topology},
};
use headwater_testkit::{TestDriverError, TopologyTestDriver};
use std::{
    collections::BTreeMap,
    error::Error,
    sync::{Arc, Mutex},
    time::Duration,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Refuses values below 0, writes NaN for 0, which JSON has no form for, and sends what is above 9 to topics that are not there.
fn topology() -> Outcome<Topology> {
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
    let by_size =
        |_: &String, value: &f32, _: &RecordContext<'_>| if *value > 9.0 { "large" } else { "out" };
    input.process_fn(check, &[]).named("check").to_dynamic(by_size).named("by-size");
    input.to("sibling");
    Ok(builder.build()?)
}

fn driver(config: StreamsConfig) -> Outcome<TopologyTestDriver> {
    let driver = TopologyTestDriver::with(topology()?, config, &[].into())?;
    driver.create_topic("out", 1)?;
    Ok(driver)
}

/// A record that cannot be read, one that is refused, one that cannot be written, one without a topic, and a good one.
fn run(driver: &TopologyTestDriver) -> Result<(), TestDriverError> {
    driver.input_topic::<String, i64>("in").pipe_bytes(Some(b"a"), Some(b"?"), 1)?;
    driver.pipe::<String, i64>("in", "b=-1@2 c=0@3 d=10@4 e=5@5")
}

/// Has `handler` answer for all bad records.
fn all(
    handler: impl Fn(&ErrorHandlerContext<'_>) -> ExceptionResponse + Clone + Send + Sync + 'static,
) -> StreamsConfig {
    StreamsConfig::new("app")
        .with_deserialization_exception_handler(handler.clone())
        .with_processing_exception_handler(handler.clone())
        .with_production_exception_handler(handler)
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

fn keys(driver: &TopologyTestDriver, topic: &str) -> Outcome<Vec<String>> {
    let from = TopicPartition::new(TopicName::new(topic)?, 0);
    let records = driver.log().fetch(&from, 0, usize::MAX)?.records;
    Ok(records.iter().map(|record| text(record.key)).collect())
}

#[test]
fn a_handler_is_told_what_is_wrong_where_and_of_which_record() -> Outcome {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let driver = driver(all(move |error| {
        let ErrorHandlerContext { kind, node, timestamp, .. } = error;
        let at = error.metadata.as_ref().expect("it was read");
        let (key, bytes) =
            (text(error.source_raw_key), error.source_raw_value.map_or(0, <[u8]>::len));
        let (task, retry) = (error.task.expect("a task"), error.is_retriable());
        let line = format!(
            "{kind} at {node} of {task}: {key}@{timestamp} of {bytes} bytes, {} of {}, retriable: {retry}",
            at.offset, at.partition
        );
        tell.lock().expect("no panic").push(line);
        ExceptionResponse::Continue(vec![])
    }))?;
    run(&driver)?;
    let source = driver.dead_letters()?;
    assert!(source.is_empty(), "{source:?}");
    assert_eq!(driver.total_dropped_records()?, 4);
    let told = told.lock().expect("no panic");
    assert_eq!(
        *told,
        [
            "DeserializationError at KSTREAM-SOURCE-in-0000000000 of 0_0: a@1 of 1 bytes, 0 of in-0, retriable: false",
            "ProcessorError at check of 0_0: b@2 of 8 bytes, 1 of in-0, retriable: false",
            "SerializationError at by-size of 0_0: c@3 of 8 bytes, 2 of in-0, retriable: false",
            "UnknownTopic at by-size of 0_0: d@4 of 8 bytes, 3 of in-0, retriable: true",
        ]
    );
    assert_eq!(driver.read::<String, f32>("out")?, "e=5@5");
    assert_eq!(driver.read::<String, i64>("sibling")?, "b=-1@2 c=0@3 d=10@4 e=5@5");
    Ok(())
}

#[test]
fn each_record_may_have_another_answer_and_failing_stops() -> Outcome {
    let driver = driver(all(|error| match error.source_raw_key {
        Some(b"a" | b"c") => ExceptionResponse::Continue(vec![]),
        Some(b"b") => ExceptionResponse::DeadLetter(vec![]),
        _ => ExceptionResponse::Fail,
    }))?;
    let Err(TestDriverError::Streams(StreamsError::Processor { source, .. })) = run(&driver) else {
        return Err("it goes on".into());
    };
    let ProcessorError::Record { kind: "UnknownTopic", cause } = source else {
        return Err(source.into());
    };
    assert!(cause.starts_with("node by-size, record at offset 3 of in-0: topic large"), "{cause}");
    assert_eq!(keys(&driver, "app-dead-letters")?, ["b"]);
    Ok(())
}

/// The letter itself, one of the user's making beside it, and one to another topic.
fn three(error: &ErrorHandlerContext<'_>) -> ExceptionResponse {
    let whole = error.dead_letter();
    let short = DeadLetterRecord { value: None, headers: Headers::new(), ..whole.clone() };
    let topic = TopicName::new("complaints").ok();
    let line = Some(format!("{}: {}", error.kind, error.cause).into_bytes());
    let other = DeadLetterRecord { topic, value: line, headers: Headers::new(), ..whole };
    ExceptionResponse::DeadLetter(vec![short, other])
}

#[test]
fn letters_of_a_handlers_own_are_written_beside_the_letter_in_its_commit() -> Outcome {
    for guarantee in [ProcessingGuarantee::ExactlyOnce, ProcessingGuarantee::AtLeastOnce] {
        for rows_max in [1, 1024] {
            let config = all(three).with_processing_guarantee(guarantee);
            let driver = driver(config.with_batch_rows_max(rows_max))?.by_hand();
            driver.create_topic("complaints", 1)?;
            run(&driver)?;
            driver.run_until_idle()?;
            driver.crash();
            assert!(keys(&driver, "complaints")?.is_empty(), "they wait for the commit");
            driver.restart()?;
            driver.run_until_idle()?;
            driver.commit()?;
            assert_eq!(
                keys(&driver, "app-dead-letters")?,
                ["a", "a", "b", "b", "c", "c", "d", "d"]
            );
            let letters = driver.dead_letters()?;
            let kinds: Vec<_> =
                letters.iter().take(4).map(|it| (it.kind.as_str(), it.value.is_empty())).collect();
            let refused = ("ProcessorError", false);
            assert_eq!(kinds, [("DeserializationError", false), ("", true), refused, ("", true)]);
            let mut complaints = driver.output_topic::<String, Vec<u8>>("complaints");
            let complaints = complaints.read_records_to_list()?;
            let lines: Vec<_> =
                complaints.iter().map(|it| (text(Some(&it.value)), it.timestamp)).collect();
            assert_eq!(lines.get(1), Some(&("ProcessorError: below 0".to_owned(), 2)));
            assert_eq!(lines.len(), 4);
            assert_eq!((driver.total_dropped_records()?, dead_letters(&driver)?), (0, 4));
        }
    }
    Ok(())
}

fn dead_letters(driver: &TopologyTestDriver) -> Outcome<u64> {
    Ok(driver.metrics()?.values().map(|node| node.dead_letters).sum())
}

#[test]
fn who_continues_with_letters_has_these_alone_and_nothing_dropped() -> Outcome {
    let driver = driver(all(|error| {
        let letter = error.dead_letter();
        ExceptionResponse::Continue(vec![DeadLetterRecord { value: None, ..letter }])
    }))?;
    run(&driver)?;
    assert_eq!(keys(&driver, "app-dead-letters")?, ["a", "b", "c", "d"]);
    assert_eq!((driver.total_dropped_records()?, dead_letters(&driver)?), (0, 4));
    Ok(())
}

#[test]
fn a_letter_that_the_log_does_not_take_is_cut_and_one_to_no_topic_stops() -> Outcome {
    let huge = driver(all(|error| {
        let value = Some(vec![b'x'; 200 << 20]);
        let headers = Headers::new();
        ExceptionResponse::Continue(vec![DeadLetterRecord {
            value,
            headers,
            ..error.dead_letter()
        }])
    }))?;
    huge.input_topic::<String, i64>("in").pipe_bytes(Some(b"a"), Some(b"?"), 1)?;
    let letters = huge.dead_letters()?;
    assert!(letters[0].cause.contains("of the value's 209715200 bytes"), "{}", letters[0].cause);

    let to_none = driver(all(three))?;
    let Err(TestDriverError::Streams(StreamsError::Processor { source, .. })) = run(&to_none)
    else {
        return Err("it goes on".into());
    };
    let ProcessorError::NoLetterTopic { topic } = source else { return Err(source.into()) };
    assert_eq!(topic.as_str(), "complaints");
    Ok(())
}

#[test]
fn a_bad_row_of_a_global_store_is_the_handlers_too() -> Outcome {
    let builder = StreamsBuilder::new();
    let _limits = builder.global_table::<String, i64>("limits");
    builder.stream::<String, i64>("in").to("out");
    let partitions = BTreeMap::from([("limits", 1)]);
    let driver = TopologyTestDriver::with(builder.build()?, all(three), &partitions)?;
    driver.create_topic("complaints", 1)?;
    driver.input_topic::<String, i64>("limits").pipe_bytes(Some(b"a"), Some(b"?"), 1)?;
    driver.pipe::<String, i64>("in", "b=1@2")?;
    assert_eq!(keys(&driver, "app-dead-letters")?, ["a", "a"]);
    assert_eq!(keys(&driver, "complaints")?, ["a"]);
    driver.lose_state();
    driver.restart()?;
    assert_eq!(keys(&driver, "complaints")?, ["a"], "each once");
    Ok(())
}

/// Retries whatever is wrong.
fn retrying(id: &str) -> StreamsConfig {
    let retry = |_: &ErrorHandlerContext<'_>| ExceptionResponse::Retry;
    let config = StreamsConfig::new(id);
    config.with_production_exception_handler(retry).with_processing_exception_handler(retry)
}

/// Sends all records to the topic `later`, and refuses those of the key `bad`.
fn to_later() -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    let refuse = |record: Record<String, i64>, context: &mut Context<'_, String, i64>| {
        if record.key == "bad" {
            return Err(ProcessorError::record("bad"));
        }
        context.forward(record);
        Ok(())
    };
    let later = |_: &String, _: &i64, _: &RecordContext<'_>| "later";
    builder.stream::<String, i64>("in").process_fn(refuse, &[]).to_dynamic(later);
    Ok(builder.build()?)
}

#[test]
fn what_is_retriable_is_taken_again_until_it_can_be_written() -> Outcome {
    let mut run = Run::new()?;
    run.start(to_later()?, retrying("app"))?;
    run.append("a")?;
    run.rest()?;
    let state = run.of("app").state();
    let StreamsState::Restarting(error) = &state else { return Err(format!("{state:?}").into()) };
    let said = error.source().map(ToString::to_string).unwrap_or_default();
    assert!(said.ends_with("it is taken again from the last commit on"), "{said}");
    let later = TopicName::new("later")?;
    run.log.create_topics(&[TopicSpec::new(later.clone(), 1)])?;
    run.after(Duration::from_secs(10))?;
    run.append("b")?;
    run.after(Duration::from_secs(10))?;
    let written = run.log.fetch(&TopicPartition::new(later, 0), 0, usize::MAX)?.records;
    let written: Vec<_> = written.iter().map(|record| text(record.key)).collect();
    assert_eq!((written.join(" ").as_str(), run.of("app").metrics().restarts), ("a b", 1));
    assert!(matches!(run.of("app").state(), StreamsState::Running));
    Ok(())
}

#[test]
fn what_is_not_retriable_fails_and_what_stays_is_given_up() -> Outcome {
    let mut run = Run::new()?;
    run.start(to_later()?, retrying("app"))?;
    run.append("bad")?;
    run.rest()?;
    let state = run.of("app").state();
    let StreamsState::Error(StreamsError::Processor { source, .. }) = &state else {
        return Err(format!("{state:?}").into());
    };
    assert!(matches!(source, ProcessorError::Record { kind: "ProcessorError", .. }), "{source}");

    let mut run = Run::new()?;
    run.start(to_later()?, retrying("app"))?;
    run.append("a")?;
    for _ in 0..20 {
        run.after(Duration::from_secs(10))?;
    }
    let state = run.of("app").state();
    assert!(matches!(state, StreamsState::Error(_)), "{state:?}");
    assert_eq!(run.of("app").metrics().restarts, 5);
    Ok(())
}

/// Refuses each second of stream time and each minute of the wall clock.
struct Refusing;

impl Processor<String, i64> for Refusing {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        context.forward(record);
        Ok(())
    }

    fn punctuate(
        &mut self,
        _: Cancellable,
        time: i64,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        context.forward(Record::new("before".to_owned(), time, time));
        Err(ProcessorError::record(format!("nothing at {time}")))
    }
}

/// A topology whose punctuations are refused, and what comes of it.
fn punctuated(config: StreamsConfig) -> Outcome<(Result<(), TestDriverError>, TopologyTestDriver)> {
    let builder = StreamsBuilder::new();
    let make = |context: &mut InitContext<'_>| {
        context.schedule(Duration::from_secs(1), PunctuationType::StreamTime);
        context.schedule(Duration::from_secs(60), PunctuationType::WallClockTime);
        Ok(Refusing)
    };
    builder.stream::<String, i64>("in").process(make, &[]).named("refusing").to("out");
    let driver = TopologyTestDriver::with(builder.build()?, config, &[].into())?;
    let run = || {
        driver.pipe::<String, i64>("in", "a=1@1500 b=2@1700")?;
        driver.advance_wall_clock_time(Duration::from_secs(61))?;
        driver.pipe::<String, i64>("in", "c=3@1800")
    };
    Ok((run(), driver))
}

#[test]
fn what_a_punctuation_refuses_is_for_the_processing_handler() -> Outcome {
    let (run, driver) = punctuated(StreamsConfig::new("app"))?;
    run?;
    let letters = driver.dead_letters()?;
    let causes: Vec<&str> = letters.iter().map(|letter| &*letter.cause).collect();
    assert_eq!(causes.len(), 2, "{causes:?}");
    assert_eq!(causes.first(), Some(&"nothing at 1500"));
    let out = driver.read::<String, i64>("out")?;
    assert!(out.starts_with("a=1@1500 before=1500@1500 b=2@1700 before="), "{out}");
    assert!(out.ends_with(" c=3@1800"), "it goes on: {out}");

    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let forgiving = StreamsConfig::new("app").with_processing_exception_handler(
        move |error: &ErrorHandlerContext<'_>| {
            let told = (error.node.to_owned(), error.kind, error.metadata.is_some());
            tell.lock().expect("no test panics holding it").push(told);
            ExceptionResponse::Continue(vec![])
        },
    );
    let (run, driver) = punctuated(forgiving)?;
    run?;
    assert_eq!(*told.lock().unwrap(), vec![("refusing".to_owned(), "ProcessorError", false); 2]);
    assert_eq!(driver.total_dropped_records()?, 2);
    assert!(driver.dead_letters()?.is_empty());

    let failing = StreamsConfig::new("app")
        .with_processing_exception_handler(|_: &ErrorHandlerContext<'_>| ExceptionResponse::Fail);
    let (run, _) = punctuated(failing)?;
    assert!(format!("{:?}", run.unwrap_err()).contains("nothing at 1500"));
    Ok(())
}

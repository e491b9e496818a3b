//! What bounds may be, what another version makes of held records, whole dead letters, and what users' processors see.

use super::*;
use headwater_engine::processor::{
    Cancellable, Context, InitContext, Processor, ProcessorError, PunctuationType, Record,
};

#[test]
fn every_bound_means_what_it_says() -> Outcome {
    let build = |bound: MaxAhead| drawn(Shape::Finals, Some(bound)).map(drop);
    let below = build(MaxAhead::of_partition(Duration::from_micros(999)));
    let below = below.unwrap_err().downcast::<TopologyError>()?;
    assert!(matches!(*below, TopologyError::AheadOfNothing { .. }), "{below}");
    for bound in [
        MaxAhead::of_partition(Duration::from_millis(1)),
        MaxAhead::of_wall_clock(Duration::ZERO),
        MaxAhead::of_wall_clock(Duration::MAX),
    ] {
        build(bound)?;
    }
    let records = [sent("a", 5), sent("b", i64::MAX - 60_000), sent("c", 7), sent("d", 8)];
    let longest = Duration::from_millis(i64::MAX.unsigned_abs());
    for (bound, letters, late) in [
        (MaxAhead::of_partition(Duration::MAX), 0, 2),
        (MaxAhead::of_partition(longest - Duration::from_millis(1)), 0, 2),
        (MaxAhead::of_partition(Duration::from_millis(1)), 1, 0),
        (MaxAhead::of_wall_clock(Duration::MAX), 0, 2),
        (MaxAhead::of_wall_clock(longest - Duration::from_millis(1)), 0, 2),
        (MaxAhead::of_wall_clock(Duration::ZERO), 4, 0),
        (MaxAhead::of_wall_clock(Duration::from_millis(7)), 2, 0),
    ] {
        let seen = Run { bound: Some(bound), ..Run::of(Shape::Finals) }.results(&records)?;
        assert_eq!((seen.letters.len(), seen.late), (letters, late), "{bound:?}: {seen:?}");
    }
    Ok(())
}

#[test]
fn a_source_has_one_bound() -> Outcome {
    let builder = StreamsBuilder::new();
    let bounded = Consumed::<String, i64>::default().max_ahead(bound_of(HOUR));
    let stream = builder.stream_with("in", bounded);
    let windows = |bound| seconds(10).max_ahead(bound);
    let _same = stream.group_by_key().windowed_by(windows(bound_of(HOUR))).count("same");
    builder.build()?;
    let grouped = stream.group_by(|key, _| key.clone());
    let _other = grouped.windowed_by(windows(bound_of(DAY))).count("other");
    assert!(matches!(builder.build(), Err(TopologyError::AheadDiffers { .. })));
    Ok(())
}

/// With the bound gone in a new version, what was held passes.
#[test]
fn a_version_without_a_bound_takes_what_was_held() -> Outcome {
    let run = Run::of(Shape::Updates);
    let driver = run.start()?;
    let good = fleet(10, BEGIN, 1);
    run.take(&driver, &with(&good, 10, sent("car-0", BEGIN + DAY)))?;
    assert_eq!(Results::of(&driver)?.counted(), 10);
    driver.crash();
    driver.upgrade(drawn(Shape::Updates, None)?)?;
    driver.run_until_idle()?;
    driver.commit()?;
    let seen = Results::of(&driver)?;
    assert_eq!((seen.counted(), seen.letters.len()), (11, 0));
    driver.crash();
    driver.restart()?;
    driver.run_until_idle()?;
    driver.commit()?;
    assert_eq!(Results::of(&driver)?.counted(), 11, "once");
    Ok(())
}

/// Its dead letter is whole: null key, null value, headers, own timestamp and offset, also after a crash.
#[test]
fn what_is_refused_is_written_as_it_came() -> Outcome {
    for state_is_lost in [false, true] {
        let builder = StreamsBuilder::new();
        let consumed = Consumed::<Option<String>, Option<i64>>::default().max_ahead(bound_of(HOUR));
        builder.stream_with("in", consumed).to("out");
        let driver = TopologyTestDriver::new(builder.build()?)?.by_hand();
        let mut headers = Headers::new();
        headers.add("trace", Some(b"7".to_vec()));
        pipe(&driver, "in", &fleet(5, BEGIN, 1))?;
        let input = driver.input_topic::<String, i64>("in");
        input.pipe_bytes_with(None, None, BEGIN + DAY, &headers)?;
        driver.run_until_idle()?;
        driver.commit()?;
        if state_is_lost {
            driver.lose_state()
        } else {
            driver.crash()
        }
        driver.restart()?;
        pipe(&driver, "in", &fleet(5, BEGIN + SECOND, 1))?;
        driver.finish_input()?;
        let at = TopicPartition::new(TopicName::new("test-dead-letters")?, 0);
        let fetched = driver.log().fetch(&at, 0, usize::MAX)?;
        let letter = fetched.records.get(0).ok_or("there is no dead letter")?;
        let headers = Headers::decode(letter.headers)?;
        let header = |name: &str| headers.last(name).flatten().map(String::from_utf8_lossy);
        assert_eq!((fetched.records.len(), letter.timestamp), (1, BEGIN + DAY));
        assert_eq!((letter.key, letter.value, header("trace")), (None, None, Some("7".into())));
        assert_eq!(header("__streams.errors.offset"), Some("5".into()));
        let cause = "its timestamp is 1793577600000, too far ahead of its partition's time, which stood at 1793491200000; no records of enough other keys agree with it";
        assert_eq!(header("__streams.errors.message"), Some(cause.into()));
    }
    Ok(())
}

/// What a new version reads in another way when it passes is a dead letter where it cannot, and the rest goes on.
#[test]
fn a_held_record_that_a_new_version_cannot_read_is_a_dead_letter() -> Outcome {
    let version = |sign: i64| -> Outcome<Topology> {
        let builder = StreamsBuilder::new();
        let consumed = Consumed::<String, i64>::default().timestamp(move |value| sign * value);
        builder.stream_with("in", consumed.max_ahead(bound_of(HOUR))).to("out");
        Ok(builder.build()?)
    };
    let driver = TopologyTestDriver::new(version(1)?)?.by_hand();
    driver.input_topic::<String, i64>("in").pipe_input("a".to_owned(), 7, 7)?;
    driver.run_until_idle()?;
    driver.commit()?;
    driver.upgrade(version(-1)?)?;
    driver.finish_input()?;
    let written = |topic: &str| -> Outcome<i64> {
        Ok(driver.log().offsets(&TopicPartition::new(TopicName::new(topic)?, 0))?.end)
    };
    assert_eq!((written("out")?, written("test-dead-letters")?), (0, 1));
    driver.crash();
    driver.restart()?;
    driver.finish_input()?;
    assert_eq!(written("test-dead-letters")?, 1, "once");
    Ok(())
}

/// Tells the stream time at each record, and when it has come to the next ten seconds.
struct Timed;

impl Timed {
    fn make(context: &mut InitContext<'_>) -> Result<Self, ProcessorError> {
        context.schedule(Duration::from_secs(10), PunctuationType::StreamTime);
        Ok(Self)
    }
}

impl Processor<String, i64> for Timed {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        let time = context.current_stream_time();
        context.forward(record.with_value(time));
        Ok(())
    }

    fn punctuate(
        &mut self,
        _: Cancellable,
        time: Timestamp,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        context.forward(Record::new("told".to_owned(), time, time));
        Ok(())
    }
}

/// Neither stream time, nor what is scheduled by it, nor which of two sources goes first is moved by a wrong clock.
#[test]
fn users_processors_and_other_sources_see_no_wrong_time() -> Outcome {
    let read = |wrong: Option<Sent>, rows_max| -> Outcome<Vec<(String, i64, Timestamp)>> {
        let builder = StreamsBuilder::new();
        let bounded = || Consumed::<String, i64>::default().max_ahead(bound_of(HOUR));
        let both =
            builder.stream_with("in", bounded()).merge(&builder.stream_with("other", bounded()));
        both.process(Timed::make, &[]).to("out");
        let config = StreamsConfig::new("test").with_batch_rows_max(rows_max);
        let driver =
            TopologyTestDriver::with(builder.build()?, config, &BTreeMap::new())?.by_hand();
        let mut first = fleet(5, BEGIN, 60);
        first.splice(50..50, wrong);
        pipe(&driver, "in", &first)?;
        pipe(&driver, "other", &fleet(3, BEGIN + 500, 70))?;
        driver.finish_input()?;
        let rows = driver.output_topic::<String, i64>("out").read_records_to_list()?;
        Ok(rows.into_iter().map(|row| (row.key, row.value, row.timestamp)).collect())
    };
    let expected = read(None, 2_048)?;
    for rows_max in [1, 7, 2_048] {
        assert_eq!(read(Some(sent("car-1", BEGIN + YEAR)), rows_max)?, expected);
    }
    Ok(())
}

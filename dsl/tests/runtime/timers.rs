//! Work that processors schedule: timers by key, which are committed state, and punctuations.

use headwater_core::{record::Timestamp, serde::for_type};
use headwater_dsl::{KStream, StreamsBuilder};
use headwater_engine::{
    processor::{Cancellable, Context, Processor, ProcessorError, PunctuationType, Record},
    runtime::StreamsConfig,
    store::Timers,
    topology::Topology,
};
use headwater_testkit::TopologyTestDriver;
use proptest::prelude::*;
use std::{collections::BTreeMap, error::Error, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// For a value of n schedules a timer n ms after the record; for one of -n cancels the timer at n. Forwards what fires.
struct Remind {
    timers: Timers<String>,
}

impl Processor<String, i64> for Remind {
    type KOut = String;
    type VOut = String;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, String>,
    ) -> Result<(), ProcessorError> {
        match record.value {
            after if after >= 0 => {
                context.schedule_timer(self.timers, &record.key, record.timestamp + after)?;
            }
            at => context.cancel_timer(self.timers, &record.key, -at)?,
        }
        let seen = format!("seen at {}", context.current_stream_time());
        context.forward(record.with_value(seen));
        Ok(())
    }

    fn on_timer(
        &mut self,
        key: String,
        time: Timestamp,
        context: &mut Context<'_, String, String>,
    ) -> Result<(), ProcessorError> {
        assert!(context.record_metadata().is_none(), "a timer is about no record");
        let value = format!("fired at {}", context.current_stream_time());
        // Each fires once more, 5 ms later, and then no more.
        if key.len() < 5 {
            context.schedule_timer(self.timers, &format!("{key}-again"), time + 5)?;
        }
        context.forward(Record::new(key, value, time));
        Ok(())
    }
}

fn remind(builder: &StreamsBuilder, stream: &KStream<String, i64>) -> KStream<String, String> {
    builder.add_state_store(Timers::<String>::builder("reminders", for_type()));
    stream.process(|context| Ok(Remind { timers: context.timers("reminders")? }), &["reminders"])
}

fn reminders() -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    remind(&builder, &builder.stream("in")).to("out");
    Ok(builder.build()?)
}

/// A driver that moves when it is told to.
fn driver(topology: Topology, rows_max: usize) -> Outcome<TopologyTestDriver> {
    let config = StreamsConfig::new("test").with_batch_rows_max(rows_max);
    Ok(TopologyTestDriver::with(topology, config, &BTreeMap::new())?.by_hand())
}

/// Pipes records written `key=value@timestamp`, and commits.
fn pipe(driver: &TopologyTestDriver, records: &str) -> Outcome {
    let input = driver.input_topic::<String, i64>("in");
    for record in records.split_whitespace() {
        let (key, rest) = record.split_once('=').ok_or("no =")?;
        let (value, timestamp) = rest.split_once('@').ok_or("no @")?;
        input.pipe_input(key.into(), value.parse()?, timestamp.parse()?)?;
    }
    driver.run_until_idle()?;
    Ok(driver.commit()?)
}

/// All that was ever written to `out`.
fn read(driver: &TopologyTestDriver) -> Outcome<Vec<String>> {
    let rows = driver.output_topic::<String, String>("out").read_records_to_list()?;
    Ok(rows.into_iter().map(|r| format!("{} {}@{}", r.key, r.value, r.timestamp)).collect())
}

#[test]
fn timers_fire_right_after_the_record_that_makes_them_due_by_time_and_then_key() -> Outcome {
    for rows_max in [1, 2, 8_192] {
        let driver = driver(reminders()?, rows_max)?;
        pipe(&driver, "b=10@0 a=10@0 c=3@1 d=90@2 x=0@9 d=-92@9 e=1@30")?;
        let expected = [
            "b seen at 0@0",
            "a seen at 0@0",
            "c seen at 1@1",
            "d seen at 2@2",
            "x seen at 9@9",
            "c fired at 9@4",
            // Due at once, with the record counted in, as is `c-again`: by key.
            "c-again fired at 9@9",
            "x fired at 9@9",
            "d seen at 9@9",
            "e seen at 30@30",
            "a fired at 30@10",
            "b fired at 30@10",
            "x-again fired at 30@14",
            "a-again fired at 30@15",
            "b-again fired at 30@15",
        ];
        assert_eq!(read(&driver)?, expected, "{rows_max} rows a batch");
    }
    Ok(())
}

#[test]
fn pending_timers_survive_crashes_with_and_without_their_state_and_fire_once() -> Outcome {
    let mut runs = Vec::new();
    for crash in [None, Some(false), Some(true)] {
        let driver = driver(reminders()?, 8_192)?;
        // More than are read from the state at a time.
        let records: Vec<String> =
            (0..3_000).map(|n| format!("k{:04}={}@0", n * 7 % 3_000, 10 + n % 500)).collect();
        let later = ["a=1@100", "a=-1@200 b=7@200", "c=2@350", "d=1000@1000"];
        for group in [&records.join(" ")[..]].iter().chain(&later) {
            pipe(&driver, group)?;
            match crash {
                None => continue,
                Some(false) => driver.crash(),
                Some(true) => driver.lose_state(),
            }
            driver.restart()?;
        }
        let rows = read(&driver)?;
        assert_eq!(rows.iter().filter(|row| row.contains(" fired ")).count(), 3_000 + 6);
        runs.push(rows);
    }
    assert!(runs.iter().all(|run| *run == runs[0]), "a crash shows");
    Ok(())
}

#[test]
fn below_a_repartition_timers_fire_by_the_time_that_is_carried() -> Outcome {
    for rows_max in [1, 8_192] {
        let builder = StreamsBuilder::new();
        let cars = builder.stream::<String, i64>("in").filter(|_, value| *value != 0);
        let cars = cars.group_by(|car, _| car.clone()).reduce(|_, value| value, "last");
        let cars = cars.to_stream().drop_null_values().select_key(|car, _| car.clone());
        remind(
            &builder,
            &cars.group_by_key().reduce(|_, v| v, "again").to_stream().drop_null_values(),
        )
        .to("out");
        let driver = driver(builder.build()?, rows_max)?;
        pipe(&driver, "a=10@0")?;
        assert_eq!(read(&driver)?, ["a seen at 0@0"]);
        // The record itself is filtered out; its time is carried.
        pipe(&driver, "a=0@20")?;
        driver.crash();
        driver.restart()?;
        pipe(&driver, "a=0@40")?;
        assert_eq!(
            read(&driver)?,
            ["a seen at 0@0", "a fired at 0@10", "a-again fired at 0@15"],
            "{rows_max} rows a batch"
        );
    }
    Ok(())
}

/// From a value of 1 on punctuates every 10 ms of stream time, until a value of 2.
#[derive(Default)]
struct Ticks {
    scheduled: Option<Cancellable>,
}

impl Processor<String, i64> for Ticks {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        match record.value {
            1 => {
                let every = Duration::from_millis(10);
                self.scheduled = Some(context.schedule(every, PunctuationType::StreamTime));
            }
            2 => self.scheduled.take().into_iter().for_each(|which| context.cancel(which)),
            _ => {}
        }
        context.forward(record);
        Ok(())
    }

    fn punctuate(
        &mut self,
        _: Cancellable,
        time: Timestamp,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        context.forward(Record::new("tick".into(), 0, time));
        Ok(())
    }
}

#[test]
fn what_is_scheduled_while_processing_fires_where_it_falls_due_at_any_batch_size() -> Outcome {
    let mut runs = Vec::new();
    for rows_max in [1, 2, 7, 8_192] {
        let builder = StreamsBuilder::new();
        let stream = builder.stream::<String, i64>("in").filter(|_, value| *value != 9);
        let ticks = stream.process(|_| Ok(Ticks::default()), &[]);
        // Below it, one more, with timers: what time is there when a tick comes, and what fires between.
        remind(&builder, &ticks.map_values(|value| value + 3)).to("out");
        let driver = driver(builder.build()?, rows_max)?;
        pipe(&driver, "a=0@1 a=1@3 a=9@10 a=9@12 a=0@17 a=9@31 a=9@45 a=0@46 a=2@47 a=0@99")?;
        pipe(&driver, "a=1@100 a=9@140")?;
        runs.push(read(&driver)?);
    }
    let ticks: Vec<&String> = runs[0].iter().filter(|row| row.starts_with("tick seen")).collect();
    let expected = [10, 31, 45, 140].map(|at| format!("tick seen at {at}@{at}"));
    assert_eq!(ticks, expected.iter().collect::<Vec<_>>());
    assert!(runs.iter().all(|run| *run == runs[0]), "the size of a batch shows: {runs:#?}");
    Ok(())
}

/// All of what a run of `records` writes, in groups of ten that are committed each.
fn run(records: &[(u8, i64, i64)], diamond: bool, rows_max: usize) -> Outcome<Vec<String>> {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, i64>("in").filter(|_, value| value % 9 != 0);
    let ticks = stream.process(|_| Ok(Ticks::default()), &[]);
    // The value decides whether a timer is set or cancelled.
    let mut reminded = ticks.map_values(|value| if value % 4 == 3 { -value } else { value });
    if diamond {
        reminded = reminded.merge(&ticks.filter(|_, value| value % 2 == 0));
        stream.map_values(|value| format!("side {value}")).to("out");
    }
    remind(&builder, &reminded).to("out");
    let driver = driver(builder.build()?, rows_max)?;
    for group in records.chunks(10) {
        let group = group.iter().map(|(key, value, at)| format!("k{key}={value}@{at}"));
        pipe(&driver, &group.collect::<Vec<_>>().join(" "))?;
    }
    read(&driver)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_size_of_a_batch_never_shows_in_what_is_scheduled(
        records in prop::collection::vec((0..3_u8, 0..40_i64, 0..150_i64), 1..40),
        diamond in any::<bool>(),
    ) {
        let expected = run(&records, diamond, 1).expect("the driver does as it is told");
        for rows_max in [2, 7, 8_192] {
            let seen = run(&records, diamond, rows_max).expect("the driver does as it is told");
            prop_assert_eq!(&expected, &seen, "{} rows a batch", rows_max);
        }
    }
}

/// Punctuates every second of the wall clock.
struct Seconds;

impl Processor<String, i64> for Seconds {
    type KOut = String;
    type VOut = String;

    fn process(
        &mut self,
        _: Record<String, i64>,
        _: &mut Context<'_, String, String>,
    ) -> Result<(), ProcessorError> {
        Ok(())
    }

    fn punctuate(
        &mut self,
        _: Cancellable,
        time: Timestamp,
        context: &mut Context<'_, String, String>,
    ) -> Result<(), ProcessorError> {
        context.forward(Record::new("second".into(), String::new(), time));
        Ok(())
    }
}

#[test]
fn a_clock_that_is_set_back_stops_no_punctuation() -> Outcome {
    let builder = StreamsBuilder::new();
    let seconds = builder.stream::<String, i64>("in").process(
        |context| {
            context.schedule(Duration::from_secs(1), PunctuationType::WallClockTime);
            Ok(Seconds)
        },
        &[],
    );
    seconds.to("out");
    let driver = driver(builder.build()?, 1)?;
    driver.set_wall_clock_time(7_200_000);
    for _ in 0..5 {
        driver.advance_wall_clock_time(Duration::from_secs(1))?;
    }
    driver.set_wall_clock_time(3_605_000);
    for _ in 0..60 {
        driver.advance_wall_clock_time(Duration::from_secs(1))?;
    }
    let rows = driver.output_topic::<String, String>("out").read_records_to_list()?;
    let times: Vec<Timestamp> = rows.into_iter().map(|row| row.timestamp).collect();
    let wall_clock = (1..=5).map(|n| 7_200_000 + n * 1_000);
    let wall_clock = wall_clock.chain((1..=60).map(|n| 3_605_000 + n * 1_000));
    assert_eq!(times, wall_clock.collect::<Vec<_>>(), "it is told what the wall clock says");
    Ok(())
}

/// Punctuates by the wall clock at two intervals.
struct TwoPaces {
    slow: Cancellable,
}

impl Processor<String, i64> for TwoPaces {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        _: Record<String, i64>,
        _: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        Ok(())
    }

    fn punctuate(
        &mut self,
        which: Cancellable,
        time: Timestamp,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        let pace = if which == self.slow { "slow" } else { "fast" };
        context.forward(Record::new(pace.into(), 0, time));
        Ok(())
    }
}

#[test]
fn punctuations_that_are_late_fire_in_the_order_in_which_they_were_due() -> Outcome {
    for (steps, expected) in [(10, "fast=0@9000 slow=0@10000"), (1, "fast=0@10000 slow=0@10000")] {
        let builder = StreamsBuilder::new();
        let paces = builder.stream::<String, i64>("in").process(
            |context| {
                let mut of = |seconds| {
                    context.schedule(Duration::from_secs(seconds), PunctuationType::WallClockTime)
                };
                let slow = of(10);
                of(9);
                Ok(TwoPaces { slow })
            },
            &[],
        );
        paces.to("out");
        let driver = driver(builder.build()?, 1)?;
        for _ in 0..steps {
            driver.advance_wall_clock_time(Duration::from_secs(10) / steps)?;
        }
        assert_eq!(driver.read::<String, i64>("out")?, expected, "{steps} steps");
    }
    Ok(())
}

#[test]
fn timers_belong_to_one_processor_and_have_its_key() -> Outcome {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, i64>("in");
    remind(&builder, &stream).to("out");
    stream
        .process(|context| Ok(Remind { timers: context.timers("reminders")? }), &["reminders"])
        .to("out");
    let refused = driver(builder.build()?, 1).err().ok_or("two owners were taken")?;
    let refused = refused.source().map(ToString::to_string).unwrap_or_default();
    assert!(refused.contains("another processor's"), "{refused}");

    let builder = StreamsBuilder::new();
    builder.add_state_store(Timers::<i64>::builder("numbers", for_type()));
    let stream = builder.stream::<String, i64>("in");
    let supplier = |context: &mut headwater_engine::processor::InitContext<'_>| {
        let _timers = context.timers::<i64>("numbers")?;
        Ok(Ticks::default())
    };
    stream.process(supplier, &["numbers"]).to("out");
    let refused = driver(builder.build()?, 1).err().ok_or("timers of another key were taken")?;
    let refused = refused.source().map(ToString::to_string).unwrap_or_default();
    assert!(refused.contains("keys of another type"), "{refused}");
    Ok(())
}

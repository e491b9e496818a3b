//! How long a call takes shows in no result: neither in what processors below know of time, nor in what is read and written
//! there on another way too.

use crate::calls::Desk;
use headwater_core::serde::for_type;
use headwater_dsl::{KStream, Materialized, StreamsBuilder, TimeWindows};
use headwater_engine::{
    processor::{Cancellable, Context, Processor, ProcessorError, PunctuationType, Record},
    runtime::StreamsConfig,
    store::{KeyValueStore, StoreKey, Timers},
    topology::{RecordContext, Topology, TopologyError},
};
use headwater_testkit::TopologyTestDriver;
use std::{error::Error, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Records, each for a topic; a value is asked for once.
type Records<'a> = [(&'a str, &'a str)];

/// When calls are answered.
#[derive(Debug, Clone, Copy)]
enum Answers {
    /// On the spot.
    AtOnce,
    /// Once nothing else is left to do, the last first.
    Late,
    /// So, after a commit and a crash.
    AfterCrash,
}

/// What is in `out` at the end: after each record, or, in batches of so many rows, after all.
fn run(
    draw: &impl Fn(&StreamsBuilder, &Desk),
    records: &Records<'_>,
    answers: Answers,
    rows_max: Option<usize>,
) -> Outcome<String> {
    let (desk, builder) = (Desk::default(), StreamsBuilder::new());
    draw(&builder, &desk);
    let values = 1..=9_i64;
    let answer = || values.clone().rev().for_each(|value| desk.answer(value));
    if let Answers::AtOnce = answers {
        answer();
    }
    let config = StreamsConfig::new("test").with_batch_rows_max(rows_max.unwrap_or(1));
    let driver = TopologyTestDriver::with(builder.build()?, config, &[].into())?;
    let driver = if rows_max.is_some() { driver.by_hand() } else { driver };
    for (topic, records) in records {
        driver.pipe::<String, i64>(topic, records)?;
    }
    let go_on = || -> Outcome {
        driver.run_until_idle()?;
        Ok(driver.commit()?)
    };
    go_on()?;
    if let Answers::AfterCrash = answers {
        driver.crash();
        driver.lose_state();
        driver.restart()?;
        go_on()?;
    }
    for value in values.clone().rev() {
        desk.answer(value);
        go_on()?;
    }
    // Answers to answers.
    for value in values.rev() {
        desk.answer(value * 100);
        go_on()?;
    }
    Ok(driver.read::<String, i64>("out")?)
}

/// Whenever calls are answered and however large batches are, the same comes out.
fn check(draw: impl Fn(&StreamsBuilder, &Desk), records: &Records<'_>, expected: &str) -> Outcome {
    for answers in [Answers::AtOnce, Answers::Late, Answers::AfterCrash] {
        for rows_max in [None, Some(1), Some(100)] {
            let out = run(&draw, records, answers, rows_max)?;
            assert_eq!(out, expected, "{answers:?}, in batches of {rows_max:?}");
        }
    }
    Ok(())
}

/// `topic`, each value asked for.
fn asked(builder: &StreamsBuilder, topic: &str, desk: &Desk) -> KStream<String, i64> {
    let desk = desk.clone();
    builder
        .stream::<String, i64>(topic)
        .map_values_async(8, move |_, value| desk.clone().ask(value))
}

/// Forwards what it knows of time: with each record stream time, and every 10 ms how many records there were.
struct Clock {
    seen: i64,
}

impl Processor<String, i64> for Clock {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        self.seen += 1;
        assert!(context.record_metadata().is_none(), "that depends on when it comes");
        let time = context.current_stream_time();
        context.forward(record.with_value(time));
        Ok(())
    }

    fn punctuate(
        &mut self,
        _: Cancellable,
        time: i64,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        assert_eq!(context.current_stream_time(), time);
        context.forward(Record::new("seen".to_owned(), self.seen, time));
        Ok(())
    }
}

#[test]
fn stream_time_is_that_of_the_record_when_it_was_taken() -> Outcome {
    let draw = |builder: &StreamsBuilder, desk: &Desk| {
        let clock = asked(builder, "in", desk).process(
            |context| {
                context.schedule(Duration::from_millis(10), PunctuationType::StreamTime);
                Ok(Clock { seen: 0 })
            },
            &[],
        );
        clock.to("out");
    };
    let records = [("in", "a=1@0 a=2@5 b=3@100 a=4@50")];
    check(draw, &records, "a=0@0 seen=1@0 a=5@5 b=100@100 seen=3@100 a=100@50")
}

/// Counts records by key, and forwards the count 10 ms after each.
struct Count {
    counts: StoreKey<KeyValueStore<String, i64>>,
    timers: Timers<String>,
}

impl Processor<String, i64> for Count {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        let Record { key, timestamp, .. } = record;
        context.schedule_timer(self.timers, &key, timestamp + 10)?;
        let count = |count: &mut Option<i64>, _: &mut i64| *count = Some(count.unwrap_or(0) + 1);
        Ok(context.store(self.counts).update(&key, count)?)
    }

    fn on_timer(
        &mut self,
        key: String,
        time: i64,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        let count = context.store(self.counts).get(&key)?.map_or(0, |count| count.value);
        context.forward(Record::new(key, count, time));
        Ok(())
    }
}

fn count(builder: &StreamsBuilder, stream: &KStream<String, i64>) -> KStream<String, i64> {
    builder.add_state_store(Timers::<String>::builder("timers", for_type()));
    builder.add_state_store(KeyValueStore::<String, i64>::builder("n", for_type(), for_type()));
    let count = |context: &mut headwater_engine::processor::InitContext<'_>| {
        Ok(Count { counts: context.store("n")?, timers: context.timers("timers")? })
    };
    stream.process(count, &["timers", "n"])
}

#[test]
fn timers_fire_as_the_time_of_records_moves() -> Outcome {
    let draw = |builder: &StreamsBuilder, desk: &Desk| {
        count(builder, &asked(builder, "in", desk)).to("out");
    };
    check(draw, &[("in", "a=1@0 a=2@5 b=3@100 c=4@111")], "a=2@10 a=2@15 b=1@110")
}

#[test]
fn a_processor_below_another_lives_by_what_that_forwards() -> Outcome {
    let draw = |builder: &StreamsBuilder, desk: &Desk| {
        let later = |record: Record<String, i64>, context: &mut Context<'_, String, i64>| {
            let timestamp = record.timestamp + 1_000;
            context.forward(record.with_timestamp(timestamp));
            Ok(())
        };
        let later = asked(builder, "in", desk).process_fn(later, &[]);
        count(builder, &later).to("out");
    };
    check(draw, &[("in", "a=1@0 a=2@5 b=3@100")], "a=2@1010 a=2@1015")
}

#[test]
fn a_table_is_joined_as_it_was_when_the_record_was_taken() -> Outcome {
    let draw = |builder: &StreamsBuilder, desk: &Desk| {
        let table = builder.table::<String, i64>("table");
        asked(builder, "in", desk).join(&table, |value, row| value + row).to("out");
    };
    let records = [
        ("table", "a=70@0"),
        ("in", "a=1@1"),
        ("table", "a=80@5"),
        ("in", "a=2@6 a=3@7"),
        ("table", "a=90@8"),
        ("in", "a=4@9"),
    ];
    check(draw, &records, "a=170@1 a=280@6 a=380@7 a=490@9")
}

/// What a record leads to on another way comes before what its call answers, however soon that is.
#[test]
fn a_table_of_the_same_records_has_the_record_and_none_after_it() -> Outcome {
    for table_first in [true, false] {
        let draw = |builder: &StreamsBuilder, desk: &Desk| {
            let kept = Materialized::named("table").with_caching_disabled();
            let newest = |builder: &StreamsBuilder| {
                builder.stream::<String, i64>("in").to_table::<i64>(kept.clone())
            };
            let (asked, table) = if table_first {
                let table = newest(builder);
                (asked(builder, "in", desk), table)
            } else {
                (asked(builder, "in", desk), newest(builder))
            };
            asked.join(&table, |value, row| value + row).to("out");
        };
        check(draw, &[("in", "a=1@1 a=2@2 a=3@3")], "a=101@1 a=202@2 a=303@3")?;
    }
    Ok(())
}

#[test]
fn merged_streams_are_in_the_order_of_their_records() -> Outcome {
    let draw = |builder: &StreamsBuilder, desk: &Desk| {
        let merged = asked(builder, "in", desk).merge(&builder.stream("other"));
        let windows = TimeWindows::of_size_with_no_grace(Duration::from_millis(10));
        let kept = Materialized::named("sums").with_caching_disabled();
        let sums = merged.group_by(|_, _| "all".to_owned()).windowed_by(windows);
        sums.reduce(|sum, value| sum + value, kept)
            .to_stream()
            .map(|key, sum| (key.window.start.to_string(), sum.unwrap_or_default()))
            .to("out");
    };
    let records = [("in", "a=1@1"), ("other", "b=7@100"), ("in", "a=2@101"), ("other", "b=8@102")];
    check(draw, &records, "0=100@1 100=7@100 100=207@101 100=215@102")
}

#[test]
fn calls_below_calls_are_in_the_order_of_their_records() -> Outcome {
    let draw = |builder: &StreamsBuilder, desk: &Desk| {
        let once = asked(builder, "in", desk);
        let desk = desk.clone();
        let twice = once.map_values_async(8, move |_, value| desk.clone().ask(value));
        once.merge(&twice).to("out");
    };
    check(draw, &[("in", "a=1@1 a=2@2")], "a=100@1 a=10000@1 a=200@2 a=20000@2")
}

#[test]
fn a_sink_that_chooses_topics_is_told_no_place() -> Outcome {
    let draw = |builder: &StreamsBuilder, desk: &Desk| {
        let asked = asked(builder, "in", desk);
        asked.to_dynamic(
            |_: &String, _: &i64, about: &RecordContext<'_>| {
                if about.record_metadata().is_none() { "out" } else { "placed" }
            },
        );
        asked.filter(|_, _| false).to("out");
    };
    check(draw, &[("in", "a=1@1 a=2@2")], "a=100@1 a=200@2")
}

/// Where nothing else touches what lies below, and in a run of records where something does.
#[test]
fn calls_are_under_way_together() -> Outcome {
    let in_one_run = |draw: fn(&StreamsBuilder, &Desk)| -> Result<Vec<i64>, Box<dyn Error>> {
        let (desk, builder) = (Desk::default(), StreamsBuilder::new());
        draw(&builder, &desk);
        let topology: Result<Topology, TopologyError> = builder.build();
        let driver = TopologyTestDriver::new(topology?)?.by_hand();
        driver.pipe::<String, i64>("in", "a=1@1 b=2@2 c=3@3")?;
        driver.run_until_idle()?;
        Ok(desk.asked())
    };
    let counted = |builder: &StreamsBuilder, desk: &Desk| {
        count(builder, &asked(builder, "in", desk)).to("out");
    };
    assert_eq!(in_one_run(counted)?, [1, 2, 3]);
    let joined = |builder: &StreamsBuilder, desk: &Desk| {
        let table = builder.table::<String, i64>("table");
        asked(builder, "in", desk).join(&table, |value, row| value + row).to("out");
    };
    assert_eq!(in_one_run(joined)?, [1, 2, 3]);
    Ok(())
}

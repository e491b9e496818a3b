//! Time, ends of input and punctuations, where `time.rs` beside this folder leaves off.

use super::kit::{Outcome, by_hand, config, holds, key_in, read, read_windows, take, windows};
use headwater_core::record::Timestamp;
use headwater_dsl::{EmitStrategy, KStream, KTable, StreamsBuilder};
use headwater_engine::{
    processor::{
        Cancellable, Context, InitContext, Processor, ProcessorError, PunctuationType, Record,
    },
    store::Windowed,
    topology::Topology,
};
use headwater_testkit::TopologyTestDriver;
use std::{collections::BTreeMap, time::Duration};

/// Counts of windows that come out when they close.
fn finals(stream: &KStream<String, i64>, grace: u64, name: &str) -> KTable<Windowed<String>, i64> {
    let grouped = stream.group_by_key().windowed_by(windows(10, grace));
    grouped.emit_strategy(EmitStrategy::on_window_close()).count(name)
}

/// The counts of `finals` under their own keys, marked for a repartition.
fn by_key(finals: &KTable<Windowed<String>, i64>) -> KStream<String, i64> {
    finals.to_stream().drop_null_values().map(|key, count| (key.key, count))
}

fn finals_of_finals(first_grace: u64, second_grace: u64) -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, i64>("in").select_key(|key, _| key.clone());
    let first = by_key(&finals(&stream, first_grace, "first"));
    let all = first.select_key(|_, _| "all".to_owned());
    finals(&all, second_grace, "second").named("second").to_stream().to("out");
    Ok(builder.build()?)
}

/// The second end of input reaches tasks that have taken nothing since the first.
#[test]
fn a_second_end_of_input_closes_windows_below_windows() {
    holds("all[0]=1@5 all[100]=1@105", || {
        let driver = by_hand(finals_of_finals(0, 0)?, 1)?;
        for record in ["a=0@5", "a=0@105"] {
            take(&driver, record)?;
            driver.finish_input()?;
        }
        read_windows(&driver)
    });
}

/// The first window stays open for a grace of 50, while its task has nothing to take: its final, of 5, is not late for
/// windows without grace, for their writer has told that it may still send it.
#[test]
fn windows_that_are_open_in_a_pause_are_not_late_below() {
    holds("all[0]=1@5 all[40]=1@40 all[200]=1@200, 0 dropped", || {
        let driver = by_hand(finals_of_finals(50, 0)?, 2)?;
        let (first, other) = (key_in(0), key_in(1));
        take(&driver, &format!("{first}=0@5"))?;
        take(&driver, &format!("{other}=0@40"))?;
        take(&driver, &format!("{other}=0@200"))?;
        driver.finish_input()?;
        Ok(format!("{}, {} dropped", read_windows(&driver)?, driver.dropped_records("second")?))
    });
}

/// A partition that is read to its end holds no time back, also after its task has flushed a cache.
#[test]
fn a_flush_does_not_make_an_idle_partition_hold_time_back() {
    holds("true", || {
        let builder = StreamsBuilder::new();
        let counts = builder.stream::<String, i64>("in").group_by_key().count("counts").to_stream();
        let marked = counts.drop_null_values().select_key(|key, _| key.clone());
        finals(&marked, 0, "windows").to_stream().to("out");
        let driver = by_hand(builder.build()?, 2)?;
        let (ended, going_on) = (key_in(1), key_in(0));
        take(&driver, &format!("{ended}=0@5 {going_on}=0@6"))?;
        for timestamp in [100, 200, 300] {
            take(&driver, &format!("{going_on}=0@{timestamp}"))?;
        }
        let rows = read_windows(&driver)?;
        let closed = |key: &str| rows.contains(&format!("{key}[0]=1@"));
        Ok(format!("{}", closed(&ended) && closed(&going_on)))
    });
}

/// Replaces the value with the stream time, and tells when a punctuation is due.
struct Timed;

impl Timed {
    fn every_50_ms(
        kind: PunctuationType,
    ) -> impl Fn(&mut InitContext<'_>) -> Result<Self, ProcessorError> {
        move |context| {
            context.schedule(Duration::from_millis(50), kind);
            Ok(Self)
        }
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

/// What comes out of `draw`, if it is the same at every batch size.
fn at_every_size(
    draw: impl Fn(KStream<String, i64>) -> KStream<String, i64>,
    records: &str,
) -> Outcome<String> {
    let mut seen = Vec::new();
    for rows_max in [1, 2, 8_192] {
        let builder = StreamsBuilder::new();
        draw(builder.stream("in")).to("out");
        let driver =
            TopologyTestDriver::with(builder.build()?, config(rows_max), &BTreeMap::new())?
                .by_hand();
        take(&driver, records)?;
        seen.push(read(&driver, "out")?);
    }
    seen.dedup();
    Ok(seen.join(" or "))
}

/// The final of 5 is made by the record at 12, which is then the largest taken; that at 13 comes after it.
#[test]
fn stream_time_at_a_final_is_that_of_the_record_that_closed_its_window() {
    holds("a=12@5", || {
        at_every_size(
            |stream| {
                let finals = by_key(&finals(&stream, 0, "windows"));
                finals.process(Timed::every_50_ms(PunctuationType::WallClockTime), &[])
            },
            "a=0@5 a=0@12 a=0@13",
        )
    });
}

/// The row at 5 makes a punctuation due below the repartition; the time mark of 60 comes after it and closes the window.
#[test]
fn a_punctuation_comes_before_the_time_marks_that_follow_its_record() {
    holds("told=5@5 a=5@5", || {
        at_every_size(
            |stream| {
                let kept = stream.select_key(|key, _| key.clone()).filter(|_, value| *value == 0);
                let finals = by_key(&finals(&kept, 0, "windows"));
                finals.process(Timed::every_50_ms(PunctuationType::StreamTime), &[])
            },
            "a=0@5 a=1@60",
        )
    });
}

/// A table that is joined above a repartition and below it makes one sub-topology that feeds itself.
#[test]
fn input_can_be_complete_where_a_sub_topology_feeds_itself() {
    holds("r=12@1", || {
        let builder = StreamsBuilder::new();
        let table = builder.table::<String, i64>("table");
        let stream = builder.stream::<String, i64>("in");
        let joined = stream.left_join(&table, |value, side| value + side.unwrap_or(10));
        let rekeyed = joined.select_key(|_, _| "r".to_owned());
        rekeyed.left_join(&table, |value, side| value + side.unwrap_or(1)).to("out");
        let mut run = super::runtime::Bounded::start(builder.build()?)?;
        run.append("in", "a=1@1")?;
        run.driver.finish()?;
        run.read("out")
    });
}

//! Dead letters and drops: what they carry, where they are counted, and that no batch shows in them.

use super::kit::{Outcome, by_hand, config, holds, letters, pipe, read, take, windows};
use headwater_core::{
    record::Timestamp,
    serde::{I64, Serde, SerdeError, Utf8},
};
use headwater_dsl::{EmitStrategy, KStream, StreamsBuilder};
use headwater_engine::{
    processor::{
        Cancellable, Context, InitContext, Processor, ProcessorError, PunctuationType, Record,
    },
    runtime::BadRecord,
    topology::Produced,
};
use headwater_testkit::TopologyTestDriver;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Refuses values below 0, and forwards others.
struct RefuseNegative;

impl Processor<String, i64> for RefuseNegative {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        if record.value < 0 {
            return Err(ProcessorError::record(format!("{} is below 0", record.value)));
        }
        context.forward(record);
        Ok(())
    }
}

/// The letters that are left of `records`, if they are the same at every batch size.
fn letters_at_every_size(
    draw: impl Fn(KStream<String, i64>) -> KStream<String, i64>,
    records: &str,
) -> Outcome<String> {
    let mut seen = Vec::new();
    for rows_max in [1, 2, 8_192] {
        let builder = StreamsBuilder::new();
        draw(builder.stream("in")).process(|_| Ok(RefuseNegative), &[]).to("out");
        let driver =
            TopologyTestDriver::with(builder.build()?, config(rows_max), &BTreeMap::new())?
                .by_hand();
        take(&driver, records)?;
        seen.push(letters(&*driver.log())?);
    }
    seen.dedup();
    Ok(seen.join(" or "))
}

/// A final descends from the record that closed its window, as the reference has it: that is the record at hand.
#[test]
fn a_refused_final_carries_the_record_that_closed_its_window() {
    holds("b=5 1: -1 is below 0", || {
        letters_at_every_size(
            |stream| {
                let grouped = stream.group_by_key().windowed_by(windows(10, 0));
                let finals = grouped.emit_strategy(EmitStrategy::on_window_close()).count("n");
                let counts = finals.to_stream().drop_null_values();
                counts.map(|key, count| (key.key, -count))
            },
            "a=1@1 b=5@11 b=5@12",
        )
    });
}

/// Forwards its records at a time that there is not, in every way there is, and one between that is as it was.
struct Early;

impl Processor<String, i64> for Early {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        let early = record.clone().with_timestamp(-1);
        match record.value {
            1 => context.forward(early),
            2 => context.forward_to("KSTREAM-SINK-out-0000000000", early),
            3 => context.forward_all(vec![early.clone(), record, early]),
            _ => context.forward(record),
        }
        Ok(())
    }

    fn punctuate(
        &mut self,
        _: Cancellable,
        _: Timestamp,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        context.forward(Record::new("tick".to_owned(), 0, -7));
        Ok(())
    }
}

#[test]
fn a_record_forwarded_at_a_negative_time_is_a_dead_letter() {
    let letters_of = |(record, at, times)| {
        let letter = format!("{record}: it was forwarded at {at}, below 0");
        vec![letter; times].join(", ")
    };
    // What a punctuation forwards was made of no record.
    let right = [("a=1 0", -1, 1), ("b=2 1", -1, 1), ("c=3 2", -1, 2), ("-=- -1", -7, 2)];
    let right = format!("c=3@7 d=4@11; {}", right.map(letters_of).join(", "));
    holds(&right, || {
        let builder = StreamsBuilder::new();
        let early = |context: &mut InitContext<'_>| {
            context.schedule(Duration::from_millis(10), PunctuationType::StreamTime);
            Ok(Early)
        };
        builder.stream::<String, i64>("in").process(early, &[]).to("out");
        let driver = by_hand(builder.build()?, 1)?;
        take(&driver, "a=1@5 b=2@6 c=3@7 d=4@11")?;
        Ok(format!("{}; {}", read(&driver, "out")?, letters(&*driver.log())?))
    });
}

#[test]
fn drops_at_a_source_are_counted_over_a_restart() {
    holds("1, 1 after a restart", || {
        let driver = with_a_bad_record_of_the_second_topic()?;
        let before = driver.dropped_records("second")?;
        driver.crash();
        driver.restart()?;
        Ok(format!("{before}, {} after a restart", driver.dropped_records("second")?))
    });
}

/// Writes no number below 0.
struct Unsigned;

impl Serde<i64> for Unsigned {
    fn serialize(&self, value: &i64, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        let detail = format!("{value} is below 0");
        let refused = SerdeError::Malformed { expected: "a number from 0", detail };
        if *value < 0 { Err(refused) } else { I64.serialize(value, out) }
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<i64, SerdeError> {
        I64.deserialize(bytes)
    }

    fn schema(&self) -> String {
        "unsigned".into()
    }
}

/// It descends from the record that it was made of, whatever lies between.
#[test]
fn a_row_of_a_flat_map_that_is_refused_carries_its_record() {
    holds("a=-2 0: -2 is below 0, b=3 1: -1 is below 0, b=3 1: -2 is below 0", || {
        letters_at_every_size(
            |stream| {
                stream.flat_map(|key, value| {
                    let rows = if value < 0 { vec![1, value] } else { vec![-1, 4, -2] };
                    rows.into_iter().map(|value| (key.clone(), value)).collect::<Vec<_>>()
                })
            },
            "a=-2@1 b=3@2",
        )
    });
}

/// No record is at hand at a flush: what is known of the row is its key.
#[test]
fn a_flushed_update_that_is_refused_carries_its_key_if_its_bytes_are_known() {
    holds("sink: a=- -1, b=- -1; store: a=- -1, b=- -1", || {
        let negative = |builder: &StreamsBuilder| {
            let counts = builder.stream::<String, i64>("in").group_by_key().count("n");
            counts.to_stream().drop_null_values().map_values(|count| -count)
        };
        let letters_of = |builder: &StreamsBuilder| {
            let driver = by_hand(builder.build()?, 1)?;
            take(&driver, "a=1@1 b=1@2 b=1@3")?;
            let letters = letters(&*driver.log())?;
            let about = letters.split(", ").filter_map(|letter| letter.split_once(": "));
            Outcome::Ok(about.map(|(about, _)| about.to_owned()).collect::<Vec<_>>().join(", "))
        };
        let (sink, store) = (StreamsBuilder::new(), StreamsBuilder::new());
        negative(&sink).to_with("out", Produced::with(Arc::new(Utf8), Arc::new(Unsigned)));
        let roots = |_: &String, value: i64, mut roots: Vec<f64>| {
            roots.push((value as f64).sqrt());
            roots
        };
        let roots = negative(&store).group_by_key().aggregate(Vec::new, roots, "roots");
        roots.to_stream().to("out");
        Ok(format!("sink: {}; store: {}", letters_of(&sink)?, letters_of(&store)?))
    });
}

#[test]
fn drops_at_a_sink_are_counted_over_a_restart() {
    holds("2, 2 after a restart", || {
        let builder = StreamsBuilder::new();
        let produced = Produced::with(Arc::new(Utf8), Arc::new(Unsigned));
        builder.stream::<String, i64>("in").to_with("out", produced).named("sink");
        let config = config(2_048).with_bad_record(BadRecord::Continue);
        let driver = TopologyTestDriver::with(builder.build()?, config, &BTreeMap::new())?;
        pipe(&driver, "in", "a=-1@1 b=1@2 c=-2@3")?;
        let before = driver.dropped_records("sink")?;
        driver.crash();
        driver.restart()?;
        Ok(format!("{before}, {} after a restart", driver.dropped_records("sink")?))
    });
}

#[test]
fn a_bad_record_is_counted_at_the_source_that_read_it() {
    holds("first 0, second 1", || {
        let driver = with_a_bad_record_of_the_second_topic()?;
        let dropped = |node| driver.dropped_records(node);
        Ok(format!("first {}, second {}", dropped("first")?, dropped("second")?))
    });
}

fn with_a_bad_record_of_the_second_topic() -> Outcome<TopologyTestDriver> {
    let builder = StreamsBuilder::new();
    let first = builder.stream::<String, i64>("in").named("first");
    first.merge(&builder.stream("other").named("second")).to("out");
    let config = config(2_048).with_bad_record(BadRecord::Continue);
    let driver = TopologyTestDriver::with(builder.build()?, config, &BTreeMap::new())?;
    pipe(&driver, "other", "a=-@1")?;
    Ok(driver)
}

//! Input that ends each day, and more that comes the next: an end closes windows, and makes nothing of another day late,
//! whatever lies between, and whatever happens to the application meanwhile.

#![expect(clippy::indexing_slicing, reason = "what fails here fails its test")]

use headwater_dsl::{EmitStrategy, KStream, Materialized, StreamsBuilder, TimeWindows};
use headwater_engine::{
    processor::{Cancellable, Context, Processor, ProcessorError, PunctuationType, Record},
    runtime::{Repartitioning, StreamsConfig},
    topology::Topology,
};
use headwater_testkit::TopologyTestDriver;
use std::{error::Error, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const DAY: i64 = 1_000;
const DAYS: i64 = 3;

/// What happens between two days.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Night {
    Nothing,
    SecondEnd,
    Restart,
    LostState,
}

#[derive(Debug, Clone, Copy)]
struct Way {
    levels: usize,
    emit: EmitStrategy,
    partitions: u32,
    repartitioning: Repartitioning,
    night: Night,
}

const NIGHTS: [Night; 4] = [Night::Nothing, Night::SecondEnd, Night::Restart, Night::LostState];

fn ways() -> impl Iterator<Item = Way> {
    // Each number from 0 on is a choice of all five.
    (0..3 * 2 * 2 * 2 * NIGHTS.len()).map(|number| {
        let mut left = number;
        let mut choose = |among: usize| {
            let chosen = left % among;
            left /= among;
            chosen
        };
        let emits = [EmitStrategy::on_window_close(), EmitStrategy::on_window_update()];
        let repartitionings = [Repartitioning::InMemory, Repartitioning::ThroughTopic];
        let levels = choose(3);
        let (emit, partitions) = (emits[choose(2)], [1, 3][choose(2)]);
        let (repartitioning, night) = (repartitionings[choose(2)], NIGHTS[choose(NIGHTS.len())]);
        Way { levels, emit, partitions, repartitioning, night }
    })
}

fn repartitioned(mut stream: KStream<String, i64>, levels: usize) -> KStream<String, i64> {
    for level in 0..levels {
        // Each is a topic of its own.
        let windows = TimeWindows::of_size_and_grace(Duration::from_millis(1), Duration::ZERO);
        let grouped = stream.group_by(move |key, _| format!("{key}{level}")).windowed_by(windows);
        let finals = grouped.emit_strategy(EmitStrategy::on_window_close());
        let name = format!("level{level}");
        let counts = finals.count(Materialized::named(&name)).named(&name);
        stream = counts.to_stream().drop_null_values().map(|key, count| (key.key, count));
    }
    stream
}

/// Runs three records a key and day; how many results each day has, and how many records were dropped.
fn days(topology: Topology, way: Way) -> Outcome<(Vec<usize>, u64)> {
    let config = StreamsConfig::new("test").with_repartitioning(way.repartitioning);
    let partitions = [("in", way.partitions)].into();
    let driver = TopologyTestDriver::with(topology, config, &partitions)?.by_hand();
    let input = driver.input_topic::<String, i64>("in");
    let mut out = driver.output_topic::<String, Option<i64>>("out");
    let mut results = Vec::new();
    for day in 0..DAYS {
        for at in [1, 5, 12] {
            for key in ["a", "b", "c"] {
                input.pipe_input(key.into(), 1, day * DAY + at)?;
            }
        }
        driver.finish_input()?;
        results.push(out.read_records_to_list()?.len());
        match way.night {
            Night::Nothing => {}
            Night::SecondEnd => {
                driver.finish_input()?;
                driver.finish_input()?;
            }
            Night::Restart => {
                driver.crash();
                driver.restart()?;
            }
            Night::LostState => {
                driver.crash();
                driver.lose_state();
                driver.restart()?;
            }
        }
    }
    let names = ["counts", "level0", "level1"];
    let metrics = driver.metrics()?;
    let of = metrics.iter().filter(|(node, _)| names.contains(&&***node));
    Ok((results, of.map(|(_, metrics)| metrics.dropped.total()).sum()))
}

#[test]
fn each_day_has_its_results_below_any_number_of_repartitions() -> Outcome {
    for way in ways() {
        let builder = StreamsBuilder::new();
        let stream = repartitioned(builder.stream::<String, i64>("in"), way.levels);
        let windows = TimeWindows::of_size_with_no_grace(Duration::from_millis(10));
        let grouped = stream.group_by(|key, _| key.clone()).windowed_by(windows);
        let store = Materialized::named("counts").with_caching_disabled();
        let counts = grouped.emit_strategy(way.emit).count(store).named("counts");
        counts.to_stream().map(|key, count| (key.key, count)).to("out");
        // Two windows of each of three keys, of which the first has two updates.
        let a_day = if way.emit == EmitStrategy::on_window_close() { 6 } else { 9 };
        let (results, dropped) = days(builder.build()?, way)?;
        assert_eq!((results, dropped), (vec![a_day; 3], 0), "{way:?}");
    }
    Ok(())
}

/// Forwards the stream time at each record, and each punctuation by it.
struct Times;

impl Processor<String, i64> for Times {
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
        time: i64,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        context.forward(Record::new("tick".into(), time, time));
        Ok(())
    }
}

#[test]
fn a_processor_never_sees_an_end_as_a_time() -> Outcome {
    for way in ways().filter(|way| way.levels == 1 && way.partitions == 1) {
        let builder = StreamsBuilder::new();
        let stream = builder.stream::<String, i64>("in").select_key(|key, _| key.clone());
        let windows = TimeWindows::of_size_with_no_grace(Duration::from_millis(10));
        let grouped = stream.group_by_key().windowed_by(windows).emit_strategy(way.emit);
        let counts = grouped.count(Materialized::named("counts")).to_stream().drop_null_values();
        let times = counts.map(|key, count| (key.key, count)).process(
            |context| {
                context.schedule(Duration::from_millis(700), PunctuationType::StreamTime);
                Ok(Times)
            },
            &[],
        );
        times.to("out");
        let config = StreamsConfig::new("test").with_repartitioning(way.repartitioning);
        let driver = TopologyTestDriver::with(builder.build()?, config, &[].into())?.by_hand();
        let input = driver.input_topic::<String, i64>("in");
        let mut out = driver.output_topic::<String, i64>("out");
        for day in 0..DAYS {
            input.pipe_input("a".into(), 1, day * DAY + 1)?;
            driver.finish_input()?;
            let seen = out.read_records_to_list()?;
            assert!(!seen.is_empty(), "{way:?}, day {day}");
            for row in seen {
                let of_today = day * DAY..=day * DAY + 10;
                assert!(of_today.contains(&row.value), "{way:?}: {} on day {day}", row.value);
            }
            if way.night == Night::LostState {
                driver.lose_state();
                driver.restart()?;
            }
        }
    }
    Ok(())
}

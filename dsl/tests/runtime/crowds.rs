//! More timers than fire at a time, all made due by one record: what they forward goes a chunk at a time, with commits between
//! unless they were scheduled in the run that makes them due, and neither that nor a kill shows in what comes out.

use headwater_core::{record::Timestamp, serde::for_type};
use headwater_dsl::{KStream, StreamsBuilder};
use headwater_engine::{
    processor::{Context, Processor, ProcessorError, Record},
    runtime::StreamsConfig,
    store::Timers,
    topology::Topology,
};
use headwater_testkit::TopologyTestDriver;
use std::{
    collections::BTreeMap,
    error::Error,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// When all timers fall due.
const DUE: Timestamp = 1_000;

/// How many there are.
const TIMERS: usize = 5_000;

/// How many records schedule them in several runs.
const MANY: usize = 50;

/// How many do in the first run, which has 16 records at most.
const FEW: usize = 10;

/// Schedules so many timers as the value says, and forwards records without, and whatever fires.
struct Crowd(Timers<String>);

impl Processor<String, i64> for Crowd {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        for number in 0..record.value {
            context.schedule_timer(self.0, &format!("{}-{number}", record.key), DUE)?;
        }
        if record.value <= 0 {
            context.forward(record);
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        key: String,
        time: Timestamp,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        let now = context.current_stream_time();
        context.forward(Record::new(key, -now, time));
        Ok(())
    }
}

fn crowd(
    builder: &StreamsBuilder,
    stream: &KStream<String, i64>,
    name: &str,
) -> KStream<String, i64> {
    builder.add_state_store(Timers::<String>::builder(name, for_type()));
    let name = name.to_owned();
    let timers = name.clone();
    stream.process(move |context| Ok(Crowd(context.timers(&timers)?)), &[&name])
}

/// Where the processors lie.
#[derive(Debug, Clone, Copy)]
enum Place {
    AboveARepartition,
    BelowARepartition,
    /// One below the other: what one forwards schedules nothing.
    Two,
}

const PLACES: [Place; 3] = [Place::AboveARepartition, Place::BelowARepartition, Place::Two];

/// The topology, and the most rows of a batch below it.
fn topology(place: Place) -> Outcome<(Topology, Arc<AtomicUsize>)> {
    let (builder, most) = (StreamsBuilder::new(), Arc::new(AtomicUsize::new(0)));
    let stream = builder.stream::<String, i64>("in");
    let fired = match place {
        Place::AboveARepartition => crowd(&builder, &stream, "timers"),
        Place::BelowARepartition => crowd(&builder, &stream.repartition("placed"), "timers"),
        Place::Two => crowd(&builder, &crowd(&builder, &stream, "timers"), "others"),
    };
    watched(&fired, &most).to("out");
    Ok((builder.build()?, most))
}

/// The same stream, with the most rows of its batches in `most`.
fn watched(stream: &KStream<String, i64>, most: &Arc<AtomicUsize>) -> KStream<String, i64> {
    let seen = Arc::clone(most);
    stream.map_values_batch(move |rows| {
        seen.fetch_max(rows.len(), SeqCst);
        rows.iter().map(|row| Ok::<_, String>(row.value)).collect()
    })
}

fn by_hand(topology: Topology, rows_max: usize) -> Outcome<TopologyTestDriver> {
    let config = StreamsConfig::new("test").with_batch_rows_max(rows_max);
    Ok(TopologyTestDriver::with(topology, config, &BTreeMap::new())?.by_hand())
}

/// So many records, which schedule 5,000 timers.
fn pipe_first(driver: &TopologyTestDriver, records: usize) -> Outcome {
    let timers = TIMERS / records;
    let records = (0..records).map(|n| format!("k{n:02}={timers}@{n}"));
    Ok(driver.pipe::<String, i64>("in", &records.collect::<Vec<_>>().join(" "))?)
}

/// Schedules the timers, and commits.
fn scheduled(topology: Topology, rows_max: usize) -> Outcome<TopologyTestDriver> {
    let driver = by_hand(topology, rows_max)?;
    pipe_first(&driver, MANY)?;
    driver.run_until_idle()?;
    driver.commit()?;
    Ok(driver)
}

/// The rows before the timers, those of the timers, and those after.
fn pipe_last(driver: &TopologyTestDriver) -> Outcome {
    Ok(driver.pipe::<String, i64>("in", "before=0@999 due=0@1000 after=0@1001")?)
}

fn all(driver: &TopologyTestDriver) -> Outcome<Vec<String>> {
    driver.run_until_idle()?;
    driver.commit()?;
    let rows = driver.read::<String, i64>("out")?;
    Ok(rows.split(' ').map(str::to_owned).collect())
}

/// What comes out, where so many records have scheduled the timers.
fn expected(records: usize) -> Vec<String> {
    let timers = TIMERS / records;
    let mut keys: Vec<_> =
        (0..records).flat_map(|n| (0..timers).map(move |m| format!("k{n:02}-{m}"))).collect();
    keys.sort();
    let fired = keys.into_iter().map(|key| format!("{key}=-1000@1000"));
    let before = ["before=0@999", "due=0@1000"].map(str::to_owned);
    before.into_iter().chain(fired).chain(["after=0@1001".to_owned()]).collect()
}

#[test]
fn they_fire_in_order_between_the_records_and_a_chunk_at_a_time() -> Outcome {
    for place in PLACES {
        for rows_max in [1, 2, 7, 8_192] {
            let (topology, most) = topology(place)?;
            let driver = scheduled(topology, rows_max)?;
            pipe_last(&driver)?;
            assert_eq!(all(&driver)?, expected(MANY), "{place:?}, {rows_max} rows a batch");
            let most = most.load(SeqCst);
            assert!(most <= 1_024, "{place:?}, {rows_max} rows a batch: {most} at once");
        }
    }
    Ok(())
}

/// What of a batch no timer made: at most the rows of [`pipe_last`].
const OTHERS_MAX: usize = 3;

#[test]
fn those_that_the_run_itself_has_scheduled_go_a_chunk_at_a_time() -> Outcome {
    for place in PLACES {
        for rows_max in [1, 7, FEW + 2, 8_192] {
            let (topology, most) = topology(place)?;
            let driver = by_hand(topology, rows_max)?;
            pipe_first(&driver, FEW)?;
            pipe_last(&driver)?;
            assert_eq!(all(&driver)?, expected(FEW), "{place:?}, {rows_max} rows a batch");
            let most = most.load(SeqCst);
            assert!(
                most <= 1_024 + OTHERS_MAX,
                "{place:?}, {rows_max} rows a batch: {most} at once"
            );
        }
    }
    Ok(())
}

/// Forwards each ms from the first record on.
struct Ticking(Timers<String>);

impl Processor<String, i64> for Ticking {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        if record.value == 0 {
            context.schedule_timer(self.0, &record.key, record.timestamp)?;
        }
        context.forward(record);
        Ok(())
    }

    fn on_timer(
        &mut self,
        key: String,
        time: Timestamp,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        context.schedule_timer(self.0, &key, time + 1)?;
        context.forward(Record::new(key, -1, time));
        Ok(())
    }
}

#[test]
fn one_that_schedules_the_next_goes_a_chunk_at_a_time() -> Outcome {
    let ticks = |times: RangeInclusive<i64>| times.map(|time| format!("a=-1@{time}"));
    let row = |row: &str| [row.to_owned()];
    let expected: Vec<_> = row("a=0@0")
        .into_iter()
        .chain(ticks(0..=0))
        .chain(row("b=1@5000"))
        .chain(ticks(1..=5_000))
        .chain(row("b=2@9000"))
        .chain(ticks(5_001..=9_000))
        .collect();
    for rows_max in [1, 2, 8_192] {
        let (builder, most) = (StreamsBuilder::new(), Arc::new(AtomicUsize::new(0)));
        builder.add_state_store(Timers::<String>::builder("ticks", for_type()));
        let stream = builder.stream::<String, i64>("in");
        let ticking = stream.process(|context| Ok(Ticking(context.timers("ticks")?)), &["ticks"]);
        watched(&ticking, &most).to("out");
        let driver = by_hand(builder.build()?, rows_max)?;
        driver.pipe::<String, i64>("in", "a=0@0 b=1@5000 b=2@9000")?;
        assert_eq!(all(&driver)?, expected, "{rows_max} rows a batch");
        let most = most.load(SeqCst);
        assert!(most <= 1_024 + OTHERS_MAX, "{rows_max} rows a batch: {most} at once");
    }
    Ok(())
}

#[test]
fn a_kill_between_two_chunks_loses_and_repeats_nothing() -> Outcome {
    for place in PLACES {
        for (steps, rows_max) in [(1, 1), (2, 1), (3, 8_192), (5, 8_192), (600, 7), (40, 100)] {
            let driver = scheduled(topology(place)?.0, rows_max)?;
            pipe_last(&driver)?;
            for _ in 0..steps {
                driver.step()?;
            }
            driver.commit()?;
            driver.step()?;
            driver.lose_state();
            driver.restart()?;
            assert_eq!(all(&driver)?, expected(MANY), "{place:?}, {steps} steps, {rows_max} rows");
        }
    }
    Ok(())
}

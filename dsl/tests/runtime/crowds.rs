//! More timers than fire at a time, all made due by one record: what they forward goes a chunk at a time, with commits between,
//! and neither that nor a kill shows in what comes out.

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
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// When all timers fall due.
const DUE: Timestamp = 1_000;

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
    let seen = Arc::clone(&most);
    let batches = fired.map_values_batch(move |rows| {
        seen.fetch_max(rows.len(), SeqCst);
        rows.iter().map(|row| Ok::<_, String>(row.value)).collect()
    });
    batches.to("out");
    Ok((builder.build()?, most))
}

/// Schedules 5,000 timers, 100 a record, and commits.
fn scheduled(topology: Topology, rows_max: usize) -> Outcome<TopologyTestDriver> {
    let config = StreamsConfig::new("test").with_batch_rows_max(rows_max);
    let driver = TopologyTestDriver::with(topology, config, &BTreeMap::new())?.by_hand();
    let records = (0..50).map(|n| format!("k{n:02}=100@{n}"));
    driver.pipe::<String, i64>("in", &records.collect::<Vec<_>>().join(" "))?;
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

fn expected() -> Vec<String> {
    let mut keys: Vec<_> =
        (0..50).flat_map(|n| (0..100).map(move |m| format!("k{n:02}-{m}"))).collect();
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
            assert_eq!(all(&driver)?, expected(), "{place:?}, {rows_max} rows a batch");
            let most = most.load(SeqCst);
            assert!(most <= 1_024, "{place:?}, {rows_max} rows a batch: {most} at once");
        }
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
            assert_eq!(all(&driver)?, expected(), "{place:?}, {steps} steps, {rows_max} rows");
        }
    }
    Ok(())
}

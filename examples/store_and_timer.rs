//! A processor of one's own with a store and a timer: tells which car has been silent for a minute of event time.
//!
//! ```text
//! $ cargo run --example store_and_timer
//! car-1 fell silent at 5 s, 105 km/h before
//! ```

use headwater::{
    prelude::*,
    serde::for_type,
    store::{StoreKey, Timers},
};
use std::{error::Error, io::Write};

const MINUTE_MS: i64 = 60_000;

/// Keeps each car's last speed, and when it came; a timer asks a minute later whether anything has come since.
struct Silence {
    last: StoreKey<KeyValueStore<String, i64>>,
    timers: Timers<String>,
}

impl Processor<String, i64> for Silence {
    type KOut = String;
    type VOut = (i64, i64);

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, (i64, i64)>,
    ) -> Result<(), ProcessorError> {
        context.schedule_timer(self.timers, &record.key, record.timestamp + MINUTE_MS)?;
        context.store(self.last).put(&record.key, Some(record.value), record.timestamp)?;
        Ok(())
    }

    fn on_timer(
        &mut self,
        car: String,
        time: Timestamp,
        context: &mut Context<'_, String, (i64, i64)>,
    ) -> Result<(), ProcessorError> {
        let last = context.store(self.last).get(&car)?;
        if let Some(last) = last.filter(|last| last.timestamp + MINUTE_MS == time) {
            context.forward(Record::new(car, (last.timestamp, last.value), time));
        }
        Ok(())
    }
}

fn topology() -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    builder.add_state_store(KeyValueStore::<String, i64>::builder("last", for_type(), for_type()));
    builder.add_state_store(Timers::<String>::builder("timers", for_type()));
    let silence = |context: &mut InitContext<'_>| {
        Ok(Silence { last: context.store("last")?, timers: context.timers("timers")? })
    };
    builder.stream::<String, i64>("speeds").process(silence, &["last", "timers"]).to("silent");
    builder.build()
}

pub(crate) fn run(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let app = App::builder("silence").topology(topology()?).create_topics(1).start()?;
    for (car, kmh, at_s) in
        [("car-1", 100, 0), ("car-1", 105, 5), ("car-2", 80, 60), ("car-2", 85, 70)]
    {
        app.send("speeds", &car.to_owned(), &i64::from(kmh), at_s * 1_000)?;
    }
    app.streams().drain()?;
    for silent in app.read::<String, (i64, i64)>("silent")? {
        let (since, kmh) = silent.value;
        writeln!(out, "{} fell silent at {} s, {kmh} km/h before", silent.key, since / 1_000)?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    run(&mut std::io::stdout())
}

//! Averages readings minute by minute: one final result a sensor and minute, late readings within the grace included.
//!
//! ```text
//! $ cargo run --example windowed_average
//! kitchen, minute 0: 21.0
//! kitchen, minute 1: 25.0
//! ```

use headwater::prelude::*;
use std::{error::Error, io::Write, time::Duration};

#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Mean {
    sum: f64,
    count: u32,
}

fn topology() -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    let minute = Duration::from_secs(60);
    builder
        .stream::<String, f64>("readings")
        .group_by_key()
        .windowed_by(TimeWindows::of_size_and_grace(minute, Duration::from_secs(10)))
        .emit_strategy(EmitStrategy::on_window_close())
        .aggregate(
            Mean::default,
            |_, reading, Mean { sum, count }| Mean { sum: sum + reading, count: count + 1 },
            "means",
        )
        .map_values(|Mean { sum, count }| sum / f64::from(count))
        .to_stream()
        .map(|key, mean| (format!("{}, minute {}", key.key, key.window.start / 60_000), mean))
        .to("averages");
    builder.build()
}

pub(crate) fn run(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let app = App::builder("averages").topology(topology()?).create_topics(1).start()?;
    // The third one is late, and in time for the grace; the last closes nothing by itself, the end of the input does.
    for (reading, at_s) in [(20.0, 5), (25.0, 61), (22.0, 59)] {
        app.send("readings", &"kitchen".to_owned(), &reading, at_s * 1_000)?;
    }
    app.streams().drain()?;
    for average in app.read::<String, Option<f64>>("averages")? {
        writeln!(out, "{}: {:.1}", average.key, average.value.unwrap_or_default())?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    run(&mut std::io::stdout())
}

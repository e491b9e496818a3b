//! Collects metrics: the requests of each service a minute, looked at every thirty seconds, and an alert where they are more
//! than three times what they were on average so far.
//!
//! ```text
//! $ cargo run --example metric_collection
//! shop: 44 requests a minute up to 150 s, 5 on average before
//! ```

use headwater::{prelude::*, serde::for_type, store::StoreKey};
use std::{error::Error, io::Write, time::Duration};

/// A rate far above the average of those before, which a store keeps with their number.
struct Anomaly {
    rates: StoreKey<KeyValueStore<String, (i64, i64)>>,
}

impl Processor<String, i64> for Anomaly {
    type KOut = String;
    type VOut = (i64, i64);

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, (i64, i64)>,
    ) -> Result<(), ProcessorError> {
        let rates = context.store(self.rates);
        let (sum, count) = rates.get(&record.key)?.map_or((0, 0), |so_far| so_far.value);
        let next = (sum + record.value, count + 1);
        rates.put(&record.key, Some(next), record.timestamp)?;
        if count > 1 && record.value * count > 3 * sum {
            let alert = (record.value, sum / count);
            context.forward(record.with_value(alert));
        }
        Ok(())
    }
}

fn topology() -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    builder.add_state_store(KeyValueStore::<String, (i64, i64)>::builder(
        "rates",
        for_type(),
        for_type(),
    ));
    let minutes = TimeWindows::of_size_with_no_grace(Duration::from_secs(60))
        .advance_by(Duration::from_secs(30));
    let rates = builder.stream::<String, i64>("requests").group_by_key().windowed_by(minutes);
    let rates = rates.emit_strategy(EmitStrategy::on_window_close()).count("minutes").to_stream();
    // A window's result is about the time at which it ends.
    let ended = rates.map(|key, rate| (key.key, rate.unwrap_or_default()));
    ended
        .process(|context| Ok(Anomaly { rates: context.store("rates")? }), &["rates"])
        .to("alerts");
    builder.build()
}

pub(crate) fn run(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let app = App::builder("metrics").topology(topology()?).create_topics(1).start()?;
    let requests = (0..12).map(|n| n * 12_000).chain((0..40).map(|n| 120_000 + n * 600));
    for at in requests {
        app.send("requests", &"shop".to_owned(), &1_i64, at)?;
    }
    app.streams().drain()?;
    for alert in app.read::<String, (i64, i64)>("alerts")? {
        let (rate, average) = alert.value;
        let end_s = alert.timestamp / 30_000 * 30 + 30;
        writeln!(
            out,
            "{}: {rate} requests a minute up to {end_s} s, {average} on average before",
            alert.key
        )?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    run(&mut std::io::stdout())
}

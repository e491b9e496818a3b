//! Tests a topology: records as text, time by hand, a crash, and no threads.
//!
//! ```text
//! $ cargo run --example test_a_topology
//! counted: a=1@1 b=1@2 a=2@3
//! after a crash: a=1@1 b=1@2 a=2@3 a=3@4
//! closed by time: [a/0/10]=3@4
//! ```

use headwater::prelude::*;
use headwater_testkit::TopologyTestDriver;
use std::{error::Error, io::Write, time::Duration};

fn topology() -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    let records = builder.stream::<String, i64>("in").group_by_key();
    records.count("counts").to_stream().to("counted");
    let windows = TimeWindows::of_size_with_no_grace(Duration::from_millis(10));
    let finals = records.windowed_by(windows).emit_strategy(EmitStrategy::on_window_close());
    finals.count("finals").filter(|key, _| key.key == "a").to_stream().to("closed");
    builder.build()
}

pub(crate) fn run(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let driver = TopologyTestDriver::new(topology()?)?;
    // In and out through one call: an error tells what was expected and what came.
    driver.check::<String, i64, String, i64>(
        "in",
        "a=7@1 b=7@2 a=7@3",
        "counted",
        "a=1@1 b=1@2 a=2@3",
    )?;
    writeln!(out, "counted: {}", driver.read::<String, i64>("counted")?)?;
    driver.crash();
    driver.restart()?;
    driver.pipe::<String, i64>("in", "a=7@4")?;
    writeln!(out, "after a crash: {}", driver.read::<String, i64>("counted")?)?;
    driver.pipe::<String, i64>("in", "c=7@10")?;
    let mut closed = driver.read::<Windowed<String>, i64>("closed")?;
    // A key in a topic tells its window's start; the end follows from the size.
    closed = closed.replace(&i64::MAX.to_string(), "10");
    writeln!(out, "closed by time: {closed}")?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    run(&mut std::io::stdout())
}

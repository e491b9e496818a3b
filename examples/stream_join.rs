//! Joins two streams: the views of an ad with the clicks on it within ten seconds, and views that nobody clicked.
//!
//! ```text
//! $ cargo run --example stream_join
//! ad-1: clicked after 4 s
//! ad-2: not clicked
//! ```

use headwater::{dsl::JoinWindows, prelude::*};
use std::{error::Error, io::Write, time::Duration};

fn topology() -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    let views = builder.stream::<String, i64>("views");
    let clicks = builder.stream::<String, i64>("clicks");
    // A click comes after the view: at most ten seconds, and never before.
    let windows = JoinWindows::of_time_difference_with_no_grace(Duration::from_secs(10))
        .before(Duration::ZERO);
    let told = |viewed: i64, clicked: Option<i64>| match clicked {
        Some(clicked) => format!("clicked after {} s", (clicked - viewed) / 1_000),
        None => "not clicked".to_owned(),
    };
    views.left_join(clicks.within(windows), told).to("outcomes");
    builder.build()
}

pub(crate) fn run(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let app = App::builder("ads").topology(topology()?).create_topics(1).start()?;
    for (ad, at) in [("ad-1", 0), ("ad-2", 1_000)] {
        app.send("views", &ad.to_owned(), &at, at)?;
    }
    for (ad, at) in [("ad-1", 4_000), ("ad-2", 30_000)] {
        app.send("clicks", &ad.to_owned(), &at, at)?;
    }
    app.streams().drain()?;
    for outcome in app.read::<String, String>("outcomes")? {
        writeln!(out, "{}: {}", outcome.key, outcome.value)?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    run(&mut std::io::stdout())
}

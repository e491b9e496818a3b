//! Tracks activity: the clicks of each visitor in sessions, which end after half an hour of rest, and how often each page was
//! seen.
//!
//! ```text
//! $ cargo run --example activity_tracking
//! bob: 1 pages in 0 min
//! ada: 3 pages in 20 min
//! ada: 1 pages in 0 min
//! /cars was seen 2 times
//! /home was seen 3 times
//! ```

use headwater::{dsl::SessionWindows, prelude::*};
use std::{error::Error, io::Write, time::Duration};

const MINUTE_MS: i64 = 60_000;

fn topology() -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    let clicks = builder.stream::<String, String>("clicks");
    let _pages = clicks.group_by(|_, page| page.clone()).count("pages");
    let half_an_hour = SessionWindows::of_inactivity_gap_with_no_grace(Duration::from_secs(1_800));
    clicks
        .group_by_key()
        .windowed_by(half_an_hour)
        .emit_strategy(EmitStrategy::on_window_close())
        .count("sessions")
        .to_stream()
        .map(|key, pages| (key.key, (pages, key.window.end - key.window.start)))
        .to("visits");
    builder.build()
}

pub(crate) fn run(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let app = App::builder("activity").topology(topology()?).create_topics(1).start()?;
    let clicks = [
        ("ada", "/home", 0),
        ("ada", "/cars", 12),
        ("bob", "/home", 15),
        ("ada", "/cars", 20),
        ("ada", "/home", 90),
    ];
    for (visitor, page, minute) in clicks {
        app.send("clicks", &visitor.to_owned(), &page.to_owned(), minute * MINUTE_MS)?;
    }
    app.streams().drain()?;
    let mut visits = app.read::<String, (Option<i64>, i64)>("visits")?;
    visits.sort_by_key(|visit| visit.timestamp);
    for visit in visits {
        let (pages, ms) = visit.value;
        writeln!(
            out,
            "{}: {} pages in {} min",
            visit.key,
            pages.unwrap_or_default(),
            ms / MINUTE_MS
        )?;
    }
    for (page, count) in app.streams().store::<String, i64>("pages")?.all()? {
        writeln!(out, "{page} was seen {} times", count.value)?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    run(&mut std::io::stdout())
}

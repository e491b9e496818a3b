//! Queries a store while the application goes on: what it held at one commit, with the position of the input that it is of.
//!
//! ```text
//! $ cargo run --example query_store
//! after 3 records: a 2, b 1
//! after 5 records: a 3, b 2
//! the first answer still says: a 2, b 1
//! ```

use headwater::{prelude::*, runtime::StateSnapshot};
use std::{error::Error, io::Write, thread, time::Duration};

fn topology() -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    let _counts = builder.stream::<String, i64>("in").group_by_key().count("counts");
    builder.build()
}

/// The stores once so many records have taken effect.
#[expect(clippy::disallowed_methods, reason = "a program of a user's waits as it likes")]
fn after(records: i64, app: &App) -> Result<StateSnapshot, StreamsError> {
    loop {
        let snapshot = app.streams().snapshot()?;
        if snapshot.position().iter().any(|(_, taken)| *taken >= records) {
            return Ok(snapshot);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn told(snapshot: &StateSnapshot) -> Result<String, Box<dyn Error>> {
    let mut counts = snapshot.key_value_store::<String, i64>("counts")?.all()?;
    counts.sort_by(|(one, _), (other, _)| one.cmp(other));
    let counts: Vec<String> =
        counts.iter().map(|(key, count)| format!("{key} {}", count.value)).collect();
    Ok(counts.join(", "))
}

pub(crate) fn run(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let app = App::builder("queries").topology(topology()?).create_topics(1).start()?;
    for key in ["a", "b", "a"] {
        app.send("in", &key.to_owned(), &1_i64, 1)?;
    }
    let first = after(3, &app)?;
    writeln!(out, "after 3 records: {}", told(&first)?)?;
    for key in ["b", "a"] {
        app.send("in", &key.to_owned(), &1_i64, 2)?;
    }
    writeln!(out, "after 5 records: {}", told(&after(5, &app)?)?)?;
    writeln!(out, "the first answer still says: {}", told(&first)?)?;
    Ok(app.streams().close()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    run(&mut std::io::stdout())
}

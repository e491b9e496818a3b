//! Goes on after a `kill -9`: nothing that was sent is lost, nothing is counted twice.
//!
//! ```text
//! $ cargo run --example restart
//! the process was killed
//! 1000 records were sent, 1000 are counted
//! ```

use headwater::prelude::*;
use std::{
    error::Error,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

/// Names the data directory to the process that will be killed.
const VICTIM: &str = "HEADWATER_EXAMPLE_VICTIM";

fn app(data: &Path) -> Result<App, Box<dyn Error>> {
    let builder = StreamsBuilder::new();
    builder.stream::<String, i64>("in").group_by_key().count("counts").to_stream().to("out");
    let app = App::builder("restart").topology(builder.build()?).create_topics(2);
    Ok(app.data_dir(data).start()?)
}

/// Sends records, says so, and does whatever it gets to until it is killed.
fn victim(data: &Path) -> Result<(), Box<dyn Error>> {
    let app = app(data)?;
    for record in 0..1_000_i64 {
        app.send("in", &format!("key {}", record % 7), &record, record)?;
    }
    writeln!(std::io::stdout(), "sent")?;
    app.wait()?;
    Ok(())
}

pub(crate) fn run(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    if let Some(data) = std::env::var_os(VICTIM) {
        return victim(Path::new(&data));
    }
    let data = tempfile::tempdir()?;
    // This program again, as a process of its own.
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", "restart", "--nocapture"])
        .env(VICTIM, data.path())
        .stdout(Stdio::piped())
        .spawn()?;
    let said = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let is_sent = said.map_while(Result::ok).any(|line| line.ends_with("sent"));
    child.kill()?;
    child.wait()?;
    writeln!(out, "the process was {}", if is_sent { "killed" } else { "gone before" })?;

    let app = app(data.path())?;
    app.streams().drain()?;
    let counts = app.streams().store::<String, i64>("counts")?.all()?;
    let counted: i64 = counts.iter().map(|(_, count)| count.value).sum();
    writeln!(out, "1000 records were sent, {counted} are counted")?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    run(&mut std::io::stdout())
}

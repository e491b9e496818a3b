//! Counts words, as the first program of the field does.
//!
//! ```text
//! $ cargo run --example word_count
//! be 2
//! not 1
//! or 1
//! to 2
//! ```

use headwater::prelude::*;
use std::{error::Error, io::Write};

fn topology() -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    builder
        .stream::<Option<String>, String>("lines")
        .flat_map_values(|line| line.split(' ').map(str::to_lowercase).collect::<Vec<_>>())
        .group_by(|_, word| word.clone())
        .count("counts")
        .to_stream()
        .to("words");
    builder.build()
}

pub(crate) fn run(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let app = App::builder("word-count").topology(topology()?).create_topics(2).start()?;
    app.send("lines", &None::<String>, &"To be or".to_owned(), 1)?;
    app.send("lines", &None::<String>, &"not to be".to_owned(), 2)?;
    app.streams().drain()?;
    let mut counts = app.streams().store::<String, i64>("counts")?.all()?;
    counts.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (word, count) in counts {
        writeln!(out, "{word} {}", count.value)?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    run(&mut std::io::stdout())
}

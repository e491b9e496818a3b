//! End-to-end benchmarks: fill the embedded log, run a pipeline over it, measure, check the result.
//!
//! | module | does |
//! |---|---|
//! | `arguments` | the command line |
//! | `fleet` | the input records, and what must come out of them |
//! | `fill` | puts them into the log, untimed |
//! | `pipeline` | the topologies, as a user would write them |
//! | `run` | the timed part |
//! | `verify` | reads what came out, once the clock has stopped |
//! | `limit` | the bare loop that no pipeline can outrun |
//! | `applications` | a thousand small applications in one process |
//! | `close` | one window of many keys, filled and closed |
//! | `log` | the log by itself, each figure beside a plain loop |
//! | `process`, `disk` | what the process took, and what its disk can do |
//! | `report` | the figures |
//!
//! # Not here
//!
//! Other systems' benchmarks: `bench/README.md` sets their figures beside these.

mod applications;
mod arguments;
mod close;
mod disk;
mod fill;
mod fleet;
mod limit;
mod log;
mod pipeline;
mod process;
mod report;
mod run;
mod verify;

use anyhow::{Context, Result};
use arguments::{Arguments, Benchmark, Cars};
use clap::Parser;
use headwater::log::{EmbeddedLog, LogOptions};
use std::{
    fmt,
    io::{self, Write},
    path::Path,
    sync::Arc,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    match Arguments::parse().benchmark {
        Benchmark::Cars(cars) => in_dir(cars.dir.as_deref(), |dir| cars_in(dir, &cars)),
        Benchmark::Decode(decode) => limit::decode(&decode),
        Benchmark::Applications(many) => {
            in_dir(many.dir.as_deref(), |dir| applications::applications(dir, &many))
        }
        Benchmark::Close(close) => in_dir(close.dir.as_deref(), |dir| close::close(dir, &close)),
        Benchmark::Log(figures) => in_dir(figures.dir.as_deref(), |dir| log::log(dir, &figures)),
        Benchmark::LogToKill(fill) => log::to_kill(&fill),
    }
}

/// Runs `benchmark` in `dir`, or in a temporary directory.
fn in_dir(dir: Option<&Path>, benchmark: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    match dir {
        Some(dir) => benchmark(dir),
        None => {
            let dir =
                tempfile::tempdir().context("could not make a directory for temporary files")?;
            benchmark(dir.path())
        }
    }
}

/// Says on stderr what is being done.
fn say(what: impl fmt::Display) {
    // A closed stderr is no reason to stop measuring.
    let _closed = writeln!(io::stderr(), "{what}");
}

fn cars_in(dir: &Path, cars: &Cars) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("could not create {}", dir.display()))?;
    let disk = (!cars.json).then(|| disk::measure(dir)).transpose()?;
    let log = Arc::new(EmbeddedLog::open(&dir.join("log"), LogOptions::new())?);
    let input = fill::fill(&*log, cars)?;
    disk::sync_file_system(dir)?;
    let place = run::prepare(&log, dir, cars, input.topic)?;
    let measured = run::run(&log, &place, cars)?;
    verify::verify(&*log, &place, cars, &input.expected)?;
    report::report(cars, &measured, &input.expected, disk.as_ref())
}

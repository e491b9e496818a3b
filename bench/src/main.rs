//! End-to-end benchmarks: fill the embedded log, run a pipeline over it, measure, check the result.
//!
//! | module | does |
//! |---|---|
//! | `arguments` | the command line |
//! | `fleet` | the input records, and what must come out of them |
//! | `input` | how records are written, and those that a pipeline has beside the cars' |
//! | `fill` | puts them into the log, untimed |
//! | `pipeline` | the topologies, as a user would write them |
//! | `run` | the timed part |
//! | `verify` | reads what came out, once the clock has stopped |
//! | `limit` | the bare loop that no pipeline can outrun |
//! | `applications` | a thousand small applications in one process |
//! | `latency` | how long a record takes from its append to its output, at a fixed rate |
//! | `schedule` | records that arrive at a fixed rate |
//! | `peers` | the same pipelines on Kafka Streams, on this machine in the same hour |
//! | `close` | one window of many keys, filled and closed |
//! | `restore` | lost state, rebuilt from its changelog |
//! | `log` | the log by itself, each figure beside a plain loop |
//! | `process`, `disk` | what the process took, and what its disk can do |
//! | `report` | the figures |

mod applications;
mod arguments;
mod close;
mod disk;
mod fill;
mod fleet;
mod input;
mod latency;
mod limit;
mod log;
mod peers;
mod pipeline;
mod process;
mod report;
mod restore;
mod run;
mod schedule;
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
        Benchmark::Restore(restore) => {
            in_dir(restore.dir.as_deref(), |dir| restore::restore(dir, &restore))
        }
        Benchmark::Log(figures) => in_dir(figures.dir.as_deref(), |dir| log::log(dir, &figures)),
        Benchmark::Latency(latency) => {
            in_dir(latency.dir.as_deref(), |dir| latency::latency(dir, &latency))
        }
        Benchmark::Peers(with) => in_dir(with.dir.as_deref(), |dir| peers::peers(dir, &with)),
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
    let place = run::prepare(&log, dir, cars, &input)?;
    let measured = run::run(&log, &place, cars)?;
    verify::verify(&*log, &place, cars, &input.expected)?;
    report::report(cars, &measured, &input, disk.as_ref())
}

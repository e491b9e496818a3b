//! The command line.

use clap::{Parser, Subcommand, ValueEnum};
use headwater::{
    ports::log::Durability,
    runtime::{ProcessingGuarantee, StreamsConfig},
};
use std::path::PathBuf;

/// Runs a benchmark and prints its figures.
#[derive(Debug, Parser)]
#[command(name = "headwater-bench", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) benchmark: Benchmark,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Benchmark {
    /// Pipelines over records of connected cars.
    Cars(Cars),
    /// Nothing but the decoding of these records, in a bare loop: what no pipeline over them can outrun.
    Decode(Decode),
    /// One window of many keys, which one record closes: the memory that filling and closing it take.
    Close(Close),
    /// Many small applications in one process: its memory and threads, and what they cost while nothing happens.
    Applications(Applications),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Applications {
    /// How many applications run; half of them on each of two topics.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(2..))]
    pub(crate) applications: u64,
    /// How long records are appended, and then how long none is, in seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seconds: u64,
    /// Records a second, over both topics.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub(crate) rate: u64,
    /// Partitions of each topic.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) partitions: u32,
    /// Stream threads.
    #[arg(long, default_value_t = 2)]
    pub(crate) threads: usize,
    /// Works in DIR, which must be new, and leaves everything there. Default: a temporary directory.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Prints one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Close {
    /// How many keys the window has.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) keys: u64,
    /// What stores may keep in memory, in MiB.
    #[arg(long, default_value_t = 50, value_name = "MIB")]
    pub(crate) cache_mib: usize,
    /// Works in DIR, which must be new, and leaves everything there. Default: a temporary directory.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Prints one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Decode {
    /// How many records to decode.
    #[arg(long, default_value_t = 20_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) records: u64,
    /// How many cars there are.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=99_999_999))]
    pub(crate) keys: u32,
    /// Threads.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) threads: u64,
    /// Prints one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Cars {
    /// What the pipeline does.
    #[arg(long, value_enum)]
    pub(crate) mode: Mode,
    /// What a failure may do to results: at-least-once or exactly-once.
    #[arg(long, value_enum, default_value = "eos")]
    pub(crate) guarantee: Guarantee,
    /// How many records to put into the input topic.
    #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) records: u64,
    /// How many cars there are.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=99_999_999))]
    pub(crate) keys: u32,
    /// Partitions of the input and output topics.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) partitions: u32,
    /// Stream threads.
    #[arg(long, default_value_t = 2)]
    pub(crate) threads: usize,
    /// When appends to the output and the internal topics are acknowledged.
    #[arg(long, value_enum, default_value = "fsync")]
    pub(crate) durability: Durable,
    /// The most rows in a batch.
    #[arg(long, default_value_t = StreamsConfig::new("cars").batch_rows_max, value_name = "ROWS")]
    pub(crate) batch_rows: usize,
    /// The longest time between commits, in ms; default: as Kafka Streams, 100 exactly-once and 30000 at-least-once.
    #[arg(long, value_name = "MS")]
    commit_interval: Option<u64>,
    /// Works in DIR and leaves everything there; input found there is used again. Default: a temporary directory.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Prints one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Cars {
    /// The longest time between commits, in ms.
    pub(crate) fn commit_interval(&self) -> u64 {
        self.commit_interval.unwrap_or(match self.guarantee {
            Guarantee::Alo => 30_000,
            Guarantee::Eos => 100,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Records with `engine_temp_c` > 110 to a topic.
    Filter,
    /// The number of records of each car to a topic.
    Count,
    /// Count and sum of `fuel_l_per_100km` for each car and minute to a topic.
    Window,
    /// The same with the cars' records sent through a repartition topic before it.
    Repartition,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Guarantee {
    /// At-least-once.
    Alo,
    /// Exactly-once.
    Eos,
}

impl From<Guarantee> for ProcessingGuarantee {
    fn from(guarantee: Guarantee) -> Self {
        match guarantee {
            Guarantee::Alo => Self::AtLeastOnce,
            Guarantee::Eos => Self::ExactlyOnce,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Durable {
    /// When they are on the disk.
    Fsync,
    /// When the operating system has them.
    Os,
}

impl From<Durable> for Durability {
    fn from(durable: Durable) -> Self {
        match durable {
            Durable::Fsync => Self::Fsync,
            Durable::Os => Self::Os,
        }
    }
}

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
    /// Lost state, rebuilt from its changelog.
    Restore(Restore),
    /// From a record's append to its output, at a fixed rate, beside a bare sync of the same disk.
    Latency(Latency),
    /// The pipelines here and on Kafka Streams, one after the other on this machine: a table of both and their ratios.
    ///
    /// It takes Java 17 and Maven, which get Kafka from Maven Central.
    Peers(Peers),
    /// Many small applications in one process: its memory and threads, and what they cost while nothing happens.
    Applications(Applications),
    /// The log by itself: append, fetch, commit, open and groups, each beside a plain loop on the same disk.
    ///
    /// A plain loop does with bare system calls what the log cannot do without. Both run in turn, so that the ratio
    /// says what the log adds, whatever else the machine does meanwhile. Figures are medians of the runs.
    ///
    /// With the defaults it takes about two minutes, 4 GB of disk and no more than 1 GB of memory.
    Log(LogFigures),
    /// Fills a log and waits to be killed; `log --what open` starts it.
    #[command(hide = true)]
    LogToKill(LogToKill),
}

#[derive(Debug, clap::Args)]
pub(crate) struct LogFigures {
    /// Which rows, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Row::ALL)]
    pub(crate) what: Vec<Row>,
    /// How often each side runs.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) runs: u32,
    /// append: MiB written in a run.
    #[arg(long, default_value_t = 512, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=4_096))]
    pub(crate) append_mib: u64,
    /// fetch: MiB read in a run.
    #[arg(long, default_value_t = 200, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=200))]
    pub(crate) fetch_mib: u64,
    /// commit: commits a second.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) rate: u64,
    /// commit: seconds of a run.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,
    /// open: GiB in the directory.
    #[arg(long, default_value_t = 1, value_name = "GIB", value_parser = clap::value_parser!(u64).range(1..=10))]
    pub(crate) open_gib: u64,
    /// Works in DIR, on whose disk all of it happens, and removes what it made there. Default: a temporary directory.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Prints one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LogToKill {
    /// The log's directory.
    pub(crate) dir: PathBuf,
    /// GiB to fill it with, if it is new.
    pub(crate) gib: u64,
}

/// A row of the log's figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Row {
    /// Records of 1 KiB in commits of 1 MiB, synced, four on their way.
    Append,
    /// Records walked from the page cache, of 1 KiB and of 100 B.
    Fetch,
    /// One record a commit, synced, at a fixed rate.
    Commit,
    /// Opening and reading the tail of 100 partitions, cold: closed cleanly, and killed.
    Open,
    /// A commit with 1,000 groups of 100 offsets and 5,000 partitions.
    Groups,
}

impl Row {
    const ALL: [Self; 5] = [Self::Append, Self::Fetch, Self::Commit, Self::Open, Self::Groups];
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
pub(crate) struct Restore {
    /// How many records are counted before the state is lost.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) records: u64,
    /// How many cars there are.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=99_999_999))]
    pub(crate) keys: u32,
    /// Partitions of the input and of the changelog.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
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

impl Restore {
    /// What makes the state: `count`, exactly-once.
    pub(crate) fn cars(&self) -> Cars {
        Cars {
            mode: Mode::Count,
            guarantee: Guarantee::Eos,
            records: self.records,
            keys: self.keys,
            partitions: self.partitions,
            threads: self.threads,
            durability: Durable::Fsync,
            batch_rows: StreamsConfig::new("cars").batch_rows_max,
            commit_interval: None,
            dir: None,
            json: self.json,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Latency {
    /// Records a second.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) rate: u64,
    /// For how long records arrive.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(2..=600))]
    pub(crate) seconds: u64,
    /// The longest time between commits, in ms.
    #[arg(long, default_value_t = 10, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub(crate) commit_interval: u64,
    /// Partitions of the input and output topics.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
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
pub(crate) struct Peers {
    /// Which rows, separated by commas. Default: all.
    #[arg(long, value_delimiter = ',')]
    pub(crate) what: Vec<String>,
    /// How many records go through each.
    #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    pub(crate) records: u64,
    /// Works in DIR and leaves everything there. Default: a temporary directory.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
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
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// Records with `engine_temp_c` > 110 to a topic.
    Filter,
    /// The number of records of each car to a topic.
    Count,
    /// Count and sum of `fuel_l_per_100km` for each car and minute to a topic.
    Window,
    /// The same with the cars' records sent through a repartition topic before it.
    Repartition,
    /// What `filter` lets through, after five typed steps without state.
    Chain,
    /// The number of each word in lines of ten; `--records` are words, `--keys` different ones.
    Words,
    /// Each record with its car's owner, from a table of all `--keys` cars.
    Join,
    /// Each hot record's alarm, half a second later on a topic of its own, with the car's records within 10 s.
    StreamJoin,
    /// The number of records of each car in windows of a minute, one every 10 s.
    Hopping,
    /// The number of records of each car in sessions with gaps of up to 10 s.
    Session,
    /// A table of the cars' newest records, each with its fleet, from a table of 1,000 fleets.
    ForeignKey,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(arguments: &[&str]) -> Result<LogFigures, String> {
        let all = ["headwater-bench", "log"].iter().chain(arguments);
        match Arguments::try_parse_from(all).map(|it| it.benchmark) {
            Ok(Benchmark::Log(figures)) => Ok(figures),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn all_rows_are_measured_unless_told_otherwise() {
        assert_eq!(figures(&[]).unwrap().what, Row::ALL);
        assert_eq!(figures(&["--what", "open"]).unwrap().what, [Row::Open]);
        assert_eq!(figures(&["--what", "groups,append"]).unwrap().what, [Row::Groups, Row::Append]);
    }

    #[test]
    fn what_would_not_fit_or_measure_nothing_is_refused() {
        for refused in [
            ["--what", "close"],
            ["--runs", "0"],
            ["--open-gib", "11"],
            ["--rate", "0"],
            ["--fetch-mib", "201"],
        ] {
            let error = figures(&refused).unwrap_err();
            assert!(error.contains(refused[0]) && error.contains(refused[1]), "{error}");
        }
        assert_eq!(figures(&["--open-gib", "10"]).unwrap().open_gib, 10);
    }

    #[test]
    fn help_names_every_row_and_not_the_child() {
        let help = |command: &str| {
            Arguments::try_parse_from(["headwater-bench", command, "--help"])
                .unwrap_err()
                .to_string()
        };
        let log = help("log");
        for row in Row::ALL {
            assert!(log.contains(row.to_possible_value().unwrap().get_name()), "{log}");
        }
        let all = Arguments::try_parse_from(["headwater-bench", "--help"]).unwrap_err().to_string();
        assert!(all.contains("log ") && !all.contains("log-to-kill"), "{all}");
    }
}

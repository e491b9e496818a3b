//! What can be typed, and the help.

use crate::{
    app::arguments::{self as app, App},
    exit::EXIT_CODES,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use headwater_connector_file::Rate;
use std::path::PathBuf;

/// Stream processing over an integrated partitioned log.
#[derive(Debug, Parser)]
#[command(name = "headwater", version, arg_required_else_help = true, after_help = with_exit_codes(EXAMPLES))]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a pipeline with its log, its state and its connectors in this process.
    #[command(after_help = with_exit_codes(EXAMPLES))]
    Dev(Dev),

    /// Look after the application of a data directory: why nothing comes out, pause and resume, backups, resets.
    #[command(after_help = with_exit_codes(app::EXAMPLES))]
    App(App),
}

#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Which pipeline to run.
    #[arg(long, value_enum, value_name = "NAME")]
    pub(crate) demo: Demo,

    /// Telemetry to read: JSON, one record a line, plain or gzip; `-` is standard input.
    #[arg(long, value_name = "FILE", default_value = "examples/data/fleet.ndjson.gz")]
    pub(crate) input: PathBuf,

    /// Where topics, state and Parquet files go. Started again with the same directory, it resumes where it stopped.
    /// [default: a fresh temporary directory, which is kept]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// How fast to read, in records a second.
    #[arg(long, value_name = "N|max", default_value = "max")]
    pub(crate) rate: Rate,

    /// End when the input is used up and every window is closed; without it, the run waits for Ctrl-C, or until nobody reads what it
    /// prints, as in `… | head`.
    #[arg(long)]
    pub(crate) exit_when_done: bool,

    /// Write the results to this file as JSON when it ends. A file is replaced as a whole; a device or a pipe is written
    /// to.
    #[arg(long, value_name = "FILE")]
    pub(crate) summary: Option<PathBuf>,

    /// How often Parquet files are finished while it runs.
    #[arg(long, value_name = "MS", default_value_t = 10_000, hide = true)]
    pub(crate) roll_interval_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Demo {
    /// Connected cars: alerts in a hot path, consumption by car and minute in a cold one.
    Cars,
}

const EXAMPLES: &str = "\
Examples:
  Run the recorded fleet through the pipeline and look at the results:
    headwater dev --demo cars --exit-when-done

  Watch it at 2,000 records a second and stop with Ctrl-C; the same line again resumes from there:
    headwater dev --demo cars --rate 2000 --data-dir /tmp/cars

  Read your own records and keep the results:
    zcat fleet.ndjson.gz | headwater dev --demo cars --input - --exit-when-done --summary cars.json";

/// What follows the options of a command.
pub(crate) fn with_exit_codes(examples: &str) -> String {
    format!("{examples}\n\n{EXIT_CODES}")
}

//! The figures of a run, for people or as one line of JSON.

use crate::{
    arguments::{Cars, Durable, Guarantee, Mode},
    disk::Disk,
    fill::Input,
    run::Measured,
};
use anyhow::Result;
use std::{
    io::{self, Write},
    time::Duration,
};

#[derive(Debug, serde::Serialize)]
struct Line {
    benchmark: &'static str,
    mode: Mode,
    guarantee: Guarantee,
    records: u64,
    /// Of the second input.
    beside: u64,
    keys: u32,
    partitions: u32,
    threads: usize,
    durability: Durable,
    commit_interval_ms: u64,
    seconds: f64,
    records_per_s: f64,
    cpu_s_per_million: f64,
    peak_rss_mb: f64,
    commits: u64,
    commit_p50_ms: f64,
    commit_p99_ms: f64,
}

impl Line {
    fn new(cars: &Cars, measured: &Measured, input: &Input) -> Self {
        let beside = input.beside.as_ref().map_or(0, |beside| beside.records);
        let taken = cars.records + beside;
        Self {
            benchmark: "cars",
            mode: cars.mode,
            guarantee: cars.guarantee,
            records: cars.records,
            beside,
            keys: cars.keys,
            partitions: cars.partitions,
            threads: cars.threads,
            durability: cars.durability,
            commit_interval_ms: cars.commit_interval(),
            seconds: rounded(measured.elapsed.as_secs_f64(), 1e3),
            records_per_s: per_second(taken, measured.elapsed),
            cpu_s_per_million: per_million(measured.cpu, taken),
            peak_rss_mb: rounded(measured.peak_rss_bytes as f64 / 1e6, 10.0),
            commits: measured.commits,
            commit_p50_ms: ms(measured.commit_p50),
            commit_p99_ms: ms(measured.commit_p99),
        }
    }
}

/// `value`, to as many parts of one.
pub(crate) fn rounded(value: f64, per_one: f64) -> f64 {
    (value * per_one).round() / per_one
}

/// Records a second, to the nearest one.
pub(crate) fn per_second(records: u64, elapsed: Duration) -> f64 {
    (records as f64 / elapsed.as_secs_f64()).round()
}

/// Seconds of CPU for a million records.
pub(crate) fn per_million(cpu: Duration, records: u64) -> f64 {
    rounded(cpu.as_secs_f64() / records as f64 * 1e6, 1e3)
}

fn ms(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1e3, 100.0)
}

/// Prints the figures on stdout; `disk` is for people only.
pub(crate) fn report(
    cars: &Cars,
    measured: &Measured,
    input: &Input,
    disk: Option<&Disk>,
) -> Result<()> {
    let line = Line::new(cars, measured, input);
    let mut out = io::stdout().lock();
    if cars.json {
        writeln!(out, "{}", sonic_rs::to_string(&line)?)?;
        return Ok(());
    }
    let value_bytes = input.expected.value_bytes as f64 / cars.records as f64;
    writeln!(
        out,
        "cars, {:?}, {:?}: {} records of {value_bytes:.0} bytes, {} keys, {} partitions, {} threads, {:?}, commits every {} ms",
        line.mode,
        line.guarantee,
        line.records,
        line.keys,
        line.partitions,
        line.threads,
        line.durability,
        line.commit_interval_ms
    )?;
    writeln!(
        out,
        "  records/s          {:>12}   ({:.0} MB/s of values, {:.1} s)",
        line.records_per_s,
        line.records_per_s * value_bytes / 1e6,
        line.seconds
    )?;
    writeln!(out, "  CPU-s per million  {:>12.3}", line.cpu_s_per_million)?;
    writeln!(out, "  peak RSS           {:>12.1} MB", line.peak_rss_mb)?;
    writeln!(
        out,
        "  commits            {:>12}   p50 {} ms, p99 {} ms",
        line.commits, line.commit_p50_ms, line.commit_p99_ms
    )?;
    if let Some(Disk { sync_p50, sync_p99, direct_mb_per_s }) = disk {
        writeln!(
            out,
            "  disk, 4 KiB + sync {:>12.2} ms p50, {:.2} ms p99",
            ms(*sync_p50),
            ms(*sync_p99)
        )?;
        if let Some(speed) = direct_mb_per_s {
            writeln!(out, "  disk, 4 MiB direct + sync {speed:>5.0} MB/s")?;
        }
    }
    Ok(())
}

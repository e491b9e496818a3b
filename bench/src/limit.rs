//! The limit that no pipeline over these records can pass: decoding them in a bare loop, with nothing around it.

use crate::{
    arguments::Decode,
    fleet::{Reading, Telemetry, readings},
    process,
    report::{per_million, per_second},
};
use anyhow::{Context, Result};
use headwater::time::{Clock, SystemClock};
use std::{
    hint::black_box,
    io::{self, Write},
    thread,
};

/// How many different values there are; they are decoded over and over.
const VALUES: u64 = 100_000;

#[derive(Debug, serde::Serialize)]
struct Line {
    benchmark: &'static str,
    records: u64,
    threads: u64,
    records_per_s: f64,
    cpu_s_per_million: f64,
}

/// Decodes and prints how fast that went.
pub(crate) fn decode(decode: &Decode) -> Result<()> {
    let values = values(decode.keys)?;
    let (clock, threads) = (SystemClock::new(), decode.threads);
    let (began, cpu) = (clock.elapsed(), process::cpu_time());
    let share = decode.records / threads;
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(|| go(&values, share))).collect();
        let joined = running.into_iter().map(|thread| thread.join().ok().context("a panic")?);
        joined.collect::<Result<Vec<_>>>()
    })?;
    let (elapsed, cpu) = (clock.elapsed() - began, process::cpu_time() - cpu);
    let records = share * threads;
    let line = Line {
        benchmark: "decode",
        records,
        threads,
        records_per_s: per_second(records, elapsed),
        cpu_s_per_million: per_million(cpu, records),
    };
    let mut out = io::stdout().lock();
    if decode.json {
        writeln!(out, "{}", sonic_rs::to_string(&line)?)?;
    } else {
        let Line { records_per_s, cpu_s_per_million, .. } = line;
        writeln!(out, "decode: {records} records on {threads} threads")?;
        writeln!(out, "  records/s          {records_per_s:>12}")?;
        writeln!(out, "  CPU-s per million  {cpu_s_per_million:>12.3}")?;
    }
    Ok(())
}

fn values(keys: u32) -> Result<Vec<Vec<u8>>> {
    let write = |reading: Reading| {
        let mut value = Vec::new();
        reading.write_value(&mut value)?;
        Ok(value)
    };
    readings(VALUES, keys).map(write).collect()
}

fn go(values: &[Vec<u8>], records: u64) -> Result<()> {
    for (value, _) in values.iter().cycle().zip(0..records) {
        black_box(sonic_rs::from_slice::<Telemetry>(black_box(value))?);
    }
    Ok(())
}

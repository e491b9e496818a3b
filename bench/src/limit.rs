//! The limit that no pipeline over these records can pass: decoding them in a bare loop, with nothing around it.
//!
//! Keys and values go through the serdes that the pipelines' sources use.

use crate::{
    arguments::Decode,
    fleet::{Reading, Telemetry, readings},
    input::Written as _,
    process,
    report::{per_million, per_second},
};
use anyhow::{Context, Result};
use headwater::{
    serde::for_type,
    time::{Clock, SystemClock},
};
use std::{
    hint::black_box,
    io::{self, Write},
    thread,
};

/// How many different records there are; they are decoded over and over.
const RECORDS: u64 = 100_000;

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
    let records = records(decode.keys)?;
    let (clock, threads) = (SystemClock::new(), decode.threads);
    let (began, cpu) = (clock.elapsed(), process::cpu_time());
    let share = decode.records / threads;
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(|| go(&records, share))).collect();
        let joined = running.into_iter().map(|thread| thread.join().ok().context("a panic")?);
        joined.collect::<Result<Vec<_>>>()
    })?;
    let (elapsed, cpu) = (clock.elapsed() - began, process::cpu_time() - cpu);
    let count = share * threads;
    let line = Line {
        benchmark: "decode",
        records: count,
        threads,
        records_per_s: per_second(count, elapsed),
        cpu_s_per_million: per_million(cpu, count),
    };
    let mut out = io::stdout().lock();
    if decode.json {
        writeln!(out, "{}", sonic_rs::to_string(&line)?)?;
    } else {
        let Line { records_per_s, cpu_s_per_million, .. } = line;
        writeln!(out, "decode: {count} records on {threads} threads")?;
        writeln!(out, "  records/s          {records_per_s:>12}")?;
        writeln!(out, "  CPU-s per million  {cpu_s_per_million:>12.3}")?;
    }
    Ok(())
}

/// A record's key and value.
type Written = (Vec<u8>, Vec<u8>);

fn records(keys: u32) -> Result<Vec<Written>> {
    let write = |reading: Reading| {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        reading.write_key(&mut key)?;
        reading.write_value(&mut value)?;
        Ok((key, value))
    };
    readings(RECORDS, keys).map(write).collect()
}

fn go(records: &[Written], count: u64) -> Result<()> {
    let (keys, values) = (for_type::<String>(), for_type::<Telemetry>());
    for ((key, value), _) in records.iter().cycle().zip(0..count) {
        black_box(keys.deserialize(Some(black_box(key)))?);
        black_box(values.deserialize(Some(black_box(value)))?);
    }
    Ok(())
}

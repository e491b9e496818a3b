//! How fast lost state is rebuilt from its changelog.
//!
//! Cars are counted, the state is removed, and the application starts again with nothing left to take. Beside it the
//! changelog is fetched and walked in a bare loop, which no restore can outrun.

use crate::{
    arguments::{Cars, Restore},
    disk, fill,
    pipeline::{self, Topics},
    run::{self, Place, open_state},
};
use anyhow::{Context, Result, ensure};
use headwater::{
    log::{EmbeddedLog, LogOptions},
    ports::log::Log,
    record::{TopicName, TopicPartition},
    runtime::{Streams, StreamsConfig},
    time::{Clock, SystemClock},
};
use std::{
    fs,
    hint::black_box,
    io::{self, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

const FETCH_BYTES: usize = 1 << 20;

#[derive(Debug, serde::Serialize)]
struct Line {
    benchmark: &'static str,
    keys: u32,
    /// Of the changelog.
    records: u64,
    /// Of its keys and values.
    mb: f64,
    seconds: f64,
    records_per_s: f64,
    cpu_s_per_million: f64,
    peak_rss_mb: f64,
    /// What a bare loop takes to fetch and walk the changelog on one thread.
    fetch_seconds: f64,
}

/// Runs it in `dir` and prints the figures.
pub(crate) fn restore(dir: &Path, restore: &Restore) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("could not create {}", dir.display()))?;
    let cars = &restore.cars();
    let log = Arc::new(EmbeddedLog::open(&dir.join("log"), LogOptions::new())?);
    let input = fill::fill(&*log, cars)?;
    let place = run::prepare(&log, dir, cars, &input)?;
    run::run(&log, &place, cars)?;
    let output = end_of(&*log, &place.output, cars)?;
    fs::remove_dir_all(&place.state)?;

    disk::sync_file_system(dir)?;
    let changelog = walk(&*log, &changelog(&place)?, cars)?;
    let measured = run::run(&log, &place, cars)?;
    ensure!(end_of(&*log, &place.output, cars)? == output, "restoring wrote to {}", place.output);
    check(&log, &place, cars)?;
    let seconds = measured.elapsed.as_secs_f64();
    let line = Line {
        benchmark: "restore",
        keys: cars.keys,
        records: changelog.records,
        mb: changelog.bytes as f64 / 1e6,
        seconds,
        records_per_s: changelog.records as f64 / seconds,
        cpu_s_per_million: measured.cpu.as_secs_f64() * 1e6 / changelog.records as f64,
        peak_rss_mb: measured.peak_rss_bytes as f64 / 1e6,
        fetch_seconds: changelog.took.as_secs_f64(),
    };
    report(restore, &line)
}

fn changelog(place: &Place) -> Result<TopicName> {
    Ok(TopicName::new(format!("{}-records-by-car-changelog", place.application_id))?)
}

fn end_of(log: &dyn Log, topic: &TopicName, cars: &Cars) -> Result<i64> {
    let end = |partition| log.offsets(&TopicPartition::new(topic.clone(), partition));
    (0..cars.partitions).try_fold(0, |sum, partition| Ok(sum + end(partition)?.end))
}

struct Walked {
    records: u64,
    bytes: usize,
    took: Duration,
}

/// Fetches all records of a topic and adds up what keys and values take.
fn walk(log: &dyn Log, topic: &TopicName, cars: &Cars) -> Result<Walked> {
    let clock = SystemClock::new();
    let began = clock.elapsed();
    let (mut records, mut bytes) = (0, 0);
    for partition in 0..cars.partitions {
        let partition = TopicPartition::new(topic.clone(), partition);
        let mut offset = 0;
        loop {
            let fetched = log.fetch(&partition, offset, FETCH_BYTES)?;
            if fetched.records.is_empty() {
                break;
            }
            offset = fetched.next_offset;
            records += fetched.records.len() as u64;
            bytes += fetched.records.iter().map(|record| record.size_bytes()).sum::<usize>();
        }
    }
    Ok(Walked { records, bytes: black_box(bytes), took: clock.elapsed().saturating_sub(began) })
}

/// Each record must be counted once in what was restored.
fn check(log: &Arc<EmbeddedLog>, place: &Place, cars: &Cars) -> Result<()> {
    let input = place.inputs.first().map_or("", TopicName::as_str);
    let topics = Topics { input, beside: "", output: place.output.as_str() };
    let topology = pipeline::topology(cars.mode, topics)?;
    let log: Arc<dyn Log> = Arc::clone(log) as Arc<dyn Log>;
    let state = open_state(&place.state, &log)?;
    let config = StreamsConfig::new(&place.application_id);
    let streams = Streams::start(topology, config, log, state, Arc::new(SystemClock::new()))?;
    let counts = streams.store::<String, i64>("records-by-car")?.all()?;
    streams.close()?;
    let counted: i64 = counts.iter().map(|(_, count)| count.value).sum();
    ensure!(u64::try_from(counted)? == cars.records, "{counted} of {} records", cars.records);
    Ok(())
}

fn report(restore: &Restore, line: &Line) -> Result<()> {
    let mut out = io::stdout().lock();
    if restore.json {
        return Ok(writeln!(out, "{}", sonic_rs::to_string(line)?)?);
    }
    writeln!(
        out,
        "restored {} records of a changelog ({:.0} MB, {} keys) in {:.2} s: {:.0} records/s, {:.2} CPU-s per million, peak RSS {:.0} MB",
        line.records,
        line.mb,
        line.keys,
        line.seconds,
        line.records_per_s,
        line.cpu_s_per_million,
        line.peak_rss_mb,
    )?;
    Ok(writeln!(out, "fetching it alone, in a bare loop: {:.2} s", line.fetch_seconds)?)
}

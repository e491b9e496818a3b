//! How fast records are fetched from the page cache and walked.
//!
//! The plain loop reads the same file in runs of 1 MiB and takes their CRC-32C.

use super::{
    Runs, Size, append_mib, create,
    figure::{Figure, ns_each},
    records,
};
use crate::{arguments::LogFigures, disk};
use anyhow::{Result, ensure};
use headwater::{
    log::{EmbeddedLog, LogOptions},
    ports::log::Log,
    record::TopicPartition,
    time::{Clock, SystemClock},
};
use std::{
    fs::File,
    hint::black_box,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

const FETCH_BYTES: usize = 1 << 20;

pub(super) fn fetch(dir: &Path, arguments: &LogFigures) -> Result<Vec<Figure>> {
    let dir = &dir.join("log");
    let log = EmbeddedLog::open(dir, LogOptions::new())?;
    let (kibibyte, hundred) = (Size::Kibibyte, Size::Hundred);
    let large = Input::fill(&log, dir, "kibibyte", kibibyte, arguments.fetch_mib)?;
    let small = Input::fill(&log, dir, "hundred", hundred, arguments.fetch_mib)?;
    let large_runs = large.runs(&log, dir, arguments.runs)?;
    let small_runs = small.runs(&log, dir, arguments.runs)?;
    log.close()?;
    Ok(vec![
        large_runs.figure("fetch_gb_per_s", |took| large.bytes as f64 / 1e9 / took.as_secs_f64()),
        small_runs.figure("fetch_ns_per_record", |took| ns_each(*took, small.records)),
    ])
}

/// The only segment of a partition.
pub(super) fn segment(dir: &Path, partition: &TopicPartition) -> PathBuf {
    let TopicPartition { topic, partition } = partition;
    dir.join(format!("{topic}-{partition}")).join(format!("{:020}.log", 0))
}

struct Input {
    partition: TopicPartition,
    records: u64,
    segment: PathBuf,
    bytes: u64,
}

impl Input {
    fn fill(log: &EmbeddedLog, dir: &Path, topic: &str, size: Size, mib: u64) -> Result<Self> {
        let partition = TopicPartition::new(create(log, topic, 1)?, 0);
        append_mib(log, &partition, &records(size.in_commit(), size)?, mib)?;
        let segment = segment(dir, &partition);
        let bytes = std::fs::metadata(&segment)?.len();
        Ok(Self { partition, records: mib * size.in_commit() as u64, segment, bytes })
    }

    fn runs(&self, log: &EmbeddedLog, dir: &Path, runs: u32) -> Result<Runs<Duration>> {
        // The first walk brings both into the page cache, and rebuilds what the log rebuilds at first touch.
        self.walk(log)?;
        self.check(&mut vec![0; FETCH_BYTES])?;
        let mut buffer = vec![0; FETCH_BYTES];
        Runs::alternate(
            runs,
            || disk::sync_file_system(dir),
            || self.walk(log),
            || self.check(&mut buffer),
        )
    }

    /// Fetches all records and adds up the lengths of keys and values.
    fn walk(&self, log: &EmbeddedLog) -> Result<Duration> {
        let clock = SystemClock::new();
        let (mut offset, mut records, mut bytes) = (0, 0, 0);
        loop {
            let fetched = log.fetch(&self.partition, offset, FETCH_BYTES)?;
            if fetched.records.is_empty() {
                break;
            }
            offset = fetched.next_offset;
            records += fetched.records.len() as u64;
            for record in fetched.records.iter() {
                bytes += record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
            }
        }
        let elapsed = clock.elapsed();
        black_box(bytes);
        ensure!(records == self.records, "{records} of {} records were fetched", self.records);
        Ok(elapsed)
    }

    /// Reads the segment and takes its CRC.
    fn check(&self, buffer: &mut [u8]) -> Result<Duration> {
        let clock = SystemClock::new();
        let file = File::open(&self.segment)?;
        let mut at = 0;
        while at < self.bytes {
            let read = file.read_at(buffer, at)?;
            ensure!(read > 0, "{} ends early", self.segment.display());
            black_box(crc32c::crc32c(buffer.get(..read).unwrap_or_default()));
            at += read as u64;
        }
        Ok(clock.elapsed())
    }
}

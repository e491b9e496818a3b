//! How long one record takes to become durable, at a fixed rate of commits.
//!
//! Records arrive on a schedule, whatever became of those before them, and each one's latency counts from the moment
//! at which it was due: a stall is paid by all that arrive in it. The plain loop takes what has arrived, writes it in
//! whole pages past the page cache, and syncs.

use super::{
    Runs, Size, append_of, create,
    figure::{Figure, percentile_ms},
    records, warm_up,
};
use crate::{
    arguments::LogFigures,
    disk::{self, Aligned, DirectFile, PAGE},
    say,
    schedule::{Arrivals, Schedule},
};
use anyhow::Result;
use headwater::{
    log::{EmbeddedLog, LogOptions},
    ports::log::{Commit, Log},
    record::{RecordSet, TopicPartition},
    time::Clock,
};
use std::{
    num::NonZeroU64,
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

const RECORD_BYTES: u64 = 100;
/// The plain loop's file, which it overwrites.
const FILE_BYTES: u64 = 256 << 20;
/// The most that the plain loop writes at once.
const WRITE_BYTES_MAX: usize = 1 << 20;
const WRITE_RECORDS_MAX: u64 = WRITE_BYTES_MAX as u64 / RECORD_BYTES;

#[derive(Debug)]
struct Latencies {
    p50: f64,
    p99: f64,
}

impl From<Vec<Duration>> for Latencies {
    fn from(mut took: Vec<Duration>) -> Self {
        Self { p50: percentile_ms(&mut took, 50), p99: percentile_ms(&mut took, 99) }
    }
}

pub(super) fn commit(dir: &Path, arguments: &LogFigures) -> Result<Vec<Figure>> {
    let arrivals =
        Arrivals { rate: arguments.rate, count: arguments.rate.saturating_mul(arguments.seconds) };
    let log = EmbeddedLog::open(&dir.join("log"), LogOptions::new())?;
    let partition = TopicPartition::new(create(&log, "commit", 1)?, 0);
    let record = records(1, Size::Hundred)?;
    warm_up(&log)?;
    let plain = DirectFile::zero_filled(&dir.join("overwritten"), FILE_BYTES)?;
    if !plain.is_direct() {
        say("commit: the file system refuses O_DIRECT, the plain loop goes through the page cache");
    }
    // Sleeps otherwise end up to 50 µs late, which either side would count as latency.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    let runs = Runs::alternate(
        arguments.runs,
        || disk::sync_file_system(dir),
        || in_log(&log, &partition, &record, arrivals),
        || in_file(&plain, arrivals),
    );
    rustix::thread::set_current_timer_slack(None)?;
    log.close()?;
    let runs = runs?;
    Ok(vec![
        runs.figure("commit_p50_ms", |latencies| latencies.p50),
        runs.figure("commit_p99_ms", |latencies| latencies.p99),
    ])
}

fn in_log(
    log: &EmbeddedLog,
    partition: &TopicPartition,
    record: &Arc<RecordSet>,
    arrivals: Arrivals,
) -> Result<Latencies> {
    let (tell, completed) = mpsc::channel();
    let schedule = Schedule::start(arrivals);
    for number in 0..arrivals.count {
        schedule.wait_for(number);
        let appends = vec![append_of(partition, record)];
        let ticket = log.commit(Commit { appends, ..Commit::default() })?;
        let (tell, clock, due) = (tell.clone(), schedule.clock, arrivals.due(number));
        ticket.on_completion(move |outcome| {
            let took = clock.elapsed().saturating_sub(due);
            // Nobody listens once a commit has failed.
            let _ended = tell.send(outcome.map(|_| took));
        });
    }
    drop(tell);
    let took: Vec<_> = completed.into_iter().collect::<Result<_, _>>()?;
    Ok(took.into())
}

fn in_file(file: &DirectFile, arrivals: Arrivals) -> Result<Latencies> {
    let (pages, mut at) = (Aligned::filled(WRITE_BYTES_MAX, 7), 0);
    let (mut took, mut written) = (Vec::new(), 0);
    let schedule = Schedule::start(arrivals);
    while written < arrivals.count {
        schedule.wait_for(written);
        let arrived = arrivals.arrived(schedule.clock.elapsed()).min(written + WRITE_RECORDS_MAX);
        let bytes = usize::try_from((arrived - written) * RECORD_BYTES)?.next_multiple_of(PAGE);
        file.write_synced(pages.first(bytes), at)?;
        let now = schedule.clock.elapsed();
        took.extend((written..arrived).map(|number| now.saturating_sub(arrivals.due(number))));
        written = arrived;
        at = (at + bytes as u64) % (FILE_BYTES - WRITE_BYTES_MAX as u64);
    }
    Ok(took.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_loop_writes_every_arrival_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = DirectFile::zero_filled(&dir.path().join("file"), 1 << 20).unwrap();
        let latencies = in_file(&file, Arrivals { rate: 10_000, count: 50 }).unwrap();
        assert!(latencies.p50 > 0.0 && latencies.p99 >= latencies.p50, "{latencies:?}");
    }
}

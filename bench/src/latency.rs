//! How long a record takes from its append until its output is readable, at a fixed rate.
//!
//! Records arrive on a schedule, whatever became of those before them, and each one's latency counts from the moment
//! at which it was due: a stall is paid by all that arrive in it. The first half warms up and does not count.

use crate::{
    arguments::Latency,
    disk,
    fleet::Telemetry,
    log::figure::{ms, percentile_ms},
    report::rounded,
    run::open_state,
    schedule::{Arrivals, Schedule},
};
use anyhow::{Context, Result, ensure};
use headwater::{
    dsl::StreamsBuilder,
    log::{EmbeddedLog, LogOptions},
    ports::log::{Append, Commit, Log, TopicSpec, Waker},
    record::{RecordSetBuilder, TopicName, TopicPartition, murmur2_partition},
    runtime::{Streams, StreamsConfig},
    time::{Clock, SystemClock},
};
use std::{
    collections::VecDeque,
    io::{self, Write},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

const INPUT: &str = "latency-input";
const OUTPUT: &str = "latency-output";
const CARS: u64 = 100_000;
/// Appends on their way at once.
const PENDING_MAX: usize = 64;
/// How long nothing may come out before the run counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);

#[derive(Debug, serde::Serialize)]
struct Line {
    benchmark: &'static str,
    rate: u64,
    seconds: u64,
    commit_interval_ms: u64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    /// A bare 4 KiB write and its sync on this disk, before the run.
    sync_p50_ms: f64,
    sync_p99_ms: f64,
}

/// Runs it in `dir` and prints the figures.
pub(crate) fn latency(dir: &Path, latency: &Latency) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("could not create {}", dir.display()))?;
    let disk = disk::measure(dir)?;
    let log: Arc<dyn Log> = Arc::new(EmbeddedLog::open(&dir.join("log"), LogOptions::new())?);
    for topic in [INPUT, OUTPUT] {
        log.create_topics(&[TopicSpec::new(TopicName::new(topic)?, latency.partitions)])?;
    }
    let arrivals = Arrivals { rate: latency.rate, count: latency.rate * latency.seconds };
    let schedule = Schedule::start(arrivals);
    let builder = StreamsBuilder::new();
    builder.stream::<String, Telemetry>(INPUT).filter(|_, car| car.rpm > 0).to(OUTPUT);
    let config = StreamsConfig::new("latency")
        .with_num_stream_threads(latency.threads)
        .with_commit_interval(Duration::from_millis(latency.commit_interval));
    let state = open_state(&dir.join("state"), &log)?;
    let streams = Streams::start(
        builder.build()?,
        config,
        Arc::clone(&log),
        state,
        Arc::new(schedule.clock),
    )?;
    let clock = schedule.clock;
    let took = thread::scope(|scope| {
        let reading = scope.spawn(|| receive(&*log, latency, arrivals.count, clock));
        send(&*log, latency, &schedule)?;
        reading.join().ok().context("a panic")?
    })?;
    streams.close()?;
    let mut warm = took.get(took.len() / 2..).context("nothing came out")?.to_vec();
    let max = warm.iter().max().copied().unwrap_or_default();
    report(
        latency,
        &Line {
            benchmark: "latency",
            rate: latency.rate,
            seconds: latency.seconds,
            commit_interval_ms: latency.commit_interval,
            p50_ms: rounded(percentile_ms(&mut warm, 50), 100.0),
            p99_ms: rounded(percentile_ms(&mut warm, 99), 100.0),
            max_ms: rounded(ms(max), 100.0),
            sync_p50_ms: rounded(ms(disk.sync_p50), 100.0),
            sync_p99_ms: rounded(ms(disk.sync_p99), 100.0),
        },
    )
}

/// Appends what has arrived, each commit with all of it.
fn send(log: &dyn Log, latency: &Latency, schedule: &Schedule) -> Result<()> {
    let (arrivals, topic) = (schedule.arrivals, TopicName::new(INPUT)?);
    let (mut sent, mut pending) = (0, VecDeque::new());
    while sent < arrivals.count {
        schedule.wait_for(sent);
        let arrived = arrivals.arrived(schedule.clock.elapsed());
        let mut builders = Vec::new();
        builders.resize_with(latency.partitions as usize, RecordSetBuilder::default);
        for number in sent..arrived {
            let due = i64::try_from(arrivals.due(number).as_nanos())?;
            let vin = format!("VIN{:08}", number % CARS);
            let partition = murmur2_partition(vin.as_bytes(), latency.partitions);
            let builder =
                builders.get_mut(partition as usize).context("a partition past the last")?;
            builder.push_encoded(due / 1_000_000, Some(vin.as_bytes()), &[], |out| {
                write!(
                    out,
                    r#"{{"vin":"{vin}","ts":{due},"speed_kmh":50.25,"rpm":2100,"engine_temp_c":90.5,"fuel_l_per_100km":5.25,"fuel_pct":50.00,"lat":48.00000,"lon":11.00000}}"#
                )
                .map(|()| true)
                .map_err(anyhow::Error::from)
            })?;
        }
        let append = |(partition, records): (u32, RecordSetBuilder)| Append {
            partition: TopicPartition::new(topic.clone(), partition),
            base_offset: None,
            records: Arc::new(records.build()),
        };
        let filled = (0..).zip(builders).filter(|(_, records)| !records.is_empty());
        let appends = filled.map(append).collect();
        pending.push_back(log.commit(Commit { appends, ..Commit::default() })?);
        if pending.len() > PENDING_MAX
            && let Some(oldest) = pending.pop_front()
        {
            oldest.wait()?;
        }
        sent = arrived;
    }
    pending.into_iter().try_for_each(|ticket| Ok(ticket.wait().map(drop)?))
}

/// Takes each output when it is readable; gives how long it took, in the order of taking.
fn receive(
    log: &dyn Log,
    latency: &Latency,
    count: u64,
    clock: SystemClock,
) -> Result<Vec<Duration>> {
    let output = TopicName::new(OUTPUT)?;
    let partitions: Vec<_> =
        (0..latency.partitions).map(|it| TopicPartition::new(output.clone(), it)).collect();
    let reader = thread::current();
    let waker: Waker = Arc::new(move || reader.unpark());
    let subscribe = |partition| log.subscribe(partition, Arc::clone(&waker));
    let _subscriptions = partitions.iter().map(subscribe).collect::<Result<Vec<_>, _>>()?;
    let count = usize::try_from(count)?;
    let (mut took, mut offsets) = (Vec::with_capacity(count), vec![0; partitions.len()]);
    let mut last = clock.elapsed();
    while took.len() < count {
        let before = took.len();
        for (partition, offset) in partitions.iter().zip(&mut offsets) {
            let fetched = log.fetch(partition, *offset, 1 << 20)?;
            *offset = fetched.next_offset;
            let now = clock.elapsed();
            for record in fetched.records.iter() {
                let car: Telemetry = sonic_rs::from_slice(record.value.context("a null value")?)?;
                took.push(now.saturating_sub(Duration::from_nanos(car.ts.unsigned_abs())));
            }
        }
        if took.len() > before {
            last = clock.elapsed();
        } else {
            ensure!(
                clock.elapsed().saturating_sub(last) < STUCK_AFTER,
                "only {before} of {count} records came out"
            );
            thread::park_timeout(STUCK_AFTER);
        }
    }
    Ok(took)
}

fn report(latency: &Latency, line: &Line) -> Result<()> {
    let mut out = io::stdout().lock();
    if latency.json {
        writeln!(out, "{}", sonic_rs::to_string(line)?)?;
        return Ok(());
    }
    let Line { rate, commit_interval_ms, p50_ms, p99_ms, max_ms, sync_p50_ms, sync_p99_ms, .. } =
        line;
    writeln!(out, "latency at {rate} records/s, commits every {commit_interval_ms} ms")?;
    writeln!(out, "  append to output   p50 {p50_ms} ms, p99 {p99_ms} ms, max {max_ms} ms")?;
    writeln!(out, "  disk, 4 KiB + sync p50 {sync_p50_ms} ms, p99 {sync_p99_ms} ms")?;
    Ok(())
}

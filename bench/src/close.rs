//! One window of many keys: fills it, has one record close it, and says what memory either took.

use crate::{arguments::Close, disk, process, run::open_state, say};
use anyhow::{Context, Result, ensure};
use headwater::{
    dsl::{EmitStrategy, StreamsBuilder, TimeWindows},
    log::{EmbeddedLog, LogOptions},
    ports::log::{Append, Commit, CommitTicket, Log, TopicSpec},
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition},
    runtime::{Streams, StreamsConfig},
    serde::Bytes,
    time::{Clock, SystemClock},
    topology::{Consumed, Produced, Topology},
};
use std::{
    collections::VecDeque,
    io::{self, Write},
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

const APPLICATION: &str = "close";
/// Records in one append.
const APPEND_RECORDS: u64 = 50_000;
/// Appends on their way at once.
const PENDING_MAX: usize = 4;
/// The event time that the window spans.
const WINDOW: Duration = Duration::from_secs(3_600);
/// How long an end may stand still before the run counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(120);

#[derive(Debug, serde::Serialize)]
struct Line {
    benchmark: &'static str,
    keys: u64,
    fill_s: f64,
    fill_peak_rss_bytes: u64,
    close_s: f64,
    close_peak_rss_bytes: u64,
}

/// Runs it in `dir` and prints the figures.
pub(crate) fn close(dir: &Path, close: &Close) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("could not create {}", dir.display()))?;
    let log: Arc<dyn Log> = Arc::new(EmbeddedLog::open(&dir.join("log"), LogOptions::new())?);
    let (input, output) = (only("close-input")?, only("close-output")?);
    log.create_topics(&[&input, &output].map(|at| TopicSpec::new(at.topic.clone(), 1)))?;
    fill(&*log, &input, close.keys)?;
    disk::sync_file_system(dir)?;

    let clock = SystemClock::new();
    let state = open_state(&dir.join("state"), &log)?;
    let config =
        StreamsConfig::new(APPLICATION).with_statestore_cache_max_bytes(close.cache_mib << 20);
    process::reset_peak_rss()?;
    let began = clock.elapsed();
    let topology = topology(&input, &output)?;
    let streams = Streams::start(topology, config, Arc::clone(&log), state, Arc::new(clock))?;
    let taken = || Ok(log.committed(APPLICATION, &input)?.map_or(0, |committed| committed.offset));
    await_reached("taken", i64::try_from(close.keys)?, &taken)?;
    let (filled, fill_peak_rss_bytes) = (clock.elapsed(), process::peak_rss_bytes()?);

    process::reset_peak_rss()?;
    append(&*log, &input, [(0, i64::try_from(WINDOW.as_millis())?)])?.wait()?;
    let finals = || Ok(log.offsets(&output)?.end);
    await_reached("finals", i64::try_from(close.keys)?, &finals)?;
    let (closed, close_peak_rss_bytes) = (clock.elapsed(), process::peak_rss_bytes()?);
    streams.close()?;
    let end = log.offsets(&output)?.end;
    ensure!(u64::try_from(end)? == close.keys, "{end} finals of {} keys", close.keys);
    report(
        close,
        &Line {
            benchmark: "close",
            keys: close.keys,
            fill_s: (filled - began).as_secs_f64(),
            fill_peak_rss_bytes,
            close_s: (closed - filled).as_secs_f64(),
            close_peak_rss_bytes,
        },
    )
}

fn only(topic: &str) -> Result<TopicPartition> {
    Ok(TopicPartition::new(TopicName::new(topic)?, 0))
}

/// Counts by key and window, and writes each window's results when it closes.
fn topology(input: &TopicPartition, output: &TopicPartition) -> Result<Topology> {
    let builder = StreamsBuilder::new();
    let bytes = || Consumed::with(Arc::new(Bytes), Arc::new(Bytes));
    let finals = builder
        .stream_with::<Vec<u8>, Vec<u8>>(input.topic.as_str(), bytes())
        .group_by_key()
        .windowed_by(TimeWindows::of_size_with_no_grace(WINDOW))
        .emit_strategy(EmitStrategy::on_window_close())
        .count("counts")
        .to_stream()
        .drop_null_values()
        .map(|key, count| (key.key, count.to_be_bytes().to_vec()));
    finals.to_with(output.topic.as_str(), Produced::with(Arc::new(Bytes), Arc::new(Bytes)));
    Ok(builder.build()?)
}

/// Appends one record of each key, in an order that is not that of the keys.
fn fill(log: &dyn Log, input: &TopicPartition, keys: u64) -> Result<()> {
    ensure!(log.offsets(input)?.end == 0, "{input} is filled already; use another directory");
    let mut pending: VecDeque<CommitTicket> = VecDeque::new();
    let mut first = 0;
    while first < keys {
        let last = keys.min(first + APPEND_RECORDS);
        let record = |n: u64| (n.reverse_bits(), i64::try_from(n * 1_000 / keys).unwrap_or(0));
        pending.push_back(append(log, input, (first..last).map(record))?);
        if pending.len() > PENDING_MAX
            && let Some(oldest) = pending.pop_front()
        {
            oldest.wait()?;
        }
        first = last;
    }
    pending.into_iter().try_for_each(|ticket| ticket.wait().map(drop))?;
    Ok(log.sync()?)
}

fn append(
    log: &dyn Log,
    input: &TopicPartition,
    records: impl IntoIterator<Item = (u64, i64)>,
) -> Result<CommitTicket> {
    let mut set = RecordSetBuilder::default();
    for (key, timestamp) in records {
        set.push(timestamp, Some(&key.to_be_bytes()), Some(b"1"), &Headers::new())?;
    }
    let append =
        Append { partition: input.clone(), base_offset: None, records: Arc::new(set.build()) };
    Ok(log.commit(Commit { owner: None, appends: vec![append], offsets: Vec::new() })?)
}

/// Looks until `reached` gives `wanted`, which must keep rising.
fn await_reached(what: &str, wanted: i64, reached: &dyn Fn() -> Result<i64>) -> Result<()> {
    let (_never, wake) = mpsc::channel::<()>();
    let (mut before, mut still) = (reached()?, Duration::ZERO);
    let every = Duration::from_millis(20);
    while before < wanted {
        // Nobody sends: this only waits.
        let _timeout = wake.recv_timeout(every);
        let now = reached()?;
        still = if now > before { Duration::ZERO } else { still + every };
        ensure!(still < STUCK_AFTER, "{what} stand still at {now} of {wanted}");
        before = now;
    }
    say(format_args!("{before} {what}"));
    Ok(())
}

fn report(close: &Close, line: &Line) -> Result<()> {
    let mut out = io::stdout().lock();
    if close.json {
        return Ok(writeln!(out, "{}", sonic_rs::to_string(line)?)?);
    }
    let mib = |bytes: u64| bytes >> 20;
    writeln!(out, "{} keys in one window", line.keys)?;
    writeln!(
        out,
        "filled in {:.1} s, peak RSS {} MiB",
        line.fill_s,
        mib(line.fill_peak_rss_bytes)
    )?;
    writeln!(
        out,
        "closed in {:.1} s, peak RSS {} MiB",
        line.close_s,
        mib(line.close_peak_rss_bytes)
    )?;
    Ok(())
}

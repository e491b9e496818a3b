//! The timed part: from the start of the application until its last commit is durable and it has closed.

use crate::{
    arguments::Cars,
    fill::Input,
    pipeline::{self, Topics},
    process, say,
};
use anyhow::{Result, ensure};
use headwater::{
    log::EmbeddedLog,
    memory::MemoryBudget,
    ports::{
        log::{Cleanup, Log, TopicSpec},
        state::State,
    },
    record::{TopicName, TopicPartition},
    runtime::{Streams, StreamsConfig},
    time::{Clock, SystemClock},
};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    time::Duration,
};

/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// Where a run reads, writes and keeps its state.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) application_id: String,
    pub(crate) inputs: Vec<TopicName>,
    pub(crate) output: TopicName,
    pub(crate) state: PathBuf,
}

/// What a run took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) elapsed: Duration,
    pub(crate) cpu: Duration,
    pub(crate) peak_rss_bytes: u64,
    pub(crate) commits: u64,
    pub(crate) commit_p50: Duration,
    pub(crate) commit_p99: Duration,
}

/// A fresh output topic and application for a run.
pub(crate) fn prepare(log: &EmbeddedLog, dir: &Path, cars: &Cars, input: &Input) -> Result<Place> {
    let used =
        log.topics()?.into_iter().filter(|topic| topic.name.as_str().ends_with("-output")).count();
    let application_id = format!("run-{used}");
    let output = TopicName::new(format!("{application_id}-output"))?;
    log.create_topics(&[TopicSpec {
        name: output.clone(),
        partitions: cars.partitions,
        durability: cars.durability.into(),
        cleanup: Cleanup::Keep,
    }])?;
    let state = dir.join(format!("{application_id}-state"));
    let beside = input.beside.iter().map(|beside| &beside.topic);
    let inputs = [&input.topic].into_iter().chain(beside).cloned().collect();
    Ok(Place { application_id, inputs, output, state })
}

/// Runs the pipeline over all of its input.
pub(crate) fn run(log: &Arc<EmbeddedLog>, place: &Place, cars: &Cars) -> Result<Measured> {
    let input = |at: usize| place.inputs.get(at).map_or("", TopicName::as_str);
    let topics = Topics { input: input(0), beside: input(1), output: place.output.as_str() };
    let topology = pipeline::topology(cars.mode, topics)?;
    let config = StreamsConfig::new(&place.application_id)
        .with_num_stream_threads(cars.threads)
        .with_processing_guarantee(cars.guarantee.into())
        .with_commit_interval(Duration::from_millis(cars.commit_interval()))
        .with_batch_rows_max(cars.batch_rows)
        .with_statestore_cache_max_bytes(50 << 20)
        .with_internal_durability(cars.durability.into());
    let log: Arc<dyn Log> = Arc::clone(log) as Arc<dyn Log>;
    let state = open_state(&place.state, &log)?;
    let clock = SystemClock::new();

    process::reset_peak_rss()?;
    let (began, cpu) = (clock.elapsed(), process::cpu_time());
    let streams = Streams::start(topology, config, Arc::clone(&log), state, Arc::new(clock))?;
    let (ended, progress) = channel();
    std::thread::scope(|scope| {
        let running = &streams;
        scope.spawn(move || tell_progress(running, cars, &clock, &progress));
        let drained = streams.drain();
        drop(ended);
        drained
    })?;
    let (elapsed, cpu) =
        (clock.elapsed().saturating_sub(began), process::cpu_time().saturating_sub(cpu));

    let peak_rss_bytes = process::peak_rss_bytes()?;
    check_consumed(&*log, place, cars)?;
    let metrics = streams.metrics();
    Ok(Measured {
        elapsed,
        cpu,
        peak_rss_bytes,
        commits: metrics.commits,
        commit_p50: metrics.commit_latencies.quantile(0.5),
        commit_p99: metrics.commit_latencies.quantile(0.99),
    })
}

#[cfg(feature = "rocksdb")]
pub(crate) fn open_state(dir: &Path, log: &Arc<dyn Log>) -> Result<Arc<dyn State>> {
    use headwater::state::{RocksDbOptions, RocksDbState};
    Ok(Arc::new(RocksDbState::open(dir, RocksDbOptions::default().log(Arc::clone(log)))?))
}

/// The same, with its shares of a budget.
#[cfg(feature = "rocksdb")]
pub(crate) fn open_state_within(
    memory: &MemoryBudget,
    dir: &Path,
    log: &Arc<dyn Log>,
) -> Result<Arc<dyn State>> {
    use headwater::state::{RocksDbOptions, RocksDbState};
    let options = RocksDbOptions::default().memory(memory).log(Arc::clone(log));
    Ok(Arc::new(RocksDbState::open(dir, options)?))
}

#[cfg(not(feature = "rocksdb"))]
pub(crate) fn open_state_within(
    _: &MemoryBudget,
    dir: &Path,
    log: &Arc<dyn Log>,
) -> Result<Arc<dyn State>> {
    open_state(dir, log)
}

#[cfg(not(feature = "rocksdb"))]
#[expect(clippy::unnecessary_wraps, reason = "opening the other state can fail")]
pub(crate) fn open_state(_: &Path, _: &Arc<dyn Log>) -> Result<Arc<dyn State>> {
    Ok(Arc::new(headwater::state::MemoryState::default()))
}

/// Says now and then how far the run is, until `ended` is closed.
fn tell_progress(streams: &Streams, cars: &Cars, clock: &SystemClock, ended: &Receiver<()>) {
    let (mut before, mut at) = (0, clock.elapsed());
    while ended.recv_timeout(PROGRESS_EVERY) == Err(RecvTimeoutError::Timeout) {
        let (records, now) = (streams.metrics().records, clock.elapsed());
        let rate = (records - before) as f64 / now.saturating_sub(at).as_secs_f64();
        say(format_args!("{records} of {} records, {rate:.0}/s", cars.records));
        (before, at) = (records, now);
    }
}

/// The clock may only have stopped when every input offset was committed.
fn check_consumed(log: &dyn Log, place: &Place, cars: &Cars) -> Result<()> {
    let partitions = |topic: &TopicName| {
        let topic = topic.clone();
        (0..cars.partitions).map(move |partition| TopicPartition::new(topic.clone(), partition))
    };
    for partition in place.inputs.iter().flat_map(partitions) {
        let end = log.offsets(&partition)?.end;
        let committed = log
            .committed(&place.application_id, &partition)?
            .map_or(0, |committed| committed.offset);
        ensure!(committed == end, "{partition} was committed up to {committed}, but ends at {end}");
    }
    Ok(())
}

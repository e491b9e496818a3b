//! A running instance, through the facade: what threads and moments could spoil.

#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

use headwater::{
    ports::log::{
        Append, Claim, Commit, CommitTicket, Committed, Fetched, Limits, Log, LogError, LogId,
        Offsets, RecordEpoch, Subscription, Waker,
    },
    prelude::*,
    record::{Headers, RecordSetBuilder},
    runtime::{Repartitioning, StreamsState},
    state::MemoryState,
};
use headwater_testkit::{FaultyLog, MemoryLog};
use std::{
    fmt,
    sync::{
        Arc, Condvar, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

/// A log that is watched.
struct Watched {
    inner: MemoryLog,
    /// What happens once a reader of `in` was told that it holds nothing more.
    at_end: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// For each commit of a position in `in`: that position, and the end of `out` after it.
    positions: Mutex<Vec<(i64, i64)>>,
    /// The most bytes that one fetch from a repartition topic asked for.
    largest_fetch: AtomicUsize,
    /// Where readers of changelogs wait for each other.
    restores: Meeting,
}

/// A place where who comes waits until two have come.
#[derive(Default)]
struct Meeting {
    came: Mutex<usize>,
    changed: Condvar,
    /// Who waited in vain.
    alone: AtomicUsize,
}

impl Meeting {
    fn meet(&self) {
        let mut came = self.came.lock().unwrap();
        *came += 1;
        self.changed.notify_all();
        let is_alone = |came: &mut usize| *came < 2;
        let patience = Duration::from_secs(20);
        let (_came, waited) = self.changed.wait_timeout_while(came, patience, is_alone).unwrap();
        self.alone.fetch_add(usize::from(waited.timed_out()), Ordering::Relaxed);
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Watched {
    /// With `in` and `out`, one partition each.
    fn new() -> Arc<Self> {
        let inner = MemoryLog::new();
        let topics = ["in", "out"].map(|name| TopicSpec::new(TopicName::new(name).unwrap(), 1));
        inner.create_topics(&topics).unwrap();
        Arc::new(Self {
            inner,
            at_end: Mutex::default(),
            positions: Mutex::default(),
            largest_fetch: AtomicUsize::default(),
            restores: Meeting::default(),
        })
    }

    fn start(self: &Arc<Self>, topology: Topology, config: StreamsConfig) -> Streams {
        let state = Arc::new(MemoryState::default());
        let log = Arc::clone(self) as Arc<dyn Log>;
        Streams::start(topology, config, log, state, Arc::new(SystemClock::new())).unwrap()
    }

    /// The values in `out`.
    fn output(&self) -> Vec<Vec<u8>> {
        let fetched = self.inner.fetch(&only("out"), 0, usize::MAX).unwrap();
        fetched.records.iter().map(|record| record.value.unwrap().to_vec()).collect()
    }
}

fn only(topic: &str) -> TopicPartition {
    TopicPartition::new(TopicName::new(topic).unwrap(), 0)
}

impl Log for Watched {
    fn id(&self) -> LogId {
        self.inner.id()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn fetch(
        &self,
        partition: &TopicPartition,
        offset: i64,
        bytes_max: usize,
    ) -> Result<Fetched, LogError> {
        if partition.topic.as_str().ends_with("-repartition") {
            self.largest_fetch.fetch_max(bytes_max, Ordering::Relaxed);
        }
        if partition.topic.as_str().ends_with("-changelog") {
            self.restores.meet();
        }
        let fetched = self.inner.fetch(partition, offset, bytes_max)?;
        if *partition == only("in") && offset > 0 && fetched.records.is_empty() {
            let then = self.at_end.lock().unwrap().take();
            then.into_iter().for_each(|then| then());
        }
        Ok(fetched)
    }

    fn create_topics(&self, specs: &[TopicSpec]) -> Result<(), LogError> {
        self.inner.create_topics(specs)
    }

    fn topics(&self) -> Result<Vec<TopicSpec>, LogError> {
        self.inner.topics()
    }

    fn offsets(&self, partition: &TopicPartition) -> Result<Offsets, LogError> {
        self.inner.offsets(partition)
    }

    fn record_epoch(
        &self,
        partition: &TopicPartition,
        offset: i64,
    ) -> Result<Option<RecordEpoch>, LogError> {
        self.inner.record_epoch(partition, offset)
    }

    fn offset_for_timestamp(
        &self,
        partition: &TopicPartition,
        timestamp: Timestamp,
    ) -> Result<Option<i64>, LogError> {
        self.inner.offset_for_timestamp(partition, timestamp)
    }

    fn claim(&self, group: &str, topics: &[TopicName]) -> Result<Box<dyn Claim>, LogError> {
        self.inner.claim(group, topics)
    }

    fn commit(&self, commit: Commit) -> Result<CommitTicket, LogError> {
        let of_input = commit.offsets.iter().filter(|position| position.partition == only("in"));
        let offsets: Vec<_> = of_input.map(|position| position.committed.offset).collect();
        let ticket = self.inner.commit(commit)?;
        let end = self.inner.offsets(&only("out"))?.end;
        self.positions.lock().unwrap().extend(offsets.into_iter().map(|offset| (offset, end)));
        Ok(ticket)
    }

    fn committed(
        &self,
        group: &str,
        partition: &TopicPartition,
    ) -> Result<Option<Committed>, LogError> {
        self.inner.committed(group, partition)
    }

    fn sync(&self) -> Result<(), LogError> {
        self.inner.sync()
    }

    fn subscribe(
        &self,
        partition: &TopicPartition,
        waker: Waker,
    ) -> Result<Subscription, LogError> {
        self.inner.subscribe(partition, waker)
    }

    fn subscribe_to_offsets(
        &self,
        partition: &TopicPartition,
        waker: Waker,
    ) -> Result<Subscription, LogError> {
        self.inner.subscribe_to_offsets(partition, waker)
    }

    fn subscribe_to_topics(&self, waker: Waker) -> Subscription {
        self.inner.subscribe_to_topics(waker)
    }
}

fn append(log: &Watched, timestamps: impl IntoIterator<Item = i64>) {
    let mut records = RecordSetBuilder::default();
    for timestamp in timestamps {
        let value = timestamp.to_string();
        records.push(timestamp, Some(b"car"), Some(value.as_bytes()), &Headers::new()).unwrap();
    }
    let records = Arc::new(records.build());
    let append = Append { partition: only("in"), base_offset: None, records };
    let commit = Commit { appends: vec![append], ..Commit::default() };
    log.commit(commit).unwrap().wait().unwrap();
}

/// A reader may have been told that its input ends here just before the input's last records came and it was declared
/// complete: they count, and windows close after them.
#[test]
fn what_was_appended_before_an_input_is_declared_complete_is_taken_before_windows_close() {
    const WINDOWS: &str = "per-minute";
    let builder = StreamsBuilder::new();
    let _windows = builder
        .stream::<String, String>("in")
        .group_by_key()
        .windowed_by(TimeWindows::of_size_with_no_grace(Duration::from_secs(60)))
        .emit_strategy(EmitStrategy::on_window_close())
        .count("counts")
        .named(WINDOWS)
        .to_stream()
        .to("out");
    let log = Watched::new();
    append(&log, 0..10);

    let streams = Arc::new(OnceLock::<Streams>::new());
    let (declare, declared) = mpsc::channel();
    *log.at_end.lock().unwrap() = Some(Box::new({
        // Weak, for the log is not to keep itself alive.
        let (log, streams) = (Arc::downgrade(&log), Arc::clone(&streams));
        move || {
            append(&log.upgrade().unwrap(), 10..20);
            declare.send(()).unwrap();
            let draining =
                || matches!(streams.get().map(Streams::state), Some(StreamsState::PendingShutdown));
            while !draining() {
                thread::yield_now();
            }
        }
    }));
    let started = log.start(builder.build().unwrap(), StreamsConfig::new("app"));
    let streams = streams.get_or_init(|| started);
    declared.recv().unwrap();
    streams.drain().unwrap();

    assert_eq!(streams.dropped_records(WINDOWS), 0);
    assert_eq!(log.output(), [20_i64.to_be_bytes().to_vec()]);
}

/// At-least-once sends outputs ahead: a position may be committed only after the outputs of all that lies before it.
#[test]
fn at_least_once_never_commits_a_position_ahead_of_its_outputs() {
    let builder = StreamsBuilder::new();
    builder.stream::<String, String>("in").to("out");
    let log = Watched::new();
    append(&log, 0..5_000);
    let config = StreamsConfig::new("app")
        .with_processing_guarantee(ProcessingGuarantee::AtLeastOnce)
        .with_batch_rows_max(7)
        .with_commit_interval(Duration::ZERO);
    let streams = log.start(builder.build().unwrap(), config);
    append(&log, 5_000..10_000);
    streams.drain().unwrap();

    let expected: Vec<_> =
        (0..10_000).map(|timestamp| timestamp.to_string().into_bytes()).collect();
    assert_eq!(log.output(), expected);
    let positions = log.positions.lock().unwrap().clone();
    assert!(positions.len() > 1, "{positions:?}");
    let ahead = positions.iter().find(|(position, outputs)| position > outputs);
    assert_eq!(ahead, None);
}

/// A repartition topic that is read from the log takes no more memory than any other input.
#[test]
fn a_fetch_from_a_repartition_topic_keeps_to_its_share() {
    let builder = StreamsBuilder::new();
    let grouped = builder.stream::<String, String>("in").group_by(|_, value| value.clone());
    grouped.count("counts").to_stream().to("out");
    let log = Watched::new();
    append(&log, 0..1_000);
    let config = StreamsConfig::new("app").with_repartitioning(Repartitioning::ThroughTopic);
    let streams = log.start(builder.build().unwrap(), config);
    streams.drain().unwrap();
    assert_eq!(log.output().len(), 1_000);
    let largest = log.largest_fetch.load(Ordering::Relaxed);
    assert!((1..=256 << 10).contains(&largest), "{largest} bytes were asked for");
}

/// A state that was lost is back after the longest changelog, not after all of them.
#[test]
fn stores_are_restored_side_by_side() {
    let topology = || {
        let builder = StreamsBuilder::new();
        let grouped = builder.stream::<String, String>("in").group_by_key();
        let _silent = grouped.count("other");
        grouped.count("counts").to_stream().to("out");
        builder.build().unwrap()
    };
    let log = Watched::new();
    append(&log, 0..10);
    log.start(topology(), StreamsConfig::new("app")).drain().unwrap();
    append(&log, 10..20);
    log.start(topology(), StreamsConfig::new("app")).drain().unwrap();
    assert_eq!(*log.restores.came.lock().unwrap(), 2, "one fetch of each changelog");
    assert_eq!(log.restores.alone.load(Ordering::Relaxed), 0);
    assert_eq!(log.output().last(), Some(&20_i64.to_be_bytes().to_vec()));
}

/// Commits are answered on a thread of the log's, at any moment of the committer's.
#[test]
fn no_answer_of_the_log_is_lost() {
    let builder = StreamsBuilder::new();
    builder.stream::<String, String>("in").to("out");
    let log = Arc::new(FaultyLog::new());
    let topics = ["in", "out"].map(|name| TopicSpec::new(TopicName::new(name).unwrap(), 1));
    log.create_topics(&topics).unwrap();
    let config = StreamsConfig::new("app")
        .with_processing_guarantee(ProcessingGuarantee::AtLeastOnce)
        .with_batch_rows_max(1)
        .with_commit_interval(Duration::ZERO);
    let mut records = RecordSetBuilder::default();
    for timestamp in 0..20_000 {
        records.push(timestamp, Some(b"car"), Some(b"1"), &Headers::new()).unwrap();
    }
    let append =
        Append { partition: only("in"), base_offset: None, records: Arc::new(records.build()) };
    log.commit(Commit { appends: vec![append], ..Commit::default() }).unwrap().wait().unwrap();
    log.set_slow(true);

    let (port, clock) = (Arc::clone(&log) as Arc<dyn Log>, Arc::new(SystemClock::new()));
    let state = Arc::new(MemoryState::default());
    let streams = Streams::start(builder.build().unwrap(), config, port, state, clock).unwrap();
    thread::scope(|scope| {
        let drained = scope.spawn(|| streams.drain_within(Duration::from_secs(60)));
        while !drained.is_finished() {
            if !log.complete_next() {
                thread::yield_now();
            }
        }
        drained.join().unwrap().unwrap();
    });
    assert_eq!(log.offsets(&only("out")).unwrap().end, 20_000);
}

/// An aggregate grows past the largest record of a log on disk: its last record is a dead letter, now and after a restart.
#[test]
fn an_aggregate_that_outgrows_a_log_on_disk_does_not_stop_its_application() {
    let dir = tempfile::tempdir().unwrap();
    let topology = || {
        let builder = StreamsBuilder::new();
        let grouped = builder.stream::<String, String>("in").group_by_key();
        grouped.reduce(|before, text| before + &text, "text");
        grouped.count("counts").to_stream().to("out");
        builder.build().unwrap()
    };
    let end = |log: &EmbeddedLog, topic| log.offsets(&only(topic)).unwrap().end;
    for (run, texts) in
        [&[("a", 40), ("a", 30), ("b", 1)][..], &[("a", 30), ("b", 1)]].iter().enumerate()
    {
        let log = Arc::new(EmbeddedLog::open(dir.path(), LogOptions::new()).unwrap());
        let topics = ["in", "out"].map(|name| TopicSpec::new(TopicName::new(name).unwrap(), 1));
        log.create_topics(&topics).unwrap();
        for (key, mib) in *texts {
            let mut records = RecordSetBuilder::default();
            let text = vec![b'x'; mib << 20];
            records.push(0, Some(key.as_bytes()), Some(&text), &Headers::new()).unwrap();
            let records = Arc::new(records.build());
            let append = Append { partition: only("in"), base_offset: None, records };
            log.commit(Commit { appends: vec![append], ..Commit::default() })
                .unwrap()
                .wait()
                .unwrap();
        }
        let (port, clock) = (Arc::clone(&log) as Arc<dyn Log>, Arc::new(SystemClock::new()));
        let (config, state) = (StreamsConfig::new("app"), Arc::new(MemoryState::default()));
        let streams = Streams::start(topology(), config, port, state, clock).unwrap();
        streams.drain().unwrap();
        drop(streams);
        assert_eq!(end(&log, "app-dead-letters"), i64::try_from(run).unwrap() + 1);
        assert_eq!(log.committed("app", &only("in")).unwrap().unwrap().offset, end(&log, "in"));
    }
}

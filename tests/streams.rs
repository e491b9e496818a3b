//! A running instance, through the facade: what threads and moments could spoil.

#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

use headwater::{
    ports::log::{
        Append, Commit, CommitTicket, Committed, Fetched, Log, LogError, Offsets, Owner, Waker,
    },
    prelude::*,
    record::{Headers, RecordSetBuilder},
    runtime::StreamsState,
    state::MemoryState,
};
use headwater_testkit::MemoryLog;
use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, mpsc},
    thread,
    time::Duration,
};

/// A log on which something happens right after a reader was told that a partition holds nothing more.
struct AtTheEnd {
    inner: MemoryLog,
    topic: TopicName,
    then: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl fmt::Debug for AtTheEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtTheEnd").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Log for AtTheEnd {
    fn fetch(
        &self,
        partition: &TopicPartition,
        offset: i64,
        bytes_max: usize,
    ) -> Result<Fetched, LogError> {
        let fetched = self.inner.fetch(partition, offset, bytes_max)?;
        if partition.topic == self.topic && offset > 0 && fetched.records.is_empty() {
            let then = self.then.lock().unwrap().take();
            then.into_iter().for_each(|then| then());
        }
        Ok(fetched)
    }

    fn create_topic(&self, spec: &TopicSpec) -> Result<(), LogError> {
        self.inner.create_topic(spec)
    }

    fn topics(&self) -> Result<Vec<TopicSpec>, LogError> {
        self.inner.topics()
    }

    fn offsets(&self, partition: &TopicPartition) -> Result<Offsets, LogError> {
        self.inner.offsets(partition)
    }

    fn offset_for_timestamp(
        &self,
        partition: &TopicPartition,
        timestamp: Timestamp,
    ) -> Result<Option<i64>, LogError> {
        self.inner.offset_for_timestamp(partition, timestamp)
    }

    fn claim(&self, group: &str) -> Result<Owner, LogError> {
        self.inner.claim(group)
    }

    fn commit(&self, commit: Commit) -> Result<Box<dyn CommitTicket>, LogError> {
        self.inner.commit(commit)
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

    fn wake(&self, waker: Waker) {
        self.inner.wake(waker);
    }
}

fn append(log: &dyn Log, topic: &TopicName, timestamps: impl IntoIterator<Item = i64>) {
    let mut records = RecordSetBuilder::default();
    for timestamp in timestamps {
        let value = timestamp.to_string();
        records.push(timestamp, Some(b"car"), Some(value.as_bytes()), &Headers::new()).unwrap();
    }
    let append = Append {
        partition: TopicPartition::new(topic.clone(), 0),
        base_offset: None,
        records: Arc::new(records.build()),
    };
    let commit = Commit { appends: vec![append], ..Commit::default() };
    log.commit(commit).unwrap().wait().unwrap();
}

/// A reader may have been told that its input ends here just before the input's last records came and it was declared
/// complete: they count, and windows close behind them.
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
    let (input, output) = (TopicName::new("in").unwrap(), TopicName::new("out").unwrap());
    let log = Arc::new(AtTheEnd {
        inner: MemoryLog::new(),
        topic: input.clone(),
        then: Mutex::default(),
    });
    for topic in [&input, &output] {
        log.create_topic(&TopicSpec::new(topic.clone(), 1)).unwrap();
    }
    append(&*log, &input, 0..10);

    let streams = Arc::new(OnceLock::<Streams>::new());
    let (declare, declared) = mpsc::channel();
    *log.then.lock().unwrap() = Some(Box::new({
        // Weak, for the log is not to keep itself alive.
        let (log, input, streams) = (Arc::downgrade(&log), input.clone(), Arc::clone(&streams));
        move || {
            append(&*log.upgrade().unwrap(), &input, 10..20);
            declare.send(()).unwrap();
            let draining =
                || matches!(streams.get().map(Streams::state), Some(StreamsState::PendingShutdown));
            while !draining() {
                thread::yield_now();
            }
        }
    }));
    let started = Streams::start(
        builder.build().unwrap(),
        StreamsConfig::new("app"),
        Arc::clone(&log) as _,
        Arc::new(MemoryState::default()),
        Arc::new(SystemClock::new()),
    );
    let streams = streams.get_or_init(|| started.unwrap());
    declared.recv().unwrap();
    streams.drain().unwrap();

    assert_eq!(streams.dropped_records(WINDOWS), 0);
    let written = log.inner.fetch(&TopicPartition::new(output, 0), 0, 1 << 20).unwrap().records;
    let counts: Vec<_> = written.iter().map(|record| record.value.unwrap().to_vec()).collect();
    assert_eq!(counts, [20_i64.to_be_bytes().to_vec()]);
}

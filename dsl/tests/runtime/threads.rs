//! Threads come and go while an application runs: its tasks follow, and nothing is lost or counted twice.

use headwater_core::{
    ports::log::{Append, Commit, Log, TopicSpec},
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition},
    time::{Clock, SystemClock},
};
use headwater_dsl::{Materialized, StreamsBuilder};
use headwater_engine::runtime::{Runtime, Streams, StreamsConfig, StreamsError};
use headwater_testkit::{MemoryLog, MemoryState};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    error::Error,
    sync::{Arc, mpsc},
    thread::{self, ThreadId},
    time::Duration,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn append(log: &MemoryLog, partition: u32) -> Outcome {
    let (key, mut set) = (format!("k{partition}"), RecordSetBuilder::default());
    set.push(1, Some(key.as_bytes()), Some(&1_i64.to_be_bytes()), &Headers::new())?;
    let partition = TopicPartition::new(TopicName::new("in")?, partition);
    let append = Append { partition, base_offset: None, records: Arc::new(set.build()) };
    log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
    Ok(())
}

#[test]
fn tasks_follow_threads_that_come_and_go() -> Outcome {
    let (log, (told, seen)) = (Arc::new(MemoryLog::new()), mpsc::channel::<(String, ThreadId)>());
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, i64>("in");
    let stream = stream.peek(move |key, _| {
        told.send((key.clone(), thread::current().id())).expect("the test is there");
    });
    let counts = stream.group_by_key().count(Materialized::named("counts").with_caching_disabled());
    counts.to_stream().to("out");
    log.create_topics(&[
        TopicSpec::new(TopicName::new("in")?, 2),
        TopicSpec::new(TopicName::new("out")?, 1),
    ])?;
    let streams = Streams::start(
        builder.build()?,
        StreamsConfig::new("test").with_num_stream_threads(1),
        Arc::clone(&log) as Arc<dyn Log>,
        Arc::new(MemoryState::new()),
        Arc::new(SystemClock::new()),
    )?;
    let mut taken = 0_i64;
    // Has a record of each partition taken at a time until its threads are as wanted.
    let mut until = |are_wanted: fn(ThreadId, ThreadId) -> bool| -> Outcome {
        for _ in 0..100_000 {
            (0..2).try_for_each(|partition| append(&log, partition))?;
            taken += 1;
            let mut threads = BTreeMap::new();
            while threads.len() < 2 {
                let (key, thread) = seen.recv_timeout(Duration::from_secs(60))?;
                threads.insert(key, thread);
            }
            if are_wanted(threads["k0"], threads["k1"]) {
                return Ok(());
            }
        }
        Err("the tasks stay where they are".into())
    };
    until(|one, other| one == other)?;
    streams.add_stream_thread()?;
    until(|one, other| one != other)?;
    assert!(streams.remove_stream_thread());
    until(|one, other| one == other)?;
    assert!(!streams.remove_stream_thread(), "one is left");
    streams.drain()?;

    let out = TopicPartition::new(TopicName::new("out")?, 0);
    let mut counts = BTreeMap::from([("k0".to_owned(), 0), ("k1".to_owned(), 0)]);
    for record in log.fetch(&out, 0, usize::MAX)?.records.iter() {
        let key = String::from_utf8(record.key.unwrap_or_default().to_vec())?;
        let count = i64::from_be_bytes(record.value.unwrap_or_default().try_into()?);
        let before = counts.insert(key, count);
        assert_eq!(before, Some(count - 1), "each record counts once");
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [taken, taken]);
    Ok(())
}

#[test]
fn threads_are_called_by_the_clients_id() -> Outcome {
    let (log, (told, seen)) = (Arc::new(MemoryLog::new()), mpsc::channel());
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, i64>("in").peek(move |_, _| {
        let name = thread::current().name().unwrap_or_default().to_owned();
        told.send(name).expect("the test is there");
    });
    stream.to("out");
    let topics = ["in", "out"].map(|name| TopicName::new(name).map(|name| TopicSpec::new(name, 1)));
    log.create_topics(&topics.into_iter().collect::<Result<Vec<_>, _>>()?)?;
    let config =
        StreamsConfig::new("test").with_client_id("edge\0-of-the-field").with_num_stream_threads(1);
    let streams = Streams::start(
        builder.build()?,
        config,
        Arc::clone(&log) as Arc<dyn Log>,
        Arc::new(MemoryState::new()),
        Arc::new(SystemClock::new()),
    )?;
    append(&log, 0)?;
    assert_eq!(seen.recv()?, "edge-of-the-f-1", "what Linux keeps has the number");
    let metrics = streams.metrics().to_prometheus();
    let samples = || metrics.lines().filter(|line| !line.starts_with('#'));
    assert!(
        samples().count() > 20 && samples().all(|line| line.contains("{client_id=\"edge\0-of"))
    );
    streams.close()?;
    Ok(())
}

/// Tells when the thread ends that it belongs to.
#[derive(Debug)]
struct AtEnd(mpsc::Sender<()>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        self.0.send(()).expect("the test is there");
    }
}

thread_local! {
    static AT_END: RefCell<Option<AtEnd>> = const { RefCell::new(None) };
}

/// A clock that has it told when the committer, who asks it how long a commit has taken, ends.
#[derive(Debug)]
struct ToldByCommitter {
    clock: SystemClock,
    ended: mpsc::Sender<()>,
}

impl Clock for ToldByCommitter {
    fn now(&self) -> i64 {
        self.clock.now()
    }

    fn elapsed(&self) -> Duration {
        if thread::current().name() == Some("committer") {
            AT_END.with_borrow_mut(|told| {
                told.get_or_insert_with(|| AtEnd(self.ended.clone()));
            });
        }
        self.clock.elapsed()
    }
}

#[test]
fn a_commit_that_comes_after_its_runtime_has_ended_leaves_nobody_waiting() -> Outcome {
    let log = Arc::new(MemoryLog::new());
    log.create_topics(
        &["in", "out"].map(|name| TopicSpec::new(TopicName::new(name).expect("a topic's name"), 1)),
    )?;
    let (flushing, flushes) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel();
    let goes_on = std::sync::Mutex::new(goes_on);
    let builder = StreamsBuilder::new();
    let counts = builder.stream::<String, i64>("in").group_by_key().count("counts");
    // Below a cache: reached as a commit is made.
    let counts = counts.to_stream().peek(move |_, _| {
        flushing.send(()).expect("the test is there");
        goes_on.lock().expect("nobody panics").recv().expect("the test is there");
    });
    counts.to("out");
    let (ended, ends) = mpsc::channel();
    let clock = Arc::new(ToldByCommitter { clock: SystemClock::new(), ended });
    let runtime =
        Runtime::start(1, Arc::clone(&log) as Arc<dyn Log>, Arc::new(MemoryState::new()), clock)?;
    let application = runtime.start_application(builder.build()?, StreamsConfig::new("test"))?;
    append(&log, 0)?;
    flushes.recv()?;
    go_on.send(())?;
    append(&log, 0)?;
    flushes.recv()?;
    let dropping = thread::spawn(move || drop(runtime));
    ends.recv()?;
    go_on.send(())?;
    dropping.join().expect("nothing panics");
    let closed = application.close_within(Duration::from_secs(10));
    // Where it has not ended, dropping it would wait for ever.
    std::mem::forget(application);
    assert!(matches!(closed, Err(StreamsError::NotRunning)), "{closed:?}");
    Ok(())
}

//! Threads come and go while an application runs: its tasks follow, and nothing is lost or counted twice.

use headwater_core::{
    ports::log::{Append, Commit, Log, TopicSpec},
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition},
    time::SystemClock,
};
use headwater_dsl::{Materialized, StreamsBuilder};
use headwater_engine::runtime::{Streams, StreamsConfig};
use headwater_testkit::{MemoryLog, MemoryState};
use std::{
    collections::BTreeMap,
    error::Error,
    sync::{Arc, mpsc},
    thread::ThreadId,
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
        told.send((key.clone(), std::thread::current().id())).expect("the test is there");
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

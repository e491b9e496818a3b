//! What many topics and groups cost. Ignored: it measures, and asserts only that all is there.
//!
//! `cargo test --release -p headwater-log --test scale -- --ignored --nocapture --test-threads 1`

#![expect(clippy::unwrap_used, reason = "what a test needs around its cases fails the test")]

use headwater_core::{
    ports::log::{Append, Cleanup, Commit, Committed, GroupOffset, Log, TopicSpec},
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition},
    time::{Clock, SystemClock},
};
use headwater_log::{EmbeddedLog, LogOptions};
use std::{path::Path, sync::Arc};

const TOPICS: u32 = 4_000;
const PARTITIONS: u32 = 4;
/// Partitions that get a record.
const FIRST: u32 = 800;

fn open(dir: &Path) -> EmbeddedLog {
    EmbeddedLog::open(dir, LogOptions::new()).unwrap()
}

/// Beside the sources: the system's directory for temporary files may be in memory.
fn dir() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn name(number: u32) -> TopicName {
    TopicName::new(format!("topic-{number}")).unwrap()
}

fn offset(group: u32, topic: u32) -> GroupOffset {
    GroupOffset {
        group: format!("group-{group}").into(),
        partition: TopicPartition::new(name(topic), 0),
        committed: Committed { offset: 0, metadata: String::new() },
    }
}

#[test]
#[ignore = "measures; run it in release mode and read what it prints"]
fn a_commit_of_100_offsets_beside_1000_groups() {
    let dir = dir();
    let log = open(dir.path());
    let purged = |number| TopicSpec { cleanup: Cleanup::Purge, ..TopicSpec::new(name(number), 1) };
    log.create_topics(&(0..100).map(purged).collect::<Vec<_>>()).unwrap();
    for group in 0..1_000 {
        let offsets = (0..100).map(|topic| offset(group, topic)).collect();
        log.commit(Commit { offsets, ..Commit::default() }).unwrap().wait().unwrap();
    }
    let clock = SystemClock::new();
    let mut took: Vec<_> = (0..100)
        .map(|group| {
            let offsets = (0..100).map(|topic| offset(group, topic)).collect();
            let began = clock.elapsed();
            log.commit(Commit { offsets, ..Commit::default() }).unwrap().wait().unwrap();
            clock.elapsed() - began
        })
        .collect();
    took.sort_unstable();
    println!(
        "a commit of 100 offsets beside 1,000 groups: median {:?}, largest {:?}",
        took[50], took[99]
    );
}

#[test]
#[ignore = "measures; run it in release mode and read what it prints"]
fn many_topics() {
    let dir = dir();
    let log = open(dir.path());
    let clock = SystemClock::new();
    let began = clock.elapsed();
    let specs: Vec<_> = (0..TOPICS).map(|n| TopicSpec::new(name(n), PARTITIONS)).collect();
    log.create_topics(&specs).unwrap();
    println!("{TOPICS} topics of {PARTITIONS} partitions created in {:?}", clock.elapsed() - began);

    let mut set = RecordSetBuilder::default();
    set.push(0, None, Some(b"v"), &Headers::new()).unwrap();
    let records = Arc::new(set.build());
    let began = clock.elapsed();
    let append = |number: u32| Append {
        partition: TopicPartition::new(name(number / PARTITIONS), number % PARTITIONS),
        base_offset: None,
        records: Arc::clone(&records),
    };
    let appends = (0..FIRST).map(append).collect();
    log.commit(Commit { appends, ..Commit::default() }).unwrap().wait().unwrap();
    println!("first records of {FIRST} partitions committed in {:?}", clock.elapsed() - began);
    let began = clock.elapsed();
    log.close().unwrap();
    println!("closed in {:?}", clock.elapsed() - began);
    drop(log);
    let began = clock.elapsed();
    let log = open(dir.path());
    println!("opened again in {:?}", clock.elapsed() - began);
    assert_eq!(log.topics().unwrap().len(), TOPICS as usize);
}

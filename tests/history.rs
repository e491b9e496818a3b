//! State beside a log of the same identity and another history: one that was put back to a copy, or a copy that went on by
//! itself.

#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

use headwater::{
    log::{EmbeddedLog, LogOptions},
    ports::{
        log::{Append, Commit, CommitTicket, Log},
        state::{ApplicationState, State},
    },
    prelude::*,
    record::{Headers, RecordSetBuilder},
    state::MemoryState,
};
use std::{collections::BTreeMap, fs, path::Path, sync::Arc};
use tempfile::TempDir;

/// A state that outlives the runs of its application.
struct Kept {
    state: Arc<dyn State>,
    _stores: Arc<dyn ApplicationState>,
    _directory: TempDir,
}

impl Kept {
    fn of(make: impl FnOnce(&Path) -> Arc<dyn State>) -> Self {
        let directory = TempDir::new().unwrap();
        let state = make(directory.path());
        Self { _stores: state.application("app").unwrap(), state, _directory: directory }
    }

    fn in_memory() -> Self {
        Self::of(|_| Arc::new(MemoryState::new()))
    }
}

/// One of each kind.
fn states() -> Vec<Kept> {
    vec![
        Kept::in_memory(),
        #[cfg(feature = "rocksdb")]
        Kept::of(|directory| Arc::new(RocksDbState::open(directory, Default::default()).unwrap())),
    ]
}

fn counting() -> Topology {
    let builder = StreamsBuilder::new();
    let _counts = builder.stream::<String, i64>("in").group_by_key().count("counts");
    builder.build().unwrap()
}

/// Appends records with these keys, and has an application take them, in a run of its own.
fn run(log: &TempDir, kept: &Kept, topology: Topology, keys: &[&str]) -> Streams {
    let log = Arc::new(EmbeddedLog::open(log.path(), LogOptions::new()).unwrap());
    let topics = ["in", "out"].map(|name| TopicSpec::new(TopicName::new(name).unwrap(), 1));
    log.create_topics(&topics).unwrap();
    let mut records = RecordSetBuilder::default();
    for key in keys {
        records.push(0, Some(key.as_bytes()), Some(&[0; 8]), &Headers::new()).unwrap();
    }
    let partition = TopicPartition::new(TopicName::new("in").unwrap(), 0);
    let append = Append { partition, base_offset: None, records: Arc::new(records.build()) };
    let commit = Commit { appends: vec![append], ..Commit::default() };
    log.commit(commit).and_then(CommitTicket::wait).unwrap();
    let (state, clock) = (Arc::clone(&kept.state), Arc::new(SystemClock::new()));
    let streams = Streams::start(topology, StreamsConfig::new("app"), log, state, clock).unwrap();
    streams.drain().unwrap();
    streams
}

/// What the counts are after a run, and how many parts of stores were quarantined at its start.
fn count(log: &TempDir, kept: &Kept, keys: &[&str]) -> (BTreeMap<String, i64>, u64) {
    let streams = run(log, kept, counting(), keys);
    let counts = streams.store::<String, i64>("counts").unwrap().all().unwrap();
    let counts = counts.into_iter().map(|(key, stored)| (key, stored.value)).collect();
    (counts, streams.metrics().quarantined)
}

fn counts(expected: &[(&str, i64)]) -> BTreeMap<String, i64> {
    expected.iter().map(|(key, count)| ((*key).to_owned(), *count)).collect()
}

fn copy_of(directory: &TempDir) -> TempDir {
    let copy = TempDir::new().unwrap();
    copy_files(directory.path(), copy.path());
    copy
}

fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir(&target).unwrap();
            copy_files(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn state_of_a_copy_that_went_on_by_itself_is_rebuilt() {
    for kept in states() {
        let log = TempDir::new().unwrap();
        assert_eq!(count(&log, &kept, &["a", "b"]), (counts(&[("a", 1), ("b", 1)]), 0));
        let copy = copy_of(&log);
        let went_on = counts(&[("a", 3), ("b", 1), ("c", 1)]);
        assert_eq!(count(&log, &kept, &["a", "a", "c"]), (went_on, 0));
        // The copy's changelog reaches beyond where the state stands in that of the original.
        let mut expected = counts(&[("a", 1), ("b", 2), ("d", 2), ("e", 1)]);
        let keys = ["b", "d", "d", "e"];
        assert_eq!(count(&copy, &Kept::in_memory(), &keys), (expected.clone(), 0));

        assert_eq!(count(&copy, &kept, &[]), (expected.clone(), 1));
        expected.insert("a".to_owned(), 2);
        assert_eq!(count(&copy, &kept, &["a"]), (expected, 0));
    }
}

#[test]
fn state_ahead_of_a_log_that_was_put_back_is_rebuilt() {
    for kept in states() {
        let log = TempDir::new().unwrap();
        count(&log, &kept, &["a", "b"]);
        let copy = copy_of(&log);
        // With more owners than the copy has had: the state's newest commit has a greater number.
        for _ in 0..3 {
            count(&log, &kept, &["a", "c"]);
        }
        let before = counts(&[("a", 1), ("b", 1)]);
        assert_eq!(count(&copy, &kept, &[]), (before, 1));
        assert_eq!(count(&copy, &kept, &["b"]), (counts(&[("a", 1), ("b", 2)]), 0));
    }
}

#[test]
fn an_application_without_stores_goes_on_beside_a_log_that_was_put_back() {
    let passing = || {
        let builder = StreamsBuilder::new();
        builder.stream::<String, i64>("in").to("out");
        builder.build().unwrap()
    };
    for kept in states() {
        let log = TempDir::new().unwrap();
        run(&log, &kept, passing(), &["a"]);
        let copy = copy_of(&log);
        (0..3).for_each(|_| drop(run(&log, &kept, passing(), &["b"])));
        let streams = run(&copy, &kept, passing(), &["c"]);
        let snapshot = streams.snapshot().unwrap();
        let taken = snapshot.position().iter().map(|(_, offset)| *offset).collect::<Vec<_>>();
        assert_eq!((taken, streams.metrics().quarantined), (vec![2], 0));
    }
}

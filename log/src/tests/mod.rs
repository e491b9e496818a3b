//! The log as a whole: what its port promises, what a crash leaves, what damage does.

mod crash;
mod damage;
mod faults;
mod model;
mod port;

use crate::{EmbeddedLog, LogOptions};
use headwater_core::{
    ports::log::{Append, Commit, Committed, GroupOffset, Log, LogError, Receipt, TopicSpec},
    record::{Headers, RecordSet, RecordSetBuilder, TopicName, TopicPartition},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Segments and journal so small that a few commits roll and recycle them.
fn small() -> LogOptions {
    LogOptions::new().segment_bytes(600).journal_bytes(16 << 10).reserve_bytes(1 << 20)
}

/// A directory in memory where there is one: what a crash leaves is played in these tests, so that no sync need be real.
fn memory_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn open(dir: &Path) -> EmbeddedLog {
    EmbeddedLog::open(dir, small()).unwrap()
}

fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

fn partition(name: &str, number: u32) -> TopicPartition {
    TopicPartition::new(topic(name), number)
}

/// A log with topic `t` of two partitions.
fn opened(dir: &Path) -> EmbeddedLog {
    let log = open(dir);
    log.create_topic(&TopicSpec::new(topic("t"), 2)).unwrap();
    log
}

/// Records whose values are these texts, with timestamps 10, 20, ….
fn records(values: &[&str]) -> Arc<RecordSet> {
    let mut set = RecordSetBuilder::default();
    for (index, value) in (1..).zip(values) {
        set.push(index * 10, Some(b"k"), Some(value.as_bytes()), &Headers::new()).unwrap();
    }
    Arc::new(set.build())
}

fn append(partition: &TopicPartition, values: &[&str]) -> Append {
    Append { partition: partition.clone(), base_offset: None, records: records(values) }
}

fn commit(log: &EmbeddedLog, appends: Vec<Append>) -> Result<Receipt, LogError> {
    log.commit(Commit { appends, ..Commit::default() })?.wait()
}

fn put(log: &EmbeddedLog, partition: &TopicPartition, values: &[&str]) -> i64 {
    commit(log, vec![append(partition, values)]).unwrap().base_offsets[0]
}

fn position(group: &str, partition: &TopicPartition, offset: i64, metadata: &str) -> GroupOffset {
    let committed = Committed { offset, metadata: metadata.to_owned() };
    GroupOffset { group: group.into(), partition: partition.clone(), committed }
}

/// Everything readable from `from` on, as (offset, value).
fn read_from(
    log: &EmbeddedLog,
    partition: &TopicPartition,
    from: i64,
) -> Result<Vec<(i64, String)>, LogError> {
    let mut all = Vec::new();
    let mut next = from;
    loop {
        let fetched = log.fetch(partition, next, 400)?;
        for record in fetched.records.iter() {
            all.push((record.offset, String::from_utf8(record.value.unwrap().to_vec()).unwrap()));
        }
        if fetched.next_offset >= fetched.end {
            return Ok(all);
        }
        assert!(fetched.next_offset > next, "a fetch moves on");
        next = fetched.next_offset;
    }
}

fn read_all(log: &EmbeddedLog, partition: &TopicPartition) -> Vec<(i64, String)> {
    read_from(log, partition, log.offsets(partition).unwrap().start).unwrap()
}

/// What the disk holds right now, as in a crash. The copy is not made at one moment, so that it waits until nothing moves:
/// no commit may be under way, and no checkpoint is.
fn crash_image(log: &EmbeddedLog, dir: &Path) -> tempfile::TempDir {
    log.quiesce();
    image(dir)
}

/// A copy of a directory that no log is open in.
fn image(dir: &Path) -> tempfile::TempDir {
    let image = memory_dir();
    copy(dir, image.path());
    image
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// The files below `dir` with this extension, in order.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
    files.sort();
    files
}

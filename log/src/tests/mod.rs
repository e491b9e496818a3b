//! The log as a whole: what its port promises, what a crash leaves, what damage does.

mod crash;
mod damage;
mod descriptors;
mod epochs;
mod faults;
mod full;
mod model;
mod port;
mod power;
mod queue;
mod reads;
mod stages;
mod steps;
mod tail;

use crate::{
    EmbeddedLog, LogOptions,
    conformance::{append, commit, partition, position, put, read_all, read_from, topic},
    disk::faults::FaultyDisk,
};
use headwater_core::{
    ports::log::{Append, Commit, Committed, Log, LogError, LogErrorKind, TopicSpec},
    record::{Headers, RecordSetBuilder},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Segments and journal so small that a few commits roll and recycle them, and files are closed all the time. No step is
/// taken for nothing having happened.
fn small() -> LogOptions {
    LogOptions::new()
        .disk(Arc::new(FaultyDisk))
        .segment_bytes(600)
        .journal_bytes(16 << 10)
        .reserve_bytes(1 << 20)
        .open_files_max(2)
        .rest_after(Duration::MAX)
}

/// A directory in memory where there is one: what a crash leaves is played in these tests, so that no sync need be real.
fn memory_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn open(dir: &Path) -> EmbeddedLog {
    EmbeddedLog::open(dir, small()).unwrap()
}

/// A log with topic `t` of two partitions.
fn opened(dir: &Path) -> EmbeddedLog {
    let log = open(dir);
    log.create_topics(&[TopicSpec::new(topic("t"), 2)]).unwrap();
    log
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

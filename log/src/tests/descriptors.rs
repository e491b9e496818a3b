//! A bounded number of open files, and what happens when the process has no descriptor left.

use super::*;
use crate::disk::faults::{Armed, Kind, Steps};
use headwater_core::{ports::log::CommitTicket, record::TopicPartition};
use std::{os::unix::fs::FileExt, thread};

const PARTITIONS: u32 = 20;

fn many(dir: &Path, open_files_max: usize) -> EmbeddedLog {
    let log = EmbeddedLog::open(dir, small().open_files_max(open_files_max)).unwrap();
    log.create_topics(&[TopicSpec::new(topic("t"), PARTITIONS)]).unwrap();
    log
}

fn ids() -> Vec<TopicPartition> {
    (0..PARTITIONS).map(|number| partition("t", number)).collect()
}

fn hand_in(log: &EmbeddedLog, partition: &TopicPartition) -> CommitTicket {
    let appends = vec![append(partition, &["waits"])];
    log.commit(Commit { appends, ..Commit::default() }).unwrap()
}

fn wait_until_hit(armed: &Armed) {
    while !armed.was_hit() {
        thread::yield_now();
    }
}

#[test]
fn a_log_has_no_more_files_open_than_it_may() {
    let dir = memory_dir();
    for round in 1..=3 {
        let log = many(dir.path(), 4);
        for _ in 0..3 {
            commit(&log, ids().iter().map(|id| append(id, &["0123456789", "b"])).collect())
                .unwrap();
            assert!(log.open_files() <= 4, "{}", log.open_files());
            for id in ids() {
                read_all(&log, &id);
                assert!(log.open_files() <= 4, "{}", log.open_files());
            }
        }
        assert!(ids().iter().all(|id| read_all(&log, id).len() == round * 6));
        log.close().unwrap();
    }
}

#[test]
fn a_file_that_is_used_again_is_opened_once() {
    let dir = memory_dir();
    let log = many(dir.path(), 4);
    put(&log, &partition("t", 0), &["a"]);
    drop(log);
    let log = many(dir.path(), 4);
    let steps = Steps::below(&dir.path().join("t-0"));
    for _ in 0..50 {
        read_all(&log, &partition("t", 0));
        put(&log, &partition("t", 1), &["b"]);
    }
    let opened = |taken: &crate::disk::faults::Taken| {
        taken.action.is_open() && taken.path.extension().is_some_and(|end| end == "log")
    };
    assert_eq!(steps.take().iter().filter(|taken| opened(taken)).count(), 1);
}

#[test]
fn a_read_without_a_descriptor_fails_alone() {
    let dir = memory_dir();
    let log = many(dir.path(), 1);
    let (p0, p1) = (partition("t", 0), partition("t", 1));
    put(&log, &p0, &["a"]);
    put(&log, &p1, &["b"]);
    let armed = Armed::after(&dir.path().join("t-0"), 0, Kind::NoDescriptor);
    let error = log.fetch(&p0, 0, 100).unwrap_err();
    assert!(matches!(error, LogError::TooManyOpenFiles { .. }), "{error}");
    assert_eq!(error.kind(), LogErrorKind::Retriable);
    assert!(log.offset_for_timestamp(&p0, 0).is_err());
    assert_eq!(put(&log, &p1, &["c"]), 1, "the log takes more");
    drop(armed);
    assert_eq!(read_all(&log, &p0), [(0, "a".into())]);
    assert_eq!(put(&log, &p0, &["d"]), 1);
}

#[test]
fn commits_and_checkpoints_wait_for_a_descriptor() {
    let dir = memory_dir();
    let log = many(dir.path(), 1);
    let armed = Armed::after(dir.path(), 0, Kind::NoDescriptor);
    // More than the journal holds, so that checkpoints are due as well.
    let mut tickets: Vec<_> = (0..6).flat_map(|_| ids()).map(|id| hand_in(&log, &id)).collect();
    wait_until_hit(&armed);
    assert!(tickets.iter_mut().all(|ticket| ticket.poll().is_none()));
    drop(armed);
    tickets.into_iter().for_each(|ticket| drop(ticket.wait().unwrap()));
    log.close().unwrap();
    let log = many(dir.path(), 1);
    assert!(ids().iter().all(|id| read_all(&log, id).len() == 6));
}

#[test]
fn the_journal_goes_on_without_a_descriptor_for_direct_writes() {
    let dir = memory_dir();
    let log = many(dir.path(), 1);
    put(&log, &partition("t", 0), &["a"]);
    let armed = Armed::after(&dir.path().join("journal"), 0, Kind::NoDescriptor);
    for at in 1..20 {
        assert_eq!(put(&log, &partition("t", 0), &["b"]), at);
    }
    assert!(armed.was_hit());
    log.close().unwrap();
}

#[test]
fn closing_does_not_wait_for_a_descriptor() {
    let dir = memory_dir();
    let log = many(dir.path(), 1);
    let armed = Armed::after(dir.path(), 0, Kind::NoDescriptor);
    let ticket = hand_in(&log, &partition("t", 0));
    wait_until_hit(&armed);
    assert!(matches!(log.close(), Err(LogError::TooManyOpenFiles { .. })));
    assert_eq!(ticket.wait().unwrap_err().kind(), LogErrorKind::UnknownOutcome);
    drop((log, armed));
    assert_eq!(read_all(&many(dir.path(), 1), &partition("t", 0)), [(0, "waits".into())]);
}

#[test]
fn what_a_closed_descriptor_wrote_is_read_again_before_a_checkpoint_relies_on_it() {
    let dir = memory_dir();
    let log = many(dir.path(), 1);
    let (p0, p1) = (partition("t", 0), partition("t", 1));
    put(&log, &p0, &["a"]);
    put(&log, &p1, &["b"]);
    // As if the write-back had failed while nobody had the file open.
    let path = dir.path().join("t-0/00000000000000000000.log");
    fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(b"lost", 64).unwrap();
    let error = log.close().unwrap_err();
    assert_eq!(error.kind(), LogErrorKind::Failed, "{error}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("not on the disk"), "{cause}");
    drop(log);
    // The journal has it still.
    let log = many(dir.path(), 1);
    assert_eq!(read_all(&log, &p0), [(0, "a".into())]);
    log.close().unwrap();
}

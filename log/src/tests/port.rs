//! What the port promises while nothing goes wrong, and what of it survives a restart.

use super::*;
use crate::{OpenError, conformance, disk::lock};
use headwater_core::ports::log::{Cleanup, Durability, Offsets, Owner, Waker};
use std::{
    slice,
    sync::{Mutex, mpsc},
};

#[test]
fn it_does_what_every_log_must() {
    let mut dirs = Vec::new();
    conformance::check(|| {
        let dir = memory_dir();
        let log = Arc::new(EmbeddedLog::open(dir.path(), LogOptions::new()).unwrap());
        dirs.push(dir);
        log
    });
}

#[test]
fn its_identity_survives_and_is_no_other_logs() {
    let (dir, other) = (memory_dir(), memory_dir());
    let log = open(dir.path());
    let id = log.id();
    drop(log);
    assert_eq!(open(dir.path()).id(), id);
    assert_ne!(open(other.path()).id(), id);
    // The checkpoint before the last has it too.
    fs::remove_file(dir.path().join("checkpoint")).unwrap();
    assert_eq!(open(dir.path()).id(), id);
}

#[test]
fn a_topic_survives() {
    let dir = memory_dir();
    let (durability, cleanup) = (Durability::Os, Cleanup::Compact);
    let spec = TopicSpec { durability, cleanup, ..TopicSpec::new(topic("t"), 3) };
    open(dir.path()).create_topics(slice::from_ref(&spec)).unwrap();
    assert_eq!(open(dir.path()).topics().unwrap(), [spec]);
}

#[test]
fn a_gap_survives() {
    let dir = memory_dir();
    let log = opened(dir.path());
    let p0 = partition("t", 0);
    put(&log, &p0, &["a"]);
    let far = Append { base_offset: Some(5_000_000_000), ..append(&p0, &["b"]) };
    assert_eq!(commit(&log, vec![far]).unwrap().base_offsets, [5_000_000_000]);
    let expected = [(0, "a".into()), (5_000_000_000, "b".into())];
    drop(log);
    let log = open(dir.path());
    assert_eq!(read_all(&log, &p0), expected);
    assert_eq!(put(&log, &p0, &["c"]), 5_000_000_001);
}

#[test]
fn a_later_claim_fences_the_earlier_across_restarts() {
    let dir = memory_dir();
    let log = opened(dir.path());
    let first = log.claim("app", &[]).unwrap().owner().clone();
    let by = |log: &EmbeddedLog, owner: &Owner| {
        let appends = vec![append(&partition("t", 0), &["a"])];
        log.commit(Commit { owner: Some(owner.clone()), appends, ..Commit::default() })
            .map(|ticket| ticket.wait())
    };
    by(&log, &first).unwrap().unwrap();
    drop(log);
    let log = open(dir.path());
    by(&log, &first).unwrap().unwrap();
    let second = log.claim("app", &[]).unwrap().owner().clone();
    assert!(second.epoch > first.epoch);
    let fenced = by(&log, &first).unwrap_err();
    assert!(matches!(fenced, LogError::Fenced { epoch: 1, current: 2, .. }), "{fenced}");
    by(&log, &second).unwrap().unwrap();
    assert_eq!(log.offsets(&partition("t", 0)).unwrap().end, 3);
}

#[test]
fn group_offsets_survive() {
    let dir = memory_dir();
    let p0 = partition("t", 0);
    {
        let log = opened(dir.path());
        let offsets = vec![position("g", &p0, 7, "second"), position("h", &p0, 2, "")];
        log.commit(Commit { offsets, ..Commit::default() }).unwrap().wait().unwrap();
    }
    let log = open(dir.path());
    assert_eq!(
        log.committed("g", &p0).unwrap().unwrap(),
        Committed { offset: 7, metadata: "second".into() }
    );
    assert_eq!(log.committed("h", &p0).unwrap().unwrap().offset, 2);
}

#[test]
fn a_timestamp_finds_the_first_offset_that_is_not_earlier() {
    let dir = memory_dir();
    let log = opened(dir.path());
    let p0 = partition("t", 0);
    let mut timestamps = Vec::new();
    for round in 0_i64..60 {
        let mut set = RecordSetBuilder::default();
        for step in 0..7 {
            // Neither rising nor falling, so that the largest is not always the last.
            let timestamp = round * 50 + (step * 37) % 90;
            timestamps.push(timestamp);
            set.push(timestamp, None, Some(b"v"), &Headers::new()).unwrap();
        }
        commit(
            &log,
            vec![Append { partition: p0.clone(), base_offset: None, records: set.build().into() }],
        )
        .unwrap();
    }
    let check = |log: &EmbeddedLog| {
        for wanted in -5..3100 {
            let expected =
                timestamps.iter().position(|t| *t >= wanted).map(|at| i64::try_from(at).unwrap());
            assert_eq!(
                log.offset_for_timestamp(&p0, wanted).unwrap(),
                expected,
                "timestamp {wanted}"
            );
        }
    };
    check(&log);
    drop(log);
    check(&open(dir.path()));
}

#[test]
fn a_locked_directory_says_who_holds_it_and_opens_once_it_is_closed() {
    let dir = memory_dir();
    let log = opened(dir.path());
    let locked = EmbeddedLog::open(dir.path(), small()).unwrap_err();
    assert!(matches!(locked, OpenError::Locked { .. }), "{locked}");
    assert!(locked.to_string().contains(&format!("process {}", std::process::id())), "{locked}");
    log.close().unwrap();
    open(dir.path());
    assert!(matches!(
        commit(&log, vec![append(&partition("t", 0), &["a"])]),
        Err(LogError::Closed { .. })
    ));
}

#[test]
fn a_callback_may_be_the_last_that_holds_the_log() {
    let dir = memory_dir();
    let log = Arc::new(opened(dir.path()));
    let hand_in = || {
        let appends = vec![append(&partition("t", 0), &["a"])];
        log.commit(Commit { appends, ..Commit::default() }).unwrap()
    };
    // The committer stands still in a waker while what follows is handed in, so that no callback is called here.
    let ((go, gate), (entered, at_gate)) = (mpsc::channel::<()>(), mpsc::channel());
    let gate = Mutex::new(gate);
    let waker: Waker = Arc::new(move || {
        entered.send(()).unwrap();
        lock(&gate).recv().unwrap_err();
    });
    let subscription = log.subscribe(&partition("t", 0), waker).unwrap();
    hand_in().wait().unwrap();
    at_gate.recv().unwrap();

    let held = Arc::clone(&log);
    hand_in().on_completion(move |outcome| {
        outcome.unwrap();
        drop(held);
    });
    let queued = hand_in();
    drop(log);
    drop(go);
    queued.wait().unwrap();
    drop(subscription);
    // It closes after its last holder is gone, on its own thread.
    let again = loop {
        match EmbeddedLog::open(dir.path(), small()) {
            Err(OpenError::Locked { .. }) => std::thread::yield_now(),
            opened => break opened.unwrap(),
        }
    };
    assert_eq!(read_all(&again, &partition("t", 0)).len(), 3);
}

#[test]
fn appends_are_refused_before_the_disk_is_full_and_offsets_are_not() {
    let dir = memory_dir();
    put(&opened(dir.path()), &partition("t", 0), &["a"]);
    let log = EmbeddedLog::open(dir.path(), small().reserve_bytes(u64::MAX)).unwrap();
    let p0 = partition("t", 0);
    assert!(matches!(commit(&log, vec![append(&p0, &["b"])]), Err(LogError::DiskFull { .. })));
    let offsets = vec![position("g", &p0, 1, "")];
    log.commit(Commit { offsets, ..Commit::default() }).unwrap().wait().unwrap();
    assert_eq!(read_all(&log, &p0), [(0, "a".into())]);
}

#[test]
fn a_log_with_settings_of_any_size_keeps_what_it_is_given() {
    for count in [0, 1, 2, usize::MAX - 1, usize::MAX] {
        let dir = memory_dir();
        let bytes = count as u64;
        let options = || {
            let sized = small().segment_bytes(bytes).open_files_max(count);
            sized.journal_bytes(bytes.min(1 << 20)).reserve_bytes(bytes.min(1 << 20))
        };
        let p0 = partition("t", 0);
        let log = EmbeddedLog::open(dir.path(), options()).unwrap();
        log.create_topics(&[TopicSpec::new(topic("t"), 1)]).unwrap();
        let all: Vec<_> = (0..20).map(|number| (put(&log, &p0, &["a"]), number)).collect();
        drop(log);
        let log = EmbeddedLog::open(dir.path(), options()).unwrap();
        assert!(all.iter().all(|(offset, number)| offset == number), "{count}");
        assert_eq!(read_all(&log, &p0).len(), 20, "{count}");
        for bytes_max in [0, 1, usize::MAX] {
            let fetched = log.fetch(&p0, 7, bytes_max).unwrap();
            let first = fetched.records.get(0).map(|record| record.offset);
            assert_eq!(first, Some(7), "{count}: a fetch of {bytes_max} bytes");
        }
    }
}

#[test]
fn a_purged_topic_drops_whole_segments_below_the_committed_offset() {
    let dir = memory_dir();
    let p0 = partition("r", 0);
    let log = open(dir.path());
    log.create_topics(&[TopicSpec { cleanup: Cleanup::Purge, ..TopicSpec::new(topic("r"), 1) }])
        .unwrap();
    for _ in 0..60 {
        put(&log, &p0, &["0123456789", "0123456789", "0123456789"]);
    }
    let offsets = vec![position("g", &p0, 100, "")];
    log.commit(Commit { offsets, ..Commit::default() }).unwrap().wait().unwrap();
    let Offsets { start, end } = log.offsets(&p0).unwrap();
    assert!(start > 80 && start <= 100, "{start}");
    assert_eq!(end, 180);
    assert!(matches!(log.fetch(&p0, 0, 100), Err(LogError::OffsetOutOfRange { .. })));
    drop(log);
    let before = files(&dir.path().join("r-0"), "log").len();
    open(dir.path()).close().unwrap();
    let log = open(dir.path());
    assert!(files(&dir.path().join("r-0"), "log").len() < before.min(25));
    assert_eq!(log.offsets(&p0).unwrap(), Offsets { start, end });
    assert_eq!(read_all(&log, &p0).len(), usize::try_from(end - start).unwrap());
}

#[test]
fn a_large_commit_goes_through_a_small_journal() {
    let dir = memory_dir();
    let log = opened(dir.path());
    let p0 = partition("t", 0);
    let value = "v".repeat(100_000);
    for _ in 0..5 {
        put(&log, &p0, &[&value, &value]);
    }
    drop(log);
    assert_eq!(read_all(&open(dir.path()), &p0).len(), 10);
}

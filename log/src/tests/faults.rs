//! The disk fails, or the process dies, at every single step that changes the disk.

use super::*;
use crate::disk::faults::{Armed, Kind};
use headwater_core::ports::log::{CommitTicket, Durability};

/// More steps than a workload takes.
const STEPS_MAX: u64 = 2000;

/// What was acknowledged, and how the commit ended that failed, if one did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Outcome {
    acknowledged: i64,
    failed: Option<LogErrorKind>,
}

/// Numbered commits over two partitions and a group's offset, through rolls, recycled journal files and a creation.
fn work(log: &EmbeddedLog, from: i64, to: i64) -> Outcome {
    let mut acknowledged = from;
    for number in from..to {
        let text = format!("number {number} {}", "x".repeat(200));
        let appends =
            vec![append(&partition("t", 0), &[&text]), append(&partition("t", 1), &[&text, &text])];
        let offsets = vec![position("g", &partition("t", 0), number + 1, "")];
        let ticket = log.commit(Commit { owner: None, appends, offsets });
        if let Err(error) = ticket.and_then(CommitTicket::wait) {
            return Outcome { acknowledged, failed: Some(error.kind()) };
        }
        acknowledged = number + 1;
    }
    Outcome { acknowledged, failed: None }
}

/// Everything acknowledged is there once, a commit of unknown outcome is there as a whole or not at all, and one that
/// failed otherwise is not; how many there are.
fn check(log: &EmbeddedLog, outcome: Outcome, step: u64) -> i64 {
    let Outcome { acknowledged, failed } = outcome;
    let unknown = failed == Some(LogErrorKind::UnknownOutcome);
    if log.topics().unwrap().is_empty() {
        assert_eq!(acknowledged, 0, "step {step}: the topic is gone");
        return 0;
    }
    let first = read_all(log, &partition("t", 0));
    let count = i64::try_from(first.len()).unwrap();
    assert!(
        count == acknowledged || (unknown && count == acknowledged + 1),
        "step {step}: {count} of {outcome:?}"
    );
    for (at, (offset, value)) in (0..).zip(&first) {
        assert_eq!(*offset, at, "step {step}");
        assert!(value.starts_with(&format!("number {at} ")), "step {step}");
    }
    let second: Vec<_> =
        read_all(log, &partition("t", 1)).into_iter().map(|(_, value)| value).collect();
    let doubled: Vec<_> =
        first.iter().flat_map(|(_, value)| [value.clone(), value.clone()]).collect();
    assert_eq!(second, doubled, "step {step}");
    let committed = log.committed("g", &partition("t", 0)).unwrap();
    assert_eq!(committed.map_or(0, |committed| committed.offset), count, "step {step}");
    count
}

fn every_step(kind: Kind) {
    for step in 0..STEPS_MAX {
        let dir = memory_dir();
        let armed = Armed::after(dir.path(), step, kind);
        let mut outcome = Outcome::default();
        if let Ok(log) = EmbeddedLog::open(dir.path(), small())
            && log.create_topics(&[TopicSpec::new(topic("t"), 2)]).is_ok()
        {
            outcome = work(&log, 0, 24);
            let closed = log.close();
            if outcome.failed.is_some() {
                assert!(closed.is_err(), "step {step}: a log that failed does not close well");
                let refused = log.commit(Commit::default());
                assert!(matches!(refused, Err(LogError::Io { .. })), "step {step}: not fenced");
            }
        }
        let hit = armed.was_hit();
        drop(armed);
        let log = open(dir.path());
        let count = check(&log, outcome, step);
        log.create_topics(&[TopicSpec::new(topic("t"), 2)]).unwrap();
        let outcome = work(&log, count, count + 3);
        assert_eq!(outcome.failed, None);
        log.close().unwrap();
        check(&open(dir.path()), outcome, step);
        if !hit {
            assert!(step > 100, "only {step} steps");
            return;
        }
    }
    panic!("the workload has more steps than expected");
}

#[test]
fn a_step_that_fails_once_fences_the_log_and_reopening_finds_all_that_was_acknowledged() {
    every_step(Kind::Once);
}

#[test]
fn a_process_that_dies_at_any_step_loses_nothing_that_was_acknowledged() {
    every_step(Kind::Dead);
}

#[test]
fn a_recovery_that_dies_at_any_step_is_done_over_with_the_same_result() {
    let dir = memory_dir();
    let log = opened(dir.path());
    let outcome = work(&log, 0, 37);
    let crashed = crash_image(&log, dir.path());
    drop(log);
    // Bytes that no sync covered, in every segment that a recovery cuts.
    for number in 0..2 {
        let segments = files(&crashed.path().join(format!("t-{number}")), "log");
        let mut file = fs::OpenOptions::new().append(true).open(segments.last().unwrap()).unwrap();
        std::io::Write::write_all(&mut file, &[0x5a; 300]).unwrap();
    }
    for step in 0..STEPS_MAX {
        let image = memory_dir();
        copy(crashed.path(), image.path());
        let armed = Armed::after(image.path(), step, Kind::Dead);
        let opened = EmbeddedLog::open(image.path(), small());
        let hit = armed.was_hit();
        drop(opened);
        drop(armed);
        // The second recovery dies a little earlier, the third one is let through.
        let armed = Armed::after(image.path(), step / 2, Kind::Dead);
        drop(EmbeddedLog::open(image.path(), small()));
        drop(armed);
        let log = open(image.path());
        assert_eq!(check(&log, outcome, step), 37);
        let outcome = work(&log, 37, 40);
        drop(log);
        check(&open(image.path()), outcome, step);
        if !hit {
            assert!(step > 20, "only {step} steps");
            return;
        }
    }
    panic!("a recovery has more steps than expected");
}

#[test]
fn a_sync_that_fails_is_not_tried_again() {
    let dir = memory_dir();
    let log = opened(dir.path());
    let p0 = partition("t", 0);
    put(&log, &p0, &["a"]);
    log.quiesce();
    // The frame is written, its sync fails.
    let armed = Armed::after(&dir.path().join("journal"), 1, Kind::Once);
    let unknown = commit(&log, vec![append(&p0, &["b"])]).unwrap_err();
    assert_eq!(unknown.kind(), LogErrorKind::UnknownOutcome, "{unknown}");
    assert!(std::error::Error::source(&unknown).unwrap().to_string().starts_with("could not sync"));
    assert!(armed.was_hit());
    let refused = commit(&log, vec![append(&p0, &["c"])]).unwrap_err();
    assert_eq!(refused.kind(), LogErrorKind::Failed, "{refused}");
    assert!(matches!(log.sync(), Err(LogError::Io { .. })));
    assert!(matches!(log.claim("g", &[]), Err(LogError::Io { .. })));
    assert_eq!(read_all(&log, &p0), [(0, "a".into())]);
    drop((log, armed));
    // What became of the frame is learnt by reopening; nothing after it was written.
    assert_eq!(read_all(&open(dir.path()), &p0), [(0, "a".into()), (1, "b".into())]);
}

#[test]
fn frames_that_were_not_synced_are_with_the_next_synced_one() {
    let dir = memory_dir();
    let log = opened(dir.path());
    log.create_topics(&[TopicSpec { durability: Durability::Os, ..TopicSpec::new(topic("o"), 1) }])
        .unwrap();
    let (o, t) = (partition("o", 0), partition("t", 0));
    for i in 0..30 {
        put(&log, &o, &[&format!("{i}"), "x"]);
        if i % 7 == 0 {
            put(&log, &t, &[&format!("{i}")]);
        }
        let image = crash_image(&log, dir.path());
        let log = open(image.path());
        assert_eq!(read_all(&log, &o).len(), 2 * (i + 1));
        assert_eq!(read_all(&log, &t).len(), i / 7 + 1);
    }
}

#[test]
fn commits_of_every_shape_survive_a_crash() {
    let dir = memory_dir();
    let log = opened(dir.path());
    let (p0, p1) = (partition("t", 0), partition("t", 1));
    let mut expected = Vec::new();
    for round in 0..12 {
        // Empty; offsets alone; larger than a journal file, over a gap.
        log.commit(Commit::default()).unwrap().wait().unwrap();
        commit(&log, vec![append(&p0, &[])]).unwrap();
        let offsets = vec![position("g", &p1, round, "m")];
        log.commit(Commit { offsets, ..Commit::default() }).unwrap().wait().unwrap();
        let base = round * 1000 + 3;
        let large = "v".repeat(20_000);
        let gap = Append { base_offset: Some(base), ..append(&p0, &[&large, &large]) };
        assert_eq!(
            commit(&log, vec![gap, append(&p0, &["s"])]).unwrap().base_offsets,
            [base, base + 2]
        );
        expected.extend([(base, large.clone()), (base + 1, large), (base + 2, "s".to_owned())]);
        // A topic that is made, used and lost in one run.
        let new = partition(&format!("new-{round}"), 0);
        log.create_topics(&[TopicSpec::new(new.topic.clone(), 1)]).unwrap();
        put(&log, &new, &["first"]);

        let image = crash_image(&log, dir.path());
        let log = open(image.path());
        assert!(read_all(&log, &p0) == expected, "round {round}");
        assert_eq!(log.committed("g", &p1).unwrap().unwrap().offset, round);
        assert_eq!(read_all(&log, &new), [(0, "first".into())]);
        assert_eq!(put(&log, &p0, &["next"]), base + 3);
    }
}

#[test]
fn a_disk_that_is_full_for_a_while_takes_commits_again_once_there_is_room() {
    let dir = memory_dir();
    put(&opened(dir.path()), &partition("t", 0), &["a"]);
    let p0 = partition("t", 0);
    {
        let log = EmbeddedLog::open(dir.path(), small().reserve_bytes(u64::MAX)).unwrap();
        let refused = commit(&log, vec![append(&p0, &["no"])]);
        assert!(matches!(refused, Err(LogError::DiskFull { .. })));
        assert_eq!(log.offsets(&p0).unwrap().end, 1);
    }
    let log = open(dir.path());
    assert_eq!(put(&log, &p0, &["b"]), 1);
    assert_eq!(read_all(&log, &p0), [(0, "a".into()), (1, "b".into())]);
}

#[test]
fn a_log_that_failed_gives_its_directory_back_only_once_its_threads_have_ended() {
    let dir = memory_dir();
    let log = opened(dir.path());
    let outcome = work(&log, 0, 20);
    let armed = Armed::after(&dir.path().join("journal"), 0, Kind::Once);
    assert_eq!(work(&log, 20, 21).failed, Some(LogErrorKind::UnknownOutcome));
    assert!(log.close().is_err());
    drop(armed);
    // Any further step is one of the closed log: none may be taken, by its threads or its readers.
    let armed = Armed::after(dir.path(), 0, Kind::Once);
    assert_eq!(check(&log, outcome, 0), 20);
    drop(log);
    assert!(!armed.was_hit());
}

#[test]
fn readers_and_the_checkpointer_write_the_same_hint_files_without_disturbing_each_other() {
    let dir = memory_dir();
    let p0 = partition("t", 0);
    let log = opened(dir.path());
    work(&log, 0, 12);
    drop(log);
    for _ in 0..20 {
        for extension in ["index", "timeindex", "checksum"] {
            let hints = files(&dir.path().join("t-0"), extension);
            hints.iter().for_each(|path| fs::remove_file(path).unwrap());
        }
        let log = open(dir.path());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| read_all(&log, &p0));
            }
            put(&log, &p0, &[&"x".repeat(600)]);
        });
        log.close().unwrap();
    }
}

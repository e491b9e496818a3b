//! A log on a disk that has no room for its recovery.

use super::*;
use crate::OpenError;
use crate::disk::{
    failed,
    faults::{Armed, Kind},
    is_full,
};
use headwater_core::{
    ports::log::{Cleanup, LogId, Offsets},
    record::TopicPartition,
};
use rustix::io::Errno;
use std::collections::BTreeMap;

/// More steps than an opening takes.
const STEPS_MAX: u64 = 500;

/// Journal files that hold so many frames that most are beyond the last checkpoint, and segments that go on after it.
fn options() -> LogOptions {
    small().segment_bytes(1500).journal_bytes(64 << 10)
}

/// All that can be read.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    id: LogId,
    topics: Vec<TopicSpec>,
    partitions: Vec<Partition>,
    committed: Vec<Option<Committed>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Partition {
    id: TopicPartition,
    offsets: Offsets,
    records: Vec<(i64, String)>,
    /// Where timestamps are found.
    times: [Option<i64>; 3],
}

fn seen(log: &EmbeddedLog) -> Seen {
    let topics = log.topics().unwrap();
    let partitions = topics.iter().flat_map(|topic| {
        (0..topic.partitions).map(|number| TopicPartition::new(topic.name.clone(), number))
    });
    let partitions = partitions.map(|id| Partition {
        offsets: log.offsets(&id).unwrap(),
        records: read_all(log, &id),
        times: [10, 20, 30].map(|time| log.offset_for_timestamp(&id, time).unwrap()),
        id,
    });
    let partitions = partitions.collect();
    let committed = ["g", "purger"].map(|group| log.committed(group, &partition("t", 0)).unwrap());
    Seen { id: log.id(), topics, partitions, committed: committed.to_vec() }
}

fn work(log: &EmbeddedLog, number: i64) {
    let (t0, t1, purged) = (partition("t", 0), partition("t", 1), partition("p", 0));
    let text = format!("number {number} {}", "x".repeat(200));
    let appends =
        vec![append(&t0, &[&text]), append(&t1, &[&text, &text]), append(&purged, &[&text])];
    let offsets = vec![position("g", &t0, number, "m"), position("purger", &purged, number, "")];
    log.commit(Commit { owner: None, appends, offsets }).unwrap().wait().unwrap();
}

/// What a crash leaves of a log whose journal holds records, positions, a purge and a topic beyond the checkpoint, with bytes
/// in each segment that no sync covered, and sealed segments without sidecars; and what was readable.
fn crashed() -> (tempfile::TempDir, Seen) {
    let dir = memory_dir();
    let log = EmbeddedLog::open(dir.path(), options()).unwrap();
    let purged = TopicSpec { cleanup: Cleanup::Purge, ..TopicSpec::new(topic("p"), 1) };
    log.create_topics(&[TopicSpec::new(topic("t"), 2), purged]).unwrap();
    (0..20).for_each(|number| work(&log, number));
    log.close().unwrap();
    drop(log);

    let log = EmbeddedLog::open(dir.path(), options()).unwrap();
    let before = log.offsets(&partition("p", 0)).unwrap().start;
    (20..30).for_each(|number| work(&log, number));
    log.create_topics(&[TopicSpec::new(topic("new"), 1)]).unwrap();
    put(&log, &partition("new", 0), &["first", "second"]);
    drop(log.claim("g", &[topic("t")]).unwrap());
    assert!(log.offsets(&partition("p", 0)).unwrap().start > before, "nothing was purged");
    let (image, seen) = (crash_image(&log, dir.path()), seen(&log));
    for name in ["t-0", "t-1", "p-0"] {
        let segments = files(&image.path().join(name), "log");
        let mut file = fs::OpenOptions::new().append(true).open(segments.last().unwrap()).unwrap();
        std::io::Write::write_all(&mut file, &[0x5a; 300]).unwrap();
    }
    let sidecars = files(&image.path().join("t-0"), "checksum");
    assert!(!sidecars.is_empty());
    sidecars.iter().for_each(|path| fs::remove_file(path).unwrap());
    (image, seen)
}

/// Every file below `dir`.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    all
}

fn refuses_changes(log: &EmbeddedLog, step: u64) {
    let refused = [
        log.commit(Commit {
            appends: vec![append(&partition("t", 0), &["no"])],
            ..Commit::default()
        })
        .map(drop),
        log.commit(Commit {
            offsets: vec![position("g", &partition("t", 0), 0, "")],
            ..Commit::default()
        })
        .map(drop),
        log.create_topics(&[TopicSpec::new(topic("other"), 1)]),
        log.claim("g", &[topic("t")]).map(drop),
    ];
    for refused in refused {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), LogErrorKind::Failed, "step {step}: {error}");
        let LogError::ReadOnly { source, .. } = error else { panic!("step {step}: {error}") };
        assert!(is_full(source.downcast_ref().unwrap()), "step {step}: {source}");
    }
    log.create_topics(&[TopicSpec::new(topic("t"), 2)]).unwrap();
}

/// Fills the disk at a step of the opening; `false` if the opening has fewer.
fn full_at(step: u64, crashed: &Path, expected: &Seen) -> bool {
    let image = image(crashed);
    let dir = image.path();
    let armed = Armed::after(dir, step, Kind::Full);
    let log = EmbeddedLog::open(dir, options()).unwrap();
    if !armed.was_hit() {
        return false;
    }
    assert_eq!(seen(&log), *expected, "step {step}");
    let before = contents(dir);
    refuses_changes(&log, step);
    let subscription = log.subscribe(&partition("t", 0), Arc::new(|| panic!("woken"))).unwrap();
    assert!(log.sync().is_err(), "step {step}: a sync that was refused");
    let second = EmbeddedLog::open(dir, options());
    assert!(matches!(second, Err(OpenError::Locked { .. })), "step {step}");
    if step == 0 {
        let originals: Vec<_> = contents(crashed).into_values().collect();
        assert!(contents(dir).into_values().eq(originals), "the opening changed something");
    }
    drop(armed);
    log.sync().unwrap();
    refuses_changes(&log, step);
    assert_eq!(seen(&log), *expected, "step {step}");
    assert!(contents(dir) == before, "step {step}: something was changed");
    log.close().unwrap();
    assert!(matches!(log.sync(), Err(LogError::Closed { .. })));

    let recovered = EmbeddedLog::open(dir, options()).unwrap();
    assert_eq!(seen(&recovered), *expected, "step {step}");
    // What was opened first can be read on.
    assert_eq!(seen(&log), *expected, "step {step}");
    drop((log, subscription));
    work(&recovered, 30);
    let expected = seen(&recovered);
    drop(recovered);
    assert_eq!(seen(&EmbeddedLog::open(dir, options()).unwrap()), expected, "step {step}");
    true
}

#[test]
fn a_disk_that_is_full_at_any_step_of_an_opening_is_opened_to_read() {
    let (crashed, expected) = crashed();
    let steps = (0..STEPS_MAX).find(|step| !full_at(*step, crashed.path(), &expected));
    assert!(steps.unwrap() > 20, "only {steps:?} steps");
}

#[test]
fn a_full_disk_with_a_damaged_checkpoint_is_opened_to_read_from_the_one_before() {
    let (crashed, expected) = crashed();
    fs::write(crashed.path().join("checkpoint"), b"damaged").unwrap();
    let steps = (0..STEPS_MAX).find(|step| !full_at(*step, crashed.path(), &expected));
    assert!(steps.unwrap() > 20, "only {steps:?} steps");
}

#[test]
fn a_full_disk_that_no_log_is_on_is_refused_and_leaves_nothing_half_made() {
    for step in 0..STEPS_MAX {
        let dir = memory_dir();
        let armed = Armed::after(dir.path(), step, Kind::Full);
        let opened = EmbeddedLog::open(dir.path(), options());
        let hit = armed.was_hit();
        drop(armed);
        let id = match opened {
            Ok(log) => Some(log.id()),
            Err(OpenError::Log(error)) if is_full(&error) => None,
            Err(error) => panic!("step {step}: {error}"),
        };
        let log = EmbeddedLog::open(dir.path(), options()).unwrap();
        assert!(id.is_none_or(|id| id == log.id()), "step {step}: another log");
        if !hit {
            assert!(step > 5, "only {step} steps");
            return;
        }
    }
    panic!("an opening has more steps than expected");
}

#[test]
fn a_quota_that_is_used_up_is_a_full_disk() {
    for (errno, full) in [(Errno::NOSPC, true), (Errno::DQUOT, true), (Errno::IO, false)] {
        assert_eq!(is_full(&failed("write", Path::new("file"))(errno.into())), full);
    }
}

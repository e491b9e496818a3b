//! Which history a record has: it survives restarts, crashes and purging, and a copy's that went on by itself is another.

use super::*;
use headwater_core::{
    ports::log::{Cleanup, RecordEpoch},
    record::TopicPartition,
};

fn epoch(log: &EmbeddedLog, partition: &TopicPartition, offset: i64) -> Option<RecordEpoch> {
    log.record_epoch(partition, offset).unwrap()
}

fn epochs(log: &EmbeddedLog, partition: &TopicPartition) -> Vec<Option<RecordEpoch>> {
    let end = log.offsets(partition).unwrap().end;
    (0..end).map(|offset| epoch(log, partition, offset)).collect()
}

#[test]
fn record_epochs_survive_restarts_and_crashes_and_differ_from_opening_to_opening() {
    let dir = memory_dir();
    let p0 = partition("t", 0);
    let mut log = opened(dir.path());
    let mut expected = Vec::new();
    for _ in 0..3 {
        // More than one file of the journal, so that checkpoints are made on the way.
        for _ in 0..20 {
            put(&log, &p0, &["a", "b"]);
        }
        let newest = epoch(&log, &p0, log.offsets(&p0).unwrap().end - 1);
        assert!(newest.is_some() && !expected.contains(&newest), "{newest:?} {expected:?}");
        expected.resize(expected.len() + 40, newest);
        assert_eq!(epochs(&log, &p0), expected);
        let image = crash_image(&log, dir.path());
        assert_eq!(epochs(&open(image.path()), &p0), expected);
        drop(log);
        log = open(dir.path());
        assert_eq!(epochs(&log, &p0), expected);
    }
    // An opening that wrote nothing to a partition is not named there.
    drop(log);
    assert_eq!(epochs(&open(dir.path()), &p0), expected);
}

#[test]
fn copies_that_go_on_by_themselves_have_other_record_epochs_from_there_on() {
    let dir = memory_dir();
    let p0 = partition("t", 0);
    let log = opened(dir.path());
    put(&log, &p0, &["a"]);
    let image = crash_image(&log, dir.path());
    // The original goes on, with the opening that the copy was made in.
    put(&log, &p0, &["original"]);
    let went_on = epochs(&log, &p0);
    assert_eq!(went_on[0], went_on[1]);
    drop(log);
    let [original, copied] = [dir.path(), image.path()].map(|dir| {
        let log = open(dir);
        put(&log, &p0, &["b"]);
        epochs(&log, &p0)
    });
    assert_eq!(original[..2], went_on[..]);
    assert_eq!(copied[0], original[0]);
    assert!(copied[1].is_some() && !original.contains(&copied[1]), "{original:?} {copied:?}");
    // Both count their openings alike: it is the number that differs.
    let generation = |epoch: &Option<RecordEpoch>| {
        epoch.as_ref().unwrap().as_str().split('-').nth(1).unwrap().to_owned()
    };
    assert_eq!(generation(&copied[1]), generation(&original[2]));
}

#[test]
fn a_topic_of_the_same_opening_has_epochs_of_its_own() {
    let dir = memory_dir();
    let log = opened(dir.path());
    log.create_topics(&[TopicSpec::new(topic("u"), 1)]).unwrap();
    let (t, u) = (partition("t", 0), partition("u", 0));
    put(&log, &t, &["a"]);
    put(&log, &u, &["a"]);
    assert_ne!(epoch(&log, &t, 0), epoch(&log, &u, 0));
}

#[test]
fn purging_forgets_record_epochs_but_that_in_front_of_the_start() {
    let dir = memory_dir();
    let p0 = partition("p", 0);
    let mut seen = Vec::new();
    for round in 0..3 {
        let log = open(dir.path());
        let spec = TopicSpec { cleanup: Cleanup::Purge, ..TopicSpec::new(topic("p"), 1) };
        log.create_topics(&[spec]).unwrap();
        for _ in 0..10 {
            put(&log, &p0, &[&"x".repeat(200)]);
        }
        seen = epochs(&log, &p0);
        assert_eq!(seen.len(), 10 * (round + 1));
    }
    let log = open(dir.path());
    crate::conformance::commit_offsets(&log, vec![position("g", &p0, 30, "")]).unwrap();
    let start = usize::try_from(log.offsets(&p0).unwrap().start).unwrap();
    assert!(start > 20, "{start}");
    let kept = |log: &EmbeddedLog| {
        assert_eq!(epochs(log, &p0)[start - 1..], seen[start - 1..]);
        assert_eq!((epoch(log, &p0, 0), epoch(log, &p0, 15)), (None, None));
    };
    kept(&log);
    drop(log);
    kept(&open(dir.path()));
}

#[test]
fn an_opening_whose_number_is_lost_with_its_checkpoint_is_not_known_and_others_are() {
    let dir = memory_dir();
    let p0 = partition("t", 0);
    let log = opened(dir.path());
    put(&log, &p0, &["a"]);
    let first = epoch(&log, &p0, 0);
    drop(log);
    let log = open(dir.path());
    put(&log, &p0, &["b"]);
    let image = crash_image(&log, dir.path());
    fs::remove_file(image.path().join("checkpoint")).unwrap();
    let log = open(image.path());
    assert_eq!(epochs(&log, &p0), [first.clone(), None]);
    put(&log, &p0, &["c"]);
    drop(log);
    let known = epochs(&open(image.path()), &p0);
    assert!(known[2].is_some() && known[..2] == [first, None], "{known:?}");
}

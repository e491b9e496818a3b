//! The journal's last frames: a lost one that was acknowledged is told from a torn one that was not.

use super::*;
use crate::{OpenError, journal::frame};
use headwater_core::{ports::log::Durability, record::TopicPartition};
use std::thread;

/// The journal's frames: file, where it starts and ends, and sequence number; in order.
fn frames(dir: &Path) -> Vec<(PathBuf, usize, usize, u64)> {
    let mut all = Vec::new();
    for path in files(&dir.join("journal"), "journal") {
        let bytes = fs::read(&path).unwrap();
        for at in (0..bytes.len()).step_by(frame::ALIGNMENT) {
            if let Some(header) = frame::start(&bytes[at..]) {
                let end = at + usize::try_from(header.bytes()).unwrap();
                all.push((path.clone(), at, end, header.label.sequence));
            }
        }
    }
    all.sort_by_key(|(.., sequence)| *sequence);
    all
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// Refused, and once more the next time: nothing was changed that proves it.
fn assert_refused(dir: &Path, what: &str) {
    for _ in 0..2 {
        let refused = EmbeddedLog::open(dir, small()).map(drop);
        assert!(matches!(refused, Err(OpenError::Damaged { .. })), "{what}: {refused:?}");
    }
}

fn topics(log: &EmbeddedLog) -> (TopicPartition, TopicPartition) {
    log.create_topics(&[
        TopicSpec::new(topic("t"), 1),
        TopicSpec { durability: Durability::Os, ..TopicSpec::new(topic("o"), 1) },
    ])
    .unwrap();
    (partition("t", 0), partition("o", 0))
}

#[test]
fn a_flipped_bit_anywhere_in_the_last_frame_is_said_aloud() {
    for new_segment in [true, false] {
        let dir = memory_dir();
        let log = EmbeddedLog::open(dir.path(), small().segment_bytes(4096)).unwrap();
        let (t, _) = topics(&log);
        if !new_segment {
            put(&log, &t, &["in front"]);
        }
        put(&log, &t, &["last"]);
        let crashed = crash_image(&log, dir.path());
        let (path, start, end, _) = frames(crashed.path()).pop().unwrap();
        for at in start..end {
            let image = image(crashed.path());
            let path = image.path().join("journal").join(path.file_name().unwrap());
            flip(&path, at);
            assert_refused(image.path(), &format!("byte {at} of {start}..{end}"));
        }
    }
}

#[test]
fn a_flipped_bit_in_a_run_of_unsynced_frames_before_a_synced_one_is_said_aloud() {
    let dir = memory_dir();
    // So large that no checkpoint covers them.
    let log = EmbeddedLog::open(dir.path(), small().journal_bytes(1 << 20)).unwrap();
    let (t, o) = topics(&log);
    for _ in 0..3 {
        put(&log, &o, &["unsynced"]);
    }
    put(&log, &t, &["synced"]);
    let crashed = crash_image(&log, dir.path());
    let all = frames(crashed.path());
    for (path, start, end, _) in &all[all.len() - 4..] {
        let image = image(crashed.path());
        flip(&image.path().join("journal").join(path.file_name().unwrap()), (start + end) / 2);
        assert_refused(image.path(), &format!("{start}..{end}"));
    }
}

#[test]
fn a_lost_frame_of_a_topic_that_does_not_sync_is_a_torn_tail() {
    let dir = memory_dir();
    let log = open(dir.path());
    let (t, o) = topics(&log);
    put(&log, &t, &["synced"]);
    put(&log, &o, &["kept"]);
    put(&log, &o, &["lost"]);
    let image = crash_image(&log, dir.path());
    // The power was cut: the segment reached the disk and the frame did not.
    let (path, start, ..) = frames(image.path()).pop().unwrap();
    flip(&path, start + 50);
    let log = open(image.path());
    assert_eq!(read_all(&log, &o), [(0, "kept".into())]);
    assert_eq!(put(&log, &o, &["next"]), 1);
    drop(log);
    assert_eq!(read_all(&open(image.path()), &o), [(0, "kept".into()), (1, "next".into())]);
}

/// Waits until the last frame is one that says of the others that they are on the disk.
fn wait_for_claim(dir: &Path) {
    let is_claimed = |all: &[(PathBuf, usize, usize, u64)]| {
        let (path, start, ..) = all.last().unwrap();
        let header = frame::start(&fs::read(path).unwrap()[*start..]).unwrap();
        header.length == 0 && header.label.durable + 1 == header.label.sequence
    };
    while !is_claimed(&frames(dir)) {
        thread::yield_now();
    }
}

#[test]
fn after_a_rest_the_journal_says_what_is_on_the_disk() {
    let dir = memory_dir();
    let rests = || small().journal_bytes(300 << 10).rest_after(Duration::from_millis(1));
    let log = EmbeddedLog::open(dir.path(), rests()).unwrap();
    let (t, _) = topics(&log);
    // So large that it goes through other threads; the journal says of it, too, that it is there.
    put(&log, &t, &[&"x".repeat(200_000)]);
    wait_for_claim(dir.path());
    // Offsets alone leave no trace in a segment.
    let offsets = vec![position("g", &t, 7, "m")];
    log.commit(Commit { offsets, ..Commit::default() }).unwrap().wait().unwrap();
    wait_for_claim(dir.path());
    let crashed = crash_image(&log, dir.path());
    let all = frames(crashed.path());
    let (path, start, end, _) = &all[all.len() - 2];
    for at in *start..*end {
        let image = image(crashed.path());
        flip(&image.path().join("journal").join(path.file_name().unwrap()), at);
        assert_refused(image.path(), &format!("byte {at} of {start}..{end}"));
    }
    // It says so once, and what follows is as before.
    assert_eq!(put(&log, &t, &["a"]), 1);
    drop(log);
    assert_eq!(read_all(&open(crashed.path()), &t).len(), 1);
    let log = open(dir.path());
    assert_eq!(read_all(&log, &t)[1], (1, "a".into()));
    assert_eq!(log.committed("g", &t).unwrap().unwrap().offset, 7);
}

#[test]
fn a_clean_end_is_believed_only_as_long_as_no_frame_follows_it() {
    let dir = memory_dir();
    let log = open(dir.path());
    let (t, _) = topics(&log);
    put(&log, &t, &["a"]);
    log.close().unwrap();
    let closed = image(dir.path());
    let log = open(dir.path());
    put(&log, &t, &["b"]);
    let crashed = crash_image(&log, dir.path());
    // The checkpoint of the close, with the journal of what was done since.
    for file in ["checkpoint", "checkpoint.previous"] {
        fs::copy(closed.path().join(file), crashed.path().join(file)).unwrap();
    }
    assert_eq!(read_all(&open(crashed.path()), &t), [(0, "a".into()), (1, "b".into())]);
}

#[test]
fn a_frame_that_a_power_cut_left_is_not_followed_by_a_later_opening() {
    let dir = memory_dir();
    let log = open(dir.path());
    let (_, o) = topics(&log);
    log.close().unwrap();
    let log = open(dir.path());
    // Two frames, of which the power cut takes the first and the segment's bytes, and leaves the second.
    let before = crash_image(&log, dir.path());
    put(&log, &o, &["lost"]);
    put(&log, &o, &["left"]);
    let cut = crash_image(&log, dir.path());
    let all = frames(cut.path());
    let [.., (first, start, ..), (_, _, _, left)] = &all[..] else { panic!("{all:?}") };
    let mut bytes = fs::read(first).unwrap();
    bytes[*start..start + frame::ALIGNMENT].fill(0);
    fs::write(before.path().join("journal").join(first.file_name().unwrap()), bytes).unwrap();
    let log = open(before.path());
    // Written over the first, in front of the second.
    put(&log, &o, &["new"]);
    let now = frames(before.path());
    let of_number = |number: u64| now.iter().filter(move |(.., sequence)| *sequence == number);
    assert_eq!((of_number(left - 1).count(), of_number(*left).count()), (1, 1), "{now:?}");
    for crashed in [true, false] {
        let image = crash_image(&log, before.path());
        if !crashed {
            open(image.path()).close().unwrap();
        }
        for _ in 0..2 {
            assert_eq!(read_all(&open(image.path()), &o), [(0, "new".into())]);
        }
    }
    log.close().unwrap();
    assert_eq!(read_all(&open(before.path()), &o), [(0, "new".into())]);
}

#[test]
fn a_removed_lock_file_lets_no_second_log_in() {
    let dir = memory_dir();
    let log = opened(dir.path());
    fs::remove_file(dir.path().join(".lock")).unwrap();
    let refused = EmbeddedLog::open(dir.path(), small()).map(drop);
    assert!(matches!(refused, Err(OpenError::Locked { .. })), "{refused:?}");
    put(&log, &partition("t", 0), &["a"]);
    drop(log);
    fs::remove_file(dir.path().join(".lock")).unwrap();
    assert_eq!(read_all(&open(dir.path()), &partition("t", 0)), [(0, "a".into())]);
}

#[test]
fn a_first_journal_of_which_some_files_are_there_is_completed() {
    for there in [vec![], vec![0], vec![1], vec![0, 2, 3]] {
        let dir = memory_dir();
        fs::create_dir(dir.path().join("journal")).unwrap();
        for index in &there {
            fs::write(crate::journal::file_path(&dir.path().join("journal"), *index), []).unwrap();
        }
        let log = opened(dir.path());
        put(&log, &partition("t", 0), &["a"]);
        drop(log);
        assert_eq!(files(&dir.path().join("journal"), "journal").len(), 4);
        assert_eq!(read_all(&open(dir.path()), &partition("t", 0)), [(0, "a".into())], "{there:?}");
    }
}

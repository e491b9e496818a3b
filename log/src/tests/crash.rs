//! What a crash leaves, and what opening makes of it.

use super::*;
use headwater_core::ports::log::Durability;
use std::{fs::OpenOptions, os::unix::fs::FileExt};

/// Where the journal's last frame starts and ends, and its file.
fn last_frame(dir: &Path) -> (PathBuf, u64, u64) {
    use crate::journal::frame::start;
    let mut last = (0, PathBuf::new(), 0, 0);
    for path in files(&dir.join("journal"), "journal") {
        let bytes = fs::read(&path).unwrap();
        for at in (0..bytes.len()).step_by(4096) {
            if let Some(header) = start(&bytes[at..])
                && header.label.sequence > last.0
            {
                last = (header.label.sequence, path.clone(), at as u64, header.bytes());
            }
        }
    }
    (last.1, last.2, last.2 + last.3)
}

/// What a crash leaves between the journal's write and the segments': `before`, with the journal as it is now.
fn journal_of(log: &EmbeddedLog, dir: &Path, before: &Path) -> tempfile::TempDir {
    log.quiesce();
    let image = image(before);
    let journal = image.path().join("journal");
    fs::remove_dir_all(&journal).unwrap();
    fs::create_dir(&journal).unwrap();
    copy(&dir.join("journal"), &journal);
    image
}

#[test]
fn a_commit_over_partitions_and_offsets_is_there_whole_or_not_at_all() {
    let dir = memory_dir();
    let log = opened(dir.path());
    let (p0, p1) = (partition("t", 0), partition("t", 1));
    put(&log, &p0, &["before"]);
    let before = crash_image(&log, dir.path());
    let appends = vec![append(&p0, &["a"]), append(&p1, &["b"])];
    let offsets = vec![position("g", &p0, 5, "m")];
    log.commit(Commit { owner: None, appends, offsets }).unwrap().wait().unwrap();
    let image = journal_of(&log, dir.path(), before.path());
    let (journal, start, end) = last_frame(image.path());

    for cut in start..=end {
        let torn = self::image(image.path());
        let journal = torn.path().join("journal").join(journal.file_name().unwrap());
        let file = OpenOptions::new().write(true).open(&journal).unwrap();
        if cut % 2 == 0 {
            file.set_len(cut).unwrap();
        } else {
            file.write_all_at(&vec![0xa5; usize::try_from(end - cut).unwrap() + 700], cut).unwrap();
        }
        let log = open(torn.path());
        let seen = (
            read_all(&log, &p0).len(),
            read_all(&log, &p1).len(),
            log.committed("g", &p0).unwrap().is_some(),
        );
        let expected = if cut == end { (2, 1, true) } else { (1, 0, false) };
        assert_eq!(seen, expected, "cut at {cut} of {start}..{end}");
        assert_eq!(put(&log, &p1, &["after"]), i64::from(cut == end));
        drop(log);
        let values: Vec<_> =
            read_all(&open(torn.path()), &p1).into_iter().map(|(_, value)| value).collect();
        assert_eq!(values.last().unwrap(), "after");
        assert_eq!(values.len(), if cut == end { 2 } else { 1 }, "the torn tail came back");
    }
}

#[test]
fn what_lies_after_the_sync_point_of_a_segment_is_rewritten_from_the_journal() {
    let dir = memory_dir();
    let p0 = partition("t", 0);
    let log = opened(dir.path());
    put(&log, &p0, &["a"]);
    log.close().unwrap();
    let log = open(dir.path());
    put(&log, &p0, &["b"]);
    let segment = Path::new("t-0/00000000000000000000.log");
    let synced = 61 + 11;
    let tails: [&dyn Fn(&fs::File); 4] = [
        &|file| file.set_len(synced).unwrap(),
        &|file| file.write_all_at(&[0; 40], synced).unwrap(),
        &|file| file.write_all_at(&[0x5a; 500], synced + 20).unwrap(),
        &|file| file.set_len(synced + 30).unwrap(),
    ];
    for damage in tails {
        let image = crash_image(&log, dir.path());
        damage(&OpenOptions::new().write(true).open(image.path().join(segment)).unwrap());
        assert_eq!(read_all(&open(image.path()), &p0), [(0, "a".into()), (1, "b".into())]);
    }
    let image = crash_image(&log, dir.path());
    fs::remove_dir_all(image.path().join("t-1")).ok();
    assert_eq!(read_all(&open(image.path()), &p0).len(), 2);
}

#[test]
fn crashes_while_recovering_end_in_the_same_log() {
    let dir = memory_dir();
    let p0 = partition("t", 0);
    let log = opened(dir.path());
    let mut images = Vec::new();
    for i in 0..40 {
        put(&log, &p0, &[&format!("{i}")]);
        images.push((i + 1, crash_image(&log, dir.path())));
    }
    for (count, image) in images {
        let expected: Vec<_> = (0..count).map(|i| (i, i.to_string())).collect();
        let mut current = image;
        for _ in 0..3 {
            let log = open(current.path());
            assert_eq!(read_all(&log, &p0), expected);
            let next = crash_image(&log, current.path());
            drop(log);
            current = next;
        }
        let log = open(current.path());
        assert_eq!(put(&log, &p0, &["next"]), count);
    }
}

#[test]
fn a_deleted_or_damaged_checkpoint_falls_back_to_the_previous_and_loses_nothing() {
    let dir = memory_dir();
    let p0 = partition("t", 0);
    let log = opened(dir.path());
    let mut expected = Vec::new();
    for i in 0..60 {
        put(&log, &p0, &[&format!("{i}")]);
        expected.push((i, i.to_string()));
        if i % 3 != 0 {
            continue;
        }
        let (deleted, damaged) = (crash_image(&log, dir.path()), crash_image(&log, dir.path()));
        fs::remove_file(deleted.path().join("checkpoint")).unwrap();
        assert_eq!(read_all(&open(deleted.path()), &p0), expected);

        let path = damaged.path().join("checkpoint");
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        fs::write(&path, bytes).unwrap();
        let log = open(damaged.path());
        assert_eq!(read_all(&log, &p0), expected);
        put(&log, &p0, &["more"]);
        drop(log);
        assert_eq!(read_all(&open(damaged.path()), &p0).len(), expected.len() + 1);
        let kept = fs::read_dir(damaged.path()).unwrap();
        assert!(
            kept.into_iter().any(|e| e
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with("checkpoint.corrupt-"))
        );
    }
}

#[test]
fn a_topic_that_only_the_system_holds_survives_the_end_of_the_process_and_sync_makes_it_last() {
    let dir = memory_dir();
    let log = open(dir.path());
    log.create_topics(&[TopicSpec { durability: Durability::Os, ..TopicSpec::new(topic("o"), 1) }])
        .unwrap();
    let p0 = partition("o", 0);
    put(&log, &p0, &["a"]);
    put(&log, &p0, &["b"]);
    log.sync().unwrap();
    let image = crash_image(&log, dir.path());
    assert_eq!(read_all(&open(image.path()), &p0).len(), 2);
    // The page cache lost the last frame, and a power cut may do that to what was not synced.
    put(&log, &p0, &["c"]);
    let image = crash_image(&log, dir.path());
    let (journal, start, _) = last_frame(image.path());
    OpenOptions::new().write(true).open(journal).unwrap().write_all_at(&[0; 4096], start).unwrap();
    let log = open(image.path());
    assert_eq!(read_all(&log, &p0), [(0, "a".into()), (1, "b".into())]);
    assert_eq!(put(&log, &p0, &["d"]), 2);
}

#[test]
fn a_refusing_file_system_fences_the_log_and_reopening_finds_the_commit() {
    let dir = memory_dir();
    let log = opened(dir.path());
    fs::write(dir.path().join("t-0"), "in the way").unwrap();
    let p0 = partition("t", 0);
    let unknown = commit(&log, vec![append(&p0, &["a"])]).unwrap_err();
    assert_eq!(unknown.kind(), LogErrorKind::UnknownOutcome, "{unknown}");
    assert!(matches!(
        commit(&log, vec![append(&partition("t", 1), &["b"])]),
        Err(LogError::Io { .. })
    ));
    assert!(matches!(log.sync(), Err(LogError::Io { .. })));
    assert_eq!(log.offsets(&p0).unwrap().end, 0);
    assert!(log.close().is_err());
    fs::remove_file(dir.path().join("t-0")).unwrap();
    let log = open(dir.path());
    assert_eq!(read_all(&log, &p0), [(0, "a".into())]);
    assert_eq!(read_all(&log, &partition("t", 1)), []);
}

#[test]
fn a_crash_between_the_two_renames_of_a_checkpoint_goes_on_from_the_one_before() {
    let dir = memory_dir();
    let p0 = partition("t", 0);
    let log = opened(dir.path());
    let mut expected = Vec::new();
    for i in 0..60 {
        put(&log, &p0, &[&format!("{i}")]);
        expected.push((i, i.to_string()));
        if i % 5 != 0 {
            continue;
        }
        let image = crash_image(&log, dir.path());
        let name = |name: &str| image.path().join(name);
        // The last checkpoint is written as `checkpoint.next`, and the one that was current has moved away already: it
        // is here what the one before the last is.
        fs::rename(name("checkpoint"), name("checkpoint.next")).unwrap();
        let between = self::image(image.path());
        for _ in 0..3 {
            let log = open(between.path());
            assert_eq!(read_all(&log, &p0), expected);
        }
        let log = open(between.path());
        assert_eq!(put(&log, &p0, &["next"]), i + 1);
    }
}

#[test]
fn a_checkpoint_fallback_never_writes_with_a_generation_that_frames_have_already() {
    use crate::journal::frame::start;
    let dir = memory_dir();
    let p0 = partition("t", 0);
    drop(opened(dir.path()));
    let log = open(dir.path());
    put(&log, &p0, &["a"]);
    let image = crash_image(&log, dir.path());
    fs::remove_file(image.path().join("checkpoint")).unwrap();
    let log = open(image.path());
    put(&log, &p0, &["b"]);
    let mut generations = Vec::new();
    for path in files(&image.path().join("journal"), "journal") {
        let bytes = fs::read(&path).unwrap();
        for at in (0..bytes.len()).step_by(4096) {
            if let Some(header) = start(&bytes[at..]) {
                generations.push((header.label.sequence, header.label.stamp.generation));
            }
        }
    }
    generations.sort_unstable();
    assert!(generations.windows(2).all(|pair| pair[0].0 != pair[1].0), "{generations:?}");
    let [.., a, b] = generations[..] else { panic!("{generations:?}") };
    assert!(a.1 < b.1, "{generations:?}");
}

#[test]
fn a_record_that_looks_like_a_frame_of_the_journal_is_none() {
    use crate::journal::{Stamp, buffer::FrameBuffer, frame};
    let dir = memory_dir();
    let p0 = partition("t", 0);
    let log = EmbeddedLog::open(dir.path(), small().journal_bytes(1 << 20)).unwrap();
    log.create_topics(&[TopicSpec::new(topic("t"), 1)]).unwrap();
    let value = |forged_at: usize| {
        let mut value = vec![b'#'; 12_000];
        let mut forged = FrameBuffer::default();
        forged.begin(0);
        let stamp = Stamp { log: 0, generation: 1 };
        let forged = forged.finish(frame::Label { stamp, sequence: 1000, durable: 999 });
        value[forged_at..forged_at + frame::HEADER_BYTES]
            .copy_from_slice(&forged[..frame::HEADER_BYTES]);
        value
    };
    let put_bytes = |value: &[u8]| {
        let mut set = RecordSetBuilder::default();
        set.push(0, None, Some(value), &Headers::new()).unwrap();
        let records = Arc::new(set.build());
        commit(&log, vec![Append { partition: p0.clone(), base_offset: None, records }]).unwrap();
    };
    put_bytes(&value(0));
    let before = crash_image(&log, dir.path());
    let (journal, start, _) = last_frame(dir.path());
    let bytes = fs::read(&journal).unwrap();
    let start = usize::try_from(start).unwrap();
    let before_value = bytes[start..].windows(8).position(|bytes| bytes == b"########").unwrap()
        - frame::HEADER_BYTES;
    // This one lies where a frame could start.
    put_bytes(&value(4096 - before_value));
    let image = journal_of(&log, dir.path(), before.path());
    let (journal, start, _) = last_frame(image.path());
    // The frame around it is torn, so that what is in it is searched for frames.
    OpenOptions::new().write(true).open(journal).unwrap().write_all_at(&[0; 512], start).unwrap();
    assert_eq!(open(image.path()).offsets(&p0).unwrap().end, 1);
}

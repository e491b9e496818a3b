//! Damage to what was synced: named, never stepped over, and never spreading.

use super::*;
use crate::OpenError;

/// A closed log whose partition 0 has several sealed segments, and partition 1 one record.
fn closed() -> (tempfile::TempDir, Vec<(i64, String)>) {
    let dir = memory_dir();
    let log = opened(dir.path());
    let p0 = partition("t", 0);
    for i in 0..30 {
        put(&log, &p0, &[&format!("value-{i}"), "second"]);
    }
    put(&log, &partition("t", 1), &["other"]);
    let all = read_all(&log, &p0);
    drop(log);
    assert!(files(&dir.path().join("t-0"), "log").len() > 4);
    (dir, all)
}

fn plain(record: headwater_core::record::RecordRef<'_>) -> (i64, String) {
    (record.offset, String::from_utf8(record.value.unwrap().to_vec()).unwrap())
}

#[test]
fn any_flipped_bit_of_a_segment_is_reported_with_its_file_and_costs_no_other_partition() {
    let (dir, all) = closed();
    let p0 = partition("t", 0);
    for (nth, bit) in [(1, 0), (1, 6), (3, 3)] {
        let segment = files(&dir.path().join("t-0"), "log")[nth].clone();
        let length = fs::read(&segment).unwrap().len();
        for at in (0..length).step_by(3) {
            let image = image(dir.path());
            let target = image.path().join("t-0").join(segment.file_name().unwrap());
            let mut bytes = fs::read(&target).unwrap();
            bytes[at] ^= 1_u8 << bit;
            fs::write(&target, bytes).unwrap();
            if at % 2 == 1 {
                // The checkpoint's checksum is enough to find it.
                fs::remove_file(target.with_extension("checksum")).unwrap();
            }
            let log = open(image.path());
            let base = all.iter().position(|(offset, _)| {
                format!("{offset:020}.log") == *segment.file_name().unwrap().to_str().unwrap()
            });
            let mut readable = Vec::new();
            let mut next = 0;
            let error = loop {
                match log.fetch(&p0, next, 1) {
                    Ok(fetched) if fetched.next_offset >= fetched.end => {
                        panic!("byte {at}: the flip went unnoticed")
                    }
                    Ok(fetched) => {
                        readable.extend(fetched.records.iter().map(plain));
                        next = fetched.next_offset;
                    }
                    Err(error) => break error,
                }
            };
            assert_eq!(readable, all[..readable.len()], "byte {at}: a wrong record");
            assert!(readable.len() >= base.unwrap(), "byte {at}: what lies in front is readable");
            let LogError::Corrupt { path, offset, .. } = &error else {
                panic!("byte {at}: {error}")
            };
            assert_eq!(path, &target);
            assert!(*offset >= all[base.unwrap()].0, "byte {at}: {error}");
            assert_eq!(read_all(&log, &partition("t", 1)), [(0, "other".into())]);
            assert_eq!(
                read_from(&log, &p0, 50).unwrap(),
                all[50..],
                "byte {at}: what lies after it is readable"
            );
            assert!(matches!(
                commit(&log, vec![append(&p0, &["no"])]),
                Err(LogError::Corrupt { .. })
            ));
            put(&log, &partition("t", 1), &["yes"]);
        }
    }
}

#[test]
fn a_short_or_missing_segment_is_reported_again_after_every_restart() {
    let (dir, all) = closed();
    let p0 = partition("t", 0);
    for short in [true, false] {
        let image = image(dir.path());
        let target = files(&image.path().join("t-0"), "log")[2].clone();
        if short {
            let bytes = fs::read(&target).unwrap();
            fs::write(&target, &bytes[..bytes.len() - 20]).unwrap();
        } else {
            fs::remove_file(&target).unwrap();
        }
        for _ in 0..3 {
            let log = open(image.path());
            let error = read_from(&log, &p0, 0).unwrap_err();
            assert!(matches!(&error, LogError::Corrupt { path, .. } if *path == target), "{error}");
            assert_eq!(read_from(&log, &p0, 40).unwrap(), all[40..]);
            assert_eq!(read_all(&log, &partition("t", 1)).len(), 1);
        }
    }
}

#[test]
fn hint_files_are_rebuilt_whatever_happened_to_them() {
    let (dir, all) = closed();
    let p0 = partition("t", 0);
    let hints = |dir: &Path| {
        let all =
            ["index", "timeindex", "checksum"].into_iter().flat_map(|e| files(&dir.join("t-0"), e));
        all.map(|path| (path.file_name().unwrap().to_owned(), fs::read(&path).unwrap()))
            .collect::<Vec<_>>()
    };
    let before = hints(dir.path());
    let sealed = files(&dir.path().join("t-0"), "log").len() - 1;
    assert!(sealed >= 4 && before.len() == 3 * sealed, "{sealed} sealed segments: {before:?}");
    let damages: [fn(&Path, Vec<u8>); 4] = [
        |path, _| fs::remove_file(path).unwrap(),
        |path, _| fs::write(path, []).unwrap(),
        |path, bytes| fs::write(path, [bytes, vec![0; 24]].concat()).unwrap(),
        |path, bytes| {
            fs::write(path, bytes.iter().map(|byte| byte ^ 1).collect::<Vec<_>>()).unwrap()
        },
    ];
    let kinds =
        [&["index", "timeindex", "checksum"][..], &["checksum"], &["index"], &["timeindex"]];
    for (damage, kinds) in damages.iter().flat_map(|damage| kinds.map(|kinds| (damage, kinds))) {
        if std::ptr::eq(damage, &damages[3]) && !kinds.contains(&"checksum") {
            // The log does not read Kafka's indexes: it looks at their length.
            continue;
        }
        let image = image(dir.path());
        for (name, bytes) in hints(image.path()) {
            let path = image.path().join("t-0").join(name);
            if kinds.iter().any(|kind| path.extension().is_some_and(|it| it == *kind)) {
                damage(&path, bytes);
            }
        }
        let log = open(image.path());
        assert_eq!(log.offset_for_timestamp(&p0, 20).unwrap(), Some(1));
        assert_eq!(read_all(&log, &p0), all);
        drop(log);
        assert_eq!(hints(image.path()), before);
    }
}

#[test]
fn a_synced_frame_that_cannot_be_read_refuses_to_open_instead_of_losing_what_follows() {
    let dir = memory_dir();
    let log = open(dir.path());
    log.create_topics(&[TopicSpec::new(topic("t"), 1)]).unwrap();
    put(&log, &partition("t", 0), &["a"]);
    put(&log, &partition("t", 0), &["b"]);
    let image = crash_image(&log, dir.path());
    let journal = files(&image.path().join("journal"), "journal")[0].clone();
    let mut bytes = fs::read(&journal).unwrap();
    bytes[4096 + 60] ^= 1;
    fs::write(&journal, bytes).unwrap();
    let refused = EmbeddedLog::open(image.path(), small()).unwrap_err();
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
}

#[test]
fn an_unknown_version_or_a_log_without_checkpoints_is_refused_and_left_alone() {
    let (dir, _) = closed();
    let image = image(dir.path());
    let path = image.path().join("checkpoint");
    let mut bytes = fs::read(&path).unwrap();
    // That of the first release, and one that is still to come.
    for version in [1, 9] {
        bytes[7] = version;
        let end = bytes.len() - 4;
        let crc = crc32c::crc32c(&bytes[..end]);
        bytes[end..].copy_from_slice(&crc.to_be_bytes());
        fs::write(&path, &bytes).unwrap();
        let refused = EmbeddedLog::open(image.path(), small()).unwrap_err();
        let OpenError::UnknownVersion { found, known: 4, .. } = &refused else {
            panic!("{refused}")
        };
        assert_eq!(*found, u32::from(version));
        assert!(refused.to_string().contains("use the program that wrote it"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }

    fs::remove_file(image.path().join("checkpoint")).unwrap();
    fs::remove_file(image.path().join("checkpoint.previous")).unwrap();
    let refused = EmbeddedLog::open(image.path(), small()).unwrap_err();
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
    assert!(files(&image.path().join("t-0"), "log").len() > 4);
}

#[test]
fn a_missing_file_of_the_journal_refuses_to_open_instead_of_losing_its_commits() {
    let dir = memory_dir();
    let log = opened(dir.path());
    let p0 = partition("t", 0);
    for i in 0..40 {
        let image = crash_image(&log, dir.path());
        let journals = files(&image.path().join("journal"), "journal");
        assert_eq!(journals.len(), 4);
        for journal in journals {
            let image = self::image(image.path());
            let journal = image.path().join("journal").join(journal.file_name().unwrap());
            fs::remove_file(&journal).unwrap();
            let refused = EmbeddedLog::open(image.path(), small()).unwrap_err();
            assert!(
                matches!(&refused, OpenError::Damaged { path, .. } if *path == journal),
                "{refused}"
            );
            assert!(refused.to_string().contains("missing"), "{refused}");
        }
        put(&log, &p0, &[&format!("{i}")]);
    }
}

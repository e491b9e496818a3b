//! What a read trusts: the hints for where to look, nothing for what it serves.

use super::*;
use crate::{
    batch::{self, Header, encode},
    disk::{
        faults::{Armed, Kind},
        files::Files,
        watched::{Cache, WatchedDisk},
    },
    limits::LIMITS,
    partition::{Kept, LogFiles, Partition, PartitionMeta, Touched},
};
use headwater_core::{
    ports::log::{Cleanup, Offsets},
    record::{RecordSet, TopicPartition},
};
use std::{ops::Range, os::unix::fs::FileExt};

const MIB: usize = 1 << 20;

/// A log on a disk that is watched, with partitions `t-0` and `t-1`; rolled only where told.
fn watched(dir: &Path, cache: Cache, segment_bytes: u64) -> (EmbeddedLog, WatchedDisk) {
    let disk = WatchedDisk::new(cache);
    let options = LogOptions::new().disk(Arc::new(disk.clone())).segment_bytes(segment_bytes);
    let log = EmbeddedLog::open(dir, options.reserve_bytes(1 << 20)).unwrap();
    log.create_topics(&[TopicSpec::new(topic("t"), 2)]).unwrap();
    (log, disk)
}

/// Changes a file under the log.
fn flip(path: &Path, at: u64, bit: u32) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << bit)], at).unwrap();
}

/// Where each batch of a log file is.
fn batches(path: &Path) -> Vec<Range<u64>> {
    let bytes = fs::read(path).unwrap();
    let (mut at, mut found) = (0, Vec::new());
    while at < bytes.len() {
        let size = Header::parse(&bytes[at..]).unwrap().size;
        found.push(at as u64..(at + size) as u64);
        at += size;
    }
    found
}

/// That many batches of one record of about a kibibyte.
fn fill(log: &EmbeddedLog, partition: &TopicPartition, batches: usize) {
    let value = "x".repeat(1000);
    for _ in 0..batches / 100 {
        commit(log, (0..100).map(|_| append(partition, &[&value])).collect()).unwrap();
    }
}

#[test]
fn hint_files_that_cannot_be_written_stop_no_commit() {
    let dir = memory_dir();
    let log = opened(dir.path());
    let p0 = partition("t", 0);
    let hint = dir.path().join("t-0/00000000000000000000.index.tmp");
    let armed = Armed::after(&hint, 0, Kind::Dead);
    for at in 0..20 {
        assert_eq!(put(&log, &p0, &[&"x".repeat(200)]), at);
    }
    log.close().unwrap();
    assert!(armed.was_hit());
    drop((log, armed));
    assert_eq!(read_all(&open(dir.path()), &p0).len(), 20);
}

#[test]
fn an_offset_a_length_or_an_epoch_that_changes_after_it_was_read_is_found_at_the_next_read() {
    let dir = memory_dir();
    let (log, _) = watched(dir.path(), Cache::Kept, 1 << 30);
    let p0 = partition("t", 0);
    for i in 0..60 {
        put(&log, &p0, &[&format!("{i} {}", "x".repeat(1000)), "second"]);
        if i == 20 {
            // With offsets left free, a larger one is in order too.
            let far = Append { base_offset: Some(5000), ..append(&p0, &["far", "away"]) };
            commit(&log, vec![far]).unwrap();
        }
    }
    let all = read_all(&log, &p0);
    let path = dir.path().join("t-0/00000000000000000000.log");
    let batches = batches(&path);
    for batch in [0, 21, 22, 40, 60] {
        let first = all[2 * batch].0;
        for (byte, bit) in (0..16).flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
            let at = batches[batch].start + byte;
            flip(&path, at, bit);
            let from_the_start = read_from(&log, &p0, 0).unwrap_err();
            assert!(matches!(from_the_start, LogError::Corrupt { .. }), "{from_the_start}");
            let alone = log.fetch(&p0, first, 1).unwrap_err();
            assert!(matches!(&alone, LogError::Corrupt { path: of, .. } if *of == path), "{alone}");
            flip(&path, at, bit);
        }
    }
    assert_eq!(read_all(&log, &p0), all);
}

#[test]
fn what_came_from_the_disk_again_is_checked_again() {
    let p0 = partition("t", 0);
    for again in [Cache::Dropped, Cache::Silent] {
        let dir = memory_dir();
        let (log, disk) = watched(dir.path(), Cache::Kept, 1 << 30);
        fill(&log, &p0, 3000);
        let all = read_all(&log, &p0);
        let path = dir.path().join("t-0/00000000000000000000.log");
        let damaged = 2100;
        flip(&path, batches(&path)[damaged].end - 1, 0);
        // Memory is trusted: a batch that was checked and is still there is not checked again.
        assert_eq!(read_all(&log, &p0).len(), all.len());
        disk.set(again);
        let mut next = damaged as i64 - 50;
        let error = loop {
            match log.fetch(&p0, next, 1) {
                Ok(fetched) if fetched.next_offset == fetched.end => {
                    panic!("the flip went unnoticed")
                }
                Ok(fetched) => next = fetched.next_offset,
                Err(error) => break error,
            }
        };
        assert_eq!(next, damaged as i64, "what lies in front is served");
        assert!(matches!(error, LogError::Corrupt { offset, .. } if offset == next), "{error}");
        assert_eq!(log.fetch(&p0, next + 1, 1).unwrap().records.len(), 1);
    }
}

#[test]
fn what_was_read_ahead_of_a_reader_is_checked_too() {
    let dir = memory_dir();
    let (log, disk) = watched(dir.path(), Cache::Kept, 1 << 30);
    let p0 = partition("t", 0);
    fill(&log, &p0, 3000);
    read_all(&log, &p0);
    let path = dir.path().join("t-0/00000000000000000000.log");
    flip(&path, batches(&path)[2900].end - 1, 0);
    // One read goes to the disk, and the system reads ahead: the next ones find all of it in memory.
    disk.set(Cache::Dropped);
    log.fetch(&p0, 100, 1).unwrap();
    disk.set(Cache::Kept);
    let error = read_from(&log, &p0, 101).unwrap_err();
    assert!(matches!(error, LogError::Corrupt { offset: 2900, .. }), "{error}");
}

#[test]
fn a_checked_run_is_read_in_parts() {
    let dir = memory_dir();
    let (log, disk) = watched(dir.path(), Cache::Kept, 1 << 30);
    let p0 = partition("t", 0);
    fill(&log, &p0, 900);
    read_all(&log, &p0);
    disk.take_reads("log");
    for offset in [0, 400, 899] {
        let fetched = log.fetch(&p0, offset, 1).unwrap();
        assert_eq!((fetched.records.len(), fetched.next_offset), (1, offset + 1));
        let (bytes, _) = disk.take_reads("log");
        assert!(bytes <= 20 << 10, "{bytes} bytes read for one record");
    }
    // What is new is read alone.
    put(&log, &p0, &[&"x".repeat(1000)]);
    log.fetch(&p0, 900, MIB).unwrap();
    let (bytes, _) = disk.take_reads("log");
    assert!(bytes <= 2 << 10, "{bytes} bytes read for one that is new");
}

#[test]
fn a_first_read_goes_by_the_hints() {
    let dir = memory_dir();
    let segment = 6 * MIB;
    let (log, _) = watched(dir.path(), Cache::Kept, segment as u64);
    let p0 = partition("t", 0);
    let count = 15_000;
    fill(&log, &p0, count);
    log.close().unwrap();
    drop(log);
    assert_eq!(files(&dir.path().join("t-0"), "log").len(), 3);
    let (log, disk) = watched(dir.path(), Cache::Dropped, segment as u64);
    assert_eq!(disk.take_reads("log"), (0, 0), "opening reads no segment");
    let last = files(&dir.path().join("t-0"), "log").pop().unwrap();
    let sealed = last.file_stem().unwrap().to_str().unwrap().parse::<i64>().unwrap() - 1;
    // At the tail of what is sealed, in the middle, and at the tail of what grows.
    for offset in [sealed, sealed / 2, 14_999] {
        assert_eq!(log.fetch(&p0, offset, 1).unwrap().records.get(0).unwrap().offset, offset);
        let (bytes, steps) = disk.take_reads("log");
        assert!(bytes <= MIB && steps <= 2, "{bytes} bytes in {steps} steps");
    }
    assert_eq!(log.offset_for_timestamp(&p0, 1_000).unwrap(), None);
    assert_eq!(disk.take_reads("log"), (0, 0), "the marks know the largest timestamp");
    assert_eq!(log.offset_for_timestamp(&p0, 0).unwrap(), Some(0));
    let (bytes, _) = disk.take_reads("log");
    assert!(bytes <= 2 * MIB, "{bytes} bytes");
    disk.set(Cache::Kept);
    assert_eq!(read_all(&log, &p0).len(), count);
}

#[test]
fn a_hint_that_is_missing_or_damaged_costs_one_walk_and_one_that_cannot_be_written_nothing_else() {
    let dir = memory_dir();
    let p0 = partition("t", 0);
    let log = opened(dir.path());
    for i in 0..60 {
        put(&log, &p0, &[&format!("value-{i}")]);
    }
    let all = read_all(&log, &p0);
    drop(log);
    let part = dir.path().join("t-0");
    let hints = || ["index", "timeindex", "checksum"].map(|extension| files(&part, extension));
    let before = hints();
    assert!(before[0].len() > 4);
    before.iter().flatten().for_each(|path| fs::remove_file(path).unwrap());

    let log = open(dir.path());
    let armed = Armed::after(&part, 0, Kind::Dead);
    assert_eq!(read_all(&log, &p0), all);
    assert_eq!(log.offset_for_timestamp(&p0, 0).unwrap(), Some(0));
    assert!(armed.was_hit());
    drop((log, armed));
    assert!(hints().iter().all(Vec::is_empty));

    let (log, disk) = watched(dir.path(), Cache::Kept, 600);
    disk.take_reads("log");
    assert_eq!(read_all(&log, &p0), all);
    let (first, _) = disk.take_reads("log");
    assert_eq!(read_all(&log, &p0), all);
    let (second, _) = disk.take_reads("log");
    assert!(second < first, "walked again: {second} bytes after {first}");
    assert_eq!(hints(), before);
}

/// A partition by itself, whose segments hold two of the small batches.
fn alone(dir: &Path, disk: WatchedDisk) -> Arc<Partition> {
    let files = Files::new(Arc::new(disk), 1);
    let files = LogFiles { root: dir, files: &files };
    let kept = Kept { cleanup: Cleanup::Purge, segment_bytes: 150 };
    Arc::new(
        Partition::open(files, partition("t", 0), kept, &PartitionMeta::default(), &Arc::default())
            .unwrap(),
    )
}

fn small_batch(base: i64) -> Vec<u8> {
    let mut set = RecordSetBuilder::default();
    set.push(0, None, Some(b"v"), &Headers::new()).unwrap();
    let set: RecordSet = set.build();
    let mut bytes = encode::encode(&partition("t", 0), &set, &LIMITS, Vec::new()).unwrap();
    batch::place(&mut bytes, base, 0);
    bytes
}

/// Gives a changed batch the CRC that fits.
fn sign(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

fn add(partition: &Arc<Partition>, batch: &[u8]) {
    partition.append(batch, &mut Touched::default()).unwrap();
    partition.publish();
}

#[test]
fn a_record_that_is_malformed_under_a_right_crc_fails_its_fetch_alone() {
    let dir = memory_dir();
    let partition = alone(dir.path(), WatchedDisk::new(Cache::Kept));
    add(&partition, &small_batch(0));
    // A record that says it is longer than its batch; a batch that is compressed.
    let (mut longer, mut compressed) = (small_batch(1), small_batch(2));
    longer[61] = 0x7e;
    compressed[22] |= 4;
    for batch in [&mut longer, &mut compressed] {
        sign(batch);
        add(&partition, batch);
    }
    add(&partition, &small_batch(3));
    for offset in [1, 2] {
        let error = partition.fetch(offset, MIB).unwrap_err();
        assert!(
            matches!(error, LogError::Unreadable { offset: of, .. } if of == offset),
            "{error}"
        );
        assert_eq!(error.kind(), LogErrorKind::Refused);
    }
    assert!(partition.damage().is_none());
    let readable = |offset| partition.fetch(offset, MIB).unwrap();
    assert_eq!((readable(0).records.len(), readable(0).next_offset), (1, 1));
    assert_eq!((readable(3).records.len(), readable(3).next_offset), (1, 4));
}

#[test]
fn what_cannot_be_appended_is_an_error_that_says_so() {
    let dir = memory_dir();
    let partition = alone(dir.path(), WatchedDisk::new(Cache::Kept));
    add(&partition, &small_batch(5));
    let batch = small_batch(6);
    for bytes in [&batch[..batch.len() - 1], &batch[1..], &small_batch(5)] {
        let refused = partition.append(bytes, &mut Touched::default()).unwrap_err();
        assert!(matches!(refused, LogError::Corrupt { .. }), "{refused}");
    }
    add(&partition, &batch);
    let fetched = partition.fetch(0, MIB).unwrap();
    assert_eq!((fetched.records.len(), fetched.next_offset), (2, 7));
}

#[test]
fn a_reader_that_a_purge_overtakes_is_told_so() {
    let dir = memory_dir();
    let disk = WatchedDisk::new(Cache::Kept);
    let partition = alone(dir.path(), disk.clone());
    // Without records for a reader, so that it goes on to the next segment.
    for base in 0..2 {
        let mut control = small_batch(base);
        control[22] |= 0x20;
        sign(&mut control);
        add(&partition, &control);
    }
    for base in 2..8 {
        add(&partition, &small_batch(base));
    }
    let purged = Arc::clone(&partition);
    disk.before_touching(&dir.path().join("t-0/00000000000000000000.log"), move || {
        purged.purge(6, &mut Touched::default());
    });
    let error = partition.fetch(0, MIB).unwrap_err();
    assert!(matches!(error, LogError::OffsetOutOfRange { start: 6, end: 8, .. }), "{error}");
    assert_eq!(partition.offsets(), Offsets { start: 6, end: 8 });
}

#[test]
fn a_segment_that_is_removed_under_its_reader_is_purged_and_not_damaged() {
    let dir = memory_dir();
    let disk = WatchedDisk::new(Cache::Kept);
    let partition = alone(dir.path(), disk.clone());
    for base in 0..6 {
        add(&partition, &small_batch(base));
    }
    let path = dir.path().join("t-0/00000000000000000000.log");
    for timestamps in [false, true] {
        let purged = Arc::clone(&partition);
        let path =
            if timestamps { dir.path().join("t-0/00000000000000000002.log") } else { path.clone() };
        disk.before_touching(&path.clone(), move || {
            let mut touched = Touched::default();
            purged.purge(if timestamps { 4 } else { 2 }, &mut touched);
            assert_eq!(touched.dropped.len(), 1);
            fs::remove_file(&path).unwrap();
        });
        if timestamps {
            assert_eq!(partition.offset_for_timestamp(0).unwrap(), Some(4));
        } else {
            let error = partition.fetch(1, MIB).unwrap_err();
            assert!(matches!(error, LogError::OffsetOutOfRange { start: 2, .. }), "{error}");
        }
        assert!(partition.damage().is_none());
    }
}

#[test]
fn a_small_read_of_a_run_that_was_not_checked_holds_what_it_serves_and_not_the_run() {
    let dir = memory_dir();
    let p0 = partition("t", 0);
    let (log, _) = watched(dir.path(), Cache::Kept, 1 << 30);
    fill(&log, &p0, 3000);
    log.close().unwrap();
    let log = EmbeddedLog::open(dir.path(), LogOptions::new().reserve_bytes(1 << 20)).unwrap();
    for offset in [0, 700, 2999] {
        let records = log.fetch(&p0, offset, 1).unwrap().records;
        assert_eq!(records.len(), 1);
        assert!(records.size_bytes() < MIB / 4, "{offset} holds {} bytes", records.size_bytes());
    }
}

#[test]
fn the_journal_is_searched_by_the_mebibyte() {
    const JOURNAL_BYTES: usize = 8 * MIB;
    let dir = memory_dir();
    let p0 = partition("t", 0);
    let small_files = LogOptions::new().reserve_bytes(1 << 20).journal_bytes(JOURNAL_BYTES as u64);
    let log = EmbeddedLog::open(dir.path(), small_files.clone()).unwrap();
    log.create_topics(&[TopicSpec::new(topic("t"), 1)]).unwrap();
    put(&log, &p0, &[&"x".repeat(4 * MIB)]);
    let crashed = crash_image(&log, dir.path());
    let disk = WatchedDisk::new(Cache::Kept);
    let again = EmbeddedLog::open(crashed.path(), small_files.disk(Arc::new(disk.clone())));
    assert_eq!(read_all(&again.unwrap(), &p0).len(), 1);
    let (bytes, steps) = disk.take_reads("journal");
    assert!(bytes >= 4 * MIB, "only {bytes} bytes were read");
    assert!(steps <= bytes / MIB + 40, "{bytes} bytes in {steps} steps");
}

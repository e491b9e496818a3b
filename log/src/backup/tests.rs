//! Backups under commits, under failing disks and power cuts, and damaged ones.

use super::{manifest::Manifest, restore::restore_on, *};
use crate::{
    EmbeddedLog, LogOptions, SimulatedDisk,
    conformance::{append, partition, position, read_all, topic},
    disk::faults::{Action, Armed, FaultyDisk, Kind, Steps},
};
use headwater_core::ports::log::{BackupProgress, Cleanup, Commit, Log, LogErrorKind, TopicSpec};
use std::{
    collections::BTreeMap,
    fs,
    ops::ControlFlow,
    os::unix::fs::MetadataExt,
    sync::atomic::{AtomicI64, Ordering},
    thread,
};

/// More steps than a backup takes.
const STEPS_MAX: u64 = 2000;

fn quiet(_: BackupProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn memory_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// So small that a few commits roll segments and journal files.
fn small(disk: Arc<dyn Disk>) -> LogOptions {
    LogOptions::new().disk(disk).segment_bytes(600).journal_bytes(16 << 10).reserve_bytes(1 << 20)
}

fn open(dir: &Path) -> EmbeddedLog {
    EmbeddedLog::open(dir, small(Arc::new(FaultyDisk))).unwrap()
}

fn create_topics(log: &EmbeddedLog) {
    let purged = TopicSpec { cleanup: Cleanup::Purge, ..TopicSpec::new(topic("p"), 1) };
    log.create_topics(&[TopicSpec::new(topic("t"), 2), purged]).unwrap();
}

/// Numbered commits over three partitions, of which one is purged up to a group's offset.
fn send(log: &EmbeddedLog, from: i64, to: i64) -> Result<(), LogError> {
    for number in from..to {
        let text = format!("number {number} {}", "x".repeat(200));
        let places = [partition("t", 0), partition("t", 1), partition("p", 0)];
        let appends = places.iter().map(|place| append(place, &[&text])).collect();
        let offsets = vec![position("g", &partition("p", 0), number + 1, "")];
        log.commit(Commit { owner: None, appends, offsets })?.wait()?;
    }
    Ok(())
}

/// How many of the commits it holds: each as a whole, in order, with the position that came with them.
fn sent(log: &EmbeddedLog) -> i64 {
    let first = read_all(log, &partition("t", 0));
    let count = i64::try_from(first.len()).unwrap();
    for ((at, (offset, value)), (other, same)) in
        (0..).zip(&first).zip(read_all(log, &partition("t", 1)))
    {
        assert_eq!((*offset, other), (at, at));
        assert!(value.starts_with(&format!("number {at} ")), "{value}");
        assert_eq!(value, &same);
    }
    assert_eq!(log.offsets(&partition("t", 1)).unwrap().end, count);
    assert_eq!(log.offsets(&partition("p", 0)).unwrap().end, count);
    let committed = log.committed("g", &partition("p", 0)).unwrap();
    assert_eq!(committed.map_or(0, |committed| committed.offset), count);
    count
}

/// Makes one with something beside the log in it.
fn back_up(log: &EmbeddedLog, to: &Path) -> Result<BackupReport, LogError> {
    back_up_and(log, to, &mut quiet)
}

fn back_up_and(
    log: &EmbeddedLog,
    to: &Path,
    tell: &mut TellProgress<'_>,
) -> Result<BackupReport, LogError> {
    let backup = log.begin_backup(to)?;
    let state = backup.dir().join("state");
    fs::create_dir(&state).and_then(|()| fs::write(state.join("file"), b"state")).unwrap();
    backup.finish(tell)
}

fn restored(from: &Path, to: &Path) -> EmbeddedLog {
    restore(from, to, &mut quiet).unwrap();
    assert_eq!(fs::read(to.join("state/file")).unwrap(), b"state");
    let names: Vec<_> = fs::read_dir(to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    open(&to.join("log"))
}

fn bytes_of(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let below = Below::of(&FaultyDisk, dir).unwrap();
    below
        .files
        .into_iter()
        .map(|(path, _)| (path.clone(), fs::read(dir.join(path)).unwrap()))
        .collect()
}

#[test]
fn what_is_acknowledged_after_the_cut_is_not_in_the_backup() {
    let dir = memory_dir();
    let log = open(&dir.path().join("log"));
    create_topics(&log);
    send(&log, 0, 5).unwrap();
    let mut backup = log.begin_backup(&dir.path().join("b")).unwrap();
    fs::create_dir(backup.dir().join("state")).unwrap();
    fs::write(backup.dir().join("state/file"), b"state").unwrap();
    backup.cut().unwrap();
    send(&log, 5, 9).unwrap();
    let (to, later) = (dir.path().join("b"), dir.path().join("later"));
    backup.finish(&mut quiet).unwrap();
    back_up(&log, &later).unwrap();
    assert_eq!(sent(&restored(&to, &dir.path().join("r"))), 5);
    assert_eq!(sent(&restored(&later, &dir.path().join("s"))), 9);
}

#[test]
fn a_backup_is_the_log_at_one_commit_while_commits_go_on() {
    let dir = memory_dir();
    let log = open(&dir.path().join("log"));
    create_topics(&log);
    let (acknowledged, wanted) = (AtomicI64::new(0), AtomicI64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while wanted.load(Ordering::SeqCst) >= 0 {
                let number = acknowledged.load(Ordering::SeqCst);
                if number < wanted.load(Ordering::SeqCst) {
                    send(&log, number, number + 1).unwrap();
                    acknowledged.store(number + 1, Ordering::SeqCst);
                } else {
                    thread::yield_now();
                }
            }
        });
        for round in 0..12 {
            let before = acknowledged.load(Ordering::SeqCst);
            wanted.store(before + 20, Ordering::SeqCst);
            let to = dir.path().join(format!("b{round}"));
            back_up(&log, &to).unwrap();
            let after = acknowledged.load(Ordering::SeqCst);
            let copy = restored(&to, &dir.path().join(format!("r{round}")));
            let held = sent(&copy);
            assert!((before..=after + 1).contains(&held), "{held} of {before} to {after}");
            // It goes on by itself.
            send(&copy, held, held + 3).unwrap();
            assert_eq!(sent(&copy), held + 3);
        }
        wanted.store(-1, Ordering::SeqCst);
    });
    assert_eq!(sent(&log), acknowledged.load(Ordering::SeqCst));
}

#[test]
fn what_grows_no_more_is_linked_and_a_backup_stays_as_it_is() {
    let dir = memory_dir();
    let log = open(&dir.path().join("log"));
    create_topics(&log);
    send(&log, 0, 20).unwrap();
    let to = dir.path().join("backup");
    let report = back_up(&log, &to).unwrap();
    let before = bytes_of(&to);
    assert_eq!(report.files + 1, before.len());
    let links = |path: &Path| fs::metadata(path).unwrap().nlink();
    let segments: Vec<_> = before
        .keys()
        .filter(|path| path.starts_with("log/t-0") && path.extension() == Some("log".as_ref()))
        .collect();
    let (last, sealed) = segments.split_last().unwrap();
    assert!(sealed.len() > 5, "{segments:?}");
    assert!(sealed.iter().all(|path| links(&to.join(path)) == 2));
    assert_eq!(links(&to.join(last)), 1);
    assert!(report.linked_bytes > report.bytes / 4, "{report:?}");

    send(&log, 20, 200).unwrap();
    drop(log);
    fs::remove_dir_all(dir.path().join("log")).unwrap();
    assert_eq!(bytes_of(&to), before);
    let copy = restored(&to, &dir.path().join("restored"));
    assert_eq!(sent(&copy), 20);
    send(&copy, 20, 200).unwrap();
    drop(copy);
    assert_eq!(bytes_of(&to), before, "a restored directory shares nothing with its backup");
}

#[test]
fn segments_that_are_purged_meanwhile_are_in_the_backup() {
    let dir = memory_dir();
    let log = open(&dir.path().join("log"));
    create_topics(&log);
    send(&log, 0, 20).unwrap();
    let (to, mut is_first) = (dir.path().join("backup"), true);
    let purge = &mut |_| {
        // Checkpoints enough that what is purged would be removed.
        if std::mem::take(&mut is_first) {
            send(&log, 20, 300).unwrap();
            log.quiesce();
        }
        ControlFlow::Continue(())
    };
    back_up_and(&log, &to, purge).unwrap();
    assert!(log.offsets(&partition("p", 0)).unwrap().start > 20, "nothing was purged");
    assert_eq!(sent(&restored(&to, &dir.path().join("restored"))), 20);
    // They go once no backup wants them.
    let segments = || fs::read_dir(dir.path().join("log/p-0")).unwrap().count();
    let held = segments();
    send(&log, 300, 500).unwrap();
    log.quiesce();
    assert!(segments() < held, "{} of {held}", segments());
}

/// Restores what a backup left, if it is one.
fn restored_if_complete(from: &Path, to: &Path, when: &str) -> bool {
    match restore(from, to, &mut quiet) {
        Ok(_) => {
            assert_eq!(sent(&open(&to.join("log"))), 8, "{when}");
            true
        }
        Err(RestoreError::NoBackup { .. }) => false,
        Err(error) => panic!("{when}: {error:?}"),
    }
}

fn fail_at_every_step(kind: Kind) {
    let dir = memory_dir();
    let log = open(&dir.path().join("log"));
    create_topics(&log);
    send(&log, 0, 8).unwrap();
    for step in 0..STEPS_MAX {
        let when = format!("{kind:?}, step {step}");
        let place = memory_dir();
        let to = place.path().join("backup");
        let armed = Armed::after(place.path(), step, kind);
        let made = back_up(&log, &to);
        let hit = armed.was_hit();
        drop(armed);
        assert_eq!(made.is_err(), hit, "{when}: {made:?}");
        let partial = place.path().join("backup.partial");
        let is_left = partial.exists();
        assert!(!is_left || kind != Kind::Once, "{when}: it is not removed");
        let again = memory_dir();
        // With its manifest it lacks its name alone.
        restored_if_complete(&partial, &again.path().join("p"), &when);
        let is_complete = restored_if_complete(&to, &again.path().join("r"), &when);
        assert!(is_complete || hit, "{when}");
        // The log is none the worse.
        log.sync().unwrap();
        if !hit {
            assert!(step > 50, "only {step} steps");
            return;
        }
    }
    panic!("a backup has more steps than expected");
}

#[test]
fn a_backup_that_fails_at_any_step_is_removed_and_harms_nothing() {
    fail_at_every_step(Kind::Once);
}

#[test]
fn a_backup_that_dies_at_any_step_or_finds_no_room_is_none() {
    fail_at_every_step(Kind::Dead);
    fail_at_every_step(Kind::Full);
}

#[test]
fn a_restore_that_dies_at_any_step_leaves_no_log() {
    let dir = memory_dir();
    let log = open(&dir.path().join("log"));
    create_topics(&log);
    send(&log, 0, 4).unwrap();
    let from = dir.path().join("backup");
    back_up(&log, &from).unwrap();
    for step in 0..STEPS_MAX {
        let place = memory_dir();
        let to = place.path().join("data");
        let armed = Armed::after(place.path(), step, Kind::Dead);
        let made = restore_on(&FaultyDisk, &from, &to, &mut quiet);
        let hit = armed.was_hit();
        drop(armed);
        assert_eq!(made.is_err(), hit, "step {step}: {made:?}");
        if to.join("log").exists() {
            assert_eq!(sent(&open(&to.join("log"))), 4, "step {step}");
        } else {
            assert!(hit, "step {step}");
            let is_empty = !to.exists() || fs::read_dir(&to).unwrap().next().is_none();
            let again = restore(&from, &to, &mut quiet);
            assert_eq!(
                matches!(again, Err(RestoreError::Unfinished { .. })),
                !is_empty,
                "step {step}"
            );
        }
        if !hit {
            assert!(step > 50, "only {step} steps");
            return;
        }
    }
    panic!("a restore has more steps than expected");
}

/// On a disk in memory, where nothing stays without a sync.
fn back_up_in_memory(log: &EmbeddedLog, disk: &dyn Disk) -> Result<BackupReport, LogError> {
    let backup = log.begin_backup(Path::new("/b"))?;
    let state = backup.dir().join("state");
    let io = || {
        disk.make_dir(&state)?;
        disk.open(&state.join("file"), headwater_core::ports::disk::OpenMode::New)?
            .write_at(b"s", 0)
    };
    io().map_err(failed("write", &state))?;
    backup.finish(&mut quiet)
}

#[test]
fn after_a_power_cut_a_backup_is_complete_or_not_there() {
    let base = SimulatedDisk::new();
    let open = |disk: &SimulatedDisk, dir: &str| {
        EmbeddedLog::open(Path::new(dir), small(Arc::new(disk.clone()))).unwrap()
    };
    let log = open(&base, "/log");
    create_topics(&log);
    send(&log, 0, 8).unwrap();
    drop(log);
    let mut complete = 0;
    for step in 0..STEPS_MAX {
        let disk = base.kill();
        let log = open(&disk, "/log");
        disk.cut_after(step);
        let made = back_up_in_memory(&log, &disk);
        // What comes after the backup was told to be there.
        let is_through = !disk.is_cut();
        for seed in 0..6 {
            let disk = disk.power_cut(step * 8 + seed);
            let found = disk.find(Path::new("/b")).unwrap();
            assert!(found.is_some() || made.is_err(), "step {step}: it is gone");
            if found.is_none() {
                continue;
            }
            complete += 1;
            let manifest = Manifest::read(&disk, Path::new("/b")).unwrap();
            let manifest = manifest.unwrap_or_else(|| panic!("step {step}: without a manifest"));
            let tell = &mut quiet;
            manifest.check(Path::new("/b"), &mut Work::new(&disk, 0, tell)).unwrap();
            assert_eq!(sent(&open(&disk, "/b/log")), 8, "step {step}");
        }
        drop(log);
        if is_through {
            assert!(step > 50 && complete > 2, "{step} steps, {complete} complete");
            return;
        }
    }
    panic!("a backup has more steps than expected");
}

#[test]
fn a_bit_that_flipped_in_a_backup_is_found_with_the_name_of_its_file() {
    let dir = memory_dir();
    let log = open(&dir.path().join("log"));
    create_topics(&log);
    send(&log, 0, 12).unwrap();
    // A directory with hint files.
    log.close().unwrap();
    let log = open(&dir.path().join("log"));
    let from = dir.path().join("backup");
    back_up(&log, &from).unwrap();
    drop(log);
    fs::remove_dir_all(dir.path().join("log")).unwrap();
    let (mut flips, to) = (0, dir.path().join("restored"));
    let try_restore = || {
        let outcome = restore(&from, &to, &mut quiet);
        fs::remove_dir_all(&to).map_or_else(|_| {}, drop);
        outcome
    };
    let refused = |path: &Path| match try_restore() {
        Err(RestoreError::Damaged { path: named, .. }) => assert_eq!(named, from.join(path)),
        outcome => panic!("{}: {outcome:?}", path.display()),
    };
    for (path, bytes) in bytes_of(&from) {
        let place = from.join(&path);
        for at in (0..bytes.len()).step_by(1 + bytes.len() / 12) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(&place, &damaged).unwrap();
            refused(&path);
            flips += 1;
        }
        if !bytes.is_empty() {
            fs::write(&place, &bytes[..bytes.len() - 1]).unwrap();
            refused(&path);
        }
        if path != Path::new("manifest") {
            fs::remove_file(&place).unwrap();
            refused(&path);
        }
        fs::write(&place, &bytes).unwrap();
    }
    assert!(flips > 200, "{flips}");
    try_restore().unwrap();
}

#[test]
fn a_backup_goes_where_nothing_is_and_elsewhere_than_the_log() {
    let dir = memory_dir();
    let log = open(&dir.path().join("log"));
    create_topics(&log);
    let refusal = |to: &str| {
        let error = back_up(&log, &dir.path().join(to)).unwrap_err();
        assert_eq!(error.kind(), LogErrorKind::Refused);
        error.to_string()
    };
    assert!(refusal("log/backup").ends_with("it lies in the log; name a directory elsewhere"));
    fs::create_dir(dir.path().join("taken")).unwrap();
    fs::write(dir.path().join("taken/file"), "").unwrap();
    for (to, what) in [("taken", "it holds file"), ("taken/file", "it is a file")] {
        let wanted = "name a directory that is empty or not there yet";
        let expected = format!("something is there: {what}; {wanted}");
        assert!(refusal(to).ends_with(&expected), "{}", refusal(to));
    }
    fs::create_dir(dir.path().join("empty")).unwrap();
    back_up(&log, &dir.path().join("empty")).unwrap();
    let begun = log.begin_backup(&dir.path().join("new/er")).unwrap();
    assert!(refusal("new/er").ends_with("or one was not finished; remove it then"));
    drop(begun);
    back_up(&log, &dir.path().join("new/er")).unwrap();
    log.close().unwrap();
    let closed = log.begin_backup(&dir.path().join("closed")).unwrap().finish(&mut quiet);
    assert!(matches!(closed, Err(LogError::Closed { .. })), "{closed:?}");
    assert!(!dir.path().join("closed.partial").exists());
}

#[test]
fn what_is_no_backup_is_not_restored_and_nothing_is_written_over() {
    let dir = memory_dir();
    let log = open(&dir.path().join("log"));
    create_topics(&log);
    let (from, to) = (dir.path().join("backup"), dir.path().join("data"));
    back_up(&log, &from).unwrap();
    let outcome = |from: &Path, to: &Path| restore(from, to, &mut quiet);
    let data = outcome(&dir.path().join("log"), &to);
    assert!(matches!(data, Err(RestoreError::NoBackup { .. })), "{data:?}");
    assert!(!to.exists());
    let file = outcome(&from.join("manifest"), &to);
    assert!(matches!(file, Err(RestoreError::NoBackup { .. })), "{file:?}");
    fs::create_dir(&to).unwrap();
    outcome(&from, &to).unwrap();
    let again = outcome(&from, &to);
    assert!(matches!(again, Err(RestoreError::NotEmpty { .. })), "{again:?}");

    let manifest = Manifest::read(&FaultyDisk, &from).unwrap().unwrap();
    let mut outside = manifest.clone();
    outside.files[0].path = "../outside".to_owned();
    outside.write(&FaultyDisk, &from).unwrap();
    let named = outcome(&from, &dir.path().join("other"));
    assert!(matches!(named, Err(RestoreError::Damaged { .. })), "{named:?}");
    let mut bytes = fs::read(from.join("manifest")).unwrap();
    bytes[7] = 9;
    let end = bytes.len() - 4;
    let crc = crc32c::crc32c(&bytes[..end]).to_be_bytes();
    bytes[end..].copy_from_slice(&crc);
    fs::write(from.join("manifest"), bytes).unwrap();
    let newer = outcome(&from, &dir.path().join("other"));
    assert!(matches!(newer, Err(RestoreError::UnknownVersion { found: 9, .. })), "{newer:?}");
}

#[test]
fn all_of_a_backup_is_on_the_disk_before_it_has_its_name() {
    let dir = memory_dir();
    let log = open(&dir.path().join("log"));
    create_topics(&log);
    send(&log, 0, 4).unwrap();
    let steps = Steps::below(&dir.path().join("place"));
    back_up(&log, &dir.path().join("place/backup")).unwrap();
    let mut unsynced = BTreeMap::new();
    for step in steps.take() {
        if step.action == Action::Sync {
            unsynced.remove(&step.path);
        } else if matches!(step.action, Action::Write | Action::Link) {
            unsynced.insert(step.path, step.action);
        } else if step.action == Action::Rename && step.path.ends_with("backup") {
            assert_eq!(unsynced.len(), 0, "{unsynced:?}");
        }
    }
}

#[test]
fn directories_in_which_nothing_is_come_back() {
    let dir = memory_dir();
    let log = open(&dir.path().join("log"));
    create_topics(&log);
    let (from, to) = (dir.path().join("b"), dir.path().join("r"));
    let backup = log.begin_backup(&from).unwrap();
    for path in ["cold/t/_staging", "cold/t/date=1", "state"] {
        fs::create_dir_all(backup.dir().join(path)).unwrap();
    }
    fs::write(backup.dir().join("cold/t/date=1/file"), b"rows").unwrap();
    backup.finish(&mut quiet).unwrap();
    // What was copied on without them is whole: the manifest has them.
    fs::remove_dir(from.join("cold/t/_staging")).unwrap();
    restore(&from, &to, &mut quiet).unwrap();
    for path in ["cold/t/_staging", "state"] {
        assert_eq!(fs::read_dir(to.join(path)).unwrap().count(), 0, "{path}");
    }
    assert_eq!(fs::read(to.join("cold/t/date=1/file")).unwrap(), b"rows");
}

#[test]
fn a_backup_that_may_only_be_read_is_restored() {
    let dir = memory_dir();
    let log = open(&dir.path().join("log"));
    create_topics(&log);
    send(&log, 0, 4).unwrap();
    let (from, to) = (dir.path().join("b"), dir.path().join("r"));
    back_up(&log, &from).unwrap();
    let steps = Steps::below(&from);
    restore_on(&FaultyDisk, &from, &to, &mut quiet).unwrap();
    let others: Vec<_> =
        steps.take().into_iter().filter(|step| step.action != Action::OpenToRead).collect();
    assert_eq!(others, [], "it is only read");
    assert_eq!(sent(&open(&to.join("log"))), 4);
}

#[test]
fn a_backup_that_is_not_wanted_any_more_ends_and_is_removed() {
    let dir = memory_dir();
    let log = open(&dir.path().join("log"));
    create_topics(&log);
    send(&log, 0, 20).unwrap();
    let mut left = 5;
    let cancel = &mut |progress: BackupProgress| {
        assert!(progress.done <= progress.total);
        left -= 1;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let cancelled = back_up_and(&log, &dir.path().join("backup"), cancel);
    assert!(matches!(cancelled, Err(LogError::BackupFailed { .. })), "{cancelled:?}");
    assert_eq!(left, 0);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

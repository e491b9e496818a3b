//! What lasts on the simulated disk, and what may not.

use super::*;

const SEEDS: u64 = 200;

fn read(disk: &SimulatedDisk, path: &str) -> Option<Vec<u8>> {
    let file = disk.open(Path::new(path), OpenMode::Existing).ok()?;
    let mut bytes = vec![0; usize::try_from(file.length().unwrap()).unwrap()];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    Some(bytes)
}

/// What there is at `path` after each of many power cuts.
fn cuts(disk: &SimulatedDisk, path: &str) -> BTreeSet<Option<Vec<u8>>> {
    (0..SEEDS).map(|seed| read(&disk.power_cut(seed), path)).collect()
}

fn with_file(bytes: &[u8]) -> (SimulatedDisk, Arc<dyn DiskFile>) {
    let disk = SimulatedDisk::new();
    let file = disk.open(Path::new("/a"), OpenMode::New).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    (disk, file)
}

#[test]
fn what_was_synced_lasts_and_the_end_of_the_process_takes_nothing() {
    let (disk, file) = with_file(b"abc");
    assert_eq!(cuts(&disk, "/a"), BTreeSet::from([Some(b"abc".to_vec())]));
    file.write_at(b"d", 3).unwrap();
    assert_eq!(read(&disk.kill(), "/a").unwrap(), b"abcd");
    let lost = cuts(&disk.kill(), "/a");
    assert_eq!(lost, [&b"abc"[..], b"abc\0", b"abcd"].map(|it| Some(it.to_vec())).into());
}

#[test]
fn a_write_is_torn_between_sectors_and_lengths_are_apart_from_bytes() {
    let (disk, file) = with_file(&[0; 1200]);
    file.write_at(&[1; 1000], 100).unwrap();
    let found = cuts(&disk, "/a");
    let sectors = |bytes: Vec<u8>| {
        [bytes[100..512].to_vec(), bytes[512..1024].to_vec(), bytes[1024..1100].to_vec()]
    };
    let mut seen = BTreeSet::new();
    for sectors in found.into_iter().map(|bytes| sectors(bytes.unwrap())) {
        assert!(sectors.iter().all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        seen.insert(sectors.map(|sector| sector[0]));
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
    file.sync_data().unwrap();
    file.set_length(1).unwrap();
    let lengths: BTreeSet<_> = cuts(&disk, "/a").into_iter().map(|it| it.unwrap().len()).collect();
    assert_eq!(lengths, [1, 1200].into());
}

#[test]
fn a_name_lasts_with_its_directory_and_not_with_its_file() {
    let (disk, _) = with_file(b"old");
    let new = disk.open(Path::new("/b"), OpenMode::New).unwrap();
    new.write_at(b"new", 0).unwrap();
    new.sync_data().unwrap();
    assert_eq!(cuts(&disk, "/b"), [None, Some(b"new".to_vec())].into());
    disk.rename(Path::new("/b"), Path::new("/a")).unwrap();
    assert_eq!(cuts(&disk, "/a"), [&b"old"[..], b"new"].map(|it| Some(it.to_vec())).into());
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(cuts(&disk, "/a"), [Some(b"new".to_vec())].into());
    assert_eq!(cuts(&disk, "/b"), [None].into());
    disk.remove(Path::new("/a")).unwrap();
    assert_eq!(cuts(&disk, "/a"), [None, Some(b"new".to_vec())].into());
}

#[test]
fn a_directory_whose_name_is_lost_takes_its_files_with_it() {
    let disk = SimulatedDisk::new();
    disk.make_dir(Path::new("/d")).unwrap();
    let file = disk.open(Path::new("/d/a"), OpenMode::New).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(cuts(&disk, "/d/a"), [None, Some(Vec::new())].into());
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(cuts(&disk, "/d/a"), [Some(Vec::new())].into());
}

#[test]
fn nothing_is_done_once_the_power_is_cut_and_the_sync_that_it_cut_made_nothing_last() {
    let (disk, file) = with_file(b"abc");
    file.write_at(b"xyz", 0).unwrap();
    disk.cut_after(0);
    file.sync_data().unwrap_err();
    assert!(disk.is_cut());
    assert!(file.length().is_err() && disk.find(Path::new("/a")).is_err());
    assert_eq!(cuts(&disk, "/a"), [&b"abc"[..], b"xyz"].map(|it| Some(it.to_vec())).into());
}

#[test]
fn a_sync_that_is_ignored_makes_nothing_last() {
    let (disk, file) = with_file(b"abc");
    let classes: Vec<_> = disk.syncs().into_iter().collect();
    let shown: Vec<_> = classes.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["caller: sync_data /a (bytes)", "caller: sync_dir / (files)"]);
    disk.ignore(classes[0].clone());
    file.write_at(b"xyz", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!((cuts(&disk, "/a").len(), disk.times_ignored()), (2, 1));
    disk.cut_after_ignored(1, 1);
    file.sync_data().unwrap();
    file.write_at(b"1", 0).unwrap();
    file.write_at(b"2", 0).unwrap_err();
}

#[test]
fn a_lock_is_held_by_one_open_file_and_is_free_on_the_disk_that_is_left() {
    let (disk, file) = with_file(b"");
    let other = || disk.open(Path::new("/a"), OpenMode::Existing).unwrap();
    assert!(file.try_lock().unwrap() && file.try_lock().unwrap());
    assert!(!other().try_lock().unwrap());
    let after = disk.kill().open(Path::new("/a"), OpenMode::Existing).unwrap();
    assert!(after.try_lock().unwrap());
    drop(file);
    assert!(other().try_lock().unwrap());
}

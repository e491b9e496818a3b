//! What a directory holds goes with the position, or is refused, and each advice works.

use super::{HOUR, columns, files, published, read_all, records, row, sink};
use crate::{ParquetSink, PartitionBy};
use headwater_core::ports::{
    connector::{ConnectorError, ConnectorErrorKind, Due, SinkConnector},
    log::Committed,
};
use std::{fs, path::Path, time::Duration};
use tempfile::TempDir;

/// Writes three rows of `cars-0` in two directories, from offset 0; the position after them.
fn write(dir: &Path) -> Committed {
    write_after(dir, 0, None)
}

fn write_after(dir: &Path, from: i64, resume: Option<&Committed>) -> Committed {
    let mut sink = sink(dir);
    sink.open("cars", 0, resume).unwrap();
    sink.put(0, &records(from, &[("A", 0), ("B", HOUR), ("C", 1)])).unwrap();
    let prepared = sink.prepare(Due::All).unwrap();
    sink.publish().unwrap();
    prepared[0].committed.clone()
}

/// Why a sink is refused that opens `cars-0`.
fn refused(dir: &Path, resume: Option<&Committed>) -> String {
    let before = files(dir);
    let error = sink(dir).open("cars", 0, resume).unwrap_err();
    assert_eq!(error.kind(), ConnectorErrorKind::Output, "{error}");
    assert_eq!(files(dir), before, "a refused sink touches nothing");
    error.to_string()
}

#[test]
fn without_a_position_a_directory_with_files_of_the_same_partition_is_refused() {
    let dir = TempDir::new().unwrap();
    write(dir.path());
    fs::write(dir.path().join("_staging/cars-0~date=1970-01-01~hour=00~9.staged"), "").unwrap();
    let text = refused(dir.path(), None);
    assert!(text.contains("up to offset 2, and this log has committed none"), "{text}");

    // Whatever the settings are now.
    let builder = ParquetSink::builder(dir.path()).partition_by(PartitionBy::Hour);
    let rolled = builder.roll_rows(1).roll_bytes(1).roll_interval_ms(0);
    let mut rolled = rolled.build(row, |row| row.at, columns()).unwrap();
    assert!(matches!(rolled.open("cars", 0, None), Err(ConnectorError::Output { .. })));

    // Another partition and another topic have nothing to do with them, however much alike they are called.
    let mut other = sink(dir.path());
    other.open("cars", 1, None).unwrap();
    for topic in ["car", "cars-0", "cars-0-1"] {
        other.open(topic, 0, None).unwrap();
    }

    // The advice: files that are taken away are written again.
    for file in published(dir.path()) {
        fs::remove_file(dir.path().join(file)).unwrap();
    }
    write(dir.path());
    assert_eq!(read_all(dir.path()).len(), 3);
}

#[test]
fn a_position_older_than_the_files_is_refused() {
    let dir = TempDir::new().unwrap();
    let older = write(dir.path());
    let newer = write_after(dir.path(), 3, Some(&older));
    assert_eq!(newer.offset, 6);
    let text = refused(dir.path(), Some(&older));
    assert!(
        text.contains("up to offset 5, and this log has committed only those before 3"),
        "{text}"
    );
    // The advice: those that begin there or later are taken away.
    for file in published(dir.path()) {
        let first: i64 = file.rsplit('-').nth(1).unwrap().parse().unwrap();
        if first >= older.offset {
            fs::remove_file(dir.path().join(file)).unwrap();
        }
    }
    assert_eq!(write_after(dir.path(), 3, Some(&older)), newer);
    assert_eq!(read_all(dir.path()).len(), 6);
    sink(dir.path()).open("cars", 0, Some(&newer)).unwrap();
}

#[test]
fn a_table_that_is_gone_is_not_continued_as_if_it_were_there() {
    let root = TempDir::new().unwrap();
    let dir = root.path().join("cold/cars");
    let position = write(&dir);
    let moved = root.path().join("moved");
    fs::rename(&dir, &moved).unwrap();
    fs::create_dir(&dir).unwrap();
    let text = refused(&dir, Some(&position));
    assert!(text.contains("3 rows of cars-0 were written to it, and it is gone"), "{text}");
    // Partitions without rows, which may come first, leave nothing that would make the next start believe that it is there.
    fs::remove_dir(&dir).unwrap();
    let mut several = sink(&dir);
    several.open("cars", 1, None).unwrap();
    assert!(several.open("cars", 0, Some(&position)).is_err());
    assert!(!dir.exists());

    // Each advice: put back; a new name, that is no position; the directory that is named.
    fs::rename(&moved, &dir).unwrap();
    sink(&dir).open("cars", 0, Some(&position)).unwrap();
    fs::remove_dir_all(&dir).unwrap();
    write(&dir);
    assert_eq!(read_all(&dir).len(), 3);
    fs::remove_dir_all(&dir).unwrap();
    let named = text.split("create ").nth(1).unwrap().split(" to continue").next().unwrap();
    fs::create_dir_all(named).unwrap();
    write_after(&dir, 3, Some(&position));
    assert_eq!(read_all(&dir).len(), 3);
}

#[test]
fn a_table_that_lost_one_partition_is_refused_at_each_start_and_stays_as_it_is() {
    let dir = TempDir::new().unwrap();
    let mut both = sink(dir.path());
    for partition in 0..2 {
        both.open("cars", partition, None).unwrap();
        both.put(partition, &records(0, &[("A", 0)])).unwrap();
    }
    let positions = both.prepare(Due::All).unwrap();
    both.publish().unwrap();
    fs::remove_dir(dir.path().join("_staging")).unwrap();
    let kept = published(dir.path());
    fs::remove_file(dir.path().join(&kept[1])).unwrap();
    for _ in 0..2 {
        let mut again = sink(dir.path());
        again.open("cars", 0, Some(&positions[0].committed)).unwrap();
        let error = again.open("cars", 1, Some(&positions[1].committed)).unwrap_err();
        assert!(error.to_string().contains("1 rows of cars-1 were written to it"), "{error}");
        assert!(!dir.path().join("_staging").exists());
    }
    assert_eq!(published(dir.path()), kept[..1]);
}

#[test]
fn a_table_without_rows_yet_and_one_whose_old_files_were_moved_away_are_continued() {
    let root = TempDir::new().unwrap();
    let dir = root.path().join("cars");
    let mut empty = sink(&dir);
    empty.open("cars", 0, None).unwrap();
    empty.put(0, &records(0, &[("skip", 0)])).unwrap();
    let nothing = empty.prepare(Due::All).unwrap()[0].committed.clone();
    fs::remove_dir_all(&dir).unwrap();
    let position = write_after(&dir, 1, Some(&nothing));
    fs::remove_dir_all(dir.join("date=1970-01-01")).unwrap();
    sink(&dir).open("cars", 0, Some(&position)).unwrap();
}

#[test]
fn a_table_is_partitioned_in_one_way() {
    let dir = TempDir::new().unwrap();
    let position = write(dir.path());
    let by_day = || ParquetSink::builder(dir.path()).build(row, |row| row.at, columns()).unwrap();
    let error = by_day().open("cars", 0, Some(&position)).unwrap_err();
    assert_eq!(error.kind(), ConnectorErrorKind::Config);
    let text = error.to_string();
    assert!(text.starts_with("partition_by: files in") && text.contains("lie by hour"), "{text}");
    fs::remove_dir_all(dir.path().join("date=1970-01-01")).unwrap();
    let mut sink = by_day();
    sink.open("cars", 0, Some(&position)).unwrap();
    sink.put(0, &records(3, &[("A", 0)])).unwrap();
    sink.prepare(Due::All).unwrap();
    sink.publish().unwrap();
    let error = super::sink(dir.path()).open("cars", 1, None).unwrap_err();
    assert!(error.to_string().contains("lie by day"), "{error}");
}

#[test]
fn long_and_hidden_topic_names_make_files_that_all_systems_take_and_readers_see() {
    let dir = TempDir::new().unwrap();
    let long = |length: usize| "t".repeat(length);
    let topics = [long(150), long(151), long(226), long(249), format!("{}x", long(248))];
    let hidden = ["_cars", ".cars", "cars"].map(str::to_owned);
    let topics =
        [&topics[..], &hidden, &[format!("_{}", long(248)), format!(".{}", long(248))]].concat();
    for topic in &topics {
        // A staged name is longest with the directory of what has no date, a published one with the largest offsets.
        let undated = || {
            let builder = ParquetSink::builder(dir.path()).partition_by(PartitionBy::Hour);
            builder.build(row, |_| i64::MAX, columns()).unwrap()
        };
        let mut sink = undated();
        sink.open(topic, u32::MAX, None).unwrap();
        sink.put(u32::MAX, &records(i64::MAX - 9, &[(topic, 5)])).unwrap();
        let prepared = sink.prepare(Due::All).unwrap();
        // What was committed only is found, and published, by its name.
        let mut again = undated();
        again.open(topic, u32::MAX, Some(&prepared[0].committed)).unwrap();
        again.prepare(Due::Reached(Duration::ZERO)).unwrap();
        assert!(undated().open(topic, u32::MAX, None).is_err());
    }
    let names = published(dir.path());
    assert_eq!(names.len(), topics.len());
    let name = |path: &String| Path::new(path).file_name().unwrap().to_str().unwrap().to_owned();
    let names: Vec<_> = names.iter().map(name).collect();
    assert!(
        names.iter().all(|name| name.len() <= 255 && !name.starts_with(['_', '.'])),
        "{names:?}"
    );
    assert!(names.iter().any(|name| name.starts_with("topic~_cars-4294967295-")));
    let mut found: Vec<_> = read_all(dir.path()).into_iter().map(|row| row.vin).collect();
    let mut wanted = topics.clone();
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted);
}

#[test]
fn a_directory_that_cannot_be_used_is_named_with_the_reason() {
    let root = TempDir::new().unwrap();
    let (file, link) = (root.path().join("file"), root.path().join("link"));
    fs::write(&file, "").unwrap();
    assert!(matches!(sink(&file).validate(), Err(ConnectorError::Config { .. })));
    // The runtime prepares at once, records or none.
    let started = |dir: &Path| {
        let mut sink = sink(dir);
        sink.open("cars", 0, None).unwrap();
        sink.prepare(Due::Reached(Duration::ZERO)).unwrap_err()
    };
    let below = started(&file.join("table"));
    assert!(format!("{below:?}").contains("something else is there"), "{below:?}");
    assert!(below.to_string().contains(file.to_str().unwrap()), "{below}");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(root.path().join("nowhere"), &link).unwrap();
        assert!(matches!(sink(&link).validate(), Err(ConnectorError::Config { .. })));
        let error = started(&link.join("table"));
        assert!(format!("{error:?}").contains("a link to nothing"), "{error:?}");
        // A link to a directory is as good as the directory.
        fs::create_dir(root.path().join("nowhere")).unwrap();
        sink(&link).validate().unwrap();
        write(&link);
        assert_eq!(read_all(&root.path().join("nowhere")).len(), 3);
        refused(&link, None);
    }
}

//! The Parquet sink against the connector contract, and what its files hold.
//!
//! | part | shows |
//! |---|---|
//! | `readers` | duckdb, polars and pyarrow read what is written, whatever the values |
//! | `directory` | what a directory holds goes with the position, or is refused |
//! | `bounds` | memory, descriptors and settings at their limits |

mod bounds;
mod directory;
mod readers;

use crate::{Columns, ParquetSink, PartitionBy};
use arrow_array::{Array, Float64Array, Int64Array, StringArray, TimestampMillisecondArray};
use arrow_schema::DataType;
use bytes::Bytes;
use headwater_connector_conformance::{Broken, SinkTarget, sink_survives_kills};
use headwater_core::{
    ports::{
        connector::{ConnectorError, Due, SinkConnector},
        log::{Append, Commit, Log, TopicSpec},
    },
    record::{Headers, RecordRef, RecordSet, RecordSetBuilder, TopicName, TopicPartition},
    time::SystemClock,
};
use headwater_engine::connect::SinkTask;
use headwater_log::MemoryLog;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;

const HOUR: i64 = 3_600_000;

#[derive(Debug, Clone, PartialEq)]
struct Row {
    vin: String,
    at: i64,
    speed: Option<f64>,
}

fn row(record: RecordRef<'_>) -> Option<Row> {
    let vin = String::from_utf8(record.value?.to_vec()).ok()?;
    let speed = (record.timestamp % 2 == 0).then_some(record.timestamp as f64);
    (vin != "skip").then_some(Row { vin, at: record.timestamp, speed })
}

fn columns() -> Columns<Row> {
    Columns::new()
        .string("vin", |row: &Row| &row.vin)
        .timestamp_ms("at", |row| row.at)
        .i64("n", |row| row.at / HOUR)
        .opt_f64("speed", |row| row.speed)
}

fn sink(dir: &Path) -> ParquetSink<Row> {
    let builder = ParquetSink::builder(dir).partition_by(PartitionBy::Hour).roll_rows(100);
    builder.build(row, |row| row.at, columns()).unwrap()
}

fn records(from: i64, rows: &[(&str, i64)]) -> RecordSet {
    let mut records = RecordSetBuilder::default();
    for (vin, at) in rows {
        records.push(*at, Some(vin.as_bytes()), Some(vin.as_bytes()), &Headers::new()).unwrap();
    }
    records.build().at_offset(from)
}

/// All files below a directory, as paths from there.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(next).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path)
            } else {
                found.push(path.strip_prefix(dir).unwrap().to_owned())
            }
        }
    }
    found.sort();
    found
}

fn published(dir: &Path) -> Vec<String> {
    let shown = files(dir).into_iter().map(|path| path.display().to_string());
    shown.filter(|path| path.ends_with(".parquet")).collect()
}

fn read(path: &Path) -> Vec<Row> {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(Bytes::from(fs::read(path).unwrap())).unwrap();
    let mut rows = Vec::new();
    for batch in reader.build().unwrap().map(Result::unwrap) {
        let vin = batch.column(0).as_any().downcast_ref::<StringArray>().unwrap();
        let at = batch.column(1).as_any().downcast_ref::<TimestampMillisecondArray>().unwrap();
        assert!(matches!(at.data_type(), DataType::Timestamp(_, Some(zone)) if &**zone == "UTC"));
        let n = batch.column(2).as_any().downcast_ref::<Int64Array>().unwrap();
        let speed = batch.column(3).as_any().downcast_ref::<Float64Array>().unwrap();
        for i in 0..batch.num_rows() {
            assert_eq!(n.value(i), at.value(i) / HOUR);
            let speed = speed.is_valid(i).then(|| speed.value(i));
            rows.push(Row { vin: vin.value(i).to_owned(), at: at.value(i), speed });
        }
    }
    rows
}

fn read_all(dir: &Path) -> Vec<Row> {
    let mut rows: Vec<Row> = published(dir).iter().flat_map(|path| read(&dir.join(path))).collect();
    rows.sort_by(|a, b| (a.at, &a.vin).cmp(&(b.at, &b.vin)));
    rows
}

struct Target(TempDir);

impl SinkTarget for Target {
    fn connect(&self) -> Result<Box<dyn SinkConnector>, Broken> {
        Ok(Box::new(sink(self.0.path())))
    }

    fn delivered(&self) -> Result<Vec<Vec<u8>>, Broken> {
        let left: Vec<_> =
            files(self.0.path()).into_iter().filter(|path| path.starts_with("_staging")).collect();
        if !left.is_empty() {
            return Err(Broken::Promise(format!("{left:?} are left in staging")));
        }
        Ok(read_all(self.0.path()).into_iter().map(|row| row.vin.into_bytes()).collect())
    }

    fn reset(&mut self) {
        self.0 = TempDir::new().unwrap();
    }
}

#[test]
fn every_record_is_there_once_wherever_the_process_is_killed() {
    let values: Vec<_> = (0..37).map(|n| format!("V{n}").into_bytes()).collect();
    sink_survives_kills(&mut Target(TempDir::new().unwrap()), &values).unwrap();
}

#[test]
fn files_lie_by_event_time_and_say_what_they_hold() {
    let dir = TempDir::new().unwrap();
    let mut sink = sink(dir.path());
    sink.open("cars", 3, None).unwrap();
    let rows = [("A", 0), ("B", 1), ("skip", 2), ("C", HOUR), ("D", 3)];
    assert_eq!(sink.put(3, &records(40, &rows)).unwrap(), rows.len());
    let prepared = sink.prepare(Due::All).unwrap();
    assert_eq!((prepared[0].partition, prepared[0].committed.offset), (3, 45));
    assert_eq!(published(dir.path()), Vec::<String>::new());
    assert_eq!(sink.counts().delivered, 0);
    sink.publish().unwrap();
    assert_eq!((sink.counts().delivered, sink.counts().skipped), (4, 1));
    let names = published(dir.path());
    assert_eq!(
        names,
        [
            "date=1970-01-01/hour=00/cars-3-0000000040-0000000044.parquet",
            "date=1970-01-01/hour=01/cars-3-0000000043-0000000043.parquet",
        ]
    );
    let first = dir.path().join(&names[0]);
    let vins: Vec<_> = read(&first).into_iter().map(|row| row.vin).collect();
    assert_eq!(vins, ["A", "B", "D"]);
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(Bytes::from(fs::read(first).unwrap())).unwrap();
    let facts = reader.metadata().file_metadata().key_value_metadata().unwrap();
    let fact =
        |key: &str| facts.iter().find(|fact| fact.key == key).unwrap().value.clone().unwrap();
    assert_eq!(fact("headwater.topic") + "-" + &fact("headwater.partition"), "cars-3");
    assert_eq!(
        (fact("headwater.first_offset"), fact("headwater.last_offset")),
        ("40".to_owned(), "44".to_owned())
    );
}

#[test]
fn a_moment_that_no_reader_holds_is_a_dead_letter_and_the_rest_is_delivered() {
    let dir = TempDir::new().unwrap();
    let mut sink = sink(dir.path());
    sink.open("cars", 0, None).unwrap();
    let (first, last) = (-62_135_596_800_000, 253_402_300_799_999);
    let moments = [first, last, -1, 0];
    let beyond = [first - 1, last + 1, 1_793_520_000_000_000_000, i64::MIN, i64::MAX];
    let rows: Vec<_> = moments.iter().chain(&beyond).map(|at| ("A", *at)).collect();
    sink.put(0, &records(7, &rows)).unwrap();
    let prepared = sink.prepare(Due::All).unwrap();
    assert_eq!(prepared[0].committed.offset, 7 + rows.len() as i64);
    let letters = &prepared[0].dead_letters;
    for (letter, at) in letters.iter().zip(beyond) {
        assert_eq!((letter.kind, letter.key.as_deref()), ("OutOfRange", Some(&b"A"[..])));
        let cause = format!("column `at`: {at} ms lies outside the years 1 to 9999");
        assert!(letter.cause.starts_with(&cause), "{}", letter.cause);
    }
    assert_eq!((letters.len(), letters[0].offset), (beyond.len(), 11));
    sink.publish().unwrap();
    let mut read: Vec<_> = read_all(dir.path()).into_iter().map(|row| row.at).collect();
    read.sort_unstable();
    assert_eq!(read, [first, -1, 0, last]);
    // They are not given again with the next commit.
    sink.put(0, &records(16, &[("B", 0)])).unwrap();
    assert_eq!(sink.prepare(Due::All).unwrap()[0].dead_letters, []);
}

#[test]
fn files_are_rolled_by_rows_and_by_time() {
    let dir = TempDir::new().unwrap();
    let mut sink = sink(dir.path());
    sink.open("cars", 0, None).unwrap();
    let (early, late) = (Duration::from_secs(5), Duration::from_secs(35));
    sink.put(0, &records(0, &[("A", 0); 99])).unwrap();
    assert_eq!(sink.prepare(Due::Reached(early)).unwrap(), []);
    sink.put(0, &records(99, &[("A", 0)])).unwrap();
    assert_eq!(sink.prepare(Due::Reached(early)).unwrap()[0].committed.offset, 100);
    sink.publish().unwrap();
    sink.put(0, &records(100, &[("A", 0)])).unwrap();
    assert_eq!(sink.prepare(Due::Reached(early)).unwrap(), []);
    assert_eq!(sink.prepare(Due::Reached(late)).unwrap()[0].committed.offset, 101);
}

#[test]
fn event_times_spread_over_a_thousand_directories_stay_within_bounds() {
    let dir = TempDir::new().unwrap();
    let mut sink = sink(dir.path());
    sink.open("cars", 0, None).unwrap();
    let rows: Vec<_> = (0..1_100).map(|n| ("A", n * HOUR)).collect();
    let taken = sink.put(0, &records(0, &rows)).unwrap();
    assert_eq!(taken, 1_024);
    let prepared = sink.prepare(Due::All).unwrap();
    assert!(prepared[0].committed.metadata.len() < 1 << 20);
    sink.publish().unwrap();
    assert_eq!(sink.put(0, &records(1_024, &rows[taken..])).unwrap(), 1_100 - taken);
    sink.prepare(Due::All).unwrap();
    sink.publish().unwrap();
    assert_eq!(read_all(dir.path()).len(), 1_100);
}

#[test]
fn a_drain_publishes_everything_and_a_new_task_adds_only_what_is_new() {
    let (dir, log) = (TempDir::new().unwrap(), Arc::new(MemoryLog::new()));
    let topic = TopicName::new("cars").unwrap();
    log.create_topics(&[TopicSpec::new(topic.clone(), 2)]).unwrap();
    let fill = |partition: u32, rows: &[(&str, i64)]| {
        let partition = TopicPartition::new(topic.clone(), partition);
        let append = Append { partition, base_offset: None, records: Arc::new(records(0, rows)) };
        log.commit(Commit { appends: vec![append], ..Commit::default() }).unwrap().wait().unwrap();
    };
    let drain = || {
        let port: Arc<dyn Log> = Arc::clone(&log) as Arc<dyn Log>;
        let clock = Arc::new(SystemClock::new());
        let task = SinkTask::start("cold", Box::new(sink(dir.path())), port, topic.clone(), clock)
            .unwrap();
        task.drain().unwrap()
    };
    fill(0, &[("A", 0), ("skip", 1)]);
    fill(1, &[("B", 2)]);
    let progress = drain();
    assert_eq!(
        (progress.delivered, progress.skipped, progress.lag, progress.drained),
        (2, 1, 0, true)
    );
    assert_eq!((published(dir.path()).len(), log.syncs()), (2, 1));
    fill(1, &[("C", 3)]);
    let progress = drain();
    assert_eq!((progress.taken, progress.delivered), (1, 3));
    let vins: Vec<_> = read_all(dir.path()).into_iter().map(|row| row.vin).collect();
    assert_eq!(vins, ["A", "B", "C"]);
}

#[test]
fn columns_that_readers_cannot_tell_apart_are_refused() {
    let built = |columns| ParquetSink::builder("never").build(row, |row: &Row| row.at, columns);
    let refused = |columns| {
        assert!(matches!(built(columns), Err(ConnectorError::Config { .. })));
    };
    let number = |columns: Columns<Row>, name: &str| columns.i64(name, |row| row.at);
    refused(Columns::new());
    refused(number(Columns::new(), ""));
    refused(number(Columns::new(), "Date"));
    for (one, other) in [("a", "a"), ("vin", "VIN"), ("Straße", "straße"), ("ä", "Ä")] {
        refused(number(number(Columns::new(), one), other));
    }
    built(number(number(Columns::new(), "hour"), "date.x")).unwrap();
}

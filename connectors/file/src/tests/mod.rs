//! The file source against the connector contract and, with its runtime, against a log in memory.

mod edges;
mod identity;

use crate::{FileSource, config::LINE_BYTES_MAX};
use flate2::{Compression, write::GzEncoder};
use headwater_connector_conformance::source_resumes_everywhere;
use headwater_core::{
    ports::{
        connector::{ConnectorError, SourceConnector},
        log::{Log, TopicSpec, Waker},
    },
    record::{Headers, TopicName, TopicPartition, murmur2_partition},
    time::SystemClock,
};
use headwater_engine::connect::{ConnectError, SourceProgress, SourceTarget, SourceTask};
use headwater_log::MemoryLog;
use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
};
use tempfile::TempDir;

const PARTITIONS: u32 = 3;

fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

fn start(source: FileSource, log: &Arc<MemoryLog>) -> Result<SourceTask, ConnectError> {
    let target = SourceTarget {
        topic: topic("cars"),
        partitions: PARTITIONS,
        dead_letter_topic: topic("cars-dead-letters"),
    };
    let log: Arc<dyn Log> = Arc::clone(log) as Arc<dyn Log>;
    SourceTask::start("cars", Box::new(source), log, target, Arc::new(SystemClock::new()))
}

fn source(path: &Path) -> FileSource {
    FileSource::builder(path).key_field("vin").timestamp_field("ts").build().unwrap()
}

fn run(path: &Path, log: &Arc<MemoryLog>) -> Result<SourceProgress, String> {
    start(source(path), log).unwrap().wait_ended().map_err(|error| error.to_string())
}

/// Partition, key, value and timestamp of each record.
fn taken(log: &MemoryLog) -> Vec<(u32, String, String, i64)> {
    let text =
        |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let mut all = Vec::new();
    for partition in 0..PARTITIONS {
        let fetched =
            log.fetch(&TopicPartition::new(topic("cars"), partition), 0, usize::MAX).unwrap();
        all.extend(
            fetched.records.iter().map(|r| (partition, text(r.key), text(r.value), r.timestamp)),
        );
    }
    all.sort_by_key(|record| record.3);
    all
}

/// Length, position and message of each dead letter.
fn dead(log: &MemoryLog) -> Vec<(usize, String, String)> {
    let fetched =
        log.fetch(&TopicPartition::new(topic("cars-dead-letters"), 0), 0, usize::MAX).unwrap();
    let letters = fetched.records.iter().map(|record| {
        let headers = Headers::decode(record.headers).unwrap();
        let text = |name: &str| {
            let value = headers.last(&format!("__streams.errors.{name}")).unwrap().unwrap();
            String::from_utf8(value.to_vec()).unwrap()
        };
        assert_eq!(text("partition"), "0");
        (record.value.unwrap().len(), text("offset"), text("message"))
    });
    letters.collect()
}

fn line(n: usize) -> String {
    format!("{{\"vin\":\"V{}\",\"ts\":{n},\"speed\":{}}}\n", n % 7, n * 3)
}

fn lines(count: usize) -> String {
    (1..=count).map(line).collect()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn file(dir: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn each_line_becomes_a_record_in_the_partition_of_its_key() {
    let (dir, log) = (TempDir::new().unwrap(), Arc::new(MemoryLog::new()));
    let path = file(&dir, "cars.ndjson", lines(500).trim_end().as_bytes());
    let progress = run(&path, &log).unwrap();
    assert_eq!((progress.records, progress.dead_letters, progress.ended), (500, 0, true));
    assert_eq!(
        (progress.read, progress.total_hint),
        (progress.position.unsigned_abs(), Some(progress.read))
    );
    let records = taken(&log);
    for (n, (partition, key, value, timestamp)) in (1..).zip(&records) {
        assert_eq!((value.as_str(), *timestamp), (line(n).trim_end(), i64::try_from(n).unwrap()));
        assert_eq!(*partition, murmur2_partition(key.as_bytes(), PARTITIONS));
    }
    assert_eq!(records.len(), 500);
}

#[test]
fn gzip_is_known_by_its_bytes_and_may_have_several_members() {
    let (dir, log) = (TempDir::new().unwrap(), Arc::new(MemoryLog::new()));
    let text = lines(3_000);
    let (first, second) = text.as_bytes().split_at(50_001);
    let path = file(&dir, "no-suffix", &[gzip(first), gzip(second)].concat());
    assert_eq!(run(&path, &log).unwrap().records, 3_000);
    let values: String = taken(&log).into_iter().map(|record| record.2 + "\n").collect();
    assert_eq!(values, text);
}

#[test]
fn a_line_that_cannot_be_keyed_is_a_dead_letter_and_blank_lines_are_nothing() {
    let (dir, log) = (TempDir::new().unwrap(), Arc::new(MemoryLog::new()));
    let mut bytes = b"\xef\xbb\xbf{\"vin\":\"A\",\"ts\":1}\r\n\n  \t\r\n{\"vin\":7}\nno json\n{\"vin\":\"\xff\"}\n".to_vec();
    bytes.extend(vec![b'x'; 20 << 20]);
    bytes.extend(b"\n{\"vin\":\"B\",\"ts\":\"bad\"}\n{\"vin\":\"A\",\"ts\":3}");
    let path = file(&dir, "bad.ndjson", &bytes);
    let progress = run(&path, &log).unwrap();
    assert_eq!((progress.records, progress.dead_letters), (3, 4));
    let timestamps: Vec<_> = taken(&log).into_iter().map(|record| (record.1, record.3)).collect();
    assert_eq!(timestamps, [("A".to_owned(), 1), ("B".to_owned(), 1), ("A".to_owned(), 3)]);
    let dead = dead(&log);
    let lines: Vec<_> = dead.iter().map(|letter| (letter.0, letter.1.as_str())).collect();
    assert_eq!(lines, [(9, "29"), (7, "39"), (11, "47"), (LINE_BYTES_MAX, "59")]);
    assert!(dead[3].2.contains("longer than 1114112 bytes"), "{dead:?}");
}

#[test]
fn a_source_resumes_from_each_of_its_positions() {
    let dir = TempDir::new().unwrap();
    let text = lines(40) + "\nbad\n" + &lines(20) + "last, without newline";
    let plain = file(&dir, "plain", text.as_bytes());
    let packed = file(&dir, "packed", &gzip(text.as_bytes()));
    source_resumes_everywhere(|| Box::new(source(&plain))).unwrap();
    source_resumes_everywhere(|| Box::new(source(&packed))).unwrap();
    let bytes = fs::read(&packed).unwrap();
    source_resumes_everywhere(|| {
        Box::new(source(Path::new("-")).over(std::io::Cursor::new(bytes.clone())))
    })
    .unwrap();
}

#[test]
fn an_ended_input_started_again_appends_nothing() {
    let (dir, log) = (TempDir::new().unwrap(), Arc::new(MemoryLog::new()));
    let path = file(&dir, "cars", lines(20).as_bytes());
    run(&path, &log).unwrap();
    let again = run(&path, &log).unwrap();
    assert_eq!((again.records, again.ended, taken(&log).len()), (20, true, 20));
}

#[test]
fn another_or_a_changed_input_is_refused() {
    let (dir, log) = (TempDir::new().unwrap(), Arc::new(MemoryLog::new()));
    let path = file(&dir, "cars", lines(20).as_bytes());
    run(&path, &log).unwrap();
    let other = file(&dir, "other", lines(20).replace("V1", "W1").as_bytes());
    let refused = run(&other, &log).unwrap_err();
    assert!(
        refused.contains("another input") && refused.contains("another data directory"),
        "{refused}"
    );
    fs::write(&path, lines(21)).unwrap();
    assert!(run(&path, &log).unwrap_err().contains("changed since"));
    assert_eq!(taken(&log).len(), 20);
}

#[test]
fn a_cut_off_gzip_file_gives_what_it_has_then_a_clear_error_and_resumes_once_it_is_whole() {
    let (dir, log) = (TempDir::new().unwrap(), Arc::new(MemoryLog::new()));
    let (text, whole) = (lines(30_000), gzip(lines(30_000).as_bytes()));
    let path = file(&dir, "cars.gz", &whole[..whole.len() / 2]);
    let refused = run(&path, &log).unwrap_err();
    assert!(
        refused.contains("cars.gz cannot be read past byte") && refused.contains("incomplete"),
        "{refused}"
    );
    let before = taken(&log).len();
    assert!(before > 5_000, "{before}");
    fs::write(&path, whole).unwrap();
    assert_eq!(run(&path, &log).unwrap().records, 30_000);
    let values: String = taken(&log).into_iter().map(|record| record.2 + "\n").collect();
    assert_eq!(values, text);
}

#[test]
fn a_missing_file_is_refused_before_anything_starts() {
    let dir = TempDir::new().unwrap();
    let missing = source(&dir.path().join("none")).validate().unwrap_err();
    assert!(missing.to_string().contains("check the path"), "{missing}");
    assert!(matches!(source(dir.path()).validate(), Err(ConnectorError::Config { .. })));
}

#[test]
fn a_slow_stream_gives_what_it_has_and_can_be_stopped() {
    struct Channel(mpsc::Receiver<Vec<u8>>);
    impl Read for Channel {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let Ok(bytes) = self.0.recv() else { return Ok(0) };
            into[..bytes.len()].copy_from_slice(&bytes);
            Ok(bytes.len())
        }
    }
    let log = Arc::new(MemoryLog::new());
    let (sender, receiver) = mpsc::sync_channel(0);
    log.create_topics(&[TopicSpec::new(topic("cars"), PARTITIONS)]).unwrap();
    let (moved, arrived) = mpsc::channel();
    let waker: Waker = Arc::new(move || moved.send(()).unwrap_or_default());
    let subscribe =
        |number| log.subscribe(&TopicPartition::new(topic("cars"), number), Arc::clone(&waker));
    let _subscriptions: Vec<_> = (0..PARTITIONS).map(|number| subscribe(number).unwrap()).collect();
    let task = start(source(Path::new("-")).over(Channel(receiver)), &log).unwrap();
    // The first byte, which tells text from what is compressed, is asked for alone.
    sender.send(b"{".to_vec()).unwrap();
    sender.send(format!("{}{{\"vin\":", &line(1)[1..]).into_bytes()).unwrap();
    arrived.recv().unwrap();
    assert_eq!(taken(&log).len(), 1);
    let stopped = task.join().unwrap();
    assert_eq!((stopped.records, stopped.ended), (1, false));
}

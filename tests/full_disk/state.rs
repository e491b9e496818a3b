//! RocksDB on a file system that is full, and has room again: no store is wiped, and each record has one effect.
//!
//! It needs root, for a file system in memory of a few MiB; where that cannot be had it says so.

use headwater::{
    ports::{
        log::{Append, Commit},
        state::{State, StateError},
    },
    prelude::*,
    record::{Headers, RecordSetBuilder},
};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

const DISK_BYTES: u64 = 24 << 20;
const KEYS: i64 = 1_000;
const RECORDS: i64 = 6_000;
/// What a key's row takes, which nothing compresses.
const ROW_BYTES: i64 = 4 << 10;

/// A small file system.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Result<Self, String> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={DISK_BYTES}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(dir.path())
            .output()
            .map_err(|error| error.to_string())?;
        if mounted.status.success() {
            return Ok(Self(dir));
        }
        Err(String::from_utf8_lossy(&mounted.stderr).trim().to_owned())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Leaves so much room.
    fn fill(&self, left: u64) {
        let free = rustix::fs::statvfs(self.path()).unwrap();
        let bytes = (free.f_bavail * free.f_frsize).saturating_sub(left);
        let mut file = File::create(self.ballast()).unwrap();
        io::copy(&mut io::Read::take(io::repeat(7), bytes), &mut file).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: after a failure something may still be open there.
        let _unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn mixed(number: i64) -> u64 {
    let mixed = number.wrapping_add(1).wrapping_mul(-7_046_029_254_386_353_131);
    (mixed ^ (mixed >> 29)).wrapping_mul(-4_658_895_280_553_007_687).cast_unsigned()
}

fn row(number: i64) -> String {
    (0..ROW_BYTES / 16).map(|part| format!("{:016x}", mixed(number * 7_919 + part))).collect()
}

fn only(topic: &str) -> TopicPartition {
    TopicPartition::new(TopicName::new(topic).unwrap(), 0)
}

fn open_log(dir: &Path) -> Arc<EmbeddedLog> {
    Arc::new(EmbeddedLog::open(dir, LogOptions::new().reserve_bytes(1 << 20)).unwrap())
}

/// Small enough that much of it goes to the disk.
fn open_state(dir: &Path, log: &Arc<EmbeddedLog>) -> Result<Arc<RocksDbState>, StateError> {
    let options = RocksDbOptions::default()
        .log(Arc::clone(log) as Arc<dyn Log>)
        .memory_bytes(8 << 20)
        .spill_bytes(256 << 10)
        .flush_bytes(1 << 20);
    RocksDbState::open(dir.join("state"), options).map(Arc::new)
}

/// Keeps the newest row of each key, and tells of each record.
fn start(log: &Arc<EmbeddedLog>, state: Arc<RocksDbState>) -> Result<Streams, StreamsError> {
    let builder = StreamsBuilder::new();
    let records = builder.stream::<String, i64>("in").group_by_key();
    let rows = Materialized::named("rows").with_caching_disabled();
    let rows =
        records.aggregate(String::new, |_, number, _| format!("{number} {}", row(number)), rows);
    let numbers = rows.to_stream().drop_null_values();
    numbers.map_values(|row| row.split(' ').next().unwrap_or_default().to_owned()).to("out");
    let config = StreamsConfig::new("app").with_num_stream_threads(1).with_batch_rows_max(50);
    let (log, clock) = (Arc::clone(log) as Arc<dyn Log>, Arc::new(SystemClock::new()));
    Streams::start(builder.build().unwrap(), config, log, state, clock)
}

fn key(number: i64) -> String {
    format!("k{}", number % KEYS)
}

fn send(log: &EmbeddedLog) {
    let topics = ["in", "out"].map(|name| TopicSpec::new(TopicName::new(name).unwrap(), 1));
    log.create_topics(&topics).unwrap();
    let mut records = RecordSetBuilder::default();
    for number in 0..RECORDS {
        let (key, value) = (key(number), number.to_be_bytes());
        records.push(number, Some(key.as_bytes()), Some(&value), &Headers::new()).unwrap();
    }
    let append =
        Append { partition: only("in"), base_offset: None, records: records.build().into() };
    log.commit(Commit { appends: vec![append], ..Commit::default() }).unwrap().wait().unwrap();
}

/// Each record has one output, and each key its newest row.
fn check(log: &dyn Log, streams: &Streams, when: &str) {
    let (mut at, mut seen) = (0, Vec::new());
    while at < log.offsets(&only("out")).unwrap().end {
        let fetched = log.fetch(&only("out"), at, 1 << 20).unwrap();
        at = fetched.next_offset;
        let number = |value: &[u8]| std::str::from_utf8(value).unwrap().parse::<i64>().unwrap();
        seen.extend(fetched.records.iter().map(|record| number(record.value.unwrap())));
    }
    assert_eq!(seen, (0..RECORDS).collect::<Vec<_>>(), "{when}");
    let rows = streams.store::<String, String>("rows").unwrap().all().unwrap();
    let rows: BTreeMap<_, _> = rows.into_iter().map(|(key, row)| (key, row.value)).collect();
    let newest =
        (RECORDS - KEYS..RECORDS).map(|number| (key(number), format!("{number} {}", row(number))));
    assert_eq!(rows, newest.collect(), "{when}");
}

fn is_full(error: &StateError) -> bool {
    let StateError::Io { source, .. } = error else { return false };
    source.kind() == io::ErrorKind::StorageFull
}

/// Says it past the harness, which keeps to itself what a test that passes prints.
fn tell(line: &str) {
    writeln!(io::stdout().lock(), "\n{line}").unwrap();
}

#[test]
fn a_database_whose_disk_is_full_goes_on_where_it_was_once_there_is_room() {
    let disk = match SmallDisk::mount() {
        Ok(disk) => disk,
        Err(why) => {
            return tell(&format!("disk faults: 0 under a database, for want of root ({why})"));
        }
    };
    let (mut stopped, mut kept) = (0, 0);
    // From too little for its own files to almost enough for all of it.
    let rooms = [64 << 10, 1 << 20, 2 << 20, 4 << 20, 6 << 20, 8 << 20];
    for left in rooms {
        let when = format!("with {left} bytes left");
        let beside = tempfile::tempdir().unwrap();
        let log = open_log(beside.path());
        send(&log);
        drop(start(&log, open_state(disk.path(), &log).unwrap()).unwrap());
        disk.fill(left);
        let ended = open_state(disk.path(), &log).map_err(StreamsError::State).and_then(|state| {
            let streams = start(&log, Arc::clone(&state))?;
            streams.drain()?;
            drop(streams);
            Ok(state.flush()?)
        });
        let Err(StreamsError::State(error)) = ended else { panic!("{when}: {ended:?}") };
        assert!(is_full(&error), "{when}: {error:?}");
        stopped += 1;
        // It is still full: whatever is tried changes nothing.
        let again = open_state(disk.path(), &log).map(drop);
        assert!(again.as_ref().map_or_else(is_full, |()| true), "{when}: {again:?}");

        fs::remove_file(disk.ballast()).unwrap();
        let state =
            open_state(disk.path(), &log).unwrap_or_else(|error| panic!("{when}: {error:?}"));
        let streams = start(&log, state).unwrap_or_else(|error| panic!("{when}: {error:?}"));
        let metrics = streams.metrics();
        assert_eq!(metrics.quarantined, 0, "{when}: a store is rebuilt");
        let changelog = log.offsets(&only("app-rows-changelog")).unwrap().end.cast_unsigned();
        kept += u64::from(metrics.restored < changelog);
        streams.drain().unwrap_or_else(|error| panic!("{when}: {error:?}"));
        check(&*log, &streams, &when);
        drop(streams);
        fs::remove_dir_all(disk.path().join("state")).unwrap();
    }
    assert!(stopped >= 3, "{stopped} full disks");
    tell(&format!("disk faults: {stopped} full disks under a database, {kept} after a flush"));
}

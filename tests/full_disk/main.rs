//! A disk that is full, and freed again; and one whose writes and syncs fail at any step: an application stops with an error
//! that says so, or waits, and goes on afterwards with nothing lost and nothing twice.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails here fails its test")]

#[cfg(all(target_os = "linux", feature = "rocksdb"))]
mod state;

use headwater::{
    ports::{
        disk::{Disk, DiskFile, Found, OpenMode},
        log::{Append, Commit, LogError},
    },
    prelude::*,
    record::{Headers, RecordSetBuilder},
    runtime::UncaughtExceptionResponse,
    state::MemoryState,
};
use headwater_log::SimulatedDisk;
use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// What a disk refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// It says that nothing is free.
    NothingFree,
    /// Nothing that takes room, from so many such steps on.
    NoRoom(u64),
    /// One sync, after so many that succeed. Later ones of the same file succeed and make nothing last: a kernel may have
    /// taken what it could not write for written.
    Sync(u64),
}

#[derive(Debug)]
struct Faults {
    next: Mutex<Fault>,
    /// The file or directory whose sync failed.
    failed: Mutex<Option<PathBuf>>,
    /// How often it refused.
    refused: AtomicU64,
}

impl Faults {
    fn set(&self, fault: Fault) {
        *self.next.lock().unwrap() = fault;
    }

    fn refuse(&self, error: io::Error) -> io::Result<()> {
        self.refused.fetch_add(1, Ordering::SeqCst);
        Err(error)
    }

    /// A step that takes room.
    fn take_room(&self) -> io::Result<()> {
        let mut next = self.next.lock().unwrap();
        let left = match &mut *next {
            Fault::NoRoom(left) => left,
            Fault::None | Fault::NothingFree | Fault::Sync(_) => return Ok(()),
        };
        if *left == 0 {
            return self.refuse(io::ErrorKind::StorageFull.into());
        }
        *left -= 1;
        Ok(())
    }

    fn sync(&self, path: &Path, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if self.failed.lock().unwrap().as_deref() == Some(path) {
            return Ok(());
        }
        let mut next = self.next.lock().unwrap();
        match &mut *next {
            Fault::Sync(0) => {
                *next = Fault::None;
                *self.failed.lock().unwrap() = Some(path.to_owned());
                return self.refuse(io::Error::other("the disk could not sync"));
            }
            Fault::Sync(left) => *left -= 1,
            Fault::None | Fault::NothingFree | Fault::NoRoom(_) => {}
        }
        drop(next);
        sync()
    }
}

/// A disk in memory that refuses what it is told to.
#[derive(Debug, Clone)]
struct FaultyDisk {
    inner: SimulatedDisk,
    faults: Arc<Faults>,
}

#[derive(Debug)]
struct FaultyFile {
    path: PathBuf,
    inner: Arc<dyn DiskFile>,
    faults: Arc<Faults>,
}

impl FaultyDisk {
    fn new(inner: SimulatedDisk) -> Self {
        let faults = Faults {
            next: Mutex::new(Fault::None),
            failed: Mutex::default(),
            refused: AtomicU64::new(0),
        };
        Self { inner, faults: Arc::new(faults) }
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        if mode == OpenMode::New {
            self.faults.take_room()?;
        }
        let (inner, faults) = (self.inner.open(path, mode)?, Arc::clone(&self.faults));
        Ok(Arc::new(FaultyFile { path: path.to_owned(), inner, faults }))
    }

    fn open_direct(&self, _: &Path) -> io::Result<Option<Arc<dyn DiskFile>>> {
        Ok(None)
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.faults.take_room()?;
        self.inner.make_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.faults.sync(path, || self.inner.sync_dir(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.inner.list(path)
    }

    fn find(&self, path: &Path) -> io::Result<Option<Found>> {
        self.inner.find(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        if *self.faults.next.lock().unwrap() == Fault::NothingFree {
            self.faults.refused.fetch_add(1, Ordering::SeqCst);
            return Ok(0);
        }
        self.inner.free_bytes(path)
    }
}

impl DiskFile for FaultyFile {
    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn read_at(&self, bytes: &mut [u8], position: u64) -> io::Result<usize> {
        self.inner.read_at(bytes, position)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.faults.take_room()?;
        self.inner.write_at(bytes, position)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.inner.set_length(length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.faults.take_room()?;
        self.inner.allocate(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.sync(&self.path, || self.inner.sync_data())
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.inner.try_lock()
    }
}

const RECORDS: i64 = 240;
const KEYS: i64 = 4;

fn only(topic: &str) -> TopicPartition {
    TopicPartition::new(TopicName::new(topic).unwrap(), 0)
}

/// A disk with a log on it that has an input, and the application's own topics.
fn with_input() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let log = open(&FaultyDisk::new(disk.clone())).unwrap();
    let topics = ["in", "out"].map(|name| TopicSpec::new(TopicName::new(name).unwrap(), 1));
    log.create_topics(&topics).unwrap();
    start(&log, &Arc::new(MemoryState::new()), |config| config).unwrap().close().unwrap();
    let mut records = RecordSetBuilder::default();
    for value in 0..RECORDS {
        let bytes = value.to_be_bytes();
        records.push(value, Some(b"car"), Some(&bytes), &Headers::new()).unwrap();
    }
    let records = Arc::new(records.build());
    let append = Append { partition: only("in"), base_offset: None, records };
    let commit = Commit { appends: vec![append], ..Commit::default() };
    log.commit(commit).unwrap().wait().unwrap();
    log.close().unwrap();
    disk
}

fn open(disk: &FaultyDisk) -> Result<Arc<EmbeddedLog>, headwater::log::OpenError> {
    let options = LogOptions::new()
        .disk(Arc::new(disk.clone()))
        .segment_bytes(1_500)
        .journal_bytes(16 << 10)
        .reserve_bytes(1 << 10);
    EmbeddedLog::open(Path::new("/log"), options).map(Arc::new)
}

/// Counts the values of each remainder below a repartition; each record gives one update. Commits are as many as can be.
fn start(
    log: &Arc<EmbeddedLog>,
    state: &Arc<MemoryState>,
    configured: impl FnOnce(StreamsConfig) -> StreamsConfig,
) -> Result<Streams, StreamsError> {
    let builder = StreamsBuilder::new();
    let records = builder.stream::<String, i64>("in");
    let grouped = records.group_by(|_, value| format!("r{}", value % KEYS));
    let counts = grouped.count(Materialized::named("counts").with_caching_disabled());
    counts.to_stream().drop_null_values().to("out");
    let config = StreamsConfig::new("app").with_commit_interval(Duration::ZERO);
    let config = configured(config.with_batch_rows_max(3).with_num_stream_threads(1));
    let (log, clock) = (Arc::clone(log) as Arc<dyn Log>, Arc::new(SystemClock::new()));
    let state = Arc::clone(state);
    Streams::start(builder.build().unwrap(), config, log, state, clock)
}

/// Each record has one output, and the stores hold what they say.
fn check(log: &dyn Log, streams: &Streams, when: &str) {
    let mut seen: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let (mut at, end) = (0, log.offsets(&only("out")).unwrap().end);
    while at < end {
        let fetched = log.fetch(&only("out"), at, 1 << 20).unwrap();
        at = fetched.next_offset;
        for record in fetched.records.iter() {
            let count = i64::from_be_bytes(record.value.unwrap().try_into().unwrap());
            let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
            seen.entry(key).or_default().push(count);
        }
    }
    let of_key: Vec<i64> = (1..=RECORDS / KEYS).collect();
    let expected: BTreeMap<_, _> =
        (0..KEYS).map(|key| (format!("r{key}"), of_key.clone())).collect();
    assert_eq!(seen, expected, "{when}");
    let counts = streams.store::<String, i64>("counts").unwrap().all().unwrap();
    assert_eq!(counts.len(), expected.len(), "{when}");
    assert!(counts.iter().all(|(_, row)| row.value == RECORDS / KEYS), "{when}: {counts:?}");
}

#[test]
fn on_a_full_disk_an_application_stops_with_advice_and_goes_on_once_there_is_room() {
    let (disk, state) = (FaultyDisk::new(with_input()), Arc::new(MemoryState::new()));
    let log = open(&disk).unwrap();
    disk.faults.set(Fault::NothingFree);
    let streams = start(&log, &state, |config| config).unwrap();
    let error = streams.drain().unwrap_err();
    assert!(matches!(&error, StreamsError::Log(LogError::DiskFull { .. })), "{error:?}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.starts_with("no room on the disk for /log"), "{cause}");
    assert!(cause.ends_with("free some"), "{cause}");
    drop(streams);

    // The log took no harm: it need not even be opened again.
    disk.faults.set(Fault::None);
    let streams = start(&log, &state, |config| config).unwrap();
    streams.drain().unwrap();
    check(&*log, &streams, "once there is room");
}

#[test]
fn an_application_that_is_to_be_replaced_waits_on_a_full_disk_for_room() {
    let (disk, state) = (FaultyDisk::new(with_input()), Arc::new(MemoryState::new()));
    let log = open(&disk).unwrap();
    disk.faults.set(Fault::NothingFree);
    let faults = Arc::clone(&disk.faults);
    let failures = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&failures);
    let replaced = move |error: &StreamsError| {
        assert!(matches!(error, StreamsError::Log(LogError::DiskFull { .. })), "{error:?}");
        if counted.fetch_add(1, Ordering::SeqCst) == 1 {
            faults.set(Fault::None);
        }
        UncaughtExceptionResponse::Replace
    };
    let streams =
        start(&log, &state, |config| config.with_uncaught_exception_handler(replaced)).unwrap();
    streams.drain().unwrap();
    assert_eq!((failures.load(Ordering::SeqCst), streams.metrics().restarts), (2, 2));
    check(&*log, &streams, "once there is room");
}

/// Runs into the fault, and then on from what is left: of a process that ended, or of a machine whose power was cut.
/// Whether it came to the fault.
fn fail_and_go_on(
    fault: Fault,
    input: &SimulatedDisk,
    left: impl Fn(&SimulatedDisk) -> SimulatedDisk,
) -> bool {
    let (disk, state) = (FaultyDisk::new(input.kill()), Arc::new(MemoryState::new()));
    disk.faults.set(fault);
    let ended = open(&disk).map_err(|error| format!("{error:?}")).and_then(|log| {
        let started = start(&log, &state, |config| config);
        let ended = started.and_then(|streams| streams.drain());
        if let Err(error) = &ended {
            assert!(matches!(error, StreamsError::Log(_)), "{fault:?}: {error:?}");
        }
        ended.map_err(|error| error.to_string())
    });
    let is_hit = disk.faults.refused.load(Ordering::SeqCst) > 0;
    assert!(is_hit || ended.is_ok(), "{fault:?}: {ended:?}");

    let disk = FaultyDisk::new(left(&disk.inner));
    let when = format!("{fault:?}, after which it ended with {ended:?}");
    let log = open(&disk).unwrap_or_else(|error| panic!("{when}: {error:?}"));
    let streams = start(&log, &state, |config| config);
    let streams = streams.unwrap_or_else(|error| panic!("{when}: {error:?}"));
    streams.drain().unwrap_or_else(|error| panic!("{when}: {error:?}"));
    check(&*log, &streams, &when);
    is_hit
}

/// Says past the harness how many faults there were.
fn tell(faults: usize) {
    writeln!(io::stdout().lock(), "\ndisk faults: {faults} under an application").unwrap();
}

/// At how many steps a fault is tried.
const STEPS: u64 = 50;

#[test]
fn a_disk_without_room_from_any_step_on_loses_nothing_and_repeats_nothing() {
    let input = with_input();
    let fails = |step: &u64| fail_and_go_on(Fault::NoRoom(*step), &input, SimulatedDisk::kill);
    let hit = (0..STEPS).filter(fails).count();
    assert!(hit > 15, "only {hit} steps");
    tell(hit);
}

#[test]
fn a_failed_sync_and_a_power_cut_after_it_lose_nothing_and_repeat_nothing() {
    let input = with_input();
    let cut = |step: u64| move |disk: &SimulatedDisk| disk.power_cut(step);
    let fails = |step: &u64| fail_and_go_on(Fault::Sync(*step), &input, cut(*step));
    let hit = (0..STEPS).filter(fails).count();
    assert!(hit > 15, "only {hit} syncs");
    tell(hit);
}

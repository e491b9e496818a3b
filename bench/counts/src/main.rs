//! The hot loops by themselves, each over the same records at every run: `cargo xtask counts` has valgrind count the
//! instructions of what [`counted`] runs, and compares them with `bench/counts/baseline.txt`.
//!
//! | loop | what is counted |
//! |---|---|
//! | `chain` | five typed steps without state, from the log and to it, with their commit |
//! | `count` | records per key, of which there are a thousand, in a store with a cache |
//! | `window` | the sum of a value by key and minute |
//! | `foreign-key` | a table of JSON objects joined with another one by a key that they have, with a commit every so often |
//! | `fetch` | reads of 1 MiB from the log, which it has checked before |
//! | `encode` | handing a commit in: checks, encoding, checksums |
//!
//! All runs on the counted thread but what the log's own threads do.

use headwater::{
    ports::log::{Append, Commit},
    prelude::*,
    record::{Headers, RecordSet, RecordSetBuilder},
    runtime::Driver,
    state::MemoryState,
};
use serde::{Deserialize, Serialize};
use std::{
    env,
    error::Error,
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

const RECORDS: i64 = 20_000;
const KEYS: i64 = 1_000;
/// Rows of the table that is joined by a foreign key, and of the other one.
const ROWS: i64 = 10_000;
const GROUPS: i64 = 100;
/// Records of one append.
const APPEND: i64 = 5_000;

fn main() -> ExitCode {
    let name = env::args().nth(1).unwrap_or_default();
    let told = match run(&name) {
        Ok(records) => writeln!(io::stdout(), "records {records}"),
        Err(error) => {
            writeln!(io::stderr(), "{name}: {error}").and(Err(io::ErrorKind::Other.into()))
        }
    };
    told.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

/// Runs one loop; over how many records.
fn run(name: &str) -> Outcome<i64> {
    let dir = tempfile::tempdir()?;
    let log = Arc::new(EmbeddedLog::open(dir.path(), LogOptions::new())?);
    let topics = ["in", "beside", "out"].map(|name| Ok(TopicSpec::new(TopicName::new(name)?, 1)));
    log.create_topics(&topics.into_iter().collect::<Outcome<Vec<_>>>()?)?;
    match name {
        "chain" => process(&log, chain()?),
        "count" => process(&log, count()?),
        "window" => process(&log, window()?),
        "foreign-key" => process_tables(&log, foreign_key()?),
        "fetch" => fetch(&log),
        "encode" => encode(&log),
        _ => Err("there is no such loop".into()),
    }
}

/// Nothing else is counted.
#[inline(never)]
fn counted(work: &mut dyn FnMut() -> Outcome<i64>) -> Outcome<i64> {
    work()
}

fn only(topic: &str) -> Outcome<TopicPartition> {
    Ok(TopicPartition::new(TopicName::new(topic)?, 0))
}

fn records(numbers: std::ops::Range<i64>) -> Outcome<Arc<RecordSet>> {
    let mut records = RecordSetBuilder::default();
    for number in numbers {
        // Each key comes once in a thousand records, in an order of its own.
        let key = format!("VIN{:08}", number * 7_919 % KEYS);
        records.push(
            number * 10,
            Some(key.as_bytes()),
            Some(&number.to_be_bytes()),
            &Headers::new(),
        )?;
    }
    Ok(Arc::new(records.build()))
}

fn append(log: &EmbeddedLog, numbers: std::ops::Range<i64>) -> Outcome<()> {
    let append = Append { partition: only("in")?, base_offset: None, records: records(numbers)? };
    log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
    Ok(())
}

fn fill(log: &EmbeddedLog) -> Outcome<()> {
    (0..RECORDS / APPEND).try_for_each(|at| append(log, at * APPEND..(at + 1) * APPEND))
}

/// Has a topology take all there is.
fn process(log: &Arc<EmbeddedLog>, topology: Topology) -> Outcome<i64> {
    fill(log)?;
    let (port, state) = (Arc::clone(log) as Arc<dyn Log>, Arc::new(MemoryState::new()));
    let config = StreamsConfig::new("counts");
    let mut driver = Driver::new(topology, &config, port, state, Arc::new(SystemClock::new()))?;
    counted(&mut || {
        driver.run_until_idle()?;
        driver.commit()?;
        Ok(RECORDS)
    })
}

/// A row of a table, about 160 bytes of JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Reading {
    vin: String,
    ts: i64,
    speed_kmh: f64,
    rpm: u32,
    engine_temp_c: f64,
    fuel_pct: f64,
    lat: f64,
    lon: f64,
}

impl Reading {
    fn new(number: i64) -> Self {
        let part = |below: i64| (number * 7_919 % below) as f64;
        Self {
            vin: format!("VIN{:08}", number % ROWS),
            ts: 1_767_225_600_000 + number,
            speed_kmh: part(22_000) / 100.0,
            rpm: 700 + u32::try_from(number % 5_300).unwrap_or(0),
            engine_temp_c: part(1_200) / 10.0,
            fuel_pct: part(10_000) / 100.0,
            lat: 47.0 + part(800_003) / 100_000.0,
            lon: 6.0 + part(900_001) / 100_000.0,
        }
    }
}

/// Has a topology take two tables, the larger one row by row anew, with commits between.
fn process_tables(log: &Arc<EmbeddedLog>, topology: Topology) -> Outcome<i64> {
    let (port, state) = (Arc::clone(log) as Arc<dyn Log>, Arc::new(MemoryState::new()));
    let config = StreamsConfig::new("counts");
    let mut driver = Driver::new(topology, &config, port, state, Arc::new(SystemClock::new()))?;
    let groups = (0..GROUPS).map(|group| (group.to_string(), format!("\"group {group}\"")));
    append_to(log, "beside", groups.map(|(key, value)| (key, value, 0)))?;
    let mut at = 0;
    let mut rows = |count: i64| -> Outcome<()> {
        let numbers = at..at + count;
        at += count;
        let rows: Vec<_> = numbers
            .map(|number| {
                let row = Reading::new(number);
                Ok((row.vin.clone(), sonic_rs::to_string(&row)?, number))
            })
            .collect::<Outcome<_>>()?;
        append_to(log, "in", rows.into_iter())
    };
    rows(ROWS)?;
    driver.run_until_idle()?;
    driver.commit()?;
    for _ in 0..RECORDS / APPEND {
        rows(APPEND)?;
        counted(&mut || {
            driver.run_until_idle()?;
            driver.commit()?;
            Ok(APPEND)
        })?;
    }
    Ok(RECORDS)
}

fn append_to(
    log: &EmbeddedLog,
    topic: &str,
    rows: impl Iterator<Item = (String, String, i64)>,
) -> Outcome<()> {
    let mut records = RecordSetBuilder::default();
    for (key, value, timestamp) in rows {
        let (key, value) = (key.as_bytes(), value.as_bytes());
        records.push(timestamp, Some(key), Some(value), &Headers::new())?;
    }
    let records = Arc::new(records.build());
    let append = Append { partition: only(topic)?, base_offset: None, records };
    log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
    Ok(())
}

fn foreign_key() -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    let groups = builder.table::<String, String>("beside");
    let newest = builder.table::<String, Reading>("in");
    let group = |_: &String, row: &Reading| Some((i64::from(row.rpm) % GROUPS).to_string());
    let joined = newest.join_on(&groups, group, |row, group| (row.ts, group));
    joined.to_stream().to("out");
    Ok(builder.build()?)
}

fn chain() -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    let numbers = builder.stream::<String, i64>("in");
    let passed = numbers
        .filter(|_, number| *number >= 0)
        .map_values(|number| number + 1)
        .filter_not(|_, number| *number < 0)
        .map_values(|number| number * 2)
        .filter(|_, number| *number % 20 == 0);
    passed.to("out");
    Ok(builder.build()?)
}

fn count() -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    builder.stream::<String, i64>("in").group_by_key().count("counts").to_stream().to("out");
    Ok(builder.build()?)
}

fn window() -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    let minutes = TimeWindows::of_size_with_no_grace(Duration::from_secs(60));
    let windows = builder.stream::<String, i64>("in").group_by_key().windowed_by(minutes);
    let sums = windows.aggregate(|| 0_i64, |_, number, sum| sum + number, "sums");
    sums.to_stream().map(|at, sum| (at.key, sum)).to("out");
    Ok(builder.build()?)
}

fn fetch(log: &EmbeddedLog) -> Outcome<i64> {
    // Ten megabytes, so that runs are whole.
    (0..5).try_for_each(|_| fill(log))?;
    let partition = only("in")?;
    let mut read = || {
        let (mut at, mut records) = (0, 0);
        loop {
            let fetched = log.fetch(&partition, at, 1 << 20)?;
            records += i64::try_from(fetched.records.len())?;
            at = fetched.next_offset;
            if at >= fetched.end {
                return Ok(records);
            }
        }
    };
    read()?;
    counted(&mut read)
}

fn encode(log: &EmbeddedLog) -> Outcome<i64> {
    let (partition, records) = (only("in")?, records(0..APPEND)?);
    let mut tickets = Vec::new();
    let encoded = counted(&mut || {
        for _ in 0..RECORDS / APPEND {
            let (partition, records) = (partition.clone(), Arc::clone(&records));
            let append = Append { partition, base_offset: None, records };
            tickets.push(log.commit(Commit { appends: vec![append], ..Commit::default() })?);
        }
        Ok(RECORDS)
    });
    tickets.into_iter().try_for_each(|ticket| ticket.wait().map(drop))?;
    encoded
}

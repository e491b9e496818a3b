//! polars, duckdb and pyarrow read what is written, whatever the values.
//!
//! The Python that has them is named by `HEADWATER_PYTHON`. Without it nothing is read and the test says so; with
//! `HEADWATER_REQUIRE_PEERS=1` that is a failure.

use super::{HOUR, records};
use crate::{Columns, ParquetSink, PartitionBy};
use headwater_core::ports::connector::{Due, SinkConnector};
use serde::Deserialize;
use std::{env, path::Path, process::Command};
use tempfile::TempDir;

const SCRIPT: &str = include_str!("readers.py");

#[derive(Debug, Clone, Default)]
struct Values {
    id: i64,
    text: String,
    opt_text: Option<String>,
    n: i64,
    x: f64,
    opt_x: Option<f64>,
    at: i64,
    event: i64,
}

/// A row as a peer has it.
#[derive(Debug, PartialEq, Deserialize)]
struct Read {
    id: i64,
    text: String,
    opt_text: Option<String>,
    n: i64,
    x: String,
    opt_x: Option<String>,
    at: i64,
    flag: bool,
    null_text: Option<String>,
    null_n: Option<i64>,
    null_x: Option<String>,
    date: Option<String>,
    hour: Option<i64>,
    #[serde(rename = "a.b \"c\" 'd' \u{e4}\u{1f697}\n\0")]
    odd: i64,
    #[serde(rename = "select")]
    keyword: i64,
    #[serde(rename = "filename")]
    taken: i64,
}

#[derive(Debug, Deserialize)]
struct Told {
    peer: String,
    rows: Vec<Read>,
    misled: Vec<String>,
}

fn values() -> Vec<Values> {
    let (first, last) = (-62_135_596_800_000, 253_402_300_799_999);
    let texts = ["", "\0", "a\0b", "\u{10ffff}", "\n\r\t\u{7f}", "'\"\\", "ä🚗"].map(str::to_owned);
    let long = ["z".repeat(100), "\u{10ffff}".repeat(40), "y".repeat(1 << 20)];
    let numbers = [i64::MIN, -1, 0, 1, i64::MAX];
    let doubles =
        [1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, 5e-324, f64::MAX, -1.5];
    let moments = [first, last, -1, 0, 1_793_520_000_000, first + HOUR, -HOUR];
    let events = [first, last, -1, 9 * HOUR, i64::MIN, i64::MAX, 1_793_520_000_000];
    let texts = texts.into_iter().chain(long);
    let rows = texts.cycle().zip(numbers.into_iter().cycle()).zip(doubles.into_iter().cycle());
    let times = moments.into_iter().cycle().zip(events.into_iter().cycle());
    let made = rows.zip(times).take(90).enumerate().map(|(id, (((text, n), x), (at, event)))| {
        let opt_text = (id % 3 != 0).then(|| text.clone());
        let opt_x = (id % 2 != 0).then_some(x);
        let id = id as i64;
        // Some have a directory of their own.
        let event = if event == 9 * HOUR { event + id * 24 * HOUR } else { event };
        Values { id, text, opt_text, n, x, opt_x, at, event }
    });
    // A file whose statistics would say that its largest number is 1.
    let misleading =
        [(90, 1.0), (91, f64::NAN)].map(|(id, x)| Values { id, x, ..Values::default() });
    made.chain(misleading).collect()
}

/// Writes the values as records of a topic, each of which holds a value's number.
fn write(dir: &Path, topic: &str) {
    let all = values();
    let columns = Columns::<Values>::new()
        .i64("id", |row| row.id)
        .string("text", |row| &row.text)
        .opt_string("opt_text", |row| row.opt_text.as_deref())
        .i64("n", |row| row.n)
        .f64("x", |row| row.x)
        .opt_f64("opt_x", |row| row.opt_x)
        .timestamp_ms("at", |row| row.at)
        .bool("flag", |row| row.id % 2 == 0)
        .opt_string("null_text", |_| None)
        .opt_i64("null_n", |_| None)
        .opt_f64("null_x", |_| None)
        .i64("a.b \"c\" 'd' \u{e4}\u{1f697}\n\0", |row| row.id)
        .i64("select", |row| row.id)
        .i64("filename", |row| row.id);
    let rows = all.clone();
    let decode = move |record: headwater_core::record::RecordRef<'_>| {
        rows.get(usize::try_from(record.timestamp).ok()?).cloned()
    };
    let builder = ParquetSink::builder(dir).partition_by(PartitionBy::Hour);
    let mut sink = builder.build(decode, |row| row.event, columns).unwrap();
    sink.open(topic, 0, None).unwrap();
    let numbers: Vec<_> = all.iter().map(|row| ("", row.id)).collect();
    assert_eq!(sink.put(0, &records(0, &numbers)).unwrap(), all.len());
    assert_eq!(sink.prepare(Due::All).unwrap()[0].dead_letters, []);
    sink.publish().unwrap();
}

fn expected(row: Values) -> Read {
    let bits = |x: f64| if x.is_nan() { "NaN".to_owned() } else { format!("{:016x}", x.to_bits()) };
    let bucket = PartitionBy::Hour.bucket(row.event);
    let path = PartitionBy::Hour.path(bucket);
    let (date, hour) = path.split_once('/').unwrap();
    let value = |part: &str| bucket.map(|_| part.split('=').nth(1).unwrap().to_owned());
    Read {
        id: row.id,
        text: row.text,
        opt_text: row.opt_text,
        n: row.n,
        x: bits(row.x),
        opt_x: row.opt_x.map(bits),
        at: row.at,
        flag: row.id % 2 == 0,
        null_text: None,
        null_n: None,
        null_x: None,
        date: value(date),
        hour: value(hour).map(|hour| hour.parse().unwrap()),
        odd: row.id,
        keyword: row.id,
        taken: row.id,
    }
}

/// The topic's name is one whose files readers would skip, and the largest that there is.
#[test]
fn three_readers_read_what_is_written_whatever_the_values() {
    let Some(python) = env::var_os("HEADWATER_PYTHON") else {
        let required = env::var_os("HEADWATER_REQUIRE_PEERS").is_some_and(|value| value == "1");
        assert!(!required, "HEADWATER_PYTHON names no Python with polars, duckdb and pyarrow");
        eprintln!("skipped: no peer read the files, for HEADWATER_PYTHON is not set");
        return;
    };
    let root = TempDir::new().unwrap();
    // Neither a quote nor a pattern, which people put into such names at their own risk.
    let dir = root.path().join("_cold table");
    write(&dir, &format!("_{}", "t".repeat(248)));
    let output =
        Command::new(python).args(["-c", SCRIPT]).arg(&dir).env("TZ", "UTC").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8(output.stdout).unwrap();
    let told: Vec<Told> = told.lines().map(|line| sonic_rs::from_str(line).unwrap()).collect();
    assert_eq!(told.len(), 3);
    let wanted: Vec<_> = values().into_iter().map(expected).collect();
    for Told { peer, rows, misled } in told {
        assert_eq!(rows.len(), wanted.len(), "{peer}");
        for (row, wanted) in rows.iter().zip(&wanted) {
            assert!(row == wanted, "{peer}, row {}", wanted.id);
        }
        assert_eq!(misled, Vec::<String>::new(), "{peer}");
    }
}

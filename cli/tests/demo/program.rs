//! Runs the program, and reads what it left.

use arrow_array::{
    Array, RecordBatch,
    cast::AsArray,
    types::{Float64Type, Int64Type, TimestampMillisecondType},
};
use headwater::{
    log::{EmbeddedLog, LogOptions},
    ports::log::Log,
    record::{TopicName, TopicPartition},
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::{Deserialize, Serialize};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag::register_conditional_default,
};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Arc, Once, atomic::AtomicBool},
};
use tempfile::TempDir;

/// A data directory with an input beside it.
#[derive(Debug)]
pub(crate) struct Bench {
    dir: TempDir,
    input: PathBuf,
}

impl Bench {
    pub(crate) fn new(input: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("input.ndjson");
        fs::write(&path, input).unwrap();
        Self { input: path, dir }
    }

    /// Of an input that exists.
    pub(crate) fn of(input: PathBuf) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), input }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// The command that runs it to its end.
    pub(crate) fn command(&self) -> Command {
        let mut command = headwater();
        command.args(["dev", "--demo", "cars", "--exit-when-done", "--input"]).arg(&self.input);
        command.arg("--data-dir").arg(self.data()).arg("--summary").arg(self.path("summary.json"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self) {
        let status = self.command().status().unwrap();
        assert!(status.success(), "{status}");
    }

    pub(crate) fn summary_text(&self) -> String {
        fs::read_to_string(self.path("summary.json")).unwrap()
    }

    pub(crate) fn summary(&self) -> Summary {
        sonic_rs::from_str(&self.summary_text()).unwrap()
    }

    /// A topic's records, by partition.
    pub(crate) fn topic(&self, name: &str) -> Vec<Vec<Row>> {
        let log = EmbeddedLog::open(&self.data().join("log"), LogOptions::new()).unwrap();
        let topic = TopicName::new(name).unwrap();
        let spec = log.topics().unwrap().into_iter().find(|spec| spec.name == topic).unwrap();
        (0..spec.partitions)
            .map(|number| rows(&log, &TopicPartition::new(topic.clone(), number)))
            .collect()
    }

    /// How many records the changelogs of all stores hold, that of positions included.
    pub(crate) fn changelog_records(&self) -> usize {
        let log = EmbeddedLog::open(&self.data().join("log"), LogOptions::new()).unwrap();
        let mut count = 0;
        for spec in log.topics().unwrap() {
            let is_changelog = |end| spec.name.as_str().ends_with(end);
            if ["-changelog", "-positions"].into_iter().any(is_changelog) {
                let partitions =
                    (0..spec.partitions).map(|n| TopicPartition::new(spec.name.clone(), n));
                count += partitions.map(|at| rows(&log, &at).len()).sum::<usize>();
            }
        }
        count
    }

    pub(crate) fn minutes(&self) -> Vec<Minute> {
        let mut rows: Vec<Minute> = Vec::new();
        for file in self.parquet_files("car_minutes") {
            for batch in batches(&file) {
                rows.extend((0..batch.num_rows()).map(|row| {
                    Minute {
                        vin: text(&batch, "vin", row).unwrap(),
                        model: text(&batch, "model", row).unwrap(),
                        window_start: moment(&batch, "window_start", row),
                        samples: batch
                            .column_by_name("samples")
                            .unwrap()
                            .as_primitive::<Int64Type>()
                            .value(row),
                        distance_m: number(&batch, "distance_m", row).unwrap(),
                        fuel_mg: number(&batch, "fuel_mg", row).unwrap(),
                        litres_per_100km: number(&batch, "litres_per_100km", row),
                        max_speed_kmh: number(&batch, "max_speed_kmh", row).unwrap(),
                    }
                }));
            }
        }
        rows.sort_by(|a, b| (&a.vin, a.window_start).cmp(&(&b.vin, b.window_start)));
        rows
    }

    /// Telemetry rows as the reference has them, unordered.
    pub(crate) fn telemetry(&self) -> Vec<crate::reference::Car> {
        let mut rows = Vec::new();
        for file in self.parquet_files("telemetry") {
            for batch in batches(&file) {
                rows.extend((0..batch.num_rows()).map(|row| crate::reference::Car {
                    vin: text(&batch, "vin", row).unwrap(),
                    model: text(&batch, "model", row).unwrap(),
                    ts: moment(&batch, "ts", row),
                    speed_kmh: number(&batch, "speed_kmh", row).unwrap(),
                    fuel_mg_s: number(&batch, "fuel_mg_s", row).unwrap(),
                    engine_temp_c: number(&batch, "engine_temp_c", row).unwrap(),
                    tyre_kpa: number(&batch, "tyre_kpa", row).unwrap(),
                    dtc: text(&batch, "dtc", row),
                    lat: number(&batch, "lat", row),
                    road: text(&batch, "road", row),
                }));
            }
        }
        rows
    }

    /// The finished files of a table.
    pub(crate) fn parquet_files(&self, table: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut open = vec![self.data().join("cold").join(table)];
        while let Some(dir) = open.pop() {
            // A table without a file may have no directory yet.
            let Ok(listed) = fs::read_dir(dir) else { continue };
            for entry in listed {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else if path.extension().is_some_and(|extension| extension == "parquet") {
                    files.push(path);
                }
            }
        }
        files.sort();
        files
    }
}

/// The program, which takes signals however these tests were started: in the background of a shell, say, which has Ctrl-C
/// ignored by all that comes of them. A signal that is handled here, as it would be without, is not ignored by a child.
pub(crate) fn headwater() -> Command {
    static HANDLED: Once = Once::new();
    HANDLED.call_once(|| {
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            register_conditional_default(signal, Arc::new(AtomicBool::new(true))).unwrap();
        }
    });
    Command::new(env!("CARGO_BIN_EXE_headwater"))
}

/// Runs a command that is expected to end by itself.
pub(crate) fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap()
}

/// A record: key, value, timestamp.
pub(crate) type Row = (Vec<u8>, Vec<u8>, i64);

fn rows(log: &EmbeddedLog, partition: &TopicPartition) -> Vec<Row> {
    let (mut rows, mut offset) = (Vec::new(), 0);
    loop {
        let fetched = log.fetch(partition, offset, 1 << 20).unwrap();
        rows.extend(fetched.records.iter().map(|record| {
            (
                record.key.unwrap_or_default().to_vec(),
                record.value.unwrap_or_default().to_vec(),
                record.timestamp,
            )
        }));
        if fetched.next_offset >= fetched.end {
            return rows;
        }
        offset = fetched.next_offset;
    }
}

/// The summary as the program writes it; other fields than these would be an error.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Summary {
    pub(crate) records: u64,
    pub(crate) alerts_raised: u64,
    pub(crate) alerts_cleared: u64,
    pub(crate) late_dropped: u64,
    pub(crate) dead_letters: u64,
    #[serde(default)]
    pub(crate) too_far_ahead: u64,
    #[serde(default)]
    pub(crate) held: u64,
    #[serde(default)]
    pub(crate) not_in_files: u64,
    pub(crate) cars: Vec<Totals>,
    pub(crate) models: Vec<Totals>,
    pub(crate) attention: Vec<Attention>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Totals {
    pub(crate) vin: Option<String>,
    pub(crate) model: String,
    pub(crate) distance_m: f64,
    pub(crate) fuel_mg: f64,
    pub(crate) litres_per_100km: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Attention {
    pub(crate) vin: String,
    pub(crate) kind: String,
    pub(crate) since: i64,
}

/// A row of `car-minutes`, in the topic and in Parquet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Minute {
    pub(crate) vin: String,
    pub(crate) model: String,
    pub(crate) window_start: i64,
    pub(crate) samples: i64,
    pub(crate) distance_m: f64,
    pub(crate) fuel_mg: f64,
    pub(crate) litres_per_100km: Option<f64>,
    pub(crate) max_speed_kmh: f64,
}

fn batches(file: &Path) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap())
        .unwrap()
        .build()
        .unwrap();
    reader.collect::<Result<_, _>>().unwrap()
}

fn text(batch: &RecordBatch, name: &str, row: usize) -> Option<String> {
    let column = batch.column_by_name(name).unwrap().as_string::<i32>();
    column.is_valid(row).then(|| column.value(row).to_owned())
}

fn number(batch: &RecordBatch, name: &str, row: usize) -> Option<f64> {
    let column = batch.column_by_name(name).unwrap().as_primitive::<Float64Type>();
    column.is_valid(row).then(|| column.value(row))
}

fn moment(batch: &RecordBatch, name: &str, row: usize) -> i64 {
    batch.column_by_name(name).unwrap().as_primitive::<TimestampMillisecondType>().value(row)
}

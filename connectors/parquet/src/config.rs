//! The Parquet sink's settings and builder.

use crate::{Columns, ParquetSink, PartitionBy};
use headwater_core::{
    ports::connector::ConnectorError,
    record::{RecordRef, Timestamp},
};
use serde::Deserialize;
use std::{marker::PhantomData, path::PathBuf};

/// Where a [`ParquetSink`] writes, and when its files are finished and shown.
///
/// ```
/// use headwater_connector_parquet::ParquetSinkConfig;
///
/// assert!(sonic_rs::from_str::<ParquetSinkConfig>(r#"{"dir":"cold/cars","partition_by":"hour"}"#).is_ok());
/// assert!(sonic_rs::from_str::<ParquetSinkConfig>(r#"{"dir":"cold/cars","codec":"lzo"}"#).is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParquetSinkConfig {
    /// The directory of the table; it belongs to this sink alone.
    pub dir: PathBuf,
    /// How files are spread over directories; by day.
    #[serde(default)]
    pub partition_by: PartitionBy,
    /// Bytes of a file at which its topic partition's files are finished; 128 MiB, and never more than 8 GiB.
    #[serde(default = "roll_bytes")]
    pub roll_bytes: u64,
    /// Rows of a file at which they are; 1,000,000.
    #[serde(default = "roll_rows")]
    pub roll_rows: u64,
    /// Time after which they are, in ms; 30 s. At 0, they are as often as records are read.
    #[serde(default = "roll_interval_ms")]
    pub roll_interval_ms: u64,
}

/// Bytes at which a file is finished at the latest: its list of row groups is in memory, and holds 32,767 at most.
pub(crate) const ROLL_BYTES_MAX: u64 = 8 << 30;

fn roll_bytes() -> u64 {
    128 << 20
}

fn roll_rows() -> u64 {
    1_000_000
}

fn roll_interval_ms() -> u64 {
    30_000
}

impl ParquetSinkConfig {
    /// The defaults, for a directory.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            partition_by: PartitionBy::default(),
            roll_bytes: roll_bytes(),
            roll_rows: roll_rows(),
            roll_interval_ms: roll_interval_ms(),
        }
    }
}

/// How a record becomes a row, its columns and its event time.
pub(crate) struct Mapping<T> {
    pub(crate) decode: Box<dyn Fn(RecordRef<'_>) -> Option<T> + Send>,
    pub(crate) event_time: Box<dyn Fn(&T) -> Timestamp + Send>,
    pub(crate) columns: Columns<T>,
}

/// A row, and about how many bytes it takes: those of its record, and those that it puts into the columns.
pub(crate) struct Measured<T> {
    pub(crate) row: T,
    pub(crate) bytes: usize,
}

impl<T> Mapping<T> {
    /// The record's row, why readers could not read it, or nothing if the record is left out.
    pub(crate) fn row(&self, record: RecordRef<'_>) -> Option<Result<Measured<T>, String>> {
        let row = (self.decode)(record)?;
        let measured = self.columns.measure(&row);
        Some(
            measured
                .map(|bytes| Measured { row, bytes: bytes.saturating_add(record.size_bytes()) }),
        )
    }
}

/// Builds a [`ParquetSink`].
#[must_use = "a builder does nothing until `build`"]
#[derive(Debug)]
pub struct ParquetSinkBuilder<T> {
    config: ParquetSinkConfig,
    row: PhantomData<fn() -> T>,
}

impl<T: Send + 'static> ParquetSinkBuilder<T> {
    pub(crate) fn new(config: ParquetSinkConfig) -> Self {
        Self { config, row: PhantomData }
    }

    /// Spreads files over directories by event time; by day unless set.
    pub fn partition_by(mut self, by: PartitionBy) -> Self {
        self.config.partition_by = by;
        self
    }

    /// Finishes files at so many bytes; 128 MiB unless set, and 8 GiB if that is less.
    pub fn roll_bytes(mut self, bytes: u64) -> Self {
        self.config.roll_bytes = bytes;
        self
    }

    /// Finishes files at so many rows; 1,000,000 unless set.
    pub fn roll_rows(mut self, rows: u64) -> Self {
        self.config.roll_rows = rows;
        self
    }

    /// Finishes files after so many ms; 30,000 unless set. At 0, as often as records are read.
    pub fn roll_interval_ms(mut self, ms: u64) -> Self {
        self.config.roll_interval_ms = ms;
        self
    }

    /// Makes the sink: `decode` gives a record's row, or `None` to leave it out (it is counted), `event_time` the ms that
    /// its directory is chosen by, and `columns` what is written.
    ///
    /// # Errors
    ///
    /// [`ConnectorError::Config`] if there are no columns, one without a name, two whose names differ in case at most, one
    /// that is named as a directory is, or a limit of 0 bytes or rows.
    pub fn build(
        self,
        decode: impl Fn(RecordRef<'_>) -> Option<T> + Send + 'static,
        event_time: impl Fn(&T) -> Timestamp + Send + 'static,
        columns: Columns<T>,
    ) -> Result<ParquetSink<T>, ConnectorError> {
        let mut config = self.config;
        check_names(&config, &columns)?;
        for (setting, limit) in [("roll_bytes", config.roll_bytes), ("roll_rows", config.roll_rows)]
        {
            if limit == 0 {
                return Err(wrong(setting, "must be at least 1".to_owned()));
            }
        }
        config.roll_bytes = config.roll_bytes.min(ROLL_BYTES_MAX);
        let mapping =
            Mapping { decode: Box::new(decode), event_time: Box::new(event_time), columns };
        Ok(ParquetSink::new(config, mapping))
    }
}

fn check_names<T>(config: &ParquetSinkConfig, columns: &Columns<T>) -> Result<(), ConnectorError> {
    let mut seen: Vec<String> =
        config.partition_by.names().iter().map(|&name| name.to_owned()).collect();
    for name in columns.names() {
        // duckdb tells names that differ in case alone not apart, and has none that is empty: it renames such columns.
        let folded = name.to_lowercase();
        let detail = if name.is_empty() {
            "one has no name; give it one".to_owned()
        } else if seen.contains(&folded) {
            format!(
                "`{name}` is there twice, perhaps in another case, or is the name of a directory; rename it"
            )
        } else {
            seen.push(folded);
            continue;
        };
        return Err(wrong("columns", detail));
    }
    if columns.names().next().is_none() {
        return Err(wrong("columns", "there are none; name at least one".to_owned()));
    }
    Ok(())
}

pub(crate) fn wrong(setting: &str, detail: String) -> ConnectorError {
    ConnectorError::Config { setting: setting.to_owned(), detail }
}

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
    /// Bytes of a file at which its topic partition's files are finished; 128 MiB.
    #[serde(default = "roll_bytes")]
    pub roll_bytes: u64,
    /// Rows of a file at which they are; 1,000,000.
    #[serde(default = "roll_rows")]
    pub roll_rows: u64,
    /// Time after which they are, in ms; 30 s.
    #[serde(default = "roll_interval_ms")]
    pub roll_interval_ms: u64,
}

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

    /// Finishes files at so many bytes; 128 MiB unless set.
    pub fn roll_bytes(mut self, bytes: u64) -> Self {
        self.config.roll_bytes = bytes;
        self
    }

    /// Finishes files at so many rows; 1,000,000 unless set.
    pub fn roll_rows(mut self, rows: u64) -> Self {
        self.config.roll_rows = rows;
        self
    }

    /// Finishes files after so many ms; 30,000 unless set.
    pub fn roll_interval_ms(mut self, ms: u64) -> Self {
        self.config.roll_interval_ms = ms;
        self
    }

    /// Makes the sink: `decode` gives a record's row, or `None` to leave it out (it is counted), `event_time` the ms that
    /// its directory is chosen by, and `columns` what is written.
    ///
    /// # Errors
    ///
    /// [`ConnectorError::Config`] if there are no columns, two of one name, one that is named as a directory is, or a
    /// limit of 0.
    pub fn build(
        self,
        decode: impl Fn(RecordRef<'_>) -> Option<T> + Send + 'static,
        event_time: impl Fn(&T) -> Timestamp + Send + 'static,
        columns: Columns<T>,
    ) -> Result<ParquetSink<T>, ConnectorError> {
        let config = self.config;
        check_names(&config, &columns)?;
        for (setting, limit) in [("roll_bytes", config.roll_bytes), ("roll_rows", config.roll_rows)]
        {
            if limit == 0 {
                return Err(wrong(setting, "must be at least 1".to_owned()));
            }
        }
        let mapping =
            Mapping { decode: Box::new(decode), event_time: Box::new(event_time), columns };
        Ok(ParquetSink::new(config, mapping))
    }
}

fn check_names<T>(config: &ParquetSinkConfig, columns: &Columns<T>) -> Result<(), ConnectorError> {
    let mut seen: Vec<&str> = config.partition_by.names().to_vec();
    for name in columns.names() {
        if seen.contains(&name) {
            let detail =
                format!("`{name}` is there twice, or is the name of a directory; rename it");
            return Err(wrong("columns", detail));
        }
        seen.push(name);
    }
    if columns.names().next().is_none() {
        return Err(wrong("columns", "there are none; name at least one".to_owned()));
    }
    Ok(())
}

pub(crate) fn wrong(setting: &str, detail: String) -> ConnectorError {
    ConnectorError::Config { setting: setting.to_owned(), detail }
}

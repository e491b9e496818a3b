//! The Parquet sink: rows to files by topic partition and event time; a partition's files are finished together.
//!
//! # Invariants
//!
//! - A file holds rows of one topic partition and one directory, and its names tell which.
//! - A commit names all files of its partition that are not published, so nothing else in staging counts.
//! - Nothing is changed in a directory before all partitions are open, so not in one that does not go with a position.
//! - At most [`OPEN_FILES_MAX`] files are open, fewer where the process may have few.

use crate::{
    config::{Mapping, Measured, ParquetSinkBuilder, ParquetSinkConfig, wrong},
    part::Part,
    staging::{Manifest, PartitionFiles, create_staging},
    table::{Table, Written},
};
use headwater_core::{
    descriptors::share,
    ports::{
        connector::{ConnectorError, Due, Guarantee, Prepared, SinkConnector, SinkCounts},
        log::Committed,
    },
    record::RecordSet,
};
use std::{collections::BTreeMap, fmt, path::PathBuf};

/// Files open at once: what bounds memory when event times are spread wide.
const OPEN_FILES_MAX: usize = 64;

/// Typed rows in Parquet files, exactly once.
pub struct ParquetSink<T> {
    config: ParquetSinkConfig,
    mapping: Mapping<T>,
    /// What the directory holds, while partitions are opened.
    table: Option<Table>,
    parts: BTreeMap<u32, Part<T>>,
}

impl<T> fmt::Debug for ParquetSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParquetSink").field("config", &self.config).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> ParquetSink<T> {
    /// Builds a sink into a directory that no other sink writes to.
    pub fn builder(dir: impl Into<PathBuf>) -> ParquetSinkBuilder<T> {
        Self::from_config(ParquetSinkConfig::new(dir))
    }

    /// Builds a sink with these settings.
    pub fn from_config(config: ParquetSinkConfig) -> ParquetSinkBuilder<T> {
        ParquetSinkBuilder::new(config)
    }
}

impl<T> ParquetSink<T> {
    pub(crate) fn new(config: ParquetSinkConfig, mapping: Mapping<T>) -> Self {
        Self { config, mapping, table: None, parts: BTreeMap::new() }
    }

    /// Creates what is missing of the directory and ends what the last run left half done, once all partitions are open.
    ///
    /// Where one is refused, nothing has been changed, so that the next start refuses it too.
    fn begin(&mut self) -> Result<(), ConnectorError> {
        if self.table.is_some() {
            create_staging(&self.config.dir)?;
            self.parts.values_mut().try_for_each(Part::recover)?;
            self.table = None;
        }
        Ok(())
    }

    /// Writes the row of the record at `offset`.
    fn write(
        &mut self,
        partition: u32,
        offset: i64,
        row: Measured<T>,
    ) -> Result<(), ConnectorError> {
        let bucket = self.config.partition_by.bucket((self.mapping.event_time)(&row.row));
        if self.parts.get(&partition).is_some_and(|part| !part.is_open(bucket)) {
            self.create(partition, bucket, offset)?;
        }
        let Some(part) = self.parts.get_mut(&partition) else { return Ok(()) };
        part.push(bucket, offset, row, &self.mapping.columns)
    }

    /// Opens a file, and finishes others if too many are open, or more than the system allows.
    fn create(
        &mut self,
        partition: u32,
        bucket: Option<i64>,
        offset: i64,
    ) -> Result<(), ConnectorError> {
        if self.parts.values().map(Part::open_files).sum::<usize>() >= share(1, OPEN_FILES_MAX) {
            self.finish_fullest()?;
        }
        loop {
            let Some(part) = self.parts.get_mut(&partition) else { return Ok(()) };
            let dir = self.config.partition_by.path(bucket);
            match part.create(bucket, dir, offset, &self.mapping.columns) {
                Err(error) if lacks_descriptors(&error) && self.finish_fullest()? => {}
                created => return created,
            }
        }
    }

    /// Finishes the open file with the most rows; whether there was one.
    fn finish_fullest(&mut self) -> Result<bool, ConnectorError> {
        let fullest = self.parts.values_mut().filter_map(|part| Some((part.fullest()?, part)));
        let Some(((_, bucket), part)) = fullest.max_by_key(|(fullest, _)| *fullest) else {
            return Ok(false);
        };
        part.finish(bucket, &self.mapping.columns)?;
        Ok(true)
    }
}

impl<T: Send + 'static> SinkConnector for ParquetSink<T> {
    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn validate(&self) -> Result<(), ConnectorError> {
        let dir = &self.config.dir;
        // A link to nothing is there as well, though it does not exist.
        if !dir.is_dir() && dir.symlink_metadata().is_ok() {
            return Err(wrong(
                "dir",
                format!("{} is not a directory; name another", dir.display()),
            ));
        }
        Ok(())
    }

    fn open(
        &mut self,
        topic: &str,
        partition: u32,
        resume: Option<&Committed>,
    ) -> Result<(), ConnectorError> {
        let table = match self.table.take() {
            Some(table) => table,
            None => Table::read(&self.config.dir)?,
        };
        let table = &*self.table.insert(table);
        table.check_partitioning(self.config.partition_by)?;
        let manifest = match resume {
            None => Manifest::default(),
            Some(committed) => sonic_rs::from_str(&committed.metadata).map_err(|error| ConnectorError::Position {
                name: format!("{topic}-{partition}"),
                detail: format!("its metadata is not a Parquet sink's ({error}); give this sink a name of its own"),
            })?,
        };
        let written =
            resume.map(|committed| Written { position: committed.offset, rows: manifest.rows });
        table.check(topic, partition, written)?;
        let files = PartitionFiles::new(&self.config.dir, topic, partition);
        self.parts.insert(partition, Part::new(files, manifest));
        Ok(())
    }

    fn put(&mut self, partition: u32, records: &RecordSet) -> Result<usize, ConnectorError> {
        self.begin()?;
        for (taken, record) in records.iter().enumerate() {
            let Some(part) = self.parts.get_mut(&partition) else { return Ok(taken) };
            if part.is_full() {
                return Ok(taken);
            }
            match self.mapping.row(record) {
                Some(Ok(row)) => self.write(partition, record.offset, row)?,
                Some(Err(cause)) => part.refuse(record, cause),
                None => part.skip(record.offset),
            }
        }
        Ok(records.len())
    }

    fn prepare(&mut self, due: Due) -> Result<Vec<Prepared>, ConnectorError> {
        self.begin()?;
        let mut prepared = Vec::new();
        for part in self.parts.values_mut() {
            if part.is_due(due, &self.config) {
                prepared.extend(part.prepare(&self.mapping.columns)?);
            }
        }
        Ok(prepared)
    }

    fn publish(&mut self) -> Result<(), ConnectorError> {
        self.parts.values_mut().try_for_each(Part::publish)
    }

    fn counts(&self) -> SinkCounts {
        self.parts.values().map(Part::counts).fold(SinkCounts::default(), |sum, part| SinkCounts {
            delivered: sum.delivered + part.delivered,
            skipped: sum.skipped + part.skipped,
        })
    }
}

/// Whether the process, or the system, has no descriptor left for another file.
fn lacks_descriptors(error: &ConnectorError) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    let ConnectorError::Io { source, .. } = error else { return false };
    cfg!(unix) && matches!(source.raw_os_error(), Some(ENFILE | EMFILE))
}

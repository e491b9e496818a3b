//! The Parquet sink: rows to files by topic partition and event time; a partition's files are finished together.
//!
//! # Invariants
//!
//! - A file holds rows of one topic partition and one directory, and its names tell which.
//! - A commit names all files of its partition that are not published, so nothing else in staging counts.
//! - At most [`OPEN_FILES_MAX`] files are open, and at most [`COMMIT_FILES_MAX`] are in one partition's commit.

use crate::{
    config::{Mapping, ParquetSinkBuilder, ParquetSinkConfig, wrong},
    open_file::{Finished, OpenFile},
    staging::{Manifest, PartitionFiles, StagedFile},
};
use arrow_schema::SchemaRef;
use headwater_core::{
    ports::{
        connector::{ConnectorError, Due, Guarantee, Prepared, SinkConnector, SinkCounts},
        log::Committed,
    },
    record::RecordSet,
};
use std::{collections::BTreeMap, fmt, mem, path::PathBuf, time::Duration};

/// Files open at once: what bounds memory when event times are spread wide.
const OPEN_FILES_MAX: usize = 64;
/// Files in one partition's commit: their list must fit into an offset's metadata, 1 MiB.
const COMMIT_FILES_MAX: usize = 1_024;

/// Typed rows in Parquet files, exactly once.
pub struct ParquetSink<T> {
    config: ParquetSinkConfig,
    mapping: Mapping<T>,
    schema: SchemaRef,
    parts: BTreeMap<u32, Part<T>>,
}

/// What one topic partition has under way.
#[derive(Debug)]
struct Part<T> {
    files: PartitionFiles,
    open: BTreeMap<Option<i64>, OpenFile<T>>,
    finished: Vec<Finished>,
    /// One past the last record taken; `None` when nothing was taken since the last commit.
    next: Option<i64>,
    skipped: u64,
    /// When records that are not committed were first seen by a `prepare`.
    since: Option<Duration>,
    /// The last commit, or the one under way.
    manifest: Manifest,
    awaits_publishing: bool,
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
        let schema = mapping.columns.schema();
        Self { config, mapping, schema, parts: BTreeMap::new() }
    }

    /// Finishes the open file with the most rows, if there are too many open.
    fn bound_open_files(&mut self) -> Result<(), ConnectorError> {
        if self.parts.values().map(|part| part.open.len()).sum::<usize>() <= OPEN_FILES_MAX {
            return Ok(());
        }
        let candidates = self.parts.iter().flat_map(|(partition, part)| {
            part.open.iter().map(move |(bucket, file)| (file.rows(), *partition, *bucket))
        });
        let Some((_, partition, bucket)) = candidates.max() else { return Ok(()) };
        let Some(part) = self.parts.get_mut(&partition) else { return Ok(()) };
        part.finish(bucket, &self.mapping)
    }
}

impl<T: Send + 'static> SinkConnector for ParquetSink<T> {
    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn validate(&self) -> Result<(), ConnectorError> {
        let dir = &self.config.dir;
        if dir.exists() && !dir.is_dir() {
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
        let files = PartitionFiles::open(&self.config.dir, topic, partition)?;
        let manifest = match resume {
            None => Manifest::default(),
            Some(committed) => sonic_rs::from_str(&committed.metadata).map_err(|error| ConnectorError::Position {
                name: format!("{topic}-{partition}"),
                detail: format!("its metadata is not a Parquet sink's ({error}); give this sink a name of its own"),
            })?,
        };
        files.publish(&manifest.files)?;
        files.discard_staged()?;
        self.parts.insert(partition, Part::new(files, manifest));
        Ok(())
    }

    fn put(&mut self, partition: u32, records: &RecordSet) -> Result<usize, ConnectorError> {
        for (taken, record) in records.iter().enumerate() {
            let Some(part) = self.parts.get_mut(&partition) else { return Ok(0) };
            if part.open.len() + part.finished.len() >= COMMIT_FILES_MAX {
                return Ok(taken);
            }
            let opened = match (self.mapping.decode)(record) {
                Some(row) => {
                    let bucket = self.config.partition_by.bucket((self.mapping.event_time)(&row));
                    let dir = || self.config.partition_by.path(bucket);
                    let (file, opened) = part.file(bucket, dir, record.offset, &self.schema)?;
                    file.push(record.offset, row, &self.mapping)?;
                    opened
                }
                None => {
                    part.skipped += 1;
                    false
                }
            };
            part.next = Some(record.offset + 1);
            if opened {
                self.bound_open_files()?;
            }
        }
        Ok(records.len())
    }

    fn prepare(&mut self, due: Due) -> Result<Vec<Prepared>, ConnectorError> {
        let mut prepared = Vec::new();
        for part in self.parts.values_mut() {
            if part.is_due(due, &self.config) {
                prepared.extend(part.prepare(&self.mapping)?);
            }
        }
        Ok(prepared)
    }

    fn publish(&mut self) -> Result<(), ConnectorError> {
        for part in self.parts.values_mut().filter(|part| part.awaits_publishing) {
            part.files.publish(&part.manifest.files)?;
            part.awaits_publishing = false;
        }
        Ok(())
    }

    fn counts(&self) -> SinkCounts {
        let published = self.parts.values().filter(|part| !part.awaits_publishing);
        published.fold(SinkCounts::default(), |sum, part| SinkCounts {
            delivered: sum.delivered + part.manifest.rows,
            skipped: sum.skipped + part.manifest.skipped,
        })
    }
}

impl<T> Part<T> {
    fn new(files: PartitionFiles, manifest: Manifest) -> Self {
        let (open, finished) = (BTreeMap::new(), Vec::new());
        Self {
            files,
            open,
            finished,
            next: None,
            skipped: 0,
            since: None,
            manifest,
            awaits_publishing: false,
        }
    }

    /// The open file of a directory, and whether it was opened for this record.
    fn file(
        &mut self,
        bucket: Option<i64>,
        dir: impl FnOnce() -> String,
        offset: i64,
        schema: &SchemaRef,
    ) -> Result<(&mut OpenFile<T>, bool), ConnectorError> {
        use std::collections::btree_map::Entry;
        match self.open.entry(bucket) {
            Entry::Occupied(open) => Ok((open.into_mut(), false)),
            Entry::Vacant(vacant) => {
                let staged = StagedFile { dir: dir(), first: offset, last: offset };
                let file = OpenFile::create(self.files.staged(&staged), schema, staged)?;
                Ok((vacant.insert(file), true))
            }
        }
    }

    fn finish(&mut self, bucket: Option<i64>, mapping: &Mapping<T>) -> Result<(), ConnectorError> {
        if let Some(file) = self.open.remove(&bucket) {
            self.finished.push(file.finish(self.files.topic(), self.files.partition(), mapping)?);
        }
        Ok(())
    }

    fn is_due(&mut self, due: Due, config: &ParquetSinkConfig) -> bool {
        if self.next.is_none() {
            return false;
        }
        let Due::Reached(now) = due else { return true };
        let since = *self.since.get_or_insert(now);
        now.saturating_sub(since) >= Duration::from_millis(config.roll_interval_ms)
            || self
                .open
                .values()
                .any(|file| file.rows() >= config.roll_rows || file.bytes() >= config.roll_bytes)
            || self.finished.len() >= OPEN_FILES_MAX
    }

    /// Finishes every file and says what to commit; nothing if nothing was taken.
    fn prepare(&mut self, mapping: &Mapping<T>) -> Result<Option<Prepared>, ConnectorError> {
        let Some(offset) = self.next else { return Ok(None) };
        while let Some(bucket) = self.open.keys().next().copied() {
            self.finish(bucket, mapping)?;
        }
        self.files.sync_staging()?;
        let finished = mem::take(&mut self.finished);
        self.manifest.rows += finished.iter().map(|file| file.rows).sum::<u64>();
        self.manifest.skipped += mem::take(&mut self.skipped);
        self.manifest.files = finished.into_iter().map(|file| file.staged).collect();
        self.manifest.files.sort_by(|a, b| (&a.dir, a.first).cmp(&(&b.dir, b.first)));
        (self.next, self.since, self.awaits_publishing) = (None, None, true);
        let metadata =
            sonic_rs::to_string(&self.manifest).map_err(|error| ConnectorError::Encode {
                name: format!("{}-{}", self.files.topic(), self.files.partition()),
                detail: error.to_string(),
            })?;
        let committed = Committed { offset, metadata };
        Ok(Some(Prepared {
            partition: self.files.partition(),
            committed,
            dead_letters: Vec::new(),
        }))
    }
}

//! What one topic partition has under way: its open files, what is finished, what is refused, and what was committed.

use crate::{
    Columns,
    config::{Measured, ParquetSinkConfig},
    open_file::{Finished, OpenFile},
    staging::{Manifest, PartitionFiles, StagedFile},
};
use headwater_core::{
    dead_letter::DeadLetter,
    ports::{
        connector::{ConnectorError, Due, Prepared, SinkCounts},
        log::Committed,
    },
    record::RecordRef,
};
use std::{collections::BTreeMap, mem, time::Duration};

/// Files in one commit: their list must fit into an offset's metadata, 1 MiB.
const COMMIT_FILES_MAX: usize = 1_024;
/// Finished files at which a commit is due.
const FINISHED_FILES_MAX: usize = 64;
/// Bytes of dead letters at which a commit is due: they are in memory until then.
const DEAD_LETTER_BYTES_MAX: usize = 1 << 20;

/// What one topic partition has under way.
#[derive(Debug)]
pub(crate) struct Part<T> {
    files: PartitionFiles,
    open: BTreeMap<Option<i64>, OpenFile<T>>,
    finished: Vec<Finished>,
    /// One past the last record taken; `None` when nothing was taken since the last commit.
    next: Option<i64>,
    skipped: u64,
    dead_letters: Vec<DeadLetter>,
    dead_letter_bytes: usize,
    /// When records that are not committed were first seen by a `prepare`.
    since: Option<Duration>,
    /// The last commit, or the one under way.
    manifest: Manifest,
    awaits_publishing: bool,
    is_recovered: bool,
}

impl<T> Part<T> {
    pub(crate) fn new(files: PartitionFiles, manifest: Manifest) -> Self {
        Self {
            files,
            open: BTreeMap::new(),
            finished: Vec::new(),
            next: None,
            skipped: 0,
            dead_letters: Vec::new(),
            dead_letter_bytes: 0,
            since: None,
            manifest,
            awaits_publishing: false,
            is_recovered: false,
        }
    }

    /// Once, before its first file: publishes what was committed before this run, and deletes what was not.
    pub(crate) fn recover(&mut self) -> Result<(), ConnectorError> {
        if !self.is_recovered {
            self.files.publish(&self.manifest.files)?;
            self.files.discard_staged()?;
            self.is_recovered = true;
        }
        Ok(())
    }

    /// Whether it takes nothing more before the next commit.
    pub(crate) fn is_full(&self) -> bool {
        self.open.len() + self.finished.len() >= COMMIT_FILES_MAX
            || self.dead_letter_bytes >= DEAD_LETTER_BYTES_MAX
    }

    /// The number of open files.
    pub(crate) fn open_files(&self) -> usize {
        self.open.len()
    }

    /// The rows of its fullest open file, and which one that is.
    pub(crate) fn fullest(&self) -> Option<(u64, Option<i64>)> {
        self.open.iter().map(|(bucket, file)| (file.rows(), *bucket)).max()
    }

    /// Whether a directory's file is open.
    pub(crate) fn is_open(&self, bucket: Option<i64>) -> bool {
        self.open.contains_key(&bucket)
    }

    /// Opens a file in a directory, for the record at `offset`.
    pub(crate) fn create(
        &mut self,
        bucket: Option<i64>,
        dir: String,
        offset: i64,
        columns: &Columns<T>,
    ) -> Result<(), ConnectorError> {
        let staged = StagedFile { dir, first: offset, last: offset };
        let file = OpenFile::create(self.files.staged(&staged), columns, staged)?;
        self.open.insert(bucket, file);
        Ok(())
    }

    /// Adds the row of the record at `offset` to the open file of a directory.
    pub(crate) fn push(
        &mut self,
        bucket: Option<i64>,
        offset: i64,
        row: Measured<T>,
        columns: &Columns<T>,
    ) -> Result<(), ConnectorError> {
        if let Some(file) = self.open.get_mut(&bucket) {
            file.push(offset, row, columns)?;
            self.next = Some(offset + 1);
        }
        Ok(())
    }

    /// Leaves the record at `offset` out.
    pub(crate) fn skip(&mut self, offset: i64) {
        self.skipped += 1;
        self.next = Some(offset + 1);
    }

    /// Makes a dead letter of a record that readers could not read.
    pub(crate) fn refuse(&mut self, record: RecordRef<'_>, cause: String) {
        self.dead_letter_bytes += record.size_bytes() + cause.len();
        self.dead_letters.push(DeadLetter::of(&record, "OutOfRange", cause));
        self.next = Some(record.offset + 1);
    }

    /// Finishes the open file of a directory.
    pub(crate) fn finish(
        &mut self,
        bucket: Option<i64>,
        columns: &Columns<T>,
    ) -> Result<(), ConnectorError> {
        if let Some(file) = self.open.remove(&bucket) {
            self.finished.push(file.finish(self.files.topic(), self.files.partition(), columns)?);
        }
        Ok(())
    }

    pub(crate) fn is_due(&mut self, due: Due, config: &ParquetSinkConfig) -> bool {
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
            || self.finished.len() >= FINISHED_FILES_MAX
            || self.is_full()
    }

    /// Finishes every file and says what to commit; nothing if nothing was taken.
    pub(crate) fn prepare(
        &mut self,
        columns: &Columns<T>,
    ) -> Result<Option<Prepared>, ConnectorError> {
        let Some(offset) = self.next else { return Ok(None) };
        while let Some(bucket) = self.open.keys().next().copied() {
            self.finish(bucket, columns)?;
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
        self.dead_letter_bytes = 0;
        Ok(Some(Prepared {
            partition: self.files.partition(),
            committed: Committed { offset, metadata },
            dead_letters: mem::take(&mut self.dead_letters),
        }))
    }

    /// Gives what is committed its final names.
    pub(crate) fn publish(&mut self) -> Result<(), ConnectorError> {
        if self.awaits_publishing {
            self.files.publish(&self.manifest.files)?;
            self.awaits_publishing = false;
        }
        Ok(())
    }

    /// What is committed and published.
    pub(crate) fn counts(&self) -> SinkCounts {
        if self.awaits_publishing {
            return SinkCounts::default();
        }
        SinkCounts { delivered: self.manifest.rows, skipped: self.manifest.skipped }
    }
}

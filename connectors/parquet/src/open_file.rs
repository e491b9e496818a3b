//! One file being written: rows are buffered, turned into columns in batches, and encoded in row groups of bounded size.
//!
//! # Invariants
//!
//! - Memory is bounded by bytes, whatever the rows are like: those buffered, and those of the row group being encoded.

use crate::{Columns, config::Measured, staging::StagedFile};
use arrow_schema::SchemaRef;
use headwater_core::ports::connector::ConnectorError;
use parquet::{
    arrow::ArrowWriter,
    basic::Compression,
    errors::ParquetError,
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties},
    },
    schema::types::ColumnPath,
};
use std::{
    fmt,
    fs::File,
    io,
    path::{Path, PathBuf},
};

/// Rows that are turned into columns at once.
const BATCH_ROWS: usize = 1_024;
/// Bytes of rows at which they are, if that comes first.
const BATCH_BYTES: usize = 1 << 20;
/// Bytes of the encoder at which a row group is ended.
const ROW_GROUP_BYTES: usize = 8 << 20;

/// A file that takes rows.
pub(crate) struct OpenFile<T> {
    writer: ArrowWriter<File>,
    schema: SchemaRef,
    path: PathBuf,
    buffered: Vec<T>,
    /// What the buffered rows take, as they were measured.
    buffered_bytes: usize,
    rows: u64,
    staged: StagedFile,
}

impl<T> fmt::Debug for OpenFile<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenFile")
            .field("path", &self.path)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl<T> OpenFile<T> {
    /// Creates the file of a record at `staged.first`.
    pub(crate) fn create(
        path: PathBuf,
        columns: &Columns<T>,
        staged: StagedFile,
    ) -> Result<Self, ConnectorError> {
        let file =
            File::create(&path).map_err(|source| ConnectorError::io("create", &path, source))?;
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(concat!("headwater ", env!("CARGO_PKG_VERSION")).to_owned());
        // The writer leaves NaN out of them, and duckdb, to which NaN is the largest number, then skips rows that it asks for.
        for name in columns.floats() {
            let path = ColumnPath::from(name);
            properties = properties.set_column_statistics_enabled(path, EnabledStatistics::None);
        }
        let schema = columns.schema();
        let writer =
            ArrowWriter::try_new(file, SchemaRef::clone(&schema), Some(properties.build()));
        let writer = writer.map_err(|error| failed(&path, &error))?;
        Ok(Self { writer, schema, path, buffered: Vec::new(), buffered_bytes: 0, rows: 0, staged })
    }

    /// Adds the row of the record at `offset`.
    pub(crate) fn push(
        &mut self,
        offset: i64,
        row: Measured<T>,
        columns: &Columns<T>,
    ) -> Result<(), ConnectorError> {
        self.buffered.push(row.row);
        self.buffered_bytes = self.buffered_bytes.saturating_add(row.bytes);
        self.rows += 1;
        self.staged.last = offset;
        if self.buffered.len() < BATCH_ROWS && self.buffered_bytes < BATCH_BYTES {
            return Ok(());
        }
        self.encode(columns)
    }

    /// Rows so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes so far, those of rows that are not encoded yet included.
    pub(crate) fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size() + self.buffered_bytes) as u64
    }

    /// Bytes that it holds in memory.
    pub(crate) fn memory(&self) -> usize {
        self.buffered_bytes + self.writer.memory_size()
    }

    /// Ends the file and puts it on the disk.
    pub(crate) fn finish(
        mut self,
        topic: &str,
        partition: u32,
        columns: &Columns<T>,
    ) -> Result<Finished, ConnectorError> {
        self.encode(columns)?;
        let facts = [
            ("headwater.topic", topic.to_owned()),
            ("headwater.partition", partition.to_string()),
            ("headwater.first_offset", self.staged.first.to_string()),
            ("headwater.last_offset", self.staged.last.to_string()),
        ];
        for (key, value) in facts {
            self.writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
        }
        self.writer.finish().map_err(|error| failed(&self.path, &error))?;
        let synced = self.writer.inner().sync_all();
        synced.map_err(|source| ConnectorError::io("sync", &self.path, source))?;
        Ok(Finished { staged: self.staged, rows: self.rows })
    }

    fn encode(&mut self, columns: &Columns<T>) -> Result<(), ConnectorError> {
        if self.buffered.is_empty() {
            return Ok(());
        }
        let batch = columns.batch(&self.schema, &self.buffered).map_err(ParquetError::from);
        let batch = batch.map_err(|error| failed(&self.path, &error))?;
        self.buffered.clear();
        self.buffered_bytes = 0;
        self.writer.write(&batch).map_err(|error| failed(&self.path, &error))?;
        if self.memory() >= ROW_GROUP_BYTES {
            self.writer.flush().map_err(|error| failed(&self.path, &error))?;
        }
        Ok(())
    }
}

/// A file that is whole and on the disk, under its staging name.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) staged: StagedFile,
    pub(crate) rows: u64,
}

/// What the encoder says as what a caller acts on: a full disk is the file system's refusal.
fn failed(path: &Path, error: &ParquetError) -> ConnectorError {
    if let ParquetError::External(inner) = error
        && let Some(io) = inner.downcast_ref::<io::Error>()
    {
        return ConnectorError::io("write", path, io::Error::new(io.kind(), io.to_string()));
    }
    ConnectorError::Encode { name: path.display().to_string(), detail: error.to_string() }
}

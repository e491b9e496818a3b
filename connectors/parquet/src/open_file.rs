//! One file being written: rows are buffered, turned into columns in batches, and encoded in row groups of bounded size.

use crate::{config::Mapping, staging::StagedFile};
use arrow_schema::SchemaRef;
use headwater_core::ports::connector::ConnectorError;
use parquet::{
    arrow::ArrowWriter,
    basic::Compression,
    errors::ParquetError,
    file::{metadata::KeyValue, properties::WriterProperties},
};
use std::{
    fmt,
    fs::File,
    io,
    path::{Path, PathBuf},
};

/// Rows that are turned into columns at once.
const BATCH_ROWS: usize = 1_024;
/// Encoded bytes at which a row group is ended: what an open file holds in memory.
const ROW_GROUP_BYTES: usize = 8 << 20;

/// A file that takes rows.
pub(crate) struct OpenFile<T> {
    writer: ArrowWriter<File>,
    schema: SchemaRef,
    path: PathBuf,
    buffered: Vec<T>,
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
        schema: &SchemaRef,
        staged: StagedFile,
    ) -> Result<Self, ConnectorError> {
        let file =
            File::create(&path).map_err(|source| ConnectorError::io("create", &path, source))?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(concat!("headwater ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let writer = ArrowWriter::try_new(file, SchemaRef::clone(schema), Some(properties));
        let writer = writer.map_err(|error| failed(&path, &error))?;
        Ok(Self {
            writer,
            schema: SchemaRef::clone(schema),
            path,
            buffered: Vec::new(),
            rows: 0,
            staged,
        })
    }

    /// Adds the row of the record at `offset`.
    pub(crate) fn push(
        &mut self,
        offset: i64,
        row: T,
        mapping: &Mapping<T>,
    ) -> Result<(), ConnectorError> {
        self.buffered.push(row);
        self.rows += 1;
        self.staged.last = offset;
        if self.buffered.len() < BATCH_ROWS { Ok(()) } else { self.encode(mapping) }
    }

    /// Rows so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes so far, without the rows that are not encoded yet.
    pub(crate) fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Ends the file and puts it on the disk.
    pub(crate) fn finish(
        mut self,
        topic: &str,
        partition: u32,
        mapping: &Mapping<T>,
    ) -> Result<Finished, ConnectorError> {
        self.encode(mapping)?;
        let facts = [
            ("headwater.topic", topic.to_owned()),
            ("headwater.partition", partition.to_string()),
            ("headwater.first_offset", self.staged.first.to_string()),
            ("headwater.last_offset", self.staged.last.to_string()),
        ];
        for (key, value) in facts {
            self.writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
        }
        let file = self.writer.into_inner().map_err(|error| failed(&self.path, &error))?;
        file.sync_all().map_err(|source| ConnectorError::io("sync", &self.path, source))?;
        Ok(Finished { staged: self.staged, rows: self.rows })
    }

    fn encode(&mut self, mapping: &Mapping<T>) -> Result<(), ConnectorError> {
        if self.buffered.is_empty() {
            return Ok(());
        }
        let batch = mapping.columns.batch(&self.schema, &self.buffered).map_err(ParquetError::from);
        let batch = batch.map_err(|error| failed(&self.path, &error))?;
        self.buffered.clear();
        self.writer.write(&batch).map_err(|error| failed(&self.path, &error))?;
        if self.writer.in_progress_size() >= ROW_GROUP_BYTES {
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

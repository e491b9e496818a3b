//! What the file source commits with its byte position, and the check that an input is the one it belongs to.
//!
//! An input is recognised by a checksum of its first bytes, as many as were taken when the position was committed and at
//! most 64 KiB; its name does not matter.

use headwater_core::{
    ports::{
        connector::{ConnectorError, Resume},
        log::Committed,
    },
    record::Timestamp,
};
use serde::{Deserialize, Serialize};

/// So many first bytes of an input tell it from others.
pub(crate) const PREFIX_BYTES: usize = 64 << 10;

/// The metadata of a committed position.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Metadata {
    /// Bytes that the checksum covers.
    pub(crate) prefix_bytes: u64,
    /// CRC-32C of these bytes.
    pub(crate) prefix_crc32c: u32,
    /// The file's size on the disk, for a regular file.
    pub(crate) size: Option<u64>,
    /// The timestamp that a line without one gets.
    pub(crate) timestamp: Timestamp,
}

/// What tells a run's input from others.
#[derive(Debug)]
pub(crate) struct Identity {
    prefix: Vec<u8>,
    size: Option<u64>,
}

impl Identity {
    /// An input of which nothing was read; `size` for a regular file.
    pub(crate) fn of_size(size: Option<u64>) -> Self {
        Self { prefix: Vec::new(), size }
    }

    /// Adds the next bytes of the input, from its beginning on.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let room = PREFIX_BYTES.saturating_sub(self.prefix.len());
        self.prefix.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    /// How many first bytes it has seen.
    pub(crate) fn bytes(&self) -> u64 {
        self.prefix.len() as u64
    }

    /// What to commit at a byte position.
    pub(crate) fn at(
        &self,
        position: u64,
        timestamp: Timestamp,
    ) -> Result<Committed, ConnectorError> {
        let covered = usize::try_from(position)
            .ok()
            .and_then(|end| self.prefix.get(..end))
            .unwrap_or(&self.prefix);
        let metadata = Metadata {
            prefix_bytes: covered.len() as u64,
            prefix_crc32c: crc32c::crc32c(covered),
            size: self.size,
            timestamp,
        };
        let metadata = sonic_rs::to_string(&metadata).map_err(|error| ConnectorError::Encode {
            name: "the position".to_owned(),
            detail: error.to_string(),
        })?;
        Ok(Committed { offset: i64::try_from(position).unwrap_or(i64::MAX), metadata })
    }

    /// Whether this input is the one that `committed` belongs to, as far as both were read.
    pub(crate) fn check(
        &self,
        input: &str,
        committed: &Metadata,
        resume: &Resume,
    ) -> Result<(), ConnectorError> {
        let read = self.prefix.len() as u64;
        if read < committed.prefix_bytes || crc32c::crc32c(&self.prefix) != committed.prefix_crc32c
        {
            return Err(differs(input, "it is another input than the one that was being read"));
        }
        if resume.ended && self.size != committed.size {
            return Err(differs(input, "it has changed since it was read to its end"));
        }
        Ok(())
    }
}

/// Reads the metadata of a committed position.
pub(crate) fn metadata_of(input: &str, resume: &Resume) -> Result<Metadata, ConnectorError> {
    sonic_rs::from_str(&resume.position.metadata).map_err(|error| {
        differs(input, &format!("its committed position cannot be read ({error})"))
    })
}

fn differs(input: &str, what: &str) -> ConnectorError {
    let detail =
        format!("{what}; give the same input again, or use another data directory for this one");
    ConnectorError::Position { name: input.to_owned(), detail }
}

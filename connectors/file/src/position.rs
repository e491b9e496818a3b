//! What the file source commits with its byte position, and the check that an input is the one it belongs to.
//!
//! An input is recognised by the checksum of all its content up to the position; its name does not matter.

use crate::lines::LineStart;
use headwater_core::{
    ports::{
        connector::{ConnectorError, Resume},
        log::Committed,
    },
    record::Timestamp,
};
use serde::{Deserialize, Serialize};

/// Size of a regular file on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileSize {
    pub(crate) bytes: u64,
    /// Whether they are gzip: only sizes of one form can be compared.
    pub(crate) is_gzip: bool,
}

/// The metadata of a committed position.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Metadata {
    /// CRC-32C of the content up to the position.
    pub(crate) crc32c: u32,
    /// The size on the disk that a regular file had, unless it was found damaged.
    pub(crate) size: Option<FileSize>,
    /// The timestamp that a line without one gets.
    pub(crate) timestamp: Timestamp,
}

impl Metadata {
    /// What to commit at a byte position.
    pub(crate) fn at(&self, position: u64) -> Result<Committed, ConnectorError> {
        let metadata = sonic_rs::to_string(self).map_err(|error| ConnectorError::Encode {
            name: "the position".to_owned(),
            detail: error.to_string(),
        })?;
        Ok(Committed { offset: i64::try_from(position).unwrap_or(i64::MAX), metadata })
    }
}

/// What an input must be for a run to go on where another one stopped; anything, for a first run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expected {
    /// Where to go on.
    pub(crate) start: LineStart,
    /// Whether the input had ended there.
    pub(crate) ended: bool,
    /// What was committed.
    pub(crate) metadata: Metadata,
}

impl Expected {
    /// Reads a committed position of the input of this name.
    pub(crate) fn read(input: &str, resume: &Resume) -> Result<Self, ConnectorError> {
        let unread =
            |why: String| differs(input, &format!("its committed position cannot be read ({why})"));
        let metadata: Metadata = sonic_rs::from_str(&resume.position.metadata)
            .map_err(|error| unread(error.to_string()))?;
        let position = u64::try_from(resume.position.offset)
            .map_err(|_| unread(format!("{} is no position", resume.position.offset)))?;
        let start = LineStart { position, crc32c: metadata.crc32c };
        Ok(Self { start, ended: resume.ended, metadata })
    }

    /// Refuses a file that is shorter than it was when a part of it was read. Whether one that had ended has changed shows
    /// in its content.
    pub(crate) fn check_size(
        &self,
        input: &str,
        size: Option<FileSize>,
    ) -> Result<(), ConnectorError> {
        if let (Some(size), Some(before)) = (size, self.metadata.size)
            && size.is_gzip == before.is_gzip
            && size.bytes < before.bytes
            && self.start.position > 0
            && !self.ended
        {
            let (size, before) = (size.bytes, before.bytes);
            let what =
                format!("it is another input, or was cut: it has {size} bytes and had {before}");
            return Err(differs(input, &what));
        }
        Ok(())
    }

    /// Refuses an input whose content up to the position, or to its end before that, is `found`.
    pub(crate) fn check_content(
        &self,
        input: &str,
        found: LineStart,
    ) -> Result<(), ConnectorError> {
        if found.position < self.start.position {
            let missing = self.start.position - found.position;
            let what = format!(
                "it is another input, or was cut: it ends {missing} bytes before the position to resume from"
            );
            return Err(differs(input, &what));
        }
        if found != self.start {
            return Err(differs(
                input,
                "it is another input than the one that was being read, or was changed",
            ));
        }
        Ok(())
    }
}

/// The error of an input that is not the one that a position is of.
pub(crate) fn differs(input: &str, what: &str) -> ConnectorError {
    let detail =
        format!("{what}; give the same input again, or use another data directory for this one");
    ConnectorError::Position { name: input.to_owned(), detail }
}

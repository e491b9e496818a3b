//! Why a connector cannot continue, and what a caller can do about it.

use super::RetryAfter;
use crate::record::SetFull;
use std::{io, path::PathBuf, sync::Arc};

/// Kind of a [`ConnectorError`]: what a caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectorErrorKind {
    /// A setting cannot be used: change it.
    Config,
    /// The input is damaged or incomplete: put a whole one in its place, then start again.
    Input,
    /// The system does not let the input be read: give access to it, or solve what it says, then start again.
    Unreadable,
    /// The committed position is of another input, or the input has changed: give that one as it was, or use another name
    /// or log.
    Position,
    /// What lies in the output is not what was committed: restore it or the log, or write to another place.
    Output,
    /// A file system or the other side failed: start again once it takes calls.
    Unavailable,
    /// The other side refuses every call, whatever it carries: check address, credentials and settings.
    Refused,
    /// The connector cannot take or write these records: change it, or what it is given.
    Unsupported,
    /// The other side wants no more: an end, not a failure.
    Closed,
}

/// Failure that keeps a connector from continuing.
///
/// ```
/// use headwater_core::ports::connector::{ConnectorError, ConnectorErrorKind};
///
/// let error = ConnectorError::Config { setting: "url".into(), detail: "give one".into() };
/// assert_eq!(error.kind(), ConnectorErrorKind::Config);
/// assert_eq!(error.to_string(), "url: give one");
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectorError {
    /// A setting cannot be used; change it.
    #[error("{setting}: {detail}")]
    Config {
        /// The setting.
        setting: String,
        /// What is wrong, and what to do.
        detail: String,
    },

    /// The file system refused.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },

    /// The input cannot be read past a position; what lies before it was taken.
    #[error("{input} cannot be read past byte {position}: {detail}")]
    Input {
        /// The input.
        input: String,
        /// How far it was read.
        position: u64,
        /// What is wrong, and what to do.
        detail: String,
    },

    /// The system does not let an input be opened or read.
    #[error("could not {action} {input}")]
    Unreadable {
        /// What was tried.
        action: &'static str,
        /// The input.
        input: String,
        /// What the system said.
        source: Arc<io::Error>,
    },

    /// The committed position is of another input, or was written by another program.
    #[error("{name} cannot resume where the last run stopped: {detail}")]
    Position {
        /// The input, or the partition.
        name: String,
        /// What is wrong, and what to do.
        detail: String,
    },

    /// What lies in the output is not what was committed: records of another log, or fewer than were written.
    #[error("{output} does not go with the committed positions: {detail}")]
    Output {
        /// The output.
        output: String,
        /// What is wrong, and what to do.
        detail: String,
    },

    /// The input lost or changed what was read of it, while it was being read.
    #[error("{input} changed while it was read: {detail}")]
    Changed {
        /// The input.
        input: String,
        /// What changed, and what to do.
        detail: String,
    },

    /// The other side failed or could not be reached; the same call may succeed later.
    #[error("{remote}: {detail}")]
    Remote {
        /// The other side, without credentials.
        remote: String,
        /// What it said.
        detail: String,
        /// When it wants the call again, if it said so.
        retry_after: Option<RetryAfter>,
    },

    /// The other side refuses every call, whatever records it carries.
    #[error("{remote}: {detail}")]
    Refused {
        /// The other side, without credentials.
        remote: String,
        /// What it said, and what to do.
        detail: String,
    },

    /// Records cannot be written in the sink's format.
    #[error("could not encode records of {name}: {detail}")]
    Encode {
        /// Which records.
        name: String,
        /// What is wrong.
        detail: String,
    },

    /// A source's batch holds all that it can.
    #[error("a source's batch is full; set its position and return from the poll")]
    BatchFull,

    /// The other side has closed and wants no more; this is an end, not a failure.
    #[error("{0} was closed by its reader")]
    Closed(String),
}

impl From<SetFull> for ConnectorError {
    fn from(_: SetFull) -> Self {
        Self::BatchFull
    }
}

impl ConnectorError {
    /// Kind of the error: what a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ConnectorErrorKind {
        match self {
            Self::Config { .. } => ConnectorErrorKind::Config,
            Self::Input { .. } => ConnectorErrorKind::Input,
            Self::Position { .. } | Self::Changed { .. } => ConnectorErrorKind::Position,
            Self::Unreadable { .. } => ConnectorErrorKind::Unreadable,
            Self::Output { .. } => ConnectorErrorKind::Output,
            Self::Io { .. } | Self::Remote { .. } => ConnectorErrorKind::Unavailable,
            Self::Refused { .. } => ConnectorErrorKind::Refused,
            Self::Encode { .. } | Self::BatchFull => ConnectorErrorKind::Unsupported,
            Self::Closed(_) => ConnectorErrorKind::Closed,
        }
    }

    /// Makes the error of a file system that refused `action` on `path`.
    pub fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { action, path: path.into(), source: Arc::new(source) }
    }

    /// Whether the same call may succeed later with nothing changed.
    ///
    /// A call on a file is not repeated: half of it may have been done, and no connector over files knows how to do the
    /// other half.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Remote { .. })
    }

    /// When the other side wants the call again, if it said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<RetryAfter> {
        if let Self::Remote { retry_after, .. } = self { *retry_after } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_on_a_file_that_was_interrupted_is_not_repeated() {
        let interrupted = io::Error::from(io::ErrorKind::Interrupted);
        assert!(!ConnectorError::io("sync", "staged", interrupted).is_retriable());
    }
}

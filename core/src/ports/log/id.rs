//! Which log this is, and which history its records have.

use std::{fmt, sync::Arc};

/// A log's identity, fixed when the log is made and kept over restarts: with it, state that was derived from a log can
/// tell that it belongs to it. For Apache Kafka the `cluster.id`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId(Arc<str>);

impl LogId {
    /// The identity with this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Identifies a record with all that lie in front of it in its partition: two are equal as long as the log holds the same records
/// up to there.
///
/// With it, state that was derived from a log can tell that the log went on from elsewhere: from a copy, say. For Apache Kafka
/// the topic's id and the leader epoch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RecordEpoch(Arc<str>);

impl RecordEpoch {
    /// The epoch with this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text, to be stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RecordEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

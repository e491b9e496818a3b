//! The port of sources.

use super::{ConnectorError, Guarantee, Retry, SourceBatch};
use crate::ports::log::Committed;
use std::{fmt, time::Duration};

/// Fills a topic from a foreign system.
pub trait SourceConnector: Send + fmt::Debug {
    /// What is read, for people and for dead letters: a path, a URL.
    fn input(&self) -> String;

    /// Whether each of its positions leads back to the same records.
    fn guarantee(&self) -> Guarantee;

    /// Checks the configuration against the world, without taking anything.
    ///
    /// # Errors
    ///
    /// What is wrong and what to do about it.
    fn validate(&self) -> Result<(), ConnectorError>;

    /// Starts, or goes on behind a position that an earlier run gave. `ended` says that this position was the end.
    ///
    /// # Errors
    ///
    /// The input cannot be opened, or is not the one that the position is of.
    fn open(&mut self, resume: Option<&Resume>) -> Result<(), ConnectorError>;

    /// Adds what there is to `out`, until [`SourceBatch::is_full`]; never waits for long.
    ///
    /// # Errors
    ///
    /// The input failed. What was given before counts as given: the next poll goes on after it.
    fn poll(&mut self, out: &mut SourceBatch) -> Result<SourceStatus, ConnectorError>;

    /// How far it is.
    fn share(&self) -> InputShare {
        InputShare::default()
    }

    /// How a retriable failure is tried again.
    fn retry(&self) -> Retry {
        Retry::default()
    }
}

/// Where an earlier run of a source stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The position that it gave last.
    pub position: Committed,
    /// Whether it had ended there: it will not be polled again.
    pub ended: bool,
}

/// Whether a source has more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceStatus {
    /// Perhaps: poll again at once.
    More,
    /// Nothing now; poll again after this time.
    Idle(Duration),
    /// Nothing ever again.
    Ended,
}

/// How much of its input a source has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InputShare {
    /// Units read, such as bytes of a file.
    pub read: u64,
    /// Units in all, where that is known.
    pub total: Option<u64>,
}

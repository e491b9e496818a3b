//! The port of sinks.

use super::{ConnectorError, Guarantee, Retry};
use crate::{dead_letter::DeadLetter, ports::log::Committed, record::RecordSet};
use std::{fmt, time::Duration};

/// Drains a topic into a foreign system.
pub trait SinkConnector: Send + fmt::Debug {
    /// What is promised across crashes.
    fn guarantee(&self) -> Guarantee;

    /// Checks the configuration against the world, without delivering anything.
    ///
    /// # Errors
    ///
    /// What is wrong and what to do about it.
    fn validate(&self) -> Result<(), ConnectorError>;

    /// Starts a partition, behind the position committed last: finishes what was committed and drops what was not.
    /// Called once for each partition of `topic`, before any other call.
    ///
    /// # Errors
    ///
    /// What was committed cannot be finished.
    fn open(
        &mut self,
        topic: &str,
        partition: u32,
        resume: Option<&Committed>,
    ) -> Result<(), ConnectorError>;

    /// Takes records of a partition, in order, and returns how many of them, from the front. If it takes fewer than
    /// all, it is [prepared](Self::prepare) and given the rest again.
    ///
    /// # Errors
    ///
    /// If the error [is retriable](ConnectorError::is_retriable), none of the records was taken.
    fn put(&mut self, partition: u32, records: &RecordSet) -> Result<usize, ConnectorError>;

    /// Stages or delivers what is due, durably, and says up to where.
    ///
    /// # Errors
    ///
    /// If the error [is retriable](ConnectorError::is_retriable), the same call goes on where it stopped.
    fn prepare(&mut self, due: Due) -> Result<Vec<Prepared>, ConnectorError>;

    /// What was last prepared is committed: makes it visible.
    ///
    /// # Errors
    ///
    /// It could not be made visible; opening again will.
    fn published(&mut self) -> Result<(), ConnectorError> {
        Ok(())
    }

    /// What became of the records that it has taken, those of earlier runs included where it can know.
    fn counts(&self) -> SinkCounts {
        SinkCounts::default()
    }

    /// How a retriable failure is tried again.
    fn retry(&self) -> Retry {
        Retry::default()
    }
}

/// Which of a sink's partitions to prepare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Those that reached a limit of size, count or time; the time since some fixed moment is given.
    Reached(Duration),
    /// All that hold anything.
    All,
}

/// A partition whose records up to a position are staged or delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The partition.
    pub partition: u32,
    /// Where to go on behind them, and what the sink needs to know about them after a crash.
    pub committed: Committed,
    /// Records among them that the other side refused for good.
    pub dead_letters: Vec<DeadLetter>,
}

/// What a sink has done with the committed records of all runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SinkCounts {
    /// Delivered.
    pub delivered: u64,
    /// Left out on purpose.
    pub skipped: u64,
}

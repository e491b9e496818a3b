//! The connector port: sources that fill a topic, and sinks that drain one.
//!
//! A connector is driven by one thread of the engine's connector runtime, which alone talks to the log: what a source gives and the
//! position behind it become durable in one commit, and so do a sink's position and the list of what it staged. A
//! connector keeps no clock and does not wait: time comes in with the calls, and a call that cannot go on now says so.
//!
//! # Invariants of an implementation
//!
//! - A source that is opened with a position it gave goes on behind the last record it gave before that position.
//! - A sink shows nothing that is not committed: [`SinkConnector::prepare`] stages or delivers, the runtime commits what
//!   it returns, and [`SinkConnector::published`] makes it visible. An [exactly-once](Guarantee::ExactlyOnce) sink
//!   finishes or undoes from the committed metadata alone what a crash interrupted.
//!
//! # Not here
//!
//! Waiting, retries, commits and threads: the engine's connector runtime.

use super::log::Committed;
use crate::{
    dead_letter::DeadLetter,
    record::{Headers, RecordSet, RecordSetBuilder, SetFull, Timestamp, murmur2_partition},
    time::Clock,
};
use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

/// Records in a source batch at most.
const RECORDS_MAX: usize = 8_192;
/// Bytes in a source batch at which it counts as full.
const BYTES_MAX: usize = 1 << 20;

/// What a connector promises about each record when processes are killed and restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    /// It arrives exactly once.
    ExactlyOnce,
    /// It arrives, after a crash perhaps again.
    AtLeastOnce,
}

/// How a failed call that may succeed later is tried again: waits that double, until their sum reaches a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The first wait.
    pub delay_first: Duration,
    /// No wait is longer.
    pub delay_max: Duration,
    /// Waits of one call in all; then the task fails.
    pub budget: Duration,
}

impl Default for Retry {
    /// From 100 ms to 10 s, for 5 minutes.
    fn default() -> Self {
        Self {
            delay_first: Duration::from_millis(100),
            delay_max: Duration::from_secs(10),
            budget: Duration::from_secs(300),
        }
    }
}

impl Retry {
    /// How long to wait before try number `attempt` (1 is the first try again), or `None` once the budget is used up.
    #[must_use]
    pub fn delay(&self, attempt: u32) -> Option<Duration> {
        let nth = |n: u32| self.delay_first.saturating_mul(1 << n.min(30)).min(self.delay_max);
        let spent = (1..attempt).fold(Duration::ZERO, |sum, n| sum.saturating_add(nth(n - 1)));
        let wait = nth(attempt.saturating_sub(1));
        (spent.saturating_add(wait) <= self.budget).then_some(wait)
    }
}

/// What a source has for the next commit: records placed in partitions, dead letters, and the position behind them.
#[derive(Debug)]
pub struct SourceBatch {
    now: Timestamp,
    elapsed: Duration,
    partitions: Vec<RecordSetBuilder>,
    unkeyed_to: usize,
    records: usize,
    records_max: usize,
    dead_letters: Vec<DeadLetter>,
    bytes: usize,
    position: Option<Committed>,
}

impl SourceBatch {
    /// An empty batch for a topic of so many partitions; records without a key go to partition `unkeyed_to`.
    #[must_use]
    pub fn new(partitions: u32, unkeyed_to: u32, clock: &dyn Clock) -> Self {
        let partitions: Vec<_> =
            (0..partitions.max(1)).map(|_| RecordSetBuilder::default()).collect();
        Self {
            now: clock.now(),
            elapsed: clock.elapsed(),
            unkeyed_to: unkeyed_to as usize % partitions.len(),
            partitions,
            records: 0,
            records_max: RECORDS_MAX,
            dead_letters: Vec::new(),
            bytes: 0,
            position: None,
        }
    }

    /// The same, but full with so many records; 8,192 unless set.
    #[must_use]
    pub fn with_records_max(mut self, records_max: usize) -> Self {
        self.records_max = records_max;
        self
    }

    /// Takes the time anew, before another poll adds to this batch.
    pub fn refresh_time(&mut self, clock: &dyn Clock) {
        (self.now, self.elapsed) = (clock.now(), clock.elapsed());
    }

    /// The wall clock at this poll, in ms.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Time since some fixed moment at this poll; never goes back.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Adds a record, in the partition that Kafka's default partitioner gives its key.
    ///
    /// # Errors
    ///
    /// [`ConnectorError::BatchFull`] past 4 GiB in a partition; end the batch at [`is_full`](Self::is_full).
    pub fn push(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers,
    ) -> Result<(), ConnectorError> {
        let count = u32::try_from(self.partitions.len()).unwrap_or(u32::MAX);
        let place = key.map_or(self.unkeyed_to, |key| murmur2_partition(key, count) as usize);
        let records = self.partitions.get_mut(place).ok_or(ConnectorError::BatchFull)?;
        records.push(timestamp, key, value, headers)?;
        self.records += 1;
        self.bytes += key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        Ok(())
    }

    /// Adds a record that cannot be taken.
    pub fn dead_letter(&mut self, letter: DeadLetter) {
        self.bytes += letter.value.as_ref().map_or(0, Vec::len) + letter.cause.len();
        self.dead_letters.push(letter);
    }

    /// Sets where to go on after everything in this batch.
    ///
    /// A batch without a position is not committed but given to the next poll, which adds to it; a full one fails the
    /// source.
    pub fn set_position(&mut self, position: Committed) {
        self.position = Some(position);
    }

    /// Whether the batch should be ended: 8,192 records or 1 MiB.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.records + self.dead_letters.len() >= self.records_max || self.bytes >= BYTES_MAX
    }

    /// Whether it holds neither records nor dead letters.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0 && self.dead_letters.is_empty()
    }

    /// Whether a position was set.
    #[must_use]
    pub fn has_position(&self) -> bool {
        self.position.is_some()
    }

    /// The number of records, dead letters not counted.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records
    }

    /// The batch's parts: records by partition, dead letters, position.
    #[must_use]
    pub fn into_parts(self) -> (Vec<RecordSet>, Vec<DeadLetter>, Option<Committed>) {
        let sets = self.partitions.into_iter().map(RecordSetBuilder::build).collect();
        (sets, self.dead_letters, self.position)
    }
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

/// Why a connector could not go on.
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
    #[error("{input} cannot be read behind byte {position}: {detail}")]
    Input {
        /// The input.
        input: String,
        /// How far it was read.
        position: u64,
        /// What is wrong, and what to do.
        detail: String,
    },

    /// The committed position is of another input, or was written by another program.
    #[error("{name} cannot go on where the last run stopped: {detail}")]
    Position {
        /// The input, or the partition.
        name: String,
        /// What is wrong, and what to do.
        detail: String,
    },

    /// The other side failed or could not be reached.
    #[error("{remote}: {detail}")]
    Remote {
        /// The other side.
        remote: String,
        /// What it said.
        detail: String,
        /// Whether the same call may succeed later.
        retriable: bool,
    },

    /// Records cannot be written in the sink's format.
    #[error("could not encode records of {name}: {detail}")]
    Encode {
        /// Which records.
        name: String,
        /// What is wrong.
        detail: String,
    },

    /// A batch holds all that it can.
    #[error("a batch is full; end it and start another")]
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
    /// The file system refused `action` on `path`.
    pub fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { action, path: path.into(), source: Arc::new(source) }
    }

    /// Whether the same call may succeed later with nothing changed.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Remote { retriable, .. } => *retriable,
            // Half of it may have been done, and no connector over files knows how to do the other half.
            Self::Io { .. }
            | Self::Config { .. }
            | Self::Input { .. }
            | Self::Position { .. }
            | Self::Encode { .. }
            | Self::BatchFull
            | Self::Closed(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_limit_until_the_budget_is_spent() {
        let retry = Retry {
            delay_first: Duration::from_millis(100),
            delay_max: Duration::from_millis(300),
            budget: Duration::from_millis(900),
        };
        let waits: Vec<_> =
            (1..).map_while(|attempt| retry.delay(attempt)).map(|d| d.as_millis()).collect();
        assert_eq!(waits, [100, 200, 300, 300]);
    }

    #[test]
    fn a_call_on_a_file_that_was_interrupted_is_not_repeated() {
        let interrupted = io::Error::from(io::ErrorKind::Interrupted);
        assert!(!ConnectorError::io("sync", "staged", interrupted).is_retriable());
    }
}

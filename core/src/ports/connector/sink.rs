//! The port of sinks.

use super::{ConnectorError, Guarantee, Retry};
use crate::{dead_letter::DeadLetter, ports::log::Committed, record::RecordSet};
use std::{fmt, time::Duration};

/// Drains a topic into a foreign system.
///
/// The runtime opens each partition once. Then it puts records, prepares what is due, commits what was prepared, and
/// has it published:
///
/// ```text
/// put(0, [a b]) → put(1, [c]) → prepare → [0 up to 2, 1 up to 1] → (commit) → publish → put …
/// ```
///
/// ```
/// use headwater_core::{
///     ports::{
///         connector::{ConnectorError, Due, Guarantee, Prepared, SinkConnector},
///         log::Committed,
///     },
///     record::{Headers, RecordSet, RecordSetBuilder},
/// };
/// use std::{collections::BTreeMap, mem};
///
/// /// Collects values as text; what is not yet prepared is lost in a crash and comes again.
/// #[derive(Debug, Default)]
/// struct Collect {
///     text: String,
///     next: BTreeMap<u32, i64>,
/// }
///
/// impl SinkConnector for Collect {
///     fn guarantee(&self) -> Guarantee {
///         Guarantee::AtLeastOnce
///     }
///
///     fn validate(&self) -> Result<(), ConnectorError> {
///         Ok(())
///     }
///
///     fn open(&mut self, _: &str, _: u32, _: Option<&Committed>) -> Result<(), ConnectorError> {
///         Ok(())
///     }
///
///     fn put(&mut self, partition: u32, records: &RecordSet) -> Result<usize, ConnectorError> {
///         for record in records.iter() {
///             let value = String::from_utf8_lossy(record.value.unwrap_or_default());
///             self.text += &format!("{partition}/{}: {value}\n", record.offset);
///             self.next.insert(partition, record.offset + 1);
///         }
///         Ok(records.len())
///     }
///
///     fn prepare(&mut self, _: Due) -> Result<Vec<Prepared>, ConnectorError> {
///         let prepared = mem::take(&mut self.next).into_iter().map(|(partition, offset)| Prepared {
///             partition,
///             committed: Committed { offset, metadata: String::new() },
///             dead_letters: Vec::new(),
///         });
///         Ok(prepared.collect())
///     }
/// }
///
/// let mut records = RecordSetBuilder::default();
/// records.push(0, None, Some(b"to be"), &Headers::new())?;
/// records.push(0, None, Some(b"or not"), &Headers::new())?;
/// let mut sink = Collect::default();
/// sink.open("lines", 3, None)?;
/// assert_eq!(sink.put(3, &records.build().at_offset(57))?, 2);
/// let prepared = sink.prepare(Due::All)?;
/// sink.publish()?;
/// assert_eq!(sink.text, "3/57: to be\n3/58: or not\n");
/// assert_eq!(prepared[0].committed.offset, 59);
/// # Ok::<(), ConnectorError>(())
/// ```
pub trait SinkConnector: Send + fmt::Debug {
    /// Guarantee that holds across crashes.
    fn guarantee(&self) -> Guarantee;

    /// Checks the configuration against the world, without delivering anything.
    ///
    /// # Errors
    ///
    /// [`ConnectorError::Config`] for a setting that cannot be used; [`ConnectorError::Io`] or
    /// [`ConnectorError::Remote`] if the other side cannot be reached.
    fn validate(&self) -> Result<(), ConnectorError>;

    /// Opens a partition at the position committed last. What was committed is finished, and what was not is dropped, here or at
    /// the first call once all partitions are open.
    ///
    /// It is called once for each partition of `topic`, before any other call.
    ///
    /// # Errors
    ///
    /// [`ConnectorError::Position`] if what was committed is not this sink's; [`ConnectorError::Output`] if the output
    /// holds records that are not committed, or has lost those that are; [`ConnectorError::Io`] or
    /// [`ConnectorError::Remote`] if it cannot be finished.
    fn open(
        &mut self,
        topic: &str,
        partition: u32,
        resume: Option<&Committed>,
    ) -> Result<(), ConnectorError>;

    /// Takes records of a partition, in order, and returns how many of them, from the front.
    ///
    /// If it takes fewer than all, it is [prepared](Self::prepare) and given the rest again.
    ///
    /// # Errors
    ///
    /// [`ConnectorError::Io`], [`ConnectorError::Remote`], [`ConnectorError::Encode`], or [`ConnectorError::Closed`] if
    /// nobody reads any more. If the error [is retriable](ConnectorError::is_retriable), none of the records was taken.
    fn put(&mut self, partition: u32, records: &RecordSet) -> Result<usize, ConnectorError>;

    /// Stages or delivers what is due, durably, and returns the position of each partition that has one to commit.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put). If the error [is retriable](ConnectorError::is_retriable), the same call resumes where it
    /// stopped and returns all that is to be committed.
    fn prepare(&mut self, due: Due) -> Result<Vec<Prepared>, ConnectorError>;

    /// Hands out what was answered before [`prepare`](Self::prepare) failed for good or was given up.
    ///
    /// The runtime commits it before it ends, so that the next run does not deliver it again.
    fn take_answered(&mut self) -> Vec<Prepared> {
        Vec::new()
    }

    /// Makes visible what was last prepared, which is committed now.
    ///
    /// # Errors
    ///
    /// [`ConnectorError::Io`] or [`ConnectorError::Remote`] if that failed; [`open`](Self::open) will try it again.
    fn publish(&mut self) -> Result<(), ConnectorError> {
        Ok(())
    }

    /// Counts of the records that it has taken, those of earlier runs included where it can know.
    fn counts(&self) -> SinkCounts {
        SinkCounts::default()
    }

    /// Counts the requests that the other side has answered for good, refusals included.
    ///
    /// When it has grown, what fails is another request, whose waits begin anew.
    fn answers(&self) -> u64 {
        0
    }

    /// Waits between the tries of a call that failed and is retriable.
    fn retry(&self) -> Retry {
        Retry::default()
    }
}

/// Partitions of a sink that are to be prepared.
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
    /// One past the last of the records, and what the sink needs to know about them after a crash.
    pub committed: Committed,
    /// Records among them that the other side refused for good.
    pub dead_letters: Vec<DeadLetter>,
}

/// Counts of a sink's committed records, of all runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SinkCounts {
    /// Delivered.
    pub delivered: u64,
    /// Left out on purpose.
    pub skipped: u64,
}

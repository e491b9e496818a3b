//! The port of sources.

use super::{ConnectorError, Guarantee, Retry, SourceBatch};
use crate::ports::log::Committed;
use std::{fmt, time::Duration};

/// Fills a topic from a foreign system.
///
/// The runtime opens a source once, then polls it until it has ended or is stopped. What a poll adds to its batch is
/// committed with the position that the poll sets. Nothing interrupts a call: what may take long, such as waiting for a
/// pipe's writer, belongs on a thread of the source's own, and polls say that there is nothing yet.
///
/// ```
/// use headwater_core::{
///     ports::{
///         connector::{
///             ConnectorError, Guarantee, Resume, SourceBatch, SourceConnector, SourceStatus,
///         },
///         log::Committed,
///     },
///     record::Headers,
///     time::ManualClock,
/// };
///
/// /// The words of a text; a position is the number of words before it.
/// #[derive(Debug)]
/// struct Words {
///     text: &'static str,
///     next: usize,
/// }
///
/// impl SourceConnector for Words {
///     fn input(&self) -> String {
///         "a text".to_owned()
///     }
///
///     fn guarantee(&self) -> Guarantee {
///         Guarantee::ExactlyOnce
///     }
///
///     fn validate(&self) -> Result<(), ConnectorError> {
///         Ok(())
///     }
///
///     fn open(&mut self, resume: Option<&Resume>) -> Result<(), ConnectorError> {
///         self.next = resume.map_or(0, |resume| resume.position.offset as usize);
///         Ok(())
///     }
///
///     fn poll(&mut self, out: &mut SourceBatch) -> Result<SourceStatus, ConnectorError> {
///         let mut words = self.text.split(' ').skip(self.next);
///         while !out.is_full() {
///             let Some(word) = words.next() else { return Ok(SourceStatus::Ended) };
///             out.push(out.now(), None, Some(word.as_bytes()), &Headers::new())?;
///             self.next += 1;
///             out.set_position(Committed { offset: self.next as i64, metadata: String::new() });
///         }
///         Ok(SourceStatus::More)
///     }
/// }
///
/// let mut source = Words { text: "to be or not", next: 0 };
/// source.open(None)?;
/// let clock = ManualClock::at(0);
/// let mut batches = Vec::new();
/// loop {
///     let mut batch = SourceBatch::new(1, 0, &clock).with_records_max(3);
///     let status = source.poll(&mut batch)?;
///     let parts = batch.into_parts();
///     let values = parts.records[0].iter().filter_map(|record| record.value);
///     let words: Vec<_> = values.map(String::from_utf8_lossy).collect();
///     batches.push(format!("{}: {}", parts.position.unwrap().offset, words.join(" ")));
///     if status == SourceStatus::Ended {
///         break;
///     }
/// }
/// assert_eq!(batches, ["3: to be or", "4: not"]);
/// # Ok::<(), ConnectorError>(())
/// ```
pub trait SourceConnector: Send + fmt::Debug {
    /// Input that is read, for people and for dead letters: a path, a URL.
    fn input(&self) -> String;

    /// Guarantee that each of its positions leads back to the same records, or does not.
    fn guarantee(&self) -> Guarantee;

    /// Checks the configuration against the world, without taking anything.
    ///
    /// # Errors
    ///
    /// [`ConnectorError::Config`] for a setting that cannot be used; [`ConnectorError::Unreadable`] or
    /// [`ConnectorError::Remote`] if the input cannot be reached.
    fn validate(&self) -> Result<(), ConnectorError>;

    /// Opens the input at its beginning, or after the position that an earlier run gave.
    ///
    /// # Errors
    ///
    /// [`ConnectorError::Position`] if the input is not the one that the position is of; [`ConnectorError::Unreadable`]
    /// or [`ConnectorError::Remote`] if it cannot be opened. A source that needs to wait for its input says so when it is
    /// polled.
    fn open(&mut self, resume: Option<&Resume>) -> Result<(), ConnectorError>;

    /// Adds what there is to `out`, until [`SourceBatch::is_full`]; never waits for long.
    ///
    /// # Errors
    ///
    /// [`ConnectorError::Input`], [`ConnectorError::Unreadable`] or [`ConnectorError::Remote`] if the input failed. What
    /// was added before counts as given: the next poll resumes after it.
    fn poll(&mut self, out: &mut SourceBatch) -> Result<SourceStatus, ConnectorError>;

    /// Share of the input that was read.
    fn share(&self) -> InputShare {
        InputShare::default()
    }

    /// Waits between the tries of a call that failed and is retriable.
    fn retry(&self) -> Retry {
        Retry::default()
    }
}

/// Position at which an earlier run of a source stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The position that it gave last.
    pub position: Committed,
    /// Whether it had ended there. It is polled all the same, until it ends again.
    pub ended: bool,
}

/// Status of a source after a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceStatus {
    /// There may be more: poll again at once.
    More,
    /// There is nothing now; poll again after this time.
    Idle(Duration),
    /// There is nothing ever again.
    Ended,
}

/// Share of its input that a source has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InputShare {
    /// Units read, such as bytes of a file.
    pub read: u64,
    /// Units in all, where that is known.
    pub total: Option<u64>,
}

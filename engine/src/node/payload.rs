//! What travels along an edge of the graph: a batch whose type only its two ends know.
//!
//! The engine brings one form, [`Rows`](crate::processor::Rows): typed records in a vector. A columnar form implements the
//! same trait.

use headwater_core::{metrics::Spread, record::Timestamp};
use std::any::Any;

/// What a row has beside its key and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The place of the record that it descends from, in the set that was decoded: for dead letters. [`NO_ORIGIN`] for a
    /// row that was made from none.
    pub origin: u32,
    /// Event time in ms.
    pub timestamp: Timestamp,
    /// The operator time before it: below a repartition it decides what is late and what closes. The smallest timestamp
    /// there is, where the topic carries none.
    pub at: Timestamp,
}

/// The origin of a row that was made from no record.
pub const NO_ORIGIN: u32 = u32::MAX;

/// A batch on an edge: rows, each with its timestamp, the operator time before it, and the record that it descends from.
///
/// ```
/// use headwater_engine::{node::Payload, processor::Record};
///
/// // Typed rows are the engine's own payload.
/// let mut rows = vec![Record::new("a", 1, 5), Record::new("b", 2, 3), Record::new("c", 3, 9)];
/// assert_eq!(rows.begin_time(2), 9);
/// let mut stamps = Vec::new();
/// rows.stamps(&mut stamps);
/// let times: Vec<_> = stamps.iter().map(|stamp| stamp.at).collect();
/// assert_eq!(times, [2, 5, 5], "the largest timestamp before each row");
/// ```
pub trait Payload: Any + Send {
    /// The number of rows.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows at the given places, in that order, as a batch of their own.
    fn select(&self, rows: &[u32]) -> Box<dyn Payload>;

    /// A copy, for a second reader.
    fn duplicate(&self) -> Box<dyn Payload>;

    /// Lets operator time follow the rows: each gets the largest timestamp before it, `time` to begin with. Gives the
    /// largest after the last one.
    fn begin_time(&mut self, time: Timestamp) -> Timestamp;

    /// Lowers the operator time of rows to what `limit` gives for their origins, where it is larger.
    fn cap_time(&mut self, limit: &dyn Fn(u32) -> Timestamp);

    /// The largest timestamp; the smallest there is without rows.
    fn largest_timestamp(&self) -> Timestamp;

    /// How old the rows are at `now`, in ms by their timestamps.
    fn ages(&self, now: Timestamp) -> Spread {
        let mut stamps = Vec::new();
        self.stamps(&mut stamps);
        ages(now, stamps.iter().map(|stamp| stamp.timestamp))
    }

    /// How late the rows are, in ms: how far each is behind the largest timestamp up to it, `time` to begin with.
    fn lateness(&self, time: Timestamp) -> Spread {
        let mut stamps = Vec::new();
        self.stamps(&mut stamps);
        lateness(time, stamps.iter().map(|stamp| stamp.timestamp))
    }

    /// Appends the stamp of every row.
    fn stamps(&self, out: &mut Vec<Stamp>);

    /// Cuts the batch so that it can be taken from the front.
    fn into_pending(self: Box<Self>) -> Box<dyn Pending>;

    /// For the downcast at the other end of the edge.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

/// How old records of these timestamps are at `now`, in ms; one of the future is younger than 0.
#[expect(clippy::cast_precision_loss, reason = "no record is that old")]
pub(crate) fn ages(now: Timestamp, timestamps: impl Iterator<Item = Timestamp>) -> Spread {
    timestamps.map(|timestamp| now.saturating_sub(timestamp) as f64).collect()
}

/// How far each of these timestamps is behind the largest up to it, `time` to begin with, in ms.
#[expect(clippy::cast_precision_loss, reason = "no record is that late")]
pub(crate) fn lateness(mut time: Timestamp, timestamps: impl Iterator<Item = Timestamp>) -> Spread {
    let (mut count, mut sum, mut min, mut max) = (0, 0.0, Timestamp::MAX, 0);
    for timestamp in timestamps {
        time = time.max(timestamp);
        let late = time.saturating_sub(timestamp);
        (count, sum) = (count + 1, sum + late as f64);
        (min, max) = (late.min(min), late.max(max));
    }
    Spread::of_all(count, sum, min as f64, max as f64)
}

/// How far a run of rows may go.
#[derive(Debug, Clone, Copy)]
pub struct RunLimit {
    /// Rows with a larger timestamp wait.
    pub timestamp_max: Timestamp,
    /// No more rows than this.
    pub rows_max: usize,
}

/// A batch that is consumed from the front.
pub trait Pending: Send {
    /// The number of rows left.
    fn len(&self) -> usize;

    /// Whether none are left.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Timestamp and origin of the first row that is left.
    fn head(&self) -> Option<(Timestamp, u32)>;

    /// How many rows from the front lie within `limit`.
    fn run_length(&self, limit: RunLimit) -> usize;

    /// Takes the first `rows` rows.
    fn take(&mut self, rows: usize) -> Box<dyn Payload>;
}

//! What travels along an edge of the graph: a batch whose type only its two ends know.
//!
//! One form exists today, [`Rows`]: typed records in a vector. A columnar form implements the same trait.

use super::Record;
use headwater_core::{record::Timestamp, serde::Data};
use std::any::Any;

/// A batch on an edge: rows, each with its timestamp, the operator time before it, and the record that it descends from.
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
    /// largest behind the last one.
    fn begin_time(&mut self, time: Timestamp) -> Timestamp;

    /// Lowers the operator time of rows to `limit`, where it is larger.
    fn cap_time(&mut self, limit: Timestamp);

    /// The largest timestamp; the smallest there is without rows.
    fn largest_timestamp(&self) -> Timestamp;

    /// Calls `each` with origin and timestamp of every row.
    fn for_each_row(&self, each: &mut dyn FnMut(u32, Timestamp));

    /// Cuts the batch so that it can be taken from the front.
    fn into_pending(self: Box<Self>) -> Box<dyn Pending>;

    /// For the downcast at the other end of the edge.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
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

/// Typed rows.
pub type Rows<K, V> = Vec<Record<K, V>>;

impl<K: Data, V: Data> Payload for Rows<K, V> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn select(&self, rows: &[u32]) -> Box<dyn Payload> {
        let rows: Self = rows.iter().filter_map(|row| self.get(*row as usize)).cloned().collect();
        Box::new(rows)
    }

    fn duplicate(&self) -> Box<dyn Payload> {
        Box::new(self.clone())
    }

    fn begin_time(&mut self, mut time: Timestamp) -> Timestamp {
        for row in self {
            row.at = time;
            time = time.max(row.timestamp);
        }
        time
    }

    fn cap_time(&mut self, limit: Timestamp) {
        self.iter_mut().for_each(|row| row.at = row.at.min(limit));
    }

    fn largest_timestamp(&self) -> Timestamp {
        self.iter().map(|row| row.timestamp).max().unwrap_or(Timestamp::MIN)
    }

    fn for_each_row(&self, each: &mut dyn FnMut(u32, Timestamp)) {
        self.iter().for_each(|row| each(row.origin, row.timestamp));
    }

    fn into_pending(self: Box<Self>) -> Box<dyn Pending> {
        Box::new((*self).into_iter())
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl<K: Data, V: Data> Pending for std::vec::IntoIter<Record<K, V>> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn head(&self) -> Option<(Timestamp, u32)> {
        self.as_slice().first().map(|record| (record.timestamp, record.origin))
    }

    fn run_length(&self, limit: RunLimit) -> usize {
        let RunLimit { timestamp_max, rows_max } = limit;
        let within = |row: &&Record<K, V>| row.timestamp <= timestamp_max;
        self.as_slice().iter().take(rows_max).take_while(within).count()
    }

    fn take(&mut self, rows: usize) -> Box<dyn Payload> {
        let rows: Rows<K, V> = if rows >= self.as_slice().len() {
            std::mem::take(self).collect()
        } else {
            Iterator::take(self.by_ref(), rows).collect()
        };
        Box::new(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(timestamps: &[Timestamp]) -> Box<Rows<(), ()>> {
        Box::new(timestamps.iter().map(|timestamp| Record::new((), (), *timestamp)).collect())
    }

    #[test]
    fn time_follows_the_rows_and_never_goes_back() {
        let mut rows = rows(&[5, 3, 9, 1]);
        assert_eq!(rows.begin_time(4), 9);
        assert_eq!(rows.iter().map(|row| row.at).collect::<Vec<_>>(), [4, 5, 5, 9]);
        rows.cap_time(5);
        assert_eq!(rows.iter().map(|row| row.at).collect::<Vec<_>>(), [4, 5, 5, 5]);
    }

    #[test]
    fn a_run_ends_before_a_later_rival() {
        let limit = |timestamp_max, rows_max| RunLimit { timestamp_max, rows_max };
        let pending = rows(&[1, 4, 2, 8, 9]).into_pending();
        assert_eq!(pending.run_length(limit(Timestamp::MAX, usize::MAX)), 5);
        assert_eq!(pending.run_length(limit(4, usize::MAX)), 3);
        assert_eq!(pending.run_length(limit(Timestamp::MAX, 1)), 1);
    }
}

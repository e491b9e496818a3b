//! Typed rows as a payload.

use super::Record;
use crate::node::{Payload, Pending, RunLimit, Stamp, ages, lateness};
use headwater_core::{metrics::Spread, record::Timestamp, serde::Data};
use std::any::Any;

/// Typed rows.
///
/// ```
/// use headwater_engine::{node::Payload, processor::{Record, Rows}};
///
/// let rows: Rows<&str, i64> = vec![Record::new("a", 1, 5), Record::new("b", 2, 3)];
/// assert_eq!(Payload::largest_timestamp(&rows), 5);
/// let last = rows.select(&[1]).into_any().downcast::<Rows<&str, i64>>().unwrap();
/// assert_eq!((last.len(), last[0].key), (1, "b"));
/// ```
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

    fn cap_time(&mut self, limit: &dyn Fn(u32) -> Timestamp) {
        self.iter_mut().for_each(|row| row.at = row.at.min(limit(row.origin)));
    }

    fn largest_timestamp(&self) -> Timestamp {
        self.iter().map(|row| row.timestamp).max().unwrap_or(Timestamp::MIN)
    }

    fn ages(&self, now: Timestamp) -> Spread {
        ages(now, self.iter().map(|row| row.timestamp))
    }

    fn lateness(&self, time: Timestamp) -> Spread {
        lateness(time, self.iter().map(|row| row.timestamp))
    }

    fn stamps(&self, out: &mut Vec<Stamp>) {
        out.extend(self.iter().map(Record::stamp));
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
        rows.cap_time(&|_| 5);
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

//! Rows as columns.

use headwater_core::{record::Timestamp, serde::Data};
use headwater_engine::{
    broken,
    node::{Payload, Pending, RunLimit, Stamp},
    processor::ProcessorError,
};
use std::any::Any;

/// A batch of rows, a vector for each part of a row; all are equally long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns<K, V> {
    /// Keys.
    pub keys: Vec<K>,
    /// Values.
    pub values: Vec<V>,
    /// Event times, in ms.
    pub timestamps: Vec<Timestamp>,
    /// The operator time before each row.
    pub times: Vec<Timestamp>,
    /// The place of the record that each row descends from.
    pub origins: Vec<u32>,
    /// The keys as the log wrote them, where that is how the store's serde does; empty where it may not be.
    pub written_keys: Vec<Option<Box<[u8]>>>,
}

impl<K, V> Default for Columns<K, V> {
    fn default() -> Self {
        let (keys, values, timestamps) = (Vec::new(), Vec::new(), Vec::new());
        let (times, origins, written_keys) = (Vec::new(), Vec::new(), Vec::new());
        Self { keys, values, timestamps, times, origins, written_keys }
    }
}

impl<K: Data, V: Data> Columns<K, V> {
    /// The columns in `payload`.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::OtherRows`] if it holds others.
    pub fn of(payload: Box<dyn Payload>) -> Result<Self, ProcessorError> {
        let columns = payload.into_any().downcast::<Self>();
        columns.map(|columns| *columns).map_err(|_| ProcessorError::OtherRows {
            wanted: std::any::type_name::<Self>().to_owned(),
        })
    }

    /// Adds a row.
    pub fn push(&mut self, key: K, value: V, stamp: Stamp) {
        self.keys.push(key);
        self.values.push(value);
        self.timestamps.push(stamp.timestamp);
        self.times.push(stamp.at);
        self.origins.push(stamp.origin);
    }

    /// The rows whose places `mask` holds for.
    #[must_use]
    pub fn masked(self, mask: &[bool]) -> Self {
        fn pick<T>(column: Vec<T>, mask: &[bool]) -> Vec<T> {
            column.into_iter().zip(mask).filter(|(_, keep)| **keep).map(|(it, _)| it).collect()
        }
        let Self { keys, values, timestamps, times, origins, written_keys } = self;
        Self {
            keys: pick(keys, mask),
            values: pick(values, mask),
            timestamps: pick(timestamps, mask),
            times: pick(times, mask),
            origins: pick(origins, mask),
            written_keys: pick(written_keys, mask),
        }
    }

    /// The stamp of a row.
    #[must_use]
    pub fn stamp(&self, row: usize) -> Stamp {
        Stamp {
            origin: *at(&self.origins, row),
            timestamp: *at(&self.timestamps, row),
            at: *at(&self.times, row),
        }
    }
}

/// The entry of a column at a row that is there.
pub(crate) fn at<T>(column: &[T], row: usize) -> &T {
    match column.get(row) {
        Some(entry) => entry,
        None => broken("columns are as long as their batch"),
    }
}

impl<K: Data, V: Data> Payload for Columns<K, V> {
    fn len(&self) -> usize {
        self.timestamps.len()
    }

    fn select(&self, rows: &[u32]) -> Box<dyn Payload> {
        let mut selected = Self::default();
        for row in rows.iter().map(|row| *row as usize) {
            let (key, value) = (at(&self.keys, row).clone(), at(&self.values, row).clone());
            selected.push(key, value, self.stamp(row));
            selected.written_keys.extend(self.written_keys.get(row).cloned());
        }
        Box::new(selected)
    }

    fn duplicate(&self) -> Box<dyn Payload> {
        Box::new(self.clone())
    }

    fn begin_time(&mut self, mut time: Timestamp) -> Timestamp {
        for (before, timestamp) in self.times.iter_mut().zip(&self.timestamps) {
            *before = time;
            time = time.max(*timestamp);
        }
        time
    }

    fn cap_time(&mut self, limit: &dyn Fn(u32) -> Timestamp) {
        let rows = self.times.iter_mut().zip(&self.origins);
        rows.for_each(|(time, origin)| *time = limit(*origin).min(*time));
    }

    fn largest_timestamp(&self) -> Timestamp {
        self.timestamps.iter().max().copied().unwrap_or(Timestamp::MIN)
    }

    fn stamps(&self, out: &mut Vec<Stamp>) {
        out.extend((0..self.timestamps.len()).map(|row| self.stamp(row)));
    }

    fn into_pending(self: Box<Self>) -> Box<dyn Pending> {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl<K: Data, V: Data> Pending for Columns<K, V> {
    fn len(&self) -> usize {
        self.timestamps.len()
    }

    fn head(&self) -> Option<(Timestamp, u32)> {
        self.timestamps.first().copied().zip(self.origins.first().copied())
    }

    fn run_length(&self, limit: RunLimit) -> usize {
        let within = |timestamp: &&Timestamp| **timestamp <= limit.timestamp_max;
        self.timestamps.iter().take(limit.rows_max).take_while(within).count()
    }

    fn take(&mut self, rows: usize) -> Box<dyn Payload> {
        let rows = rows.min(self.timestamps.len());
        Box::new(Self {
            keys: self.keys.drain(..rows).collect(),
            values: self.values.drain(..rows).collect(),
            timestamps: self.timestamps.drain(..rows).collect(),
            times: self.times.drain(..rows).collect(),
            origins: self.origins.drain(..rows).collect(),
            written_keys: self.written_keys.drain(..rows.min(self.written_keys.len())).collect(),
        })
    }
}

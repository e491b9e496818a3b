//! What travels along an edge of the graph: a batch whose type only its two ends know.
//!
//! One form exists today, [`Rows`]: typed records in a vector. A columnar form implements the same trait.

use super::Record;
use headwater_core::{record::Timestamp, serde::Data};
use std::any::Any;

/// A batch on an edge.
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

    /// Cuts the batch so that it can be taken from the front.
    fn into_pending(self: Box<Self>) -> Box<dyn Pending>;

    /// For the downcast at the other end of the edge.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

/// A batch that is consumed from the front.
pub trait Pending: Send {
    /// The number of rows left.
    fn len(&self) -> usize;

    /// Whether none are left.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Event time and origin of a row that is left.
    fn head(&self, row: usize) -> Option<(Timestamp, u32)>;

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

    fn head(&self, row: usize) -> Option<(Timestamp, u32)> {
        self.as_slice().get(row).map(|record| (record.timestamp, record.origin))
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

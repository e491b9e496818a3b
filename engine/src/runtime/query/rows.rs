//! The rows that a query answers with, in order and a page at a time.

use crate::store::OpenIterator;
use headwater_core::ports::state::{Order, Shard, StateError, Stored};
use std::{collections::VecDeque, fmt, iter::Peekable, ops::Bound, sync::Arc};

/// The bounds of a range of keys' bytes.
pub(super) type KeyBounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// A row, and the bytes by which rows are ordered.
pub(super) type Keyed<T> = Result<(Vec<u8>, T), StateError>;

type Part<T> = Peekable<Box<dyn Iterator<Item = Keyed<T>> + Send>>;

/// How many rows are read at a time, and the bytes from which on a page is full.
const PAGE_ROWS: usize = 256;
const PAGE_BYTES: usize = 64 << 10;

/// The rows that a query answers with, in order: read from a snapshot a page at a time as the iteration comes to them, so that
/// any number of rows takes little memory.
///
/// They stay those of one commit for as long as the iterator lives.
pub struct QueryIterator<T> {
    rows: Part<T>,
    order: Order,
    /// What counts it for as long as it is open.
    open: Option<OpenIterator>,
}

impl<T> fmt::Debug for QueryIterator<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryIterator").field("order", &self.order).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> QueryIterator<T> {
    /// Rows that come in the order of their bytes.
    pub(super) fn new(rows: impl Iterator<Item = Keyed<T>> + Send + 'static, order: Order) -> Self {
        let rows: Box<dyn Iterator<Item = Keyed<T>> + Send> = Box::new(rows);
        Self { rows: rows.peekable(), order, open: None }
    }

    /// The same rows, noted as open for as long as they are kept.
    pub(super) fn counted(self, open: Option<OpenIterator>) -> Self {
        Self { open, ..self }
    }

    pub(super) fn none() -> Self {
        Self::new(std::iter::empty(), Order::Ascending)
    }

    /// The same rows as something else.
    pub(super) fn map_rows<U: Send + 'static>(self, change: fn(T) -> U) -> QueryIterator<U> {
        let Self { rows, order, open } = self;
        let rows = rows.map(move |row| row.map(|(by, row)| (by, change(row))));
        QueryIterator::new(rows, order).counted(open)
    }

    /// Why there are none.
    pub(super) fn failed(error: StateError, order: Order) -> Self {
        Self::new(std::iter::once(Err(error)), order)
    }

    /// The rows of several, in one order: that of the first, which all have.
    pub(super) fn merged(parts: Vec<Self>) -> Self {
        let order = parts.first().map_or(Order::Ascending, |part| part.order);
        Self::new(Merge { parts, order }, order)
    }
}

impl<T> Iterator for QueryIterator<T> {
    type Item = Result<T, StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next().map(|row| row.map(|(_, row)| row))
    }
}

/// Several iterators in order as one in order.
struct Merge<T> {
    parts: Vec<QueryIterator<T>>,
    order: Order,
}

impl<T> Iterator for Merge<T> {
    type Item = Keyed<T>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut first: Option<(usize, Vec<u8>)> = None;
        for (place, part) in self.parts.iter_mut().enumerate() {
            let key = match part.rows.peek() {
                None => continue,
                Some(Ok((key, _))) => key,
                // What cannot be read is told at once.
                Some(Err(_)) => return part.rows.next(),
            };
            let is_first = first.as_ref().is_none_or(|(_, before)| match self.order {
                Order::Ascending => key < before,
                Order::Descending => key > before,
            });
            if is_first {
                first = Some((place, key.clone()));
            }
        }
        let (place, _) = first?;
        self.parts.get_mut(place)?.rows.next()
    }
}

/// The entries of a shard within a range, in order, a page at a time.
pub(super) struct Pages {
    shard: Arc<dyn Shard>,
    /// What was not read yet; none once all was.
    rest: Option<KeyBounds>,
    order: Order,
    page: VecDeque<(Vec<u8>, Stored)>,
}

impl Pages {
    pub(super) fn new(shard: &Arc<dyn Shard>, range: KeyBounds, order: Order) -> Self {
        Self { shard: Arc::clone(shard), rest: Some(range), order, page: VecDeque::new() }
    }

    fn read_page(&mut self) -> Result<(), StateError> {
        let Some((from, to)) = self.rest.take() else { return Ok(()) };
        let range = (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice));
        let mut bytes = 0;
        for entry in self.shard.scan(range, self.order)? {
            let (key, stored) = entry?;
            bytes += key.len() + stored.value.len();
            let is_full = self.page.len() + 1 >= PAGE_ROWS || bytes >= PAGE_BYTES;
            if is_full {
                self.rest = Some(match self.order {
                    Order::Ascending => (Bound::Excluded(key.clone()), to.clone()),
                    Order::Descending => (from.clone(), Bound::Excluded(key.clone())),
                });
            }
            self.page.push_back((key, stored));
            if is_full {
                break;
            }
        }
        Ok(())
    }
}

impl Iterator for Pages {
    type Item = Result<(Vec<u8>, Stored), StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty()
            && let Err(error) = self.read_page()
        {
            return Some(Err(error));
        }
        self.page.pop_front().map(Ok)
    }
}

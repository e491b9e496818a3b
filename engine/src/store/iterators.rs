//! Which iterators over stores are open, those of queries and of processors, and how long those were that are not.

use super::{StoreId, StoreIterator};
use crate::periods::Periods;
use hashbrown::HashMap;
use headwater_core::{metrics::Spread, ports::state::StateError, record::Timestamp, time::Clock};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Iterators over a task's part of a store, from when they are made until they are dropped: those of queries, and those that
/// processors are given. What operators of the DSL go through is none.
///
/// ```
/// use headwater_engine::runtime::IteratorMetrics;
///
/// let none = IteratorMetrics::default();
/// assert_eq!((none.open, none.oldest_open_since, none.duration.max()), (0, None, None));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct IteratorMetrics {
    /// How many are open now.
    pub open: usize,
    /// When the oldest of them was opened, by the wall clock in ms.
    pub oldest_open_since: Option<Timestamp>,
    /// How long those were open that were dropped over the last 30 to 60 s, in ns.
    pub duration: Spread,
}

#[derive(Debug, Default)]
struct Inner {
    /// When each was opened, by the wall clock, by its number.
    open: HashMap<StoreId, BTreeMap<u64, Timestamp>>,
    /// How many were opened.
    opened: u64,
    /// How long those were open that were dropped, in ns.
    durations: Periods<StoreId>,
}

/// The iterators over an application's stores that are open.
#[derive(Debug)]
pub(crate) struct OpenIterators {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
}

impl OpenIterators {
    pub(crate) fn new(clock: &Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock: Arc::clone(clock), inner: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that an iterator over a part of a store was opened, until what is given back is dropped.
    pub(crate) fn open(self: &Arc<Self>, store: &StoreId) -> OpenIterator {
        let part = store.clone();
        let (since, began) = (self.clock.now(), self.clock.elapsed());
        let mut inner = self.lock();
        let number = inner.opened;
        inner.opened += 1;
        inner.open.entry(part.clone()).or_default().insert(number, since);
        OpenIterator { all: Arc::clone(self), part, number, began }
    }

    /// What is known of those over a part of a store.
    pub(crate) fn of(&self, store: &Arc<str>, partition: u32) -> IteratorMetrics {
        let (inner, part) = (self.lock(), StoreId { name: Arc::clone(store), partition });
        let open = inner.open.get(&part);
        IteratorMetrics {
            open: open.map_or(0, BTreeMap::len),
            oldest_open_since: open.and_then(|open| open.values().min().copied()),
            duration: inner.durations.of(&part, self.clock.elapsed()),
        }
    }
}

/// An iterator that is open for as long as this is kept.
#[derive(Debug)]
pub(crate) struct OpenIterator {
    all: Arc<OpenIterators>,
    part: StoreId,
    number: u64,
    /// When it was opened, by the time that has gone by.
    began: Duration,
}

impl Drop for OpenIterator {
    fn drop(&mut self) {
        let now = self.all.clock.elapsed();
        let nanos = now.saturating_sub(self.began).as_secs_f64() * 1e9;
        let mut inner = self.all.lock();
        if let Some(open) = inner.open.get_mut(&self.part) {
            open.remove(&self.number);
        }
        inner.durations.turn(now);
        inner.durations.add(self.part.clone(), Spread::of(nanos));
    }
}

/// Counts the iterators over a task's part of a store. Example: [`StateStore`](super::StateStore).
#[derive(Debug, Clone)]
pub struct PartIterators {
    all: Arc<OpenIterators>,
    store: StoreId,
}

impl PartIterators {
    pub(crate) fn new(all: &Arc<OpenIterators>, store: StoreId) -> Self {
        Self { all: Arc::clone(all), store }
    }

    pub(super) fn open(&self) -> OpenIterator {
        self.all.open(&self.store)
    }
}

/// Rows, which are open for as long as they are kept.
struct Counted<I> {
    rows: I,
    _open: Option<OpenIterator>,
}

impl<I: Iterator> Iterator for Counted<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.rows.next()
    }
}

/// What a processor goes through.
pub(super) fn counted<'a, T>(
    rows: impl Iterator<Item = Result<T, StateError>> + 'a,
    open: Option<OpenIterator>,
) -> StoreIterator<'a, T> {
    Box::new(Counted { rows, _open: open })
}

//! Which iterators over queries are open, and how long those were that are not.

use crate::{
    runtime::{metrics::IteratorMetrics, periods::Periods},
    store::StoreId,
};
use hashbrown::HashMap;
use headwater_core::{metrics::Spread, record::Timestamp, time::Clock};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// A partition of a store.
type Part = (Arc<str>, u32);

#[derive(Debug, Default)]
struct Inner {
    /// When each was opened, by the wall clock, by its number.
    open: HashMap<Part, BTreeMap<u64, Timestamp>>,
    /// How many were opened.
    opened: u64,
    /// How long those were open that were dropped, in ns.
    durations: Periods<Part>,
}

/// The iterators over an application's stores that answer queries.
#[derive(Debug)]
pub(in crate::runtime) struct OpenIterators {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
}

impl OpenIterators {
    pub(in crate::runtime) fn new(clock: &Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock: Arc::clone(clock), inner: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that an iterator over a part of a store was opened, until what is given back is dropped.
    pub(super) fn open(self: &Arc<Self>, store: &StoreId) -> OpenIterator {
        let part = (Arc::clone(&store.name), store.partition);
        let (since, began) = (self.clock.now(), self.clock.elapsed());
        let mut inner = self.lock();
        let number = inner.opened;
        inner.opened += 1;
        inner.open.entry(part.clone()).or_default().insert(number, since);
        OpenIterator { all: Arc::clone(self), part, number, began }
    }

    /// What is known of those over a part of a store.
    pub(in crate::runtime) fn of(&self, store: &Arc<str>, partition: u32) -> IteratorMetrics {
        let (inner, part) = (self.lock(), (Arc::clone(store), partition));
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
pub(super) struct OpenIterator {
    all: Arc<OpenIterators>,
    part: Part,
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

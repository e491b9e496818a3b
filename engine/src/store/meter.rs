//! How often a store is asked for what, and how long some of that takes.
//!
//! Every call is counted; of 64 calls of a kind one is timed, and a batch, which counts for each of its keys, about as often. The
//! numbers lie in cells, since some reads of a store borrow it only to read.

use super::iterators::{OpenIterator, PartIterators};
use headwater_core::{
    metrics::{Spread, TIMED_ONE_IN},
    time::Clock,
};
use std::{array, cell::Cell, sync::Arc, time::Duration};

/// What a store is asked for, by the names of Kafka's metrics.
///
/// ```
/// use headwater_engine::store::StoreOperation;
///
/// let names: Vec<_> = StoreOperation::ALL.iter().map(|it| it.name()).collect();
/// assert_eq!(names[..3], ["get", "put", "put-if-absent"]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreOperation {
    /// The value of a key.
    Get,
    /// To set or delete the value of a key.
    Put,
    /// To set one where there is none.
    PutIfAbsent,
    /// To delete the value of a key, and give it.
    Delete,
    /// What a key has in a window, or in several.
    Fetch,
    /// A range of keys.
    Range,
    /// The keys with a prefix.
    PrefixScan,
    /// All there is.
    All,
    /// What changed since the last commit.
    Flush,
}

const KINDS: usize = StoreOperation::ALL.len();

impl StoreOperation {
    /// Every operation.
    pub const ALL: [Self; 9] = [
        Self::Get,
        Self::Put,
        Self::PutIfAbsent,
        Self::Delete,
        Self::Fetch,
        Self::Range,
        Self::PrefixScan,
        Self::All,
        Self::Flush,
    ];

    /// Its name in Kafka's metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::PutIfAbsent => "put-if-absent",
            Self::Delete => "delete",
            Self::Fetch => "fetch",
            Self::Range => "range",
            Self::PrefixScan => "prefix-scan",
            Self::All => "all",
            Self::Flush => "flush",
        }
    }
}

/// How often a store was asked for what, since it was made, and how long that took of those calls since the last commit that were
/// timed, in ns. Example: [`StoreOperation`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StoreCounts {
    pub(crate) calls: [u64; KINDS],
    pub(crate) latencies: [Spread; KINDS],
}

/// Counts the calls of one store.
pub(crate) struct Meter {
    clock: Option<Arc<dyn Clock>>,
    /// Where its iterators are counted, if they are.
    iterators: Option<PartIterators>,
    calls: [Cell<u64>; KINDS],
    latencies: [Cell<Spread>; KINDS],
}

impl Default for Meter {
    fn default() -> Self {
        let (calls, latencies) =
            (array::from_fn(|_| Cell::default()), array::from_fn(|_| Cell::default()));
        Self { clock: None, iterators: None, calls, latencies }
    }
}

impl Meter {
    /// Times calls by `clock` from now on.
    pub(super) fn time_by(&mut self, clock: &Arc<dyn Clock>) {
        self.clock = Some(Arc::clone(clock));
    }

    /// Counts iterators there from now on.
    pub(super) fn count_iterators(&mut self, iterators: &PartIterators) {
        self.iterators = Some(iterators.clone());
    }

    /// An iterator is opened, for as long as what is given back is kept.
    pub(super) fn iterator(&self) -> Option<OpenIterator> {
        self.iterators.as_ref().map(PartIterators::open)
    }

    /// Counts calls, and reads the clock if they are to be timed.
    pub(crate) fn begin(&self, operation: StoreOperation, calls: usize) -> Option<Duration> {
        let counted = self.calls.get(operation as usize)?;
        let before = counted.get();
        counted.set(before + calls as u64);
        // One in so many: those that come to a multiple, and the first.
        let is_timed = before == 0 || before / TIMED_ONE_IN != counted.get() / TIMED_ONE_IN;
        self.clock.as_ref().filter(|_| is_timed && calls > 0).map(|clock| clock.elapsed())
    }

    /// Notes how long the calls took, if they are timed: each an equal part.
    pub(crate) fn end(&self, operation: StoreOperation, calls: usize, began: Option<Duration>) {
        let Some(began) = began else { return };
        let Some((clock, cell)) = self.clock.as_ref().zip(self.latencies.get(operation as usize))
        else {
            return;
        };
        let took = clock.elapsed().saturating_sub(began).as_secs_f64() * 1e9;
        let mut spread = cell.get();
        #[expect(clippy::cast_precision_loss, reason = "a batch has few keys")]
        let each = took / calls.max(1) as f64;
        spread += Spread::of(each);
        cell.set(spread);
    }

    /// Counts one call, and times it if it is its turn.
    pub(super) fn one<R>(&self, operation: StoreOperation, call: impl FnOnce() -> R) -> R {
        let began = self.begin(operation, 1);
        let result = call();
        self.end(operation, 1, began);
        result
    }

    /// What was counted so far, and timed since this was asked last.
    pub(super) fn take(&self) -> StoreCounts {
        let calls = self.calls.each_ref().map(Cell::get);
        StoreCounts { calls, latencies: self.latencies.each_ref().map(Cell::take) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::time::ManualClock;

    #[test]
    fn every_call_is_counted_and_some_are_timed() {
        let clock = Arc::new(ManualClock::at(0));
        let mut meter = Meter::default();
        meter.time_by(&(Arc::clone(&clock) as Arc<dyn Clock>));
        let mut spans = 0;
        for _ in 0..128 {
            let began = meter.begin(StoreOperation::Get, 1);
            spans += u32::from(began.is_some());
            clock.advance(Duration::from_millis(3));
            meter.end(StoreOperation::Get, 1, began);
        }
        let began = meter.begin(StoreOperation::Put, 100);
        clock.advance(Duration::from_millis(100));
        meter.end(StoreOperation::Put, 100, began);
        let StoreCounts { calls, latencies } = meter.take();
        assert_eq!((calls[0], calls[1], spans), (128, 100, 3));
        assert_eq!((latencies[0].mean(), latencies[0].max()), (Some(3e6), Some(3e6)));
        assert_eq!(latencies[1].mean(), Some(1e6), "of each of a batch");
        assert_eq!(meter.take().calls[0], 128, "since it was made");
        assert_eq!(meter.take().latencies[0].mean(), None, "since the last time");
    }
}

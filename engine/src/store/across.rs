//! Walks over the entries of several stretches of time: one stretch after the other, or by key over all of them.

use super::{Scanned, scan::Merged, segments::Segments};
use crate::broken::broken;
use headwater_core::{
    ports::state::{KeyRange, Order, StateError},
    record::Timestamp,
    serde::Data,
};
use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    ops::{Bound, RangeInclusive},
};

/// An entry, and the start of the stretch that it lies in.
type InStretch<V> = (Timestamp, Scanned<V>);

/// Bounds of keys.
pub(super) type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

pub(super) fn as_range((from, to): &Bounds) -> KeyRange<'_> {
    (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice))
}

/// The own keys of what lies under `keys`, given the first and the last that one may have.
pub(super) fn own_keys(
    (from, to): Bounds,
    first: impl Fn(&[u8]) -> Vec<u8>,
    last: impl Fn(&[u8]) -> Vec<u8>,
) -> Bounds {
    let from = match from {
        Bound::Included(key) => Bound::Included(first(&key)),
        Bound::Excluded(key) => Bound::Excluded(last(&key)),
        Bound::Unbounded => Bound::Unbounded,
    };
    let to = match to {
        Bound::Included(key) => Bound::Included(last(&key)),
        Bound::Excluded(key) => Bound::Excluded(first(&key)),
        Bound::Unbounded => Bound::Unbounded,
    };
    (from, to)
}

impl<V: Data> Segments<V> {
    /// The entries of the stretches that start within `starts` whose own keys lie within `range`, stretch by stretch and
    /// then by own key. A stretch is read as the walk comes to it.
    pub(super) fn along(
        &mut self,
        starts: RangeInclusive<Timestamp>,
        range: Bounds,
        order: Order,
    ) -> impl Iterator<Item = Result<InStretch<V>, StateError>> + use<'_, V> {
        let stretches = self.stretches(starts, order);
        let this = &*self;
        stretches.into_iter().flat_map(move |start| {
            let scan = this.scan_stretch(start, as_range(&range), order);
            let (scan, failed) = match scan {
                Ok(scan) => (scan, None),
                Err(failed) => (None, Some(Err(failed))),
            };
            let entries = scan.into_iter().flatten();
            entries.map(move |entry| Ok((start, entry?))).chain(failed)
        })
    }

    /// The same entries by own key and then by stretch. One entry of each stretch is held at a time.
    pub(super) fn across(
        &mut self,
        starts: RangeInclusive<Timestamp>,
        range: &Bounds,
        order: Order,
    ) -> Result<Across<'_, V>, StateError> {
        let stretches = self.stretches(starts, order);
        let this = &*self;
        let mut across =
            Across { scans: Vec::new(), heads: BinaryHeap::new(), failed: None, order };
        for start in stretches {
            let scan = this.scan_stretch(start, as_range(range), order)?;
            across.scans.extend(scan.map(|scan| (start, scan)));
        }
        (0..across.scans.len()).for_each(|place| across.refill(place));
        Ok(across)
    }

    /// The starts of the stretches within `starts`, each of which can then be scanned.
    fn stretches(&mut self, starts: RangeInclusive<Timestamp>, order: Order) -> Vec<Timestamp> {
        let mut stretches = if starts.is_empty() { Vec::new() } else { self.starts_in(starts) };
        for start in &stretches {
            if let Some(bucket) = self.find(*start) {
                self.entries_mut(bucket).keep_order();
            }
        }
        if order == Order::Descending {
            stretches.reverse();
        }
        stretches
    }

    fn scan_stretch(
        &self,
        start: Timestamp,
        range: KeyRange<'_>,
        order: Order,
    ) -> Result<Option<Merged<'_, V>>, StateError> {
        self.find(start).map(|bucket| self.scan(start, bucket, range, order)).transpose()
    }
}

/// The next entry of a stretch.
struct Head<V> {
    start: Timestamp,
    entry: Scanned<V>,
    order: Order,
    /// Which of the scans it is of.
    place: usize,
}

impl<V> Head<V> {
    /// Its order is that of the walk; the first is the greatest of a heap.
    fn rank(&self) -> (&[u8], Timestamp) {
        (&self.entry.key, self.start)
    }
}

impl<V> Ord for Head<V> {
    fn cmp(&self, other: &Self) -> Ordering {
        match self.order {
            Order::Ascending => Reverse(self.rank()).cmp(&Reverse(other.rank())),
            Order::Descending => self.rank().cmp(&other.rank()),
        }
    }
}

impl<V> PartialOrd for Head<V> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<V> PartialEq for Head<V> {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl<V> Eq for Head<V> {}

/// A walk by own key over several stretches.
pub(super) struct Across<'a, V> {
    scans: Vec<(Timestamp, Merged<'a, V>)>,
    heads: BinaryHeap<Head<V>>,
    failed: Option<StateError>,
    order: Order,
}

impl<V: Data> Across<'_, V> {
    fn refill(&mut self, place: usize) {
        let Some((start, scan)) = self.scans.get_mut(place) else {
            broken("what is read on is one of the scans")
        };
        match scan.next() {
            Some(Ok(entry)) => {
                self.heads.push(Head { start: *start, entry, order: self.order, place });
            }
            Some(Err(failed)) => self.failed = Some(failed),
            None => {}
        }
    }
}

impl<V: Data> Iterator for Across<'_, V> {
    type Item = Result<InStretch<V>, StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(failed) = self.failed.take() {
            self.heads.clear();
            return Some(Err(failed));
        }
        let Head { start, entry, place, .. } = self.heads.pop()?;
        self.refill(place);
        Some(Ok((start, entry)))
    }
}

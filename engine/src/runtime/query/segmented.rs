//! Windows that lie in segments of time: those of stores that are declared with a retention, and sliding windows.

use super::{
    part::StorePart,
    rows::{Keyed, Pages, QueryIterator},
};
use crate::store::{
    LAST_TIME, Session, StoreError, ValueAndTimestamp, Window, WindowEntry, session_bytes,
    time_bytes,
};
use headwater_core::{
    ports::state::{Order, StateError, Stored},
    record::Timestamp,
    serde::Data,
};
use std::{
    iter,
    ops::{Bound, RangeInclusive},
    sync::Arc,
};

/// A sliding window, and its row.
type InSliding<K, V> = (Window, WindowEntry<K, V>);

/// Makes the row of an entry: its own key, its window's start, and what it holds.
type MakeRow<K, V, T> = fn(&StorePart<K, V>, &[u8], Timestamp, ValueAndTimestamp<V>) -> Keyed<T>;

impl<K: Data, V: Data> StorePart<K, V> {
    /// The value of a key in the window that starts at `start`, or the first of several.
    pub(super) fn fetch_in_segment(
        &self,
        key: &[u8],
        start: Timestamp,
        segment_ms: i64,
    ) -> Result<Option<ValueAndTimestamp<V>>, StoreError> {
        if start < self.kept_from()?.max(0) {
            return Ok(None);
        }
        let segment = segment_of(start, segment_ms);
        let own_key = time_bytes::own_key(key, start, 0);
        self.get(&[&segment.to_be_bytes()[..], &own_key].concat())
    }

    /// The values of a key in the windows whose starts lie within `starts`, by start.
    pub(super) fn key_in_segments(
        self: &Arc<Self>,
        key: &[u8],
        starts: &RangeInclusive<Timestamp>,
        (segment_ms, order): (i64, Order),
    ) -> QueryIterator<(Timestamp, ValueAndTimestamp<V>)> {
        self.in_segments(Some(key), starts, (segment_ms, order), |part, own_key, start, value| {
            let (_, sequence) = time_bytes::time_and_sequence(part.id(), own_key)?;
            let by = [&start.to_be_bytes()[..], &sequence.to_be_bytes()].concat();
            Ok((by, (start, value)))
        })
    }

    /// All entries of windows whose starts lie within `starts`, by their keys' bytes and then by start.
    pub(super) fn all_in_segments(
        self: &Arc<Self>,
        starts: &RangeInclusive<Timestamp>,
        (segment_ms, order): (i64, Order),
    ) -> QueryIterator<WindowEntry<K, V>> {
        self.in_segments(None, starts, (segment_ms, order), |part, own_key, start, value| {
            let damaged = || part.id().damaged("a key does not end as it should");
            let key = time_bytes::key_of(own_key).ok_or_else(damaged)?;
            Ok((own_key.to_vec(), (part.keys.read(&key)?, start, value)))
        })
    }

    /// The entries of `key`, or of all keys, in one order over all segments: one page is held of each.
    fn in_segments<T: Send + 'static>(
        self: &Arc<Self>,
        key: Option<&[u8]>,
        starts: &RangeInclusive<Timestamp>,
        (segment_ms, order): (i64, Order),
        row: MakeRow<K, V, T>,
    ) -> QueryIterator<T> {
        let kept_from = match self.kept_from() {
            Ok(kept_from) => kept_from,
            Err(error) => return QueryIterator::failed(error, order),
        };
        let (from, to) = ((*starts.start()).max(kept_from).max(0), (*starts.end()).min(LAST_TIME));
        let segments = match self.segments(segment_of(from, segment_ms)..=to) {
            Ok(segments) => segments,
            Err(error) => return QueryIterator::failed(error, order),
        };
        let of_segment = |segment: Timestamp| {
            let stored = |own_key: &[u8]| [&segment.to_be_bytes(), own_key].concat();
            let range = match key {
                Some(key) => (
                    Bound::Included(stored(&time_bytes::own_key(key, from, 0))),
                    Bound::Included(stored(&time_bytes::own_key(key, to, u32::MAX))),
                ),
                None => (
                    Bound::Included(stored(&[])),
                    Bound::Excluded(segment.saturating_add(1).to_be_bytes().to_vec()),
                ),
            };
            let part = Arc::clone(self);
            let rows = Pages::new(&self.shard, range, order).filter_map(move |entry| {
                let made = entry.and_then(|(stored_key, stored)| {
                    let (_, own_key) = part.id().split_time(&stored_key)?;
                    let (start, _) = time_bytes::time_and_sequence(part.id(), own_key)?;
                    let is_wanted = (from..=to).contains(&start);
                    is_wanted.then(|| row(&part, own_key, start, part.read(&stored)?)).transpose()
                });
                made.transpose()
            });
            QueryIterator::new(rows, order)
        };
        // Whichever segments there are, the order is told.
        let none = QueryIterator::new(iter::empty(), order);
        QueryIterator::merged(
            iter::once(none).chain(segments.into_iter().map(of_segment)).collect(),
        )
    }

    /// The value of a key in the sliding window that starts at `start`.
    pub(super) fn fetch_sliding(
        self: &Arc<Self>,
        key: &[u8],
        start: Timestamp,
        sliding_ms: i64,
    ) -> Result<Option<ValueAndTimestamp<V>>, StoreError> {
        let mut found = self.key_sliding(key, &(start..=start), (sliding_ms, Order::Ascending));
        Ok(found.next().transpose()?.map(|(_, value)| value))
    }

    /// The values of a key in the sliding windows whose starts lie within `starts`, by start.
    pub(super) fn key_sliding(
        self: &Arc<Self>,
        key: &[u8],
        starts: &RangeInclusive<Timestamp>,
        (sliding_ms, order): (i64, Order),
    ) -> QueryIterator<(Timestamp, ValueAndTimestamp<V>)> {
        // All are equally long: they end in the order in which they start.
        let earliest_end = starts.start().saturating_add(sliding_ms);
        let sessions = self.sessions(key, (earliest_end, *starts.end()), order);
        sessions.map_rows(|Session { window, value, timestamp }| {
            (window.start, ValueAndTimestamp { value, timestamp })
        })
    }

    /// All entries of sliding windows whose starts lie within `starts`, by their keys' bytes and then by start: one page is held of
    /// each segment.
    pub(super) fn all_sliding(
        self: &Arc<Self>,
        starts: &RangeInclusive<Timestamp>,
        order: Order,
    ) -> QueryIterator<WindowEntry<K, V>> {
        let found = self.kept_from().and_then(|kept| Ok((kept, self.segments(0..=LAST_TIME)?)));
        let (kept_from, segments) = match found {
            Ok(found) => found,
            Err(error) => return QueryIterator::failed(error, order),
        };
        let of_segment = |segment: Timestamp| {
            let after = segment.saturating_add(1).to_be_bytes().to_vec();
            let range = (Bound::Included(segment.to_be_bytes().to_vec()), Bound::Excluded(after));
            let (part, starts) = (Arc::clone(self), starts.clone());
            let rows = Pages::new(&self.shard, range, order)
                .map(move |entry| part.sliding(&entry?))
                .filter(move |row| {
                    row.as_ref().map_or(true, |(_, (window, _))| {
                        window.end >= kept_from && starts.contains(&window.start)
                    })
                })
                .map(|row| row.map(|(own_key, (_, row))| (own_key, row)));
            QueryIterator::new(rows, order)
        };
        let none = QueryIterator::new(iter::empty(), order);
        QueryIterator::merged(
            iter::once(none).chain(segments.into_iter().map(of_segment)).collect(),
        )
    }

    /// A sliding window, and its row with its own key.
    fn sliding(&self, (stored_key, stored): &(Vec<u8>, Stored)) -> Keyed<InSliding<K, V>> {
        let (_, own_key) = self.id().split_time(stored_key)?;
        let parts = session_bytes::key_of(own_key).zip(session_bytes::window_of(own_key));
        let (key, window) = parts.ok_or_else(|| session_bytes::damaged(self.id()))?;
        let row = (self.keys.read(&key)?, window.start, self.read(stored)?);
        Ok((own_key.to_vec(), (window, row)))
    }

    /// The starts of the segments that the store holds within `starts`.
    fn segments(&self, starts: RangeInclusive<Timestamp>) -> Result<Vec<Timestamp>, StateError> {
        let (mut segments, mut from) = (Vec::new(), *starts.start());
        while let Some(start) = self.time_at(from, Order::Ascending)?
            && starts.contains(&start)
        {
            segments.push(start);
            from = start + 1;
        }
        Ok(segments)
    }
}

fn segment_of(time: Timestamp, segment_ms: i64) -> Timestamp {
    time - time.rem_euclid(segment_ms)
}

//! The partitions of a store at one commit, and how their entries are read.

use super::rows::{KeyBounds, Keyed, Pages, QueryIterator};
use crate::{
    store::{
        Expiry, Form, Keys, OpenIterators, Session, StoreError, StoreId, ValueAndTimestamp,
        VersionedBytes, VersionedRecord, WindowEntry, beginning_with, committed_oldest_kept,
        session_bytes,
    },
    task::Positions,
};
use headwater_core::{
    ports::state::{Order, Shard, Snapshot, StateError, Stored},
    record::{Timestamp, TopicPartition, murmur2_partition},
    serde::{Data, SharedSerde},
};
use std::{
    iter,
    ops::{Bound, RangeBounds, RangeInclusive},
    sync::Arc,
};

/// How many versions are read at a time.
const VERSIONS: usize = 256;

/// Partitions in the order in which they are asked, and the bytes of the key that they are asked for.
type PartsOf<'a, K, V> = (Vec<&'a Arc<StorePart<K, V>>>, Vec<u8>);

/// All partitions of a store, or one of them.
pub(super) struct StoreParts<K, V> {
    pub(super) name: String,
    parts: Vec<Arc<StorePart<K, V>>>,
    /// The number of the first of them.
    first: u32,
    /// Where the inputs of their tasks stood.
    position: Arc<[(TopicPartition, i64)]>,
}

/// One partition of a store.
pub struct StorePart<K, V> {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) iterators: Option<Arc<OpenIterators>>,
    pub(super) shard: Arc<dyn Shard>,
    pub(super) keys: Keys<K>,
    pub(super) form: Form<V>,
    pub(super) values: SharedSerde<V>,
    pub(super) history_ms: i64,
    pub(super) expiry: Option<Expiry>,
}

opaque_debug!(StorePart<K, V>);

impl<K: Data, V: Data> StoreParts<K, V> {
    /// All `parts`, in order.
    pub(super) fn all(name: &str, parts: Vec<Arc<StorePart<K, V>>>, snapshot: &Snapshot) -> Self {
        Self { name: name.to_owned(), parts, first: 0, position: snapshot.sources.clone().into() }
    }

    /// The partitions, that in which Kafka's partitioner puts a key first, and the key's bytes; nothing for a null key. The
    /// others may have it: who wrote the topic may have had another partitioner.
    fn of(&self, key: &K) -> Result<Option<PartsOf<'_, K, V>>, StoreError> {
        let Some(first) = self.parts.first() else { return Ok(None) };
        let Some(bytes) = first.key(key)? else { return Ok(None) };
        let count = u32::try_from(self.parts.len()).unwrap_or(u32::MAX);
        let own = murmur2_partition(first.keys.placed_by(&bytes), count) as usize;
        let (before, from) = self.parts.split_at(own.min(self.parts.len()));
        Ok(Some((from.iter().chain(before).collect(), bytes)))
    }

    /// What the first partition that has anything under `key` gives.
    pub(super) fn find<T>(
        &self,
        key: &K,
        read: impl Fn(&Arc<StorePart<K, V>>, &[u8]) -> Result<Option<T>, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let Some((parts, bytes)) = self.of(key)? else { return Ok(None) };
        parts.into_iter().find_map(|part| read(part, &bytes).transpose()).transpose()
    }

    /// What all partitions have, in one order.
    pub(super) fn rows<T: Send + 'static>(
        &self,
        read: impl Fn(&Arc<StorePart<K, V>>) -> QueryIterator<T>,
    ) -> QueryIterator<T> {
        QueryIterator::merged(self.parts.iter().map(|part| part.counted(read(part))).collect())
    }

    /// What all partitions have under `key`, in one order; nothing for a null key.
    pub(super) fn rows_of<T: Send + 'static>(
        &self,
        key: &K,
        read: impl Fn(&Arc<StorePart<K, V>>, &[u8]) -> QueryIterator<T>,
    ) -> Result<QueryIterator<T>, StoreError> {
        let Some((parts, bytes)) = self.of(key)? else { return Ok(QueryIterator::none()) };
        let rows = parts.into_iter().map(|part| part.counted(read(part, &bytes)));
        Ok(QueryIterator::merged(rows.collect()))
    }

    pub(super) fn bounds(&self, range: &impl RangeBounds<K>) -> Result<KeyBounds, StoreError> {
        match self.parts.first() {
            Some(part) => part.bounds((range.start_bound(), range.end_bound())),
            None => Ok((Bound::Unbounded, Bound::Unbounded)),
        }
    }

    pub(super) fn of_partition(&self, partition: u32) -> Option<Self> {
        let place = partition.checked_sub(self.first)?;
        let part = Arc::clone(self.parts.get(place as usize)?);
        // A task reads that partition of each of its topics.
        let inputs = self.position.iter().filter(|(input, _)| input.partition == partition);
        let position = inputs.cloned().collect();
        Some(Self { name: self.name.clone(), parts: vec![part], first: partition, position })
    }

    pub(super) fn position(&self) -> &[(TopicPartition, i64)] {
        &self.position
    }
}

impl<K: Data, V: Data> StorePart<K, V> {
    /// The bytes of a key; nothing for a null one.
    pub(super) fn key(&self, key: &K) -> Result<Option<Vec<u8>>, StoreError> {
        let mut bytes = Vec::new();
        match self.keys.write(key, &mut bytes) {
            Err(StoreError::NullKey) => Ok(None),
            written => written.map(|()| Some(bytes)),
        }
    }

    pub(super) fn bounds(
        &self,
        (from, to): (Bound<&K>, Bound<&K>),
    ) -> Result<KeyBounds, StoreError> {
        Ok((self.keys.bound(from)?, self.keys.bound(to)?))
    }

    pub(super) fn read(&self, stored: &Stored) -> Result<ValueAndTimestamp<V>, StateError> {
        let (value, timestamp) = (self.form.read(&stored.value)?, stored.timestamp);
        Ok(ValueAndTimestamp { value, timestamp })
    }

    /// Rows of this part that answer a query: an iterator that is open until it is dropped.
    pub(super) fn counted<T: Send + 'static>(&self, rows: QueryIterator<T>) -> QueryIterator<T> {
        rows.counted(self.iterators.as_ref().map(|iterators| iterators.open(self.id())))
    }

    pub(super) fn id(&self) -> &StoreId {
        &self.form.id
    }

    /// What is older has expired, though it may not have been removed: the same for this commit as the operator has it.
    pub(super) fn kept_from(&self) -> Result<Timestamp, StateError> {
        Ok(match &self.expiry {
            None => Timestamp::MIN,
            Some(Expiry::OfNode { node, lifetime }) => {
                let of_node = (&**node, self.id().partition);
                let floor = |saved: &[u8]| lifetime.kept_floor(saved);
                Positions::saved_at(&self.snapshot, of_node, floor)?.unwrap_or(Timestamp::MIN)
            }
            Some(Expiry::OwnTime { retention_ms, .. }) => {
                committed_oldest_kept(&*self.shard, *retention_ms)?
            }
        })
    }

    /// How many ms its segments have, if it is a window store whose windows lie in such.
    fn segment_ms(&self) -> Option<i64> {
        match &self.expiry {
            Some(Expiry::OwnTime { segment_ms, .. }) => Some(*segment_ms),
            Some(Expiry::OfNode { .. }) | None => None,
        }
    }

    /// How long its windows are, if they are sliding ones.
    fn sliding_ms(&self) -> Option<i64> {
        self.expiry.as_ref().and_then(Expiry::sliding_ms)
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<ValueAndTimestamp<V>>, StoreError> {
        Ok(self.shard.get(key)?.map(|stored| self.read(&stored)).transpose()?)
    }

    /// The entries of a key-value store within a range of keys.
    pub(super) fn range(
        self: &Arc<Self>,
        range: KeyBounds,
        order: Order,
    ) -> QueryIterator<(K, ValueAndTimestamp<V>)> {
        let part = Arc::clone(self);
        let rows = Pages::new(&self.shard, range, order).map(move |entry| {
            let (key, stored) = entry?;
            let row = (part.keys.read(&key)?, part.read(&stored)?);
            Ok((key, row))
        });
        QueryIterator::new(rows, order)
    }

    /// Those whose keys' bytes begin with `prefix`.
    pub(super) fn prefix_scan(
        self: &Arc<Self>,
        prefix: &[u8],
        order: Order,
    ) -> QueryIterator<(K, ValueAndTimestamp<V>)> {
        self.range(beginning_with(prefix), order)
    }

    pub(super) fn fetch(
        self: &Arc<Self>,
        key: &[u8],
        start: Timestamp,
    ) -> Result<Option<ValueAndTimestamp<V>>, StoreError> {
        if let Some(sliding_ms) = self.sliding_ms() {
            return self.fetch_sliding(key, start, sliding_ms);
        }
        match self.segment_ms() {
            Some(segment_ms) => self.fetch_in_segment(key, start, segment_ms),
            None => self.get(&[&start.to_be_bytes(), key].concat()),
        }
    }

    /// The first time from `at` on, or the last up to it, that leads a key of the shard.
    pub(super) fn time_at(
        &self,
        at: Timestamp,
        order: Order,
    ) -> Result<Option<Timestamp>, StateError> {
        let (first, after) = (at.to_be_bytes(), at.checked_add(1).map(Timestamp::to_be_bytes));
        let range = match (order, &after) {
            (Order::Ascending, _) => (Bound::Included(&first[..]), Bound::Unbounded),
            (Order::Descending, None) => (Bound::Unbounded, Bound::Unbounded),
            (Order::Descending, Some(after)) => (Bound::Unbounded, Bound::Excluded(&after[..])),
        };
        let entry = self.shard.scan(range, order)?.next().transpose()?;
        entry.map(|(key, _)| Ok(self.id().split_time(&key)?.0)).transpose()
    }

    /// The values of a key in the windows whose starts lie within `starts`, by start. Costs a look-up for each start that the
    /// store holds there.
    pub(super) fn window_key(
        self: &Arc<Self>,
        key: &[u8],
        starts: RangeInclusive<Timestamp>,
        order: Order,
    ) -> QueryIterator<(Timestamp, ValueAndTimestamp<V>)> {
        if let Some(segment_ms) = self.segment_ms() {
            return self.key_in_segments(key, &starts, (segment_ms, order));
        }
        if let Some(sliding_ms) = self.sliding_ms() {
            return self.key_sliding(key, &starts, (sliding_ms, order));
        }
        let (part, key) = (Arc::clone(self), key.to_vec());
        // No window starts before time zero.
        let (first, last) = ((*starts.start()).max(0), *starts.end());
        let mut at = Some(if order == Order::Ascending { first } else { last });
        let mut next = move || -> Result<Option<(Vec<u8>, _)>, StateError> {
            while let Some(from) = at.filter(|at| (first..=last).contains(at)) {
                let Some(start) = part.time_at(from, order)? else { break };
                at = match order {
                    Order::Ascending => start.checked_add(1),
                    Order::Descending => start.checked_sub(1),
                };
                if !(first..=last).contains(&start) {
                    break;
                }
                let stored = part.shard.get(&[&start.to_be_bytes(), &key[..]].concat())?;
                if let Some(stored) = stored {
                    return Ok(Some((start.to_be_bytes().to_vec(), (start, part.read(&stored)?))));
                }
            }
            at = None;
            Ok(None)
        };
        QueryIterator::new(iter::from_fn(move || next().transpose()), order)
    }

    /// All entries of windows whose starts lie within `starts`, by start and then by their keys' bytes.
    pub(super) fn window_range(
        self: &Arc<Self>,
        starts: RangeInclusive<Timestamp>,
        order: Order,
    ) -> QueryIterator<WindowEntry<K, V>> {
        if let Some(segment_ms) = self.segment_ms() {
            return self.all_in_segments(&starts, (segment_ms, order));
        }
        if self.sliding_ms().is_some() {
            return self.all_sliding(&starts, order);
        }
        let (first, after) = ((*starts.start()).max(0), starts.end().checked_add(1));
        let after = after.map(|after| after.max(0).to_be_bytes().to_vec());
        let range = (
            Bound::Included(first.to_be_bytes().to_vec()),
            after.map_or(Bound::Unbounded, Bound::Excluded),
        );
        let part = Arc::clone(self);
        let rows = Pages::new(&self.shard, range, order).map(move |entry| {
            let (stored_key, stored) = entry?;
            let (start, key) = part.id().split_time(&stored_key)?;
            let row = (part.keys.read(key)?, start, part.read(&stored)?);
            Ok((stored_key, row))
        });
        QueryIterator::new(rows, order)
    }

    /// The sessions of a key that end at `earliest_end` or later and start at `latest_start` or earlier, by end. Costs a look-up
    /// for each segment that the store holds.
    pub(super) fn sessions(
        self: &Arc<Self>,
        key: &[u8],
        (earliest_end, latest_start): (Timestamp, Timestamp),
        order: Order,
    ) -> QueryIterator<Session<V>> {
        let kept_from = match self.kept_from() {
            Ok(kept_from) => kept_from,
            Err(error) => return QueryIterator::failed(error, order),
        };
        let earliest_end = earliest_end.max(kept_from);
        let first = if order == Order::Ascending { 0 } else { Timestamp::MAX };
        let (part, key, mut from) = (Arc::clone(self), key.to_vec(), Some(first));
        let segments = iter::from_fn(move || {
            let segment = part.time_at(from?, order).transpose()?;
            from = segment.as_ref().ok().and_then(|segment| match order {
                Order::Ascending => segment.checked_add(1),
                Order::Descending => segment.checked_sub(1).filter(|before| *before >= 0),
            });
            let segment = match segment {
                Ok(segment) => segment,
                Err(error) => return Some((None, Some(Err(error)))),
            };
            let (first, last) = session_bytes::stored_keys(segment, &key, earliest_end);
            let range = (Bound::Included(first), Bound::Included(last));
            let part = Arc::clone(&part);
            let rows = Pages::new(&part.shard, range, order);
            Some((Some(rows.map(move |entry| part.session(&entry?))), None))
        });
        let rows = segments.flat_map(|(rows, failed)| rows.into_iter().flatten().chain(failed));
        let is_wanted = move |row: &Keyed<Session<V>>| {
            row.as_ref().map_or(true, |(_, session)| session.window.start <= latest_start)
        };
        QueryIterator::new(rows.filter(is_wanted), order)
    }

    fn session(&self, (stored_key, stored): &(Vec<u8>, Stored)) -> Keyed<Session<V>> {
        let window = session_bytes::window_of(stored_key);
        let window = window.ok_or_else(|| session_bytes::damaged(self.id()))?;
        let ValueAndTimestamp { value, timestamp } = self.read(stored)?;
        let order = [window.end.to_be_bytes(), window.start.to_be_bytes()].concat();
        Ok((order, Session { window, value, timestamp }))
    }

    /// A versioned store over the shard, with nothing cached.
    fn versions_of(&self) -> VersionedBytes<V> {
        VersionedBytes::new(&self.values, self.id(), Arc::clone(&self.shard), self.history_ms)
    }

    /// The version of a key that was valid at `time`, or its latest.
    pub(super) fn version(
        &self,
        key: &[u8],
        time: Option<Timestamp>,
    ) -> Result<Option<VersionedRecord<V>>, StoreError> {
        let mut versions = self.versions_of();
        Ok(match time {
            None => versions.get(key)?,
            Some(time) => versions.get_as_of(key, time)?,
        })
    }

    /// The versions of a key that were valid at any time within `times`, by the time from which they were.
    pub(super) fn versions(
        self: &Arc<Self>,
        key: &[u8],
        times: RangeInclusive<Timestamp>,
        order: Order,
    ) -> QueryIterator<VersionedRecord<V>> {
        let (part, key, mut rest) = (Arc::clone(self), key.to_vec(), Some(times));
        let mut page = move || -> Result<Option<Vec<VersionedRecord<V>>>, StateError> {
            let Some(times) = rest.take() else { return Ok(None) };
            let mut versions = part.versions_of();
            let found = versions.versions(&key, times.clone(), order)?.take(VERSIONS);
            let found: Vec<_> = found.collect::<Result<_, _>>()?;
            if let Some(last) = found.last().filter(|_| found.len() == VERSIONS) {
                rest = match order {
                    Order::Ascending => last.valid_to.map(|to| to..=*times.end()),
                    Order::Descending => Some(*times.start()..=last.timestamp.saturating_sub(1)),
                };
            }
            Ok(Some(found))
        };
        let pages = iter::from_fn(move || page().transpose());
        let rows = pages.flat_map(|page| match page {
            Ok(page) => page.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        });
        let keyed =
            |version: VersionedRecord<V>| (version.timestamp.to_be_bytes().to_vec(), version);
        QueryIterator::new(rows.map(move |row| row.map(keyed)), order)
    }
}

//! Session stores: the newest value of each key and window, where windows begin and end anywhere.

use super::{
    CacheReads, Expiry, PartIterators, Serdes, Session, SessionBytes, StateStore, StoreBuilder,
    StoreChanges, StoreCounts, StoreError, StoreIterator, StoreKind, StoreOperation,
    ValueAndTimestamp, Window, Windowed,
    form::{Form, Keys, StoreId},
    iterators::counted,
    segments::{Segments, retention_and_segment},
};
use headwater_core::{
    ports::state::{Order, StateError},
    record::Timestamp,
    serde::{Data, SharedSerde},
    time::Clock,
};
use std::{
    any::Any,
    ops::{RangeBounds, RangeInclusive},
    sync::Arc,
    time::Duration,
};

/// A key, and a window of it.
type OfKey<K, V> = (K, Session<V>);

/// The newest value of each key and window, both ends of which belong to it: a shell of the key's type around
/// [`SessionBytes`].
///
/// Windows lie in segments by their ends, which are removed whole; a third of the time that they are kept is a good size.
///
/// ```
/// use headwater_core::serde::for_type;
/// use headwater_engine::{
///     processor::{Context, Processor, ProcessorError, Record},
///     store::{SessionStore, StoreKey, Window, Windowed},
/// };
/// use std::time::Duration;
///
/// /// Forwards each record with how many trips its car was on within an hour of it, and keeps one that lasts a minute.
/// struct Trips(StoreKey<SessionStore<String, i64>>);
///
/// impl Processor<String, i64> for Trips {
///     type KOut = String;
///     type VOut = i64;
///
///     fn process(
///         &mut self,
///         record: Record<String, i64>,
///         context: &mut Context<'_, String, i64>,
///     ) -> Result<(), ProcessorError> {
///         let (trips, at) = (context.store(self.0), record.timestamp);
///         let near = trips.find_sessions(&record.key, at - 3_600_000, at + 3_600_000)?.count();
///         let window = Window { start: at, end: at + 60_000 };
///         trips.put(&Windowed { key: record.key.clone(), window }, Some(record.value))?;
///         context.forward(record.with_value(i64::try_from(near).unwrap_or(i64::MAX)));
///         Ok(())
///     }
/// }
///
/// let day = Duration::from_secs(86_400);
/// let declared =
///     SessionStore::<String, i64>::with_retention("trips", for_type(), for_type(), day);
/// assert_eq!(declared.spec().name.as_ref(), "trips");
/// ```
pub struct SessionStore<K, V> {
    keys: Keys<K>,
    sessions: SessionBytes<V>,
    scratch: Vec<u8>,
}

opaque_debug!(SessionStore<K, V>);

impl<K: Data, V: Data> SessionStore<K, V> {
    /// Declares such a store, with segments of the given size.
    #[must_use]
    pub fn builder(
        name: &str,
        keys: SharedSerde<K>,
        values: SharedSerde<V>,
        segment: Duration,
    ) -> StoreBuilder {
        let segment_ms = i64::try_from(segment.as_millis()).unwrap_or(i64::MAX).max(1);
        Self::made(name, (keys, values), segment_ms, None)
    }

    /// Declares such a store that keeps windows which end less than `retention`, cut to whole ms, before the last end that it was
    /// given, of whatever key.
    #[must_use]
    pub fn with_retention(
        name: &str,
        keys: SharedSerde<K>,
        values: SharedSerde<V>,
        retention: Duration,
    ) -> StoreBuilder {
        let (retention_ms, segment_ms) = retention_and_segment(retention);
        Self::made(name, (keys, values), segment_ms, Some(retention_ms))
    }

    fn made(
        name: &str,
        (keys, values): (SharedSerde<K>, SharedSerde<V>),
        segment_ms: i64,
        retention_ms: Option<i64>,
    ) -> StoreBuilder {
        let (key, value) = (keys.schema(), values.schema());
        let schema = format!("segment of {segment_ms} ms, {key}, end, start -> {value}");
        let named: Arc<str> = name.into();
        let serdes = Serdes {
            kind: StoreKind::Session,
            keys: SharedSerde::clone(&keys),
            values: SharedSerde::clone(&values),
            history_ms: 0,
        };
        let builder = StoreBuilder::new(name, schema, move |shard, partition| {
            let id = StoreId { name: Arc::clone(&named), partition };
            let keys = Keys::new(&keys, &id);
            let mut segments = Segments::new(Form::new(keys.check(), &values, &id), shard);
            if let Some(retention_ms) = retention_ms {
                segments = segments.with_retention(retention_ms);
            }
            let sessions = SessionBytes::new(segments, segment_ms);
            Box::new(Self { keys, sessions, scratch: Vec::new() })
        });
        let builder = builder.readable(serdes);
        match retention_ms {
            None => builder,
            Some(retention_ms) => builder.expiring(Expiry::OwnTime { retention_ms, segment_ms }),
        }
    }

    /// Sets the value of a key in a window, or with `None` removes it. Its timestamp is the window's end.
    ///
    /// # Errors
    ///
    /// [`StoreError::NullKey`] and [`StoreError::Key`] if there is no place for the key, [`StoreError::Value`] if the
    /// value cannot be kept, [`StoreError::State`] if the state cannot be read or holds something else.
    pub fn put(&mut self, session: &Windowed<K>, value: Option<V>) -> Result<(), StoreError> {
        self.sessions.open()?;
        let Windowed { key, window } = session;
        self.keys.write(key, &mut self.scratch)?;
        self.sessions.put(&self.scratch, *window, value)
    }

    /// Removes a window of a key.
    ///
    /// # Errors
    ///
    /// [`StoreError::NullKey`], [`StoreError::Key`] and [`StoreError::State`], as [`put`](Self::put).
    pub fn remove(&mut self, session: &Windowed<K>) -> Result<(), StoreError> {
        self.put(session, None)
    }

    /// The windows of `key` that end at `earliest_end` or later and start at `latest_start` or earlier, by end; a null key
    /// has none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] and [`StoreError::State`], as [`put`](Self::put), the last also while the walk goes on.
    pub fn find_sessions(
        &mut self,
        key: &K,
        earliest_end: Timestamp,
        latest_start: Timestamp,
    ) -> Result<StoreIterator<'_, Session<V>>, StoreError> {
        self.find(key, (earliest_end, latest_start), Order::Ascending)
    }

    /// The same windows from the last end to the first.
    ///
    /// # Errors
    ///
    /// As [`find_sessions`](Self::find_sessions).
    pub fn backward_find_sessions(
        &mut self,
        key: &K,
        earliest_end: Timestamp,
        latest_start: Timestamp,
    ) -> Result<StoreIterator<'_, Session<V>>, StoreError> {
        self.find(key, (earliest_end, latest_start), Order::Descending)
    }

    fn find(
        &mut self,
        key: &K,
        (earliest_end, latest_start): (Timestamp, Timestamp),
        order: Order,
    ) -> Result<StoreIterator<'_, Session<V>>, StoreError> {
        self.sessions.open()?;
        match self.keys.write(key, &mut self.scratch) {
            Err(StoreError::NullKey) => return Ok(Box::new(std::iter::empty())),
            written => written?,
        }
        let ends = earliest_end..=Timestamp::MAX;
        let open = self.sessions.meter.iterator();
        let found = self.sessions.fetch(&self.scratch, ends, order);
        let overlaps = move |session: &Result<Session<V>, StateError>| match session {
            Ok(session) => session.window.start <= latest_start,
            Err(_) => true,
        };
        Ok(counted(found.filter(overlaps), open))
    }

    /// All windows of `key`, by end; a null key has none.
    ///
    /// # Errors
    ///
    /// As [`find_sessions`](Self::find_sessions).
    pub fn fetch(&mut self, key: &K) -> Result<StoreIterator<'_, Session<V>>, StoreError> {
        self.find_sessions(key, 0, Timestamp::MAX)
    }

    /// All windows of `key`, from the last end to the first.
    ///
    /// # Errors
    ///
    /// As [`find_sessions`](Self::find_sessions).
    pub fn backward_fetch(&mut self, key: &K) -> Result<StoreIterator<'_, Session<V>>, StoreError> {
        self.backward_find_sessions(key, 0, Timestamp::MAX)
    }

    /// All windows of the keys within `keys`, by the keys' bytes and then by end. A null bound bounds nothing.
    ///
    /// # Errors
    ///
    /// As [`find_sessions`](Self::find_sessions).
    pub fn fetch_keys(
        &mut self,
        keys: impl RangeBounds<K>,
    ) -> Result<StoreIterator<'_, OfKey<K, V>>, StoreError> {
        self.scan(&keys, 0..=Timestamp::MAX, Order::Ascending)
    }

    /// The same windows from the last key to the first, and of each from the last end.
    ///
    /// # Errors
    ///
    /// As [`find_sessions`](Self::find_sessions).
    pub fn backward_fetch_keys(
        &mut self,
        keys: impl RangeBounds<K>,
    ) -> Result<StoreIterator<'_, OfKey<K, V>>, StoreError> {
        self.scan(&keys, 0..=Timestamp::MAX, Order::Descending)
    }

    /// The windows of all keys that end at `earliest` to `latest`, both included, by the keys' bytes and then by end.
    ///
    /// # Errors
    ///
    /// As [`find_sessions`](Self::find_sessions).
    pub fn find_sessions_by_end(
        &mut self,
        earliest: Timestamp,
        latest: Timestamp,
    ) -> Result<StoreIterator<'_, OfKey<K, V>>, StoreError> {
        self.scan(&.., earliest..=latest, Order::Ascending)
    }

    fn scan(
        &mut self,
        keys: &impl RangeBounds<K>,
        ends: RangeInclusive<Timestamp>,
        order: Order,
    ) -> Result<StoreIterator<'_, OfKey<K, V>>, StoreError> {
        let Self { keys: serde, sessions, .. } = self;
        sessions.open()?;
        let open = sessions.meter.iterator();
        let found = sessions.fetch_keys(serde.bounds(keys)?, ends, order)?;
        let read = |(key, session): (Vec<u8>, Session<V>)| Ok((serde.read(&key)?, session));
        Ok(counted(found.map(move |entry| entry.and_then(read)), open))
    }

    /// The value of `key` in the window from `start` to `end`; a null key has none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] and [`StoreError::State`], as [`put`](Self::put).
    pub fn fetch_session(
        &mut self,
        key: &K,
        start: Timestamp,
        end: Timestamp,
    ) -> Result<Option<ValueAndTimestamp<V>>, StoreError> {
        match self.keys.write(key, &mut self.scratch) {
            Err(StoreError::NullKey) => return Ok(None),
            written => written?,
        }
        self.sessions.open()?;
        for session in self.sessions.fetch(&self.scratch, end..=end, Order::Ascending) {
            let Session { window, value, timestamp } = session?;
            if window.start == start {
                return Ok(Some(ValueAndTimestamp { value, timestamp }));
            }
        }
        Ok(None)
    }

    /// The value of `key` in the window from `start` to `end` as it was at the last flush, as [`SessionBytes::flushed`]; a null
    /// key has none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] and [`StoreError::State`], as [`put`](Self::put).
    pub fn fetch_flushed(
        &mut self,
        key: &K,
        window: Window,
    ) -> Result<Option<ValueAndTimestamp<V>>, StoreError> {
        match self.keys.write(key, &mut self.scratch) {
            Err(StoreError::NullKey) => return Ok(None),
            written => written?,
        }
        self.sessions.open()?;
        let slot = self.sessions.locate(&self.scratch, window)?;
        Ok(self.sessions.flushed(slot))
    }

    /// As [`SessionBytes::expire_below`].
    pub fn expire_below(&mut self, floor: Timestamp) {
        self.sessions.expire_below(floor);
    }

    /// The store without the type of its keys.
    pub fn by_bytes(&mut self) -> &mut SessionBytes<V> {
        &mut self.sessions
    }
}

impl<K: Data, V: Data> StateStore for SessionStore<K, V> {
    fn keep_within(&mut self, record_bytes_max: usize) {
        self.sessions.segments.keep_within(record_bytes_max, record_bytes_max);
    }

    fn commit(&mut self, epoch: u64) -> Result<StoreChanges, StateError> {
        let began = self.sessions.meter.begin(StoreOperation::Flush, 1);
        let changes = self.sessions.segments.commit(epoch);
        self.sessions.meter.end(StoreOperation::Flush, 1, began);
        changes
    }

    fn published(&mut self, epoch: u64, bytes_max: usize) {
        self.sessions.segments.published(epoch, bytes_max);
    }

    fn size_bytes(&self) -> usize {
        self.sessions.segments.size_bytes()
    }

    fn cache_reads(&self) -> CacheReads {
        self.sessions.segments.reads
    }

    fn time_by(&mut self, clock: &Arc<dyn Clock>) {
        self.sessions.meter.time_by(clock);
    }

    fn count_iterators(&mut self, iterators: &PartIterators) {
        self.sessions.meter.count_iterators(iterators);
    }

    fn take_counts(&mut self) -> StoreCounts {
        self.sessions.meter.take()
    }

    fn dirty_bytes(&self) -> usize {
        self.sessions.segments.dirty_bytes()
    }

    fn by_bytes(&mut self) -> &mut dyn Any {
        &mut self.sessions
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Window,
            tests::{MapShard, open},
        },
        *,
    };
    use headwater_core::serde::for_type;

    type Counts = SessionStore<Option<String>, i64>;

    fn counts(shard: &Arc<MapShard>) -> Box<Counts> {
        let builder = Counts::builder("counts", for_type(), for_type(), Duration::from_millis(10));
        open(&builder, shard)
    }

    fn session(key: &str, start: Timestamp, end: Timestamp) -> Windowed<Option<String>> {
        Windowed { key: Some(key.to_owned()), window: Window { start, end } }
    }

    fn found(
        store: &mut Counts,
        key: &str,
        from: Timestamp,
        to: Timestamp,
    ) -> Vec<(i64, i64, i64)> {
        let found = store.find_sessions(&Some(key.to_owned()), from, to).unwrap();
        let found = found.map(Result::unwrap);
        found.map(|it| (it.window.start, it.window.end, it.value)).collect()
    }

    #[test]
    fn sessions_that_overlap_a_stretch_are_found_cached_or_not() {
        for is_evicted in [false, true] {
            let shard = Arc::new(MapShard::default());
            let mut store = counts(&shard);
            for (n, (key, start, end)) in
                (1..).zip([("a", 1, 5), ("a", 10, 31), ("a", 40, 40), ("a\0", 3, 4), ("b", 2, 2)])
            {
                store.put(&session(key, start, end), Some(n)).unwrap();
            }
            if is_evicted {
                shard.publish(&mut *store, 1);
                store = counts(&shard);
            }
            assert_eq!(found(&mut store, "a", 5, 10), [(1, 5, 1), (10, 31, 2)], "inclusive");
            assert_eq!(found(&mut store, "a", 6, 9), []);
            assert_eq!(found(&mut store, "a", 0, 100).len(), 3);
            assert_eq!(found(&mut store, "a\0", 0, 100), [(3, 4, 4)]);
            assert_eq!(store.fetch(&None).unwrap().count(), 0);
            store.remove(&session("a", 10, 31)).unwrap();
            store.put(&session("a", 1, 5), Some(9)).unwrap();
            let kept = store.fetch_session(&Some("a".into()), 1, 5).unwrap().unwrap();
            assert_eq!((kept.value, kept.timestamp), (9, 5));
            assert_eq!(store.fetch_session(&Some("a".into()), 10, 31).unwrap(), None);
            assert_eq!(found(&mut store, "a", 0, 100), [(1, 5, 9), (40, 40, 3)]);
            store.expire_below(30);
            assert_eq!(found(&mut store, "a", 0, 100), [(40, 40, 3)]);
            shard.publish(&mut *store, 2);
            assert_eq!(found(&mut counts(&shard), "a", 0, 100), [(40, 40, 3)]);
        }
    }
}

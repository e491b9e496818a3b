//! Stores over all their partitions, at the commit of a [`StateSnapshot`](super::StateSnapshot).

use super::{
    part::{StorePart, StoreParts},
    rows::QueryIterator,
};
use crate::store::{Session, StoreError, ValueAndTimestamp, VersionedRecord, WindowEntry};
use headwater_core::{
    ports::state::{Order, StateError},
    record::{Timestamp, TopicPartition},
    serde::Data,
};
use std::{
    fmt,
    ops::{RangeBounds, RangeInclusive},
    sync::Arc,
};

/// What all views have.
macro_rules! view {
    ($view:ident) => {
        impl<K, V> fmt::Debug for $view<K, V> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let name = &self.0.name;
                f.debug_struct(stringify!($view)).field("name", name).finish_non_exhaustive()
            }
        }

        impl<K: Data, V: Data> $view<K, V> {
            /// Where the application's inputs stood at the commit that this shows, those of its partition if it has one alone: one past
            /// the last record applied.
            #[must_use]
            pub fn position(&self) -> &[(TopicPartition, i64)] {
                self.0.position()
            }

            /// The same of one partition alone, Kafka's `StoreQueryParameters.withPartition`; none if this has no such one.
            ///
            /// [`KeyQueryMetadata`](super::KeyQueryMetadata) tells the partition of a key.
            #[must_use]
            pub fn with_partition(&self, partition: u32) -> Option<Self> {
                self.0.of_partition(partition).map(Self)
            }
        }
    };
}

/// A key-value store over all its partitions, at the commit of a [`StateSnapshot`](super::StateSnapshot).
pub struct ReadOnlyKeyValueStore<K, V>(pub(super) StoreParts<K, V>);

view!(ReadOnlyKeyValueStore);

impl<K: Data, V: Data> ReadOnlyKeyValueStore<K, V> {
    /// The value of `key`; a null key has none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] if the key has no form in bytes, [`StoreError::State`] if the state cannot be read or holds
    /// something else.
    pub fn get(&self, key: &K) -> Result<Option<ValueAndTimestamp<V>>, StoreError> {
        self.0.find(key, |part, key| part.get(key))
    }

    /// The entries whose keys lie within `range`, over all partitions by their keys' bytes.
    ///
    /// # Errors
    ///
    /// [`StoreError::NullKey`] and [`StoreError::Key`] for a bound that no key can have. What cannot be read is an error of
    /// the iterator.
    pub fn range(
        &self,
        range: impl RangeBounds<K>,
    ) -> Result<QueryIterator<(K, ValueAndTimestamp<V>)>, StoreError> {
        self.range_in(&range, Order::Ascending)
    }

    /// The same, the last key first.
    ///
    /// # Errors
    ///
    /// As [`range`](Self::range).
    pub fn reverse_range(
        &self,
        range: impl RangeBounds<K>,
    ) -> Result<QueryIterator<(K, ValueAndTimestamp<V>)>, StoreError> {
        self.range_in(&range, Order::Descending)
    }

    fn range_in(
        &self,
        range: &impl RangeBounds<K>,
        order: Order,
    ) -> Result<QueryIterator<(K, ValueAndTimestamp<V>)>, StoreError> {
        let bounds = self.0.bounds(range)?;
        Ok(self.0.rows(|part| part.range(bounds.clone(), order)))
    }

    /// The entries whose keys' bytes begin with `prefix`, over all partitions by their keys' bytes. What cannot be read is an
    /// error of the iterator.
    #[must_use]
    pub fn prefix_scan(&self, prefix: &[u8]) -> QueryIterator<(K, ValueAndTimestamp<V>)> {
        self.0.rows(|part| part.prefix_scan(prefix, Order::Ascending))
    }

    /// All entries, by their keys' bytes: of a store that fits in memory. [`range`](Self::range) reads any other.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read, [`StateError::Unreadable`] if it
    /// holds something else.
    pub fn all(&self) -> Result<Vec<(K, ValueAndTimestamp<V>)>, StateError> {
        self.prefix_scan(&[]).collect()
    }
}

/// A window store over all its partitions, at the commit of a [`StateSnapshot`](super::StateSnapshot).
pub struct ReadOnlyWindowStore<K, V>(pub(super) StoreParts<K, V>);

view!(ReadOnlyWindowStore);

impl<K: Data, V: Data> ReadOnlyWindowStore<K, V> {
    /// The value of `key` in the window that starts at `start`, or the first of several; a null key has none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] if the key has no form in bytes, [`StoreError::State`] if the state cannot be read or holds
    /// something else.
    pub fn fetch(
        &self,
        key: &K,
        start: Timestamp,
    ) -> Result<Option<ValueAndTimestamp<V>>, StoreError> {
        self.0.find(key, |part, key| part.fetch(key, start))
    }

    /// The values of `key` in the windows whose starts lie within `starts`, by start. Costs a look-up for each start that
    /// the store holds there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] and [`StoreError::State`], as [`fetch`](Self::fetch).
    pub fn fetch_range(
        &self,
        key: &K,
        starts: RangeInclusive<Timestamp>,
    ) -> Result<Vec<(Timestamp, ValueAndTimestamp<V>)>, StoreError> {
        self.fetch_in(key, &starts, Order::Ascending)
    }

    /// The same with the latest window first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] and [`StoreError::State`], as [`fetch`](Self::fetch).
    pub fn backward_fetch_range(
        &self,
        key: &K,
        starts: RangeInclusive<Timestamp>,
    ) -> Result<Vec<(Timestamp, ValueAndTimestamp<V>)>, StoreError> {
        self.fetch_in(key, &starts, Order::Descending)
    }

    fn fetch_in(
        &self,
        key: &K,
        starts: &RangeInclusive<Timestamp>,
        order: Order,
    ) -> Result<Vec<(Timestamp, ValueAndTimestamp<V>)>, StoreError> {
        let rows = self.0.rows_of(key, |part, key| part.window_key(key, starts.clone(), order))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// All entries of windows whose starts lie within `starts`, by start and then by their keys' bytes.
    ///
    /// Sliding windows, and those of a store that is declared [with a retention](crate::store::WindowStore::with_retention), come
    /// by their keys' bytes and then by start.
    ///
    /// [`WindowRangeQuery`](super::WindowRangeQuery) reads what may not fit in memory.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read, [`StateError::Unreadable`] if it
    /// holds something else.
    pub fn fetch_all(
        &self,
        starts: RangeInclusive<Timestamp>,
    ) -> Result<Vec<WindowEntry<K, V>>, StateError> {
        self.0.rows(|part| part.window_range(starts.clone(), Order::Ascending)).collect()
    }

    /// The same the other way round: the latest window first, and in it the largest key.
    ///
    /// # Errors
    ///
    /// As [`fetch_all`](Self::fetch_all).
    pub fn backward_fetch_all(
        &self,
        starts: RangeInclusive<Timestamp>,
    ) -> Result<Vec<WindowEntry<K, V>>, StateError> {
        self.0.rows(|part| part.window_range(starts.clone(), Order::Descending)).collect()
    }
}

/// A session store over all its partitions, at the commit of a [`StateSnapshot`](super::StateSnapshot).
pub struct ReadOnlySessionStore<K, V>(pub(super) StoreParts<K, V>);

view!(ReadOnlySessionStore);

impl<K: Data, V: Data> ReadOnlySessionStore<K, V> {
    /// The windows of `key` that end at `earliest_end` or later and start at `latest_start` or earlier, by end; a null key
    /// has none. Costs a look-up for each segment that the store holds.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] if the key has no form in bytes, [`StoreError::State`] if the state cannot be read or holds
    /// something else.
    pub fn find_sessions(
        &self,
        key: &K,
        earliest_end: Timestamp,
        latest_start: Timestamp,
    ) -> Result<Vec<Session<V>>, StoreError> {
        self.sessions(key, (earliest_end, latest_start), Order::Ascending)
    }

    /// The same with the latest end first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] and [`StoreError::State`], as [`find_sessions`](Self::find_sessions).
    pub fn backward_find_sessions(
        &self,
        key: &K,
        earliest_end: Timestamp,
        latest_start: Timestamp,
    ) -> Result<Vec<Session<V>>, StoreError> {
        self.sessions(key, (earliest_end, latest_start), Order::Descending)
    }

    fn sessions(
        &self,
        key: &K,
        ends_and_starts: (Timestamp, Timestamp),
        order: Order,
    ) -> Result<Vec<Session<V>>, StoreError> {
        let sessions =
            |part: &Arc<StorePart<K, V>>, key: &[u8]| part.sessions(key, ends_and_starts, order);
        Ok(self.0.rows_of(key, sessions)?.collect::<Result<_, _>>()?)
    }

    /// All windows of `key`, by end; a null key has none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] and [`StoreError::State`], as [`find_sessions`](Self::find_sessions).
    pub fn fetch(&self, key: &K) -> Result<Vec<Session<V>>, StoreError> {
        self.find_sessions(key, 0, Timestamp::MAX)
    }

    /// The value of `key` in the window from `start` to `end`; a null key has none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] and [`StoreError::State`], as [`find_sessions`](Self::find_sessions).
    pub fn fetch_session(
        &self,
        key: &K,
        start: Timestamp,
        end: Timestamp,
    ) -> Result<Option<ValueAndTimestamp<V>>, StoreError> {
        let mut found = self.find_sessions(key, end, start)?.into_iter();
        let found = found.find(|it| (it.window.start, it.window.end) == (start, end));
        Ok(found.map(|Session { value, timestamp, .. }| ValueAndTimestamp { value, timestamp }))
    }
}

/// A versioned store over all its partitions, at the commit of a [`StateSnapshot`](super::StateSnapshot).
pub struct ReadOnlyVersionedKeyValueStore<K, V>(pub(super) StoreParts<K, V>);

view!(ReadOnlyVersionedKeyValueStore);

impl<K: Data, V: Data> ReadOnlyVersionedKeyValueStore<K, V> {
    /// The latest version of `key`, if that is no deletion; a null key has none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] if the key has no form in bytes, [`StoreError::State`] if the state cannot be read or holds
    /// something else.
    pub fn get(&self, key: &K) -> Result<Option<VersionedRecord<V>>, StoreError> {
        self.0.find(key, |part, key| part.version(key, None))
    }

    /// The version of `key` that was valid at `time`, if there was one; before the history, only a latest version is found.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_as_of(
        &self,
        key: &K,
        time: Timestamp,
    ) -> Result<Option<VersionedRecord<V>>, StoreError> {
        self.0.find(key, |part, key| part.version(key, Some(time)))
    }

    /// The versions of `key` that were valid at any time within `times`, by the time from which they were.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn versions(
        &self,
        key: &K,
        times: RangeInclusive<Timestamp>,
        order: Order,
    ) -> Result<QueryIterator<VersionedRecord<V>>, StoreError> {
        self.0.rows_of(key, |part, key| part.versions(key, times.clone(), order))
    }
}

//! What can be asked of a store, and of which kind of store.

use super::{part::StorePart, rows::QueryIterator};
use crate::store::{
    Session, StoreError, StoreKind, ValueAndTimestamp, VersionedRecord, WindowEntry,
};
use headwater_core::{ports::state::Order, record::Timestamp, serde::Data};
use std::{
    marker::PhantomData,
    ops::{Bound, RangeInclusive},
    sync::Arc,
};

/// A question to a store, which each of its partitions answers; see [`StateQueryRequest`](super::StateQueryRequest).
///
/// | query | answers with | asks a store |
/// |---|---|---|
/// | [`KeyQuery`] | a value | key-value, LRU, global |
/// | [`RangeQuery`], [`PrefixQuery`] | values by key | key-value, LRU, global |
/// | [`WindowKeyQuery`] | the values of a key by window start | window, of sliding windows |
/// | [`WindowRangeQuery`] | values by window start and key | window, of sliding windows |
/// | [`SessionKeyQuery`] | the sessions of a key by end | session |
/// | [`VersionedKeyQuery`] | a version | versioned |
/// | [`MultiVersionedKeyQuery`] | the versions of a key by time | versioned |
///
/// Each value comes with its timestamp: what Kafka Streams' timestamped queries ask for, all do.
pub trait Query: Ask {}

impl<Q: Ask> Query for Q {}

/// How a query is answered.
pub trait Ask {
    /// The keys of the store.
    type Key: Data;
    /// Its values.
    type Value: Data;
    /// What a partition answers with.
    type Answer: QueryAnswer;

    /// The kind of store that can answer.
    #[doc(hidden)]
    fn kind(&self) -> StoreKind;

    /// Has a partition answer.
    #[doc(hidden)]
    fn ask(
        &self,
        part: &Arc<StorePart<Self::Key, Self::Value>>,
    ) -> Result<Self::Answer, StoreError>;
}

/// What partitions answer with, and how that is put together.
pub trait QueryAnswer: Sized {
    /// Whether there is anything in it.
    fn is_some(&self) -> bool;

    /// The answers of several partitions as one.
    #[must_use]
    fn merged(answers: Vec<Self>) -> Self;
}

impl<T> QueryAnswer for Option<T> {
    fn is_some(&self) -> bool {
        self.is_some()
    }

    fn merged(answers: Vec<Self>) -> Self {
        answers.into_iter().flatten().next()
    }
}

impl<T: Send + 'static> QueryAnswer for QueryIterator<T> {
    fn is_some(&self) -> bool {
        true
    }

    fn merged(answers: Vec<Self>) -> Self {
        Self::merged(answers)
    }
}

/// Implements [`Ask`] for a query.
macro_rules! ask {
    ($query:ident, $kind:ident, $answer:ty, $ask:expr) => {
        impl<K: Data, V: Data> Ask for $query<K, V> {
            type Key = K;
            type Value = V;
            type Answer = $answer;

            fn kind(&self) -> StoreKind {
                StoreKind::$kind
            }

            fn ask(&self, part: &Arc<StorePart<K, V>>) -> Result<Self::Answer, StoreError> {
                let ask: fn(&Self, &Arc<StorePart<K, V>>) -> Result<$answer, StoreError> = $ask;
                ask(self, part)
            }
        }
    };
}

/// The value of a key, as of the last commit; a null key has none.
#[derive(Debug, Clone)]
pub struct KeyQuery<K, V> {
    key: K,
    value: PhantomData<fn() -> V>,
}

impl<K, V> KeyQuery<K, V> {
    /// Asks for `key`.
    #[must_use]
    pub fn with_key(key: K) -> Self {
        Self { key, value: PhantomData }
    }
}

ask!(KeyQuery, KeyValue, Option<ValueAndTimestamp<V>>, |query, part| {
    let Some(key) = part.key(&query.key)? else { return Ok(None) };
    part.get(&key)
});

/// The values of a range of keys, by their keys' bytes; both bounds belong to it.
#[derive(Debug, Clone)]
pub struct RangeQuery<K, V> {
    lower: Option<K>,
    upper: Option<K>,
    order: Order,
    value: PhantomData<fn() -> V>,
}

impl<K, V> RangeQuery<K, V> {
    fn new(lower: Option<K>, upper: Option<K>) -> Self {
        Self { lower, upper, order: Order::Ascending, value: PhantomData }
    }

    /// Asks for the keys from `lower` to `upper`.
    #[must_use]
    pub fn with_range(lower: K, upper: K) -> Self {
        Self::new(Some(lower), Some(upper))
    }

    /// Asks for the keys from `lower` on.
    #[must_use]
    pub fn with_lower_bound(lower: K) -> Self {
        Self::new(Some(lower), None)
    }

    /// Asks for the keys up to `upper`.
    #[must_use]
    pub fn with_upper_bound(upper: K) -> Self {
        Self::new(None, Some(upper))
    }

    /// Asks for all keys.
    #[must_use]
    pub fn with_no_bounds() -> Self {
        Self::new(None, None)
    }

    /// Has the smallest key come first, as it does unless told otherwise.
    #[must_use]
    pub fn with_ascending_keys(self) -> Self {
        Self { order: Order::Ascending, ..self }
    }

    /// Has the largest key come first.
    #[must_use]
    pub fn with_descending_keys(self) -> Self {
        Self { order: Order::Descending, ..self }
    }
}

ask!(RangeQuery, KeyValue, QueryIterator<(K, ValueAndTimestamp<V>)>, |query, part| {
    let bound = |key| Option::as_ref(key).map_or(Bound::Unbounded, Bound::Included);
    let range = part.bounds((bound(&query.lower), bound(&query.upper)))?;
    Ok(part.counted(part.range(range, query.order)))
});

/// The values of the keys whose bytes begin with a prefix, by their keys' bytes.
#[derive(Debug, Clone)]
pub struct PrefixQuery<K, V> {
    prefix: Vec<u8>,
    order: Order,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> PrefixQuery<K, V> {
    /// Asks for the keys that begin with `prefix`.
    #[must_use]
    pub fn with_prefix(prefix: impl Into<Vec<u8>>) -> Self {
        Self { prefix: prefix.into(), order: Order::Ascending, types: PhantomData }
    }

    /// Has the largest key come first.
    #[must_use]
    pub fn with_descending_keys(self) -> Self {
        Self { order: Order::Descending, ..self }
    }
}

ask!(PrefixQuery, KeyValue, QueryIterator<(K, ValueAndTimestamp<V>)>, |query, part| {
    Ok(part.counted(part.prefix_scan(&query.prefix, query.order)))
});

/// The values of a key in the windows that start within a range, by start, the earliest first unless told otherwise.
#[derive(Debug, Clone)]
pub struct WindowKeyQuery<K, V> {
    key: K,
    starts: RangeInclusive<Timestamp>,
    order: Order,
    value: PhantomData<fn() -> V>,
}

impl<K, V> WindowKeyQuery<K, V> {
    /// Asks for `key` in the windows that start from `from` to `to`, both included, in ms.
    #[must_use]
    pub fn with_key_and_window_start_range(key: K, from: Timestamp, to: Timestamp) -> Self {
        Self { key, starts: from..=to, order: Order::Ascending, value: PhantomData }
    }

    /// Has the latest window come first.
    #[must_use]
    pub fn with_descending_windows(self) -> Self {
        Self { order: Order::Descending, ..self }
    }
}

ask!(WindowKeyQuery, Window, QueryIterator<(Timestamp, ValueAndTimestamp<V>)>, |query, part| {
    let Some(key) = part.key(&query.key)? else { return Ok(QueryIterator::none()) };
    Ok(part.counted(part.window_key(&key, query.starts.clone(), query.order)))
});

/// The values of all keys in the windows that start within a range, by start and then by their keys' bytes, the earliest first
/// unless told otherwise.
///
/// Sliding windows, and those of a store that is declared [with a retention](crate::store::WindowStore::with_retention), come by
/// their keys' bytes and then by start, as they lie.
#[derive(Debug, Clone)]
pub struct WindowRangeQuery<K, V> {
    starts: RangeInclusive<Timestamp>,
    order: Order,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> WindowRangeQuery<K, V> {
    /// Asks for the windows that start from `from` to `to`, both included, in ms.
    #[must_use]
    pub fn with_window_start_range(from: Timestamp, to: Timestamp) -> Self {
        Self { starts: from..=to, order: Order::Ascending, types: PhantomData }
    }

    /// Has the rows come the other way round: the latest window first, and in it the largest key.
    #[must_use]
    pub fn with_descending_windows(self) -> Self {
        Self { order: Order::Descending, ..self }
    }

    /// Asks for the sessions of `key`.
    #[must_use]
    pub fn with_key(key: K) -> SessionKeyQuery<K, V> {
        SessionKeyQuery { key, order: Order::Ascending, value: PhantomData }
    }
}

ask!(WindowRangeQuery, Window, QueryIterator<WindowEntry<K, V>>, |query, part| {
    Ok(part.counted(part.window_range(query.starts.clone(), query.order)))
});

/// The sessions of a key, by end, the earliest first unless told otherwise: made by [`WindowRangeQuery::with_key`].
#[derive(Debug, Clone)]
pub struct SessionKeyQuery<K, V> {
    key: K,
    order: Order,
    value: PhantomData<fn() -> V>,
}

impl<K, V> SessionKeyQuery<K, V> {
    /// Has the latest session come first.
    #[must_use]
    pub fn with_descending_windows(self) -> Self {
        Self { order: Order::Descending, ..self }
    }
}

ask!(SessionKeyQuery, Session, QueryIterator<Session<V>>, |query, part| {
    let Some(key) = part.key(&query.key)? else { return Ok(QueryIterator::none()) };
    Ok(part.counted(part.sessions(&key, (0, Timestamp::MAX), query.order)))
});

/// The version of a key that was valid at a time, or its latest; a null key has none.
#[derive(Debug, Clone)]
pub struct VersionedKeyQuery<K, V> {
    key: K,
    time: Option<Timestamp>,
    value: PhantomData<fn() -> V>,
}

impl<K, V> VersionedKeyQuery<K, V> {
    /// Asks for the latest version of `key`.
    #[must_use]
    pub fn with_key(key: K) -> Self {
        Self { key, time: None, value: PhantomData }
    }

    /// Asks for what was valid at `time`, in ms; before the history, only a latest version is found.
    #[must_use]
    pub fn as_of(self, time: Timestamp) -> Self {
        Self { time: Some(time), ..self }
    }
}

ask!(VersionedKeyQuery, Versioned, Option<VersionedRecord<V>>, |query, part| {
    let Some(key) = part.key(&query.key)? else { return Ok(None) };
    part.version(&key, query.time)
});

/// The versions of a key that were valid at any time within a range, the newest first unless told otherwise. Deletions are
/// none.
#[derive(Debug, Clone)]
pub struct MultiVersionedKeyQuery<K, V> {
    key: K,
    from: Timestamp,
    to: Timestamp,
    order: Order,
    value: PhantomData<fn() -> V>,
}

impl<K, V> MultiVersionedKeyQuery<K, V> {
    /// Asks for all versions of `key` within the history.
    #[must_use]
    pub fn with_key(key: K) -> Self {
        let (from, to) = (Timestamp::MIN, Timestamp::MAX);
        Self { key, from, to, order: Order::Descending, value: PhantomData }
    }

    /// Leaves out what was no longer valid at `time`, in ms.
    #[must_use]
    pub fn from_time(self, time: Timestamp) -> Self {
        Self { from: time, ..self }
    }

    /// Leaves out what was not valid yet at `time`, in ms.
    #[must_use]
    pub fn to_time(self, time: Timestamp) -> Self {
        Self { to: time, ..self }
    }

    /// Has the oldest version come first.
    #[must_use]
    pub fn with_ascending_timestamps(self) -> Self {
        Self { order: Order::Ascending, ..self }
    }

    /// Has the newest version come first.
    #[must_use]
    pub fn with_descending_timestamps(self) -> Self {
        Self { order: Order::Descending, ..self }
    }
}

ask!(MultiVersionedKeyQuery, Versioned, QueryIterator<VersionedRecord<V>>, |query, part| {
    let Some(key) = part.key(&query.key)? else { return Ok(QueryIterator::none()) };
    Ok(part.counted(part.versions(&key, query.from..=query.to, query.order)))
});

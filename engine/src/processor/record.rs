//! The typed record that processors see.

use crate::node::{NO_ORIGIN, Stamp};
use headwater_core::record::{Headers, Timestamp};

/// Set in the origin of a record that was made at a place, not from the record there: when a timer fell due.
pub(crate) const MADE: u32 = 1 << 31;

/// The operator time of a record that no graph has given one yet.
pub(crate) const NO_TIME: Timestamp = Timestamp::MIN;

/// A key, a value, and when it happened.
///
/// Operators that make a new record from one keep its headers and its place of origin by building it with
/// [`with_key`](Self::with_key), [`with_value`](Self::with_value) and the like.
///
/// ```
/// use headwater_engine::processor::Record;
///
/// let record = Record::new("car", 97.5, 5).with_value("fast").with_timestamp(6);
/// assert_eq!((record.key, record.value, record.timestamp), ("car", "fast", 6));
/// let swapped = record.map(|key, value| (value, key));
/// assert_eq!((swapped.key, swapped.value), ("fast", "car"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<K, V> {
    /// The key.
    pub key: K,
    /// The value.
    pub value: V,
    /// Event time in ms.
    pub timestamp: Timestamp,
    /// Headers, if it has any.
    pub headers: Option<Box<Headers>>,
    /// Which record of the batch it descends from, for dead letters.
    pub(crate) origin: u32,
    /// The operator time before it: below a repartition it decides what is late and what closes.
    pub(crate) at: Timestamp,
}

impl<K, V> Record<K, V> {
    /// A record without headers.
    pub fn new(key: K, value: V, timestamp: Timestamp) -> Self {
        Self { key, value, timestamp, headers: None, origin: NO_ORIGIN, at: NO_TIME }
    }

    /// The same record under another key.
    pub fn with_key<K2>(self, key: K2) -> Record<K2, V> {
        let Self { value, timestamp, headers, origin, at, .. } = self;
        Record { key, value, timestamp, headers, origin, at }
    }

    /// The same record with another value.
    pub fn with_value<V2>(self, value: V2) -> Record<K, V2> {
        let Self { key, timestamp, headers, origin, at, .. } = self;
        Record { key, value, timestamp, headers, origin, at }
    }

    /// The same record at another time.
    #[must_use]
    pub fn with_timestamp(self, timestamp: Timestamp) -> Self {
        Self { timestamp, ..self }
    }

    /// The same record with these headers in place of its own.
    ///
    /// ```
    /// use headwater_core::record::Headers;
    /// use headwater_engine::processor::Record;
    ///
    /// let mut headers = Headers::new();
    /// headers.add("unit", Some(b"km/h".to_vec()));
    /// let record = Record::new("car", 97.5, 5).with_headers(headers.clone());
    /// assert_eq!(record.headers.as_deref(), Some(&headers));
    /// assert_eq!(record.with_headers(Headers::new()).headers, None);
    /// ```
    #[must_use]
    pub fn with_headers(self, headers: Headers) -> Self {
        let headers = (!headers.is_empty()).then(|| Box::new(headers));
        Self { headers, ..self }
    }

    /// What it has beside key, value and headers.
    #[doc(hidden)]
    pub fn stamp(&self) -> Stamp {
        Stamp { origin: self.origin, timestamp: self.timestamp, at: self.at }
    }

    /// A record that an operator has made, as `stamp` has it.
    #[doc(hidden)]
    pub fn made(key: K, value: V, headers: Option<Box<Headers>>, stamp: Stamp) -> Self {
        let Stamp { origin, timestamp, at } = stamp;
        Self { key, value, timestamp, headers, origin, at }
    }

    /// Its key and value, and the record without them: to make several records of one.
    ///
    /// ```
    /// use headwater_engine::processor::Record;
    ///
    /// let (bare, key, words) = Record::new("line", vec!["to", "be"], 5).split();
    /// let words = words.into_iter().map(|word| bare.clone().with_key(word).with_value(key));
    /// let made: Vec<_> = words.map(|record| (record.key, record.value, record.timestamp)).collect();
    /// assert_eq!(made, [("to", "line", 5), ("be", "line", 5)]);
    /// ```
    pub fn split(self) -> (Record<(), ()>, K, V) {
        let Self { key, value, timestamp, headers, origin, at } = self;
        (Record { key: (), value: (), timestamp, headers, origin, at }, key, value)
    }

    /// The same record with its key and value mapped.
    pub fn map<K2, V2>(self, map: impl FnOnce(K, V) -> (K2, V2)) -> Record<K2, V2> {
        let Self { key, value, timestamp, headers, origin, at } = self;
        let (key, value) = map(key, value);
        Record { key, value, timestamp, headers, origin, at }
    }
}

//! Records and dead letters as tests see them.

use headwater_core::record::{Headers, Timestamp};

/// A record as a test writes and reads it.
///
/// Example: [`TestRecord::new`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestRecord<K, V> {
    /// The key.
    pub key: K,
    /// The value.
    pub value: V,
    /// Event time in ms.
    pub timestamp: Timestamp,
    /// Headers.
    pub headers: Headers,
    /// The partition it was read from.
    pub partition: u32,
}

impl<K, V> TestRecord<K, V> {
    /// A record without headers.
    ///
    /// ```
    /// use headwater_testkit::TestRecord;
    ///
    /// let record = TestRecord::new("a", 1, 5);
    /// assert_eq!((record.key, record.timestamp, record.headers.iter().count()), ("a", 5, 0));
    /// ```
    pub fn new(key: K, value: V, timestamp: Timestamp) -> Self {
        Self { key, value, timestamp, headers: Headers::new(), partition: 0 }
    }
}

/// A dead letter as a test reads it.
///
/// Example: [`TopologyTestDriver::dead_letters`](super::TopologyTestDriver::dead_letters).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestDeadLetter {
    /// Its raw key.
    pub key: String,
    /// Its raw value.
    pub value: String,
    /// What kind of failure it was.
    pub kind: String,
    /// What was wrong.
    pub cause: String,
    /// The topic that the record was in; empty for a row that an operator made.
    pub topic: String,
}

//! Where a source's records have their event times from.

use headwater_core::record::{Headers, Timestamp};
use std::sync::Arc;

/// A record as a source has read it, for a [`TimestampExtractor`].
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct SourceRecord<'a, K, V> {
    /// Its key.
    pub key: &'a K,
    /// Its value.
    pub value: &'a V,
    /// The timestamp that it has in its topic, in ms; one below 0 is none.
    pub timestamp: Timestamp,
    /// Its offset.
    pub offset: i64,
    /// The wall clock, in ms; for a global store, whose records are taken as often as it is rebuilt, the record's own timestamp.
    pub wall_clock: Timestamp,
    pub(super) headers: &'a [u8],
}

impl<K, V> SourceRecord<'_, K, V> {
    /// Its headers; none if they cannot be read, which makes it a bad record wherever its time is from.
    #[must_use]
    pub fn headers(&self) -> Headers {
        Headers::decode(self.headers).unwrap_or_default()
    }

    fn with_value<'a, V2>(&'a self, value: &'a V2) -> SourceRecord<'a, K, V2> {
        let Self { key, timestamp, offset, wall_clock, headers, .. } = *self;
        SourceRecord { key, value, timestamp, offset, wall_clock, headers }
    }
}

/// Says what a record's event time is. Any function of key, value and the record's own timestamp will do, and so do Kafka's own
/// ([`BuiltInExtractor`]).
///
/// ```
/// use headwater_engine::topology::{Consumed, SourceRecord, TimestampExtractor};
///
/// /// What the value says, but never before what the partition has told.
/// struct Rising;
///
/// impl TimestampExtractor<String, i64> for Rising {
///     fn extract(
///         &self,
///         record: &SourceRecord<'_, String, i64>,
///         partition_time: Option<i64>,
///     ) -> Result<Option<i64>, String> {
///         Ok(Some(partition_time.map_or(*record.value, |time| time.max(*record.value))))
///     }
/// }
///
/// let _starts = Consumed::<String, i64>::default().timestamp_extractor(Rising);
/// ```
pub trait TimestampExtractor<K, V>: Send + Sync {
    /// The time of `record` in ms, or none to have it skipped, which is logged and counted as dropped. `partition_time` is the
    /// largest time of the records that its partition has brought before it, over all runs; none in front of the first. An
    /// error makes it a bad record, as does a time below 0.
    ///
    /// # Errors
    ///
    /// What is wrong with it, for a person.
    fn extract(
        &self,
        record: &SourceRecord<'_, K, V>,
        partition_time: Option<Timestamp>,
    ) -> Result<Option<Timestamp>, String>;

    /// The same of a deletion, for a table: the record's own timestamp, unless implemented.
    ///
    /// # Errors
    ///
    /// As [`extract`](Self::extract).
    fn extract_of_null(
        &self,
        record: &SourceRecord<'_, K, ()>,
        partition_time: Option<Timestamp>,
    ) -> Result<Option<Timestamp>, String> {
        let _ = partition_time;
        Ok(Some(record.timestamp))
    }

    /// Whether it looks at the partition's time, which is kept for it then: yes, unless implemented.
    fn uses_partition_time(&self) -> bool {
        true
    }
}

impl<K, V, F> TimestampExtractor<K, V> for F
where
    F: Fn(&K, &V, Timestamp) -> Result<Timestamp, String> + Send + Sync,
{
    fn extract(
        &self,
        record: &SourceRecord<'_, K, V>,
        _: Option<Timestamp>,
    ) -> Result<Option<Timestamp>, String> {
        self(record.key, record.value, record.timestamp).map(Some)
    }

    fn uses_partition_time(&self) -> bool {
        false
    }
}

/// Kafka's own extractors, for a source or for all that have none (`default.timestamp.extractor`).
///
/// ```
/// use headwater_engine::{
///     runtime::StreamsConfig,
///     topology::{BuiltInExtractor, Consumed, LogAndSkipOnInvalidTimestamp},
/// };
///
/// let _cars = Consumed::<String, i64>::default().timestamp_extractor(LogAndSkipOnInvalidTimestamp);
/// let mut config = StreamsConfig::new("fleet");
/// config.set("default.timestamp.extractor", "WallclockTimestampExtractor")?;
/// let by_default = config.default_timestamp_extractor;
/// assert_eq!(by_default, BuiltInExtractor::WallclockTimestampExtractor);
/// # Ok::<(), headwater_engine::runtime::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BuiltInExtractor {
    /// The record's own timestamp; one without is a bad record.
    #[default]
    FailOnInvalidTimestamp,
    /// The record's own timestamp; one without is skipped.
    LogAndSkipOnInvalidTimestamp,
    /// The record's own timestamp; one without has the partition's time, and in front of the first is a bad record.
    UsePartitionTimeOnInvalidTimestamp,
    /// The wall clock when the record is read: what is read again after a failure has another time then.
    WallclockTimestampExtractor,
}

pub use BuiltInExtractor::{
    FailOnInvalidTimestamp, LogAndSkipOnInvalidTimestamp, UsePartitionTimeOnInvalidTimestamp,
    WallclockTimestampExtractor,
};

impl<K, V> TimestampExtractor<K, V> for BuiltInExtractor {
    fn extract(
        &self,
        record: &SourceRecord<'_, K, V>,
        partition_time: Option<Timestamp>,
    ) -> Result<Option<Timestamp>, String> {
        let own = record.timestamp;
        match self {
            Self::WallclockTimestampExtractor => Ok(Some(record.wall_clock)),
            Self::LogAndSkipOnInvalidTimestamp if own < 0 => Ok(None),
            Self::UsePartitionTimeOnInvalidTimestamp if own < 0 => match partition_time {
                Some(time) => Ok(Some(time)),
                None => {
                    Err(format!("its timestamp is {own}, and none of its partition came before"))
                }
            },
            Self::FailOnInvalidTimestamp
            | Self::LogAndSkipOnInvalidTimestamp
            | Self::UsePartitionTimeOnInvalidTimestamp => Ok(Some(own)),
        }
    }

    fn extract_of_null(
        &self,
        record: &SourceRecord<'_, K, ()>,
        partition_time: Option<Timestamp>,
    ) -> Result<Option<Timestamp>, String> {
        self.extract(record, partition_time)
    }

    fn uses_partition_time(&self) -> bool {
        matches!(self, Self::UsePartitionTimeOnInvalidTimestamp)
    }
}

/// An extractor as sources share it.
pub(super) type SharedExtractor<K, V> = Arc<dyn TimestampExtractor<K, V>>;

/// Extracts for a table, whose values may be null.
pub(super) struct OfTable<K, V>(pub(super) SharedExtractor<K, V>);

impl<K, V> TimestampExtractor<K, Option<V>> for OfTable<K, V> {
    fn extract(
        &self,
        record: &SourceRecord<'_, K, Option<V>>,
        partition_time: Option<Timestamp>,
    ) -> Result<Option<Timestamp>, String> {
        match record.value {
            Some(value) => self.0.extract(&record.with_value(value), partition_time),
            None => self.0.extract_of_null(&record.with_value(&()), partition_time),
        }
    }

    fn uses_partition_time(&self) -> bool {
        self.0.uses_partition_time()
    }
}

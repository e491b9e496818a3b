//! The serdes of a grouping.

use super::ChosenSerde;
use crate::DefaultSerde;
use headwater_core::serde::SharedSerde;

/// The serdes with which a grouping keeps keys and, where it repartitions, writes values.
///
/// ```
/// use headwater_dsl::{Grouped, StreamsBuilder};
/// use headwater_core::serde::{Json, for_type};
/// use headwater_testkit::TopologyTestDriver;
/// use std::sync::Arc;
///
/// let builder = StreamsBuilder::new();
/// let speeds = builder.stream::<String, i64>("speeds");
/// let by_text = Grouped::with(for_type::<String>(), Arc::new(Json));
/// let grouped = speeds.group_by_with(|_, kmh| format!("{kmh}"), by_text);
/// grouped.count("cars-by-speed").to_stream().to("out");
///
/// let driver = TopologyTestDriver::new(builder.build()?)?;
/// let speeds = driver.input_topic::<String, i64>("speeds");
/// speeds.pipe_input("car".into(), 120, 1)?;
/// speeds.pipe_input("car".into(), 120, 2)?;
/// let read = driver.output_topic::<String, i64>("out").read_records_to_list()?;
/// let read: Vec<_> = read.into_iter().map(|r| (r.key, r.value)).collect();
/// assert_eq!(read, [("120".to_owned(), 1), ("120".to_owned(), 2)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Grouped<K, V> {
    pub(crate) key: ChosenSerde<K>,
    pub(crate) value: ChosenSerde<V>,
}

impl<K, V> Clone for Grouped<K, V> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), value: self.value.clone() }
    }
}

impl<K, V> Grouped<K, V> {
    /// With these serdes.
    #[must_use]
    pub fn with(key: SharedSerde<K>, value: SharedSerde<V>) -> Self {
        Self { key: ChosenSerde::given(key), value: ChosenSerde::given(value) }
    }

    /// With this serde of keys; values have the one that the stream brings along, or else the default of their type.
    ///
    /// Rows whose keys have not changed stay where the topic's keys place them, and `query_metadata_for_key` tells that partition.
    ///
    /// ```
    /// use headwater_core::serde::Json;
    /// use headwater_dsl::{Grouped, StreamsBuilder};
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::sync::Arc;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<i64, i64>("speeds");
    /// let as_text = speeds.group_by_key_with(Grouped::key_serde(Arc::new(Json)));
    /// as_text.reduce(i64::max, "top-speeds").to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.check::<i64, i64, String, i64>("speeds", "7=120@1", "out", "7=120@1")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn key_serde(key: SharedSerde<K>) -> Self
    where
        V: DefaultSerde,
    {
        Self { key: ChosenSerde::given(key), value: ChosenSerde::default() }
    }

    /// With this serde of values; keys have the one that the stream brings along, or else the default of their type.
    ///
    /// Otherwise as [`key_serde`](Self::key_serde).
    #[must_use]
    pub fn value_serde(value: SharedSerde<V>) -> Self
    where
        K: DefaultSerde,
    {
        Self { key: ChosenSerde::default(), value: ChosenSerde::given(value) }
    }
}

impl<K, V> std::fmt::Debug for Grouped<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Grouped({}, {})", self.key.schema(), self.value.schema())
    }
}

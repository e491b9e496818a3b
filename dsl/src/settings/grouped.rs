//! The serdes of a grouping.

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
#[derive(Clone)]
pub struct Grouped<K, V> {
    /// The key's serde.
    pub key: SharedSerde<K>,
    /// The value's serde.
    pub value: SharedSerde<V>,
}

impl<K, V> Grouped<K, V> {
    /// With these serdes.
    #[must_use]
    pub fn with(key: SharedSerde<K>, value: SharedSerde<V>) -> Self {
        Self { key, value }
    }
}

impl<K, V> std::fmt::Debug for Grouped<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Grouped({}, {})", self.key.schema(), self.value.schema())
    }
}

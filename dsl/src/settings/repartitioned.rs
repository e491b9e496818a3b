//! How a stream is repartitioned.

use headwater_core::serde::SharedSerde;
use headwater_engine::topology::StreamPartitioner;
use std::{fmt, sync::Arc};

/// How [`KStream::repartition`](crate::KStream::repartition) places records: the name of the topic, its number of partitions, the
/// partitioner and the serdes.
///
/// ```
/// use headwater_dsl::{Repartitioned, StreamsBuilder};
/// use headwater_testkit::TopologyTestDriver;
///
/// let builder = StreamsBuilder::new();
/// let by_value = Repartitioned::named("speeds-by-value")
///     .with_number_of_partitions(3)
///     .with_stream_partitioner(|_: &String, kmh: &u32, partitions| kmh % partitions);
/// builder.stream::<String, u32>("speeds").repartition(by_value).to("out");
///
/// let driver = TopologyTestDriver::new(builder.build()?)?;
/// driver.input_topic::<String, u32>("speeds").pipe_input("car".into(), 120, 1)?;
/// assert_eq!(driver.output_topic::<String, u32>("out").read_record()?.unwrap().value, 120);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Repartitioned<K, V> {
    pub(crate) name: Option<String>,
    pub(crate) key: Option<SharedSerde<K>>,
    pub(crate) value: Option<SharedSerde<V>>,
    pub(crate) partitions: Option<u32>,
    pub(crate) partitioner: Option<Arc<dyn StreamPartitioner<K, V>>>,
    /// Whether a record without a key is dropped, as where it was asked for by the user.
    pub(crate) drops_null_keys: bool,
}

impl<K, V> Clone for Repartitioned<K, V> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            key: self.key.clone(),
            value: self.value.clone(),
            partitions: self.partitions,
            partitioner: self.partitioner.clone(),
            drops_null_keys: self.drops_null_keys,
        }
    }
}

impl<K, V> fmt::Debug for Repartitioned<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Repartitioned({:?}, {:?} partitions)", self.name, self.partitions)
    }
}

impl<K, V> Default for Repartitioned<K, V> {
    /// Through a topic with a counted name and as many partitions as what is read has.
    fn default() -> Self {
        Self {
            name: None,
            key: None,
            value: None,
            partitions: None,
            partitioner: None,
            drops_null_keys: false,
        }
    }
}

impl<K, V> Repartitioned<K, V> {
    /// Through the topic `<application.id>-<name>-repartition`.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    /// With these serdes in the topic.
    #[must_use]
    pub fn with_serdes(self, key: SharedSerde<K>, value: SharedSerde<V>) -> Self {
        Self { key: Some(key), value: Some(value), ..self }
    }

    /// With so many partitions; none is refused at the build.
    #[must_use]
    pub fn with_number_of_partitions(self, partitions: u32) -> Self {
        Self { partitions: Some(partitions), ..self }
    }

    /// With a partitioner of its own, in place of Kafka's.
    #[must_use]
    pub fn with_stream_partitioner(self, partitioner: impl StreamPartitioner<K, V>) -> Self {
        Self { partitioner: Some(Arc::new(partitioner)), ..self }
    }
}

impl<K, V> From<&str> for Repartitioned<K, V> {
    fn from(name: &str) -> Self {
        Self::named(name)
    }
}

//! How a stream is repartitioned.

use super::ChosenSerde;
use crate::DefaultSerde;
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
    pub(crate) key: ChosenSerde<K>,
    pub(crate) value: ChosenSerde<V>,
    pub(crate) placing: Placing<K, V>,
}

/// Where the records of a repartition topic lie.
pub(crate) struct Placing<K, V> {
    pub(crate) partitions: Option<u32>,
    pub(crate) partitioner: Option<Arc<dyn StreamPartitioner<K, V>>>,
    /// Whether a record without a key is dropped, as where it was asked for by the user.
    pub(crate) drops_null_keys: bool,
}

impl<K, V> Clone for Placing<K, V> {
    fn clone(&self) -> Self {
        Self { partitioner: self.partitioner.clone(), ..*self }
    }
}

impl<K, V> Default for Placing<K, V> {
    /// By Kafka's partitioner, in as many partitions as what is read has.
    fn default() -> Self {
        Self { partitions: None, partitioner: None, drops_null_keys: false }
    }
}

impl<K, V> Placing<K, V> {
    /// By a partitioner of its own.
    pub(crate) fn by(partitioner: impl StreamPartitioner<K, V>) -> Self {
        Self { partitioner: Some(Arc::new(partitioner)), ..Self::default() }
    }
}

impl<K, V> Clone for Repartitioned<K, V> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            key: self.key.clone(),
            value: self.value.clone(),
            placing: self.placing.clone(),
        }
    }
}

impl<K, V> fmt::Debug for Repartitioned<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Repartitioned({:?}, {:?} partitions)", self.name, self.placing.partitions)
    }
}

impl<K: DefaultSerde, V: DefaultSerde> Default for Repartitioned<K, V> {
    /// Through a topic with a counted name and as many partitions as what is read has, by the serdes that the stream brings along, or
    /// else the defaults of its types.
    fn default() -> Self {
        let (key, value, placing) = Default::default();
        Self { name: None, key, value, placing }
    }
}

impl<K: DefaultSerde, V: DefaultSerde> Repartitioned<K, V> {
    /// Through the topic `<application.id>-<name>-repartition`, otherwise as by default.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self::default().with_name(name)
    }
}

impl<K, V> Repartitioned<K, V> {
    /// With these serdes in the topic, whose types need have none of their own.
    ///
    /// ```
    /// use headwater_core::serde::{Json, for_type};
    /// use headwater_dsl::{Repartitioned, StreamsBuilder};
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::sync::Arc;
    ///
    /// let builder = StreamsBuilder::new();
    /// let as_text = Repartitioned::with(for_type(), Arc::new(Json)).with_name("as-text");
    /// // What follows writes as the topic does.
    /// builder.stream::<String, i64>("speeds").repartition(as_text).to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.pipe::<String, i64>("speeds", "car=120@1")?;
    /// assert_eq!(driver.read::<String, String>("out")?, "car=120@1");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with(key: SharedSerde<K>, value: SharedSerde<V>) -> Self {
        let (key, value) = (ChosenSerde::given(key), ChosenSerde::given(value));
        Self { name: None, key, value, placing: Placing::default() }
    }

    /// Through the topic `<application.id>-<name>-repartition`.
    #[must_use]
    pub fn with_name(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// With this serde of keys in the topic.
    #[must_use]
    pub fn with_key_serde(self, key: SharedSerde<K>) -> Self {
        Self { key: ChosenSerde::given(key), ..self }
    }

    /// With this serde of values in the topic.
    #[must_use]
    pub fn with_value_serde(self, value: SharedSerde<V>) -> Self {
        Self { value: ChosenSerde::given(value), ..self }
    }

    /// With so many partitions; none is refused at the build.
    #[must_use]
    pub fn with_number_of_partitions(self, partitions: u32) -> Self {
        let placing = Placing { partitions: Some(partitions), ..self.placing };
        Self { placing, ..self }
    }

    /// With a partitioner of its own, in place of Kafka's.
    #[must_use]
    pub fn with_stream_partitioner(self, partitioner: impl StreamPartitioner<K, V>) -> Self {
        let placing = Placing { partitioner: Some(Arc::new(partitioner)), ..self.placing };
        Self { placing, ..self }
    }
}

impl<K: DefaultSerde, V: DefaultSerde> From<&str> for Repartitioned<K, V> {
    fn from(name: &str) -> Self {
        Self::named(name)
    }
}

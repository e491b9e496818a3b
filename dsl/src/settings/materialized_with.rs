//! How the rows of a table's store are written.

use super::{ChosenSerde, Materialized};
use crate::DefaultSerde;
use headwater_core::serde::SharedSerde;
use std::fmt;

impl Materialized {
    /// In a store with a counted name, whose keys and values are written so.
    ///
    /// ```
    /// use headwater_core::serde::Json;
    /// use headwater_dsl::{Materialized, StreamsBuilder};
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::sync::Arc;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<i64, i64>("speeds").group_by_key();
    /// let as_text = Materialized::with(Arc::new(Json), Arc::new(Json));
    /// speeds.aggregate(|| 0, |_, kmh, sum: i64| sum + kmh, as_text).to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.pipe::<i64, i64>("speeds", "7=120@1 7=150@2")?;
    /// assert_eq!(driver.read::<String, String>("out")?, "7=120@1 7=270@2");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with<K, V>(keys: SharedSerde<K>, values: SharedSerde<V>) -> MaterializedWith<K, V> {
        Self::default().with_key_serde(keys).with_value_serde(values)
    }

    /// Has keys written so, in the store and in its changelog, instead of as they are grouped or consumed; what is written of the
    /// table further down has them so too. It is told last.
    ///
    /// Where records lie is as before: a repartition topic above has the keys of the grouping, a join by a foreign key looks for rows
    /// where those have them.
    ///
    /// ```
    /// use headwater_core::serde::Json;
    /// use headwater_dsl::{Materialized, StreamsBuilder};
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::sync::Arc;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<i64, i64>("speeds").group_by_key();
    /// let as_text = Materialized::named("counts").with_key_serde(Arc::new(Json));
    /// speeds.count(as_text).to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.pipe::<i64, i64>("speeds", "7=120@1 7=150@2")?;
    /// assert_eq!(driver.key_value_store::<i64, i64>("counts")?.get(&7)?.unwrap().value, 2);
    /// assert_eq!(driver.read::<String, i64>("out")?, "7=1@1 7=2@2");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_key_serde<K, V>(self, keys: SharedSerde<K>) -> MaterializedGiven<K, V> {
        MaterializedGiven { settings: self, keys: Some(keys), values: None }
    }

    /// Has values written so, in the store and in its changelog, instead of by the default of their type, which there need not be.
    /// It is told last.
    ///
    /// ```
    /// use headwater_core::serde::Json;
    /// use headwater_dsl::{Materialized, StreamsBuilder};
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::sync::Arc;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<String, i64>("speeds").group_by_key();
    /// let as_text = Materialized::named("sums").with_value_serde(Arc::new(Json));
    /// speeds.aggregate(|| 0, |_, kmh, sum: i64| sum + kmh, as_text).to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.pipe::<String, i64>("speeds", "car=120@1 car=150@2")?;
    /// let mut out = driver.output_topic::<String, String>("out");
    /// let read: Vec<_> = out.read_records_to_list()?.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, ["120", "270"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_value_serde<K, V>(self, values: SharedSerde<V>) -> MaterializedWith<K, V> {
        MaterializedGiven::from(self).with_value_serde(values)
    }
}

/// A [`Materialized`] and the serdes that were given with it, where the others are known: keys are written as they are grouped, values
/// as a reduction's are.
///
/// Example: [`Materialized::with_key_serde`].
pub struct MaterializedGiven<K, V> {
    pub(crate) settings: Materialized,
    pub(crate) keys: Option<SharedSerde<K>>,
    pub(crate) values: Option<SharedSerde<V>>,
}

/// A [`Materialized`] and how values are written: by a serde that was given, or by the default of their type, where a
/// `Materialized` or a name was. Keys are written by a serde that was given, or as they are known to be.
///
/// Example: [`Materialized::with_value_serde`].
pub struct MaterializedWith<K, V> {
    pub(crate) settings: Materialized,
    pub(crate) keys: Option<SharedSerde<K>>,
    pub(crate) values: ChosenSerde<V>,
}

impl<K, V> MaterializedGiven<K, V> {
    /// The same with a serde of values; see [`Materialized::with_value_serde`].
    #[must_use]
    pub fn with_value_serde(self, values: SharedSerde<V>) -> MaterializedWith<K, V> {
        let Self { settings, keys, .. } = self;
        MaterializedWith { settings, keys, values: ChosenSerde::given(values) }
    }

    /// The same where values are known to be written so.
    pub(crate) fn of_values(self, known: &SharedSerde<V>) -> MaterializedWith<K, V> {
        let values = self.values.clone().unwrap_or_else(|| SharedSerde::clone(known));
        self.with_value_serde(values)
    }
}

impl<K, V> MaterializedWith<K, V> {
    /// The same with a serde of keys; see [`Materialized::with_key_serde`].
    #[must_use]
    pub fn with_key_serde(self, keys: SharedSerde<K>) -> Self {
        Self { keys: Some(keys), ..self }
    }

    /// The same with the serde that the values are known to have, if none was given.
    pub(crate) fn or(self, known: Option<&SharedSerde<V>>) -> Self {
        let values = ChosenSerde::given(self.values.or(known));
        Self { values, ..self }
    }
}

impl<K, V> fmt::Debug for MaterializedGiven<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MaterializedGiven({:?})", self.settings)
    }
}

impl<K, V> fmt::Debug for MaterializedWith<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MaterializedWith({:?}, {})", self.settings, self.values.schema())
    }
}

impl<K, V> From<Materialized> for MaterializedGiven<K, V> {
    fn from(settings: Materialized) -> Self {
        Self { settings, keys: None, values: None }
    }
}

impl<K, V> From<&str> for MaterializedGiven<K, V> {
    fn from(name: &str) -> Self {
        Materialized::named(name).into()
    }
}

impl<K, V> From<MaterializedWith<K, V>> for MaterializedGiven<K, V> {
    fn from(MaterializedWith { settings, keys, values }: MaterializedWith<K, V>) -> Self {
        Self { settings, keys, values: values.if_given() }
    }
}

impl<K, V: DefaultSerde> From<MaterializedGiven<K, V>> for MaterializedWith<K, V> {
    fn from(MaterializedGiven { settings, keys, values }: MaterializedGiven<K, V>) -> Self {
        let values = values.map_or_else(ChosenSerde::default, ChosenSerde::given);
        Self { settings, keys, values }
    }
}

impl<K, V: DefaultSerde> From<Materialized> for MaterializedWith<K, V> {
    fn from(settings: Materialized) -> Self {
        MaterializedGiven::from(settings).into()
    }
}

impl<K, V: DefaultSerde> From<&str> for MaterializedWith<K, V> {
    fn from(name: &str) -> Self {
        MaterializedGiven::from(name).into()
    }
}

//! How two tables are joined by a foreign key.

use super::ChosenSerde;
use crate::DefaultSerde;
use headwater_core::serde::SharedSerde;
use headwater_engine::topology::{Partitions, StreamPartitioner};
use std::{fmt, sync::Arc};

/// The name of a foreign-key join of tables with keys `K` and `FK`, and where their rows lie, if that is not where their keys'
/// bytes have them.
///
/// ```
/// use headwater_dsl::{StreamsBuilder, TableJoined};
/// use headwater_testkit::TopologyTestDriver;
///
/// let builder = StreamsBuilder::new();
/// let orders = builder.table::<String, i64>("orders");
/// let articles = builder.table::<i64, String>("articles");
/// let named = TableJoined::named("ordered");
/// let article = |_: &String, article: &i64| *article;
/// let ordered = orders.join_on_with(&articles, article, |_, name| name, named, "ordered-store");
/// ordered.to_stream().to("out");
///
/// let topology = builder.build()?;
/// assert!(topology.describe().contains("Sink: ordered-subscription-registration-repartition-sink"));
/// let driver = TopologyTestDriver::new(topology)?;
/// driver.input_topic::<i64, String>("articles").pipe_input(7, "tea".into(), 1)?;
/// driver.input_topic::<String, i64>("orders").pipe_input("a".into(), 7, 2)?;
/// let rows = driver.key_value_store::<String, String>("ordered-store")?;
/// assert_eq!(rows.get(&"a".into())?.unwrap().value, "tea");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TableJoined<K, FK> {
    pub(crate) name: Option<String>,
    pub(crate) partitioner: Option<Arc<dyn StreamPartitioner<K, ()>>>,
    pub(crate) other_partitioner: Option<Arc<dyn StreamPartitioner<FK, ()>>>,
}

impl<K, FK> Clone for TableJoined<K, FK> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            partitioner: self.partitioner.clone(),
            other_partitioner: self.other_partitioner.clone(),
        }
    }
}

impl<K, FK> fmt::Debug for TableJoined<K, FK> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableJoined").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<K, FK> Default for TableJoined<K, FK> {
    fn default() -> Self {
        Self { name: None, partitioner: None, other_partitioner: None }
    }
}

impl<K, FK> TableJoined<K, FK> {
    /// A join called `name`: its nodes, stores and topics have names that begin with it.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    /// Says where a row of this table lies. Without it, what is about a row goes to the partition where the row was taken.
    #[must_use]
    pub fn with_partitioner(self, partitioner: impl StreamPartitioner<K, ()> + 'static) -> Self {
        Self { partitioner: Some(Arc::new(partitioner)), ..self }
    }

    /// Says where a row of the other table lies; without it, where the bytes of its key have it.
    #[must_use]
    pub fn with_other_partitioner(
        self,
        partitioner: impl StreamPartitioner<FK, ()> + 'static,
    ) -> Self {
        Self { other_partitioner: Some(Arc::new(partitioner)), ..self }
    }

    /// Has values of this table and of the other one written so on their way between both and in the join's stores, instead of as the
    /// tables are known to be written or by the defaults of their types, which there need not be. It is told last.
    ///
    /// The other table's rows are written; of this one's, which stay where they are, only a hash of what the serde writes.
    ///
    /// ```
    /// use headwater_core::serde::{Json, for_type};
    /// use headwater_dsl::{StreamsBuilder, TableJoined};
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::sync::Arc;
    ///
    /// let builder = StreamsBuilder::new();
    /// let orders = builder.table::<String, i64>("orders");
    /// let prices = builder.table::<i64, i64>("prices").map_values(|cents| cents / 100);
    /// let as_text = TableJoined::named("priced").with_serdes(for_type(), Arc::new(Json));
    /// let article = |_: &String, article: &i64| *article;
    /// let priced = orders.join_on_with(&prices, article, |_, price| price, as_text, "priced-store");
    /// priced.to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.pipe::<i64, i64>("prices", "7=300@1")?;
    /// driver.pipe::<String, i64>("orders", "a=7@2")?;
    /// assert_eq!(driver.read::<String, i64>("out")?, "a=3@2");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_serdes<V, FV>(
        self,
        values: SharedSerde<V>,
        other_values: SharedSerde<FV>,
    ) -> TableJoinedWith<K, V, FK, FV> {
        let (values, other_values) = (ChosenSerde::given(values), ChosenSerde::given(other_values));
        TableJoinedWith { settings: self, values, other_values }
    }

    /// Where a row of the other table lies, of `count` partitions.
    pub(crate) fn place_other(&self, key: Option<&FK>, count: u32) -> Partitions
    where
        FK: 'static,
    {
        match (key, &self.other_partitioner) {
            (Some(key), Some(partitioner)) => partitioner.partitions(key, &(), count),
            (None, _) | (_, None) => Partitions::Default,
        }
    }
}

/// A [`TableJoined`] and how values of both tables are written: by serdes that were given, or by the defaults of their types, where a
/// `TableJoined` was.
///
/// Example: [`TableJoined::with_serdes`].
pub struct TableJoinedWith<K, V, FK, FV> {
    pub(crate) settings: TableJoined<K, FK>,
    pub(crate) values: ChosenSerde<V>,
    pub(crate) other_values: ChosenSerde<FV>,
}

impl<K, V, FK, FV> fmt::Debug for TableJoinedWith<K, V, FK, FV> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (values, other_values) = (self.values.schema(), self.other_values.schema());
        write!(f, "TableJoinedWith({:?}, {values}, {other_values})", self.settings)
    }
}

impl<K, V: DefaultSerde, FK, FV: DefaultSerde> From<TableJoined<K, FK>>
    for TableJoinedWith<K, V, FK, FV>
{
    fn from(settings: TableJoined<K, FK>) -> Self {
        Self { settings, values: ChosenSerde::default(), other_values: ChosenSerde::default() }
    }
}

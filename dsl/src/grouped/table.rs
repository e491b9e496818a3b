//! Grouped tables and their aggregations.
//!
//! # Guarantees
//!
//! - The old value is taken from the aggregate before the new one is added, with no update in between.
//! - The old value is taken only from an aggregate that is there.

use super::{KGroupedStream, draw::Drawn};
use crate::{
    KTable, MaterializedGiven, MaterializedWith,
    operator::Deletion,
    plan::{LogicalPlan, NodeId, OperatorKind, Serdes},
    table::Change,
};
use headwater_core::serde::{Data, SharedSerde};
use std::fmt;

/// A table grouped by another key; see [`KTable::group_by`].
///
/// Each aggregation of it is a table that follows the rows of the groups: where a row changes or is deleted, its old value
/// is subtracted. An update stands at the latest time of any row that went into it.
///
/// ```
/// use headwater_dsl::StreamsBuilder;
/// use headwater_testkit::TopologyTestDriver;
///
/// let builder = StreamsBuilder::new();
/// let speeds = builder.table::<String, i64>("speeds");
/// let all = speeds.group_by(|_, kmh| ("all".to_owned(), *kmh));
/// all.reduce(|sum, kmh| sum + kmh, |sum, kmh| sum - kmh, "sum").to("out");
///
/// let driver = TopologyTestDriver::new(builder.build()?)?;
/// let speeds = driver.input_topic::<String, Option<i64>>("speeds");
/// speeds.pipe_input("a".into(), Some(120), 1)?;
/// speeds.pipe_input("b".into(), Some(90), 2)?;
/// speeds.pipe_input("a".into(), Some(150), 3)?;
/// speeds.pipe_input("b".into(), None, 4)?;
/// let read = driver.output_topic::<String, i64>("out").read_records_to_list()?;
/// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
/// assert_eq!(read, [120, 210, 240, 150]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct KGroupedTable<K, V> {
    changes: KGroupedStream<K, Change<V>>,
    /// The serde of the rows' values.
    values: SharedSerde<V>,
}

impl<K, V> Clone for KGroupedTable<K, V> {
    fn clone(&self) -> Self {
        Self { changes: self.changes.clone(), values: SharedSerde::clone(&self.values) }
    }
}

impl<K, V> fmt::Debug for KGroupedTable<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KGroupedTable({})", self.changes.plan.name_of(self.changes.node))
    }
}

impl<K: Data, V: Data> KGroupedTable<K, V> {
    pub(crate) fn new(
        plan: LogicalPlan,
        node: NodeId,
        serdes: Serdes<K, Change<V>>,
        values: SharedSerde<V>,
    ) -> Self {
        Self { changes: KGroupedStream::new(plan, node, serdes, None), values }
    }

    /// Names the repartition topic, as [`KGroupedStream::named`] does.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { changes: self.changes.named(name), ..self }
    }

    /// The number of rows of each group. A group whose last row goes counts 0 from then on, and stays.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let models = builder.table::<String, String>("models-by-car");
    /// let _counts = models.group_by(|car, model| (model.clone(), car.clone())).count("counts");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let models = driver.input_topic::<String, Option<String>>("models-by-car");
    /// models.pipe_input("a".into(), Some("coupe".into()), 1)?;
    /// models.pipe_input("a".into(), None, 2)?;
    /// let counts = driver.key_value_store::<String, i64>("counts")?;
    /// assert_eq!(counts.get(&"coupe".into())?.unwrap().value, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn count(&self, materialized: impl Into<MaterializedWith<K, i64>>) -> KTable<K, i64> {
        let add = |_: &K, _, count: Option<i64>| Some(count.unwrap_or(0) + 1);
        let subtract = |_: &K, _, count: i64| Some(count - 1);
        self.fold(OperatorKind::TableCount, add, subtract, materialized.into())
    }

    /// The rows of each group reduced to one value: the first as it is, every other added to the value so far; an old value is
    /// subtracted from it.
    ///
    /// Both get the value so far first. It is kept as the grouping writes values, unless told otherwise.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.table::<String, i64>("speeds");
    /// let all = speeds.group_by(|_, kmh| ((), *kmh));
    /// all.reduce(|sum, kmh| sum + kmh, |sum, kmh| sum - kmh, "sum").to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, i64>("speeds");
    /// speeds.pipe_input("a".into(), 120, 1)?;
    /// speeds.pipe_input("a".into(), 150, 2)?;
    /// let read = driver.output_topic::<(), i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [120, 150]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reduce(
        &self,
        add: impl Fn(V, V) -> V + Send + Sync + 'static,
        subtract: impl Fn(V, V) -> V + Send + Sync + 'static,
        materialized: impl Into<MaterializedGiven<K, V>>,
    ) -> KTable<K, V> {
        self.reduce_or_delete(
            move |so_far, value| Some(add(so_far, value)),
            move |so_far, value| Some(subtract(so_far, value)),
            materialized,
        )
    }

    /// The same for a value that can end: `None` deletes the group's row, and the next row of the group begins anew.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.table::<String, i64>("speeds");
    /// let all = speeds.group_by(|_, kmh| ((), *kmh));
    /// let subtract = |sum: i64, kmh: i64| Some(sum - kmh).filter(|sum| *sum > 0);
    /// all.reduce_or_delete(|sum, kmh| Some(sum + kmh), subtract, "sum").to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, Option<i64>>("speeds");
    /// speeds.pipe_input("a".into(), Some(120), 1)?;
    /// speeds.pipe_input("a".into(), None, 2)?;
    /// let read = driver.output_topic::<(), Option<i64>>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [Some(120), None]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reduce_or_delete(
        &self,
        add: impl Fn(V, V) -> Option<V> + Send + Sync + 'static,
        subtract: impl Fn(V, V) -> Option<V> + Send + Sync + 'static,
        materialized: impl Into<MaterializedGiven<K, V>>,
    ) -> KTable<K, V> {
        let add = move |_: &K, value, so_far: Option<V>| match so_far {
            Some(so_far) => add(so_far, value),
            None => Some(value),
        };
        let subtract = move |_: &K, value, so_far| subtract(so_far, value);
        let kept = materialized.into().of_values(&self.values);
        self.fold(OperatorKind::TableReduce, add, subtract, kept)
    }

    /// The rows of each group folded into an aggregate, which begins as what `init` gives: `add` takes in a row's new value,
    /// `subtract` takes out its old one.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.table::<String, i64>("speeds");
    /// let all = speeds.group_by(|_, kmh| ((), *kmh));
    /// let add = |_: &(), kmh: i64, (count, sum): (i64, i64)| (count + 1, sum + kmh);
    /// let subtract = |_: &(), kmh: i64, (count, sum): (i64, i64)| (count - 1, sum - kmh);
    /// let totals = all.aggregate(|| (0, 0), add, subtract, "totals");
    /// totals.map_values(|(count, sum)| sum / count).to("mean");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, i64>("speeds");
    /// speeds.pipe_input("a".into(), 120, 1)?;
    /// speeds.pipe_input("b".into(), 90, 2)?;
    /// speeds.pipe_input("a".into(), 150, 3)?;
    /// let read = driver.output_topic::<(), i64>("mean").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [120, 105, 120]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn aggregate<A: Data>(
        &self,
        init: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&K, V, A) -> A + Send + Sync + 'static,
        subtract: impl Fn(&K, V, A) -> A + Send + Sync + 'static,
        materialized: impl Into<MaterializedWith<K, A>>,
    ) -> KTable<K, A> {
        self.aggregate_or_delete(
            init,
            move |key, value, so_far| Some(add(key, value, so_far)),
            move |key, value, so_far| Some(subtract(key, value, so_far)),
            materialized,
        )
    }

    /// The same for an aggregate that can end: `None` deletes the group's row, and what is added next begins anew.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let models = builder.table::<String, String>("models-by-car");
    /// let by_model = models.group_by(|car, model| (model.clone(), car.clone()));
    /// let add = |_: &String, _: String, count: i64| Some(count + 1);
    /// let subtract = |_: &String, _: String, count: i64| Some(count - 1).filter(|count| *count > 0);
    /// by_model.aggregate_or_delete(|| 0, add, subtract, "counts").to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let models = driver.input_topic::<String, Option<String>>("models-by-car");
    /// models.pipe_input("a".into(), Some("coupe".into()), 1)?;
    /// models.pipe_input("a".into(), None, 2)?;
    /// let read = driver.output_topic::<String, Option<i64>>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [Some(1), None]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn aggregate_or_delete<A: Data>(
        &self,
        init: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&K, V, A) -> Option<A> + Send + Sync + 'static,
        subtract: impl Fn(&K, V, A) -> Option<A> + Send + Sync + 'static,
        materialized: impl Into<MaterializedWith<K, A>>,
    ) -> KTable<K, A> {
        let add =
            move |key: &K, value, so_far: Option<A>| add(key, value, so_far.unwrap_or_else(&init));
        self.fold(OperatorKind::TableAggregate, add, subtract, materialized.into())
    }

    fn fold<A: Data>(
        &self,
        kind: OperatorKind,
        add: impl Fn(&K, V, Option<A>) -> Option<A> + Send + Sync + 'static,
        subtract: impl Fn(&K, V, A) -> Option<A> + Send + Sync + 'static,
        materialized: MaterializedWith<K, A>,
    ) -> KTable<K, A> {
        let fold = move |key: &K, change: Change<V>, so_far: Option<A>| {
            let Change { new, old, .. } = change;
            let rest = match (old, so_far) {
                (Some(old), Some(so_far)) => subtract(key, old.value, so_far),
                (_, so_far) => so_far,
            };
            match new {
                Some(new) => add(key, new, rest),
                None => rest,
            }
        };
        let drawn = self.changes.draw(kind, materialized);
        Drawn { deletion: Deletion::Latest, ..drawn }.fold(fold)
    }
}

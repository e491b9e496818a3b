//! Grouped streams and their aggregations.

mod cogrouped;
mod draw;
mod draw_intervals;
mod sessions;
mod table;
mod windowed;

pub use cogrouped::{
    CogroupedKStream, SessionWindowedCogroupedKStream, TimeWindowedCogroupedKStream,
};
pub use sessions::SessionWindowedKStream;
pub use table::KGroupedTable;
pub use windowed::{LateRecord, TimeWindowedKStream};

use crate::{
    KTable, MaterializedGiven, MaterializedWith, Windows,
    operator::Deletion,
    plan::{LogicalPlan, NodeId, OperatorKind, Serdes},
    settings::Private,
};
use draw::Drawn;
use headwater_core::serde::{Data, SharedSerde};
use std::fmt;

/// A stream grouped by its key; see [`KStream::group_by_key`](crate::KStream::group_by_key).
///
/// Each aggregation of it is a table. With caching, the default, its updates come out at the commit, one per key that
/// changed.
///
/// ```
/// use headwater_dsl::StreamsBuilder;
/// use headwater_testkit::TopologyTestDriver;
///
/// let builder = StreamsBuilder::new();
/// let speeds = builder.stream::<String, i64>("speeds").group_by_key();
/// speeds.count("counts").to_stream().to("out");
/// speeds.reduce(i64::max, "top-speeds").to_stream().to("top");
///
/// let driver = TopologyTestDriver::new(builder.build()?)?;
/// let speeds = driver.input_topic::<String, i64>("speeds");
/// speeds.pipe_input("car".into(), 120, 1)?;
/// speeds.pipe_input("car".into(), 150, 2)?;
/// let read = driver.output_topic::<String, i64>("out").read_records_to_list()?;
/// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
/// assert_eq!(read, [1, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct KGroupedStream<K, V> {
    plan: LogicalPlan,
    node: NodeId,
    serdes: Serdes<K, V>,
    /// By which keys' bytes its records lie in their partitions.
    placed: SharedSerde<K>,
    /// The base of the repartition topic's name.
    name: Option<String>,
    /// How many partitions that has, if not as many as what is above.
    partitions: Option<u32>,
}

impl<K, V> Clone for KGroupedStream<K, V> {
    fn clone(&self) -> Self {
        Self {
            plan: self.plan.clone(),
            node: self.node,
            serdes: self.serdes.clone(),
            placed: SharedSerde::clone(&self.placed),
            name: self.name.clone(),
            partitions: self.partitions,
        }
    }
}

impl<K, V> fmt::Debug for KGroupedStream<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KGroupedStream({})", self.plan.name_of(self.node))
    }
}

impl<K: Data, V: Data> KGroupedStream<K, V> {
    /// The records of `node`, whose keys are known to lie above as `known` writes them.
    pub(crate) fn new(
        plan: LogicalPlan,
        node: NodeId,
        serdes: Serdes<K, V>,
        known: Option<&SharedSerde<K>>,
    ) -> Self {
        let placed = plan.placing(node, known, &serdes.key);
        Self { plan, node, serdes, placed, name: None, partitions: None }
    }

    /// The same in one partition.
    pub(crate) fn in_one_partition(self) -> Self {
        Self { partitions: Some(1), ..self }
    }

    /// Names the repartition topic, if the grouping needs one: `<application.id>-<name>-repartition`.
    ///
    /// All aggregations of a named grouping share it; those of an unnamed one have one each, named after their stores.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// The number of records of each key.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<String, i64>("speeds").group_by_key();
    /// let _counts = speeds.count("counts");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, i64>("speeds");
    /// speeds.pipe_input("car".into(), 120, 1)?;
    /// speeds.pipe_input("car".into(), 150, 2)?;
    /// let counts = driver.key_value_store::<String, i64>("counts")?;
    /// assert_eq!(counts.get(&"car".into())?.unwrap().value, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn count(&self, materialized: impl Into<MaterializedWith<K, i64>>) -> KTable<K, i64> {
        self.fold(OperatorKind::Count, count, materialized.into())
    }

    /// The records of each key reduced to one value: the first as it is, every other with the value so far. It is kept as the
    /// grouping writes values, unless told otherwise.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<String, i64>("speeds").group_by_key();
    /// speeds.reduce(i64::max, "top-speeds").to_stream().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, i64>("speeds");
    /// speeds.pipe_input("car".into(), 120, 1)?;
    /// speeds.pipe_input("car".into(), 150, 2)?;
    /// speeds.pipe_input("car".into(), 90, 3)?;
    /// let read = driver.output_topic::<String, i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [120, 150, 150]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reduce(
        &self,
        reduce: impl Fn(V, V) -> V + Send + Sync + 'static,
        materialized: impl Into<MaterializedGiven<K, V>>,
    ) -> KTable<K, V> {
        let kept = materialized.into().of_values(&self.serdes.value);
        self.fold(OperatorKind::Reduce, reducing(reduce), kept)
    }

    /// The records of each key folded into an aggregate, which begins as what `init` gives.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    /// struct Mean { count: i64, sum: i64 }
    ///
    /// let speeds = builder.stream::<String, i64>("speeds").group_by_key();
    /// let add = |_: &String, kmh: i64, mean: Mean| Mean { count: mean.count + 1, sum: mean.sum + kmh };
    /// let means = speeds.aggregate(Mean::default, add, "mean-speed");
    /// means.map_values(|mean| mean.sum / mean.count).to_stream().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, i64>("speeds");
    /// speeds.pipe_input("car".into(), 120, 1)?;
    /// speeds.pipe_input("car".into(), 150, 2)?;
    /// let read = driver.output_topic::<String, i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [120, 135]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn aggregate<A: Data>(
        &self,
        init: impl Fn() -> A + Send + Sync + 'static,
        aggregate: impl Fn(&K, V, A) -> A + Send + Sync + 'static,
        materialized: impl Into<MaterializedWith<K, A>>,
    ) -> KTable<K, A> {
        self.aggregate_or_delete(
            init,
            move |key, value, so_far| Some(aggregate(key, value, so_far)),
            materialized,
        )
    }

    /// The same for an aggregate that can end: `None` deletes the row, and the key's next record begins anew.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<String, i64>("speeds").group_by_key();
    /// // A speed of 0 ends a trip.
    /// let add = |_: &String, kmh: i64, top: i64| (kmh > 0).then_some(top.max(kmh));
    /// speeds.aggregate_or_delete(|| 0, add, "trips").to_stream().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, i64>("speeds");
    /// speeds.pipe_input("car".into(), 120, 1)?;
    /// speeds.pipe_input("car".into(), 0, 2)?;
    /// speeds.pipe_input("car".into(), 90, 3)?;
    /// let read = driver.output_topic::<String, Option<i64>>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [Some(120), None, Some(90)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn aggregate_or_delete<A: Data>(
        &self,
        init: impl Fn() -> A + Send + Sync + 'static,
        aggregate: impl Fn(&K, V, A) -> Option<A> + Send + Sync + 'static,
        materialized: impl Into<MaterializedWith<K, A>>,
    ) -> KTable<K, A> {
        let aggregate = aggregating(init, aggregate);
        self.fold(OperatorKind::Aggregate, aggregate, materialized.into())
    }

    /// The `n` records of each key that are largest by what `by` gives, the largest first; of equals, those that came first.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<String, i64>("speeds").group_by_key();
    /// speeds.top_n(2, |kmh| *kmh, "top-speeds").to_stream().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, i64>("speeds");
    /// for (at, kmh) in [120, 90, 150].into_iter().enumerate() {
    ///     speeds.pipe_input("car".into(), kmh, at as i64)?;
    /// }
    /// let read = driver.output_topic::<String, Vec<i64>>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [vec![120], vec![120, 90], vec![150, 120]]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn top_n<O: Ord + 'static>(
        &self,
        n: usize,
        by: impl Fn(&V) -> O + Send + Sync + 'static,
        materialized: impl Into<MaterializedWith<K, Vec<V>>>,
    ) -> KTable<K, Vec<V>> {
        self.fold(OperatorKind::Aggregate, top(n, by), materialized.into())
    }

    /// Cuts each group into windows, to aggregate within them.
    #[must_use]
    pub fn windowed_by<W: Windows>(&self, windows: W) -> W::Windowed<K, V> {
        windows.cut(self.clone(), Private)
    }

    fn fold<A: Data, F>(
        &self,
        kind: OperatorKind,
        fold: F,
        materialized: MaterializedWith<K, A>,
    ) -> KTable<K, A>
    where
        F: Fn(&K, V, Option<A>) -> Option<A> + Send + Sync + 'static,
    {
        self.draw(kind, materialized).fold(fold)
    }

    /// An aggregation of this stream, below a repartition if it needs one.
    fn draw<A: Data>(
        &self,
        kind: OperatorKind,
        materialized: MaterializedWith<K, A>,
    ) -> Drawn<K, A> {
        let MaterializedWith { mut settings, keys, values } = materialized;
        let (caching, history) = (settings.caching, settings.history.take());
        let (store, step) = self.plan.step_of_store(kind, self.node, settings);
        let base = self.name.as_deref().unwrap_or(&store);
        let step = step.below(self.plan.keyed_in(self.node, base, &self.serdes, self.partitions));
        let (plan, placed) = (self.plan.clone(), SharedSerde::clone(&self.placed));
        let keys = keys.unwrap_or_else(|| SharedSerde::clone(&self.serdes.key));
        let (values, deletion) = (values.or(None), Deletion::OfRow);
        Drawn { plan, placed, keys, values, store, step, caching, history, deletion }
    }
}

/// Counts.
fn count<K, V>(_: &K, _: V, so_far: Option<i64>) -> Option<i64> {
    Some(so_far.unwrap_or(0) + 1)
}

/// A fold of values into one of their own type.
fn reducing<K, V>(
    reduce: impl Fn(V, V) -> V + Send + Sync,
) -> impl Fn(&K, V, Option<V>) -> Option<V> + Send + Sync {
    move |_, value, so_far| {
        Some(match so_far {
            Some(so_far) => reduce(so_far, value),
            None => value,
        })
    }
}

/// A fold that keeps the `n` values that are largest by what `by` gives.
fn top<K, V, O: Ord>(
    n: usize,
    by: impl Fn(&V) -> O + Send + Sync,
) -> impl Fn(&K, V, Option<Vec<V>>) -> Option<Vec<V>> + Send + Sync {
    move |_, value, so_far| {
        let (mut top, rank) = (so_far.unwrap_or_default(), by(&value));
        let place = top.partition_point(|held| by(held) >= rank);
        top.insert(place, value);
        top.truncate(n);
        Some(top)
    }
}

/// A fold into an aggregate that begins as `init` gives it.
fn aggregating<K, V, A>(
    init: impl Fn() -> A + Send + Sync,
    aggregate: impl Fn(&K, V, A) -> Option<A> + Send + Sync,
) -> impl Fn(&K, V, Option<A>) -> Option<A> + Send + Sync {
    move |key, value, so_far| aggregate(key, value, so_far.unwrap_or_else(&init))
}

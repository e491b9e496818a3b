//! Several grouped streams folded into one aggregate.

use super::{KGroupedStream, draw::Drawn, draw_intervals::In, sessions::merging};
use crate::{
    EmitStrategy, KTable, MaterializedWith, SessionWindows, Windows,
    operator::{Deletion, MapValues},
    plan::{LogicalPlan, NodeId, OperatorKind},
    settings::{Cut, Private},
};
use headwater_core::serde::{Data, SharedSerde};
use headwater_engine::store::Windowed;
use std::{fmt, rc::Rc, sync::Arc};

/// What a record makes of its key's aggregate, whichever input it came from.
type Addition<K, A> = Arc<dyn Fn(&K, A) -> Option<A> + Send + Sync>;

/// Draws an input of the aggregation in a store; its place is that among the inputs.
type DrawInput = dyn Fn(&str, usize) -> NodeId;

/// Grouped streams with one key, each with what its records add to a common aggregate; see [`KGroupedStream::cogroup`].
///
/// Each is repartitioned first if it needs that; their topics must then have equally many partitions. Records are folded in
/// the order in which they arrive, whichever stream they come from.
///
/// ```
/// use headwater_dsl::StreamsBuilder;
/// use headwater_testkit::TopologyTestDriver;
///
/// let builder = StreamsBuilder::new();
/// let fuelled = builder.stream::<String, i64>("fuelled").group_by_key();
/// let driven = builder.stream::<String, i64>("driven").group_by_key();
/// let fuel = fuelled
///     .cogroup(|_, litres, left: i64| left + litres)
///     .cogroup(&driven, |_, km, left| left - km / 20);
/// fuel.aggregate(|| 0, "fuel").to_stream().to("out");
///
/// let driver = TopologyTestDriver::new(builder.build()?)?;
/// driver.input_topic::<String, i64>("fuelled").pipe_input("car".into(), 50, 1)?;
/// driver.input_topic::<String, i64>("driven").pipe_input("car".into(), 200, 2)?;
/// let read = driver.output_topic::<String, i64>("out").read_records_to_list()?;
/// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
/// assert_eq!(read, [50, 40]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CogroupedKStream<K, A> {
    plan: LogicalPlan,
    keys: SharedSerde<K>,
    /// By which keys' bytes the records of the first input lie in their partitions.
    placed: SharedSerde<K>,
    /// The node of the first input, which its state is named after.
    first: NodeId,
    inputs: Vec<Rc<DrawInput>>,
    aggregate: std::marker::PhantomData<fn(A) -> A>,
}

impl<K, A> Clone for CogroupedKStream<K, A> {
    fn clone(&self) -> Self {
        Self {
            plan: self.plan.clone(),
            keys: SharedSerde::clone(&self.keys),
            placed: SharedSerde::clone(&self.placed),
            first: self.first,
            inputs: self.inputs.clone(),
            aggregate: self.aggregate,
        }
    }
}

impl<K, A> fmt::Debug for CogroupedKStream<K, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.plan.name_of(self.first);
        write!(f, "CogroupedKStream({name}, {} inputs)", self.inputs.len())
    }
}

impl<K: Data, V: Data> KGroupedStream<K, V> {
    /// Begins an aggregate over several grouped streams: `aggregator` adds the records of this one, and
    /// [`CogroupedKStream::cogroup`] adds others.
    ///
    /// The keys are written as this stream's are, unless the store's are to be written otherwise.
    #[must_use]
    pub fn cogroup<A: Data>(
        &self,
        aggregator: impl Fn(&K, V, A) -> A + Send + Sync + 'static,
    ) -> CogroupedKStream<K, A> {
        self.cogroup_or_delete(move |key, value, so_far| Some(aggregator(key, value, so_far)))
    }

    /// The same for an aggregate that can end: `None` deletes the row, and the key's next record begins anew.
    #[must_use]
    pub fn cogroup_or_delete<A: Data>(
        &self,
        aggregator: impl Fn(&K, V, A) -> Option<A> + Send + Sync + 'static,
    ) -> CogroupedKStream<K, A> {
        let cogrouped = CogroupedKStream {
            plan: self.plan.clone(),
            keys: SharedSerde::clone(&self.serdes.key),
            placed: SharedSerde::clone(&self.placed),
            first: self.node,
            inputs: Vec::new(),
            aggregate: std::marker::PhantomData,
        };
        cogrouped.cogroup_or_delete(self, aggregator)
    }

    /// Has this stream's records become what `aggregator` makes of an aggregate.
    fn draw_input<A: Data, F>(&self, aggregator: &Arc<F>, store: &str, place: usize) -> NodeId
    where
        F: Fn(&K, V, A) -> Option<A> + Send + Sync + 'static,
    {
        let name = format!("{store}-{place}");
        let base = self.name.as_ref().unwrap_or(&name);
        let node = self.plan.keyed_in(self.node, base, &self.serdes, self.partitions);
        let step = self.plan.step_called(OperatorKind::CogroupInput, self.node, &name).below(node);
        let aggregator = Arc::clone(aggregator);
        let add = Arc::new(move |_: &K, value: V| -> Addition<K, A> {
            let aggregator = Arc::clone(&aggregator);
            Arc::new(move |key, so_far| aggregator(key, value.clone(), so_far))
        });
        self.plan.operator::<K, V, _>(step, move |_| Ok(MapValues::new(&add)))
    }
}

impl<K: Data, A: Data> CogroupedKStream<K, A> {
    /// Adds a grouped stream, whose records `aggregator` adds to the aggregate.
    #[must_use]
    pub fn cogroup<V: Data>(
        &self,
        grouped: &KGroupedStream<K, V>,
        aggregator: impl Fn(&K, V, A) -> A + Send + Sync + 'static,
    ) -> Self {
        self.cogroup_or_delete(grouped, move |key, value, so_far| {
            Some(aggregator(key, value, so_far))
        })
    }

    /// The same for an aggregate that can end: `None` deletes the row, and the key's next record begins anew.
    #[must_use]
    pub fn cogroup_or_delete<V: Data>(
        &self,
        grouped: &KGroupedStream<K, V>,
        aggregator: impl Fn(&K, V, A) -> Option<A> + Send + Sync + 'static,
    ) -> Self {
        let (grouped, aggregator, mut all) = (grouped.clone(), Arc::new(aggregator), self.clone());
        all.inputs.push(Rc::new(move |store, place| grouped.draw_input(&aggregator, store, place)));
        all
    }

    /// The records of each key folded into one aggregate, which begins as what `init` gives.
    pub fn aggregate(
        &self,
        init: impl Fn() -> A + Send + Sync + 'static,
        materialized: impl Into<MaterializedWith<K, A>>,
    ) -> KTable<K, A> {
        self.draw(OperatorKind::Cogroup, materialized.into()).fold(adding(init))
    }

    /// Cuts the groups into windows, to aggregate within them.
    ///
    /// ```
    /// use headwater_dsl::{StreamsBuilder, TimeWindows};
    /// use headwater_engine::store::Windowed;
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::time::Duration;
    ///
    /// let builder = StreamsBuilder::new();
    /// let stops = builder.stream::<String, String>("stops").group_by_key();
    /// let alerts = builder.stream::<String, i64>("alerts").group_by_key();
    /// let minutes = TimeWindows::of_size_with_no_grace(Duration::from_secs(60));
    /// let events = stops.cogroup(|_, _, n: i64| n + 1).cogroup(&alerts, |_, _, n| n + 1);
    /// events.windowed_by(minutes).aggregate(|| 0, "events").to_stream().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, String>("stops").pipe_input("car".into(), "home".into(), 1)?;
    /// driver.input_topic::<String, i64>("alerts").pipe_input("car".into(), 7, 2)?;
    /// driver.input_topic::<String, i64>("alerts").pipe_input("car".into(), 7, 60_000)?;
    /// let read = driver.output_topic::<Windowed<String>, i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| (r.key.window.start, r.value)).collect();
    /// assert_eq!(read, [(0, 1), (0, 2), (60_000, 1)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn windowed_by<W: Windows>(&self, windows: W) -> W::Cogrouped<K, A> {
        windows.cut_cogrouped(self.clone(), Private)
    }

    /// An aggregation of these streams, each below a repartition if it needs one.
    fn draw(&self, kind: OperatorKind, materialized: MaterializedWith<K, A>) -> Drawn<K, A> {
        let MaterializedWith { mut settings, keys, values } = materialized;
        let (caching, history) = (settings.caching, settings.history.take());
        let (store, step) = self.plan.step_of_store(kind, self.first, settings);
        let inputs = self.inputs.iter().enumerate();
        let inputs: Vec<NodeId> = inputs.map(|(place, draw)| draw(&store, place)).collect();
        let step = step.below_all(&inputs).copartitioned();
        let (plan, placed) = (self.plan.clone(), SharedSerde::clone(&self.placed));
        let keys = keys.unwrap_or_else(|| SharedSerde::clone(&self.keys));
        let (values, deletion) = (values.or(None), Deletion::OfRow);
        Drawn { plan, placed, keys, values, store, step, caching, history, deletion }
    }
}

/// A fold of additions to an aggregate that begins as `init` gives it.
fn adding<K, A>(
    init: impl Fn() -> A + Send + Sync,
) -> impl Fn(&K, Addition<K, A>, Option<A>) -> Option<A> + Send + Sync {
    move |key, addition, so_far| addition(key, so_far.unwrap_or_else(&init))
}

/// Grouped streams with a common aggregate, cut into windows; see [`CogroupedKStream::windowed_by`].
///
/// Example: [`CogroupedKStream::windowed_by`].
pub struct TimeWindowedCogroupedKStream<K, A> {
    cogrouped: CogroupedKStream<K, A>,
    windows: Cut,
    emit: EmitStrategy,
}

impl<K, A> fmt::Debug for TimeWindowedCogroupedKStream<K, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimeWindowedCogroupedKStream({:?}, {:?})", self.cogrouped, self.windows)
    }
}

impl<K: Data, A: Data> TimeWindowedCogroupedKStream<K, A> {
    pub(crate) fn new(cogrouped: CogroupedKStream<K, A>, windows: impl Into<Cut>) -> Self {
        let windows = windows.into();
        Self { cogrouped, windows, emit: EmitStrategy::default() }
    }

    /// When results come out; [`EmitStrategy::on_window_update`] unless told otherwise.
    #[must_use]
    pub fn emit_strategy(self, emit: EmitStrategy) -> Self {
        Self { emit, ..self }
    }

    /// The records of each key and window folded into one aggregate, which begins as what `init` gives.
    pub fn aggregate(
        &self,
        init: impl Fn() -> A + Send + Sync + 'static,
        materialized: impl Into<MaterializedWith<K, A>>,
    ) -> KTable<Windowed<K>, A> {
        let materialized = materialized.into();
        let (emit, retention) = (self.emit, materialized.settings.retention);
        let draw = |kind| self.cogrouped.draw(kind, materialized);
        match self.windows {
            Cut::Fixed(windows) => draw(OperatorKind::WindowedCogroup)
                .fold_in(In { windows, emit, retention, with_late: false }, adding(init)),
            Cut::Sliding(windows) => draw(OperatorKind::SlidingCogroup).fold_sliding(
                In { windows, emit, retention, with_late: false },
                None,
                adding(init),
            ),
        }
    }
}

/// Cogrouped streams cut into sessions; see [`CogroupedKStream::windowed_by`].
///
/// ```
/// use headwater_core::serde::for_type;
/// use headwater_dsl::{SessionWindows, StreamsBuilder};
/// use headwater_engine::store::{SessionWindowedSerde, Windowed};
/// use headwater_testkit::TopologyTestDriver;
/// use std::{sync::Arc, time::Duration};
///
/// let builder = StreamsBuilder::new();
/// let clicks = builder.stream::<String, i64>("clicks").group_by_key();
/// let buys = builder.stream::<String, i64>("buys").group_by_key();
/// let visits = SessionWindows::of_inactivity_gap_with_no_grace(Duration::from_millis(10));
/// let sums = clicks.cogroup(|_, _, sum| sum + 1).cogroup(&buys, |_, price, sum: i64| sum + price);
/// let sums = sums.windowed_by(visits).aggregate(|| 0, |_, sum, session| sum + session, "sums");
/// sums.to_stream().drop_null_values().to("out");
///
/// let driver = TopologyTestDriver::new(builder.build()?)?;
/// driver.input_topic::<String, i64>("clicks").pipe_input("ann".into(), 0, 1)?;
/// driver.input_topic::<String, i64>("buys").pipe_input("ann".into(), 20, 5)?;
/// let keys = Arc::new(SessionWindowedSerde::new(for_type::<String>()));
/// let mut out = driver.output_topic_with::<Windowed<String>, i64>("out", keys, for_type());
/// let read = out.read_records_to_list()?;
/// let read: Vec<_> = read.into_iter().map(|r| (r.key.window.start, r.key.window.end, r.value)).collect();
/// assert_eq!(read, [(1, 1, 1), (1, 5, 21)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SessionWindowedCogroupedKStream<K, A> {
    cogrouped: CogroupedKStream<K, A>,
    windows: SessionWindows,
    emit: EmitStrategy,
}

impl<K, A> fmt::Debug for SessionWindowedCogroupedKStream<K, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionWindowedCogroupedKStream({:?}, {:?})", self.cogrouped, self.windows)
    }
}

impl<K: Data, A: Data> SessionWindowedCogroupedKStream<K, A> {
    pub(crate) fn new(cogrouped: CogroupedKStream<K, A>, windows: SessionWindows) -> Self {
        Self { cogrouped, windows, emit: EmitStrategy::default() }
    }

    /// When results come out; [`EmitStrategy::on_window_update`] unless told otherwise.
    #[must_use]
    pub fn emit_strategy(self, emit: EmitStrategy) -> Self {
        Self { emit, ..self }
    }

    /// The records of each session folded into an aggregate, which begins as what `init` gives; sessions that become one are
    /// merged as [`SessionWindowedKStream::aggregate`](crate::SessionWindowedKStream::aggregate) does it.
    pub fn aggregate(
        &self,
        init: impl Fn() -> A + Send + Sync + 'static,
        merge: impl Fn(&K, A, A) -> A + Send + Sync + 'static,
        materialized: impl Into<MaterializedWith<K, A>>,
    ) -> KTable<Windowed<K>, A> {
        let (materialized, init) = (materialized.into(), Arc::new(init));
        let (windows, emit, retention) = (self.windows, self.emit, materialized.settings.retention);
        let drawn = self.cogrouped.draw(OperatorKind::SessionCogroup, materialized);
        let first = Arc::clone(&init);
        let (fold, merge) = (adding(move || first()), merging(move || init(), merge));
        drawn.fold_in_sessions(In { windows, emit, retention, with_late: false }, fold, merge)
    }
}

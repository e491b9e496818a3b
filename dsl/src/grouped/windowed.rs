//! Grouped streams cut into windows, and their aggregations.

use super::{KGroupedStream, aggregating, count, draw_intervals::In, reducing, top};
use crate::{
    EmitStrategy, KStream, KTable, MaterializedGiven, MaterializedWith,
    operator::First,
    plan::OperatorKind,
    settings::Cut,
    table::{Change, NeedsOld},
};
use headwater_core::serde::{Data, SharedSerde};
use headwater_engine::store::{Window, Windowed};
use std::{fmt, rc::Rc};

/// A grouped stream cut into windows; see [`KGroupedStream::windowed_by`].
///
/// ```
/// use headwater_dsl::{EmitStrategy, StreamsBuilder, TimeWindows};
/// use headwater_engine::store::Windowed;
/// use headwater_testkit::TopologyTestDriver;
/// use std::time::Duration;
///
/// let builder = StreamsBuilder::new();
/// let speeds = builder.stream::<String, i64>("speeds").group_by_key();
/// let minutes = TimeWindows::of_size_with_no_grace(Duration::from_secs(60));
/// let windowed = speeds.windowed_by(minutes).emit_strategy(EmitStrategy::on_window_close());
/// windowed.reduce(i64::max, "top-speeds").to_stream().to("out");
///
/// let driver = TopologyTestDriver::new(builder.build()?)?;
/// let speeds = driver.input_topic::<String, i64>("speeds");
/// speeds.pipe_input("car".into(), 120, 1)?;
/// speeds.pipe_input("car".into(), 150, 2)?;
/// speeds.pipe_input("car".into(), 90, 60000)?;
/// let read = driver.output_topic::<Windowed<String>, i64>("out").read_records_to_list()?;
/// let read: Vec<_> = read.into_iter().map(|r| (r.key.window.start, r.value)).collect();
/// assert_eq!(read, [(0, 150)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TimeWindowedKStream<K, V> {
    grouped: KGroupedStream<K, V>,
    windows: Cut,
    emit: EmitStrategy,
    late: Option<Rc<ReadLate<K, V>>>,
}

/// Takes the stream of late records of an aggregation.
pub(super) type ReadLate<K, V> = dyn Fn(KStream<K, LateRecord<V>>);

/// A record that came too late for a window; see [`TimeWindowedKStream::late_records`].
///
/// Example: [`TimeWindowedKStream::late_records`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LateRecord<V> {
    /// The record's value.
    pub value: V,
    /// The window that it missed.
    pub window: Window,
    /// By how much: for how many ms of the aggregation's time the window had been closed. 0 if the time of this very record,
    /// or another of the same instant, has closed it.
    pub late_by_ms: i64,
}

impl<K, V> fmt::Debug for TimeWindowedKStream<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimeWindowedKStream({:?}, {:?})", self.grouped, self.windows)
    }
}

impl<K: Data, V: Data> TimeWindowedKStream<K, V> {
    pub(crate) fn new(grouped: KGroupedStream<K, V>, windows: impl Into<Cut>) -> Self {
        let windows = windows.into();
        Self { grouped, windows, emit: EmitStrategy::default(), late: None }
    }

    /// When results come out; [`EmitStrategy::on_window_update`] unless told otherwise.
    ///
    /// ```
    /// use headwater_dsl::{EmitStrategy, StreamsBuilder, TimeWindows};
    /// use headwater_engine::store::Windowed;
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::time::Duration;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<String, i64>("speeds").group_by_key();
    /// let minutes = TimeWindows::of_size_with_no_grace(Duration::from_secs(60));
    /// let windowed = speeds.windowed_by(minutes).emit_strategy(EmitStrategy::on_window_close());
    /// windowed.count("counts").to_stream().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, i64>("speeds");
    /// speeds.pipe_input("car".into(), 120, 1)?;
    /// speeds.pipe_input("car".into(), 150, 2)?;
    /// speeds.pipe_input("car".into(), 90, 60000)?;
    /// driver.finish_input()?;
    /// let read = driver.output_topic::<Windowed<String>, i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| (r.key.window.start, r.value)).collect();
    /// assert_eq!(read, [(0, 2), (60_000, 1)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn emit_strategy(self, emit: EmitStrategy) -> Self {
        Self { emit, ..self }
    }

    /// Hands `read` a stream of the records that come too late, once for each aggregation of these windows.
    ///
    /// A record is there once for each window that it missed, under its own key, timestamp and headers; it still counts as
    /// dropped. What `read` returns is left.
    ///
    /// ```
    /// use headwater_dsl::{LateRecord, StreamsBuilder, TimeWindows};
    /// use headwater_engine::store::Window;
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::time::Duration;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<String, i64>("speeds").group_by_key();
    /// let minutes = TimeWindows::of_size_with_no_grace(Duration::from_secs(60));
    /// let windowed = speeds.windowed_by(minutes).late_records(|late| late.to("late"));
    /// windowed.count("counts").to_stream().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, i64>("speeds");
    /// speeds.pipe_input("car".into(), 120, 60_500)?;
    /// speeds.pipe_input("car".into(), 150, 59_000)?;
    /// let read = driver.output_topic::<String, LateRecord<i64>>("late").read_record()?.unwrap();
    /// assert_eq!((read.key.as_str(), read.timestamp), ("car", 59_000));
    /// let window = Window { start: 0, end: 60_000 };
    /// assert_eq!(read.value, LateRecord { value: 150, window, late_by_ms: 500 });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn late_records<R>(self, read: impl Fn(KStream<K, LateRecord<V>>) -> R + 'static) -> Self {
        Self { late: Some(Rc::new(move |late| drop(read(late)))), ..self }
    }

    /// The number of records of each key and window.
    ///
    /// ```
    /// use headwater_dsl::{StreamsBuilder, TimeWindows};
    /// use headwater_engine::store::Windowed;
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::time::Duration;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<String, i64>("speeds").group_by_key();
    /// let minutes = TimeWindows::of_size_with_no_grace(Duration::from_secs(60));
    /// speeds.windowed_by(minutes).count("counts").to_stream().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, i64>("speeds");
    /// speeds.pipe_input("car".into(), 120, 1)?;
    /// speeds.pipe_input("car".into(), 150, 2)?;
    /// speeds.pipe_input("car".into(), 90, 60000)?;
    /// let read = driver.output_topic::<Windowed<String>, i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| (r.key.window.start, r.value)).collect();
    /// assert_eq!(read, [(0, 1), (0, 2), (60_000, 1)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn count(
        &self,
        materialized: impl Into<MaterializedWith<K, i64>>,
    ) -> KTable<Windowed<K>, i64> {
        self.fold(
            self.kind(OperatorKind::WindowedCount, OperatorKind::SlidingCount),
            count,
            materialized.into(),
        )
    }

    /// The records of each key and window reduced to one value, as [`KGroupedStream::reduce`] does.
    ///
    /// ```
    /// use headwater_dsl::{StreamsBuilder, TimeWindows};
    /// use headwater_engine::store::Windowed;
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::time::Duration;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<String, i64>("speeds").group_by_key();
    /// let minutes = TimeWindows::of_size_with_no_grace(Duration::from_secs(60));
    /// speeds.windowed_by(minutes).reduce(i64::max, "top-speeds").to_stream().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, i64>("speeds");
    /// speeds.pipe_input("car".into(), 120, 1)?;
    /// speeds.pipe_input("car".into(), 150, 2)?;
    /// speeds.pipe_input("car".into(), 90, 60000)?;
    /// let read = driver.output_topic::<Windowed<String>, i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| (r.key.window.start, r.value)).collect();
    /// assert_eq!(read, [(0, 120), (0, 150), (60_000, 90)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reduce(
        &self,
        reduce: impl Fn(V, V) -> V + Send + Sync + 'static,
        materialized: impl Into<MaterializedGiven<K, V>>,
    ) -> KTable<Windowed<K>, V> {
        self.fold(
            self.kind(OperatorKind::WindowedReduce, OperatorKind::SlidingReduce),
            reducing(reduce),
            materialized.into().of_values(&self.grouped.serdes.value),
        )
    }

    /// The records of each key and window folded into an aggregate, as [`KGroupedStream::aggregate`] does. Where values
    /// are `Option`, nulls are folded too.
    ///
    /// ```
    /// use headwater_dsl::{StreamsBuilder, TimeWindows};
    /// use headwater_engine::store::Windowed;
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::time::Duration;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<String, i64>("speeds").group_by_key();
    /// let minutes = TimeWindows::of_size_with_no_grace(Duration::from_secs(60));
    /// let sum = |_: &String, kmh: i64, sum: i64| sum + kmh;
    /// speeds.windowed_by(minutes).aggregate(|| 0, sum, "sums").to_stream().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, i64>("speeds");
    /// speeds.pipe_input("car".into(), 120, 1)?;
    /// speeds.pipe_input("car".into(), 150, 2)?;
    /// speeds.pipe_input("car".into(), 90, 60000)?;
    /// let read = driver.output_topic::<Windowed<String>, i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| (r.key.window.start, r.value)).collect();
    /// assert_eq!(read, [(0, 120), (0, 270), (60_000, 90)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn aggregate<A: Data>(
        &self,
        init: impl Fn() -> A + Send + Sync + 'static,
        aggregate: impl Fn(&K, V, A) -> A + Send + Sync + 'static,
        materialized: impl Into<MaterializedWith<K, A>>,
    ) -> KTable<Windowed<K>, A> {
        self.aggregate_or_delete(
            init,
            move |key, value, so_far| Some(aggregate(key, value, so_far)),
            materialized,
        )
    }

    /// The same for an aggregate that can end; a row that is deleted when its window closes has no final.
    pub fn aggregate_or_delete<A: Data>(
        &self,
        init: impl Fn() -> A + Send + Sync + 'static,
        aggregate: impl Fn(&K, V, A) -> Option<A> + Send + Sync + 'static,
        materialized: impl Into<MaterializedWith<K, A>>,
    ) -> KTable<Windowed<K>, A> {
        self.fold(
            self.kind(OperatorKind::WindowedAggregate, OperatorKind::SlidingAggregate),
            aggregating(init, aggregate),
            materialized.into(),
        )
    }

    /// The `n` records of each key and window that are largest by what `by` gives, as [`KGroupedStream::top_n`] has them.
    pub fn top_n<O: Ord + 'static>(
        &self,
        n: usize,
        by: impl Fn(&V) -> O + Send + Sync + 'static,
        materialized: impl Into<MaterializedWith<K, Vec<V>>>,
    ) -> KTable<Windowed<K>, Vec<V>> {
        let kind = self.kind(OperatorKind::WindowedAggregate, OperatorKind::SlidingAggregate);
        self.fold(kind, top(n, by), materialized.into())
    }

    /// The first record of each key and window, at once, or when the window closes, with the largest timestamp that it took;
    /// those that follow it are left out.
    ///
    /// Of hopping windows, a record is there once for each in which it is the first. Of an [unlimited](crate::UnlimitedWindows)
    /// one, each key has one record for ever. The store holds the records; its updates are not held back.
    ///
    /// ```
    /// use headwater_dsl::{StreamsBuilder, TimeWindows};
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::time::Duration;
    ///
    /// let builder = StreamsBuilder::new();
    /// let minutes = TimeWindows::of_size_with_no_grace(Duration::from_secs(60));
    /// let alerts = builder.stream::<String, String>("alerts").group_by_key();
    /// alerts.windowed_by(minutes).distinct("seen").to("alerts-once-a-minute");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let alerts = driver.input_topic::<String, String>("alerts");
    /// for (text, at) in [("first", 1), ("again", 2), ("a minute later", 60_000)] {
    ///     alerts.pipe_input("car".into(), text.into(), at)?;
    /// }
    /// let mut out = driver.output_topic::<String, String>("alerts-once-a-minute");
    /// let read: Vec<_> = out.read_records_to_list()?.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, ["first", "a minute later"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn distinct(&self, materialized: impl Into<MaterializedGiven<K, V>>) -> KStream<K, V> {
        let mut kept = materialized.into();
        kept.settings = kept.settings.with_caching_disabled();
        let firsts = self.reduce(|first, _| first, kept);
        let (plan, store) = (firsts.plan.clone(), firsts.store.clone());
        let called = store.as_deref().unwrap_or_default();
        let step = plan.step_called(OperatorKind::Distinct, firsts.node, called);
        let step = step.needing_old(NeedsOld::Always);
        let node = plan.operator::<Windowed<K>, Change<V>, _>(step, |_| Ok(First));
        let key = Some(SharedSerde::clone(&self.grouped.serdes.key));
        KStream { plan, node, key, value: firsts.value }
    }

    fn fold<A: Data, F>(
        &self,
        kind: OperatorKind,
        fold: F,
        materialized: MaterializedWith<K, A>,
    ) -> KTable<Windowed<K>, A>
    where
        F: Fn(&K, V, Option<A>) -> Option<A> + Send + Sync + 'static,
    {
        let (emit, retention) = (self.emit, materialized.settings.retention);
        let with_late = self.late.is_some();
        let drawn = self.grouped.draw(kind, materialized);
        let table = match self.windows {
            Cut::Fixed(windows) => drawn.fold_in(In { windows, emit, retention, with_late }, fold),
            Cut::Sliding(windows) => {
                let values = &self.grouped.serdes.value;
                // A serde that reads null writes it.
                let nullable = values.deserialize(None).is_ok().then(|| SharedSerde::clone(values));
                drawn.fold_sliding(In { windows, emit, retention, with_late }, nullable, fold)
            }
        };
        self.late.iter().for_each(|read| self.grouped.read_late(&table, &**read));
        table
    }

    fn kind(&self, fixed: OperatorKind, sliding: OperatorKind) -> OperatorKind {
        match self.windows {
            Cut::Fixed(_) => fixed,
            Cut::Sliding(_) => sliding,
        }
    }
}

impl<K: Data, V: Data> KGroupedStream<K, V> {
    /// Has `read` take what comes too late for the windows that `table` is made of.
    pub(super) fn read_late<A: Data>(&self, table: &KTable<Windowed<K>, A>, read: &ReadLate<K, V>) {
        let plan = table.plan.clone();
        let store = table.store.as_deref().unwrap_or_default();
        let step = plan.step_called(OperatorKind::LateRecords, table.node, store);
        let node = plan.child_port::<K, LateRecord<V>>(step);
        let key = Some(SharedSerde::clone(&self.serdes.key));
        read(KStream { plan, node, key, value: None });
    }
}

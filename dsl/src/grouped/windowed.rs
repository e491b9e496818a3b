//! Grouped streams cut into windows, and their aggregations.

use super::{KGroupedStream, aggregating, count, draw::InWindows, reducing};
use crate::{DefaultSerde, EmitStrategy, KTable, Materialized, TimeWindows, plan::OperatorKind};
use headwater_core::serde::Data;
use headwater_engine::store::Windowed;
use std::fmt;

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
    windows: TimeWindows,
    emit: EmitStrategy,
}

impl<K, V> fmt::Debug for TimeWindowedKStream<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimeWindowedKStream({:?}, {:?})", self.grouped, self.windows)
    }
}

impl<K: Data, V: Data> TimeWindowedKStream<K, V> {
    pub(crate) fn new(grouped: KGroupedStream<K, V>, windows: TimeWindows) -> Self {
        Self { grouped, windows, emit: EmitStrategy::default() }
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
    pub fn count(&self, materialized: impl Into<Materialized>) -> KTable<Windowed<K>, i64> {
        self.fold(OperatorKind::WindowedCount, count, materialized.into())
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
        materialized: impl Into<Materialized>,
    ) -> KTable<Windowed<K>, V>
    where
        V: DefaultSerde,
    {
        self.fold(OperatorKind::WindowedReduce, reducing(reduce), materialized.into())
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
    pub fn aggregate<A: DefaultSerde>(
        &self,
        init: impl Fn() -> A + Send + Sync + 'static,
        aggregate: impl Fn(&K, V, A) -> A + Send + Sync + 'static,
        materialized: impl Into<Materialized>,
    ) -> KTable<Windowed<K>, A> {
        self.aggregate_or_delete(
            init,
            move |key, value, so_far| Some(aggregate(key, value, so_far)),
            materialized,
        )
    }

    /// The same for an aggregate that can end; a row that is deleted when its window closes has no final.
    pub fn aggregate_or_delete<A: DefaultSerde>(
        &self,
        init: impl Fn() -> A + Send + Sync + 'static,
        aggregate: impl Fn(&K, V, A) -> Option<A> + Send + Sync + 'static,
        materialized: impl Into<Materialized>,
    ) -> KTable<Windowed<K>, A> {
        self.fold(
            OperatorKind::WindowedAggregate,
            aggregating(init, aggregate),
            materialized.into(),
        )
    }

    fn fold<A: DefaultSerde, F>(
        &self,
        kind: OperatorKind,
        fold: F,
        materialized: Materialized,
    ) -> KTable<Windowed<K>, A>
    where
        F: Fn(&K, V, Option<A>) -> Option<A> + Send + Sync + 'static,
    {
        let retention = materialized.retention;
        let drawn = self.grouped.draw(kind, materialized);
        drawn.fold_in(InWindows { windows: self.windows, emit: self.emit, retention }, fold)
    }
}

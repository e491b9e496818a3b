//! Grouped streams cut into sessions, and their aggregations.

use super::{
    KGroupedStream, LateRecord, aggregating, count, draw_intervals::In, reducing,
    windowed::ReadLate,
};
use crate::{
    EmitStrategy, KStream, KTable, MaterializedGiven, MaterializedWith, SessionWindows,
    plan::OperatorKind,
};
use headwater_core::serde::Data;
use headwater_engine::store::Windowed;
use std::{fmt, rc::Rc, sync::Arc};

/// A grouped stream cut into sessions; see [`KGroupedStream::windowed_by`].
///
/// A row's key has the session's first and last instant, both of which belong to it, and the row's timestamp is the last. A
/// record that prolongs a session, or makes one of two, ends those that were: a deletion of each, oldest first, comes before
/// the row of the session that they become part of. With caching, the default, a session that came and went between two
/// commits leaves no row.
///
/// ```
/// use headwater_core::serde::for_type;
/// use headwater_dsl::{Materialized, SessionWindows, StreamsBuilder};
/// use headwater_engine::store::{SessionWindowedSerde, Windowed};
/// use headwater_testkit::TopologyTestDriver;
/// use std::{sync::Arc, time::Duration};
///
/// let builder = StreamsBuilder::new();
/// let clicks = builder.stream::<String, i64>("clicks").group_by_key();
/// let visits = SessionWindows::of_inactivity_gap_with_no_grace(Duration::from_millis(10));
/// let uncached = Materialized::named("visits").with_caching_disabled();
/// clicks.windowed_by(visits).count(uncached).to_stream().to("out");
///
/// let driver = TopologyTestDriver::new(builder.build()?)?;
/// let clicks = driver.input_topic::<String, i64>("clicks");
/// for at in [1, 30, 35] {
///     clicks.pipe_input("ann".into(), 0, at)?;
/// }
/// let keys = Arc::new(SessionWindowedSerde::new(for_type::<String>()));
/// let mut out = driver.output_topic_with::<Windowed<String>, Option<i64>>("out", keys, for_type());
/// let read = out.read_records_to_list()?;
/// let read: Vec<_> = read.into_iter().map(|r| (r.key.window.start, r.key.window.end, r.value)).collect();
/// assert_eq!(read, [(1, 1, Some(1)), (30, 30, Some(1)), (30, 30, None), (30, 35, Some(2))]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SessionWindowedKStream<K, V> {
    grouped: KGroupedStream<K, V>,
    windows: SessionWindows,
    emit: EmitStrategy,
    late: Option<Rc<ReadLate<K, V>>>,
}

impl<K, V> fmt::Debug for SessionWindowedKStream<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionWindowedKStream({:?}, {:?})", self.grouped, self.windows)
    }
}

impl<K: Data, V: Data> SessionWindowedKStream<K, V> {
    pub(crate) fn new(grouped: KGroupedStream<K, V>, windows: SessionWindows) -> Self {
        Self { grouped, windows, emit: EmitStrategy::default(), late: None }
    }

    /// When results come out; [`EmitStrategy::on_window_update`] unless told otherwise. Finals are ordered by the end of the
    /// session, its start, and then the key's bytes.
    ///
    /// ```
    /// use headwater_core::serde::for_type;
    /// use headwater_dsl::{EmitStrategy, SessionWindows, StreamsBuilder};
    /// use headwater_engine::store::{SessionWindowedSerde, Windowed};
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::{sync::Arc, time::Duration};
    ///
    /// let builder = StreamsBuilder::new();
    /// let clicks = builder.stream::<String, i64>("clicks").group_by_key();
    /// let visits = SessionWindows::of_inactivity_gap_with_no_grace(Duration::from_millis(10));
    /// let finals = clicks.windowed_by(visits).emit_strategy(EmitStrategy::on_window_close());
    /// finals.count("visits").to_stream().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let clicks = driver.input_topic::<String, i64>("clicks");
    /// for at in [1, 5, 30] {
    ///     clicks.pipe_input("ann".into(), 0, at)?;
    /// }
    /// let keys = Arc::new(SessionWindowedSerde::new(for_type::<String>()));
    /// let mut out = driver.output_topic_with::<Windowed<String>, i64>("out", keys, for_type());
    /// let read = out.read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| (r.key.window.start, r.key.window.end, r.value)).collect();
    /// assert_eq!(read, [(1, 5, 2)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn emit_strategy(self, emit: EmitStrategy) -> Self {
        Self { emit, ..self }
    }

    /// Has `read` take the records that come too late, as [`TimeWindowedKStream::late_records`](crate::TimeWindowedKStream::late_records) does it: the window of each is
    /// the session that it would have made.
    ///
    /// ```
    /// use headwater_dsl::{SessionWindows, StreamsBuilder};
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::time::Duration;
    ///
    /// let builder = StreamsBuilder::new();
    /// let clicks = builder.stream::<String, i64>("clicks").group_by_key();
    /// let visits = SessionWindows::of_inactivity_gap_with_no_grace(Duration::from_millis(10));
    /// let visits = clicks.windowed_by(visits).late_records(|late| {
    ///     late.map_values(|late| (late.value, late.late_by_ms)).to("late");
    /// });
    /// let _visits = visits.count("visits");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let clicks = driver.input_topic::<String, i64>("clicks");
    /// clicks.pipe_input("ann".into(), 1, 30)?;
    /// clicks.pipe_input("ann".into(), 2, 15)?;
    /// let read = driver.output_topic::<String, (i64, i64)>("late").read_record()?.unwrap();
    /// assert_eq!((read.timestamp, read.value), (15, (2, 4)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn late_records<R>(self, read: impl Fn(KStream<K, LateRecord<V>>) -> R + 'static) -> Self {
        Self { late: Some(Rc::new(move |late| drop(read(late)))), ..self }
    }

    /// The number of records of each session.
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
    /// let visits = SessionWindows::of_inactivity_gap_with_no_grace(Duration::from_millis(10));
    /// clicks.windowed_by(visits).count("visits").to_stream().drop_null_values().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let clicks = driver.input_topic::<String, i64>("clicks");
    /// clicks.pipe_input("ann".into(), 0, 1)?;
    /// clicks.pipe_input("ann".into(), 0, 11)?;
    /// clicks.pipe_input("ann".into(), 0, 22)?;
    /// let keys = Arc::new(SessionWindowedSerde::new(for_type::<String>()));
    /// let mut out = driver.output_topic_with::<Windowed<String>, i64>("out", keys, for_type());
    /// let read = out.read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| (r.key.window.start, r.key.window.end, r.value)).collect();
    /// assert_eq!(read, [(1, 1, 1), (1, 11, 2), (22, 22, 1)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn count(
        &self,
        materialized: impl Into<MaterializedWith<K, i64>>,
    ) -> KTable<Windowed<K>, i64> {
        let merge = |_: &K, so_far: Option<i64>, session| so_far.unwrap_or(0) + session;
        self.fold(OperatorKind::SessionCount, count, merge, materialized.into())
    }

    /// The records of each session reduced to one value, as [`KGroupedStream::reduce`] does. It also merges the values of
    /// sessions that become one, in the order of their starts.
    ///
    /// ```
    /// use headwater_core::serde::for_type;
    /// use headwater_dsl::{SessionWindows, StreamsBuilder};
    /// use headwater_engine::store::{SessionWindowedSerde, Windowed};
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::{sync::Arc, time::Duration};
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<String, i64>("speeds").group_by_key();
    /// let ms = Duration::from_millis;
    /// let trips = SessionWindows::of_inactivity_gap_and_grace(ms(10), ms(10));
    /// speeds.windowed_by(trips).reduce(i64::max, "trips").to_stream().drop_null_values().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, i64>("speeds");
    /// speeds.pipe_input("car".into(), 120, 1)?;
    /// speeds.pipe_input("car".into(), 150, 18)?;
    /// speeds.pipe_input("car".into(), 90, 10)?;
    /// let keys = Arc::new(SessionWindowedSerde::new(for_type::<String>()));
    /// let mut out = driver.output_topic_with::<Windowed<String>, i64>("out", keys, for_type());
    /// let read = out.read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| (r.key.window.start, r.key.window.end, r.value)).collect();
    /// assert_eq!(read, [(1, 1, 120), (18, 18, 150), (1, 18, 150)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reduce(
        &self,
        reduce: impl Fn(V, V) -> V + Send + Sync + 'static,
        materialized: impl Into<MaterializedGiven<K, V>>,
    ) -> KTable<Windowed<K>, V> {
        let reduce = Arc::new(reduce);
        let merged = Arc::clone(&reduce);
        let merge = move |_: &K, so_far: Option<V>, session| match so_far {
            Some(so_far) => merged(so_far, session),
            None => session,
        };
        let fold = reducing(move |so_far, value| reduce(so_far, value));
        let kept = materialized.into().of_values(&self.grouped.serdes.value);
        self.fold(OperatorKind::SessionReduce, fold, merge, kept)
    }

    /// The records of each session folded into an aggregate, as [`KGroupedStream::aggregate`] does.
    ///
    /// A record begins with what `init` gives, merges the aggregates of the sessions that it joins into that, in the order
    /// of their starts, and adds itself last.
    ///
    /// ```
    /// use headwater_core::serde::for_type;
    /// use headwater_dsl::{SessionWindows, StreamsBuilder};
    /// use headwater_engine::store::{SessionWindowedSerde, Windowed};
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::{sync::Arc, time::Duration};
    ///
    /// let builder = StreamsBuilder::new();
    /// let clicks = builder.stream::<String, String>("clicks").group_by_key();
    /// let ms = Duration::from_millis;
    /// let visits = SessionWindows::of_inactivity_gap_and_grace(ms(10), ms(10));
    /// let add = |_: &String, page: String, path: String| path + &page;
    /// let merge = |_: &String, path: String, later: String| path + &later;
    /// let paths = clicks.windowed_by(visits).aggregate(String::new, add, merge, "paths");
    /// paths.to_stream().drop_null_values().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let clicks = driver.input_topic::<String, String>("clicks");
    /// clicks.pipe_input("ann".into(), "/a".into(), 1)?;
    /// clicks.pipe_input("ann".into(), "/b".into(), 18)?;
    /// clicks.pipe_input("ann".into(), "/c".into(), 10)?;
    /// let keys = Arc::new(SessionWindowedSerde::new(for_type::<String>()));
    /// let mut out = driver.output_topic_with::<Windowed<String>, String>("out", keys, for_type());
    /// let read = out.read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| (r.key.window.start, r.value)).collect();
    /// assert_eq!(read, [(1, "/a".to_owned()), (18, "/b".to_owned()), (1, "/a/b/c".to_owned())]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn aggregate<A: Data>(
        &self,
        init: impl Fn() -> A + Send + Sync + 'static,
        aggregate: impl Fn(&K, V, A) -> A + Send + Sync + 'static,
        merge: impl Fn(&K, A, A) -> A + Send + Sync + 'static,
        materialized: impl Into<MaterializedWith<K, A>>,
    ) -> KTable<Windowed<K>, A> {
        self.aggregate_or_delete(
            init,
            move |key, value, so_far| Some(aggregate(key, value, so_far)),
            merge,
            materialized,
        )
    }

    /// The same for an aggregate that can end: `None` deletes the session, and a later record begins a new one.
    pub fn aggregate_or_delete<A: Data>(
        &self,
        init: impl Fn() -> A + Send + Sync + 'static,
        aggregate: impl Fn(&K, V, A) -> Option<A> + Send + Sync + 'static,
        merge: impl Fn(&K, A, A) -> A + Send + Sync + 'static,
        materialized: impl Into<MaterializedWith<K, A>>,
    ) -> KTable<Windowed<K>, A> {
        let init = Arc::new(init);
        let first = Arc::clone(&init);
        let fold = aggregating(move || first(), aggregate);
        let merge = merging(move || init(), merge);
        self.fold(OperatorKind::SessionAggregate, fold, merge, materialized.into())
    }

    fn fold<A: Data, F, M>(
        &self,
        kind: OperatorKind,
        fold: F,
        merge: M,
        materialized: MaterializedWith<K, A>,
    ) -> KTable<Windowed<K>, A>
    where
        F: Fn(&K, V, Option<A>) -> Option<A> + Send + Sync + 'static,
        M: Fn(&K, Option<A>, A) -> A + Send + Sync + 'static,
    {
        let (windows, emit, retention) = (self.windows, self.emit, materialized.settings.retention);
        let (drawn, with_late) = (self.grouped.draw(kind, materialized), self.late.is_some());
        let sessions = In { windows, emit, retention, with_late };
        let table = drawn.fold_in_sessions(sessions, fold, merge);
        self.late.iter().for_each(|read| self.grouped.read_late(&table, &**read));
        table
    }
}

/// Merges the value of a session into what was merged before it, which begins as `init` gives it.
pub(super) fn merging<K, A>(
    init: impl Fn() -> A + Send + Sync,
    merge: impl Fn(&K, A, A) -> A + Send + Sync,
) -> impl Fn(&K, Option<A>, A) -> A + Send + Sync {
    move |key, so_far, session| merge(key, so_far.unwrap_or_else(&init), session)
}

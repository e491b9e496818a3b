//! Windows and when their results come out.

use crate::{
    CogroupedKStream, KGroupedStream, SlidingWindows, TimeWindowedCogroupedKStream,
    TimeWindowedKStream,
};
use headwater_core::record::Timestamp;
use headwater_core::serde::Data;
use headwater_engine::{kernel, topology::MaxAhead};
use std::time::Duration;

/// Windows of any kind, as [`KGroupedStream::windowed_by`] takes them; implemented by those that there are.
///
/// Example: [`TimeWindows`].
pub trait Windows: Sized {
    /// A grouped stream cut into such windows.
    type Windowed<K: Data, V: Data>;
    /// Cogrouped streams cut into such windows.
    type Cogrouped<K: Data, A: Data>;

    /// Cuts `grouped` into these windows.
    #[doc(hidden)]
    fn cut<K: Data, V: Data>(
        self,
        grouped: KGroupedStream<K, V>,
        _: Private,
    ) -> Self::Windowed<K, V>;

    /// Cuts `cogrouped` into these windows.
    #[doc(hidden)]
    fn cut_cogrouped<K: Data, A: Data>(
        self,
        cogrouped: CogroupedKStream<K, A>,
        _: Private,
    ) -> Self::Cogrouped<K, A>;
}

/// What only this crate has: a trait whose method takes it is implemented nowhere else.
#[derive(Debug)]
pub struct Private;

/// Stretches of event time of one size: tumbling windows, side by side from 0, or hopping ones, which
/// [advance](Self::advance_by) by less than their size.
///
/// A record belongs to each window that holds its timestamp, until stream time reaches that window's end plus the grace;
/// after that it is late for it, dropped and counted.
///
/// ```
/// use headwater_dsl::TimeWindows;
/// use std::time::Duration;
///
/// let minutes = TimeWindows::of_size_and_grace(Duration::from_secs(60), Duration::from_secs(10));
/// assert_eq!((minutes.size_ms(), minutes.grace_ms()), (60_000, 10_000));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeWindows {
    pub(crate) windows: kernel::Windows,
    max_ahead: Option<MaxAhead>,
}

impl TimeWindows {
    /// Windows of `size` that take no record once stream time has reached their end.
    #[must_use]
    pub fn of_size_with_no_grace(size: Duration) -> Self {
        Self::of_size_and_grace(size, Duration::ZERO)
    }

    /// Windows of `size` that take records until stream time has reached their end plus `grace`.
    ///
    /// Both are cut to whole ms; a topology whose windows have a size of 0 is refused at its build. With a grace that no time
    /// reaches, such as [`Duration::MAX`], no record is ever late and every window is kept; finals of such windows are refused.
    #[must_use]
    pub fn of_size_and_grace(size: Duration, grace: Duration) -> Self {
        let windows = kernel::Windows::tumbling(whole_ms(size), whole_ms(grace));
        Self { windows, max_ahead: None }
    }

    /// Has a window start every `advance`, cut to whole ms, at the multiples of it from 0: where that is less than the size,
    /// windows overlap, and a record belongs to several.
    ///
    /// A topology whose windows advance by 0 or by more than their size is refused at its build.
    ///
    /// ```
    /// use headwater_dsl::{StreamsBuilder, TimeWindows};
    /// use headwater_engine::store::Windowed;
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::time::Duration;
    ///
    /// let builder = StreamsBuilder::new();
    /// let hopping = TimeWindows::of_size_with_no_grace(Duration::from_millis(10))
    ///     .advance_by(Duration::from_millis(4));
    /// let speeds = builder.stream::<String, i64>("speeds").group_by_key();
    /// speeds.windowed_by(hopping).count("counts").to_stream().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, i64>("speeds").pipe_input("car".into(), 120, 12)?;
    /// let read = driver.output_topic::<Windowed<String>, i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| (r.key.window.start, r.value)).collect();
    /// assert_eq!(read, [(4, 1), (8, 1), (12, 1)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn advance_by(mut self, advance: Duration) -> Self {
        self.windows.advance_ms = whole_ms(advance);
        self
    }

    /// Bounds how far ahead records may be, so that one wrong clock does not close these windows for all others.
    ///
    /// The bound holds for the topics that they read, with all that else reads them, as if it had been given there by
    /// [`Consumed::max_ahead`](headwater_engine::topology::Consumed::max_ahead): below a repartition, time would have moved
    /// before windows could tell. What a user's processor between makes of timestamps is not looked at.
    ///
    /// ```
    /// use headwater_dsl::{EmitStrategy, StreamsBuilder, TimeWindows};
    /// use headwater_engine::{store::Windowed, topology::MaxAhead};
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::time::Duration;
    ///
    /// let builder = StreamsBuilder::new();
    /// let minutes = TimeWindows::of_size_with_no_grace(Duration::from_secs(60))
    ///     .max_ahead(MaxAhead::of_partition(Duration::from_secs(3600)));
    /// let speeds = builder.stream::<String, i64>("speeds").group_by_key();
    /// let windowed = speeds.windowed_by(minutes).emit_strategy(EmitStrategy::on_window_close());
    /// windowed.count("counts").to_stream().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let speeds = driver.input_topic::<String, i64>("speeds");
    /// let (day_ms, cars) = (86_400_000, ["a", "b", "c"]);
    /// cars.iter().try_for_each(|car| speeds.pipe_input((*car).into(), 90, 1))?;
    /// speeds.pipe_input("wrong".into(), 90, day_ms)?;
    /// cars.iter().try_for_each(|car| speeds.pipe_input((*car).into(), 90, 2))?;
    /// driver.finish_input()?;
    /// let read = driver.output_topic::<Windowed<String>, i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| (r.key.key, r.key.window.start, r.value)).collect();
    /// assert_eq!(read, [("a".to_owned(), 0, 2), ("b".to_owned(), 0, 2), ("c".to_owned(), 0, 2)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn max_ahead(self, bound: MaxAhead) -> Self {
        Self { max_ahead: Some(bound), ..self }
    }

    /// How far ahead records may be, if that is bounded.
    pub(crate) fn bound(&self) -> Option<MaxAhead> {
        self.max_ahead
    }

    /// The size in ms.
    #[must_use]
    pub fn size_ms(&self) -> i64 {
        self.windows.size_ms
    }

    /// From a window's start to that of the next, in ms.
    #[must_use]
    pub fn advance_ms(&self) -> i64 {
        self.windows.advance_ms
    }

    /// The grace in ms.
    #[must_use]
    pub fn grace_ms(&self) -> i64 {
        self.windows.grace_ms
    }
}

/// One window for each key, from a start on without an end.
///
/// It never closes: no record is late for it, and it has no final. Earlier records belong to no window; they are neither dropped
/// nor counted.
///
/// ```
/// use headwater_dsl::{StreamsBuilder, UnlimitedWindows};
/// use headwater_engine::store::Windowed;
/// use headwater_testkit::TopologyTestDriver;
///
/// let builder = StreamsBuilder::new();
/// let speeds = builder.stream::<String, i64>("speeds").group_by_key();
/// let from_then_on = UnlimitedWindows::of().start_on(1_000);
/// speeds.windowed_by(from_then_on).count("counts").to_stream().to("out");
///
/// let driver = TopologyTestDriver::new(builder.build()?)?;
/// let speeds = driver.input_topic::<String, i64>("speeds");
/// speeds.pipe_input("car".into(), 120, 999)?;
/// speeds.pipe_input("car".into(), 150, 1_000)?;
/// speeds.pipe_input("car".into(), 90, 1_000_000)?;
/// let read = driver.output_topic::<Windowed<String>, i64>("out").read_records_to_list()?;
/// let read: Vec<_> = read.into_iter().map(|r| (r.key.window.start, r.value)).collect();
/// assert_eq!(read, [(1_000, 1), (1_000, 2)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnlimitedWindows {
    start: Timestamp,
}

impl UnlimitedWindows {
    /// From 0 on.
    #[must_use]
    pub fn of() -> Self {
        Self::default()
    }

    /// From `start` on. A topology whose window starts before 0 is refused at its build.
    #[must_use]
    pub fn start_on(self, start: Timestamp) -> Self {
        Self { start }
    }

    fn in_time(self) -> TimeWindows {
        TimeWindows { windows: kernel::Windows::unlimited(self.start), max_ahead: None }
    }
}

impl Windows for UnlimitedWindows {
    type Windowed<K: Data, V: Data> = TimeWindowedKStream<K, V>;
    type Cogrouped<K: Data, A: Data> = TimeWindowedCogroupedKStream<K, A>;

    fn cut<K: Data, V: Data>(
        self,
        grouped: KGroupedStream<K, V>,
        _: Private,
    ) -> Self::Windowed<K, V> {
        TimeWindowedKStream::new(grouped, self.in_time())
    }

    fn cut_cogrouped<K: Data, A: Data>(
        self,
        cogrouped: CogroupedKStream<K, A>,
        _: Private,
    ) -> Self::Cogrouped<K, A> {
        TimeWindowedCogroupedKStream::new(cogrouped, self.in_time())
    }
}

impl Windows for TimeWindows {
    type Windowed<K: Data, V: Data> = TimeWindowedKStream<K, V>;
    type Cogrouped<K: Data, A: Data> = TimeWindowedCogroupedKStream<K, A>;

    fn cut<K: Data, V: Data>(
        self,
        grouped: KGroupedStream<K, V>,
        _: Private,
    ) -> Self::Windowed<K, V> {
        TimeWindowedKStream::new(grouped, self)
    }

    fn cut_cogrouped<K: Data, A: Data>(
        self,
        cogrouped: CogroupedKStream<K, A>,
        _: Private,
    ) -> Self::Cogrouped<K, A> {
        TimeWindowedCogroupedKStream::new(cogrouped, self)
    }
}

/// What streams in windows of time are cut into.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cut {
    /// Windows at equal distances.
    Fixed(TimeWindows),
    /// Windows around the records.
    Sliding(SlidingWindows),
}

impl From<TimeWindows> for Cut {
    fn from(windows: TimeWindows) -> Self {
        Self::Fixed(windows)
    }
}

impl From<SlidingWindows> for Cut {
    fn from(windows: SlidingWindows) -> Self {
        Self::Sliding(windows)
    }
}

/// A duration cut to whole ms.
pub(crate) fn whole_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// When a windowed aggregation forwards results.
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
/// let finals = EmitStrategy::on_window_close();
/// speeds.windowed_by(minutes).emit_strategy(finals).count("finals").to_stream().to("out");
/// let updates = speeds.windowed_by(minutes).emit_strategy(EmitStrategy::on_window_update());
/// updates.count("updates").to_stream().to("updates");
///
/// let driver = TopologyTestDriver::new(builder.build()?)?;
/// let speeds = driver.input_topic::<String, i64>("speeds");
/// speeds.pipe_input("car".into(), 120, 1)?;
/// speeds.pipe_input("car".into(), 150, 2)?;
/// speeds.pipe_input("car".into(), 90, 60000)?;
/// let read = driver.output_topic::<Windowed<String>, i64>("out").read_records_to_list()?;
/// let read: Vec<_> = read.into_iter().map(|r| (r.key.window.start, r.value)).collect();
/// assert_eq!(read, [(0, 2)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EmitStrategy {
    pub(crate) on: Emit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Emit {
    #[default]
    Update,
    Close,
}

impl EmitStrategy {
    /// Every update, or with caching on the last one per window and commit. The default.
    #[must_use]
    pub fn on_window_update() -> Self {
        Self { on: Emit::Update }
    }

    /// One final result per key and window, when the window closes; ordered by window start, then by the key's bytes.
    #[must_use]
    pub fn on_window_close() -> Self {
        Self { on: Emit::Close }
    }
}

//! What a suppression waits for, and how much it may hold back.

use super::whole_ms;
use headwater_engine::store::{Window, Windowed};
use std::{fmt, marker::PhantomData, time::Duration};

/// What becomes of a buffer that would hold more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// The oldest rows come out until it holds no more than it may.
    EmitEarly,
    /// The application stops.
    ShutDown,
}

/// How much a buffer may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) records_max: Option<u64>,
    pub(crate) bytes_max: Option<u64>,
    pub(crate) when_full: WhenFull,
}

/// Marks a [`BufferConfig`] that lets nothing out before its time.
///
/// Example: [`Suppressed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strict {}

/// Marks a [`BufferConfig`] that lets the oldest rows out early when the buffer is full.
///
/// Example: [`BufferConfig`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eager {}

/// How much the buffer of a [suppression](crate::KTable::suppress) may hold, and what becomes of one that is full.
///
/// What is held lies in a store and leaves memory like that of any other, so that a limit is a matter of what comes out, not
/// of memory. A limit counts for each partition by itself.
///
/// ```
/// use headwater_dsl::{BufferConfig, StreamsBuilder, Suppressed};
/// use headwater_testkit::TopologyTestDriver;
/// use std::time::Duration;
///
/// let builder = StreamsBuilder::new();
/// let two = BufferConfig::max_records(2);
/// let speeds = builder.table::<String, i64>("speeds");
/// speeds.suppress(Suppressed::until_time_limit(Duration::from_secs(60), two)).to_stream().to("out");
///
/// let driver = TopologyTestDriver::new(builder.build()?)?;
/// let speeds = driver.input_topic::<String, i64>("speeds");
/// for (at, car) in (1..).zip(["a", "b", "c"]) {
///     speeds.pipe_input(car.into(), 120, at)?;
/// }
/// let read = driver.output_topic::<String, i64>("out").read_records_to_list()?;
/// let read: Vec<_> = read.into_iter().map(|r| (r.key, r.timestamp)).collect();
/// assert_eq!(read, [("a".to_owned(), 1)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct BufferConfig<F = Strict> {
    pub(crate) limits: Limits,
    when_full: PhantomData<fn() -> F>,
}

impl<F> Clone for BufferConfig<F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for BufferConfig<F> {}

impl<F> fmt::Debug for BufferConfig<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Limits { records_max, bytes_max, when_full } = self.limits;
        f.debug_struct("BufferConfig")
            .field("max_records", &records_max)
            .field("max_bytes", &bytes_max)
            .field("when_full", &when_full)
            .finish()
    }
}

impl BufferConfig<Strict> {
    /// As much as comes.
    #[must_use]
    pub fn unbounded() -> Self {
        Self::new(Limits { records_max: None, bytes_max: None, when_full: WhenFull::ShutDown })
    }
}

impl BufferConfig<Eager> {
    /// At most so many rows; the oldest come out early when there are more.
    #[must_use]
    pub fn max_records(records: u64) -> Self {
        Self::early().with_max_records(records)
    }

    /// At most so many bytes of keys, values and headers; the oldest rows come out early when there are more.
    #[must_use]
    pub fn max_bytes(bytes: u64) -> Self {
        Self::early().with_max_bytes(bytes)
    }

    fn early() -> Self {
        Self::new(Limits { records_max: None, bytes_max: None, when_full: WhenFull::EmitEarly })
    }
}

impl<F> BufferConfig<F> {
    fn new(limits: Limits) -> Self {
        Self { limits, when_full: PhantomData }
    }

    /// At most so many rows.
    #[must_use]
    pub fn with_max_records(self, records: u64) -> Self {
        Self::new(Limits { records_max: Some(records), ..self.limits })
    }

    /// At most so many bytes of keys, values and headers.
    #[must_use]
    pub fn with_max_bytes(self, bytes: u64) -> Self {
        Self::new(Limits { bytes_max: Some(bytes), ..self.limits })
    }

    /// Lets the oldest rows out early when the buffer is full.
    #[must_use]
    pub fn emit_early_when_full(self) -> BufferConfig<Eager> {
        BufferConfig::new(Limits { when_full: WhenFull::EmitEarly, ..self.limits })
    }

    /// Stops the application with an error when the buffer is full: nothing comes out before its time.
    #[must_use]
    pub fn shut_down_when_full(self) -> BufferConfig<Strict> {
        BufferConfig::new(Limits { when_full: WhenFull::ShutDown, ..self.limits })
    }
}

/// When a held row comes out.
pub(crate) enum Until<K> {
    /// When the window of its key closes.
    Closed(fn(&K) -> Window),
    /// When it has been held for so many ms.
    Limit(i64),
}

impl<K> Clone for Until<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Until<K> {}

/// What a table's updates are held back for: see [`KTable::suppress`](crate::KTable::suppress).
///
/// ```
/// use headwater_dsl::{BufferConfig, StreamsBuilder, Suppressed, TimeWindows};
/// use headwater_engine::store::Windowed;
/// use headwater_testkit::TopologyTestDriver;
/// use std::time::Duration;
///
/// let builder = StreamsBuilder::new();
/// let speeds = builder.stream::<String, i64>("speeds").group_by_key();
/// let minutes = TimeWindows::of_size_with_no_grace(Duration::from_secs(60));
/// let counts = speeds.windowed_by(minutes).count("counts");
/// let finals = Suppressed::until_window_closes(BufferConfig::unbounded());
/// counts.suppress(finals.with_name("finals")).to_stream().to("out");
///
/// let driver = TopologyTestDriver::new(builder.build()?)?;
/// let speeds = driver.input_topic::<String, i64>("speeds");
/// speeds.pipe_input("car".into(), 120, 1)?;
/// speeds.pipe_input("car".into(), 150, 2)?;
/// speeds.pipe_input("car".into(), 90, 60_000)?;
/// let read = driver.output_topic::<Windowed<String>, i64>("out").read_records_to_list()?;
/// let read: Vec<_> = read.into_iter().map(|r| (r.key.window.start, r.value)).collect();
/// assert_eq!(read, [(0, 2)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Suppressed<K> {
    pub(crate) until: Until<K>,
    pub(crate) limits: Limits,
    pub(crate) name: Option<String>,
}

impl<K> Clone for Suppressed<K> {
    fn clone(&self) -> Self {
        Self { until: self.until, limits: self.limits, name: self.name.clone() }
    }
}

impl<K> fmt::Debug for Suppressed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suppressed")
            .field("name", &self.name)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl<K> Suppressed<Windowed<K>> {
    /// Until the window of a row closes: one final row of each key and window, and nothing of one that was deleted.
    ///
    /// Nothing may come out early, so that a buffer with limits must [shut down](BufferConfig::shut_down_when_full) when it is
    /// full.
    #[must_use]
    pub fn until_window_closes(buffer: BufferConfig<Strict>) -> Self {
        let until = Until::Closed(|key: &Windowed<K>| key.window);
        Self { until, limits: buffer.limits, name: None }
    }
}

impl<K> Suppressed<K> {
    /// Until `limit` of event time, cut to whole ms, has passed since the first update that is held of a row: its newest value
    /// then comes out.
    #[must_use]
    pub fn until_time_limit<F>(limit: Duration, buffer: BufferConfig<F>) -> Self {
        Self { until: Until::Limit(whole_ms(limit)), limits: buffer.limits, name: None }
    }

    /// Names the operator. What it holds back lies in the store `<name>-store`.
    #[must_use]
    pub fn with_name(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }
}

//! How far apart the records of two streams may be to be joined, and what such a join is told.

use super::{ChosenSerde, whole_ms};
use crate::DefaultSerde;
use headwater_core::serde::SharedSerde;
use std::{fmt, time::Duration};

/// How far apart in event time the records of two streams may be to be joined.
///
/// A right record joins a left one if its timestamp lies between the left one's minus *before* and the left one's plus *after*,
/// both ends included.
///
/// ```
/// use headwater_dsl::JoinWindows;
/// use std::time::Duration;
///
/// let minute = Duration::from_secs(60);
/// let windows = JoinWindows::of_time_difference_and_grace(minute, Duration::from_secs(10));
/// assert_eq!((windows.before_ms(), windows.after_ms(), windows.grace_ms()), (60_000, 60_000, 10_000));
/// // The right record comes 1 s to 60 s after the left one.
/// assert_eq!(windows.before(-1_000).before_ms(), -1_000);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinWindows {
    before_ms: i64,
    after_ms: i64,
    grace_ms: i64,
}

/// A difference of time: a [`Duration`], cut to whole ms, or a number of ms, which may be negative.
///
/// Example: [`JoinWindows`].
pub trait TimeDifference: sealed::Ms {}

impl TimeDifference for Duration {}
impl TimeDifference for i64 {}

mod sealed {
    use std::time::Duration;

    pub trait Ms {
        fn ms(self) -> i64;
    }

    impl Ms for Duration {
        fn ms(self) -> i64 {
            super::whole_ms(self)
        }
    }

    impl Ms for i64 {
        fn ms(self) -> i64 {
            self
        }
    }
}

impl JoinWindows {
    /// Records at most `difference` apart; what is un-joined comes out as soon as it can no longer be joined in order.
    #[must_use]
    pub fn of_time_difference_with_no_grace(difference: Duration) -> Self {
        Self::of_time_difference_and_grace(difference, Duration::ZERO)
    }

    /// Records at most `difference` apart, of which some may be late by `grace`. Both are cut to whole ms.
    #[must_use]
    pub fn of_time_difference_and_grace(difference: Duration, grace: Duration) -> Self {
        let (difference_ms, grace_ms) = (whole_ms(difference), whole_ms(grace));
        Self { before_ms: difference_ms, after_ms: difference_ms, grace_ms }
    }

    /// A right record may be so much earlier than the left one; if negative, it must be so much later.
    ///
    /// A topology whose windows hold no time, because both bounds add up to less than 0, is refused at its build.
    #[must_use]
    pub fn before(self, difference: impl TimeDifference) -> Self {
        Self { before_ms: difference.ms(), ..self }
    }

    /// A right record may be so much later than the left one; if negative, it must be so much earlier.
    #[must_use]
    pub fn after(self, difference: impl TimeDifference) -> Self {
        Self { after_ms: difference.ms(), ..self }
    }

    /// How much earlier a right record may be, in ms.
    #[must_use]
    pub fn before_ms(&self) -> i64 {
        self.before_ms
    }

    /// How much later a right record may be, in ms.
    #[must_use]
    pub fn after_ms(&self) -> i64 {
        self.after_ms
    }

    /// The grace in ms.
    #[must_use]
    pub fn grace_ms(&self) -> i64 {
        self.grace_ms
    }
}

/// The names and serdes of a join of two streams; see [`within_with`](crate::KStream::within_with).
///
/// ```
/// use headwater_dsl::{JoinWindows, StreamJoined, StreamsBuilder};
/// use std::time::Duration;
///
/// let builder = StreamsBuilder::new();
/// let (orders, payments) = (builder.stream::<String, i64>("orders"), builder.stream::<String, i64>("payments"));
/// let hour = JoinWindows::of_time_difference_with_no_grace(Duration::from_secs(3_600));
/// let named = StreamJoined::new().with_name("paid").with_store_name("open");
/// orders.join(payments.within_with(hour, named), |order, payment| order - payment).to("rest");
/// let text = builder.build()?.describe();
/// let stores = "open-this-join-store, open-other-join-store, open-waiting-join-store";
/// assert!(text.contains(&format!("Processor: paid (stores: [{stores}])")), "{text}");
/// # Ok::<(), headwater_engine::topology::TopologyError>(())
/// ```
pub struct StreamJoined<K, V, VO> {
    pub(crate) name: Option<String>,
    pub(crate) store_name: Option<String>,
    pub(crate) key: ChosenSerde<K>,
    pub(crate) value: ChosenSerde<V>,
    pub(crate) other_value: ChosenSerde<VO>,
}

impl<K: DefaultSerde, V: DefaultSerde, VO: DefaultSerde> StreamJoined<K, V, VO> {
    /// With counted names, and the serdes that the streams bring along, or else the defaults of their types.
    #[must_use]
    pub fn new() -> Self {
        let (key, value, other_value) = Default::default();
        Self { name: None, store_name: None, key, value, other_value }
    }
}

impl<K, V, VO> StreamJoined<K, V, VO> {
    /// With these serdes of keys, of values, and of the other stream's values, in its stores and in the repartition topics above it.
    ///
    /// ```
    /// use headwater_core::serde::{Json, for_type};
    /// use headwater_dsl::{JoinWindows, StreamJoined, StreamsBuilder};
    /// use std::{sync::Arc, time::Duration};
    ///
    /// let builder = StreamsBuilder::new();
    /// let (orders, payments) = (builder.stream::<String, i64>("orders"), builder.stream::<String, i64>("payments"));
    /// let hour = JoinWindows::of_time_difference_with_no_grace(Duration::from_secs(3_600));
    /// let as_text = StreamJoined::with(for_type(), Arc::new(Json), Arc::new(Json));
    /// orders.join(payments.within_with(hour, as_text), |order, payment| order - payment).to("rest");
    /// # let driver = headwater_testkit::TopologyTestDriver::new(builder.build()?)?;
    /// # driver.pipe::<String, i64>("orders", "a=5@1")?;
    /// # driver.pipe::<String, i64>("payments", "a=3@2")?;
    /// # assert_eq!(driver.read::<String, i64>("rest")?, "a=2@2");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// A stream that is joined with itself is kept once, by `value`.
    #[must_use]
    pub fn with(key: SharedSerde<K>, value: SharedSerde<V>, other_value: SharedSerde<VO>) -> Self {
        Self {
            name: None,
            store_name: None,
            key: ChosenSerde::given(key),
            value: ChosenSerde::given(value),
            other_value: ChosenSerde::given(other_value),
        }
    }

    /// Names the node, and its stores unless [`with_store_name`](Self::with_store_name) does: `<name>-this-join-store`,
    /// `<name>-other-join-store` and so on.
    #[must_use]
    pub fn with_name(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }

    /// How the names of its stores begin.
    #[must_use]
    pub fn with_store_name(self, name: &str) -> Self {
        Self { store_name: Some(name.to_owned()), ..self }
    }
}

impl<K, V, VO> Clone for StreamJoined<K, V, VO> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            store_name: self.store_name.clone(),
            key: self.key.clone(),
            value: self.value.clone(),
            other_value: self.other_value.clone(),
        }
    }
}

impl<K: DefaultSerde, V: DefaultSerde, VO: DefaultSerde> Default for StreamJoined<K, V, VO> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V, VO> fmt::Debug for StreamJoined<K, V, VO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamJoined({:?}, {:?})", self.name, self.store_name)
    }
}

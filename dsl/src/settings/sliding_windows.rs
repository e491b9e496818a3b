//! Sliding windows.

use super::{Private, Windows, whole_ms};
use crate::{CogroupedKStream, KGroupedStream, TimeWindowedCogroupedKStream, TimeWindowedKStream};
use headwater_core::serde::Data;
use headwater_engine::topology::MaxAhead;
use std::time::Duration;

/// Sliding windows: one for each set of records of a key that lie no further apart than the time difference.
///
/// A window is as long as the difference, and both its ends belong to it. There is one that ends with each record, and one
/// that begins right after a record where another follows within the difference; none begins below 0, so that records
/// earlier than the difference share the window from 0 to it. A window is open until stream time has passed its end by more
/// than the grace.
///
/// A record that comes out of order enters the windows that it lies in, and makes those that are missing: as long as none is
/// late, the order does not show. A record that is late for some of its windows enters the others alone, and one that comes
/// after it knows of it what they tell, as in Kafka Streams. A window that an aggregate
/// [deleted](crate::TimeWindowedKStream::aggregate_or_delete) tells nothing of its records any more.
///
/// ```
/// use headwater_dsl::{Materialized, SlidingWindows, StreamsBuilder};
/// use headwater_core::serde::for_type;
/// use headwater_engine::store::{Windowed, WindowedSerde};
/// use headwater_testkit::TopologyTestDriver;
/// use std::{sync::Arc, time::Duration};
///
/// let builder = StreamsBuilder::new();
/// let speeds = builder.stream::<String, i64>("speeds").group_by_key();
/// let close = SlidingWindows::of_time_difference_with_no_grace(Duration::from_millis(5));
/// let uncached = Materialized::named("counts").with_caching_disabled();
/// speeds.windowed_by(close).count(uncached).to_stream().to("out");
///
/// let driver = TopologyTestDriver::new(builder.build()?)?;
/// let speeds = driver.input_topic::<String, i64>("speeds");
/// for at in [10, 13] {
///     speeds.pipe_input("car".into(), 120, at)?;
/// }
/// let keys = Arc::new(WindowedSerde::new(for_type::<String>(), 5));
/// let mut out = driver.output_topic_with::<Windowed<String>, i64>("out", keys, for_type());
/// let read = out.read_records_to_list()?;
/// let read: Vec<_> = read.into_iter().map(|r| (r.key.window.start, r.key.window.end, r.value)).collect();
/// assert_eq!(read, [(5, 10, 1), (11, 16, 1), (8, 13, 2)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlidingWindows {
    difference_ms: i64,
    grace_ms: i64,
    max_ahead: Option<MaxAhead>,
}

impl SlidingWindows {
    /// Windows of records at most `difference` apart, which take no record once stream time has passed their end.
    #[must_use]
    pub fn of_time_difference_with_no_grace(difference: Duration) -> Self {
        Self::of_time_difference_and_grace(difference, Duration::ZERO)
    }

    /// Windows of records at most `difference` apart, which take records until stream time has passed their end by more than
    /// `grace`.
    ///
    /// Both are cut to whole ms. With a grace that no time reaches, such as [`Duration::MAX`], no record is ever late and every
    /// window is kept; finals of such windows are refused.
    #[must_use]
    pub fn of_time_difference_and_grace(difference: Duration, grace: Duration) -> Self {
        let (difference_ms, grace_ms) = (whole_ms(difference), whole_ms(grace));
        Self { difference_ms, grace_ms, max_ahead: None }
    }

    /// Bounds how far ahead records may be, as [`TimeWindows::max_ahead`](crate::TimeWindows::max_ahead) does.
    #[must_use]
    pub fn max_ahead(self, bound: MaxAhead) -> Self {
        Self { max_ahead: Some(bound), ..self }
    }

    /// How far ahead records may be, if that is bounded.
    pub(crate) fn bound(&self) -> Option<MaxAhead> {
        self.max_ahead
    }

    /// How far apart the records of a window may be, in ms.
    #[must_use]
    pub fn time_difference_ms(&self) -> i64 {
        self.difference_ms
    }

    /// The grace in ms.
    #[must_use]
    pub fn grace_ms(&self) -> i64 {
        self.grace_ms
    }
}

impl Windows for SlidingWindows {
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

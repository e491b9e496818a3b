//! Sessions.

use super::{Private, Windows, whole_ms};
use crate::{
    CogroupedKStream, KGroupedStream, SessionWindowedCogroupedKStream, SessionWindowedKStream,
};
use headwater_core::serde::Data;
use headwater_engine::topology::MaxAhead;
use std::time::Duration;

/// Sessions: the records of a key between which there is no silence longer than the inactivity gap.
///
/// A session lasts from its first record to its last, both of which belong to it. It is open until stream time has passed its
/// last record by more than gap and grace. A record belongs to the open sessions that lie no further from it than the gap,
/// and makes them one; what is late is judged on the session that it makes, so that a record too old to stand alone is taken
/// where it joins one that is open.
///
/// ```
/// use headwater_dsl::SessionWindows;
/// use std::time::Duration;
///
/// let gap = Duration::from_secs(300);
/// let visits = SessionWindows::of_inactivity_gap_and_grace(gap, Duration::from_secs(10));
/// assert_eq!((visits.inactivity_gap_ms(), visits.grace_ms()), (300_000, 10_000));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionWindows {
    gap_ms: i64,
    grace_ms: i64,
    max_ahead: Option<MaxAhead>,
}

impl SessionWindows {
    /// Sessions with silences of at most `gap`, which take no record once stream time has passed their last by more.
    #[must_use]
    pub fn of_inactivity_gap_with_no_grace(gap: Duration) -> Self {
        Self::of_inactivity_gap_and_grace(gap, Duration::ZERO)
    }

    /// Sessions with silences of at most `gap`, which take records until stream time has passed their last by more than `gap` and
    /// `grace`.
    ///
    /// Both are cut to whole ms; a topology whose sessions have a gap of 0 is refused at its build. With a grace that no time
    /// reaches, such as [`Duration::MAX`], no record is ever late and every session is kept; finals of such sessions are refused.
    #[must_use]
    pub fn of_inactivity_gap_and_grace(gap: Duration, grace: Duration) -> Self {
        Self { gap_ms: whole_ms(gap), grace_ms: whole_ms(grace), max_ahead: None }
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

    /// The longest silence within a session, in ms.
    #[must_use]
    pub fn inactivity_gap_ms(&self) -> i64 {
        self.gap_ms
    }

    /// The grace in ms.
    #[must_use]
    pub fn grace_ms(&self) -> i64 {
        self.grace_ms
    }
}

impl Windows for SessionWindows {
    type Windowed<K: Data, V: Data> = SessionWindowedKStream<K, V>;
    type Cogrouped<K: Data, A: Data> = SessionWindowedCogroupedKStream<K, A>;

    fn cut<K: Data, V: Data>(
        self,
        grouped: KGroupedStream<K, V>,
        _: Private,
    ) -> Self::Windowed<K, V> {
        SessionWindowedKStream::new(grouped, self)
    }

    fn cut_cogrouped<K: Data, A: Data>(
        self,
        cogrouped: CogroupedKStream<K, A>,
        _: Private,
    ) -> Self::Cogrouped<K, A> {
        SessionWindowedCogroupedKStream::new(cogrouped, self)
    }
}

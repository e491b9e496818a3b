//! A window operator's time, and what it says about its windows.
//!
//! Above a repartition it is the largest timestamp among the records that the operator has taken, the one at hand
//! counted first. Below one it is the operator time that the records carry.

use super::Windows;
use crate::{
    node::HeldBack,
    processor::{InitContext, ProcessorError},
    store::Window,
};
use headwater_core::record::Timestamp;

/// The span of windows that never close, and the retention of those that are never removed.
const FOREVER: i64 = i64::MAX;

/// What a saved time takes.
pub(super) const SAVED_TIME_BYTES: usize = 16;

/// An operator's time, and which windows are open at it.
///
/// A window is open until time reaches its end plus the grace; where these are [for ever](Windows::never_close), always.
/// Another that reaches past the last timestamp there is, is never open.
#[derive(Debug, Clone, Copy)]
pub(super) struct WindowTime {
    /// The start of the first window.
    first: Timestamp,
    /// From a window's start to that of the next.
    advance: i64,
    /// From a window's start to its end; [`FOREVER`] if there is one window alone.
    size: i64,
    /// From a window's start to its close; [`FOREVER`] if it has none.
    span: i64,
    /// From a window's start to its removal.
    retention: i64,
    /// Whether time comes with the records instead of from their timestamps.
    is_carried: bool,
    now: Timestamp,
    /// The start of the oldest window that takes records now, so that rows cost no division.
    oldest_open: Timestamp,
    /// What the operator had passed on before its first record, when it had nothing to hold back.
    passed_first: Timestamp,
}

/// What moves an operator's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LivesBy {
    /// The largest timestamp of its records.
    Timestamps,
    /// The time that records carry.
    CarriedTime,
}

impl LivesBy {
    pub(super) fn of(context: &InitContext<'_>) -> Self {
        if context.is_time_carried() { Self::CarriedTime } else { Self::Timestamps }
    }
}

impl WindowTime {
    /// At no time yet.
    pub(super) fn new(windows: Windows, lives_by: LivesBy) -> Self {
        let size = windows.size_ms.max(1);
        let advance = windows.advance_ms.clamp(1, size);
        let span = if windows.never_close() { FOREVER } else { windows.span_ms() };
        Self {
            first: windows.first_ms,
            advance,
            size,
            span,
            retention: windows.retention_ms.max(span),
            is_carried: lives_by == LivesBy::CarriedTime,
            now: Timestamp::MIN,
            oldest_open: windows.first_ms,
            passed_first: Timestamp::MIN,
        }
    }

    /// Whether each timestamp lies in one window, whose start [`start_of`](Self::start_of) gives.
    pub(super) fn is_tumbling(&self) -> bool {
        self.advance == self.size && self.first == 0 && self.size != FOREVER
    }

    /// The start of the tumbling window that holds `timestamp`.
    pub(super) fn start_of(&self, timestamp: Timestamp) -> Timestamp {
        timestamp - timestamp.rem_euclid(self.size)
    }

    /// The same, given the start of another tumbling window, which is mostly the one.
    pub(super) fn start_near(&self, start: Timestamp, timestamp: Timestamp) -> Timestamp {
        let is_it =
            timestamp.checked_sub(start).is_some_and(|since| (0..self.size).contains(&since));
        if is_it { start } else { self.start_of(timestamp) }
    }

    /// The starts of the windows that hold `timestamp`, ascending.
    pub(super) fn starts_of(
        &self,
        timestamp: Timestamp,
    ) -> impl Iterator<Item = Timestamp> + use<> {
        let Self { first, advance, size, .. } = *self;
        let since = timestamp.saturating_sub(first);
        let (oldest, newest) = match since {
            ..0 => (0, -1),
            _ if size == FOREVER => (0, 0),
            _ => ((since - size).div_euclid(advance) + 1, since.div_euclid(advance)),
        };
        (oldest.max(0)..=newest).map(move |place| first.saturating_add(place * advance))
    }

    /// The window that starts at `start`.
    pub(super) fn window_at(&self, start: Timestamp) -> Window {
        Window { start, end: start.saturating_add(self.size) }
    }

    /// Takes a record of `timestamp` with the operator time `at` before it into account, and gives what the operator
    /// passes on at that point: what a row made of the record carries.
    pub(super) fn take(&mut self, timestamp: Timestamp, at: Timestamp) -> Timestamp {
        if self.is_carried {
            self.advance(at);
        }
        let passed = self.pass_time(at);
        if self.now == Timestamp::MIN {
            self.passed_first = passed;
        }
        if !self.is_carried {
            self.advance(timestamp);
        }
        passed
    }

    /// What the operator has passed on when the window that starts at `start` closes: what its results carry.
    pub(super) fn passed_at_close(&self, start: Timestamp) -> Timestamp {
        start.max(self.passed_first)
    }

    /// The time to pass on where that of the input stands at `time`: records may still come, and results out, of every
    /// window that is open or may yet be opened.
    pub(super) fn pass_time(&self, time: Timestamp) -> Timestamp {
        let bound = if self.now == Timestamp::MIN { time } else { time.min(self.oldest_open) };
        self.passed_first.max(bound)
    }

    /// The start of the oldest window that began less than `span` ago.
    fn oldest_within(&self, span: i64) -> Timestamp {
        if span == FOREVER {
            return self.first;
        }
        let since = self.now.saturating_sub(self.first).saturating_sub(span);
        let oldest = since.div_euclid(self.advance) + 1;
        self.first.saturating_add(oldest.max(0).saturating_mul(self.advance))
    }

    /// Whether the window that starts at `start` takes records now.
    pub(super) fn is_open(&self, start: Timestamp) -> bool {
        let close = start.saturating_add(self.span);
        self.span == FOREVER || (close > self.now && close < Timestamp::MAX)
    }

    /// How long ago the window that starts at `start` has closed.
    pub(super) fn since_close(&self, start: Timestamp) -> i64 {
        self.now.saturating_sub(start.saturating_add(self.span)).max(0)
    }

    /// Time has moved to `time`.
    pub(super) fn advance(&mut self, time: Timestamp) {
        if time > self.now {
            self.now = time;
            if self.now.saturating_sub(self.oldest_open) >= self.span {
                self.oldest_open = self.oldest_within(self.span);
            }
        }
    }

    /// Time has moved to where the window that starts at `start` closes, if it ever does.
    pub(super) fn advance_past(&mut self, start: Timestamp) {
        if self.span != FOREVER {
            self.advance(start.saturating_add(self.span));
        }
    }

    /// Windows that start below this, which is itself the start of one, are closed; 0 while none is.
    pub(super) fn floor(&self) -> Timestamp {
        if self.now == Timestamp::MIN { 0 } else { self.oldest_open }
    }

    /// Windows that start below this, which is itself the start of one, are older than the retention; 0 while none is.
    pub(super) fn kept_floor(&self) -> Timestamp {
        if self.now == Timestamp::MIN { 0 } else { self.oldest_within(self.retention) }
    }

    /// What is held back where the window that starts at `start` is the first that has not come out.
    pub(super) fn held_back(&self, start: Timestamp) -> HeldBack {
        let time = Some(self.now).filter(|now| *now > Timestamp::MIN);
        let span = Some(self.span).filter(|span| *span != FOREVER);
        HeldBack::Time { time, until: span.and_then(|span| start.checked_add(span)) }
    }

    /// Whether time comes with the records.
    pub(super) fn is_carried(&self) -> bool {
        self.is_carried
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.now.to_be_bytes());
        out.extend_from_slice(&self.passed_first.to_be_bytes());
    }

    pub(super) fn load(&mut self, saved: &[u8]) -> Result<(), ProcessorError> {
        let (now, first) = saved.split_at(saved.len().min(8));
        (self.now, self.passed_first) = (read_time(now)?, read_time(first)?);
        self.oldest_open = self.oldest_within(self.span);
        Ok(())
    }
}

/// Reads a saved time.
pub(super) fn read_time(saved: &[u8]) -> Result<Timestamp, ProcessorError> {
    let bytes = saved.try_into();
    let bytes = bytes.map_err(|_| ProcessorError::Damaged)?;
    Ok(Timestamp::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(grace_ms: i64) -> WindowTime {
        WindowTime::new(Windows::tumbling(60_000, grace_ms), LivesBy::Timestamps)
    }

    fn carried(grace_ms: i64) -> WindowTime {
        WindowTime { is_carried: true, ..minutes(grace_ms) }
    }

    #[test]
    fn a_window_is_open_until_time_reaches_its_end_plus_the_grace() {
        let mut time = minutes(10);
        time.advance(60_009);
        assert!(time.is_open(0));
        time.advance(60_010);
        assert!(!time.is_open(0));
    }

    #[test]
    fn the_floor_lies_after_the_newest_closed_window() {
        let mut time = minutes(10);
        assert_eq!(time.floor(), 0);
        time.advance(60_009);
        assert_eq!(time.floor(), 0);
        time.advance(60_010);
        assert_eq!(time.floor(), 60_000);
    }

    #[test]
    fn windows_are_kept_until_they_close_and_longer_if_told() {
        let windows = Windows { retention_ms: 150_000, ..Windows::tumbling(60_000, 10) };
        let (mut time, mut short) = (WindowTime::new(windows, LivesBy::Timestamps), minutes(10));
        assert_eq!(time.kept_floor(), 0);
        for (now, floor, kept) in
            [(60_009, 0, 0), (149_999, 120_000, 0), (150_000, 120_000, 60_000)]
        {
            time.advance(now);
            short.advance(now);
            assert_eq!((time.floor(), time.kept_floor()), (floor, kept));
            assert_eq!(short.kept_floor(), short.floor(), "at least until they close");
        }
    }

    #[test]
    fn the_end_of_time_neither_overflows_nor_opens_a_window() {
        let mut time = minutes(0);
        let last = time.start_of(Timestamp::MAX);
        assert_eq!(time.window_at(last).end, Timestamp::MAX);
        time.advance_past(last);
        assert_eq!(time.now, Timestamp::MAX);
        let time = minutes(0);
        let start = time.start_of(Timestamp::MAX);
        assert!(!time.is_open(start));
        assert!(time.is_open(start - 60_000));
    }

    #[test]
    fn windows_that_never_close_take_every_row_and_are_kept() {
        for grace_ms in [i64::MAX, i64::MAX - 1, i64::MAX - 60_000, i64::MAX / 2] {
            let mut time = minutes(grace_ms);
            for now in [0, 1, 1 << 40, Timestamp::MAX - 1, Timestamp::MAX] {
                time.advance(now);
                assert!(time.is_open(0) && time.is_open(time.start_of(now)));
                assert_eq!((time.floor(), time.kept_floor(), time.pass_time(now)), (0, 0, 0));
            }
            time.advance_past(0);
            assert!(time.is_open(0));
        }
        let mut long = minutes(i64::MAX / 2 - 120_000);
        long.advance(1 << 40);
        assert!(long.is_open(0));
        long.advance(Timestamp::MAX);
        assert!(!long.is_open(0));
        let windows = Windows { retention_ms: i64::MAX, ..Windows::tumbling(60_000, 0) };
        let mut kept = WindowTime::new(windows, LivesBy::Timestamps);
        kept.advance(Timestamp::MAX);
        assert_eq!(kept.kept_floor(), 0);
    }

    #[test]
    fn carried_time_alone_decides_where_there_is_one() {
        let mut time = carried(0);
        time.take(500_000, 1_000);
        assert_eq!(time.now, 1_000);
        time.take(600_000, 900);
        assert_eq!(time.now, 1_000, "time never goes back");
        let mut own = minutes(0);
        own.take(2_000, 1_000);
        assert_eq!(own.now, 2_000);
    }

    #[test]
    fn the_start_of_the_oldest_window_that_may_still_be_open_is_passed_on() {
        let mut time = carried(60_000);
        assert_eq!(time.pass_time(5), 5, "nothing is held back before the first record");
        time.advance(3_600_000 - 90_000);
        assert_eq!(time.pass_time(3_600_000 - 90_000), 3_600_000 - 180_000);
        time.advance(3_600_000 - 60_000);
        assert_eq!(time.pass_time(3_600_000 - 60_000), 3_600_000 - 120_000);
        assert_eq!(
            time.take(0, 3_600_000),
            3_600_000 - 60_000,
            "time that a record brings counts first"
        );
    }

    fn starts(windows: Windows, timestamp: Timestamp) -> Vec<Timestamp> {
        WindowTime::new(windows, LivesBy::Timestamps).starts_of(timestamp).collect()
    }

    #[test]
    fn a_timestamp_lies_in_each_hopping_window_that_contains_it() {
        let hopping = Windows { advance_ms: 4, ..Windows::tumbling(10, 0) };
        for (timestamp, expected) in [
            (0, &[0][..]),
            (3, &[0]),
            (4, &[0, 4]),
            (9, &[0, 4, 8]),
            (10, &[4, 8]),
            (12, &[4, 8, 12]),
            (13, &[4, 8, 12]),
            (14, &[8, 12]),
        ] {
            assert_eq!(starts(hopping, timestamp), expected, "at {timestamp}");
        }
        let last = starts(hopping, Timestamp::MAX);
        assert!((2..=3).contains(&last.len()), "{last:?}");
        assert_eq!(starts(Windows::tumbling(10, 0), 19), [10]);
    }

    #[test]
    fn the_one_unlimited_window_holds_all_from_its_start_on() {
        for first in [0, 1, 100] {
            let windows = Windows::unlimited(first);
            for timestamp in [first, first + 1, Timestamp::MAX - 1, Timestamp::MAX] {
                assert_eq!(starts(windows, timestamp), [first]);
            }
            assert!(starts(windows, first - 1).is_empty());
            let mut time = WindowTime::new(windows, LivesBy::Timestamps);
            time.advance(Timestamp::MAX);
            assert!(time.is_open(first));
            assert_eq!((time.floor(), time.kept_floor()), (first, first));
            assert_eq!(time.window_at(first).end, Timestamp::MAX);
        }
    }

    #[test]
    fn hopping_windows_close_one_by_one() {
        let windows = Windows { advance_ms: 4, ..Windows::tumbling(10, 3) };
        let mut time = WindowTime::new(windows, LivesBy::Timestamps);
        for (now, floor) in [(0, 0), (12, 0), (13, 4), (16, 4), (17, 8), (20, 8), (21, 12)] {
            time.advance(now);
            assert_eq!((time.floor(), time.pass_time(now)), (floor, floor.min(now)), "at {now}");
        }
    }

    #[test]
    fn saved_time_comes_back() {
        let (mut time, mut saved) = (minutes(0), Vec::new());
        time.advance(42);
        time.save(&mut saved);
        let mut other = minutes(0);
        other.load(&saved).unwrap();
        assert_eq!(other.now, 42);
        assert!(other.load(&[1]).is_err());
    }
}

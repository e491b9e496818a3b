//! An operator's own stream time, and what it says about its windows.

use crate::settings::TimeWindows;
use headwater_core::record::Timestamp;
use headwater_engine::{processor::ProcessorError, store::Window};

/// The largest timestamp seen, and which windows are open at it.
///
/// A window is open until time reaches its end plus the grace. One that reaches past the last timestamp there is would
/// never close, and is never open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WindowTime {
    size: i64,
    /// From a window's start to its close.
    span: i64,
    now: Timestamp,
}

impl WindowTime {
    pub(crate) fn new(windows: TimeWindows) -> Self {
        let size = windows.size_ms().max(1);
        Self { size, span: size.saturating_add(windows.grace_ms()), now: Timestamp::MIN }
    }

    /// The window that holds `timestamp`.
    pub(super) fn window_of(&self, timestamp: Timestamp) -> Window {
        self.window_at(timestamp - timestamp.rem_euclid(self.size))
    }

    /// The window that starts at `start`.
    pub(super) fn window_at(&self, start: Timestamp) -> Window {
        Window { start, end: start.saturating_add(self.size) }
    }

    /// Counts a record in and gives the time to judge it by: the records' own, or what is carried.
    pub(super) fn observe(
        &mut self,
        timestamp: Timestamp,
        carried: Option<Timestamp>,
    ) -> Timestamp {
        self.now = self.now.max(carried.unwrap_or(timestamp));
        self.now
    }

    /// Whether the window that starts at `start` takes records at `time`.
    pub(super) fn is_open(&self, start: Timestamp, time: Timestamp) -> bool {
        let close = start.saturating_add(self.span);
        close > time && close < Timestamp::MAX
    }

    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// Time has moved to `time`.
    pub(super) fn advance(&mut self, time: Timestamp) {
        self.now = self.now.max(time);
    }

    /// Time has moved to where the window that starts at `start` closes.
    pub(super) fn advance_past(&mut self, start: Timestamp) {
        self.advance(start.saturating_add(self.span));
    }

    /// Windows that start below this are closed; 0 while none is.
    pub(super) fn floor(&self) -> Timestamp {
        self.now.saturating_sub(self.span).saturating_add(1).max(0)
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.now.to_be_bytes());
    }

    pub(super) fn load(&mut self, saved: &[u8]) -> Result<(), ProcessorError> {
        let bytes = saved.try_into().map_err(|_| {
            ProcessorError::Topology(format!(
                "a window operator's saved time has 8 bytes, not {}",
                saved.len()
            ))
        })?;
        self.now = Timestamp::from_be_bytes(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn minutes(grace_ms: u64) -> WindowTime {
        WindowTime::new(TimeWindows::of_size_and_grace(
            Duration::from_secs(60),
            Duration::from_millis(grace_ms),
        ))
    }

    #[test]
    fn a_window_is_open_until_time_reaches_its_end_plus_the_grace() {
        let time = minutes(10);
        assert!(time.is_open(0, 60_009));
        assert!(!time.is_open(0, 60_010));
    }

    #[test]
    fn the_floor_lies_behind_the_newest_closed_window() {
        let mut time = minutes(10);
        assert_eq!(time.floor(), 0);
        time.advance(60_009);
        assert_eq!(time.floor(), 0);
        time.advance(60_010);
        assert_eq!(time.floor(), 1);
    }

    #[test]
    fn the_end_of_time_neither_overflows_nor_opens_a_window() {
        let mut time = minutes(u64::MAX);
        assert_eq!(time.window_of(Timestamp::MAX).end, Timestamp::MAX);
        assert!(!time.is_open(0, 5));
        time.advance(Timestamp::MAX);
        assert_eq!(time.floor(), 1);
        time.advance_past(Timestamp::MAX);
        let time = minutes(0);
        let start = time.window_of(Timestamp::MAX).start;
        assert!(!time.is_open(start, Timestamp::MIN));
        assert!(time.is_open(start - 60_000, Timestamp::MIN));
    }

    #[test]
    fn carried_time_alone_decides_where_there_is_one() {
        let mut time = minutes(0);
        assert_eq!(time.observe(500_000, Some(1_000)), 1_000);
        assert_eq!(time.observe(600_000, Some(900)), 1_000, "time never goes back");
        assert_eq!(time.observe(2_000, None), 2_000);
    }

    #[test]
    fn saved_time_comes_back() {
        let (mut time, mut saved) = (minutes(0), Vec::new());
        time.advance(42);
        time.save(&mut saved);
        let mut other = minutes(0);
        other.load(&saved).unwrap();
        assert_eq!(other.now(), 42);
        assert!(other.load(&[1]).is_err());
    }
}

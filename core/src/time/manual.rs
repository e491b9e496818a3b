//! A clock that moves when the test says so.

use super::Clock;
use crate::record::Timestamp;
use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

/// A clock that stands still until it is advanced.
///
/// ```
/// use headwater_core::time::{Clock, ManualClock};
/// use std::time::Duration;
///
/// let clock = ManualClock::at(1_000);
/// clock.advance(Duration::from_millis(5));
/// assert_eq!((clock.now(), clock.elapsed()), (1_005, Duration::from_millis(5)));
/// clock.set(500);
/// assert_eq!((clock.now(), clock.elapsed()), (500, Duration::from_millis(5)));
/// ```
#[derive(Debug, Default)]
pub struct ManualClock {
    now_ms: AtomicI64,
    elapsed_ms: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at `now_ms`, in ms since the Unix epoch.
    #[must_use]
    pub fn at(now_ms: Timestamp) -> Self {
        Self { now_ms: AtomicI64::new(now_ms), elapsed_ms: AtomicU64::new(0) }
    }

    /// Moves it on, up to the end of time, where it stays.
    pub fn advance(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.elapsed_ms.update(Ordering::SeqCst, Ordering::SeqCst, |at| at.saturating_add(ms));
        let now_on = |at: Timestamp| at.saturating_add_unsigned(ms);
        self.now_ms.update(Ordering::SeqCst, Ordering::SeqCst, now_on);
    }

    /// Sets the wall clock, as an administrator or NTP does: no time goes by.
    pub fn set(&self, now_ms: Timestamp) {
        self.now_ms.store(now_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.now_ms.load(Ordering::SeqCst)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed_ms.load(Ordering::SeqCst))
    }
}

//! Time as the engine sees it: the clock port.
//!
//! Nothing else in the product reads a clock, so that a test owns time. Dates for people are here, too.

mod calendar;
mod manual;

pub use calendar::{date_time, parse_date_time};
pub use manual::ManualClock;

use crate::record::Timestamp;
use std::{
    fmt,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Where wall-clock and elapsed time come from.
///
/// ```
/// use headwater_core::{record::Timestamp, time::{Clock, ManualClock}};
/// use std::time::Duration;
///
/// /// How far a record's time lies in the past.
/// fn age_ms(clock: &dyn Clock, timestamp: Timestamp) -> i64 {
///     clock.now() - timestamp
/// }
///
/// let clock = ManualClock::at(1_000);
/// assert_eq!(age_ms(&clock, 400), 600);
/// clock.advance(Duration::from_secs(2));
/// assert_eq!(age_ms(&clock, 400), 2_600);
/// assert_eq!(clock.elapsed(), Duration::from_secs(2));
/// ```
pub trait Clock: Send + Sync + fmt::Debug {
    /// The wall clock, in ms since the Unix epoch.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment; never goes back.
    fn elapsed(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// The machine's clock, with elapsed time counted from now.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock port's one real implementation"
    )]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock port's one real implementation"
    )]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::try_from(since.as_millis()).unwrap_or(Timestamp::MAX)
    }

    fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }
}

//! How long something took, each time since the start, to two digits.

use crate::broken::broken;
use hdrhistogram::Histogram;
use std::{fmt, time::Duration};

/// A distribution of times, to two digits, however many they are: some 10 KiB.
///
/// ```
/// use headwater_engine::runtime::Latencies;
/// use std::time::Duration;
///
/// let none = Latencies::default();
/// assert_eq!((none.count(), none.quantile(0.99)), (0, Duration::ZERO));
/// ```
#[derive(Clone)]
pub struct Latencies(Histogram<u32>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new(2).unwrap_or_else(|_| broken("two digits are a resolution")))
    }
}

impl fmt::Debug for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latencies")
            .field("count", &self.count())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.quantile(1.0))
            .finish()
    }
}

impl Latencies {
    pub(super) fn add(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if self.0.record(micros).is_err() {
            broken("a histogram grows with what it is told");
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Their mean; zero if there are none.
    #[must_use]
    pub fn mean(&self) -> Duration {
        if self.0.is_empty() {
            Duration::ZERO
        } else {
            Duration::from_secs_f64(self.0.mean() / 1e6)
        }
    }

    /// The time that so much of them (0.99 for 99 of a hundred) did not exceed; zero if there are none.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.0.value_at_quantile(quantile))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_keep_all_that_they_are_told() {
        let mut latencies = Latencies::default();
        assert_eq!((latencies.count(), latencies.quantile(0.5)), (0, Duration::ZERO));
        latencies.add(Duration::from_secs(3_600));
        (0..100_000).for_each(|_| latencies.add(Duration::from_millis(2)));
        assert_eq!(latencies.count(), 100_001);
        let near =
            |at: f64, wanted: Duration| latencies.quantile(at).abs_diff(wanted) <= wanted / 100;
        assert!(near(0.5, Duration::from_millis(2)), "{latencies:?}");
        assert!(near(1.0, Duration::from_secs(3_600)), "{latencies:?}");
    }
}

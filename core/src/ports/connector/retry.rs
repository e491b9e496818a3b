//! How a failed call is tried again.

use crate::record::Timestamp;
use std::time::Duration;

/// No wait is shorter, so that every budget comes to an end.
const DELAY_MIN: Duration = Duration::from_millis(1);

/// Waits between the tries of a call that failed and may succeed later.
///
/// They double, until their sum reaches a budget.
///
/// ```
/// use headwater_core::ports::connector::Retry;
/// use std::time::Duration;
///
/// let ms = Duration::from_millis;
/// let mut waits = Retry { delay_first: ms(100), delay_max: ms(300), budget: ms(900) }.waits();
/// let all: Vec<_> = std::iter::from_fn(|| waits.next(Duration::ZERO)).collect();
/// assert_eq!(all, [ms(100), ms(200), ms(300), ms(300)]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The first wait; at least 1 ms.
    pub delay_first: Duration,
    /// No wait is longer, unless the other side asks for it; at least 1 ms.
    pub delay_max: Duration,
    /// The waits of one call have this sum at most; then the task fails.
    pub budget: Duration,
}

impl Default for Retry {
    /// Waits from 100 ms to 10 s, for 5 minutes in all.
    fn default() -> Self {
        Self {
            delay_first: Duration::from_millis(100),
            delay_max: Duration::from_secs(10),
            budget: Duration::from_secs(300),
        }
    }
}

impl Retry {
    /// Waits of one call, from the first on.
    #[must_use]
    pub fn waits(self) -> Waits {
        Waits { next: self.delay_first, retry: self, spent: Duration::ZERO }
    }
}

/// Waits of one call that fails again and again.
#[derive(Debug, Clone)]
pub struct Waits {
    retry: Retry,
    next: Duration,
    spent: Duration,
}

impl Waits {
    /// Next wait, not shorter than the other side asks for; `None` if that would be more than is left of the budget.
    pub fn next(&mut self, at_least: Duration) -> Option<Duration> {
        let wait = self.next.min(self.retry.delay_max).max(at_least).max(DELAY_MIN);
        self.next = self.next.saturating_mul(2);
        self.spent = self.spent.saturating_add(wait);
        (self.spent <= self.retry.budget).then_some(wait)
    }
}

/// When the other side wants a call to be tried again, and not before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    /// After this time.
    Elapsed(Duration),
    /// At this moment of the wall clock, in ms.
    At(Timestamp),
}

impl RetryAfter {
    /// Time that is left at this moment of the wall clock.
    #[must_use]
    pub fn left(self, now: Timestamp) -> Duration {
        match self {
            Self::Elapsed(left) => left,
            Self::At(at) => {
                Duration::from_millis(u64::try_from(at.saturating_sub(now)).unwrap_or(0))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(delay_first: u64, delay_max: u64, budget: u64) -> Waits {
        let ms = Duration::from_millis;
        Retry { delay_first: ms(delay_first), delay_max: ms(delay_max), budget: ms(budget) }.waits()
    }

    #[test]
    fn waits_of_nothing_come_to_an_end_and_the_longest_overflow_nothing() {
        for (first, max) in [(0, 0), (0, u64::MAX), (u64::MAX, 0)] {
            let mut waits = waits(first, max, 10);
            let count = std::iter::from_fn(|| waits.next(Duration::ZERO)).take(100).count();
            assert_eq!(count, 10, "{first} {max}");
        }
        assert_eq!(waits(1, 1, 0).next(Duration::ZERO), None);
        let mut longest = waits(u64::MAX, u64::MAX, u64::MAX);
        assert_eq!(longest.next(Duration::ZERO), Some(Duration::from_millis(u64::MAX)));
        assert_eq!(longest.next(Duration::MAX), None);
    }

    #[test]
    fn the_other_side_may_ask_for_longer_within_the_budget() {
        let mut waits = waits(10, 20, 3_000);
        assert_eq!(waits.next(Duration::from_secs(2)), Some(Duration::from_secs(2)));
        assert_eq!(waits.next(Duration::ZERO), Some(Duration::from_millis(20)));
        assert_eq!(waits.next(Duration::from_secs(1)), None);
        assert_eq!(RetryAfter::At(5_000).left(3_000), Duration::from_secs(2));
        for passed in [RetryAfter::At(i64::MIN).left(i64::MAX), RetryAfter::At(1).left(2)] {
            assert_eq!(passed, Duration::ZERO);
        }
    }
}

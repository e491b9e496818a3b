//! How a failed call is tried again.

use std::time::Duration;

/// Waits between the tries of a call that failed and may succeed later.
///
/// They double, until their sum reaches a budget.
///
/// ```
/// use headwater_core::ports::connector::Retry;
/// use std::time::Duration;
///
/// let ms = Duration::from_millis;
/// let retry = Retry { delay_first: ms(100), delay_max: ms(300), budget: ms(900) };
/// let waits: Vec<_> = (1..).map_while(|attempt| retry.delay(attempt)).collect();
/// assert_eq!(waits, [ms(100), ms(200), ms(300), ms(300)]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The first wait.
    pub delay_first: Duration,
    /// No wait is longer.
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
    /// Wait before try number `attempt` (1 is the first try again), or `None` once the budget is used up.
    #[must_use]
    pub fn delay(&self, attempt: u32) -> Option<Duration> {
        let nth = |n: u32| self.delay_first.saturating_mul(1 << n.min(30)).min(self.delay_max);
        let spent = (1..attempt).fold(Duration::ZERO, |sum, n| sum.saturating_add(nth(n - 1)));
        let wait = nth(attempt.saturating_sub(1));
        (spent.saturating_add(wait) <= self.budget).then_some(wait)
    }
}

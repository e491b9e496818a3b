//! How a failed call is tried again.

use std::time::Duration;

/// How a failed call that may succeed later is tried again: waits that double, until their sum reaches a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The first wait.
    pub delay_first: Duration,
    /// No wait is longer.
    pub delay_max: Duration,
    /// Waits of one call in all; then the task fails.
    pub budget: Duration,
}

impl Default for Retry {
    /// From 100 ms to 10 s, for 5 minutes.
    fn default() -> Self {
        Self {
            delay_first: Duration::from_millis(100),
            delay_max: Duration::from_secs(10),
            budget: Duration::from_secs(300),
        }
    }
}

impl Retry {
    /// How long to wait before try number `attempt` (1 is the first try again), or `None` once the budget is used up.
    #[must_use]
    pub fn delay(&self, attempt: u32) -> Option<Duration> {
        let nth = |n: u32| self.delay_first.saturating_mul(1 << n.min(30)).min(self.delay_max);
        let spent = (1..attempt).fold(Duration::ZERO, |sum, n| sum.saturating_add(nth(n - 1)));
        let wait = nth(attempt.saturating_sub(1));
        (spent.saturating_add(wait) <= self.budget).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_limit_until_the_budget_is_spent() {
        let retry = Retry {
            delay_first: Duration::from_millis(100),
            delay_max: Duration::from_millis(300),
            budget: Duration::from_millis(900),
        };
        let waits: Vec<_> =
            (1..).map_while(|attempt| retry.delay(attempt)).map(|d| d.as_millis()).collect();
        assert_eq!(waits, [100, 200, 300, 300]);
    }
}

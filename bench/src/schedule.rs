//! Records that arrive at a fixed rate, whatever becomes of those before them.

use headwater::time::{Clock, SystemClock};
use std::{
    sync::mpsc::{self, Receiver},
    time::Duration,
};

/// Records at equal distances.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrivals {
    /// A second.
    pub(crate) rate: u64,
    pub(crate) count: u64,
}

impl Arrivals {
    /// When a record arrives, after the start.
    pub(crate) fn due(self, number: u64) -> Duration {
        let (seconds, rest) = (number / self.rate, number % self.rate);
        Duration::from_secs(seconds) + Duration::from_nanos(rest * 1_000_000_000 / self.rate)
    }

    /// How many have arrived so long after the start.
    pub(crate) fn arrived(self, elapsed: Duration) -> u64 {
        let nanos = u64::from(elapsed.subsec_nanos());
        // A record that is due in the middle of a nanosecond counts as arrived in it.
        let of_second = ((nanos + 1) * self.rate).div_ceil(1_000_000_000);
        (elapsed.as_secs() * self.rate + of_second).min(self.count)
    }
}

/// Arrivals whose clock runs.
pub(crate) struct Schedule {
    pub(crate) arrivals: Arrivals,
    pub(crate) clock: SystemClock,
    /// Nobody sends: waiting for it is waiting for time.
    never: (mpsc::Sender<()>, Receiver<()>),
}

impl Schedule {
    pub(crate) fn start(arrivals: Arrivals) -> Self {
        Self { arrivals, never: mpsc::channel(), clock: SystemClock::new() }
    }

    /// Returns when the record has arrived.
    pub(crate) fn wait_for(&self, number: u64) {
        let due = self.arrivals.due(number);
        while let Some(left) = due.checked_sub(self.clock.elapsed()).filter(|it| !it.is_zero()) {
            let _timeout = self.never.1.recv_timeout(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_has_arrived_and_what_follows_has_not() {
        for rate in [1, 3, 5_000, 99_999] {
            let arrivals = Arrivals { rate, count: 1_000_000 };
            for number in [0, 1, 2, 7, 4_999, 5_000, 123_456, 999_998] {
                let due = arrivals.due(number);
                assert_eq!(arrivals.arrived(due), number + 1, "{number} at {rate}");
                let before = due.saturating_sub(Duration::from_nanos(1));
                assert_eq!(arrivals.arrived(before), number.max(1), "{number} at {rate}");
            }
        }
    }

    #[test]
    fn arrivals_end() {
        let arrivals = Arrivals { rate: 5_000, count: 10 };
        assert_eq!(arrivals.due(9), Duration::from_micros(1_800));
        assert_eq!(arrivals.arrived(Duration::from_secs(60)), 10);
    }

    #[test]
    fn a_schedule_never_returns_early() {
        let schedule = Schedule::start(Arrivals { rate: 1_000, count: 5 });
        for number in 0..5 {
            schedule.wait_for(number);
            assert!(schedule.arrivals.arrived(schedule.clock.elapsed()) > number);
        }
    }
}

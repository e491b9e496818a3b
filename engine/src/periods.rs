//! What was measured within the last minute, of many things: a half of it at a time.

use hashbrown::HashMap;
use headwater_core::metrics::Spread;
use std::{hash::Hash, time::Duration};

/// How long a period is.
pub(crate) const PERIOD: Duration = Duration::from_secs(30);

/// Measurements of the period that goes on and of the one before it.
#[derive(Debug)]
pub(crate) struct Periods<K> {
    before: HashMap<K, Spread>,
    now: HashMap<K, Spread>,
    /// When the period that goes on began.
    began: Duration,
}

impl<K> Default for Periods<K> {
    fn default() -> Self {
        Self { before: HashMap::new(), now: HashMap::new(), began: Duration::ZERO }
    }
}

impl<K: Hash + Eq> Periods<K> {
    /// Begins another period if this one is over.
    pub(crate) fn turn(&mut self, now: Duration) {
        let age = now.saturating_sub(self.began);
        if age < PERIOD {
            return;
        }
        let last = std::mem::take(&mut self.now);
        // After a rest the one before is too old.
        self.before = if age < 2 * PERIOD { last } else { HashMap::new() };
        self.began = now;
    }

    pub(crate) fn add(&mut self, key: K, spread: Spread) {
        *self.now.entry(key).or_default() += spread;
    }

    /// What was measured of a thing in the last 30 to 60 s before `now`.
    pub(crate) fn of(&self, key: &K, now: Duration) -> Spread {
        let age = now.saturating_sub(self.began);
        let before = self.before.get(key).filter(|_| age < PERIOD);
        let latest = self.now.get(key).filter(|_| age < 2 * PERIOD);
        let mut spread = Spread::default();
        before.into_iter().chain(latest).for_each(|part| spread += *part);
        spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_kept_and_no_more() {
        let mut periods = Periods::default();
        let at = Duration::from_secs;
        let seen = |periods: &Periods<&str>, now| {
            let spread = periods.of(&"a", at(now));
            (spread.min(), spread.max())
        };
        for (now, value) in [(0, 1.0), (29, 2.0), (31, 3.0)] {
            periods.turn(at(now));
            periods.add("a", Spread::of(value));
        }
        assert_eq!(seen(&periods, 31), (Some(1.0), Some(3.0)));
        assert_eq!(seen(&periods, 62), (Some(3.0), Some(3.0)), "the first half minute is over");
        assert_eq!(seen(&periods, 95), (None, None), "nothing was for a minute");
        periods.turn(at(95));
        periods.add("a", Spread::of(9.0));
        assert_eq!(seen(&periods, 95), (Some(9.0), Some(9.0)));
    }
}

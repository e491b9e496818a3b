//! How fast a standby follows, of the last half minute or minute.

use crate::{periods::PERIOD, topology::TaskId};
use std::{collections::BTreeMap, time::Duration};

/// How far a standby has updated a task's stores.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TaskUpdate {
    /// The task, written `sub-topology_partition`.
    pub task: String,
    /// Records applied.
    pub updated: u64,
    /// The same a second, over the last 30 to 60 s.
    pub rate: f64,
}

/// Records that were applied, by task.
pub(super) type Updated = BTreeMap<TaskId, u64>;

/// What was counted at a time.
#[derive(Debug, Clone, Default)]
struct Sample {
    at: Duration,
    updating: Duration,
    updated: Updated,
}

/// What a standby has counted, now and half a minute and a minute ago.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// How long updates took, all of them together.
    updating: Duration,
    updated: Updated,
    samples: [Sample; 2],
}

impl Progress {
    pub(super) fn new(now: Duration) -> Self {
        let begun = Sample { at: now, ..Sample::default() };
        Self { samples: [begun.clone(), begun], ..Self::default() }
    }

    /// An update that began at `began` has ended now.
    pub(super) fn updated(&mut self, updated: Updated, (began, now): (Duration, Duration)) {
        let [_, newest] = &self.samples;
        if now.saturating_sub(newest.at) >= PERIOD {
            let sample =
                Sample { at: began, updating: self.updating, updated: self.updated.clone() };
            let is_old = began.saturating_sub(newest.at) >= PERIOD * 2;
            // Nothing came for so long.
            let before = if is_old { sample.clone() } else { newest.clone() };
            self.samples = [before, sample];
        }
        self.updating += now.saturating_sub(began);
        self.updated = updated;
    }

    /// What rates are taken of; nothing after a rest.
    fn since(&self, now: Duration) -> Option<(&Sample, f64)> {
        let [before, newest] = &self.samples;
        let age = now.saturating_sub(newest.at);
        let since = if age < PERIOD { before } else { newest };
        let seconds = now.saturating_sub(since.at).as_secs_f64();
        (age < PERIOD * 2 && seconds > 0.0).then_some((since, seconds))
    }

    /// The share of the time that went into updates.
    pub(super) fn ratio(&self, now: Duration) -> f64 {
        self.since(now).map_or(0.0, |(since, seconds)| {
            (self.updating.saturating_sub(since.updating).as_secs_f64() / seconds).min(1.0)
        })
    }

    pub(super) fn tasks(&self, now: Duration) -> Vec<TaskUpdate> {
        let rate = |task: &TaskId, updated: u64| {
            let (since, seconds) = self.since(now)?;
            let records = updated - since.updated.get(task).copied().unwrap_or(0);
            #[expect(clippy::cast_precision_loss, reason = "a rate is about right")]
            Some(records as f64 / seconds)
        };
        let task = |(task, updated): (&TaskId, &u64)| TaskUpdate {
            task: task.to_string(),
            updated: *updated,
            rate: rate(task, *updated).unwrap_or(0.0),
        };
        self.updated.iter().map(task).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_half_a_minute_to_a_minute_and_fall_to_nothing_at_rest() {
        let at = Duration::from_secs;
        let task = TaskId { sub: 0, partition: 1 };
        let mut progress = Progress::new(at(100));
        let seen = |progress: &Progress, now| {
            let tasks = progress.tasks(at(now));
            (tasks.iter().map(|task| task.rate).sum::<f64>(), progress.ratio(at(now)))
        };
        assert_eq!(seen(&progress, 100), (0.0, 0.0));
        progress.updated([(task, 40)].into(), (at(105), at(110)));
        assert_eq!(seen(&progress, 120), (2.0, 0.25));
        progress.updated([(task, 100)].into(), (at(129), at(140)));
        assert_eq!(seen(&progress, 140), (2.5, 0.4));
        assert_eq!(seen(&progress, 159), (60.0 / 30.0, 11.0 / 30.0), "the first update is too old");
        assert_eq!(seen(&progress, 190), (0.0, 0.0));
        progress.updated([(task, 130)].into(), (at(300), at(310)));
        assert_eq!(seen(&progress, 310), (3.0, 1.0));
        assert_eq!(progress.tasks(at(310))[0].updated, 130);
    }
}

//! What an application's handle knows of its tasks: counts and times.

use super::restore::RestoreCounts;
use crate::{
    broken::broken,
    task::{Task, TaskCommit, TaskStatus},
    topology::TaskId,
};
use hashbrown::HashMap;
use hdrhistogram::Histogram;
use headwater_core::metrics::{Dropped, NodeMetrics};
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

/// Counts and times of an application since its start.
#[derive(Debug, Clone, Default)]
pub struct StreamsMetrics {
    /// Records taken from topics, those on their way between sub-topologies included.
    pub records: u64,
    /// Commits made.
    pub commits: u64,
    /// Changelog records replayed at the start.
    pub restored: u64,
    /// Parts of stores that were of another history of the log (which was put back to a copy, say), and were rebuilt from
    /// their changelogs.
    pub quarantined: u64,
    /// Restarts from the last commit after a failure.
    pub restarts: u64,
    /// Turns that its tasks were given: an application at rest takes none.
    pub turns: u64,
    /// How long commits took, from stop to published.
    pub commit_latencies: Latencies,
}

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
    fn add(&mut self, took: Duration) {
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

    /// The time that so much of them (0.99 for 99 of a hundred) did not exceed; zero if there are none.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.0.value_at_quantile(quantile))
    }
}

/// What is known of an application's tasks, as of their last commit.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Of the tasks that run here.
    tasks: BTreeMap<TaskId, TaskStatus>,
    records: HashMap<TaskId, u64>,
    nodes: HashMap<(TaskId, Arc<str>), NodeMetrics>,
    /// What tasks of incarnations before this one had taken, and what their nodes had counted.
    records_before: u64,
    nodes_before: HashMap<Arc<str>, NodeMetrics>,
    commits: u64,
    restored: RestoreCounts,
    restarts: u64,
    latencies: Latencies,
}

impl Seen {
    /// Tasks were made anew: what they count begins anew too, but for the records dropped and held, as they were committed.
    pub(super) fn begin(&mut self, tasks: &[Task], restored: RestoreCounts) {
        self.records_before += self.records.drain().map(|(_, count)| count).sum::<u64>();
        self.restored += restored;
        for ((_, node), metrics) in self.nodes.drain() {
            *self.nodes_before.entry(node).or_default() +=
                NodeMetrics { dropped: Dropped::default(), held: 0, ..metrics };
        }
        self.tasks = tasks.iter().map(|task| (task.id, task.status())).collect();
        for task in tasks {
            let nodes = task.metrics();
            self.nodes.extend(nodes.map(|(node, metrics)| ((task.id, Arc::clone(node)), metrics)));
        }
    }

    /// What the tasks that run here tell of their times.
    pub(super) fn tasks(&self) -> &BTreeMap<TaskId, TaskStatus> {
        &self.tasks
    }

    pub(super) fn note(&mut self, parts: &[TaskCommit]) {
        for part in parts {
            self.records.insert(part.task, part.records);
            self.tasks.insert(part.task, part.status.clone());
            let nodes = part.nodes.iter();
            self.nodes
                .extend(nodes.map(|(node, metrics)| ((part.task, Arc::clone(node)), *metrics)));
        }
    }

    pub(super) fn committed(&mut self, took: Duration) {
        self.commits += 1;
        self.latencies.add(took);
    }

    pub(super) fn restarted(&mut self) {
        self.restarts += 1;
    }

    pub(super) fn metrics(&self) -> StreamsMetrics {
        StreamsMetrics {
            records: self.records_before + self.records.values().sum::<u64>(),
            commits: self.commits,
            restored: self.restored.replayed,
            quarantined: self.restored.quarantined,
            restarts: self.restarts,
            // Counted where turns are given.
            turns: 0,
            commit_latencies: self.latencies.clone(),
        }
    }

    /// What each node has counted, over all its tasks.
    pub(super) fn nodes(&self) -> BTreeMap<Arc<str>, NodeMetrics> {
        let before = self.nodes_before.iter();
        let now = self.nodes.iter().map(|((_, node), metrics)| (node, metrics));
        let mut nodes = BTreeMap::new();
        for (node, metrics) in before.chain(now) {
            *nodes.entry(Arc::clone(node)).or_default() += *metrics;
        }
        nodes
    }

    pub(super) fn dropped_by(&self, node: &str) -> u64 {
        let of = self.nodes.iter().filter(|((_, name), _)| &**name == node);
        of.map(|(_, metrics)| metrics.dropped.total()).sum()
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

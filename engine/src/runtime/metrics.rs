//! What an application's handle knows of its tasks: counts and times.

use super::{
    explain::SourceStatus,
    periods::{PERIOD, Periods},
    restore::{RestoreCounts, RestoreProgress, TaskRestore},
};
use crate::{
    broken::broken,
    store::{StoreCounts, StoreOperation},
    task::{Blueprint, CacheStatus, Task, TaskCommit, TaskCounts, TaskStatus},
    topology::{Kind, TaskId},
};
use hashbrown::HashMap;
use hdrhistogram::Histogram;
use headwater_core::{
    metrics::{Dropped, NodeMetrics, Spread},
    ports::state::StateFigure,
    record::Timestamp,
};
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
    /// The application.
    pub application_id: Arc<str>,
    /// Its state by Kafka's numbers: 1 rebalancing or restarting, 2 running, 3 ending, 4 ended, 5 failing, 6 failed.
    pub client_state: u8,
    /// Threads that its tasks may run on.
    pub stream_threads: usize,
    /// Commits a second, over the last 30 to 60 s.
    pub commit_rate: f64,
    /// Records taken a second, over the last 30 to 60 s.
    pub process_rate: f64,
    /// Fetches that brought records, of topics and of what other sub-topologies send.
    pub polls: u64,
    /// The same a second, over the last 30 to 60 s.
    pub poll_rate: f64,
    /// Punctuations that have fired; timers by key are not among them.
    pub punctuations: u64,
    /// The same a second, over the last 30 to 60 s.
    pub punctuate_rate: f64,
    /// What each task has counted, as of the last commit.
    pub tasks: Vec<TaskMetrics>,
    /// How far the partitions that it reads are.
    pub sources: Vec<SourceStatus>,
    /// How far its stores are restored, or how that went at the last start.
    pub restoring: RestoreProgress,
    /// The same, of each task that had anything to restore.
    pub task_restores: Vec<TaskRestore>,
    /// What the state that keeps its stores tells of itself: of all applications that it is shared by.
    pub state: Vec<StateFigure>,
    /// The wall clock, in ms.
    pub now: Timestamp,
}

/// What a task has counted since it was made.
#[derive(Debug, Clone, Default)]
pub struct TaskMetrics {
    /// The task, written `sub-topology_partition`.
    pub task: String,
    /// Records taken.
    pub records: u64,
    /// Those of them that were taken while another of its partitions was read to its end, so that a record that comes there later
    /// may be out of order; none with a `max.task.idle.ms` of -1.
    pub enforced: u64,
    /// What the caches of its stores hold, in bytes.
    pub cache_bytes: usize,
    /// The same, store by store.
    pub stores: Vec<StoreMetrics>,
    /// Its nodes.
    pub nodes: Vec<NodeCounts>,
}

/// What a task's part of a store takes.
#[derive(Debug, Clone)]
pub struct StoreMetrics {
    /// The store's name.
    pub store: Arc<str>,
    /// What its cache holds, in bytes.
    pub cache_bytes: usize,
    /// How often its cache had the key that it was asked for, over the last 30 to 60 s: the mean of all, and the commits with the
    /// smallest and the largest share.
    pub hit_ratio: Spread,
    /// What it was asked for, each operation that it ever was.
    pub operations: Vec<OperationMetrics>,
}

/// How often a task's part of a store was asked for something, and how long that took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OperationMetrics {
    /// What.
    pub operation: StoreOperation,
    /// How often since the task was made; each key of a batch counts.
    pub total: u64,
    /// The same a second, over the last 30 to 60 s.
    pub rate: f64,
    /// How long it took, in ns, over the last 30 to 60 s: of about one in 64. What is read as an iteration comes to it is no part.
    pub latency: Spread,
}

/// What a node of a task has counted.
#[derive(Debug, Clone)]
pub struct NodeCounts {
    /// The node's name.
    pub node: Arc<str>,
    /// What it counts.
    pub metrics: NodeMetrics,
    /// Records taken a second, over the last 30 to 60 s.
    pub process_rate: f64,
    /// How old records were when a source took them or a terminal node was done with them, in ms by their timestamps and the wall
    /// clock, over the last 30 to 60 s; no value for nodes between.
    pub e2e_latency: Spread,
    /// The topic that it reads or writes, if it does.
    pub topic: Option<(String, TopicUse)>,
}

/// What a node does with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicUse {
    /// It reads it.
    Consumed,
    /// It writes it.
    Produced,
}

impl TopicUse {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Consumed => "consumed",
            Self::Produced => "produced",
        }
    }
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

/// Counts as they were at a time, for rates since.
#[derive(Debug, Clone, Default)]
struct Sample {
    at: Duration,
    commits: u64,
    counts: TaskCounts,
    nodes: HashMap<(TaskId, Arc<str>), u64>,
    stores: HashMap<(TaskId, Arc<str>), StoreCounts>,
}

/// Rates of counts since a sample; there is none where all have stood still for longer than rates are taken of.
struct Rates<'a> {
    since: Option<&'a Sample>,
    now: Duration,
}

impl Rates<'_> {
    /// The rate of what stands at `count` now, and stood in the sample where `before` says.
    fn of(&self, count: u64, before: impl Fn(&Sample) -> u64) -> f64 {
        let Some(since) = self.since else { return 0.0 };
        let seconds = self.now.saturating_sub(since.at).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate is about right")]
        let counted = count.saturating_sub(before(since)) as f64;
        if seconds > 0.0 { counted / seconds } else { 0.0 }
    }
}

/// What is known of an application's tasks, as of their last commit.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Of the tasks that run here.
    tasks: BTreeMap<TaskId, TaskStatus>,
    counts: HashMap<TaskId, TaskCounts>,
    nodes: HashMap<(TaskId, Arc<str>), NodeMetrics>,
    ages: Periods<(TaskId, Arc<str>)>,
    hits: Periods<(TaskId, Arc<str>)>,
    /// What stores were asked for.
    stores: HashMap<(TaskId, Arc<str>), StoreCounts>,
    operations: Periods<(TaskId, Arc<str>, &'static str)>,
    /// What tasks of incarnations before this one had counted, and what their nodes had.
    counts_before: TaskCounts,
    nodes_before: HashMap<Arc<str>, NodeMetrics>,
    commits: u64,
    restored: RestoreCounts,
    restarts: u64,
    latencies: Latencies,
    /// The last two, as of the last commit: what came later is at rest.
    samples: [Sample; 2],
}

impl Seen {
    /// Tasks were made anew: what they count begins anew too, but for the records dropped and held, as they were committed.
    pub(super) fn begin(&mut self, tasks: &[Task], restored: RestoreCounts, now: Duration) {
        self.counts.drain().for_each(|(_, counts)| self.counts_before += counts);
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
        self.stores.clear();
        let begun = self.sample(now);
        self.samples = [begun.clone(), begun];
    }

    fn sample(&self, at: Duration) -> Sample {
        let records = self.nodes.iter().map(|(node, metrics)| (node.clone(), metrics.records));
        let (commits, nodes) = (self.commits, records.collect());
        Sample { at, commits, counts: self.counts(), nodes, stores: self.stores.clone() }
    }

    /// What all tasks have counted, of all incarnations.
    pub(super) fn counts(&self) -> TaskCounts {
        let mut counts = self.counts_before;
        self.counts.values().for_each(|of_task| counts += *of_task);
        counts
    }

    /// What the tasks that run here tell of their times.
    pub(super) fn tasks(&self) -> &BTreeMap<TaskId, TaskStatus> {
        &self.tasks
    }

    /// How many samples would have been made since the newest, had there been commits.
    fn steps(&self, now: Duration) -> u32 {
        let [_, newest] = &self.samples;
        let steps = now.saturating_sub(newest.at).as_millis() / PERIOD.as_millis();
        u32::try_from(steps).unwrap_or(u32::MAX)
    }

    fn rates(&self, now: Duration) -> Rates<'_> {
        let [before, newest] = &self.samples;
        let since = match self.steps(now) {
            0 => Some(before),
            1 => Some(newest),
            _ => None,
        };
        Rates { since, now }
    }

    pub(super) fn note(&mut self, parts: &[TaskCommit], now: Duration) {
        let [_, newest] = &self.samples;
        let (steps, at) = (self.steps(now), newest.at);
        if steps > 0 {
            let sample = self.sample(at.saturating_add(PERIOD.saturating_mul(steps)));
            // Nothing was counted between two steps without a commit.
            let before = if steps == 1 {
                newest.clone()
            } else {
                Sample { at: sample.at.saturating_sub(PERIOD), ..sample.clone() }
            };
            self.samples = [before, sample];
        }
        self.ages.turn(now);
        self.hits.turn(now);
        self.operations.turn(now);
        for part in parts {
            self.counts.insert(part.task, part.counts);
            for (node, ages) in &part.ages {
                self.ages.add((part.task, Arc::clone(node)), *ages);
            }
            self.note_hits(part);
            self.note_operations(part);
            self.tasks.insert(part.task, part.status.clone());
            let nodes = part.nodes.iter();
            self.nodes
                .extend(nodes.map(|(node, metrics)| ((part.task, Arc::clone(node)), *metrics)));
        }
    }

    /// Notes what caches have been asked since the commit before.
    fn note_hits(&mut self, part: &TaskCommit) {
        let before = self.tasks.get(&part.task).map(|status| &*status.caches).unwrap_or_default();
        for (place, cache) in part.status.caches.iter().enumerate() {
            let known = before.get(place).map(|cache| cache.reads).unwrap_or_default();
            let hits = cache.reads.hits.saturating_sub(known.hits);
            let asked = hits + cache.reads.misses.saturating_sub(known.misses);
            let share = Spread::of_share(hits, asked);
            self.hits.add((part.task, Arc::clone(&cache.store)), share);
        }
    }

    /// Notes what stores have been asked for since the commit before.
    fn note_operations(&mut self, part: &TaskCommit) {
        for (store, counts) in &part.stores {
            let timed = StoreOperation::ALL.into_iter().zip(counts.latencies);
            for (operation, latency) in timed.filter(|(_, latency)| latency.mean().is_some()) {
                let key = (part.task, Arc::clone(store), operation.name());
                self.operations.add(key, latency);
            }
            self.stores.insert((part.task, Arc::clone(store)), *counts);
        }
    }

    /// What a task's part of a store was asked for.
    fn of_store(&self, id: TaskId, store: &Arc<str>, rates: &Rates<'_>) -> Vec<OperationMetrics> {
        let key = (id, Arc::clone(store));
        let calls = self.stores.get(&key).map(|counts| counts.calls).unwrap_or_default();
        let operations = StoreOperation::ALL.into_iter().zip(calls).enumerate();
        let asked = operations.filter(|(_, (_, total))| *total > 0);
        let asked = asked.map(|(place, (operation, total))| {
            let before = |sample: &Sample| {
                let calls = sample.stores.get(&key).map(|counts| counts.calls);
                calls.and_then(|calls| calls.get(place).copied()).unwrap_or(0)
            };
            let timed = (id, Arc::clone(store), operation.name());
            let latency = self.operations.of(&timed, rates.now);
            OperationMetrics { operation, total, rate: rates.of(total, before), latency }
        });
        asked.collect()
    }

    /// How many commits there have been.
    pub(super) fn commits(&self) -> u64 {
        self.commits
    }

    pub(super) fn committed(&mut self, took: Duration) {
        self.commits += 1;
        self.latencies.add(took);
    }

    pub(super) fn restarted(&mut self) {
        self.restarts += 1;
    }

    /// What each task has counted.
    fn of_tasks(&self, blueprint: &Blueprint, rates: &Rates<'_>) -> Vec<TaskMetrics> {
        let task = |(id, status): (&TaskId, &TaskStatus)| {
            let nodes = blueprint.sub(*id).nodes.iter().map(|node| blueprint.topology.node(*node));
            let nodes = nodes.map(|spec| {
                let key = (*id, Arc::clone(&spec.name));
                let metrics = self.nodes.get(&key).copied().unwrap_or_default();
                let before = |sample: &Sample| sample.nodes.get(&key).copied().unwrap_or(0);
                let process_rate = rates.of(metrics.records, before);
                let topic = match &spec.kind {
                    Kind::Source { topic, .. } => Some((topic, TopicUse::Consumed)),
                    Kind::Sink { topic, .. } => Some((topic, TopicUse::Produced)),
                    Kind::Processor { .. } | Kind::ChildPort { .. } => None,
                };
                let topic =
                    topic.map(|(topic, verb)| (blueprint.topic_name(topic).to_string(), verb));
                let e2e_latency = self.ages.of(&key, rates.now);
                NodeCounts { node: key.1, metrics, process_rate, e2e_latency, topic }
            });
            let store = |cache: &CacheStatus| StoreMetrics {
                store: Arc::clone(&cache.store),
                cache_bytes: cache.bytes,
                hit_ratio: self.hits.of(&(*id, Arc::clone(&cache.store)), rates.now),
                operations: self.of_store(*id, &cache.store, rates),
            };
            let counts = self.counts.get(id).copied().unwrap_or_default();
            TaskMetrics {
                task: id.to_string(),
                records: counts.records,
                enforced: counts.enforced,
                cache_bytes: status.caches.iter().map(|cache| cache.bytes).sum(),
                stores: status.caches.iter().map(store).collect(),
                nodes: nodes.collect(),
            }
        };
        self.tasks.iter().map(task).collect()
    }

    pub(super) fn metrics(&self, blueprint: &Blueprint, now: Duration) -> StreamsMetrics {
        let (rates, counts) = (self.rates(now), self.counts());
        StreamsMetrics {
            application_id: Arc::clone(&blueprint.application_id),
            commit_rate: rates.of(self.commits, |sample| sample.commits),
            process_rate: rates.of(counts.records, |sample| sample.counts.records),
            polls: counts.polls,
            poll_rate: rates.of(counts.polls, |sample| sample.counts.polls),
            punctuations: counts.punctuations,
            punctuate_rate: rates.of(counts.punctuations, |sample| sample.counts.punctuations),
            tasks: self.of_tasks(blueprint, &rates),
            records: counts.records,
            commits: self.commits,
            restored: self.restored.replayed,
            quarantined: self.restored.quarantined,
            restarts: self.restarts,
            commit_latencies: self.latencies.clone(),
            // What others know.
            ..StreamsMetrics::default()
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

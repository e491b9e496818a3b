//! What an application's handle knows of its tasks: counts and times.

mod latencies;
mod of_globals;
mod seen;

pub use crate::store::iterators::IteratorMetrics;
pub use latencies::Latencies;
pub(super) use of_globals::OfGlobals;
pub(super) use seen::{Dealt, Seen};

use super::{
    explain::SourceStatus,
    restore::{RestoreProgress, TaskRestore},
    standby::TaskUpdate,
};
use crate::store::StoreOperation;
use headwater_core::{
    metrics::{NodeMetrics, Spread},
    ports::state::StateFigure,
    record::Timestamp,
};
use std::{sync::Arc, time::Duration};

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
    /// Its `client.id`, if it has one.
    pub client_id: Option<Arc<str>>,
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
    /// The share of its threads' time that went into processing records, over the last 30 to 60 s.
    pub process_ratio: f64,
    /// The same of fetches.
    pub poll_ratio: f64,
    /// The same of commits: flushing, and gathering what is committed. The log is written and synced by a thread of its own.
    pub commit_ratio: f64,
    /// The same of punctuations.
    pub punctuate_ratio: f64,
    /// How long a turn of a task took that took records, in ms, over the last 30 to 60 s.
    pub process_latency: Spread,
    /// How long a fetch took that brought records, in ms, over the last 30 to 60 s.
    pub poll_latency: Spread,
    /// How many records such a fetch brought, over the last 30 to 60 s.
    pub poll_records: Spread,
    /// How long a punctuation took, in ms, over the last 30 to 60 s.
    pub punctuate_latency: Spread,
    /// How long its threads have waited for the log, all of them together: for what they fetch, since they wait for nothing else.
    pub blocked: Duration,
    /// When its tasks were last made, by the wall clock in ms; none before.
    pub started: Option<Timestamp>,
    /// Tasks that were made, and those of them that are gone.
    pub tasks_created: u64,
    /// See [`tasks_created`](Self::tasks_created).
    pub tasks_closed: u64,
    /// Tasks made a second, over the last 30 to 60 s.
    pub task_created_rate: f64,
    /// Tasks that went a second, over the last 30 to 60 s.
    pub task_closed_rate: f64,
    /// How long it took until its tasks were made, their stores restored, in ms, over the last 30 to 60 s.
    pub tasks_assigned_latency: Spread,
    /// How long it took until they were gone after a last commit, so that they can be dealt anew, in ms, over the last 30 to 60 s.
    pub tasks_revoked_latency: Spread,
    /// The same, where another instance has taken over and nothing can be committed.
    pub tasks_lost_latency: Spread,
    /// The topology, as [`describe`](crate::topology::Topology::describe) tells it.
    pub topology_description: String,
    /// What each task has counted, as of the last commit; after them, what each processor of a global store has by now, as the task
    /// that it would be.
    pub tasks: Vec<TaskMetrics>,
    /// How far the partitions that it reads are.
    pub sources: Vec<SourceStatus>,
    /// How far its stores are restored, or how that went at the last start.
    pub restoring: RestoreProgress,
    /// The same, of each task that had anything to restore.
    pub task_restores: Vec<TaskRestore>,
    /// Of a standby, how far it has updated each task's stores.
    pub task_updates: Vec<TaskUpdate>,
    /// Of a standby, the share of the last 30 to 60 s that went into updates.
    pub standby_update_ratio: f64,
    /// Of a standby, how many offsets lie between its stores and the ends of their changelogs.
    pub standby_lag: Option<u64>,
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
    /// Those of them that were taken while another of its partitions was read to its end.
    ///
    /// A record that comes there later may be out of order. None are counted with a `max.task.idle.ms` of -1.
    pub enforced: u64,
    /// Records taken a second, over the last 30 to 60 s.
    pub process_rate: f64,
    /// Those of them a second that were taken while another of its partitions was read to its end.
    pub enforced_rate: f64,
    /// Records dropped a second, over the last 30 to 60 s.
    pub dropped_rate: f64,
    /// How much of the time that all tasks took to process records was its own, over the last 30 to 60 s.
    pub active_process_ratio: f64,
    /// How long a turn took that took records, in ms, over the last 30 to 60 s.
    pub process_latency: Spread,
    /// How far records were behind the task's stream time, in ms, over the last 30 to 60 s; 0 for those that move it.
    pub record_lateness: Spread,
    /// What it has fetched and not yet taken whole, in bytes.
    pub input_buffer_bytes: usize,
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
    /// Iterators over it.
    pub iterators: IteratorMetrics,
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
#[derive(Debug, Clone, Default)]
pub struct NodeCounts {
    /// The node's name.
    pub node: Arc<str>,
    /// What it counts.
    pub metrics: NodeMetrics,
    /// Records taken a second, over the last 30 to 60 s.
    pub process_rate: f64,
    /// How old records were when a source took them or a terminal node was done with them, in ms, over the last 30 to 60 s.
    ///
    /// By their timestamps and the wall clock; no value for nodes between.
    pub e2e_latency: Spread,
    /// Of a suppression the updates that it lets out a second, of windows that are forwarded when they close the final rows;
    /// over the last 30 to 60 s.
    pub emit_rate: f64,
    /// How long it took to let final rows out, in ms, over the last 30 to 60 s.
    pub emit_latency: Spread,
    /// How many rows a suppression held at commits of the last 30 to 60 s.
    pub buffer_rows: Spread,
    /// How many bytes those had, where they are limited.
    pub buffer_bytes: Spread,
    /// What a user's processor counts itself.
    pub own: Vec<OwnMetrics>,
    /// The topic that it reads or writes, if it does.
    pub topic: Option<(String, TopicUse)>,
}

/// A metric of a processor's own.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnMetrics {
    /// Its name.
    pub name: Arc<str>,
    /// What it says.
    pub value: OwnMetric,
}

/// What a metric of a processor's own says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OwnMetric {
    /// A [`Counter`](crate::processor::Counter).
    Counter {
        /// What was added to it since the task was made.
        total: u64,
        /// The same a second, over the last 30 to 60 s.
        rate: f64,
    },
    /// A [`Gauge`](crate::processor::Gauge); none as long as it was not set.
    Gauge(Option<f64>),
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

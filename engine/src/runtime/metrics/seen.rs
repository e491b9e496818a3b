//! What is known of an application's tasks as of their last commit, and the rates of it.

use super::{
    Latencies, NodeCounts, OfGlobals, OperationMetrics, OwnMetric, OwnMetrics, StoreMetrics,
    StreamsMetrics, TaskMetrics, TopicUse, of_globals::CountedPart,
};
use crate::{
    periods::{PERIOD, Periods},
    processor::OwnValue,
    runtime::restore::RestoreCounts,
    store::{OpenIterators, StoreCounts, StoreOperation},
    task::{
        Blueprint, CacheStatus, Measure, Measured, OwnCounted, Task, TaskCommit, TaskCounts,
        TaskStatus,
    },
    topology::{Kind, NodeSpec, TaskId},
};
use hashbrown::HashMap;
use headwater_core::{
    metrics::{Dropped, NodeMetrics, Spread},
    record::Timestamp,
    time::Clock,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Counts as they were at a time, for rates since.
#[derive(Debug, Clone, Default)]
struct Sample {
    at: Duration,
    commits: u64,
    created: u64,
    closed: u64,
    counts: TaskCounts,
    tasks: HashMap<TaskId, TaskCounts>,
    nodes: HashMap<(TaskId, Arc<str>), NodeSample>,
    stores: HashMap<(TaskId, Arc<str>), StoreCounts>,
    own: HashMap<TaskId, Vec<OwnCounted>>,
}

/// What a node had counted at a time.
#[derive(Debug, Clone, Copy, Default)]
struct NodeSample {
    records: u64,
    dropped: u64,
    emitted: u64,
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

    /// How much of the time since went by doing what had taken `took` by now.
    fn share(&self, took: Duration, before: impl Fn(&Sample) -> Duration) -> f64 {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.of(nanos(took), |sample| nanos(before(sample))) / 1e9
    }
}

/// Of what something was measured: a task, or all together; and of which of its nodes, if it is about nodes.
type MeasuredOf = (Option<TaskId>, Measure, Option<Arc<str>>);

/// How tasks come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::runtime) enum Dealt {
    /// They were made.
    Assigned,
    /// They have made their last commit, so that others can be made.
    Revoked,
    /// They were dropped, since another instance has them.
    Lost,
}

/// What is known of an application's tasks, as of their last commit.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Seen {
    /// Of the tasks that run here.
    tasks: BTreeMap<TaskId, TaskStatus>,
    counts: HashMap<TaskId, TaskCounts>,
    nodes: HashMap<(TaskId, Arc<str>), NodeMetrics>,
    globals: Arc<OfGlobals>,
    measured: Periods<MeasuredOf>,
    hits: Periods<(TaskId, Arc<str>)>,
    /// How long it took, in ms.
    dealt: Periods<Dealt>,
    /// What processors count themselves.
    own: HashMap<TaskId, Vec<OwnCounted>>,
    /// What stores were asked for.
    stores: HashMap<(TaskId, Arc<str>), StoreCounts>,
    operations: Periods<(TaskId, Arc<str>, &'static str)>,
    /// What tasks of incarnations before this one had counted, and what their nodes had.
    counts_before: TaskCounts,
    nodes_before: HashMap<Arc<str>, NodeMetrics>,
    commits: u64,
    /// Tasks that were made, and those that are gone.
    created: u64,
    closed: u64,
    /// When those that run were made, by the wall clock.
    started: Option<Timestamp>,
    restored: RestoreCounts,
    restarts: u64,
    latencies: Latencies,
    /// The last two, as of the last commit: what came later is at rest.
    samples: [Sample; 2],
}

impl Seen {
    /// Tasks were made anew: what they count begins anew too, but for the records dropped and held, as they were committed. Global
    /// stores go on where they were.
    pub(in crate::runtime) fn begin(
        &mut self,
        tasks: &[Task],
        globals: &Arc<OfGlobals>,
        restored: RestoreCounts,
        clock: &dyn Clock,
    ) {
        self.closed += self.tasks.len() as u64;
        self.created += tasks.len() as u64;
        self.started = Some(clock.now());
        self.counts.drain().for_each(|(_, counts)| self.counts_before += counts);
        self.restored += restored;
        let of_globals = std::mem::replace(&mut self.globals, Arc::clone(globals)).parts();
        for ((id, node), metrics) in self.nodes.drain() {
            let is_global = of_globals.contains_key(&id);
            let dropped = if is_global { metrics.dropped } else { Dropped::default() };
            *self.nodes_before.entry(node).or_default() +=
                NodeMetrics { dropped, held: 0, ..metrics };
        }
        self.tasks = tasks.iter().map(|task| (task.id, task.status())).collect();
        for task in tasks {
            let nodes = task.metrics();
            self.nodes.extend(nodes.map(|(node, metrics)| ((task.id, Arc::clone(node)), metrics)));
        }
        self.stores.clear();
        self.own.clear();
        self.look_at_globals();
        let begun = self.sample(clock.elapsed());
        self.samples = [begun.clone(), begun];
    }

    /// Takes up what processors of global stores have counted by now.
    pub(in crate::runtime) fn look_at_globals(&mut self) {
        for (id, part) in self.globals.parts() {
            self.own.insert(id, part.own());
            self.nodes.insert((id, part.node), part.counts.metrics);
        }
    }

    fn sample(&self, at: Duration) -> Sample {
        let nodes = self.nodes.iter().map(|(node, metrics)| {
            let NodeMetrics { records, emitted, dropped, .. } = metrics;
            let sample =
                NodeSample { records: *records, dropped: dropped.total(), emitted: *emitted };
            (node.clone(), sample)
        });
        Sample {
            at,
            commits: self.commits,
            created: self.created,
            closed: self.closed,
            counts: self.counts(),
            tasks: self.counts.clone(),
            nodes: nodes.collect(),
            stores: self.stores.clone(),
            own: self.own.clone(),
        }
    }

    /// What all tasks have counted, of all incarnations.
    pub(in crate::runtime) fn counts(&self) -> TaskCounts {
        let mut counts = self.counts_before;
        self.counts.values().for_each(|of_task| counts += *of_task);
        counts
    }

    /// What the tasks that run here tell of their times.
    pub(in crate::runtime) fn tasks(&self) -> &BTreeMap<TaskId, TaskStatus> {
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

    pub(in crate::runtime) fn note(&mut self, parts: &[TaskCommit], now: Duration) {
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
        self.measured.turn(now);
        self.hits.turn(now);
        self.operations.turn(now);
        for part in parts {
            self.counts.insert(part.task, part.counts);
            self.own.insert(part.task, part.own_metrics.clone());
            self.note_measured(part);
            self.note_hits(part);
            self.note_operations(part);
            self.tasks.insert(part.task, part.status.clone());
            let nodes = part.nodes.iter();
            self.nodes
                .extend(nodes.map(|(node, metrics)| ((part.task, Arc::clone(node)), *metrics)));
        }
    }

    /// Notes what was measured since the commit before.
    fn note_measured(&mut self, part: &TaskCommit) {
        for Measured { measure, node, spread } in &part.measured {
            self.measured.add((Some(part.task), *measure, node.clone()), *spread);
            if node.is_none() {
                self.measured.add((None, *measure, None), *spread);
            }
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

    /// Tasks were made, or have gone, between two moments.
    pub(in crate::runtime) fn dealt(&mut self, dealt: Dealt, (began, now): (Duration, Duration)) {
        self.dealt.turn(now);
        self.dealt.add(dealt, Spread::of(now.saturating_sub(began).as_secs_f64() * 1e3));
    }

    /// How many commits there have been.
    pub(in crate::runtime) fn commits(&self) -> u64 {
        self.commits
    }

    pub(in crate::runtime) fn committed(&mut self, took: Duration) {
        self.commits += 1;
        self.latencies.add(took);
    }

    pub(in crate::runtime) fn restarted(&mut self) {
        self.restarts += 1;
    }

    /// What each task has counted.
    fn of_tasks(
        &self,
        blueprint: &Blueprint,
        iterators: &OpenIterators,
        rates: &Rates<'_>,
    ) -> Vec<TaskMetrics> {
        let all = |counts: &TaskCounts| counts.processing;
        let of_all = rates.share(all(&self.counts()), |sample| all(&sample.counts));
        let task = |(id, status): (&TaskId, &TaskStatus)| {
            let nodes = blueprint.sub(*id).nodes.iter().map(|node| blueprint.topology.node(*node));
            let nodes: Vec<_> =
                nodes.map(|spec| self.of_node(*id, spec, blueprint, rates)).collect();
            let store = |cache: &CacheStatus| StoreMetrics {
                store: Arc::clone(&cache.store),
                cache_bytes: cache.bytes,
                hit_ratio: self.hits.of(&(*id, Arc::clone(&cache.store)), rates.now),
                operations: self.of_store(*id, &cache.store, rates),
                iterators: iterators.of(&cache.store, id.partition),
            };
            let counts = self.counts.get(id).copied().unwrap_or_default();
            let before = |sample: &Sample| sample.tasks.get(id).copied().unwrap_or_default();
            let own = rates.share(counts.processing, |sample| before(sample).processing);
            let measured = |measure| self.measured.of(&(Some(*id), measure, None), rates.now);
            TaskMetrics {
                task: id.to_string(),
                records: counts.records,
                enforced: counts.enforced,
                process_rate: rates.of(counts.records, |sample| before(sample).records),
                enforced_rate: rates.of(counts.enforced, |sample| before(sample).enforced),
                dropped_rate: self.dropped_rate(*id, rates),
                active_process_ratio: if of_all > 0.0 { own / of_all } else { 0.0 },
                process_latency: measured(Measure::ProcessMs),
                record_lateness: measured(Measure::RecordLateness),
                input_buffer_bytes: status.input_bytes,
                cache_bytes: status.caches.iter().map(|cache| cache.bytes).sum(),
                stores: status.caches.iter().map(store).collect(),
                nodes,
            }
        };
        let globals = self.globals.parts().into_iter();
        let globals = globals.map(|(id, part)| self.of_global(id, &part, rates));
        self.tasks.iter().map(task).chain(globals).collect()
    }

    /// What the processor of a part of a global store has counted.
    fn of_global(&self, id: TaskId, part: &CountedPart, rates: &Rates<'_>) -> TaskMetrics {
        let (key, metrics) = ((id, Arc::clone(&part.node)), part.counts.metrics);
        let before = |sample: &Sample| sample.nodes.get(&key).copied().unwrap_or_default().records;
        let process_rate = rates.of(metrics.records, before);
        let own = self.own_of(id, &part.node, rates);
        let node = Arc::clone(&part.node);
        TaskMetrics {
            task: id.to_string(),
            records: metrics.records,
            process_rate,
            dropped_rate: self.dropped_rate(id, rates),
            nodes: vec![NodeCounts { node, metrics, process_rate, own, ..NodeCounts::default() }],
            ..TaskMetrics::default()
        }
    }

    /// How many records a second the nodes of a task drop.
    fn dropped_rate(&self, id: TaskId, rates: &Rates<'_>) -> f64 {
        let of_task = self.nodes.iter().filter(|((task, _), _)| *task == id);
        let dropped = of_task.map(|(_, metrics)| metrics.dropped.total()).sum();
        rates.of(dropped, |sample| {
            let of_task = sample.nodes.iter().filter(|((task, _), _)| *task == id);
            of_task.map(|(_, sample)| sample.dropped).sum()
        })
    }

    /// What the processor of a node counts itself.
    fn own_of(&self, id: TaskId, node: &str, rates: &Rates<'_>) -> Vec<OwnMetrics> {
        let own = |own: &HashMap<TaskId, Vec<OwnCounted>>, name: Option<&str>| {
            let of_task = own.get(&id).into_iter().flatten();
            let of_node = of_task.filter(|it| *it.node == *node);
            of_node
                .filter(|it| name.is_none_or(|name| *it.name == *name))
                .cloned()
                .collect::<Vec<_>>()
        };
        let metric = |it: OwnCounted| {
            let before = |sample: &Sample| {
                let before = own(&sample.own, Some(&it.name)).into_iter();
                let counted = before.filter_map(|it| match it.value {
                    OwnValue::Counted(counted) => Some(counted),
                    OwnValue::Stands(_) => None,
                });
                counted.sum()
            };
            let value = match it.value {
                OwnValue::Counted(total) => {
                    OwnMetric::Counter { total, rate: rates.of(total, before) }
                }
                OwnValue::Stands(value) => OwnMetric::Gauge(value),
            };
            OwnMetrics { name: it.name, value }
        };
        own(&self.own, None).into_iter().map(metric).collect()
    }

    /// What a node of a task has counted.
    fn of_node(
        &self,
        id: TaskId,
        spec: &NodeSpec,
        blueprint: &Blueprint,
        rates: &Rates<'_>,
    ) -> NodeCounts {
        let key = (id, Arc::clone(&spec.name));
        let metrics = self.nodes.get(&key).copied().unwrap_or_default();
        let before = |sample: &Sample| sample.nodes.get(&key).copied().unwrap_or_default();
        let topic = match &spec.kind {
            Kind::Source { topic, .. } => Some((topic, TopicUse::Consumed)),
            Kind::Sink { topic, .. } => Some((topic, TopicUse::Produced)),
            Kind::Processor { .. } | Kind::ChildPort { .. } => None,
        };
        let measured = |measure| {
            let of = (Some(id), measure, Some(Arc::clone(&spec.name)));
            self.measured.of(&of, rates.now)
        };
        NodeCounts {
            process_rate: rates.of(metrics.records, |sample| before(sample).records),
            emit_rate: rates.of(metrics.emitted, |sample| before(sample).emitted),
            e2e_latency: measured(Measure::RecordAge),
            emit_latency: measured(Measure::EmissionMs),
            buffer_rows: measured(Measure::BufferRows),
            buffer_bytes: measured(Measure::BufferBytes),
            topic: topic.map(|(topic, verb)| (blueprint.topic_name(topic).to_string(), verb)),
            own: self.own_of(id, &spec.name, rates),
            node: Arc::clone(&spec.name),
            metrics,
        }
    }

    /// All of it; `threads` are those that the tasks may run on.
    pub(in crate::runtime) fn metrics(
        &self,
        blueprint: &Blueprint,
        threads: usize,
        iterators: &OpenIterators,
        now: Duration,
    ) -> StreamsMetrics {
        let (rates, counts) = (self.rates(now), self.counts());
        #[expect(clippy::cast_precision_loss, reason = "nobody has so many threads")]
        let threads = threads.max(1) as f64;
        let ratio = |of: fn(&TaskCounts) -> Duration| {
            rates.share(of(&counts), |it| of(&it.counts)) / threads
        };
        let measured = |measure| self.measured.of(&(None, measure, None), now);
        StreamsMetrics {
            application_id: Arc::clone(&blueprint.application_id),
            commit_rate: rates.of(self.commits, |sample| sample.commits),
            process_rate: rates.of(counts.records, |sample| sample.counts.records),
            polls: counts.polls,
            poll_rate: rates.of(counts.polls, |sample| sample.counts.polls),
            punctuations: counts.punctuations,
            punctuate_rate: rates.of(counts.punctuations, |sample| sample.counts.punctuations),
            process_ratio: ratio(|counts| counts.processing),
            poll_ratio: ratio(|counts| counts.polling),
            commit_ratio: ratio(|counts| counts.committing),
            punctuate_ratio: ratio(|counts| counts.punctuating),
            process_latency: measured(Measure::ProcessMs),
            poll_latency: measured(Measure::PollMs),
            poll_records: measured(Measure::PollRecords),
            punctuate_latency: measured(Measure::PunctuateMs),
            blocked: counts.polling,
            started: self.started,
            tasks_created: self.created,
            tasks_closed: self.closed,
            task_created_rate: rates.of(self.created, |sample| sample.created),
            task_closed_rate: rates.of(self.closed, |sample| sample.closed),
            tasks_assigned_latency: self.dealt.of(&Dealt::Assigned, now),
            tasks_revoked_latency: self.dealt.of(&Dealt::Revoked, now),
            tasks_lost_latency: self.dealt.of(&Dealt::Lost, now),
            topology_description: blueprint.topology.describe(),
            tasks: self.of_tasks(blueprint, iterators, &rates),
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
    pub(in crate::runtime) fn nodes(&self) -> BTreeMap<Arc<str>, NodeMetrics> {
        let before = self.nodes_before.iter();
        let now = self.nodes.iter().map(|((_, node), metrics)| (node, metrics));
        let mut nodes = BTreeMap::new();
        for (node, metrics) in before.chain(now) {
            *nodes.entry(Arc::clone(node)).or_default() += *metrics;
        }
        nodes
    }

    pub(in crate::runtime) fn dropped_by(&self, node: &str) -> u64 {
        let of = self.nodes.iter().filter(|((_, name), _)| &**name == node);
        let before = self.nodes_before.get(node).map(|metrics| metrics.dropped.total());
        of.map(|(_, metrics)| metrics.dropped.total()).chain(before).sum()
    }
}

//! Why nothing comes out: what waits for time and what holds it back, what waits for calls, what was dropped, where all rows end.
//!
//! A node that holds rows back is followed up to the partitions of external topics whose records would move its time: through
//! the tasks that write the repartition topics above it, those that hold time back alone if any do.

use super::{
    application::Application, application::driver::Driver, application::life::StreamsState,
    tasks::setup::external_inputs,
};
use crate::{
    node::HeldBack,
    task::{Blueprint, InputStatus, TaskStatus},
    topology::{Kind, Sender, TaskId, Topic},
};
use headwater_core::{
    metrics::{DropReason, NodeMetrics},
    ports::log::Log,
    record::{Timestamp, TopicPartition},
    text::shown,
    time::date_time,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

/// How much of a partition there is to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceState {
    /// Nothing was ever appended to it.
    Empty,
    /// All that is there was read.
    Idle,
    /// So many offsets lie between what is committed and its end.
    Behind(u64),
    /// A record that is too far ahead is held until others agree with it.
    HoldsAhead,
    /// It is not read here.
    NotAssigned,
}

/// An external partition that the application reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceStatus {
    /// The partition.
    pub partition: TopicPartition,
    /// How much of it there is to read.
    pub state: SourceState,
    /// The time of the task that reads it, after its last record; none if none was read since the start.
    pub time: Option<Timestamp>,
    /// When that was read, by the wall clock in ms.
    pub since: Option<Timestamp>,
}

/// How far an input is behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// The partition.
    pub partition: TopicPartition,
    /// The committed offset.
    pub committed: i64,
    /// The partition's end.
    pub end: i64,
}

/// What keeps a node's time from moving: a partition, and the task that reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldBy {
    /// The task, written `sub-topology_partition`.
    pub task: String,
    /// The partition.
    pub source: SourceStatus,
}

/// A node of a task that holds rows back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingNode {
    /// The node's name.
    pub node: Arc<str>,
    /// Its task, written `sub-topology_partition`.
    pub task: String,
    /// What it waits for.
    pub waits_for: WaitsFor,
}

/// What a node waits for that holds rows back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitsFor {
    /// Its time is to move.
    Time {
        /// The node's time; none before its first row.
        time: Option<Timestamp>,
        /// The time at which the first row comes out; none if time alone never brings it out.
        until: Option<Timestamp>,
        /// What holds its time back.
        held_by: Vec<HeldBy>,
    },
    /// Calls are to be answered.
    Calls {
        /// How many rows it holds.
        rows: u64,
    },
}

/// Records that a node dropped, in all runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedAt {
    /// The node's name.
    pub node: Arc<str>,
    /// Why.
    pub reason: DropReason,
    /// How many.
    pub records: u64,
}

/// Records that a node took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordsAt {
    /// The node's name.
    pub node: Arc<str>,
    /// How many.
    pub records: u64,
}

/// A partition with records left to read, which may wait for others of their task, by `max.task.idle.ms`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdlingSource {
    /// The partition.
    pub partition: TopicPartition,
    /// Those that may be waited for: as far as is known, all that is there was read of them.
    pub waits_for: Vec<TopicPartition>,
    /// For how long, from when they were read to their end.
    pub at_most: Duration,
}

/// Why nothing comes out of an application, or that nothing keeps it from coming: see [`Application::explain`]. Its text is for
/// people.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The application.
    pub application_id: Arc<str>,
    /// Where it is in its life.
    pub state: StreamsState,
    /// The wall clock, in ms.
    pub now: Timestamp,
    /// The partitions that it reads.
    pub sources: Vec<SourceStatus>,
    /// The nodes that hold rows back.
    pub waiting: Vec<WaitingNode>,
    /// What was dropped, by node and reason.
    pub dropped: Vec<DroppedAt>,
    /// The nodes of whose records some became dead letters since the start.
    pub dead_letters: Vec<RecordsAt>,
    /// The nodes that have taken records since the start and forwarded none, though they neither hold nor dropped them.
    pub forwarded_none: Vec<RecordsAt>,
    /// The partitions whose records may wait for others that are read to their end.
    pub idling: Vec<IdlingSource>,
    /// How many records were taken from topics since the start.
    pub records: u64,
}

impl Explanation {
    /// Whether nothing keeps results from coming out: it runs, and nothing waits, was dropped or ends within it.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        matches!(self.state, StreamsState::Running)
            && self.waiting.is_empty()
            && self.dropped.is_empty()
            && self.dead_letters.is_empty()
            && self.forwarded_none.is_empty()
            && self.idling.is_empty()
            && self.sources.iter().all(|it| {
                matches!(it.state, SourceState::Empty | SourceState::Idle | SourceState::Behind(_))
            })
    }
}

/// What an explanation is made from.
pub(super) struct Facts {
    pub(super) blueprint: Arc<Blueprint>,
    pub(super) tasks: BTreeMap<TaskId, TaskStatus>,
    pub(super) nodes: BTreeMap<Arc<str>, NodeMetrics>,
    pub(super) log: Arc<dyn Log>,
    pub(super) state: StreamsState,
    pub(super) now: Timestamp,
    pub(super) records: u64,
}

impl Facts {
    fn explain(self) -> Explanation {
        let sources = self.sources();
        let held = self.tasks.values().flat_map(|task| {
            task.held_back.iter().map(|(node, held)| self.waiting(task.id, node, *held))
        });
        let of_nodes = |count: fn(&NodeMetrics) -> u64| {
            let nodes = self.nodes.iter().map(move |(node, metrics)| (node, count(metrics)));
            let some = nodes.filter(|(_, records)| *records > 0);
            some.map(|(node, records)| RecordsAt { node: Arc::clone(node), records }).collect()
        };
        let dropped = self.nodes.iter().flat_map(|(node, metrics)| {
            let some = metrics.dropped.iter().filter(|(_, records)| *records > 0);
            some.map(|(reason, records)| DroppedAt { node: Arc::clone(node), reason, records })
        });
        Explanation {
            application_id: Arc::clone(&self.blueprint.application_id),
            waiting: held.collect(),
            dropped: dropped.collect(),
            dead_letters: of_nodes(|metrics| metrics.dead_letters),
            forwarded_none: self.forwarded_none(),
            idling: self.idling(&sources),
            sources,
            records: self.records,
            now: self.now,
            state: self.state.clone(),
        }
    }

    /// The partitions whose records may wait for others of their task.
    fn idling(&self, sources: &[SourceStatus]) -> Vec<IdlingSource> {
        let Some(at_most) = self.blueprint.max_task_idle.filter(|it| !it.is_zero()) else {
            return Vec::new();
        };
        let behind = sources.iter().filter(|it| matches!(it.state, SourceState::Behind(_)));
        let behind: BTreeSet<&TopicPartition> = behind.map(|source| &source.partition).collect();
        let mut idling = Vec::new();
        for (task, partition) in self
            .tasks
            .values()
            .flat_map(|task| task.inputs.iter().map(move |input| (task, &input.partition)))
        {
            let comes_back =
                |input: &&InputStatus| self.blueprint.sub(task.id).fed_back.contains(&input.topic);
            let others = task.inputs.iter().filter(|input| !comes_back(input));
            let others = others.map(|input| &input.partition);
            let waits_for: Vec<_> = others.filter(|it| !behind.contains(it)).cloned().collect();
            if behind.contains(partition) && !waits_for.is_empty() {
                idling.push(IdlingSource { partition: partition.clone(), waits_for, at_most });
            }
        }
        idling
    }

    /// The partitions that it reads.
    pub(super) fn sources(&self) -> Vec<SourceStatus> {
        let sources = external_inputs(&self.blueprint).into_iter();
        sources.map(|partition| self.source(partition)).collect()
    }

    fn source(&self, partition: TopicPartition) -> SourceStatus {
        let inputs = self.tasks.values().flat_map(|task| &task.inputs);
        let input = inputs
            .filter(|input| input.partition == partition)
            .max_by_key(|it| it.noted_time.map(|it| it.at));
        let noted = input.and_then(|input| input.noted_time);
        let state = match input {
            None => SourceState::NotAssigned,
            Some(InputStatus { is_in_doubt: true, .. }) => SourceState::HoldsAhead,
            Some(_) => self.left_of(&partition),
        };
        let (time, since) = (noted.map(|noted| noted.time), noted.map(|noted| noted.at));
        SourceStatus { partition, state, time, since }
    }

    /// How much there is to read of a partition. A log that cannot say so is told by the application's state.
    fn left_of(&self, partition: &TopicPartition) -> SourceState {
        let Ok(held) = self.log.offsets(partition) else { return SourceState::Behind(0) };
        let committed = self.log.committed(&self.blueprint.application_id, partition);
        let committed = committed.ok().flatten().map_or(held.start, |committed| committed.offset);
        match u64::try_from(held.end.saturating_sub(committed)) {
            Ok(left) if left > 0 => SourceState::Behind(left),
            _ if held.end == 0 => SourceState::Empty,
            _ => SourceState::Idle,
        }
    }

    fn waiting(&self, task: TaskId, node: &Arc<str>, held: HeldBack) -> WaitingNode {
        let waits_for = match held {
            HeldBack::Time { time, until } => {
                WaitsFor::Time { time, until, held_by: self.held_by(task, node) }
            }
            HeldBack::Calls { rows } => WaitsFor::Calls { rows },
        };
        WaitingNode { node: Arc::clone(node), task: task.to_string(), waits_for }
    }

    /// What holds the time of a node of a task back.
    fn held_by(&self, task: TaskId, node: &str) -> Vec<HeldBy> {
        let (mut partitions, mut seen) = (BTreeSet::new(), BTreeSet::new());
        self.add_partitions(task, node, &mut seen, &mut partitions);
        let held_by = partitions.into_iter().map(|(partition, task)| HeldBy {
            task: task.to_string(),
            source: self.source(partition),
        });
        held_by.collect()
    }

    /// Adds the external partitions whose records move the time of a node of a task.
    fn add_partitions(
        &self,
        id: TaskId,
        node: &str,
        seen: &mut BTreeSet<(TaskId, Arc<str>)>,
        partitions: &mut BTreeSet<(TopicPartition, TaskId)>,
    ) {
        if !seen.insert((id, node.into())) {
            return;
        }
        let status = self.tasks.get(&id);
        for topic in self.topics_above(id, node) {
            let name = self.blueprint.topic_name(&topic);
            let partition = TopicPartition::new(name, id.partition);
            let Topic::Repartition(_) = &topic else {
                if self.blueprint.partitions.get(&topic) > Some(&id.partition) {
                    partitions.insert((partition, id));
                }
                continue;
            };
            let inputs = status.into_iter().flat_map(|status| &status.inputs);
            let mut holders =
                inputs.filter(|input| input.topic == topic).flat_map(|it| &it.holders);
            let holders: BTreeSet<Sender> = holders.by_ref().copied().collect();
            for (task, sink) in self.writers(&topic) {
                // Where none holds time back, all have read what there is.
                if holders.is_empty() || holders.contains(&Sender::new(&sink, task.partition)) {
                    self.add_partitions(task, &sink, seen, partitions);
                }
            }
        }
    }

    /// The topics that are read above a node of a task.
    fn topics_above(&self, id: TaskId, node: &str) -> BTreeSet<Topic> {
        let topology = &self.blueprint.topology;
        let nodes = &self.blueprint.sub(id).nodes;
        let mut open: Vec<usize> =
            nodes.iter().copied().filter(|it| *topology.node(*it).name == *node).collect();
        let (mut met, mut topics) = (BTreeSet::new(), BTreeSet::new());
        while let Some(node) = open.pop() {
            if !met.insert(node) {
                continue;
            }
            let spec = topology.node(node);
            if let Kind::Source { topic, .. } = &spec.kind {
                topics.insert(topic.clone());
            }
            open.extend(spec.parents.iter().map(|parent| parent.node));
        }
        topics
    }

    /// The tasks that write a repartition topic, each with its sink.
    fn writers(&self, topic: &Topic) -> Vec<(TaskId, Arc<str>)> {
        let mut writers = Vec::new();
        for (sub, spec) in (0..).zip(&self.blueprint.plan.subs) {
            for node in spec.nodes.iter().map(|node| self.blueprint.topology.node(*node)) {
                if matches!(&node.kind, Kind::Sink { topic: to, .. } if to == topic) {
                    let tasks =
                        (0..self.blueprint.width(spec)).map(|partition| TaskId { sub, partition });
                    writers.extend(tasks.map(|task| (task, Arc::clone(&node.name))));
                }
            }
        }
        writers
    }

    fn forwarded_none(&self) -> Vec<RecordsAt> {
        let topology = &self.blueprint.topology;
        let of = |node: &str| self.nodes.get(node).copied().unwrap_or_default();
        let holds = |node: &str| {
            let mut tasks = self.tasks.values();
            tasks.any(|task| {
                task.held_back.iter().any(|(holder, _)| **holder == *node)
                    || task.holding.iter().any(|holder| **holder == *node)
            })
        };
        let mut found = Vec::new();
        for spec in self.blueprint.plan.subs.iter().flat_map(|sub| &sub.nodes) {
            let spec = topology.node(*spec);
            let metrics = of(&spec.name);
            let lost = metrics.dropped.total() + metrics.dead_letters;
            let forwarded: u64 =
                spec.children.iter().map(|child| of(&topology.node(*child).name).records).sum();
            if matches!(spec.kind, Kind::Processor { .. })
                && !spec.children.is_empty()
                && metrics.records > lost
                && forwarded == 0
                && !holds(&spec.name)
            {
                found.push(RecordsAt { node: Arc::clone(&spec.name), records: metrics.records });
            }
        }
        found
    }
}

/// At most so many partitions are named for a node.
const NAMED_MAX: usize = 5;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", shown(&*self.application_id), state_text(&self.state))?;
        for source in &self.sources {
            write!(f, "\n{}: {}", source.partition, source_text(source, self.now))?;
        }
        for IdlingSource { partition, waits_for, at_most } in &self.idling {
            let waits_for: Vec<_> = waits_for.iter().map(ToString::to_string).collect();
            let (waits_for, ms) = (waits_for.join(", "), at_most.as_millis());
            write!(
                f,
                "\nrecords of {partition} may wait {ms} ms for {waits_for} (`max.task.idle.ms`)"
            )?;
        }
        for waiting in &self.waiting {
            self.write_waiting(waiting, f)?;
        }
        for DroppedAt { node, reason, records } in &self.dropped {
            write!(f, "\n{node} dropped {}: {}", count(*records), reason.name())?;
        }
        for RecordsAt { node, records } in &self.dead_letters {
            let letters = if *records == 1 { "a dead letter" } else { "dead letters" };
            write!(f, "\n{node} made {} {letters}", count(*records))?;
        }
        for RecordsAt { node, records } in &self.forwarded_none {
            write!(f, "\n{node} took {} and forwarded none", count(*records))?;
        }
        if self.is_clear() {
            let records = count(self.records);
            write!(
                f,
                "\nnothing is held back and nothing was dropped; {records} taken since the start"
            )?;
        }
        Ok(())
    }
}

impl Explanation {
    fn write_waiting(&self, waiting: &WaitingNode, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WaitingNode { node, task, waits_for } = waiting;
        write!(f, "\n{node} in task {task} holds ")?;
        let (time, until, held_by) = match waits_for {
            WaitsFor::Time { time, until, held_by } => (time, until, held_by),
            WaitsFor::Calls { rows } => {
                return write!(f, "{} back until calls are answered", count(*rows));
            }
        };
        write!(f, "rows back")?;
        match (time, until) {
            (_, None) => write!(f, " until its input is complete")?,
            (None, Some(until)) => write!(f, " until time {}; it has none yet", moment(*until))?,
            (Some(time), Some(until)) => {
                let left = span(until.saturating_sub(*time));
                let (until, time) = (moment(*until), moment(*time));
                write!(f, " until time {until}; it is at {time}, {left} before")?;
            }
        }
        for HeldBy { task, source } in held_by.iter().take(NAMED_MAX) {
            let text = source_text(source, self.now);
            write!(f, "\n  its time is that of {}, read by task {task}: {text}", source.partition)?;
        }
        match held_by.len().saturating_sub(NAMED_MAX) {
            0 => Ok(()),
            more => write!(f, "\n  and of {more} more"),
        }
    }
}

fn state_text(state: &StreamsState) -> String {
    match state {
        StreamsState::Created => "is about to be started".to_owned(),
        StreamsState::Running => "is running".to_owned(),
        StreamsState::Paused => "is paused: it takes no records until it is resumed".to_owned(),
        StreamsState::Restarting(why) => {
            format!("restarts from its last commit after: {}", shown(why.to_string()))
        }
        StreamsState::Rebalancing => "is having its tasks dealt anew".to_owned(),
        StreamsState::PendingShutdown => "is ending".to_owned(),
        StreamsState::NotRunning => "has ended".to_owned(),
        StreamsState::PendingError(why) => {
            format!("is being stopped by: {}", shown(why.to_string()))
        }
        StreamsState::Error(why) => format!("was stopped by: {}", shown(why.to_string())),
    }
}

fn source_text(source: &SourceStatus, now: Timestamp) -> String {
    let state = match source.state {
        SourceState::Empty => "it is empty".to_owned(),
        SourceState::Idle => "all that is there was read".to_owned(),
        SourceState::Behind(left) => format!("{} left to read", count(left)),
        SourceState::HoldsAhead => "it holds a record that is too far ahead".to_owned(),
        SourceState::NotAssigned => "it is not read here".to_owned(),
    };
    match (source.time, source.since) {
        (Some(time), Some(since)) => {
            let since = span(now.saturating_sub(since).max(0));
            format!("{state}; time {}, for {since}", moment(time))
        }
        _ => state,
    }
}

/// A date, or the number itself where times are counted from nowhere in particular, as in tests: those before 2000.
fn moment(at: Timestamp) -> String {
    const YEAR_2000: Timestamp = 946_684_800_000;
    if at < YEAR_2000 { at.to_string() } else { date_time(at) }
}

/// A time in the largest unit of which there are ten.
fn span(ms: i64) -> String {
    let units = [("days", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)];
    let unit = units.into_iter().find(|(_, length)| ms / length >= 10);
    unit.map_or_else(|| format!("{ms} ms"), |(name, length)| format!("{} {name}", ms / length))
}

fn count(records: u64) -> String {
    if records == 1 { "1 record".to_owned() } else { format!("{records} records") }
}

impl Application {
    /// Tells why nothing comes out, as of the last commit.
    ///
    /// It says which nodes wait for time and which partition holds it back since when, which wait for answers to calls, what
    /// was dropped and why, and where all rows end; or that nothing is in the way.
    #[must_use]
    pub fn explain(&self) -> Explanation {
        self.facts().explain()
    }
}

impl Driver {
    /// Tells why nothing comes out, as it stands now, as [`Application::explain`] does.
    #[must_use]
    pub fn explain(&self) -> Explanation {
        self.facts().explain()
    }
}

//! Makes the nodes of a task, each ready for its first record and with what it saved, and draws the edges between them.

use super::{
    Blueprint, Task,
    ancestry::{Ancestry, Lineage},
    graph::{Action, Edge, NodeSlot},
    positions::{damaged, node_entry},
};
use crate::{
    broken::broken,
    by_index::{ByIndex, TypedIndex},
    node::{Node, NodeIndex, Progress},
    processor::{InitContext, PortSpec, ProcessorError},
    topology::{
        Kind, NodeSpec, Parent, Sender, SinkForm, SinkRecords, SubTopology, TaskId, Topic,
        ends_apart, meets_others,
    },
};
use hashbrown::HashMap;
use headwater_core::{
    metrics::{DropReason, Dropped, Emission},
    ports::state::StateError,
    record::Timestamp,
};
use std::sync::Arc;

impl Blueprint {
    /// A task's nodes; `local` tells the place of each in the task.
    pub(super) fn slots(
        &self,
        task: &mut Task,
        sub: &SubTopology,
        local: &HashMap<usize, NodeIndex>,
    ) -> Result<ByIndex<NodeIndex, NodeSlot>, ProcessorError> {
        let has_input =
            |node| task.inputs.values().any(|input| local.get(&node) == Some(&input.node));
        let ancestry = Ancestry::of(&self.topology, sub, has_input);
        let name_of = |parent: &Parent| Arc::clone(&self.topology.node(parent.node).name);
        let mut slots: Vec<NodeSlot> = Vec::new();
        for (place, node) in sub.nodes.iter().enumerate() {
            let (place, spec) = (NodeIndex::new(place), self.topology.node(*node));
            let Some(Lineage { above, parents }) = ancestry.get(*node) else {
                broken(HAS_ANCESTRY)
            };
            let is_time_carried = above.is_time_carried();
            let is_below_calls = parents.iter().any(|parent| {
                let parent = slots.get(local_of(parent, local).number());
                parent.is_some_and(|parent| parent.is_below_calls || parent.makes_calls())
            });
            let saved = task.take_up(place, &spec.name)?;
            let action = match &spec.kind {
                Kind::Source { .. } => Action::Source,
                Kind::ChildPort { output_time } => Action::Port(*output_time),
                Kind::Processor { make, stores, output_time, .. } => {
                    let (stores, ports) = (self.stores_of(stores, sub), self.ports_of(spec));
                    let moment = task.moment(None);
                    let mut context = InitContext {
                        resources: &mut task.resources,
                        node: place,
                        moment,
                        stores: &stores,
                        ports: &ports,
                        is_time_carried,
                        is_below_calls,
                        meets_others: &|| meets_others(&self.topology, sub, *node),
                        ends_apart: &|| ends_apart(&self.topology, sub, *node),
                        timers: Vec::new(),
                    };
                    let mut processor = make(&mut context)?;
                    load(&mut *processor, &saved.state, &mut context, &spec.name)?;
                    Action::Process(processor, *output_time)
                }
                Kind::Sink { topic, make, .. } => {
                    let form = self.sink_form(topic);
                    Action::Write(make(form), self.sink_records(topic, &spec.name, form, task.id))
                }
            };
            let (progress, emission) = told_by(&action);
            task.resources.metrics[place].emission = emission;
            let sources = usize::from(matches!(action, Action::Source));
            slots.push(NodeSlot {
                name: Arc::clone(&spec.name),
                action,
                topic: topic_of(spec),
                children: Vec::new(),
                ports: Vec::new(),
                stepwise: self.plan.stepwise.contains(node),
                is_time_carried,
                is_below_calls,
                parents: parents.iter().map(name_of).collect(),
                parent_nodes: parents.iter().map(|parent| local_of(parent, local)).collect(),
                caps_time: parents.len() > 1 && above.differs_in_time(),
                caps_by_row: !is_below_calls && ancestry.are_apart(parents),
                parent_times: vec![Timestamp::MIN; parents.len().max(sources)],
                time: Timestamp::MIN,
                passed_time: saved.passed_time,
                progress,
            });
        }
        let mut slots = ByIndex::from(slots);
        connect(&mut slots, sub, &ancestry, local);
        Ok(slots)
    }

    fn sink_form(&self, topic: &Topic) -> SinkForm {
        match topic {
            Topic::External(_) => SinkForm::External,
            Topic::Repartition(_) if self.plan.shared.contains(topic) => SinkForm::Shared,
            Topic::Repartition(_) => SinkForm::Repartition,
        }
    }

    /// What a task's sink called `name` fills.
    fn sink_records(&self, topic: &Topic, name: &str, form: SinkForm, task: TaskId) -> SinkRecords {
        let partitions = self.partitions.get(topic).copied().unwrap_or(1);
        let sender = Sender::new(name, task.partition);
        SinkRecords::new(partitions, sender, form, self.limits.record_bytes_max)
    }

    /// The stores that a node uses: their names and their places in the task.
    fn stores_of(&self, stores: &[usize], sub: &SubTopology) -> Vec<(Arc<str>, usize)> {
        let place = |store: &usize| {
            let name = Arc::clone(&self.topology.store(*store).spec().name);
            match sub.stores.iter().position(|other| other == store) {
                Some(place) => (name, place),
                None => broken("a node's stores are those of its sub-topology"),
            }
        };
        stores.iter().map(place).collect()
    }

    /// The names of a node's children, child ports left out, in the order in which they were added.
    pub(super) fn children_of(&self, node: usize) -> Vec<Arc<str>> {
        let children = self.topology.node(node).children.iter();
        let children = children.map(|child| self.topology.node(*child));
        let own = children.filter(|child| !matches!(child.kind, Kind::ChildPort { .. }));
        own.map(|child| Arc::clone(&child.name)).collect()
    }

    /// The stores that are connected to a node.
    pub(super) fn connected_to(&self, node: usize, sub: &SubTopology) -> Vec<(Arc<str>, usize)> {
        match &self.topology.node(node).kind {
            Kind::Processor { stores, .. } => self.stores_of(stores, sub),
            Kind::Source { .. } | Kind::ChildPort { .. } | Kind::Sink { .. } => Vec::new(),
        }
    }

    /// A node's child ports, in the order in which they were added.
    fn ports_of(&self, spec: &NodeSpec) -> Vec<PortSpec> {
        let children = spec.children.iter().map(|child| self.topology.node(*child));
        let ports = children.filter(|child| matches!(child.kind, Kind::ChildPort { .. }));
        let port = |port: &NodeSpec| match port.output {
            Some(rows) => (Arc::clone(&port.name), rows),
            None => broken("a child port forwards rows"),
        };
        ports.map(port).collect()
    }
}

const HAS_ANCESTRY: &str = "each node of a sub-topology has its ancestry";

/// Whether a node has anything left to forward as it begins, and what it lets out.
fn told_by(action: &Action) -> (Progress, Option<Emission>) {
    match action {
        Action::Process(processor, _) => (processor.progress(), processor.emission()),
        Action::Source | Action::Port(_) | Action::Write(..) => (Progress::Done, None),
    }
}

/// Gives a node back what it saved.
fn load(
    node: &mut dyn Node,
    saved: &[u8],
    context: &mut InitContext<'_>,
    name: &str,
) -> Result<(), ProcessorError> {
    if saved.is_empty() {
        return Ok(());
    }
    let loaded = node.load(saved, context);
    if matches!(loaded, Err(ProcessorError::Damaged)) {
        return Err(damaged(context.resources.partition, &node_entry(name)).into());
    }
    loaded
}

fn topic_of(spec: &NodeSpec) -> Option<Topic> {
    match &spec.kind {
        Kind::Source { topic, .. } | Kind::Sink { topic, .. } => Some(topic.clone()),
        Kind::Processor { .. } | Kind::ChildPort { .. } => None,
    }
}

/// Draws the edges, each parent's in the order in which its children were added.
fn connect(
    slots: &mut ByIndex<NodeIndex, NodeSlot>,
    sub: &SubTopology,
    ancestry: &Ancestry,
    local: &HashMap<usize, NodeIndex>,
) {
    for (child, node) in slots.indexes().zip(&sub.nodes) {
        let is_port = matches!(slots[child].action, Action::Port(_));
        let Some(Lineage { parents, .. }) = ancestry.get(*node) else { broken(HAS_ANCESTRY) };
        for (number, parent) in parents.iter().enumerate() {
            let slot = &mut slots[local_of(parent, local)];
            let edge = Edge { child, parent: number, port: parent.port };
            if is_port { slot.ports.push(edge) } else { slot.children.push(edge) }
        }
    }
}

/// The place of a parent in the task of its child.
fn local_of(parent: &Parent, local: &HashMap<usize, NodeIndex>) -> NodeIndex {
    match local.get(&parent.node) {
        Some(place) => *place,
        None => broken("a parent lies in the sub-topology of its child"),
    }
}

impl Task {
    /// What a node saved at the last commit; the count of records it has dropped goes on from there.
    fn take_up(&mut self, place: NodeIndex, name: &str) -> Result<Saved, StateError> {
        let entry = node_entry(name);
        let saved = match self.saved.get(&entry) {
            Some(bytes) => Saved::read(bytes).ok_or_else(|| damaged(self.id.partition, &entry))?,
            None => Saved {
                dropped: Dropped::default(),
                passed_time: Timestamp::MIN,
                state: Vec::new(),
            },
        };
        self.resources.metrics[place].dropped = saved.dropped;
        Ok(saved)
    }
}

/// What is kept of a node with a commit.
pub(super) struct Saved {
    /// Records that it has dropped, in all runs.
    pub(super) dropped: Dropped,
    /// The operator time that it passed on last, where time begins anew with it.
    pub(super) passed_time: Timestamp,
    /// What it saved itself.
    pub(super) state: Vec<u8>,
}

impl Saved {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (dropped, rest) = bytes.split_at_checked(DropReason::ALL.len() * 8)?;
        let mut counts = [0; DropReason::ALL.len()];
        for (count, bytes) in counts.iter_mut().zip(dropped.as_chunks::<8>().0) {
            *count = u64::from_be_bytes(*bytes);
        }
        let (passed_time, state) = rest.split_first_chunk::<8>()?;
        let passed_time = Timestamp::from_be_bytes(*passed_time);
        let dropped = Dropped::from_counts(counts);
        Some(Self { dropped, passed_time, state: state.to_vec() })
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let Self { dropped, passed_time, state } = self;
        let mut bytes: Vec<u8> =
            dropped.iter().flat_map(|(_, count)| count.to_be_bytes()).collect();
        bytes.extend_from_slice(&passed_time.to_be_bytes());
        bytes.extend_from_slice(state);
        bytes
    }
}

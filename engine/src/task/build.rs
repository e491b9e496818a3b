//! Makes a task from its part of a topology.

use super::{
    BadRecord, Task,
    carried::TimeVector,
    graph::{Action, Graph, Slot},
    input::Input,
};
use crate::{
    processor::{Env, InitContext, ProcessorError},
    store::{KeyValueStore, StoreBuilder, StoreKey},
    topology::{Kind, Plan, SinkRecords, TaskId, Topic, Topology},
};
use hashbrown::HashMap;
use headwater_core::{
    ports::state::{Shard, StateError, StoreSpec},
    record::{RecordSetBuilder, Timestamp, TopicName, TopicPartition},
    serde::{Bytes, Utf8},
};
use std::{collections::BTreeMap, sync::Arc};

/// Opens a store's shard, restored to the end of its changelog.
pub(crate) type OpenShard<'a> =
    dyn FnMut(&StoreSpec, u32) -> Result<Arc<dyn Shard>, StateError> + 'a;

/// All that tasks of one application are made from.
#[derive(Debug, Clone)]
pub(crate) struct Blueprint {
    pub(crate) topology: Topology,
    pub(crate) plan: Plan,
    pub(crate) application_id: Arc<str>,
    /// The number of partitions of every topic.
    pub(crate) partitions: BTreeMap<Topic, u32>,
    pub(crate) bad_record: BadRecord,
    /// The most rows that one step decodes.
    pub(crate) rows_max: usize,
}

impl Blueprint {
    /// The name that a topic has in the log.
    pub(crate) fn topic_name(&self, topic: &Topic) -> TopicName {
        match topic {
            Topic::External(name) => name.clone(),
            Topic::Repartition(name) => self.internal(&format!("{name}-repartition")),
        }
    }

    /// The name of a store's changelog.
    pub(crate) fn changelog_name(&self, store: &str) -> TopicName {
        self.internal(&format!("{store}-changelog"))
    }

    /// The name of the dead-letter topic.
    pub(crate) fn dead_letters_name(&self) -> TopicName {
        self.internal("dead-letters")
    }

    /// Every task, by level.
    pub(crate) fn tasks(&self) -> Vec<TaskId> {
        let mut tasks = Vec::new();
        for (sub, number) in self.plan.subs.iter().zip(0..) {
            tasks.extend((0..self.width(sub)).map(|partition| TaskId { sub: number, partition }));
        }
        tasks
    }

    /// How many tasks a sub-topology has: as many as its widest input has partitions.
    pub(crate) fn width(&self, sub: &crate::topology::SubTopology) -> u32 {
        crate::topology::sources(&self.topology, sub)
            .filter_map(|t| self.partitions.get(t))
            .max()
            .copied()
            .unwrap_or(0)
    }

    /// The stores of a sub-topology, its operators' positions last.
    pub(crate) fn stores(&self, sub: u32) -> Vec<StoreBuilder> {
        let Some(plan) = self.plan.subs.get(sub as usize) else { return Vec::new() };
        let stores =
            plan.stores.iter().filter_map(|store| self.topology.stores.get(*store).cloned());
        let positions =
            KeyValueStore::builder(&format!("positions-{sub}"), Arc::new(Utf8), Arc::new(Bytes));
        stores.chain([positions]).collect()
    }

    /// How many tasks write a managed topic.
    fn writers(&self, topic: &Topic) -> usize {
        let writes = |node: &usize| {
            self.topology
                .nodes
                .get(*node)
                .is_some_and(|n| matches!(&n.kind, Kind::Sink { topic: t, .. } if t == topic))
        };
        let subs = self.plan.subs.iter().filter(|sub| sub.nodes.iter().any(writes));
        subs.map(|sub| self.width(sub) as usize).sum()
    }

    fn internal(&self, name: &str) -> TopicName {
        TopicName::new(format!("{}-{name}", self.application_id))
            .expect("application id and names were checked at start")
    }

    /// Makes a task: its graph, its stores as they were last committed, its inputs where they were last committed.
    pub(crate) fn make(
        &self,
        id: TaskId,
        wall_clock: Timestamp,
        open: &mut OpenShard<'_>,
        committed: &mut dyn FnMut(&TopicPartition) -> (Option<i64>, i64),
    ) -> Result<Task, ProcessorError> {
        let missing =
            || ProcessorError::Topology(format!("there is no sub-topology for task {id}"));
        let sub = self.plan.subs.get(id.sub as usize).ok_or_else(missing)?;
        let builders = self.stores(id.sub);
        let mut stores = Vec::new();
        for builder in &builders {
            stores.push(builder.make(open(builder.spec(), id.partition)?));
        }
        let local: HashMap<usize, usize> =
            sub.nodes.iter().enumerate().map(|(local, node)| (*node, local)).collect();
        let inputs = self.inputs(id, &local, committed);
        let slots: Vec<Slot> =
            sub.nodes.iter().filter_map(|node| self.slot(*node, id, (&local, &inputs))).collect();
        let mut task = Task {
            id,
            level: sub.level,
            env: Env {
                dropped: vec![0; slots.len()],
                dead: Vec::new(),
                punctuations: Vec::new(),
                raw: None,
                origin: 0,
                node: 0,
                stream_time: Timestamp::MIN,
                wall_clock,
                carried: None,
                commit_requested: false,
                partition: id.partition,
                stores,
            },
            graph: Graph { slots, times: vec![Timestamp::MIN; inputs.len()] },
            positions: StoreKey::new(builders.len() - 1),
            saved: HashMap::new(),
            changelogs: builders
                .iter()
                .map(|store| {
                    TopicPartition::new(self.changelog_name(&store.spec().name), id.partition)
                })
                .collect(),
            inputs,
            dead: RecordSetBuilder::default(),
            bad_record: self.bad_record,
            rows_max: self.rows_max,
            idle_told: false,
            finished: false,
            records: 0,
        };
        self.init(&mut task, sub)?;
        Ok(task)
    }

    fn inputs(
        &self,
        id: TaskId,
        local: &HashMap<usize, usize>,
        committed: &mut dyn FnMut(&TopicPartition) -> (Option<i64>, i64),
    ) -> Vec<Input> {
        let mut inputs = Vec::new();
        let mut nodes: Vec<_> = local.iter().collect();
        nodes.sort_unstable();
        for (node, local) in nodes {
            let Some(Kind::Source { topic, make }) =
                self.topology.nodes.get(*node).map(|n| &n.kind)
            else {
                continue;
            };
            if self.partitions.get(topic).is_none_or(|count| id.partition >= *count) {
                continue;
            }
            let vector = matches!(topic, Topic::Repartition(_))
                .then(|| TimeVector::new(self.writers(topic)));
            let partition = TopicPartition::new(self.topic_name(topic), id.partition);
            let from = committed(&partition);
            inputs.push(Input::new(*local, (topic.clone(), partition), make(), vector, from));
        }
        inputs
    }

    fn slot(
        &self,
        node: usize,
        id: TaskId,
        (local, inputs): (&HashMap<usize, usize>, &[Input]),
    ) -> Option<Slot> {
        let spec = self.topology.nodes.get(node)?;
        let (action, topic) = match &spec.kind {
            Kind::Source { topic, .. } => (Action::Pass, Some(topic.clone())),
            Kind::Processor { make, .. } => (Action::Process(make()), None),
            Kind::Sink { topic, make } => {
                let count = self.partitions.get(topic).copied().unwrap_or(1);
                (Action::Write(make(), SinkRecords::new(count, id)), Some(topic.clone()))
            }
        };
        Some(Slot {
            name: Arc::clone(&spec.name),
            action,
            topic,
            children: spec.children.iter().filter_map(|child| local.get(child).copied()).collect(),
            stepwise: self.plan.stepwise.contains(&node),
            carried_by: self.carried_by(node, local, inputs),
        })
    }

    /// The inputs above a node, if they all are managed topics.
    fn carried_by(
        &self,
        node: usize,
        local: &HashMap<usize, usize>,
        inputs: &[Input],
    ) -> Vec<usize> {
        let (mut open, mut above) = (vec![node], Vec::new());
        while let Some(node) = open.pop() {
            let Some(spec) = self.topology.nodes.get(node) else { continue };
            open.extend(&spec.parents);
            if matches!(spec.kind, Kind::Source { .. }) {
                let place = inputs.iter().position(|input| local.get(&node) == Some(&input.node));
                match place
                    .filter(|place| inputs.get(*place).is_some_and(|input| input.vector.is_some()))
                {
                    Some(place) => above.push(place),
                    None => return Vec::new(),
                }
            }
        }
        above
    }

    /// Runs every processor's `init` and gives it back what it saved.
    fn init(
        &self,
        task: &mut Task,
        sub: &crate::topology::SubTopology,
    ) -> Result<(), ProcessorError> {
        task.read_positions()?;
        for (local, node) in sub.nodes.iter().enumerate() {
            let Some(Kind::Processor { stores, .. }) =
                self.topology.nodes.get(*node).map(|n| &n.kind)
            else {
                continue;
            };
            let place = |store: &usize| {
                let name = Arc::clone(&self.topology.stores.get(*store)?.spec().name);
                Some((name, sub.stores.iter().position(|s| s == store)?))
            };
            let stores: Vec<(Arc<str>, usize)> = stores.iter().filter_map(place).collect();
            task.init_node(local, &stores)?;
        }
        Ok(())
    }
}

impl Task {
    fn init_node(
        &mut self,
        node: usize,
        stores: &[(Arc<str>, usize)],
    ) -> Result<(), ProcessorError> {
        let Some(Slot { name, action: Action::Process(processor), .. }) =
            self.graph.slots.get_mut(node)
        else {
            return Ok(());
        };
        self.env.node = node;
        let mut context = InitContext { env: &mut self.env, stores };
        processor.init(&mut context)?;
        if let Some((dropped, saved)) =
            self.saved.get(&format!("node {name}")).and_then(|s| s.split_first_chunk::<8>())
        {
            if !saved.is_empty() {
                processor.load(saved, &mut context)?;
            }
            if let Some(place) = self.env.dropped.get_mut(node) {
                *place = u64::from_be_bytes(*dropped);
            }
        }
        Ok(())
    }
}

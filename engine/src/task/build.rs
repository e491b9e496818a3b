//! Makes a task from its part of a topology.

use super::{
    Positions, Taps, Task,
    commit::{Changelog, ChangelogKind},
    graph::Graph,
    held::HeldRecords,
    idling::Idling,
    input::{Input, InputIndex},
    letters::Letters,
    measures::TaskTimes,
    pace::Pace,
    positions::time_entry,
    time_vector::TimeVector,
};
use crate::{
    broken::broken,
    by_index::{ByIndex, TypedIndex},
    calls::Caller,
    error_handlers::ErrorHandlers,
    node::{Measures, NodeIndex, Now, Resources},
    processor::{OwnMetrics, ProcessorError, Settings},
    store::{OpenGlobal, OpenIterators, PartIterators, StateStore, StoreBuilder, StoreId},
    topology::{
        BuiltInExtractor, DynamicOutputs, Kind, OffsetReset, PartitionCounts, Plan, Sender,
        SubTopology, TaskId, Topic, Topology, sources, topics_above,
    },
};
use hashbrown::HashMap;
use headwater_core::{
    metrics::NodeMetrics,
    ports::{
        log::{Limits, Log, Offsets},
        state::Shard,
    },
    record::{InvalidTopicName, Timestamp, TopicName, TopicPartition},
    time::Clock,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// What a part of a commit has at most, however large a commit may be: it lies in memory.
const COMMIT_PART_BYTES: usize = 32 << 20;

/// Holds a time mark, the headers of a dead letter, and what most nodes save.
const RECORD_BYTES_MIN: usize = 512;

/// What a task resumes after.
pub(crate) struct LastCommit {
    /// Its stores, each restored to the end of its changelog, in the order of its sub-topology.
    pub(crate) shards: Vec<Arc<dyn Shard>>,
    /// The partitions that it reads.
    pub(crate) inputs: BTreeMap<TopicPartition, InputOffsets>,
    /// Whether this process runs all tasks of the application.
    pub(crate) is_whole: bool,
}

/// Where an input was committed, if it was, and what the log holds of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InputOffsets {
    /// Where reading goes on or begins.
    pub(crate) from: i64,
    pub(crate) committed: Option<i64>,
    pub(crate) held: Offsets,
}

/// What a task is observed by.
#[derive(Debug, Clone)]
pub(crate) struct Instruments {
    pub(crate) clock: Arc<dyn Clock>,
    /// What calls are made with, of each partition.
    pub(crate) caller: Caller,
    pub(crate) taps: Arc<Taps>,
    /// For sinks that choose topics themselves.
    pub(crate) log: Arc<dyn Log>,
    pub(crate) globals: Arc<[OpenGlobal]>,
    /// Where iterators over stores are counted, if they are.
    pub(crate) iterators: Option<Arc<OpenIterators>>,
}

/// All that tasks of one application are made from.
#[derive(Debug, Clone)]
pub(crate) struct Blueprint {
    pub(crate) topology: Topology,
    pub(crate) plan: Plan,
    pub(crate) application_id: Arc<str>,
    /// What else processors may ask of the configuration.
    pub(crate) settings: Arc<Settings>,
    /// The number of partitions of every topic.
    pub(crate) partitions: BTreeMap<Topic, u32>,
    /// How many partitions the topics of global stores have.
    pub(crate) globals: BTreeMap<TopicName, u32>,
    pub(crate) error_handlers: ErrorHandlers,
    /// Where the times are from of sources that do not say so.
    pub(crate) default_timestamp_extractor: BuiltInExtractor,
    /// Where topics are read from whose offsets were not committed, if their sources do not say so.
    pub(crate) default_offset_reset: OffsetReset,
    /// How many records of a partition are held at a time at most, if that is bounded.
    pub(crate) buffered_records: Option<usize>,
    /// The topic of dead letters.
    pub(crate) dead_letters: TopicName,
    /// The most rows that one step decodes.
    pub(crate) rows_max: usize,
    /// How long records wait for an input that is at its end.
    pub(crate) max_task_idle: Option<Duration>,
    /// How long a task must have had no records before rows that it holds back hold no time back.
    pub(crate) source_idle_timeout: Option<Duration>,
    /// How large records and commits of the log may be.
    pub(crate) limits: Limits,
}

impl Blueprint {
    /// How much may be on its way to a commit before that is made, and in repartition topics beside it, in bytes: caches
    /// that are flushed add as much again, for each sink below them.
    pub(crate) fn commit_part_bytes(&self) -> usize {
        (self.limits.commit_bytes_max / 8).min(COMMIT_PART_BYTES)
    }

    /// How large the records that the application writes for itself may have to be.
    pub(crate) fn record_bytes_min(&self) -> usize {
        let topics = self.partitions.keys().filter(|topic| matches!(topic, Topic::Repartition(_)));
        let vectors = topics.map(|topic| {
            let entry = time_entry(&self.topic_name(topic));
            size_of::<u32>() + entry.len() + TimeVector::bytes_max(self.writers(topic).len())
        });
        vectors.max().unwrap_or(0).max(RECORD_BYTES_MIN)
    }

    /// Where a topic is read from if no offset of it was committed.
    pub(crate) fn offset_reset(&self, topic: &TopicName) -> OffsetReset {
        let is_external = self.partitions.contains_key(&Topic::External(topic.clone()));
        let mut rebuilt_from = self.topology.store_sources.values().map(|source| &source.topic);
        let by_default = if is_external && rebuilt_from.all(|source| source != topic) {
            self.default_offset_reset
        } else {
            OffsetReset::Earliest
        };
        self.topology.offset_resets.get(topic).copied().unwrap_or(by_default)
    }

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

    /// What a store's part for a partition is rebuilt from.
    pub(crate) fn changelog(&self, store: &StoreBuilder, partition: u32) -> Changelog {
        let name = Arc::clone(&store.spec().name);
        let (topic, kind) = match self.topology.store_sources.get(&name) {
            Some(source) => (source.topic.clone(), ChangelogKind::Source),
            None if store.is_logged() => (self.changelog_name(&name), ChangelogKind::Own),
            None => (self.changelog_name(&name), ChangelogKind::None),
        };
        Changelog { store: name, partition: TopicPartition::new(topic, partition), kind }
    }

    /// The partition of the changelog of what tasks must not forget. No store's changelog is called so.
    pub(crate) fn positions_changelog(&self) -> TopicPartition {
        TopicPartition::new(self.internal("positions"), 0)
    }

    /// The sub-topology of a task.
    pub(crate) fn sub(&self, id: TaskId) -> &SubTopology {
        let sub = self.plan.subs.get(id.sub as usize);
        sub.unwrap_or_else(|| broken("a task's sub-topology is one of its plan"))
    }

    /// The name of the dead-letter topic.
    pub(crate) fn dead_letters_name(&self) -> TopicName {
        self.dead_letters.clone()
    }

    /// Every task, by level.
    pub(crate) fn tasks(&self) -> Vec<TaskId> {
        let mut tasks = Vec::new();
        for (sub, number) in self.plan.subs.iter().zip(0..) {
            tasks.extend((0..self.width(sub)).map(|partition| TaskId { sub: number, partition }));
        }
        tasks
    }

    /// The partitions that a task reads.
    pub(crate) fn inputs_of(&self, id: TaskId) -> Vec<TopicPartition> {
        let topics = sources(&self.topology, self.sub(id));
        let read = topics.filter(|topic| self.partitions.get(topic) > Some(&id.partition));
        read.map(|topic| TopicPartition::new(self.topic_name(topic), id.partition)).collect()
    }

    /// How many tasks a sub-topology has: as many as its widest input has partitions.
    pub(crate) fn width(&self, sub: &SubTopology) -> u32 {
        sources(&self.topology, sub)
            .filter_map(|t| self.partitions.get(t))
            .max()
            .copied()
            .unwrap_or(0)
    }

    /// How many partitions each topic has that is read, by its name in the log.
    pub(crate) fn partitions_read(&self) -> PartitionCounts {
        let topics = self.plan.subs.iter().flat_map(|sub| sources(&self.topology, sub));
        self.counted(topics)
    }

    /// The same of the topics that feed each store: those whose records reach a node that uses it.
    pub(crate) fn partitions_fed(&self) -> BTreeMap<String, PartitionCounts> {
        let mut fed: BTreeMap<String, PartitionCounts> = BTreeMap::new();
        for (node, spec) in self.topology.nodes.iter().enumerate() {
            let Kind::Processor { stores, .. } = &spec.kind else { continue };
            for store in stores {
                let above = self.counted(topics_above(&self.topology, node));
                fed.entry(self.topology.store(*store).spec().name.to_string())
                    .or_default()
                    .extend(above);
            }
        }
        fed
    }

    fn counted<'t>(&self, topics: impl IntoIterator<Item = &'t Topic>) -> PartitionCounts {
        let count =
            |topic| Some((self.topic_name(topic).to_string(), *self.partitions.get(topic)?));
        topics.into_iter().filter_map(count).collect()
    }

    /// The sub-topology that has the store called `name`, and the store.
    pub(crate) fn sub_of(&self, name: &str) -> Option<(u32, &StoreBuilder)> {
        let store = self.topology.stores.iter().position(|it| &*it.spec().name == name)?;
        let (sub, _) = (0..).zip(&self.plan.subs).find(|(_, sub)| sub.stores.contains(&store))?;
        Some((sub, self.topology.stores.get(store)?))
    }

    /// The stores of a sub-topology.
    pub(crate) fn stores(&self, sub: &SubTopology) -> Vec<StoreBuilder> {
        let stores = sub.stores.iter();
        stores.map(|store| self.topology.store(*store).clone()).collect()
    }

    /// How many partitions the topic of a global store has.
    pub(crate) fn global_partitions(&self, topic: &TopicName) -> u32 {
        self.globals.get(topic).copied().unwrap_or(0)
    }

    /// Who writes a repartition topic.
    fn writers(&self, topic: &Topic) -> BTreeSet<Sender> {
        let mut writers = BTreeSet::new();
        for sub in &self.plan.subs {
            for node in sub.nodes.iter().map(|node| self.topology.node(*node)) {
                if matches!(&node.kind, Kind::Sink { topic: to, .. } if to == topic) {
                    let writer = |partition| Sender::new(&node.name, partition);
                    writers.extend((0..self.width(sub)).map(writer));
                }
            }
        }
        writers
    }

    fn internal(&self, name: &str) -> TopicName {
        let name = TopicName::new(format!("{}-{name}", self.application_id));
        name.unwrap_or_else(|_| broken("internal names were checked at the start"))
    }

    /// Checks that each name makes those of its internal topics: with the application's id it may be too long.
    pub(crate) fn check_names(&self) -> Result<(), InvalidTopicName> {
        let stores = self.plan.subs.iter().flat_map(|sub| self.stores(sub));
        let changelogs = stores.map(|store| format!("{}-changelog", store.spec().name));
        let topics = self.partitions.keys().filter_map(|topic| match topic {
            Topic::Repartition(name) => Some(format!("{name}-repartition")),
            Topic::External(_) => None,
        });
        let mut names = changelogs.chain(topics);
        names.try_for_each(|name| {
            TopicName::new(format!("{}-{name}", self.application_id)).map(drop)
        })
    }

    /// Makes a task: its graph, its stores as they were last committed, its inputs where they were last committed.
    pub(crate) fn make(
        &self,
        id: TaskId,
        instruments: &Instruments,
        last: LastCommit,
        positions: &Positions,
    ) -> Result<Task, ProcessorError> {
        let sub = self.sub(id);
        let builders = self.stores(sub);
        if builders.len() != last.shards.len() {
            broken("a task is given a shard for each of its stores");
        }
        let places = sub.nodes.iter().enumerate();
        let local: HashMap<usize, NodeIndex> =
            places.map(|(place, node)| (*node, NodeIndex::new(place))).collect();
        let inputs = self.inputs(id, &local, &last);
        let shards = builders.iter().zip(last.shards);
        let record_bytes_max = self.limits.record_bytes_max;
        let make = |(builder, shard): (&StoreBuilder, _)| {
            let mut store = builder.make(shard, id.partition);
            store.keep_within(record_bytes_max);
            store.time_by(&instruments.clock);
            if let Some(iterators) = &instruments.iterators {
                let (name, partition) = (Arc::clone(&builder.spec().name), id.partition);
                store.count_iterators(&PartIterators::new(iterators, StoreId { name, partition }));
            }
            store
        };
        let stores = shards.map(make).collect();
        let mut task = Task {
            id,
            level: sub.level,
            resources: self.resources(id, sub, instruments, stores),
            graph: Graph::new(Vec::new().into(), self.rows_max, Arc::default()),
            stream_time: Timestamp::MIN,
            now: Now::on(&*instruments.clock),
            saved: positions.of(id.partition)?,
            changelogs: builders.iter().map(|store| self.changelog(store, id.partition)).collect(),
            inputs,
            letters: Letters::new(record_bytes_max),
            error_handlers: self.error_handlers.clone(),
            rows_max: self.rows_max,
            run_pace: Pace::of_runs(self.limits.commit_bytes_max),
            chunk_pace: Pace::of_chunks(self.limits.commit_bytes_max),
            tellers: Vec::new(),
            idling: Idling::new(self.max_task_idle, self.source_idle_timeout),
            taken: None,
            ended: Vec::new().into(),
            is_caught_up: false,
            forwarded: 0,
            records: 0,
            times: TaskTimes::default(),
        };
        task.take_up_inputs()?;
        let slots = self.slots(&mut task, sub, &local)?;
        task.graph = Graph::new(slots, self.rows_max, Arc::clone(&instruments.taps));
        task.ended = ByIndex::filled(false, task.graph.slots.len());
        task.find_tellers();
        task.find_families();
        task.restore_times();
        Ok(task)
    }

    /// What a task lends to its nodes.
    fn resources(
        &self,
        id: TaskId,
        sub: &SubTopology,
        instruments: &Instruments,
        stores: Vec<Box<dyn StateStore>>,
    ) -> Resources {
        Resources {
            metrics: ByIndex::filled(NodeMetrics::default(), sub.nodes.len()),
            measures: Measures::of_nodes(sub.nodes.len()),
            clock: Arc::clone(&instruments.clock),
            dead: Vec::new(),
            punctuations: BTreeMap::new(),
            scheduled: 0,
            timers: Vec::new(),
            commit_requested: false,
            forwarding: Vec::new(),
            application_id: Arc::clone(&self.application_id),
            settings: Arc::clone(&self.settings),
            own_metrics: OwnMetrics::default(),
            task: id,
            children: sub.nodes.iter().map(|node| self.children_of(*node)).collect(),
            connected: sub.nodes.iter().map(|node| self.connected_to(*node, sub)).collect(),
            no_child: None,
            changed: false,
            partition: id.partition,
            record_bytes_max: self.limits.record_bytes_max,
            globals: Arc::clone(&instruments.globals),
            caller: Caller { partition: id.partition, ..instruments.caller.clone() },
            dynamic_outputs: DynamicOutputs::new(
                Arc::clone(&instruments.log),
                id.partition,
                self.limits.record_bytes_max,
            ),
            stores,
        }
    }

    fn inputs(
        &self,
        id: TaskId,
        local: &HashMap<usize, NodeIndex>,
        last: &LastCommit,
    ) -> ByIndex<InputIndex, Input> {
        let mut inputs = Vec::new();
        let mut nodes: Vec<_> = local.iter().collect();
        nodes.sort_unstable();
        for (node, local) in nodes {
            let Kind::Source { topic, make, max_ahead, .. } = &self.topology.node(*node).kind
            else {
                continue;
            };
            if self.partitions.get(topic).is_none_or(|count| id.partition >= *count) {
                continue;
            }
            let vector = matches!(topic, Topic::Repartition(_)).then(|| {
                let vector = TimeVector::new(self.writers(topic));
                if last.is_whole { vector.local() } else { vector }
            });
            let partition = TopicPartition::new(self.topic_name(topic), id.partition);
            let Some(offsets) = last.inputs.get(&partition) else {
                broken("a task is given the offsets of what it reads")
            };
            let topic = topic.clone();
            let is_fed_back = self.sub(id).fed_back.contains(&topic);
            let record_bytes_max = self.limits.record_bytes_max;
            let held =
                max_ahead.map(|bound| HeldRecords::new(bound, &partition.topic, record_bytes_max));
            let mut decoder = make();
            if vector.is_none() {
                decoder.extract_by_default(self.default_timestamp_extractor);
            }
            // What others have sent is in memory as it is, and is taken whole.
            let records_max = self.buffered_records.filter(|_| vector.is_none());
            let mut input = Input::new(*local, topic, partition, decoder, vector, *offsets);
            input.records_max = records_max.unwrap_or(usize::MAX);
            input.held = held;
            input.is_fed_back = is_fed_back;
            inputs.push(input);
        }
        inputs.into()
    }
}

//! A task's part of a commit: outputs, changelog records, source offsets and operators' positions.

use super::{
    Task,
    graph::{Action, NodeSlot},
    held::{HeldChange, HeldRecords},
    input::Input,
    letters::LetterSets,
    measures::{Measured, OwnCounted, TaskCounts},
    nodes::Saved,
    positions::{
        Entry, ahead_entry, damaged, held_entries, held_entry, node_entry, partition_time_entry,
        store_entry, stream_time_entry, time_entry,
    },
    status::TaskStatus,
};
use crate::{
    node::Event,
    processor::ProcessorError,
    store::StoreCounts,
    topology::{MaxAhead, SinkRecords, TaskId, Topic},
};
use hashbrown::HashMap;
use headwater_core::{
    metrics::{Dropped, NodeMetrics},
    ports::{log::Append, state::StateError},
    record::{RecordSet, Timestamp, TopicName, TopicPartition},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Where the changes of a task's part of a store go.
#[derive(Debug, Clone)]
pub(crate) struct Changelog {
    pub(crate) store: Arc<str>,
    pub(crate) partition: TopicPartition,
    pub(crate) kind: ChangelogKind,
}

/// How a store can be rebuilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangelogKind {
    /// From a topic that its changes are written to.
    Own,
    /// From the topic that its task reads it from.
    Source,
    /// Not at all.
    None,
}

/// What one store changed.
#[derive(Debug)]
pub(crate) struct ChangelogPart {
    pub(crate) changelog: Changelog,
    pub(crate) records: Arc<RecordSet>,
    pub(crate) expire_below: Option<Vec<u8>>,
    pub(crate) position: PartPosition,
}

/// Where the state stands in a changelog once it has such a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PartPosition {
    /// The part is to be appended.
    Unwritten,
    /// One past the `count` records of the last of its appends, the one of this number in the log's commit.
    AfterAppend { number: usize, count: i64 },
    /// Known beforehand: of what is written to no changelog.
    At(i64),
}

/// How far a task has taken a partition of a repartition topic.
#[derive(Debug)]
pub(crate) struct ConsumedOffset {
    pub(crate) topic: Topic,
    pub(crate) partition: u32,
    /// One past the last record taken.
    pub(crate) offset: i64,
}

/// What one task gives to a commit, and what others want to know of it.
#[derive(Debug)]
pub(crate) struct TaskCommit {
    pub(crate) task: TaskId,
    /// The records for external topics.
    pub(crate) outputs: Vec<Append>,
    pub(crate) dead_letters: LetterSets,
    pub(crate) changes: Vec<ChangelogPart>,
    /// What it must not forget, as far as that has changed.
    pub(crate) entries: Vec<Entry>,
    /// Where its inputs stand, those that have moved.
    pub(crate) offsets: Vec<(TopicPartition, i64)>,
    /// Where all of its inputs stand.
    pub(crate) positions: BTreeMap<TopicPartition, i64>,
    pub(crate) consumed: Vec<ConsumedOffset>,
    /// What each node has counted, by its name.
    pub(crate) nodes: BTreeMap<Arc<str>, NodeMetrics>,
    /// What its processors count themselves.
    pub(crate) own_metrics: Vec<OwnCounted>,
    /// What was measured since the commit before.
    pub(crate) measured: Vec<Measured>,
    pub(crate) counts: TaskCounts,
    /// What each of its stores was asked for.
    pub(crate) stores: Vec<(Arc<str>, StoreCounts)>,
    /// Where its inputs are, and what its nodes hold back.
    pub(crate) status: TaskStatus,
}

impl Task {
    /// Whether what it takes from now on is the last before a commit.
    pub(crate) fn set_near_commit(&mut self, is_near: bool) {
        self.graph.is_near_commit = is_near;
    }

    /// Has every operator forward what its cache of updates holds back: the last step before a commit.
    pub(crate) fn flush(&mut self) -> Result<(), ProcessorError> {
        // What a flush makes nodes below forward comes before those are flushed, so that it belongs to this commit; but what
        // is more than a chunk, or was left before, to the next.
        let mut forwards = !self.graph.is_pending();
        for node in self.graph.slots.indexes() {
            let moment = self.moment(None);
            self.graph.raise(node, Event::Flush, &mut self.resources, moment)?;
            forwards = forwards && self.forward_more()?;
        }
        self.write_dead_letters(None)
    }

    /// The records for external topics so far.
    pub(crate) fn outputs(&mut self) -> Vec<Append> {
        let mut outputs = Vec::new();
        for slot in self.graph.slots.values_mut() {
            if let (Action::Write(_, records), Some(Topic::External(topic))) =
                (&mut slot.action, &slot.topic)
            {
                take_output(topic, records, &mut outputs);
            }
        }
        for (topic, mut records) in self.resources.dynamic_outputs.take() {
            take_output(&topic, &mut records, &mut outputs);
        }
        outputs
    }

    /// All that belongs to commit `epoch`; what happens from now on belongs to the next.
    pub(crate) fn collect(&mut self, epoch: u64) -> Result<TaskCommit, ProcessorError> {
        self.resources.commit_requested = false;
        self.resources.changed = false;
        let mut commit = TaskCommit {
            task: self.id,
            entries: self.changed_entries(),
            outputs: self.outputs(),
            dead_letters: self.letters.take()?,
            changes: Vec::new(),
            offsets: Vec::new(),
            positions: self.positions(),
            consumed: self.consumed(),
            nodes: self.metrics().map(|(node, metrics)| (Arc::clone(node), metrics)).collect(),
            own_metrics: self.own_metrics(),
            measured: self.take_measured(),
            counts: self.counts(),
            stores: Vec::new(),
            status: self.status(),
        };
        for input in self.inputs.values_mut() {
            if input.committed != Some(input.consumed) {
                input.committed = Some(input.consumed);
                commit.offsets.push((input.partition.clone(), input.consumed));
            }
        }
        for (store, changelog) in self.resources.stores.iter_mut().zip(&self.changelogs) {
            let changes = store.commit(epoch)?;
            if !changes.records.is_empty() || changes.expire_below.is_some() {
                let position = match changelog.kind {
                    ChangelogKind::Own => PartPosition::Unwritten,
                    ChangelogKind::Source => {
                        let position = commit.positions.get(&changelog.partition);
                        position.map_or(PartPosition::Unwritten, |at| PartPosition::At(*at))
                    }
                    ChangelogKind::None => {
                        let (name, bytes) = (store_entry(&changelog.store), epoch.to_be_bytes());
                        let (partition, bytes) = (self.id.partition, Some(bytes.to_vec()));
                        commit.entries.push(Entry { partition, name, bytes });
                        PartPosition::At(epoch.cast_signed())
                    }
                };
                commit.changes.push(ChangelogPart {
                    changelog: changelog.clone(),
                    records: Arc::new(changes.records),
                    expire_below: changes.expire_below,
                    position,
                });
            }
        }
        // That stores have been asked for their changes counts too.
        commit.stores = self.take_store_counts();
        Ok(commit)
    }

    fn positions(&self) -> BTreeMap<TopicPartition, i64> {
        self.inputs.values().map(|input| (input.partition.clone(), input.consumed)).collect()
    }

    fn consumed(&self) -> Vec<ConsumedOffset> {
        let repartitioned =
            self.inputs.values().filter(|input| matches!(input.topic, Topic::Repartition(_)));
        let consumed = repartitioned.map(|input| ConsumedOffset {
            topic: input.topic.clone(),
            partition: input.partition.partition,
            offset: input.consumed,
        });
        consumed.collect()
    }

    /// Takes up what was saved of its inputs at the last commit.
    pub(super) fn take_up_inputs(&mut self) -> Result<(), StateError> {
        let partition = self.id.partition;
        for input in self.inputs.values_mut() {
            let topic = &input.partition.topic;
            let (entry, vector_entry) = (stream_time_entry(topic), time_entry(topic));
            let time_of = |entry: &str| -> Result<Option<Timestamp>, StateError> {
                let Some(saved) = self.saved.get(entry) else { return Ok(None) };
                let time = <[u8; 8]>::try_from(saved.as_slice());
                let time = time.map_err(|_| damaged(partition, entry))?;
                Ok(Some(Timestamp::from_be_bytes(time)))
            };
            if let Some(time) = time_of(&entry)? {
                input.source_time = time;
                self.stream_time = self.stream_time.max(time);
            }
            if input.uses_partition_time {
                input.partition_time = time_of(&partition_time_entry(topic))?;
            }
            if let (Some(vector), Some(saved)) = (&mut input.vector, self.saved.get(&vector_entry))
                && !vector.restore(saved)
            {
                return Err(damaged(partition, &vector_entry));
            }
            if matches!(input.topic, Topic::External(_)) {
                take_up_held(input, &mut self.saved)
                    .map_err(|_| damaged(partition, &ahead_entry(&input.partition.topic)))?;
            }
        }
        Ok(())
    }

    /// What must not be forgotten, as far as it changed since the last commit.
    fn changed_entries(&mut self) -> Vec<Entry> {
        let mut now = Vec::new();
        for (node, slot) in self.graph.slots.iter() {
            let dropped = self.resources.metrics[node].dropped;
            now.extend(saved(slot, dropped).map(|saved| (node_entry(&slot.name), saved)));
        }
        for input in self.inputs.values() {
            let topic = &input.partition.topic;
            now.extend(input.vector.as_ref().map(|known| (time_entry(topic), known.to_bytes())));
            let time = input.partition_time;
            now.extend(time.map(|it| (partition_time_entry(topic), it.to_be_bytes().to_vec())));
            if let Some(held) = input.held.as_ref().filter(|held| !held.is_of_wall_clock()) {
                let mut saved = Vec::new();
                held.save(&mut saved);
                now.push((ahead_entry(topic), saved));
            }
            if self.uses_stream_time() {
                now.push((stream_time_entry(topic), input.source_time.to_be_bytes().to_vec()));
            }
        }
        now.retain(|(entry, saved)| self.saved.get(entry) != Some(saved));
        self.saved.extend(now.iter().cloned());
        let mut changed: Vec<_> =
            now.into_iter().map(|(name, bytes)| (name, Some(bytes))).collect();
        for input in self.inputs.values_mut() {
            let changes = input.held.as_mut().map(HeldRecords::take_changes).unwrap_or_default();
            for HeldChange { number, bytes } in changes {
                changed.push((held_entry(&input.partition.topic, number), bytes));
            }
        }
        let partition = self.id.partition;
        changed.into_iter().map(|(name, bytes)| Entry { partition, name, bytes }).collect()
    }

    /// Whether anything depends on the stream time of an earlier run.
    fn uses_stream_time(&self) -> bool {
        self.graph.keeps_time || self.graph.has_processors
    }

    /// What each node has counted, by its name.
    pub(crate) fn metrics(&self) -> impl Iterator<Item = (&Arc<str>, NodeMetrics)> {
        let held = |node| {
            let inputs = self.inputs.values().filter(move |input| input.node == node);
            inputs.filter_map(|input| input.held.as_ref()).map(|held| held.len() as u64).sum()
        };
        let metrics = &self.resources.metrics;
        let counted = move |node| NodeMetrics { held: held(node), ..metrics[node] };
        self.graph.slots.iter().map(move |(node, slot)| (&slot.name, counted(node)))
    }
}

/// What is to be kept of a node; nothing if there is nothing to say.
fn saved(slot: &NodeSlot, dropped: Dropped) -> Option<Vec<u8>> {
    let (mut state, mut passed_time) = (Vec::new(), Timestamp::MIN);
    if let Action::Process(processor, _) = &slot.action {
        processor.save(&mut state);
    }
    if slot.begins_time() {
        passed_time = slot.passed_time;
    }
    let anything = dropped.total() > 0 || passed_time > Timestamp::MIN || !state.is_empty();
    anything.then(|| Saved { dropped, passed_time, state }.write())
}

/// Takes up what judges an input's records, and those that are held. If nothing bounds any more how far ahead records may
/// be, they pass.
fn take_up_held(
    input: &mut Input,
    saved: &mut HashMap<String, Vec<u8>>,
) -> Result<(), ProcessorError> {
    let topic = &input.partition.topic;
    let prefix = held_entries(topic);
    let number_of = |entry: &str| entry.strip_prefix(&prefix)?.parse::<u64>().ok();
    let held = saved.extract_if(|entry, _| entry.starts_with(&prefix));
    let held = held.map(|(entry, bytes)| Some((number_of(&entry)?, bytes)));
    let mut held = held.collect::<Option<Vec<_>>>().ok_or(ProcessorError::Damaged)?;
    held.sort_unstable();
    if held.is_empty() && input.held.is_none() {
        return Ok(());
    }
    let everything = || HeldRecords::new(MaxAhead::of_partition(Duration::MAX), topic, usize::MAX);
    let judge = input.held.get_or_insert_with(everything);
    saved.get(&ahead_entry(topic)).map_or(Ok(()), |saved| judge.load(saved, &held))
}

/// Takes what a sink has for `topic`.
fn take_output(topic: &TopicName, sink: &mut SinkRecords, outputs: &mut Vec<Append>) {
    sink.bytes = 0;
    for (partition, builder) in (0..).zip(&mut sink.partitions) {
        if !builder.is_empty() {
            let partition = TopicPartition::new(topic.clone(), partition);
            let records = Arc::new(builder.take());
            outputs.push(Append { partition, base_offset: None, records });
        }
    }
}

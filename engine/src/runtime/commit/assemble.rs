//! Puts the parts of all tasks together into one commit of the log, and then one of the state.

use crate::runtime::{
    error::StreamsError, tasks::exchange::ReaderPosition, tasks::task_group::Surroundings,
};
use crate::{
    broken::broken,
    store::floor,
    task::{Blueprint, ChangelogKind, ChangelogPart, ConsumedOffset, PartPosition, TaskCommit},
};
use headwater_core::{
    ports::{
        log::{Append, Commit, Committed, GroupOffset, Log, LogError, Owner, Receipt},
        state::{ShardChanges, StateCommit},
    },
    record::TopicPartition,
};
use std::sync::Arc;

/// One commit of an application: what goes to the log, and what goes to the state once the log has it.
#[derive(Debug, Default)]
pub(in crate::runtime) struct EpochCommit {
    pub(in crate::runtime) epoch: u64,
    pub(in crate::runtime) log: Commit,
    changes: Vec<ChangelogPart>,
    sources: Vec<(TopicPartition, i64)>,
}

impl EpochCommit {
    pub(in crate::runtime) fn new(
        epoch: u64,
        parts: Vec<TaskCommit>,
        blueprint: &Blueprint,
        around: &Surroundings,
        owner: &Owner,
    ) -> Result<Self, StreamsError> {
        let mut this = Self { epoch, ..Self::default() };
        this.log.owner = Some(owner.clone());
        let (mut dead_letters, mut entries) = (Vec::new(), Vec::new());
        for part in parts {
            entries.extend(part.entries);
            this.log.appends.extend(part.outputs);
            dead_letters.extend(part.dead_letters.into_iter().map(|(to, records)| {
                let own = || TopicPartition::new(blueprint.dead_letters_name(), 0);
                let (partition, records) = (to.unwrap_or_else(own), Arc::new(records));
                Append { partition, base_offset: None, records }
            }));
            for ConsumedOffset { topic, partition, offset } in part.consumed {
                let taken = ReaderPosition { consumed: offset, epoch };
                around
                    .exchange
                    .commit(&topic, partition, taken, &mut this.log.appends)
                    .map_err(|source| StreamsError::of_task(part.task, source))?;
            }
            part.changes.into_iter().for_each(|change| this.add_change(change));
            this.log.offsets.extend(part.offsets.into_iter().map(|(partition, offset)| {
                GroupOffset {
                    group: Arc::clone(&owner.group),
                    partition,
                    committed: Committed { offset, metadata: String::new() },
                }
            }));
            this.sources.extend(part.positions);
        }
        around.exchange.commit_sent(epoch, &mut this.log.appends);
        around.exchange.assembled(epoch);
        this.log.appends.extend(dead_letters);
        around.positions.part(entries)?.into_iter().for_each(|part| this.add_change(part));
        Ok(this)
    }

    /// Whether there is nothing in it that must outlive the process.
    pub(in crate::runtime) fn is_empty(&self) -> bool {
        self.log.appends.is_empty() && self.log.offsets.is_empty() && self.changes.is_empty()
    }

    /// About how many bytes it holds until it is published: what goes to the log, and the changes that do not.
    pub(in crate::runtime) fn size_bytes(&self) -> usize {
        let appends = self.log.appends.iter().map(|append| append.records.size_bytes());
        let is_appended =
            |part: &&ChangelogPart| matches!(part.position, PartPosition::AfterAppend { .. });
        let others = self.changes.iter().filter(|part| !is_appended(part));
        appends.sum::<usize>() + others.map(|part| part.records.size_bytes()).sum::<usize>()
    }

    fn add_change(&mut self, mut part: ChangelogPart) {
        if part.position == PartPosition::Unwritten {
            let floor = part.expire_below.as_deref().map(|floor| Arc::new(floor::write(floor)));
            let records = [Arc::clone(&part.records)].into_iter().chain(floor);
            for records in records.filter(|records| !records.is_empty()) {
                let count = i64::try_from(records.len()).unwrap_or(i64::MAX);
                let number = self.log.appends.len();
                part.position = PartPosition::AfterAppend { number, count };
                let partition = part.changelog.partition.clone();
                self.log.appends.push(Append { partition, base_offset: None, records });
            }
        }
        self.changes.push(part);
    }

    /// What the state is told once the log has answered.
    pub(in crate::runtime) fn into_state(
        self,
        receipt: &Receipt,
        log: &dyn Log,
    ) -> Result<StateCommit, LogError> {
        let changes = self.changes.into_iter().map(|part| {
            let position = match part.position {
                PartPosition::At(position) => position,
                PartPosition::AfterAppend { number, count } => {
                    let base = receipt.base_offsets.get(number).copied();
                    count
                        + base.unwrap_or_else(|| broken("a receipt has an offset for each append"))
                }
                PartPosition::Unwritten => broken("a part that changes something is appended"),
            };
            let record_epoch = match part.changelog.kind {
                ChangelogKind::None => None,
                ChangelogKind::Own | ChangelogKind::Source => {
                    log.record_epoch(&part.changelog.partition, position - 1)?
                }
            };
            Ok(ShardChanges {
                record_epoch,
                store: part.changelog.store,
                partition: part.changelog.partition.partition,
                records: vec![part.records],
                position,
                begins_anew: false,
                expire_below: part.expire_below,
            })
        });
        let changes = changes.collect::<Result<_, LogError>>()?;
        let (epoch, sources) = (self.epoch, self.sources);
        Ok(StateCommit { epoch, sources, changes, ..StateCommit::default() })
    }
}

//! What a standby has of the parts of stores, and what its listeners were told of them.

use super::{StandbyListeners, StandbyUpdate, SuspendReason, progress::Updated};
use crate::{
    runtime::restore::{Part, Restored},
    task::Positions,
};
use headwater_core::{ports::log::Offsets, record::TopicPartition};
use std::{collections::BTreeMap, sync::Arc};

/// The parts that a standby keeps ready. Dropped, it tells that they are followed no more.
#[derive(Debug)]
pub(super) struct Told {
    listeners: StandbyListeners,
    /// As listeners were last told. What tasks must not forget no user knows of.
    parts: BTreeMap<(Arc<str>, TopicPartition), StandbyUpdate>,
    /// Records that were applied, of all parts, and of each task's.
    records: u64,
    updated: Updated,
    suspends_as: SuspendReason,
}

impl Told {
    pub(super) fn new(listeners: StandbyListeners) -> Self {
        let suspends_as = SuspendReason::Migrated;
        let (parts, updated) = (BTreeMap::new(), Updated::new());
        Self { listeners, parts, records: 0, updated, suspends_as }
    }

    /// How many records were applied to stores of users'.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// How many were applied to the stores of each task that has any.
    pub(super) fn updated(&self) -> &Updated {
        &self.updated
    }

    pub(super) fn suspends_as(&mut self, reason: SuspendReason) {
        self.suspends_as = reason;
    }

    /// A part has been opened.
    pub(super) fn opened(&mut self, part: &Part, Offsets { start: at, end }: Offsets) {
        if Positions::are_in(&part.store.name) {
            return;
        }
        let key = (Arc::clone(&part.store.name), part.changelog.clone());
        if !self.parts.contains_key(&key) {
            let (store, partition) = key.clone();
            if let Some(task) = part.task {
                self.updated.entry(task).or_default();
            }
            let task = part.task.map(|task| task.to_string());
            let about = StandbyUpdate { store, partition, task, at, end };
            self.listeners.tell(|listener| listener.on_update_start(&about));
            self.parts.insert(key, about);
        }
    }

    /// It has been brought to its end.
    pub(super) fn loaded(&mut self, part: &Part, offsets: Offsets, (shard, counts): &Restored) {
        let key = (Arc::clone(&part.store.name), part.changelog.clone());
        let Some(about) = self.parts.get_mut(&key) else { return };
        let Offsets { start, end } = offsets;
        let at = shard.position().unwrap_or(start);
        (about.at, about.end) = (at, end.max(at));
        if at > start || counts.replayed > 0 {
            self.records += counts.replayed;
            if let Some(task) = part.task {
                *self.updated.entry(task).or_default() += counts.replayed;
            }
            self.listeners.tell(|listener| listener.on_batch_loaded(about, counts.replayed));
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        for about in self.parts.values() {
            self.listeners.tell(|listener| listener.on_update_suspended(about, self.suspends_as));
        }
    }
}

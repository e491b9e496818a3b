//! Consumer groups: their positions, and the epochs of their owners.
//!
//! # Invariants
//!
//! - What is here is durable (or as durable as its commit asked for): it is changed behind the journal only.

use hashbrown::HashMap;
use headwater_core::{
    ports::log::{Committed, GroupOffset},
    record::TopicPartition,
};
use std::sync::Arc;

/// One group.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// The latest claim; 0 before the first.
    pub(crate) epoch: u64,
    pub(crate) offsets: HashMap<TopicPartition, Committed>,
}

/// All groups, by name.
#[derive(Debug, Default)]
pub(crate) struct Groups(pub(crate) HashMap<Arc<str>, Group>);

impl Groups {
    pub(crate) fn claim(&mut self, group: &Arc<str>, epoch: u64) {
        self.0.entry(Arc::clone(group)).or_default().epoch = epoch;
    }

    pub(crate) fn commit(&mut self, offset: GroupOffset) {
        self.0.entry(offset.group).or_default().offsets.insert(offset.partition, offset.committed);
    }

    pub(crate) fn committed(&self, group: &str, partition: &TopicPartition) -> Option<&Committed> {
        self.0.get(group)?.offsets.get(partition)
    }

    /// The lowest offset that any group has committed in the partition.
    pub(crate) fn lowest(&self, partition: &TopicPartition) -> Option<i64> {
        self.0
            .values()
            .filter_map(|group| group.offsets.get(partition))
            .map(|committed| committed.offset)
            .min()
    }

    pub(crate) fn epochs(&self) -> HashMap<Arc<str>, u64> {
        self.0.iter().map(|(name, group)| (Arc::clone(name), group.epoch)).collect()
    }
}

//! Consumer groups: their positions, and the epochs of their owners.
//!
//! # Invariants
//!
//! - What is here is durable (or as durable as its commit asked for): it is changed after the journal only.
//! - What one commit costs does not grow with the number of groups.

mod offsets;

use hashbrown::HashMap;
use headwater_core::{
    ports::log::{Committed, GroupOffset},
    record::TopicPartition,
};
use offsets::Offsets;
use std::{collections::BTreeMap, sync::Arc};

/// One group.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// The latest claim; 0 before the first.
    pub(crate) epoch: u64,
    pub(crate) offsets: Offsets,
}

/// All groups.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    by_name: HashMap<Arc<str>, Group>,
    /// For each partition, how many groups have committed which offset.
    counts: HashMap<TopicPartition, BTreeMap<i64, usize>>,
}

impl Groups {
    pub(crate) fn claim(&mut self, group: &Arc<str>, epoch: u64) {
        self.by_name.entry(Arc::clone(group)).or_default().epoch = epoch;
    }

    pub(crate) fn commit(&mut self, offset: GroupOffset) {
        let GroupOffset { group, partition, committed } = offset;
        let group = self.by_name.entry(group).or_default();
        let counts = self.counts.entry_ref(&partition).or_default();
        *counts.entry(committed.offset).or_default() += 1;
        let Some(before) = group.offsets.insert(partition, committed) else { return };
        if let Some(count) = counts.get_mut(&before.offset) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&before.offset);
            }
        }
    }

    pub(crate) fn committed(&self, group: &str, partition: &TopicPartition) -> Option<&Committed> {
        self.by_name.get(group)?.offsets.get(partition)
    }

    /// The lowest offset that any group has committed in the partition.
    pub(crate) fn lowest(&self, partition: &TopicPartition) -> Option<i64> {
        self.counts.get(partition)?.first_key_value().map(|(offset, _)| *offset)
    }

    pub(crate) fn epochs(&self) -> HashMap<Arc<str>, u64> {
        self.iter().map(|(name, group)| (Arc::clone(name), group.epoch)).collect()
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &Group)> {
        self.by_name.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{partition, position};
    use proptest::prelude::*;

    const GROUPS: usize = 1000;

    fn commit_all(groups: &mut Groups, group: usize, offset: i64) {
        for number in 0..100 {
            groups.commit(position(&format!("g{group}"), &partition("t", number), offset, ""));
            groups.lowest(&partition("t", number));
        }
    }

    #[test]
    fn a_commit_of_100_offsets_looks_at_no_other_group() {
        let mut groups = Groups::default();
        (0..GROUPS).for_each(|group| commit_all(&mut groups, group, 7));
        let before = offsets::looks();
        commit_all(&mut groups, 0, 8);
        assert_eq!(offsets::looks() - before, 100);
        assert_eq!(groups.lowest(&partition("t", 0)), Some(7));
    }

    proptest! {
        #[test]
        fn the_lowest_offset_is_the_least_of_all_groups(
            commits in prop::collection::vec((0..4_usize, 0..3_u32, 0..6_i64), 0..60),
        ) {
            let mut groups = Groups::default();
            for (group, number, offset) in commits {
                groups.commit(position(&format!("g{group}"), &partition("t", number), offset, ""));
                for id in (0..3).map(|number| partition("t", number)) {
                    let of = |(_, group): (_, &Group)| group.offsets.get(&id).map(|it| it.offset);
                    prop_assert_eq!(groups.lowest(&id), groups.iter().filter_map(of).min());
                }
            }
        }
    }
}

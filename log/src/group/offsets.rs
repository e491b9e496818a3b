//! The positions of one group. Tests count how often a group is looked at.

use hashbrown::HashMap;
use headwater_core::{ports::log::Committed, record::TopicPartition};

/// The positions of one group.
#[derive(Debug, Default)]
pub(crate) struct Offsets(HashMap<TopicPartition, Committed>);

impl Offsets {
    pub(super) fn get(&self, partition: &TopicPartition) -> Option<&Committed> {
        looked();
        self.0.get(partition)
    }

    pub(super) fn insert(
        &mut self,
        partition: TopicPartition,
        committed: Committed,
    ) -> Option<Committed> {
        looked();
        self.0.insert(partition, committed)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&TopicPartition, &Committed)> {
        looked();
        self.0.iter()
    }
}

#[cfg(test)]
std::thread_local! {
    static LOOKS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
fn looked() {
    LOOKS.set(LOOKS.get() + 1);
}

#[cfg(not(test))]
fn looked() {}

/// How often this thread has looked at a group.
#[cfg(test)]
pub(super) fn looks() -> usize {
    LOOKS.get()
}

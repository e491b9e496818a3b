//! Which generation of the log wrote which offsets of a partition: Kafka's leader-epoch list.
//!
//! # Invariants
//!
//! - Generations and first offsets rise, strictly.

/// From which offset on a generation wrote the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EpochStart {
    pub(crate) generation: u32,
    pub(crate) offset: i64,
}

/// The leader-epoch list of a partition, by offset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Epochs(Vec<EpochStart>);

impl Epochs {
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = EpochStart> {
        self.0.iter().copied()
    }

    /// Whether a batch of this generation begins an entry.
    pub(crate) fn are_before(&self, generation: u32) -> bool {
        self.0.last().is_none_or(|last| last.generation < generation)
    }

    /// Notes a batch, which comes after all others.
    pub(crate) fn note(&mut self, generation: u32, offset: i64) {
        if self.are_before(generation) {
            self.0.push(EpochStart { generation, offset });
        }
    }

    /// The generation that wrote the record at `offset`, or the last one in front of it.
    pub(crate) fn at(&self, offset: i64) -> Option<u32> {
        let after = self.0.partition_point(|entry| entry.offset <= offset);
        Some(self.0.get(after.checked_sub(1)?)?.generation)
    }

    /// Forgets what wrote the records below `start`, but for the last of them: a reader may stand there.
    pub(crate) fn prune(&mut self, start: i64) {
        let below = self.0.partition_point(|entry| entry.offset < start);
        self.0.drain(..below.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(u32, i64)]) -> Epochs {
        let mut epochs = Epochs::default();
        entries.iter().for_each(|(generation, offset)| epochs.note(*generation, *offset));
        epochs
    }

    #[test]
    fn an_offset_is_of_the_last_generation_that_began_at_or_before_it() {
        let epochs = epochs(&[(2, 10), (2, 15), (5, 20)]);
        let found = [-1, 9, 10, 15, 19, 20, 900].map(|offset| epochs.at(offset));
        assert_eq!(found, [None, None, Some(2), Some(2), Some(2), Some(5), Some(5)]);
    }

    #[test]
    fn pruning_keeps_the_last_generation_below_the_start() {
        let kept = |start| {
            let mut epochs = epochs(&[(1, 0), (2, 10), (3, 20)]);
            epochs.prune(start);
            epochs.iter().map(|entry| entry.generation).collect::<Vec<_>>()
        };
        assert_eq!(
            [0, 10, 11, 20].map(kept),
            [vec![1, 2, 3], vec![1, 2, 3], vec![2, 3], vec![2, 3]]
        );
        assert_eq!(kept(21), [3]);
    }
}

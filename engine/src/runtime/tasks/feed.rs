//! What was fetched of an external partition, for all applications of the process that read it: one fetches, checks and
//! decodes a batch, and the others take it as it is.
//!
//! # Invariants
//!
//! - A partition that one application reads keeps nothing: its records stay in the memory that was used last.
//! - What is kept is dropped once each reader can have taken it, and before that when all together exceed their share.

use crate::task::Arrived;
use hashbrown::HashMap;
use headwater_core::{
    memory::{MemoryBudget, Share},
    ports::log::{Fetched, LogError},
    record::TopicPartition,
};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// The feeds of a process.
#[derive(Debug)]
pub(in crate::runtime) struct Feeds {
    by_partition: Mutex<HashMap<TopicPartition, Weak<Feed>>>,
    kept: Arc<Bytes>,
}

/// What all feeds keep.
#[derive(Debug)]
struct Bytes {
    kept: AtomicUsize,
    max: usize,
}

/// One partition's feed. Each application that reads the partition holds it, which is how readers are counted.
#[derive(Debug)]
pub(in crate::runtime) struct Feed {
    batches: Mutex<VecDeque<FetchedBatch>>,
    all: Arc<Bytes>,
}

#[derive(Debug)]
struct FetchedBatch {
    offset: i64,
    arrived: Arrived,
    bytes: usize,
    /// How many readers may still come for it.
    awaited: usize,
}

impl Feeds {
    /// With half of what `memory` has for fetched records; tasks have the other half for what they are at.
    pub(in crate::runtime) fn new(memory: &MemoryBudget) -> Self {
        let kept = Bytes { kept: AtomicUsize::new(0), max: memory.share(Share::Batches) / 2 };
        Self { by_partition: Mutex::default(), kept: Arc::new(kept) }
    }

    /// The feed of a partition, for one more reader.
    pub(in crate::runtime) fn of(&self, partition: &TopicPartition) -> Arc<Feed> {
        let mut feeds = self.by_partition.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(feed) = feeds.get(partition).and_then(Weak::upgrade) {
            return feed;
        }
        feeds.retain(|_, feed| feed.strong_count() > 0);
        let feed = Arc::new(Feed { batches: Mutex::default(), all: Arc::clone(&self.kept) });
        feeds.insert(partition.clone(), Arc::downgrade(&feed));
        feed
    }
}

impl Feed {
    /// The records from `offset` on: those that another reader fetched, or what `fetch` gives.
    pub(in crate::runtime) fn read(
        self: &Arc<Self>,
        offset: i64,
        fetch: impl FnOnce() -> Result<Fetched, LogError>,
    ) -> Result<Arrived, LogError> {
        let others = Arc::strong_count(self) - 1;
        if others == 0 {
            return fetch().map(Arrived::from);
        }
        if let Some(arrived) = self.take(offset) {
            return Ok(arrived);
        }
        let fetched = fetch()?;
        let bytes = fetched.records.size_bytes();
        let is_empty = fetched.records.is_empty();
        let arrived = Arrived::from(fetched);
        if !is_empty {
            self.keep(FetchedBatch { offset, arrived: arrived.clone(), bytes, awaited: others });
        }
        Ok(arrived)
    }

    fn batches(&self) -> MutexGuard<'_, VecDeque<FetchedBatch>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, offset: i64) -> Option<Arrived> {
        let mut batches = self.batches();
        let place = batches.iter().position(|batch| batch.offset == offset)?;
        let batch = batches.get_mut(place)?;
        batch.awaited -= 1;
        if batch.awaited > 0 {
            return Some(batch.arrived.clone());
        }
        let batch = batches.remove(place)?;
        self.all.kept.fetch_sub(batch.bytes, Relaxed);
        Some(batch.arrived)
    }

    /// Keeps a batch if there is room, once this feed's oldest have made some.
    fn keep(&self, batch: FetchedBatch) {
        let mut batches = self.batches();
        // Of two that fetched the same at the same time, the second does without.
        if batches.iter().any(|kept| kept.offset == batch.offset) {
            return;
        }
        // Threads that read other partitions count in the same number.
        let with_it = |kept: usize| Some(kept + batch.bytes).filter(|kept| *kept <= self.all.max);
        while self.all.kept.fetch_update(Relaxed, Relaxed, with_it).is_err() {
            let Some(oldest) = batches.pop_front() else { return };
            self.all.kept.fetch_sub(oldest.bytes, Relaxed);
        }
        batches.push_back(batch);
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let bytes: usize = self.batches().iter().map(|batch| batch.bytes).sum();
        self.all.kept.fetch_sub(bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::record::{RecordSetBuilder, TopicName};

    const KIB: usize = 1 << 10;

    fn feeds(bytes_max: usize) -> (Feeds, TopicPartition) {
        let feeds = Feeds::new(&MemoryBudget::new(bytes_max * 32));
        (feeds, TopicPartition::new(TopicName::new("in").unwrap(), 0))
    }

    /// A read, and how many times the log was asked for it.
    fn read(feed: &Arc<Feed>, offset: i64, records: usize) -> (Arrived, usize) {
        let mut asked = 0;
        let fetch = || {
            asked += 1;
            let mut set = RecordSetBuilder::default();
            for _ in 0..records {
                set.push_encoded(0, None, &[], |arena| {
                    arena.resize(arena.len() + KIB, b'x');
                    Ok::<_, headwater_core::record::SetFull>(true)
                })
                .unwrap();
            }
            let next_offset = offset + i64::try_from(records).unwrap();
            Ok(Fetched { records: set.build().at_offset(offset), next_offset, end: 100 })
        };
        let arrived = feed.read(offset, fetch).unwrap();
        (arrived, asked)
    }

    fn kept(feeds: &Feeds) -> usize {
        feeds.kept.kept.load(Relaxed)
    }

    #[test]
    fn what_one_has_fetched_others_take_as_it_is_until_all_have() {
        let (feeds, partition) = feeds(64 * KIB);
        let readers: Vec<_> = (0..3).map(|_| feeds.of(&partition)).collect();
        let read: Vec<_> = readers.iter().map(|reader| read(reader, 7, 2)).collect();
        assert_eq!(read.iter().map(|(_, asked)| asked).collect::<Vec<_>>(), [&1, &0, &0]);
        assert!(read.iter().all(|(it, _)| it.next_offset == 9 && it.records.len() == 2));
        assert_eq!(kept(&feeds), 0);
    }

    #[test]
    fn a_partition_with_one_reader_keeps_nothing() {
        let (feeds, partition) = feeds(64 * KIB);
        let other = TopicPartition::new(partition.topic.clone(), 1);
        let (reader, _other) = (feeds.of(&partition), feeds.of(&other));
        assert_eq!(read(&reader, 0, 2).1 + read(&reader, 0, 2).1, 2);
        assert_eq!(kept(&feeds), 0);
    }

    #[test]
    fn an_empty_answer_is_asked_for_again() {
        let (feeds, partition) = feeds(64 * KIB);
        let (one, two) = (feeds.of(&partition), feeds.of(&partition));
        assert_eq!(read(&one, 0, 0).1 + read(&two, 0, 0).1, 2);
    }

    #[test]
    fn what_nobody_comes_for_makes_room_and_goes_with_its_readers() {
        let (feeds, partition) = feeds(4 * KIB);
        let (one, two) = (feeds.of(&partition), feeds.of(&partition));
        for offset in 0..10 {
            read(&one, offset, 1);
            assert!(kept(&feeds) <= 4 * KIB);
        }
        assert_eq!((read(&two, 0, 1).1, read(&two, 9, 1).1), (1, 0));
        // More than there is room for is given, and not kept.
        assert_eq!(read(&one, 20, 5).0.records.len(), 5);
        assert_eq!(read(&two, 20, 5).1, 1);
        drop((one, two));
        assert_eq!(kept(&feeds), 0);
    }
}

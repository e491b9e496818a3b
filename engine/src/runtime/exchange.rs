//! Managed topics in memory: what one sub-topology sends another within the instance.
//!
//! Records get the offsets they would have in the log, but only what has not been consumed by a commit is written
//! there, as part of that commit. After a restart, reading starts with what was written.

use crate::topology::Topic;
use hashbrown::HashMap;
use headwater_core::{
    ports::log::{Append, Durability, Fetched, Log, LogError},
    record::{RecordSet, TopicName, TopicPartition},
};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// What may wait in memory before the writers are held back, in bytes.
const BYTES_MAX: usize = 32 << 20;

#[derive(Debug)]
struct Queue {
    partition: TopicPartition,
    sets: VecDeque<Arc<RecordSet>>,
    /// Offsets below this one are in the log, as far as they matter.
    memory_start: i64,
    /// The offset that the next record gets.
    end: i64,
    /// Offsets below this one have been written or consumed.
    settled: i64,
}

/// The managed topics of an instance.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    queues: HashMap<(Topic, u32), Mutex<Queue>>,
    bytes: AtomicUsize,
}

fn first(set: &RecordSet) -> i64 {
    set.get(0).map_or(0, |record| record.offset)
}

fn end(set: &RecordSet) -> i64 {
    set.iter().next_back().map_or(0, |record| record.offset + 1)
}

impl Exchange {
    /// Adds a partition of a managed topic; `end` is the larger of its end in the log and its reader's offset.
    pub(super) fn add(&mut self, topic: &Topic, name: TopicName, partition: u32, end: i64) {
        let at = TopicPartition::new(name, partition);
        let queue =
            Queue { partition: at, sets: VecDeque::new(), memory_start: end, end, settled: end };
        self.queues.insert((topic.clone(), partition), Mutex::new(queue));
    }

    /// Whether writers must wait for readers.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > BYTES_MAX
    }

    /// Appends records for a reader.
    pub(super) fn send(&self, topic: &Topic, partition: u32, records: RecordSet) {
        let Some(mut queue) = self.queue(topic, partition) else { return };
        self.bytes.fetch_add(records.size_bytes(), Ordering::Relaxed);
        let records = records.at_offset(queue.end);
        queue.end = end(&records).max(queue.end);
        queue.sets.push_back(Arc::new(records));
    }

    /// What lies at `offset`.
    pub(super) fn fetch(
        &self,
        topic: &Topic,
        partition: u32,
        offset: i64,
        log: &dyn Log,
    ) -> Result<Fetched, LogError> {
        let Some(mut queue) = self.queue(topic, partition) else { return Ok(Fetched::default()) };
        if offset < queue.memory_start {
            let mut fetched = log.fetch(&queue.partition, offset, 1 << 20)?;
            if fetched.records.is_empty() && fetched.next_offset >= fetched.end {
                fetched.next_offset = queue.memory_start;
            }
            fetched.end = queue.end;
            return Ok(fetched);
        }
        // Who fetches at an offset has taken what lies below it.
        while let Some(set) = queue.sets.pop_front_if(|set| end(set) <= offset) {
            self.bytes.fetch_sub(set.size_bytes(), Ordering::Relaxed);
        }
        let next = queue.sets.iter().find(|set| first(set) >= offset);
        let records = next.map(|set| RecordSet::clone(set)).unwrap_or_default();
        let next_offset = if records.is_empty() { queue.end } else { end(&records) };
        Ok(Fetched { records, next_offset, end: queue.end })
    }

    /// Drops what lies below `consumed`, and gives what is left and was not written before: it belongs to the commit.
    pub(super) fn settle(
        &self,
        topic: &Topic,
        partition: u32,
        consumed: i64,
        appends: &mut Vec<Append>,
    ) {
        let Some(mut queue) = self.queue(topic, partition) else { return };
        while let Some(set) = queue.sets.pop_front_if(|set| end(set) <= consumed) {
            self.bytes.fetch_sub(set.size_bytes(), Ordering::Relaxed);
        }
        let at = queue.partition.clone();
        let fresh = queue.sets.iter().filter(|set| first(set) >= queue.settled);
        appends.extend(fresh.map(|set| Append {
            partition: at.clone(),
            base_offset: Some(first(set)),
            records: Arc::clone(set),
        }));
        queue.settled = queue.end;
    }

    fn queue(&self, topic: &Topic, partition: u32) -> Option<MutexGuard<'_, Queue>> {
        let queue = self.queues.get(&(topic.clone(), partition))?;
        Some(queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How managed topics are kept.
pub(super) fn managed_spec(
    name: TopicName,
    partitions: u32,
    durability: Durability,
) -> headwater_core::ports::log::TopicSpec {
    let cleanup = headwater_core::ports::log::Cleanup::Purge;
    headwater_core::ports::log::TopicSpec { name, partitions, durability, cleanup }
}

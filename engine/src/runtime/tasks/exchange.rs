//! Repartition topics in memory: what one sub-topology sends another within the application.
//!
//! Records get the offsets they would have in the log, but only what has not been consumed by a commit is written
//! there, as part of that commit. After a restart, reading starts with what was written.
//!
//! Where they pass [through the topic](Repartitioning::ThroughTopic), all that was sent waits here for its commit, which
//! writes it, and is read from the log.
//!
//! # Waiting
//!
//! Writers have equal parts of half the memory, and wait while more than that of their own records is unread: otherwise
//! whoever finds room first takes it all and runs ahead of the others in event time, while the windows below, which live by
//! the slowest, stay open. Where sub-topologies feed each other, as those of a foreign-key join do, each is such a writer, and
//! while it waits it takes what comes back to it. What passes through the topic has one bound alone, that of all.

use crate::runtime::config::Repartitioning;
use crate::{
    broken::broken,
    caught::caught,
    processor::ProcessorError,
    task::Arrived,
    topology::{Records, TaskId, Topic},
};
use hashbrown::HashMap;
use headwater_core::{
    ports::log::{Append, Durability, Log, LogError},
    record::{RecordSet, TopicName, TopicPartition},
};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

#[derive(Debug)]
struct Queue {
    partition: TopicPartition,
    sets: VecDeque<Sent>,
    /// Offsets below this one are in the log, as far as they matter.
    memory_start: i64,
    /// The offset that the next record gets.
    end: i64,
    /// Offsets below this one have been written or consumed.
    written: i64,
}

impl Drop for Queue {
    /// Rows that pass as they are are the user's, and whoever drops the last of the application's may be any thread.
    fn drop(&mut self) {
        while let Some(set) = self.sets.pop_front() {
            if let Err(message) = caught(|| drop(set)) {
                tracing::error!(partition = %self.partition, message, "a record on its way panicked as it was dropped");
            }
        }
    }
}

/// Records on their way, and the commit that their sender makes them part of.
#[derive(Debug)]
struct Sent {
    sender: TaskId,
    epoch: u64,
    records: Records,
}

/// How far a reader has taken a queue, and the commit that it is part of.
#[derive(Debug, Clone, Copy)]
pub(in crate::runtime) struct ReaderPosition {
    /// One past the last record taken.
    pub(in crate::runtime) consumed: i64,
    pub(in crate::runtime) epoch: u64,
}

/// The repartition topics of an application.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Exchange {
    repartitioning: Repartitioning,
    bytes_max: usize,
    queues: HashMap<(Topic, u32), Mutex<Queue>>,
    /// The newest commit that has what was sent for it.
    assembled: AtomicU64,
    bytes: AtomicUsize,
    /// What readers have not taken yet, in bytes, by those of its writers that may have to wait.
    unread: HashMap<TaskId, AtomicUsize>,
    /// Partitions of writers that found it full.
    waiting: Mutex<BTreeSet<u32>>,
    has_waiting: AtomicBool,
    /// Whether anything was read since.
    is_released: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn first(records: &Records) -> i64 {
    records.offset(0).unwrap_or_else(|| broken("what is sent has a mark after it"))
}

impl Exchange {
    /// Writers are held back where more than `bytes_max` wait, whatever their share of memory: a commit may have to write
    /// them all.
    pub(in crate::runtime) fn new(repartitioning: Repartitioning, bytes_max: usize) -> Self {
        Self { repartitioning, bytes_max, ..Self::default() }
    }

    /// Whether records pass from one commit to the next only.
    pub(in crate::runtime) fn is_through_topic(&self) -> bool {
        self.repartitioning == Repartitioning::ThroughTopic
    }

    /// Adds a partition of a repartition topic; `end` is the larger of its end in the log and its reader's offset.
    pub(in crate::runtime) fn add(
        &mut self,
        topic: &Topic,
        name: TopicName,
        partition: u32,
        end: i64,
    ) {
        let at = TopicPartition::new(name, partition);
        let queue =
            Queue { partition: at, sets: VecDeque::new(), memory_start: end, end, written: end };
        self.queues.insert((topic.clone(), partition), Mutex::new(queue));
    }

    /// Adds a writer that waits for readers.
    pub(in crate::runtime) fn add_writer(&mut self, task: TaskId) {
        self.unread.insert(task, AtomicUsize::new(0));
    }

    /// Whether a writer must wait for readers, where the application has a share of memory.
    pub(in crate::runtime) fn is_full_for(&self, writer: TaskId, share: usize) -> bool {
        let exceeds = || {
            let bytes_max = share.min(self.bytes_max);
            self.part_exceeds(writer, share) || self.bytes.load(Ordering::SeqCst) > bytes_max
        };
        self.waits_while(writer, exceeds)
    }

    /// The same for a writer that waits for its own part to be read, and not for all that is on its way.
    pub(in crate::runtime) fn has_part_full(&self, writer: TaskId, share: usize) -> bool {
        self.waits_while(writer, || self.part_exceeds(writer, share))
    }

    fn waits_while(&self, writer: TaskId, exceeds: impl Fn() -> bool) -> bool {
        if !exceeds() {
            return false;
        }
        lock(&self.waiting).insert(writer.partition);
        self.has_waiting.store(true, Ordering::SeqCst);
        // What was read before that woke nobody.
        exceeds()
    }

    fn part_exceeds(&self, writer: TaskId, share: usize) -> bool {
        let bytes_max = share.min(self.bytes_max);
        // What passes through the topic is read after its commit, whoever sent it.
        let unread = self.unread.get(&writer).filter(|_| !self.is_through_topic());
        let own = unread.map_or(0, |bytes| bytes.load(Ordering::SeqCst));
        own > bytes_max / 2 / self.unread.len().max(1)
    }

    /// The partitions of writers that found it full, if anything was read since.
    pub(in crate::runtime) fn take_released(&self) -> BTreeSet<u32> {
        if !self.is_released.swap(false, Ordering::SeqCst) {
            return BTreeSet::new();
        }
        self.has_waiting.store(false, Ordering::SeqCst);
        std::mem::take(&mut lock(&self.waiting))
    }

    /// Appends records for a reader, as part of commit `epoch`.
    pub(in crate::runtime) fn send(
        &self,
        sender: TaskId,
        topic: &Topic,
        partition: u32,
        records: Records,
        epoch: u64,
    ) {
        let Some(mut queue) = self.queue(topic, partition) else {
            broken("a task writes a repartition topic of its application")
        };
        let bytes = records.size_bytes();
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
        self.unread.get(&sender).map(|unread| unread.fetch_add(bytes, Ordering::SeqCst));
        let records = records.at_offset(queue.end);
        queue.end = records.end();
        queue.sets.push_back(Sent { sender, epoch, records });
    }

    /// Records have left their queue.
    fn left(&self, set: &Sent) {
        let bytes = set.records.size_bytes();
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        self.unread.get(&set.sender).map(|unread| unread.fetch_sub(bytes, Ordering::SeqCst));
        if self.has_waiting.load(Ordering::SeqCst) {
            self.is_released.store(true, Ordering::SeqCst);
        }
    }

    /// What lies at `offset`, as far as it belongs to the reader's present commit or an earlier one: what others have sent
    /// for the next one must not take effect in this; what lies in the log, at most about `bytes_max`. What is in memory is given
    /// a set at a time, and is to be taken whole: no offset within one is read from.
    pub(in crate::runtime) fn fetch(
        &self,
        topic: &Topic,
        partition: u32,
        ReaderPosition { consumed: offset, epoch }: ReaderPosition,
        log: &dyn Log,
        bytes_max: usize,
    ) -> Result<Arrived, LogError> {
        let Some(mut queue) = self.queue(topic, partition) else {
            broken("a task reads a repartition topic of its application")
        };
        if self.is_through_topic() {
            return Ok(log.fetch(&queue.partition, offset, bytes_max)?.into());
        }
        if offset < queue.memory_start {
            let mut fetched = log.fetch(&queue.partition, offset, bytes_max)?;
            if fetched.records.is_empty() && fetched.next_offset >= fetched.end {
                fetched.next_offset = queue.memory_start;
            }
            fetched.end = queue.end;
            return Ok(fetched.into());
        }
        // Who fetches at an offset has taken what lies below it. Where that was after its part of an earlier commit, which
        // waits for the parts of others, it was unread by that commit, which writes it.
        let assembled = self.assembled.load(Ordering::SeqCst);
        let is_done = |set: &mut Sent| {
            set.records.end() <= offset && (set.epoch >= epoch || set.epoch <= assembled)
        };
        while let Some(set) = queue.sets.pop_front_if(is_done) {
            self.left(&set);
        }
        let (records, next_offset) = match queue.sets.iter().find(|set| set.records.end() > offset)
        {
            None => (RecordSet::default().into(), queue.end),
            Some(set) if first(&set.records) < offset => {
                broken("who reads what was sent takes each set whole")
            }
            Some(set) if set.epoch > epoch => (RecordSet::default().into(), offset),
            Some(set) => (set.records.clone(), set.records.end()),
        };
        Ok(Arrived { records, next_offset, end: queue.end })
    }

    /// Where what has been sent ends; unless it passes through the topic, whose readers go by the log's end.
    pub(in crate::runtime) fn end(&self, topic: &Topic, partition: u32) -> Option<i64> {
        let queue = self.queue(topic, partition)?;
        (!self.is_through_topic()).then_some(queue.end)
    }

    /// Drops what its reader has taken, and gives what is left and was not written before: it belongs to the commit. What
    /// was sent for a later one stays.
    pub(in crate::runtime) fn commit(
        &self,
        topic: &Topic,
        partition: u32,
        ReaderPosition { consumed, epoch }: ReaderPosition,
        appends: &mut Vec<Append>,
    ) -> Result<(), ProcessorError> {
        let Some(mut queue) = self.queue(topic, partition) else {
            broken("a task reads a repartition topic of its application")
        };
        if self.is_through_topic() {
            return Ok(());
        }
        while let Some(set) = queue.sets.pop_front_if(|set| set.records.end() <= consumed) {
            self.left(&set);
        }
        let mut written = queue.written.max(consumed);
        for Sent { records, .. } in queue.sets.iter().take_while(|set| set.epoch <= epoch) {
            written = written.max(records.end());
            if first(records) >= queue.written {
                let partition = queue.partition.clone();
                let (base_offset, records) = (Some(first(records)), records.all_written()?);
                appends.push(Append { partition, base_offset, records });
            }
        }
        queue.written = written;
        Ok(())
    }

    /// Commit `epoch` has been given all that was sent for it.
    pub(in crate::runtime) fn assembled(&self, epoch: u64) {
        self.assembled.store(epoch, Ordering::SeqCst);
    }

    /// Where records pass through the topic: gives all that was sent for commit `epoch`, which belongs to it.
    pub(in crate::runtime) fn commit_sent(&self, epoch: u64, appends: &mut Vec<Append>) {
        if !self.is_through_topic() {
            return;
        }
        let mut queues: Vec<_> = self.queues.iter().collect();
        queues.sort_unstable_by_key(|(at, _)| *at);
        for (_, queue) in queues {
            let mut queue = lock(queue);
            while let Some(set) = queue.sets.pop_front_if(|set| set.epoch <= epoch) {
                self.left(&set);
                let Records::Written(records) = set.records else {
                    broken("what passes through a topic is written")
                };
                let partition = queue.partition.clone();
                appends.push(Append { partition, base_offset: None, records });
            }
        }
    }

    fn queue(&self, topic: &Topic, partition: u32) -> Option<MutexGuard<'_, Queue>> {
        let queue = self.queues.get(&(topic.clone(), partition))?;
        Some(lock(queue))
    }
}

/// How repartition topics are kept.
pub(in crate::runtime) fn repartition_spec(
    name: TopicName,
    partitions: u32,
    durability: Durability,
) -> headwater_core::ports::log::TopicSpec {
    let cleanup = headwater_core::ports::log::Cleanup::Purge;
    headwater_core::ports::log::TopicSpec { name, partitions, durability, cleanup }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::record::{Headers, RecordSetBuilder};

    fn records() -> Records {
        let mut records = RecordSetBuilder::default();
        records.push(0, Some(b"key"), Some(&[0; 1_000]), &Headers::new()).unwrap();
        records.build().into()
    }

    #[test]
    fn a_writer_waits_for_its_own_records_and_for_no_others() {
        const SHARE: usize = 64 << 10;
        let mut exchange = Exchange::new(Repartitioning::default(), usize::MAX);
        let topic = Topic::Repartition(TopicName::new("by-key").unwrap());
        exchange.add(&topic, TopicName::new("app-by-key-repartition").unwrap(), 0, 0);
        let [fast, slow] = [0, 1].map(|partition| TaskId { sub: 0, partition });
        exchange.add_writer(fast);
        exchange.add_writer(slow);
        let mut sent = 0;
        while !exchange.is_full_for(fast, SHARE) {
            exchange.send(fast, &topic, 0, records(), 1);
            sent += 1;
        }
        assert!((10..20).contains(&sent), "a quarter of the share: {sent} records");
        assert!(!exchange.is_full_for(slow, SHARE), "it has sent nothing");
        exchange.send(slow, &topic, 0, records(), 1);
        assert!(!exchange.is_full_for(slow, SHARE));
        let taken = ReaderPosition { consumed: sent, epoch: 1 };
        exchange.commit(&topic, 0, taken, &mut Vec::new()).unwrap();
        assert_eq!(exchange.take_released(), [0].into(), "who waited is woken");
        assert!(!exchange.is_full_for(fast, SHARE), "its records were taken");
        assert_eq!(exchange.take_released(), [].into(), "nobody waits");
        // Whoever sends what, all of it together has a bound too.
        let other = TaskId { sub: 1, partition: 0 };
        while !exchange.is_full_for(slow, SHARE) {
            exchange.send(other, &topic, 0, records(), 1);
            sent += 1;
        }
        assert!(sent > 50, "the whole share: {sent} records");
    }
}

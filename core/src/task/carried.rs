//! Stream time across a repartition.
//!
//! Every task that writes a managed topic sends, behind its records and to every partition, a *time mark*: the largest
//! timestamp that it has sent to that topic, and whether its own input is read to the end. The reading task's time is
//! the minimum over the tasks that write and are not idle, so that a fast upstream partition makes no record of a
//! slower one late. The vector is committed with the reader's state.

use crate::record::{Headers, RecordRef, RecordSetBuilder, SetFull, Timestamp};
use std::collections::BTreeMap;

/// The header that makes a record a time mark; its key and value are null.
const HEADER: &str = "__headwater.time";

/// Names a task within its application: sub-topology and partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// The sub-topology, from 0.
    pub sub: u32,
    /// The partition, from 0.
    pub partition: u32,
}

impl std::fmt::Display for TaskId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}_{}", self.sub, self.partition)
    }
}

/// What a task tells the readers of a managed topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeMark {
    pub(super) sender: TaskId,
    pub(super) time: Timestamp,
    pub(super) idle: bool,
}

impl TimeMark {
    const BYTES: usize = 17;

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.sender.sub.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.sender.partition.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.time.to_be_bytes());
        bytes[16] = u8::from(self.idle);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (sub, rest) = bytes.split_first_chunk::<4>()?;
        let (partition, rest) = rest.split_first_chunk::<4>()?;
        let (time, rest) = rest.split_first_chunk::<8>()?;
        let [idle] = rest else { return None };
        let sender = TaskId { sub: u32::from_be_bytes(*sub), partition: u32::from_be_bytes(*partition) };
        Some(Self { sender, time: Timestamp::from_be_bytes(*time), idle: *idle != 0 })
    }

    /// Appends the mark as a record.
    pub(super) fn write(self, records: &mut RecordSetBuilder) -> Result<(), SetFull> {
        let mut headers = Headers::new();
        headers.add(HEADER, Some(self.to_bytes().to_vec()));
        records.push(self.time.clamp(0, Timestamp::MAX), None, None, &headers)
    }

    /// The mark that `record` is, if it is one.
    pub(super) fn read(record: &RecordRef<'_>) -> Option<Self> {
        if record.headers.is_empty() || record.key.is_some() || record.value.is_some() {
            return None;
        }
        Self::from_bytes(Headers::decode(record.headers).ok()?.last(HEADER)??)
    }
}

/// What a reader knows of the tasks that write one of its managed topics.
#[derive(Debug, Clone)]
pub(super) struct TimeVector {
    senders: usize,
    marks: BTreeMap<TaskId, (Timestamp, bool)>,
    time: Timestamp,
}

impl TimeVector {
    /// Nothing known yet of `senders` tasks.
    pub(super) fn new(senders: usize) -> Self {
        Self { senders, marks: BTreeMap::new(), time: Timestamp::MIN }
    }

    /// Takes a mark; true if the reader's time moved.
    pub(super) fn apply(&mut self, mark: TimeMark) -> bool {
        let entry = self.marks.entry(mark.sender).or_insert((mark.time, mark.idle));
        *entry = (entry.0.max(mark.time), mark.idle);
        let before = self.time;
        self.time = before.max(self.minimum());
        self.time > before
    }

    /// The reader's time: never goes back.
    pub(super) fn time(&self) -> Timestamp {
        self.time
    }

    /// Whether every writer has said that its input is complete.
    pub(super) fn is_complete(&self) -> bool {
        self.marks.len() >= self.senders && self.marks.values().all(|(time, _)| *time == Timestamp::MAX)
    }

    fn minimum(&self) -> Timestamp {
        if self.marks.len() < self.senders {
            return Timestamp::MIN;
        }
        let active = self.marks.values().filter(|(_, idle)| !idle).map(|(time, _)| *time).min();
        // With every writer idle nothing holds time back, and it is the largest that was sent.
        active.or_else(|| self.marks.values().map(|(time, _)| *time).max()).unwrap_or(Timestamp::MIN)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.time.to_be_bytes().to_vec();
        for (sender, (time, idle)) in &self.marks {
            bytes.extend(TimeMark { sender: *sender, time: *time, idle: *idle }.to_bytes());
        }
        bytes
    }

    /// Takes back what [`to_bytes`](Self::to_bytes) gave; false if the bytes are something else.
    pub(super) fn restore(&mut self, bytes: &[u8]) -> bool {
        let Some((time, marks)) = bytes.split_first_chunk::<8>() else { return false };
        self.time = Timestamp::from_be_bytes(*time);
        let marks = marks.chunks(TimeMark::BYTES).map(TimeMark::from_bytes);
        let Some(marks) = marks.collect::<Option<Vec<_>>>() else { return false };
        self.marks = marks.into_iter().map(|mark| (mark.sender, (mark.time, mark.idle))).collect();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(partition: u32, time: Timestamp, idle: bool) -> TimeMark {
        TimeMark { sender: TaskId { sub: 0, partition }, time, idle }
    }

    #[test]
    fn time_is_the_minimum_over_those_that_write_and_waits_for_all() {
        let mut vector = TimeVector::new(2);
        assert!(!vector.apply(mark(0, 100, false)));
        assert_eq!(vector.time(), Timestamp::MIN);
        assert!(vector.apply(mark(1, 40, false)));
        assert_eq!(vector.time(), 40);
        assert!(vector.apply(mark(1, 50, true)), "an idle writer holds nothing back");
        assert_eq!(vector.time(), 100);
        assert!(!vector.apply(mark(1, 60, false)), "time never goes back");
        assert_eq!(vector.time(), 100);
    }

    #[test]
    fn a_restored_vector_decides_as_before() {
        let mut vector = TimeVector::new(2);
        vector.apply(mark(0, 100, false));
        vector.apply(mark(1, 40, true));
        let mut restored = TimeVector::new(2);
        assert!(restored.restore(&vector.to_bytes()));
        assert_eq!((restored.time(), &restored.marks), (vector.time(), &vector.marks));
        assert!(!restored.restore(b"short"));
    }

    #[test]
    fn a_mark_survives_its_record_and_no_other_record_is_one() {
        let mut records = RecordSetBuilder::default();
        mark(3, Timestamp::MAX, true).write(&mut records).unwrap();
        records.push(5, Some(b"k"), None, &Headers::new()).unwrap();
        let records = records.build();
        assert_eq!(TimeMark::read(&records.get(0).unwrap()), Some(mark(3, Timestamp::MAX, true)));
        assert_eq!(TimeMark::read(&records.get(1).unwrap()), None);
    }
}

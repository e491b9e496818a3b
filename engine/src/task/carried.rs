//! Stream time across a repartition.
//!
//! Every record of a managed topic carries, in a header, who sent it and the largest timestamp that its sender had sent
//! to the topic before it. Behind the records of a step, and to every partition, the sender adds a *time mark*: a record
//! of nothing but that header, with the time so far and whether its own input is read to the end. The reading task's
//! time is the minimum over the tasks that write and are not idle, so that a fast upstream partition makes no record of a
//! slower one late. The vector is committed with the reader's state.
//!
//! That each record carries its time makes the reader's decisions independent of how records were batched on the way.

use crate::topology::{TaskId, TimeMark};
use headwater_core::record::{RecordRef, Timestamp};
use std::collections::BTreeMap;

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

    /// Counts in what a record says its sender had sent before it, and gives the reader's time at the record.
    pub(super) fn reached(&mut self, record: &RecordRef<'_>) -> Timestamp {
        if let Some(mark) = TimeMark::read(record) {
            self.apply(mark);
        }
        self.time
    }

    /// Counts in a record: what was sent before it, and itself.
    pub(super) fn count(&mut self, record: &RecordRef<'_>) {
        if let Some(mark) = TimeMark::read(record) {
            let time =
                if TimeMark::is_bare(record) { mark.time } else { mark.time.max(record.timestamp) };
            self.apply(TimeMark { time, ..mark });
        }
    }

    /// The reader's time: never goes back.
    pub(super) fn time(&self) -> Timestamp {
        self.time
    }

    /// Whether every writer has said that its input is complete.
    pub(super) fn is_complete(&self) -> bool {
        self.marks.len() >= self.senders
            && self.marks.values().all(|(time, _)| *time == Timestamp::MAX)
    }

    fn minimum(&self) -> Timestamp {
        if self.marks.len() < self.senders {
            return Timestamp::MIN;
        }
        let active = self.marks.values().filter(|(_, idle)| !idle).map(|(time, _)| *time).min();
        // With every writer idle nothing holds time back, and it is the largest that was sent.
        active
            .or_else(|| self.marks.values().map(|(time, _)| *time).max())
            .unwrap_or(Timestamp::MIN)
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
}

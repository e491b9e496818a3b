//! Time across a repartition: what a reader knows of the tasks that write one of its topics.
//!
//! Every record of a repartition topic carries, in a header, who sent it and the sender's operator time before it.
//! After the records of a step, and to every partition, the sender adds a *time mark*: a record of nothing but that
//! header, with its operator time and how much of its input it has taken. The reader's time is the minimum over the
//! writers that are not idle, so that a fast upstream partition makes no record of a slower one late. The vector is
//! committed with the reader's state.
//!
//! Two upstream tasks `a` and `b`, and what their reader makes of it (`-`: not known yet):
//!
//! | arrives | a | b | time at it |
//! |---|--:|--:|--:|
//! | row of `a`, sent at 10 | 10 | - | - |
//! | row of `b`, sent at 40 | 10 | 40 | 10 |
//! | mark of `a`: 30 | 30 | 40 | 30 |
//! | mark of `a`: 30, idle | (30) | 40 | 40 |
//! | row of `a`, sent at 35: late where 40 has closed | 35 | 40 | 40, never back |
//!
//! Writers are known by the names of their sinks. One that this version of the topology no longer has counts until the reader
//! has taken what earlier runs wrote, and is then forgotten.
//!
//! That each record carries its time makes the reader's decisions independent of how records were batched on the way.

use crate::topology::{InputState, Sender, TimeMark};
use headwater_core::record::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What one writer said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Writer {
    time: Timestamp,
    input: InputState,
}

/// What a reader knows of the tasks that write one of its topics.
#[derive(Debug, Clone)]
pub(super) struct TimeVector {
    /// Who writes the topic.
    expected: BTreeSet<Sender>,
    /// How many of these have said nothing yet.
    untold: usize,
    /// What they said, and what others did that are gone.
    writers: BTreeMap<Sender, Writer>,
    time: Timestamp,
    /// Whether all writers run in this process, and so tell where they are once they have looked.
    is_local: bool,
}

impl TimeVector {
    /// Nothing known yet of the writers there are.
    pub(super) fn new(expected: BTreeSet<Sender>) -> Self {
        let untold = expected.len();
        let (writers, time) = (BTreeMap::new(), Timestamp::MIN);
        Self { expected, untold, writers, time, is_local: false }
    }

    /// The same for writers that all run in this process.
    pub(super) fn local(self) -> Self {
        Self { is_local: true, ..self }
    }

    /// Takes a mark; true if it said anything new.
    pub(super) fn apply(&mut self, mark: TimeMark) -> bool {
        let TimeMark { sender, time, input } = mark;
        let known = self.writers.get(&sender).copied();
        let now = Writer { time: known.map_or(time, |known| known.time.max(time)), input };
        if known == Some(now) {
            return false;
        }
        self.writers.insert(sender, now);
        self.untold -= usize::from(known.is_none() && self.expected.contains(&sender));
        // Only who held time back, or had told nothing yet, can let it go on.
        let held = known.is_none_or(|known| known.time <= self.time || known.input != input);
        if held {
            self.time = self.time.max(self.minimum());
        }
        true
    }

    /// The reader's time at each of the rows that one sender sent at the given times of its own, and at `mark` after them,
    /// as if each row were a mark.
    pub(super) fn times_at(mut self, mark: TimeMark, sent_times: &[Timestamp]) -> Vec<Timestamp> {
        let mut times = Vec::with_capacity(sent_times.len() + 1);
        if let Some((first, rest)) = sent_times.split_first() {
            let open = |time| TimeMark { time, input: InputState::Open, ..mark };
            self.apply(open(*first));
            times.push(self.time);
            // The sender is open from here on, and nothing else moves.
            let sent = self.writers.remove(&mark.sender).map_or(*first, |writer| writer.time);
            let others = self.others();
            self.writers.insert(mark.sender, Writer { time: sent, input: InputState::Open });
            let mut time = sent;
            for sent in rest {
                time = time.max(*sent);
                self.time = self.time.max(time.min(others));
                times.push(self.time);
            }
            self.apply(open(time));
        }
        self.apply(mark);
        times.push(self.time);
        times
    }

    /// How far the writers that are left hold back one more that is open.
    fn others(&self) -> Timestamp {
        if self.untold > 0 {
            return Timestamp::MIN;
        }
        let open = self.writers.values().filter(|writer| writer.input == InputState::Open);
        open.map(|writer| writer.time).min().unwrap_or(Timestamp::MAX)
    }

    /// What earlier runs wrote has been taken: forgets writers that are gone; true if there were any. Those of this process
    /// hold time back until they have looked at their input: what came in between is no later than if it had come before.
    pub(super) fn begin_run(&mut self) -> bool {
        let any_gone = self.forget_gone();
        if self.is_local {
            self.writers.values_mut().for_each(|writer| writer.input = InputState::Open);
        }
        any_gone
    }

    fn forget_gone(&mut self) -> bool {
        let known = self.writers.len();
        self.writers.retain(|sender, _| self.expected.contains(sender));
        self.time = self.time.max(self.minimum());
        self.writers.len() < known
    }

    /// The reader's time: never goes back.
    pub(super) fn time(&self) -> Timestamp {
        self.time
    }

    /// Whether every writer has said that its input is complete.
    pub(super) fn is_complete(&self) -> bool {
        self.untold == 0 && self.writers.values().all(|writer| writer.input == InputState::Complete)
    }

    /// Whether no writer has more to send of what is there now, as far as the reader has read.
    pub(super) fn is_idle(&self) -> bool {
        self.untold == 0 && self.writers.values().all(|writer| writer.input != InputState::Open)
    }

    /// The writers that hold time back: those that have told nothing yet, or of those that are open the last.
    pub(super) fn holders(&self) -> Vec<Sender> {
        if self.untold > 0 {
            let untold = self.expected.iter().filter(|sender| !self.writers.contains_key(sender));
            return untold.copied().collect();
        }
        let minimum = self.minimum();
        let holds = |writer: &Writer| writer.input == InputState::Open && writer.time <= minimum;
        self.writers.iter().filter(|(_, writer)| holds(writer)).map(|(sender, _)| *sender).collect()
    }

    fn minimum(&self) -> Timestamp {
        if self.untold > 0 {
            return Timestamp::MIN;
        }
        let times = |open: bool| {
            let wanted = move |writer: &&Writer| (writer.input == InputState::Open) == open;
            self.writers.values().filter(wanted).map(|writer| writer.time)
        };
        // With every writer idle nothing holds time back, and it is the largest that was sent.
        times(true).min().or_else(|| times(false).max()).unwrap_or(Timestamp::MIN)
    }

    /// The most bytes that [`to_bytes`](Self::to_bytes) gives for so many writers, none of them gone.
    pub(super) fn bytes_max(writers: usize) -> usize {
        size_of::<Timestamp>() + writers * TimeMark::BYTES
    }

    /// What must survive with the commit. That an input was complete must not: another run may bring more. A writer that is
    /// open and has no time is as good as one that is not known, and is left out, whatever it said in between.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.time.to_be_bytes().to_vec();
        let unknown = Writer { time: Timestamp::MIN, input: InputState::Open };
        for (sender, writer) in self.writers.iter().filter(|(_, writer)| **writer != unknown) {
            let Writer { time, input } = writer;
            let mark = TimeMark { sender: *sender, time: *time, input: *input };
            bytes.extend(mark.of_earlier_run().to_bytes());
        }
        bytes
    }

    /// Takes back what [`to_bytes`](Self::to_bytes) gave; false if the bytes are something else.
    pub(super) fn restore(&mut self, bytes: &[u8]) -> bool {
        let Some((time, marks)) = bytes.split_first_chunk::<8>() else { return false };
        self.time = Timestamp::from_be_bytes(*time);
        let marks = marks.chunks(TimeMark::BYTES).map(TimeMark::from_bytes);
        let Some(marks) = marks.collect::<Option<Vec<_>>>() else { return false };
        let writer = |TimeMark { sender, time, input }| (sender, Writer { time, input });
        self.writers = marks.into_iter().map(writer).collect();
        self.untold = self.expected.iter().filter(|s| !self.writers.contains_key(s)).count();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(partition: u32) -> Sender {
        Sender::new("sink", partition)
    }

    fn sinks(partitions: u32) -> BTreeSet<Sender> {
        (0..partitions).map(sink).collect()
    }

    fn mark(partition: u32, time: Timestamp, input: InputState) -> TimeMark {
        TimeMark { sender: sink(partition), time, input }
    }

    #[test]
    fn time_is_the_minimum_over_those_that_write_and_waits_for_all() {
        let mut vector = TimeVector::new(sinks(2));
        vector.apply(mark(0, 100, InputState::Open));
        assert_eq!(vector.time(), Timestamp::MIN);
        vector.apply(mark(1, 40, InputState::Open));
        assert_eq!(vector.time(), 40);
        assert!(!vector.is_idle());
        vector.apply(mark(1, 50, InputState::Idle));
        assert_eq!(vector.time(), 100, "an idle writer holds nothing back");
        vector.apply(mark(1, 60, InputState::Open));
        assert_eq!(vector.time(), 100, "time never goes back");
        assert!(!vector.apply(mark(1, 55, InputState::Open)), "nothing new");
    }

    #[test]
    fn a_writer_that_was_idle_before_its_first_record_leaves_nothing_to_keep() {
        let mut vector = TimeVector::new(sinks(2));
        vector.apply(mark(0, Timestamp::MIN, InputState::Idle));
        vector.apply(mark(0, Timestamp::MIN, InputState::Open));
        assert_eq!(vector.to_bytes(), TimeVector::new(sinks(2)).to_bytes());
    }

    #[test]
    fn a_writer_that_is_gone_counts_until_it_is_forgotten() {
        let mut vector = TimeVector::new(sinks(2));
        vector.apply(mark(0, 100, InputState::Open));
        vector.apply(mark(1, 40, InputState::Open));
        let mut upgraded = TimeVector::new(sinks(1));
        assert!(upgraded.restore(&vector.to_bytes()));
        upgraded.apply(mark(0, 110, InputState::Open));
        assert_eq!(upgraded.time(), 40);
        assert!(upgraded.begin_run());
        assert_eq!(upgraded.time(), 110);
        assert!(!upgraded.begin_run());
        let mut widened = TimeVector::new(sinks(2));
        assert!(widened.restore(&upgraded.to_bytes()));
        widened.apply(mark(0, 120, InputState::Open));
        assert_eq!(widened.time(), 110, "a writer that is new has told no time");
        widened.apply(mark(1, 0, InputState::Idle));
        assert_eq!(widened.time(), 120);
    }

    #[test]
    fn a_restored_vector_decides_as_before_but_knows_of_no_end() {
        let mut vector = TimeVector::new(sinks(2));
        vector.apply(mark(0, 100, InputState::Complete));
        vector.apply(mark(1, 40, InputState::Complete));
        assert!(vector.is_complete());
        let mut restored = TimeVector::new(sinks(2));
        assert!(restored.restore(&vector.to_bytes()));
        assert_eq!(restored.time(), 100);
        assert!(!restored.is_complete());
        restored.apply(mark(1, 120, InputState::Open));
        assert_eq!(restored.time(), 120);
        assert!(!restored.restore(b"short"));
    }

    #[test]
    fn writers_that_were_idle_hold_time_back_in_the_next_run_until_they_tell() {
        let mut vector = TimeVector::new(sinks(2));
        vector.apply(mark(0, 100, InputState::Complete));
        vector.apply(mark(1, 40, InputState::Idle));
        let mut elsewhere = TimeVector::new(sinks(2));
        let mut here = TimeVector::new(sinks(2)).local();
        for (vector_of, time) in [(&mut here, 100), (&mut elsewhere, 130)] {
            assert!(vector_of.restore(&vector.to_bytes()));
            assert!(!vector_of.begin_run());
            vector_of.apply(mark(0, 130, InputState::Open));
            assert_eq!(vector_of.time(), time);
            assert!(!vector_of.is_idle());
        }
        here.apply(mark(1, 110, InputState::Open));
        assert_eq!(here.time(), 110);
        here.apply(mark(1, 110, InputState::Idle));
        assert_eq!(here.time(), 130);
    }

    #[test]
    fn rows_of_one_sender_move_time_as_marks_one_by_one_do() {
        let states = [InputState::Open, InputState::Idle, InputState::Complete];
        let (mut vector, mut seed) = (TimeVector::new(sinks(3)), 1_u64);
        let mut next = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for round in 0..2_000_i64 {
            let sender = u32::try_from(next(3)).unwrap();
            let last = mark(sender, round + 40, states[usize::try_from(next(3)).unwrap()]);
            let mut sent = || round + i64::try_from(next(50)).unwrap();
            let sent: Vec<Timestamp> = (0..round % 4).map(|_| sent()).collect();
            let at_once = vector.clone().times_at(last, &sent);
            let mut one_by_one = Vec::new();
            let rows = sent.iter().map(|time| mark(sender, *time, InputState::Open));
            for mark in rows.chain([last]) {
                vector.apply(mark);
                one_by_one.push(vector.time());
            }
            assert_eq!(at_once, one_by_one, "round {round}");
        }
    }
}

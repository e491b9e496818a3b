//! A join's time, and what it says about its rows.
//!
//! Above a repartition it is the largest timestamp among the records of both sides, those that are dropped included; a row that is
//! in order then has what is due forwarded. Below one it is the operator time that the records carry, which does so by itself.
//!
//! | with 5 s before, 9 s after and 1 s of grace, a row of 10 s | |
//! |---|---|
//! | joins, as a left one | right rows of 5 to 19 s |
//! | joins, as a right one | left rows of 1 to 15 s |
//! | un-joined comes out, as a left one | once time is past 20 s |
//! | un-joined comes out, as a right one | once time is past 16 s |
//! | is kept, so that late rows find it | until its side has a row of 25 s |

use crate::JoinWindows;
use headwater_core::record::Timestamp;
use headwater_engine::{
    node::HeldBack,
    processor::{InitContext, ProcessorError},
};
use std::ops::RangeInclusive;

/// The longest wait, in ms, after which a deferred row can still come out: half of what timestamps tell, as the span of windows that
/// close.
const WAIT_MS_MAX: i64 = i64::MAX / 2;

/// How long a row is deferred, in ms, if that is so long that no time ends it and it would never come out: `reach_ms` is how much later
/// one of the other side may be.
pub(crate) fn endless_wait_ms(reach_ms: i64, grace_ms: i64) -> Option<i64> {
    Some(wait_ms(reach_ms, grace_ms)).filter(|wait| *wait > WAIT_MS_MAX)
}

fn wait_ms(reach_ms: i64, grace_ms: i64) -> i64 {
    reach_ms.saturating_add(grace_ms)
}

/// One of the two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    // At equal times, rows of the right side come out first.
    Right,
    Left,
}

impl Side {
    pub(super) const ALL: [Self; 2] = [Self::Right, Self::Left];

    pub(super) fn other(self) -> Self {
        match self {
            Self::Right => Self::Left,
            Self::Left => Self::Right,
        }
    }
}

/// Something of each side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Both<T> {
    pub(super) left: T,
    pub(super) right: T,
}

impl<T> Both<T> {
    pub(super) fn of(&self, side: Side) -> &T {
        match side {
            Side::Left => &self.left,
            Side::Right => &self.right,
        }
    }

    pub(super) fn of_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Left => &mut self.left,
            Side::Right => &mut self.right,
        }
    }
}

/// A join's time.
#[derive(Debug, Clone, Copy)]
pub(super) struct JoinTime {
    windows: JoinWindows,
    /// Which sides have rows that may come out un-joined.
    defers: Both<bool>,
    is_carried: bool,
    now: Timestamp,
    /// The time at which what is due was last had forwarded.
    due_at: Timestamp,
    /// The time at which all that was due has been forwarded.
    forwarded_at: Timestamp,
    /// The largest timestamp that each side keeps, above a repartition.
    newest: Both<Timestamp>,
    /// What was passed on before the first record, when there was nothing to hold back.
    passed_first: Timestamp,
    /// The input is complete: all that is deferred comes out, also what no time is past. Not saved: whoever goes on from a commit
    /// is told of the end again.
    is_ended: bool,
}

impl JoinTime {
    pub(super) fn new(windows: JoinWindows, defers: Both<bool>, context: &InitContext<'_>) -> Self {
        let never = Timestamp::MIN;
        Self {
            windows,
            defers,
            is_carried: context.is_time_carried(),
            now: never,
            due_at: never,
            forwarded_at: never,
            newest: Both { left: never, right: never },
            passed_first: never,
            is_ended: false,
        }
    }

    /// Whether time comes with the records instead of from their timestamps.
    pub(super) fn is_carried(&self) -> bool {
        self.is_carried
    }

    pub(super) fn defers(&self, side: Side) -> bool {
        *self.defers.of(side)
    }

    /// Takes a record of `timestamp`, to which the time that it carries has come already, into account, and gives what the join
    /// passes on at that point: what a row made of the record carries.
    pub(super) fn take(&mut self, timestamp: Timestamp, at: Timestamp) -> Timestamp {
        let passed = self.pass_time(at);
        if self.now == Timestamp::MIN {
            self.passed_first = passed;
        }
        if !self.is_carried {
            self.now = self.now.max(timestamp);
        }
        passed
    }

    /// Time has moved to `time`.
    pub(super) fn advance(&mut self, time: Timestamp) {
        self.now = self.now.max(time);
    }

    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// Whether `time` has gone by.
    pub(super) fn is_past(&self, time: Timestamp) -> bool {
        time < self.now
    }

    /// Whether a row of `timestamp` is in order.
    pub(super) fn is_in_order(&self, timestamp: Timestamp) -> bool {
        timestamp >= self.now
    }

    /// Rows that are due by now are to be forwarded.
    pub(super) fn begin_forwarding(&mut self) {
        self.due_at = self.now;
    }

    /// They have been.
    pub(super) fn end_forwarding(&mut self) {
        self.forwarded_at = self.due_at;
        self.is_ended = false;
    }

    /// Counts a row of `side` in that is to be kept; false if it is too old for that.
    pub(super) fn keep(&mut self, side: Side, timestamp: Timestamp) -> bool {
        let newest = self.newest.of_mut(side);
        *newest = timestamp.max(*newest);
        timestamp >= self.kept_from(side)
    }

    /// The time of the oldest rows of `side` that are still kept.
    pub(super) fn kept_from(&self, side: Side) -> Timestamp {
        let newest = if self.is_carried { self.now } else { *self.newest.of(side) };
        newest.saturating_sub(self.retention()).saturating_add(1)
    }

    /// The times of the rows that one of `side` at `timestamp` joins, without those that are no longer kept.
    pub(super) fn joined_by(&self, side: Side, timestamp: Timestamp) -> RangeInclusive<Timestamp> {
        let (back, on) = match side {
            Side::Left => (self.windows.before_ms(), self.windows.after_ms()),
            Side::Right => (self.windows.after_ms(), self.windows.before_ms()),
        };
        let (from, to) = (timestamp.saturating_sub(back), timestamp.saturating_add(on));
        from.max(self.kept_from(side.other()))..=to
    }

    /// Whether two rows of one time join.
    pub(super) fn joins_at_once(&self) -> bool {
        self.windows.before_ms() >= 0 && self.windows.after_ms() >= 0
    }

    /// Whether an un-joined row of `side` at `timestamp` comes too late to be deferred.
    pub(super) fn is_late(&self, side: Side, timestamp: Timestamp) -> bool {
        timestamp.saturating_add(self.reach(side)) < self.now
    }

    /// Whether a deferred row of `side` at `timestamp` is to be forwarded by now.
    pub(super) fn is_due(&self, side: Side, timestamp: Timestamp) -> bool {
        self.is_ended || timestamp.saturating_add(self.wait(side)) < self.due_at
    }

    /// When a row of `side` at `timestamp` comes out that is deferred.
    pub(super) fn due(&self, side: Side, timestamp: Timestamp) -> Timestamp {
        timestamp.saturating_add(self.wait(side)).saturating_add(1)
    }

    /// What is held back where the first row that is deferred comes out at `due`.
    pub(super) fn held_back(&self, due: Timestamp) -> HeldBack {
        let time = Some(self.now).filter(|now| *now > Timestamp::MIN);
        // Time never comes to the last timestamp there is.
        HeldBack::Time { time, until: Some(due).filter(|due| *due < Timestamp::MAX) }
    }

    /// Tells which of several rows that are due comes out first. Where time moves by itself, in steps that may be of any
    /// size, that is the one that was due first.
    pub(super) fn rank(&self, side: Side, timestamp: Timestamp) -> i128 {
        // Also past the last timestamp there is, which only the end of input has come out.
        let wait = if self.is_carried { self.wait(side) } else { 0 };
        i128::from(timestamp) + i128::from(wait)
    }

    /// The input is complete, and the last deferred row of `side` lies at `timestamp`: it is to come out. Time moves no further
    /// than it must, so that input that comes after all is not late altogether.
    pub(super) fn end(&mut self, side: Side, timestamp: Timestamp) {
        self.advance(self.due(side, timestamp));
        self.is_ended = true;
    }

    /// What a deferred row of `side` carries: what was passed on before it was due.
    pub(super) fn passed_at(&self, side: Side, timestamp: Timestamp) -> Timestamp {
        let due = timestamp.saturating_add(self.wait(side));
        due.saturating_sub(self.wait_max()).max(self.passed_first)
    }

    /// The time to pass on where that of the input stands at `time`: rows that are deferred may still come out.
    pub(super) fn pass_time(&self, time: Timestamp) -> Timestamp {
        if !(self.defers.left || self.defers.right) {
            return time;
        }
        let is_first = self.now == Timestamp::MIN;
        let held = if is_first { time } else { self.forwarded_at.saturating_sub(self.wait_max()) };
        self.passed_first.max(time.min(held))
    }

    /// How much later than a row of `side` one of the other side may be.
    fn reach(&self, side: Side) -> i64 {
        match side {
            Side::Left => self.windows.after_ms(),
            Side::Right => self.windows.before_ms(),
        }
    }

    /// From a deferred row's time to when it comes out.
    fn wait(&self, side: Side) -> i64 {
        wait_ms(self.reach(side), self.windows.grace_ms())
    }

    fn wait_max(&self) -> i64 {
        let waits = Side::ALL.into_iter().filter(|side| self.defers(*side));
        waits.map(|side| self.wait(side)).max().unwrap_or(0).max(0)
    }

    /// For how long rows are kept; never so short that one within the grace is missed.
    fn retention(&self) -> i64 {
        let (before, after) = (self.windows.before_ms(), self.windows.after_ms());
        let farthest = before.max(after).max(0).saturating_add(1);
        before.saturating_add(after).max(farthest).saturating_add(self.windows.grace_ms())
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        let Self { now, due_at, forwarded_at, newest, passed_first, .. } = *self;
        for time in [now, due_at, forwarded_at, newest.left, newest.right, passed_first] {
            out.extend_from_slice(&time.to_be_bytes());
        }
    }

    /// Takes back what was saved, and gives what stands after it.
    pub(super) fn load<'s>(&mut self, mut saved: &'s [u8]) -> Result<&'s [u8], ProcessorError> {
        let Self { now, due_at, forwarded_at, newest, passed_first, .. } = self;
        let Both { left, right } = newest;
        for time in [now, due_at, forwarded_at, left, right, passed_first] {
            let (bytes, rest) = saved.split_first_chunk().ok_or(ProcessorError::Damaged)?;
            (*time, saved) = (Timestamp::from_be_bytes(*bytes), rest);
        }
        Ok(saved)
    }
}

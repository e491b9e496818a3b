//! The time of a suppression: what it makes due, and what is passed on.
//!
//! A row is held *under* a time, and is due once that is no later than the *horizon*:
//!
//! | held until | where | held under | horizon |
//! |---|---|---|---|
//! | a limit has passed | anywhere | timestamp of the first update that is held | time less the limit |
//! | its window closes | above a repartition | end of the window | time less what windows stay open after their end |
//! | | right below one windowed aggregation | anchor of the window | just before the time passed on by the aggregation: older windows are closed |
//! | | below several, or a repartition between | start of the window | time less the longest window and what it stays open |
//!
//! By their anchors an aggregation counts how old its windows are: the ends of sessions, the starts of others. Time is the largest timestamp taken, or below a repartition the operator time that rows carry.

use headwater_core::record::Timestamp;
use headwater_engine::{
    node::HeldBack,
    processor::{InitContext, ProcessorError},
    store::Window,
};

/// What makes a held row due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// So many ms have passed.
    Limit(i64),
    /// Its window is closed.
    Close(WindowClose),
}

/// When the windows of a table are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WindowClose {
    /// How long after its end a window is open, at the longest, in ms.
    pub(crate) after_end_ms: i64,
    /// If they are those of one aggregation above in the same task, how long it is from a window's anchor to its end, in ms.
    pub(crate) reach_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    rule: Rule,
    /// Whether time comes with the rows instead of from their timestamps.
    pub(super) is_carried: bool,
    horizon: Timestamp,
    /// What was passed on at the newest row.
    passed: Timestamp,
    /// What was passed on at the first row; the largest time there is before it.
    first: Timestamp,
    /// The longest time from the anchor of a window that was held to its end.
    longest_ms: i64,
}

/// Where a row is held.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeldAt {
    /// The time that it is held under.
    pub(super) under: Timestamp,
    /// No later than the operator time that it will be forwarded with.
    pub(super) at_least: Timestamp,
}

impl Clock {
    pub(super) fn new(rule: Rule, context: &InitContext<'_>) -> Self {
        let is_carried = context.is_time_carried();
        let (horizon, passed, first) = (Timestamp::MIN, Timestamp::MIN, Timestamp::MAX);
        Self { rule, is_carried, horizon, passed, first, longest_ms: 0 }
    }

    /// Time has moved to `time`.
    pub(super) fn reach(&mut self, time: Timestamp) {
        let horizon = match self.rule {
            Rule::Limit(ms) => time.saturating_sub(ms),
            Rule::Close(WindowClose { after_end_ms, .. }) if !self.is_carried => {
                time.saturating_sub(after_end_ms)
            }
            // Before that, it may be what the aggregation had passed on before its first row.
            Rule::Close(WindowClose { reach_ms: Some(_), .. }) if time <= self.first => return,
            Rule::Close(WindowClose { reach_ms: Some(_), .. }) => time.saturating_sub(1),
            Rule::Close(WindowClose { after_end_ms, .. }) => {
                time.saturating_sub(after_end_ms).saturating_sub(self.longest_ms)
            }
        };
        self.horizon = self.horizon.max(horizon);
    }

    /// What rows wait for, the oldest of which is held under `oldest`.
    pub(super) fn held_back(&self, oldest: Timestamp) -> HeldBack {
        let lag = match self.rule {
            Rule::Limit(ms) => ms,
            Rule::Close(WindowClose { after_end_ms, .. }) if !self.is_carried => after_end_ms,
            Rule::Close(WindowClose { reach_ms: Some(_), .. }) => 1,
            Rule::Close(WindowClose { after_end_ms, .. }) => {
                after_end_ms.saturating_add(self.longest_ms)
            }
        };
        let horizon = Some(self.horizon).filter(|horizon| *horizon > Timestamp::MIN);
        let time = horizon.map(|horizon| horizon.saturating_add(lag));
        // Time never comes to the last timestamp there is.
        let until = oldest.checked_add(lag).filter(|until| *until < Timestamp::MAX);
        HeldBack::Time { time, until }
    }

    /// What is held under `under` is due.
    pub(super) fn is_due(&self, under: Timestamp) -> bool {
        under <= self.horizon
    }

    /// What is held under `under` has come out, perhaps because no more input comes: a window is then closed.
    pub(super) fn emitted(&mut self, under: Timestamp) {
        if matches!(self.rule, Rule::Close(_)) {
            self.horizon = self.horizon.max(under);
        }
    }

    /// Where a row of `timestamp` is held, or one of `window`.
    pub(super) fn held_at(&mut self, timestamp: Timestamp, window: Option<Window>) -> HeldAt {
        let (Some(Window { start, end }), Rule::Close(close)) = (window, self.rule) else {
            return HeldAt { under: timestamp, at_least: timestamp };
        };
        let anchor = close.reach_ms.map_or(start, |reach_ms| end.saturating_sub(reach_ms));
        self.longest_ms = self.longest_ms.max(end.saturating_sub(anchor));
        HeldAt { under: if self.is_carried { anchor } else { end }, at_least: anchor }
    }

    /// Takes a row with the operator time `at` before it into account, `oldest` being what the oldest row is held under. Gives
    /// what is passed on at that point.
    pub(super) fn take(&mut self, at: Timestamp, oldest: Option<Timestamp>) -> Timestamp {
        self.passed = self.pass_time(at, oldest);
        self.first = if self.first == Timestamp::MAX { self.passed } else { self.first };
        self.passed
    }

    /// The time to pass on where that of the input stands at `time`: no more than the oldest row that is held.
    pub(super) fn pass_time(&self, time: Timestamp, oldest: Option<Timestamp>) -> Timestamp {
        let holds_by_end = matches!(self.rule, Rule::Close(_)) && !self.is_carried;
        let longest_ms = if holds_by_end { self.longest_ms } else { 0 };
        let held = oldest.map_or(time, |oldest| time.min(oldest.saturating_sub(longest_ms)));
        self.passed.max(held)
    }

    /// What was passed on at the newest row.
    pub(super) fn passed(&self) -> Timestamp {
        self.passed
    }

    pub(super) fn save(&self) -> [i64; 4] {
        [self.horizon, self.passed, self.first, self.longest_ms]
    }

    pub(super) fn load(&mut self, saved: [i64; 4]) {
        [self.horizon, self.passed, self.first, self.longest_ms] = saved;
    }
}

/// Reads saved numbers.
pub(super) fn read_numbers<const N: usize>(saved: &[u8]) -> Result<[i64; N], ProcessorError> {
    let (numbers, rest) = saved.as_chunks::<8>();
    let numbers: Vec<i64> = numbers.iter().map(|number| i64::from_be_bytes(*number)).collect();
    let numbers = numbers.try_into().ok().filter(|_| rest.is_empty());
    numbers.ok_or(ProcessorError::Damaged)
}

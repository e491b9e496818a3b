//! What a task waits for by the clock: its records for an input that is read to its end (`max.task.idle.ms`), and how long an input
//! must be silent before it holds no time back.
//!
//! Of two inputs, `a` has a record and `b` is read to its end:
//!
//! | `max.task.idle.ms` | the record of `a` is taken |
//! |---|---|
//! | -1 | at once |
//! | 0 | at once, and it counts as enforced |
//! | more | once `b` has been at its end for so long, and counts as enforced; or in its turn, should `b` have more before |
//!
//! # Invariants
//!
//! - An input is fetched before it is taken to be at its end, and after the records of the others were: what the log has is always
//!   waited for, also with -1.
//! - Time goes by the monotonic clock, from when the input was first seen at its end until it has records again.
//! - What comes back of what the task itself sends is not waited for: it may come of what waits.
//! - Nothing waits once all inputs are declared complete.
//! - An input is silent for as long as it has been seen at its end; with it, what its task holds of it until its time moves.

use super::{Task, input::Input};
use crate::{
    node::Now,
    processor::{Punctuation, PunctuationType},
};
use std::time::Duration;

/// What a task waits for, and what it no longer waited for.
#[derive(Debug)]
pub(super) struct Idling {
    /// How long an input is waited for, in ms; none counts nothing as enforced either.
    max_ms: Option<i64>,
    /// How long an input must be silent before rows that are held of it hold no time back; none if they do for ever.
    silence_ms: Option<i64>,
    /// Whether all input is there.
    is_complete: bool,
    /// When records that wait are taken, by the monotonic clock.
    until_ms: Option<i64>,
    /// Whether what is taken now is taken while an input is at its end.
    is_enforced: bool,
    /// Records that were taken so.
    pub(super) enforced: u64,
}

impl Idling {
    pub(super) fn new(max: Option<Duration>, silence: Option<Duration>) -> Self {
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let (max_ms, silence_ms) = (max.map(ms), silence.map(ms));
        Self {
            max_ms,
            silence_ms,
            is_complete: false,
            until_ms: None,
            is_enforced: false,
            enforced: 0,
        }
    }

    /// Forgets what was last waited for: whether it still is, is found out before the next record is taken.
    pub(super) fn look_anew(&mut self) {
        (self.until_ms, self.is_enforced) = (None, false);
    }

    /// So many records were taken.
    pub(super) fn took(&mut self, records: usize) {
        if self.is_enforced {
            self.enforced += records as u64;
        }
    }
}

impl Task {
    /// Whether the records that are there wait for an input that is at its end.
    pub(super) fn waits_for_inputs(&mut self) -> bool {
        let now_ms = self.now.elapsed_ms;
        let mut since_ms = None;
        for input in self.inputs.values_mut() {
            if !input.is_at_end() {
                input.at_end_since_ms = None;
                continue;
            }
            let own_ms = *input.at_end_since_ms.get_or_insert(now_ms);
            if !input.is_fed_back {
                since_ms = since_ms.max(Some(own_ms));
            }
        }
        let Some(max_ms) = self.idling.max_ms else { return false };
        let until_ms = since_ms.map(|since_ms| since_ms.saturating_add(max_ms));
        let has_records = self.inputs.values().any(|input| input.head().is_some());
        self.idling.is_enforced = has_records && until_ms.is_some() && !self.idling.is_complete;
        let waits = self.idling.is_enforced && until_ms.is_some_and(|until_ms| until_ms > now_ms);
        self.idling.until_ms = until_ms.filter(|_| waits);
        waits
    }

    /// How long it is until records are taken that wait for an input.
    pub(super) fn idles_for(&self, now: Now) -> Option<Duration> {
        let left_ms = self.idling.until_ms?.saturating_sub(now.elapsed_ms);
        Some(Duration::from_millis(u64::try_from(left_ms).unwrap_or(0)))
    }

    /// How long it is until the next wall-clock punctuation, or until a record has been held, or an input waited for or silent,
    /// for long enough.
    pub(crate) fn next_timer(&self, now: Now) -> Option<Duration> {
        let on_wall_clock = |p: &&Punctuation| p.kind == PunctuationType::WallClockTime;
        let timers = self.resources.punctuations.values().filter(on_wall_clock);
        let due = timers.filter_map(|p| p.due).min();
        let due = due.map(|due| u64::try_from(due - now.elapsed_ms).unwrap_or(0));
        let held = self.inputs.values().filter_map(|input| input.held.as_ref()?.next_timer(now));
        let waits = self.idles_for(now).into_iter().chain(self.silent_in(now));
        due.map(Duration::from_millis).into_iter().chain(held).chain(waits).min()
    }

    /// Whether silence of inputs ends what rows that are held of them hold back.
    pub(super) fn counts_silence(&self) -> bool {
        self.idling.silence_ms.is_some()
    }

    /// Whether an input has been silent for so long that rows that are held of it hold no time back.
    pub(super) fn is_silent(&self, input: &Input) -> bool {
        self.silent_at_ms(input).is_some_and(|at_ms| at_ms <= self.now.elapsed_ms)
    }

    /// When an input that is at its end will have been silent for so long.
    fn silent_at_ms(&self, input: &Input) -> Option<i64> {
        Some(input.at_end_since_ms?.saturating_add(self.idling.silence_ms?))
    }

    /// How long it is until an input is silent. One that has been since the last step is told with the next.
    fn silent_in(&self, now: Now) -> Option<Duration> {
        let at_ms = self.inputs.values().filter_map(|input| self.silent_at_ms(input));
        let at_ms = at_ms.filter(|at_ms| *at_ms > self.now.elapsed_ms).min()?;
        let left_ms = at_ms.saturating_sub(now.elapsed_ms);
        Some(Duration::from_millis(u64::try_from(left_ms).unwrap_or(0)))
    }

    /// Says whether all input is there, so that no record waits for more.
    pub(crate) fn set_input_complete(&mut self, is_complete: bool) {
        self.idling.is_complete = is_complete;
    }
}

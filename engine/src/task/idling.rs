//! How long the records of a task wait for an input that is read to its end: `max.task.idle.ms`.
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

use super::Task;
use crate::node::Now;
use std::time::Duration;

/// What a task waits for, and what it no longer waited for.
#[derive(Debug)]
pub(super) struct Idling {
    /// How long an input is waited for, in ms; none counts nothing as enforced either.
    max_ms: Option<i64>,
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
    pub(super) fn new(max: Option<Duration>) -> Self {
        let max_ms = max.map(|max| i64::try_from(max.as_millis()).unwrap_or(i64::MAX));
        Self { max_ms, is_complete: false, until_ms: None, is_enforced: false, enforced: 0 }
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
        let Some(max_ms) = self.idling.max_ms else { return false };
        let now_ms = self.now.elapsed_ms;
        let mut until_ms = None;
        for input in self.inputs.values_mut().filter(|input| !input.is_fed_back) {
            if input.is_at_end() {
                let since_ms = *input.at_end_since_ms.get_or_insert(now_ms);
                until_ms = until_ms.max(Some(since_ms.saturating_add(max_ms)));
            } else {
                input.at_end_since_ms = None;
            }
        }
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

    /// Says whether all input is there, so that no record waits for more.
    pub(crate) fn set_input_complete(&mut self, is_complete: bool) {
        self.idling.is_complete = is_complete;
    }
}

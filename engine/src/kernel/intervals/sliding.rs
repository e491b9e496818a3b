//! Sliding windows: one for each set of rows of a key that lie no further apart than the difference.
//!
//! Rows at 10, 13 and 17 where the difference is 5:
//!
//! | window | holds | because |
//! |---|---|---|
//! | [5, 10] | 10 | it ends with the first row: its *left* window |
//! | [8, 13] | 10, 13 | it ends with the second |
//! | [11, 16] | 13 | it begins right after the first row: its *right* window |
//! | [12, 17] | 13, 17 | it ends with the third |
//! | [14, 19] | 17 | it begins right after the second |
//!
//! No window begins below 0: rows that are earlier than the difference have [0, difference] for their left window.
//!
//! # Finding rows
//!
//! Rows are not kept. The closest one before a row at *t* is the latest in the newest window that ends before *t*, and what
//! that window holds is what the left window of *t* does, as far as it is no older; what is later than *t* is what the
//! newest window around *t* holds. A window that was deleted tells nothing of its rows any more.

use super::{super::CopySkin, Lifetime, Row, Rule, Taking};
use crate::{
    kernel::Update,
    store::{Session, StoreError, Window},
};
use headwater_core::{ports::state::Order, record::Timestamp};
use std::ops::RangeInclusive;

/// Sliding windows: a row enters each window that it lies in, and makes those that end with it or begin after it and other
/// rows.
///
/// # Guarantees
///
/// - A window is closed once time is past its end by more than the grace. Those that a row comes too late for are counted
///   one by one; a row that comes too late for all is counted once.
/// - A row updates the windows that are there, newest first; then come the right window of the row before it, its left
///   window and its right one, as far as they are new. Of rows that are earlier than the difference, the windows that are
///   there are updated oldest first, then come the right window of the row, that of the row before, and last what begins
///   at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlidingWindows {
    /// How far apart the rows of a window may be, in ms.
    pub difference_ms: i64,
    /// How long after its end a window takes rows, in ms.
    pub grace_ms: i64,
    /// How long after its start a window is kept, in ms: at least as long as others are made of it.
    pub retention_ms: i64,
}

/// Rows of a key as a window tells of them: which window, their value, and when the latest of them is.
type Contents<A> = (Window, A, Timestamp);

/// What a row finds.
struct Around<A> {
    /// The windows that it lies in, as they are to be updated; the one that begins at 0 not, for a row that is early.
    windows: Vec<Window>,
    /// The closest row before it, if its right window may be missing.
    before: Option<Timestamp>,
    /// The left window of the row, or what it begins with if it is missing.
    left: Left<A>,
    /// What its right window holds, if that is missing.
    later: Option<Contents<A>>,
}

enum Left<A> {
    IsThere,
    Missing(Option<A>),
}

impl SlidingWindows {
    fn lifetime(&self) -> Lifetime {
        let Self { difference_ms, grace_ms, retention_ms } = *self;
        // The left window of a row that is open is made of one that may have ended a difference before.
        let needed_ms = difference_ms.saturating_mul(2).saturating_add(grace_ms).saturating_add(2);
        let retention_ms = retention_ms.max(needed_ms);
        Lifetime { reach_ms: difference_ms, open_ms: grace_ms, retention_ms }
    }

    /// Whether difference and grace are so long that no window ever closes; see
    /// [`Windows::never_close`](crate::kernel::Windows::never_close).
    #[must_use]
    pub fn never_close(&self) -> bool {
        self.lifetime().never_closes()
    }

    /// How long after their starts windows are kept, in ms.
    #[must_use]
    pub fn kept_ms(&self) -> i64 {
        self.lifetime().retention_ms
    }

    fn starting_at(&self, start: Timestamp) -> Window {
        Window { start, end: start.saturating_add(self.difference_ms) }
    }

    fn starting_after(&self, row: Timestamp) -> Window {
        self.starting_at(row.saturating_add(1))
    }

    /// The window that ends with a row, or holds all that are early.
    fn left_of(&self, row: Timestamp) -> Window {
        self.starting_at(row.saturating_sub(self.difference_ms).max(0))
    }

    fn is_early(&self, row: Timestamp) -> bool {
        row < self.difference_ms
    }

    /// The ends of the windows that a row may have to do with, its right window the last of them; windows that end below
    /// `floor` are closed.
    fn ends_around(&self, row: Timestamp, floor: Timestamp) -> RangeInclusive<Timestamp> {
        // Of older ones nothing is made that is open: how long they are kept does not show.
        let oldest = floor.saturating_sub(self.difference_ms).saturating_sub(1);
        let first = row.saturating_sub(self.difference_ms).max(oldest);
        first..=self.starting_after(row).end
    }

    /// What a row finds that is not early.
    fn around<S: CopySkin<Place = Window>>(
        &self,
        row: &Row<'_>,
        taking: &Taking<'_, S>,
    ) -> Result<Around<S::Value>, StoreError> {
        let at = row.stamp.timestamp;
        let (mut has_right, mut newest) = (false, None);
        let mut around =
            Around { windows: Vec::new(), before: None, left: Left::Missing(None), later: None };
        let ends = self.ends_around(at, taking.time.floor());
        for found in taking.store.fetch(row.key, ends, Order::Descending) {
            let Session { window, value, timestamp: latest } = found?;
            if window.start > at {
                has_right = true;
            } else if window.end > at {
                around.windows.push(window);
                newest = newest.or(Some((window, value, latest)));
            } else if window.end == at {
                around.windows.push(window);
                around.left = Left::IsThere;
                around.before = (latest < at).then_some(latest);
                // Where there is a row at this instant already, it has made all the windows that there are to make.
                has_right |= latest == at;
                break;
            } else {
                let is_in_left = latest >= self.left_of(at).start;
                around.left = Left::Missing(is_in_left.then_some(value));
                around.before = Some(latest);
                break;
            }
        }
        around.later = newest.filter(|(.., latest)| !has_right && *latest > at);
        Ok(around)
    }

    /// What a row finds that is early.
    fn around_early<S: CopySkin<Place = Window>>(
        &self,
        row: &Row<'_>,
        taking: &Taking<'_, S>,
    ) -> Result<Around<S::Value>, StoreError> {
        let at = row.stamp.timestamp;
        let (mut has_right, mut newest) = (false, None);
        let mut around =
            Around { windows: Vec::new(), before: None, left: Left::Missing(None), later: None };
        let ends = self.ends_around(at, taking.time.floor());
        for found in taking.store.fetch(row.key, ends, Order::Ascending) {
            let Session { window, value, timestamp: latest } = found?;
            if window.start > at {
                has_right = true;
                continue;
            }
            if window.start == 0 {
                around.left = Left::IsThere;
                // A later row has made the right window of the one before this.
                around.before = (latest < at).then_some(latest);
            } else {
                around.windows.push(window);
            }
            newest = Some((window, value, latest));
        }
        around.later = newest.filter(|(.., latest)| !has_right && *latest > at);
        Ok(around)
    }

    /// The right window of the row before, if it is missing and not the left window of the row at hand.
    fn right_of_before<A>(&self, at: Timestamp, around: &Around<A>) -> Option<Window> {
        let window = self.starting_after(around.before?);
        let is_there = |other: &Window| *other == window;
        let is_missing = !around.windows.iter().any(is_there) && window != self.left_of(at);
        Some(window).filter(|_| is_missing && window.end >= at)
    }
}

impl<S: CopySkin<Place = Window>> Rule<S> for SlidingWindows {
    fn lifetime(&self) -> Lifetime {
        self.lifetime()
    }

    fn take(&self, row: &Row<'_>, taking: &mut Taking<'_, S>) -> Result<(), StoreError> {
        let at = row.stamp.timestamp;
        let last = self.starting_at(at);
        if !taking.time.is_open(last.end) {
            taking.count_late(row, last);
            return Ok(());
        }
        let is_early = self.is_early(at);
        let around =
            if is_early { self.around_early(row, taking)? } else { self.around(row, taking)? };
        let right_of_before = self.right_of_before(at, &around);
        let (left, right) = (self.left_of(at), self.starting_after(at));
        for window in around.windows {
            taking.fold_in(row, window, None);
        }
        if is_early {
            taking.make(row, right, around.later);
            right_of_before.into_iter().for_each(|window| taking.fold_in(row, window, None));
            taking.fold_in(row, left, None);
            return Ok(());
        }
        right_of_before.into_iter().for_each(|window| taking.fold_in(row, window, None));
        if let Left::Missing(earlier) = around.left {
            taking.fold_in(row, left, earlier);
        }
        taking.make(row, right, around.later);
        Ok(())
    }
}

impl<S: CopySkin<Place = Window>> Taking<'_, S> {
    /// Folds a row into a window, which begins with `earlier` if it is not there.
    fn fold_in(&mut self, row: &Row<'_>, window: Window, earlier: Option<S::Value>) {
        if !self.time.is_open(window.end) {
            self.count_late(row, window);
            return;
        }
        let at = row.stamp.timestamp;
        let update = self.change(row, window, |skin, (so_far, latest)| {
            let was_there = so_far.is_some();
            let value = skin.fold_copy(row.place, so_far.or(earlier));
            // A deletion, and the first row after one, stand at their own time.
            let keeps_time = was_there && value.is_some();
            (value, if keeps_time { latest.max(at) } else { at })
        });
        self.push_or_refuse(row, update);
    }

    /// Makes a window of rows that are there, whose headers its final has too.
    fn make(&mut self, row: &Row<'_>, window: Window, rows: Option<Contents<S::Value>>) {
        let rows = rows.filter(|_| self.time.is_open(window.end));
        let Some((source, value, latest)) = rows else { return };
        let update = self.change_as(row, window, Some(source), |_, _| (Some(value), latest));
        self.push_or_refuse(row, update);
    }

    /// Adds an update to the results; a window that the store does not take leaves the others of the row as they are.
    fn push_or_refuse(
        &mut self,
        row: &Row<'_>,
        update: Result<Option<Update<Window, S::Value>>, StoreError>,
    ) {
        match update {
            Ok(update) => self.push(row, update),
            Err(why) => {
                self.refusal.get_or_insert(why);
            }
        }
    }
}

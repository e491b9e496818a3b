//! Sessions: the rows of a key with no longer silence between two of them than the gap.
//!
//! A row at 5 where the gap is 2, over a session from 1 to 3 and one from 7 to 9:
//!
//! | what | result |
//! |---|---|
//! | the sessions that overlap [3, 7] | [1, 3] and [7, 9] |
//! | their values merged in this order, and the row folded in last | the value of [1, 9] |
//! | forwarded | a deletion of [1, 3], one of [7, 9], the value of [1, 9] |

use super::{super::SessionSkin, Lifetime, Row, Rule, Taking};
use crate::{
    kernel::Update,
    store::{Session, StoreError, Window},
};
use headwater_core::{ports::state::Order, record::Timestamp};

/// Sessions: a row belongs to the session of its key that is no further from it than the gap, and makes one of two such.
///
/// # Guarantees
///
/// - A session is closed once time is past its end by more than gap and grace: that says what is late, what a row merges
///   with, what is final and what expires. What is judged is the session with the row in it.
/// - A session that is merged is deleted, oldest first, before the update of the one that it becomes part of. One that is a
///   single instant and is met again at that instant is updated in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sessions {
    /// The longest silence within a session, in ms.
    pub gap_ms: i64,
    /// How long after its gap a session takes rows, in ms.
    pub grace_ms: i64,
    /// How long after its end a session is kept, in ms: at least until it closes.
    pub retention_ms: i64,
}

impl Sessions {
    fn lifetime(&self) -> Lifetime {
        let open_ms = self.gap_ms.saturating_add(self.grace_ms);
        Lifetime { reach_ms: 0, open_ms, retention_ms: self.retention_ms }
    }

    /// Whether gap and grace are so long that no session ever closes; see [`Windows::never_close`](crate::kernel::Windows::never_close).
    #[must_use]
    pub fn never_close(&self) -> bool {
        self.lifetime().never_closes()
    }

    /// The sessions of a row's key that it merges with, by start. Those that are closed take no more.
    fn merged_by<S: SessionSkin<Place = Window>>(
        &self,
        row: &Row<'_>,
        taking: &Taking<'_, S>,
    ) -> Result<Vec<Session<S::Value>>, StoreError> {
        let at = row.stamp.timestamp;
        let earliest_end = at.saturating_sub(self.gap_ms).max(taking.time.floor());
        let latest_start = at.saturating_add(self.gap_ms);
        let mut merged = Vec::new();
        let ends = earliest_end..=Timestamp::MAX;
        for session in taking.store.fetch(row.key, ends, Order::Descending) {
            let session = session?;
            let Window { start, .. } = session.window;
            if start <= latest_start {
                merged.push(session);
            }
            // Sessions that are open lie apart by more than the gap: the next one ends too early.
            if start <= at {
                break;
            }
        }
        merged.reverse();
        Ok(merged)
    }
}

impl<S: SessionSkin<Place = Window>> Rule<S> for Sessions {
    fn lifetime(&self) -> Lifetime {
        self.lifetime()
    }

    fn take(&self, row: &Row<'_>, taking: &mut Taking<'_, S>) -> Result<(), StoreError> {
        let at = row.stamp.timestamp;
        let olds = self.merged_by(row, taking)?;
        let window = olds.iter().fold(Window { start: at, end: at }, |window, old| Window {
            start: window.start.min(old.window.start),
            end: window.end.max(old.window.end),
        });
        if !taking.time.is_open(window.end) {
            taking.count_late(row, window);
            return Ok(());
        }
        let skin = &mut *taking.skin;
        let values = olds.iter().map(|old| old.value.clone());
        let so_far = values.fold(None, |so_far, old| Some(skin.merge(row.place, so_far, old)));
        let value = taking.skin.fold(row.place, so_far);
        let mut update = taking.change(row, window, |_, _| (value, window.end))?;
        let is_repeat = window.start == window.end;
        for old in olds.into_iter().filter(|_| !is_repeat) {
            let deletion = if old.window == window {
                // It is deleted and comes anew.
                update.as_mut().map(|update| Update {
                    new: None,
                    old: update.old.take(),
                    ..*update
                })
            } else {
                taking.change(row, old.window, |_, _| (None, old.window.end))?
            };
            taking.push(row, deletion);
        }
        if let Some(update) = update {
            taking.skin.push(row.place, update);
        }
        Ok(())
    }
}

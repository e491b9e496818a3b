//! Windows whose bounds follow from the rows: sessions and sliding windows. Both ends belong to such a window.
//!
//! | module | holds |
//! |---|---|
//! | `session`, `sliding` | what becomes of the windows of a key when a row of it comes |
//! | `updates`, `finals` | each update, or one final a window |
//!
//! A window stays where it ends and begins: a session that grows is another one, in place of the one that it was.

mod finals;
mod session;
mod sliding;
mod updates;

pub use finals::IntervalFinals;
pub use session::Sessions;
pub use sliding::SlidingWindows;
pub use updates::IntervalUpdates;

use super::{
    CopySkin, Late, Skin, Update, Windows,
    fold::{Folded, KeyedRows, Refused},
    window_state::Closer,
    window_time::{LivesBy, SAVED_TIME_BYTES, WindowTime},
};
use crate::{
    node::{NodeContext, Payload, Stamp},
    processor::{InitContext, ProcessorError},
    store::{OldValues, SessionBytes, StoreError, StoreKey, ValueAndTimestamp, Window},
};
use headwater_core::record::{Headers, Timestamp};

/// How long windows live, counted from their anchors: a window is as old as that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// From a window's anchor to its end, in ms: 0 for sessions, whose anchors are their ends.
    pub reach_ms: i64,
    /// From a window's end to the last instant at which it takes rows, in ms.
    pub open_ms: i64,
    /// How long after its anchor a window is kept, in ms: at least until it closes.
    pub retention_ms: i64,
}

impl Lifetime {
    /// The same as windows of one instant each, which are their anchors.
    fn windows(self) -> Windows {
        let Self { reach_ms, open_ms, retention_ms } = self;
        Windows { retention_ms, ..Windows::tumbling(1, reach_ms.saturating_add(open_ms)) }
    }

    /// Windows that end below this are older than the retention at the time that an operator has saved; none if it has saved
    /// something else.
    pub(crate) fn kept_floor(self, saved: &[u8]) -> Option<Timestamp> {
        let mut anchors = WindowTime::new(self.windows(), LivesBy::CarriedTime);
        anchors.load(saved.get(..SAVED_TIME_BYTES)?).ok()?;
        Some(IntervalTime { anchors, reach_ms: self.reach_ms }.kept_floor())
    }

    /// Whether it is so long that no window ever closes; see [`Windows::never_close`].
    #[must_use]
    pub fn never_closes(self) -> bool {
        self.windows().never_close()
    }
}

/// What becomes of the windows of a key when a row of it comes: [`Sessions`] or [`SlidingWindows`].
pub trait Rule<S: Skin<Place = Window>>: Send + 'static {
    /// How long its windows live.
    fn lifetime(&self) -> Lifetime;

    /// Takes a row.
    ///
    /// # Errors
    ///
    /// Why the store does not take what the row makes.
    fn take(&self, row: &Row<'_>, taking: &mut Taking<'_, S>) -> Result<(), StoreError>;
}

/// A row that is taken.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Which of its batch.
    place: usize,
    /// The bytes of its key.
    key: &'a [u8],
    stamp: Stamp,
    /// What the operator passes on at it.
    passed: Timestamp,
}

/// What a [`Rule`] takes a row with.
pub struct Taking<'a, S: Skin> {
    skin: &'a mut S,
    store: &'a mut SessionBytes<S::Value>,
    time: IntervalTime,
    folded: Folded,
    refused: &'a mut Refused,
    /// Why the store does not take the first window that it does not take, where others are taken.
    refusal: Option<StoreError>,
    /// The windows that are there from now on, or no longer.
    turned: &'a mut Vec<Turned>,
    headers: &'a mut Vec<HeadersOf>,
}

impl<S: Skin> std::fmt::Debug for Taking<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Taking").field("time", &self.time).finish_non_exhaustive()
    }
}

/// A window that is there from now on, or no longer.
struct Turned {
    /// The place of the row that did it.
    row: usize,
    window: Window,
    is_there: bool,
}

/// Which headers the final of a window comes out with from now on.
struct HeadersOf {
    /// The place of the row that decided it.
    row: usize,
    window: Window,
    are: Headed,
}

enum Headed {
    /// The row's, which was folded in; none if it has none.
    Row(Option<Box<Headers>>),
    /// Those of this window as they were before the row, whose rows are its own.
    As(Window),
}

/// The value and timestamp of a window.
type Content<A> = (Option<A>, Timestamp);

impl<S: CopySkin<Place = Window>> Taking<'_, S> {
    /// Makes the content of a window what `change` makes of it and the row. The update, if it is to be forwarded.
    fn change(
        &mut self,
        row: &Row<'_>,
        window: Window,
        change: impl FnOnce(&mut S, Content<S::Value>) -> Content<S::Value>,
    ) -> Result<Option<Update<Window, S::Value>>, StoreError> {
        self.change_as(row, window, None, change)
    }

    /// As [`change`](Self::change); of a window that holds the rows of `source`, and not the one at hand, if there is one.
    fn change_as(
        &mut self,
        row: &Row<'_>,
        window: Window,
        source: Option<Window>,
        change: impl FnOnce(&mut S, Content<S::Value>) -> Content<S::Value>,
    ) -> Result<Option<Update<Window, S::Value>>, StoreError> {
        let slot = self.store.locate(row.key, window)?;
        let (skin, folded) = (&mut *self.skin, self.folded);
        let with_old = matches!(folded, Folded::Forwarded { old_values: OldValues::Sent });
        let (was_there, is_there, update) = self.store.update(slot, |value, timestamp| {
            let old = value.as_ref().filter(|_| with_old);
            let old = old.map(|value| ValueAndTimestamp::of(value, *timestamp));
            let was_there = value.is_some();
            (*value, *timestamp) = change(skin, (value.take(), *timestamp));
            let update = matches!(folded, Folded::Forwarded { .. }).then(|| Update {
                place: window,
                new: value.clone(),
                old,
                timestamp: *timestamp,
                at: row.passed,
                origin: row.stamp.origin,
            });
            (was_there, value.is_some(), update)
        })?;
        if let Folded::HeldBack = self.folded {
            self.store.keep_headers(slot, self.skin.headers_copy(row.place));
        }
        if let Folded::Kept { with_none } = self.folded {
            if was_there != is_there {
                self.turned.push(Turned { row: row.place, window, is_there });
            }
            let headers = self.skin.headers_copy(row.place).filter(|_| is_there);
            if headers.is_some() || with_none || !self.headers.is_empty() {
                self.keep_headers(row.place, window, source, headers);
            }
        }
        Ok(update)
    }

    /// Has the final of a window have these headers, or those that `source` had before the row.
    fn keep_headers(
        &mut self,
        row: usize,
        window: Window,
        source: Option<Window>,
        headers: Option<Box<Headers>>,
    ) {
        let Some(source) = source else {
            self.headers.push(HeadersOf { row, window, are: Headed::Row(headers) });
            return;
        };
        // The row may have been folded into the source already.
        let before = self.headers.partition_point(|of| of.row < row);
        self.headers.insert(before, HeadersOf { row, window, are: Headed::As(source) });
    }

    /// Adds an update to the results, to which more of the row may come.
    fn push(&mut self, row: &Row<'_>, update: Option<Update<Window, S::Value>>) {
        if let Some(update) = update {
            self.skin.push_copy(row.place, update);
        }
    }

    /// Counts a window that the row came too late for.
    fn count_late(&mut self, row: &Row<'_>, window: Window) {
        self.refused.add_late();
        let by_ms = self.time.since_close(window.end);
        let stamp = Stamp { at: row.passed, ..row.stamp };
        self.skin.late(row.place, Late { window, by_ms, stamp });
    }
}

/// An operator's time, and which windows are open at it.
#[derive(Debug, Clone, Copy)]
struct IntervalTime {
    /// Where each anchor is a window.
    anchors: WindowTime,
    reach_ms: i64,
}

impl IntervalTime {
    /// Whether windows that end there take rows now.
    fn is_open(&self, end: Timestamp) -> bool {
        self.anchors.is_open(self.anchor_of(end))
    }

    /// How long windows that end there have been closed, in ms.
    fn since_close(&self, end: Timestamp) -> i64 {
        self.anchors.since_close(self.anchor_of(end))
    }

    /// Windows that end below this are closed.
    fn floor(&self) -> Timestamp {
        self.anchors.floor().saturating_add(self.reach_ms)
    }

    /// Windows that end below this are older than the retention.
    fn kept_floor(&self) -> Timestamp {
        self.anchors.kept_floor().saturating_add(self.reach_ms)
    }

    /// No window is made any more of one that ends below this.
    fn made_of_floor(&self) -> Timestamp {
        self.floor().saturating_sub(self.reach_ms)
    }

    /// The anchor of windows that end there.
    fn anchor_of(&self, end: Timestamp) -> Timestamp {
        end.saturating_sub(self.reach_ms)
    }
}

/// What both operators are made of: the store, the operator's time, and the rows at hand.
struct IntervalState<S: Skin, R> {
    skin: S,
    rule: R,
    store: StoreKey<SessionBytes<S::Value>>,
    time: IntervalTime,
    batch: KeyedRows,
    turned: Vec<Turned>,
    /// The headers to keep of windows that the rows at hand have changed, in their order.
    headers: Vec<HeadersOf>,
    /// The rows at hand that have moved what is closed, unless time alone does.
    closers: Vec<Closer>,
}

impl<S: CopySkin<Place = Window>, R: Rule<S>> IntervalState<S, R> {
    fn open(
        skin: S,
        rule: R,
        store: &str,
        context: &mut InitContext<'_>,
    ) -> Result<Self, ProcessorError> {
        let store = context.byte_store::<SessionBytes<S::Value>>(store)?;
        context.byte_store_mut(store).open()?;
        let lifetime = rule.lifetime();
        let anchors = WindowTime::new(lifetime.windows(), LivesBy::of(context));
        let time = IntervalTime { anchors, reach_ms: lifetime.reach_ms };
        let (batch, turned, closers) = (KeyedRows::default(), Vec::new(), Vec::new());
        Ok(Self { skin, rule, store, time, batch, turned, headers: Vec::new(), closers })
    }

    /// Folds a batch into the windows that are open at each of its rows.
    fn fold(
        &mut self,
        payload: Box<dyn Payload>,
        folded: Folded,
        context: &mut NodeContext<'_>,
    ) -> Result<Refused, ProcessorError> {
        let Self { skin, rule, store, time, batch, turned, headers, closers } = self;
        batch.begin(payload, Vec::new(), skin)?;
        turned.clear();
        headers.clear();
        closers.clear();
        let (store, mut refused) = (context.byte_store(*store), Refused::default());
        for (place, stamp) in batch.stamps.iter().enumerate() {
            let stamp = *stamp;
            let Some(key) = batch.keys.get(place) else {
                // A row without a key moves no time.
                let why = store.refusal(&batch.keys, place).unwrap_or(StoreError::NullKey);
                refused.add(stamp.origin, None, why);
                continue;
            };
            if skin.is_null(place) {
                // Nor does one without a value, where such are dropped.
                refused.add_null_value();
                continue;
            }
            let floor = time.anchors.floor();
            let passed = time.anchors.take(stamp.timestamp, stamp.at);
            if time.anchors.floor() > floor && !time.anchors.is_carried() {
                closers.push(Closer { floor: time.anchors.floor(), origin: stamp.origin });
            }
            store.keep_from(time.kept_floor());
            let row = Row { place, key, stamp, passed };
            let (time, rows, refusal) = (*time, &mut refused, None);
            let mut taking =
                Taking { skin, store, time, folded, refused: rows, refusal, turned, headers };
            let taken = rule.take(&row, &mut taking);
            if let Some(why) = taken.err().or(taking.refusal.take()) {
                refused.add(stamp.origin, Some(key), why);
            }
        }
        Ok(refused)
    }

    /// The operator's time has moved to `time`.
    fn advance(&mut self, time: Timestamp, context: &mut NodeContext<'_>) {
        self.time.anchors.advance(time);
        context.byte_store(self.store).keep_from(self.time.kept_floor());
    }

    /// Has time move past a window that ends there: no further than it must, so that input that comes after all is not late
    /// altogether.
    fn close_past(&mut self, end: Timestamp, context: &mut NodeContext<'_>) {
        self.time.anchors.advance_past(self.time.anchor_of(end));
        context.byte_store(self.store).keep_from(self.time.kept_floor());
    }

    /// Removes the windows that are older than the retention.
    fn expire(&self, store: &mut SessionBytes<S::Value>) {
        store.keep_from(self.time.kept_floor());
        store.expire_below(self.time.kept_floor());
    }
}

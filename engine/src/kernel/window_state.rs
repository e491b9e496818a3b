//! What both operators over windows are made of: the store, the operator's time, and the rows at hand.

use super::{
    Late, Skin,
    fold::{Folded, KeyedRows, Refused, fold_rows},
    window_time::{LivesBy, WindowTime},
};
use crate::{
    broken::broken,
    node::{NO_ORIGIN, NodeContext, Payload, Stamp},
    processor::{InitContext, ProcessorError},
    store::{StoreKey, Window, WindowBytes},
};
use headwater_core::{record::Timestamp, serde::Data};

/// How many rows a batch is spread out to at a time, where each has several windows.
const SPREAD_ROWS_MAX: usize = 8_192;

/// Windows of event time of one size, which start at equal distances: tumbling windows side by side, hopping windows
/// that overlap, or one alone that has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// The size in ms; the largest there is for one window without an end.
    pub size_ms: i64,
    /// From a window's start to that of the next, in ms; at most the size.
    pub advance_ms: i64,
    /// The start of the first window. Earlier rows belong to none, and nothing becomes of them.
    pub first_ms: Timestamp,
    /// How long after its end a window takes rows, in ms.
    pub grace_ms: i64,
    /// How long after its start a window is kept, in ms: at least until it closes.
    pub retention_ms: i64,
}

impl Windows {
    /// Windows side by side from 0, kept until they close.
    #[must_use]
    pub fn tumbling(size_ms: i64, grace_ms: i64) -> Self {
        Self { size_ms, advance_ms: size_ms, first_ms: 0, grace_ms, retention_ms: 0 }
    }

    /// The window that starts at `first_ms` and has no end.
    #[must_use]
    pub fn unlimited(first_ms: Timestamp) -> Self {
        Self { first_ms, ..Self::tumbling(i64::MAX, 0) }
    }

    /// How long it is from a window's start to its close, in ms.
    #[must_use]
    pub fn span_ms(&self) -> i64 {
        self.size_ms.max(1).saturating_add(self.grace_ms.max(0))
    }

    /// Whether that is so long that no window ever closes: more than half of all the time that timestamps tell. They take
    /// every row, and have no finals.
    #[must_use]
    pub fn never_close(&self) -> bool {
        self.span_ms() > i64::MAX / 2
    }
}

/// A row that has closed windows: those that start below `floor`, but for what an earlier row has closed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Closer {
    pub(super) floor: Timestamp,
    /// The record that the row descends from.
    pub(super) origin: u32,
}

/// The record that closed the window that starts, or has its anchor, at `start`, if one of `closers` did, which stand in the
/// order in which time moved.
pub(super) fn closer_of(closers: &[Closer], start: Timestamp) -> u32 {
    let closer = closers.partition_point(|closer| closer.floor <= start);
    closers.get(closer).map_or(NO_ORIGIN, |closer| closer.origin)
}

/// Windows in a store, at an operator's time.
pub(super) struct WindowState<A> {
    pub(super) store: StoreKey<WindowBytes<A>>,
    pub(super) time: WindowTime,
    batch: KeyedRows,
    /// The start of the window of each row at hand, where a row may have several.
    spread: Vec<Timestamp>,
    /// The same, if the window is open.
    starts: Vec<Option<Timestamp>>,
    /// The rows at hand that came too late, by ascending row.
    late: Vec<(usize, Late)>,
    /// What the operator has passed on at each row at hand.
    passed: Vec<Timestamp>,
}

impl<A: Data> WindowState<A> {
    /// The windows that the store called `store` holds.
    pub(super) fn open(
        store: &str,
        windows: Windows,
        context: &mut InitContext<'_>,
    ) -> Result<Self, ProcessorError> {
        let store = context.byte_store::<WindowBytes<A>>(store)?;
        context.byte_store_mut(store).open()?;
        let time = WindowTime::new(windows, LivesBy::of(context));
        let batch = KeyedRows::default();
        let (spread, starts, passed) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { store, time, batch, spread, starts, late: Vec::new(), passed })
    }

    /// Cuts a batch into parts to [fold](Self::fold).
    pub(super) fn parts(&self, payload: Box<dyn Payload>) -> Parts {
        Parts::new(self.time, payload)
    }

    /// Folds a part of a batch into the windows that are open at each of its rows.
    pub(super) fn fold<S: Skin<Place = Window, Value = A>>(
        &mut self,
        Part { payload, starts: spread, again }: Part,
        skin: &mut S,
        folded: Folded,
        context: &mut NodeContext<'_>,
    ) -> Result<Refused, ProcessorError> {
        self.spread = spread;
        let Self { time, batch, spread, starts, late, passed, .. } = self;
        batch.begin(payload, again, skin)?;
        starts.clear();
        passed.clear();
        late.clear();
        // Neighbours mostly share a window; where that is tumbling, one starts at 0.
        let (mut taken, mut near) = (None, 0);
        for (row, (stamp, key)) in batch.stamps.iter().zip(batch.keys.iter()).enumerate() {
            if !batch.is_again(row) {
                // A row without a key moves no time.
                taken = key.map(|_| time.take(stamp.timestamp, stamp.at));
            }
            let start = spread.get(row).copied();
            let start = start.unwrap_or_else(|| time.start_near(near, stamp.timestamp));
            near = start;
            let is_open = time.is_open(start);
            if let Some(at) = taken.filter(|_| !is_open) {
                let (window, by_ms) = (time.window_at(start), time.since_close(start));
                late.push((row, Late { window, by_ms, stamp: Stamp { at, ..*stamp } }));
            }
            starts.push(taken.and_then(|_| is_open.then_some(start)));
            passed.push(taken.unwrap_or(Timestamp::MIN));
        }
        let store = context.byte_store(self.store);
        let slots = store.locate(starts, &batch.keys)?;
        let place_of = |row: usize, _: &Stamp| {
            let (Some(Some(start)), Some(passed)) = (starts.get(row), passed.get(row)) else {
                broken("a row that is folded has a window and the time passed on at it")
            };
            (time.window_at(*start), *passed)
        };
        let late_of = |row: usize| {
            let place = late.binary_search_by_key(&row, |(row, _)| *row).ok()?;
            late.get(place).map(|(_, late)| *late)
        };
        let refused = fold_rows(skin, batch, store, slots, folded, place_of, late_of);
        store.keep_from(time.kept_floor());
        Ok(refused)
    }

    /// The start of the window that a row at hand was folded into, and the row's key.
    pub(super) fn folded(&self, row: usize) -> (Timestamp, &[u8]) {
        match (self.starts.get(row), self.batch.keys.get(row)) {
            (Some(Some(start)), Some(key)) => (*start, key),
            _ => broken("a row that is folded has a window and a key"),
        }
    }

    /// The operator's time has moved to `time`.
    pub(super) fn advance(&mut self, time: Timestamp, context: &mut NodeContext<'_>) {
        self.time.advance(time);
        context.byte_store(self.store).keep_from(self.time.kept_floor());
    }

    /// Has time move past the last window from `first` on that has rows: no further than it must, so that input that comes after
    /// all is not late altogether. A window whose rows were deleted is none after a restart either.
    pub(super) fn close_last(
        &mut self,
        first: Timestamp,
        context: &mut NodeContext<'_>,
    ) -> Result<(), ProcessorError> {
        let store = context.byte_store(self.store);
        for start in store.starts_in(first..Timestamp::MAX).into_iter().rev() {
            if !store.next_chunk(start, None, 1)?.is_empty() {
                self.time.advance_past(start);
                store.keep_from(self.time.kept_floor());
                break;
            }
        }
        Ok(())
    }

    /// Removes the windows that are older than the retention.
    pub(super) fn expire(&self, store: &mut WindowBytes<A>) {
        let floor = self.time.kept_floor();
        if floor > 0 {
            store.expire_below(floor);
        }
    }

    /// Which rows at hand have moved the operator's time, which stood at `before`, past the ends of windows; none where it
    /// is time alone that does.
    pub(super) fn closers(&self, mut before: WindowTime) -> impl Iterator<Item = Closer> {
        let by_rows = !before.is_carried();
        let rows = self.batch.stamps.iter().zip(self.batch.keys.iter());
        let rows = rows.filter(move |(_, key)| key.is_some() && by_rows);
        rows.filter_map(move |(stamp, _)| {
            let floor = before.floor();
            before.take(stamp.timestamp, stamp.at);
            let moved = before.floor() > floor;
            moved.then(|| Closer { floor: before.floor(), origin: stamp.origin })
        })
    }
}

/// Rows to fold: each has one window.
pub(super) struct Part {
    payload: Box<dyn Payload>,
    /// The starts of their windows; none where windows are tumbling, and those follow from timestamps.
    starts: Vec<Timestamp>,
    /// Whether a row is the one before it once more; none if no row is.
    again: Vec<bool>,
}

/// A batch, cut into parts in which each row is there once for each window that it belongs to, by ascending start.
pub(super) struct Parts {
    time: WindowTime,
    /// What is left to cut; a batch of tumbling windows is one part.
    payload: Option<Box<dyn Payload>>,
    stamps: Vec<Stamp>,
    next: usize,
}

impl Parts {
    fn new(time: WindowTime, payload: Box<dyn Payload>) -> Self {
        let mut stamps = Vec::new();
        if !time.is_tumbling() {
            payload.stamps(&mut stamps);
        }
        Self { time, payload: Some(payload), stamps, next: 0 }
    }

    /// The next rows that have windows, up to so many that they are spread out to.
    fn spread(&mut self, payload: &dyn Payload) -> Option<Part> {
        let (mut rows, mut starts, mut again) = (Vec::new(), Vec::new(), Vec::new());
        for (row, stamp) in (0..).zip(&self.stamps).skip(self.next) {
            if starts.len() >= SPREAD_ROWS_MAX {
                break;
            }
            self.next += 1;
            for (place, start) in self.time.starts_of(stamp.timestamp).enumerate() {
                rows.push(row);
                starts.push(start);
                again.push(place > 0);
            }
        }
        (!rows.is_empty()).then(|| Part { payload: payload.select(&rows), starts, again })
    }
}

impl Iterator for Parts {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        let payload = self.payload.take()?;
        if self.time.is_tumbling() {
            return Some(Part { payload, starts: Vec::new(), again: Vec::new() });
        }
        let part = self.spread(payload.as_ref());
        self.payload = Some(payload);
        part
    }
}

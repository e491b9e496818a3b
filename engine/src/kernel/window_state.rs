//! What both operators over windows are made of: the store, the operator's time, and the rows at hand.

use super::{
    Skin,
    fold::{Folded, KeyedRows, Refused, fold_rows},
    window_time::WindowTime,
};
use crate::{
    broken::broken,
    node::{NodeContext, Payload, Stamp},
    processor::{InitContext, ProcessorError},
    store::{StoreKey, Window, WindowBytes},
};
use headwater_core::{record::Timestamp, serde::Data};

/// Tumbling windows: stretches of event time of one size, side by side from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// The size in ms.
    pub size_ms: i64,
    /// How long after its end a window takes rows, in ms.
    pub grace_ms: i64,
    /// How long after its start a window is kept, in ms: at least until it closes.
    pub retention_ms: i64,
}

impl Windows {
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

/// Windows in a store, at an operator's time.
pub(super) struct WindowState<A> {
    pub(super) store: StoreKey<WindowBytes<A>>,
    pub(super) time: WindowTime,
    batch: KeyedRows,
    /// The start of the window that each row at hand belongs to, if it is open.
    starts: Vec<Option<Timestamp>>,
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
        let time = WindowTime::new(windows, context.is_time_carried());
        let batch = KeyedRows::default();
        Ok(Self { store, time, batch, starts: Vec::new(), passed: Vec::new() })
    }

    /// Folds a batch into the windows that are open at each of its rows.
    pub(super) fn fold<S: Skin<Place = Window, Value = A>>(
        &mut self,
        payload: Box<dyn Payload>,
        skin: &mut S,
        folded: Folded,
        context: &mut NodeContext<'_>,
    ) -> Result<Refused, ProcessorError> {
        let Self { time, batch, starts, passed, .. } = self;
        batch.begin(payload, skin)?;
        starts.clear();
        passed.clear();
        for (stamp, key) in batch.stamps.iter().zip(batch.keys.iter()) {
            // A row without a key moves no time.
            let taken = key.map(|_| time.take(stamp.timestamp, stamp.at));
            starts.push(taken.and_then(|_| time.open_window(stamp.timestamp)));
            passed.push(taken.unwrap_or(Timestamp::MIN));
        }
        let store = context.byte_store(self.store);
        let slots = store.locate(starts, &batch.keys)?;
        let place_of = |row: usize, stamp: &Stamp| {
            let Some(passed) = passed.get(row) else {
                broken("a row has the time passed on at it")
            };
            (time.window_of(stamp.timestamp), *passed)
        };
        let refused = fold_rows(skin, batch, store, slots, folded, place_of);
        store.keep_from(time.kept_floor());
        Ok(refused)
    }

    /// The operator's time has moved to `time`.
    pub(super) fn advance(&mut self, time: Timestamp, context: &mut NodeContext<'_>) {
        self.time.advance(time);
        context.byte_store(self.store).keep_from(self.time.kept_floor());
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

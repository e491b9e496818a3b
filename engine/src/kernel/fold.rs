//! The rows of a batch into the entries of a store.

use super::{Emit, Late, Skin, Update, kept_headers::FoldedHeaders};
use crate::{
    broken::broken,
    node::{NodeContext, Payload, Stamp},
    processor::ProcessorError,
    store::{
        KeyBatch, KeyValueBytes, OldValues, Slot, StoreError, StoreOperation, ValueAndTimestamp,
        WindowBytes, WindowSlot,
    },
};
use headwater_core::{
    metrics::DropReason,
    record::{Headers, Timestamp},
    serde::{Data, SerdeError},
};
use std::time::Duration;

/// How many updates a flush forwards at a time: they and what is made of them stay in the processor's caches. It does not
/// go by the size of a batch: where a user's processor lies below, time moves between two parts.
pub(super) const FLUSH_ROWS_MAX: usize = 1_024;

/// Entries of a store that were looked up.
pub(super) trait Entries<A> {
    /// Where an entry is.
    type Slot: Copy;

    /// Begins to count so many changes.
    fn begin(&self, changes: usize) -> Option<Duration>;

    /// They have been made.
    fn end(&self, changes: usize, began: Option<Duration>);

    /// Changes the value in `slot`, unless the new one cannot be kept.
    fn change<R>(
        &mut self,
        slot: Self::Slot,
        change: impl FnOnce(&mut Option<A>, &mut Timestamp) -> R,
    ) -> Result<R, StoreError>;

    /// Keeps the headers of the row that changed the value in `slot` last until a flush.
    fn keep_headers(&mut self, slot: Self::Slot, headers: Option<Box<Headers>>);

    /// Why there is no place for the key of a row, if there is none.
    fn refusal(&self, keys: &KeyBatch, row: usize) -> Option<StoreError>;
}

impl<A: Data> Entries<A> for KeyValueBytes<A> {
    type Slot = Slot;

    fn begin(&self, changes: usize) -> Option<Duration> {
        self.meter.begin(StoreOperation::Put, changes)
    }

    fn end(&self, changes: usize, began: Option<Duration>) {
        self.meter.end(StoreOperation::Put, changes, began);
    }

    fn change<R>(
        &mut self,
        slot: Slot,
        change: impl FnOnce(&mut Option<A>, &mut Timestamp) -> R,
    ) -> Result<R, StoreError> {
        Self::change(self, slot, change)
    }

    fn keep_headers(&mut self, slot: Slot, headers: Option<Box<Headers>>) {
        Self::keep_headers(self, slot, headers);
    }

    fn refusal(&self, keys: &KeyBatch, row: usize) -> Option<StoreError> {
        Self::refusal(self, keys, row)
    }
}

impl<A: Data> Entries<A> for WindowBytes<A> {
    type Slot = WindowSlot;

    fn begin(&self, changes: usize) -> Option<Duration> {
        self.meter.begin(StoreOperation::Put, changes)
    }

    fn end(&self, changes: usize, began: Option<Duration>) {
        self.meter.end(StoreOperation::Put, changes, began);
    }

    fn change<R>(
        &mut self,
        slot: WindowSlot,
        change: impl FnOnce(&mut Option<A>, &mut Timestamp) -> R,
    ) -> Result<R, StoreError> {
        Self::change(self, slot, change)
    }

    fn keep_headers(&mut self, slot: WindowSlot, headers: Option<Box<Headers>>) {
        Self::keep_headers(self, slot, headers);
    }

    fn refusal(&self, keys: &KeyBatch, row: usize) -> Option<StoreError> {
        Self::refusal(self, keys, row)
    }
}

/// The rows at hand: their keys and their stamps. It keeps its memory from batch to batch.
#[derive(Default)]
pub(super) struct KeyedRows {
    pub(super) keys: KeyBatch,
    pub(super) stamps: Vec<Stamp>,
    /// Whether a row is the one before it once more; none if no row is.
    again: Vec<bool>,
}

impl KeyedRows {
    /// Takes in a payload, whose rows `skin` then holds. `again` tells which are the one before them once more, if any is.
    pub(super) fn begin<S: Skin>(
        &mut self,
        payload: Box<dyn Payload>,
        again: Vec<bool>,
        skin: &mut S,
    ) -> Result<(), ProcessorError> {
        self.again = again;
        self.keys.clear();
        self.stamps.clear();
        payload.stamps(&mut self.stamps);
        skin.begin(payload, &mut self.keys)?;
        if self.keys.len() != self.stamps.len() {
            broken("a skin adds a key, or none, for each row of its batch");
        }
        Ok(())
    }

    /// Whether a row is the one before it once more.
    pub(super) fn is_again(&self, row: usize) -> bool {
        self.again.get(row) == Some(&true)
    }
}

/// Rows that were not folded, results that are none, and headers to keep: their fate is decided once the store is no longer
/// borrowed.
#[derive(Default)]
pub(super) struct Refused {
    /// Those of rows that were folded into what is kept.
    pub(super) headers: Vec<FoldedHeaders>,
    /// How many rows came too late.
    late: u64,
    /// How many rows had no value, where such are dropped.
    null_values: u64,
    /// Rows that the store does not take, each with why.
    rows: Vec<(Rejected, StoreError)>,
    /// Results at a time that there is not, which a user's processor may have written to the store.
    times: Vec<(Rejected, Timestamp)>,
}

/// The origin of a row that was not folded or a result that is none, and the bytes of its key.
struct Rejected {
    origin: u32,
    key: Option<Vec<u8>>,
}

impl Refused {
    /// Drops and counts rows that are late or have no key, and makes the others dead letters.
    pub(super) fn reject(self, context: &mut NodeContext<'_>) -> Result<(), ProcessorError> {
        context.drop_rows(self.late, DropReason::Late);
        context.drop_rows(self.null_values, DropReason::NullValue);
        for (Rejected { origin, key }, time) in self.times {
            context.reject_time(origin, key.as_deref(), time);
        }
        for (Rejected { origin, key }, why) in self.rows {
            context.reject(origin, key.as_deref(), why.into())?;
        }
        Ok(())
    }

    /// Counts a row, or one of its windows, as late.
    pub(super) fn add_late(&mut self) {
        self.late += 1;
    }

    /// Counts a row that has no value.
    pub(super) fn add_null_value(&mut self) {
        self.null_values += 1;
    }

    /// Adds a row that the store does not take.
    pub(super) fn add(&mut self, origin: u32, key: Option<&[u8]>, why: StoreError) {
        self.rows.push((Rejected { origin, key: key.map(<[u8]>::to_vec) }, why));
    }

    /// Adds an update of a key to the results of `skin`, if it may be one.
    pub(super) fn push_entry<S: Skin>(
        &mut self,
        skin: &mut S,
        key: &[u8],
        update: Update<S::Place, S::Value>,
        headers: Option<Box<Headers>>,
    ) -> Result<(), SerdeError> {
        if update.timestamp < 0 {
            let rejected = Rejected { origin: update.origin, key: Some(key.to_vec()) };
            self.times.push((rejected, update.timestamp));
            return Ok(());
        }
        skin.push_entry(key, update, headers)
    }
}

/// What becomes of the values that rows are folded into.
#[derive(Debug, Clone, Copy)]
pub(super) enum Folded {
    /// They are forwarded.
    Forwarded { old_values: OldValues },
    /// They are held back until a flush.
    HeldBack,
    /// They are kept, and headers with them; those of a row that has none are of interest from the first row that has some,
    /// or else if told so.
    Kept { with_none: bool },
}

impl From<Emit> for Folded {
    fn from(Emit { is_cached, old_values, .. }: Emit) -> Self {
        if is_cached { Self::HeldBack } else { Self::Forwarded { old_values } }
    }
}

/// Folds each row into the entry that was looked up for it. `place_of` tells place and operator time of a row's update,
/// `late_of` for what a row comes too late that is looked up nowhere.
pub(super) fn fold_rows<S: Skin, E: Entries<S::Value>>(
    skin: &mut S,
    batch: &KeyedRows,
    entries: &mut E,
    slots: Vec<Option<E::Slot>>,
    folded: Folded,
    place_of: impl Fn(usize, &Stamp) -> (S::Place, Timestamp),
    late_of: impl Fn(usize) -> Option<Late>,
) -> Refused {
    let mut refused = Refused::default();
    if let Folded::Forwarded { .. } = folded {
        skin.reserve(slots.len());
    }
    let changes = slots.iter().flatten().count();
    let began = entries.begin(changes);
    for (row, (stamp, slot)) in batch.stamps.iter().zip(slots).enumerate() {
        let Some(slot) = slot else {
            match entries.refusal(&batch.keys, row) {
                // A key is refused once, whatever the number of windows.
                Some(_) if batch.is_again(row) => {}
                Some(why) => refused.add(stamp.origin, batch.keys.get(row), why),
                None => {
                    refused.late += 1;
                    late_of(row).into_iter().for_each(|late| skin.late(row, late));
                }
            }
            continue;
        };
        let mut is_there = false;
        let update = entries.change(slot, |value, timestamp| {
            let with_old = matches!(folded, Folded::Forwarded { old_values: OldValues::Sent });
            let old = value.as_ref().filter(|_| with_old);
            let old = old.map(|value| ValueAndTimestamp::of(value, *timestamp));
            let before = value.take();
            let was_there = before.is_some();
            *value = skin.fold(row, before);
            *timestamp = match value {
                Some(_) if was_there => stamp.timestamp.max(*timestamp),
                None if was_there => skin.deletion_time(stamp.timestamp, *timestamp),
                // The first row after a deletion stands at its own time.
                Some(_) | None => stamp.timestamp,
            };
            is_there = value.is_some();
            let Folded::Forwarded { .. } = folded else { return None };
            let (place, at) = place_of(row, stamp);
            let (new, timestamp, origin) = (value.clone(), *timestamp, stamp.origin);
            Some(Update { place, new, old, timestamp, at, origin })
        });
        match (update, folded) {
            (Ok(Some(update)), _) => skin.push(row, update),
            (Ok(None), Folded::HeldBack) => entries.keep_headers(slot, skin.headers()),
            (Ok(None), Folded::Kept { with_none }) => {
                // A window that was deleted has no final, which would take its headers away.
                let headers = skin.headers().filter(|_| is_there);
                if headers.is_some() || with_none || !refused.headers.is_empty() {
                    refused.headers.push(FoldedHeaders { row, headers });
                }
            }
            (Ok(None), Folded::Forwarded { .. }) => {}
            (Err(why), _) => refused.add(stamp.origin, batch.keys.get(row), why),
        }
    }
    entries.end(changes, began);
    refused
}

//! Folds the rows of one key into one value.
//!
//! # Guarantees
//!
//! - A row whose key is null is dropped and counted; one whose result cannot be kept becomes a dead letter, and the value
//!   stays as it was.
//! - A value carries the largest event time folded into it: late rows never move it back.
//! - With caching, nothing is forwarded until a flush, and then the last value of each key that changed, with the headers
//!   of the last row; without, one update a row. The store ends the same either way.

use super::{
    Emit, Skin, Update,
    fold::{FLUSH_ROWS_MAX, KeyedRows, Refused, fold_rows},
    window_time::read_time,
};
use crate::{
    node::{Event, Forwarded, NO_ORIGIN, Node, NodeContext, Payload, Stamp},
    processor::{InitContext, ProcessorError},
    store::{EntryRef, KeyValueBytes, StoreKey, Updated},
};
use headwater_core::record::Timestamp;

/// Folds rows into one value of each key, and forwards each update, or with caching the last one of each key at a flush.
pub struct Aggregate<S: Skin<Place = ()>> {
    skin: S,
    store: StoreKey<KeyValueBytes<S::Value>>,
    emit: Emit,
    /// Whether the cache holds updates back.
    holds_updates: bool,
    /// The operator time at the last flush: what the cache holds back may be as old.
    flushed: Timestamp,
    batch: KeyedRows,
}

impl<S: Skin<Place = ()>> std::fmt::Debug for Aggregate<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aggregate").field("emit", &self.emit).finish_non_exhaustive()
    }
}

impl<S: Skin<Place = ()>> Aggregate<S> {
    /// Over the key-value store called `store`.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::NotConnected`], or [`ProcessorError::OtherStore`] if it holds other values.
    pub fn open(
        skin: S,
        store: &str,
        emit: Emit,
        context: &mut InitContext<'_>,
    ) -> Result<Self, ProcessorError> {
        let store = context.byte_store::<KeyValueBytes<S::Value>>(store)?;
        if emit.is_cached {
            let store = context.byte_store_mut(store);
            store.hold_updates_back(emit.old_values);
        }
        let (holds_updates, flushed) = (false, Timestamp::MIN);
        Ok(Self { skin, store, emit, holds_updates, flushed, batch: KeyedRows::default() })
    }

    fn take(
        &mut self,
        payload: Box<dyn Payload>,
        context: &mut NodeContext<'_>,
    ) -> Result<(), ProcessorError> {
        let Self { skin, batch, emit, .. } = self;
        self.holds_updates = emit.is_cached;
        batch.begin(payload, Vec::new(), skin)?;
        let store = context.byte_store(self.store);
        let slots = store.locate(&batch.keys)?;
        let place_of = |_, stamp: &Stamp| ((), stamp.at);
        fold_rows(skin, batch, store, slots, (*emit).into(), place_of, |_| None).reject(context)
    }

    /// Has the skin gather what is held back, as far as that goes at a time; whether more is.
    fn flush(&mut self, context: &mut NodeContext<'_>) -> Result<bool, ProcessorError> {
        if !self.emit.is_cached {
            return Ok(false);
        }
        (self.holds_updates, self.flushed) = (false, context.operator_time());
        let (at, mut refused) = (context.passed_time(), Refused::default());
        let store = context.byte_store(self.store);
        self.skin.reserve(store.updates_len().min(FLUSH_ROWS_MAX));
        let pushed =
            store.take_updates(FLUSH_ROWS_MAX).try_for_each(|Updated { entry, old, headers }| {
                let EntryRef { key, value, timestamp } = entry;
                let update = Update {
                    place: (),
                    new: value.cloned(),
                    old,
                    timestamp,
                    at,
                    origin: NO_ORIGIN,
                };
                refused.push_entry(&mut self.skin, key, update, headers)
            });
        pushed.map_err(|e| store.unreadable(&e))?;
        let is_part = store.updates_len() > 0;
        refused.reject(context)?;
        Ok(is_part)
    }
}

impl<S: Skin<Place = ()>> Node for Aggregate<S> {
    fn handle(
        &mut self,
        event: Event,
        context: &mut NodeContext<'_>,
    ) -> Result<Forwarded, ProcessorError> {
        match event {
            Event::Batch { payload, .. } => self.take(payload, context)?,
            Event::Flush if self.flush(context)? => return Ok(Forwarded::part(self.skin.take())),
            Event::Flush => {}
            Event::Advance(_) | Event::End | Event::Resume(_) => {}
            Event::Punctuate(..) | Event::Due => {}
        }
        Ok(Forwarded::all(self.skin.take()))
    }

    fn pass_time(&self, time: Timestamp) -> Timestamp {
        if self.emit.is_cached { self.flushed } else { time }
    }

    fn holds_rows(&self) -> bool {
        self.holds_updates
    }

    fn save(&self, out: &mut Vec<u8>) {
        if self.flushed > Timestamp::MIN {
            out.extend_from_slice(&self.flushed.to_be_bytes());
        }
    }

    fn load(&mut self, saved: &[u8], _: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        self.flushed = read_time(saved)?;
        Ok(())
    }
}

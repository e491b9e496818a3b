//! Keeps the newest value of each key.
//!
//! # Guarantees
//!
//! - Every row is forwarded, also one that changes nothing; the store is written first.
//! - A row whose key is null is dropped and counted; one whose value cannot be kept becomes a dead letter.
//! - What arrives last wins, whatever its timestamp.
//! - Old values are read only where they are asked for.

use super::{
    Skin, Update,
    fold::{KeyedRows, Refused},
};
use crate::{
    broken::broken,
    node::{Event, Forwarded, Node, NodeContext, Payload},
    processor::{InitContext, ProcessorError},
    store::{KeyValueBytes, OldValues, StoreKey, ValueAndTimestamp},
};
use std::mem::replace;

/// Puts rows into a store, and forwards each. What its skin folds a row into is the row's own value, whatever was there.
pub struct Table<S: Skin<Place = ()>> {
    skin: S,
    store: StoreKey<KeyValueBytes<S::Value>>,
    old_values: OldValues,
    batch: KeyedRows,
}

impl<S: Skin<Place = ()>> std::fmt::Debug for Table<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("old_values", &self.old_values).finish_non_exhaustive()
    }
}

impl<S: Skin<Place = ()>> Table<S> {
    /// Over the key-value store called `store`.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::NotConnected`], or [`ProcessorError::OtherStore`] if it holds other values.
    pub fn open(
        skin: S,
        store: &str,
        old_values: OldValues,
        context: &mut InitContext<'_>,
    ) -> Result<Self, ProcessorError> {
        let store = context.byte_store(store)?;
        Ok(Self { skin, store, old_values, batch: KeyedRows::default() })
    }

    fn take(
        &mut self,
        payload: Box<dyn Payload>,
        context: &mut NodeContext<'_>,
    ) -> Result<(), ProcessorError> {
        let Self { skin, batch, old_values, .. } = self;
        let with_old = *old_values == OldValues::Sent;
        batch.begin(payload, Vec::new(), skin)?;
        skin.reserve(batch.stamps.len());
        let (store, mut refused) = (context.byte_store(self.store), Refused::default());
        let slots = if with_old { store.locate(&batch.keys)? } else { store.find(&batch.keys) };
        let rows = batch.stamps.iter().zip(batch.keys.iter()).zip(slots).enumerate();
        for (row, ((stamp, key), slot)) in rows {
            let key = key.filter(|_| slot.is_some() || !with_old);
            let Some(key) = key else {
                let Some(why) = store.refusal(&batch.keys, row) else {
                    broken("a key that is nowhere is refused")
                };
                refused.add(stamp.origin, batch.keys.get(row), why);
                continue;
            };
            let new = skin.fold(row, None);
            let (value, timestamp) = (new.clone(), stamp.timestamp);
            let old = match slot.filter(|_| with_old) {
                None => store.put_found(slot, key, value, timestamp).map(|()| None),
                Some(slot) => store.update(slot, |entry, at| {
                    let timestamp = replace(at, timestamp);
                    let old = replace(entry, value);
                    old.map(|value| ValueAndTimestamp { value, timestamp })
                }),
            };
            match old {
                Ok(old) => {
                    let (at, origin) = (stamp.at, stamp.origin);
                    skin.push(row, Update { place: (), new, old, timestamp, at, origin });
                }
                Err(why) => refused.add(stamp.origin, Some(key), why),
            }
        }
        refused.reject(context)
    }
}

impl<S: Skin<Place = ()>> Node for Table<S> {
    fn handle(
        &mut self,
        event: Event,
        context: &mut NodeContext<'_>,
    ) -> Result<Forwarded, ProcessorError> {
        if let Event::Batch { payload, .. } = event {
            self.take(payload, context)?;
        }
        Ok(Forwarded::all(self.skin.take()))
    }
}

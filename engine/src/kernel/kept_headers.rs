//! The headers that finals come out with: those of the row that was folded into a window last, kept until it closes.
//!
//! They lie in a store of their own, so that what a window holds is its value alone, and a window whose last row has none has no
//! entry there. Where no row ever has headers, the store is asked for nothing.

use crate::{
    node::NodeContext,
    processor::{InitContext, ProcessorError},
    store::{KeyValueBytes, KeyValueStore, StoreBuilder, StoreError, StoreKey},
};
use headwater_core::{
    ports::state::Order,
    record::{Headers, Timestamp},
    serde::{Bytes, ReadBack, Serde, SerdeError},
};
use std::{ops::Bound, sync::Arc};

/// How many that may have expired are read at a time.
const EXPIRED_READ_MAX: usize = 1_024;

/// Headers as a record of the log has them.
struct HeadersSerde;

impl Serde<Headers> for HeadersSerde {
    fn serialize(&self, value: &Headers, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        value.encode(out);
        Ok(true)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Headers, SerdeError> {
        Headers::decode(bytes.ok_or(SerdeError::Null)?)
            .map_err(|why| SerdeError::Malformed { expected: "headers", detail: why.to_string() })
    }

    fn check(&self, value: &Headers, _: &mut ReadBack) -> Result<usize, SerdeError> {
        Ok(value.size_bytes())
    }

    fn schema(&self) -> String {
        "headers".to_owned()
    }
}

/// Declares a store for the headers that finals come out with.
#[must_use]
pub fn headers_store(name: &str) -> StoreBuilder {
    KeyValueStore::<Vec<u8>, Headers>::builder(name, Arc::new(Bytes), Arc::new(HeadersSerde))
}

/// Headers of a row that was folded into a window.
pub(super) struct FoldedHeaders {
    /// Which row of its batch.
    pub(super) row: usize,
    pub(super) headers: Option<Box<Headers>>,
}

/// The headers of open windows, by own keys of the operator's.
pub(super) struct KeptHeaders {
    store: StoreKey<KeyValueBytes<Headers>>,
    /// Whether the store may have an entry.
    has_any: bool,
    /// No own key begins with a time below this.
    first: Timestamp,
}

impl KeptHeaders {
    /// In the store called `name`.
    pub(super) fn open(name: &str, context: &mut InitContext<'_>) -> Result<Self, ProcessorError> {
        let store = context.byte_store::<KeyValueBytes<Headers>>(name)?;
        let has_any = context.byte_store_mut(store).has_stored()?;
        Ok(Self { store, has_any, first: Timestamp::MIN })
    }

    /// Whether rows without headers are of interest: they may follow one that has some.
    pub(super) fn has_any(&self) -> bool {
        self.has_any
    }

    /// Has the window with this own key come out with these headers, or without.
    pub(super) fn keep(
        &mut self,
        own_key: &[u8],
        headers: Option<Box<Headers>>,
        context: &mut NodeContext<'_>,
    ) -> Result<(), ProcessorError> {
        let store = context.byte_store(self.store);
        let Some(headers) = headers else {
            return if self.has_any { self.remove(own_key, context).map(drop) } else { Ok(()) };
        };
        self.has_any = true;
        self.first = self.first.min(time_of(own_key));
        match store.put(own_key, Some(*headers), 0) {
            Ok(()) => Ok(()),
            Err(StoreError::State(why)) => Err(why.into()),
            Err(why) => {
                tracing::warn!(%why, "a final comes out without headers");
                self.remove(own_key, context).map(drop)
            }
        }
    }

    /// Gives the headers of the window with this own key, and forgets them.
    pub(super) fn take(
        &mut self,
        own_key: &[u8],
        context: &mut NodeContext<'_>,
    ) -> Result<Option<Box<Headers>>, ProcessorError> {
        if self.has_any { self.remove(own_key, context) } else { Ok(None) }
    }

    /// Gives the headers of the window with this own key, and keeps them.
    pub(super) fn get(
        &self,
        own_key: &[u8],
        context: &mut NodeContext<'_>,
    ) -> Result<Option<Box<Headers>>, ProcessorError> {
        if !self.has_any {
            return Ok(None);
        }
        let store = context.byte_store(self.store);
        let slot = store.locate_one(own_key)?;
        Ok(store.get(slot).0.cloned().map(Box::new))
    }

    /// Forgets those whose own keys begin with a time below `floor`.
    pub(super) fn expire_below(
        &mut self,
        floor: Timestamp,
        context: &mut NodeContext<'_>,
    ) -> Result<(), ProcessorError> {
        while self.has_any && self.first < floor {
            // What was removed since the commit lies below, and is not passed by again.
            let from = self.first.max(0).to_be_bytes();
            let left = (Bound::Included(&from[..]), Bound::Unbounded);
            let entries = context.byte_store(self.store).scan(left, Order::Ascending)?;
            let keys = entries.take(EXPIRED_READ_MAX).map(|entry| entry.map(|entry| entry.key));
            let keys: Vec<Vec<u8>> = keys.collect::<Result<_, _>>()?;
            let kept = keys.iter().position(|key| time_of(key) >= floor);
            let is_all = kept.is_some() || keys.len() < EXPIRED_READ_MAX;
            let first = if is_all { kept.and_then(|kept| keys.get(kept)) } else { keys.last() };
            self.first = first.map_or(Timestamp::MAX, |key| time_of(key));
            for key in keys.iter().take(kept.unwrap_or(keys.len())) {
                self.remove(key, context)?;
            }
        }
        Ok(())
    }

    fn remove(
        &self,
        own_key: &[u8],
        context: &mut NodeContext<'_>,
    ) -> Result<Option<Box<Headers>>, ProcessorError> {
        let store = context.byte_store(self.store);
        let slot = store.locate_one(own_key)?;
        if store.get(slot).0.is_none() {
            return Ok(None);
        }
        Ok(store.update(slot, |headers, _| headers.take())?.map(Box::new))
    }
}

/// The time that an own key begins with.
fn time_of(own_key: &[u8]) -> Timestamp {
    own_key.first_chunk().map_or(Timestamp::MIN, |bytes| Timestamp::from_be_bytes(*bytes))
}

/// An own key: what comes in front of a key, and the key.
pub(super) fn own_key(times: &[Timestamp], key: &[u8]) -> Vec<u8> {
    let mut own: Vec<u8> = times.iter().flat_map(|time| time.to_be_bytes()).collect();
    own.extend_from_slice(key);
    own
}

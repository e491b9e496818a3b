//! Where an operator keeps what it makes of each row: the newest result of each key, or its versions.
//!
//! # Guarantees
//!
//! - The store is written first; old values are what it held.
//! - Of versions, a result that is older than the newest one is an older version, and forwarded as such; one that is older than
//!   the history is dropped and counted as late.

use crate::table::{Change, OldValues};
use headwater_core::{metrics::DropReason, record::Timestamp, serde::Data};
use headwater_engine::{
    processor::{Context, InitContext, ProcessorError},
    store::{KeyValueStore, PutOutcome, StoreKey, ValueAndTimestamp, VersionedKeyValueStore},
};
use std::mem::replace;

/// What a store of results keeps of each key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResultsKept {
    Newest,
    Versions,
}

/// The store of an operator's results.
pub(crate) struct Results<K, V> {
    store: Store<K, V>,
    old_values: OldValues,
}

enum Store<K, V> {
    Newest(StoreKey<KeyValueStore<K, V>>),
    Versions(StoreKey<VersionedKeyValueStore<K, V>>),
}

impl<K: Data, V: Data> Results<K, V> {
    pub(crate) fn open(
        name: &str,
        kept: ResultsKept,
        old_values: OldValues,
        context: &mut InitContext<'_>,
    ) -> Result<Self, ProcessorError> {
        let store = match kept {
            ResultsKept::Newest => Store::Newest(context.store(name)?),
            ResultsKept::Versions => Store::Versions(context.store(name)?),
        };
        Ok(Self { store, old_values })
    }

    /// Whether an older version of a row has a result of its own.
    pub(crate) const fn has_versions(&self) -> bool {
        matches!(self.store, Store::Versions(_))
    }

    /// Keeps `new` as the result of `key` from `time` on, and gives its update, if it has one.
    pub(crate) fn put(
        &self,
        key: &K,
        new: Option<V>,
        time: Timestamp,
        context: &mut Context<'_, K, Change<V>>,
    ) -> Result<Option<Change<V>>, ProcessorError> {
        match self.store {
            Store::Newest(store) if self.old_values == OldValues::Sent => {
                let old = context.store(store).update(key, |value, at| {
                    let timestamp = replace(at, time);
                    let old = replace(value, new.clone());
                    old.map(|value| ValueAndTimestamp { value, timestamp })
                })?;
                Ok(Some(Change::latest(new, old)))
            }
            Store::Newest(store) => {
                // Nobody asks for the old value: it need not be read.
                context.store(store).put(key, new.clone(), time)?;
                Ok(Some(Change::latest(new, None)))
            }
            Store::Versions(store) => self.put_version(store, key, new, time, context),
        }
    }

    fn put_version(
        &self,
        store: StoreKey<VersionedKeyValueStore<K, V>>,
        key: &K,
        new: Option<V>,
        time: Timestamp,
        context: &mut Context<'_, K, Change<V>>,
    ) -> Result<Option<Change<V>>, ProcessorError> {
        let versions = context.store(store);
        let old = match self.old_values {
            OldValues::Sent => versions.get(key)?.map(ValueAndTimestamp::from),
            OldValues::Omitted => None,
        };
        let is_latest = match versions.put(key, new.clone(), time)? {
            PutOutcome::Latest => true,
            PutOutcome::ValidUntil(_) => false,
            PutOutcome::Rejected => {
                context.drop_record(DropReason::Late);
                return Ok(None);
            }
        };
        Ok(Some(Change { new, old, is_latest }))
    }

    /// Deletes the result of `key` from `time` on, and gives its update, unless there is no result: of versions, none at `time`.
    pub(crate) fn delete_if_there(
        &self,
        key: &K,
        time: Timestamp,
        context: &mut Context<'_, K, Change<V>>,
    ) -> Result<Option<Change<V>>, ProcessorError> {
        match self.store {
            Store::Newest(store) => {
                let old = context.store(store).update(key, |value, at| {
                    let value = value.take()?;
                    Some(ValueAndTimestamp { value, timestamp: replace(at, time) })
                })?;
                let sent = |old| (self.old_values == OldValues::Sent).then_some(old);
                Ok(old.map(|old| Change::latest(None, sent(old))))
            }
            // The newest one may be none since, by a deletion that is newer and came before.
            Store::Versions(store) => match context.store(store).get_as_of(key, time)? {
                Some(_) => self.put_version(store, key, None, time, context),
                None => Ok(None),
            },
        }
    }
}

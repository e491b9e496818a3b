//! How a store's keys and values become bytes, and what is said when they do not.

use super::{EntryRef, KeyBatch, StoreError, cache::Cache};
use headwater_core::{
    ports::state::{StateError, Stored},
    record::{RecordSetBuilder, SetFull},
    serde::{Data, SharedSerde},
};
use std::sync::Arc;

/// Which part of which store: what its errors name.
#[derive(Debug, Clone)]
pub(crate) struct StoreId {
    pub(crate) name: Arc<str>,
    pub(crate) partition: u32,
}

impl StoreId {
    /// The bytes are not of the store's types.
    pub(crate) fn unreadable(&self, cause: &dyn std::fmt::Display) -> StateError {
        StateError::Unreadable {
            store: Arc::clone(&self.name),
            partition: self.partition,
            detail: cause.to_string(),
        }
    }

    fn unwritable(&self, cause: &dyn std::fmt::Display) -> StateError {
        StateError::Unwritable {
            store: Arc::clone(&self.name),
            partition: self.partition,
            detail: cause.to_string(),
        }
    }

    pub(super) fn damaged(&self, cause: &str) -> StateError {
        StateError::Corrupt {
            store: Arc::clone(&self.name),
            partition: self.partition,
            detail: cause.to_owned(),
        }
    }
}

/// The keys of a typed store.
pub(crate) struct Keys<K> {
    serde: SharedSerde<K>,
    id: StoreId,
}

impl<K: Data> Keys<K> {
    pub(crate) fn new(serde: &SharedSerde<K>, id: &StoreId) -> Self {
        Self { serde: SharedSerde::clone(serde), id: id.clone() }
    }

    /// Makes `out` the bytes of `key`.
    pub(crate) fn write(&self, key: &K, out: &mut Vec<u8>) -> Result<(), StoreError> {
        out.clear();
        match self.serde.serialize(key, out) {
            Ok(true) => Ok(()),
            Ok(false) => Err(StoreError::NullKey),
            Err(source) => Err(StoreError::Key { store: Arc::clone(&self.id.name), source }),
        }
    }

    /// Adds the keys to `batch`; a key that is null or cannot be written is none there.
    pub(super) fn write_all<'k>(&self, keys: impl Iterator<Item = &'k K>, batch: &mut KeyBatch)
    where
        K: 'k,
    {
        batch.clear();
        keys.for_each(|key| batch.push(|out| self.serde.serialize(key, out)));
    }

    /// Why a store has no place for `key`, if it has none.
    pub(super) fn refusal(&self, key: &K, scratch: &mut Vec<u8>) -> Option<StoreError> {
        self.write(key, scratch).err()
    }

    pub(crate) fn read(&self, bytes: &[u8]) -> Result<K, StateError> {
        self.serde.deserialize(Some(bytes)).map_err(|e| self.id.unreadable(&e))
    }
}

/// The values of a store: the adapter between what a cache holds and bytes.
pub(crate) struct Values<V> {
    serde: SharedSerde<V>,
    pub(crate) id: StoreId,
}

impl<V: Data> Values<V> {
    pub(crate) fn new(serde: &SharedSerde<V>, id: &StoreId) -> Self {
        Self { serde: SharedSerde::clone(serde), id: id.clone() }
    }

    pub(crate) fn read(&self, bytes: &[u8]) -> Result<V, StateError> {
        self.serde.deserialize(Some(bytes)).map_err(|e| self.id.unreadable(&e))
    }

    /// Adds a key that is not cached as the state has it.
    pub(super) fn adopt(
        &self,
        cache: &mut Cache<V>,
        key: &[u8],
        stored: Option<Stored>,
    ) -> Result<u32, StateError> {
        let Some(Stored { timestamp, value }) = stored else {
            return Ok(cache.insert(key, None, 0));
        };
        Ok(cache.insert(key, Some(self.read(&value)?), timestamp))
    }

    /// Writes an entry as a changelog record under `key`.
    pub(super) fn write_change(
        &self,
        records: &mut RecordSetBuilder,
        key: &[u8],
        entry: &EntryRef<'_, V>,
    ) -> Result<(), StateError> {
        let write = |out: &mut Vec<u8>| match entry.value {
            None => Ok(false),
            Some(value) => self.serde.serialize(value, out).map_err(|e| NotWritten(e.to_string())),
        };
        let written = records.push_encoded(entry.timestamp, Some(key), &[], write);
        written.map_err(|NotWritten(cause)| self.id.unwritable(&cause))
    }
}

/// Why a changelog record could not be written.
struct NotWritten(String);

impl From<SetFull> for NotWritten {
    fn from(error: SetFull) -> Self {
        Self(error.to_string())
    }
}

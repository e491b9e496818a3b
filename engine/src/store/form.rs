//! How a store's keys and values become bytes, and what is said when they do not.

use super::{
    EntryRef, KeyBatch, StoreError, ValueAndTimestamp, across::Bounds, cache::Cache,
    key_bytes::Hashed,
};
use headwater_core::{
    ports::state::{StateError, Stored},
    record::{RecordSetBuilder, SetFull, Timestamp},
    serde::{Data, ReadBack, SerdeError, SharedSerde},
};
use std::{
    mem::needs_drop,
    ops::{Bound, RangeBounds},
    sync::Arc,
};

/// Which part of which store: what its errors name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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

    pub(super) fn unwritable(&self, cause: &dyn std::fmt::Display) -> StateError {
        StateError::Unwritable {
            store: Arc::clone(&self.name),
            partition: self.partition,
            detail: cause.to_string(),
        }
    }

    pub(super) fn refused_key(&self, source: SerdeError) -> StoreError {
        StoreError::Key { store: Arc::clone(&self.name), source }
    }

    /// What is stored is not what any store writes.
    pub(crate) fn damaged(&self, cause: &str) -> StateError {
        StateError::Corrupt {
            store: Arc::clone(&self.name),
            partition: self.partition,
            detail: cause.to_owned(),
        }
    }

    /// Parts a stored key that begins with a time: a window's start, or when a timer fires.
    pub(crate) fn split_time<'k>(
        &self,
        stored_key: &'k [u8],
    ) -> Result<(Timestamp, &'k [u8]), StateError> {
        let no_time = || self.damaged("a key does not begin with a time");
        let (time, key) = stored_key.split_first_chunk::<8>().ok_or_else(no_time)?;
        Ok((Timestamp::from_be_bytes(*time), key))
    }
}

/// Stands alone for a value that its serde writes as null: the record's own null deletes. A value whose bytes begin with
/// it has it once more in front. No text begins with it, so most values are kept as their serdes write them.
const NULL_MARK: u8 = 0xc0;

/// An entry is written to know its size once it is about to take this part of what it may.
const NEAR: usize = 16;

/// Says whether a key's bytes can be read back, and are then written as they are.
pub(crate) type KeyCheck = Box<dyn Fn(&[u8]) -> Result<(), SerdeError> + Send + Sync>;

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
        match self.serde.serialize_key(key, out) {
            Ok(true) => Ok(()),
            Ok(false) => Err(StoreError::NullKey),
            Err(source) => Err(self.id.refused_key(source)),
        }
    }

    /// The bytes of a range's bounds; a null key bounds nothing.
    pub(super) fn bounds(&self, keys: &impl RangeBounds<K>) -> Result<Bounds, StoreError> {
        Ok((self.bound(keys.start_bound())?, self.bound(keys.end_bound())?))
    }

    /// The bytes of a bound.
    pub(crate) fn bound(&self, bound: Bound<&K>) -> Result<Bound<Vec<u8>>, StoreError> {
        let (Bound::Included(key) | Bound::Excluded(key)) = bound else {
            return Ok(Bound::Unbounded);
        };
        let mut bytes = Vec::new();
        match self.write(key, &mut bytes) {
            Err(StoreError::NullKey) => Ok(Bound::Unbounded),
            written => written.map(|()| bound.map(|_| bytes)),
        }
    }

    /// What says whether a key's bytes can be read back; none if all can.
    pub(crate) fn check(&self) -> Option<KeyCheck> {
        let serde = SharedSerde::clone(&self.serde);
        (!serde.is_exact_for_keys()).then(|| -> KeyCheck {
            Box::new(move |bytes| {
                let read = serde.deserialize(Some(bytes));
                let read = read.map_err(|e| SerdeError::NotReadBack(Box::new(e)))?;
                let mut again = Vec::with_capacity(bytes.len());
                let is_same = serde.serialize_key(&read, &mut again)? && again == bytes;
                if is_same { Ok(()) } else { Err(SerdeError::OtherKey) }
            })
        })
    }

    /// Adds the keys to `batch`; a key that is null or cannot be written is none there.
    pub(super) fn write_all<'k>(&self, keys: impl Iterator<Item = &'k K>, batch: &mut KeyBatch)
    where
        K: 'k,
    {
        batch.clear();
        keys.for_each(|key| batch.push(|out| self.serde.serialize_key(key, out)));
    }

    /// The error for a key of which its serde says `source`.
    pub(super) fn refused(&self, source: SerdeError) -> StoreError {
        self.id.refused_key(source)
    }

    /// The part of a key's bytes that decides its partition.
    pub(crate) fn placed_by<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        self.serde.placed_by(bytes)
    }

    pub(crate) fn read(&self, bytes: &[u8]) -> Result<K, StateError> {
        self.serde.deserialize(Some(bytes)).map_err(|e| self.id.unreadable(&e))
    }
}

/// The entries of a store: the adapter between what a cache holds and bytes.
pub(crate) struct Form<V> {
    key_check: Option<KeyCheck>,
    values: SharedSerde<V>,
    is_exact: bool,
    known: ReadBack,
    /// What the log takes of an entry: its key, without what the store puts in front of it, and its value.
    entry_bytes_max: usize,
    key_bytes_max: usize,
    pub(crate) id: StoreId,
}

impl<V: Data> Form<V> {
    pub(crate) fn new(key_check: Option<KeyCheck>, values: &SharedSerde<V>, id: &StoreId) -> Self {
        let (values, id) = (SharedSerde::clone(values), id.clone());
        let is_exact = values.is_exact();
        let (known, entry_bytes_max, key_bytes_max) = (ReadBack::default(), usize::MAX, usize::MAX);
        Self { key_check, values, is_exact, known, entry_bytes_max, key_bytes_max, id }
    }

    /// Refuses from now on entries whose key and value take more, and longer keys.
    pub(crate) fn keep_within(&mut self, entry_bytes_max: usize, key_bytes_max: usize) {
        (self.entry_bytes_max, self.key_bytes_max) = (entry_bytes_max, key_bytes_max);
    }

    /// Changes the value in `slot`, unless the new one cannot be kept: then nothing has changed.
    pub(super) fn update<R>(
        &mut self,
        cache: &mut Cache<V>,
        slot: u32,
        change: impl FnOnce(&mut Option<V>, &mut Timestamp) -> R,
    ) -> Result<R, StoreError> {
        let needs_old = cache.needs_old(slot);
        let entry = cache.touch(slot);
        let before = (entry.value.clone(), entry.timestamp);
        let changed = change(&mut entry.value, &mut entry.timestamp);
        let length = match self.check(entry.key.len(), entry.value.as_ref()) {
            Ok(length) => length,
            Err(refused) => {
                (entry.value, entry.timestamp) = before;
                return Err(refused);
            }
        };
        let (value, timestamp) = before;
        let old = value.filter(|_| needs_old);
        cache.changed(slot, length, old.map(|value| ValueAndTimestamp { value, timestamp }));
        Ok(changed)
    }

    /// The length of a value's written form, if it can be kept under a key of so many bytes.
    pub(super) fn check(
        &mut self,
        key_bytes: usize,
        value: Option<&V>,
    ) -> Result<usize, StoreError> {
        let length = self.length(value)?;
        // Most are far from the limit; a serde's word on a length is about right alone.
        if key_bytes + length > self.entry_bytes_max / NEAR || key_bytes > self.key_bytes_max / NEAR
        {
            self.check_size(key_bytes, value)?;
        }
        Ok(length)
    }

    /// Writes an entry to know its size.
    fn check_size(&self, key_bytes: usize, value: Option<&V>) -> Result<(), StoreError> {
        let mut written = Vec::new();
        let write = |value| self.write(value, &mut written);
        value.map_or(Ok(()), write).map_err(|source| self.refused_value(source))?;
        let too_large = |bytes, bytes_max| {
            let store = Arc::clone(&self.id.name);
            if bytes > bytes_max {
                Err(StoreError::TooLarge { store, bytes, bytes_max })
            } else {
                Ok(())
            }
        };
        too_large(key_bytes, self.key_bytes_max)?;
        too_large(key_bytes + written.len(), self.entry_bytes_max)
    }

    fn refused_value(&self, source: SerdeError) -> StoreError {
        let (store, value) = (Arc::clone(&self.id.name), std::any::type_name::<V>());
        StoreError::Value { store, value, source }
    }

    /// Looks whether an entry can be kept and read back.
    pub(crate) fn check_entry(&mut self, key: &[u8], value: Option<&V>) -> Result<(), StoreError> {
        let checked = self.key_check.as_ref().map_or(Ok(()), |check| check(key));
        checked.map_err(|e| self.id.refused_key(e))?;
        self.check(key.len(), value).map(drop)
    }

    /// A value as it is stored.
    pub(crate) fn written(&self, value: &V) -> Result<Vec<u8>, StoreError> {
        let mut written = Vec::new();
        self.write(value, &mut written).map_err(|source| self.refused_value(source))?;
        Ok(written)
    }

    /// The length of a value's written form, if it can be read back.
    fn length(&mut self, value: Option<&V>) -> Result<usize, StoreError> {
        let Some(value) = value else { return Ok(0) };
        if self.is_exact && !needs_drop::<V>() {
            return Ok(size_of::<V>());
        }
        self.values.check(value, &mut self.known).map_err(|source| self.refused_value(source))
    }

    pub(crate) fn read(&self, bytes: &[u8]) -> Result<V, StateError> {
        let value = match bytes {
            [NULL_MARK] => None,
            [NULL_MARK, value @ ..] | value => Some(value),
        };
        self.values.deserialize(value).map_err(|e| self.id.unreadable(&e))
    }

    fn write(&self, value: &V, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        let start = out.len();
        if !self.values.serialize(value, out)? {
            out.truncate(start);
            out.push(NULL_MARK);
        } else if out.get(start) == Some(&NULL_MARK) {
            out.insert(start, NULL_MARK);
        }
        Ok(())
    }

    /// Adds an entry that is not cached as the state has it.
    pub(super) fn adopt(
        &self,
        cache: &mut Cache<V>,
        key: Hashed<'_>,
        stored: &Stored,
    ) -> Result<u32, StateError> {
        let Stored { value: bytes, timestamp } = stored;
        Ok(cache.load(key, self.read(bytes)?, *timestamp, bytes.len()))
    }

    /// Adds a key that neither cache nor state have, unless it cannot be read back.
    pub(super) fn add(&self, cache: &mut Cache<V>, key: Hashed<'_>) -> Result<u32, StoreError> {
        self.add_under(cache, key.bytes, key)
    }

    /// The same for a key that is part of the one under which the entry lies.
    pub(super) fn add_under(
        &self,
        cache: &mut Cache<V>,
        key: &[u8],
        own_key: Hashed<'_>,
    ) -> Result<u32, StoreError> {
        let checked = self.key_check.as_ref().map_or(Ok(()), |check| check(key));
        checked.map_err(|e| self.id.refused_key(e))?;
        Ok(cache.find_or_insert(own_key.bytes, own_key.hash))
    }

    /// Why there is no place for the key of a row, if there is none.
    pub(super) fn refusal(&self, keys: &KeyBatch, row: usize) -> Option<StoreError> {
        match (keys.get(row), keys.refused(row)) {
            (Some(key), _) => self.key_check.as_ref()?(key).err().map(|e| self.id.refused_key(e)),
            (None, Some(why)) => Some(self.id.refused_key(why.clone())),
            (None, None) => Some(StoreError::NullKey),
        }
    }

    /// The slot of a key that the state does not have, unless it cannot be read back.
    #[inline]
    pub(super) fn find_or_add(&self, cache: &mut Cache<V>, key: &[u8], hash: u32) -> Option<u32> {
        let Some(check) = &self.key_check else { return Some(cache.find_or_insert(key, hash)) };
        // A key that is there was looked at before.
        let is_sound = cache.find(Hashed { bytes: key, hash }).is_some() || check(key).is_ok();
        is_sound.then(|| cache.find_or_insert(key, hash))
    }

    /// Adds what the state has of a key that is not cached; nothing if it has none and the key cannot be read back.
    pub(super) fn load(
        &self,
        cache: &mut Cache<V>,
        key: Hashed<'_>,
        stored: Option<&Stored>,
    ) -> Result<Option<u32>, StateError> {
        match stored {
            Some(stored) => self.adopt(cache, key, stored).map(Some),
            None => Ok(self.add(cache, key).ok()),
        }
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
            Some(value) => {
                self.write(value, out).map(|()| true).map_err(|e| NotWritten(e.to_string()))
            }
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

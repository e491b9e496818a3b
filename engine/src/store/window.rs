//! Window stores: the newest value of each key and window start.

use super::{
    EntryRef, KeyBatch, Serdes, StateStore, StoreBuilder, StoreChanges, StoreError, StoreKind,
    ValueAndTimestamp, WindowBytes, WindowSlot,
    form::{Form, Keys, StoreId},
};
use headwater_core::{
    ports::state::StateError,
    record::Timestamp,
    serde::{Data, SharedSerde},
};
use std::{any::Any, sync::Arc};

/// The newest value of each key and window start: a shell of the key's type around [`WindowBytes`].
pub struct WindowStore<K, V> {
    keys: Keys<K>,
    windows: WindowBytes<V>,
    scratch: Vec<u8>,
    batch: KeyBatch,
}

/// One entry of a window store.
pub type WindowEntry<K, V> = (K, Timestamp, ValueAndTimestamp<V>);

opaque_debug!(WindowStore<K, V>);

impl<K: Data, V: Data> WindowStore<K, V> {
    /// Declares such a store.
    #[must_use]
    pub fn builder(name: &str, keys: SharedSerde<K>, values: SharedSerde<V>) -> StoreBuilder {
        let schema = format!("window start, {} -> {}", keys.schema(), values.schema());
        let named: Arc<str> = name.into();
        let serdes = Serdes {
            kind: StoreKind::Window,
            keys: SharedSerde::clone(&keys),
            values: SharedSerde::clone(&values),
            history_ms: 0,
        };
        let builder = StoreBuilder::new(name, schema, move |shard, partition| {
            let id = StoreId { name: Arc::clone(&named), partition };
            let keys = Keys::new(&keys, &id);
            Box::new(Self {
                windows: WindowBytes::new(Form::new(keys.check(), &values, &id), shard),
                keys,
                scratch: Vec::new(),
                batch: KeyBatch::default(),
            })
        });
        builder.readable(serdes)
    }

    /// As [`WindowBytes::open`].
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read.
    pub fn open(&mut self) -> Result<(), StateError> {
        self.windows.open()
    }

    /// Changes the value of `key` in the window that starts at `start`: `change` gets the value, if any, with its
    /// timestamp, and leaves the new one. Returns what `change` does.
    ///
    /// # Errors
    ///
    /// [`StoreError::NullKey`] and [`StoreError::Key`] if there is no place for the key, [`StoreError::Value`] if the new
    /// value cannot be kept (the old one then still is), [`StoreError::State`] if the state cannot be read or holds
    /// something else.
    pub fn update<R>(
        &mut self,
        key: &K,
        start: Timestamp,
        change: impl FnOnce(&mut Option<V>, &mut Timestamp) -> R,
    ) -> Result<R, StoreError> {
        self.keys.write(key, &mut self.scratch)?;
        let slot = self.windows.locate_one(start, &self.scratch)?;
        self.windows.update(slot, change)
    }

    /// The value of `key` in the window that starts at `start`; a null key has none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] and [`StoreError::State`], as [`update`](Self::update).
    pub fn fetch(
        &mut self,
        key: &K,
        start: Timestamp,
    ) -> Result<Option<ValueAndTimestamp<V>>, StoreError> {
        match self.keys.write(key, &mut self.scratch) {
            Err(StoreError::NullKey) => return Ok(None),
            written => written?,
        }
        if !self.windows.has(start) {
            return Ok(None);
        }
        let slot = self.windows.locate_one(start, &self.scratch)?;
        Ok(self.get_at(slot))
    }

    /// Where the store holds each of `keys` in the window whose start `start_of` gives for its row, having read what the
    /// cache lacked in one go: good for [`get_at`](Self::get_at) until windows are removed. A row for which
    /// `start_of` gives none is nowhere. So is a key that is null or has no form in bytes, for which `start_of` is not
    /// asked; [`refusal`](Self::refusal) says which.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read, [`StateError::Unreadable`] if it
    /// holds something else.
    pub fn locate<'k>(
        &mut self,
        keys: impl Iterator<Item = &'k K>,
        mut start_of: impl FnMut(usize) -> Option<Timestamp>,
    ) -> Result<Vec<Option<WindowSlot>>, StateError>
    where
        K: 'k,
    {
        self.keys.write_all(keys, &mut self.batch);
        let starts =
            self.batch.iter().enumerate().map(|(row, key)| key.and_then(|_| start_of(row)));
        let starts: Vec<Option<Timestamp>> = starts.collect();
        self.windows.locate(&starts, &self.batch)
    }

    /// Why [`locate`](Self::locate) had no place for the key of a row, if it had none.
    #[must_use]
    pub fn refusal(&self, row: usize) -> Option<StoreError> {
        self.windows.refusal(&self.batch, row)
    }

    /// As [`fetch`](Self::fetch), for a key that was located since windows were last removed.
    ///
    /// # Panics
    ///
    /// If it was not.
    pub fn get_at(&mut self, slot: WindowSlot) -> Option<ValueAndTimestamp<V>> {
        let (value, timestamp) = self.windows.get(slot);
        value.map(|value| ValueAndTimestamp::of(value, timestamp))
    }

    /// Every entry of the windows that start below `end`, by start and then by the key's bytes.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read, [`StateError::Unreadable`] if it
    /// holds something else.
    pub fn entries_below(&mut self, end: Timestamp) -> Result<Vec<WindowEntry<K, V>>, StateError> {
        let Self { keys, windows, .. } = self;
        let mut entries = Vec::new();
        for start in windows.starts_in(Timestamp::MIN..end) {
            for EntryRef { key, value, timestamp } in windows.entries_of(start)? {
                let Some(value) = value else { continue };
                entries.push((keys.read(key)?, start, ValueAndTimestamp::of(value, timestamp)));
            }
        }
        Ok(entries)
    }

    /// As [`WindowBytes::expire_below`].
    pub fn expire_below(&mut self, floor: Timestamp) {
        self.windows.expire_below(floor);
    }

    /// The store without the type of its keys.
    pub fn by_bytes(&mut self) -> &mut WindowBytes<V> {
        &mut self.windows
    }
}

impl<K: Data, V: Data> StateStore for WindowStore<K, V> {
    fn keep_within(&mut self, record_bytes_max: usize) {
        self.windows.keep_within(record_bytes_max);
    }

    fn commit(&mut self, epoch: u64) -> Result<StoreChanges, StateError> {
        self.windows.windows.commit(epoch)
    }

    fn published(&mut self, epoch: u64, bytes_max: usize) {
        self.windows.windows.published(epoch, bytes_max);
    }

    fn size_bytes(&self) -> usize {
        self.windows.windows.size_bytes()
    }

    fn dirty_bytes(&self) -> usize {
        self.windows.windows.dirty_bytes()
    }

    fn by_bytes(&mut self) -> &mut dyn Any {
        &mut self.windows
    }
}

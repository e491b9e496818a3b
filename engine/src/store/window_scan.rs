//! Windows that start anywhere, and the walks over windows: by time for one key, by key and then time for several.

use super::{
    Duplicates, KeyBatch, StoreError, StoreOperation, ValueAndTimestamp, WindowBytes, WindowSlot,
    across::{Bounds, own_keys},
    form::StoreId,
    segments::LAST_TIME,
    time_bytes::{self, key_of, own_key, time_and_sequence},
    window_bytes::Layout,
};
use headwater_core::{
    ports::state::{Order, StateError},
    record::Timestamp,
    serde::Data,
};
use std::ops::{Bound, RangeInclusive};

/// The value of a key in a window, by the key's bytes and the window's start.
type InWindow<V> = (Vec<u8>, Timestamp, ValueAndTimestamp<V>);

impl<V: Data> WindowBytes<V> {
    /// Sets or, with `None`, deletes the value of `key` in the window that starts at `start`; its timestamp is the start.
    ///
    /// Where duplicates are retained a value is added to those that are there, and `None` does nothing. A window that is no
    /// longer kept takes nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] and [`StoreError::Value`] if they cannot be kept, [`StoreError::State`] if the state cannot be read
    /// or holds something else.
    pub fn put(
        &mut self,
        key: &[u8],
        value: Option<V>,
        start: Timestamp,
    ) -> Result<(), StoreError> {
        let start = start.min(LAST_TIME);
        if start < self.kept_from.max(0) {
            return Ok(());
        }
        let began = self.meter.begin(StoreOperation::Put, 1);
        match (value, self.layout) {
            (Some(value), Layout::BySegment { duplicates: Duplicates::Retained, .. }) => {
                let stretch = self.layout.stretch_of(start);
                time_bytes::add(&mut self.windows, stretch, key, start, value)?;
            }
            (None, Layout::BySegment { duplicates: Duplicates::Retained, .. }) => {}
            (value, _) => {
                let slot = self.place(start, key)?;
                self.change(slot, |entry, at| (*entry, *at) = (value, start))?;
            }
        }
        self.meter.end(StoreOperation::Put, 1, began);
        self.windows.observe(start);
        let Some(oldest) = self.windows.oldest_kept() else { return Ok(()) };
        if oldest > self.kept_from {
            self.kept_from = oldest;
            self.expire_below(oldest);
        }
        Ok(())
    }

    /// The values of `key` in the windows whose starts lie within `starts`, by start.
    ///
    /// What the cache lacks is read from the state as the iteration comes to it, and not kept.
    pub fn fetch(
        &mut self,
        key: &[u8],
        starts: RangeInclusive<Timestamp>,
        order: Order,
    ) -> impl Iterator<Item = Result<(Timestamp, ValueAndTimestamp<V>), StateError>> + use<'_, V>
    {
        let (from, to) = self.kept_of(&starts);
        let (first, last) = match self.layout {
            Layout::ByStart => (key.to_vec(), key.to_vec()),
            Layout::BySegment { .. } => (own_key(key, from, 0), own_key(key, to, u32::MAX)),
        };
        let (layout, id) = (self.layout, self.windows.form.id.clone());
        let stretches = layout.stretches(from, to);
        let range = (Bound::Included(first), Bound::Included(last));
        let Self { windows, meter, .. } = self;
        let found = meter.one(StoreOperation::Fetch, || windows.along(stretches, range, order));
        found.map(move |entry| {
            let (stretch, entry) = entry?;
            Ok((layout.start_of(stretch, &entry.key, &id)?, entry.value))
        })
    }

    /// The values of the keys within `keys` in the windows whose starts lie within `starts`, by key and then by start. One
    /// entry is held of each start, or of each segment.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read, [`StateError::Unreadable`] if it holds something
    /// else, here or while it goes on.
    pub fn fetch_keys(
        &mut self,
        keys: (Bound<Vec<u8>>, Bound<Vec<u8>>),
        starts: RangeInclusive<Timestamp>,
        order: Order,
    ) -> Result<impl Iterator<Item = Result<InWindow<V>, StateError>> + use<'_, V>, StateError>
    {
        let (from, to) = self.kept_of(&starts);
        let (layout, id) = (self.layout, self.windows.form.id.clone());
        let is_all = matches!(keys, (Bound::Unbounded, Bound::Unbounded));
        let range = layout.own_keys_of(keys);
        let stretches = layout.stretches(from, to);
        let operation = if is_all { StoreOperation::All } else { StoreOperation::Fetch };
        let Self { windows, meter, .. } = self;
        let found = meter.one(operation, || windows.across(stretches, &range, order))?;
        let found = found.map(move |entry| {
            let (stretch, entry) = entry?;
            let start = layout.start_of(stretch, &entry.key, &id)?;
            Ok((layout.key_of(entry.key, &id)?, start, entry.value))
        });
        Ok(found.filter(move |entry| match entry {
            Ok((_, start, _)) => (from..=to).contains(start),
            Err(_) => true,
        }))
    }

    /// The first and the last start of those that are kept within `starts`; the first may be the greater one.
    fn kept_of(&self, starts: &RangeInclusive<Timestamp>) -> (Timestamp, Timestamp) {
        ((*starts.start()).max(self.kept_from).max(0), *starts.end())
    }

    /// As [`locate`](Self::locate), key by key.
    pub(super) fn locate_each(
        &mut self,
        starts: &[Option<Timestamp>],
        keys: &KeyBatch,
    ) -> Result<Vec<Option<WindowSlot>>, StateError> {
        let rows = starts.iter().zip(keys.iter());
        let located = rows.map(|(start, key)| {
            let Some((start, key)) = start.zip(key) else { return Ok(None) };
            match self.place(start, key) {
                Ok(slot) => Ok(Some(slot)),
                Err(StoreError::State(failed)) => Err(failed),
                Err(_) => Ok(None),
            }
        });
        located.collect()
    }
}

impl Layout {
    /// The starts of the stretches of windows that start at `from` to `to`.
    #[expect(clippy::reversed_empty_ranges, reason = "none, if there are no such windows")]
    fn stretches(self, from: Timestamp, to: Timestamp) -> RangeInclusive<Timestamp> {
        if from > to { 1..=0 } else { self.stretch_of(from)..=self.stretch_of(to) }
    }

    fn own_keys_of(self, keys: Bounds) -> Bounds {
        match self {
            Self::ByStart => keys,
            Self::BySegment { .. } => {
                own_keys(keys, |key| own_key(key, 0, 0), |key| own_key(key, LAST_TIME, u32::MAX))
            }
        }
    }

    fn start_of(
        self,
        stretch: Timestamp,
        own_key: &[u8],
        id: &StoreId,
    ) -> Result<Timestamp, StateError> {
        match self {
            Self::ByStart => Ok(stretch),
            Self::BySegment { .. } => Ok(time_and_sequence(id, own_key)?.0),
        }
    }

    fn key_of(self, own_key: Vec<u8>, id: &StoreId) -> Result<Vec<u8>, StateError> {
        match self {
            Self::ByStart => Ok(own_key),
            Self::BySegment { .. } => {
                key_of(&own_key).ok_or_else(|| id.damaged("a key does not end as it should"))
            }
        }
    }
}

//! Columns as the kernel sees them: a count of rows.

use crate::{Columns, columns::at};
use headwater_core::{
    record::Headers,
    serde::{Data, SerdeError, SharedSerde},
};
use headwater_engine::{
    kernel::{Skin, Update},
    node::{Payload, Stamp},
    processor::ProcessorError,
    store::{KeyBatch, Window, Windowed},
};
use std::mem::take;

/// What counts come out in.
type Counts<K> = Columns<Windowed<K>, Option<i64>>;

/// Counts the rows of each key in windows.
pub struct CountSkin<K, V> {
    keys: SharedSerde<K>,
    batch: Columns<K, V>,
    counts: Counts<K>,
}

impl<K, V> std::fmt::Debug for CountSkin<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CountSkin").finish_non_exhaustive()
    }
}

impl<K, V> CountSkin<K, V> {
    /// Over keys that `keys` writes, as the store does.
    #[must_use]
    pub fn new(keys: &SharedSerde<K>) -> Self {
        let keys = SharedSerde::clone(keys);
        Self { keys, batch: Columns::default(), counts: Columns::default() }
    }
}

impl<K: Data, V: Data> Skin for CountSkin<K, V> {
    type Place = Window;
    type Value = i64;

    fn begin(
        &mut self,
        payload: Box<dyn Payload>,
        keys: &mut KeyBatch,
    ) -> Result<(), ProcessorError> {
        self.batch = Columns::of(payload)?;
        self.batch.keys.iter().for_each(|key| keys.push(|out| self.keys.serialize(key, out)));
        Ok(())
    }

    fn fold(&mut self, _: usize, so_far: Option<i64>) -> Option<i64> {
        Some(so_far.unwrap_or(0) + 1)
    }

    fn push(&mut self, row: usize, update: Update<Window, i64>) {
        let Update { place: window, new, timestamp, at: time, .. } = update;
        let key = Windowed { key: at(&self.batch.keys, row).clone(), window };
        let origin = *at(&self.batch.origins, row);
        self.counts.push(key, new, Stamp { origin, timestamp, at: time });
    }

    fn push_entry(
        &mut self,
        key: &[u8],
        update: Update<Window, i64>,
        _: Option<Box<Headers>>,
    ) -> Result<(), SerdeError> {
        let Update { place: window, new, timestamp, at, origin, .. } = update;
        let key = Windowed { key: self.keys.deserialize(Some(key))?, window };
        self.counts.push(key, new, Stamp { origin, timestamp, at });
        Ok(())
    }

    fn take(&mut self) -> Option<Box<dyn Payload>> {
        Some(Box::new(take(&mut self.counts)))
    }
}

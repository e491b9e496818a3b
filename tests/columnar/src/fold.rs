//! Columns as the kernel sees them.

use crate::{Columns, columns::at};
use headwater_core::{
    record::Headers,
    serde::{Data, SerdeError, SharedSerde},
};
use headwater_engine::{
    kernel::{Place, Skin, Update},
    node::{Payload, Stamp},
    processor::ProcessorError,
    store::KeyBatch,
};
use std::mem::take;

/// Folds the value of a row into what there is of its key.
type FoldValue<V, A> = fn(&V, Option<A>) -> Option<A>;

/// Folds the values of each key; results lie at places of type `P`.
pub struct FoldSkin<K, V, A, P: Place<K>> {
    keys: SharedSerde<K>,
    fold: FoldValue<V, A>,
    batch: Columns<K, V>,
    results: Columns<P::Key, Option<A>>,
}

impl<K, V, A, P: Place<K>> std::fmt::Debug for FoldSkin<K, V, A, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FoldSkin").finish_non_exhaustive()
    }
}

impl<K, V, A, P: Place<K>> FoldSkin<K, V, A, P> {
    /// Over keys that `keys` writes, as the store does.
    #[must_use]
    pub fn new(keys: &SharedSerde<K>, fold: FoldValue<V, A>) -> Self {
        let keys = SharedSerde::clone(keys);
        Self { keys, fold, batch: Columns::default(), results: Columns::default() }
    }
}

impl<K: Data, V: Data, A: Data, P: Place<K>> Skin for FoldSkin<K, V, A, P> {
    type Place = P;
    type Value = A;

    fn begin(
        &mut self,
        payload: Box<dyn Payload>,
        keys: &mut KeyBatch,
    ) -> Result<(), ProcessorError> {
        self.batch = Columns::of(payload)?;
        let Columns { keys: typed, written_keys: written, .. } = &self.batch;
        if written.is_empty() {
            typed.iter().for_each(|key| keys.push(|out| self.keys.serialize_key(key, out)));
        }
        for key in written {
            keys.push(|out| {
                key.iter().for_each(|key| out.extend_from_slice(key));
                Ok(key.is_some())
            });
        }
        Ok(())
    }

    fn fold(&mut self, row: usize, so_far: Option<A>) -> Option<A> {
        (self.fold)(at(&self.batch.values, row), so_far)
    }

    fn push(&mut self, row: usize, update: Update<P, A>) {
        let Update { place, new, timestamp, at: time, origin, .. } = update;
        let key = place.place(at(&self.batch.keys, row).clone());
        self.results.push(key, new, Stamp { origin, timestamp, at: time });
    }

    fn push_entry(
        &mut self,
        key: &[u8],
        update: Update<P, A>,
        _: Option<Box<Headers>>,
    ) -> Result<(), SerdeError> {
        let Update { place, new, timestamp, at, origin, .. } = update;
        let key = place.place(self.keys.deserialize(Some(key))?);
        self.results.push(key, new, Stamp { origin, timestamp, at });
        Ok(())
    }

    fn take(&mut self) -> Option<Box<dyn Payload>> {
        Some(Box::new(take(&mut self.results)))
    }
}

//! Which stores and shards of a state are open, and which of them a caller's handle means.
//!
//! # Invariants
//!
//! - A store has one schema and one id; a (store, partition) has one shard and one slot.
//! - A shard stays registered, so its address names it as long as the registry lives.

use hashbrown::HashMap;
use headwater_core::ports::state::{Shard, StateError, StoreSpec};
use std::{io, path::Path, sync::Arc};

/// A store that is known, with or without open shards.
#[derive(Debug)]
struct KnownStore {
    id: u32,
    schema: String,
}

/// The stores and shards of one state.
#[derive(Debug)]
pub(crate) struct Registry<S> {
    stores: HashMap<Arc<str>, KnownStore, foldhash::fast::RandomState>,
    shards: HashMap<(u32, u32), Arc<S>, foldhash::fast::RandomState>,
    slots: HashMap<usize, usize, foldhash::fast::RandomState>,
}

impl<S> Default for Registry<S> {
    fn default() -> Self {
        Self { stores: HashMap::default(), shards: HashMap::default(), slots: HashMap::default() }
    }
}

impl<S> Registry<S> {
    /// The id of a store; `None` if it is not known yet.
    pub(crate) fn store(&self, spec: &StoreSpec) -> Result<Option<u32>, StateError> {
        let Some(known) = self.stores.get(&spec.name) else { return Ok(None) };
        if known.schema == spec.schema {
            return Ok(Some(known.id));
        }
        Err(StateError::SchemaDiffers {
            store: Arc::clone(&spec.name),
            existing: known.schema.clone(),
            wanted: spec.schema.clone(),
        })
    }

    /// Adds a store that was not known.
    pub(crate) fn add_store(&mut self, name: Arc<str>, id: u32, schema: String) {
        self.stores.insert(name, KnownStore { id, schema });
    }

    /// The lowest id that is above all others.
    pub(crate) fn next_id(&self) -> u32 {
        self.stores.values().map(|store| store.id + 1).max().unwrap_or(0)
    }

    /// The slot that the next shard gets.
    pub(crate) fn next_slot(&self) -> usize {
        self.shards.len()
    }

    /// The open shard of a store's partition.
    pub(crate) fn shard(&self, store: u32, partition: u32) -> Option<Arc<S>> {
        self.shards.get(&(store, partition)).map(Arc::clone)
    }

    /// Adds a shard in the next slot.
    pub(crate) fn add_shard(&mut self, store: u32, partition: u32, shard: Arc<S>) {
        let slot = self.next_slot();
        self.slots.insert(Arc::as_ptr(&shard).cast::<()>().addr(), slot);
        self.shards.insert((store, partition), shard);
    }

    /// The slot of a caller's shard; refused if another state opened it.
    pub(crate) fn slot(&self, shard: &Arc<dyn Shard>, path: &Path) -> Result<usize, StateError> {
        let address = Arc::as_ptr(shard).cast::<()>().addr();
        self.slots.get(&address).copied().ok_or_else(|| StateError::Io {
            action: "publish a commit to",
            path: path.to_owned(),
            source: Arc::new(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{shard:?} was not opened by this state; publish the shard that `State::open` returned"),
            )),
        })
    }
}

//! Which stores of an application are known, which of their shards are open, and which commits are refused.
//!
//! # Invariants
//!
//! - A store has one schema and one id; a (store, partition) has one slot, from its first opening on.

use foldhash::fast::RandomState;
use hashbrown::{HashMap, hash_map::Entry};
use headwater_core::ports::state::{ShardChanges, StateCommit, StateError, StoreSpec};
use std::{io, path::Path, sync::Arc};

/// Refuses a commit of an owner that was replaced.
pub(crate) fn not_fenced(
    application: &Arc<str>,
    commit: &StateCommit,
    newest: u64,
) -> Result<(), StateError> {
    if commit.epoch >= newest || commit.replaces == Some(newest) {
        return Ok(());
    }
    Err(StateError::Fenced { application: Arc::clone(application), epoch: commit.epoch, newest })
}

/// A store that is known, with or without open shards.
#[derive(Debug)]
struct KnownStore<I> {
    id: I,
    schema: String,
}

/// The stores and shards of one application. `I` is what the state calls a store.
#[derive(Debug)]
pub(crate) struct Registry<I> {
    stores: HashMap<Arc<str>, KnownStore<I>, RandomState>,
    slots: HashMap<(Arc<str>, u32), usize, RandomState>,
}

impl<I> Default for Registry<I> {
    fn default() -> Self {
        Self { stores: HashMap::default(), slots: HashMap::default() }
    }
}

impl<I: Copy> Registry<I> {
    /// The id of a store; `None` if it is not known yet.
    pub(crate) fn store(&self, spec: &StoreSpec) -> Result<Option<I>, StateError> {
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
    pub(crate) fn add_store(&mut self, name: Arc<str>, id: I, schema: String) {
        self.stores.insert(name, KnownStore { id, schema });
    }

    /// The slot of a shard, and whether it is a new one.
    pub(crate) fn open(&mut self, store: &Arc<str>, partition: u32) -> (usize, bool) {
        let next = self.slots.len();
        match self.slots.entry((Arc::clone(store), partition)) {
            Entry::Occupied(slot) => (*slot.get(), false),
            Entry::Vacant(entry) => (*entry.insert(next), true),
        }
    }

    /// The slot of the shard that a commit changes; refused if it is not open.
    pub(crate) fn slot(&self, changes: &ShardChanges, path: &Path) -> Result<usize, StateError> {
        let (store, partition) = (Arc::clone(&changes.store), changes.partition);
        self.slots.get(&(store, partition)).copied().ok_or_else(|| StateError::Io {
            action: "publish a commit to",
            path: path.to_owned(),
            source: Arc::new(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "partition {partition} of store {} is not open; open it first",
                    changes.store
                ),
            )),
        })
    }

    /// All open shards, with their slots.
    pub(crate) fn shards(&self) -> impl Iterator<Item = (&(Arc<str>, u32), usize)> {
        self.slots.iter().map(|(shard, slot)| (shard, *slot))
    }
}

//! The stores of one application: what its shards show, and its commits on their way to the database.
//!
//! # Invariants
//!
//! - All shards change under one lock, so that what is taken under it is of one commit.
//! - What has commits that are not spilled is kept by the spiller: an application that nobody holds any more is one that
//!   the database knows as a whole, and is read from there.

use super::{
    core::Core,
    keys::{self, Meta, MetaEntry, Position, Prefix},
    overlay::{LAYER_BYTES, Overlay},
    shard::{Pin, PinnedShard, RocksShard, ShardId},
};
use crate::registry::{Registry, not_fenced};
use headwater_core::{
    broken::broken,
    ports::state::{
        ApplicationState, Shard, ShardChanges, Snapshot, StateCommit, StateError, StoreSpec,
    },
    record::TopicPartition,
};
use rocksdb::ReadOptions;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic::Ordering::Relaxed,
    },
};

const IS_OPEN: &str = "a shard in the registry is open";

/// A handle of an application's stores.
#[derive(Debug)]
pub(super) struct RocksApplication(pub(super) Arc<Shared>);

/// What the handles and shards of one application share.
pub(super) struct Shared {
    pub(super) core: Arc<Core>,
    pub(super) name: Arc<str>,
    pub(super) id: u32,
    contents: RwLock<Contents>,
}

pub(super) struct Contents {
    registry: Registry<u32>,
    /// By slot.
    shards: Vec<Open>,
    pub(super) epoch: u64,
    sources: BTreeMap<TopicPartition, i64>,
    pub(super) unspilled: Unspilled,
}

impl Contents {
    /// The shard at a slot that the registry gave out.
    fn shard(&self, slot: usize) -> &Open {
        self.shards.get(slot).unwrap_or_else(|| broken(IS_OPEN))
    }

    /// The same, to change it.
    pub(super) fn shard_mut(&mut self, slot: usize) -> &mut Open {
        self.shards.get_mut(slot).unwrap_or_else(|| broken(IS_OPEN))
    }
}

/// A shard that is open.
pub(super) struct Open {
    pub(super) prefix: Prefix,
    pub(super) overlay: Arc<Overlay>,
    /// Below this key, the database holds nothing; empty until something expires, because what it holds is not known.
    pub(super) floor: Vec<u8>,
}

/// What the database does not have yet.
#[derive(Default)]
pub(super) struct Unspilled {
    /// Whether the application itself is new to it.
    pub(super) is_new: bool,
    /// Entries of new stores.
    pub(super) stores: Vec<MetaEntry>,
    pub(super) sources: BTreeMap<TopicPartition, i64>,
    /// Slots of shards that changed.
    pub(super) slots: BTreeSet<usize>,
    /// Whether anything was published.
    has_commits: bool,
}

impl Shared {
    /// An application as the database knows it, if it does.
    pub(super) fn load(core: &Arc<Core>, name: &str, id: u32) -> Result<Self, StateError> {
        let known = core.db.get_pinned_cf(core.meta(), keys::application_key(name));
        let known = known.map_err(|error| core.io("read the state database in", error))?;
        let unspilled = Unspilled { is_new: known.is_none(), ..Unspilled::default() };
        let mut contents = Contents {
            registry: Registry::default(),
            shards: Vec::new(),
            epoch: 0,
            sources: BTreeMap::new(),
            unspilled,
        };
        for kind in known.map_or(&b""[..], |_| b"eso") {
            contents.read(core, *kind, id)?;
        }
        Ok(Self { core: Arc::clone(core), name: name.into(), id, contents: RwLock::new(contents) })
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Contents> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Contents> {
        self.contents.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a shard shows over the database.
    pub(super) fn overlay(&self, slot: usize) -> Arc<Overlay> {
        let contents = self.read();
        let open = contents.shard(slot);
        Arc::clone(&open.overlay)
    }

    fn shard_id(&self, store: &Arc<str>, partition: u32, prefix: Prefix) -> ShardId {
        let (application, store) = (Arc::clone(&self.name), Arc::clone(store));
        ShardId { application, store, partition, prefix }
    }
}

impl Contents {
    /// Reads the application's entries of one kind.
    fn read(&mut self, core: &Core, kind: u8, id: u32) -> Result<(), StateError> {
        let from = keys::kind_key(kind, id);
        let mut read = ReadOptions::default();
        read.set_iterate_range(rocksdb::PrefixRange(from.as_slice()));
        let mut entries = core.db.raw_iterator_cf_opt(core.meta(), read);
        entries.seek_to_first();
        while let Some((key, value)) = entries.item() {
            match Meta::read(key, value) {
                Some(Meta::Epoch { epoch, .. }) => self.epoch = epoch,
                Some(Meta::Store { name, id, schema, .. }) => {
                    self.registry.add_store(name.into(), id, schema);
                }
                Some(Meta::Source { source, offset, .. }) => {
                    self.sources.insert(source, offset);
                }
                Some(
                    Meta::Version(_)
                    | Meta::Log(_)
                    | Meta::Application { .. }
                    | Meta::Position { .. },
                )
                | None => {}
            }
            entries.next();
        }
        entries.status().map_err(|error| core.io("read the state database in", error))
    }

    /// The id of a store, which is given one if it is new.
    fn store_id(&mut self, shared: &Shared, store: &StoreSpec) -> Result<u32, StateError> {
        if let Some(id) = self.registry.store(store)? {
            return Ok(id);
        }
        let id = shared.core.next_store.fetch_add(1, Relaxed);
        self.registry.add_store(Arc::clone(&store.name), id, store.schema.clone());
        let entry = keys::store_entry(shared.id, &store.name, id, &store.schema);
        self.unspilled.stores.push(entry);
        Ok(id)
    }
}

/// The memory that a commit's changes in one shard hold on to.
fn size_bytes(changes: &ShardChanges) -> usize {
    let records = changes.records.iter().map(|set| set.size_bytes());
    records.sum::<usize>() + LAYER_BYTES
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksApplication").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ApplicationState for RocksApplication {
    fn open(&self, store: &StoreSpec, partition: u32) -> Result<Arc<dyn Shard>, StateError> {
        let (shared, core) = (&self.0, &self.0.core);
        core.check()?;
        let mut contents = shared.write();
        let prefix = Prefix::new(contents.store_id(shared, store)?, partition);
        let (slot, is_new) = contents.registry.open(&store.name, partition);
        if is_new {
            let position = core.position(prefix)?;
            let overlay = Arc::new(Overlay::at(position));
            contents.shards.push(Open { prefix, overlay, floor: Vec::new() });
        }
        let id = shared.shard_id(&store.name, partition, prefix);
        Ok(Arc::new(RocksShard { shared: Arc::clone(shared), slot, id }))
    }

    fn publish(&self, commit: StateCommit) -> Result<(), StateError> {
        let (shared, core) = (&self.0, &self.0.core);
        let slots: Vec<usize> = {
            let contents = shared.read();
            let slot = |changes| contents.registry.slot(changes, &core.directory);
            commit.changes.iter().map(slot).collect::<Result<_, _>>()?
        };
        let bytes = commit.changes.iter().map(size_bytes).sum();
        let mut pending = core.room_for(bytes)?;
        let mut contents = shared.write();
        not_fenced(&shared.name, &commit, contents.epoch)?;
        core.count(&mut pending, bytes);
        let spilling = core.spilling.load(std::sync::atomic::Ordering::SeqCst);
        for (slot, changes) in slots.into_iter().zip(commit.changes) {
            let open = contents.shard_mut(slot);
            open.overlay = Arc::new(open.overlay.with(pending.commit, changes, spilling));
            contents.unspilled.slots.insert(slot);
        }
        contents.epoch = commit.epoch;
        contents.sources.extend(commit.sources.iter().cloned());
        contents.unspilled.sources.extend(commit.sources);
        if !std::mem::replace(&mut contents.unspilled.has_commits, true) {
            pending.unspilled.push(Arc::clone(shared));
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Snapshot, StateError> {
        let (shared, core) = (&self.0, &self.0.core);
        core.check()?;
        // Nothing is published meanwhile: a spill that is under way writes what lies under these overlays.
        let contents = shared.read();
        let pin = Arc::new(Pin::of(core));
        let shard = |(shard, slot): (&(Arc<str>, u32), usize)| {
            let open = contents.shard(slot);
            let id = shared.shard_id(&shard.0, shard.1, open.prefix);
            let overlay = Arc::clone(&open.overlay);
            let pinned = PinnedShard { pin: Arc::clone(&pin), overlay, id };
            (shard.clone(), Arc::new(pinned) as Arc<dyn Shard>)
        };
        Ok(Snapshot {
            epoch: contents.epoch,
            sources: contents.sources.iter().map(|(at, offset)| (at.clone(), *offset)).collect(),
            shards: contents.registry.shards().map(shard).collect(),
        })
    }
}

impl Core {
    /// The changelog position of a shard that the database has.
    fn position(&self, prefix: Prefix) -> Result<Option<Position>, StateError> {
        let read = self.db.get_pinned_cf(self.meta(), keys::position_key(prefix));
        let value = read.map_err(|error| self.io("read the state database in", error))?;
        let Some(value) = value else { return Ok(None) };
        let position = Position::read(&value).ok_or_else(|| StateError::Io {
            action: "read the state database, which is damaged (delete it, it is rebuilt from the changelog), in",
            path: self.directory.clone(),
            source: Arc::new(io::Error::new(io::ErrorKind::InvalidData, "a position is none")),
        })?;
        Ok(Some(position))
    }
}

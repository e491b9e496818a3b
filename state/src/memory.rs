//! State in memory: one ordered map a shard. The reference for every other implementation.
//!
//! # Invariants
//!
//! - All shards of an application change under one lock, so a reader sees whole commits.
//! - A scan or a snapshot holds on to the maps as they were: a commit that meets one copies the maps that it changes.

use crate::{
    registry::{Registry, not_fenced},
    span::KeySpan,
};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use headwater_core::{
    broken::broken,
    ports::{
        log::RecordEpoch,
        state::{
            ApplicationState, KeyRange, Order, Scan, Shard, ShardChanges, Snapshot, State,
            StateCommit, StateError, StoreSpec, Stored,
        },
    },
    record::TopicPartition,
};
use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound,
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak},
};

type Entries = BTreeMap<Vec<u8>, Stored>;

const HAS_CONTENTS: &str = "an open shard has its contents";

/// The stores of a process's applications, in memory; those of one are gone with its last handle.
///
/// ```
/// use headwater_core::{
///     ports::state::{ShardChanges, State, StateCommit, StoreSpec},
///     record::{Headers, RecordSetBuilder},
/// };
/// use headwater_state::MemoryState;
///
/// let application = MemoryState::new().application("fleet")?;
/// let totals = StoreSpec { name: "totals".into(), schema: "bytes -> bytes".into() };
/// let shard = application.open(&totals, 0)?;
///
/// let mut records = RecordSetBuilder::default();
/// records.push(5, Some(b"car-1"), Some(b"97"), &Headers::new())?;
/// let change = ShardChanges {
///     store: "totals".into(),
///     partition: 0,
///     records: vec![records.build().into()],
///     position: 1,
///     record_epoch: None,
///     begins_anew: false,
///     expire_below: None,
/// };
/// let commit = StateCommit { epoch: 1, changes: vec![change], ..StateCommit::default() };
/// application.publish(commit)?;
/// assert_eq!(shard.get(b"car-1")?.unwrap().value, b"97");
/// assert_eq!((shard.position(), application.snapshot()?.epoch), (Some(1), 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct MemoryState {
    applications: Mutex<HashMap<String, Weak<Shared>, RandomState>>,
}

impl MemoryState {
    /// No stores yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl State for MemoryState {
    fn application(&self, id: &str) -> Result<Arc<dyn ApplicationState>, StateError> {
        let mut applications = self.applications.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = applications.get(id).and_then(Weak::upgrade) {
            return Ok(Arc::new(MemoryApplication { shared }));
        }
        applications.retain(|_, application| application.strong_count() > 0);
        let shared = Arc::new(Shared { id: id.into(), contents: RwLock::default() });
        applications.insert(id.to_owned(), Arc::downgrade(&shared));
        Ok(Arc::new(MemoryApplication { shared }))
    }

    fn forget(&self, id: &str) -> Result<(), StateError> {
        let applications = self.applications.lock().unwrap_or_else(PoisonError::into_inner);
        // What nobody has a handle of is gone already.
        if applications.get(id).is_some_and(|open| open.strong_count() > 0) {
            return Err(StateError::InUse { application: id.into() });
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), StateError> {
        Ok(())
    }
}

/// What the handles and shards of one application share.
struct Shared {
    id: Arc<str>,
    contents: RwLock<Contents>,
}

#[derive(Default)]
struct Contents {
    registry: Registry<()>,
    /// By slot.
    shards: Vec<ShardContents>,
    sources: BTreeMap<TopicPartition, i64>,
    epoch: u64,
}

#[derive(Default, Clone)]
struct ShardContents {
    entries: Arc<Entries>,
    position: Option<i64>,
    record_epoch: Option<RecordEpoch>,
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, Contents> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Contents> {
        self.contents.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryApplication").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The stores of one application.
#[derive(Debug)]
struct MemoryApplication {
    shared: Arc<Shared>,
}

impl ApplicationState for MemoryApplication {
    fn open(&self, store: &StoreSpec, partition: u32) -> Result<Arc<dyn Shard>, StateError> {
        let mut contents = self.shared.write();
        if contents.registry.store(store)?.is_none() {
            contents.registry.add_store(Arc::clone(&store.name), (), store.schema.clone());
        }
        let (slot, is_new) = contents.registry.open(&store.name, partition);
        if is_new {
            contents.shards.push(ShardContents::default());
        }
        let (shared, store) = (Arc::clone(&self.shared), Arc::clone(&store.name));
        Ok(Arc::new(MemoryShard { shared, slot, store, partition }))
    }

    fn publish(&self, commit: StateCommit) -> Result<(), StateError> {
        let mut contents = self.shared.write();
        let slot = |changes| contents.registry.slot(changes, Path::new("(memory)"));
        let slots: Vec<usize> = commit.changes.iter().map(slot).collect::<Result<_, _>>()?;
        not_fenced(&self.shared.id, &commit, contents.epoch)?;
        for (slot, changes) in slots.into_iter().zip(&commit.changes) {
            match contents.shards.get_mut(slot) {
                Some(shard) => shard.apply(changes),
                None => broken(HAS_CONTENTS),
            }
        }
        contents.sources.extend(commit.sources);
        contents.epoch = commit.epoch;
        Ok(())
    }

    fn snapshot(&self) -> Result<Snapshot, StateError> {
        let contents = self.shared.read();
        let shard = |(shard, slot): (&(Arc<str>, u32), usize)| {
            let contents = match contents.shards.get(slot) {
                Some(shard) => shard.clone(),
                None => broken(HAS_CONTENTS),
            };
            let (store, partition) = (Arc::clone(&shard.0), shard.1);
            (shard.clone(), Arc::new(PinnedShard { contents, store, partition }) as Arc<dyn Shard>)
        };
        Ok(Snapshot {
            epoch: contents.epoch,
            sources: contents.sources.iter().map(|(at, offset)| (at.clone(), *offset)).collect(),
            shards: contents.registry.shards().map(shard).collect(),
        })
    }
}

impl ShardContents {
    fn apply(&mut self, changes: &ShardChanges) {
        if changes.begins_anew {
            self.entries = Arc::default();
        }
        let entries = Arc::make_mut(&mut self.entries);
        for record in changes.records.iter().flat_map(|set| set.iter()) {
            let Some(key) = record.key else { continue };
            match record.value {
                Some(value) => {
                    entries.insert(
                        key.to_vec(),
                        Stored { timestamp: record.timestamp, value: value.to_vec() },
                    );
                }
                None => {
                    entries.remove(key);
                }
            }
        }
        if let Some(floor) = &changes.expire_below {
            *entries = entries.split_off(floor);
        }
        self.position = Some(changes.position);
        self.record_epoch.clone_from(&changes.record_epoch);
    }

    fn multi_get(&self, keys: &[&[u8]]) -> Vec<Option<Stored>> {
        keys.iter().map(|key| self.entries.get(*key).cloned()).collect()
    }

    fn scan(&self, range: KeyRange<'_>, order: Order) -> Scan<'static> {
        Box::new(MapScan { entries: Arc::clone(&self.entries), rest: KeySpan::new(range), order })
    }
}

/// One store's part for one partition.
struct MemoryShard {
    shared: Arc<Shared>,
    slot: usize,
    store: Arc<str>,
    partition: u32,
}

impl MemoryShard {
    fn with<T>(&self, read: impl FnOnce(&ShardContents) -> T) -> T {
        let contents = self.shared.read();
        match contents.shards.get(self.slot) {
            Some(shard) => read(shard),
            None => broken(HAS_CONTENTS),
        }
    }
}

impl fmt::Debug for MemoryShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryShard({}/{}-{})", self.shared.id, self.store, self.partition)
    }
}

impl Shard for MemoryShard {
    fn multi_get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Stored>>, StateError> {
        Ok(self.with(|contents| contents.multi_get(keys)))
    }

    fn scan(&self, range: KeyRange<'_>, order: Order) -> Result<Scan<'_>, StateError> {
        Ok(self.with(|contents| contents.scan(range, order)))
    }

    fn position(&self) -> Option<i64> {
        self.with(|contents| contents.position)
    }

    fn record_epoch(&self) -> Option<RecordEpoch> {
        self.with(|contents| contents.record_epoch.clone())
    }
}

/// A shard as it was when a snapshot was taken.
struct PinnedShard {
    contents: ShardContents,
    store: Arc<str>,
    partition: u32,
}

impl fmt::Debug for PinnedShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PinnedShard({}-{})", self.store, self.partition)
    }
}

impl Shard for PinnedShard {
    fn multi_get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Stored>>, StateError> {
        Ok(self.contents.multi_get(keys))
    }

    fn scan(&self, range: KeyRange<'_>, order: Order) -> Result<Scan<'_>, StateError> {
        Ok(self.contents.scan(range, order))
    }

    fn position(&self) -> Option<i64> {
        self.contents.position
    }

    fn record_epoch(&self) -> Option<RecordEpoch> {
        self.contents.record_epoch.clone()
    }
}

/// Walks a map it owns by looking each next key up.
struct MapScan {
    entries: Arc<Entries>,
    rest: KeySpan,
    order: Order,
}

impl Iterator for MapScan {
    type Item = Result<(Vec<u8>, Stored), StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let upper = self.rest.to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut range =
            self.entries.range::<[u8], _>((Bound::Included(self.rest.from.as_slice()), upper));
        let (key, stored) = match self.order {
            Order::Ascending => range.next()?,
            Order::Descending => range.next_back()?,
        };
        let found = (key.clone(), stored.clone());
        match self.order {
            Order::Ascending => {
                self.rest.from.clone_from(key);
                self.rest.from.push(0);
            }
            Order::Descending => self.rest.to = Some(key.clone()),
        }
        Some(Ok(found))
    }
}

#[cfg(test)]
mod tests {
    use super::MemoryState;
    use std::sync::Arc;

    #[test]
    fn the_state_conforms() {
        crate::conformance::check(|| Arc::new(MemoryState::new()));
    }

    #[test]
    fn stores_over_it_conform() {
        headwater_engine::store::conformance::check(|| Arc::new(MemoryState::new()));
    }
}

//! State in memory: one ordered map a shard. The reference for every other implementation.
//!
//! # Invariants
//!
//! - All shards change under one lock, so a reader sees whole commits.
//! - A scan holds on to the map as it was: a commit that meets a running scan copies the map.

use crate::{registry::Registry, span::KeySpan};
use headwater_core::{
    ports::state::{
        KeyRange, Order, Scan, Shard, ShardChanges, State, StateCommit, StateError, StoreSpec,
        Stored,
    },
    record::TopicPartition,
};
use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound,
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard},
};

type Entries = BTreeMap<Vec<u8>, Stored>;

/// All stores of one application instance, in memory; gone with it.
///
/// ```
/// use headwater_core::ports::state::{State, StoreSpec};
/// use headwater_state::MemoryState;
///
/// let state = MemoryState::new();
/// let shard = state.open(&StoreSpec { name: "totals".into(), schema: "utf8 -> i64".into() }, 0)?;
/// assert_eq!(shard.get(b"car-1")?, None);
/// # Ok::<(), headwater_core::ports::state::StateError>(())
/// ```
#[derive(Default)]
pub struct MemoryState {
    shared: Arc<RwLock<Contents>>,
    registry: Mutex<Registry<MemoryShard>>,
}

#[derive(Default)]
struct Contents {
    /// By slot.
    shards: Vec<ShardContents>,
    sources: BTreeMap<TopicPartition, i64>,
}

#[derive(Default)]
struct ShardContents {
    entries: Arc<Entries>,
    position: Option<i64>,
}

impl MemoryState {
    /// No stores yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl fmt::Debug for MemoryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryState").field("position", &self.position()).finish_non_exhaustive()
    }
}

impl State for MemoryState {
    fn open(&self, store: &StoreSpec, partition: u32) -> Result<Arc<dyn Shard>, StateError> {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let id = match registry.store(store)? {
            Some(id) => id,
            None => {
                let id = registry.next_id();
                registry.add_store(Arc::clone(&store.name), id, store.schema.clone());
                id
            }
        };
        if let Some(shard) = registry.shard(id, partition) {
            return Ok(shard);
        }
        let shard = Arc::new(MemoryShard {
            shared: Arc::clone(&self.shared),
            slot: registry.next_slot(),
            store: Arc::clone(&store.name),
            partition,
        });
        registry.add_shard(id, partition, Arc::clone(&shard));
        self.shared
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .shards
            .push(ShardContents::default());
        Ok(shard)
    }

    fn publish(&self, commit: StateCommit) -> Result<(), StateError> {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let slots: Vec<usize> = commit
            .changes
            .iter()
            .map(|changes| registry.slot(&changes.shard, Path::new("(memory)")))
            .collect::<Result<_, _>>()?;
        drop(registry);
        let mut contents = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        for (slot, changes) in slots.into_iter().zip(&commit.changes) {
            contents
                .shards
                .get_mut(slot)
                .expect("a registered shard has its contents")
                .apply(changes);
        }
        contents.sources.extend(commit.sources);
        Ok(())
    }

    fn position(&self) -> Vec<(TopicPartition, i64)> {
        let contents = self.shared.read().unwrap_or_else(PoisonError::into_inner);
        contents.sources.iter().map(|(source, offset)| (source.clone(), *offset)).collect()
    }

    fn flush(&self) -> Result<(), StateError> {
        Ok(())
    }
}

impl ShardContents {
    fn apply(&mut self, changes: &ShardChanges) {
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
    }
}

/// One store's part for one partition.
struct MemoryShard {
    shared: Arc<RwLock<Contents>>,
    slot: usize,
    store: Arc<str>,
    partition: u32,
}

impl MemoryShard {
    fn contents(&self) -> RwLockReadGuard<'_, Contents> {
        self.shared.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn entries(&self) -> Arc<Entries> {
        self.contents()
            .shards
            .get(self.slot)
            .map(|shard| Arc::clone(&shard.entries))
            .unwrap_or_default()
    }
}

impl fmt::Debug for MemoryShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryShard({}-{})", self.store, self.partition)
    }
}

impl Shard for MemoryShard {
    fn multi_get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Stored>>, StateError> {
        let contents = self.contents();
        let entries = contents.shards.get(self.slot).map(|shard| &shard.entries);
        Ok(keys.iter().map(|key| entries.and_then(|entries| entries.get(*key)).cloned()).collect())
    }

    fn scan(&self, range: KeyRange<'_>, order: Order) -> Result<Scan<'_>, StateError> {
        Ok(Box::new(MapScan { entries: self.entries(), rest: KeySpan::new(range), order }))
    }

    fn position(&self) -> Option<i64> {
        self.contents().shards.get(self.slot).and_then(|shard| shard.position)
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

//! Interactive queries: reading a running application's stores, as of its last commit.

use super::error::StreamsError;
use crate::{store::ValueAndTimestamp, task::Blueprint, topology::TopologyError};
use headwater_core::{
    ports::state::{Order, Shard, State, StateError, StoreSpec},
    record::{TopicPartition, murmur2_partition},
    serde::{Data, SharedSerde, for_type},
};
use std::{fmt, ops::Bound, sync::Arc};

/// Opens a view of the key-value store `name`.
pub(super) fn open_store<K, V>(
    blueprint: &Blueprint,
    state: &dyn State,
    name: &str,
) -> Result<ReadOnlyKeyValueStore<K, V>, StreamsError>
where
    K: serde::Serialize + serde::de::DeserializeOwned + Data,
    V: serde::Serialize + serde::de::DeserializeOwned + Data,
{
    let unknown = || TopologyError::UnknownStore { name: name.to_owned() };
    let stores = &blueprint.topology.stores;
    let place = stores.iter().position(|store| &*store.spec().name == name).ok_or_else(unknown)?;
    let sub =
        blueprint.plan.subs.iter().find(|sub| sub.stores.contains(&place)).ok_or_else(unknown)?;
    let (keys, values) = (for_type::<K>(), for_type::<V>());
    let spec = StoreSpec {
        name: blueprint.state_name(name),
        schema: format!("{} -> {}", keys.schema(), values.schema()),
    };
    // Taken first: what the shards then answer is at least as new.
    let position = state.position();
    let open = |partition| state.open(&spec, partition);
    let shards = (0..blueprint.width(sub)).map(open).collect::<Result<_, _>>()?;
    Ok(ReadOnlyKeyValueStore { name: spec.name, shards, keys, values, position })
}

/// A key-value store over all its partitions, as of the last commit. Reading it never waits for processing.
pub struct ReadOnlyKeyValueStore<K, V> {
    name: Arc<str>,
    shards: Vec<Arc<dyn Shard>>,
    keys: SharedSerde<K>,
    values: SharedSerde<V>,
    position: Vec<(TopicPartition, i64)>,
}

impl<K, V> fmt::Debug for ReadOnlyKeyValueStore<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadOnlyKeyValueStore").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<K: Data, V: Data> ReadOnlyKeyValueStore<K, V> {
    /// The value of `key`.
    ///
    /// # Errors
    ///
    /// The state cannot be read, or holds something else.
    pub fn get(&self, key: &K) -> Result<Option<ValueAndTimestamp<V>>, StateError> {
        let mut bytes = Vec::new();
        self.keys.serialize(key, &mut bytes).map_err(|e| self.corrupt(0, &e))?;
        let count = u32::try_from(self.shards.len()).unwrap_or(u32::MAX).max(1);
        let partition = murmur2_partition(&bytes, count);
        let Some(shard) = self.shards.get(partition as usize) else { return Ok(None) };
        let Some(stored) = shard.get(&bytes)? else { return Ok(None) };
        let value = self
            .values
            .deserialize(Some(&stored.value))
            .map_err(|e| self.corrupt(partition, &e))?;
        Ok(Some(ValueAndTimestamp { value, timestamp: stored.timestamp }))
    }

    /// All entries, partition by partition and within one by their keys' bytes.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn all(&self) -> Result<Vec<(K, ValueAndTimestamp<V>)>, StateError> {
        let mut entries = Vec::new();
        for (partition, shard) in (0..).zip(&self.shards) {
            for entry in shard.scan((Bound::Unbounded, Bound::Unbounded), Order::Ascending)? {
                let (key, stored) = entry?;
                let key =
                    self.keys.deserialize(Some(&key)).map_err(|e| self.corrupt(partition, &e))?;
                let value = self
                    .values
                    .deserialize(Some(&stored.value))
                    .map_err(|e| self.corrupt(partition, &e))?;
                entries.push((key, ValueAndTimestamp { value, timestamp: stored.timestamp }));
            }
        }
        Ok(entries)
    }

    /// Where the application's inputs stood when this view was opened: its answers reflect at least that.
    #[must_use]
    pub fn position(&self) -> &[(TopicPartition, i64)] {
        &self.position
    }

    fn corrupt(&self, partition: u32, error: &dyn fmt::Display) -> StateError {
        StateError::Corrupt { store: Arc::clone(&self.name), partition, detail: error.to_string() }
    }
}

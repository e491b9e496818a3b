//! Interactive queries: reading a running application's stores, as of its last commit.

use super::error::StreamsError;
use crate::{
    DefaultSerde,
    store::{Form, Keys, StoreError, StoreId, ValueAndTimestamp},
    task::Blueprint,
    topology::TopologyError,
};
use headwater_core::{
    ports::state::{Order, Shard, State, StateError, StoreSpec, Stored},
    record::{TopicPartition, murmur2_partition},
    serde::Data,
};
use std::{fmt, ops::Bound, sync::Arc};

/// Opens a view of the key-value store `name`.
pub(super) fn open_store<K, V>(
    blueprint: &Blueprint,
    state: &dyn State,
    name: &str,
) -> Result<ReadOnlyKeyValueStore<K, V>, StreamsError>
where
    K: DefaultSerde,
    V: DefaultSerde,
{
    let unknown = || TopologyError::UnknownStore { name: name.to_owned() };
    let stores = &blueprint.topology.stores;
    let place = stores.iter().position(|store| &*store.spec().name == name).ok_or_else(unknown)?;
    let sub =
        blueprint.plan.subs.iter().find(|sub| sub.stores.contains(&place)).ok_or_else(unknown)?;
    let (keys, values) = (K::default_serde(), V::default_serde());
    let spec = StoreSpec {
        name: blueprint.state_name(name),
        schema: format!("{} -> {}", keys.schema(), values.schema()),
    };
    // Taken first: what the shards then answer is at least as new.
    let position = state.position();
    let part = |partition| {
        let id = StoreId { name: Arc::clone(&spec.name), partition };
        let (keys, form) = (Keys::new(&keys, &id), Form::new(None, &values, &id));
        Ok(Part { shard: state.open(&spec, partition)?, keys, form })
    };
    let parts = (0..blueprint.width(sub)).map(part).collect::<Result<_, StreamsError>>()?;
    Ok(ReadOnlyKeyValueStore { name: spec.name, parts, position })
}

/// A store's part for one partition.
struct Part<K, V> {
    shard: Arc<dyn Shard>,
    keys: Keys<K>,
    form: Form<V>,
}

impl<K: Data, V: Data> Part<K, V> {
    fn read(&self, stored: &Stored) -> Result<ValueAndTimestamp<V>, StateError> {
        let (value, timestamp) = (self.form.read(&stored.value)?, stored.timestamp);
        Ok(ValueAndTimestamp { value, timestamp })
    }
}

/// A key-value store over all its partitions, as of the last commit. Reading it never waits for processing.
pub struct ReadOnlyKeyValueStore<K, V> {
    name: Arc<str>,
    parts: Vec<Part<K, V>>,
    position: Vec<(TopicPartition, i64)>,
}

impl<K, V> fmt::Debug for ReadOnlyKeyValueStore<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadOnlyKeyValueStore").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<K: Data, V: Data> ReadOnlyKeyValueStore<K, V> {
    /// The value of `key`; a null key has none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] if the key has no form in bytes, [`StoreError::State`] if the state cannot be read or holds
    /// something else.
    pub fn get(&self, key: &K) -> Result<Option<ValueAndTimestamp<V>>, StoreError> {
        let mut bytes = Vec::new();
        let Some(first) = self.parts.first() else { return Ok(None) };
        match first.keys.write(key, &mut bytes) {
            Err(StoreError::NullKey) => return Ok(None),
            written => written?,
        }
        let count = u32::try_from(self.parts.len()).unwrap_or(u32::MAX);
        let partition = murmur2_partition(first.keys.placed_by(&bytes), count);
        let Some(part) = self.parts.get(partition as usize) else { return Ok(None) };
        Ok(part.shard.get(&bytes)?.map(|stored| part.read(&stored)).transpose()?)
    }

    /// All entries, partition by partition and within one by their keys' bytes.
    ///
    /// # Errors
    ///
    /// [`StateError`] if the state cannot be read, or holds something else.
    pub fn all(&self) -> Result<Vec<(K, ValueAndTimestamp<V>)>, StateError> {
        let mut entries = Vec::new();
        for part in &self.parts {
            for entry in part.shard.scan((Bound::Unbounded, Bound::Unbounded), Order::Ascending)? {
                let (key, stored) = entry?;
                entries.push((part.keys.read(&key)?, part.read(&stored)?));
            }
        }
        Ok(entries)
    }

    /// Where the application's inputs stood when this view was opened: its answers reflect at least that.
    #[must_use]
    pub fn position(&self) -> &[(TopicPartition, i64)] {
        &self.position
    }
}

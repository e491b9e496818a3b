//! Interactive queries: reading an application's stores as of one of its commits, while it goes on.

use super::error::StreamsError;
use crate::{
    store::{
        Form, Keys, Serdes, Session, StoreError, StoreId, StoreKind, ValueAndTimestamp,
        WindowEntry, session_bytes,
    },
    task::Blueprint,
    topology::TopologyError,
};
use headwater_core::{
    ports::state::{ApplicationState, Order, Shard, Snapshot, StateError, Stored},
    record::{Timestamp, TopicPartition, murmur2_partition},
    serde::Data,
};
use std::{
    any::Any,
    fmt,
    ops::{Bound, RangeInclusive},
    sync::Arc,
};

/// An application's stores at one commit, which later ones do not change. Reading them never waits for processing.
#[derive(Debug, Clone)]
pub struct StateSnapshot {
    blueprint: Arc<Blueprint>,
    snapshot: Arc<Snapshot>,
}

impl StateSnapshot {
    /// The newest published commit.
    pub(super) fn of(
        blueprint: &Arc<Blueprint>,
        state: &dyn ApplicationState,
        globals: Option<&dyn ApplicationState>,
    ) -> Result<Self, StreamsError> {
        let mut snapshot = state.snapshot()?;
        if let Some(globals) = globals {
            snapshot.shards.extend(globals.snapshot()?.shards);
        }
        Ok(Self { blueprint: Arc::clone(blueprint), snapshot: Arc::new(snapshot) })
    }

    /// Says where the application's inputs stood at the commit: what the stores hold follows from the records before.
    #[must_use]
    pub fn position(&self) -> &[(TopicPartition, i64)] {
        &self.snapshot.sources
    }

    /// Opens the key-value store `name`, with the serdes that it was built with.
    ///
    /// # Errors
    ///
    /// [`StreamsError::Topology`] with [`TopologyError::UnknownStore`] if there is no such store, or with
    /// [`TopologyError::StoreDiffers`] if it is of another kind or holds other types; [`StreamsError::NotRunning`] if
    /// a partition of it is not open here.
    pub fn key_value_store<K: Data, V: Data>(
        &self,
        name: &str,
    ) -> Result<ReadOnlyKeyValueStore<K, V>, StreamsError> {
        Ok(ReadOnlyKeyValueStore(self.partitions(name, StoreKind::KeyValue)?))
    }

    /// Opens the window store `name`, with the serdes that it was built with.
    ///
    /// # Errors
    ///
    /// [`StreamsError::Topology`] and [`StreamsError::NotRunning`], as [`key_value_store`](Self::key_value_store).
    pub fn window_store<K: Data, V: Data>(
        &self,
        name: &str,
    ) -> Result<ReadOnlyWindowStore<K, V>, StreamsError> {
        Ok(ReadOnlyWindowStore(self.partitions(name, StoreKind::Window)?))
    }

    /// Opens the session store `name`, with the serdes that it was built with: that of sessions, or of sliding windows.
    ///
    /// # Errors
    ///
    /// [`StreamsError::Topology`] and [`StreamsError::NotRunning`], as [`key_value_store`](Self::key_value_store).
    pub fn session_store<K: Data, V: Data>(
        &self,
        name: &str,
    ) -> Result<ReadOnlySessionStore<K, V>, StreamsError> {
        Ok(ReadOnlySessionStore(self.partitions(name, StoreKind::Session)?))
    }

    fn partitions<K: Data, V: Data>(
        &self,
        name: &str,
        kind: StoreKind,
    ) -> Result<StorePartitions<K, V>, StreamsError> {
        let unknown = || TopologyError::UnknownStore { name: name.to_owned() };
        let differs = || TopologyError::StoreDiffers { name: name.to_owned() };
        let Declared { name: named, serdes, partitions, is_global } =
            self.declared(name).ok_or_else(unknown)?;
        let serdes = serdes.and_then(|serdes| serdes.downcast_ref::<Serdes<K, V>>());
        let serdes = serdes.filter(|serdes| serdes.kind == kind).ok_or_else(differs)?;
        let open = |partition| {
            let id = StoreId { name: Arc::clone(named), partition };
            let shard = self.snapshot.shards.get(&(Arc::clone(&id.name), partition));
            Ok(StorePartition {
                shard: shard.map(Arc::clone).ok_or(StreamsError::NotRunning)?,
                keys: Keys::new(&serdes.keys, &id),
                form: Form::new(None, &serdes.values, &id),
            })
        };
        let partitions = (0..partitions).map(open).collect::<Result<_, StreamsError>>()?;
        Ok(StorePartitions {
            snapshot: Arc::clone(&self.snapshot),
            name: name.to_owned(),
            partitions,
            is_global,
        })
    }

    /// What the topology says of the store `name`.
    fn declared(&self, name: &str) -> Option<Declared<'_>> {
        let Blueprint { topology, plan, .. } = &*self.blueprint;
        if let Some(global) = topology.globals.iter().find(|it| &*it.store.name == name) {
            return Some(Declared {
                name: &global.store.name,
                serdes: Some(&*global.serdes),
                partitions: self.blueprint.global_partitions(&global.topic),
                is_global: true,
            });
        }
        let place = topology.stores.iter().position(|it| &*it.spec().name == name)?;
        let builder = topology.stores.get(place)?;
        let sub = plan.subs.iter().find(|sub| sub.stores.contains(&place))?;
        Some(Declared {
            name: &builder.spec().name,
            serdes: builder.serdes(),
            partitions: self.blueprint.width(sub),
            is_global: false,
        })
    }
}

/// A store as the topology declares it.
struct Declared<'a> {
    name: &'a Arc<str>,
    /// [`Serdes`], if it can be read from outside.
    serdes: Option<&'a (dyn Any + Send + Sync)>,
    partitions: u32,
    is_global: bool,
}

/// All partitions of a store.
struct StorePartitions<K, V> {
    snapshot: Arc<Snapshot>,
    name: String,
    partitions: Vec<StorePartition<K, V>>,
    /// Whether a key may be in another partition than its own.
    is_global: bool,
}

/// One partition of a store.
struct StorePartition<K, V> {
    shard: Arc<dyn Shard>,
    keys: Keys<K>,
    form: Form<V>,
}

impl<K: Data, V: Data> StorePartition<K, V> {
    fn read(&self, stored: &Stored) -> Result<ValueAndTimestamp<V>, StateError> {
        let (value, timestamp) = (self.form.read(&stored.value)?, stored.timestamp);
        Ok(ValueAndTimestamp { value, timestamp })
    }

    fn get(&self, key: &[u8]) -> Result<Option<ValueAndTimestamp<V>>, StateError> {
        self.shard.get(key)?.map(|stored| self.read(&stored)).transpose()
    }

    fn window_entry(&self, key: &[u8], stored: &Stored) -> Result<WindowEntry<K, V>, StateError> {
        let (start, key) = self.form.id.split_time(key)?;
        Ok((self.keys.read(key)?, start, self.read(stored)?))
    }
}

impl<K: Data, V: Data> StorePartitions<K, V> {
    /// The partition that holds a key, which becomes `bytes`; none for a null key.
    fn of(
        &self,
        key: &K,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<&StorePartition<K, V>>, StoreError> {
        let Some(first) = self.partitions.first() else { return Ok(None) };
        match first.keys.write(key, bytes) {
            Err(StoreError::NullKey) => return Ok(None),
            written => written?,
        }
        let count = u32::try_from(self.partitions.len()).unwrap_or(u32::MAX);
        let partition = murmur2_partition(first.keys.placed_by(bytes), count);
        Ok(self.partitions.get(partition as usize))
    }
}

/// A key-value store over all its partitions, at the commit of a [`StateSnapshot`].
pub struct ReadOnlyKeyValueStore<K, V>(StorePartitions<K, V>);

impl<K, V> fmt::Debug for ReadOnlyKeyValueStore<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadOnlyKeyValueStore").field("name", &self.0.name).finish_non_exhaustive()
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
        let Some(partition) = self.0.of(key, &mut bytes)? else { return Ok(None) };
        let found = partition.get(&bytes)?;
        if found.is_some() || !self.0.is_global {
            return Ok(found);
        }
        let mut everywhere = self.0.partitions.iter();
        Ok(everywhere.find_map(|partition| partition.get(&bytes).transpose()).transpose()?)
    }

    /// All entries, partition by partition and within one by their keys' bytes.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read, [`StateError::Unreadable`] if it
    /// holds something else.
    pub fn all(&self) -> Result<Vec<(K, ValueAndTimestamp<V>)>, StateError> {
        let mut entries = Vec::new();
        for partition in &self.0.partitions {
            for entry in
                partition.shard.scan((Bound::Unbounded, Bound::Unbounded), Order::Ascending)?
            {
                let (key, stored) = entry?;
                entries.push((partition.keys.read(&key)?, partition.read(&stored)?));
            }
        }
        Ok(entries)
    }

    /// Where the application's inputs stood at the commit that this shows.
    #[must_use]
    pub fn position(&self) -> &[(TopicPartition, i64)] {
        &self.0.snapshot.sources
    }
}

/// A window store over all its partitions, at the commit of a [`StateSnapshot`].
pub struct ReadOnlyWindowStore<K, V>(StorePartitions<K, V>);

impl<K, V> fmt::Debug for ReadOnlyWindowStore<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadOnlyWindowStore").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl<K: Data, V: Data> ReadOnlyWindowStore<K, V> {
    /// The value of `key` in the window that starts at `start`; a null key has none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] if the key has no form in bytes, [`StoreError::State`] if the state cannot be read or holds
    /// something else.
    pub fn fetch(
        &self,
        key: &K,
        start: Timestamp,
    ) -> Result<Option<ValueAndTimestamp<V>>, StoreError> {
        let mut bytes = Vec::new();
        let Some(partition) = self.0.of(key, &mut bytes)? else { return Ok(None) };
        Ok(partition.get(&[&start.to_be_bytes(), &bytes[..]].concat())?)
    }

    /// The values of `key` in the windows whose starts lie within `starts`, by start. Costs a look-up for each start that
    /// the store holds there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] and [`StoreError::State`], as [`fetch`](Self::fetch).
    pub fn fetch_range(
        &self,
        key: &K,
        starts: RangeInclusive<Timestamp>,
    ) -> Result<Vec<(Timestamp, ValueAndTimestamp<V>)>, StoreError> {
        let (mut bytes, mut found) = (Vec::new(), Vec::new());
        let Some(partition) = self.0.of(key, &mut bytes)? else { return Ok(found) };
        let mut from = Some(*starts.start());
        while let Some(at) = from.filter(|at| at <= starts.end()) {
            let lower = at.to_be_bytes();
            let range = (Bound::Included(&lower[..]), Bound::Unbounded);
            let Some(first) = partition.shard.scan(range, Order::Ascending)?.next() else { break };
            let (start, _) = partition.form.id.split_time(&first?.0)?;
            if start > *starts.end() {
                break;
            }
            let value = partition.get(&[&start.to_be_bytes(), &bytes[..]].concat())?;
            found.extend(value.map(|value| (start, value)));
            from = start.checked_add(1);
        }
        Ok(found)
    }

    /// All entries of windows whose starts lie within `starts`, partition by partition and within one by start and then by
    /// their keys' bytes.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read, [`StateError::Unreadable`] if it
    /// holds something else.
    pub fn fetch_all(
        &self,
        starts: RangeInclusive<Timestamp>,
    ) -> Result<Vec<WindowEntry<K, V>>, StateError> {
        let (from, end) = (starts.start().to_be_bytes(), starts.end().checked_add(1));
        let end = end.map(Timestamp::to_be_bytes);
        let end = end.as_ref().map_or(Bound::Unbounded, |end| Bound::Excluded(&end[..]));
        let mut entries = Vec::new();
        for partition in &self.0.partitions {
            for entry in
                partition.shard.scan((Bound::Included(&from[..]), end), Order::Ascending)?
            {
                let (key, stored) = entry?;
                entries.push(partition.window_entry(&key, &stored)?);
            }
        }
        Ok(entries)
    }

    /// Where the application's inputs stood at the commit that this shows.
    #[must_use]
    pub fn position(&self) -> &[(TopicPartition, i64)] {
        &self.0.snapshot.sources
    }
}

/// A session store over all its partitions, at the commit of a [`StateSnapshot`].
pub struct ReadOnlySessionStore<K, V>(StorePartitions<K, V>);

impl<K, V> fmt::Debug for ReadOnlySessionStore<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadOnlySessionStore").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl<K: Data, V: Data> ReadOnlySessionStore<K, V> {
    /// The windows of `key` that end at `earliest_end` or later and start at `latest_start` or earlier, by end; a null key
    /// has none. Costs a look-up for each segment that the store holds.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] if the key has no form in bytes, [`StoreError::State`] if the state cannot be read or holds
    /// something else.
    pub fn find_sessions(
        &self,
        key: &K,
        earliest_end: Timestamp,
        latest_start: Timestamp,
    ) -> Result<Vec<Session<V>>, StoreError> {
        let (mut bytes, mut found) = (Vec::new(), Vec::new());
        let Some(partition) = self.0.of(key, &mut bytes)? else { return Ok(found) };
        let mut from = Some(0_i64);
        while let Some(at) = from {
            let lower = at.to_be_bytes();
            let range = (Bound::Included(&lower[..]), Bound::Unbounded);
            let Some(first) = partition.shard.scan(range, Order::Ascending)?.next() else { break };
            let id = &partition.form.id;
            let (segment, _) = id.split_time(&first?.0)?;
            let (first, last) = session_bytes::stored_keys(segment, &bytes, earliest_end);
            let range = (Bound::Included(&first[..]), Bound::Included(&last[..]));
            for entry in partition.shard.scan(range, Order::Ascending)? {
                let (stored_key, stored) = entry?;
                let window = session_bytes::window_of(&stored_key);
                let window = window.ok_or_else(|| session_bytes::damaged(id))?;
                if window.start <= latest_start {
                    let ValueAndTimestamp { value, timestamp } = partition.read(&stored)?;
                    found.push(Session { window, value, timestamp });
                }
            }
            from = segment.checked_add(1);
        }
        Ok(found)
    }

    /// All windows of `key`, by end; a null key has none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] and [`StoreError::State`], as [`find_sessions`](Self::find_sessions).
    pub fn fetch(&self, key: &K) -> Result<Vec<Session<V>>, StoreError> {
        self.find_sessions(key, 0, Timestamp::MAX)
    }

    /// The value of `key` in the window from `start` to `end`; a null key has none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] and [`StoreError::State`], as [`find_sessions`](Self::find_sessions).
    pub fn fetch_session(
        &self,
        key: &K,
        start: Timestamp,
        end: Timestamp,
    ) -> Result<Option<ValueAndTimestamp<V>>, StoreError> {
        let mut found = self.find_sessions(key, end, start)?.into_iter();
        let found = found.find(|it| (it.window.start, it.window.end) == (start, end));
        Ok(found.map(|Session { value, timestamp, .. }| ValueAndTimestamp { value, timestamp }))
    }

    /// Where the application's inputs stood at the commit that this shows.
    #[must_use]
    pub fn position(&self) -> &[(TopicPartition, i64)] {
        &self.0.snapshot.sources
    }
}

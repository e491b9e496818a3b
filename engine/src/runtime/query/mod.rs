//! Interactive queries: reading an application's stores as of one of its commits, while it goes on.
//!
//! | module | holds |
//! |---|---|
//! | `views` | a store over all its partitions, as a caller reads it |
//! | `request`, `queries` | the same by a request: partition by partition, each with its position |
//! | `part` | how the entries of one partition are read |
//! | `segmented` | the same of windows that lie in segments of time |
//! | `rows` | rows in order, a page at a time |

mod part;
mod queries;
mod request;
mod rows;
mod segmented;
mod views;

pub use queries::{
    KeyQuery, MultiVersionedKeyQuery, PrefixQuery, Query, QueryAnswer, RangeQuery, SessionKeyQuery,
    VersionedKeyQuery, WindowKeyQuery, WindowRangeQuery,
};
pub use request::{
    FailureReason, InStore, KeyQueryMetadata, Position, PositionBound, QueryFailure, QueryResult,
    StateQueryRequest, StateQueryResult,
};
pub use rows::QueryIterator;
pub use views::{
    ReadOnlyKeyValueStore, ReadOnlySessionStore, ReadOnlyVersionedKeyValueStore,
    ReadOnlyWindowStore,
};

use super::{application::Application, error::StreamsError, identity::HostInfo};
use crate::{
    store::{Expiry, Form, Keys, OpenIterators, Serdes, StoreId, StoreKind},
    task::{Blueprint, Positions},
    topology::{TaskId, TopologyError},
};
use headwater_core::{
    ports::state::{ApplicationState, Snapshot},
    record::{TopicName, TopicPartition},
    serde::{Data, SharedSerde},
};
use part::{StorePart, StoreParts};
use std::{any::Any, collections::BTreeSet, sync::Arc};

/// An application's stores at one commit, which later ones do not change. Reading them never waits for processing.
#[derive(Debug, Clone)]
pub struct StateSnapshot {
    blueprint: Arc<Blueprint>,
    snapshot: Arc<Snapshot>,
    /// Where iterators are counted, if there are metrics to tell them.
    iterators: Option<Arc<OpenIterators>>,
    /// Where the instance answers.
    host: Option<HostInfo>,
}

impl StateSnapshot {
    /// The newest published commit, of the stores of `tasks`: others may have left what they held before.
    pub(super) fn of(
        blueprint: &Arc<Blueprint>,
        tasks: &BTreeSet<TaskId>,
        state: &dyn ApplicationState,
        globals: Option<&dyn ApplicationState>,
    ) -> Result<Self, StreamsError> {
        let mut snapshot = state.snapshot()?;
        snapshot.shards.retain(|(store, partition), _| {
            if Positions::are_in(store) {
                return true;
            }
            let sub = blueprint.sub_of(store).map(|(sub, _)| sub);
            sub.is_some_and(|sub| tasks.contains(&TaskId { sub, partition: *partition }))
        });
        if let Some(globals) = globals {
            snapshot.shards.extend(globals.snapshot()?.shards);
        }
        let (blueprint, snapshot) = (Arc::clone(blueprint), Arc::new(snapshot));
        Ok(Self { blueprint, snapshot, iterators: None, host: None })
    }

    /// The same, with what is iterated over counted.
    pub(super) fn counted_in(self, iterators: &Arc<OpenIterators>) -> Self {
        Self { iterators: Some(Arc::clone(iterators)), ..self }
    }

    /// The same of an instance that answers there.
    pub(super) fn at(self, host: Option<HostInfo>) -> Self {
        Self { host, ..self }
    }

    /// Says where the application's inputs stood at the commit: what the stores hold follows from the records before.
    #[must_use]
    pub fn position(&self) -> &[(TopicPartition, i64)] {
        &self.snapshot.sources
    }

    /// Opens the key-value store or LRU map `name`, with the serdes that it was built with. What is read of a map is not used by
    /// that.
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
        Ok(ReadOnlyKeyValueStore(self.parts(name, StoreKind::KeyValue)?))
    }

    /// Opens the window store `name`, with the serdes that it was built with; also that of sliding windows, unless they are of one
    /// instant each.
    ///
    /// # Errors
    ///
    /// [`StreamsError::Topology`] and [`StreamsError::NotRunning`], as [`key_value_store`](Self::key_value_store).
    pub fn window_store<K: Data, V: Data>(
        &self,
        name: &str,
    ) -> Result<ReadOnlyWindowStore<K, V>, StreamsError> {
        Ok(ReadOnlyWindowStore(self.parts(name, StoreKind::Window)?))
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
        Ok(ReadOnlySessionStore(self.parts(name, StoreKind::Session)?))
    }

    /// Opens the versioned store `name`, with the serdes that it was built with.
    ///
    /// # Errors
    ///
    /// [`StreamsError::Topology`] and [`StreamsError::NotRunning`], as [`key_value_store`](Self::key_value_store).
    pub fn versioned_store<K: Data, V: Data>(
        &self,
        name: &str,
    ) -> Result<ReadOnlyVersionedKeyValueStore<K, V>, StreamsError> {
        Ok(ReadOnlyVersionedKeyValueStore(self.parts(name, StoreKind::Versioned)?))
    }

    fn parts<K: Data, V: Data>(
        &self,
        name: &str,
        kind: StoreKind,
    ) -> Result<StoreParts<K, V>, StreamsError> {
        let unknown = || TopologyError::UnknownStore { name: name.to_owned() };
        let differs = || TopologyError::StoreDiffers { name: name.to_owned() };
        let declared = self.declared(name).ok_or_else(unknown)?;
        let serdes = declared.serdes::<K, V>(kind).ok_or_else(differs)?;
        let part = |partition| {
            let part = self.part(&declared, serdes, partition);
            part.map(Arc::new).ok_or(StreamsError::NotRunning)
        };
        let parts = (0..declared.partitions).map(part).collect::<Result<_, _>>()?;
        Ok(StoreParts::all(name, parts, &self.snapshot))
    }

    /// One partition of a store, if it is open here.
    fn part<K: Data, V: Data>(
        &self,
        declared: &Declared<'_>,
        serdes: &Serdes<K, V>,
        partition: u32,
    ) -> Option<StorePart<K, V>> {
        let id = StoreId { name: Arc::clone(declared.name), partition };
        let shard = self.snapshot.shards.get(&(Arc::clone(&id.name), partition))?;
        Some(StorePart {
            snapshot: Arc::clone(&self.snapshot),
            iterators: self.iterators.clone(),
            shard: Arc::clone(shard),
            expiry: declared.expiry.cloned(),
            keys: Keys::new(&serdes.keys, &id),
            form: Form::new(None, &serdes.values, &id),
            values: SharedSerde::clone(&serdes.values),
            history_ms: serdes.history_ms,
        })
    }

    /// What the topology says of the store `name`.
    fn declared(&self, name: &str) -> Option<Declared<'_>> {
        let topology = &self.blueprint.topology;
        if let Some(global) = topology.globals.iter().find(|it| &*it.store.name == name) {
            return Some(Declared {
                name: &global.store.name,
                serdes: Some(&*global.serdes),
                placing: None,
                expiry: None,
                partitions: self.blueprint.global_partitions(&global.topic),
                filled_by: FilledBy::Global(&global.topic),
            });
        }
        let (sub, builder) = self.blueprint.sub_of(name)?;
        Some(Declared {
            name: &builder.spec().name,
            serdes: builder.serdes(),
            placing: builder.placing(),
            expiry: builder.expiry(),
            partitions: self.blueprint.width(self.blueprint.plan.subs.get(sub as usize)?),
            filled_by: FilledBy::Sub(sub),
        })
    }
}

/// What fills a store.
#[derive(Debug, Clone, Copy)]
enum FilledBy<'a> {
    /// The tasks of a sub-topology.
    Sub(u32),
    /// A topic of its own.
    Global(&'a TopicName),
}

/// A store as the topology declares it.
struct Declared<'a> {
    name: &'a Arc<str>,
    /// [`Serdes`], if it can be read from outside.
    serdes: Option<&'a (dyn Any + Send + Sync)>,
    /// The serde of the keys by which its entries lie in their partitions, if that is not the store's own.
    placing: Option<&'a (dyn Any + Send + Sync)>,
    expiry: Option<&'a Expiry>,
    partitions: u32,
    filled_by: FilledBy<'a>,
}

impl<'a> Declared<'a> {
    /// The serdes of a store of this kind, if it holds these types.
    fn serdes<K: Data, V: Data>(&self, kind: StoreKind) -> Option<&'a Serdes<K, V>> {
        let serdes = self.serdes?.downcast_ref::<Serdes<K, V>>()?;
        let is_sliding = || self.expiry.and_then(Expiry::sliding_ms).is_some();
        // Sliding windows lie as sessions do, and are windows to who asks.
        let is_of_kind = serdes.kind == kind || (kind == StoreKind::Window && is_sliding());
        is_of_kind.then_some(serdes)
    }
}

impl Application {
    /// Asks a store, whose partitions answer as of the last commit, each with its position.
    #[must_use]
    pub fn query<Q: Query>(&self, request: &StateQueryRequest<Q>) -> StateQueryResult<Q::Answer> {
        match self.snapshot() {
            Ok(snapshot) => snapshot.query(request),
            Err(error) => request.failed(&QueryFailure::of(&error)),
        }
    }

    /// Tells in which partition of the store called `name` a key is, and whether this instance holds it.
    ///
    /// # Errors
    ///
    /// [`QueryFailure`], as [`StateSnapshot::query_metadata_for_key`].
    pub fn query_metadata_for_key<K: Data, V: Data>(
        &self,
        name: &str,
        key: &K,
    ) -> Result<KeyQueryMetadata, QueryFailure> {
        let snapshot = self.snapshot().map_err(|error| QueryFailure::of(&error))?;
        snapshot.query_metadata_for_key::<K, V>(name, key)
    }
}

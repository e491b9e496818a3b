//! How an operator looks a row of a table up: in its store, through what maps and filters it.

use headwater_core::{record::Timestamp, serde::Data};
use headwater_engine::{
    processor::{InitContext, ProcessorError, Stores},
    store::{
        KeyValueBytes, KeyValueStore, SessionBytes, SessionStore, Slot, StateStore, StoreError,
        StoreKey, ValueAndTimestamp, VersionedKeyValueStore, WindowBytes, WindowSlot, WindowStore,
        Windowed,
    },
};
use std::{any::Any, sync::Arc};

/// Something with rows under keys, kept in one store or made of the rows of several.
pub(crate) trait View<K, V>: Send + Sync {
    /// The stores that the reader needs to be connected to.
    fn stores(&self) -> Vec<Arc<str>>;

    /// Whether the store keeps versions.
    fn is_versioned(&self) -> bool {
        false
    }

    /// The means to read it within one task.
    fn open(
        &self,
        seen: Seen,
        context: &mut InitContext<'_>,
    ) -> Result<Box<dyn Lookup<K, V>>, ProcessorError>;
}

/// What is found of a row whose update a cache holds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The row as it is.
    Newest,
    /// The row as it was forwarded last.
    Forwarded,
}

/// A view within a task.
pub(crate) trait Lookup<K, V>: Send {
    /// The row under each of `keys`, or why there can be none.
    fn get_all(
        &self,
        keys: &[&K],
        stores: &mut Stores<'_>,
    ) -> Result<Vec<Found<V>>, ProcessorError>;

    /// The row under each of `keys` that was valid at the time beside it; without versions, the one that is there now.
    fn get_all_as_of(
        &self,
        keys: &[&K],
        times: &[Timestamp],
        stores: &mut Stores<'_>,
    ) -> Result<Vec<Found<V>>, ProcessorError> {
        let _ = times;
        self.get_all(keys, stores)
    }
}

/// The row under a key with its timestamp, if there is one, or why the store has no place for the key.
pub(crate) type Found<V> = Result<Option<ValueAndTimestamp<V>>, StoreError>;

/// A row whose value is another, or that is none then.
pub(crate) fn mapped_row<V, V2>(
    row: Option<ValueAndTimestamp<V>>,
    map: impl FnOnce(V) -> Option<V2>,
) -> Option<ValueAndTimestamp<V2>> {
    let ValueAndTimestamp { value, timestamp } = row?;
    Some(ValueAndTimestamp { value: map(value)?, timestamp })
}

/// What two rows make, at the later of their times.
pub(crate) fn joined_row<L, R, V>(
    left: Option<ValueAndTimestamp<L>>,
    right: Option<ValueAndTimestamp<R>>,
    join: impl FnOnce(Option<L>, Option<R>) -> Option<V>,
) -> Option<ValueAndTimestamp<V>> {
    let timestamps = left.iter().map(|row| row.timestamp);
    let timestamp = timestamps.chain(right.iter().map(|row| row.timestamp)).max()?;
    let value = join(left.map(|row| row.value), right.map(|row| row.value))?;
    Some(ValueAndTimestamp { value, timestamp })
}

/// A table that is a key-value store.
pub(crate) struct StoredTable(pub(crate) Arc<str>);

/// A store within a task.
struct OpenStore<S> {
    store: StoreKey<S>,
    seen: Seen,
}

impl<S: StateStore> OpenStore<S> {
    /// Opens the store; `look_up` has it keep what was forwarded, if that is to be seen.
    fn open<B: Any>(
        name: &str,
        seen: Seen,
        context: &mut InitContext<'_>,
        look_up: impl FnOnce(&mut B),
    ) -> Result<Self, ProcessorError> {
        if seen == Seen::Forwarded {
            let entries = context.byte_store(name)?;
            look_up(context.byte_store_mut(entries));
        }
        Ok(Self { store: context.store(name)?, seen })
    }
}

impl<K: Data, V: Data> View<K, V> for StoredTable {
    fn stores(&self) -> Vec<Arc<str>> {
        vec![Arc::clone(&self.0)]
    }

    fn open(
        &self,
        seen: Seen,
        context: &mut InitContext<'_>,
    ) -> Result<Box<dyn Lookup<K, V>>, ProcessorError> {
        let look_up = KeyValueBytes::<V>::look_up_old_values;
        Ok(Box::new(OpenStore::<KeyValueStore<K, V>>::open(&self.0, seen, context, look_up)?))
    }
}

impl<K: Data, V: Data> Lookup<K, V> for OpenStore<KeyValueStore<K, V>> {
    fn get_all(
        &self,
        keys: &[&K],
        stores: &mut Stores<'_>,
    ) -> Result<Vec<Found<V>>, ProcessorError> {
        let store = stores.get(self.store);
        let slots = store.locate(keys.iter().copied())?;
        let found = |(row, slot): (usize, Option<Slot>)| match (slot, self.seen) {
            (Some(slot), Seen::Newest) => Ok(store.get_at(slot)),
            (Some(slot), Seen::Forwarded) => Ok(store.by_bytes().flushed(slot)),
            (None, _) => store.refusal(row).map_or(Ok(None), Err),
        };
        Ok(slots.into_iter().enumerate().map(found).collect())
    }
}

/// A table that keeps versions.
pub(crate) struct StoredVersions(pub(crate) Arc<str>);

impl<K: Data, V: Data> View<K, V> for StoredVersions {
    fn stores(&self) -> Vec<Arc<str>> {
        vec![Arc::clone(&self.0)]
    }

    fn is_versioned(&self) -> bool {
        true
    }

    fn open(
        &self,
        _: Seen,
        context: &mut InitContext<'_>,
    ) -> Result<Box<dyn Lookup<K, V>>, ProcessorError> {
        Ok(Box::new(context.store::<VersionedKeyValueStore<K, V>>(&self.0)?))
    }
}

impl<K: Data, V: Data> Lookup<K, V> for StoreKey<VersionedKeyValueStore<K, V>> {
    fn get_all(
        &self,
        keys: &[&K],
        stores: &mut Stores<'_>,
    ) -> Result<Vec<Found<V>>, ProcessorError> {
        self.get_all_as_of(keys, &vec![Timestamp::MAX; keys.len()], stores)
    }

    fn get_all_as_of(
        &self,
        keys: &[&K],
        times: &[Timestamp],
        stores: &mut Stores<'_>,
    ) -> Result<Vec<Found<V>>, ProcessorError> {
        let store = stores.get(*self);
        let found = |(key, time): (&&K, &Timestamp)| match store.find_as_of(key, *time) {
            Ok(found) => Ok(Ok(found.map(ValueAndTimestamp::from))),
            Err(StoreError::State(failed)) => Err(failed.into()),
            Err(refused) => Ok(Err(refused)),
        };
        keys.iter().zip(times).map(found).collect()
    }
}

/// A table that is a window store.
pub(crate) struct StoredWindows(pub(crate) Arc<str>);

impl<K: Data, V: Data> View<Windowed<K>, V> for StoredWindows {
    fn stores(&self) -> Vec<Arc<str>> {
        vec![Arc::clone(&self.0)]
    }

    fn open(
        &self,
        seen: Seen,
        context: &mut InitContext<'_>,
    ) -> Result<Box<dyn Lookup<Windowed<K>, V>>, ProcessorError> {
        let look_up = WindowBytes::<V>::look_up_old_values;
        Ok(Box::new(OpenStore::<WindowStore<K, V>>::open(&self.0, seen, context, look_up)?))
    }
}

impl<K: Data, V: Data> Lookup<Windowed<K>, V> for OpenStore<WindowStore<K, V>> {
    fn get_all(
        &self,
        keys: &[&Windowed<K>],
        stores: &mut Stores<'_>,
    ) -> Result<Vec<Found<V>>, ProcessorError> {
        let store = stores.get(self.store);
        // Looking a window up that is not there makes none.
        let start_of = |key: &&Windowed<K>| {
            Some(key.window.start).filter(|start| store.by_bytes().has(*start))
        };
        let starts: Vec<Option<Timestamp>> = keys.iter().map(start_of).collect();
        let start_of = |row: usize| starts.get(row).copied().flatten();
        let slots = store.locate(keys.iter().map(|key| &key.key), start_of)?;
        let found = |(row, slot): (usize, Option<WindowSlot>)| match (slot, self.seen) {
            (Some(slot), Seen::Newest) => Ok(store.get_at(slot)),
            (Some(slot), Seen::Forwarded) => Ok(store.by_bytes().flushed(slot)),
            (None, _) => store.refusal(row).map_or(Ok(None), Err),
        };
        Ok(slots.into_iter().enumerate().map(found).collect())
    }
}

/// A table that is a session store.
pub(crate) struct StoredSessions(pub(crate) Arc<str>);

impl<K: Data, V: Data> View<Windowed<K>, V> for StoredSessions {
    fn stores(&self) -> Vec<Arc<str>> {
        vec![Arc::clone(&self.0)]
    }

    fn open(
        &self,
        seen: Seen,
        context: &mut InitContext<'_>,
    ) -> Result<Box<dyn Lookup<Windowed<K>, V>>, ProcessorError> {
        let look_up = SessionBytes::<V>::look_up_old_values;
        Ok(Box::new(OpenStore::<SessionStore<K, V>>::open(&self.0, seen, context, look_up)?))
    }
}

impl<K: Data, V: Data> Lookup<Windowed<K>, V> for OpenStore<SessionStore<K, V>> {
    fn get_all(
        &self,
        keys: &[&Windowed<K>],
        stores: &mut Stores<'_>,
    ) -> Result<Vec<Found<V>>, ProcessorError> {
        let store = stores.get(self.store);
        let found = |Windowed { key, window }: &&Windowed<K>| {
            let found = match self.seen {
                Seen::Newest => store.fetch_session(key, window.start, window.end),
                Seen::Forwarded => store.fetch_flushed(key, *window),
            };
            match found {
                Err(StoreError::State(failed)) => Err(failed.into()),
                found => Ok(found),
            }
        };
        keys.iter().map(found).collect()
    }
}

/// A view whose rows are mapped or filtered out when they are read.
pub(crate) struct Mapped<K, V, F> {
    pub(crate) above: Arc<dyn View<K, V>>,
    pub(crate) map: Arc<F>,
}

impl<K, V, V2, F> View<K, V2> for Mapped<K, V, F>
where
    K: Data,
    V: Data,
    V2: Data,
    F: Fn(&K, V) -> Option<V2> + Send + Sync + 'static,
{
    fn stores(&self) -> Vec<Arc<str>> {
        self.above.stores()
    }

    fn is_versioned(&self) -> bool {
        self.above.is_versioned()
    }

    fn open(
        &self,
        seen: Seen,
        context: &mut InitContext<'_>,
    ) -> Result<Box<dyn Lookup<K, V2>>, ProcessorError> {
        let above = self.above.open(seen, context)?;
        Ok(Box::new(MappedLookup { above, map: Arc::clone(&self.map) }))
    }
}

struct MappedLookup<K, V, F> {
    above: Box<dyn Lookup<K, V>>,
    map: Arc<F>,
}

impl<K, V, V2, F> Lookup<K, V2> for MappedLookup<K, V, F>
where
    K: Data,
    V: Data,
    V2: Data,
    F: Fn(&K, V) -> Option<V2> + Send + Sync,
{
    fn get_all(
        &self,
        keys: &[&K],
        stores: &mut Stores<'_>,
    ) -> Result<Vec<Found<V2>>, ProcessorError> {
        let above = self.above.get_all(keys, stores)?;
        Ok(self.mapped(keys, above))
    }

    fn get_all_as_of(
        &self,
        keys: &[&K],
        times: &[Timestamp],
        stores: &mut Stores<'_>,
    ) -> Result<Vec<Found<V2>>, ProcessorError> {
        let above = self.above.get_all_as_of(keys, times, stores)?;
        Ok(self.mapped(keys, above))
    }
}

impl<K, V, V2, F> MappedLookup<K, V, F>
where
    F: Fn(&K, V) -> Option<V2>,
{
    fn mapped(&self, keys: &[&K], above: Vec<Found<V>>) -> Vec<Found<V2>> {
        let map = |(key, found): (&&K, Found<V>)| {
            found.map(|row| mapped_row(row, |value| (self.map)(key, value)))
        };
        keys.iter().zip(above).map(map).collect()
    }
}

/// A table that is made of the rows that two others have under each key.
pub(crate) struct Joined<K, L, R, F> {
    pub(crate) left: Arc<dyn View<K, L>>,
    pub(crate) right: Arc<dyn View<K, R>>,
    pub(crate) join: Arc<F>,
}

impl<K, L, R, V, F> View<K, V> for Joined<K, L, R, F>
where
    K: Data,
    L: Data,
    R: Data,
    V: Data,
    F: Fn(Option<L>, Option<R>) -> Option<V> + Send + Sync + 'static,
{
    fn stores(&self) -> Vec<Arc<str>> {
        [self.left.stores(), self.right.stores()].concat()
    }

    fn open(
        &self,
        seen: Seen,
        context: &mut InitContext<'_>,
    ) -> Result<Box<dyn Lookup<K, V>>, ProcessorError> {
        let (left, right) = (self.left.open(seen, context)?, self.right.open(seen, context)?);
        Ok(Box::new(JoinedLookup { left, right, join: Arc::clone(&self.join) }))
    }
}

struct JoinedLookup<K, L, R, F> {
    left: Box<dyn Lookup<K, L>>,
    right: Box<dyn Lookup<K, R>>,
    join: Arc<F>,
}

impl<K, L, R, V, F> Lookup<K, V> for JoinedLookup<K, L, R, F>
where
    K: Data,
    L: Data,
    R: Data,
    V: Data,
    F: Fn(Option<L>, Option<R>) -> Option<V> + Send + Sync,
{
    fn get_all(
        &self,
        keys: &[&K],
        stores: &mut Stores<'_>,
    ) -> Result<Vec<Found<V>>, ProcessorError> {
        let lefts = self.left.get_all(keys, stores)?;
        let rights = self.right.get_all(keys, stores)?;
        let join = |(left, right): (Found<L>, Found<R>)| Ok(joined_row(left?, right?, &*self.join));
        Ok(lefts.into_iter().zip(rights).map(join).collect())
    }
}

//! How an operator looks a row of a table up: in the store behind it, through what maps and filters it.

use headwater_core::serde::Data;
use headwater_engine::{
    processor::{InitContext, ProcessorError, Stores},
    store::{KeyValueStore, StoreKey, WindowStore, Windowed},
};
use std::sync::Arc;

/// Something with rows under keys, kept in one store.
pub(crate) trait View<K, V>: Send + Sync {
    /// The store that the reader needs to be connected to.
    fn store(&self) -> &Arc<str>;

    /// The means to read it within one task.
    fn open(&self, context: &InitContext<'_>) -> Result<Box<dyn Lookup<K, V>>, ProcessorError>;
}

/// A view within a task.
pub(crate) trait Lookup<K, V>: Send {
    /// The row under `key`.
    fn get(&self, key: &K, stores: &mut Stores<'_>) -> Result<Option<V>, ProcessorError>;

    /// Prepares as many calls of [`get`](Self::get).
    fn prefetch(
        &self,
        keys: &mut dyn Iterator<Item = &K>,
        stores: &mut Stores<'_>,
    ) -> Result<(), ProcessorError>;
}

/// A table that is a key-value store.
pub(crate) struct Stored(pub(crate) Arc<str>);

impl<K: Data, V: Data> View<K, V> for Stored {
    fn store(&self) -> &Arc<str> {
        &self.0
    }

    fn open(&self, context: &InitContext<'_>) -> Result<Box<dyn Lookup<K, V>>, ProcessorError> {
        Ok(Box::new(context.store::<KeyValueStore<K, V>>(&self.0)?))
    }
}

impl<K: Data, V: Data> Lookup<K, V> for StoreKey<KeyValueStore<K, V>> {
    fn get(&self, key: &K, stores: &mut Stores<'_>) -> Result<Option<V>, ProcessorError> {
        Ok(stores.get(*self).get(key)?.map(|stored| stored.value))
    }

    fn prefetch(
        &self,
        keys: &mut dyn Iterator<Item = &K>,
        stores: &mut Stores<'_>,
    ) -> Result<(), ProcessorError> {
        Ok(stores.get(*self).prefetch(keys)?)
    }
}

/// A table that is a window store.
pub(crate) struct StoredWindows(pub(crate) Arc<str>);

impl<K: Data, V: Data> View<Windowed<K>, V> for StoredWindows {
    fn store(&self) -> &Arc<str> {
        &self.0
    }

    fn open(
        &self,
        context: &InitContext<'_>,
    ) -> Result<Box<dyn Lookup<Windowed<K>, V>>, ProcessorError> {
        Ok(Box::new(context.store::<WindowStore<K, V>>(&self.0)?))
    }
}

impl<K: Data, V: Data> Lookup<Windowed<K>, V> for StoreKey<WindowStore<K, V>> {
    fn get(&self, key: &Windowed<K>, stores: &mut Stores<'_>) -> Result<Option<V>, ProcessorError> {
        Ok(stores.get(*self).fetch(&key.key, key.window.start)?.map(|stored| stored.value))
    }

    fn prefetch(
        &self,
        _: &mut dyn Iterator<Item = &Windowed<K>>,
        _: &mut Stores<'_>,
    ) -> Result<(), ProcessorError> {
        // A window's rows are in memory until they are written out, which is seldom before it closes.
        Ok(())
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
    fn store(&self) -> &Arc<str> {
        self.above.store()
    }

    fn open(&self, context: &InitContext<'_>) -> Result<Box<dyn Lookup<K, V2>>, ProcessorError> {
        Ok(Box::new(MappedLookup { above: self.above.open(context)?, map: Arc::clone(&self.map) }))
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
    fn get(&self, key: &K, stores: &mut Stores<'_>) -> Result<Option<V2>, ProcessorError> {
        Ok(self.above.get(key, stores)?.and_then(|value| (self.map)(key, value)))
    }

    fn prefetch(
        &self,
        keys: &mut dyn Iterator<Item = &K>,
        stores: &mut Stores<'_>,
    ) -> Result<(), ProcessorError> {
        self.above.prefetch(keys, stores)
    }
}

//! Stores declared as Kafka Streams declares them: a supplier that knows the kind, and a builder that adds the serdes.

use super::{
    Duplicates, KeyValueStore, LruMap, SessionStore, StoreBuilder, VersionedKeyValueStore,
    WindowStore,
};
use headwater_core::serde::{Data, SharedSerde};
use std::time::Duration;

/// Declares stores, under the names of Kafka Streams.
///
/// Where a store lies is a matter of the state that the application is started with, RocksDB or memory: what is called
/// persistent here and what is called in memory is the same store.
///
/// ```
/// use headwater_core::serde::for_type;
/// use headwater_engine::store::{Duplicates, Stores};
/// use std::time::Duration;
///
/// let totals = Stores::key_value_store_builder(
///     Stores::persistent_key_value_store("totals"),
///     for_type::<String>(),
///     for_type::<i64>(),
/// );
/// assert_eq!(totals.spec().schema, "utf8 -> i64");
///
/// let hour = Duration::from_secs(3_600);
/// let size = Duration::from_secs(60);
/// let seen = Stores::window_store_builder(
///     Stores::persistent_window_store("seen", hour, size, Duplicates::Replaced),
///     for_type::<String>(),
///     for_type::<i64>(),
/// );
/// assert_eq!(&*seen.spec().name, "seen");
/// ```
#[derive(Debug)]
pub enum Stores {}

/// A key-value store that has no types yet.
///
/// Example: [`Stores`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValueStoreSupplier {
    name: String,
}

/// A store of versions that has no types yet.
///
/// Example: [`Stores`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedStoreSupplier {
    name: String,
    history: Duration,
}

/// A window store that has no types yet.
///
/// Example: [`Stores`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowStoreSupplier {
    name: String,
    retention: Duration,
    duplicates: Duplicates,
}

/// A session store that has no types yet.
///
/// Example: [`Stores`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStoreSupplier {
    name: String,
    retention: Duration,
}

impl Stores {
    /// A [`KeyValueStore`].
    #[must_use]
    pub fn persistent_key_value_store(name: &str) -> KeyValueStoreSupplier {
        KeyValueStoreSupplier { name: name.to_owned() }
    }

    /// A [`KeyValueStore`].
    #[must_use]
    pub fn in_memory_key_value_store(name: &str) -> KeyValueStoreSupplier {
        Self::persistent_key_value_store(name)
    }

    /// An [`LruMap`] of at most `entries_max` entries.
    #[must_use]
    pub fn lru_map<K: Data, V: Data>(
        name: &str,
        entries_max: usize,
        keys: SharedSerde<K>,
        values: SharedSerde<V>,
    ) -> StoreBuilder {
        LruMap::builder(name, entries_max, keys, values)
    }

    /// A [`VersionedKeyValueStore`] that can be asked as far back as `history`.
    #[must_use]
    pub fn persistent_versioned_key_value_store(
        name: &str,
        history: Duration,
    ) -> VersionedStoreSupplier {
        VersionedStoreSupplier { name: name.to_owned(), history }
    }

    /// A [`WindowStore`] that keeps windows for `retention`, or for their size if that is longer.
    #[must_use]
    pub fn persistent_window_store(
        name: &str,
        retention: Duration,
        window_size: Duration,
        duplicates: Duplicates,
    ) -> WindowStoreSupplier {
        let retention = retention.max(window_size);
        WindowStoreSupplier { name: name.to_owned(), retention, duplicates }
    }

    /// A [`WindowStore`] that keeps windows for `retention`, or for their size if that is longer.
    #[must_use]
    pub fn in_memory_window_store(
        name: &str,
        retention: Duration,
        window_size: Duration,
        duplicates: Duplicates,
    ) -> WindowStoreSupplier {
        Self::persistent_window_store(name, retention, window_size, duplicates)
    }

    /// A [`SessionStore`] that keeps sessions for `retention`.
    #[must_use]
    pub fn persistent_session_store(name: &str, retention: Duration) -> SessionStoreSupplier {
        SessionStoreSupplier { name: name.to_owned(), retention }
    }

    /// A [`SessionStore`] that keeps sessions for `retention`.
    #[must_use]
    pub fn in_memory_session_store(name: &str, retention: Duration) -> SessionStoreSupplier {
        Self::persistent_session_store(name, retention)
    }

    /// Gives a key-value store its types.
    #[must_use]
    pub fn key_value_store_builder<K: Data, V: Data>(
        supplier: KeyValueStoreSupplier,
        keys: SharedSerde<K>,
        values: SharedSerde<V>,
    ) -> StoreBuilder {
        let KeyValueStoreSupplier { name } = supplier;
        KeyValueStore::builder(&name, keys, values)
    }

    /// Gives a store of versions its types.
    #[must_use]
    pub fn versioned_key_value_store_builder<K: Data, V: Data>(
        supplier: VersionedStoreSupplier,
        keys: SharedSerde<K>,
        values: SharedSerde<V>,
    ) -> StoreBuilder {
        let VersionedStoreSupplier { name, history } = supplier;
        VersionedKeyValueStore::builder(&name, keys, values, history)
    }

    /// Gives a window store its types.
    #[must_use]
    pub fn window_store_builder<K: Data, V: Data>(
        supplier: WindowStoreSupplier,
        keys: SharedSerde<K>,
        values: SharedSerde<V>,
    ) -> StoreBuilder {
        let WindowStoreSupplier { name, retention, duplicates } = supplier;
        WindowStore::with_retention(&name, keys, values, retention, duplicates)
    }

    /// Gives a session store its types.
    #[must_use]
    pub fn session_store_builder<K: Data, V: Data>(
        supplier: SessionStoreSupplier,
        keys: SharedSerde<K>,
        values: SharedSerde<V>,
    ) -> StoreBuilder {
        let SessionStoreSupplier { name, retention } = supplier;
        SessionStore::with_retention(&name, keys, values, retention)
    }
}

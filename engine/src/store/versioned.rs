//! Versioned stores: what was valid of each key when.

use super::{
    Serdes, StateStore, StoreBuilder, StoreChanges, StoreCounts, StoreError, StoreKind,
    StoreOperation,
    form::{KeyCheck, Keys, StoreId},
    versioned_bytes::{PutOutcome, VersionSerde, VersionedBytes, VersionedRecord},
};
use headwater_core::{
    ports::state::StateError,
    record::Timestamp,
    serde::{Data, Serde, SharedSerde},
    time::Clock,
};
use std::{any::Any, sync::Arc, time::Duration};

/// Versions by key: a shell of the key's type around [`VersionedBytes`].
///
/// The latest version of a key is kept until it is deleted; what was valid before can be asked for as far back as the history goes,
/// counted from the largest time of any key.
///
/// ```
/// use headwater_core::serde::for_type;
/// use headwater_engine::{
///     processor::{Context, Processor, ProcessorError, Record},
///     store::{PutOutcome, StoreKey, VersionedKeyValueStore},
/// };
/// use std::time::Duration;
///
/// /// Keeps each car's owners, and forwards who it was an hour before.
/// struct Owners(StoreKey<VersionedKeyValueStore<String, String>>);
///
/// impl Processor<String, String> for Owners {
///     type KOut = String;
///     type VOut = String;
///
///     fn process(
///         &mut self,
///         record: Record<String, String>,
///         context: &mut Context<'_, String, String>,
///     ) -> Result<(), ProcessorError> {
///         let (owners, car, at) = (context.store(self.0), record.key.clone(), record.timestamp);
///         if owners.put(&car, Some(record.value.clone()), at)? == PutOutcome::Latest
///             && let Some(before) = owners.get_as_of(&car, at - 3_600_000)?
///         {
///             context.forward(record.with_value(before.value));
///         }
///         Ok(())
///     }
/// }
///
/// let day = Duration::from_secs(86_400);
/// let declared =
///     VersionedKeyValueStore::<String, String>::builder("owners", for_type(), for_type(), day);
/// assert_eq!(declared.spec().schema, "history of 86400000 ms, utf8, time -> version of utf8");
/// ```
pub struct VersionedKeyValueStore<K, V> {
    keys: Keys<K>,
    key_check: Option<KeyCheck>,
    values: VersionedBytes<V>,
    id: StoreId,
    scratch: Vec<u8>,
}

opaque_debug!(VersionedKeyValueStore<K, V>);

impl<K: Data, V: Data> VersionedKeyValueStore<K, V> {
    /// Declares such a store, with a history of so long, cut to whole ms.
    #[must_use]
    pub fn builder(
        name: &str,
        keys: SharedSerde<K>,
        values: SharedSerde<V>,
        history: Duration,
    ) -> StoreBuilder {
        let history_ms = i64::try_from(history.as_millis()).unwrap_or(i64::MAX);
        let version = VersionSerde(SharedSerde::clone(&values)).schema();
        let schema = format!("history of {history_ms} ms, {}, time -> {version}", keys.schema());
        let named: Arc<str> = name.into();
        let serdes = Serdes {
            kind: StoreKind::Versioned,
            keys: SharedSerde::clone(&keys),
            values: SharedSerde::clone(&values),
            history_ms,
        };
        let builder = StoreBuilder::new(name, schema, move |shard, partition| {
            let id = StoreId { name: Arc::clone(&named), partition };
            let keys = Keys::new(&keys, &id);
            Box::new(Self {
                key_check: keys.check(),
                values: VersionedBytes::new(&values, &id, shard, history_ms),
                keys,
                id,
                scratch: Vec::new(),
            })
        });
        builder.readable(serdes)
    }

    /// As [`VersionedBytes::put`].
    ///
    /// # Errors
    ///
    /// [`StoreError::NullKey`] and [`StoreError::Key`] if there is no place for the key, [`StoreError::Value`] if the value cannot be
    /// kept, [`StoreError::State`] if the state cannot be read.
    pub fn put(
        &mut self,
        key: &K,
        value: Option<V>,
        time: Timestamp,
    ) -> Result<PutOutcome, StoreError> {
        self.keys.write(key, &mut self.scratch)?;
        let checked = self.key_check.as_ref().map_or(Ok(()), |check| check(&self.scratch));
        checked.map_err(|e| self.keys.refused(e))?;
        self.values.put(&self.scratch, value, time)
    }

    /// Deletes `key` from `time` on, and gives what was valid then.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub fn delete(
        &mut self,
        key: &K,
        time: Timestamp,
    ) -> Result<Option<VersionedRecord<V>>, StoreError> {
        let valid = self.get_as_of(key, time)?;
        self.put(key, None, time)?;
        Ok(valid)
    }

    /// The latest version of `key`, if that is no deletion; none of a key that is null.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] if no key can be so, [`StoreError::State`] if the state cannot be read or holds something else.
    pub fn get(&mut self, key: &K) -> Result<Option<VersionedRecord<V>>, StoreError> {
        match self.keys.write(key, &mut self.scratch) {
            Err(StoreError::NullKey) => return Ok(None),
            written => written?,
        }
        Ok(self.values.get(&self.scratch)?)
    }

    /// The version of `key` that was valid at `time`, if there was one; before the history, only a latest version is found.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_as_of(
        &mut self,
        key: &K,
        time: Timestamp,
    ) -> Result<Option<VersionedRecord<V>>, StoreError> {
        match self.find_as_of(key, time) {
            Err(StoreError::NullKey) => Ok(None),
            found => found,
        }
    }

    /// The same, but that a null key is an error.
    #[doc(hidden)]
    pub fn find_as_of(
        &mut self,
        key: &K,
        time: Timestamp,
    ) -> Result<Option<VersionedRecord<V>>, StoreError> {
        self.keys.write(key, &mut self.scratch)?;
        Ok(self.values.get_as_of(&self.scratch, time)?)
    }

    /// The store without the type of its keys.
    pub fn by_bytes(&mut self) -> &mut VersionedBytes<V> {
        &mut self.values
    }
}

impl<K: Data, V: Data> StateStore for VersionedKeyValueStore<K, V> {
    fn keep_within(&mut self, record_bytes_max: usize) {
        self.values.versions.segments.keep_within(record_bytes_max, record_bytes_max);
    }

    fn commit(&mut self, epoch: u64) -> Result<StoreChanges, StateError> {
        self.values.save_time().map_err(|e| self.id.unwritable(&e))?;
        let began = self.values.meter.begin(StoreOperation::Flush, 1);
        let changes = self.values.versions.segments.commit(epoch);
        self.values.meter.end(StoreOperation::Flush, 1, began);
        changes
    }

    fn published(&mut self, epoch: u64, bytes_max: usize) {
        self.values.versions.segments.published(epoch, bytes_max);
    }

    fn size_bytes(&self) -> usize {
        self.values.versions.segments.size_bytes()
    }

    fn time_by(&mut self, clock: &Arc<dyn Clock>) {
        self.values.meter.time_by(clock);
    }

    fn take_counts(&mut self) -> StoreCounts {
        self.values.meter.take()
    }

    fn dirty_bytes(&self) -> usize {
        self.values.versions.segments.dirty_bytes()
    }

    fn by_bytes(&mut self) -> &mut dyn Any {
        &mut self.values
    }
}

//! Global stores: the newest value of each key of a topic, whole on every instance and read by all tasks.
//!
//! Each partition of the topic has a shard of its own, which the runtime keeps at the topic's end. Tasks only read.

use super::{
    Serdes, StoreError, ValueAndTimestamp,
    form::{Form, Keys, StoreId},
};
use headwater_core::{
    ports::state::{Shard, StateError, Stored},
    record::murmur2_partition,
    serde::Data,
};
use std::{any::Any, sync::Arc};

/// A global store as the runtime has opened it.
#[derive(Clone)]
pub(crate) struct OpenGlobal {
    pub(crate) name: Arc<str>,
    /// [`Serdes`] of its keys and values.
    pub(crate) serdes: Arc<dyn Any + Send + Sync>,
    /// By partition of the topic.
    pub(crate) shards: Vec<Arc<dyn Shard>>,
}

impl std::fmt::Debug for OpenGlobal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenGlobal({}, {} shards)", self.name, self.shards.len())
    }
}

impl OpenGlobal {
    /// The store, if it has keys and values of these types.
    pub(crate) fn read<K: Data, V: Data>(&self) -> Option<GlobalStore<K, V>> {
        let serdes = self.serdes.downcast_ref::<Serdes<K, V>>()?;
        let id = StoreId { name: Arc::clone(&self.name), partition: 0 };
        Some(GlobalStore {
            keys: Keys::new(&serdes.keys, &id),
            form: Form::new(None, &serdes.values, &id),
            shards: self.shards.clone(),
        })
    }
}

/// What there is under a key, or why there can be nothing.
///
/// Example: [`GlobalStore`].
pub type GlobalRow<V> = Result<Option<ValueAndTimestamp<V>>, StoreError>;

/// A global store, to be read: the newest value of each key of its topic, whatever the key's partition.
///
/// Of a key that lies in several partitions, which have no order among them, the one counts where Kafka's partitioner puts it.
///
/// ```
/// use headwater_core::serde::for_type;
/// use headwater_engine::{
///     processor::{Context, InitContext, Processor, ProcessorError, Record},
///     store::GlobalStore,
///     topology::{Consumed, GlobalSerdes, Topology},
/// };
///
/// /// Forwards speeds above the limit of their road.
/// struct TooFast(GlobalStore<String, i64>);
///
/// impl Processor<String, i64> for TooFast {
///     type KOut = String;
///     type VOut = i64;
///
///     fn process(
///         &mut self,
///         record: Record<String, i64>,
///         context: &mut Context<'_, String, i64>,
///     ) -> Result<(), ProcessorError> {
///         let limit = self.0.get(&record.key)?;
///         if limit.is_some_and(|limit| record.value > limit.value) {
///             context.forward(record);
///         }
///         Ok(())
///     }
/// }
///
/// let mut topology = Topology::new();
/// let serdes = GlobalSerdes { key: for_type::<String>(), value: for_type::<i64>() };
/// let limits = Consumed::<String, i64>::default();
/// topology.add_global_store("limits", "limits", limits, serdes, |road, limit| {
///     Some((road, Some(limit)))
/// })?;
/// topology.add_source("in", "speeds", Consumed::<String, i64>::default())?;
/// let make = |context: &mut InitContext<'_>| Ok(TooFast(context.global_store("limits")?));
/// topology.add_processor("too-fast", make, &["in"])?;
/// assert!(topology.describe().contains("Processor: too-fast"));
/// # Ok::<(), headwater_engine::topology::TopologyError>(())
/// ```
pub struct GlobalStore<K, V> {
    keys: Keys<K>,
    form: Form<V>,
    shards: Vec<Arc<dyn Shard>>,
}

opaque_debug!(GlobalStore<K, V>);

impl<K: Data, V: Data> GlobalStore<K, V> {
    /// The value of `key`; a null key has none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] if no key can be so, [`StoreError::State`] if the state cannot be read.
    pub fn get(&self, key: &K) -> Result<Option<ValueAndTimestamp<V>>, StoreError> {
        match self.get_all(&[key])?.pop() {
            None | Some(Err(StoreError::NullKey)) => Ok(None),
            Some(found) => found,
        }
    }

    /// What there is under each of `keys`, or why there can be nothing.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read.
    pub fn get_all(&self, keys: &[&K]) -> Result<Vec<GlobalRow<V>>, StateError> {
        let written = keys.iter().map(|key| {
            let mut bytes = Vec::new();
            self.keys.write(key, &mut bytes).map(|()| bytes)
        });
        let written: Vec<Result<Vec<u8>, StoreError>> = written.collect();
        let mut stored: Vec<Option<Stored>> = written.iter().map(|_| None).collect();
        // Most topics have a key where Kafka's partitioner puts it; in others it may be anywhere.
        for hop in 0..self.shards.len() {
            self.look(hop, &written, &mut stored)?;
        }
        let found = written.into_iter().zip(stored).map(|(key, stored)| {
            let read = |stored: Stored| {
                let value = self.form.read(&stored.value)?;
                Ok(ValueAndTimestamp { value, timestamp: stored.timestamp })
            };
            key.and_then(|_| stored.map(read).transpose().map_err(StoreError::State))
        });
        Ok(found.collect())
    }

    /// Looks for what was not found yet, `hop` shards after the one that the default partitioner names.
    fn look(
        &self,
        hop: usize,
        keys: &[Result<Vec<u8>, StoreError>],
        found: &mut [Option<Stored>],
    ) -> Result<(), StateError> {
        let count = u32::try_from(self.shards.len()).unwrap_or(u32::MAX);
        for (number, shard) in self.shards.iter().enumerate() {
            let here = |key: &[u8]| {
                let first = murmur2_partition(self.keys.placed_by(key), count) as usize;
                (first + hop) % self.shards.len() == number
            };
            let wanted = keys.iter().zip(found.iter_mut()).filter_map(|(key, found)| {
                let key = key.as_ref().ok()?;
                (found.is_none() && here(key)).then_some((key.as_slice(), found))
            });
            let (keys, places): (Vec<&[u8]>, Vec<&mut Option<Stored>>) = wanted.unzip();
            if !keys.is_empty() {
                let stored = shard.multi_get(&keys)?;
                places.into_iter().zip(stored).for_each(|(place, stored)| *place = stored);
            }
        }
        Ok(())
    }
}

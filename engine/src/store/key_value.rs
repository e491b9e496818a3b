//! Key-value stores: the newest value of each key, with its timestamp.

use super::{
    CacheReads, KeyBatch, KeyValueBytes, PartIterators, Scanned, Serdes, Slot, StateStore,
    StoreBuilder, StoreChanges, StoreCounts, StoreError, StoreIterator, StoreKind, StoreOperation,
    ValueAndTimestamp,
    across::as_range,
    form::{Form, Keys, StoreId},
    iterators::counted,
};
use headwater_core::{
    ports::state::{Order, StateError},
    record::Timestamp,
    serde::{Data, SharedSerde},
    time::Clock,
};
use std::{
    any::Any,
    ops::{Bound, RangeBounds},
    sync::Arc,
};

/// A key and its value.
type Entry<K, V> = (K, ValueAndTimestamp<V>);

/// The newest value of each key: a shell of the key's type around [`KeyValueBytes`].
///
/// Scans go over what is committed and what is not yet, in the order of the keys as their serde writes them, and read what is not
/// cached as they come to it.
///
/// ```
/// use headwater_engine::{
///     processor::{Context, Processor, ProcessorError, Record},
///     store::{KeyValueStore, StoreKey},
/// };
///
/// /// Forwards how many cars of a road are known, for each car that is new.
/// struct Cars(StoreKey<KeyValueStore<String, i64>>);
///
/// impl Processor<String, i64> for Cars {
///     type KOut = String;
///     type VOut = i64;
///
///     fn process(
///         &mut self,
///         record: Record<String, i64>,
///         context: &mut Context<'_, String, i64>,
///     ) -> Result<(), ProcessorError> {
///         let cars = context.store(self.0);
///         if cars.put_if_absent(&record.key, record.value, record.timestamp)?.is_none() {
///             // Keys such as `A7/car-1`.
///             let road = record.key.split('/').next().unwrap_or_default().to_owned();
///             let mut count = 0;
///             for entry in cars.prefix_scan(format!("{road}/"))? {
///                 let (_car, _first) = entry?;
///                 count += 1;
///             }
///             context.forward(record.with_key(road).with_value(count));
///         }
///         Ok(())
///     }
/// }
/// ```
pub struct KeyValueStore<K, V> {
    keys: Keys<K>,
    entries: KeyValueBytes<V>,
    scratch: Vec<u8>,
    batch: KeyBatch,
}

opaque_debug!(KeyValueStore<K, V>);

impl<K: Data, V: Data> KeyValueStore<K, V> {
    /// Declares such a store.
    ///
    /// ```
    /// use headwater_core::serde::for_type;
    /// use headwater_engine::store::KeyValueStore;
    ///
    /// let totals = KeyValueStore::<String, i64>::builder("totals", for_type(), for_type());
    /// assert_eq!(totals.spec().schema, "utf8 -> i64");
    /// ```
    #[must_use]
    pub fn builder(name: &str, keys: SharedSerde<K>, values: SharedSerde<V>) -> StoreBuilder {
        let schema = format!("{} -> {}", keys.schema(), values.schema());
        let named: Arc<str> = name.into();
        let serdes = Serdes {
            kind: StoreKind::KeyValue,
            keys: SharedSerde::clone(&keys),
            values: SharedSerde::clone(&values),
            history_ms: 0,
        };
        let builder = StoreBuilder::new(name, schema, move |shard, partition| {
            let id = StoreId { name: Arc::clone(&named), partition };
            let keys = Keys::new(&keys, &id);
            Box::new(Self {
                entries: KeyValueBytes::new(Form::new(keys.check(), &values, &id), shard),
                keys,
                scratch: Vec::new(),
                batch: KeyBatch::default(),
            })
        });
        builder.readable(serdes)
    }

    /// The value of `key`; a null key has none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] if the key has no form in bytes, [`StoreError::State`] if the state cannot be read or holds
    /// something else.
    pub fn get(&mut self, key: &K) -> Result<Option<ValueAndTimestamp<V>>, StoreError> {
        match self.keys.write(key, &mut self.scratch) {
            Err(StoreError::NullKey) => return Ok(None),
            written => written?,
        }
        let slot = self.entries.locate_one(&self.scratch)?;
        Ok(self.get_at(slot))
    }

    /// Sets or, with `None`, deletes the value of `key`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NullKey`] and [`StoreError::Key`] if there is no place for the key, [`StoreError::Value`] if the
    /// value cannot be kept; the old one then still is.
    pub fn put(
        &mut self,
        key: &K,
        value: Option<V>,
        timestamp: Timestamp,
    ) -> Result<(), StoreError> {
        self.keys.write(key, &mut self.scratch)?;
        self.entries.put(&self.scratch, value, timestamp)
    }

    /// Sets the value of `key` if it has none, and gives the one that it had: then nothing has changed.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put), and [`StoreError::State`].
    pub fn put_if_absent(
        &mut self,
        key: &K,
        value: V,
        timestamp: Timestamp,
    ) -> Result<Option<ValueAndTimestamp<V>>, StoreError> {
        self.keys.write(key, &mut self.scratch)?;
        let began = self.entries.meter.begin(StoreOperation::PutIfAbsent, 1);
        let slot = self.entries.place(&self.scratch)?;
        let there = self.get_at(slot);
        if there.is_none() {
            self.entries.change(slot, |entry, at| (*entry, *at) = (Some(value), timestamp))?;
        }
        self.entries.meter.end(StoreOperation::PutIfAbsent, 1, began);
        Ok(there)
    }

    /// Sets or deletes the values of several keys, each with its timestamp, one after the other.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put), of the first that fails: those before it were put, those after it were not.
    pub fn put_all(
        &mut self,
        entries: impl IntoIterator<Item = (K, Option<V>, Timestamp)>,
    ) -> Result<(), StoreError> {
        let mut entries = entries.into_iter();
        entries.try_for_each(|(key, value, timestamp)| self.put(&key, value, timestamp))
    }

    /// Deletes the value of `key`, and gives it.
    ///
    /// # Errors
    ///
    /// [`StoreError::NullKey`], [`StoreError::Key`] and [`StoreError::State`], as [`update`](Self::update).
    pub fn delete(&mut self, key: &K) -> Result<Option<ValueAndTimestamp<V>>, StoreError> {
        self.keys.write(key, &mut self.scratch)?;
        let began = self.entries.meter.begin(StoreOperation::Delete, 1);
        let slot = self.entries.place(&self.scratch)?;
        let there = self.get_at(slot);
        if there.is_some() {
            self.entries.change(slot, |entry, _| *entry = None)?;
        }
        self.entries.meter.end(StoreOperation::Delete, 1, began);
        Ok(there)
    }

    /// Changes the value of `key` in place: `change` gets the value, if any, with its timestamp, and leaves the new one.
    /// Returns what `change` does.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put), and [`StoreError::State`].
    pub fn update<R>(
        &mut self,
        key: &K,
        change: impl FnOnce(&mut Option<V>, &mut Timestamp) -> R,
    ) -> Result<R, StoreError> {
        self.keys.write(key, &mut self.scratch)?;
        let slot = self.entries.locate_one(&self.scratch)?;
        self.entries.update(slot, change)
    }

    /// Where the store holds each of `keys`, having read what the cache lacked in one go: good for [`get_at`](Self::get_at) until
    /// the call of the processor ends.
    ///
    /// A key that is null, or has no form in bytes that can be read back, is nowhere; [`refusal`](Self::refusal) says which.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read, [`StateError::Unreadable`] if it
    /// holds something else.
    pub fn locate<'k>(
        &mut self,
        keys: impl Iterator<Item = &'k K>,
    ) -> Result<Vec<Option<Slot>>, StateError>
    where
        K: 'k,
    {
        self.keys.write_all(keys, &mut self.batch);
        self.entries.locate(&self.batch)
    }

    /// Why [`locate`](Self::locate) had no place for the key of a row, if it had none.
    #[must_use]
    pub fn refusal(&self, row: usize) -> Option<StoreError> {
        self.entries.refusal(&self.batch, row)
    }

    /// As [`get`](Self::get), for a key that was located in the same call of the processor.
    ///
    /// # Panics
    ///
    /// If it was not.
    pub fn get_at(&mut self, slot: Slot) -> Option<ValueAndTimestamp<V>> {
        let (value, timestamp) = self.entries.get(slot);
        value.map(|value| ValueAndTimestamp::of(value, timestamp))
    }

    /// The entries whose keys lie within `range`, by their keys' bytes; see [`KeyValueBytes::scan`]. A null bound bounds
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] for a bound that no key can have, [`StoreError::State`] if the state cannot be read or holds
    /// something else, here or while the scan goes on.
    pub fn range(
        &mut self,
        range: impl RangeBounds<K>,
    ) -> Result<StoreIterator<'_, Entry<K, V>>, StoreError> {
        self.scan(&range, Order::Ascending)
    }

    /// The same entries from the last to the first.
    ///
    /// # Errors
    ///
    /// As [`range`](Self::range).
    pub fn reverse_range(
        &mut self,
        range: impl RangeBounds<K>,
    ) -> Result<StoreIterator<'_, Entry<K, V>>, StoreError> {
        self.scan(&range, Order::Descending)
    }

    fn scan(
        &mut self,
        range: &impl RangeBounds<K>,
        order: Order,
    ) -> Result<StoreIterator<'_, Entry<K, V>>, StoreError> {
        let Self { keys, entries, .. } = self;
        let open = entries.meter.iterator();
        let found = entries.scan(as_range(&keys.bounds(range)?), order)?;
        let read = |entry: Scanned<V>| Ok((keys.read(&entry.key)?, entry.value));
        Ok(counted(found.map(move |entry| entry.and_then(read)), open))
    }

    /// The entries whose keys' bytes begin with `prefix`, by their keys' bytes.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read, [`StateError::Unreadable`] if it
    /// holds something else, here or while the scan goes on.
    pub fn prefix_scan(
        &mut self,
        prefix: impl AsRef<[u8]>,
    ) -> Result<StoreIterator<'_, Entry<K, V>>, StateError> {
        let Self { keys, entries, .. } = self;
        let open = entries.meter.iterator();
        let found = entries.scan_prefix(prefix.as_ref(), Order::Ascending)?;
        let read = |entry: Scanned<V>| Ok((keys.read(&entry.key)?, entry.value));
        Ok(counted(found.map(move |entry| entry.and_then(read)), open))
    }

    /// All entries, by their keys' bytes.
    ///
    /// # Errors
    ///
    /// As [`prefix_scan`](Self::prefix_scan).
    pub fn all(&mut self) -> Result<StoreIterator<'_, Entry<K, V>>, StoreError> {
        self.range(..)
    }

    /// All entries, from the last to the first.
    ///
    /// # Errors
    ///
    /// As [`prefix_scan`](Self::prefix_scan).
    pub fn reverse_all(&mut self) -> Result<StoreIterator<'_, Entry<K, V>>, StoreError> {
        self.reverse_range(..)
    }

    /// How many entries there are. They are counted: it costs a walk over all of them.
    ///
    /// # Errors
    ///
    /// As [`prefix_scan`](Self::prefix_scan).
    pub fn approximate_num_entries(&mut self) -> Result<u64, StateError> {
        let all = (Bound::Unbounded, Bound::Unbounded);
        self.entries
            .scan(all, Order::Ascending)?
            .try_fold(0, |count, entry| entry.map(|_| count + 1))
    }

    /// The store without the type of its keys.
    pub fn by_bytes(&mut self) -> &mut KeyValueBytes<V> {
        &mut self.entries
    }
}

impl<K: Data, V: Data> StateStore for KeyValueStore<K, V> {
    fn keep_within(&mut self, record_bytes_max: usize) {
        self.entries.keep_within(record_bytes_max);
    }

    fn commit(&mut self, epoch: u64) -> Result<StoreChanges, StateError> {
        self.entries.commit(epoch)
    }

    fn published(&mut self, epoch: u64, bytes_max: usize) {
        self.entries.published(epoch, bytes_max);
    }

    fn size_bytes(&self) -> usize {
        self.entries.size_bytes()
    }

    fn take_was_read(&mut self) -> bool {
        self.entries.take_was_read()
    }

    fn cache_reads(&self) -> CacheReads {
        self.entries.reads
    }

    fn time_by(&mut self, clock: &Arc<dyn Clock>) {
        self.entries.meter.time_by(clock);
    }

    fn count_iterators(&mut self, iterators: &PartIterators) {
        self.entries.meter.count_iterators(iterators);
    }

    fn take_counts(&mut self) -> StoreCounts {
        self.entries.meter.take()
    }

    fn dirty_bytes(&self) -> usize {
        self.entries.dirty_bytes()
    }

    fn by_bytes(&mut self) -> &mut dyn Any {
        &mut self.entries
    }
}

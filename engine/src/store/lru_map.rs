//! Maps of bounded size: the entries that were used last.

use super::{
    CacheReads, KeyValueBytes, StateStore, StoreBuilder, StoreChanges, StoreCounts, StoreError,
    StoreOperation, ValueAndTimestamp,
    form::{Form, Keys, StoreId},
    meter::Meter,
};
use headwater_core::{
    ports::state::{Order, StateError},
    record::Timestamp,
    serde::{Data, Serde, SerdeError, SharedSerde},
    time::Clock,
};
use std::{any::Any, collections::BTreeMap, ops::Bound, sync::Arc};

/// The keys' bytes, by their last uses.
#[derive(Default)]
struct Uses {
    by_number: BTreeMap<u64, Vec<u8>>,
    /// What the keys take.
    key_bytes: usize,
}

impl Uses {
    fn insert(&mut self, number: u64, key: Vec<u8>) {
        self.key_bytes += key.len();
        self.by_number.insert(number, key);
    }

    fn remove(&mut self, number: u64) {
        self.key_bytes -= self.by_number.remove(&number).map_or(0, |key| key.len());
    }

    /// The key that was not used for longest, if there are more than so many.
    fn pop_beyond(&mut self, entries_max: usize) -> Option<Vec<u8>> {
        if self.by_number.len() <= entries_max {
            return None;
        }
        let (_, key) = self.by_number.pop_first()?;
        self.key_bytes -= key.len();
        Some(key)
    }

    fn size_bytes(&self) -> usize {
        self.by_number.len() * size_of::<(u64, Vec<u8>)>() + self.key_bytes
    }
}

/// A value, and which use of the map was its last.
#[derive(Debug, Clone)]
struct Used<V> {
    value: V,
    number: u64,
}

/// Writes the number, 8 bytes, big-endian, a byte that says whether the value is written as null, and the value.
struct UsedSerde<V>(SharedSerde<V>);

impl<V: Send + Sync> Serde<Used<V>> for UsedSerde<V> {
    fn serialize(&self, used: &Used<V>, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        out.extend_from_slice(&used.number.to_be_bytes());
        let at = out.len();
        out.push(0);
        if !self.0.serialize(&used.value, out)? {
            out.truncate(at);
            out.push(1);
        }
        Ok(true)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Used<V>, SerdeError> {
        let parts = bytes.and_then(|bytes| bytes.split_first_chunk());
        let (number, value) = match parts
            .and_then(|(number, rest)| Some((number, rest.split_first()?)))
        {
            Some((number, (0, value))) => (number, Some(value)),
            Some((number, (1, []))) => (number, None),
            _ => {
                let detail = "it has no number, or no value".to_owned();
                return Err(SerdeError::Malformed { expected: "a value that was used", detail });
            }
        };
        Ok(Used { value: self.0.deserialize(value)?, number: u64::from_be_bytes(*number) })
    }

    fn check_type(&self) -> Result<(), SerdeError> {
        self.0.check_type()
    }

    fn schema(&self) -> String {
        format!("last use, {}", self.0.schema())
    }
}

/// Reads the value alone of what [`UsedSerde`] writes, for queries: these use nothing.
struct ShownSerde<V>(SharedSerde<V>);

impl<V: Send + Sync> Serde<V> for ShownSerde<V> {
    fn serialize(&self, value: &V, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        self.0.serialize(value, out)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<V, SerdeError> {
        let used = UsedSerde(SharedSerde::clone(&self.0)).deserialize(bytes)?;
        Ok(used.value)
    }

    fn check_type(&self) -> Result<(), SerdeError> {
        self.0.check_type()
    }

    fn schema(&self) -> String {
        self.0.schema()
    }
}

/// The newest value of each key, of as many keys as were put or asked for last. Which ones those are is committed with them:
/// it is the same after a restart.
///
/// ```
/// use headwater_core::serde::for_type;
/// use headwater_engine::{
///     processor::{Context, Processor, ProcessorError, Record},
///     store::{LruMap, StoreKey, Stores},
/// };
///
/// /// Forwards what has not come before, as far as the map remembers.
/// struct Distinct(StoreKey<LruMap<String, i64>>);
///
/// impl Processor<String, i64> for Distinct {
///     type KOut = String;
///     type VOut = i64;
///
///     fn process(
///         &mut self,
///         record: Record<String, i64>,
///         context: &mut Context<'_, String, i64>,
///     ) -> Result<(), ProcessorError> {
///         let (seen, at) = (context.store(self.0), record.timestamp);
///         if seen.put_if_absent(&record.key, record.value, at)?.is_none() {
///             context.forward(record);
///         }
///         Ok(())
///     }
/// }
///
/// let seen = Stores::lru_map("seen", 1_000, for_type::<String>(), for_type::<i64>());
/// assert_eq!(seen.spec().schema, "1000 last used, utf8 -> last use, i64");
/// ```
pub struct LruMap<K, V> {
    keys: Keys<K>,
    entries: KeyValueBytes<Used<V>>,
    /// None until the state was asked.
    uses: Option<Uses>,
    entries_max: usize,
    scratch: Vec<u8>,
    meter: Meter,
}

opaque_debug!(LruMap<K, V>);

impl<K: Data, V: Data> LruMap<K, V> {
    pub(super) fn builder(
        name: &str,
        entries_max: usize,
        keys: SharedSerde<K>,
        values: SharedSerde<V>,
    ) -> StoreBuilder {
        let serde: SharedSerde<Used<V>> = Arc::new(UsedSerde(SharedSerde::clone(&values)));
        let (key, value) = (keys.schema(), serde.schema());
        let schema = format!("{entries_max} last used, {key} -> {value}");
        let named: Arc<str> = name.into();
        let shown = (SharedSerde::clone(&keys), Arc::new(ShownSerde(SharedSerde::clone(&values))));
        let kept = (SharedSerde::clone(&keys), values);
        let builder = StoreBuilder::new(name, schema, move |shard, partition| {
            let id = StoreId { name: Arc::clone(&named), partition };
            let keys = Keys::new(&keys, &id);
            let entries = KeyValueBytes::new(Form::new(keys.check(), &serde, &id), shard);
            Box::new(Self {
                keys,
                entries,
                uses: None,
                entries_max,
                scratch: Vec::new(),
                meter: Meter::default(),
            })
        });
        builder.keeping(&kept.0).keeping(&kept.1).shown_by(shown.0, shown.1)
    }

    /// The value of `key`, which is used by that; a null key has none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] if the key has no form in bytes, [`StoreError::State`] if the state cannot be read or holds something
    /// else.
    pub fn get(&mut self, key: &K) -> Result<Option<ValueAndTimestamp<V>>, StoreError> {
        let began = self.meter.begin(StoreOperation::Get, 1);
        let found = self.find(key);
        self.meter.end(StoreOperation::Get, 1, began);
        found
    }

    fn find(&mut self, key: &K) -> Result<Option<ValueAndTimestamp<V>>, StoreError> {
        match self.keys.write(key, &mut self.scratch) {
            Err(StoreError::NullKey) => Ok(None),
            written => {
                written?;
                let found = self.peek()?;
                if let Some((ValueAndTimestamp { value, timestamp }, _)) = &found {
                    self.set(Some(value.clone()), *timestamp)?;
                }
                Ok(found.map(|(found, _)| found))
            }
        }
    }

    /// Sets or, with `None`, deletes the value of `key`. If there are more than the map is to hold, the one goes that was not used
    /// for longest.
    ///
    /// # Errors
    ///
    /// [`StoreError::NullKey`] and [`StoreError::Key`] if there is no place for the key, [`StoreError::Value`] if the value cannot
    /// be kept (the old one then still is), [`StoreError::State`].
    pub fn put(
        &mut self,
        key: &K,
        value: Option<V>,
        timestamp: Timestamp,
    ) -> Result<(), StoreError> {
        let began = self.meter.begin(StoreOperation::Put, 1);
        self.keys.write(key, &mut self.scratch)?;
        let set = self.set(value, timestamp);
        self.meter.end(StoreOperation::Put, 1, began);
        set
    }

    /// Sets the value of `key` if it has none, and gives the one that it had, which is used by that.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub fn put_if_absent(
        &mut self,
        key: &K,
        value: V,
        timestamp: Timestamp,
    ) -> Result<Option<ValueAndTimestamp<V>>, StoreError> {
        let began = self.meter.begin(StoreOperation::PutIfAbsent, 1);
        let there = self.find(key)?;
        if there.is_none() {
            self.keys.write(key, &mut self.scratch)?;
            self.set(Some(value), timestamp)?;
        }
        self.meter.end(StoreOperation::PutIfAbsent, 1, began);
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
    /// As [`put`](Self::put).
    pub fn delete(&mut self, key: &K) -> Result<Option<ValueAndTimestamp<V>>, StoreError> {
        let began = self.meter.begin(StoreOperation::Delete, 1);
        self.keys.write(key, &mut self.scratch)?;
        let there = self.peek()?.map(|(there, _)| there);
        if let Some(there) = &there {
            self.set(None, there.timestamp)?;
        }
        self.meter.end(StoreOperation::Delete, 1, began);
        Ok(there)
    }

    /// How many entries there are.
    ///
    /// # Errors
    ///
    /// [`StoreError::State`] if the state cannot be read or holds something else.
    pub fn approximate_num_entries(&mut self) -> Result<u64, StoreError> {
        self.open()?;
        Ok(self.uses.as_ref().map_or(0, |uses| uses.by_number.len() as u64))
    }

    /// What is there of the key at hand, and its last use.
    fn peek(&mut self) -> Result<Option<(ValueAndTimestamp<V>, u64)>, StoreError> {
        self.open()?;
        let slot = self.entries.locate_one(&self.scratch)?;
        let (found, timestamp) = self.entries.get(slot);
        Ok(found.map(|used| (ValueAndTimestamp::of(&used.value, timestamp), used.number)))
    }

    /// Learns which entries the state holds, and their uses.
    fn open(&mut self) -> Result<(), StoreError> {
        if self.uses.is_none() {
            let mut uses = Uses::default();
            let all = (Bound::Unbounded, Bound::Unbounded);
            for entry in self.entries.scan(all, Order::Ascending)? {
                let entry = entry?;
                uses.insert(entry.value.value.number, entry.key);
            }
            self.uses = Some(uses);
        }
        Ok(())
    }

    /// Sets the value of the key at hand, as the newest use.
    fn set(&mut self, value: Option<V>, timestamp: Timestamp) -> Result<(), StoreError> {
        let before = self.peek()?.map(|(_, number)| number);
        let Self { entries, uses, scratch, entries_max, .. } = self;
        let uses = uses.get_or_insert_default();
        let number = uses.by_number.last_key_value().map_or(0, |(last, _)| last + 1);
        let is_set = value.is_some();
        entries.put(scratch, value.map(|value| Used { value, number }), timestamp)?;
        before.into_iter().for_each(|before| uses.remove(before));
        if is_set {
            uses.insert(number, scratch.clone());
        }
        while let Some(unused) = uses.pop_beyond(*entries_max) {
            entries.put(&unused, None, timestamp)?;
        }
        Ok(())
    }
}

impl<K: Data, V: Data> StateStore for LruMap<K, V> {
    fn keep_within(&mut self, record_bytes_max: usize) {
        self.entries.keep_within(record_bytes_max);
    }

    fn commit(&mut self, epoch: u64) -> Result<StoreChanges, StateError> {
        let began = self.meter.begin(StoreOperation::Flush, 1);
        let changes = self.entries.commit(epoch);
        self.meter.end(StoreOperation::Flush, 1, began);
        changes
    }

    fn published(&mut self, epoch: u64, bytes_max: usize) {
        self.entries.published(epoch, bytes_max);
    }

    fn size_bytes(&self) -> usize {
        self.entries.size_bytes() + self.uses.as_ref().map_or(0, Uses::size_bytes)
    }

    fn cache_reads(&self) -> CacheReads {
        self.entries.reads
    }

    fn time_by(&mut self, clock: &Arc<dyn Clock>) {
        self.meter.time_by(clock);
    }

    fn take_counts(&mut self) -> StoreCounts {
        self.meter.take()
    }

    fn dirty_bytes(&self) -> usize {
        self.entries.dirty_bytes()
    }

    fn by_bytes(&mut self) -> &mut dyn Any {
        self
    }
}

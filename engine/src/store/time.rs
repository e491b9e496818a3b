//! Time stores: several values of a key and a time, fetched by key over a stretch of time.

use super::{
    PartIterators, StateStore, StoreBuilder, StoreChanges, StoreCounts, StoreError, StoreOperation,
    TimeBytes, Timed,
    form::{Form, KeyCheck, Keys, StoreId},
    iterators::counted,
};
use headwater_core::{
    ports::state::{Order, StateError},
    record::Timestamp,
    serde::{Data, SharedSerde},
    time::Clock,
};
use std::{any::Any, ops::RangeInclusive, sync::Arc, time::Duration};

/// Values by key and time, of which there may be several: a shell of the key's type around [`TimeBytes`].
///
/// They lie in segments of time, which are removed whole: the size of a segment bounds how much longer than asked for a
/// value is kept, and each segment that a fetch touches costs it a look-up. A third of the time that values are kept is
/// a good size.
///
/// ```
/// use headwater_core::{ports::state::Order, serde::for_type};
/// use headwater_engine::{
///     processor::{Context, Processor, ProcessorError, Record},
///     store::{StoreKey, TimeStore},
/// };
/// use std::time::Duration;
///
/// /// Forwards with each speed how many came of its car in the ten seconds before, equal times and all.
/// struct Recent(StoreKey<TimeStore<String, i64>>);
///
/// impl Processor<String, i64> for Recent {
///     type KOut = String;
///     type VOut = i64;
///
///     fn process(
///         &mut self,
///         record: Record<String, i64>,
///         context: &mut Context<'_, String, i64>,
///     ) -> Result<(), ProcessorError> {
///         let (speeds, at) = (context.store(self.0), record.timestamp);
///         let recent = speeds.fetch(&record.key, at - 10_000..=at, Order::Ascending)?.count();
///         speeds.add(&record.key, record.value, at)?;
///         context.forward(record.with_value(i64::try_from(recent).unwrap_or(i64::MAX)));
///         Ok(())
///     }
/// }
///
/// let segment = Duration::from_secs(10);
/// let declared = TimeStore::<String, i64>::builder("speeds", for_type(), for_type(), segment);
/// assert!(declared.spec().schema.ends_with("utf8, time, sequence -> i64"));
/// ```
pub struct TimeStore<K, V> {
    keys: Keys<K>,
    key_check: Option<KeyCheck>,
    values: TimeBytes<V>,
    scratch: Vec<u8>,
}

opaque_debug!(TimeStore<K, V>);

impl<K: Data, V: Data> TimeStore<K, V> {
    /// Declares such a store, with segments of the given size.
    #[must_use]
    pub fn builder(
        name: &str,
        keys: SharedSerde<K>,
        values: SharedSerde<V>,
        segment: Duration,
    ) -> StoreBuilder {
        let segment_ms = i64::try_from(segment.as_millis()).unwrap_or(i64::MAX).max(1);
        let (key, value) = (keys.schema(), values.schema());
        let schema = format!("segment of {segment_ms} ms, {key}, time, sequence -> {value}");
        let named: Arc<str> = name.into();
        let kept = (SharedSerde::clone(&keys), SharedSerde::clone(&values));
        let builder = StoreBuilder::new(name, schema, move |shard, partition| {
            let id = StoreId { name: Arc::clone(&named), partition };
            let keys = Keys::new(&keys, &id);
            Box::new(Self {
                key_check: keys.check(),
                values: TimeBytes::new(Form::new(None, &values, &id), shard, segment_ms),
                keys,
                scratch: Vec::new(),
            })
        });
        builder.keeping(&kept.0).keeping(&kept.1)
    }

    /// As [`TimeBytes::open`].
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read.
    pub fn open(&mut self) -> Result<(), StateError> {
        self.values.open()
    }

    /// Adds a value of `key` at `time`, after those that are there, and gives its sequence.
    ///
    /// # Errors
    ///
    /// [`StoreError::NullKey`] and [`StoreError::Key`] if there is no place for the key, [`StoreError::Value`] if the
    /// value cannot be kept, [`StoreError::State`] if the state cannot be read.
    pub fn add(&mut self, key: &K, time: Timestamp, value: V) -> Result<u32, StoreError> {
        self.keys.write(key, &mut self.scratch)?;
        let checked = self.key_check.as_ref().map_or(Ok(()), |check| check(&self.scratch));
        checked.map_err(|e| self.keys.refused(e))?;
        self.values.add(&self.scratch, time, value)
    }

    /// Removes the value of `key` at `time` that [`fetch`](Self::fetch) gave with `sequence`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NullKey`], [`StoreError::Key`] and [`StoreError::State`], as [`fetch`](Self::fetch).
    pub fn remove(&mut self, key: &K, time: Timestamp, sequence: u32) -> Result<(), StoreError> {
        self.keys.write(key, &mut self.scratch)?;
        self.values.remove(&self.scratch, time, sequence)
    }

    /// The values of `key` within `times`, by time and then in the order they were added.
    ///
    /// # Errors
    ///
    /// [`StoreError::NullKey`] and [`StoreError::Key`] if no key can be so, [`StoreError::State`] if the state cannot be
    /// read or holds something else, here or while it goes on.
    pub fn fetch(
        &mut self,
        key: &K,
        times: RangeInclusive<Timestamp>,
        order: Order,
    ) -> Result<impl Iterator<Item = Result<Timed<V>, StateError>> + use<'_, K, V>, StoreError>
    {
        self.keys.write(key, &mut self.scratch)?;
        let open = self.values.meter.iterator();
        Ok(counted(self.values.fetch(&self.scratch, times, order)?, open))
    }

    /// As [`TimeBytes::expire_below`].
    pub fn expire_below(&mut self, floor: Timestamp) {
        self.values.expire_below(floor);
    }

    /// The store without the type of its keys.
    pub fn by_bytes(&mut self) -> &mut TimeBytes<V> {
        &mut self.values
    }
}

impl<K: Data, V: Data> StateStore for TimeStore<K, V> {
    fn keep_within(&mut self, record_bytes_max: usize) {
        self.values.segments.keep_within(record_bytes_max, record_bytes_max);
    }

    fn commit(&mut self, epoch: u64) -> Result<StoreChanges, StateError> {
        let began = self.values.meter.begin(StoreOperation::Flush, 1);
        let changes = self.values.segments.commit(epoch);
        self.values.meter.end(StoreOperation::Flush, 1, began);
        changes
    }

    fn published(&mut self, epoch: u64, bytes_max: usize) {
        self.values.segments.published(epoch, bytes_max);
    }

    fn size_bytes(&self) -> usize {
        self.values.segments.size_bytes()
    }

    fn time_by(&mut self, clock: &Arc<dyn Clock>) {
        self.values.meter.time_by(clock);
    }

    fn count_iterators(&mut self, iterators: &PartIterators) {
        self.values.meter.count_iterators(iterators);
    }

    fn take_counts(&mut self) -> StoreCounts {
        self.values.meter.take()
    }

    fn dirty_bytes(&self) -> usize {
        self.values.segments.dirty_bytes()
    }

    fn by_bytes(&mut self) -> &mut dyn Any {
        &mut self.values
    }
}

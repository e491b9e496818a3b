//! Window stores: the newest value of each key and window start.

use super::{
    CacheReads, Duplicates, Expiry, KeyBatch, PartIterators, Serdes, StateStore, StoreBuilder,
    StoreChanges, StoreCounts, StoreError, StoreIterator, StoreKind, StoreOperation,
    ValueAndTimestamp, WindowBytes, WindowSlot,
    form::{Form, Keys, StoreId},
    iterators::counted,
    segments::{Segments, retention_and_segment},
    window_bytes::Layout,
};
use headwater_core::{
    ports::state::{Order, StateError},
    record::Timestamp,
    serde::{Data, SharedSerde},
    time::Clock,
};
use std::{
    any::Any,
    ops::{RangeBounds, RangeInclusive},
    sync::Arc,
    time::Duration,
};

/// The newest value of each key and window start: a shell of the key's type around [`WindowBytes`].
///
/// ```
/// use headwater_core::serde::for_type;
/// use headwater_engine::{
///     processor::{Context, Processor, ProcessorError, Record},
///     store::{Duplicates, StoreKey, WindowStore},
/// };
/// use std::time::Duration;
///
/// /// Forwards what has not come before within a minute, in whichever order.
/// struct Distinct(StoreKey<WindowStore<String, ()>>);
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
///         let is_new = seen.fetch(&record.key, at - 60_000, at + 60_000)?.next().is_none();
///         seen.put(&record.key, Some(()), at)?;
///         if is_new {
///             context.forward(record);
///         }
///         Ok(())
///     }
/// }
///
/// let minutes = Duration::from_secs(120);
/// let none = Duplicates::Replaced;
/// let declared =
///     WindowStore::<String, ()>::with_retention("seen", for_type(), for_type(), minutes, none);
/// assert_eq!(declared.spec().name.as_ref(), "seen");
/// ```
pub struct WindowStore<K, V> {
    keys: Keys<K>,
    windows: WindowBytes<V>,
    scratch: Vec<u8>,
    batch: KeyBatch,
}

/// One entry of a window store.
///
/// Example: [`WindowStore`].
pub type WindowEntry<K, V> = (K, Timestamp, ValueAndTimestamp<V>);

opaque_debug!(WindowStore<K, V>);

impl<K: Data, V: Data> WindowStore<K, V> {
    /// Declares such a store.
    #[must_use]
    pub fn builder(name: &str, keys: SharedSerde<K>, values: SharedSerde<V>) -> StoreBuilder {
        let schema = format!("window start, {} -> {}", keys.schema(), values.schema());
        let serdes = Serdes {
            kind: StoreKind::Window,
            keys: SharedSerde::clone(&keys),
            values: SharedSerde::clone(&values),
            history_ms: 0,
        };
        let windows = |segments| WindowBytes::new(segments, Layout::ByStart);
        Self::made(name, schema, (keys, values), windows).readable(serdes)
    }

    /// Declares such a store for windows that start anywhere: it keeps those that start less than `retention`, cut to whole ms,
    /// before the last that it was given, of whatever key.
    #[must_use]
    pub fn with_retention(
        name: &str,
        keys: SharedSerde<K>,
        values: SharedSerde<V>,
        retention: Duration,
        duplicates: Duplicates,
    ) -> StoreBuilder {
        let (retention_ms, segment_ms) = retention_and_segment(retention);
        let layout = Layout::BySegment { segment_ms, duplicates };
        let (key, value) = (keys.schema(), values.schema());
        let schema =
            format!("segment of {segment_ms} ms, {key}, window start, sequence -> {value}");
        let serdes = Serdes {
            kind: StoreKind::Window,
            keys: SharedSerde::clone(&keys),
            values: SharedSerde::clone(&values),
            history_ms: 0,
        };
        let laid_out = move |segments: Segments<V>| {
            WindowBytes::new(segments.with_retention(retention_ms), layout)
        };
        let builder = Self::made(name, schema, (keys, values), laid_out);
        builder.readable(serdes).expiring(Expiry::OwnTime { retention_ms, segment_ms })
    }

    fn made(
        name: &str,
        schema: String,
        (keys, values): (SharedSerde<K>, SharedSerde<V>),
        windows: impl Fn(Segments<V>) -> WindowBytes<V> + Send + Sync + 'static,
    ) -> StoreBuilder {
        let named: Arc<str> = name.into();
        StoreBuilder::new(name, schema, move |shard, partition| {
            let id = StoreId { name: Arc::clone(&named), partition };
            let keys = Keys::new(&keys, &id);
            let form = Form::new(keys.check(), &values, &id);
            let windows = windows(Segments::new(form, shard));
            Box::new(Self { windows, keys, scratch: Vec::new(), batch: KeyBatch::default() })
        })
    }

    /// Sets or, with `None`, deletes the value of `key` in the window that starts at `start`; see [`WindowBytes::put`].
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    pub fn put(&mut self, key: &K, value: Option<V>, start: Timestamp) -> Result<(), StoreError> {
        self.windows.open()?;
        self.keys.write(key, &mut self.scratch)?;
        self.windows.put(&self.scratch, value, start)
    }

    /// Changes the value of `key` in the window that starts at `start`: `change` gets the value, if any, with its
    /// timestamp, and leaves the new one. Returns what `change` does.
    ///
    /// # Errors
    ///
    /// [`StoreError::NullKey`] and [`StoreError::Key`] if there is no place for the key, [`StoreError::Value`] if the new
    /// value cannot be kept (the old one then still is), [`StoreError::State`] if the state cannot be read or holds
    /// something else.
    pub fn update<R>(
        &mut self,
        key: &K,
        start: Timestamp,
        change: impl FnOnce(&mut Option<V>, &mut Timestamp) -> R,
    ) -> Result<R, StoreError> {
        self.windows.open()?;
        self.keys.write(key, &mut self.scratch)?;
        let slot = self.windows.locate_one(start, &self.scratch)?;
        self.windows.update(slot, change)
    }

    /// The value of `key` in the window that starts at `start`, or the first of several; a null key has none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] and [`StoreError::State`], as [`update`](Self::update).
    pub fn get(
        &mut self,
        key: &K,
        start: Timestamp,
    ) -> Result<Option<ValueAndTimestamp<V>>, StoreError> {
        self.windows.open()?;
        match self.keys.write(key, &mut self.scratch) {
            Err(StoreError::NullKey) => return Ok(None),
            written => written?,
        }
        if !self.windows.has(start) {
            return Ok(None);
        }
        let slot = self.windows.locate_one(start, &self.scratch)?;
        Ok(self.get_at(slot))
    }

    /// The values of `key` in the windows that start at `from` to `to`, both included, by start; a null key has none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Key`] and [`StoreError::State`], as [`update`](Self::update), the last also while the walk goes on.
    pub fn fetch(
        &mut self,
        key: &K,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<StoreIterator<'_, (Timestamp, ValueAndTimestamp<V>)>, StoreError> {
        self.fetch_in(key, from..=to, Order::Ascending)
    }

    /// The same values from the last start to the first.
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    pub fn backward_fetch(
        &mut self,
        key: &K,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<StoreIterator<'_, (Timestamp, ValueAndTimestamp<V>)>, StoreError> {
        self.fetch_in(key, from..=to, Order::Descending)
    }

    fn fetch_in(
        &mut self,
        key: &K,
        starts: RangeInclusive<Timestamp>,
        order: Order,
    ) -> Result<StoreIterator<'_, (Timestamp, ValueAndTimestamp<V>)>, StoreError> {
        self.windows.open()?;
        let is_null = match self.keys.write(key, &mut self.scratch) {
            Err(StoreError::NullKey) => true,
            written => written.map(|()| false)?,
        };
        let open = self.windows.meter.iterator();
        let found = (!is_null).then(|| self.windows.fetch(&self.scratch, starts, order));
        Ok(counted(found.into_iter().flatten(), open))
    }

    /// The values of the keys within `keys` in the windows that start at `from` to `to`, both included, by the keys' bytes and
    /// then by start.
    ///
    /// A null bound bounds nothing. One entry is held of each start that the store keeps, or of each segment.
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    pub fn fetch_keys(
        &mut self,
        keys: impl RangeBounds<K>,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<StoreIterator<'_, WindowEntry<K, V>>, StoreError> {
        self.scan(&keys, from..=to, Order::Ascending)
    }

    /// The same values from the last key to the first, and of each from the last start.
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    pub fn backward_fetch_keys(
        &mut self,
        keys: impl RangeBounds<K>,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<StoreIterator<'_, WindowEntry<K, V>>, StoreError> {
        self.scan(&keys, from..=to, Order::Descending)
    }

    /// The values of all keys in the windows that start at `from` to `to`, as [`fetch_keys`](Self::fetch_keys).
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    pub fn fetch_all(
        &mut self,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<StoreIterator<'_, WindowEntry<K, V>>, StoreError> {
        self.fetch_keys(.., from, to)
    }

    /// The same values from the last key to the first, and of each from the last start.
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    pub fn backward_fetch_all(
        &mut self,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<StoreIterator<'_, WindowEntry<K, V>>, StoreError> {
        self.backward_fetch_keys(.., from, to)
    }

    /// All values, by the keys' bytes and then by start.
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    pub fn all(&mut self) -> Result<StoreIterator<'_, WindowEntry<K, V>>, StoreError> {
        self.fetch_all(0, Timestamp::MAX)
    }

    /// All values, from the last key to the first, and of each from the last start.
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    pub fn backward_all(&mut self) -> Result<StoreIterator<'_, WindowEntry<K, V>>, StoreError> {
        self.backward_fetch_all(0, Timestamp::MAX)
    }

    fn scan(
        &mut self,
        keys: &impl RangeBounds<K>,
        starts: RangeInclusive<Timestamp>,
        order: Order,
    ) -> Result<StoreIterator<'_, WindowEntry<K, V>>, StoreError> {
        let Self { keys: serde, windows, .. } = self;
        windows.open()?;
        let open = windows.meter.iterator();
        let found = windows.fetch_keys(serde.bounds(keys)?, starts, order)?;
        let read = |(key, start, value): (Vec<u8>, Timestamp, ValueAndTimestamp<V>)| {
            Ok((serde.read(&key)?, start, value))
        };
        Ok(counted(found.map(move |entry| entry.and_then(read)), open))
    }

    /// Where the store holds each of `keys` in the window whose start `start_of` gives for its row.
    ///
    /// What the cache lacked is read in one go. The places are good for [`get_at`](Self::get_at) until windows are removed. A
    /// row for which `start_of` gives none is nowhere. So is a key that is null or has no form in bytes, for which `start_of`
    /// is not asked; [`refusal`](Self::refusal) says which.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read, [`StateError::Unreadable`] if it
    /// holds something else.
    pub fn locate<'k>(
        &mut self,
        keys: impl Iterator<Item = &'k K>,
        mut start_of: impl FnMut(usize) -> Option<Timestamp>,
    ) -> Result<Vec<Option<WindowSlot>>, StateError>
    where
        K: 'k,
    {
        self.windows.open()?;
        self.keys.write_all(keys, &mut self.batch);
        let starts =
            self.batch.iter().enumerate().map(|(row, key)| key.and_then(|_| start_of(row)));
        let starts: Vec<Option<Timestamp>> = starts.collect();
        self.windows.locate(&starts, &self.batch)
    }

    /// Why [`locate`](Self::locate) had no place for the key of a row, if it had none.
    #[must_use]
    pub fn refusal(&self, row: usize) -> Option<StoreError> {
        self.windows.refusal(&self.batch, row)
    }

    /// As [`get`](Self::get), for a key that was located since windows were last removed.
    ///
    /// # Panics
    ///
    /// If it was not.
    pub fn get_at(&mut self, slot: WindowSlot) -> Option<ValueAndTimestamp<V>> {
        let (value, timestamp) = self.windows.get(slot);
        value.map(|value| ValueAndTimestamp::of(value, timestamp))
    }

    /// As [`WindowBytes::expire_below`].
    pub fn expire_below(&mut self, floor: Timestamp) {
        self.windows.expire_below(floor);
    }

    /// The store without the type of its keys.
    pub fn by_bytes(&mut self) -> &mut WindowBytes<V> {
        &mut self.windows
    }
}

impl<K: Data, V: Data> StateStore for WindowStore<K, V> {
    fn keep_within(&mut self, record_bytes_max: usize) {
        self.windows.keep_within(record_bytes_max);
    }

    fn commit(&mut self, epoch: u64) -> Result<StoreChanges, StateError> {
        let began = self.windows.meter.begin(StoreOperation::Flush, 1);
        let changes = self.windows.windows.commit(epoch);
        self.windows.meter.end(StoreOperation::Flush, 1, began);
        changes
    }

    fn published(&mut self, epoch: u64, bytes_max: usize) {
        self.windows.windows.published(epoch, bytes_max);
    }

    fn size_bytes(&self) -> usize {
        self.windows.windows.size_bytes()
    }

    fn cache_reads(&self) -> CacheReads {
        self.windows.windows.reads
    }

    fn time_by(&mut self, clock: &Arc<dyn Clock>) {
        self.windows.meter.time_by(clock);
    }

    fn count_iterators(&mut self, iterators: &PartIterators) {
        self.windows.meter.count_iterators(iterators);
    }

    fn take_counts(&mut self) -> StoreCounts {
        self.windows.meter.take()
    }

    fn dirty_bytes(&self) -> usize {
        self.windows.windows.dirty_bytes()
    }

    fn by_bytes(&mut self) -> &mut dyn Any {
        &mut self.windows
    }
}

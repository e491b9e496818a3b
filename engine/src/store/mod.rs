//! Stores as processors use them: typed, cached, and written behind.
//!
//! | module | holds |
//! |---|---|
//! | `cache` | entries by their keys' bytes, which of them changed, and what is evicted |
//! | `key_value_bytes`, `window_bytes`, `session_bytes`, `time_bytes` | the stores themselves, without the type of their keys: the kernel works on them |
//! | `key_value`, `window`, `session`, `time` | thin shells that write and read typed keys |
//! | `segments` | entries laid out by time, for windows, sessions and time stores |
//! | `across` | walks over several stretches of it, in the order of time or of keys |
//! | `window_scan` | windows that start anywhere, and the walks over windows |
//! | `versioned_bytes`, `versioned` | what was valid of each key when, over a time store |
//! | `lru_map` | the values that were used last |
//! | `global` | the newest value of each key of a topic, whole on every instance |
//! | `meter` | how often stores are asked for what, and how long some of that takes |
//! | `reads` | how often caches had what they were asked for |
//! | `scan` | what is cached over what the state has, in the order of keys |
//! | `expiry` | what tells others which entries have expired |
//! | `floor` | the changelog record that tells what has expired |
//! | `stores` | stores declared under Kafka Streams' names |
//! | `form` | keys and values to bytes and back, and the errors of that |
//! | `key_batch` | the key bytes of a batch, written once |
//! | `updates` | what has changed in a cache since the last flush |
//! | `timer_bytes` | what falls due, by time and the bytes of a key |
//! | `timers` | the timers of a processor, a typed shell around it |
//!
//! A store keeps what it has touched as typed values and writes nothing while records flow. At a commit its changed
//! entries become changelog records, once each; when the log has acknowledged the commit they are published to the
//! state port, and only then may their cached form be evicted.
//!
//! # Invariants
//!
//! - What the cache does not hold is committed: a miss is answered by the state port.
//! - A cache that has held every entry since its shard was empty is *complete*: a miss is then an answer.

mod across;
mod cache;
pub mod conformance;
mod entry_check;
mod error;
mod expiry;
pub(crate) mod floor;
mod form;
mod global;
pub(crate) mod iterators;
mod key_batch;
mod key_bytes;
mod key_value;
mod key_value_bytes;
mod lru_map;
mod meter;
mod reads;
mod scan;
mod segments;
mod session;
pub(crate) mod session_bytes;
mod stores;
#[cfg(test)]
mod tests;
mod time;
pub(crate) mod time_bytes;
mod timer_bytes;
mod timers;
mod updates;
mod versioned;
mod versioned_bytes;
mod window;
mod window_bytes;
mod window_scan;
mod windowed;

pub use entry_check::EntryCheck;
pub use error::StoreError;
pub use global::{GlobalRow, GlobalStore};
#[doc(hidden)]
pub use iterators::PartIterators;
pub(crate) use iterators::{OpenIterator, OpenIterators};
pub use key_batch::KeyBatch;
pub use key_value::KeyValueStore;
pub use key_value_bytes::{EntryRef, KeyValueBytes, Slot, Updated};
pub use lru_map::LruMap;
pub use meter::{StoreCounts, StoreOperation};
pub use reads::CacheReads;
pub use scan::Scanned;
pub use session::SessionStore;
pub use session_bytes::{Session, SessionBytes, SessionSlot, UpdatedSession};
pub use stores::{
    KeyValueStoreSupplier, SessionStoreSupplier, Stores, VersionedStoreSupplier,
    WindowStoreSupplier,
};
pub use time::TimeStore;
pub use time_bytes::{TimeBytes, Timed};
pub use timer_bytes::TimerBytes;
pub use timers::Timers;
pub use updates::OldValues;
pub use versioned::VersionedKeyValueStore;
pub use versioned_bytes::{PutOutcome, VersionedBytes, VersionedRecord};
pub use window::{WindowEntry, WindowStore};
pub use window_bytes::{Duplicates, WindowBytes, WindowSlot};
pub use windowed::{SessionWindowedSerde, Window, Windowed, WindowedSerde};

pub(crate) use expiry::Expiry;
pub(crate) use form::{Form, Keys, StoreId};
pub(crate) use global::OpenGlobal;
pub(crate) use scan::beginning_with;
pub(crate) use segments::{LAST_TIME, committed_oldest_kept};
pub(crate) use timers::{TIMERS_MAX, TimerStore};

use headwater_core::{
    ports::state::{Shard, StateError, StoreSpec},
    record::{RecordSet, Timestamp},
    serde::{Data, SerdeError, SharedSerde},
    time::Clock,
};
use std::{any::Any, fmt, marker::PhantomData, sync::Arc};

/// A value and the timestamp that it carries.
///
/// ```
/// use headwater_engine::store::ValueAndTimestamp;
///
/// let speed = ValueAndTimestamp { value: 120, timestamp: 5 };
/// assert_eq!(format!("{}@{}", speed.value, speed.timestamp), "120@5");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueAndTimestamp<V> {
    /// The value.
    pub value: V,
    /// In ms.
    pub timestamp: Timestamp,
}

/// What a walk over a store comes to, item by item, or why it cannot go on. It reads what is not cached as it comes to it.
///
/// Example: [`SessionStore`].
pub type StoreIterator<'a, T> = Box<dyn Iterator<Item = Result<T, StateError>> + 'a>;

impl<V: Clone> ValueAndTimestamp<V> {
    pub(crate) fn of(value: &V, timestamp: Timestamp) -> Self {
        Self { value: value.clone(), timestamp }
    }
}

/// Names a store of type `S` within a task; see [`InitContext::store`](crate::processor::InitContext::store).
///
/// Example: [`KeyValueStore`].
pub struct StoreKey<S> {
    index: usize,
    store: PhantomData<fn() -> S>,
}

impl<S> StoreKey<S> {
    pub(crate) fn new(index: usize) -> Self {
        Self { index, store: PhantomData }
    }

    pub(crate) fn index(self) -> usize {
        self.index
    }
}

impl<S> Clone for StoreKey<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for StoreKey<S> {}

impl<S> fmt::Debug for StoreKey<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreKey({})", self.index)
    }
}

/// What one commit changed in a store.
///
/// Example: [`StateStore`].
#[derive(Debug)]
pub struct StoreChanges {
    /// Changelog records, each key once; null deletes.
    pub records: RecordSet,
    /// All keys below this one have expired.
    pub expire_below: Option<Vec<u8>>,
}

/// A store as a task drives it through commits.
///
/// Users' own stores implement it:
///
/// ```
/// use headwater_core::{
///     ports::state::StateError,
///     record::{Headers, RecordSetBuilder},
/// };
/// use headwater_engine::{
///     processor::{Context, ProcessorError, Record},
///     store::{StateStore, StoreBuilder, StoreChanges},
///     topology::{Consumed, Topology},
/// };
/// use std::any::Any;
///
/// /// The sum of all values of a partition, in one entry.
/// struct Sum {
///     sum: i64,
///     is_changed: bool,
/// }
///
/// impl StateStore for Sum {
///     fn commit(&mut self, _: u64) -> Result<StoreChanges, StateError> {
///         let mut records = RecordSetBuilder::default();
///         if std::mem::take(&mut self.is_changed) {
///             let sum = self.sum.to_be_bytes();
///             let pushed = records.push(0, Some(b"sum"), Some(&sum), &Headers::new());
///             pushed.expect("one small record fits into a set");
///         }
///         Ok(StoreChanges { records: records.build(), expire_below: None })
///     }
///
///     fn published(&mut self, _: u64, _: usize) {}
///
///     fn size_bytes(&self) -> usize {
///         size_of::<Self>()
///     }
///
///     fn dirty_bytes(&self) -> usize {
///         if self.is_changed { 11 } else { 0 }
///     }
///
///     fn by_bytes(&mut self) -> &mut dyn Any {
///         self
///     }
/// }
///
/// let sum = StoreBuilder::new("sum", "one i64".to_owned(), |shard, _| {
///     // What was committed last; one that cannot be read begins anew here, for the sake of brevity.
///     let stored = shard.get(b"sum").ok().flatten();
///     let sum = stored.and_then(|it| it.value.try_into().ok()).map_or(0, i64::from_be_bytes);
///     Box::new(Sum { sum, is_changed: false })
/// });
/// let add = |record: Record<String, i64>, context: &mut Context<'_, String, i64>| {
///     let sum = context.state_store::<Sum>("sum")?;
///     (sum.sum, sum.is_changed) = (sum.sum + record.value, true);
///     let sum = sum.sum;
///     context.forward(record.with_value(sum));
///     Ok::<(), ProcessorError>(())
/// };
/// let mut topology = Topology::new();
/// topology.add_source("in", "cars", Consumed::<String, i64>::default())?;
/// topology.add_processor_fn("add", add, &["in"])?;
/// topology.add_state_store(sum, &["add"])?;
/// assert!(topology.describe().contains("Processor: add (stores: [sum])"));
/// # Ok::<(), headwater_engine::topology::TopologyError>(())
/// ```
pub trait StateStore: Any + Send {
    /// Refuses from now on, with [`StoreError::TooLarge`], what would take more bytes as a record of the changelog. A store
    /// that does not know how stops the application with such a record.
    fn keep_within(&mut self, record_bytes_max: usize) {
        let _ = record_bytes_max;
    }

    /// What changed since the last call: the contents of commit `epoch`.
    ///
    /// # Errors
    ///
    /// [`StateError::Unwritable`] if an entry has no form in bytes.
    fn commit(&mut self, epoch: u64) -> Result<StoreChanges, StateError>;

    /// Commit `epoch` can be read through the state port: what is no newer may be evicted, down to about `bytes_max`. The same commit
    /// may be told again, where the cache has grown since.
    fn published(&mut self, epoch: u64, bytes_max: usize);

    /// About how many bytes of memory its cache takes. It is asked in each turn of its task: it should not take long to say.
    fn size_bytes(&self) -> usize;

    /// Whether anybody has asked for what its cache holds since the last call; yes of a store that does not know. Of stores that
    /// are only written, caches go first where there is no room for all.
    fn take_was_read(&mut self) -> bool {
        true
    }

    /// How often its cache had what it was asked for; nothing of a store that does not count.
    fn cache_reads(&self) -> CacheReads {
        CacheReads::default()
    }

    /// Times some of what it is asked for by `clock`, if it knows how.
    fn time_by(&mut self, clock: &Arc<dyn Clock>) {
        let _ = clock;
    }

    /// Counts the iterators that it gives, if it knows how.
    #[doc(hidden)]
    fn count_iterators(&mut self, iterators: &PartIterators) {
        let _ = iterators;
    }

    /// How often it was asked for what, and what was timed since the last call; nothing of a store that does not count.
    fn take_counts(&mut self) -> StoreCounts {
        StoreCounts::default()
    }

    /// About how many bytes its uncommitted changes will take in the changelog.
    fn dirty_bytes(&self) -> usize;

    /// For timers: a time before which few of them fall due, later than `time` if there is one; none if they are few.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read.
    #[doc(hidden)]
    fn crowded_from(&mut self, time: Timestamp) -> Result<Option<Timestamp>, StateError> {
        let _ = time;
        Ok(None)
    }

    /// The store without the type of its keys, for the kernel; itself, if its keys have one form.
    fn by_bytes(&mut self) -> &mut dyn Any;
}

/// Makes a task's part of a store; see [`StoreBuilder`].
type MakeStore = dyn Fn(Arc<dyn Shard>, u32) -> Box<dyn StateStore> + Send + Sync;

/// Declares a store: its name, the form of its contents, and how each task's part is made.
///
/// Example: [`StateStore`], and [`Stores`] for those that there are.
#[derive(Clone)]
pub struct StoreBuilder {
    spec: StoreSpec,
    make: Arc<MakeStore>,
    /// [`Serdes`], if it can be read from outside.
    serdes: Option<Arc<dyn Any + Send + Sync>>,
    /// Their kind.
    kind: Option<StoreKind>,
    /// The serde of the keys by which its entries lie in their partitions, if that is not the store's own.
    placed_by: Option<Arc<dyn Any + Send + Sync>>,
    /// Which of its entries have expired, if that is to be known outside.
    expiry: Option<Expiry>,
    /// The type that the store cannot keep, and why.
    refused: Option<(&'static str, SerdeError)>,
    /// Whether it is read from outside by other serdes than its own.
    shows_other: bool,
    is_logged: bool,
}

/// How the entries of a store that can be read from outside are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)]
pub enum StoreKind {
    /// Values by key.
    KeyValue,
    /// Values by the start of a window and a key.
    Window,
    /// Values by key and session.
    Session,
    /// Versions by key.
    Versioned,
}

/// What the bytes of a store that can be read from outside mean.
pub(crate) struct Serdes<K, V> {
    pub(crate) kind: StoreKind,
    pub(crate) keys: SharedSerde<K>,
    pub(crate) values: SharedSerde<V>,
    /// How far back the versions of a versioned store go.
    pub(crate) history_ms: i64,
}

impl StoreBuilder {
    /// A store called `name` whose contents have the form `schema`; `make` wraps the shard of a partition.
    pub fn new(
        name: &str,
        schema: String,
        make: impl Fn(Arc<dyn Shard>, u32) -> Box<dyn StateStore> + Send + Sync + 'static,
    ) -> Self {
        let spec = StoreSpec { name: name.into(), schema };
        Self {
            spec,
            make: Arc::new(make),
            serdes: None,
            kind: None,
            placed_by: None,
            expiry: None,
            refused: None,
            shows_other: false,
            is_logged: true,
        }
    }

    /// Gives the store no changelog: it commits as others do, but is empty once its state is lost, or is of an earlier commit
    /// than the log's last one, as after a kill.
    ///
    /// All stores of a task that have no changelog are empty then.
    ///
    /// ```
    /// use headwater_core::serde::for_type;
    /// use headwater_engine::store::Stores;
    ///
    /// let seen = Stores::key_value_store_builder(
    ///     Stores::persistent_key_value_store("seen"),
    ///     for_type::<String>(),
    ///     for_type::<i64>(),
    /// );
    /// assert!(!seen.with_logging_disabled().is_logged());
    /// ```
    #[must_use]
    pub fn with_logging_disabled(self) -> Self {
        Self { is_logged: false, ..self }
    }

    /// Gives the store a changelog, as it has by default.
    #[must_use]
    pub fn with_logging_enabled(self) -> Self {
        Self { is_logged: true, ..self }
    }

    /// Changes nothing, and is here for who comes from Kafka Streams.
    ///
    /// What a processor puts is always held back from the changelog until the commit, and found by whoever reads the store.
    #[must_use]
    pub fn with_caching_enabled(self) -> Self {
        self
    }

    /// Changes nothing, as [`with_caching_enabled`](Self::with_caching_enabled).
    #[must_use]
    pub fn with_caching_disabled(self) -> Self {
        self
    }

    /// Whether the store has a changelog.
    #[must_use]
    pub fn is_logged(&self) -> bool {
        self.is_logged
    }

    /// Looks whether values of `T` can be kept as `serde` writes them; a topology refuses the store if not.
    pub(crate) fn keeping<T>(mut self, serde: &SharedSerde<T>) -> Self {
        let refused = serde.check_type().err().map(|why| (std::any::type_name::<T>(), why));
        self.refused = self.refused.or(refused);
        self
    }

    /// The type that the store cannot keep, and why.
    pub(crate) fn refused(&self) -> Option<&(&'static str, SerdeError)> {
        self.refused.as_ref()
    }

    /// Lets the store be read from outside.
    pub(crate) fn readable<K: Data, V: Data>(self, serdes: Serdes<K, V>) -> Self {
        let checked = self.keeping(&serdes.keys).keeping(&serdes.values);
        let kind = Some(serdes.kind);
        Self { serdes: Some(Arc::new(serdes)), kind, ..checked }
    }

    /// Has queries of a key-value store read its entries by other serdes than its own: they are then shown something else of
    /// each.
    #[must_use]
    pub fn shown_by<K: Data, V: Data>(self, keys: SharedSerde<K>, values: SharedSerde<V>) -> Self {
        let serdes = Serdes { kind: StoreKind::KeyValue, keys, values, history_ms: 0 };
        Self { serdes: Some(Arc::new(serdes)), shows_other: true, ..self }
    }

    /// Says by which keys' bytes its entries lie in their partitions, where the topics above write keys otherwise than the store.
    #[must_use]
    pub fn placed_by<K: Data>(self, keys: SharedSerde<K>) -> Self {
        Self { placed_by: Some(Arc::new(keys)), ..self }
    }

    /// The serde of the keys by which its entries lie in their partitions, if that is not the store's own.
    pub(crate) fn placing(&self) -> Option<&(dyn Any + Send + Sync)> {
        self.placed_by.as_deref()
    }

    /// [`Serdes`], if its entries are read from outside as they are written.
    pub(crate) fn own_serdes(&self) -> Option<&(dyn Any + Send + Sync)> {
        self.serdes().filter(|_| !self.shows_other)
    }

    /// [`Serdes`], if it is a key-value store whose entries are read from outside as they are written.
    pub(crate) fn key_value_serdes(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        let is_one = self.kind == Some(StoreKind::KeyValue) && !self.shows_other;
        self.serdes.clone().filter(|_| is_one)
    }

    /// [`Serdes`], if it can be read from outside.
    pub(crate) fn serdes(&self) -> Option<&(dyn Any + Send + Sync)> {
        self.serdes.as_deref()
    }

    /// Has it tell those who ask it from outside which of its entries have expired.
    pub(crate) fn expiring(self, expiry: Expiry) -> Self {
        Self { expiry: Some(expiry), ..self }
    }

    /// Which of its entries have expired, if that is to be known outside.
    pub(crate) fn expiry(&self) -> Option<&Expiry> {
        self.expiry.as_ref()
    }

    /// What the store is.
    #[must_use]
    pub fn spec(&self) -> &StoreSpec {
        &self.spec
    }

    /// The store over a shard, as the part for `partition`.
    #[must_use]
    pub fn make(&self, shard: Arc<dyn Shard>, partition: u32) -> Box<dyn StateStore> {
        (self.make)(shard, partition)
    }
}

impl fmt::Debug for StoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoreBuilder").field(&self.spec).finish()
    }
}

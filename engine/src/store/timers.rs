//! Timers: times at which a processor is called about a key, kept as committed state.
//!
//! Stored keys are the time (8 bytes, big-endian) and then the key's bytes, so that timers lie in the order in which they
//! fire. A timer that has fired or was cancelled is deleted.
//!
//! # Invariants
//!
//! - Every pending timer below `known_to` is in memory; above it only those that the state does not hold yet.

use super::{
    StateStore, StoreBuilder, StoreChanges, StoreError, StoreKey,
    form::{KeyCheck, Keys, StoreId},
};
use headwater_core::{
    ports::state::{Order, Shard, StateError},
    record::{Headers, RecordSetBuilder, Timestamp},
    serde::{Data, SharedSerde},
};
use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

/// How many timers are read from the state at a time.
const LOAD_MAX: usize = 1_024;

/// What a changelog record of a timer takes besides its key.
const RECORD_BYTES: usize = 32;

/// The commit of a change that belongs to the next.
const UNCOMMITTED: u64 = u64::MAX;

/// The timers of a processor, by key.
///
/// ```
/// use headwater_engine::{
///     processor::{Context, Processor, ProcessorError, Record},
///     store::Timers,
/// };
///
/// /// Forwards a car that has sent nothing for a minute of event time.
/// struct Silent {
///     timers: Timers<String>,
/// }
///
/// impl Processor<String, i64> for Silent {
///     type KOut = String;
///     type VOut = ();
///
///     fn process(
///         &mut self,
///         record: Record<String, i64>,
///         context: &mut Context<'_, String, ()>,
///     ) -> Result<(), ProcessorError> {
///         // The value is when the car sent before.
///         context.cancel_timer(self.timers, &record.key, record.value + 60_000)?;
///         context.schedule_timer(self.timers, &record.key, record.timestamp + 60_000)?;
///         Ok(())
///     }
///
///     fn on_timer(
///         &mut self,
///         car: String,
///         time: i64,
///         context: &mut Context<'_, String, ()>,
///     ) -> Result<(), ProcessorError> {
///         context.forward(Record::new(car, (), time));
///         Ok(())
///     }
/// }
/// ```
///
/// They lie in a store that [`builder`](Self::builder) declares and the processor is connected to; a supplier gets them
/// from [`InitContext::timers`](crate::processor::InitContext::timers).
pub struct Timers<K>(pub(crate) StoreKey<TimerStore<K>>);

impl<K> Clone for Timers<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Timers<K> {}

opaque_debug!(Timers<K>);

impl<K: Data> Timers<K> {
    /// Declares the store that a processor's pending timers lie in.
    #[must_use]
    pub fn builder(name: &str, keys: SharedSerde<K>) -> StoreBuilder {
        let schema = format!("timers of {}", keys.schema());
        let (named, kept): (Arc<str>, _) = (name.into(), SharedSerde::clone(&keys));
        let builder = StoreBuilder::new(name, schema, move |shard, partition| {
            let id = StoreId { name: Arc::clone(&named), partition };
            let keys = Keys::new(&keys, &id);
            Box::new(TimerStore {
                check: keys.check(),
                keys,
                id,
                known_to: shard.position().map(|_| Vec::new()),
                shard,
                pending: TimerMap::default(),
                gone: TimerMap::default(),
                dirty: BTreeSet::new(),
                dirty_bytes: 0,
                record_bytes_max: usize::MAX,
            })
        });
        builder.keeping(&kept)
    }
}

/// A stored key: the time, and the bytes of the key.
type TimerKey = Vec<u8>;

/// Timers, each with the commit that changed it last, and the length of all their keys.
#[derive(Default)]
struct TimerMap {
    timers: BTreeMap<TimerKey, u64>,
    key_bytes: usize,
}

impl TimerMap {
    /// What a timer takes besides its key: its part of a node two thirds full, and an allocation.
    const TIMER_BYTES: usize = size_of::<(TimerKey, u64)>() * 3 / 2 + 16;

    fn insert(&mut self, timer: TimerKey, epoch: u64) {
        let length = timer.len();
        if self.timers.insert(timer, epoch).is_none() {
            self.key_bytes += length;
        }
    }

    /// Removes a timer; false if it is not there.
    fn remove(&mut self, timer: &TimerKey) -> bool {
        let removed = self.timers.remove(timer).is_some();
        self.key_bytes -= if removed { timer.len() } else { 0 };
        removed
    }

    fn retain(&mut self, keep: impl Fn(&TimerKey, u64) -> bool) {
        self.timers.retain(|timer, epoch| {
            let kept = keep(timer, *epoch);
            self.key_bytes -= if kept { 0 } else { timer.len() };
            kept
        });
    }

    fn size_bytes(&self) -> usize {
        self.timers.len() * Self::TIMER_BYTES + self.key_bytes
    }
}

/// A task's part of a processor's timers.
pub(crate) struct TimerStore<K> {
    id: StoreId,
    keys: Keys<K>,
    check: Option<KeyCheck>,
    shard: Arc<dyn Shard>,
    /// Pending timers, each with the commit that it became part of; 0 for one that was read from the state.
    pending: TimerMap,
    /// Timers that the state may still hold though they are no longer pending, likewise.
    gone: TimerMap,
    /// Those of both that changed since the last commit.
    dirty: BTreeSet<TimerKey>,
    /// What these take in the changelog.
    dirty_bytes: usize,
    /// Where reading goes on; `None` once all is known.
    known_to: Option<TimerKey>,
    record_bytes_max: usize,
}

impl<K: Data> TimerStore<K> {
    /// Adds a timer; the same key and time twice are one. A time below 0 is 0.
    pub(crate) fn schedule(&mut self, key: &K, time: Timestamp) -> Result<(), StoreError> {
        let timer = self.encode(key, time)?;
        if !self.pending.timers.contains_key(&timer) {
            self.gone.remove(&timer);
            self.change(timer.clone());
            self.pending.insert(timer, UNCOMMITTED);
        }
        Ok(())
    }

    /// Removes a timer, if it is pending.
    pub(crate) fn cancel(&mut self, key: &K, time: Timestamp) -> Result<(), StoreError> {
        let timer = self.encode(key, time)?;
        self.remove(timer);
        Ok(())
    }

    fn remove(&mut self, timer: TimerKey) {
        let is_known = self.known_to.as_ref().is_none_or(|known_to| timer < *known_to);
        if self.pending.remove(&timer) || !is_known {
            self.change(timer.clone());
            self.gone.insert(timer, UNCOMMITTED);
        }
    }

    fn change(&mut self, timer: TimerKey) {
        let bytes = RECORD_BYTES + timer.len();
        if self.dirty.insert(timer) {
            self.dirty_bytes += bytes;
        }
    }

    /// The time of the first pending timer.
    pub(crate) fn first(&mut self) -> Result<Option<Timestamp>, StateError> {
        let first = loop {
            let first = self.pending.timers.first_key_value().map(|(timer, _)| timer);
            match &self.known_to {
                Some(known_to) if first.is_none_or(|first| first >= known_to) => self.load()?,
                _ => break first,
            }
        };
        first.map(|first| Ok(self.id.split_time(first)?.0)).transpose()
    }

    /// Removes the first pending timer, to fire it. Asked for after [`first`](Self::first) found one.
    pub(crate) fn take_first(&mut self) -> Result<Option<(K, Timestamp)>, StateError> {
        let Some(timer) = self.pending.timers.first_key_value().map(|(timer, _)| timer.clone())
        else {
            return Ok(None);
        };
        let (time, key) = self.id.split_time(&timer)?;
        let key = self.keys.read(key)?;
        self.remove(timer);
        Ok(Some((key, time)))
    }

    /// Reads the next timers that the state holds.
    fn load(&mut self) -> Result<(), StateError> {
        let Some(from) = self.known_to.take() else { return Ok(()) };
        let shard = Arc::clone(&self.shard);
        let range = (Bound::Included(from.as_slice()), Bound::Unbounded);
        for (read, entry) in (1..).zip(shard.scan(range, Order::Ascending)?) {
            let (timer, _) = entry?;
            if read == LOAD_MAX {
                // The smallest key after this one.
                self.known_to = Some([&timer[..], &[0]].concat());
            }
            if !self.gone.timers.contains_key(&timer) && !self.pending.timers.contains_key(&timer) {
                self.pending.insert(timer, 0);
            }
            if read == LOAD_MAX {
                break;
            }
        }
        Ok(())
    }

    fn encode(&self, key: &K, time: Timestamp) -> Result<TimerKey, StoreError> {
        let mut bytes = Vec::new();
        self.keys.write(key, &mut bytes)?;
        if let Some(check) = &self.check {
            check(&bytes).map_err(|refused| self.id.refused_key(refused))?;
        }
        let timer = [&time.max(0).to_be_bytes(), &bytes[..]].concat();
        let (bytes, bytes_max) = (timer.len(), self.record_bytes_max);
        if bytes > bytes_max {
            let store = Arc::clone(&self.id.name);
            return Err(StoreError::TooLarge { store, bytes, bytes_max });
        }
        Ok(timer)
    }
}

impl<K: Data> StateStore for TimerStore<K> {
    fn keep_within(&mut self, record_bytes_max: usize) {
        self.record_bytes_max = record_bytes_max;
    }

    fn commit(&mut self, epoch: u64) -> Result<StoreChanges, StateError> {
        let mut records = RecordSetBuilder::default();
        self.dirty_bytes = 0;
        for timer in std::mem::take(&mut self.dirty) {
            let (time, _) = self.id.split_time(&timer)?;
            let (value, changed) = match self.pending.timers.get_mut(&timer) {
                Some(pending) => (Some(&[][..]), Some(pending)),
                None => (None, self.gone.timers.get_mut(&timer)),
            };
            changed.into_iter().for_each(|changed| *changed = epoch);
            records
                .push(time, Some(&timer), value, &Headers::new())
                .map_err(|full| self.id.unwritable(&full))?;
        }
        Ok(StoreChanges { records: records.build(), expire_below: None })
    }

    fn published(&mut self, epoch: u64, bytes_max: usize) {
        self.gone.retain(|_, changed| changed > epoch);
        if self.size_bytes() <= bytes_max {
            return;
        }
        // Those that fire last go; the state has them.
        let kept = self.pending.timers.len() / 2;
        let Some(known_to) = self.pending.timers.keys().nth(kept).cloned() else { return };
        self.pending.retain(|timer, changed| *timer < known_to || changed > epoch);
        self.known_to = Some(self.known_to.take().map_or(known_to.clone(), |k| k.min(known_to)));
    }

    fn size_bytes(&self) -> usize {
        self.pending.size_bytes() + self.gone.size_bytes()
    }

    fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
    }

    fn by_bytes(&mut self) -> &mut dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{MapShard, open},
        *,
    };
    use headwater_core::serde::Utf8;

    #[test]
    fn timers_are_counted_with_their_keys_and_not_once_they_are_gone() {
        const KIB: usize = 1 << 10;
        let shard = Arc::new(MapShard::default());
        let mut store: Box<TimerStore<String>> =
            open(&Timers::builder("timers", Arc::new(Utf8)), &shard);
        let key = |number: i64| format!("{number:01024}");
        let within =
            |bytes: usize, count: usize| (KIB..KIB + 128).contains(&(bytes / count.max(1)));
        for number in 0..100 {
            store.schedule(&key(number), number).unwrap();
            store.schedule(&key(number), number).unwrap();
        }
        assert!(within(store.size_bytes(), 100) && within(store.dirty_bytes(), 100));
        store.commit(1).unwrap();
        store.published(1, usize::MAX);
        assert!(within(store.size_bytes(), 100) && store.dirty_bytes() == 0);
        for number in 0..90 {
            store.cancel(&key(number), number).unwrap();
        }
        // The state still has them.
        assert!(within(store.size_bytes(), 100) && within(store.dirty_bytes(), 90));
        store.commit(2).unwrap();
        store.published(2, usize::MAX);
        assert!(within(store.size_bytes(), 10));
        store.published(2, 0);
        assert!(within(store.size_bytes(), 5));
    }
}

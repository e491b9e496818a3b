//! Times with the bytes of a key each, in the order of time and then of the bytes: what falls due next comes first.
//!
//! Stored keys are the time (8 bytes, big-endian) and then the key's bytes. What has fallen due or was cancelled is deleted.
//!
//! # Invariants
//!
//! - Every pending timer below `known_to` is in memory; above it only those that the state does not hold yet.

use super::{StateStore, StoreBuilder, StoreChanges, StoreError, form::StoreId};
use headwater_core::{
    ports::state::{Order, Shard, StateError},
    record::{Headers, RecordSetBuilder, Timestamp},
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

/// Keys by the time at which they fall due, by their bytes: a store of its own for operators that hold rows back, and what a
/// processor's [`Timers`](super::Timers) lie in.
///
/// ```
/// use headwater_engine::store::TimerBytes;
///
/// let declared = TimerBytes::builder("held-back");
/// assert_eq!(&*declared.spec().name, "held-back");
/// ```
pub struct TimerBytes {
    id: StoreId,
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

impl std::fmt::Debug for TimerBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TimerBytes").field("store", &self.id.name).finish_non_exhaustive()
    }
}

impl TimerBytes {
    /// Declares such a store.
    #[must_use]
    pub fn builder(name: &str) -> StoreBuilder {
        let named: Arc<str> = name.into();
        StoreBuilder::new(name, "time, key".to_owned(), move |shard, partition| {
            Box::new(Self::new(StoreId { name: Arc::clone(&named), partition }, shard))
        })
    }

    pub(super) fn new(id: StoreId, shard: Arc<dyn Shard>) -> Self {
        Self {
            id,
            known_to: shard.position().map(|_| Vec::new()),
            shard,
            pending: TimerMap::default(),
            gone: TimerMap::default(),
            dirty: BTreeSet::new(),
            dirty_bytes: 0,
            record_bytes_max: usize::MAX,
        }
    }

    /// Adds a key that falls due at `time`; the same key and time twice are one. A time below 0 is 0.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooLarge`] if it takes more than a record of the changelog, [`StoreError::State`] if the state cannot be
    /// read.
    pub fn schedule(&mut self, key: &[u8], time: Timestamp) -> Result<(), StoreError> {
        let timer = self.encode(key, time)?;
        if !self.pending.timers.contains_key(&timer) && !self.is_stored(&timer)? {
            self.gone.remove(&timer);
            self.change(timer.clone());
            self.pending.insert(timer, UNCOMMITTED);
        }
        Ok(())
    }

    /// Removes a key that falls due at `time`, if there is one.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooLarge`] and [`StoreError::State`], as [`schedule`](Self::schedule).
    pub fn cancel(&mut self, key: &[u8], time: Timestamp) -> Result<(), StoreError> {
        let timer = self.encode(key, time)?;
        if self.pending.timers.contains_key(&timer) || self.is_stored(&timer)? {
            self.remove(timer);
        }
        Ok(())
    }

    /// Removes one that is pending.
    fn remove(&mut self, timer: TimerKey) {
        self.pending.remove(&timer);
        self.change(timer.clone());
        self.gone.insert(timer, UNCOMMITTED);
    }

    /// Whether a timer is pending that the state alone holds. How far timers are in memory depends on how often the first was
    /// asked for: what changes nothing must not be written because it is not known.
    fn is_stored(&self, timer: &TimerKey) -> Result<bool, StateError> {
        let is_known = self.known_to.as_ref().is_none_or(|known_to| timer < known_to);
        if is_known || self.gone.timers.contains_key(timer) {
            return Ok(false);
        }
        Ok(self.shard.get(timer)?.is_some())
    }

    fn change(&mut self, timer: TimerKey) {
        let bytes = RECORD_BYTES + timer.len();
        if self.dirty.insert(timer) {
            self.dirty_bytes += bytes;
        }
    }

    /// The time of the first that is pending.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read.
    pub fn first(&mut self) -> Result<Option<Timestamp>, StateError> {
        let first = loop {
            let first = self.pending.timers.first_key_value().map(|(timer, _)| timer);
            match &self.known_to {
                Some(known_to) if first.is_none_or(|first| first >= known_to) => self.load()?,
                _ => break first,
            }
        };
        first.map(|first| Ok(self.id.split_time(first)?.0)).transpose()
    }

    /// The time of the one that falls due after so many others. Nothing is read into memory for it, so that how often it is
    /// asked for shows nowhere.
    pub(super) fn nth(&self, number: usize) -> Result<Option<Timestamp>, StateError> {
        let mut first: BTreeSet<TimerKey> =
            self.pending.timers.keys().take(number + 1).cloned().collect();
        if let Some(known_to) = &self.known_to
            && first.iter().nth(number).is_none_or(|nth| nth >= known_to)
        {
            for timer in self.unknown(known_to)?.take(number + 1) {
                first.insert(timer?);
            }
        }
        first.iter().nth(number).map(|nth| Ok(self.id.split_time(nth)?.0)).transpose()
    }

    /// Whether more than `number` have fallen due by `time`.
    pub(super) fn are_more_due(
        &mut self,
        number: usize,
        time: Timestamp,
    ) -> Result<bool, StateError> {
        if self.first()?.is_none_or(|first| first > time) {
            return Ok(false);
        }
        let end = time.saturating_add(1).to_be_bytes();
        let is_due = |timer: &TimerKey| timer.as_slice() < &end[..];
        let due = self.pending.timers.keys().take_while(|timer| is_due(timer));
        if due.take(number + 1).count() > number {
            return Ok(true);
        }
        match &self.known_to {
            Some(known_to) if is_due(known_to) => {
                Ok(self.nth(number)?.is_some_and(|nth| nth <= time))
            }
            Some(_) | None => Ok(false),
        }
    }

    /// What the state has pending from `known_to` on.
    fn unknown(
        &self,
        known_to: &TimerKey,
    ) -> Result<impl Iterator<Item = Result<TimerKey, StateError>>, StateError> {
        let range = (Bound::Included(known_to.as_slice()), Bound::Unbounded);
        let found = self.shard.scan(range, Order::Ascending)?;
        let timers = found.map(|entry| entry.map(|(timer, _)| timer));
        Ok(timers.filter(|timer| {
            !timer.as_ref().is_ok_and(|timer| self.gone.timers.contains_key(timer))
        }))
    }

    /// The time of the last that is pending.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read.
    pub fn last(&self) -> Result<Option<Timestamp>, StateError> {
        let mut last = self.pending.timers.last_key_value().map(|(timer, _)| timer.clone());
        if let Some(known_to) = &self.known_to {
            let range = (Bound::Included(known_to.as_slice()), Bound::Unbounded);
            for entry in self.shard.scan(range, Order::Descending)? {
                let (timer, _) = entry?;
                if !self.gone.timers.contains_key(&timer) {
                    last = last.max(Some(timer));
                    break;
                }
            }
        }
        last.map(|last| Ok(self.id.split_time(&last)?.0)).transpose()
    }

    /// Removes the first that is pending, and gives its time and key.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] or [`StateError::Corrupt`] if the state cannot be read.
    pub fn take_first(&mut self) -> Result<Option<(Timestamp, Vec<u8>)>, StateError> {
        if self.first()?.is_none() {
            return Ok(None);
        }
        let Some((timer, _)) = self.pending.timers.first_key_value() else { return Ok(None) };
        let timer = timer.clone();
        let (time, key) = self.id.split_time(&timer)?;
        let first = (time, key.to_vec());
        self.remove(timer);
        Ok(Some(first))
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

    fn encode(&self, key: &[u8], time: Timestamp) -> Result<TimerKey, StoreError> {
        let timer = [&time.max(0).to_be_bytes(), key].concat();
        let (bytes, bytes_max) = (timer.len(), self.record_bytes_max);
        if bytes > bytes_max {
            let store = Arc::clone(&self.id.name);
            return Err(StoreError::TooLarge { store, bytes, bytes_max });
        }
        Ok(timer)
    }
}

impl StateStore for TimerBytes {
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

//! Timers: times at which a processor is called about a key, kept as committed state.

use super::{
    StateStore, StoreBuilder, StoreChanges, StoreError, StoreKey, TimerBytes,
    form::{KeyCheck, Keys, StoreId},
};
use headwater_core::{
    ports::state::StateError,
    record::Timestamp,
    serde::{Data, SharedSerde},
};
use std::{any::Any, sync::Arc};

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
            let check = keys.check();
            Box::new(TimerStore {
                check,
                keys,
                timers: TimerBytes::new(id, shard),
                scratch: Vec::new(),
                crowd: None,
            })
        });
        builder.keeping(&kept)
    }
}

/// A task's part of a processor's timers: a shell of the key's type around [`TimerBytes`].
pub(crate) struct TimerStore<K> {
    keys: Keys<K>,
    check: Option<KeyCheck>,
    timers: TimerBytes,
    scratch: Vec<u8>,
    crowd: Option<Crowd>,
}

/// What is known of when timers fall due.
struct Crowd {
    /// At most [`TIMERS_MAX`] fell due before this time when it was looked for; there were no more if it is none.
    from: Option<Timestamp>,
    /// How many have been scheduled since.
    scheduled: usize,
}

/// How many timers fire at a time: more that one record makes due fire one chunk after the other, with commits between.
pub(crate) const TIMERS_MAX: usize = 1_024;

impl<K: Data> TimerStore<K> {
    /// Adds a timer; the same key and time twice are one. A time below 0 is 0.
    pub(crate) fn schedule(&mut self, key: &K, time: Timestamp) -> Result<(), StoreError> {
        self.write(key)?;
        self.crowd.iter_mut().for_each(|crowd| crowd.scheduled += 1);
        self.timers.schedule(&self.scratch, time)
    }

    /// Removes a timer, if it is pending.
    pub(crate) fn cancel(&mut self, key: &K, time: Timestamp) -> Result<(), StoreError> {
        self.write(key)?;
        self.timers.cancel(&self.scratch, time)
    }

    /// The time of the first pending timer.
    pub(crate) fn first(&mut self) -> Result<Option<Timestamp>, StateError> {
        self.timers.first()
    }

    /// Whether more timers have fallen due by `time` than fire at a time.
    pub(crate) fn are_many_due(&mut self, time: Timestamp) -> Result<bool, StateError> {
        self.timers.are_more_due(TIMERS_MAX, time)
    }

    /// Removes the first pending timer, to fire it.
    pub(crate) fn take_first(&mut self) -> Result<Option<(K, Timestamp)>, StateError> {
        let first = self.timers.take_first()?;
        first.map(|(time, key)| Ok((self.keys.read(&key)?, time))).transpose()
    }

    fn write(&mut self, key: &K) -> Result<(), StoreError> {
        self.keys.write(key, &mut self.scratch)?;
        let checked = self.check.as_ref().map_or(Ok(()), |check| check(&self.scratch));
        checked.map_err(|refused| self.keys.refused(refused))
    }
}

impl<K: Data> StateStore for TimerStore<K> {
    fn keep_within(&mut self, record_bytes_max: usize) {
        self.timers.keep_within(record_bytes_max);
    }

    fn commit(&mut self, epoch: u64) -> Result<StoreChanges, StateError> {
        self.timers.commit(epoch)
    }

    fn published(&mut self, epoch: u64, bytes_max: usize) {
        self.timers.published(epoch, bytes_max);
    }

    fn size_bytes(&self) -> usize {
        self.timers.size_bytes()
    }

    fn dirty_bytes(&self) -> usize {
        self.timers.dirty_bytes()
    }

    fn crowded_from(&mut self, time: Timestamp) -> Result<Option<Timestamp>, StateError> {
        let is_good = |crowd: &&Crowd| {
            crowd.scheduled < TIMERS_MAX && crowd.from.is_none_or(|from| from > time)
        };
        if let Some(crowd) = self.crowd.as_ref().filter(is_good) {
            return Ok(crowd.from);
        }
        let from = self.timers.nth(TIMERS_MAX)?;
        self.crowd = Some(Crowd { from, scheduled: 0 });
        Ok(from)
    }

    fn by_bytes(&mut self) -> &mut dyn Any {
        &mut self.timers
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

    #[test]
    fn what_changes_nothing_is_not_written_however_much_is_in_memory() {
        let shard = Arc::new(MapShard::default());
        let mut timers: Box<TimerBytes> = open(&TimerBytes::builder("timers"), &shard);
        for time in 0..10 {
            timers.schedule(b"a", time).unwrap();
        }
        shard.publish(&mut *timers, 1);
        // Half of them are forgotten, the last ones.
        timers.published(1, 0);
        for time in [1, 8] {
            timers.schedule(b"a", time).unwrap();
            timers.cancel(b"b", time).unwrap();
        }
        assert_eq!(timers.dirty_bytes(), 0);
        timers.cancel(b"a", 8).unwrap();
        let dirty_bytes = timers.dirty_bytes();
        shard.publish(&mut *timers, 2);
        timers.published(2, 0);
        timers.cancel(b"a", 8).unwrap();
        assert_eq!((dirty_bytes > 0, timers.dirty_bytes()), (true, 0));
        timers.schedule(b"a", 8).unwrap();
        assert_eq!((timers.last().unwrap(), timers.dirty_bytes()), (Some(9), dirty_bytes));
    }

    #[test]
    fn the_last_timer_is_found_among_those_in_memory_and_in_the_state() {
        let shard = Arc::new(MapShard::default());
        let mut timers: Box<TimerBytes> = open(&TimerBytes::builder("timers"), &shard);
        assert_eq!(timers.last().unwrap(), None);
        for time in 0..10 {
            timers.schedule(b"a", time).unwrap();
        }
        shard.publish(&mut *timers, 1);
        // Half of them are forgotten, the last ones.
        timers.published(1, 0);
        assert_eq!(timers.last().unwrap(), Some(9));
        timers.cancel(b"a", 9).unwrap();
        assert_eq!(timers.last().unwrap(), Some(8), "the state still has the one of 9");
        timers.schedule(b"b", 11).unwrap();
        assert_eq!(timers.last().unwrap(), Some(11));
        for _ in 0..10 {
            timers.take_first().unwrap();
        }
        assert_eq!(timers.last().unwrap(), None);
    }
}

//! What leaves a cache when it holds too much.
//!
//! Eviction is a clock: a hand goes around over the slots and takes what was not used since it came by,
//!
//! | slot | is | the hand |
//! |---|---|---|
//! | a | used | forgets that, and goes on |
//! | b | changed, or of a commit that is not published | goes on |
//! | c | not used | evicts it; enough is free, so it stays here until the next time |
//!
//! What it looks at is in proportion to what it evicts: between two evictions it spares a few entries in use, and in all it
//! skips as many changed ones as the last commit has taken, and a few. A changed entry can go once its commit is
//! published, so that no stretch of them stops the hand for longer than a few commits, however many they are. Empty slots
//! are never more than the others: beyond that the entries are moved together, which has been paid by as many evictions.

use super::{super::key_bytes::Hashed, Cache, Entry, Indexed, spread};
use crate::broken::broken;
use hashbrown::HashTable;

/// How many entries in use the hand spares before it evicts one all the same.
const SPARED_MAX: usize = 8;

/// How many changed entries the hand skips at a time, beside as many as the last commit has taken.
const SKIPPED_MAX: usize = 64;

impl<V> Cache<V> {
    /// Evicts entries no newer than commit `epoch` until about `bytes_max` are left, or none may go within reach. Returns
    /// how many slots it looked at.
    pub(in super::super) fn evict(&mut self, epoch: u64, bytes_max: usize) -> usize {
        let (mut looked_at, mut spared, mut skipped) = (0, 0, 0);
        while self.size_bytes() > bytes_max
            && skipped < self.committed + SKIPPED_MAX
            && looked_at < 2 * self.slots.len()
        {
            looked_at += 1;
            let slot = self.hand;
            self.hand = if slot + 1 < self.slots.len() { slot + 1 } else { 0 };
            let Some(place) = self.slots.get_mut(slot) else {
                broken("the hand of eviction points at a slot")
            };
            let Some(entry) = place else { continue };
            if entry.dirty || entry.epoch > epoch {
                skipped += 1;
            } else if std::mem::take(&mut entry.used) && spared < SPARED_MAX {
                spared += 1;
            } else if let Some(entry) = place.take() {
                self.removed(slot, &entry);
                spared = 0;
            }
        }
        if self.free.len() > self.slots.len() / 2 {
            self.compact();
        }
        looked_at
    }

    /// An entry has left its slot.
    fn removed(&mut self, slot: usize, entry: &Entry<V>) {
        // Of what has no value, the state knows no more.
        self.complete &= entry.value.is_none();
        self.heap_bytes -= entry.heap_bytes();
        if let Some(order) = &mut self.order {
            self.heap_bytes -= entry.key.heap_bytes();
            order.remove(&*entry.key);
        }
        let hash = spread(Hashed::hash_of(&entry.key));
        match self.index.find_entry(hash, |other| other.slot as usize == slot) {
            Ok(found) => self.free.push(found.remove().0.slot),
            Err(_) => broken("every entry of a cache is in its index"),
        }
    }

    /// Moves the entries together, so that the memory of those that were evicted is free for others.
    fn compact(&mut self) {
        let mut slots = Vec::with_capacity(self.index.len());
        let mut places = 0_u32..;
        let mut place = |entry| {
            slots.push(Some(entry));
            places.next()
        };
        let moved: Vec<Option<u32>> = std::mem::take(&mut self.slots)
            .into_iter()
            .map(|entry| entry.and_then(&mut place))
            .collect();
        let place = |slot: u32| moved.get(slot as usize).copied().flatten();
        let kept = |slot: &mut u32| match place(*slot) {
            Some(place) => *slot = place,
            None => broken("what is indexed or changed is not evicted"),
        };
        let mut index = HashTable::with_capacity(slots.len());
        for mut indexed in std::mem::take(&mut self.index) {
            kept(&mut indexed.slot);
            index
                .insert_unique(spread(indexed.hash), indexed, |other: &Indexed| spread(other.hash));
        }
        self.order.iter_mut().flat_map(|order| order.values_mut()).for_each(kept);
        self.dirty.iter_mut().for_each(kept);
        self.updates.move_slots(place);
        (self.slots, self.index) = (slots, index);
        (self.free, self.hand) = (Vec::new(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            EntryRef, Olds, ValueAndTimestamp,
            tests::{commit, set},
        },
        *,
    };
    use headwater_core::record::Headers;
    use std::ops::Bound;

    #[test]
    fn changed_and_unpublished_entries_are_never_evicted() {
        let mut cache = Cache::complete();
        for key in [b"a", b"b", b"c"] {
            set(&mut cache, key, 1, 4);
        }
        commit(&mut cache, 5);
        set(&mut cache, b"b", 2, 4);
        cache.evict(4, 0);
        assert!(cache.is_complete(), "nothing of commit 5 may go before it is published");
        cache.evict(5, 0);
        let left = EntryRef { key: b"b", value: Some(&2), timestamp: 0 };
        assert_eq!(cache.live_in_order(), [left]);
        assert!(!cache.is_complete());
        assert_eq!(cache.dirty.len(), 1);
    }

    #[test]
    fn a_complete_cache_stays_so_when_what_has_no_value_goes() {
        let mut cache = Cache::<i32>::complete();
        cache.find_or_insert(b"absent", Hashed::hash_of(b"absent"));
        cache.evict(0, 0);
        assert_eq!((cache.find(Hashed::new(b"absent")), cache.is_complete()), (None, true));
    }

    #[test]
    fn eviction_looks_at_little_more_than_it_evicts() {
        let mut cache = Cache::complete();
        for key in 0..100_000_u32 {
            cache.load(Hashed::new(&key.to_be_bytes()), key, 0, 4);
        }
        for evicted in [1, 10, 1_000] {
            let bytes_max = cache.size_bytes() - evicted * Cache::<u32>::SLOT_BYTES;
            let looked_at = cache.evict(0, bytes_max);
            assert!(looked_at <= evicted * (SPARED_MAX + 1), "{looked_at} for {evicted}");
            assert!(cache.size_bytes() <= bytes_max);
        }
        assert_eq!(cache.evict(0, usize::MAX), 0);
    }

    #[test]
    fn what_is_evicted_is_free_for_others() {
        let mut cache = Cache::complete();
        for key in 0..1_000_u32 {
            cache.load(Hashed::new(&key.to_be_bytes()), key, 0, 4);
        }
        let full = cache.size_bytes();
        cache.evict(0, full / 4);
        assert!(cache.size_bytes() <= full / 4, "{} of {full}", cache.size_bytes());
        let kept: Vec<u32> = (0..1_000)
            .filter(|key: &u32| cache.find(Hashed::new(&key.to_be_bytes())).is_some())
            .collect();
        assert!(kept.len() > 200);
        for key in kept {
            let slot = cache.find(Hashed::new(&key.to_be_bytes())).unwrap();
            assert_eq!(cache.touch(slot).value, Some(key));
        }
        cache.load(Hashed::new(&5_000_u32.to_be_bytes()), 5_000, 0, 4);
        assert!(cache.find(Hashed::new(&5_000_u32.to_be_bytes())).is_some());
    }

    #[test]
    fn what_is_used_outlives_what_is_not() {
        let mut cache = Cache::complete();
        for key in 0..1_000_u32 {
            cache.load(Hashed::new(&key.to_be_bytes()), key, 0, 4);
        }
        // As after a round of the hand.
        cache.slots.iter_mut().flatten().for_each(|entry| entry.used = false);
        for key in (0..1_000_u32).step_by(4) {
            let slot = cache.find(Hashed::new(&key.to_be_bytes())).unwrap();
            cache.touch(slot);
        }
        cache.evict(0, cache.size_bytes() / 2);
        let used = (0..1_000_u32)
            .step_by(4)
            .filter(|key| cache.find(Hashed::new(&key.to_be_bytes())).is_some());
        assert_eq!(used.count(), 250);
    }

    fn found<V>(cache: &Cache<V>, key: u32) -> Option<u32> {
        cache.find(Hashed::new(&key.to_be_bytes()))
    }

    #[test]
    fn what_is_evicted_while_others_are_changed_is_counted_out_and_given_back() {
        let mut cache = Cache::complete();
        cache.keep_order();
        cache.keep(Olds::Kept);
        for key in 0..1_000_u32 {
            cache.load(Hashed::new(&key.to_be_bytes()), key, 0, 4);
        }
        for key in (7..1_000_u32).step_by(100) {
            let slot = found(&cache, key).unwrap();
            cache.touch(slot).value = Some(key + 1);
            let old = ValueAndTimestamp { value: key, timestamp: 0 };
            cache.changed(slot, 4, Some(old));
        }
        let slot = found(&cache, 107).unwrap();
        let mut headers = Headers::new();
        headers.add("trace", Some(vec![1]));
        cache.keep_headers(slot, Some(Box::new(headers.clone())));
        let full = cache.size_bytes();
        cache.evict(0, full * 3 / 4);
        assert!(cache.size_bytes() <= full * 3 / 4, "what is reported falls at once");
        cache.evict(0, full / 10);
        assert!(cache.size_bytes() <= full / 10);
        assert!(cache.slots.capacity() < 250, "{} slots are kept", cache.slots.capacity());

        let updates: Vec<_> = cache
            .take_updates(100)
            .map(|updated| {
                (*updated.entry.value.unwrap(), updated.old.map(|old| old.value), updated.headers)
            })
            .collect();
        let told = (7..1_000_u32).step_by(100).map(|key| {
            let headers = (key == 107).then(|| Box::new(headers.clone()));
            (key + 1, Some(key), headers)
        });
        assert_eq!(updates, told.collect::<Vec<_>>());
        let mut committed = Vec::new();
        let each = |entry: &Entry<u32>| {
            committed.extend(entry.value);
            Ok::<_, ()>(())
        };
        cache.commit(1, each).unwrap();
        assert_eq!(committed, (8..1_000_u32).step_by(100).collect::<Vec<_>>());
        for key in 0..1_000_u32 {
            let slot = found(&cache, key);
            let value = slot.and_then(|slot| cache.entry(slot).value);
            assert!(value.is_none_or(|value| value == key + u32::from(key % 100 == 7)));
        }
        let scanned = cache.scan((Bound::Unbounded, Bound::Unbounded)).map(|entry| entry.value);
        let live = cache.live_in_order();
        assert!(scanned.eq(live.iter().map(|entry| entry.value)) && live.len() >= 10);
    }

    #[test]
    fn eviction_passes_by_few_changed_entries() {
        let mut cache = Cache::complete();
        for key in 0..100_000_u32 {
            set(&mut cache, &key.to_be_bytes(), key, 4);
        }
        for key in 100_000..100_100_u32 {
            cache.load(Hashed::new(&key.to_be_bytes()), key, 0, 4);
        }
        for _ in 0..10 {
            assert!(cache.evict(0, 0) <= SKIPPED_MAX, "nothing may go within reach");
        }
        commit(&mut cache, 1);
        cache.evict(1, 0);
        assert_eq!(cache.size_bytes(), 0, "all may go");
    }

    #[test]
    fn entries_that_are_always_changed_do_not_shelter_the_others() {
        const HOT: u32 = 10_000;
        let mut cache = Cache::complete();
        let heat = |cache: &mut Cache<u32>| {
            (0..HOT).for_each(|key| set(cache, &key.to_be_bytes(), key, 4));
        };
        heat(&mut cache);
        let (size, slot_bytes) = (cache.size_bytes(), Cache::<u32>::SLOT_BYTES);
        for epoch in 1..50_u32 {
            for key in 0..1_000 {
                let key = (HOT + epoch * 1_000 + key).to_be_bytes();
                cache.load(Hashed::new(&key), 0, 0, 4);
            }
            commit(&mut cache, epoch.into());
            heat(&mut cache);
            cache.evict(epoch.into(), size + 500 * slot_bytes);
            let cold = (cache.size_bytes() - size) / slot_bytes;
            assert!(cold <= 1_500, "{cold} are left in commit {epoch}");
        }
    }
}

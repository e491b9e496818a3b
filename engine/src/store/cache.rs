//! The write-behind cache under every typed store: entries by their key's bytes, and which of them changed.

use super::{EntryRef, KeyBatch, key_bytes::KeyBytes};
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use headwater_core::record::Timestamp;
use std::hash::BuildHasher;

/// One key's newest value, or that it has none.
#[derive(Debug)]
pub(super) struct Entry<V> {
    pub(super) key: KeyBytes,
    pub(super) value: Option<V>,
    pub(super) timestamp: Timestamp,
    /// The commit that its last change belongs to, 0 for none since it was loaded.
    epoch: u64,
    dirty: bool,
    /// Asked for since the last eviction.
    used: bool,
}

impl<V> Entry<V> {
    pub(super) fn as_ref(&self) -> EntryRef<'_, V> {
        EntryRef { key: &self.key, value: self.value.as_ref(), timestamp: self.timestamp }
    }
}

/// Where a key's entry is. The hash is kept so that growing the index and passing by another key touch no entry.
#[derive(Debug, Clone, Copy)]
struct Indexed {
    hash: u32,
    slot: u32,
}

/// Entries by key bytes; slots stay where they are until evicted.
#[derive(Debug)]
pub(super) struct Cache<V> {
    slots: Vec<Option<Entry<V>>>,
    free: Vec<u32>,
    index: HashTable<Indexed>,
    dirty: Vec<u32>,
    /// What keys own on the heap.
    key_bytes: usize,
    /// Whether every entry that exists is here.
    complete: bool,
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half of a hash is a hash")]
fn hash(key: &[u8]) -> u32 {
    // In-memory only: never on disk, so the seed need not last.
    FixedState::with_seed(0x6865_6164).hash_one(key) as u32
}

/// The hash as a table wants it, which takes its place from the lowest bits and its tag from the highest.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// The slots of many keys in the caches that `cache` gives for their rows, as far as they are cached. Each step is done
/// for all keys before the next, so that the waits for memory overlap: entries lie all over it.
pub(super) fn find_all<'c, V: 'c>(
    cache: impl Fn(usize) -> Option<&'c Cache<V>>,
    keys: &KeyBatch,
) -> Vec<Option<u32>> {
    let hashes: Vec<u32> = keys.iter().map(|key| key.map_or(0, hash)).collect();
    let likely = |(row, hash): (usize, &u32)| {
        let found = cache(row)?.index.find(spread(*hash), |found| found.hash == *hash);
        found.map(|found| found.slot)
    };
    let mut slots: Vec<Option<u32>> = hashes.iter().enumerate().map(likely).collect();
    for (row, ((slot, key), hash)) in slots.iter_mut().zip(keys.iter()).zip(hashes).enumerate() {
        let (Some(found), Some(cache)) = (*slot, cache(row)) else { continue };
        let is_it = |key: &[u8]| cache.slot(found).is_some_and(|entry| *entry.key == *key);
        if !key.is_some_and(is_it) {
            *slot = key.and_then(|key| cache.find_hashed(key, hash));
        }
    }
    slots
}

impl<V> Cache<V> {
    pub(super) fn new(complete: bool) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            dirty: Vec::new(),
            key_bytes: 0,
            complete,
        }
    }

    /// Forgets every entry and starts as [`new`](Self::new) does, but keeps the memory.
    pub(super) fn restart(&mut self, complete: bool) {
        self.slots.clear();
        self.free.clear();
        self.index.clear();
        self.dirty.clear();
        self.key_bytes = 0;
        self.complete = complete;
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(super) fn mark_complete(&mut self) {
        self.complete = true;
    }

    /// The slot of `key`, if it is cached.
    pub(super) fn find(&self, key: &[u8]) -> Option<u32> {
        self.find_hashed(key, hash(key))
    }

    fn find_hashed(&self, key: &[u8], hash: u32) -> Option<u32> {
        let is_it = |found: &Indexed| {
            found.hash == hash && self.slot(found.slot).is_some_and(|entry| *entry.key == *key)
        };
        self.index.find(spread(hash), is_it).map(|found| found.slot)
    }

    /// Adds a key that is not there, as it was loaded.
    pub(super) fn insert(&mut self, key: &[u8], value: Option<V>, timestamp: Timestamp) -> u32 {
        let entry = Entry { key: key.into(), value, timestamp, epoch: 0, dirty: false, used: true };
        self.key_bytes += entry.key.heap_bytes();
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                u32::try_from(self.slots.len() - 1)
                    .expect("a task caches fewer than 2^32 entries: its memory is bounded")
            }
        };
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = Some(entry);
        }
        let hash = hash(key);
        self.index.insert_unique(spread(hash), Indexed { hash, slot }, |other| spread(other.hash));
        slot
    }

    pub(super) fn slot(&self, slot: u32) -> Option<&Entry<V>> {
        self.slots.get(slot as usize).and_then(Option::as_ref)
    }

    /// The entry in `slot`, to read, or to change before [`change`](Self::change) is called.
    pub(super) fn touch(&mut self, slot: u32) -> &mut Entry<V> {
        let entry = self.occupied(slot);
        entry.used = true;
        entry
    }

    /// The entry in `slot`, to change: it is part of the next commit.
    pub(super) fn change(&mut self, slot: u32) -> &mut Entry<V> {
        if !self.occupied(slot).dirty {
            self.dirty.push(slot);
        }
        let entry = self.occupied(slot);
        (entry.dirty, entry.used) = (true, true);
        entry
    }

    fn occupied(&mut self, slot: u32) -> &mut Entry<V> {
        let entry = self.slots.get_mut(slot as usize).and_then(Option::as_mut);
        entry.expect("a slot is asked for right after it was found, and nothing is evicted between")
    }

    /// The changed entries, in the order of their first change.
    pub(super) fn dirty(&self) -> impl Iterator<Item = &Entry<V>> {
        self.dirty.iter().filter_map(|slot| self.slot(*slot))
    }

    pub(super) fn dirty_len(&self) -> usize {
        self.dirty.len()
    }

    /// Makes the changed entries part of commit `epoch`, calling `each` on them.
    pub(super) fn commit<E>(
        &mut self,
        epoch: u64,
        mut each: impl FnMut(&Entry<V>) -> Result<(), E>,
    ) -> Result<(), E> {
        for slot in self.dirty.drain(..) {
            if let Some(entry) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) {
                entry.dirty = false;
                entry.epoch = epoch;
                each(entry)?;
            }
        }
        Ok(())
    }

    /// All entries that have a value, by their keys' bytes.
    pub(super) fn live_in_order(&self) -> Vec<EntryRef<'_, V>> {
        let live = self.slots.iter().flatten().filter(|entry| entry.value.is_some());
        let mut live: Vec<_> = live.map(Entry::as_ref).collect();
        live.sort_unstable_by_key(|entry| entry.key);
        live
    }

    /// Memory taken, in bytes; what values own on the heap is not counted.
    pub(super) fn size_bytes(&self) -> usize {
        self.slots.len() * (size_of::<Option<Entry<V>>>() + size_of::<Indexed>()) + self.key_bytes
    }

    /// Evicts entries no newer than commit `epoch` until about `bytes_max` are left: first those not asked for since
    /// the last time, then any.
    pub(super) fn evict(&mut self, epoch: u64, bytes_max: usize) {
        for unused_only in [true, false] {
            let each = size_of::<Option<Entry<V>>>() + size_of::<Indexed>();
            let mut excess = (self.live_bytes()).saturating_sub(bytes_max);
            if excess == 0 {
                break;
            }
            for slot in 0..self.slots.len() {
                let Some(entry) = self.slots.get_mut(slot).and_then(Option::as_mut) else {
                    continue;
                };
                let kept = entry.dirty || entry.epoch > epoch || (unused_only && entry.used);
                entry.used = false;
                if kept || excess == 0 {
                    continue;
                }
                excess = excess.saturating_sub(each + entry.key.heap_bytes());
                self.remove(slot);
            }
        }
        self.shrink();
    }

    fn live_bytes(&self) -> usize {
        let live = self.slots.len() - self.free.len();
        live * (size_of::<Option<Entry<V>>>() + size_of::<Indexed>()) + self.key_bytes
    }

    fn remove(&mut self, slot: usize) {
        let Some(entry) = self.slots.get_mut(slot).and_then(Option::take) else { return };
        self.complete = false;
        self.key_bytes -= entry.key.heap_bytes();
        if let Ok(found) =
            self.index.find_entry(spread(hash(&entry.key)), |other| other.slot as usize == slot)
        {
            let (removed, _) = found.remove();
            self.free.push(removed.slot);
        }
    }

    /// Gives the memory back once everything has been evicted.
    fn shrink(&mut self) {
        if self.index.is_empty() && self.dirty.is_empty() {
            *self = Self { complete: self.complete, ..Self::new(false) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_and_unpublished_entries_are_never_evicted() {
        let mut cache = Cache::new(true);
        for key in [b"a", b"b", b"c"] {
            let slot = cache.insert(key, None, 0);
            cache.change(slot).value = Some(1);
        }
        cache.commit(5, |_| Ok::<_, ()>(())).unwrap();
        let b = cache.find(b"b").unwrap();
        cache.change(b).value = Some(2);
        cache.evict(4, 0);
        assert!(cache.is_complete(), "nothing of commit 5 may go before it is published");
        cache.evict(5, 0);
        let left = EntryRef { key: b"b", value: Some(&2), timestamp: 0 };
        assert_eq!(cache.live_in_order(), [left]);
        assert!(!cache.is_complete());
        assert_eq!(cache.dirty().count(), 1);
    }

    #[test]
    fn many_keys_are_found_as_one_by_one() {
        let mut cache = Cache::new(false);
        for key in 0..5_000_u32 {
            cache.insert(&key.to_be_bytes(), Some(key), 0);
        }
        let mut keys = KeyBatch::default();
        for key in (4_000..6_000_u32).chain(0..100) {
            keys.push(|out| {
                out.extend_from_slice(&key.to_be_bytes());
                Ok(true)
            });
        }
        keys.push(|_| Ok(false));
        let one_by_one: Vec<_> = keys.iter().map(|key| cache.find(key?)).collect();
        assert_eq!(find_all(|_| Some(&cache), &keys), one_by_one);
        assert_eq!(one_by_one.iter().flatten().count(), 1_100);
    }

    #[test]
    fn a_restarted_cache_holds_nothing() {
        let mut cache = Cache::new(false);
        let slot = cache.insert(b"a key that does not fit in place", Some(1), 0);
        cache.change(slot);
        cache.restart(true);
        assert!(cache.is_complete());
        assert_eq!(
            (
                cache.find(b"a key that does not fit in place"),
                cache.dirty_len(),
                cache.size_bytes()
            ),
            (None, 0, 0)
        );
    }

    #[test]
    fn a_slot_is_used_again_and_found_by_its_new_key_only() {
        let mut cache = Cache::new(false);
        cache.insert(b"a", Some(1), 0);
        cache.insert(b"b", Some(2), 0);
        cache.evict(0, 0);
        let slot = cache.insert(b"c", Some(3), 0);
        assert_eq!(cache.find(b"c"), Some(slot));
        assert_eq!((cache.find(b"a"), cache.find(b"b")), (None, None));
    }
}

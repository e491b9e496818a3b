//! The write-behind cache under every typed store: entries by their key's bytes, and which of them changed.
//!
//! It counts the bytes its entries take: slots, long keys, and what values own on the heap, for which the length of their
//! written form stands in. What goes when that is too much, [`eviction`] tells.

mod eviction;

use super::{
    EntryRef, KeyBatch, Updated, ValueAndTimestamp,
    key_bytes::{Hashed, KeyBytes},
    updates::{Olds, Taken, Updates},
};
use crate::broken::broken;
use hashbrown::{HashTable, hash_table::Entry as TableEntry};
use headwater_core::{
    ports::state::KeyRange,
    record::{Headers, Timestamp},
};
use std::{collections::BTreeMap, mem::needs_drop, ops::Bound};

/// One key's newest value, or that it has none.
#[derive(Debug)]
pub(super) struct Entry<V> {
    pub(super) key: KeyBytes,
    pub(super) value: Option<V>,
    pub(super) timestamp: Timestamp,
    /// The commit that its last change belongs to, 0 for none since it was loaded.
    epoch: u64,
    /// The length of the value's written form.
    length: u32,
    dirty: bool,
    /// Changed since the last flush: it is in the list of updates.
    updated: bool,
    /// Asked for since the hand came by.
    used: bool,
}

/// What a changelog record takes besides its key and value.
const RECORD_BYTES: usize = 40;

impl<V> Entry<V> {
    /// What a slot holds before it gets a key.
    const EMPTY: Self = Self {
        key: KeyBytes::EMPTY,
        value: None,
        timestamp: 0,
        epoch: 0,
        length: 0,
        dirty: false,
        updated: false,
        used: true,
    };

    pub(super) fn as_ref(&self) -> EntryRef<'_, V> {
        EntryRef { key: &self.key, value: self.value.as_ref(), timestamp: self.timestamp }
    }

    /// What it owns on the heap.
    fn heap_bytes(&self) -> usize {
        self.key.heap_bytes() + if needs_drop::<V>() { self.length as usize } else { 0 }
    }

    /// What it takes in the changelog.
    fn record_bytes(&self) -> usize {
        RECORD_BYTES + self.key.len() + self.length as usize
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
    /// Slots in the order of their keys, from the first scan on.
    order: Option<BTreeMap<KeyBytes, u32>>,
    dirty: Vec<u32>,
    updates: Updates<V>,
    /// What keys and values own on the heap.
    heap_bytes: usize,
    /// What the changed entries take in the changelog.
    dirty_bytes: usize,
    /// How many entries the last commit took.
    committed: usize,
    /// The slot that eviction looks at next.
    hand: usize,
    /// Whether every entry that exists is here.
    complete: bool,
}

const IS_OCCUPIED: &str = "a slot that is found or changed is not evicted meanwhile";

fn entry_in<V>(slots: &mut [Option<Entry<V>>], slot: u32) -> &mut Entry<V> {
    let entry = slots.get_mut(slot as usize).and_then(Option::as_mut);
    entry.unwrap_or_else(|| broken(IS_OCCUPIED))
}

/// Whether no key can lie in `range`, of which an ordered map makes a panic.
pub(super) fn is_inverted((from, to): KeyRange<'_>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (
            Bound::Included(from) | Bound::Excluded(from),
            Bound::Included(to) | Bound::Excluded(to),
        ) => from >= to,
    }
}

/// The hash as a table wants it, which takes its place from the lowest bits and its tag from the highest.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// Where the keys of many rows are.
pub(super) struct Found {
    pub(super) hashes: Vec<u32>,
    pub(super) slots: Vec<Option<u32>>,
}

/// Finds many keys in the caches that `cache` gives for their rows, as far as they are cached. Each step is done for all
/// keys before the next, so that the waits for memory overlap: entries lie all over it.
pub(super) fn find_all<'c, V: 'c>(
    cache: impl Fn(usize) -> Option<&'c Cache<V>>,
    keys: &KeyBatch,
) -> Found {
    let hashes: Vec<u32> = keys.iter().map(|key| key.map_or(0, Hashed::hash_of)).collect();
    let likely = |(row, hash): (usize, &u32)| {
        let found = cache(row)?.index.find(spread(*hash), |found| found.hash == *hash);
        found.map(|found| found.slot)
    };
    let mut slots: Vec<Option<u32>> = hashes.iter().enumerate().map(likely).collect();
    let length = |(row, slot): (usize, &Option<u32>)| Some(cache(row)?.entry((*slot)?).key.len());
    let lengths: Vec<Option<usize>> = slots.iter().enumerate().map(length).collect();
    let rows = slots.iter_mut().zip(lengths).zip(keys.iter()).zip(&hashes).enumerate();
    for (row, (((slot, length), bytes), hash)) in rows {
        let (Some(found), Some(cache)) = (*slot, cache(row)) else { continue };
        *slot = bytes.and_then(|bytes| {
            let is_it = length == Some(bytes.len()) && *cache.entry(found).key == *bytes;
            if is_it { Some(found) } else { cache.find(Hashed { bytes, hash: *hash }) }
        });
    }
    Found { hashes, slots }
}

impl<V> Cache<V> {
    /// Of a part of the state whose entries are not known yet.
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            order: None,
            dirty: Vec::new(),
            updates: Updates::new(Olds::Dropped),
            heap_bytes: 0,
            dirty_bytes: 0,
            committed: 0,
            hand: 0,
            complete: false,
        }
    }

    /// Of a part of the state that is empty.
    pub(super) fn complete() -> Self {
        Self { complete: true, ..Self::new() }
    }

    /// Forgets every entry and starts as [`new`](Self::new) does, but keeps the memory.
    pub(super) fn restart(&mut self) {
        self.slots.clear();
        self.free.clear();
        self.index.clear();
        self.order = None;
        self.dirty.clear();
        self.updates = Updates::new(self.updates.keeps());
        (self.heap_bytes, self.dirty_bytes, self.committed, self.hand) = (0, 0, 0, 0);
        self.complete = false;
    }

    /// Keeps from now on what changed entries held at the last flush.
    pub(super) fn keep(&mut self, olds: Olds) {
        self.updates.keep(olds);
    }

    pub(super) fn keeps_olds(&self) -> bool {
        self.updates.keeps() >= Olds::Kept
    }

    /// What the entry in `slot` held at the last flush, where that is looked up.
    pub(super) fn flushed(&mut self, slot: u32) -> Option<ValueAndTimestamp<V>>
    where
        V: Clone,
    {
        let keeps = self.updates.keeps();
        let entry = self.touch(slot);
        if !entry.updated || keeps != Olds::LookedUp {
            let timestamp = entry.timestamp;
            return entry.value.as_ref().map(|value| ValueAndTimestamp::of(value, timestamp));
        }
        self.updates.old(slot).cloned()
    }

    /// Whether the next change of the entry in `slot` needs to tell what it held before.
    pub(super) fn needs_old(&self, slot: u32) -> bool {
        self.keeps_olds() && !self.entry(slot).updated
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(super) fn mark_complete(&mut self) {
        self.complete = true;
    }

    /// The slot of `key`, if it is cached.
    pub(super) fn find(&self, key: Hashed<'_>) -> Option<u32> {
        let is_it =
            |found: &Indexed| found.hash == key.hash && *self.entry(found.slot).key == *key.bytes;
        self.index.find(spread(key.hash), is_it).map(|found| found.slot)
    }

    /// Adds an entry that is not there, as it was loaded; `length` is that of the value's written form.
    pub(super) fn load(
        &mut self,
        key: Hashed<'_>,
        value: V,
        timestamp: Timestamp,
        length: usize,
    ) -> u32 {
        let slot = self.find_or_insert(key.bytes, key.hash);
        let entry = self.occupied(slot);
        (entry.value, entry.timestamp) = (Some(value), timestamp);
        entry.length = u32::try_from(length).unwrap_or(u32::MAX);
        if needs_drop::<V>() {
            self.heap_bytes += entry.length as usize;
        }
        slot
    }

    /// The slot of `key`; one without a value if it is not there. Its entry is made in its slot: moved there, it would be
    /// read in wider pieces than its key was written in, for which a processor waits. So would a [`Hashed`] key be that is
    /// handed on.
    pub(super) fn find_or_insert(&mut self, bytes: &[u8], hash: u32) -> u32 {
        let Self { slots, free, index, .. } = self;
        let is_it = |found: &Indexed| {
            let entry = slots.get(found.slot as usize).and_then(Option::as_ref);
            found.hash == hash && entry.is_some_and(|entry| *entry.key == *bytes)
        };
        let slot = match index.entry(spread(hash), is_it, |other| spread(other.hash)) {
            TableEntry::Occupied(found) => return found.get().slot,
            TableEntry::Vacant(place) => {
                let slot = free.pop().unwrap_or_else(|| {
                    slots.push(None);
                    u32::try_from(slots.len() - 1).unwrap_or_else(|_| {
                        broken("a cache's memory is bounded: it has fewer than 2^32 entries")
                    })
                });
                place.insert(Indexed { hash, slot });
                slot
            }
        };
        let place = self.slots.get_mut(slot as usize);
        let place = place.unwrap_or_else(|| broken("a free slot is one of the slots"));
        let entry = place.insert(Entry::EMPTY);
        entry.key.set(bytes);
        self.heap_bytes += entry.key.heap_bytes();
        if let Some(order) = &mut self.order {
            self.heap_bytes += entry.key.heap_bytes();
            order.insert(entry.key.clone(), slot);
        }
        slot
    }

    pub(super) fn entry(&self, slot: u32) -> &Entry<V> {
        let entry = self.slots.get(slot as usize).and_then(Option::as_ref);
        entry.unwrap_or_else(|| broken(IS_OCCUPIED))
    }

    /// The entry in `slot`, to read, or to change before [`changed`](Self::changed) is told.
    pub(super) fn touch(&mut self, slot: u32) -> &mut Entry<V> {
        let entry = self.occupied(slot);
        entry.used = true;
        entry
    }

    /// Makes the entry in `slot`, which has changed, part of the next commit; `length` is that of its value's written form,
    /// and `old` what it held before, if it [needs](Self::needs_old) that.
    pub(super) fn changed(&mut self, slot: u32, length: usize, old: Option<ValueAndTimestamp<V>>) {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let entry = self.occupied(slot);
        let was_dirty = std::mem::replace(&mut entry.dirty, true);
        let was_updated = std::mem::replace(&mut entry.updated, true);
        let before = std::mem::replace(&mut entry.length, length);
        let record_bytes = entry.record_bytes();
        if !was_updated {
            self.updates.add(slot, old, before);
        }
        if was_dirty {
            self.dirty_bytes = self.dirty_bytes + length as usize - before as usize;
        } else {
            self.dirty_bytes += record_bytes;
            self.dirty.push(slot);
        }
        if needs_drop::<V>() {
            self.heap_bytes = self.heap_bytes + length as usize - before as usize;
        }
    }

    fn occupied(&mut self, slot: u32) -> &mut Entry<V> {
        entry_in(&mut self.slots, slot)
    }

    /// Keeps the headers of the record that changed the entry in `slot` last until the next flush.
    pub(super) fn keep_headers(&mut self, slot: u32, headers: Option<Box<Headers>>) {
        self.updates.keep_headers(slot, headers);
    }

    /// The next entries that changed and were not taken since, in the order of their first change, at most `entries_max`.
    pub(super) fn take_updates(
        &mut self,
        entries_max: usize,
    ) -> impl Iterator<Item = Updated<'_, V>> {
        let Self { slots, updates, .. } = self;
        let taken = updates.len().min(entries_max);
        for slot in updates.first(taken) {
            entry_in(slots, slot).updated = false;
        }
        let slots = &*slots;
        let updates = std::iter::from_fn(|| updates.take()).take(taken);
        updates.map(|Taken { slot, old, headers }| {
            let entry = slots.get(slot as usize).and_then(Option::as_ref);
            let entry = entry.unwrap_or_else(|| broken(IS_OCCUPIED));
            Updated { entry: entry.as_ref(), old, headers }
        })
    }

    /// How many entries changed and were not taken since.
    pub(super) fn updates_len(&self) -> usize {
        self.updates.len()
    }

    /// About how many bytes the changed entries take: in the changelog, and of what is held back of them.
    pub(super) fn dirty_bytes(&self) -> usize {
        self.dirty_bytes + self.updates.heap_bytes()
    }

    /// How many entries changed since the last commit.
    pub(super) fn dirty_len(&self) -> usize {
        self.dirty.len()
    }

    /// About how many bytes their keys and values take in the changelog.
    pub(super) fn changelog_bytes(&self) -> usize {
        self.dirty_bytes - self.dirty.len() * RECORD_BYTES
    }

    /// Makes the changed entries part of commit `epoch`, calling `each` on them.
    pub(super) fn commit<E>(
        &mut self,
        epoch: u64,
        mut each: impl FnMut(&Entry<V>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.dirty_bytes = 0;
        self.committed = self.dirty.len();
        self.updates = Updates::new(self.updates.keeps());
        for slot in self.dirty.drain(..) {
            let entry = entry_in(&mut self.slots, slot);
            (entry.dirty, entry.updated) = (false, false);
            entry.epoch = epoch;
            each(entry)?;
        }
        Ok(())
    }

    /// Keeps the keys in order from now on, so that they can be [scanned](Self::scan).
    pub(super) fn keep_order(&mut self) {
        if self.order.is_none() {
            let keys = self.slots.iter().zip(0_u32..);
            let keys = keys.filter_map(|(entry, slot)| Some((entry.as_ref()?.key.clone(), slot)));
            let order: BTreeMap<KeyBytes, u32> = keys.collect();
            self.heap_bytes += order.keys().map(KeyBytes::heap_bytes).sum::<usize>();
            self.order = Some(order);
        }
    }

    /// The entries within `range`, ascending, those without a value among them; none before
    /// [`keep_order`](Self::keep_order).
    pub(super) fn scan(
        &self,
        range: KeyRange<'_>,
    ) -> impl DoubleEndedIterator<Item = EntryRef<'_, V>> + use<'_, V> {
        let order = self.order.as_ref().filter(|_| !is_inverted(range));
        let slots = order.map(|order| order.range::<[u8], _>(range)).into_iter().flatten();
        slots.map(|(_, slot)| self.entry(*slot).as_ref())
    }

    /// All entries that have a value, by their keys' bytes.
    pub(super) fn live_in_order(&self) -> Vec<EntryRef<'_, V>> {
        let live = self.slots.iter().flatten().filter(|entry| entry.value.is_some());
        let mut live: Vec<_> = live.map(Entry::as_ref).collect();
        live.sort_unstable_by_key(|entry| entry.key);
        live
    }

    /// The bytes that its entries take. Slots of evicted ones are not among them: they are filled first, and where they
    /// are most, given back.
    pub(super) fn size_bytes(&self) -> usize {
        self.index.len() * Self::SLOT_BYTES + self.owned_bytes()
    }

    /// Memory that it keeps for entries to come, while it has none.
    pub(super) fn spare_bytes(&self) -> usize {
        self.slots.capacity() * Self::SLOT_BYTES
    }

    /// What it takes besides its slots.
    fn owned_bytes(&self) -> usize {
        self.heap_bytes + self.order_bytes() + self.updates.heap_bytes()
    }

    /// What the order of the keys takes, its nodes two thirds full, but for long keys.
    fn order_bytes(&self) -> usize {
        let entries = self.order.as_ref().map_or(0, BTreeMap::len);
        entries * (size_of::<(KeyBytes, u32)>() * 3 / 2)
    }

    const SLOT_BYTES: usize = size_of::<Option<Entry<V>>>() + size_of::<Indexed>();
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(super) fn set<V>(cache: &mut Cache<V>, key: &[u8], value: V, length: usize) {
        let slot = cache.find_or_insert(key, Hashed::hash_of(key));
        cache.touch(slot).value = Some(value);
        cache.changed(slot, length, None);
    }

    pub(super) fn commit<V>(cache: &mut Cache<V>, epoch: u64) {
        cache.commit(epoch, |_| Ok::<_, ()>(())).unwrap();
    }

    #[test]
    fn many_keys_are_found_as_one_by_one() {
        let mut cache = Cache::new();
        for key in 0..5_000_u32 {
            cache.load(Hashed::new(&key.to_be_bytes()), key, 0, 4);
        }
        let mut keys = KeyBatch::default();
        for key in (4_000..6_000_u32).chain(0..100) {
            keys.push(|out| {
                out.extend_from_slice(&key.to_be_bytes());
                Ok(true)
            });
        }
        keys.push(|_| Ok(false));
        let one_by_one: Vec<_> = keys.iter().map(|key| cache.find(Hashed::new(key?))).collect();
        assert_eq!(find_all(|_| Some(&cache), &keys).slots, one_by_one);
        assert_eq!(one_by_one.iter().flatten().count(), 1_100);
    }

    #[test]
    fn a_restarted_cache_holds_nothing() {
        let mut cache = Cache::new();
        set(&mut cache, b"a key that does not fit in place", String::new(), 9);
        cache.restart();
        assert!(!cache.is_complete());
        assert_eq!(cache.find(Hashed::new(b"a key that does not fit in place")), None);
        assert_eq!((cache.dirty.len(), cache.dirty_bytes(), cache.size_bytes()), (0, 0, 0));
    }

    #[test]
    fn a_slot_is_used_again_and_found_by_its_new_key_only() {
        let mut cache = Cache::new();
        cache.load(Hashed::new(b"a"), 1, 0, 4);
        cache.load(Hashed::new(b"b"), 2, 0, 4);
        cache.evict(0, 0);
        let slot = cache.load(Hashed::new(b"c"), 3, 0, 4);
        assert_eq!(cache.find(Hashed::new(b"c")), Some(slot));
        assert_eq!((cache.find(Hashed::new(b"a")), cache.find(Hashed::new(b"b"))), (None, None));
    }

    #[test]
    fn what_values_own_is_counted_as_they_grow_and_shrink() {
        const KIB: usize = 1 << 10;
        let mut cache = Cache::complete();
        for key in 0..1_024_u32 {
            set(&mut cache, &key.to_be_bytes(), "text".to_owned(), 64 * KIB);
        }
        let within = |bytes: usize, mib: usize| bytes >= mib << 20 && bytes < (mib + 1) << 20;
        assert!(within(cache.size_bytes(), 64) && within(cache.dirty_bytes(), 64));
        for key in 0..512_u32 {
            set(&mut cache, &key.to_be_bytes(), "text".to_owned(), 0);
        }
        assert!(within(cache.size_bytes(), 32) && within(cache.dirty_bytes(), 32));
        commit(&mut cache, 1);
        assert!(within(cache.size_bytes(), 32) && cache.dirty_bytes() == 0);
        cache.evict(1, 16 << 20);
        assert!(cache.size_bytes() <= 17 << 20, "{} are left", cache.size_bytes());
        // Values without drop glue own nothing, whatever they are written as.
        let mut numbers = Cache::complete();
        set(&mut numbers, b"a", 1, 64 * KIB);
        assert!(numbers.size_bytes() < KIB && numbers.dirty_bytes() > 64 * KIB);
    }
}

//! What has changed in a cache since the last flush, for an operator that holds updates back until then.

use crate::broken::broken;
use hashbrown::HashMap;
use headwater_core::record::Headers;
use std::{collections::VecDeque, mem::needs_drop};

/// The entries that have changed, by their slots.
#[derive(Debug)]
pub(super) struct Updates<V> {
    /// In the order of their first change.
    slots: VecDeque<u32>,
    /// What each of these held at the last flush, if that is kept.
    olds: VecDeque<Option<V>>,
    keeps_olds: bool,
    /// The headers of the last record of those whose last record had some.
    headers: HashMap<u32, Box<Headers>>,
    heap_bytes: usize,
}

/// An entry that has changed.
pub(super) struct Taken<V> {
    pub(super) slot: u32,
    pub(super) old: Option<V>,
    pub(super) headers: Option<Box<Headers>>,
}

impl<V> Updates<V> {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn new(keeps_olds: bool) -> Self {
        let (slots, olds, headers) = (VecDeque::new(), VecDeque::new(), HashMap::new());
        Self { slots, olds, keeps_olds, headers, heap_bytes: 0 }
    }

    pub(super) fn keeps_olds(&self) -> bool {
        self.keeps_olds
    }

    pub(super) fn keep_olds(&mut self) {
        self.keeps_olds = true;
    }

    /// What all this owns on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.heap_bytes
    }

    /// Adds an entry at its first change; `length` is that of the old value's written form.
    pub(super) fn add(&mut self, slot: u32, old: Option<V>, length: u32) {
        self.slots.push_back(slot);
        self.heap_bytes += size_of::<u32>();
        if self.keeps_olds {
            let owned = if needs_drop::<V>() { length as usize } else { 0 };
            self.heap_bytes += size_of::<Option<V>>() + owned;
            self.olds.push_back(old);
        }
    }

    /// Keeps the headers of the record that changed an entry last.
    pub(super) fn keep_headers(&mut self, slot: u32, headers: Option<Box<Headers>>) {
        let bytes = headers.as_ref().map_or(0, |headers| headers.size_bytes());
        let before = match headers {
            Some(headers) => self.headers.insert(slot, headers),
            None if self.headers.is_empty() => None,
            None => self.headers.remove(&slot),
        };
        let before = before.map_or(0, |before| before.size_bytes());
        self.heap_bytes = self.heap_bytes + bytes - before;
    }

    /// Entries have moved; `place` tells where each is now, unless it was evicted.
    pub(super) fn move_slots(&mut self, place: impl Fn(u32) -> Option<u32>) {
        for slot in &mut self.slots {
            match place(*slot) {
                Some(place) => *slot = place,
                None => broken("a changed entry is not evicted"),
            }
        }
        let headers = std::mem::take(&mut self.headers).into_iter();
        self.headers = headers.filter_map(|(slot, kept)| Some((place(slot)?, kept))).collect();
    }

    /// Takes the first entries, at most `entries_max`.
    pub(super) fn take(&mut self, entries_max: usize) -> Vec<Taken<V>> {
        let Self { slots, olds, headers, .. } = self;
        let taken = slots.drain(..entries_max.min(slots.len()));
        let taken = taken.map(|slot| Taken {
            slot,
            old: olds.pop_front().flatten(),
            headers: if headers.is_empty() { None } else { headers.remove(&slot) },
        });
        let taken = taken.collect();
        if self.slots.is_empty() {
            self.heap_bytes = 0;
        }
        taken
    }
}

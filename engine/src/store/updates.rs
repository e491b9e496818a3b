//! What has changed in a cache since the last flush, for an operator that holds updates back until then.

use super::ValueAndTimestamp;
use crate::broken::broken;
use hashbrown::HashMap;
use headwater_core::record::Headers;
use std::{collections::VecDeque, mem::needs_drop};

/// Whether updates of a table carry old values: only where an operator below needs them, which is decided when the topology is
/// built.
///
/// ```
/// use headwater_engine::{kernel::Emit, store::OldValues};
///
/// // What an operator forwards that holds nothing back, and whose child looks at new values alone.
/// let emit = Emit { is_cached: false, old_values: OldValues::Omitted, closes_at_end: false };
/// assert_ne!(emit.old_values, OldValues::Sent);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldValues {
    /// They do not.
    Omitted,
    /// They do.
    Sent,
}

/// What is kept of what an entry held at the last flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Olds {
    /// Nothing.
    Dropped,
    /// The value, for the next flush.
    Kept,
    /// The value, to be looked up until then.
    LookedUp,
}

impl From<OldValues> for Olds {
    fn from(sent: OldValues) -> Self {
        match sent {
            OldValues::Omitted => Self::Dropped,
            OldValues::Sent => Self::Kept,
        }
    }
}

/// The entries that have changed, by their slots.
#[derive(Debug)]
pub(super) struct Updates<V> {
    /// In the order of their first change.
    slots: VecDeque<u32>,
    /// What each of these held at the last flush, if that is kept.
    olds: VecDeque<Option<ValueAndTimestamp<V>>>,
    keeps: Olds,
    /// Where they are, for each slot, if they are looked up: counted from the first that was ever added.
    places: HashMap<u32, usize>,
    /// How many were taken of those.
    taken: usize,
    /// The headers of the last record of those whose last record had some.
    headers: HashMap<u32, Box<Headers>>,
    heap_bytes: usize,
}

/// An entry that has changed.
pub(super) struct Taken<V> {
    pub(super) slot: u32,
    pub(super) old: Option<ValueAndTimestamp<V>>,
    pub(super) headers: Option<Box<Headers>>,
}

impl<V> Updates<V> {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn new(keeps: Olds) -> Self {
        let (slots, olds, headers) = (VecDeque::new(), VecDeque::new(), HashMap::new());
        let (places, taken, heap_bytes) = (HashMap::new(), 0, 0);
        Self { slots, olds, keeps, places, taken, headers, heap_bytes }
    }

    pub(super) fn keeps(&self) -> Olds {
        self.keeps
    }

    /// Keeps as much from now on, or more if that was asked for before.
    pub(super) fn keep(&mut self, olds: Olds) {
        self.keeps = self.keeps.max(olds);
    }

    /// What the changed entry in `slot` held at the last flush, if that is looked up.
    pub(super) fn old(&self, slot: u32) -> Option<&ValueAndTimestamp<V>> {
        let place = self.places.get(&slot)?.checked_sub(self.taken)?;
        self.olds.get(place)?.as_ref()
    }

    /// What all this owns on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.heap_bytes
    }

    /// Adds an entry at its first change; `length` is that of the old value's written form.
    pub(super) fn add(&mut self, slot: u32, old: Option<ValueAndTimestamp<V>>, length: u32) {
        self.slots.push_back(slot);
        self.heap_bytes += size_of::<u32>();
        if self.keeps >= Olds::Kept {
            let owned = if needs_drop::<V>() { length as usize } else { 0 };
            self.heap_bytes += size_of::<Option<ValueAndTimestamp<V>>>() + owned;
            self.olds.push_back(old);
        }
        if self.keeps == Olds::LookedUp {
            self.heap_bytes += size_of::<(u32, usize)>();
            self.places.insert(slot, self.taken + self.olds.len() - 1);
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
        let places = std::mem::take(&mut self.places).into_iter();
        self.places = places.filter_map(|(slot, at)| Some((place(slot)?, at))).collect();
    }

    /// The slots of the first entries, at most so many.
    pub(super) fn first(&self, entries_max: usize) -> impl Iterator<Item = u32> {
        self.slots.iter().take(entries_max).copied()
    }

    /// Takes the first entry.
    pub(super) fn take(&mut self) -> Option<Taken<V>> {
        let Self { slots, olds, headers, places, taken: gone, .. } = self;
        let slot = slots.pop_front()?;
        let old = olds.pop_front().flatten();
        if !places.is_empty() {
            places.remove(&slot);
            *gone += 1;
        }
        let headers = if headers.is_empty() { None } else { headers.remove(&slot) };
        if self.slots.is_empty() {
            self.heap_bytes = 0;
        }
        Some(Taken { slot, old, headers })
    }
}

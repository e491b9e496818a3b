//! What was published and is not in the database yet: immutable layers over each shard, one a commit.
//!
//! # Invariants
//!
//! - A layer never changes; a new list of layers replaces the old one, so a reader's list stays as it was.
//! - Layers are in commit order, and a layer holds whole commits.
//! - A layer's floor hides the keys below it in that layer and in all that is older, the database included.
//! - A layer that begins the shard anew hides all that is older, the database included.

use foldhash::fast::RandomState;
use hashbrown::{HashTable, hash_table::Entry};
use headwater_core::{
    broken::broken,
    ports::{
        log::RecordEpoch,
        state::{Order, ShardChanges},
    },
    record::{RecordRef, RecordSet},
};
use std::{
    hash::BuildHasher,
    ops::Range,
    sync::{Arc, OnceLock},
};

use super::keys::Position;
use crate::span::KeySpan;

const IS_THERE: &str = "a place is that of a record";
/// A lookup asks every layer: beyond this many, layers are joined.
const LAYERS_MAX: usize = 16;
/// About what a layer takes in memory beside its records: more than they do, where a commit changes a key or two.
pub(super) const LAYER_BYTES: usize = 256;

/// Where a record lies in a layer.
#[derive(Debug, Clone, Copy)]
struct RecordAt {
    set: u32,
    record: u32,
}

/// The changes of one commit, or of several in a row, in one shard.
pub(super) struct Layer {
    /// The first and the last commit, counted from the state's opening.
    first: u64,
    last: u64,
    sets: Vec<Arc<RecordSet>>,
    floor: Option<Vec<u8>>,
    begins_anew: bool,
    /// The last record of each key. Most layers are spilled without having been asked, so it is built when needed.
    index: OnceLock<HashTable<RecordAt>>,
    /// The same, by key.
    sorted: OnceLock<Vec<RecordAt>>,
}

impl Layer {
    fn of(commit: u64, changes: ShardChanges) -> Self {
        let ShardChanges { records: sets, expire_below: floor, begins_anew, .. } = changes;
        let (first, last) = (commit, commit);
        let (index, sorted) = (OnceLock::new(), OnceLock::new());
        Self { first, last, sets, floor, begins_anew, index, sorted }
    }

    /// One layer that shows what `older` with `newer` above it shows; `None` if a single floor cannot say it.
    fn join(older: &Self, newer: &Self) -> Option<Self> {
        // A floor reaches everything in its layer: that of the newer one must already hide all that the older one's hides.
        if !newer.begins_anew && older.floor > newer.floor {
            return None;
        }
        let shown = if newer.begins_anew { &[][..] } else { &older.sets };
        Some(Self {
            first: older.first,
            last: newer.last,
            sets: shown.iter().chain(&newer.sets).map(Arc::clone).collect(),
            floor: newer.floor.clone(),
            begins_anew: older.begins_anew || newer.begins_anew,
            index: OnceLock::new(),
            sorted: OnceLock::new(),
        })
    }

    fn record(&self, place: RecordAt) -> RecordRef<'_> {
        let set = self.sets.get(place.set as usize);
        let record = set.and_then(|set| set.get(place.record as usize));
        record.unwrap_or_else(|| broken(IS_THERE))
    }

    fn key(&self, place: RecordAt) -> &[u8] {
        self.record(place).key.unwrap_or_else(|| broken("what is found by its key has one"))
    }

    fn index(&self, hasher: &RandomState) -> &HashTable<RecordAt> {
        self.index.get_or_init(|| {
            let mut table = HashTable::with_capacity(self.sets.iter().map(|set| set.len()).sum());
            for (set, records) in (0_u32..).zip(&self.sets) {
                for (record, _) in
                    (0_u32..).zip(records.iter()).filter(|(_, found)| found.key.is_some())
                {
                    self.note(&mut table, RecordAt { set, record }, hasher);
                }
            }
            table
        })
    }

    fn note(&self, table: &mut HashTable<RecordAt>, place: RecordAt, hasher: &RandomState) {
        let key = self.key(place);
        match table.entry(
            hasher.hash_one(key),
            |p| self.key(*p) == key,
            |p| hasher.hash_one(self.key(*p)),
        ) {
            Entry::Occupied(mut entry) => *entry.get_mut() = place,
            Entry::Vacant(entry) => drop(entry.insert(place)),
        }
    }

    fn sorted(&self, hasher: &RandomState) -> &[RecordAt] {
        self.sorted.get_or_init(|| {
            let mut places: Vec<RecordAt> = self.index(hasher).iter().copied().collect();
            places.sort_unstable_by(|a, b| self.key(*a).cmp(self.key(*b)));
            places
        })
    }

    fn find(&self, hash: u64, key: &[u8], hasher: &RandomState) -> Option<RecordRef<'_>> {
        let place = self.index(hasher).find(hash, |place| self.key(*place) == key)?;
        Some(self.record(*place))
    }
}

/// What the layers say about a key.
pub(super) enum Found<'a> {
    /// It has this record, whose value is not null.
    Value(RecordRef<'a>),
    /// It was deleted or has expired.
    Gone,
    /// Nothing: the database knows.
    Unknown,
}

/// One shard's layers, and its position with them.
#[derive(Clone, Default)]
pub(super) struct Overlay {
    /// Oldest first.
    layers: Vec<Arc<Layer>>,
    pub(super) position: Option<i64>,
    pub(super) record_epoch: Option<RecordEpoch>,
    /// The newest commit that changed the shard, counted from the state's opening.
    pub(super) commit: u64,
}

impl Overlay {
    /// Nothing over a database that holds the changelog up to `position`.
    pub(super) fn at(position: Option<Position>) -> Self {
        let (position, record_epoch) = position.map(|it| (it.offset, it.record_epoch)).unzip();
        Self { position, record_epoch: record_epoch.flatten(), ..Self::default() }
    }

    /// With the changes of `commit` above; layers up to `spilling` are being written and stay as they are.
    pub(super) fn with(&self, commit: u64, changes: ShardChanges, spilling: u64) -> Self {
        let mut layers = self.layers.clone();
        let (position, record_epoch) = (Some(changes.position), changes.record_epoch.clone());
        layers.push(Arc::new(Layer::of(commit, changes)));
        if layers.len() > LAYERS_MAX {
            layers = joined(layers, spilling);
        }
        Self { layers, position, record_epoch, commit }
    }

    /// Without the layers up to commit `spilled`.
    pub(super) fn without(&self, spilled: u64) -> Self {
        let layers =
            self.layers.iter().filter(|layer| layer.last > spilled).map(Arc::clone).collect();
        Self { layers, record_epoch: self.record_epoch.clone(), ..*self }
    }

    /// The newest that the layers say about `key`.
    pub(super) fn find(&self, key: &[u8], hasher: &RandomState) -> Found<'_> {
        if self.layers.is_empty() {
            return Found::Unknown;
        }
        let hash = hasher.hash_one(key);
        for layer in self.shown() {
            if layer.floor.as_deref().is_some_and(|floor| key < floor) {
                return Found::Gone;
            }
            if let Some(record) = layer.find(hash, key, hasher) {
                return if record.value.is_some() { Found::Value(record) } else { Found::Gone };
            }
        }
        if self.begins_anew() { Found::Gone } else { Found::Unknown }
    }

    /// The highest floor: below it, the database's entries have expired.
    pub(super) fn floor(&self) -> Option<&[u8]> {
        self.shown().filter_map(|layer| layer.floor.as_deref()).max()
    }

    /// Whether the shard began anew in these layers: nothing in the database is its any more.
    pub(super) fn begins_anew(&self) -> bool {
        self.layers.iter().any(|layer| layer.begins_anew)
    }

    /// The layers that are not hidden as a whole, newest first.
    fn shown(&self) -> impl Iterator<Item = &Arc<Layer>> {
        let hidden = self.layers.iter().rposition(|layer| layer.begins_anew).unwrap_or(0);
        self.layers.iter().skip(hidden).rev()
    }

    /// The layers' part of `span`, newest layer first.
    pub(super) fn cursors(&self, span: &KeySpan, hasher: &RandomState) -> Vec<Cursor> {
        let mut floor: Option<&[u8]> = None;
        let mut cursors = Vec::new();
        for layer in self.shown() {
            floor = floor.max(layer.floor.as_deref());
            let from = span.from.as_slice().max(floor.unwrap_or_default());
            let sorted = layer.sorted(hasher);
            let start = sorted.partition_point(|place| layer.key(*place) < from);
            let end = span
                .to
                .as_deref()
                .map_or(sorted.len(), |to| sorted.partition_point(|place| layer.key(*place) < to));
            if start < end {
                cursors.push(Cursor { layer: Arc::clone(layer), rest: start..end });
            }
        }
        cursors
    }

    /// The last record of each key that has not expired, by key: the database takes neighbours in a row faster.
    pub(super) fn latest(&self, hasher: &RandomState) -> Vec<RecordRef<'_>> {
        // Keys with their hashes, so that growing touches no key.
        let mut seen: HashTable<(u64, &[u8])> = HashTable::new();
        let mut latest = Vec::new();
        for (key, set, place) in self.newest_first() {
            let hash = hasher.hash_one(key);
            let entry = seen.entry(hash, |(_, other)| *other == key, |(hash, _)| *hash);
            if let Entry::Vacant(entry) = entry {
                entry.insert((hash, key));
                latest.push((key, set, place));
            }
        }
        latest.sort_unstable_by_key(|(key, ..)| *key);
        latest
            .into_iter()
            .map(|(_, set, place)| set.get(place).unwrap_or_else(|| broken(IS_THERE)))
            .collect()
    }

    /// The keys of all records that have not expired, newest first, each with its set and its place there.
    fn newest_first(&self) -> impl Iterator<Item = (&[u8], &RecordSet, usize)> {
        let mut floor: Option<&[u8]> = None;
        let sets = self.shown().flat_map(move |layer| {
            floor = floor.max(layer.floor.as_deref());
            layer.sets.iter().rev().map(move |set| (floor, &**set))
        });
        sets.flat_map(|(floor, set)| {
            let keys = set.iter().enumerate().rev();
            let keys = keys.filter_map(move |(place, record)| Some((record.key?, set, place)));
            keys.filter(move |(key, ..)| floor.is_none_or(|floor| *key >= floor))
        })
    }
}

fn joined(layers: Vec<Arc<Layer>>, spilling: u64) -> Vec<Arc<Layer>> {
    let mut joined: Vec<Arc<Layer>> = Vec::new();
    for newer in layers {
        let join = joined
            .last()
            .filter(|older| older.first > spilling)
            .and_then(|older| Layer::join(older, &newer));
        match (join, joined.last_mut()) {
            (Some(join), Some(older)) => *older = Arc::new(join),
            _ => joined.push(newer),
        }
    }
    joined
}

/// A walk over one layer's part of a scan.
pub(super) struct Cursor {
    layer: Arc<Layer>,
    rest: Range<usize>,
}

impl Cursor {
    /// The record at this end of what is left.
    pub(super) fn head(&self, order: Order) -> Option<RecordRef<'_>> {
        if self.rest.is_empty() {
            return None;
        }
        let at = match order {
            Order::Ascending => self.rest.start,
            Order::Descending => self.rest.end - 1,
        };
        match self.layer.sorted.get().and_then(|sorted| sorted.get(at)) {
            Some(place) => Some(self.layer.record(*place)),
            None => broken("a cursor lies within what was sorted for it"),
        }
    }

    /// Goes past the record at this end.
    pub(super) fn advance(&mut self, order: Order) {
        match order {
            Order::Ascending => self.rest.next(),
            Order::Descending => self.rest.next_back(),
        };
    }
}

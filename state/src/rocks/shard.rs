//! One store's part for one partition: lookups and scans through the overlay into the database.
//!
//! # Invariants
//!
//! - An answer is of one overlay. A spill of commits newer than the overlay may reach the database while it is read; then
//!   the read is done again with a newer overlay.

use super::{
    application::Shared,
    core::Core,
    keys::{self, PREFIX_LENGTH, Prefix},
    overlay::{Cursor, Found, Overlay},
};
use crate::span::KeySpan;
use headwater_core::{
    broken::broken,
    ports::{
        log::RecordEpoch,
        state::{KeyRange, Order, Scan, Shard, StateError, Stored},
    },
};
use rocksdb::{DBRawIterator, ErrorKind, ReadOptions};
use std::{
    cmp::Ordering,
    fmt,
    sync::{Arc, atomic::Ordering::SeqCst},
};

/// Which shard.
pub(super) struct ShardId {
    pub(super) application: Arc<str>,
    pub(super) store: Arc<str>,
    pub(super) partition: u32,
    pub(super) prefix: Prefix,
}

impl fmt::Debug for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}-{}", self.application, self.store, self.partition)
    }
}

/// A shard at the newest published commit.
#[derive(Debug)]
pub(super) struct RocksShard {
    pub(super) shared: Arc<Shared>,
    pub(super) slot: usize,
    pub(super) id: ShardId,
}

impl RocksShard {
    /// Reads at the newest commit.
    fn read<'a, T>(
        &'a self,
        read: impl Fn(Base<'a>, &Overlay) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        let core = &*self.shared.core;
        loop {
            core.check()?;
            let overlay = self.shared.overlay(self.slot);
            let found = read(Base { core, snapshot: None, id: &self.id }, &overlay)?;
            if core.spilling.load(SeqCst) <= overlay.commit
                || Arc::ptr_eq(&overlay, &self.shared.overlay(self.slot))
            {
                return Ok(found);
            }
        }
    }
}

impl Shard for RocksShard {
    fn multi_get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Stored>>, StateError> {
        self.read(|base, overlay| base.look_up(overlay, keys))
    }

    fn scan(&self, range: KeyRange<'_>, order: Order) -> Result<Scan<'_>, StateError> {
        let span = KeySpan::new(range);
        self.read(|base, overlay| base.scan(overlay, &span, order))
    }

    fn position(&self) -> Option<i64> {
        self.shared.overlay(self.slot).position
    }

    fn record_epoch(&self) -> Option<RecordEpoch> {
        self.shared.overlay(self.slot).record_epoch.clone()
    }
}

type DatabaseSnapshot<'a> = rocksdb::Snapshot<'a>;

self_cell::self_cell!(
    /// Keeps the database as it was.
    pub(super) struct Pin {
        owner: Arc<Core>,
        #[covariant]
        dependent: DatabaseSnapshot,
    }
);

impl Pin {
    pub(super) fn of(core: &Arc<Core>) -> Self {
        Self::new(Arc::clone(core), |core| core.db.snapshot())
    }
}

/// A shard at the commit of a snapshot.
pub(super) struct PinnedShard {
    pub(super) pin: Arc<Pin>,
    pub(super) overlay: Arc<Overlay>,
    pub(super) id: ShardId,
}

impl fmt::Debug for PinnedShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedShard").field("id", &self.id).finish_non_exhaustive()
    }
}

impl PinnedShard {
    fn base(&self) -> Result<Base<'_>, StateError> {
        let core = self.pin.borrow_owner();
        core.check()?;
        Ok(Base { core, snapshot: Some(self.pin.borrow_dependent()), id: &self.id })
    }
}

impl Shard for PinnedShard {
    fn multi_get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Stored>>, StateError> {
        self.base()?.look_up(&self.overlay, keys)
    }

    fn scan(&self, range: KeyRange<'_>, order: Order) -> Result<Scan<'_>, StateError> {
        self.base()?.scan(&self.overlay, &KeySpan::new(range), order)
    }

    fn position(&self) -> Option<i64> {
        self.overlay.position
    }

    fn record_epoch(&self) -> Option<RecordEpoch> {
        self.overlay.record_epoch.clone()
    }
}

/// A shard's part of the database, now or as it was.
#[derive(Clone, Copy)]
struct Base<'a> {
    core: &'a Core,
    snapshot: Option<&'a DatabaseSnapshot<'a>>,
    id: &'a ShardId,
}

impl<'a> Base<'a> {
    fn read_options(&self) -> ReadOptions {
        let mut read = ReadOptions::default();
        if let Some(snapshot) = self.snapshot {
            read.set_snapshot(snapshot);
        }
        read
    }

    fn look_up(self, overlay: &Overlay, keys: &[&[u8]]) -> Result<Vec<Option<Stored>>, StateError> {
        let mut unknown = Vec::new();
        let mut found: Vec<Option<Stored>> = keys
            .iter()
            .enumerate()
            .map(|(place, key)| match overlay.find(key, &self.core.hasher) {
                Found::Value(record) => Some(Stored {
                    timestamp: record.timestamp,
                    value: record.value.unwrap_or_default().to_vec(),
                }),
                Found::Gone => None,
                Found::Unknown => {
                    unknown.push((place, self.id.prefix.key(key)));
                    None
                }
            })
            .collect();
        if unknown.is_empty() {
            return Ok(found);
        }
        let below = self.core.db.batched_multi_get_cf_opt(
            self.core.data(),
            unknown.iter().map(|(_, key)| key),
            false,
            &self.read_options(),
        );
        for ((place, _), bytes) in unknown.iter().zip(below) {
            let bytes = bytes.map_err(|error| self.read_error(error))?;
            let stored = bytes.map(|bytes| self.stored(&bytes)).transpose()?;
            match found.get_mut(*place) {
                Some(slot) => *slot = stored,
                None => broken("each key that was asked for has its answer"),
            }
        }
        Ok(found)
    }

    fn scan(self, overlay: &Overlay, span: &KeySpan, order: Order) -> Result<Scan<'a>, StateError> {
        if span.is_empty() {
            return Ok(Box::new(std::iter::empty()));
        }
        let layers = overlay.cursors(span, &self.core.hasher);
        let from = span.from.as_slice().max(overlay.floor().unwrap_or_default());
        let mut from = self.id.prefix.key(from);
        let to =
            span.to.as_deref().map_or_else(|| self.id.prefix.end(), |to| self.id.prefix.key(to));
        if overlay.begins_anew() {
            from.clone_from(&to);
        }
        let mut read = self.read_options();
        read.set_iterate_lower_bound(from);
        read.set_iterate_upper_bound(to);
        // The iterator keeps the database as it is now for as long as it lives.
        let mut base = self.core.db.raw_iterator_cf_opt(self.core.data(), read);
        match order {
            Order::Ascending => base.seek_to_first(),
            Order::Descending => base.seek_to_last(),
        }
        base.status().map_err(|error| self.read_error(error))?;
        Ok(Box::new(MergedScan { shard: self, base, layers, order, has_failed: false }))
    }

    fn stored(&self, bytes: &[u8]) -> Result<Stored, StateError> {
        keys::read_value(bytes)
            .ok_or_else(|| self.corrupt(&"a value is shorter than its timestamp"))
    }

    fn read_error(&self, error: rocksdb::Error) -> StateError {
        if error.kind() == ErrorKind::Corruption {
            return self.corrupt(&error);
        }
        self.core.io("read the state database in", error)
    }

    fn corrupt(&self, what: &dyn fmt::Display) -> StateError {
        let detail = format!(
            "{what}; delete {}, it is rebuilt from the changelog",
            self.core.directory.display()
        );
        let (store, partition) = (Arc::clone(&self.id.store), self.id.partition);
        StateError::Corrupt { store, partition, detail }
    }
}

/// A key and what it has; nothing if it was deleted.
type Head = (Vec<u8>, Option<Stored>);

/// The layers' entries over the database's, in order.
struct MergedScan<'a> {
    shard: Base<'a>,
    base: DBRawIterator<'a>,
    /// Newest first.
    layers: Vec<Cursor>,
    order: Order,
    has_failed: bool,
}

impl MergedScan<'_> {
    /// The next key with its value, null for a deleted one.
    fn head(&self) -> Result<Option<Head>, StateError> {
        let wanted = match self.order {
            Order::Ascending => Ordering::Less,
            Order::Descending => Ordering::Greater,
        };
        let heads = self.layers.iter().filter_map(|cursor| cursor.head(self.order));
        // Of equal keys the first one, which is the newest, stays.
        let newest =
            heads.reduce(|best, next| if next.key.cmp(&best.key) == wanted { next } else { best });
        let base =
            self.base.item().and_then(|(key, value)| Some((key.get(PREFIX_LENGTH..)?, value)));
        match (newest, base) {
            (None, None) => Ok(None),
            (Some(record), base)
                if base
                    .is_none_or(|(key, _)| key.cmp(record.key.unwrap_or_default()) != wanted) =>
            {
                let stored = record
                    .value
                    .map(|value| Stored { timestamp: record.timestamp, value: value.to_vec() });
                Ok(Some((record.key.unwrap_or_default().to_vec(), stored)))
            }
            (_, Some((key, value))) => Ok(Some((key.to_vec(), Some(self.shard.stored(value)?)))),
            (Some(_), None) => Ok(None),
        }
    }

    /// Skips `key` everywhere.
    fn skip_key(&mut self, key: &[u8]) -> Result<(), StateError> {
        let order = self.order;
        for cursor in &mut self.layers {
            if cursor.head(order).is_some_and(|record| record.key == Some(key)) {
                cursor.advance(order);
            }
        }
        self.layers.retain(|cursor| cursor.head(order).is_some());
        if self.base.key().and_then(|k| k.get(PREFIX_LENGTH..)) == Some(key) {
            match order {
                Order::Ascending => self.base.next(),
                Order::Descending => self.base.prev(),
            }
            self.base.status().map_err(|error| self.shard.read_error(error))?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<Option<(Vec<u8>, Stored)>, StateError> {
        while let Some((key, stored)) = self.head()? {
            self.skip_key(&key)?;
            if let Some(stored) = stored {
                return Ok(Some((key, stored)));
            }
        }
        Ok(None)
    }
}

impl Iterator for MergedScan<'_> {
    type Item = Result<(Vec<u8>, Stored), StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        let step = self.step();
        self.has_failed = step.is_err();
        step.transpose()
    }
}

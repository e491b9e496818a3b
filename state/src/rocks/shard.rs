//! One store's part for one partition: lookups and scans through the overlay into the database.
//!
//! # Invariants
//!
//! - An answer is of one view. A spill of commits newer than the view may reach the database while it is read; then
//!   the read is done again with a newer view, which happens once a spill at most.

use super::{
    core::{Core, View},
    keys::{self, PREFIX_LENGTH, Prefix},
    overlay::{Cursor, Found},
};
use crate::span::KeySpan;
use headwater_core::ports::state::{KeyRange, Order, Scan, Shard, StateError, Stored};
use rocksdb::{DBRawIterator, ErrorKind, ReadOptions};
use std::{cmp::Ordering, fmt, sync::Arc};

pub(super) struct RocksShard {
    pub(super) core: Arc<Core>,
    pub(super) slot: usize,
    pub(super) prefix: Prefix,
    pub(super) store: Arc<str>,
    pub(super) partition: u32,
}

impl fmt::Debug for RocksShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RocksShard({}-{})", self.store, self.partition)
    }
}

impl Shard for RocksShard {
    fn multi_get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Stored>>, StateError> {
        loop {
            self.core.check()?;
            let view = self.core.view();
            let found = self.look_up(&view, keys)?;
            if self.core.is_current(&view) {
                return Ok(found);
            }
        }
    }

    fn scan(&self, range: KeyRange<'_>, order: Order) -> Result<Scan<'_>, StateError> {
        let span = KeySpan::new(range);
        if span.is_empty() {
            return Ok(Box::new(std::iter::empty()));
        }
        loop {
            self.core.check()?;
            let view = self.core.view();
            let scan = self.begin_scan(&view, &span, order)?;
            if self.core.is_current(&view) {
                return Ok(Box::new(scan));
            }
        }
    }

    fn position(&self) -> Option<i64> {
        self.core.view().overlay(self.slot).position
    }
}

impl RocksShard {
    fn look_up(&self, view: &View, keys: &[&[u8]]) -> Result<Vec<Option<Stored>>, StateError> {
        let overlay = view.overlay(self.slot);
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
                    unknown.push((place, self.prefix.key(key)));
                    None
                }
            })
            .collect();
        if unknown.is_empty() {
            return Ok(found);
        }
        let below = self.core.db.batched_multi_get_cf(
            self.core.data(),
            unknown.iter().map(|(_, key)| key),
            false,
        );
        for ((place, _), bytes) in unknown.iter().zip(below) {
            let bytes = bytes.map_err(|error| self.read_error(error))?;
            let stored = bytes.map(|bytes| self.stored(&bytes)).transpose()?;
            if let Some(slot) = found.get_mut(*place) {
                *slot = stored;
            }
        }
        Ok(found)
    }

    fn begin_scan(
        &self,
        view: &View,
        span: &KeySpan,
        order: Order,
    ) -> Result<MergedScan<'_>, StateError> {
        let overlay = view.overlay(self.slot);
        let layers = overlay.cursors(span, &self.core.hasher);
        let from = span.from.as_slice().max(overlay.floor().unwrap_or_default());
        let to = span.to.as_deref().map_or_else(|| self.prefix.end(), |to| self.prefix.key(to));
        let mut read = ReadOptions::default();
        read.set_iterate_lower_bound(self.prefix.key(from));
        read.set_iterate_upper_bound(to);
        // The iterator keeps the database as it is now for as long as it lives.
        let mut base = self.core.db.raw_iterator_cf_opt(self.core.data(), read);
        match order {
            Order::Ascending => base.seek_to_first(),
            Order::Descending => base.seek_to_last(),
        }
        base.status().map_err(|error| self.read_error(error))?;
        Ok(MergedScan {
            shard: self,
            base,
            layers,
            is_ascending: order == Order::Ascending,
            has_failed: false,
        })
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
        StateError::Corrupt { store: Arc::clone(&self.store), partition: self.partition, detail }
    }
}

/// A key and what it has; nothing if it was deleted.
type Head = (Vec<u8>, Option<Stored>);

/// The layers' entries over the database's, in order.
struct MergedScan<'a> {
    shard: &'a RocksShard,
    base: DBRawIterator<'a>,
    /// Newest first.
    layers: Vec<Cursor>,
    is_ascending: bool,
    has_failed: bool,
}

impl MergedScan<'_> {
    /// The next key with its value, null for a deleted one.
    fn head(&self) -> Result<Option<Head>, StateError> {
        let wanted = if self.is_ascending { Ordering::Less } else { Ordering::Greater };
        let heads = self.layers.iter().filter_map(|cursor| cursor.head(self.is_ascending));
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

    /// Goes past `key` everywhere.
    fn pass(&mut self, key: &[u8]) -> Result<(), StateError> {
        let is_ascending = self.is_ascending;
        for cursor in &mut self.layers {
            if cursor.head(is_ascending).is_some_and(|record| record.key == Some(key)) {
                cursor.advance(is_ascending);
            }
        }
        self.layers.retain(|cursor| cursor.head(is_ascending).is_some());
        if self.base.key().and_then(|k| k.get(PREFIX_LENGTH..)) == Some(key) {
            if is_ascending {
                self.base.next()
            } else {
                self.base.prev()
            }
            self.base.status().map_err(|error| self.shard.read_error(error))?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<Option<(Vec<u8>, Stored)>, StateError> {
        while let Some((key, stored)) = self.head()? {
            self.pass(&key)?;
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

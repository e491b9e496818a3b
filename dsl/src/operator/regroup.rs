//! Places the updates of a table under the key that each of its rows selects.
//!
//! # Guarantees
//!
//! - A row that stays in its group is one update of it; one that changes its group is taken from the old one first, as is one
//!   whose old and new value together are more than its topic takes.
//! - What is not the newest of its row is dropped and counted. A selected null, key or value, is no row.
//! - A row that its topic refuses is a dead letter, and no row: it is not taken from a group that it never came to.
//! - Keys are equal where their bytes are.

use super::{Sendable, refused};
use crate::{
    plan::Serdes,
    table::{CHANGE_BYTES_MAX, Change},
};
use headwater_core::{
    metrics::DropReason,
    serde::{Data, ReadBack, SharedSerde},
};
use headwater_engine::{
    processor::{BatchProcessor, Context, InitContext, ProcessorError, Record, Rows},
    store::ValueAndTimestamp,
};
use std::sync::Arc;

/// Forwards what each update takes from a group and what it adds to one.
pub(crate) struct Regroup<K2, V2, F> {
    select: Arc<F>,
    sendable: Sendable<K2>,
    values: SharedSerde<V2>,
    known: ReadBack,
    /// Whether a value may be null.
    has_null: bool,
    old: KeyBytes,
    new: KeyBytes,
    value: Vec<u8>,
}

type KeyBytes = Vec<u8>;

/// What a row selects.
struct Selected<K2, V2> {
    key: K2,
    value: V2,
    /// The size of the value, about.
    bytes: usize,
}

impl<K2: Data, V2: Data, F> Regroup<K2, V2, F> {
    /// Over groups whose keys and values are written so.
    pub(crate) fn new(select: &Arc<F>, serdes: &Serdes<K2, V2>, context: &InitContext<'_>) -> Self {
        Self {
            select: Arc::clone(select),
            sendable: Sendable::new(&serdes.key, context),
            values: SharedSerde::clone(&serdes.value),
            known: ReadBack::default(),
            has_null: serdes.value.deserialize(None).is_ok(),
            old: Vec::new(),
            new: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Writes the key of what a row selects; gives it back unless it is no row.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::Record`] if the topic would refuse it.
    fn row(
        &mut self,
        which: Which,
        (key, value): (K2, V2),
    ) -> Result<Option<Selected<K2, V2>>, ProcessorError> {
        let key_bytes = match which {
            Which::Old => &mut self.old,
            Which::New => &mut self.new,
        };
        if !self.sendable.write_key(&key, key_bytes)? {
            return Ok(None);
        }
        let beside = key_bytes.len() + CHANGE_BYTES_MAX;
        let checked = self.values.check(&value, &mut self.known);
        let mut bytes = checked.map_err(|why| refused::<V2>(&why))?;
        if self.has_null || self.sendable.is_large(beside + bytes) {
            match self.size(&value)? {
                Some(exact) => bytes = exact,
                None => return Ok(None),
            }
        }
        self.sendable.check_size(beside + bytes)?;
        Ok(Some(Selected { key, value, bytes }))
    }

    /// How many bytes a value takes; none if it is null.
    fn size(&mut self, value: &V2) -> Result<Option<usize>, ProcessorError> {
        self.value.clear();
        let written = self.values.serialize(value, &mut self.value);
        let is_there = written.map_err(|why| refused::<V2>(&why))?;
        Ok(is_there.then_some(self.value.len()))
    }

    /// Whether the old and the new value of a group go as one update.
    fn fit_together(
        &mut self,
        old: &Selected<K2, V2>,
        new: &Selected<K2, V2>,
    ) -> Result<bool, ProcessorError> {
        if self.old != self.new {
            return Ok(false);
        }
        let mut bytes = old.bytes + new.bytes;
        if self.sendable.is_large(bytes) {
            let exact = (self.size(&old.value)?, self.size(&new.value)?);
            bytes = exact.0.unwrap_or_default() + exact.1.unwrap_or_default();
        }
        Ok(self.sendable.check_size(self.new.len() + CHANGE_BYTES_MAX + bytes).is_ok())
    }

    /// Makes an update of a group.
    fn update(
        &self,
        frame: Record<(), ()>,
        new: Option<Selected<K2, V2>>,
        old: Option<Selected<K2, V2>>,
    ) -> Option<Record<K2, Change<V2>>> {
        let key_bytes = if new.is_some() { &self.new } else { &self.old };
        let parts = new.iter().chain(&old).map(|part| part.bytes);
        let bytes = key_bytes.len() + CHANGE_BYTES_MAX + parts.sum::<usize>();
        // The topic carries no time of it.
        let old_at = |value| ValueAndTimestamp { value, timestamp: 0 };
        let (old_key, old) = old.map(|old| (old.key, old_at(old.value))).unzip();
        let (key, new) = new.map(|new| (new.key, new.value)).unzip();
        let key = key.or(old_key)?;
        Some(self.sendable.fit(frame, bytes).map(|(), ()| (key, Change::latest(new, old))))
    }
}

/// Which row of an update.
#[derive(Debug, Clone, Copy)]
enum Which {
    Old,
    New,
}

impl<K, V, K2, V2, F> BatchProcessor<Rows<K, Change<V>>> for Regroup<K2, V2, F>
where
    K: Data,
    V: Data,
    K2: Data,
    V2: Data,
    F: Fn(&K, &V) -> (K2, V2) + Send + Sync,
{
    type KOut = K2;
    type VOut = Change<V2>;

    fn process_batch(
        &mut self,
        rows: Rows<K, Change<V>>,
        context: &mut Context<'_, K2, Change<V2>>,
    ) -> Result<(), ProcessorError> {
        let mut changes = Vec::with_capacity(rows.len());
        for record in rows {
            if !record.value.is_latest {
                context.drop_record(DropReason::Late);
                continue;
            }
            context.begin(&record);
            let (frame, key, Change { new, old, .. }) = record.split();
            let old = old.map(|old| (self.select)(&key, &old.value));
            let new = new.map(|value| (self.select)(&key, &value));
            // What is refused now was refused when it was new.
            let old = old.and_then(|old| self.row(Which::Old, old).unwrap_or(None));
            let new = new.map_or(Ok(None), |new| self.row(Which::New, new));
            let new = new.or_else(|why| {
                let key = (!self.new.is_empty()).then_some(&self.new[..]);
                context.reject(key, why).map(|()| None)
            })?;
            match (old, new) {
                (Some(old), Some(new)) if self.fit_together(&old, &new)? => {
                    changes.extend(self.update(frame, Some(new), Some(old)));
                }
                (old, new) => {
                    changes.extend(self.update(frame.clone(), None, old));
                    changes.extend(self.update(frame, new, None));
                }
            }
        }
        context.forward_all(changes);
        Ok(())
    }
}

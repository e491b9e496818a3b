//! Places the updates of a table under the key that each of its rows selects.
//!
//! # Guarantees
//!
//! - A row that stays in its group is one update of it; one that changes its group is taken from the old one first.
//! - What is not the newest of its row is dropped and counted. A selected null, key or value, is no row.
//! - Keys are equal where their bytes are.

use crate::{plan::Serdes, table::Change};
use headwater_core::{
    metrics::DropReason,
    serde::{Data, SerdeError},
};
use headwater_engine::processor::{BatchProcessor, Context, ProcessorError, Record, Rows};
use std::sync::Arc;

/// Forwards what each update takes from a group and what it adds to one.
pub(crate) struct Regroup<K2, V2, F> {
    select: Arc<F>,
    serdes: Serdes<K2, V2>,
    /// Whether a value may be null.
    has_null: bool,
    old: KeyBytes,
    new: KeyBytes,
    value: Vec<u8>,
}

type KeyBytes = Vec<u8>;

impl<K2: Data, V2: Data, F> Regroup<K2, V2, F> {
    /// Over groups whose keys and values are written so.
    pub(crate) fn new(select: &Arc<F>, serdes: &Serdes<K2, V2>) -> Self {
        let has_null = serdes.value.deserialize(None).is_ok();
        let (select, serdes) = (Arc::clone(select), serdes.clone());
        Self { select, serdes, has_null, old: Vec::new(), new: Vec::new(), value: Vec::new() }
    }

    /// Writes the key of a selected row to `bytes`; gives the row back unless it is none. What cannot be written is a row: the
    /// topic refuses it.
    fn row(&mut self, which: Which, selected: Option<(K2, V2)>) -> Option<(K2, V2)> {
        let (key, value) = selected?;
        let bytes = match which {
            Which::Old => &mut self.old,
            Which::New => &mut self.new,
        };
        bytes.clear();
        let is_there = |written: Result<bool, SerdeError>| written.unwrap_or(true);
        if !is_there(self.serdes.key.serialize_key(&key, bytes)) {
            return None;
        }
        self.value.clear();
        if self.has_null && !is_there(self.serdes.value.serialize(&value, &mut self.value)) {
            return None;
        }
        Some((key, value))
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
            let (frame, key, Change { new, old, .. }) = record.split();
            let old = old.map(|value| (self.select)(&key, &value));
            let new = new.map(|value| (self.select)(&key, &value));
            let made = |frame: Record<(), ()>, key, new, old| {
                frame.map(|(), ()| (key, Change::latest(new, old)))
            };
            match (self.row(Which::Old, old), self.row(Which::New, new)) {
                (Some((_, old)), Some((key, new))) if self.old == self.new => {
                    changes.push(made(frame, key, Some(new), Some(old)));
                }
                (old, new) => {
                    let old = old.map(|(key, old)| made(frame.clone(), key, None, Some(old)));
                    let new = new.map(|(key, new)| made(frame, key, Some(new), None));
                    changes.extend(old.into_iter().chain(new));
                }
            }
        }
        context.forward_all(changes);
        Ok(())
    }
}

//! Filters or maps the rows of a table; a row that is filtered out is deleted.
//!
//! # Guarantees
//!
//! - A filter deletes only what it has forwarded: it tells so by the old values, and forwards nothing for a row that neither
//!   was there nor is. One of a table that keeps versions forwards a deletion for each row that is filtered out.
//! - Mapped deletions stay deletions, also repeated ones.

use crate::table::{Change, OldValues, mapped_row};
use headwater_core::serde::Data;
use headwater_engine::processor::{BatchProcessor, Context, ProcessorError, Rows};
use std::sync::Arc;

/// Maps a row to its new value or to none; deletions stay deletions.
pub(crate) struct TableValues<F> {
    map: Arc<F>,
    needless: Needless,
    old_values: OldValues,
}

/// What becomes of a deletion of a row that was not forwarded before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needless {
    /// It is dropped, which takes the old values of the parent.
    Dropped,
    /// It is forwarded.
    Forwarded,
}

impl<F> TableValues<F> {
    pub(crate) fn new(map: &Arc<F>, needless: Needless, old_values: OldValues) -> Self {
        Self { map: Arc::clone(map), needless, old_values }
    }

    /// The change of the mapped row, unless it is needless.
    fn apply<K, V, V2>(&self, key: &K, change: Change<V>) -> Option<Change<V2>>
    where
        F: Fn(&K, V) -> Option<V2>,
    {
        let Change { new, old, is_latest } = change;
        let map = |value| (self.map)(key, value);
        let new = new.and_then(map);
        let sends_old = self.old_values == OldValues::Sent;
        // Of an update that comes late, the old value is not what was forwarded last.
        let judges = is_latest && new.is_none() && self.needless == Needless::Dropped;
        let old = if sends_old || judges { mapped_row(old, map) } else { None };
        if judges && old.is_none() {
            return None;
        }
        Some(Change { new, old: old.filter(|_| sends_old), is_latest })
    }
}

impl<K, V, V2, F> BatchProcessor<Rows<K, Change<V>>> for TableValues<F>
where
    K: Data,
    V: Data,
    V2: Data,
    F: Fn(&K, V) -> Option<V2> + Send + Sync,
{
    type KOut = K;
    type VOut = Change<V2>;

    fn process_batch(
        &mut self,
        rows: Rows<K, Change<V>>,
        context: &mut Context<'_, K, Change<V2>>,
    ) -> Result<(), ProcessorError> {
        let mapped = rows.into_iter().filter_map(|record| {
            let (frame, key, change) = record.split();
            let change = self.apply(&key, change)?;
            Some(frame.map(|(), ()| (key, change)))
        });
        context.forward_all(mapped.collect());
        Ok(())
    }
}

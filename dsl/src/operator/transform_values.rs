//! Transforms the values of a table by what a user's function keeps in stores, and keeps the results.
//!
//! # Guarantees
//!
//! - The function is called once for each update, deletions included, and sees no old values: what was forwarded before is
//!   what is kept.
//! - Where it fails for a row, its result stays as it was.
//! - An update that is not the newest of its row is dropped and counted, unless the results have versions: then it makes one.

use super::Results;
use crate::table::Change;
use headwater_core::{metrics::DropReason, serde::Data};
use headwater_engine::processor::{BatchProcessor, Context, ProcessorError, Rows, Stores};
use std::marker::PhantomData;

/// Forwards and keeps what `transform` makes of each row.
pub(crate) struct TransformValues<K, V, V2, F> {
    pub(crate) transform: F,
    pub(crate) results: Results<K, V2>,
    pub(crate) rows: PhantomData<fn(V)>,
}

impl<K, V, V2, F> BatchProcessor<Rows<K, Change<V>>> for TransformValues<K, V, V2, F>
where
    K: Data,
    V: Data,
    V2: Data,
    F: FnMut(&K, Option<V>, &mut Stores<'_>) -> Result<Option<V2>, ProcessorError> + Send,
{
    type KOut = K;
    type VOut = Change<V2>;

    fn process_batch(
        &mut self,
        rows: Rows<K, Change<V>>,
        context: &mut Context<'_, K, Change<V2>>,
    ) -> Result<(), ProcessorError> {
        let mut changes = Vec::with_capacity(rows.len());
        for record in rows {
            context.begin(&record);
            if !record.value.is_latest && !self.results.has_versions() {
                context.drop_record(DropReason::Late);
                continue;
            }
            let (frame, key, change) = record.split();
            let kept = (self.transform)(&key, change.new, &mut context.stores())
                .and_then(|new| self.results.put(&key, new, frame.timestamp, context));
            match kept {
                Ok(change) => {
                    changes.extend(change.map(|change| frame.map(|(), ()| (key, change))));
                }
                Err(why) => context.check(Err(why))?,
            }
        }
        context.forward_all(changes);
        Ok(())
    }
}

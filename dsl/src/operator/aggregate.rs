//! Folds the records of one key into one value.
//!
//! # Guarantees
//!
//! - A record whose key is null is dropped and counted; one whose result cannot be kept becomes a dead letter, and the
//!   aggregate stays as it was.
//! - An aggregate carries the largest event time folded into it: late records never move it back.
//! - With caching, nothing is forwarded until a flush, and then the last value of each key that changed, with the headers
//!   of the last record; without, one update a record. The store ends the same either way.

use super::{refused::Refused, window_time::read_time};
use crate::table::{Change, OldValues};
use headwater_core::{record::Timestamp, serde::Data};
use headwater_engine::{
    processor::{BatchProcessor, Context, InitContext, ProcessorError, Record, Rows},
    store::{KeyValueStore, StoreKey, Update},
};
use std::sync::Arc;

/// Folds records with `fold`, which gets the aggregate so far, if there is one, and gives none to delete it.
pub(crate) struct Aggregate<K, A, F> {
    store: StoreKey<KeyValueStore<K, A>>,
    fold: Arc<F>,
    caching: bool,
    old_values: OldValues,
    /// Whether the cache holds updates back.
    holds_updates: bool,
    /// The operator time at the last flush: what the cache holds back may be as old.
    flushed: Timestamp,
}

impl<K: Data, A: Data, F> Aggregate<K, A, F> {
    /// Over the store called `name`.
    pub(crate) fn open(
        context: &mut InitContext<'_>,
        name: &str,
        fold: &Arc<F>,
        caching: bool,
        old_values: OldValues,
    ) -> Result<Self, ProcessorError> {
        let store = context.store::<KeyValueStore<K, A>>(name)?;
        if caching && old_values == OldValues::Sent {
            context.store_mut(store).keep_old_values();
        }
        let (fold, holds_updates) = (Arc::clone(fold), false);
        Ok(Self { store, fold, caching, old_values, holds_updates, flushed: Timestamp::MIN })
    }
}

/// Folds one record into an entry of a store.
pub(super) fn fold_into<K, V, A>(
    fold: impl Fn(&K, V, Option<A>) -> Option<A>,
    (key, value, timestamp): (&K, V, Timestamp),
    (entry, at): (&mut Option<A>, &mut Timestamp),
) {
    let before = entry.take();
    let folded_before = before.is_some();
    *entry = fold(key, value, before);
    // A deletion, and the first record after one, stand at their own time.
    *at = if folded_before && entry.is_some() { timestamp.max(*at) } else { timestamp };
}

/// An update that a cache has held back until now, when the time passed on is `passed`.
pub(super) fn held_back<K, A>(update: Update<K, A>, passed: Timestamp) -> Record<K, Change<A>> {
    let Update { key, new, old, timestamp, headers } = update;
    let mut record = Record::new(key, Change::latest(new, old), timestamp);
    record.headers = headers;
    record.with_operator_time(passed)
}

impl<K, V, A, F> BatchProcessor<Rows<K, V>> for Aggregate<K, A, F>
where
    K: Data,
    V: Data,
    A: Data,
    F: Fn(&K, V, Option<A>) -> Option<A> + Send + Sync,
{
    type KOut = K;
    type VOut = Change<A>;

    fn process_batch(
        &mut self,
        rows: Rows<K, V>,
        context: &mut Context<'_, K, Change<A>>,
    ) -> Result<(), ProcessorError> {
        self.holds_updates = self.caching;
        let store = context.store(self.store);
        let slots = store.locate(rows.iter().map(|record| &record.key))?;
        let mut refused = Refused::default();
        let mut updates = Vec::with_capacity(if self.caching { 0 } else { rows.len() });
        for (record, slot) in rows.into_iter().zip(slots) {
            let timestamp = record.timestamp;
            let (frame, key, value) = record.split();
            let Some(slot) = slot else {
                if let Some(why) = store.refusal(&key) {
                    refused.add(frame, why);
                }
                continue;
            };
            let (caching, old_values) = (self.caching, self.old_values);
            let update = store.update_at(slot, |entry, at| {
                let sends_old = !caching && old_values == OldValues::Sent;
                let old = if sends_old { entry.clone() } else { None };
                fold_into(&*self.fold, (&key, value, timestamp), (&mut *entry, &mut *at));
                (!caching).then(|| (Change::latest(entry.clone(), old), *at))
            });
            match update {
                Ok(Some((change, at))) => {
                    updates.push(frame.with_timestamp(at).map(|(), ()| (key, change)));
                }
                Ok(None) => store.keep_headers(slot, frame.headers),
                Err(why) => refused.add(frame, why),
            }
        }
        context.forward_all(updates);
        refused.settle(context)
    }

    fn flush(&mut self, context: &mut Context<'_, K, Change<A>>) -> Result<(), ProcessorError> {
        if !self.caching {
            return Ok(());
        }
        (self.holds_updates, self.flushed) = (false, context.operator_time());
        let passed = context.passed_time();
        let updates =
            context.store(self.store).take_updates().map(|row| Ok(held_back(row?, passed)));
        let updates = updates.collect::<Result<_, ProcessorError>>()?;
        context.forward_all(updates);
        Ok(())
    }

    fn pass_time(&self, time: Timestamp) -> Timestamp {
        if self.caching { self.flushed } else { time }
    }

    fn holds_rows(&self) -> bool {
        self.holds_updates
    }

    fn save(&self, out: &mut Vec<u8>) {
        if self.flushed > Timestamp::MIN {
            out.extend_from_slice(&self.flushed.to_be_bytes());
        }
    }

    fn load(&mut self, saved: &[u8], _: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        self.flushed = read_time(saved)?;
        Ok(())
    }
}

//! Folds the records of a key into one value, and keeps what it was when.
//!
//! # Guarantees
//!
//! - An aggregate stands at the largest time that was folded into it, its deletion too: a record that comes out of order changes
//!   the newest version and none before it.
//! - A first record that is older than a deletion makes an older version, which is forwarded as such.
//! - A record whose key is null is dropped and counted; so is one whose aggregate would be older than the history, as late.

use crate::table::{Change, OldValues};
use headwater_core::{metrics::DropReason, serde::Data};
use headwater_engine::{
    processor::{BatchProcessor, Context, ProcessorError, Rows},
    store::{PutOutcome, StoreError, StoreKey, ValueAndTimestamp, VersionedKeyValueStore},
};
use std::{marker::PhantomData, sync::Arc};

/// Folds records with `fold`, which gets the aggregate so far, if there is one, and gives none to delete it.
pub(crate) struct VersionedFold<K, V, A, F> {
    store: StoreKey<VersionedKeyValueStore<K, A>>,
    fold: Arc<F>,
    old_values: OldValues,
    input: PhantomData<fn(V)>,
}

impl<K, V, A, F> VersionedFold<K, V, A, F> {
    pub(crate) fn new(
        store: StoreKey<VersionedKeyValueStore<K, A>>,
        fold: &Arc<F>,
        old_values: OldValues,
    ) -> Self {
        Self { store, fold: Arc::clone(fold), old_values, input: PhantomData }
    }
}

impl<K, V, A, F> BatchProcessor<Rows<K, V>> for VersionedFold<K, V, A, F>
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
        for record in rows {
            context.begin(&record);
            let store = context.store(self.store);
            let (mut frame, key, value) = record.split();
            let old = store.find_as_of(&key, i64::MAX);
            let put = old.and_then(|old| {
                let old = old.map(ValueAndTimestamp::from);
                let time = old.as_ref().map_or(frame.timestamp, |old| old.timestamp);
                let time = time.max(frame.timestamp);
                let new = (self.fold)(&key, value, old.as_ref().map(|old| old.value.clone()));
                let put = store.put(&key, new.clone(), time)?;
                Ok::<_, StoreError>((put, new, old, time))
            });
            let (put, new, old, time) = match put {
                Ok(put) => put,
                Err(refused) => {
                    context.check(Err(refused.into()))?;
                    continue;
                }
            };
            let is_latest = match put {
                PutOutcome::Latest => true,
                PutOutcome::ValidUntil(_) => false,
                PutOutcome::Rejected => {
                    context.drop_record(DropReason::Late);
                    continue;
                }
            };
            frame.timestamp = time;
            let old = old.filter(|_| self.old_values == OldValues::Sent);
            context.forward(frame.map(|(), ()| (key, Change { new, old, is_latest })));
        }
        Ok(())
    }
}

//! Joins left rows with the responses of the right side, and keeps the results.
//!
//! # Guarantees
//!
//! - A response about a value that the left row no longer has is discarded: another is on its way. To an inner join, a row
//!   without a foreign key is no row, of whatever value.
//! - A result has the timestamp and headers of its response; where there is no right row, an inner join emits a deletion. That
//!   there still is none is a deletion only of a result that there is: responses before it may have been discarded.
//! - The store is written first; old values are what it held.

use super::{
    message::{Found, Hash, Response, hash},
    subscribe::{ForeignJoinKind, ForeignKeys},
};
use crate::table::{Change, Lookup, OldValues};
use headwater_core::serde::{Data, SerdeError, SharedSerde};
use headwater_engine::{
    processor::{BatchProcessor, Context, ProcessorError, Record, Rows},
    store::{KeyValueStore, StoreKey, ValueAndTimestamp},
};
use std::sync::Arc;

/// Joins left rows with what the right side has answered.
pub(crate) struct Combine<K, V, FK, V2, F> {
    pub(crate) kind: ForeignJoinKind,
    pub(crate) left: Box<dyn Lookup<K, V>>,
    pub(crate) keys: SharedSerde<K>,
    pub(crate) values: SharedSerde<V>,
    pub(crate) foreign_keys: ForeignKeys<K, V, FK>,
    pub(crate) join: Arc<F>,
    pub(crate) results: StoreKey<KeyValueStore<K, V2>>,
    pub(crate) old_values: OldValues,
}

impl<K: Data, V: Data, FK: Data, V2: Data, F> Combine<K, V, FK, V2, F> {
    /// The hash of the value that a left row has now.
    fn hash_now(&self, key: &K, left: Option<&V>) -> Result<Option<Hash>, SerdeError> {
        let Some(left) = left else { return Ok(None) };
        let is_in =
            self.kind == ForeignJoinKind::Left || self.foreign_keys.get(key, left)?.is_some();
        is_in.then(|| hash(&self.values, left)).transpose()
    }

    /// Joins a left row with a response, unless that is about another value of it.
    fn combine<FV: Data>(
        &self,
        row: Record<K, Response<FV>>,
        left: Option<V>,
        context: &mut Context<'_, K, Change<V2>>,
    ) -> Result<(), ProcessorError>
    where
        F: Fn(V, Option<FV>) -> Option<V2> + Send + Sync,
    {
        let now = self.hash_now(&row.key, left.as_ref()).map_err(|why| unreadable(&why))?;
        let (frame, key, Response { subscriber, row }) = row.split();
        if subscriber.hash != now {
            return Ok(());
        }
        let still_none = matches!(row, Found::StillNone);
        let right = match row {
            Found::Row(right) => Some(right),
            Found::None | Found::StillNone => None,
        };
        let new = left.and_then(|left| (self.join)(left, right));
        let (timestamp, value) = (frame.stamp().timestamp, new.clone());
        let old = context.store(self.results).update(&key, |entry, at| {
            if still_none && entry.is_none() {
                return None;
            }
            *at = timestamp;
            Some(std::mem::replace(entry, value))
        })?;
        if let Some(old) = old {
            let change = Change::latest(new, old.filter(|_| self.old_values == OldValues::Sent));
            context.forward(frame.map(|(), ()| (key, change)));
        }
        Ok(())
    }
}

impl<K, V, FK, FV, V2, F> BatchProcessor<Rows<Vec<u8>, Response<FV>>> for Combine<K, V, FK, V2, F>
where
    K: Data,
    V: Data,
    FK: Data,
    FV: Data,
    V2: Data,
    F: Fn(V, Option<FV>) -> Option<V2> + Send + Sync,
{
    type KOut = K;
    type VOut = Change<V2>;

    fn process_batch(
        &mut self,
        rows: Rows<Vec<u8>, Response<FV>>,
        context: &mut Context<'_, K, Change<V2>>,
    ) -> Result<(), ProcessorError> {
        let mut keyed = Vec::with_capacity(rows.len());
        for row in rows {
            match self.keys.deserialize(Some(&row.key)) {
                Ok(key) => keyed.push(row.with_key(key)),
                Err(why) => {
                    context.begin(&row);
                    context.check(Err(unreadable(&why)))?;
                }
            }
        }
        let keys: Vec<&K> = keyed.iter().map(|row| &row.key).collect();
        let left = self.left.get_all(&keys, &mut context.stores())?;
        for (row, left) in keyed.into_iter().zip(left) {
            context.begin(&row);
            let left = left.map(|left| left.map(|ValueAndTimestamp { value, .. }| value));
            let combined = match left {
                Ok(left) => self.combine(row, left, context),
                Err(why) => Err(why.into()),
            };
            context.check(combined)?;
        }
        Ok(())
    }
}

fn unreadable(why: &SerdeError) -> ProcessorError {
    ProcessorError::Record { kind: "DeserializationError", cause: why.to_string() }
}

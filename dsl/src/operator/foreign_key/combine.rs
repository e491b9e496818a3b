//! Joins left rows with the responses of the right side, and keeps the results.
//!
//! # Guarantees
//!
//! - A response about a value that the left row no longer has is discarded: another is on its way. A row whose registration
//!   was refused is no row; to an inner join, nor is one without a foreign key, of whatever value.
//! - A result has the timestamp and headers of its response; where there is no right row, an inner join emits a deletion. That
//!   there still is none is a deletion only of a result that there is: responses before it may have been discarded.
//! - The store is written first; old values are what it held. Where it keeps versions, a result whose timestamp is before that of
//!   the newest is an older one.

use super::{
    message::{Found, Hash, Hashes, Response},
    subscribe::{ForeignJoinKind, OpenForeignKeys},
};
use crate::{
    operator::{Results, refused},
    table::{Change, Lookup},
};
use headwater_core::serde::{Data, SerdeError, SharedSerde};
use headwater_engine::{
    processor::{BatchProcessor, Context, ProcessorError, Record, Rows},
    store::ValueAndTimestamp,
};
use std::sync::Arc;

/// Joins left rows with what the right side has answered.
pub(crate) struct Combine<K, V, FK, V2, F> {
    pub(crate) kind: ForeignJoinKind,
    pub(crate) left: Box<dyn Lookup<K, V>>,
    pub(crate) keys: SharedSerde<K>,
    pub(crate) hashes: Hashes<V>,
    pub(crate) foreign_keys: OpenForeignKeys<K, V, FK>,
    pub(crate) join: Arc<F>,
    pub(crate) results: Results<K, V2>,
}

/// A left row's key, and how many bytes it has.
struct LeftKey<K> {
    key: K,
    bytes: usize,
}

impl<K: Data, V: Data, FK: Data, V2: Data, F> Combine<K, V, FK, V2, F> {
    /// The hash of the value that a left row has now, if it was registered with one.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::Record`] if its registration was refused.
    fn hash_now(&mut self, key: &LeftKey<K>, left: &V) -> Result<Option<Hash>, ProcessorError> {
        let foreign_key = self.foreign_keys.get(&key.key, key.bytes, left)?;
        let is_in = self.kind == ForeignJoinKind::Left || foreign_key.is_some();
        let hash = is_in.then(|| self.hashes.of(left)).transpose();
        hash.map_err(|why| refused::<V>(&why))
    }

    /// Joins a left row with a response, unless that is about another value of it.
    fn combine<FV: Data>(
        &mut self,
        row: Record<LeftKey<K>, Response<FV>>,
        left: Option<V>,
        context: &mut Context<'_, K, Change<V2>>,
    ) -> Result<(), ProcessorError>
    where
        F: Fn(V, Option<FV>) -> Option<V2> + Send + Sync,
    {
        let now = left.as_ref().map(|left| self.hash_now(&row.key, left)).transpose();
        // A row that was refused is none.
        let (left, now) = now.map_or((None, None), |now| (left, now.flatten()));
        let (frame, LeftKey { key, .. }, Response { subscriber, row }) = row.split();
        if subscriber.hash != now {
            return Ok(());
        }
        let still_none = matches!(row, Found::StillNone);
        let right = match row {
            Found::Row(right) => Some(right),
            Found::None | Found::StillNone => None,
        };
        let new = left.and_then(|left| (self.join)(left, right));
        let timestamp = frame.stamp().timestamp;
        let change = if still_none {
            self.results.delete_if_there(&key, timestamp, context)?
        } else {
            self.results.put(&key, new, timestamp, context)?
        };
        if let Some(change) = change {
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
                Ok(key) => {
                    let bytes = row.key.len();
                    keyed.push(row.with_key(LeftKey { key, bytes }));
                }
                Err(why) => {
                    context.begin(&row);
                    context.check(Err(unreadable(&why)))?;
                }
            }
        }
        let keys: Vec<&K> = keyed.iter().map(|row| &row.key.key).collect();
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

//! A side of a join within a task, and what becomes of its records by key and value alone.

use super::{
    SideStores,
    kept::{Kept, split_place},
};
use headwater_core::{
    metrics::DropReason,
    record::{Headers, Timestamp},
    serde::{Data, SharedSerde},
};
use headwater_engine::{
    processor::{Context, InitContext, ProcessorError},
    store::{StoreError, StoreKey, TimeStore, TimerBytes},
};
use std::sync::Arc;

/// A side within a task.
pub(super) struct Input<K, V> {
    pub(super) rows: StoreKey<TimeStore<K, Kept<V>>>,
    pub(super) deferred: Option<StoreKey<TimerBytes>>,
    /// The name of the store.
    name: Arc<str>,
    /// Tells what is null, if anything may be.
    nulls: Option<SharedSerde<V>>,
}

impl<K, V> Clone for Input<K, V> {
    fn clone(&self) -> Self {
        let Self { rows, deferred, name, nulls } = self;
        Self { rows: *rows, deferred: *deferred, name: Arc::clone(name), nulls: nulls.clone() }
    }
}

impl<K: Data, V: Data> Input<K, V> {
    pub(super) fn open(
        stored: &SideStores<V>,
        context: &mut InitContext<'_>,
    ) -> Result<Self, ProcessorError> {
        let rows = context.store(&stored.rows)?;
        context.store_mut::<TimeStore<K, Kept<V>>>(rows).open()?;
        let deferred = stored.deferred.as_ref().map(|timers| context.store(timers)).transpose()?;
        let may_be_null = stored.values.deserialize(None).is_ok();
        let nulls = may_be_null.then(|| SharedSerde::clone(&stored.values));
        Ok(Self { rows, deferred, name: Arc::clone(&stored.rows), nulls })
    }

    /// The same for a join that sees nulls.
    pub(super) fn taking_nulls(self) -> Self {
        Self { nulls: None, ..self }
    }

    fn is_null(&self, value: &V, scratch: &mut Vec<u8>) -> bool {
        scratch.clear();
        let serde = self.nulls.as_ref();
        serde.is_some_and(|serde| matches!(serde.serialize(value, scratch), Ok(false)))
    }

    /// The deferred row at a place of `time`.
    pub(super) fn deferred_row<K2, V2>(
        &self,
        time: Timestamp,
        place: &[u8],
        context: &mut Context<'_, K2, V2>,
    ) -> Result<Option<(Vec<u8>, V, Headers)>, ProcessorError>
    where
        K2: Data,
        V2: Data,
    {
        let (key, sequence) = split_place(place).ok_or(ProcessorError::Damaged)?;
        let row = context.store(self.rows).by_bytes().get(&key, time, sequence)?;
        Ok(row.and_then(|Kept { value, deferred }| deferred.map(|headers| (key, value, headers))))
    }
}

/// What becomes of a record by its key and value alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given {
    /// It has a key, whose bytes are at hand.
    Keyed,
    /// It comes out un-joined at once.
    Alone,
    /// It was dropped, or is a dead letter.
    Gone,
}

/// The key of the record at hand.
pub(super) struct KeyAtHand<K> {
    serde: SharedSerde<K>,
    pub(super) bytes: Vec<u8>,
    scratch: Vec<u8>,
}

impl<K: Data> KeyAtHand<K> {
    pub(super) fn new(serde: &SharedSerde<K>) -> Self {
        Self { serde: SharedSerde::clone(serde), bytes: Vec::new(), scratch: Vec::new() }
    }

    /// A key that a store has.
    pub(super) fn read(&self, bytes: &[u8]) -> Result<K, ProcessorError> {
        self.serde.deserialize(Some(bytes)).map_err(|_| ProcessorError::Damaged)
    }

    /// Takes the key of a record of `side`, unless the record has no place in a join.
    pub(super) fn take<V: Data, V2: Data>(
        &mut self,
        side: &Input<K, V>,
        key: &K,
        value: &V,
        context: &mut Context<'_, K, V2>,
    ) -> Result<Given, ProcessorError> {
        if side.is_null(value, &mut self.scratch) {
            context.drop_record(DropReason::NullValue);
            return Ok(Given::Gone);
        }
        self.bytes.clear();
        match self.serde.serialize_key(key, &mut self.bytes) {
            Ok(true) => return Ok(Given::Keyed),
            Ok(false) if side.deferred.is_some() => return Ok(Given::Alone),
            Ok(false) => context.check(Err(ProcessorError::NullKey))?,
            Err(source) => {
                let refused = StoreError::Key { store: Arc::clone(&side.name), source };
                context.check(Err(refused.into()))?;
            }
        }
        Ok(Given::Gone)
    }
}

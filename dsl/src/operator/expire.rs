//! Deletes rows of a table that nothing has refreshed for as long as they live.
//!
//! # Guarantees
//!
//! - A row is deleted once time is as far past its timestamp as it lives: before the record that brings that time, with the
//!   moment as its timestamp, once. A newer record of its key lets it live anew, a deletion ends that.
//! - Time is the largest timestamp taken, of any key, or below a repartition the operator time that rows carry.
//! - A record that is older than a row lives when it comes is dropped and counted as late; a deletion is not.
//!
//! It stands in front of the table, which takes what it forwards as it takes any deletion: old values, joins and aggregations
//! below need to know nothing of it.

use headwater_core::{
    metrics::DropReason,
    record::Timestamp,
    serde::{Data, SharedSerde},
};
use headwater_engine::{
    node::{NO_ORIGIN, Stamp},
    processor::{BatchProcessor, Context, InitContext, ProcessorError, Record, Rows},
    store::{KeyValueStore, StoreKey, TimerBytes},
};
use std::{marker::PhantomData, sync::Arc, time::Duration};

/// What such an operator is made from.
pub(crate) struct Expiry<K> {
    pub(crate) keys: SharedSerde<K>,
    pub(crate) ttl_ms: i64,
    /// The store of when each row is deleted.
    pub(crate) deadlines: Arc<str>,
    /// The same, by time.
    pub(crate) timers: Arc<str>,
}

impl<K> Expiry<K> {
    /// Of the table in `store`, whose rows live for `ttl`, at least a ms.
    pub(crate) fn new(store: &str, keys: &SharedSerde<K>, ttl: Duration) -> Self {
        Self {
            keys: SharedSerde::clone(keys),
            ttl_ms: i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).max(1),
            deadlines: format!("{store}-deadlines").into(),
            timers: format!("{store}-deadline-times").into(),
        }
    }
}

/// Forwards the rows of a table, and a deletion where one has lived for long enough. `row` gives the value of a record.
pub(crate) struct Expire<K, T, V, F> {
    row: Arc<F>,
    keys: SharedSerde<K>,
    ttl_ms: i64,
    deadlines: StoreKey<KeyValueStore<K, i64>>,
    timers: StoreKey<TimerBytes>,
    is_carried: bool,
    /// What it has come to.
    time: Timestamp,
    holds_rows: bool,
    types: PhantomData<fn(T) -> V>,
}

impl<K: Data, T: Data, V: Data, F: Fn(T) -> Option<V>> Expire<K, T, V, F> {
    pub(crate) fn open(
        row: &Arc<F>,
        expiry: &Expiry<K>,
        context: &mut InitContext<'_>,
    ) -> Result<Self, ProcessorError> {
        let timers = context.store(&expiry.timers)?;
        Ok(Self {
            row: Arc::clone(row),
            keys: SharedSerde::clone(&expiry.keys),
            ttl_ms: expiry.ttl_ms,
            deadlines: context.store(&expiry.deadlines)?,
            holds_rows: context.store_mut::<TimerBytes>(timers).first()?.is_some(),
            timers,
            is_carried: context.is_time_carried(),
            time: Timestamp::MIN,
            types: PhantomData,
        })
    }

    /// Deletes what has lived for long enough, the oldest first; `stamp` is that of the record that brings the time.
    fn expire(
        &mut self,
        Stamp { origin, at, .. }: Stamp,
        out: &mut Rows<K, Option<V>>,
        context: &mut Context<'_, K, Option<V>>,
    ) -> Result<(), ProcessorError> {
        let is_due = |due: Option<Timestamp>, time| due.is_some_and(|due| due <= time);
        while is_due(context.store(self.timers).first()?, self.time) {
            let Some((due, key)) = context.store(self.timers).take_first()? else { break };
            let key = self.keys.deserialize(Some(&key)).map_err(|_| ProcessorError::Damaged)?;
            context.store(self.deadlines).put(&key, None, due)?;
            // Where time is carried, which row or mark brings it is nobody's promise.
            let at = if self.is_carried { due } else { at };
            out.push(Record::made(key, None, None, Stamp { origin, timestamp: due, at }));
        }
        Ok(())
    }

    /// Lets the row of `key` live until `deadline`, or has it gone.
    fn set(
        &self,
        key: &K,
        deadline: Option<Timestamp>,
        context: &mut Context<'_, K, Option<V>>,
    ) -> Result<(), ProcessorError> {
        let mut bytes = Vec::new();
        // A key that a store refuses is refused there first.
        let old = context.store(self.deadlines).get(key)?.map(|old| old.value);
        context.store(self.deadlines).put(key, deadline, deadline.unwrap_or(0))?;
        let written = self.keys.serialize_key(key, &mut bytes);
        written.map_err(|_| ProcessorError::Damaged)?;
        if let Some(old) = old {
            context.store(self.timers).cancel(&bytes, old)?;
        }
        if let Some(deadline) = deadline {
            context.store(self.timers).schedule(&bytes, deadline)?;
        }
        Ok(())
    }

    fn take(
        &mut self,
        row: Record<K, T>,
        out: &mut Rows<K, Option<V>>,
        context: &mut Context<'_, K, Option<V>>,
    ) -> Result<(), ProcessorError> {
        context.begin(&row);
        let stamp = row.stamp();
        self.time = self.time.max(if self.is_carried { stamp.at } else { stamp.timestamp });
        self.expire(stamp, out, context)?;
        let row = row.map(|key, value| (key, (self.row)(value)));
        let deadline = stamp.timestamp.saturating_add(self.ttl_ms);
        if row.value.is_some() && deadline <= self.time {
            context.drop_record(DropReason::Late);
            return Ok(());
        }
        let deadline = row.value.is_some().then_some(deadline);
        match self.set(&row.key, deadline, context) {
            // A key that is refused here is refused by the table, which counts it.
            Ok(()) | Err(ProcessorError::NullKey | ProcessorError::Record { .. }) => out.push(row),
            Err(failed) => return Err(failed),
        }
        Ok(())
    }

    fn look(&mut self, context: &mut Context<'_, K, Option<V>>) -> Result<(), ProcessorError> {
        self.holds_rows = context.store(self.timers).first()?.is_some();
        Ok(())
    }
}

impl<K, T, V, F> BatchProcessor<Rows<K, T>> for Expire<K, T, V, F>
where
    K: Data,
    T: Data,
    V: Data,
    F: Fn(T) -> Option<V> + Send + Sync,
{
    type KOut = K;
    type VOut = Option<V>;

    fn process_batch(
        &mut self,
        rows: Rows<K, T>,
        context: &mut Context<'_, K, Option<V>>,
    ) -> Result<(), ProcessorError> {
        let mut out = Vec::with_capacity(rows.len());
        rows.into_iter().try_for_each(|row| self.take(row, &mut out, context))?;
        context.forward_all(out);
        self.look(context)
    }

    fn advance(
        &mut self,
        time: Timestamp,
        context: &mut Context<'_, K, Option<V>>,
    ) -> Result<(), ProcessorError> {
        self.time = self.time.max(time);
        let mut out = Vec::new();
        let stamp = Stamp { origin: NO_ORIGIN, timestamp: time, at: time };
        self.expire(stamp, &mut out, context)?;
        context.forward_all(out);
        self.look(context)
    }

    fn holds_rows(&self) -> bool {
        self.holds_rows
    }

    fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.time.to_be_bytes());
    }

    fn load(&mut self, saved: &[u8], _: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        let time = saved.try_into().map_err(|_| ProcessorError::Damaged)?;
        self.time = Timestamp::from_be_bytes(time);
        Ok(())
    }
}

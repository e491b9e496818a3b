//! Deletes rows of a table that nothing has refreshed for as long as they live.
//!
//! # Guarantees
//!
//! - A row is deleted once time is as far past its timestamp as it lives: before the record that brings that time, with the
//!   moment as its timestamp, once. A newer record of its key lets it live anew, a deletion ends that.
//! - A record that the table refuses, which becomes a dead letter there, lets nothing live longer; one without a key, which the
//!   table drops, moves no time of its own.
//! - Time is the largest timestamp taken, of any key, or below a repartition the operator time that rows carry.
//! - A record that is older than a row lives when it comes is dropped and counted as late; a deletion is not.
//! - A row that lives past the last timestamp there is has no such moment, and stays.
//!
//! Where more rows have lived for long enough than go at a time, what comes after [waits](super::backlog).
//!
//! It stands in front of the table, which takes what it forwards as it takes any deletion: old values, joins and aggregations
//! below need to know nothing of it.

use super::backlog::{Backlog, Chunked, Output};
use headwater_core::{
    metrics::DropReason,
    record::Timestamp,
    serde::{Data, SharedSerde},
};
use headwater_engine::{
    node::{HeldBack, NO_ORIGIN, Progress, Stamp},
    processor::{BatchProcessor, Context, InitContext, ProcessorError, Record, Rows},
    store::{EntryCheck, KeyValueStore, StoreKey, TimerBytes},
};
use std::{marker::PhantomData, sync::Arc, time::Duration};

/// What such an operator is made from.
pub(crate) struct Expiry<K, V> {
    /// The table's store, and what its entries are written by.
    pub(crate) table: Arc<str>,
    pub(crate) keys: SharedSerde<K>,
    pub(crate) values: SharedSerde<V>,
    pub(crate) ttl_ms: i64,
    /// The store of when each row is deleted.
    pub(crate) deadlines: Arc<str>,
    /// The same, by time.
    pub(crate) timers: Arc<str>,
    /// The store of records that wait.
    pub(crate) waiting: Arc<str>,
}

impl<K, V> Expiry<K, V> {
    /// Of the table in `store`, whose rows live for `ttl`, at least a ms.
    pub(crate) fn new(
        store: &str,
        keys: &SharedSerde<K>,
        values: &SharedSerde<V>,
        ttl: Duration,
    ) -> Self {
        Self {
            table: store.into(),
            keys: SharedSerde::clone(keys),
            values: SharedSerde::clone(values),
            ttl_ms: i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).max(1),
            deadlines: format!("{store}-deadlines").into(),
            timers: format!("{store}-deadline-times").into(),
            waiting: format!("{store}-deadline-waiting").into(),
        }
    }
}

/// Forwards the rows of a table, and a deletion where one has lived for long enough. `row` gives the value of a record.
pub(crate) struct Expire<K, T, V, F> {
    row: Arc<F>,
    keys: SharedSerde<K>,
    /// The bytes of the key at hand.
    key: Vec<u8>,
    /// What the table keeps.
    kept: EntryCheck<V>,
    ttl_ms: i64,
    deadlines: StoreKey<KeyValueStore<K, i64>>,
    timers: StoreKey<TimerBytes>,
    is_carried: bool,
    /// What it has come to.
    time: Timestamp,
    backlog: Backlog<K, T>,
    /// The first deadline there is.
    first: Option<Timestamp>,
    types: PhantomData<fn(T)>,
}

impl<K: Data, T: Data, V: Data, F: Fn(T) -> Option<V>> Expire<K, T, V, F> {
    pub(crate) fn open(
        row: &Arc<F>,
        expiry: &Expiry<K, V>,
        context: &mut InitContext<'_>,
    ) -> Result<Self, ProcessorError> {
        let timers = context.store(&expiry.timers)?;
        Ok(Self {
            row: Arc::clone(row),
            keys: SharedSerde::clone(&expiry.keys),
            key: Vec::new(),
            kept: context.entry_check(&expiry.table, &expiry.keys, &expiry.values),
            ttl_ms: expiry.ttl_ms,
            deadlines: context.store(&expiry.deadlines)?,
            first: context.store_mut::<TimerBytes>(timers).first()?,
            backlog: Backlog::open(&expiry.waiting, context)?,
            timers,
            is_carried: context.is_time_carried(),
            time: Timestamp::MIN,
            types: PhantomData,
        })
    }

    /// Lets the row of the key at hand live until `deadline`, or has it gone.
    fn set(
        &self,
        key: &K,
        deadline: Option<Timestamp>,
        context: &mut Context<'_, K, Option<V>>,
    ) -> Result<(), ProcessorError> {
        let old = context.store(self.deadlines).get(key)?.map(|old| old.value);
        context.store(self.deadlines).put(key, deadline, deadline.unwrap_or(0))?;
        if let Some(deadline) = deadline {
            context.store(self.timers).schedule(&self.key, deadline)?;
        }
        if let Some(old) = old.filter(|old| Some(*old) != deadline) {
            context.store(self.timers).cancel(&self.key, old)?;
        }
        Ok(())
    }

    fn is_due(&self, deadline: Timestamp) -> bool {
        deadline <= self.time
    }

    /// Deletes what has lived for long enough, the oldest first; `stamp` is that of the record that brings the time. False if not
    /// all of it went.
    fn delete_due(
        &mut self,
        Stamp { origin, at, .. }: Stamp,
        out: &mut Output<K, Option<V>>,
        context: &mut Context<'_, K, Option<V>>,
    ) -> Result<bool, ProcessorError> {
        while context.store(self.timers).first()?.is_some_and(|deadline| self.is_due(deadline)) {
            if out.is_full() {
                return Ok(false);
            }
            let Some((due, key)) = context.store(self.timers).take_first()? else { break };
            let key = self.keys.deserialize(Some(&key)).map_err(|_| ProcessorError::Damaged)?;
            context.store(self.deadlines).put(&key, None, due)?;
            // Where time is carried, which row or mark brings it is nobody's promise.
            let (origin, at) = if self.is_carried { (NO_ORIGIN, due) } else { (origin, at) };
            out.push(Record::made(key, None, None, Stamp { origin, timestamp: due, at }));
        }
        Ok(true)
    }
}

impl<K: Data, T: Data, V: Data, F: Fn(T) -> Option<V>> Chunked<K, T, Option<V>>
    for Expire<K, T, V, F>
{
    fn backlog(&mut self) -> &mut Backlog<K, T> {
        &mut self.backlog
    }

    fn forward_due(
        &mut self,
        origin: u32,
        out: &mut Output<K, Option<V>>,
        context: &mut Context<'_, K, Option<V>>,
    ) -> Result<bool, ProcessorError> {
        // Only carried time has rows live for long enough without a record.
        self.delete_due(Stamp { origin, timestamp: self.time, at: self.time }, out, context)
    }

    fn take_record(
        &mut self,
        row: Record<K, T>,
        out: &mut Output<K, Option<V>>,
        context: &mut Context<'_, K, Option<V>>,
    ) -> Result<Option<Record<K, T>>, ProcessorError> {
        let stamp = row.stamp();
        self.key.clear();
        let written = self.keys.serialize_key(&row.key, &mut self.key);
        if self.is_carried {
            self.time = self.time.max(stamp.at);
        } else if !matches!(written, Ok(false)) {
            self.time = self.time.max(stamp.timestamp);
        }
        if !self.delete_due(stamp, out, context)? {
            return Ok(Some(row));
        }
        let row = row.map(|key, value| (key, (self.row)(value)));
        // Past the last timestamp there is comes no time: such a row lives for ever.
        let deadline = stamp.timestamp.checked_add(self.ttl_ms);
        let is_kept = match &row.value {
            _ if !matches!(written, Ok(true)) => false,
            None => true,
            Some(_) if deadline.is_some_and(|deadline| self.is_due(deadline)) => {
                context.drop_record(DropReason::Late);
                return Ok(None);
            }
            Some(value) => self.kept.check(&self.key, value).is_ok(),
        };
        let deadline = deadline.filter(|_| row.value.is_some());
        // What the table refuses it tells itself: the row that is there stays, and lives as long as it would have.
        if is_kept && let Err(why) = self.set(&row.key, deadline, context) {
            context.check(Err(why))?;
        } else {
            out.push(row);
        }
        Ok(None)
    }

    fn move_time(
        &mut self,
        time: Timestamp,
        context: &mut Context<'_, K, Option<V>>,
    ) -> Result<(), ProcessorError> {
        self.time = self.time.max(time);
        let first = context.store(self.timers).first()?;
        self.backlog.set_forwarding(first.is_some_and(|deadline| self.is_due(deadline)));
        Ok(())
    }

    /// Rows live until their deletion is out.
    fn expire(&mut self, context: &mut Context<'_, K, Option<V>>) -> Result<(), ProcessorError> {
        self.first = context.store(self.timers).first()?;
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

    const MAY_ANSWER_MORE: bool = true;

    fn process_batch(
        &mut self,
        rows: Rows<K, T>,
        context: &mut Context<'_, K, Option<V>>,
    ) -> Result<(), ProcessorError> {
        self.take_batch(rows.into_iter(), context)
    }

    fn advance(
        &mut self,
        time: Timestamp,
        context: &mut Context<'_, K, Option<V>>,
    ) -> Result<(), ProcessorError> {
        self.advance_to(time, context)
    }

    fn progress(&self) -> Progress {
        self.backlog.progress()
    }

    fn resume(
        &mut self,
        rows_max: usize,
        context: &mut Context<'_, K, Option<V>>,
    ) -> Result<(), ProcessorError> {
        self.go_on(rows_max, context)
    }

    fn pass_time(&self, time: Timestamp) -> Timestamp {
        let first = self.first.filter(|deadline| self.is_due(*deadline));
        first.into_iter().chain(self.backlog.first_at()).fold(time, Timestamp::min)
    }

    fn holds_rows(&self) -> bool {
        self.first.is_some()
    }

    fn held_back(&self) -> Option<HeldBack> {
        let time = Some(self.time).filter(|time| *time > Timestamp::MIN);
        self.first.map(|deadline| HeldBack::Time { time, until: Some(deadline) })
    }

    fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.time.to_be_bytes());
    }

    fn load(&mut self, saved: &[u8], context: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        let time = saved.try_into().map_err(|_| ProcessorError::Damaged)?;
        self.time = Timestamp::from_be_bytes(time);
        let is_due = self.first.is_some_and(|deadline| self.is_due(deadline));
        // Elsewhere it is a record that brings time, and waits.
        self.backlog.set_forwarding(self.is_carried && is_due);
        self.backlog.load(context)
    }
}

//! Joins each record of a stream with the version of a table's row that was valid at its time, once that cannot change in order any
//! more: after a grace.
//!
//! # Guarantees
//!
//! - A record waits until time is as far past it as the grace; records come out by time, then by key. One that is older already is
//!   joined at once.
//! - The result carries the stream record's timestamp and headers.
//! - A record whose key is null finds no row: an inner join drops and counts it, a left join emits it un-joined at once. Time has
//!   moved by then, and what waited until then comes out right after it.

use super::{
    Kept, SideStores,
    input::{Given, Input, KeyAtHand},
    kept::place,
    time::{Both, JoinTime, Side},
};
use crate::{
    JoinWindows,
    operator::{
        backlog::{Backlog, Chunked, Output},
        table_join::NullKeys,
    },
    table::Lookup,
};
use headwater_core::{
    record::Timestamp,
    serde::{Data, SharedSerde},
};
use headwater_engine::{
    node::{HeldBack, NO_ORIGIN, Progress, Stamp},
    processor::{BatchProcessor, Context, InitContext, ProcessorError, Record, Rows},
    store::{StoreKey, TimerBytes},
};
use std::{sync::Arc, time::Duration};

/// Joins a stream with a versioned table. `join` is given the version, if there was one, and gives the value, if there is to be one.
pub(crate) struct GracedTableJoin<K, V, T, F> {
    join: Arc<F>,
    table: Box<dyn Lookup<K, T>>,
    null_keys: NullKeys,
    key: KeyAtHand<K>,
    rows: Input<K, V>,
    timers: StoreKey<TimerBytes>,
    time: JoinTime,
    grace_ms: i64,
    backlog: Backlog<K, V>,
    /// When the first rows that wait for the grace come out, if any do.
    due: Option<Timestamp>,
}

/// What such a join is made from.
pub(crate) struct Graced<K, V> {
    pub(crate) keys: SharedSerde<K>,
    pub(crate) rows: SideStores<V>,
    pub(crate) timers: Arc<str>,
    /// The store of records that wait until what is due before them is out.
    pub(crate) waiting: Arc<str>,
    pub(crate) grace: Duration,
    pub(crate) null_keys: NullKeys,
}

impl<K: Data, V: Data, T: Data, F> GracedTableJoin<K, V, T, F> {
    pub(crate) fn open(
        join: &Arc<F>,
        graced: &Graced<K, V>,
        table: Box<dyn Lookup<K, T>>,
        context: &mut InitContext<'_>,
    ) -> Result<Self, ProcessorError> {
        // A row is due once time has come to its own and the grace, a ms earlier than one of two streams.
        let windows = JoinWindows::of_time_difference_and_grace(Duration::ZERO, graced.grace);
        let defers = Both { left: true, right: false };
        Ok(Self {
            join: Arc::clone(join),
            table,
            null_keys: graced.null_keys,
            key: KeyAtHand::new(&graced.keys),
            rows: Input::open(&graced.rows, context)?.taking_nulls(),
            timers: context.store(&graced.timers)?,
            time: JoinTime::new(windows.after(-1), defers, context),
            grace_ms: windows.grace_ms(),
            backlog: Backlog::open(&graced.waiting, context)?,
            due: None,
        })
    }

    fn join_row<V2: Data>(
        &self,
        row: Record<K, V>,
        passed: Timestamp,
        out: &mut Output<K, V2>,
        context: &mut Context<'_, K, V2>,
    ) -> Result<(), ProcessorError>
    where
        F: Fn(&K, V, Option<T>) -> Option<V2>,
    {
        let Stamp { origin, timestamp, .. } = row.stamp();
        let found = self.table.get_all_as_of(&[&row.key], &[timestamp], &mut context.stores())?;
        let found = match found.into_iter().next().transpose() {
            Ok(found) => found.flatten().map(|found| found.value),
            Err(refused) => return context.check(Err(refused.into())),
        };
        let Record { key, value, headers, .. } = row;
        let stamp = Stamp { origin, timestamp, at: passed };
        let value = (self.join)(&key, value, found);
        out.push_some(Record::made(key, (), headers, stamp), value);
        Ok(())
    }

    /// The time of the first row that is due.
    fn first_due<V2: Data>(
        &self,
        context: &mut Context<'_, K, V2>,
    ) -> Result<Option<Timestamp>, ProcessorError> {
        let first = context.store(self.timers).first()?;
        Ok(first.filter(|first| self.time.is_due(Side::Left, *first)))
    }

    /// Has what is due by now forwarded, where that is not a record's doing.
    fn begin_forwarding<V2: Data>(
        &mut self,
        context: &mut Context<'_, K, V2>,
    ) -> Result<(), ProcessorError> {
        self.time.begin_forwarding();
        let is_forwarding = self.first_due(context)?.is_some();
        self.backlog.set_forwarding(is_forwarding);
        if !is_forwarding {
            self.time.end_forwarding();
        }
        Ok(())
    }
}

impl<K, V, T, V2, F> Chunked<K, V, V2> for GracedTableJoin<K, V, T, F>
where
    K: Data,
    V: Data,
    T: Data,
    V2: Data,
    F: Fn(&K, V, Option<T>) -> Option<V2>,
{
    fn backlog(&mut self) -> &mut Backlog<K, V> {
        &mut self.backlog
    }

    /// The rows descend from records that came before: their letters tell none, whichever record has them come out.
    fn forward_due(
        &mut self,
        _: u32,
        out: &mut Output<K, V2>,
        context: &mut Context<'_, K, V2>,
    ) -> Result<bool, ProcessorError> {
        self.time.begin_forwarding();
        while self.first_due(context)?.is_some() {
            if out.is_full() {
                return Ok(false);
            }
            let Some((timestamp, place)) = context.store(self.timers).take_first()? else { break };
            let row = self.rows.deferred_row(timestamp, &place, context)?;
            let Some((key, value, headers)) = row else { continue };
            let headers = (!headers.is_empty()).then(|| Box::new(headers));
            let at = self.time.passed_at(Side::Left, timestamp);
            let stamp = Stamp { origin: NO_ORIGIN, timestamp, at };
            let row = Record::made(self.key.read(&key)?, value, headers, stamp);
            self.join_row(row, at, out, context)?;
        }
        self.time.end_forwarding();
        Ok(true)
    }

    fn take_record(
        &mut self,
        row: Record<K, V>,
        out: &mut Output<K, V2>,
        context: &mut Context<'_, K, V2>,
    ) -> Result<Option<Record<K, V>>, ProcessorError> {
        let Stamp { origin, timestamp, at } = row.stamp();
        if self.time.is_carried() {
            self.time.advance(at);
            if !self.forward_due(origin, out, context)? {
                return Ok(Some(row));
            }
        }
        let passed = self.time.take(timestamp, at);
        match (self.key.take(&self.rows, &row.key, &row.value, context)?, self.null_keys) {
            (Given::Gone, _) => {}
            (Given::Alone, NullKeys::Dropped) => context.check(Err(ProcessorError::NullKey))?,
            (Given::Alone, NullKeys::Unjoined) => {
                let Record { key, value, headers, .. } = row;
                let stamp = Stamp { origin, timestamp, at: passed };
                let value = (self.join)(&key, value, None);
                out.push_some(Record::made(key, (), headers, stamp), value);
            }
            (Given::Keyed, _) if self.time.is_past(timestamp.saturating_add(self.grace_ms)) => {
                self.join_row(row, passed, out, context)?;
            }
            (Given::Keyed, _) => {
                let headers = row.headers.map(|headers| *headers).unwrap_or_default();
                let kept = Kept { value: row.value, deferred: Some(headers) };
                let added = context.store(self.rows.rows).add(&row.key, timestamp, kept);
                let held = added.and_then(|sequence| {
                    let place = place(&self.key.bytes, sequence);
                    context.store(self.timers).schedule(&place, timestamp)
                });
                context.check(held.map_err(ProcessorError::from))?;
            }
        }
        // A record that was dropped has moved time as well. Also where time is carried: it may have come to where the row
        // itself is due, and tells so no more.
        let is_all = self.forward_due(origin, out, context)?;
        self.backlog.set_forwarding(!is_all);
        Ok(None)
    }

    fn move_time(
        &mut self,
        time: Timestamp,
        context: &mut Context<'_, K, V2>,
    ) -> Result<(), ProcessorError> {
        self.time.advance(time);
        self.begin_forwarding(context)
    }

    /// What is not out is kept.
    fn expire(&mut self, context: &mut Context<'_, K, V2>) -> Result<(), ProcessorError> {
        let first = context.store(self.timers).first()?;
        self.due = first.map(|first| self.time.due(Side::Left, first));
        let floor = self.time.now().saturating_sub(self.grace_ms);
        let floor = first.map_or(floor, |first| floor.min(first));
        context.store(self.rows.rows).expire_below(floor);
        Ok(())
    }
}

impl<K, V, T, V2, F> BatchProcessor<Rows<K, V>> for GracedTableJoin<K, V, T, F>
where
    K: Data,
    V: Data,
    T: Data,
    V2: Data,
    F: Fn(&K, V, Option<T>) -> Option<V2> + Send + Sync,
{
    type KOut = K;
    type VOut = V2;

    const MAY_ANSWER_MORE: bool = true;

    fn process_batch(
        &mut self,
        rows: Rows<K, V>,
        context: &mut Context<'_, K, V2>,
    ) -> Result<(), ProcessorError> {
        self.take_batch(rows.into_iter(), context)
    }

    fn advance(
        &mut self,
        time: Timestamp,
        context: &mut Context<'_, K, V2>,
    ) -> Result<(), ProcessorError> {
        self.advance_to(time, context)
    }

    fn end(&mut self, context: &mut Context<'_, K, V2>) -> Result<(), ProcessorError> {
        if let Some(last) = context.store(self.timers).last()? {
            self.time.end(Side::Left, last);
        }
        self.begin_forwarding(context)?;
        self.expire(context)
    }

    fn progress(&self) -> Progress {
        self.backlog.progress()
    }

    fn resume(
        &mut self,
        rows_max: usize,
        context: &mut Context<'_, K, V2>,
    ) -> Result<(), ProcessorError> {
        self.go_on(rows_max, context)
    }

    fn pass_time(&self, time: Timestamp) -> Timestamp {
        self.time.pass_time(self.backlog.first_at().map_or(time, |at| time.min(at)))
    }

    fn holds_rows(&self) -> bool {
        self.due.is_some()
    }

    fn held_back(&self) -> Option<HeldBack> {
        self.due.map(|due| self.time.held_back(due))
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.time.save(out);
    }

    fn load(&mut self, saved: &[u8], context: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        if !self.time.load(saved)?.is_empty() {
            return Err(ProcessorError::Damaged);
        }
        let first = context.store_mut(self.timers).first()?;
        self.due = first.map(|first| self.time.due(Side::Left, first));
        let is_due = first.is_some_and(|first| self.time.is_due(Side::Left, first));
        self.backlog.set_forwarding(is_due);
        self.backlog.load(context)
    }
}

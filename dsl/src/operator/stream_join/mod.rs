//! Joins the records of two streams that lie close enough in time.
//!
//! # Guarantees
//!
//! - Each pair comes out once, when its second record arrives: those of one record by the time of the other, with the greater of
//!   both timestamps and the headers of the record that arrived.
//! - A record that nothing matches is deferred, where its side may come out un-joined, until time is past all that might match it
//!   and the grace; then it comes out with its own timestamp and headers. One that comes too late to be matched in order does so
//!   at once.
//! - A record that has matched never comes out un-joined.
//! - A record whose value is null is dropped and counted; so is one whose key is null, unless its side may come out un-joined:
//!   then it does at once.
//!
//! # State
//!
//! Each side keeps its rows in a store by key and time. Deferred ones have their [places](kept::place) in the timers of their side,
//! by their own time, and leave the stores only once they are out. Where one record has more fall due than goes at a time, or more
//! matches, it and those after it [wait](super::backlog) in a store of their own.

mod either;
mod graced;
mod input;
mod kept;
mod self_join;
mod time;

pub(crate) use either::EitherSerde;
pub(crate) use graced::{Graced, GracedTableJoin};
pub(crate) use kept::{Kept, KeptSerde};
pub(crate) use self_join::SelfJoin;
pub(crate) use time::endless_wait_ms;

use super::backlog::{Backlog, Chunked, Output};
use crate::JoinWindows;
use headwater_core::{
    ports::state::Order,
    record::Timestamp,
    serde::{Data, SharedSerde},
};
use headwater_engine::{
    node::{HeldBack, NO_ORIGIN, Progress, Stamp},
    processor::{BatchProcessor, Context, Either, InitContext, ProcessorError, Record, Rows},
    store::{StoreKey, TimeBytes, Timed, TimerBytes},
};
use input::{Given, Input, KeyAtHand};
use std::{ops::RangeInclusive, sync::Arc};
use time::{Both, JoinTime, Side};

/// What a join is made from within a task.
pub(crate) struct Joining<K, L, R> {
    pub(crate) windows: JoinWindows,
    pub(crate) keys: SharedSerde<K>,
    pub(crate) left: SideStores<L>,
    pub(crate) right: SideStores<R>,
    /// The store of records that wait.
    pub(crate) waiting: Arc<str>,
}

/// How a side is kept.
pub(crate) struct SideStores<V> {
    pub(crate) values: SharedSerde<V>,
    /// The store of its rows.
    pub(crate) rows: Arc<str>,
    /// The timers of those that are deferred, if any may be.
    pub(crate) deferred: Option<Arc<str>>,
}

/// Joins two streams. `join` is given what a row is made of, one of each side or one alone, and gives its value, if there is to be
/// one.
pub(crate) struct StreamJoin<K, L, R, F> {
    join: Arc<F>,
    key: KeyAtHand<K>,
    left: Input<K, L>,
    right: Input<K, R>,
    time: JoinTime,
    /// When the first row that is deferred comes out, if any is.
    due: Option<Timestamp>,
    backlog: Backlog<K, Either<L, R>>,
    /// How far the first record that waits has been paired.
    pairing: Option<Pairing>,
}

/// A record some of whose pairs are out.
#[derive(Debug, Clone, Copy)]
struct Pairing {
    /// What was passed on before it.
    passed: Timestamp,
    /// Time and sequence of the last row that it was paired with.
    after: (Timestamp, u32),
}

impl Pairing {
    fn save(self, out: &mut Vec<u8>) {
        let Self { passed, after: (time, sequence) } = self;
        out.extend_from_slice(&passed.to_be_bytes());
        out.extend_from_slice(&time.to_be_bytes());
        out.extend_from_slice(&sequence.to_be_bytes());
    }

    /// What was saved; nothing if nothing was left.
    fn load(saved: &[u8]) -> Result<Option<Self>, ProcessorError> {
        if saved.is_empty() {
            return Ok(None);
        }
        let (passed, rest) = saved.split_first_chunk().ok_or(ProcessorError::Damaged)?;
        let (time, sequence) = rest.split_first_chunk().ok_or(ProcessorError::Damaged)?;
        let sequence = sequence.try_into().map_err(|_| ProcessorError::Damaged)?;
        let after = (Timestamp::from_be_bytes(*time), u32::from_be_bytes(sequence));
        Ok(Some(Self { passed: Timestamp::from_be_bytes(*passed), after }))
    }
}

impl<K: Data, L: Data, R: Data, F> StreamJoin<K, L, R, F> {
    pub(crate) fn open(
        join: &Arc<F>,
        joining: &Joining<K, L, R>,
        context: &mut InitContext<'_>,
    ) -> Result<Self, ProcessorError> {
        let left = Input::open(&joining.left, context)?;
        let right = Input::open(&joining.right, context)?;
        let defers = Both { left: left.deferred.is_some(), right: right.deferred.is_some() };
        Ok(Self {
            join: Arc::clone(join),
            key: KeyAtHand::new(&joining.keys),
            left,
            right,
            time: JoinTime::new(joining.windows, defers, context),
            due: None,
            backlog: Backlog::open(&joining.waiting, context)?,
            pairing: None,
        })
    }

    fn timers(&self, side: Side) -> Option<StoreKey<TimerBytes>> {
        match side {
            Side::Left => self.left.deferred,
            Side::Right => self.right.deferred,
        }
    }

    /// A row of `side` at `timestamp` is deferred.
    fn hold_back(&mut self, side: Side, timestamp: Timestamp) {
        let due = self.time.due(side, timestamp);
        self.due = self.due.into_iter().chain([due]).min();
    }

    /// The side whose first deferred row comes out next, if it is due.
    fn first_due<V: Data>(
        &self,
        context: &mut Context<'_, K, V>,
    ) -> Result<Option<(Side, StoreKey<TimerBytes>)>, ProcessorError> {
        let mut first = None;
        for side in Side::ALL {
            let Some(timers) = self.timers(side) else { continue };
            let due = context.store(timers).first()?.filter(|time| self.time.is_due(side, *time));
            if let Some(time) = due {
                let next = (self.time.rank(side, time), side);
                first = match first {
                    Some((before, found)) if before <= next => Some((before, found)),
                    _ => Some((next, timers)),
                };
            }
        }
        Ok(first.map(|((_, side), timers)| (side, timers)))
    }

    /// Has what is due by now forwarded, where that is not a record's doing.
    fn begin_forwarding<V: Data>(
        &mut self,
        context: &mut Context<'_, K, V>,
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

/// What `join` makes of each pair is one of `V`.
impl<K, L, R, V, F> Chunked<K, Either<L, R>, V> for StreamJoin<K, L, R, F>
where
    K: Data,
    L: Data,
    R: Data,
    V: Data,
    F: Fn(&K, Option<L>, Option<R>) -> Option<V>,
{
    fn backlog(&mut self) -> &mut Backlog<K, Either<L, R>> {
        &mut self.backlog
    }

    fn forward_due(
        &mut self,
        origin: u32,
        out: &mut Output<K, V>,
        context: &mut Context<'_, K, V>,
    ) -> Result<bool, ProcessorError> {
        self.time.begin_forwarding();
        while let Some((side, timers)) = self.first_due(context)? {
            if out.is_full() {
                return Ok(false);
            }
            let Some((timestamp, place)) = context.store(timers).take_first()? else { break };
            let (key, headers, value) = match side {
                Side::Left => {
                    let row = self.left.deferred_row(timestamp, &place, context)?;
                    let Some((key, left, headers)) = row else { continue };
                    let key = self.key.read(&key)?;
                    let value = (self.join)(&key, Some(left), None);
                    (key, headers, value)
                }
                Side::Right => {
                    let row = self.right.deferred_row(timestamp, &place, context)?;
                    let Some((key, right, headers)) = row else { continue };
                    let key = self.key.read(&key)?;
                    let value = (self.join)(&key, None, Some(right));
                    (key, headers, value)
                }
            };
            let headers = (!headers.is_empty()).then(|| Box::new(headers));
            let stamp = Stamp { origin, timestamp, at: self.time.passed_at(side, timestamp) };
            out.push_some(Record::made(key, (), headers, stamp), value);
        }
        self.time.end_forwarding();
        Ok(true)
    }

    fn take_record(
        &mut self,
        record: Record<K, Either<L, R>>,
        out: &mut Output<K, V>,
        context: &mut Context<'_, K, V>,
    ) -> Result<Option<Record<K, Either<L, R>>>, ProcessorError> {
        let Stamp { origin, timestamp, at } = record.stamp();
        let (is_carried, is_new) = (self.time.is_carried(), self.pairing.is_none());
        if is_new && is_carried {
            self.time.advance(at);
            // Whether a row or a mark brings this time is nobody's promise.
            if !self.forward_due(NO_ORIGIN, out, context)? {
                return Ok(Some(record));
            }
        }
        let passed = if is_new { self.time.take(timestamp, at) } else { at };
        let given = match &record.value {
            Either::Left(value) => self.key.take(&self.left, &record.key, value, context)?,
            Either::Right(value) => self.key.take(&self.right, &record.key, value, context)?,
        };
        let is_in_order = given == Given::Keyed && self.time.is_in_order(timestamp);
        let releases = is_new && !is_carried && is_in_order;
        if releases && !self.forward_due(origin, out, context)? {
            return Ok(Some(record));
        }
        let Self { join, key: at_hand, left, right, time, pairing, .. } = self;
        let key_bytes = &*at_hand.bytes;
        let (frame, key, value) = record.split();
        match value {
            Either::Left(value) => {
                let row = frame.map(|(), ()| (key, value));
                let pair = |key: &K, left, right| join(key, Some(left), right);
                let way = Way {
                    side: Side::Left,
                    own: left,
                    other: right,
                    time,
                    key_bytes,
                    given,
                    passed,
                    pairing,
                };
                let left = way.take(row, pair, out, context)?;
                Ok(left.map(|row| row.map(|key, value| (key, Either::Left(value)))))
            }
            Either::Right(value) => {
                let row = frame.map(|(), ()| (key, value));
                let pair = |key: &K, right, left| join(key, left, Some(right));
                let way = Way {
                    side: Side::Right,
                    own: right,
                    other: left,
                    time,
                    key_bytes,
                    given,
                    passed,
                    pairing,
                };
                let left = way.take(row, pair, out, context)?;
                Ok(left.map(|row| row.map(|key, value| (key, Either::Right(value)))))
            }
        }
    }

    fn move_time(
        &mut self,
        time: Timestamp,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        self.time.advance(time);
        self.begin_forwarding(context)
    }

    /// What is deferred is kept.
    fn expire(&mut self, context: &mut Context<'_, K, V>) -> Result<(), ProcessorError> {
        self.due = None;
        let mut floors = Both { left: Timestamp::MAX, right: Timestamp::MAX };
        for side in Side::ALL {
            if let Some(timers) = self.timers(side)
                && let Some(first) = context.store(timers).first()?
            {
                *floors.of_mut(side) = first;
                self.hold_back(side, first);
            }
        }
        let floor = |side| self.time.kept_from(side).min(*floors.of(side));
        context.store(self.left.rows).expire_below(floor(Side::Left));
        context.store(self.right.rows).expire_below(floor(Side::Right));
        Ok(())
    }

    fn goes_on_at_once(&self) -> bool {
        self.pairing.is_some()
    }
}

/// Which way a row goes: its side, where that is kept and where the other is, at the join's time; its key's bytes and what they make
/// of it; the time that was passed on when it came; and how far it was paired.
struct Way<'a, K, O, T> {
    side: Side,
    own: &'a Input<K, O>,
    other: &'a Input<K, T>,
    time: &'a mut JoinTime,
    key_bytes: &'a [u8],
    given: Given,
    passed: Timestamp,
    pairing: &'a mut Option<Pairing>,
}

/// Whether a row waits for another one to join, as one that is alone does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deferral {
    /// Unless it is late.
    IfInTime,
    Never,
}

impl<K: Data, O: Data, T: Data> Way<'_, K, O, T> {
    /// Takes a row, or goes on pairing it; gives it back if it has more pairs than go now.
    fn take<V: Data>(
        mut self,
        row: Record<K, O>,
        pair: impl Fn(&K, O, Option<T>) -> Option<V>,
        out: &mut Output<K, V>,
        context: &mut Context<'_, K, V>,
    ) -> Result<Option<Record<K, O>>, ProcessorError> {
        let before = self.pairing.take();
        let room = out.room().max(1);
        let mut found = match self.given {
            Given::Gone => return Ok(None),
            Given::Keyed => {
                let times = self.time.joined_by(self.side, row.stamp().timestamp);
                let after = before.map(|before| before.after);
                let rows = context.store(self.other.rows).by_bytes();
                matches(rows, self.key_bytes, times, after, room.saturating_add(1))?
            }
            Given::Alone => Vec::new(),
        };
        let Stamp { origin, timestamp, .. } = row.stamp();
        let passed = before.map_or(self.passed, |before| before.passed);
        let stamp = |timestamp| Stamp { origin, timestamp, at: passed };
        if before.is_none() {
            let is_alone = found.is_empty() && self.time.defers(self.side);
            let deferral = if is_alone { Deferral::IfInTime } else { Deferral::Never };
            if self.given == Given::Keyed && !self.keep(&row, deferral, context)? {
                return Ok(None);
            }
            if is_alone {
                let Record { key, value, headers, .. } = row;
                let value = pair(&key, value, None);
                out.push_some(Record::made(key, (), headers, stamp(timestamp)), value);
                return Ok(None);
            }
        }
        let has_more = found.len() > room;
        found.truncate(room);
        let last = found.last().map(|row| (row.time, row.sequence));
        for Timed { time, sequence, value: Kept { value, deferred } } in found {
            if let (Some(timers), Some(_)) = (self.other.deferred, deferred) {
                context.store(timers).cancel(&kept::place(self.key_bytes, sequence), time)?;
            }
            let (key, headers) = (row.key.clone(), row.headers.clone());
            let made = pair(&key, row.value.clone(), Some(value));
            out.push_some(Record::made(key, (), headers, stamp(timestamp.max(time))), made);
        }
        *self.pairing = last.filter(|_| has_more).map(|after| Pairing { passed, after });
        Ok(has_more.then_some(row))
    }

    /// Keeps a row, and defers it if told so; whether it may come out now.
    fn keep<V: Data>(
        &mut self,
        row: &Record<K, O>,
        deferral: Deferral,
        context: &mut Context<'_, K, V>,
    ) -> Result<bool, ProcessorError> {
        let timestamp = row.stamp().timestamp;
        if !self.time.keep(self.side, timestamp) {
            return Ok(true);
        }
        let is_deferred =
            deferral == Deferral::IfInTime && !self.time.is_late(self.side, timestamp);
        let deferred = is_deferred.then(|| row.headers.as_deref().cloned().unwrap_or_default());
        let kept = Kept { value: row.value.clone(), deferred };
        let added = context.store(self.own.rows).add(&row.key, timestamp, kept);
        let deferred = added.and_then(|sequence| match self.own.deferred.filter(|_| is_deferred) {
            Some(timers) => {
                let place = kept::place(self.key_bytes, sequence);
                context.store(timers).schedule(&place, timestamp).map(|()| true)
            }
            None => Ok(false),
        });
        match deferred {
            Ok(is_deferred) => Ok(!is_deferred),
            Err(refused) => context.check(Err(refused.into())).map(|()| false),
        }
    }
}

impl<K, L, R, V, F> BatchProcessor<Either<Rows<K, L>, Rows<K, R>>> for StreamJoin<K, L, R, F>
where
    K: Data,
    L: Data,
    R: Data,
    V: Data,
    F: Fn(&K, Option<L>, Option<R>) -> Option<V> + Send + Sync,
{
    type KOut = K;
    type VOut = V;

    const MAY_ANSWER_MORE: bool = true;

    fn process_batch(
        &mut self,
        input: Either<Rows<K, L>, Rows<K, R>>,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        match input {
            Either::Left(rows) => {
                let side = |row: Record<K, L>| row.map(|key, left| (key, Either::Left(left)));
                self.take_batch(rows.into_iter().map(side), context)
            }
            Either::Right(rows) => {
                let side = |row: Record<K, R>| row.map(|key, right| (key, Either::Right(right)));
                self.take_batch(rows.into_iter().map(side), context)
            }
        }
    }

    fn advance(
        &mut self,
        time: Timestamp,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        self.advance_to(time, context)
    }

    fn end(&mut self, context: &mut Context<'_, K, V>) -> Result<(), ProcessorError> {
        for side in Side::ALL {
            if let Some(timers) = self.timers(side)
                && let Some(last) = context.store(timers).last()?
            {
                self.time.end(side, last);
            }
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
        context: &mut Context<'_, K, V>,
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
        if let Some(pairing) = self.pairing {
            pairing.save(out);
        }
    }

    fn load(&mut self, saved: &[u8], context: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        self.pairing = Pairing::load(self.time.load(saved)?)?;
        let mut is_forwarding = false;
        for side in Side::ALL {
            let Some(timers) = self.timers(side) else { continue };
            let first = context.store_mut(timers).first()?;
            first.into_iter().for_each(|first| self.hold_back(side, first));
            is_forwarding |= first.is_some_and(|time| self.time.is_due(side, time));
        }
        self.backlog.set_forwarding(is_forwarding);
        self.backlog.load(context)
    }
}

/// The rows of a key within some times, by time and sequence, at most `rows_max`; those past `after` alone, if that is given.
fn matches<V: Data>(
    rows: &mut TimeBytes<V>,
    key: &[u8],
    times: RangeInclusive<Timestamp>,
    after: Option<(Timestamp, u32)>,
    rows_max: usize,
) -> Result<Vec<Timed<V>>, ProcessorError> {
    let from = after.map_or(*times.start(), |(time, _)| time.max(*times.start()));
    let found = rows.fetch(key, from..=*times.end(), Order::Ascending)?;
    let is_left = |row: &Result<Timed<V>, _>| match (row, after) {
        (Ok(row), Some(after)) => (row.time, row.sequence) > after,
        _ => true,
    };
    Ok(found.filter(is_left).take(rows_max).collect::<Result<_, _>>()?)
}

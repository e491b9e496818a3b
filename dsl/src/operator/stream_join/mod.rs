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
//! by their own time, and leave the stores only once they are out. Where one record has more fall due than goes at a time, it and
//! those after it [wait](waiting) in a store of their own.

mod graced;
mod input;
mod kept;
mod self_join;
mod time;
mod waiting;

pub(crate) use graced::{Graced, GracedTableJoin};
pub(crate) use kept::{Kept, KeptSerde};
pub(crate) use self_join::SelfJoin;
pub(crate) use waiting::WaitsSerde;

use crate::JoinWindows;
use headwater_core::{
    ports::state::Order,
    record::Timestamp,
    serde::{Data, SharedSerde},
};
use headwater_engine::{
    node::{HeldBack, NO_ORIGIN, Progress, Stamp},
    processor::{BatchProcessor, Context, Either, InitContext, ProcessorError, Record, Rows},
    store::{StoreKey, Timed, TimerBytes},
};
use input::{Given, Input, KeyAtHand};
use std::sync::Arc;
use time::{Both, JoinTime, Side};
use waiting::{Arrived, Waiting};

/// What a join is made from within a task.
pub(crate) struct Joining<K, L, R> {
    pub(crate) windows: JoinWindows,
    pub(crate) keys: SharedSerde<K>,
    pub(crate) left: Stored<L>,
    pub(crate) right: Stored<R>,
    /// The store of records that wait, if anything may be deferred.
    pub(crate) waiting: Option<Arc<str>>,
}

/// How a side is kept.
pub(crate) struct Stored<V> {
    pub(crate) values: SharedSerde<V>,
    /// The store of its rows.
    pub(crate) rows: Arc<str>,
    /// The timers of those that are deferred, if any may be.
    pub(crate) deferred: Option<Arc<str>>,
}

/// Joins two streams. `join` is given what a row is made of, one of each side or one alone, and gives its value, if there is to be
/// one.
pub(crate) struct StreamJoin<K, L, R, F, const DEFERS: bool> {
    join: Arc<F>,
    key: KeyAtHand<K>,
    left: Input<K, L>,
    right: Input<K, R>,
    time: JoinTime,
    /// When the first row that is deferred comes out, if any is.
    due: Option<Timestamp>,
    waiting: Option<Waiting<K, L, R>>,
    /// Whether time alone has had rows fall due that are not out yet.
    is_forwarding: bool,
    /// Where time has come to since.
    advanced: Option<Timestamp>,
}

/// Results on their way.
struct Output<K, V> {
    rows: Rows<K, V>,
    /// How many go at a time, but for those of one record.
    rows_max: usize,
}

impl<K, V> Output<K, V> {
    fn new(rows_max: usize) -> Self {
        Self { rows: Vec::new(), rows_max }
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= self.rows_max
    }

    /// Adds a result, if there is one.
    fn push(&mut self, row: Record<K, ()>, value: Option<V>) {
        self.rows.extend(value.map(|value| row.with_value(value)));
    }
}

/// How many results there may be for each record taken, on the whole, before what is left waits.
const RESULTS_PER_RECORD: usize = 8;

impl<K: Data, L: Data, R: Data, F, const DEFERS: bool> StreamJoin<K, L, R, F, DEFERS> {
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
            time: JoinTime::new(joining.windows, defers, context.is_time_carried()),
            due: None,
            waiting: joining.waiting.as_ref().map(|it| Waiting::open(it, context)).transpose()?,
            is_forwarding: false,
            advanced: None,
        })
    }

    fn timers(&self, side: Side) -> Option<StoreKey<TimerBytes>> {
        match side {
            Side::Left => self.left.deferred,
            Side::Right => self.right.deferred,
        }
    }

    /// Whether anything is left to forward.
    fn has_more(&self) -> bool {
        self.is_forwarding || self.waiting.as_ref().is_some_and(|waiting| !waiting.is_empty())
    }

    /// A row of `side` at `timestamp` is deferred.
    fn hold_back(&mut self, side: Side, timestamp: Timestamp) {
        let due = self.time.due(side, timestamp);
        self.due = self.due.into_iter().chain([due]).min();
    }

    /// Removes what is no longer kept, but for what is deferred.
    fn expire<V: Data>(&mut self, context: &mut Context<'_, K, V>) -> Result<(), ProcessorError> {
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
        self.is_forwarding = self.first_due(context)?.is_some();
        if !self.is_forwarding {
            self.time.end_forwarding();
        }
        self.expire(context)
    }
}

/// What `join` makes of each pair is one of `V`.
impl<K, L, R, V, F, const DEFERS: bool> StreamJoin<K, L, R, F, DEFERS>
where
    K: Data,
    L: Data,
    R: Data,
    V: Data,
    F: Fn(&K, Option<L>, Option<R>) -> Option<V>,
{
    /// Forwards what is due, the oldest first; false if not all of it went.
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
            let at = (timestamp, &place[..]);
            let (key, headers, value) = match side {
                Side::Left => {
                    let Some((key, left, headers)) = self.left.deferred_row(at, context)? else {
                        continue;
                    };
                    let key = self.key.read(&key)?;
                    let value = (self.join)(&key, Some(left), None);
                    (key, headers, value)
                }
                Side::Right => {
                    let Some((key, right, headers)) = self.right.deferred_row(at, context)? else {
                        continue;
                    };
                    let key = self.key.read(&key)?;
                    let value = (self.join)(&key, None, Some(right));
                    (key, headers, value)
                }
            };
            let headers = (!headers.is_empty()).then(|| Box::new(headers));
            let stamp = Stamp { origin, timestamp, at: self.time.passed_at(side, timestamp) };
            out.push(Record::made(key, (), headers, stamp), value);
        }
        self.time.end_forwarding();
        Ok(true)
    }

    /// Takes a record, unless more is due before it than goes at a time: then it is given back.
    fn take_record(
        &mut self,
        record: Arrived<K, L, R>,
        out: &mut Output<K, V>,
        context: &mut Context<'_, K, V>,
    ) -> Result<Option<Arrived<K, L, R>>, ProcessorError> {
        context.begin(&record);
        let Stamp { origin, timestamp, at } = record.stamp();
        let is_carried = self.time.is_carried();
        if is_carried {
            self.time.advance(at);
            if !self.forward_due(origin, out, context)? {
                return Ok(Some(record));
            }
        }
        let passed = self.time.take(timestamp, at);
        let given = match &record.value {
            Either::Left(value) => self.key.take(&self.left, (&record.key, value), context)?,
            Either::Right(value) => self.key.take(&self.right, (&record.key, value), context)?,
        };
        let releases = !is_carried && given == Given::Keyed && self.time.is_in_order(timestamp);
        if releases && !self.forward_due(origin, out, context)? {
            return Ok(Some(record));
        }
        let Self { join, key: at_hand, left, right, time, .. } = self;
        let (frame, key, value) = record.split();
        let key_bytes = &at_hand.bytes;
        match value {
            Either::Left(value) => {
                let row = (frame.map(|(), ()| (key, value)), passed);
                let pair = |key: &K, left, right| join(key, Some(left), right);
                let way = Way { side: Side::Left, own: left, other: right, time, key_bytes };
                way.take(given, row, pair, out, context)?;
            }
            Either::Right(value) => {
                let row = (frame.map(|(), ()| (key, value)), passed);
                let pair = |key: &K, right, left| join(key, left, Some(right));
                let way = Way { side: Side::Right, own: right, other: left, time, key_bytes };
                way.take(given, row, pair, out, context)?;
            }
        }
        Ok(None)
    }

    /// Takes a record, or has it wait.
    fn arrive(
        &mut self,
        record: Arrived<K, L, R>,
        out: &mut Output<K, V>,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        let waits = if self.has_more() || out.is_full() {
            Some(record)
        } else {
            self.take_record(record, out, context)?
        };
        match (waits, &mut self.waiting) {
            (Some(record), Some(waiting)) => waiting.add(record, context),
            _ => Ok(()),
        }
    }

    /// Goes on with what waits until there are enough results.
    fn go_on(
        &mut self,
        out: &mut Output<K, V>,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        while !out.is_full() {
            if self.is_forwarding {
                self.is_forwarding = !self.forward_due(NO_ORIGIN, out, context)?;
                continue;
            }
            let first = self.waiting.as_ref().map(|waiting| waiting.first(context)).transpose()?;
            if let Some(record) = first.flatten() {
                if self.take_record(record, out, context)?.is_none()
                    && let Some(waiting) = &mut self.waiting
                {
                    waiting.remove_first(context)?;
                }
                continue;
            }
            let Some(time) = self.advanced.take() else { break };
            self.time.advance(time);
            self.begin_forwarding(context)?;
        }
        Ok(())
    }
}

/// Which way a row goes: its side, where that is kept and where the other is, at the join's time; and its key's bytes.
struct Way<'a, K, O, T> {
    side: Side,
    own: &'a Input<K, O>,
    other: &'a Input<K, T>,
    time: &'a mut JoinTime,
    key_bytes: &'a [u8],
}

impl<K: Data, O: Data, T: Data> Way<'_, K, O, T> {
    /// Takes a row, at which so much time was passed on.
    fn take<V: Data>(
        mut self,
        given: Given,
        (row, passed): (Record<K, O>, Timestamp),
        pair: impl Fn(&K, O, Option<T>) -> Option<V>,
        out: &mut Output<K, V>,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        let matches = match given {
            Given::Gone => return Ok(()),
            Given::Keyed => self.matches(row.stamp().timestamp, context)?,
            Given::Alone => Vec::new(),
        };
        let is_alone = matches.is_empty() && self.time.defers(self.side);
        if given == Given::Keyed && !self.keep(&row, is_alone, context)? {
            return Ok(());
        }
        let Stamp { origin, timestamp, .. } = row.stamp();
        let Record { key, value, headers, .. } = row;
        let stamp = |timestamp| Stamp { origin, timestamp, at: passed };
        if is_alone {
            let value = pair(&key, value, None);
            out.push(Record::made(key, (), headers, stamp(timestamp)), value);
            return Ok(());
        }
        for Timed { time, sequence, value: Kept { value: found, deferred } } in matches {
            if let (Some(timers), Some(_)) = (self.other.deferred, deferred) {
                context.store(timers).cancel(&kept::place(self.key_bytes, sequence), time)?;
            }
            let stamp = stamp(timestamp.max(time));
            let made = Record::made(key.clone(), (), headers.clone(), stamp);
            out.push(made, pair(&key, value.clone(), Some(found)));
        }
        Ok(())
    }

    /// What the other side keeps for a row at `timestamp`.
    fn matches<V: Data>(
        &self,
        timestamp: Timestamp,
        context: &mut Context<'_, K, V>,
    ) -> Result<Vec<Timed<Kept<T>>>, ProcessorError> {
        let times = self.time.joined_by(self.side, timestamp);
        let rows = context.store(self.other.rows).by_bytes();
        let found = rows.fetch(self.key_bytes, times, Order::Ascending)?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// Keeps a row, and defers it if it is alone and not late; whether it may come out now.
    fn keep<V: Data>(
        &mut self,
        row: &Record<K, O>,
        is_alone: bool,
        context: &mut Context<'_, K, V>,
    ) -> Result<bool, ProcessorError> {
        let timestamp = row.stamp().timestamp;
        if !self.time.keep(self.side, timestamp) {
            return Ok(true);
        }
        let is_deferred = is_alone && !self.time.is_late(self.side, timestamp);
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

impl<K, L, R, V, F, const DEFERS: bool> BatchProcessor<Either<Rows<K, L>, Rows<K, R>>>
    for StreamJoin<K, L, R, F, DEFERS>
where
    K: Data,
    L: Data,
    R: Data,
    V: Data,
    F: Fn(&K, Option<L>, Option<R>) -> Option<V> + Send + Sync,
{
    type KOut = K;
    type VOut = V;

    const MAY_ANSWER_MORE: bool = DEFERS;

    fn process_batch(
        &mut self,
        input: Either<Rows<K, L>, Rows<K, R>>,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        let rows_max = |rows: usize| {
            if DEFERS { rows.saturating_mul(RESULTS_PER_RECORD) } else { usize::MAX }
        };
        let mut out;
        match input {
            Either::Left(rows) => {
                out = Output::new(rows_max(rows.len()));
                for row in rows {
                    let record = row.map(|key, value| (key, Either::Left(value)));
                    self.arrive(record, &mut out, context)?;
                }
            }
            Either::Right(rows) => {
                out = Output::new(rows_max(rows.len()));
                for row in rows {
                    let record = row.map(|key, value| (key, Either::Right(value)));
                    self.arrive(record, &mut out, context)?;
                }
            }
        }
        self.expire(context)?;
        context.forward_all(out.rows);
        Ok(())
    }

    fn advance(
        &mut self,
        time: Timestamp,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        if self.has_more() {
            self.advanced = self.advanced.max(Some(time));
            return Ok(());
        }
        self.time.advance(time);
        self.begin_forwarding(context)
    }

    fn end(&mut self, context: &mut Context<'_, K, V>) -> Result<(), ProcessorError> {
        for side in Side::ALL {
            if let Some(timers) = self.timers(side)
                && let Some(last) = context.store(timers).last()?
            {
                // Time moves no further than it must, so that input that comes after all is not late altogether.
                self.time.advance_past(side, last);
            }
        }
        self.begin_forwarding(context)
    }

    fn progress(&self) -> Progress {
        if self.has_more() { Progress::More } else { Progress::Done }
    }

    fn resume(
        &mut self,
        rows_max: usize,
        context: &mut Context<'_, K, V>,
    ) -> Result<(), ProcessorError> {
        let mut out = Output::new(rows_max);
        self.go_on(&mut out, context)?;
        self.expire(context)?;
        context.forward_all(out.rows);
        Ok(())
    }

    fn pass_time(&self, time: Timestamp) -> Timestamp {
        let first = self.waiting.as_ref().and_then(Waiting::first_at);
        self.time.pass_time(first.map_or(time, |at| time.min(at)))
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
        for side in Side::ALL {
            let Some(timers) = self.timers(side) else { continue };
            let first = context.store_mut(timers).first()?;
            first.into_iter().for_each(|first| self.hold_back(side, first));
            self.is_forwarding |= first.is_some_and(|time| self.time.is_due(side, time));
        }
        self.waiting.as_mut().map_or(Ok(()), |waiting| waiting.load(context))
    }
}

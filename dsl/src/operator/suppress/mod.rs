//! Holds the updates of a table back, and forwards the newest of each row when it is due.
//!
//! # Guarantees
//!
//! - A row is held from the first update on, under a time that later ones do not change, and comes out with the newest value
//!   and that one's timestamp and headers. What is due comes out in the order of that time, and then of the keys' bytes.
//! - Its old value is what came out before.
//! - A row that cannot be held, be it its value or its size, is a dead letter and held as a deletion. Key and value alone decide:
//!   headers that take more than a quarter of what an entry may are left out, and a value takes at most half of the rest.
//! - Of a window comes out one final row, once it is closed, or nothing if it was deleted; an update that comes after that is
//!   late: dropped and counted.
//! - A row is held, and counted into the time, before what is due is looked for. Below a repartition, where rows bring the
//!   time, what that makes due comes before the row.
//! - What is held survives with the times that it is held under, and so do the operator's time and what is left to forward.
//!
//! # What is left
//!
//! A jump of time may make every row due. At most [`EMITTED_MAX`] are forwarded with a batch; the rows of the batch after the
//! one that has made more due are put aside in a store, and taken once those are out: one by one, all would have come out
//! before them.

mod clock;
mod held;

pub(crate) use clock::{Rule, WindowClose};
use held::HELD_BYTES;
pub(crate) use held::{Held, HeldSerde, NewestSerde};

use crate::{
    settings::{Limits, Until, WhenFull},
    table::{Change, OldValues},
};
use clock::{Clock, HeldAt, read_numbers};
use headwater_core::{
    metrics::{DropReason, Emission},
    ports::state::Order,
    record::{Headers, Timestamp},
    serde::{Data, ReadBack, SharedSerde},
};
use headwater_engine::{
    broken,
    node::{Buffered, Event, Forwarded, HeldBack, NO_ORIGIN, Node, NodeContext, Progress, Stamp},
    processor::{InitContext, Ports, ProcessorError, Record, Rows},
    store::{
        EntryCheck, KeyBatch, KeyValueBytes, Scanned, StoreKey, TimerBytes, ValueAndTimestamp,
        Window,
    },
};
use std::{mem::take, ops::Bound, sync::Arc};

/// The most rows that are forwarded with a batch.
const EMITTED_MAX: usize = 1_024;
/// How many rows that were put aside are read at a time.
const ASIDE_READ_MAX: usize = 1_024;

/// What a suppression is called, and its stores.
#[derive(Clone)]
pub(crate) struct Names {
    pub(crate) node: Arc<str>,
    /// The rows that are held, by key.
    pub(crate) held: Arc<str>,
    /// Their keys, by the time that they are held under.
    pub(crate) times: Arc<str>,
    /// Rows that were put aside, by a number and their key.
    pub(crate) aside: Arc<str>,
}

/// What a suppression is told.
pub(crate) struct Config<K, V> {
    pub(crate) names: Names,
    pub(crate) until: Until<K>,
    pub(crate) rule: Rule,
    pub(crate) limits: Limits,
    pub(crate) keys: SharedSerde<K>,
    pub(crate) values: SharedSerde<V>,
}

/// How much is held.
#[derive(Debug, Clone, Copy, Default)]
struct Amount {
    records: i64,
    bytes: i64,
}

/// Holds the updates of a table back.
pub(crate) struct Suppress<K, V> {
    config: Arc<Config<K, V>>,
    old_values: OldValues,
    held: StoreKey<KeyValueBytes<Held<V>>>,
    times: StoreKey<TimerBytes>,
    aside: StoreKey<KeyValueBytes<Held<V>>>,
    clock: Clock,
    amount: Amount,
    /// What the oldest row is held under.
    oldest: Option<Timestamp>,
    /// Whether more is due than was forwarded.
    has_more: bool,
    /// How many rows were ever put aside, and how many of them taken.
    aside_put: i64,
    aside_taken: i64,
    /// The newest time told while something was left to forward.
    latest: Timestamp,
    /// The input is complete, and all that is held comes out once nothing else is left.
    is_ended: bool,
    known: ReadBack,
    /// What is held of values, and how many bytes of headers.
    kept: EntryCheck<V>,
    headers_bytes_max: usize,
    keys: KeyBatch,
    results: Rows<K, Change<V>>,
}

/// A row as it came.
struct Update<V> {
    new: Option<V>,
    old: Option<ValueAndTimestamp<V>>,
    headers: Option<Box<Headers>>,
    stamp: Stamp,
}

impl<K: Data, V: Data> Suppress<K, V> {
    pub(crate) fn open(
        config: &Arc<Config<K, V>>,
        old_values: OldValues,
        context: &mut InitContext<'_>,
    ) -> Result<Self, ProcessorError> {
        let Names { held, times, aside, .. } = &config.names;
        let clock = Clock::new(config.rule, context);
        let headers_bytes_max = context.record_bytes_max() / 4;
        // Of a window nothing came out before.
        let values = if matches!(config.rule, Rule::Limit(_)) { 2 } else { 1 };
        let kept = context.entry_check(held, &config.keys, &config.values);
        let kept = kept.among(values, headers_bytes_max + HELD_BYTES);
        Ok(Self {
            config: Arc::clone(config),
            old_values,
            held: context.byte_store(held)?,
            times: context.byte_store(times)?,
            aside: context.byte_store(aside)?,
            clock,
            amount: Amount::default(),
            oldest: None,
            has_more: false,
            aside_put: 0,
            aside_taken: 0,
            latest: Timestamp::MIN,
            is_ended: false,
            known: ReadBack::default(),
            kept,
            headers_bytes_max,
            keys: KeyBatch::default(),
            results: Vec::new(),
        })
    }

    fn take_batch(
        &mut self,
        rows: Rows<K, Change<V>>,
        context: &mut NodeContext<'_>,
    ) -> Result<(), ProcessorError> {
        let mut keys = take(&mut self.keys);
        keys.clear();
        rows.iter().for_each(|row| keys.push(|out| self.config.keys.serialize_key(&row.key, out)));
        let slots = context.byte_store(self.held).locate(&keys)?;
        let mut left = EMITTED_MAX;
        for (place, (row, slot)) in rows.into_iter().zip(slots).enumerate() {
            let stamp = row.stamp();
            let Record { value: Change { new, old, is_latest }, headers, .. } = row;
            let Some(key) = keys.get(place).filter(|_| slot.is_some()) else {
                let Some(why) = context.byte_store(self.held).refusal(&keys, place) else {
                    broken("a key that is nowhere is refused")
                };
                context.reject(stamp.origin, keys.get(place), why.into())?;
                continue;
            };
            if !is_latest {
                // A newer update was there before.
                context.drop_rows(1, DropReason::Late);
                continue;
            }
            let update = Update { new, old, headers, stamp };
            let refused = match self.progress() {
                Progress::More => Some(update),
                Progress::Done | Progress::Waits => {
                    self.take_row(key, update, &mut left, context)?
                }
            };
            if let Some(update) = refused {
                self.put_aside(key, update, context)?;
            }
        }
        self.keys = keys;
        Ok(())
    }

    /// Takes a row; gives it back if more is due before it than may be forwarded now.
    fn take_row(
        &mut self,
        key: &[u8],
        update: Update<V>,
        left: &mut usize,
        context: &mut NodeContext<'_>,
    ) -> Result<Option<Update<V>>, ProcessorError> {
        if self.clock.is_carried {
            self.clock.reach(update.stamp.at);
            if !self.emit_due(left, context)? {
                return Ok(Some(update));
            }
        } else {
            self.clock.reach(update.stamp.timestamp);
        }
        self.hold(key, update, context)?;
        self.emit_due(left, context)?;
        Ok(None)
    }

    /// Puts a row into the buffer.
    fn hold(
        &mut self,
        key: &[u8],
        update: Update<V>,
        context: &mut NodeContext<'_>,
    ) -> Result<(), ProcessorError> {
        let Update { new, old, headers, stamp } = update;
        // What is refused is no row: what came out before goes, and nothing is told of it once it is replaced.
        let checked = new.as_ref().map_or(Ok(()), |new| self.kept.check(key, new));
        let new = new.filter(|_| checked.is_ok());
        let old = old.filter(|old| self.kept.check(key, &old.value).is_ok());
        if let Err(why) = checked {
            context.reject(stamp.origin, Some(key), why.into())?;
        }
        let headers = headers.filter(|headers| headers.size_bytes() <= self.headers_bytes_max);
        let passed = self.clock.take(stamp.at, self.oldest);
        let window = self.window_of(key, context)?;
        let HeldAt { under, at_least } = self.clock.held_at(stamp.timestamp, window);
        if window.is_some() && self.clock.is_due(under) {
            context.drop_rows(1, DropReason::Late);
            return Ok(());
        }
        let old_value = old.as_ref().map(|old| &old.value);
        let bytes = self.count_bytes(key, [new.as_ref(), old_value], headers.as_deref());
        let store = context.byte_store(self.held);
        let slot = store.locate_one(key)?;
        let changed = store.update(slot, |value, timestamp| {
            *timestamp = stamp.timestamp;
            let before = value.take();
            let first = before.as_ref().map(|held| (held.under, held.bytes));
            let (old, under, at) = match before {
                Some(held) => (held.old, held.under, held.at),
                None => (old, under, at_least.max(passed)),
            };
            // A window that is deleted has nothing to say, unless it comes to be again.
            if window.is_none() || new.is_some() {
                *value = Some(Held { new, old, headers, under, at, bytes });
            }
            (first, value.is_some())
        });
        match changed {
            Ok((first, is_held)) => {
                let now = is_held.then(|| (first.map_or(under, |(under, _)| under), bytes));
                self.recount(key, first, now, context)
            }
            Err(why) => context.reject(stamp.origin, Some(key), why.into()),
        }
    }

    /// Counts what a row has become: the time that it was held under and as how many bytes it counted, before and now.
    fn recount(
        &mut self,
        key: &[u8],
        before: Option<(Timestamp, u64)>,
        now: Option<(Timestamp, u64)>,
        context: &mut NodeContext<'_>,
    ) -> Result<(), ProcessorError> {
        let times = context.byte_store(self.times);
        match (before, now) {
            (None, Some((under, _))) => times.schedule(key, under)?,
            (Some((under, _)), None) => times.cancel(key, under)?,
            (None, None) | (Some(_), Some(_)) => {}
        }
        let bytes = |held: Option<(Timestamp, u64)>| held.map_or(0, |(_, bytes)| signed(bytes));
        self.amount.records += i64::from(now.is_some()) - i64::from(before.is_some());
        self.amount.bytes += bytes(now) - bytes(before);
        Ok(())
    }

    fn window_of(
        &self,
        key: &[u8],
        context: &mut NodeContext<'_>,
    ) -> Result<Option<Window>, ProcessorError> {
        let Until::Closed(window_of) = self.config.until else { return Ok(None) };
        Ok(Some(window_of(&self.read_key(key, context)?)))
    }

    fn read_key(&self, key: &[u8], context: &mut NodeContext<'_>) -> Result<K, ProcessorError> {
        let read = self.config.keys.deserialize(Some(key));
        read.map_err(|why| context.byte_store(self.held).unreadable(&why).into())
    }

    /// How many bytes a row counts as; none where that is not limited.
    fn count_bytes(
        &mut self,
        key: &[u8],
        values: [Option<&V>; 2],
        headers: Option<&Headers>,
    ) -> u64 {
        if self.config.limits.bytes_max.is_none() {
            return 0;
        }
        let mut bytes = key.len() + headers.map_or(0, Headers::size_bytes);
        for value in values.into_iter().flatten() {
            // One that cannot be kept is refused by the store.
            bytes += self.config.values.check(value, &mut self.known).unwrap_or_default();
        }
        bytes as u64
    }

    /// Forwards what is due, at most `left` rows. Whether that was all.
    fn emit_due(
        &mut self,
        left: &mut usize,
        context: &mut NodeContext<'_>,
    ) -> Result<bool, ProcessorError> {
        loop {
            self.oldest = context.byte_store(self.times).first()?;
            let due = self.oldest.filter(|under| self.is_due(*under));
            self.has_more = due.is_some();
            if due.is_none() {
                self.check_limits()?;
                return Ok(true);
            }
            if *left == 0 {
                return Ok(false);
            }
            *left -= 1;
            self.emit_first(context)?;
        }
    }

    fn is_due(&self, under: Timestamp) -> bool {
        let is_too_much = || self.is_full() && self.config.limits.when_full == WhenFull::EmitEarly;
        self.clock.is_due(under) || is_too_much()
    }

    /// Forwards the oldest row.
    fn emit_first(&mut self, context: &mut NodeContext<'_>) -> Result<(), ProcessorError> {
        let Some((under, key)) = context.byte_store(self.times).take_first()? else {
            return Ok(());
        };
        let store = context.byte_store(self.held);
        let slot = store.locate_one(&key)?;
        let held = store.update(slot, |value, timestamp| (value.take(), *timestamp))?;
        let (Some(Held { new, old, headers, at, bytes, .. }), timestamp) = held else {
            broken("what is held under a time is in the buffer")
        };
        self.amount.records -= 1;
        self.amount.bytes -= signed(bytes);
        let old = old.filter(|_| self.old_values == OldValues::Sent);
        let key = self.read_key(&key, context)?;
        let stamp = Stamp { origin: NO_ORIGIN, timestamp, at };
        self.results.push(Record::made(key, Change::latest(new, old), headers, stamp));
        self.clock.emitted(under);
        Ok(())
    }

    fn is_full(&self) -> bool {
        let exceeds = |amount: i64, max: Option<u64>| max.is_some_and(|max| amount > signed(max));
        let Limits { records_max, bytes_max, .. } = self.config.limits;
        exceeds(self.amount.records, records_max) || exceeds(self.amount.bytes, bytes_max)
    }

    fn check_limits(&self) -> Result<(), ProcessorError> {
        if !self.is_full() {
            return Ok(());
        }
        let Limits { records_max, bytes_max, .. } = self.config.limits;
        Err(ProcessorError::BufferFull {
            node: self.config.names.node.to_string(),
            records: self.amount.records.cast_unsigned(),
            records_max,
            bytes: self.amount.bytes.cast_unsigned(),
            bytes_max,
        })
    }
}

/// Rows that wait for those before them.
impl<K: Data, V: Data> Suppress<K, V> {
    fn put_aside(
        &mut self,
        key: &[u8],
        update: Update<V>,
        context: &mut NodeContext<'_>,
    ) -> Result<(), ProcessorError> {
        let Update { new, old, headers, stamp: Stamp { origin, timestamp, at } } = update;
        let row = Held { new, old, headers, under: timestamp, at, bytes: 0 };
        let numbered = [&self.aside_put.to_be_bytes(), key].concat();
        match context.byte_store(self.aside).put(&numbered, Some(row), timestamp) {
            Ok(()) => {
                self.aside_put += 1;
                Ok(())
            }
            Err(why) => context.reject(origin, Some(key), why.into()),
        }
    }

    /// Takes the rows that were put aside, as long as `left` lets what they make due out. Whether that were all.
    fn take_aside(
        &mut self,
        left: &mut usize,
        context: &mut NodeContext<'_>,
    ) -> Result<bool, ProcessorError> {
        while self.aside_taken < self.aside_put {
            let from = self.aside_taken.to_be_bytes();
            let range = (Bound::Included(&from[..]), Bound::Unbounded);
            let rows = context.byte_store(self.aside).scan(range, Order::Ascending)?;
            let rows: Vec<Scanned<Held<V>>> =
                rows.take(ASIDE_READ_MAX).collect::<Result<_, _>>()?;
            if rows.is_empty() {
                broken("rows that were put aside are in their store");
            }
            for Scanned { key: numbered, value: ValueAndTimestamp { value, timestamp } } in rows {
                let Held { new, old, headers, at, .. } = value;
                let stamp = Stamp { origin: NO_ORIGIN, timestamp, at };
                let key = numbered.get(size_of_val(&from)..).unwrap_or_default();
                let update = Update { new, old, headers, stamp };
                if self.take_row(key, update, left, context)?.is_some() {
                    return Ok(false);
                }
                context.byte_store(self.aside).put(&numbered, None, timestamp)?;
                self.aside_taken += 1;
                if self.has_more {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Forwards at most `left` rows of what is left.
    fn resume(
        &mut self,
        mut left: usize,
        context: &mut NodeContext<'_>,
    ) -> Result<(), ProcessorError> {
        if !self.emit_due(&mut left, context)? || !self.take_aside(&mut left, context)? {
            return Ok(());
        }
        self.clock.reach(self.latest);
        if !self.emit_due(&mut left, context)? {
            return Ok(());
        }
        while self.is_ended && left > 0 {
            self.emit_first(context)?;
            self.oldest = context.byte_store(self.times).first()?;
            self.is_ended = self.oldest.is_some();
            left -= 1;
        }
        Ok(())
    }
}

impl<K: Data, V: Data> Node for Suppress<K, V> {
    fn handle(
        &mut self,
        event: Event,
        context: &mut NodeContext<'_>,
    ) -> Result<Forwarded, ProcessorError> {
        match event {
            Event::Batch { payload, .. } => {
                self.take_batch(Ports::take(0, payload)?, context)?;
            }
            Event::Advance(time) => {
                self.latest = self.latest.max(time);
                if self.progress() == Progress::Done {
                    self.clock.reach(time);
                    self.emit_due(&mut { EMITTED_MAX }, context)?;
                }
            }
            Event::End => self.is_ended = self.holds_rows(),
            Event::Resume(rows_max) => self.resume(rows_max, context)?,
            Event::Flush | Event::Punctuate(..) | Event::Due | _ => {}
        }
        let results = take(&mut self.results);
        Ok(Forwarded::all(Some(Box::new(results))))
    }

    fn progress(&self) -> Progress {
        let is_left = self.has_more || self.is_ended || self.aside_taken < self.aside_put;
        if is_left { Progress::More } else { Progress::Done }
    }

    fn may_answer_more(&self) -> bool {
        true
    }

    fn pass_time(&self, time: Timestamp) -> Timestamp {
        match self.progress() {
            Progress::Done | Progress::Waits => self.clock.pass_time(time, self.oldest),
            Progress::More => self.clock.passed(),
        }
    }

    fn holds_rows(&self) -> bool {
        self.amount.records > 0 || self.aside_taken < self.aside_put
    }

    fn held_back(&self) -> Option<HeldBack> {
        self.oldest.map(|oldest| self.clock.held_back(oldest))
    }

    fn emission(&self) -> Option<Emission> {
        Some(Emission::Suppressed)
    }

    fn buffered(&self) -> Option<Buffered> {
        let Amount { records, bytes } = self.amount;
        let is_counted = self.config.limits.bytes_max.is_some();
        let count = |amount: i64| u64::try_from(amount).unwrap_or(0);
        Some(Buffered { rows: count(records), bytes: is_counted.then(|| count(bytes)) })
    }

    fn save(&self, out: &mut Vec<u8>) {
        let Amount { records, bytes } = self.amount;
        let is_ended = i64::from(self.is_ended);
        let own = [records, bytes, self.aside_put, self.aside_taken, self.latest, is_ended];
        let numbers = self.clock.save().into_iter().chain(own);
        numbers.for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
    }

    fn load(&mut self, saved: &[u8], context: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        let [horizon, passed, first, longest, records, bytes, put, taken, latest, is_ended] =
            read_numbers(saved)?;
        self.clock.load([horizon, passed, first, longest]);
        self.amount = Amount { records, bytes };
        (self.aside_put, self.aside_taken, self.latest) = (put, taken, latest);
        self.is_ended = is_ended != 0;
        self.oldest = context.byte_store_mut(self.times).first()?;
        self.has_more = self.oldest.is_some_and(|under| self.is_due(under));
        Ok(())
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

//! What a processor can do: forward, reach its stores, learn the time, schedule punctuations.

use super::{
    Payload, ProcessorError, Record, Rows,
    node::{Forwarded, Output},
    record::{MADE, NO_ORIGIN, NO_TIME},
};
use crate::{
    broken::broken,
    store::{StateStore, StoreError, StoreKey, TimerStore, Timers},
    topology::Records,
};
use headwater_core::{
    record::{Timestamp, TopicPartition},
    serde::Data,
    time::Clock,
};
use std::{
    any::{Any, TypeId},
    collections::BTreeMap,
    marker::PhantomData,
    ops::Range,
    sync::Arc,
    time::Duration,
};

/// The kind of failure of a record whose timestamp there is not.
pub(crate) const TIMESTAMP_ERROR: &str = "TimestampError";

/// Which time drives a punctuation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PunctuationType {
    /// The largest timestamp that the task has taken: due on multiples of the interval.
    StreamTime,
    /// The wall clock: due an interval after it was scheduled, and so on. Intervals are measured, so that setting the
    /// clock delays nothing.
    WallClockTime,
}

/// Names a scheduled punctuation, to tell several apart and to cancel it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancellable(pub(crate) usize);

/// Names a child port of a processor, which takes records with key `K` and value `V` beside its own output.
pub struct ChildPort<K, V> {
    /// Its place among the processor's ports.
    place: usize,
    rows: PhantomData<fn(K, V)>,
}

impl<K, V> Clone for ChildPort<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for ChildPort<K, V> {}

opaque_debug!(ChildPort<K, V>);

/// A child port as the topology declares it: its name and the type of its rows.
pub(crate) type PortSpec = (Arc<str>, TypeId);

/// Where the record at hand comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordMetadata {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset.
    pub offset: i64,
}

#[derive(Debug)]
pub(crate) struct Punctuation {
    pub(crate) node: usize,
    pub(crate) kind: PunctuationType,
    pub(crate) interval_ms: i64,
    /// In stream time, or in the time that has elapsed on the clock.
    pub(crate) due: Timestamp,
}

impl Punctuation {
    /// Goes on to the next due point after `time`, however many have gone by.
    pub(crate) fn fired_at(&mut self, time: Timestamp) {
        let Self { interval_ms, due, .. } = *self;
        self.due = match self.kind {
            PunctuationType::StreamTime => (time - time % interval_ms).saturating_add(interval_ms),
            PunctuationType::WallClockTime => {
                let missed = (time - due) / interval_ms;
                due.saturating_add(interval_ms.saturating_mul(missed + 1))
            }
        };
    }
}

/// A record that could not be processed, with where it comes from and why.
#[derive(Debug)]
pub(crate) struct DeadLetter {
    pub(crate) origin: u32,
    pub(crate) node: usize,
    pub(crate) kind: &'static str,
    pub(crate) cause: String,
}

/// The raw records of the run at hand.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) partition: TopicPartition,
    pub(crate) records: Records,
    /// The task's stream time with each record counted in, from the place `first` on; empty where nobody asks.
    pub(crate) stream_times: Vec<Timestamp>,
    pub(crate) first: u32,
}

impl Source {
    fn stream_time(&self, origin: u32) -> Option<Timestamp> {
        self.stream_times.get((origin & !MADE).checked_sub(self.first)? as usize).copied()
    }
}

/// What has fallen due for a processor.
pub(crate) enum Due {
    Punctuation(Cancellable, Timestamp),
    Timer,
}

/// What a task lends to whichever of its nodes runs, and what they leave there for it.
pub(crate) struct Resources {
    pub(crate) stores: Vec<Box<dyn StateStore>>,
    /// Records that nodes dropped, by node.
    pub(crate) dropped: Vec<u64>,
    pub(crate) dead: Vec<DeadLetter>,
    /// By the number in its [`Cancellable`].
    pub(crate) punctuations: BTreeMap<usize, Punctuation>,
    /// How many punctuations were ever scheduled.
    pub(crate) scheduled: usize,
    /// The places of stores that a processor has its timers in.
    pub(crate) timers: Vec<usize>,
    pub(crate) commit_requested: bool,
    /// Whether anything has happened since the last commit that belongs to the next, other than in stores and sinks.
    pub(crate) changed: bool,
    /// The task's partition.
    pub(crate) partition: u32,
}

impl Resources {
    /// How many records a node has dropped.
    pub(crate) fn dropped_by(&mut self, node: usize) -> &mut u64 {
        match self.dropped.get_mut(node) {
            Some(dropped) => dropped,
            None => broken("a node of a task has a count of dropped records"),
        }
    }

    pub(crate) fn store<S: StateStore>(&mut self, key: StoreKey<S>) -> &mut S {
        let store = self.stores.get_mut(key.index()).map(|store| &mut **store as &mut dyn Any);
        store
            .and_then(<dyn Any>::downcast_mut)
            .expect("a key is made by the task that owns the store")
    }
}

/// A reading of the clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// The wall clock, which may be set.
    pub(crate) wall_clock: Timestamp,
    /// What has elapsed on it, in ms.
    pub(crate) elapsed_ms: i64,
}

impl Now {
    pub(crate) fn on(clock: &dyn Clock) -> Self {
        let elapsed_ms = i64::try_from(clock.elapsed().as_millis()).unwrap_or(i64::MAX);
        Self { wall_clock: clock.now(), elapsed_ms }
    }
}

/// When a call of a node happens, and which records it is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment<'a> {
    /// The largest timestamp that the task has taken.
    pub(crate) stream_time: Timestamp,
    pub(crate) now: Now,
    /// Where the records at hand come from; none in punctuations, flushes and on time's advance.
    pub(crate) source: Option<&'a Source>,
}

/// One call of a node: which one, when, and the times of its input and its output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) node: usize,
    pub(crate) moment: Moment<'a>,
    /// The operator time of what the node has taken: the minimum over its parents.
    pub(crate) operator_time: Timestamp,
    /// The operator time that it passed on last.
    pub(crate) passed_time: Timestamp,
}

/// What a supplier makes a processor from.
pub struct InitContext<'a> {
    pub(crate) resources: &'a mut Resources,
    pub(crate) node: usize,
    pub(crate) moment: Moment<'a>,
    pub(crate) stores: &'a [(Arc<str>, usize)],
    pub(crate) ports: &'a [PortSpec],
    /// Whether the node lies below repartition topics alone, so that operator time is what they carry.
    pub(crate) is_time_carried: bool,
    /// The timers asked for so far: keys to stores, of whatever type.
    pub(crate) timers: Vec<Box<dyn Any>>,
}

opaque_debug!(InitContext<'a>);
opaque_debug!(Context<'a, K, V>);

impl InitContext<'_> {
    /// A key to a store that the topology connected to this processor.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::Topology`] if no such store is connected, or it is of another type.
    pub fn store<S: StateStore>(&self, name: &str) -> Result<StoreKey<S>, ProcessorError> {
        let missing = || {
            ProcessorError::Topology(format!(
                "store `{name}` is not connected to this processor; connect it when the processor is added"
            ))
        };
        let (_, index) = self.stores.iter().find(|(n, _)| &**n == name).ok_or_else(missing)?;
        let store = self.resources.stores.get(*index).ok_or_else(missing)?;
        if (&**store as &dyn Any).is::<S>() {
            return Ok(StoreKey::new(*index));
        }
        let wanted = std::any::type_name::<S>();
        Err(ProcessorError::Topology(format!("store `{name}` is not a {wanted}")))
    }

    /// The timers that the topology connected to this processor, for [`Context::schedule_timer`]. They fire in
    /// [`on_timer`](super::Processor::on_timer), so that their keys are those of the records it takes.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::Topology`] as [`store`](Self::store), or if another processor has them.
    pub fn timers<K: Data>(&mut self, name: &str) -> Result<Timers<K>, ProcessorError> {
        let key = self.store::<TimerStore<K>>(name)?;
        if self.resources.timers.contains(&key.index()) {
            return Err(ProcessorError::Topology(format!(
                "the timers `{name}` are another processor's; give each its own"
            )));
        }
        self.resources.timers.push(key.index());
        self.timers.push(Box::new(key));
        Ok(Timers(key))
    }

    /// The child port that the topology gave this processor under `name`, for [`Context::forward_to_port`].
    ///
    /// # Errors
    ///
    /// [`ProcessorError::Topology`] if there is none, or it takes other records.
    pub fn child_port<K: Data, V: Data>(
        &self,
        name: &str,
    ) -> Result<ChildPort<K, V>, ProcessorError> {
        let wanted = TypeId::of::<Rows<K, V>>();
        let place = self.ports.iter().position(|(n, rows)| &**n == name && *rows == wanted);
        let place = place.ok_or_else(|| {
            let (key, value) = (std::any::type_name::<K>(), std::any::type_name::<V>());
            ProcessorError::Topology(format!(
                "this processor has no child port `{name}` for records with key `{key}` and value `{value}`"
            ))
        })?;
        Ok(ChildPort { place, rows: PhantomData })
    }

    /// The store itself, to prepare it.
    ///
    /// # Panics
    ///
    /// If the key comes from another task's processor.
    pub fn store_mut<S: StateStore>(&mut self, key: StoreKey<S>) -> &mut S {
        self.resources.store(key)
    }

    /// Schedules [`punctuate`](super::Processor::punctuate) every `interval`: on multiples of it for stream time, from
    /// now on for the wall clock. A jump over several due points fires once.
    pub fn schedule(&mut self, interval: Duration, kind: PunctuationType) -> Cancellable {
        schedule(self.resources, self.node, self.moment, (interval, kind))
    }

    /// The partition that this processor's task works on.
    #[must_use]
    pub fn partition(&self) -> u32 {
        self.resources.partition
    }

    /// Whether operator time comes from repartition topics alone: it then decides what is late and what closes, in place
    /// of the timestamps of the records taken.
    #[must_use]
    pub fn is_time_carried(&self) -> bool {
        self.is_time_carried
    }
}

fn schedule(
    resources: &mut Resources,
    node: usize,
    moment: Moment<'_>,
    (interval, kind): (Duration, PunctuationType),
) -> Cancellable {
    let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
    let Moment { stream_time, now, .. } = moment;
    let due = match kind {
        // Before the first record there is no stream time: the first one makes it due.
        PunctuationType::StreamTime if stream_time < 0 => Timestamp::MIN,
        PunctuationType::StreamTime => {
            (stream_time - stream_time % interval_ms).saturating_add(interval_ms)
        }
        PunctuationType::WallClockTime => now.elapsed_ms.saturating_add(interval_ms),
    };
    let number = resources.scheduled;
    resources.scheduled += 1;
    resources.punctuations.insert(number, Punctuation { node, kind, interval_ms, due });
    Cancellable(number)
}

/// A task's stores; see [`Context::stores`].
pub struct Stores<'a> {
    resources: &'a mut Resources,
}

impl std::fmt::Debug for Stores<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stores({})", self.resources.stores.len())
    }
}

impl Stores<'_> {
    /// As [`Context::store`].
    ///
    /// # Panics
    ///
    /// As [`Context::store`].
    pub fn get<S: StateStore>(&mut self, key: StoreKey<S>) -> &mut S {
        self.resources.store(key)
    }
}

/// What a processor has while it runs: forwards records with key `K` and value `V`.
pub struct Context<'a, K, V> {
    pub(crate) resources: &'a mut Resources,
    pub(crate) call: Call<'a>,
    /// The record at hand: where it comes from, and the operator time before it.
    origin: u32,
    at: Timestamp,
    rows: Vec<Record<K, V>>,
    routes: Option<Vec<Option<u16>>>,
    /// What goes to child ports, each once.
    ports: Vec<(usize, Box<dyn Payload>)>,
    /// Whether whole batches are known to have timestamps that there are.
    trusts_times: bool,
}

impl<'a, K: Data, V: Data> Context<'a, K, V> {
    pub(crate) fn new(resources: &'a mut Resources, call: Call<'a>) -> Self {
        let (origin, at) = (NO_ORIGIN, call.passed_time);
        Self {
            resources,
            call,
            origin,
            at,
            rows: Vec::new(),
            routes: None,
            ports: Vec::new(),
            trusts_times: false,
        }
    }

    /// Takes the timestamps of whole batches for granted: they are those of the records taken.
    pub(crate) fn trust_times(&mut self) {
        self.trusts_times = true;
    }

    /// Makes a dead letter of what is forwarded at a time that there is not. Whether it was one.
    fn refuses_time<K2, V2>(&mut self, record: &Record<K2, V2>) -> bool {
        let Record { origin, timestamp, .. } = *record;
        if timestamp < 0 {
            let origin = if origin == NO_ORIGIN { self.origin } else { origin };
            let cause = format!("it was forwarded at {timestamp}, below 0");
            let node = self.call.node;
            self.resources.dead.push(DeadLetter { origin, node, kind: TIMESTAMP_ERROR, cause });
        }
        timestamp < 0
    }

    /// Hands a record to every child. One whose timestamp is below 0 becomes a dead letter instead.
    pub fn forward(&mut self, record: Record<K, V>) {
        if self.refuses_time(&record) {
            return;
        }
        if let Some(routes) = &mut self.routes {
            routes.push(None);
        }
        self.push(record);
    }

    fn push(&mut self, record: Record<K, V>) {
        let record = self.placed(record);
        self.rows.push(record);
    }

    /// A record that was made from nothing stands where the record at hand does.
    fn placed<K2, V2>(&self, record: Record<K2, V2>) -> Record<K2, V2> {
        let origin = if record.origin == NO_ORIGIN { self.origin } else { record.origin };
        let at = if record.at == NO_TIME { self.at } else { record.at };
        Record { origin, at, ..record }
    }

    /// Hands a record to a child port. What one call of the processor forwards goes to its own children first, and then to
    /// its ports.
    pub fn forward_to_port<K2: Data, V2: Data>(
        &mut self,
        port: ChildPort<K2, V2>,
        record: Record<K2, V2>,
    ) {
        if self.refuses_time(&record) {
            return;
        }
        let record = self.placed(record);
        if !self.ports.iter().any(|(place, _)| *place == port.place) {
            self.ports.push((port.place, Box::new(Rows::<K2, V2>::new())));
        }
        let rows = self.ports.iter_mut().find(|(place, _)| *place == port.place);
        let rows = rows.map(|(_, rows)| &mut **rows as &mut dyn Any);
        match rows.and_then(<dyn Any>::downcast_mut::<Rows<K2, V2>>) {
            Some(rows) => rows.push(record),
            None => broken("a child port has one type of rows"),
        }
    }

    /// Hands a record to one child, counted from 0 in the order they were added.
    pub fn forward_to(&mut self, child: u16, record: Record<K, V>) {
        if self.refuses_time(&record) {
            return;
        }
        let before = self.rows.len();
        let routes = self.routes.get_or_insert_with(|| vec![None; before]);
        routes.push(Some(child));
        self.push(record);
    }

    /// Hands a whole batch to every child; cheaper than one by one where the batch exists already. Its records must come
    /// from those taken, by [`Record::map`] and the like.
    pub fn forward_all(&mut self, rows: Vec<Record<K, V>>) {
        let has_times = self.trusts_times || rows.iter().all(|record| record.timestamp >= 0);
        if has_times && self.rows.is_empty() && self.routes.is_none() {
            self.rows = rows;
        } else {
            rows.into_iter().for_each(|record| self.forward(record));
        }
    }

    /// A store that [`InitContext::store`] gave the key to.
    ///
    /// # Panics
    ///
    /// If the key comes from another task's processor.
    pub fn store<S: StateStore>(&mut self, key: StoreKey<S>) -> &mut S {
        self.resources.store(key)
    }

    /// The task's stores, for code that does not know what this processor forwards.
    pub fn stores(&mut self) -> Stores<'_> {
        Stores { resources: self.resources }
    }

    /// Counts the record at hand as dropped.
    pub fn drop_record(&mut self) {
        *self.resources.dropped_by(self.call.node) += 1;
        self.resources.changed = true;
    }

    /// The largest timestamp that this task has taken, the record at hand included.
    #[must_use]
    pub fn stream_time(&self) -> Timestamp {
        let Moment { source, stream_time, .. } = self.call.moment;
        source.and_then(|source| source.stream_time(self.origin)).unwrap_or(stream_time)
    }

    /// The wall clock, as of the current batch.
    #[must_use]
    pub fn system_time(&self) -> Timestamp {
        self.call.moment.now.wall_clock
    }

    /// The operator time of what this processor has taken: the minimum over its parents.
    #[must_use]
    pub fn operator_time(&self) -> Timestamp {
        self.call.operator_time
    }

    /// The operator time that this processor passed on last: what rows that it makes carry.
    #[doc(hidden)]
    #[must_use]
    pub fn passed_time(&self) -> Timestamp {
        self.call.passed_time
    }

    /// Where the record at hand comes from; `None` in punctuations, flushes and on time's advance.
    #[must_use]
    pub fn record_metadata(&self) -> Option<RecordMetadata> {
        let source = self.call.moment.source?;
        let offset = source.records.offset(self.origin as usize)?;
        Some(RecordMetadata { partition: source.partition.clone(), offset })
    }

    /// Asks for a commit soon.
    pub fn commit(&mut self) {
        self.resources.commit_requested = true;
    }

    /// Schedules a punctuation, as [`InitContext::schedule`] does.
    pub fn schedule(&mut self, interval: Duration, kind: PunctuationType) -> Cancellable {
        let moment = Moment { stream_time: self.stream_time(), ..self.call.moment };
        schedule(self.resources, self.call.node, moment, (interval, kind))
    }

    /// Stops a punctuation.
    pub fn cancel(&mut self, which: Cancellable) {
        self.resources.punctuations.remove(&which.0);
    }

    /// Has [`on_timer`](super::Processor::on_timer) called for `key` at `time`: once stream time has reached it, or,
    /// below a repartition, the operator time of what this processor takes. The same key and time twice are one timer.
    ///
    /// Pending timers are committed with everything else, and outlive the application.
    ///
    /// # Errors
    ///
    /// [`StoreError::NullKey`] and [`StoreError::Key`] if there is no place for the key.
    pub fn schedule_timer<T: Data>(
        &mut self,
        timers: Timers<T>,
        key: &T,
        time: Timestamp,
    ) -> Result<(), StoreError> {
        self.resources.store(timers.0).schedule(key, time)
    }

    /// Removes a timer, if it has not fired.
    ///
    /// # Errors
    ///
    /// As [`schedule_timer`](Self::schedule_timer).
    pub fn cancel_timer<T: Data>(
        &mut self,
        timers: Timers<T>,
        key: &T,
        time: Timestamp,
    ) -> Result<(), StoreError> {
        self.resources.store(timers.0).cancel(key, time)
    }

    /// The place of the record at hand in the run.
    pub(crate) fn place(&self) -> usize {
        let first = self.call.moment.source.map_or(self.origin, |source| source.first);
        (self.origin & !MADE).saturating_sub(first & !MADE) as usize
    }

    /// The next that has fallen due for this processor at one of `places` in the run, at its own place and time: what it
    /// forwards then was made there. `timer` is the time of its first timer; `is_carried` tells whether timers live
    /// by operator time.
    pub(crate) fn next_due(
        &mut self,
        places: Range<usize>,
        timer: Option<Timestamp>,
        is_carried: bool,
    ) -> Option<Due> {
        if is_carried && timer.is_some_and(|timer| timer <= self.call.operator_time) {
            self.origin = NO_ORIGIN;
            return Some(Due::Timer);
        }
        let timer = timer.filter(|_| !is_carried);
        let mine = self.resources.punctuations.iter().filter(|(_, punctuation)| {
            punctuation.node == self.call.node && punctuation.kind == PunctuationType::StreamTime
        });
        let punctuation = mine.map(|(number, p)| (p.due, *number)).min();
        let first = punctuation.map(|(due, _)| due).into_iter().chain(timer).min()?;
        let (origin, time) = self.when_reached(first, places)?;
        (self.origin, self.at) = (origin, self.call.passed_time);
        match punctuation.filter(|(due, _)| *due == first) {
            Some((_, number)) => {
                let punctuation = self.resources.punctuations.get_mut(&number)?;
                punctuation.fired_at(time);
                Some(Due::Punctuation(Cancellable(number), time))
            }
            None => Some(Due::Timer),
        }
    }

    /// The first of `places` at which stream time has reached `due`, and the time there.
    fn when_reached(&self, due: Timestamp, places: Range<usize>) -> Option<(u32, Timestamp)> {
        let reached = |time: &Timestamp| *time >= due.max(0);
        let Moment { source, stream_time, .. } = self.call.moment;
        let Some(source) = source else {
            return (places.end > 0 && reached(&stream_time)).then_some((NO_ORIGIN, stream_time));
        };
        let end = places.end.min(source.stream_times.len());
        let times = source.stream_times.get(places.start..end)?;
        let after = times.partition_point(|time| !reached(time));
        let place = u32::try_from(places.start + after).ok()?;
        Some(((source.first + place) | MADE, *times.get(after)?))
    }

    /// Makes `record` the one that the next calls are about; an operator that takes batches calls it for records that
    /// may fail.
    pub fn begin<KIn, VIn>(&mut self, record: &Record<KIn, VIn>) {
        (self.origin, self.at) = (record.origin, record.at);
    }

    /// Writes a dead letter for the record at hand if `processed` says that it is bad, and drops it if its key is null.
    ///
    /// # Errors
    ///
    /// Any other error.
    pub fn check(&mut self, processed: Result<(), ProcessorError>) -> Result<(), ProcessorError> {
        match processed {
            Err(ProcessorError::Record { kind, cause }) => {
                self.resources.dead.push(DeadLetter {
                    origin: self.origin,
                    node: self.call.node,
                    kind,
                    cause,
                });
                Ok(())
            }
            Err(ProcessorError::NullKey) => {
                self.drop_record();
                Ok(())
            }
            other => other,
        }
    }

    pub(crate) fn finish(self) -> Forwarded {
        let Self { rows, routes, ports, .. } = self;
        let own = (!rows.is_empty()).then(|| Output { payload: Box::new(rows), routes });
        Forwarded { own, ports }
    }
}

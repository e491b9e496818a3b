//! What a processor can do: forward, reach its stores, learn the time, schedule punctuations.

use super::{
    Cancellable, ChildPort, Counter, FixedKey, Gauge, ProcessorError, PunctuationType, Record,
    Rows,
    init::{DueBy, not_a, schedule},
    record::{MADE, NO_TIME},
};
use crate::{
    broken::broken,
    by_index::TypedIndex,
    node::{Forwarded, HeldRecord, Moment, NO_ORIGIN, NodeContext, Output, Payload, Resources},
    store::{StateStore, StoreError, StoreKey, Timers},
    topology::TaskId,
};
use headwater_core::{
    metrics::DropReason,
    record::{Timestamp, TopicPartition},
    serde::Data,
};
use std::{any::Any, collections::BTreeMap, ops::Range, path::PathBuf, time::Duration};

/// Where the record at hand comes from.
///
/// ```
/// use headwater_engine::processor::{Context, ProcessorError, Record};
///
/// /// Puts the place of each record before its value.
/// fn place(
///     record: Record<String, String>,
///     context: &mut Context<'_, String, String>,
/// ) -> Result<(), ProcessorError> {
///     let place = context.record_metadata().map(|at| format!("{} of {}", at.offset, at.partition));
///     let value = format!("{}: {}", place.unwrap_or_default(), record.value);
///     context.forward(record.with_value(value));
///     Ok(())
/// }
/// # let _ = place;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordMetadata {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset.
    pub offset: i64,
}

/// What has fallen due for a processor.
pub(crate) enum Due {
    Punctuation(Cancellable, Timestamp),
    Timer,
}

/// A task's stores; see [`Context::stores`].
///
/// Example: [`ProcessorSupplier`](super::ProcessorSupplier).
pub struct Stores<'a> {
    resources: &'a mut Resources,
}

impl std::fmt::Debug for Stores<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stores({})", self.resources.stores.len())
    }
}

impl<'a> Stores<'a> {
    pub(crate) fn new(resources: &'a mut Resources) -> Self {
        Self { resources }
    }

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
///
/// Example: [`Processor`](super::Processor).
pub struct Context<'a, K, V> {
    node: NodeContext<'a>,
    /// The record at hand: where it comes from, and the operator time before it.
    origin: u32,
    at: Timestamp,
    /// The operator time with the record at hand counted in.
    at_with_it: Timestamp,
    rows: Vec<Record<K, V>>,
    routes: Option<Vec<Option<u16>>>,
    /// What goes to child ports, each once.
    ports: Vec<(usize, Box<dyn Payload>)>,
    /// Whether whole batches are known to have timestamps that there are.
    trusts_times: bool,
}

opaque_debug!(Context<'a, K, V>);

impl<'a, K: Data, V: Data> Context<'a, K, V> {
    pub(crate) fn new(node: &'a mut NodeContext<'_>) -> Self {
        let NodeContext { resources, call } = node;
        let (origin, at) = (NO_ORIGIN, call.passed_time);
        let node = NodeContext { resources, call: *call };
        Self {
            node,
            origin,
            at,
            at_with_it: NO_TIME,
            rows: Vec::new(),
            routes: None,
            ports: Vec::new(),
            trusts_times: false,
        }
    }

    /// Counts a punctuation that is due, and says when it begins.
    pub(crate) fn began_punctuation(&mut self) -> Duration {
        self.node.resources.began_punctuation()
    }

    /// A punctuation that began then is over.
    pub(crate) fn ended_punctuation(&mut self, began: Duration) {
        self.node.resources.ended_punctuation(began);
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
            self.node.reject_time(origin, None, timestamp);
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

    /// Hands a record to the child called `child`. One that there is not stops the application with
    /// [`ProcessorError::NoChild`].
    ///
    /// ```
    /// use headwater_engine::{
    ///     processor::{Context, Processor, ProcessorError, Record},
    ///     topology::{Consumed, Produced, Topology},
    /// };
    ///
    /// struct Sort;
    ///
    /// impl Processor<String, i64> for Sort {
    ///     type KOut = String;
    ///     type VOut = i64;
    ///
    ///     fn process(
    ///         &mut self,
    ///         record: Record<String, i64>,
    ///         context: &mut Context<'_, String, i64>,
    ///     ) -> Result<(), ProcessorError> {
    ///         context.forward_to(if record.value > 100 { "fast" } else { "slow" }, record);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut topology = Topology::new();
    /// topology.add_source("in", "speeds", Consumed::<String, i64>::default())?;
    /// topology.add_processor("sort", |_| Ok(Sort), &["in"])?;
    /// topology.add_sink("fast", "fast-cars", Produced::<String, i64>::default(), &["sort"])?;
    /// topology.add_sink("slow", "slow-cars", Produced::<String, i64>::default(), &["sort"])?;
    /// # Ok::<(), headwater_engine::topology::TopologyError>(())
    /// ```
    pub fn forward_to(&mut self, child: &str, record: Record<K, V>) {
        let children = self.node.resources.children.get(self.node.call.node.number());
        let place = children.and_then(|all| all.iter().position(|name| &**name == child));
        match place.and_then(|place| u16::try_from(place).ok()) {
            Some(place) => self.forward_to_nth(place, record),
            None => {
                let child = child.to_owned();
                self.node.resources.no_child.get_or_insert(child);
            }
        }
    }

    /// Hands a record to one child, counted from 0 in the order they were added, child ports left out.
    #[doc(hidden)]
    pub fn forward_to_nth(&mut self, child: u16, record: Record<K, V>) {
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

    /// A store that [`InitContext::store`](super::InitContext::store) gave the key to.
    ///
    /// # Panics
    ///
    /// If the key comes from another task's processor.
    pub fn store<S: StateStore>(&mut self, key: StoreKey<S>) -> &mut S {
        self.node.resources.store(key)
    }

    /// The store called `name`, which the topology connected to this processor: for processors that are functions.
    ///
    /// One that asks for a [key](super::InitContext::store) when it is made looks its name up once.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::NotConnected`] and [`ProcessorError::OtherStore`], as [`InitContext::store`](super::InitContext::store).
    pub fn state_store<S: StateStore>(&mut self, name: &str) -> Result<&mut S, ProcessorError> {
        let NodeContext { resources, call } = &mut self.node;
        let connected = resources.connected.get(call.node.number());
        let found = connected.and_then(|all| all.iter().find(|(n, _)| &**n == name));
        let place = found.map(|(_, place)| *place);
        let place = place.ok_or_else(|| ProcessorError::NotConnected { store: name.to_owned() })?;
        let store = resources.stores.get_mut(place).map(|store| &mut **store as &mut dyn Any);
        store.and_then(<dyn Any>::downcast_mut).ok_or_else(|| not_a::<S>(name))
    }

    /// The task's stores, for code that does not know what this processor forwards.
    pub fn stores(&mut self) -> Stores<'_> {
        self.node.stores()
    }

    /// Counts the record at hand as dropped.
    pub fn drop_record(&mut self, reason: DropReason) {
        self.node.drop_rows(1, reason);
    }

    /// The largest timestamp that this task has taken, the record at hand included.
    ///
    /// Below calls that are not waited for, whose results come out late, it is what it was when the record was taken.
    #[must_use]
    pub fn current_stream_time(&self) -> Timestamp {
        if self.node.call.lives_by_rows {
            return self.node.call.operator_time.max(self.at_with_it);
        }
        let Moment { source, stream_time, .. } = self.node.call.moment;
        source.and_then(|source| source.stream_time(self.origin)).unwrap_or(stream_time)
    }

    /// The task that this processor is a part of.
    #[must_use]
    pub fn task_id(&self) -> TaskId {
        self.node.resources.task
    }

    /// `application.id`.
    #[must_use]
    pub fn application_id(&self) -> &str {
        &self.node.resources.application_id
    }

    /// What the application was configured with by keys: Kafka's, and
    /// [those of one's own](crate::runtime::StreamsConfig::with_app_config).
    #[must_use]
    pub fn app_configs(&self) -> &BTreeMap<String, String> {
        &self.node.resources.settings.configs
    }

    /// Those whose keys begin with `prefix`, by what comes after it.
    #[must_use]
    pub fn app_configs_with_prefix(&self, prefix: &str) -> BTreeMap<&str, &str> {
        self.node.resources.settings.with_prefix(prefix)
    }

    /// The directory of this task, for files of one's own: nobody else makes it, reads it or backs it up, and a
    /// reset leaves it alone. None for an application without a directory.
    #[must_use]
    pub fn state_dir(&self) -> Option<PathBuf> {
        self.node.resources.settings.task_dir(self.task_id())
    }

    /// Adds to a counter that [`InitContext::counter`](super::InitContext::counter) gave. It tells what was processed, be it
    /// again after a failure.
    pub fn count(&mut self, counter: Counter, by: u64) {
        self.node.resources.own_metrics.count(counter, by);
    }

    /// Sets a gauge that [`InitContext::gauge`](super::InitContext::gauge) gave.
    pub fn set_gauge(&mut self, gauge: Gauge, to: f64) {
        self.node.resources.own_metrics.set(gauge, to);
    }

    /// The wall clock, as of the current batch.
    #[must_use]
    pub fn current_system_time(&self) -> Timestamp {
        self.node.call.moment.now.wall_clock
    }

    /// Where the record at hand comes from; `None` in punctuations, flushes and on time's advance, and below calls that are not
    /// waited for.
    #[must_use]
    pub fn record_metadata(&self) -> Option<RecordMetadata> {
        let source = self.node.call.moment.source.filter(|_| !self.node.call.lives_by_rows)?;
        let offset = source.records.offset(self.origin as usize)?;
        Some(RecordMetadata { partition: source.partition.clone(), offset })
    }

    /// Asks for a commit soon.
    pub fn commit(&mut self) {
        self.node.resources.commit_requested = true;
    }

    /// Schedules a punctuation, as [`InitContext::schedule`](super::InitContext::schedule) does.
    pub fn schedule(&mut self, interval: Duration, kind: PunctuationType) -> Cancellable {
        let moment = Moment { stream_time: self.current_stream_time(), ..self.node.call.moment };
        schedule(self.node.resources, self.node.call.node, moment, interval, kind)
    }

    /// Stops a punctuation.
    pub fn cancel(&mut self, which: Cancellable) {
        self.node.resources.punctuations.remove(&which.0);
    }

    /// Has [`on_timer`](super::Processor::on_timer) called for `key` at `time`: once stream time has reached it, or, below a
    /// repartition, the operator time of what this processor takes.
    ///
    /// The same key and time twice are one timer.
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
        self.node.resources.store(timers.0).schedule(key, time)
    }

    /// Removes a timer, if it has not fired.
    ///
    /// # Errors
    ///
    /// [`StoreError::NullKey`] and [`StoreError::Key`], as [`schedule_timer`](Self::schedule_timer).
    pub fn cancel_timer<T: Data>(
        &mut self,
        timers: Timers<T>,
        key: &T,
        time: Timestamp,
    ) -> Result<(), StoreError> {
        self.node.resources.store(timers.0).cancel(key, time)
    }

    /// The operator time has come to `at`, which the record at hand brings.
    pub(crate) fn reach(&mut self, at: Timestamp) {
        let time = &mut self.node.call.operator_time;
        *time = at.max(*time);
    }

    /// The place in the run at which something fell due last; none if that was by operator time.
    pub(crate) fn place_due(&self) -> Option<usize> {
        (self.origin != NO_ORIGIN).then(|| self.place())
    }

    /// The place of the record at hand in the run.
    pub(crate) fn place(&self) -> usize {
        let first = self.node.call.moment.source.map_or(self.origin, |source| source.first);
        (self.origin & !MADE).saturating_sub(first & !MADE) as usize
    }

    /// Whether it is about a run of records that the task has taken, or what follows from that.
    pub(crate) fn is_of_run(&self) -> bool {
        self.node.call.moment.source.is_some()
    }

    /// Whether the run at hand has one row at most.
    pub(crate) fn is_single(&self) -> bool {
        self.node.call.moment.source.is_none_or(|source| source.stream_times.len() <= 1)
    }

    /// The time by which this processor's timers live, as it stands at the last of `places`; none if these are none.
    pub(super) fn time_at(&self, places: &Range<usize>, due_by: DueBy) -> Option<Timestamp> {
        let Moment { source, stream_time, .. } = self.node.call.moment;
        match source {
            _ if due_by != DueBy::Stream => Some(self.node.call.operator_time),
            None => (places.end > 0).then_some(stream_time),
            Some(source) => {
                let end = places.end.min(source.stream_times.len());
                source.stream_times.get(places.start..end)?.last().copied()
            }
        }
    }

    /// The next that has fallen due for this processor at one of `places` in the run, at its own place and time: what it
    /// forwards then was made there. `timer` is the time of its first timer.
    pub(super) fn next_due(
        &mut self,
        places: Range<usize>,
        timer: Option<Timestamp>,
        due_by: DueBy,
    ) -> Option<Due> {
        let operator_time = self.node.call.operator_time;
        let is_carried = due_by == DueBy::Carried;
        if is_carried && timer.is_some_and(|timer| timer <= operator_time) {
            self.origin = NO_ORIGIN;
            return Some(Due::Timer);
        }
        let timer = timer.filter(|_| !is_carried);
        let mine = self.node.resources.punctuations.iter().filter(|(_, punctuation)| {
            punctuation.node == self.node.call.node
                && punctuation.kind == PunctuationType::StreamTime
        });
        let punctuation = mine.filter_map(|(number, p)| Some((p.due?, *number))).min();
        let first = punctuation.map(|(due, _)| due).into_iter().chain(timer).min()?;
        let (origin, time) = match due_by {
            DueBy::Rows if operator_time < first.max(0) => return None,
            DueBy::Rows => (NO_ORIGIN, operator_time),
            DueBy::Stream | DueBy::Carried => self.when_reached(first, places)?,
        };
        (self.origin, self.at) = (origin, self.node.call.passed_time);
        match punctuation.filter(|(due, _)| *due == first) {
            Some((_, number)) => {
                let punctuation = self.node.resources.punctuations.get_mut(&number)?;
                punctuation.fired_at(time);
                Some(Due::Punctuation(Cancellable(number), time))
            }
            None => Some(Due::Timer),
        }
    }

    /// The first of `places` at which stream time has reached `due`, and the time there.
    fn when_reached(&self, due: Timestamp, places: Range<usize>) -> Option<(u32, Timestamp)> {
        let reached = |time: &Timestamp| *time >= due.max(0);
        let Moment { source, stream_time, .. } = self.node.call.moment;
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
        self.at_with_it = record.at.max(record.timestamp);
    }

    /// Makes the record at this place of the run the one that the next calls are about.
    pub(super) fn begin_at(&mut self, place: u32) {
        self.origin = place;
    }

    /// Writes a dead letter for the record at hand if `processed` says that it is bad, and drops it if its key is null.
    ///
    /// # Errors
    ///
    /// Gives any error back but [`ProcessorError::Record`] and [`ProcessorError::NullKey`].
    pub fn check(&mut self, processed: Result<(), ProcessorError>) -> Result<(), ProcessorError> {
        processed.or_else(|why| self.node.reject(self.origin, None, why))
    }

    /// The same for one that is bad because of `why`, whose key the operator has written: it stands in the letter of a record
    /// that descends from none.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    #[doc(hidden)]
    pub fn reject(
        &mut self,
        key: Option<&[u8]>,
        why: ProcessorError,
    ) -> Result<(), ProcessorError> {
        self.node.reject(self.origin, key, why)
    }

    /// Writes a dead letter for a record that was held back, as it was taken.
    pub fn reject_held(&mut self, held: HeldRecord, kind: &'static str, cause: String) {
        self.node.reject_held(held, kind, cause);
    }

    pub(crate) fn finish(self) -> Forwarded {
        self.finish_as(|rows| rows)
    }

    fn finish_as<K2: Data>(self, unwrap: fn(Rows<K, V>) -> Rows<K2, V>) -> Forwarded {
        let Self { rows, routes, ports, .. } = self;
        let rows = unwrap(rows);
        let own = (!rows.is_empty()).then(|| Output { payload: Box::new(rows), routes });
        Forwarded { own, ports, is_part: false }
    }
}

impl<K: Data, V: Data> Context<'_, FixedKey<K>, V> {
    /// As [`finish`](Self::finish), with keys as they were.
    pub(crate) fn finish_with_keys(self) -> Forwarded {
        self.finish_as(|rows| {
            let inner = |key: FixedKey<K>, value| (key.into_inner(), value);
            rows.into_iter().map(|record| record.map(inner)).collect()
        })
    }
}

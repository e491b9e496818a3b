//! What a processor can do: forward, reach its stores, learn the time, schedule punctuations.

use super::{
    ProcessorError, Record,
    node::Output,
    record::{NO_ORIGIN, NO_TIME},
};
use crate::store::{StateStore, StoreKey};
use headwater_core::{
    record::{RecordSet, Timestamp, TopicPartition},
    serde::Data,
};
use std::{any::Any, sync::Arc, time::Duration};

/// Which time drives a punctuation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PunctuationType {
    /// The largest timestamp that the task has taken: due on multiples of the interval.
    StreamTime,
    /// The wall clock: due an interval after it was scheduled, and so on.
    WallClockTime,
}

/// Names a scheduled punctuation, to tell several apart and to cancel it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancellable(pub(crate) usize);

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
    pub(crate) due: Timestamp,
    pub(crate) cancelled: bool,
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
    pub(crate) records: Arc<RecordSet>,
    /// The task's stream time with each record counted in, from the place `first` on; empty where nobody asks.
    pub(crate) stream_times: Vec<Timestamp>,
    pub(crate) first: u32,
}

impl Source {
    fn stream_time(&self, origin: u32) -> Option<Timestamp> {
        self.stream_times.get(origin.checked_sub(self.first)? as usize).copied()
    }
}

/// What a task lends to whichever of its nodes runs, and what they leave there for it.
pub(crate) struct Resources {
    pub(crate) stores: Vec<Box<dyn StateStore>>,
    /// Records that nodes dropped, by node.
    pub(crate) dropped: Vec<u64>,
    pub(crate) dead: Vec<DeadLetter>,
    pub(crate) punctuations: Vec<Punctuation>,
    pub(crate) commit_requested: bool,
    /// The task's partition.
    pub(crate) partition: u32,
}

impl Resources {
    pub(crate) fn store<S: StateStore>(&mut self, key: StoreKey<S>) -> &mut S {
        let store = self.stores.get_mut(key.index()).map(|store| &mut **store as &mut dyn Any);
        store
            .and_then(<dyn Any>::downcast_mut)
            .expect("a key is made by the task that owns the store")
    }
}

/// When a call of a node happens, and which records it is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment<'a> {
    /// The largest timestamp that the task has taken.
    pub(crate) stream_time: Timestamp,
    pub(crate) wall_clock: Timestamp,
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
    /// Whether the node lies below repartition topics alone, so that operator time is what they carry.
    pub(crate) is_time_carried: bool,
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
    let Moment { stream_time, wall_clock, .. } = moment;
    let due = match kind {
        // Before the first record there is no stream time: the first one makes it due.
        PunctuationType::StreamTime if stream_time < 0 => Timestamp::MIN,
        PunctuationType::StreamTime => {
            (stream_time - stream_time % interval_ms).saturating_add(interval_ms)
        }
        PunctuationType::WallClockTime => wall_clock.saturating_add(interval_ms),
    };
    resources.punctuations.push(Punctuation { node, kind, interval_ms, due, cancelled: false });
    Cancellable(resources.punctuations.len() - 1)
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
}

impl<'a, K: Data, V: Data> Context<'a, K, V> {
    pub(crate) fn new(resources: &'a mut Resources, call: Call<'a>) -> Self {
        let (origin, at) = (NO_ORIGIN, call.passed_time);
        Self { resources, call, origin, at, rows: Vec::new(), routes: None }
    }

    /// Hands a record to every child.
    pub fn forward(&mut self, record: Record<K, V>) {
        if let Some(routes) = &mut self.routes {
            routes.push(None);
        }
        self.push(record);
    }

    fn push(&mut self, record: Record<K, V>) {
        let origin = if record.origin == NO_ORIGIN { self.origin } else { record.origin };
        let at = if record.at == NO_TIME { self.at } else { record.at };
        self.rows.push(Record { origin, at, ..record });
    }

    /// Hands a record to one child, counted from 0 in the order they were added.
    pub fn forward_to(&mut self, child: u16, record: Record<K, V>) {
        let before = self.rows.len();
        let routes = self.routes.get_or_insert_with(|| vec![None; before]);
        routes.push(Some(child));
        self.push(record);
    }

    /// Hands a whole batch to every child; cheaper than one by one where the batch exists already. Its records must come
    /// from those taken, by [`Record::map`] and the like.
    pub fn forward_all(&mut self, rows: Vec<Record<K, V>>) {
        if self.rows.is_empty() && self.routes.is_none() {
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
        if let Some(dropped) = self.resources.dropped.get_mut(self.call.node) {
            *dropped += 1;
        }
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
        self.call.moment.wall_clock
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
        let offset = source.records.get(self.origin as usize)?.offset;
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
        if let Some(punctuation) = self.resources.punctuations.get_mut(which.0) {
            punctuation.cancelled = true;
        }
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

    pub(crate) fn finish(self) -> Option<Output> {
        let Self { rows, routes, .. } = self;
        (!rows.is_empty()).then(|| Output { payload: Box::new(rows), routes })
    }
}

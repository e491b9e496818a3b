//! What a processor can do: forward, reach its stores, learn the time, schedule punctuations.

use super::{ProcessorError, Record, node::Output, record::NO_ORIGIN};
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

/// The raw records of the batch at hand.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    pub(crate) partition: TopicPartition,
    pub(crate) records: Arc<RecordSet>,
    /// For a managed topic: the time carried to each record.
    pub(crate) times: Arc<Vec<Timestamp>>,
    /// The least time of the task's other managed topics.
    pub(crate) others: Option<Timestamp>,
}

impl Raw {
    /// Records that carry no time.
    pub(crate) fn new(partition: TopicPartition, records: Arc<RecordSet>) -> Self {
        Self { partition, records, times: Arc::default(), others: None }
    }
}

/// What a task shares with whichever of its nodes runs.
pub(crate) struct Env {
    pub(crate) stores: Vec<Box<dyn StateStore>>,
    /// Records that nodes dropped, by node.
    pub(crate) dropped: Vec<u64>,
    pub(crate) dead: Vec<DeadLetter>,
    pub(crate) punctuations: Vec<Punctuation>,
    pub(crate) raw: Option<Raw>,
    pub(crate) origin: u32,
    pub(crate) node: usize,
    pub(crate) stream_time: Timestamp,
    pub(crate) wall_clock: Timestamp,
    /// Time carried across a repartition, for the nodes that live by it.
    pub(crate) carried: Option<Timestamp>,
    pub(crate) commit_requested: bool,
    pub(crate) partition: u32,
}

impl Env {
    pub(crate) fn store<S: StateStore>(&mut self, key: StoreKey<S>) -> &mut S {
        let store = self.stores.get_mut(key.index()).map(|store| &mut **store as &mut dyn Any);
        store
            .and_then(<dyn Any>::downcast_mut)
            .expect("a key is made by the task that owns the store")
    }
}

/// What a processor has while it is set up.
pub struct InitContext<'a> {
    pub(crate) env: &'a mut Env,
    pub(crate) stores: &'a [(Arc<str>, usize)],
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
        let store = self.env.stores.get(*index).ok_or_else(missing)?;
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
        self.env.store(key)
    }

    /// Schedules [`punctuate`](super::Processor::punctuate) every `interval`: on multiples of it for stream time, from
    /// now on for the wall clock. A jump over several due points fires once.
    pub fn schedule(&mut self, interval: Duration, kind: PunctuationType) -> Cancellable {
        let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
        let due = match kind {
            // Before the first record there is no stream time: the first one makes it due.
            PunctuationType::StreamTime if self.env.stream_time < 0 => Timestamp::MIN,
            PunctuationType::StreamTime => {
                let time = self.env.stream_time;
                (time - time % interval_ms).saturating_add(interval_ms)
            }
            PunctuationType::WallClockTime => self.env.wall_clock.saturating_add(interval_ms),
        };
        let node = self.env.node;
        self.env.punctuations.push(Punctuation { node, kind, interval_ms, due, cancelled: false });
        Cancellable(self.env.punctuations.len() - 1)
    }

    /// The partition that this processor's task works on.
    #[must_use]
    pub fn partition(&self) -> u32 {
        self.env.partition
    }
}

/// A task's stores; see [`Context::stores`].
pub struct Stores<'a> {
    env: &'a mut Env,
}

impl std::fmt::Debug for Stores<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stores({})", self.env.stores.len())
    }
}

impl Stores<'_> {
    /// As [`Context::store`].
    ///
    /// # Panics
    ///
    /// As [`Context::store`].
    pub fn get<S: StateStore>(&mut self, key: StoreKey<S>) -> &mut S {
        self.env.store(key)
    }
}

/// What a processor has while it runs: forwards records with key `K` and value `V`.
pub struct Context<'a, K, V> {
    pub(crate) env: &'a mut Env,
    pub(crate) rows: Vec<Record<K, V>>,
    pub(crate) routes: Option<Vec<Option<u16>>>,
}

impl<'a, K: Data, V: Data> Context<'a, K, V> {
    pub(crate) fn new(env: &'a mut Env) -> Self {
        Self { env, rows: Vec::new(), routes: None }
    }

    /// Hands a record to every child.
    pub fn forward(&mut self, record: Record<K, V>) {
        if let Some(routes) = &mut self.routes {
            routes.push(None);
        }
        self.push(record);
    }

    fn push(&mut self, record: Record<K, V>) {
        let origin = if record.origin == NO_ORIGIN { self.env.origin } else { record.origin };
        self.rows.push(Record { origin, ..record });
    }

    /// Hands a record to one child, counted from 0 in the order they were added.
    pub fn forward_to(&mut self, child: u16, record: Record<K, V>) {
        let before = self.rows.len();
        let routes = self.routes.get_or_insert_with(|| vec![None; before]);
        routes.push(Some(child));
        self.push(record);
    }

    /// Hands a whole batch to every child; cheaper than one by one where the batch exists already.
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
        self.env.store(key)
    }

    /// The task's stores, for code that does not know what this processor forwards.
    pub fn stores(&mut self) -> Stores<'_> {
        Stores { env: self.env }
    }

    /// Counts the record at hand as dropped.
    pub fn drop_record(&mut self) {
        if let Some(dropped) = self.env.dropped.get_mut(self.env.node) {
            *dropped += 1;
        }
    }

    /// The largest timestamp that this task has taken.
    #[must_use]
    pub fn stream_time(&self) -> Timestamp {
        self.env.stream_time
    }

    /// The wall clock, as of the current batch.
    #[must_use]
    pub fn system_time(&self) -> Timestamp {
        self.env.wall_clock
    }

    /// The time carried across the repartition above this operator to each of `rows`, if it lies below one: it then
    /// decides what is late and what closes, in place of the records' own timestamps.
    #[must_use]
    pub fn carried_times<KIn, VIn>(&self, rows: &[Record<KIn, VIn>]) -> Option<Vec<Timestamp>> {
        let carried = self.env.carried?;
        let Some(raw) = &self.env.raw else { return Some(vec![carried; rows.len()]) };
        let time_of = |record: &Record<KIn, VIn>| match raw.times.get(record.origin as usize) {
            Some(time) => raw.others.map_or(*time, |others| others.min(*time)),
            None => carried,
        };
        Some(rows.iter().map(time_of).collect())
    }

    /// Where the record at hand comes from; `None` in punctuations, flushes and on time's advance.
    #[must_use]
    pub fn record_metadata(&self) -> Option<RecordMetadata> {
        let raw = self.env.raw.as_ref()?;
        let offset = raw.records.get(self.env.origin as usize)?.offset;
        Some(RecordMetadata { partition: raw.partition.clone(), offset })
    }

    /// Asks for a commit soon.
    pub fn commit(&mut self) {
        self.env.commit_requested = true;
    }

    /// Stops a punctuation.
    pub fn cancel(&mut self, which: Cancellable) {
        if let Some(punctuation) = self.env.punctuations.get_mut(which.0) {
            punctuation.cancelled = true;
        }
    }

    /// The record that the next calls are about; an operator that overrides
    /// [`process_batch`](super::Processor::process_batch) calls it for records that may fail.
    pub fn begin<KIn, VIn>(&mut self, record: &Record<KIn, VIn>) {
        self.env.origin = record.origin;
    }

    /// Sends the record at hand to the dead letters if `processed` says it is bad.
    ///
    /// # Errors
    ///
    /// Any other error.
    pub fn settle(&mut self, processed: Result<(), ProcessorError>) -> Result<(), ProcessorError> {
        match processed {
            Err(ProcessorError::Record { kind, cause }) => {
                self.env.dead.push(DeadLetter {
                    origin: self.env.origin,
                    node: self.env.node,
                    kind,
                    cause,
                });
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

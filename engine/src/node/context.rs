//! What a node has while it runs: the task's stores, time, and where rows go that it cannot take.

use super::{Measures, NO_ORIGIN, NodeIndex};
use crate::{
    by_index::ByIndex,
    calls::Caller,
    processor::{MADE, OwnMetrics, ProcessorError, Punctuation, RecordMetadata, Settings, Stores},
    store::{OpenGlobal, StateStore, StoreKey},
    topology::{DynamicOutputs, Records, TaskId},
};
use headwater_core::{
    metrics::{DropReason, NodeMetrics},
    record::{Headers, Timestamp, TopicPartition},
    time::Clock,
};
use std::{any::Any, collections::BTreeMap, sync::Arc};

/// The kind of failure of a row whose timestamp there is not.
pub(crate) const TIMESTAMP_ERROR: &str = "TimestampError";

/// The kind of failure of a record that an extractor skips: it is dropped, and nobody is asked.
pub(crate) const TIMESTAMP_SKIPPED: &str = "TimestampSkipped";

/// What a node has while it handles an event.
pub struct NodeContext<'a> {
    pub(crate) resources: &'a mut Resources,
    pub(crate) call: Call<'a>,
}

opaque_debug!(NodeContext<'a>);

impl NodeContext<'_> {
    /// A store that [`InitContext::byte_store`](crate::processor::InitContext::byte_store) gave the key to.
    ///
    /// # Panics
    ///
    /// If the key comes from another task's node.
    pub fn byte_store<B: Any>(&mut self, key: StoreKey<B>) -> &mut B {
        self.resources.byte_store(key)
    }

    /// The task's stores, with the types of their keys.
    pub fn stores(&mut self) -> Stores<'_> {
        Stores::new(self.resources)
    }

    /// The operator time of what the node has taken: the minimum over its parents.
    #[must_use]
    pub fn operator_time(&self) -> Timestamp {
        self.call.operator_time
    }

    /// The operator time that the node passed on last: what rows that it makes from nothing carry.
    #[must_use]
    pub fn passed_time(&self) -> Timestamp {
        self.call.passed_time
    }

    /// Whether a parent is not done with what led to this call.
    ///
    /// Either the parent that the row at hand comes from has more rows, or another one, of a row of which that was made, has
    /// yet to hand it on to its later children. This is about parents that forward record by record, as those do from which two
    /// paths lead to one node.
    #[must_use]
    pub fn parents_have_more(&self) -> bool {
        let forwarding = self.resources.forwarding.iter().rev();
        let mut above = forwarding.filter(|at| self.call.parents.contains(&at.node));
        above.next().is_some_and(|nearest| nearest.rows_left > 0) || above.next().is_some()
    }

    /// Counts rows as dropped.
    pub fn drop_rows(&mut self, rows: u64, reason: DropReason) {
        if rows > 0 {
            self.resources.metrics[self.call.node].dropped.add(reason, rows);
            self.resources.changed = true;
        }
    }

    /// Makes a row that would be forwarded at a time below 0 a dead letter.
    pub(crate) fn reject_time(&mut self, origin: u32, key: Option<&[u8]>, timestamp: Timestamp) {
        let cause = format!("it was forwarded at {timestamp}, below 0");
        self.add_letter(origin, key, TIMESTAMP_ERROR, cause);
    }

    fn add_letter(&mut self, origin: u32, key: Option<&[u8]>, kind: &'static str, cause: String) {
        let (node, key) = (self.call.node, key.map(<[u8]>::to_vec));
        self.resources.dead.push(Rejection { origin, node, key, kind, cause, held: None });
    }

    /// Makes a record that was held back a dead letter, as it was taken.
    pub(crate) fn reject_held(&mut self, held: HeldRecord, kind: &'static str, cause: String) {
        let (origin, node, held) = (NO_ORIGIN, self.call.node, Some(Box::new(held)));
        self.resources.dead.push(Rejection { origin, node, key: None, kind, cause, held });
    }

    /// Drops and counts a row whose key is null, and makes one that is bad otherwise a dead letter; `origin` is that of its
    /// [`Stamp`](super::Stamp).
    ///
    /// The letter of a row that descends from no record has `key`, where the node knows its bytes.
    ///
    /// # Errors
    ///
    /// Gives `why` back unless it is [`ProcessorError::Record`] or [`ProcessorError::NullKey`], which are about the
    /// row.
    pub fn reject(
        &mut self,
        origin: u32,
        key: Option<&[u8]>,
        why: ProcessorError,
    ) -> Result<(), ProcessorError> {
        if let ProcessorError::Record { kind, cause } = why {
            self.add_letter(origin, key, kind, cause);
        } else if matches!(why, ProcessorError::NullKey) {
            self.drop_rows(1, DropReason::NullKey);
        } else {
            return Err(why);
        }
        Ok(())
    }
}

/// A record that could not be processed, with where it comes from and why.
#[derive(Debug)]
pub(crate) struct Rejection {
    pub(crate) origin: u32,
    pub(crate) node: NodeIndex,
    /// The row's key, where the node knows its bytes.
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) kind: &'static str,
    pub(crate) cause: String,
    /// What it is about, if it was held back.
    pub(crate) held: Option<Box<HeldRecord>>,
}

/// A record that an operator held back, as a dead letter shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldRecord {
    /// Where it came from, if that is known.
    pub metadata: Option<RecordMetadata>,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// Its key, as its serde writes it.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Headers,
}

/// The raw records of the run at hand.
#[derive(Debug)]
pub(crate) struct RunRecords {
    pub(crate) partition: TopicPartition,
    pub(crate) records: Records,
    /// The task's stream time with each record counted in, from the place `first` on; empty where nobody asks.
    pub(crate) stream_times: Vec<Timestamp>,
    /// The same of its [family](crate::task) of inputs alone.
    pub(crate) source_times: Vec<Timestamp>,
    pub(crate) first: u32,
}

impl RunRecords {
    /// Records at each of which nobody asks for a time.
    pub(crate) fn new(partition: TopicPartition, records: Records) -> Self {
        let (stream_times, source_times) = (Vec::new(), Vec::new());
        Self { partition, records, stream_times, source_times, first: 0 }
    }

    pub(crate) fn stream_time(&self, origin: u32) -> Option<Timestamp> {
        self.stream_times.get((origin & !MADE).checked_sub(self.first)? as usize).copied()
    }

    /// Where sources of the record's family stood before it. None for the first of the run, before which the task has told them.
    pub(crate) fn source_time_before(&self, origin: u32) -> Option<Timestamp> {
        let place = (origin & !MADE).checked_sub(self.first)?.checked_sub(1)?;
        self.source_times.get(place as usize).copied()
    }
}

/// What a task lends to whichever of its nodes runs, and what they leave there for it.
pub(crate) struct Resources {
    pub(crate) stores: Vec<Box<dyn StateStore>>,
    /// What nodes count, by node.
    pub(crate) metrics: ByIndex<NodeIndex, NodeMetrics>,
    /// What they measure.
    pub(crate) measures: Measures,
    /// Times batches.
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) dead: Vec<Rejection>,
    /// By the number in its [`Cancellable`].
    pub(crate) punctuations: BTreeMap<usize, Punctuation>,
    /// How many punctuations were ever scheduled.
    pub(crate) scheduled: usize,
    /// The places of stores that a processor has its timers in.
    pub(crate) timers: Vec<usize>,
    pub(crate) commit_requested: bool,
    /// The nodes that are handing rows on right now, each below the one before it, of those that forward record by record.
    pub(crate) forwarding: Vec<Forwarding>,
    /// `application.id`.
    pub(crate) application_id: Arc<str>,
    /// What else processors may ask of the configuration.
    pub(crate) settings: Arc<Settings>,
    /// What processors count themselves.
    pub(crate) own_metrics: OwnMetrics,
    pub(crate) task: TaskId,
    /// The names of each node's children, child ports left out, and the names and places of the stores connected to it.
    pub(crate) children: Vec<Vec<Arc<str>>>,
    pub(crate) connected: Vec<Vec<(Arc<str>, usize)>>,
    /// A child that a record was to be forwarded to and that there is not.
    pub(crate) no_child: Option<String>,
    /// Whether anything has happened since the last commit that belongs to the next, other than in stores and sinks.
    pub(crate) changed: bool,
    /// The task's partition.
    pub(crate) partition: u32,
    /// How many bytes a record of the log may have.
    pub(crate) record_bytes_max: usize,
    /// Global stores, which all tasks read.
    pub(crate) globals: Arc<[OpenGlobal]>,
    /// What calls are made with.
    pub(crate) caller: Caller,
    /// What sinks that choose topics themselves have written.
    pub(crate) dynamic_outputs: DynamicOutputs,
}

impl Resources {
    pub(crate) fn store<S: StateStore>(&mut self, key: StoreKey<S>) -> &mut S {
        let store = self.stores.get_mut(key.index()).map(|store| &mut **store as &mut dyn Any);
        store.and_then(<dyn Any>::downcast_mut).expect(IS_THE_TASKS)
    }

    pub(crate) fn byte_store<B: Any>(&mut self, key: StoreKey<B>) -> &mut B {
        let store = self.stores.get_mut(key.index()).map(|store| store.by_bytes());
        store.and_then(<dyn Any>::downcast_mut).expect(IS_THE_TASKS)
    }
}

/// A node that hands rows on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forwarding {
    pub(crate) node: NodeIndex,
    /// How many rows come after the one at hand.
    pub(crate) rows_left: usize,
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
    pub(crate) source: Option<&'a RunRecords>,
}

/// One call of a node: which one, when, and the times of its input and its output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) node: NodeIndex,
    pub(crate) moment: Moment<'a>,
    /// The operator time of what the node has taken: the minimum over its parents.
    pub(crate) operator_time: Timestamp,
    /// The operator time that it passed on last.
    pub(crate) passed_time: Timestamp,
    /// Whether the node runs code of the user's below calls: then the task's time is not that of its rows.
    pub(crate) lives_by_rows: bool,
    pub(crate) parents: &'a [NodeIndex],
}

const IS_THE_TASKS: &str = "a key is made by the task that owns the store";

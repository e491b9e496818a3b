//! What a supplier makes a processor from: its stores, child ports, timers, and what it schedules.

use super::{Counter, Gauge, ProcessorError, Rows, erased::records_of};
use crate::{
    calls::Caller,
    node::{Moment, NodeIndex, Resources},
    store::{EntryCheck, GlobalStore, StateStore, StoreKey, TimerStore, Timers},
    topology::{TaskId, TimeMark},
};
use headwater_core::{
    record::Timestamp,
    serde::{Data, SharedSerde},
};
use std::{
    any::{Any, TypeId},
    collections::BTreeMap,
    marker::PhantomData,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

/// Which time drives a punctuation.
///
/// ```
/// use headwater_engine::{
///     processor::{
///         Cancellable, Context, InitContext, Processor, ProcessorError, PunctuationType, Record,
///     },
///     topology::{Consumed, Produced, Topology},
/// };
/// use std::time::Duration;
///
/// /// Counts, and tells the count every second, ten times.
/// struct Ticks {
///     every_second: Cancellable,
///     count: i64,
///     told: u32,
/// }
///
/// impl Ticks {
///     fn new(context: &mut InitContext<'_>) -> Result<Self, ProcessorError> {
///         let second = Duration::from_secs(1);
///         let every_second = context.schedule(second, PunctuationType::WallClockTime);
///         Ok(Self { every_second, count: 0, told: 0 })
///     }
/// }
///
/// impl Processor<String, i64> for Ticks {
///     type KOut = String;
///     type VOut = i64;
///
///     fn process(
///         &mut self,
///         _: Record<String, i64>,
///         _: &mut Context<'_, String, i64>,
///     ) -> Result<(), ProcessorError> {
///         self.count += 1;
///         Ok(())
///     }
///
///     fn punctuate(
///         &mut self,
///         _: Cancellable,
///         time: i64,
///         context: &mut Context<'_, String, i64>,
///     ) -> Result<(), ProcessorError> {
///         context.forward(Record::new("count".to_owned(), self.count, time));
///         self.told += 1;
///         if self.told == 10 {
///             context.cancel(self.every_second);
///         }
///         Ok(())
///     }
/// }
///
/// let mut topology = Topology::new();
/// topology.add_source("in", "cars", Consumed::<String, i64>::default())?;
/// topology.add_processor("ticks", Ticks::new, &["in"])?;
/// topology.add_sink("out", "counts", Produced::<String, i64>::default(), &["ticks"])?;
/// assert!(topology.describe().contains("Processor: ticks (stores: [])\n      --> out"));
/// # Ok::<(), headwater_engine::topology::TopologyError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PunctuationType {
    /// The largest timestamp that the task has taken: due on multiples of the interval.
    StreamTime,
    /// The wall clock: due an interval after it was scheduled, and so on. Intervals are measured, so that setting the
    /// clock delays nothing.
    WallClockTime,
}

/// Names a scheduled punctuation, to tell several apart and to cancel it.
///
/// Example: [`PunctuationType`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancellable(pub(crate) usize);

/// Names a child port of a processor, which takes records with key `K` and value `V` beside its own output.
///
/// ```
/// use headwater_engine::{
///     processor::{ChildPort, Context, InitContext, Processor, ProcessorError, Record},
///     topology::{Consumed, Produced, Topology},
/// };
///
/// /// Forwards speeds; what is none goes to a child port, as text.
/// struct Check(ChildPort<String, String>);
///
/// impl Processor<String, i64> for Check {
///     type KOut = String;
///     type VOut = i64;
///
///     fn process(
///         &mut self,
///         record: Record<String, i64>,
///         context: &mut Context<'_, String, i64>,
///     ) -> Result<(), ProcessorError> {
///         if record.value < 0 {
///             let why = format!("a speed of {}", record.value);
///             context.forward_to_port(self.0, record.with_value(why));
///         } else {
///             context.forward(record);
///         }
///         Ok(())
///     }
/// }
///
/// let mut topology = Topology::new();
/// topology.add_source("in", "speeds", Consumed::<String, i64>::default())?;
/// let make = |context: &mut InitContext<'_>| Ok(Check(context.child_port("refused")?));
/// topology.add_processor("check", make, &["in"])?;
/// topology.add_child_port::<String, String>("refused", "check")?;
/// topology.add_sink("why", "complaints", Produced::<String, String>::default(), &["refused"])?;
/// assert!(topology.describe().contains("Sink: why (topic: complaints)\n      <-- refused"));
/// # Ok::<(), headwater_engine::topology::TopologyError>(())
/// ```
pub struct ChildPort<K, V> {
    /// Its place among the processor's ports.
    pub(super) place: usize,
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

#[derive(Debug)]
pub(crate) struct Punctuation {
    pub(crate) node: NodeIndex,
    pub(crate) kind: PunctuationType,
    pub(crate) interval_ms: i64,
    /// In stream time, or in the time that has elapsed on the clock; none if that ends before.
    pub(crate) due: Option<Timestamp>,
}

impl Punctuation {
    /// Begins at this stream time: it is due on the next multiple of the interval.
    pub(crate) fn begin_at(&mut self, stream_time: Timestamp) {
        let Self { interval_ms, .. } = *self;
        self.due = if stream_time < 0 {
            // Before the first record there is no stream time: the first one makes it due.
            Some(Timestamp::MIN)
        } else {
            (stream_time - stream_time % interval_ms).checked_add(interval_ms)
        };
    }

    /// Goes on to the next due point after `time`, however many have gone by.
    pub(crate) fn fired_at(&mut self, time: Timestamp) {
        let Self { interval_ms, due, .. } = *self;
        let last = match self.kind {
            PunctuationType::StreamTime => time - time % interval_ms,
            PunctuationType::WallClockTime => {
                let due = due.unwrap_or(time);
                due + (time - due) / interval_ms * interval_ms
            }
        };
        self.due = last.checked_add(interval_ms);
    }
}

/// What a supplier makes a processor from.
///
/// Example: [`ProcessorSupplier`](super::ProcessorSupplier).
pub struct InitContext<'a> {
    pub(crate) resources: &'a mut Resources,
    pub(crate) node: NodeIndex,
    pub(crate) moment: Moment<'a>,
    pub(crate) stores: &'a [(Arc<str>, usize)],
    pub(crate) ports: &'a [PortSpec],
    /// Whether the node lies below repartition topics alone, so that operator time is what they carry.
    pub(crate) is_time_carried: bool,
    /// Whether it lies below a node that makes calls.
    pub(crate) is_below_calls: bool,
    /// Whether what lies below it is touched on another way too.
    pub(crate) meets_others: &'a dyn Fn() -> bool,
    /// Whether it shows in nothing but their order when it forwards rows.
    pub(crate) ends_apart: &'a dyn Fn() -> bool,
    /// The timers asked for so far: the name of each store, and a key to it.
    pub(crate) timers: Vec<(String, Box<dyn Any>)>,
}

opaque_debug!(InitContext<'a>);

impl InitContext<'_> {
    /// A key to a store that the topology connected to this processor.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::NotConnected`] if the topology connected no store of this name,
    /// [`ProcessorError::OtherStore`] if it is of another type.
    pub fn store<S: StateStore>(&self, name: &str) -> Result<StoreKey<S>, ProcessorError> {
        let index = self.connected(name)?;
        match self.resources.stores.get(index) {
            Some(store) if (&**store as &dyn Any).is::<S>() => Ok(StoreKey::new(index)),
            _ => Err(not_a::<S>(name)),
        }
    }

    /// As [`store`](Self::store), without the type of the store's keys: a key to its
    /// [`KeyValueBytes`](crate::store::KeyValueBytes) or [`WindowBytes`](crate::store::WindowBytes), for
    /// [`NodeContext::byte_store`](crate::node::NodeContext::byte_store).
    ///
    /// # Errors
    ///
    /// [`ProcessorError::NotConnected`] and [`ProcessorError::OtherStore`], as [`store`](Self::store).
    pub fn byte_store<B: Any>(&mut self, name: &str) -> Result<StoreKey<B>, ProcessorError> {
        let index = self.connected(name)?;
        let store = self.resources.stores.get_mut(index).map(|store| store.by_bytes());
        match store {
            Some(store) if store.is::<B>() => Ok(StoreKey::new(index)),
            _ => Err(not_a::<B>(name)),
        }
    }

    /// The place of a store that the topology connected to this processor.
    fn connected(&self, name: &str) -> Result<usize, ProcessorError> {
        let found = self.stores.iter().find(|(n, _)| &**n == name);
        found
            .map(|(_, index)| *index)
            .ok_or_else(|| ProcessorError::NotConnected { store: name.to_owned() })
    }

    /// What tells whether the key-value store called `name`, which need not be connected, keeps an entry.
    pub fn entry_check<K: Data, V: Data>(
        &self,
        name: &str,
        keys: &SharedSerde<K>,
        values: &SharedSerde<V>,
    ) -> EntryCheck<V> {
        let Resources { partition, record_bytes_max, .. } = *self.resources;
        EntryCheck::new((name, partition), keys, values, record_bytes_max)
    }

    /// A global store, to be read; any processor may, connected to it or not.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::NotConnected`] if there is none of this name, [`ProcessorError::OtherStore`] if it is of other
    /// types.
    pub fn global_store<K: Data, V: Data>(
        &self,
        name: &str,
    ) -> Result<GlobalStore<K, V>, ProcessorError> {
        let found = self.resources.globals.iter().find(|store| &*store.name == name);
        let found = found.ok_or_else(|| ProcessorError::NotConnected { store: name.to_owned() })?;
        found.read().ok_or_else(|| not_a::<GlobalStore<K, V>>(name))
    }

    /// The timers that the topology connected to this processor, for [`Context::schedule_timer`](super::Context::schedule_timer).
    ///
    /// They fire in [`on_timer`](super::Processor::on_timer), so that their keys are those of the records it takes.
    ///
    /// # Errors
    ///
    /// As [`store`](Self::store), or [`ProcessorError::OtherTimers`].
    pub fn timers<K: Data>(&mut self, name: &str) -> Result<Timers<K>, ProcessorError> {
        let key = self.store::<TimerStore<K>>(name)?;
        if self.resources.timers.contains(&key.index()) {
            return Err(ProcessorError::OtherTimers { timers: name.to_owned() });
        }
        self.resources.timers.push(key.index());
        self.timers.push((name.to_owned(), Box::new(key)));
        Ok(Timers(key))
    }

    /// The child port that the topology gave this processor under `name`, for [`Context::forward_to_port`](super::Context::forward_to_port).
    ///
    /// # Errors
    ///
    /// [`ProcessorError::NoChildPort`] if there is none, or it takes other records.
    pub fn child_port<K: Data, V: Data>(
        &self,
        name: &str,
    ) -> Result<ChildPort<K, V>, ProcessorError> {
        let wanted = TypeId::of::<Rows<K, V>>();
        let place = self.ports.iter().position(|(n, rows)| &**n == name && *rows == wanted);
        let place = place.ok_or_else(|| ProcessorError::NoChildPort {
            port: name.to_owned(),
            rows: records_of::<K, V>(),
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

    /// The store without the type of its keys, to prepare it.
    ///
    /// # Panics
    ///
    /// If the key comes from another task's node.
    pub fn byte_store_mut<B: Any>(&mut self, key: StoreKey<B>) -> &mut B {
        self.resources.byte_store(key)
    }

    /// Schedules [`punctuate`](super::Processor::punctuate) every `interval`: on multiples of it for stream time, from now on for
    /// the wall clock.
    ///
    /// A jump over several due points fires once.
    pub fn schedule(&mut self, interval: Duration, kind: PunctuationType) -> Cancellable {
        schedule(self.resources, self.node, self.moment, interval, kind)
    }

    /// What the task makes calls with.
    #[must_use]
    pub fn caller(&self) -> Caller {
        self.resources.caller.clone()
    }

    /// The partition that this processor's task works on.
    #[must_use]
    pub fn partition(&self) -> u32 {
        self.resources.partition
    }

    /// How many bytes a record of the log may have.
    #[must_use]
    pub fn record_bytes_max(&self) -> usize {
        self.resources.record_bytes_max
    }

    /// How many bytes the key, the value and the headers of a row may have together that goes to a repartition topic.
    #[must_use]
    pub fn repartitioned_bytes_max(&self) -> usize {
        self.resources.record_bytes_max.saturating_sub(TimeMark::ALONE_BYTES)
    }

    /// The task that this processor is a part of.
    #[must_use]
    pub fn task_id(&self) -> TaskId {
        self.resources.task
    }

    /// What the application was configured with by keys, as [`Context::app_configs`](super::Context::app_configs) has it.
    #[must_use]
    pub fn app_configs(&self) -> &BTreeMap<String, String> {
        &self.resources.settings.configs
    }

    /// Those whose keys begin with `prefix`, by what comes after it.
    #[must_use]
    pub fn app_configs_with_prefix(&self, prefix: &str) -> BTreeMap<&str, &str> {
        self.resources.settings.with_prefix(prefix)
    }

    /// The directory of this task, as [`Context::state_dir`](super::Context::state_dir) has it.
    #[must_use]
    pub fn state_dir(&self) -> Option<PathBuf> {
        self.resources.settings.task_dir(self.resources.task)
    }

    /// A counter of the processor's own by this name, which metrics tell beside those of its node; of another name what
    /// metrics cannot have in theirs becomes `_`.
    pub fn counter(&mut self, name: &str) -> Counter {
        self.resources.own_metrics.counter(self.node, name)
    }

    /// A gauge of the processor's own by this name, as [`counter`](Self::counter).
    pub fn gauge(&mut self, name: &str) -> Gauge {
        self.resources.own_metrics.gauge(self.node, name)
    }

    /// `application.id`.
    #[must_use]
    pub fn application_id(&self) -> &str {
        &self.resources.application_id
    }

    /// Whether what lies below this node is touched on another way too: by rows that do not come through it, or in a store that
    /// others touch.
    ///
    /// Then it shows when what it holds back comes out.
    #[must_use]
    pub fn meets_others(&self) -> bool {
        (self.meets_others)()
    }

    /// Whether it shows in nothing but their order when this node forwards rows: what lies below it keeps nothing and asks for no
    /// time, and no other node touches it.
    pub(crate) fn ends_apart(&self) -> bool {
        (self.ends_apart)()
    }

    /// Which time makes due what a processor schedules.
    pub(super) fn due_by(&self) -> DueBy {
        match (self.is_below_calls, self.is_time_carried) {
            (true, _) => DueBy::Rows,
            (false, true) => DueBy::Carried,
            (false, false) => DueBy::Stream,
        }
    }

    /// Whether operator time comes from repartition topics alone: it then decides what is late and what closes, in place
    /// of the timestamps of the records taken.
    #[must_use]
    pub fn is_time_carried(&self) -> bool {
        self.is_time_carried
    }
}

/// Which time makes due what a user's processor has scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DueBy {
    /// The task's stream time.
    Stream,
    /// Below repartitions alone: for timers, the operator time that is carried there.
    Carried,
    /// Below calls, where rows come out late: the operator time of what it takes.
    Rows,
}

pub(super) fn not_a<S>(store: &str) -> ProcessorError {
    let wanted = std::any::type_name::<S>();
    ProcessorError::OtherStore { store: store.to_owned(), wanted }
}

pub(super) fn schedule(
    resources: &mut Resources,
    node: NodeIndex,
    moment: Moment<'_>,
    interval: Duration,
    kind: PunctuationType,
) -> Cancellable {
    let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
    let number = resources.scheduled;
    resources.scheduled += 1;
    let mut punctuation = Punctuation { node, kind, interval_ms, due: None };
    match kind {
        PunctuationType::StreamTime => punctuation.begin_at(moment.stream_time),
        PunctuationType::WallClockTime => {
            punctuation.due = moment.now.elapsed_ms.checked_add(interval_ms);
        }
    }
    resources.punctuations.insert(number, punctuation);
    Cancellable(number)
}

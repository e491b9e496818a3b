//! A user's processor that fills a global store.
//!
//! There is one for each partition of the topic, with a part of the store to itself: what the part holds follows from the records of
//! that partition alone, in their order, so that a part which is built again is what it was.

use super::{
    Context, DetachedContext, InitContext, OwnMetric, Processor, ProcessorError, Record, Rows,
    Settings,
};
use crate::{
    node::RunRecords,
    store::{StateStore, StoreBuilder},
    topology::{Failure, RowDecoder, TaskId},
};
use headwater_core::{
    metrics::NodeMetrics,
    ports::{log::Log, state::Shard},
    record::{RecordSet, TopicPartition},
    serde::Data,
    time::Clock,
};
use std::{convert::Infallible, sync::Arc};

/// Where a processor fills a part of a global store.
pub(crate) struct GlobalPlace {
    /// The task that the part would be, if there were tasks for global stores.
    pub(crate) task: TaskId,
    pub(crate) application_id: Arc<str>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) clock: Arc<dyn Clock>,
    /// The partition that it takes the records of.
    pub(crate) partition: TopicPartition,
    /// Where the part lies.
    pub(crate) shard: Arc<dyn Shard>,
    pub(crate) record_bytes_max: usize,
}

/// What records of a partition have become.
pub(crate) struct GlobalChanges {
    /// The entries that have changed.
    pub(crate) entries: RecordSet,
    /// Records that cannot be taken.
    pub(crate) failures: Vec<Failure>,
}

/// What a processor has counted since it was made.
#[derive(Debug, Clone)]
pub(crate) struct GlobalCounts {
    pub(crate) metrics: NodeMetrics,
    /// What it counts itself.
    pub(crate) own: Vec<OwnMetric>,
}

/// Fills a part of a global store. What it gives is in the state before it is given more.
pub(crate) trait FillGlobal: Send {
    /// Takes the next records of the partition.
    fn take(&mut self, records: &RecordSet) -> Result<GlobalChanges, ProcessorError>;

    /// What it gave is in the state: of that it may keep about so many bytes in memory. Says how many it keeps.
    fn published(&mut self, bytes_max: usize) -> usize;

    /// What it has counted by now.
    fn counts(&self) -> GlobalCounts;
}

/// Makes what fills a part.
pub(crate) type MakeFillGlobal =
    dyn Fn(GlobalPlace) -> Result<Box<dyn FillGlobal>, ProcessorError> + Send + Sync;

/// Has a processor take the records of a partition.
struct Filling<K, V, P> {
    processor: P,
    decoder: RowDecoder<K, V>,
    context: DetachedContext<Infallible, Infallible>,
    partition: TopicPartition,
    /// How often what changed was given.
    given: u64,
}

/// What makes the processors of `supplier`, which fill `store` with what `decoder` makes of records.
pub(crate) fn filling<K, V, P>(
    store: StoreBuilder,
    decoder: impl Fn() -> RowDecoder<K, V> + Send + Sync + 'static,
    supplier: impl Fn(&mut InitContext<'_>) -> Result<P, ProcessorError> + Send + Sync + 'static,
) -> Arc<MakeFillGlobal>
where
    K: Data,
    V: Data,
    P: Processor<K, V, KOut = Infallible, VOut = Infallible> + 'static,
{
    Arc::new(move |place: GlobalPlace| {
        let GlobalPlace { task, application_id, settings, log, clock, partition, .. } = place;
        let mut made = store.make(place.shard, partition.partition);
        made.keep_within(place.record_bytes_max);
        let mut context = DetachedContext::new(&application_id, &[], log, clock);
        context.set_task(task, &settings);
        context.connect(&store, made);
        let processor = context.init(&supplier)?;
        let filling = Filling { processor, decoder: decoder(), context, partition, given: 0 };
        filling.check_schedule()?;
        Ok(Box::new(filling) as Box<dyn FillGlobal>)
    })
}

impl<K, V, P> Filling<K, V, P>
where
    K: Data,
    V: Data,
    P: Processor<K, V, KOut = Infallible, VOut = Infallible>,
{
    /// Nothing lets a punctuation fire here.
    fn check_schedule(&self) -> Result<(), ProcessorError> {
        let is_scheduled = !self.context.scheduled_punctuators().is_empty();
        if is_scheduled { Err(ProcessorError::SchedulesInGlobal) } else { Ok(()) }
    }

    /// Takes a record; adds why it cannot be taken, if it cannot.
    fn take_row(
        &mut self,
        row: Record<K, V>,
        origin: u32,
        failures: &mut Vec<Failure>,
    ) -> Result<(), ProcessorError> {
        let Self { processor, context, .. } = self;
        // There is no stream time beside the record's own.
        context.set_current_stream_time(row.timestamp);
        context.count_record();
        context.call(|context: &mut Context<'_, Infallible, Infallible>| {
            context.begin(&row);
            let processed = processor.process(row, context);
            context.check(processed)
        })?;
        let dead = context.take_dead().into_iter();
        failures.extend(dead.map(|dead| Failure { origin, kind: dead.kind, cause: dead.cause }));
        self.check_schedule()
    }

    fn store(&mut self) -> Option<&mut dyn StateStore> {
        self.context.stores_mut().first_mut().map(|store| &mut **store)
    }
}

impl<K, V, P> FillGlobal for Filling<K, V, P>
where
    K: Data,
    V: Data,
    P: Processor<K, V, KOut = Infallible, VOut = Infallible>,
{
    fn take(&mut self, records: &RecordSet) -> Result<GlobalChanges, ProcessorError> {
        self.context.set_run(RunRecords::new(self.partition.clone(), records.clone().into()));
        let (mut failures, mut rows) = (Vec::new(), Rows::<K, V>::new());
        for (record, origin) in records.iter().zip(0_u32..) {
            failures.extend(self.decoder.read(&record, origin, &mut rows));
            for row in rows.drain(..) {
                self.take_row(row, origin, &mut failures)?;
            }
        }
        self.given += 1;
        let given = self.given;
        let changes = self.store().map(|store| store.commit(given)).transpose()?;
        let entries = changes.map(|changes| changes.records).unwrap_or_default();
        Ok(GlobalChanges { entries, failures })
    }

    fn published(&mut self, bytes_max: usize) -> usize {
        let given = self.given;
        let Some(store) = self.store() else { return 0 };
        store.published(given, bytes_max);
        store.size_bytes()
    }

    fn counts(&self) -> GlobalCounts {
        GlobalCounts { metrics: self.context.metrics(), own: self.context.own_metrics() }
    }
}

//! A processor's context without a task around it: for test kits, and for processors that fill global stores.

use super::{
    Cancellable, Context, InitContext, OwnMetric, OwnMetrics, OwnValue, Ports, ProcessorError,
    PunctuationType, Record, RecordMetadata, Rows, Settings,
};
use crate::{
    broken::broken,
    by_index::{ByIndex, TypedIndex},
    calls::{Caller, PoolOfProcess},
    node::{Call, Measures, Moment, NodeContext, NodeIndex, Now, Rejection, Resources, RunRecords},
    store::{StateStore, StoreBuilder, StoreKey},
    topology::{DynamicOutputs, TaskId},
};
use headwater_core::{
    metrics::NodeMetrics,
    ports::{
        log::Log,
        state::{ApplicationState, StateError},
    },
    record::{Headers, RecordSetBuilder, Timestamp},
    serde::Data,
    time::Clock,
};
use std::{any::Any, collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

/// A record that a processor has forwarded.
///
/// Example: [`MockProcessorContext`](https://docs.rs/headwater-testkit).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturedForward<K, V> {
    /// The record.
    pub record: Record<K, V>,
    /// The child that it was forwarded to; none for all of them.
    pub child_name: Option<String>,
}

/// A punctuation that a processor has scheduled and not cancelled.
///
/// Example: [`MockProcessorContext`](https://docs.rs/headwater-testkit).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapturedPunctuator {
    /// What the processor knows it by.
    pub which: Cancellable,
    /// How often.
    pub interval: Duration,
    /// By which time.
    pub kind: PunctuationType,
}

/// A context of no task: what a processor does with it is kept to be looked at.
///
/// Example: [`MockProcessorContext`](https://docs.rs/headwater-testkit).
pub struct DetachedContext<K, V> {
    resources: Resources,
    stores: Vec<(Arc<str>, usize)>,
    stream_time: Timestamp,
    source: Option<RunRecords>,
    forwarded: Vec<CapturedForward<K, V>>,
}

opaque_debug!(DetachedContext<K, V>);

const ONLY: usize = 0;

impl<K: Data, V: Data> DetachedContext<K, V> {
    /// That of a processor with these children in task `0_0`; `log` is asked for limits, and which topics there are.
    pub fn new(
        application_id: &str,
        children: &[&str],
        log: Arc<dyn Log>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let task = TaskId { sub: 0, partition: 0 };
        let record_bytes_max = log.limits().record_bytes_max;
        let resources = Resources {
            stores: Vec::new(),
            metrics: ByIndex::filled(NodeMetrics::default(), 1),
            measures: Measures::of_nodes(1),
            clock,
            dead: Vec::new(),
            punctuations: BTreeMap::new(),
            scheduled: 0,
            timers: Vec::new(),
            commit_requested: false,
            forwarding: Vec::new(),
            application_id: application_id.into(),
            settings: Arc::default(),
            own_metrics: OwnMetrics::default(),
            task,
            children: vec![children.iter().map(|child| Arc::from(*child)).collect()],
            connected: vec![Vec::new()],
            no_child: None,
            changed: false,
            partition: task.partition,
            record_bytes_max,
            globals: Arc::default(),
            caller: Caller::new(Arc::new(PoolOfProcess)),
            dynamic_outputs: DynamicOutputs::new(log, task.partition, record_bytes_max),
        };
        let (stores, forwarded) = (Vec::new(), Vec::new());
        Self { resources, stores, stream_time: -1, source: None, forwarded }
    }

    /// What the processor is told of the configuration: keys, and the application's directory.
    pub fn set_app_configs(&mut self, configs: BTreeMap<String, String>, dir: Option<PathBuf>) {
        self.resources.settings = Arc::new(Settings { configs, dir });
    }

    /// What a counter of the processor's own says.
    #[must_use]
    pub fn counted(&self, name: &str) -> Option<u64> {
        self.resources.own_metrics.find(name, |value| match value {
            OwnValue::Counted(counted) => Some(counted),
            OwnValue::Stands(_) => None,
        })
    }

    /// What a gauge of the processor's own says.
    #[must_use]
    pub fn gauged(&self, name: &str) -> Option<f64> {
        self.resources.own_metrics.find(name, |value| match value {
            OwnValue::Counted(_) => None,
            OwnValue::Stands(stands) => stands,
        })
    }

    /// Connects a store, empty or as `state` has it.
    ///
    /// # Errors
    ///
    /// [`StateError`] if the state refuses.
    pub fn add_state_store(
        &mut self,
        store: &StoreBuilder,
        state: &dyn ApplicationState,
    ) -> Result<(), StateError> {
        let partition = self.resources.partition;
        let mut made = store.make(state.open(store.spec(), partition)?, partition);
        made.keep_within(self.resources.record_bytes_max);
        self.connect(store, made);
        Ok(())
    }

    /// Tells the processor its task, and the application's settings.
    pub(super) fn set_task(&mut self, task: TaskId, settings: &Arc<Settings>) {
        (self.resources.task, self.resources.partition) = (task, task.partition);
        self.resources.settings = Arc::clone(settings);
    }

    /// Counts a record that the processor takes.
    pub(super) fn count_record(&mut self) {
        self.resources.metrics[NodeIndex::new(ONLY)].records += 1;
    }

    /// What was counted of the processor.
    pub(super) fn metrics(&self) -> NodeMetrics {
        self.resources.metrics[NodeIndex::new(ONLY)]
    }

    /// What the processor counts itself.
    pub(super) fn own_metrics(&self) -> Vec<OwnMetric> {
        self.resources.own_metrics.iter().cloned().collect()
    }

    /// Connects a store that was made.
    pub(super) fn connect(&mut self, store: &StoreBuilder, made: Box<dyn StateStore>) {
        let entry = (Arc::clone(&store.spec().name), self.resources.stores.len());
        self.resources.stores.push(made);
        self.stores.push(entry);
        self.resources.connected = vec![self.stores.clone()];
    }

    /// The stores, in the order in which they were connected.
    pub(super) fn stores_mut(&mut self) -> &mut [Box<dyn StateStore>] {
        &mut self.resources.stores
    }

    /// The next calls are about these records.
    pub(super) fn set_run(&mut self, run: RunRecords) {
        self.source = Some(run);
    }

    /// Gives the dead letters that calls have led to.
    pub(super) fn take_dead(&mut self) -> Vec<Rejection> {
        std::mem::take(&mut self.resources.dead)
    }

    /// Has a supplier make its processor.
    ///
    /// # Errors
    ///
    /// What the supplier answers.
    pub fn init<P>(
        &mut self,
        supplier: impl FnOnce(&mut InitContext<'_>) -> Result<P, ProcessorError>,
    ) -> Result<P, ProcessorError> {
        let moment = self.moment();
        supplier(&mut InitContext {
            resources: &mut self.resources,
            node: NodeIndex::new(ONLY),
            moment: Moment { source: None, ..moment },
            stores: &self.stores,
            ports: &[],
            is_time_carried: false,
            is_below_calls: false,
            meets_others: &|| false,
            ends_apart: &|| true,
            timers: Vec::new(),
        })
    }

    fn moment(&self) -> Moment<'static> {
        let now = Now::on(&*self.resources.clock);
        Moment { stream_time: self.stream_time, now, source: None }
    }

    /// Calls a processor, and keeps what it forwards.
    ///
    /// # Errors
    ///
    /// What the call answers, and [`ProcessorError::NoChild`] if it forwards to a child that there is not.
    pub fn call<T>(
        &mut self,
        call: impl FnOnce(&mut Context<'_, K, V>) -> Result<T, ProcessorError>,
    ) -> Result<T, ProcessorError> {
        let moment = Moment { source: self.source.as_ref(), ..self.moment() };
        let at = Call {
            node: NodeIndex::new(ONLY),
            moment,
            operator_time: self.stream_time,
            passed_time: self.stream_time,
            lives_by_rows: false,
            parents: &[],
        };
        let mut node = NodeContext { resources: &mut self.resources, call: at };
        let mut context = Context::new(&mut node);
        if self.source.is_some() {
            context.begin_at(0);
        }
        let answered = call(&mut context);
        let own = context.finish().own;
        let mut routes = own.as_ref().and_then(|own| own.routes.clone()).unwrap_or_default();
        let rows = own.map(|own| Rows::<K, V>::take(0, own.payload)).transpose()?;
        let rows = rows.unwrap_or_default();
        routes.resize(rows.len(), None);
        for (record, route) in rows.into_iter().zip(routes) {
            let children = self.resources.children.first();
            let child = route.and_then(|child| children?.get(usize::from(child)));
            let child_name = child.map(|name| name.to_string());
            // As the test would have made it.
            let Record { key, value, timestamp, headers, .. } = record;
            let record = Record { headers, ..Record::new(key, value, timestamp) };
            self.forwarded.push(CapturedForward { record, child_name });
        }
        if let Some(child) = self.resources.no_child.take() {
            let children = self.resources.children.concat().join("`, `");
            return Err(ProcessorError::NoChild {
                node: "the processor".to_owned(),
                child,
                children,
            });
        }
        answered
    }

    /// What has been forwarded, in order.
    #[must_use]
    pub fn forwarded(&self) -> &[CapturedForward<K, V>] {
        &self.forwarded
    }

    /// Forgets what has been forwarded.
    pub fn reset_forwards(&mut self) {
        self.forwarded.clear();
    }

    /// What is scheduled, in the order in which it was.
    #[must_use]
    pub fn scheduled_punctuators(&self) -> Vec<CapturedPunctuator> {
        let scheduled = self.resources.punctuations.iter();
        let captured = scheduled.map(|(which, punctuation)| CapturedPunctuator {
            which: Cancellable(*which),
            interval: Duration::from_millis(punctuation.interval_ms.unsigned_abs()),
            kind: punctuation.kind,
        });
        captured.collect()
    }

    /// Whether a commit has been asked for.
    #[must_use]
    pub fn committed(&self) -> bool {
        self.resources.commit_requested
    }

    /// Forgets that a commit has been asked for.
    pub fn reset_commit(&mut self) {
        self.resources.commit_requested = false;
    }

    /// How many records were dropped.
    #[must_use]
    pub fn dropped_records(&self) -> u64 {
        self.resources.metrics[NodeIndex::new(ONLY)].dropped.total()
    }

    /// Where the record of the next calls comes from; `None` as in a punctuation.
    pub fn set_record_metadata(&mut self, metadata: Option<RecordMetadata>) {
        self.source = metadata.map(|RecordMetadata { partition, offset }| {
            let mut record = RecordSetBuilder::default();
            if record.push(0, None, None, &Headers::new()).is_err() {
                broken("an empty record fits into a record set");
            }
            let records = record.build().at_offset(offset).into();
            RunRecords::new(partition, records)
        });
    }

    /// The largest timestamp that the task has taken.
    pub fn set_current_stream_time(&mut self, time: Timestamp) {
        self.stream_time = time;
    }

    /// The connected store called `name`; `None` if there is none, or it is of another type.
    pub fn state_store<S: StateStore>(&mut self, name: &str) -> Option<&mut S> {
        let place = self.stores.iter().find(|(n, _)| **n == *name).map(|(_, place)| *place)?;
        let is_one =
            self.resources.stores.get(place).is_some_and(|it| (&**it as &dyn Any).is::<S>());
        is_one.then(|| self.resources.store(StoreKey::new(place)))
    }
}

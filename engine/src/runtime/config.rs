//! How an application runs.

use super::{
    application::life::{StateListener, StreamsState},
    error::StreamsError,
    identity::HostInfo,
    restore::{RestoreListeners, StateRestoreListener},
    standby::{StandbyListeners, StandbyUpdateListener},
};
use crate::{
    calls::PoolOfProcess,
    caught::caught,
    error_handlers::{BadRecordHandler, ErrorHandlers, ExceptionHandler},
    processor::Settings,
    topology::{BuiltInExtractor, OffsetReset, TopologyOptimization},
};
use headwater_core::{
    dead_letter::BadRecord, memory::MemoryBudget, ports::spawn::Spawn, record::TopicName,
};
use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

/// What a failure may do to results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProcessingGuarantee {
    /// Each record takes effect once: outputs, stores and offsets become visible in one atomic commit.
    #[default]
    ExactlyOnce,
    /// Outputs become visible as soon as they are made; after a failure some are made again.
    AtLeastOnce,
}

/// How records pass from one sub-topology to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Repartitioning {
    /// In memory, within a commit; only what a commit finds unread is written to the repartition topic.
    #[default]
    InMemory,
    /// Through the repartition topic, from one commit to the next: as it must be where other processes read it. Finals and
    /// the last value of each key are the same; updates between them, and their order, need not be.
    ThroughTopic,
}

/// What becomes of an application whose task failed or whose code panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UncaughtExceptionResponse {
    /// It stops; others of the same runtime go on.
    #[default]
    StopApplication,
    /// Its tasks are made anew from its last commit, after a wait that doubles; after 5 times in 10 minutes it stops.
    Replace,
    /// It stops, and every other application of the runtime with it, whatever their handlers say.
    StopRuntime,
}

/// Decides what becomes of an application after a failure.
#[derive(Clone, Default)]
pub struct UncaughtExceptionHandler(Option<Arc<Decide>>);

type Decide = dyn Fn(&StreamsError) -> UncaughtExceptionResponse + Send + Sync;

impl fmt::Debug for UncaughtExceptionHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "the user's" } else { "stop the application" })
    }
}

impl UncaughtExceptionHandler {
    /// What to do about `error`. Where another handler has asked to retry, that is done. What a restart [meets again](StreamsError::returns) is not asked about: it stops the
    /// application; so does a handler that panics, since whoever asks it has others to serve.
    pub(super) fn response(&self, error: &StreamsError) -> UncaughtExceptionResponse {
        if error.is_retry() {
            return UncaughtExceptionResponse::Replace;
        }
        match &self.0 {
            Some(decide) if !error.returns() => {
                caught(|| decide(error)).unwrap_or_else(|message| {
                    tracing::error!(message, "the uncaught-exception handler panicked");
                    UncaughtExceptionResponse::StopApplication
                })
            }
            Some(_) | None => UncaughtExceptionResponse::StopApplication,
        }
    }
}

/// Who runs the calls of an application's operators.
#[derive(Clone, Default)]
pub struct CallExecutor(Option<Arc<dyn Spawn>>);

impl fmt::Debug for CallExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "the user's" } else { "the pool of the process" })
    }
}

impl CallExecutor {
    /// The user's, if there is one.
    pub(super) fn of_user(&self) -> Option<Arc<dyn Spawn>> {
        self.0.clone()
    }

    pub(super) fn spawn(&self) -> Arc<dyn Spawn> {
        self.of_user().unwrap_or_else(|| Arc::new(PoolOfProcess))
    }
}

/// What a runtime gives its applications.
///
/// ```
/// use headwater_core::memory::MemoryBudget;
/// use headwater_engine::runtime::RuntimeConfig;
/// use std::sync::Arc;
///
/// let config = RuntimeConfig::new(2).with_memory(Arc::new(MemoryBudget::new(1 << 30)));
/// assert_eq!((config.threads, config.memory.max()), (2, 1 << 30));
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RuntimeConfig {
    /// Worker threads, at least one.
    pub threads: usize,
    /// `memory.max`: what applications may keep in memory together; by default what all runtimes of this process share,
    /// a quarter of the machine.
    pub memory: Arc<MemoryBudget>,
    /// What names of its worker threads begin with.
    pub client_id: Option<String>,
}

impl RuntimeConfig {
    /// The defaults, with so many worker threads.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self { threads: threads.max(1), memory: MemoryBudget::of_process(), client_id: None }
    }

    /// Keeps to `memory`, which the state may share.
    #[must_use]
    pub fn with_memory(mut self, memory: Arc<MemoryBudget>) -> Self {
        self.memory = memory;
        self
    }
}

impl From<usize> for RuntimeConfig {
    fn from(threads: usize) -> Self {
        Self::new(threads)
    }
}

/// How an application runs; Kafka's names, safe defaults.
///
/// ```
/// use headwater_engine::runtime::StreamsConfig;
///
/// let config = StreamsConfig::new("fleet").with_num_stream_threads(4);
/// assert_eq!(config.application_id, "fleet");
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StreamsConfig {
    /// `application.id`: the consumer group, and the prefix of internal topics.
    pub application_id: String,
    /// `client.id`: in metrics and names of threads.
    pub client_id: Option<String>,
    /// `application.server`: where this instance answers.
    pub application_server: Option<HostInfo>,
    /// `num.stream.threads`: 2 by default.
    pub num_stream_threads: usize,
    /// `processing.guarantee`: exactly-once by default.
    pub processing_guarantee: ProcessingGuarantee,
    /// `commit.interval.ms`: the longest time between commits, 100 ms by default.
    pub commit_interval: Duration,
    /// `statestore.cache.max.bytes`: what the stores' caches may hold after a commit, 50 MiB by default; less where its share
    /// of the runtime's memory is.
    pub statestore_cache_max_bytes: usize,
    /// How long a task must have had no records before what it holds of earlier ones holds no time back below a repartition: for ever by
    /// default.
    pub source_idle_timeout: Option<Duration>,
    /// `max.task.idle.ms`: how long the records of a task wait for an input that is read to its end, by the monotonic clock.
    ///
    /// 0 by default; none does not wait either, and counts nothing as enforced processing.
    pub max_task_idle: Option<Duration>,
    /// The size of uncommitted output and state that makes a commit due, 32 MiB by default.
    pub commit_bytes_max: usize,
    /// What to do with bad records, by where they are found: dead letters by default.
    pub error_handlers: ErrorHandlers,
    /// `default.timestamp.extractor`: where the times are from of sources that do not say so; by default the records have them.
    pub default_timestamp_extractor: BuiltInExtractor,
    /// `auto.offset.reset`: where topics are read from of which no offset was committed and no
    /// [source](crate::topology::Consumed) says so; from the oldest record by default.
    ///
    /// What a store is rebuilt from is read from there in any case.
    pub default_offset_reset: OffsetReset,
    /// `buffered.records.per.partition`: how many records of a partition are held at a time at most, beside the bound in bytes that
    /// the memory budget gives; none by default.
    pub buffered_records_per_partition: Option<usize>,
    /// `task.timeout.ms`: for how long the application goes on from its last commit by itself, before anybody is asked.
    ///
    /// It does so where what failed may succeed with nothing changed; not at all by default.
    pub task_timeout: Duration,
    /// `topology.optimization`: what topologies are to be built with, for `StreamsBuilder::with_topology_optimization`; the start warns
    /// of one that was built with others.
    pub topology_optimization: TopologyOptimization,
    /// `ensure.explicit.internal.resource.naming`: whether a topology is refused whose stores or repartition topics have generated
    /// names.
    pub ensure_explicit_names: bool,
    /// `state.dir`: where an `App` without a data directory of its own has one, under its id; the stores of other applications lie
    /// in the state that they are started with.
    pub state_dir: Option<PathBuf>,
    /// Where the application keeps its data: `<state_dir>/<application.id>` unless set. An `App` sets it.
    pub application_dir: Option<PathBuf>,
    /// What was set by keys, Kafka's and others, for processors to ask for.
    pub app_configs: BTreeMap<String, String>,
    /// The keys that were [set](Self::set) and have no effect, which the start tells once.
    pub without_effect: Vec<String>,
    /// `errors.dead.letter.queue.topic.name`: `<application.id>-dead-letters` unless set.
    pub dead_letter_topic: Option<TopicName>,
    /// What becomes of the application after a failure or a panic: it stops by default.
    pub uncaught_exception_handler: UncaughtExceptionHandler,
    /// Who is told where the application is in its life.
    pub state_listener: StateListener,
    /// Who is told how stores are restored.
    pub restore_listeners: RestoreListeners,
    /// Who is told how standbys of it follow: nobody by default.
    pub standby_listeners: StandbyListeners,
    /// The most rows in a batch: 1,024 by default.
    pub batch_rows_max: usize,
    /// How records pass from one sub-topology to the next: in memory by default.
    pub repartitioning: Repartitioning,
    /// Whether internal topics are synced before they are acknowledged; on by default.
    pub internal_durability: headwater_core::ports::log::Durability,
    /// Who runs the calls of operators such as `map_async`: a pool of threads that the process has one of, by default.
    pub call_executor: CallExecutor,
}

impl StreamsConfig {
    /// The defaults, for the application `application_id`.
    pub fn new(application_id: impl Into<String>) -> Self {
        Self {
            application_id: application_id.into(),
            client_id: None,
            application_server: None,
            num_stream_threads: 2,
            processing_guarantee: ProcessingGuarantee::default(),
            commit_interval: Duration::from_millis(100),
            statestore_cache_max_bytes: 50 << 20,
            source_idle_timeout: None,
            max_task_idle: Some(Duration::ZERO),
            commit_bytes_max: 32 << 20,
            error_handlers: ErrorHandlers::default(),
            default_timestamp_extractor: BuiltInExtractor::default(),
            default_offset_reset: OffsetReset::default(),
            buffered_records_per_partition: None,
            task_timeout: Duration::ZERO,
            topology_optimization: TopologyOptimization::NONE,
            ensure_explicit_names: false,
            state_dir: None,
            application_dir: None,
            app_configs: BTreeMap::new(),
            without_effect: Vec::new(),
            dead_letter_topic: None,
            uncaught_exception_handler: UncaughtExceptionHandler::default(),
            state_listener: StateListener::default(),
            restore_listeners: RestoreListeners::default(),
            standby_listeners: StandbyListeners::default(),
            batch_rows_max: 1024,
            repartitioning: Repartitioning::default(),
            internal_durability: headwater_core::ports::log::Durability::default(),
            call_executor: CallExecutor::default(),
        }
    }

    /// Runs `threads` threads, at least one.
    #[must_use]
    pub fn with_num_stream_threads(mut self, threads: usize) -> Self {
        self.num_stream_threads = threads.max(1);
        self
    }

    /// Sets what a failure may do to results.
    #[must_use]
    pub fn with_processing_guarantee(mut self, guarantee: ProcessingGuarantee) -> Self {
        self.processing_guarantee = guarantee;
        self
    }

    /// Commits at least this often.
    #[must_use]
    pub fn with_commit_interval(mut self, interval: Duration) -> Self {
        self.commit_interval = interval;
        self
    }

    /// Lets the stores' caches hold this much after a commit.
    #[must_use]
    pub fn with_statestore_cache_max_bytes(mut self, bytes: usize) -> Self {
        self.statestore_cache_max_bytes = bytes;
        self
    }

    /// Sets what to do with bad records, wherever they are found.
    #[must_use]
    pub fn with_bad_record(self, policy: BadRecord) -> Self {
        self.with_error_handlers(ErrorHandlers {
            deserialization: policy.into(),
            processing: policy.into(),
            production: policy.into(),
        })
    }

    /// Sets who answers for bad records by where they are found.
    ///
    /// ```
    /// use headwater_engine::runtime::{BadRecord, ErrorHandlers, StreamsConfig};
    ///
    /// let handlers =
    ///     ErrorHandlers { production: BadRecord::Fail.into(), ..ErrorHandlers::default() };
    /// let config = StreamsConfig::new("fleet").with_error_handlers(handlers);
    /// assert_eq!(format!("{:?}", config.error_handlers.production), "Fail");
    /// assert_eq!(format!("{:?}", config.error_handlers.processing), "DeadLetter");
    /// ```
    #[must_use]
    pub fn with_error_handlers(mut self, handlers: ErrorHandlers) -> Self {
        self.error_handlers = handlers;
        self
    }

    /// Has `handler` say what becomes of records that cannot be read, or have no time.
    #[must_use]
    pub fn with_deserialization_exception_handler(
        mut self,
        handler: impl ExceptionHandler + 'static,
    ) -> Self {
        self.error_handlers.deserialization = BadRecordHandler::Own(Arc::new(handler));
        self
    }

    /// Has `handler` say what becomes of records that an operator refuses.
    #[must_use]
    pub fn with_processing_exception_handler(
        mut self,
        handler: impl ExceptionHandler + 'static,
    ) -> Self {
        self.error_handlers.processing = BadRecordHandler::Own(Arc::new(handler));
        self
    }

    /// Has `handler` say what becomes of records of which something is made that cannot be written.
    ///
    /// ```
    /// use headwater_engine::runtime::{ErrorHandlerContext, ExceptionResponse, StreamsConfig};
    ///
    /// // Wait for topics that are not there yet.
    /// let handler = |error: &ErrorHandlerContext<'_>| match error.is_retriable() {
    ///     true => ExceptionResponse::Retry,
    ///     false => ExceptionResponse::DeadLetter(vec![]),
    /// };
    /// let config = StreamsConfig::new("fleet").with_production_exception_handler(handler);
    /// assert_eq!(format!("{:?}", config.error_handlers.production), "the user's");
    /// ```
    #[must_use]
    pub fn with_production_exception_handler(
        mut self,
        handler: impl ExceptionHandler + 'static,
    ) -> Self {
        self.error_handlers.production = BadRecordHandler::Own(Arc::new(handler));
        self
    }

    /// Has sources that do not say where times are from take them so.
    ///
    /// ```
    /// use headwater_engine::{runtime::StreamsConfig, topology::LogAndSkipOnInvalidTimestamp};
    ///
    /// let config = StreamsConfig::new("fleet")
    ///     .with_default_timestamp_extractor(LogAndSkipOnInvalidTimestamp);
    /// assert_eq!(config.default_timestamp_extractor, LogAndSkipOnInvalidTimestamp);
    /// ```
    #[must_use]
    pub fn with_default_timestamp_extractor(mut self, extractor: BuiltInExtractor) -> Self {
        self.default_timestamp_extractor = extractor;
        self
    }

    /// Reads topics from there of which no offset was committed and no source says so.
    #[must_use]
    pub fn with_default_offset_reset(mut self, offset_reset: OffsetReset) -> Self {
        self.default_offset_reset = offset_reset;
        self
    }

    /// Holds at most this many records of a partition, at least one.
    #[must_use]
    pub fn with_buffered_records_per_partition(mut self, records: usize) -> Self {
        self.buffered_records_per_partition = Some(records.max(1));
        self
    }

    /// Goes on from the last commit for so long, after waits that double up to 10 s, where what failed may succeed with nothing
    /// changed: a disk that is full, too many open files.
    ///
    /// A commit that succeeds begins the time anew. Then the uncaught-exception handler is asked.
    #[must_use]
    pub fn with_task_timeout(mut self, timeout: Duration) -> Self {
        self.task_timeout = timeout;
        self
    }

    /// Gives processors something under a key, beside what is set by Kafka's keys: they ask for it by
    /// [`Context::app_configs`](crate::processor::Context::app_configs).
    ///
    /// ```
    /// use headwater_engine::runtime::StreamsConfig;
    ///
    /// let config = StreamsConfig::new("fleet").with_app_config("speeds.limit", "130");
    /// assert_eq!(config.app_configs["speeds.limit"], "130");
    /// ```
    #[must_use]
    pub fn with_app_config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.app_configs.insert(key.into(), value.into());
        self
    }

    /// What processors may ask of it.
    pub(super) fn settings(&self) -> Settings {
        let under = self.state_dir.as_ref().map(|dir| dir.join(&self.application_id));
        let dir = self.application_dir.clone().or(under);
        Settings { configs: self.app_configs.clone(), dir }
    }

    /// Refuses topologies whose stores or repartition topics have generated names, as
    /// `StreamsBuilder::with_explicit_names` does at the build.
    #[must_use]
    pub fn with_explicit_names_ensured(mut self) -> Self {
        self.ensure_explicit_names = true;
        self
    }

    /// Keeps the data of an `App` that has no data directory of its own under this one.
    #[must_use]
    pub fn with_state_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.state_dir = Some(path.into());
        self
    }

    /// Tells which keys have no effect.
    pub(super) fn tell_what_has_no_effect(&self) {
        if !self.without_effect.is_empty() {
            let (application, keys) = (&self.application_id, self.without_effect.join(", "));
            tracing::warn!(
                application,
                keys,
                "settings have no effect where the log is a part of the process"
            );
        }
    }

    /// Sends dead letters to this topic, which is created where it is missing.
    #[must_use]
    pub fn with_dead_letter_topic(mut self, topic: TopicName) -> Self {
        self.dead_letter_topic = Some(topic);
        self
    }

    /// Has `decide` say what becomes of the application after a failure or a panic.
    ///
    /// It is not asked about what a restart would meet again: a bad record under [`BadRecord::Fail`] and damaged state stop the
    /// application. So does a panic of `decide`. About a record whose call failed, or whose topic there is not, it is asked:
    /// later that may succeed.
    ///
    /// ```
    /// use headwater_engine::runtime::{StreamsConfig, UncaughtExceptionResponse};
    ///
    /// let config = StreamsConfig::new("fleet")
    ///     .with_uncaught_exception_handler(|_| UncaughtExceptionResponse::Replace);
    /// assert_eq!(format!("{:?}", config.uncaught_exception_handler), "the user's");
    /// ```
    #[must_use]
    pub fn with_uncaught_exception_handler(
        mut self,
        decide: impl Fn(&StreamsError) -> UncaughtExceptionResponse + Send + Sync + 'static,
    ) -> Self {
        self.uncaught_exception_handler = UncaughtExceptionHandler(Some(Arc::new(decide)));
        self
    }

    /// Tells `on_change` each new state of the application and the one before, in order and each change once.
    ///
    /// It is called on threads of the application: it must be quick, and not wait for the application.
    ///
    /// ```
    /// use headwater_engine::runtime::StreamsConfig;
    ///
    /// let config = StreamsConfig::new("fleet").with_state_listener(|now, before| {
    ///     eprintln!("fleet: {} -> {}", before.name(), now.name());
    /// });
    /// assert_eq!(format!("{:?}", config.state_listener), "the user's");
    /// ```
    #[must_use]
    pub fn with_state_listener(
        mut self,
        on_change: impl Fn(&StreamsState, &StreamsState) + Send + Sync + 'static,
    ) -> Self {
        self.state_listener = StateListener::new(on_change);
        self
    }

    /// Tells `listener` how stores are restored, beside those that are told already.
    #[must_use]
    pub fn with_restore_listener(mut self, listener: Arc<dyn StateRestoreListener>) -> Self {
        self.restore_listeners.add(listener);
        self
    }

    /// Tells `listener` how a [`Standby`](super::Standby) of the application follows it, beside those that are told already.
    #[must_use]
    pub fn with_standby_listener(mut self, listener: Arc<dyn StandbyUpdateListener>) -> Self {
        self.standby_listeners.add(listener);
        self
    }

    /// Takes at most this many rows in one batch, at least one.
    #[must_use]
    pub fn with_batch_rows_max(mut self, rows: usize) -> Self {
        self.batch_rows_max = rows.max(1);
        self
    }

    /// Sets how records pass from one sub-topology to the next.
    #[must_use]
    pub fn with_repartitioning(mut self, repartitioning: Repartitioning) -> Self {
        self.repartitioning = repartitioning;
        self
    }

    /// Has `executor` run the calls of operators such as `map_async`: a Tokio runtime, say, where they need one.
    ///
    /// ```
    /// use headwater_engine::{calls::ThreadPool, runtime::StreamsConfig};
    ///
    /// // With Tokio: `.with_call_executor(move |call: Spawned| drop(handle.spawn(call)))`.
    /// let config = StreamsConfig::new("fleet").with_call_executor(ThreadPool::new(64)?);
    /// assert_eq!(format!("{:?}", config.call_executor), "the user's");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn with_call_executor(mut self, executor: impl Spawn + 'static) -> Self {
        self.call_executor = CallExecutor(Some(Arc::new(executor)));
        self
    }

    /// Sets when appends to changelogs, repartition topics and dead letters are acknowledged.
    #[must_use]
    pub fn with_internal_durability(
        mut self,
        durability: headwater_core::ports::log::Durability,
    ) -> Self {
        self.internal_durability = durability;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_share_one_budget_unless_they_are_given_another() {
        let (one, other) = (RuntimeConfig::new(1), RuntimeConfig::new(2));
        assert!(Arc::ptr_eq(&one.memory, &other.memory));
        let own = other.with_memory(Arc::new(MemoryBudget::new(1 << 20)));
        assert!(!Arc::ptr_eq(&one.memory, &own.memory));
    }
}

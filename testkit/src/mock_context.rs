//! The context of a single processor under test: what it forwards, schedules and asks for is kept to be looked at.

use headwater_core::{
    ports::state::{ApplicationState, State, StateError},
    record::{InvalidTopicName, Timestamp, TopicName, TopicPartition},
    serde::Data,
    time::ManualClock,
};
use headwater_engine::{
    processor::{
        CapturedForward, CapturedPunctuator, Context, DetachedContext, InitContext, ProcessorError,
        RecordMetadata,
    },
    store::{StateStore, StoreBuilder},
};
use headwater_log::MemoryLog;
use headwater_state::MemoryState;
use std::{fmt, path::PathBuf, sync::Arc};

/// A context for tests of one processor, in task `0_0` of the application `test`.
///
/// A processor is called through it, by hand: nothing punctuates by itself, no timer fires, and no child does anything.
/// Where that is to be seen, a [`TopologyTestDriver`](crate::TopologyTestDriver) does it.
///
/// ```
/// use headwater_core::serde::for_type;
/// use headwater_engine::{
///     processor::{
///         Cancellable, Context, InitContext, Processor, ProcessorError, PunctuationType, Record,
///     },
///     store::{KeyValueStore, StoreKey},
/// };
/// use headwater_testkit::MockProcessorContext;
/// use std::time::Duration;
///
/// /// Keeps the newest speed of each car, and tells them all every minute.
/// struct Latest(StoreKey<KeyValueStore<String, i64>>);
///
/// impl Latest {
///     fn new(context: &mut InitContext<'_>) -> Result<Self, ProcessorError> {
///         context.schedule(Duration::from_secs(60), PunctuationType::WallClockTime);
///         Ok(Self(context.store("latest")?))
///     }
/// }
///
/// impl Processor<String, i64> for Latest {
///     type KOut = String;
///     type VOut = i64;
///
///     fn process(
///         &mut self,
///         record: Record<String, i64>,
///         context: &mut Context<'_, String, i64>,
///     ) -> Result<(), ProcessorError> {
///         Ok(context.store(self.0).put(&record.key, Some(record.value), record.timestamp)?)
///     }
///
///     fn punctuate(
///         &mut self,
///         _: Cancellable,
///         time: i64,
///         context: &mut Context<'_, String, i64>,
///     ) -> Result<(), ProcessorError> {
///         let all = context.store(self.0).all()?.collect::<Result<Vec<_>, _>>()?;
///         for (car, speed) in all {
///             context.forward(Record::new(car, speed.value, time));
///         }
///         context.commit();
///         Ok(())
///     }
/// }
///
/// let mut context = MockProcessorContext::<String, i64>::new();
/// context.add_state_store(&KeyValueStore::<String, i64>::builder(
///     "latest",
///     for_type(),
///     for_type(),
/// ))?;
/// let mut latest = context.init(Latest::new)?;
/// context.call(|it| latest.process(Record::new("a".into(), 90, 5), it))?;
/// context.call(|it| latest.process(Record::new("a".into(), 95, 7), it))?;
/// assert!(context.forwarded().is_empty() && !context.committed());
///
/// let scheduled = context.scheduled_punctuators()[0];
/// assert_eq!(scheduled.interval, Duration::from_secs(60));
/// context.call(|it| latest.punctuate(scheduled.which, 60_000, it))?;
/// let forwarded = &context.forwarded()[0];
/// assert_eq!(forwarded.record, Record::new("a".into(), 95, 60_000));
/// assert_eq!(forwarded.child_name, None, "to all children");
/// assert!(context.committed());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MockProcessorContext<K, V> {
    inner: DetachedContext<K, V>,
    state: Arc<dyn ApplicationState>,
    clock: Arc<ManualClock>,
}

impl<K, V> fmt::Debug for MockProcessorContext<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MockProcessorContext")
    }
}

impl<K: Data, V: Data> Default for MockProcessorContext<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Data, V: Data> MockProcessorContext<K, V> {
    /// That of a processor which forwards to all of its children alike.
    #[must_use]
    pub fn new() -> Self {
        Self::with_children(&[])
    }

    /// That of a processor which forwards to children by these names.
    ///
    /// ```
    /// use headwater_engine::processor::{ProcessorError, Record};
    /// use headwater_testkit::MockProcessorContext;
    ///
    /// let mut context = MockProcessorContext::<String, i64>::with_children(&["fast", "slow"]);
    /// context.call(|it| Ok(it.forward_to("fast", Record::new("a".into(), 130, 5))))?;
    /// assert_eq!(context.forwarded()[0].child_name.as_deref(), Some("fast"));
    /// assert_eq!(context.forwarded_to("slow").count(), 0);
    /// let unknown = context.call(|it| Ok(it.forward_to("fsat", Record::new("a".into(), 130, 5))));
    /// assert!(matches!(unknown, Err(ProcessorError::NoChild { .. })));
    /// # Ok::<(), ProcessorError>(())
    /// ```
    #[must_use]
    pub fn with_children(children: &[&str]) -> Self {
        let clock = Arc::new(ManualClock::at(0));
        let log = Arc::new(MemoryLog::new());
        let time = Arc::clone(&clock);
        let inner = DetachedContext::new("test", children, log, time);
        let state = match MemoryState::new().application("test") {
            Ok(state) => state,
            Err(error) => unreachable!("a new state in memory is in use: {error}"),
        };
        Self { inner, state, clock }
    }

    /// Connects a store, before the processor is made.
    ///
    /// # Errors
    ///
    /// [`StateError`] if there is another of its name.
    pub fn add_state_store(&mut self, store: &StoreBuilder) -> Result<&mut Self, StateError> {
        self.inner.add_state_store(store, &*self.state)?;
        Ok(self)
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
        self.inner.init(supplier)
    }

    /// Calls a method of a processor, or a function that is one.
    ///
    /// ```
    /// use headwater_engine::processor::{Context, ProcessorError, Record};
    /// use headwater_testkit::MockProcessorContext;
    ///
    /// fn check(
    ///     record: Record<String, i64>,
    ///     context: &mut Context<'_, String, i64>,
    /// ) -> Result<(), ProcessorError> {
    ///     if record.value < 0 {
    ///         return Err(ProcessorError::record("below 0"));
    ///     }
    ///     context.forward(record);
    ///     Ok(())
    /// }
    ///
    /// let mut context = MockProcessorContext::<String, i64>::new();
    /// let refused = context.call(|it| check(Record::new("a".into(), -1, 5), it));
    /// assert_eq!(refused.unwrap_err().to_string(), "below 0");
    /// ```
    ///
    /// # Errors
    ///
    /// What it answers, and [`ProcessorError::NoChild`] if it forwards to a child that there is not.
    pub fn call<T>(
        &mut self,
        call: impl FnOnce(&mut Context<'_, K, V>) -> Result<T, ProcessorError>,
    ) -> Result<T, ProcessorError> {
        self.inner.call(call)
    }

    /// What has been forwarded, in order.
    #[must_use]
    pub fn forwarded(&self) -> &[CapturedForward<K, V>] {
        self.inner.forwarded()
    }

    /// What has been forwarded to this child, by its name or to all of them.
    pub fn forwarded_to(&self, child: &str) -> impl Iterator<Item = &CapturedForward<K, V>> {
        let is_its = move |name: &String| name == child;
        self.forwarded().iter().filter(move |it| it.child_name.as_ref().is_none_or(is_its))
    }

    /// Forgets what has been forwarded.
    pub fn reset_forwards(&mut self) {
        self.inner.reset_forwards();
    }

    /// What is scheduled and not cancelled, in the order in which it was.
    #[must_use]
    pub fn scheduled_punctuators(&self) -> Vec<CapturedPunctuator> {
        self.inner.scheduled_punctuators()
    }

    /// Whether a commit has been asked for.
    #[must_use]
    pub fn committed(&self) -> bool {
        self.inner.committed()
    }

    /// Forgets that a commit has been asked for.
    pub fn reset_commit(&mut self) {
        self.inner.reset_commit();
    }

    /// What the processor finds in its application's configuration, and the application's directory, if it has one.
    ///
    /// ```
    /// use headwater_testkit::MockProcessorContext;
    ///
    /// let mut context = MockProcessorContext::<String, i64>::new();
    /// context.set_app_configs([("speeds.limit", "130"), ("zone", "b")], Some("data".into()));
    /// let limit = context.call(|it| Ok(it.app_configs_with_prefix("speeds.")["limit"].to_owned()))?;
    /// assert_eq!(limit, "130");
    /// assert_eq!(context.call(|it| Ok(it.state_dir()))?, Some("data/0_0".into()));
    /// # Ok::<(), headwater_engine::processor::ProcessorError>(())
    /// ```
    pub fn set_app_configs<'a>(
        &mut self,
        configs: impl IntoIterator<Item = (&'a str, &'a str)>,
        dir: Option<PathBuf>,
    ) {
        let configs = configs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        self.inner.set_app_configs(configs.collect(), dir);
    }

    /// What a [counter](InitContext::counter) of the processor says; none if there is none of this name.
    ///
    /// ```
    /// use headwater_testkit::MockProcessorContext;
    ///
    /// let mut context = MockProcessorContext::<String, i64>::new();
    /// let (fast, last) = context.init(|it| Ok((it.counter("fast cars"), it.gauge("last speed"))))?;
    /// context.call(|it| {
    ///     it.count(fast, 1);
    ///     it.set_gauge(last, 131.0);
    ///     Ok(())
    /// })?;
    /// assert_eq!(context.counted("fast cars"), Some(1));
    /// assert_eq!(context.gauged("last speed"), Some(131.0));
    /// # Ok::<(), headwater_engine::processor::ProcessorError>(())
    /// ```
    #[must_use]
    pub fn counted(&self, name: &str) -> Option<u64> {
        self.inner.counted(name)
    }

    /// What a [gauge](InitContext::gauge) of the processor says; none if there is none of this name, or it was not set.
    #[must_use]
    pub fn gauged(&self, name: &str) -> Option<f64> {
        self.inner.gauged(name)
    }

    /// How many records the processor has dropped.
    #[must_use]
    pub fn dropped_records(&self) -> u64 {
        self.inner.dropped_records()
    }

    /// Has the record of the next calls come from here.
    ///
    /// ```
    /// use headwater_testkit::MockProcessorContext;
    ///
    /// let mut context = MockProcessorContext::<String, i64>::new();
    /// context.set_record_metadata("cars", 3, 57)?;
    /// let metadata = context.call(|it| Ok(it.record_metadata()))?.unwrap();
    /// assert_eq!((metadata.partition.to_string().as_str(), metadata.offset), ("cars-3", 57));
    /// context.reset_record_metadata();
    /// assert_eq!(context.call(|it| Ok(it.record_metadata()))?, None, "as in a punctuation");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidTopicName`] if no topic may be called so.
    pub fn set_record_metadata(
        &mut self,
        topic: &str,
        partition: u32,
        offset: i64,
    ) -> Result<(), InvalidTopicName> {
        let partition = TopicPartition::new(TopicName::new(topic)?, partition);
        self.inner.set_record_metadata(Some(RecordMetadata { partition, offset }));
        Ok(())
    }

    /// Has the next calls be about no record.
    pub fn reset_record_metadata(&mut self) {
        self.inner.set_record_metadata(None);
    }

    /// Sets the largest timestamp that the task has taken; -1 before the first record.
    ///
    /// ```
    /// use headwater_testkit::MockProcessorContext;
    ///
    /// let mut context = MockProcessorContext::<String, i64>::new();
    /// context.set_current_stream_time(500);
    /// context.set_current_system_time(1_000);
    /// let times = context.call(|it| Ok((it.current_stream_time(), it.current_system_time())))?;
    /// assert_eq!(times, (500, 1_000));
    /// # Ok::<(), headwater_engine::processor::ProcessorError>(())
    /// ```
    pub fn set_current_stream_time(&mut self, time: Timestamp) {
        self.inner.set_current_stream_time(time);
    }

    /// Sets the wall clock, which begins at 0.
    pub fn set_current_system_time(&mut self, now: Timestamp) {
        self.clock.set(now);
    }

    /// The connected store called `name`, as the processor sees it; `None` if there is none, or it is of another type.
    ///
    /// ```
    /// use headwater_core::serde::for_type;
    /// use headwater_engine::store::KeyValueStore;
    /// use headwater_testkit::MockProcessorContext;
    ///
    /// type Counts = KeyValueStore<String, i64>;
    ///
    /// let mut context = MockProcessorContext::<String, i64>::new();
    /// context.add_state_store(&Counts::builder("counts", for_type(), for_type()))?;
    /// let counts = context.state_store::<Counts>("counts").unwrap();
    /// counts.put(&"a".into(), Some(3), 5)?;
    /// assert_eq!(counts.get(&"a".into())?.map(|it| it.value), Some(3));
    /// assert!(context.state_store::<Counts>("cuonts").is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn state_store<S: StateStore>(&mut self, name: &str) -> Option<&mut S> {
        self.inner.state_store(name)
    }
}

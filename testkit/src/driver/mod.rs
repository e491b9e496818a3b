//! A whole topology in one process, without threads: pipe records in, read what comes out.
//!
//! After every piped record the driver commits, so that caches are flushed and each record's results can be read, as
//! Kafka's driver does. Unlike it, topics have as many partitions as the test wants, and the application can be
//! crashed: what was not committed is gone, and it starts again from its last commit.

mod input;
mod kept;
mod look;
mod output;
mod record;
mod standby;
mod text;

pub use input::TestInputTopic;
pub use output::TestOutputTopic;
pub use record::{TestDeadLetter, TestRecord};
pub use standby::TestStandby;

use crate::{ManualClock, MemoryLog, TestDriverError};
use headwater_core::{
    ports::{
        log::{Log, TopicSpec},
        state::State,
    },
    record::{Timestamp, TopicName},
    serde::{Data, SharedSerde},
    time::Clock,
};
use headwater_engine::{
    DefaultSerde,
    runtime::{CommitStep, Driver, StreamsConfig},
    topology::Topology,
};
use headwater_state::MemoryState;
use kept::KeptState;
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    fmt,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

struct Inner {
    topology: Topology,
    config: StreamsConfig,
    log: Arc<dyn Log>,
    state: Arc<KeptState>,
    clock: Arc<ManualClock>,
    driver: Option<Driver>,
    /// Whether each piped record is processed and committed by itself.
    eager: bool,
    /// How many records the test has piped, by topic.
    piped: BTreeMap<TopicName, i64>,
}

/// A topology under test.
///
/// ```
/// use headwater_engine::topology::{Consumed, Produced, Topology};
/// use headwater_testkit::TopologyTestDriver;
///
/// let mut topology = Topology::new();
/// topology.add_source("in", "cars", Consumed::<String, i64>::default())?;
/// topology.add_sink("out", "copy", Produced::<String, i64>::default(), &["in"])?;
///
/// let driver = TopologyTestDriver::new(topology)?;
/// driver.input_topic::<String, i64>("cars").pipe_input("a".into(), 1, 5)?;
/// let read = driver.output_topic::<String, i64>("copy").read_record()?.unwrap();
/// assert_eq!((read.key.as_str(), read.value, read.timestamp), ("a", 1, 5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TopologyTestDriver {
    inner: Rc<RefCell<Inner>>,
}

impl fmt::Debug for TopologyTestDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TopologyTestDriver")
    }
}

impl TopologyTestDriver {
    /// Starts the topology with one partition a topic.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Streams`] if the topology cannot run: what [`Driver::new`] returns, such as
    /// `StreamsError::Topology`.
    pub fn new(topology: Topology) -> Result<Self, TestDriverError> {
        Self::with(topology, StreamsConfig::new("test"), &BTreeMap::new())
    }

    /// Starts the topology under `config`; `partitions` names the topics that have more than one.
    ///
    /// ```
    /// use headwater_engine::runtime::StreamsConfig;
    /// # use headwater_engine::topology::{Consumed, Produced, Topology};
    /// # use headwater_testkit::TopologyTestDriver;
    /// #
    /// # let mut topology = Topology::new();
    /// # topology.add_source("in", "cars", Consumed::<String, i64>::default())?;
    /// # topology.add_sink("out", "copy", Produced::<String, i64>::default(), &["in"])?;
    /// let partitions = [("cars", 4)].into();
    /// let driver = TopologyTestDriver::with(topology, StreamsConfig::new("fleet"), &partitions)?;
    /// driver.input_topic::<String, i64>("cars").pipe_input("abc".into(), 1, 5)?;
    /// assert_eq!(driver.output_topic::<String, i64>("copy").read_record()?.unwrap().value, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Streams`] if the topology cannot run: what [`Driver::new`] returns, such as
    /// `StreamsError::Topology`. [`TestDriverError::Log`] if no topic can have the number of partitions.
    pub fn with(
        topology: Topology,
        config: StreamsConfig,
        partitions: &BTreeMap<&str, u32>,
    ) -> Result<Self, TestDriverError> {
        Self::with_log(topology, config, partitions, Arc::new(MemoryLog::new()))
    }

    /// As [`with`](Self::with), on a log of the test's own: one with other limits, one that [fails](crate::FaultyLog), or
    /// that of another driver.
    ///
    /// ```
    /// use headwater_engine::runtime::StreamsConfig;
    /// # use headwater_engine::topology::{Consumed, Produced, Topology};
    /// # use headwater_testkit::{FaultyLog, TopologyTestDriver};
    /// # use std::sync::Arc;
    /// #
    /// # let mut topology = Topology::new();
    /// # topology.add_source("in", "cars", Consumed::<String, String>::default())?;
    /// # topology.add_sink("out", "copy", Produced::<String, String>::default(), &["in"])?;
    /// let (config, log) = (StreamsConfig::new("fleet"), Arc::new(FaultyLog::new()));
    /// let driver = TopologyTestDriver::with_log(topology, config, &[].into(), log.clone())?;
    /// let cars = driver.input_topic::<String, String>("cars");
    /// log.fail();
    /// assert!(cars.pipe_input("a".into(), "b".into(), 5).is_err());
    /// log.repair();
    /// assert!(cars.pipe_input("a".into(), "b".into(), 5).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`with`](Self::with).
    pub fn with_log(
        topology: Topology,
        config: StreamsConfig,
        partitions: &BTreeMap<&str, u32>,
        log: Arc<dyn Log>,
    ) -> Result<Self, TestDriverError> {
        let state = Arc::new(MemoryState::new());
        Self::with_log_and_state(topology, config, partitions, log, state)
    }

    /// As [`with_log`](Self::with_log), with a state of the test's own: one that [fails](crate::FaultyState), or that another
    /// instance has left.
    ///
    /// # Errors
    ///
    /// As [`with`](Self::with).
    pub fn with_log_and_state(
        topology: Topology,
        config: StreamsConfig,
        partitions: &BTreeMap<&str, u32>,
        log: Arc<dyn Log>,
        state: Arc<dyn State>,
    ) -> Result<Self, TestDriverError> {
        let existing = log.topics()?;
        let missing = |topic: &TopicName| existing.iter().all(|spec| spec.name != *topic);
        let spec = |topic: TopicName| {
            let count = partitions.get(topic.as_str()).copied().unwrap_or(1);
            TopicSpec::new(topic, count)
        };
        let topics = topology.external_topics().into_iter().filter(missing);
        log.create_topics(&topics.map(spec).collect::<Vec<_>>())?;
        let clock = Arc::new(ManualClock::at(0));
        let (state, driver) = (Arc::new(KeptState::new(state)), None);
        let (eager, piped) = (true, BTreeMap::new());
        let mut inner = Inner { topology, config, log, state, clock, driver, eager, piped };
        inner.start()?;
        Ok(Self { inner: Rc::new(RefCell::new(inner)) })
    }

    /// Leaves processing and committing to the test: piped records wait until [`step`](Self::step),
    /// [`run_until_idle`](Self::run_until_idle) or [`commit`](Self::commit).
    ///
    /// ```
    /// # use headwater_engine::topology::{Consumed, Produced, Topology};
    /// # use headwater_testkit::TopologyTestDriver;
    /// #
    /// # let mut topology = Topology::new();
    /// # topology.add_source("in", "cars", Consumed::<String, i64>::default())?;
    /// # topology.add_sink("out", "copy", Produced::<String, i64>::default(), &["in"])?;
    /// let driver = TopologyTestDriver::new(topology)?.by_hand();
    /// driver.input_topic::<String, i64>("cars").pipe_input("a".into(), 1, 5)?;
    /// let mut copies = driver.output_topic::<String, i64>("copy");
    /// driver.run_until_idle()?;
    /// assert_eq!(copies.read_record()?, None, "it is processed and not committed");
    /// driver.commit()?;
    /// assert_eq!(copies.read_record()?.unwrap().value, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn by_hand(self) -> Self {
        self.inner.borrow_mut().eager = false;
        self
    }

    /// A topic to pipe records into.
    #[must_use]
    pub fn input_topic<K, V>(&self, topic: &str) -> TestInputTopic<K, V>
    where
        K: DefaultSerde,
        V: DefaultSerde,
    {
        self.input_topic_with(topic, K::default_serde(), V::default_serde())
    }

    /// A topic to pipe records into, with serdes of its own.
    ///
    /// ```
    /// # use headwater_core::serde::{Json, for_type};
    /// # use headwater_engine::topology::{Consumed, Produced, Topology};
    /// # use headwater_testkit::TopologyTestDriver;
    /// # use std::sync::Arc;
    /// #
    /// # let mut topology = Topology::new();
    /// # topology.add_source("in", "cars", Consumed::<String, String>::default())?;
    /// # topology.add_sink("out", "copy", Produced::<String, String>::default(), &["in"])?;
    /// let driver = TopologyTestDriver::new(topology)?;
    /// let cars = driver.input_topic_with::<String, i64>("cars", for_type(), Arc::new(Json));
    /// cars.pipe_input("a".into(), 120, 1)?;
    /// let read = driver.output_topic::<String, String>("copy").read_record()?.unwrap();
    /// assert_eq!(read.value, "120");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn input_topic_with<K: Data, V: Data>(
        &self,
        topic: &str,
        keys: SharedSerde<K>,
        values: SharedSerde<V>,
    ) -> TestInputTopic<K, V> {
        TestInputTopic {
            inner: Rc::clone(&self.inner),
            topic: topic.into(),
            keys,
            values,
            now: Cell::new(0),
            step_ms: 0,
        }
    }

    /// A topic to read records from, each once.
    #[must_use]
    pub fn output_topic<K, V>(&self, topic: &str) -> TestOutputTopic<K, V>
    where
        K: DefaultSerde,
        V: DefaultSerde,
    {
        self.output_topic_with(topic, K::default_serde(), V::default_serde())
    }

    /// A topic to read records from, with serdes of its own.
    #[must_use]
    pub fn output_topic_with<K: Data, V: Data>(
        &self,
        topic: &str,
        keys: SharedSerde<K>,
        values: SharedSerde<V>,
    ) -> TestOutputTopic<K, V> {
        let topic = topic.into();
        TestOutputTopic {
            inner: Rc::clone(&self.inner),
            topic,
            keys,
            values,
            at: BTreeMap::new(),
            read: VecDeque::new(),
        }
    }

    /// Creates a topic that the topology does not name, such as one that a sink chooses for each record.
    ///
    /// Where a pattern of the topology matches it, the application commits and goes on with it, as one with threads does.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::TopicName`] if it can have no such name, [`TestDriverError::Log`] if the log refuses; where a pattern
    /// matches, as [`commit`](Self::commit) and [`restart`](Self::restart).
    pub fn create_topic(&self, name: &str, partitions: u32) -> Result<(), TestDriverError> {
        let spec = TopicSpec::new(TopicName::new(name)?, partitions);
        let mut inner = self.inner.borrow_mut();
        inner.log.create_topics(&[spec])?;
        if inner.driver.is_some() && inner.topology.matches(name) {
            inner.running()?.commit()?;
            inner.driver = None;
            inner.start()?;
        }
        Ok(())
    }

    /// The log that the application runs on, to look at its internal topics.
    #[must_use]
    pub fn log(&self) -> Arc<dyn Log> {
        Arc::clone(&self.inner.borrow().log)
    }

    /// Moves the wall clock and fires what that makes due.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Streams`] if that stops the application, [`TestDriverError::Crashed`] if it has crashed and
    /// was not restarted.
    pub fn advance_wall_clock_time(&self, by: Duration) -> Result<(), TestDriverError> {
        self.inner.borrow().clock.advance(by);
        self.run_until_idle()?;
        self.commit()
    }

    /// Sets the wall clock without time going by, as an administrator or NTP does.
    pub fn set_wall_clock_time(&self, now_ms: Timestamp) {
        self.inner.borrow().clock.set(now_ms);
    }

    /// Takes one step of each task, without a commit. True if any took records.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Streams`] if that stops the application, [`TestDriverError::Crashed`] if it has crashed and
    /// was not restarted.
    pub fn step(&self) -> Result<bool, TestDriverError> {
        Ok(self.inner.borrow_mut().running()?.step()?)
    }

    /// Takes all piped records, without a commit.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Streams`] if that stops the application, [`TestDriverError::Crashed`] if it has crashed and
    /// was not restarted.
    pub fn run_until_idle(&self) -> Result<(), TestDriverError> {
        Ok(self.inner.borrow_mut().running()?.run_until_idle()?)
    }

    /// Commits.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Streams`] if that stops the application, [`TestDriverError::Crashed`] if it has crashed and
    /// was not restarted.
    pub fn commit(&self) -> Result<(), TestDriverError> {
        Ok(self.inner.borrow_mut().running()?.commit()?)
    }

    /// Declares the input complete: every window closes.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Streams`] if that stops the application, [`TestDriverError::Crashed`] if it has crashed and
    /// was not restarted.
    pub fn finish_input(&self) -> Result<(), TestDriverError> {
        Ok(self.inner.borrow_mut().running()?.finish()?)
    }

    /// Ends the application as a kill would: what was not committed is gone.
    ///
    /// ```
    /// # use headwater_engine::topology::{Consumed, Produced, Topology};
    /// # use headwater_testkit::TopologyTestDriver;
    /// #
    /// # let mut topology = Topology::new();
    /// # topology.add_source("in", "cars", Consumed::<String, i64>::default())?;
    /// # topology.add_sink("out", "copy", Produced::<String, i64>::default(), &["in"])?;
    /// let driver = TopologyTestDriver::new(topology)?.by_hand();
    /// driver.input_topic::<String, i64>("cars").pipe_input("a".into(), 1, 5)?;
    /// driver.run_until_idle()?;
    /// driver.crash();
    /// driver.restart()?;
    /// driver.run_until_idle()?;
    /// driver.commit()?;
    /// let copies = driver.output_topic::<String, i64>("copy").read_records_to_list()?;
    /// assert_eq!(copies.len(), 1, "what was not committed is taken again");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn crash(&self) {
        self.inner.borrow_mut().driver = None;
    }

    /// Takes the steps of a commit that come before `step`, and ends there as a kill would.
    ///
    /// ```
    /// # use headwater_engine::topology::{Consumed, Produced, Topology};
    /// # use headwater_testkit::TopologyTestDriver;
    /// use headwater_engine::runtime::CommitStep;
    ///
    /// # let mut topology = Topology::new();
    /// # topology.add_source("in", "cars", Consumed::<String, i64>::default())?;
    /// # topology.add_sink("out", "copy", Produced::<String, i64>::default(), &["in"])?;
    /// let driver = TopologyTestDriver::new(topology)?.by_hand();
    /// let mut copies = driver.output_topic::<String, i64>("copy");
    /// driver.pipe::<String, i64>("cars", "a=1@5")?;
    /// driver.run_until_idle()?;
    /// driver.crash_before(CommitStep::Log)?;
    /// assert!(copies.is_empty()?, "nothing was durable");
    /// driver.restart()?;
    /// driver.run_until_idle()?;
    /// driver.crash_after(CommitStep::Log)?;
    /// assert_eq!(copies.read_text()?, "a=1@5", "all was");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit), of the steps that it takes.
    pub fn crash_before(&self, step: CommitStep) -> Result<(), TestDriverError> {
        self.crash_in_commit(Some(step))
    }

    /// Takes the steps of a commit up to `step`, and ends there as a kill would.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit), of the steps that it takes.
    pub fn crash_after(&self, step: CommitStep) -> Result<(), TestDriverError> {
        self.crash_in_commit(step.next())
    }

    fn crash_in_commit(&self, before: Option<CommitStep>) -> Result<(), TestDriverError> {
        let ended = self.inner.borrow_mut().running()?.commit_until(before);
        self.crash();
        Ok(ended?)
    }

    /// Loses the state as well, so that a restart must rebuild it from the changelogs.
    pub fn lose_state(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.driver = None;
        inner.state.lose();
    }

    /// Goes on with another version of the topology from the last commit; topics that it adds are made.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Streams`] if the topology cannot run: what [`Driver::new`] returns, such as
    /// `StreamsError::State` for a store that holds other types.
    pub fn upgrade(&self, topology: Topology) -> Result<(), TestDriverError> {
        let mut inner = self.inner.borrow_mut();
        inner.driver = None;
        let existing = inner.log.topics()?;
        for topic in topology.external_topics() {
            if existing.iter().all(|spec| spec.name != topic) {
                inner.log.create_topics(&[TopicSpec::new(topic, 1)])?;
            }
        }
        inner.topology = topology;
        inner.start()
    }

    /// Starts the application from its last commit.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Streams`] if the application cannot start where it stopped, such as with
    /// `StreamsError::State`.
    pub fn restart(&self) -> Result<(), TestDriverError> {
        self.inner.borrow_mut().start()
    }
}

impl Inner {
    fn start(&mut self) -> Result<(), TestDriverError> {
        let log = Arc::clone(&self.log);
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let state = Arc::clone(&self.state) as Arc<dyn State>;
        let topology = self.topology.clone();
        self.driver = Some(Driver::new(topology, &self.config, log, state, clock)?);
        Ok(())
    }

    fn running(&mut self) -> Result<&mut Driver, TestDriverError> {
        self.driver.as_mut().ok_or(TestDriverError::Crashed)
    }

    fn partitions(&self, topic: &str) -> Result<(TopicName, u32), TestDriverError> {
        let topics = self.log.topics()?;
        let found = topics.into_iter().find(|spec| spec.name.as_str() == topic);
        let found = found.ok_or_else(|| TestDriverError::NoTopic { topic: topic.to_owned() })?;
        Ok((found.name, found.partitions))
    }
}

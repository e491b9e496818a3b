//! A whole topology in one process, without threads: pipe records in, read what comes out.
//!
//! After every piped record the driver commits, so that caches are flushed and each record's results can be read, as
//! Kafka's driver does. Unlike it, topics have as many partitions as the test wants, and the application can be
//! crashed: what was not committed is gone, and it starts again from its last commit.

use crate::{ManualClock, MemoryLog, Notation, TestDriverError, notation};
use headwater_core::{
    ports::{
        log::{Append, Commit, Log, TopicSpec},
        state::{ApplicationState, State},
    },
    record::{Headers, RecordSetBuilder, Timestamp, TopicName, TopicPartition, murmur2_partition},
    serde::{Data, ReadBack, SharedSerde},
    time::Clock,
};
use headwater_engine::{
    DefaultSerde,
    runtime::{Driver, ReadOnlyKeyValueStore, StateSnapshot, StreamsConfig, StreamsError},
    topology::Topology,
};
use headwater_state::MemoryState;
use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    fmt,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

/// A record as a test writes and reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestRecord<K, V> {
    /// The key.
    pub key: K,
    /// The value.
    pub value: V,
    /// Event time in ms.
    pub timestamp: Timestamp,
    /// Headers.
    pub headers: Headers,
    /// The partition it was read from.
    pub partition: u32,
}

/// A dead letter as a test reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestDeadLetter {
    /// Its raw key.
    pub key: String,
    /// Its raw value.
    pub value: String,
    /// What kind of failure it was.
    pub kind: String,
    /// What was wrong.
    pub cause: String,
    /// The topic that the record was in; empty for a row that an operator made.
    pub topic: String,
}

struct Inner {
    topology: Topology,
    config: StreamsConfig,
    log: Arc<MemoryLog>,
    state: Arc<MemoryState>,
    /// Keeps what the state holds of the application while that is down, as a disk does.
    kept: Option<Arc<dyn ApplicationState>>,
    clock: Arc<ManualClock>,
    driver: Option<Driver>,
    /// Whether each piped record is processed and committed by itself.
    eager: bool,
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
    /// [`StreamsError::Topology`].
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
    /// [`StreamsError::Topology`]. [`TestDriverError::Log`] if no topic can have the number of partitions.
    pub fn with(
        topology: Topology,
        config: StreamsConfig,
        partitions: &BTreeMap<&str, u32>,
    ) -> Result<Self, TestDriverError> {
        Self::with_log(topology, config, partitions, MemoryLog::new())
    }

    /// As [`with`](Self::with), on a log of the test's own: one with other limits, say.
    ///
    /// ```
    /// use headwater_core::ports::log::{Limits, Log};
    /// use headwater_engine::runtime::StreamsConfig;
    /// # use headwater_engine::topology::{Consumed, Produced, Topology};
    /// # use headwater_testkit::{MemoryLog, TopologyTestDriver};
    /// #
    /// # let mut topology = Topology::new();
    /// # topology.add_source("in", "cars", Consumed::<String, String>::default())?;
    /// # topology.add_sink("out", "copy", Produced::<String, String>::default(), &["in"])?;
    /// let log = MemoryLog::new();
    /// let limits = Limits { record_bytes_max: 1_000, ..log.limits() };
    /// let (config, log) = (StreamsConfig::new("fleet"), log.with_limits(limits));
    /// let driver = TopologyTestDriver::with_log(topology, config, &[].into(), log)?;
    /// let cars = driver.input_topic::<String, String>("cars");
    /// assert!(cars.pipe_input("a".into(), "x".repeat(1_000), 5).is_err(), "1,001 bytes");
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
        log: MemoryLog,
    ) -> Result<Self, TestDriverError> {
        let log = Arc::new(log);
        let spec = |topic: TopicName| {
            let count = partitions.get(topic.as_str()).copied().unwrap_or(1);
            TopicSpec::new(topic, count)
        };
        let specs: Vec<_> = topology.external_topics().into_iter().map(spec).collect();
        log.create_topics(&specs)?;
        let (state, clock) = (Arc::new(MemoryState::new()), Arc::new(ManualClock::at(0)));
        let (driver, kept, eager) = (None, None, true);
        let mut inner = Inner { topology, config, log, state, kept, clock, driver, eager };
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
        TestInputTopic {
            inner: Rc::clone(&self.inner),
            topic: topic.into(),
            keys: K::default_serde(),
            values: V::default_serde(),
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

    /// A store's contents, as of the last commit.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Streams`] with [`StreamsError::Topology`] if there is no such store, or it is of another
    /// kind or holds other types; [`TestDriverError::Crashed`] if the application has crashed and was not restarted.
    pub fn key_value_store<K: Data, V: Data>(
        &self,
        name: &str,
    ) -> Result<ReadOnlyKeyValueStore<K, V>, TestDriverError> {
        let inner = self.inner.borrow();
        Ok(inner.driver.as_ref().ok_or(TestDriverError::Crashed)?.store(name)?)
    }

    /// Pipes records into `topic` that are written `key=value@timestamp`, as [`Notation`] has it, each with headers
    /// `{name:text,..}` after it if it has some.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Notation`] for what is no such record, and those of [`TestInputTopic::pipe_input`].
    pub fn pipe<K, V>(&self, topic: &str, records: &str) -> Result<(), TestDriverError>
    where
        K: DefaultSerde + Notation,
        V: DefaultSerde + Notation,
    {
        let input = self.input_topic::<K, V>(topic);
        notation::records(records)?.into_iter().try_for_each(|record| input.pipe_record(record))
    }

    /// All that has come to `topic`, from its start, written in the same way.
    ///
    /// # Errors
    ///
    /// Those of [`TestOutputTopic::read_records_to_list`].
    pub fn read<K, V>(&self, topic: &str) -> Result<String, TestDriverError>
    where
        K: DefaultSerde + Notation,
        V: DefaultSerde + Notation,
    {
        Ok(notation::text(&self.output_topic::<K, V>(topic).read_records_to_list()?))
    }

    /// Pipes records into `from` and looks whether `expected` is what has come to `to` since the topology was started: input
    /// and output in one place.
    ///
    /// ```
    /// use headwater_engine::topology::{Consumed, Produced, Topology};
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let mut topology = Topology::new();
    /// topology.add_source("source", "in", Consumed::<String, i64>::default())?;
    /// topology.add_sink("sink", "out", Produced::<String, i64>::default(), &["source"])?;
    ///
    /// let driver = TopologyTestDriver::new(topology)?;
    /// driver.check::<String, i64, String, i64>("in", "a=7@1 b=8@2", "out", "a=7@1 b=8@2")?;
    /// assert!(driver.check::<String, i64, String, i64>("in", "a=9@3", "out", "a=9@3").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Differs`] if something else came, and those of [`pipe`](Self::pipe) and [`read`](Self::read).
    pub fn check<K, V, K2, V2>(
        &self,
        from: &str,
        records: &str,
        to: &str,
        expected: &str,
    ) -> Result<(), TestDriverError>
    where
        K: DefaultSerde + Notation,
        V: DefaultSerde + Notation,
        K2: DefaultSerde + Notation,
        V2: DefaultSerde + Notation,
    {
        self.pipe::<K, V>(from, records)?;
        let seen = self.read::<K2, V2>(to)?;
        let expected = expected.split_whitespace().collect::<Vec<_>>().join(" ");
        if seen == expected {
            return Ok(());
        }
        Err(TestDriverError::Differs { topic: to.to_owned(), expected, seen })
    }

    /// All records that nodes have dropped, whatever the node and the reason.
    #[must_use]
    pub fn total_dropped_records(&self) -> u64 {
        self.inner.borrow().driver.as_ref().map_or(0, Driver::total_dropped_records)
    }

    /// The dead letters so far, each with its raw key and value as text, and why it is one.
    ///
    /// ```
    /// use headwater_engine::topology::{Consumed, Topology};
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let mut topology = Topology::new();
    /// topology.add_source("source", "in", Consumed::<String, i64>::default())?;
    /// let driver = TopologyTestDriver::new(topology)?;
    /// driver.input_topic::<String, i64>("in").pipe_bytes(Some(b"a"), Some(b"seven"), 1)?;
    /// let letters = driver.dead_letters()?;
    /// assert_eq!((letters[0].key.as_str(), letters[0].value.as_str()), ("a", "seven"));
    /// assert_eq!(letters[0].kind, "DeserializationError");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Log`] if the log fails.
    pub fn dead_letters(&self) -> Result<Vec<TestDeadLetter>, TestDriverError> {
        let inner = self.inner.borrow();
        let topic = format!("{}-dead-letters", inner.config.application_id);
        let from = TopicPartition::new(TopicName::new(topic)?, 0);
        let records = inner.log.fetch(&from, 0, usize::MAX)?.records;
        let text =
            |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let letters = records.iter().map(|record| {
            let headers = Headers::decode(record.headers)?;
            let header = |name: &str| {
                let found = headers.iter().find(|(header, _)| header.ends_with(name));
                text(found.and_then(|(_, value)| value))
            };
            let (kind, cause, topic) = (header("exception"), header("message"), header("topic"));
            Ok(TestDeadLetter {
                key: text(record.key),
                value: text(record.value),
                kind,
                cause,
                topic,
            })
        });
        letters.collect()
    }

    /// Creates a topic that the topology does not name, such as one that a sink chooses for each record.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::TopicName`] if it can have no such name, [`TestDriverError::Log`] if the log refuses.
    pub fn create_topic(&self, name: &str, partitions: u32) -> Result<(), TestDriverError> {
        let spec = TopicSpec::new(TopicName::new(name)?, partitions);
        Ok(self.inner.borrow().log.create_topics(&[spec])?)
    }

    /// All stores as of the last commit.
    ///
    /// ```
    /// use headwater_engine::topology::{Consumed, Topology};
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let mut topology = Topology::new();
    /// topology.add_source("in", "cars", Consumed::<String, i64>::default())?;
    /// let driver = TopologyTestDriver::new(topology)?;
    /// driver.input_topic::<String, i64>("cars").pipe_input("a".into(), 1, 5)?;
    /// let snapshot = driver.snapshot()?;
    /// let (partition, next) = &snapshot.position()[0];
    /// assert_eq!((partition.to_string().as_str(), *next), ("cars-0", 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Crashed`] if the application has crashed and was not restarted.
    pub fn snapshot(&self) -> Result<StateSnapshot, TestDriverError> {
        let inner = self.inner.borrow();
        Ok(inner.driver.as_ref().ok_or(TestDriverError::Crashed)?.snapshot()?)
    }

    /// The log that the application runs on, to look at its internal topics.
    #[must_use]
    pub fn log(&self) -> Arc<MemoryLog> {
        Arc::clone(&self.inner.borrow().log)
    }

    /// How many records the node called `node` has dropped.
    #[must_use]
    pub fn dropped_records(&self, node: &str) -> u64 {
        self.inner.borrow().driver.as_ref().map_or(0, |driver| driver.dropped_records(node))
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

    /// Loses the state as well, so that a restart must rebuild it from the changelogs.
    pub fn lose_state(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.driver = None;
        inner.kept = None;
    }

    /// Goes on with another version of the topology from the last commit; topics that it adds are made.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Streams`] if the topology cannot run: what [`Driver::new`] returns, such as
    /// [`StreamsError::State`] for a store that holds other types.
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
    /// [`StreamsError::State`].
    pub fn restart(&self) -> Result<(), TestDriverError> {
        self.inner.borrow_mut().start()
    }
}

impl Inner {
    fn start(&mut self) -> Result<(), TestDriverError> {
        let log = Arc::clone(&self.log) as Arc<dyn Log>;
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let (topology, state) = (self.topology.clone(), Arc::clone(&self.state));
        let kept = state.application(&self.config.application_id);
        self.kept = Some(kept.map_err(StreamsError::from)?);
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

/// A topic to pipe records into.
pub struct TestInputTopic<K, V> {
    inner: Rc<RefCell<Inner>>,
    topic: String,
    keys: SharedSerde<K>,
    values: SharedSerde<V>,
}

impl<K, V> fmt::Debug for TestInputTopic<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TestInputTopic").field(&self.topic).finish()
    }
}

impl<K: Data, V: Data> TestInputTopic<K, V> {
    /// Pipes a record through the topology.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Serde`] if key or value has no form in bytes that can be read back; otherwise as
    /// [`pipe_bytes_with`](Self::pipe_bytes_with).
    pub fn pipe_input(
        &self,
        key: K,
        value: V,
        timestamp: Timestamp,
    ) -> Result<(), TestDriverError> {
        self.pipe_record(TestRecord {
            key,
            value,
            timestamp,
            headers: Headers::new(),
            partition: 0,
        })
    }

    /// Pipes a record with its headers; the partition is that of its key.
    ///
    /// # Errors
    ///
    /// Those of [`pipe_input`](Self::pipe_input).
    pub fn pipe_record(&self, record: TestRecord<K, V>) -> Result<(), TestDriverError> {
        let TestRecord { key, value, timestamp, headers, .. } = record;
        let mut bytes = (Vec::new(), Vec::new());
        self.keys.check(&key, &mut ReadBack::default())?;
        self.values.check(&value, &mut ReadBack::default())?;
        let keyed = self.keys.serialize_key(&key, &mut bytes.0)?;
        let valued = self.values.serialize(&value, &mut bytes.1)?;
        let (key, value) = (keyed.then_some(&bytes.0[..]), valued.then_some(&bytes.1[..]));
        self.pipe_bytes_with(key, value, timestamp, &headers)
    }

    /// Pipes raw bytes, such as a bad record.
    ///
    /// ```
    /// # use headwater_engine::topology::{Consumed, Produced, Topology};
    /// # use headwater_testkit::TopologyTestDriver;
    /// #
    /// # let mut topology = Topology::new();
    /// # topology.add_source("in", "cars", Consumed::<String, i64>::default())?;
    /// # topology.add_sink("out", "copy", Produced::<String, i64>::default(), &["in"])?;
    /// let driver = TopologyTestDriver::new(topology)?;
    /// driver.input_topic::<String, i64>("cars").pipe_bytes(Some(b"a"), Some(b"seven"), 5)?;
    /// let mut letters = driver.output_topic::<String, Vec<u8>>("test-dead-letters");
    /// assert_eq!(letters.read_record()?.unwrap().value, b"seven");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TestDriverError::NoTopic`], [`TestDriverError::Log`], [`TestDriverError::Streams`] and
    /// [`TestDriverError::Crashed`], as [`pipe_bytes_with`](Self::pipe_bytes_with).
    pub fn pipe_bytes(
        &self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp: Timestamp,
    ) -> Result<(), TestDriverError> {
        self.pipe_bytes_with(key, value, timestamp, &Headers::new())
    }

    /// Pipes raw bytes with headers.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::NoTopic`] if there is no such topic, [`TestDriverError::Full`] or [`TestDriverError::Log`]
    /// if the record is too large for the log, [`TestDriverError::Streams`] if it stops the application,
    /// [`TestDriverError::Crashed`] if that has crashed and was not restarted.
    pub fn pipe_bytes_with(
        &self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp: Timestamp,
        headers: &Headers,
    ) -> Result<(), TestDriverError> {
        let mut inner = self.inner.borrow_mut();
        let (topic, count) = inner.partitions(&self.topic)?;
        let mut records = RecordSetBuilder::default();
        records.push(timestamp, key, value, headers)?;
        let partition =
            TopicPartition::new(topic, key.map_or(0, |key| murmur2_partition(key, count)));
        let append = Append { partition, base_offset: None, records: Arc::new(records.build()) };
        inner.log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
        if inner.eager {
            let driver = inner.running()?;
            driver.run_until_idle()?;
            driver.commit()?;
            // What a commit has caches forward may come back to a task that was flushed before.
            while driver.step()? {
                driver.run_until_idle()?;
                driver.commit()?;
            }
        }
        Ok(())
    }
}

/// A topic to read records from.
pub struct TestOutputTopic<K, V> {
    inner: Rc<RefCell<Inner>>,
    topic: String,
    keys: SharedSerde<K>,
    values: SharedSerde<V>,
    at: BTreeMap<u32, i64>,
    read: VecDeque<TestRecord<K, V>>,
}

impl<K, V> fmt::Debug for TestOutputTopic<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TestOutputTopic").field(&self.topic).finish()
    }
}

impl<K: Data, V: Data> TestOutputTopic<K, V> {
    /// The next record, or `None` if there is none; partition by partition.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::NoTopic`] if there is no such topic; [`TestDriverError::Serde`] or
    /// [`TestDriverError::Headers`] if the bytes are not such a record.
    pub fn read_record(&mut self) -> Result<Option<TestRecord<K, V>>, TestDriverError> {
        if self.read.is_empty() {
            self.fetch()?;
        }
        Ok(self.read.pop_front())
    }

    /// All records that were not read yet; partition by partition.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::NoTopic`], [`TestDriverError::Serde`] and [`TestDriverError::Headers`], as
    /// [`read_record`](Self::read_record).
    pub fn read_records_to_list(&mut self) -> Result<Vec<TestRecord<K, V>>, TestDriverError> {
        self.fetch()?;
        Ok(self.read.drain(..).collect())
    }

    fn fetch(&mut self) -> Result<(), TestDriverError> {
        let inner = self.inner.borrow();
        let (topic, count) = inner.partitions(&self.topic)?;
        for partition in 0..count {
            let at = self.at.entry(partition).or_default();
            let from = TopicPartition::new(topic.clone(), partition);
            loop {
                let fetched = inner.log.fetch(&from, *at, 1 << 20)?;
                *at = fetched.next_offset;
                for record in fetched.records.iter() {
                    self.read.push_back(TestRecord {
                        key: self.keys.deserialize(record.key)?,
                        value: self.values.deserialize(record.value)?,
                        timestamp: record.timestamp,
                        headers: Headers::decode(record.headers)?,
                        partition,
                    });
                }
                if fetched.next_offset >= fetched.end {
                    break;
                }
            }
        }
        Ok(())
    }
}

//! Piping records in.

use super::{Inner, TestRecord};
use crate::TestDriverError;
use headwater_core::{
    ports::log::{Append, Commit},
    record::{Headers, RecordSetBuilder, Timestamp, TopicPartition, murmur2_partition},
    serde::{Data, ReadBack, SharedSerde},
};
use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

/// A topic to pipe records into: at timestamps of the test's, or at the topic's own time, which
/// [`auto_advance`](Self::auto_advance) and [`advance_time`](Self::advance_time) move.
///
/// ```
/// use headwater_engine::topology::{Consumed, Produced, Topology};
/// use headwater_testkit::TopologyTestDriver;
/// use std::time::Duration;
///
/// let mut topology = Topology::new();
/// topology.add_source("in", "cars", Consumed::<String, i64>::default())?;
/// topology.add_sink("out", "copy", Produced::<String, i64>::default(), &["in"])?;
///
/// let driver = TopologyTestDriver::new(topology)?;
/// let second = Duration::from_secs(1);
/// let cars = driver.input_topic::<String, i64>("cars").auto_advance(5, second);
/// cars.pipe_key_value("a".into(), 1)?;
/// cars.advance_time(second * 10);
/// cars.pipe_key_value_list([("b".into(), 2), ("c".into(), 3)])?;
/// assert_eq!(driver.read::<String, i64>("copy")?, "a=1@5 b=2@11005 c=3@12005");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TestInputTopic<K, V> {
    pub(super) inner: Rc<RefCell<Inner>>,
    pub(super) topic: String,
    pub(super) keys: SharedSerde<K>,
    pub(super) values: SharedSerde<V>,
    /// When the next record is piped that is given no timestamp.
    pub(super) now: Cell<Timestamp>,
    /// What it moves on by after each of these.
    pub(super) step_ms: i64,
}

impl<K, V> fmt::Debug for TestInputTopic<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TestInputTopic").field(&self.topic).finish()
    }
}

fn in_ms(by: Duration) -> i64 {
    i64::try_from(by.as_millis()).unwrap_or(i64::MAX)
}

impl<K: Data, V: Data> TestInputTopic<K, V> {
    /// Pipes records without timestamps of their own from `start` on, each this much after the one before; from 0 on and all
    /// at one time unless set.
    #[must_use]
    pub fn auto_advance(self, start: Timestamp, by: Duration) -> Self {
        Self { now: Cell::new(start), step_ms: in_ms(by), ..self }
    }

    /// Moves the topic's time on.
    pub fn advance_time(&self, by: Duration) {
        self.now.set(self.now.get().saturating_add(in_ms(by)));
    }

    /// The topic's time, which moves on.
    fn tick(&self) -> Timestamp {
        let now = self.now.get();
        self.now.set(now.saturating_add(self.step_ms));
        now
    }

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
        self.pipe_record(TestRecord::new(key, value, timestamp))
    }

    /// Pipes a record at the topic's time.
    ///
    /// # Errors
    ///
    /// As [`pipe_input`](Self::pipe_input).
    pub fn pipe_key_value(&self, key: K, value: V) -> Result<(), TestDriverError> {
        self.pipe_input(key, value, self.tick())
    }

    /// Pipes records at the topic's time.
    ///
    /// # Errors
    ///
    /// As [`pipe_input`](Self::pipe_input).
    pub fn pipe_key_value_list(
        &self,
        records: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), TestDriverError> {
        records.into_iter().try_for_each(|(key, value)| self.pipe_key_value(key, value))
    }

    /// Pipes a record with a null key at the topic's time.
    ///
    /// # Errors
    ///
    /// As [`pipe_input`](Self::pipe_input).
    pub fn pipe_value(&self, value: V) -> Result<(), TestDriverError> {
        let mut bytes = Vec::new();
        self.values.check(&value, &mut ReadBack::default())?;
        let is_some = self.values.serialize(&value, &mut bytes)?;
        self.pipe_bytes(None, is_some.then_some(&bytes[..]), self.tick())
    }

    /// Pipes records with null keys at the topic's time.
    ///
    /// # Errors
    ///
    /// As [`pipe_input`](Self::pipe_input).
    pub fn pipe_value_list(
        &self,
        values: impl IntoIterator<Item = V>,
    ) -> Result<(), TestDriverError> {
        values.into_iter().try_for_each(|value| self.pipe_value(value))
    }

    /// Pipes records with timestamps and headers of their own.
    ///
    /// # Errors
    ///
    /// As [`pipe_input`](Self::pipe_input).
    pub fn pipe_record_list(
        &self,
        records: impl IntoIterator<Item = TestRecord<K, V>>,
    ) -> Result<(), TestDriverError> {
        records.into_iter().try_for_each(|record| self.pipe_record(record))
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
        let piped = topic.clone();
        let partition = TopicPartition::new(
            topic,
            key.map_or(0, |key| murmur2_partition(self.keys.placed_by(key), count)),
        );
        let append = Append { partition, base_offset: None, records: Arc::new(records.build()) };
        inner.log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
        *inner.piped.entry(piped).or_default() += 1;
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

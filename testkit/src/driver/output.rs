//! Reading what came out.

use super::{Inner, TestRecord};
use crate::TestDriverError;
use headwater_core::{
    record::{Headers, TopicPartition},
    serde::{Data, SharedSerde},
};
use headwater_engine::{
    DefaultSerde,
    store::{SessionWindowedSerde, Windowed, WindowedSerde},
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    fmt,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

/// A topic to read records from, each once; partition by partition.
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
/// let mut copies = driver.output_topic::<String, i64>("copy");
/// driver.input_topic::<String, i64>("cars").pipe("a=1@5 b=2@7 a=3@9 c=4@11")?;
/// assert_eq!(copies.queue_size()?, 4);
/// assert_eq!(copies.read_value()?, Some(1));
/// assert_eq!(copies.read_key_value()?, Some(("b".to_owned(), 2)));
/// let newest = copies.read_key_values_to_map()?;
/// assert_eq!(newest, [("a".to_owned(), 3), ("c".to_owned(), 4)].into());
/// assert!(copies.is_empty()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TestOutputTopic<K, V> {
    pub(super) inner: Rc<RefCell<Inner>>,
    pub(super) topic: String,
    pub(super) keys: SharedSerde<K>,
    pub(super) values: SharedSerde<V>,
    pub(super) at: BTreeMap<u32, i64>,
    pub(super) read: VecDeque<TestRecord<K, V>>,
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

    /// The next key and value, or `None` if there is none.
    ///
    /// # Errors
    ///
    /// As [`read_record`](Self::read_record).
    pub fn read_key_value(&mut self) -> Result<Option<(K, V)>, TestDriverError> {
        Ok(self.read_record()?.map(|record| (record.key, record.value)))
    }

    /// The next value, or `None` if there is none.
    ///
    /// # Errors
    ///
    /// As [`read_record`](Self::read_record).
    pub fn read_value(&mut self) -> Result<Option<V>, TestDriverError> {
        Ok(self.read_record()?.map(|record| record.value))
    }

    /// All keys and values that were not read yet.
    ///
    /// # Errors
    ///
    /// As [`read_record`](Self::read_record).
    pub fn read_key_values_to_list(&mut self) -> Result<Vec<(K, V)>, TestDriverError> {
        let records = self.read_records_to_list()?.into_iter();
        Ok(records.map(|record| (record.key, record.value)).collect())
    }

    /// All values that were not read yet.
    ///
    /// # Errors
    ///
    /// As [`read_record`](Self::read_record).
    pub fn read_values_to_list(&mut self) -> Result<Vec<V>, TestDriverError> {
        Ok(self.read_records_to_list()?.into_iter().map(|record| record.value).collect())
    }

    /// The newest value of each key among those that were not read yet.
    ///
    /// # Errors
    ///
    /// As [`read_record`](Self::read_record).
    pub fn read_key_values_to_map(&mut self) -> Result<BTreeMap<K, V>, TestDriverError>
    where
        K: Ord,
    {
        Ok(self.read_key_values_to_list()?.into_iter().collect())
    }

    /// Whether all records were read.
    ///
    /// # Errors
    ///
    /// As [`read_record`](Self::read_record).
    pub fn is_empty(&mut self) -> Result<bool, TestDriverError> {
        Ok(self.queue_size()? == 0)
    }

    /// How many records were not read yet.
    ///
    /// # Errors
    ///
    /// As [`read_record`](Self::read_record).
    pub fn queue_size(&mut self) -> Result<usize, TestDriverError> {
        self.fetch()?;
        Ok(self.read.len())
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

impl<K: DefaultSerde, V: Data> TestOutputTopic<Windowed<K>, V> {
    /// Reads the keys of windows of this size: topics hold their starts alone.
    ///
    /// ```
    /// # use headwater_engine::{store::Windowed, topology::{Consumed, Produced, Topology}};
    /// # use headwater_testkit::TopologyTestDriver;
    /// # use std::time::Duration;
    /// #
    /// # let mut topology = Topology::new();
    /// # topology.add_source("in", "counts", Consumed::<Windowed<String>, i64>::default())?;
    /// # topology.add_sink("out", "copy", Produced::<Windowed<String>, i64>::default(), &["in"])?;
    /// # let driver = TopologyTestDriver::new(topology)?;
    /// driver.input_topic::<Windowed<String>, i64>("counts").pipe("[a/60000/120000]=1@5")?;
    /// let counts = driver.output_topic::<Windowed<String>, i64>("copy");
    /// let mut counts = counts.windows_of(Duration::from_secs(60));
    /// assert_eq!(counts.read_text()?, "[a/60000/120000]=1@5");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn windows_of(self, size: Duration) -> Self {
        let size_ms = i64::try_from(size.as_millis()).unwrap_or(i64::MAX);
        Self { keys: Arc::new(WindowedSerde::new(K::default_serde(), size_ms)), ..self }
    }

    /// Reads the keys of sessions, as [`SessionWindowedSerde`] writes them.
    #[must_use]
    pub fn sessions(self) -> Self {
        Self { keys: Arc::new(SessionWindowedSerde::new(K::default_serde())), ..self }
    }
}

//! What a test can look at beside the topics: stores, counts, dead letters.

use super::{TestDeadLetter, TopologyTestDriver};
use crate::TestDriverError;
use headwater_core::{
    metrics::NodeMetrics,
    record::{Headers, TopicName, TopicPartition},
    serde::Data,
};
use headwater_engine::runtime::{
    Explanation, Query, ReadOnlyKeyValueStore, ReadOnlySessionStore,
    ReadOnlyVersionedKeyValueStore, ReadOnlyWindowStore, StateQueryRequest, StateQueryResult,
    StateSnapshot,
};
use headwater_engine::topology::TopologyDiff;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

impl TopologyTestDriver {
    /// A store's contents, as of the last commit.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Streams`] with `StreamsError::Topology` if there is no such store, or it is of another
    /// kind or holds other types; [`TestDriverError::Crashed`] if the application has crashed and was not restarted.
    pub fn key_value_store<K: Data, V: Data>(
        &self,
        name: &str,
    ) -> Result<ReadOnlyKeyValueStore<K, V>, TestDriverError> {
        let inner = self.inner.borrow();
        Ok(inner.driver.as_ref().ok_or(TestDriverError::Crashed)?.store(name)?)
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

    /// Asks a store as of the last commit, as [`StateSnapshot::query`] does.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Crashed`] if the application has crashed and was not restarted.
    pub fn query<Q: Query>(
        &self,
        request: &StateQueryRequest<Q>,
    ) -> Result<StateQueryResult<Q::Answer>, TestDriverError> {
        Ok(self.snapshot()?.query(request))
    }

    /// Tells why nothing comes out, as it stands now.
    ///
    /// ```
    /// use headwater_engine::topology::{Consumed, Topology};
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let mut topology = Topology::new();
    /// topology.add_source("in", "cars", Consumed::<String, i64>::default())?;
    /// let driver = TopologyTestDriver::new(topology)?;
    /// driver.input_topic::<String, i64>("cars").pipe_bytes(Some(b"a"), Some(b"seven"), 1)?;
    /// let told = driver.explain()?.to_string();
    /// assert!(told.ends_with("in made 1 record a dead letter"), "{told}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Crashed`] if the application has crashed and was not restarted.
    pub fn explain(&self) -> Result<Explanation, TestDriverError> {
        let inner = self.inner.borrow();
        Ok(inner.driver.as_ref().ok_or(TestDriverError::Crashed)?.explain())
    }

    /// A window store's contents, as of the last commit.
    ///
    /// # Errors
    ///
    /// As [`key_value_store`](Self::key_value_store).
    pub fn window_store<K: Data, V: Data>(
        &self,
        name: &str,
    ) -> Result<ReadOnlyWindowStore<K, V>, TestDriverError> {
        Ok(self.snapshot()?.window_store(name)?)
    }

    /// A session store's contents, as of the last commit.
    ///
    /// # Errors
    ///
    /// As [`key_value_store`](Self::key_value_store).
    pub fn session_store<K: Data, V: Data>(
        &self,
        name: &str,
    ) -> Result<ReadOnlySessionStore<K, V>, TestDriverError> {
        Ok(self.snapshot()?.session_store(name)?)
    }

    /// A versioned store's contents, as of the last commit.
    ///
    /// ```
    /// use headwater_core::serde::for_type;
    /// use headwater_engine::{
    ///     processor::{Context, Record},
    ///     store::VersionedKeyValueStore,
    ///     topology::{Consumed, Topology},
    /// };
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::time::Duration;
    ///
    /// type Limits = VersionedKeyValueStore<String, i64>;
    ///
    /// let mut topology = Topology::new();
    /// topology.add_source("in", "limits", Consumed::<String, i64>::default())?;
    /// let keep = |record: Record<String, i64>, context: &mut Context<'_, String, i64>| {
    ///     let limits = context.state_store::<Limits>("limits")?;
    ///     limits.put(&record.key, Some(record.value), record.timestamp)?;
    ///     Ok(())
    /// };
    /// topology.add_processor_fn("keep", keep, &["in"])?;
    /// let day = Duration::from_secs(86_400);
    /// topology.add_state_store(Limits::builder("limits", for_type(), for_type(), day), &["keep"])?;
    /// let driver = TopologyTestDriver::new(topology)?;
    /// driver.pipe::<String, i64>("limits", "a=50@10 a=80@20")?;
    /// let limits = driver.versioned_key_value_store::<String, i64>("limits")?;
    /// let valid_at_15 = limits.get_as_of(&"a".to_owned(), 15)?.unwrap();
    /// assert_eq!((valid_at_15.value, valid_at_15.timestamp), (50, 10));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`key_value_store`](Self::key_value_store).
    pub fn versioned_key_value_store<K: Data, V: Data>(
        &self,
        name: &str,
    ) -> Result<ReadOnlyVersionedKeyValueStore<K, V>, TestDriverError> {
        Ok(self.snapshot()?.versioned_store(name)?)
    }

    /// Says what this version of the topology has found of what the last one that committed kept.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Crashed`] if the application has crashed and was not restarted.
    pub fn topology_diff(&self) -> Result<TopologyDiff, TestDriverError> {
        let inner = self.inner.borrow();
        Ok(inner.driver.as_ref().ok_or(TestDriverError::Crashed)?.topology_diff().clone())
    }

    /// What each node has counted and how long it took, by the node's name.
    ///
    /// ```
    /// use headwater_engine::topology::{Consumed, Produced, Topology};
    /// use headwater_testkit::{TestDriverError, TopologyTestDriver};
    ///
    /// let mut topology = Topology::new();
    /// topology.add_source("in", "cars", Consumed::<String, i64>::default())?;
    /// topology.add_sink("out", "copy", Produced::<String, i64>::default(), &["in"])?;
    /// let driver = TopologyTestDriver::new(topology)?;
    /// driver.pipe::<String, i64>("cars", "a=1@5 b=2@7")?;
    /// assert_eq!(driver.metrics()?["out"].records, 2);
    /// assert_eq!(driver.dropped_records("in")?, 0);
    /// let unknown = driver.dropped_records("inn").unwrap_err();
    /// assert_eq!(unknown.to_string(), "there is no node `inn`; there are `in`, `out`");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Crashed`] if the application has crashed and was not restarted.
    pub fn metrics(&self) -> Result<BTreeMap<Arc<str>, NodeMetrics>, TestDriverError> {
        let inner = self.inner.borrow();
        Ok(inner.driver.as_ref().ok_or(TestDriverError::Crashed)?.node_metrics())
    }

    /// How many records the node called `node` has dropped.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::NoNode`] if there is no such node, [`TestDriverError::Crashed`] if the application has crashed and
    /// was not restarted.
    pub fn dropped_records(&self, node: &str) -> Result<u64, TestDriverError> {
        let metrics = self.metrics()?;
        let found = metrics.get(node).ok_or_else(|| TestDriverError::NoNode {
            node: node.to_owned(),
            nodes: metrics.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        })?;
        Ok(found.dropped.total())
    }

    /// All records that nodes have dropped, whatever the node and the reason.
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Crashed`] if the application has crashed and was not restarted.
    pub fn total_dropped_records(&self) -> Result<u64, TestDriverError> {
        Ok(self.metrics()?.values().map(|metrics| metrics.dropped.total()).sum())
    }

    /// The topics that the application has written records to, its changelogs and repartition topics among them.
    ///
    /// Records on their way between sub-topologies are written only where a commit finds them unread.
    ///
    /// ```
    /// # use headwater_engine::topology::{Consumed, Produced, Topology};
    /// # use headwater_testkit::TopologyTestDriver;
    /// #
    /// # let mut topology = Topology::new();
    /// # topology.add_source("in", "cars", Consumed::<String, i64>::default())?;
    /// # topology.add_sink("out", "copy", Produced::<String, i64>::default(), &["in"])?;
    /// let driver = TopologyTestDriver::new(topology)?;
    /// assert!(driver.produced_topic_names()?.is_empty());
    /// driver.pipe::<String, i64>("cars", "a=1@5")?;
    /// assert_eq!(driver.produced_topic_names()?, ["copy".to_owned()].into());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TestDriverError::Log`] if the log fails.
    pub fn produced_topic_names(&self) -> Result<BTreeSet<String>, TestDriverError> {
        let inner = self.inner.borrow();
        // What the runtime keeps for itself, as Kafka keeps offsets.
        let positions = format!("{}-positions", inner.config.application_id);
        let mut names = BTreeSet::new();
        for spec in inner.log.topics()?.into_iter().filter(|spec| spec.name.as_str() != positions) {
            let mut records = 0;
            for partition in 0..spec.partitions {
                records +=
                    inner.log.offsets(&TopicPartition::new(spec.name.clone(), partition))?.end;
            }
            if records > inner.piped.get(&spec.name).copied().unwrap_or(0) {
                names.insert(spec.name.to_string());
            }
        }
        Ok(names)
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
        let own = TopicName::new(format!("{}-dead-letters", inner.config.application_id))?;
        let topic = inner.config.dead_letter_topic.clone().unwrap_or(own);
        let from = TopicPartition::new(topic, 0);
        let records = inner.log.fetch(&from, 0, usize::MAX)?.records;
        let text =
            |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let letters = records.iter().map(|record| {
            let headers = Headers::decode(record.headers)?;
            // The record's own headers come first, and may have the same names.
            let header =
                |name: &str| text(headers.last(&format!("__streams.errors.{name}")).flatten());
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
}

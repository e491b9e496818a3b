//! Where a topology begins: sources, tables and stores.

use crate::{
    DefaultSerde, GlobalKTable, KStream, KTable, Materialized,
    operator::Expiry,
    plan::{LogicalPlan, OperatorKind, Serdes, Topics},
    table::expiring,
};
use headwater_core::serde::{Data, Nullable, SharedSerde};
use headwater_engine::{
    processor::{InitContext, Processor, ProcessorError},
    store::StoreBuilder,
    topology::{Consumed, GlobalSerdes, Topology, TopologyError, TopologyOptimization},
};
use std::{convert::Infallible, fmt, marker::PhantomData, sync::Arc};

/// Draws a topology: start from a topic, chain operators, build.
///
/// # Names
///
/// State, positions and times are kept by name, so that a new version of a topology goes on where the last one was. An
/// operator without a name of its own is counted among those of its kind on the same source topic: a source, a branch or
/// an operator of another kind may come or go anywhere. One *of the same kind* in front of it shifts its number; whoever
/// wants to be sure names what keeps state: stores by [`Materialized`], nodes and groupings by `named`.
///
/// ```
/// use headwater_dsl::StreamsBuilder;
///
/// let builder = StreamsBuilder::new();
/// builder
///     .stream::<Option<String>, String>("lines")
///     .flat_map_values(|line| line.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>())
///     .group_by(|_, word| word.clone())
///     .count("counts")
///     .to_stream()
///     .to("words");
/// let topology = builder.build()?;
///
/// assert_eq!(
///     topology.describe(),
///     "\
/// Topologies:
///    Sub-topology: 0
///     Source: KSTREAM-SOURCE-lines-0000000000 (topics: [lines])
///       --> KSTREAM-FLATMAPVALUES-lines-0000000000
///     Processor: KSTREAM-FLATMAPVALUES-lines-0000000000 (stores: [])
///       --> KSTREAM-KEY-SELECT-lines-0000000000
///       <-- KSTREAM-SOURCE-lines-0000000000
///     Processor: KSTREAM-KEY-SELECT-lines-0000000000 (stores: [])
///       --> counts-repartition-sink
///       <-- KSTREAM-FLATMAPVALUES-lines-0000000000
///     Sink: counts-repartition-sink (topic: counts-repartition)
///       <-- KSTREAM-KEY-SELECT-lines-0000000000
///
///    Sub-topology: 1
///     Source: counts-repartition-source (topics: [counts-repartition])
///       --> KSTREAM-AGGREGATE-counts
///     Processor: KSTREAM-AGGREGATE-counts (stores: [counts])
///       --> KTABLE-TOSTREAM-lines-0000000000
///       <-- counts-repartition-source
///     Processor: KTABLE-TOSTREAM-lines-0000000000 (stores: [])
///       --> KSTREAM-SINK-words-0000000000
///       <-- KSTREAM-AGGREGATE-counts
///     Sink: KSTREAM-SINK-words-0000000000 (topic: words)
///       <-- KTABLE-TOSTREAM-lines-0000000000
///
/// "
/// );
/// # Ok::<(), headwater_engine::topology::TopologyError>(())
/// ```
#[derive(Clone, Default)]
pub struct StreamsBuilder {
    plan: LogicalPlan,
}

impl fmt::Debug for StreamsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamsBuilder").finish_non_exhaustive()
    }
}

impl StreamsBuilder {
    /// A builder with nothing drawn.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets no aggregation that is drawn from now on hold updates back until the commit, whatever its [`Materialized`] says:
    /// one switch for Kafka's `statestore.cache.max.bytes` of 0.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new().with_caching_disabled();
    /// builder.stream::<String, i64>("in").group_by_key().count("counts").to_stream().to("out");
    /// let driver = TopologyTestDriver::new(builder.build()?)?.by_hand();
    /// for at in 0..3 {
    ///     driver.input_topic::<String, i64>("in").pipe_input("a".into(), 7, at)?;
    /// }
    /// driver.run_until_idle()?;
    /// driver.commit()?;
    /// assert_eq!(driver.output_topic::<String, i64>("out").read_records_to_list()?.len(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_caching_disabled(self) -> Self {
        self.plan.disable_caching();
        self
    }

    /// Builds with these optimizations, Kafka's `topology.optimization`, in place of none; tables of topics have those that were set
    /// before they are drawn.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_engine::topology::{Consumed, TopologyOptimization};
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new().with_topology_optimization(TopologyOptimization::ALL);
    /// let owners = builder.table_with("owners", Consumed::<String, String>::default(), "by-car");
    /// let by_owner = owners.to_stream().select_key(|_, owner| owner.clone());
    /// by_owner.group_by_key().count("changes").to_stream().to("out");
    /// by_owner.filter(|_, owner| owner.as_deref() != Some("Bob")).group_by_key().count("others");
    /// let topology = builder.build()?;
    /// assert!(!topology.describe().contains("others-repartition"), "one topic is for both");
    ///
    /// let driver = TopologyTestDriver::new(topology)?;
    /// driver.pipe::<String, String>("owners", "car=Ada@1")?;
    /// driver.crash();
    /// driver.lose_state();
    /// driver.restart()?;
    /// let owners = driver.key_value_store::<String, String>("by-car")?;
    /// assert_eq!(owners.get(&"car".into())?.unwrap().value, "Ada", "rebuilt from its topic");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_topology_optimization(self, optimization: TopologyOptimization) -> Self {
        self.plan.optimize(optimization);
        self
    }

    /// Refuses, at the build, stores and repartition topics whose names are generated: Kafka's
    /// `ensure.explicit.internal.resource.naming`.
    ///
    /// ```
    /// use headwater_dsl::{Materialized, StreamsBuilder};
    /// use headwater_engine::topology::TopologyError;
    ///
    /// let builder = StreamsBuilder::new().with_explicit_names();
    /// let speeds = builder.stream::<String, i64>("speeds").group_by_key();
    /// let _counts = speeds.count("counts");
    /// assert!(builder.build().is_ok());
    /// let _unnamed = speeds.count(Materialized::default());
    /// assert!(matches!(builder.build(), Err(TopologyError::GeneratedNames { names }) if names.len() == 1));
    /// ```
    #[must_use]
    pub fn with_explicit_names(self) -> Self {
        self.plan.refuse_generated_names();
        self
    }

    /// The records of all these topics, read by the default serdes of `K` and `V`; of several that wait, the one with the
    /// smallest timestamp comes next.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// builder.stream_of::<String, i64>(&["east", "west"]).to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, i64>("west").pipe_input("a".into(), 1, 1)?;
    /// driver.input_topic::<String, i64>("east").pipe_input("a".into(), 2, 2)?;
    /// assert_eq!(driver.output_topic::<String, i64>("out").read_records_to_list()?.len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// A topic that is named twice is refused at the build, by [`TopologyError::TopicReadTwice`].
    #[must_use]
    pub fn stream_of<K: DefaultSerde, V: DefaultSerde>(&self, topics: &[&str]) -> KStream<K, V> {
        self.merged(topics, |topic| self.stream(topic))
    }

    /// The records of all these topics, as [`stream_of`](Self::stream_of) takes them, each read as told.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_engine::topology::Consumed;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let own_time = Consumed::<String, i64>::default().timestamp(|ms| *ms);
    /// builder.stream_of_with(&["east", "west"], own_time).to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.pipe::<String, i64>("west", "a=57@1")?;
    /// driver.pipe::<String, i64>("east", "b=60@2")?;
    /// assert_eq!(driver.read::<String, i64>("out")?, "a=57@57 b=60@60");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stream_of_with<K: Data, V: Data>(
        &self,
        topics: &[&str],
        consumed: Consumed<K, V>,
    ) -> KStream<K, V> {
        self.merged(topics, move |topic| self.stream_with(topic, consumed.clone()))
    }

    /// The records of all these topics, each of which `read` reads.
    fn merged<K: Data, V: Data>(
        &self,
        topics: &[&str],
        read: impl Fn(&str) -> KStream<K, V>,
    ) -> KStream<K, V> {
        let again =
            |(place, topic): &(usize, &&str)| topics.iter().take(*place).any(|it| it == *topic);
        if let Some((_, topic)) = topics.iter().enumerate().find(again) {
            self.plan.fail(TopologyError::TopicReadTwice { topic: (*topic).to_owned() });
        }
        let mut streams = topics.iter().map(|topic| read(topic));
        let first = streams.next();
        let merged = first.map(|first| streams.fold(first, |all, stream| all.merge(&stream)));
        // Of none: a topic without a name, which the build refuses.
        merged.unwrap_or_else(|| read(""))
    }

    /// The records of `topic`, read by the default serdes of `K` and `V`. The same topic read alike again is the same source, be it
    /// for a stream or for a [table](Self::table): of a record, what was drawn first comes first.
    ///
    /// A record that is not of these types, or is null where they are no `Option`, goes to the dead letters.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// builder.stream::<String, i64>("speeds").to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, i64>("speeds").pipe_input("car".into(), 120, 1)?;
    /// let read = driver.output_topic::<String, i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [120]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stream<K: DefaultSerde, V: DefaultSerde>(&self, topic: &str) -> KStream<K, V> {
        self.read(Topics::One(topic.to_owned()), Consumed::default())
    }

    /// The records of `topic`, read as told.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_engine::topology::Consumed;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let own_time = Consumed::<String, i64>::default().timestamp(|ms| *ms);
    /// builder.stream_with("starts", own_time).to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, i64>("starts").pipe_input("car".into(), 57, 1)?;
    /// let read = driver.output_topic::<String, i64>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.timestamp).collect();
    /// assert_eq!(read, [57]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stream_with<K: Data, V: Data>(
        &self,
        topic: &str,
        consumed: Consumed<K, V>,
    ) -> KStream<K, V> {
        self.read(Topics::One(topic.to_owned()), consumed)
    }

    /// The records of each topic whose whole name matches `pattern`, read by the default serdes of `K` and `V`.
    ///
    /// It reads the topics that are there at the start, and those that are created later.
    ///
    /// The same pattern read alike again, by the same types, serdes and settings, is the same source; another source of a topic that matches is refused, at the
    /// build or at the start. A pattern is one of the crate `regex`, matched as Java's `matches()` does; what the application
    /// keeps for itself never matches.
    ///
    /// A topic with more partitions than those before makes the repartition topics below wider, which the start refuses if they
    /// are there already: give them a number by [`Repartitioned`](crate::Repartitioned), or give the topics equally many.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// builder.stream_matching::<String, i64>("speeds-.*").to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.create_topic("speeds-east", 1)?;
    /// driver.pipe::<String, i64>("speeds-east", "a=1@1")?;
    /// driver.create_topic("speeds-west", 1)?;
    /// driver.pipe::<String, i64>("speeds-west", "b=2@2")?;
    /// assert_eq!(driver.read::<String, i64>("out")?, "a=1@1 b=2@2");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stream_matching<K: DefaultSerde, V: DefaultSerde>(
        &self,
        pattern: &str,
    ) -> KStream<K, V> {
        self.read(Topics::Matching(pattern.to_owned()), Consumed::default())
    }

    /// The records of each topic whose whole name matches `pattern`, as [`stream_matching`](Self::stream_matching) takes them,
    /// read as told.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_engine::topology::Consumed;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let own_time = Consumed::<String, i64>::default().timestamp(|ms| *ms);
    /// builder.stream_matching_with("starts-[a-z]+", own_time).to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.create_topic("starts-east", 1)?;
    /// driver.pipe::<String, i64>("starts-east", "a=57@1")?;
    /// assert_eq!(driver.read::<String, i64>("out")?, "a=57@57");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stream_matching_with<K: Data, V: Data>(
        &self,
        pattern: &str,
        consumed: Consumed<K, V>,
    ) -> KStream<K, V> {
        self.read(Topics::Matching(pattern.to_owned()), consumed)
    }

    /// A stream of a source that whoever reads alike shares.
    fn read<K: Data, V: Data>(&self, topics: Topics, consumed: Consumed<K, V>) -> KStream<K, V> {
        let (key, value) = (SharedSerde::clone(&consumed.key), SharedSerde::clone(&consumed.value));
        let node = self.plan.source(topics, consumed);
        KStream { plan: self.plan.clone(), node, key: Some(key), value: Some(value) }
    }

    /// The newest value of each key of `topic`, read by the default serdes of `K` and `V`; a null value deletes.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let owners = builder.table::<String, String>("owners");
    /// owners.to_stream().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let owners = driver.input_topic::<String, Option<String>>("owners");
    /// owners.pipe_input("car".into(), Some("Ada".into()), 1)?;
    /// owners.pipe_input("car".into(), None, 2)?;
    /// let read = driver.output_topic::<String, Option<String>>("out").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [Some("Ada".to_owned()), None]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn table<K: DefaultSerde, V: DefaultSerde>(&self, topic: &str) -> KTable<K, V> {
        self.table_with(topic, Consumed::default(), Materialized::default())
    }

    /// The newest value of each key of `topic`, read and kept as told. Every record is an update of its own and is
    /// forwarded at once, with caching or without.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_engine::topology::Consumed;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let _owners = builder.table_with("owners", Consumed::<String, String>::default(), "by-car");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let owners = driver.input_topic::<String, String>("owners");
    /// owners.pipe_input("car".into(), "Ada".into(), 1)?;
    /// owners.pipe_input("car".into(), "Bob".into(), 2)?;
    /// let owners = driver.key_value_store::<String, String>("by-car")?;
    /// assert_eq!(owners.get(&"car".into())?.unwrap().value, "Bob");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn table_with<K: Data, V: Data>(
        &self,
        topic: &str,
        consumed: Consumed<K, V>,
        materialized: impl Into<Materialized>,
    ) -> KTable<K, V> {
        let (plan, materialized): (_, Materialized) = (&self.plan, materialized.into());
        let store = materialized.name.unwrap_or_else(|| plan.table_store_name(topic));
        if !materialized.logging {
            plan.leave_unlogged(&store);
        }
        let (key, value) = (SharedSerde::clone(&consumed.key), SharedSerde::clone(&consumed.value));
        let source = plan.source_of_table(&Topics::One(topic.to_owned()), &consumed);
        // The topic still holds what has lived.
        if plan.reuses_source_topics() && materialized.ttl.is_none() {
            let (store, topic) = (store.clone(), topic.to_owned());
            plan.add_global(move |topology| {
                topology.reuse_source_topic(&store, &topic, consumed.clone()).map(drop)
            });
        }
        if let Some(history) = materialized.history {
            plan.refuse_ttl(materialized.ttl, &store);
            let step = plan.step(OperatorKind::VersionedTable, &[source]).with_store(&store);
            let (serdes, row) = (Serdes { key, value }, |value: Option<V>| value);
            return KTable::versioned(plan, step, store, serdes, history, row);
        }
        let step = plan.step(OperatorKind::Table, &[source]).with_store(&store);
        let row = |value: Option<V>| value;
        let values: SharedSerde<Option<V>> = Arc::new(Nullable(SharedSerde::clone(&value)));
        let expiry = materialized.ttl.map(|ttl| Expiry::new(&store, &key, &value, ttl));
        let above = expiry.map(|expiry| expiring(plan, source, expiry, &values, row));
        let step = step.below(above.unwrap_or(source));
        KTable::kept(plan, step, store, Serdes { key, value }, |value: Option<V>| value)
    }

    /// The newest value of each key of `topic`, whole on every instance, read by the default serdes of `K` and `V`; a null
    /// value deletes. See [`GlobalKTable`].
    #[must_use]
    pub fn global_table<K: DefaultSerde, V: DefaultSerde>(
        &self,
        topic: &str,
    ) -> GlobalKTable<K, V> {
        self.global_table_with(topic, Consumed::default(), Materialized::default())
    }

    /// The newest value of each key of `topic`, whole on every instance, read and kept as told.
    ///
    /// ```
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_engine::topology::Consumed;
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let consumed = Consumed::<String, i64>::default();
    /// let limits = builder.global_table_with("limits", consumed, "limits-by-road");
    /// assert_eq!(limits.queryable_store_name(), "limits-by-road");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, i64>("limits").pipe_input("A7".into(), 120, 1)?;
    /// let limits = driver.key_value_store::<String, i64>("limits-by-road")?;
    /// assert_eq!(limits.get(&"A7".into())?.unwrap().value, 120);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn global_table_with<K: Data, V: Data>(
        &self,
        topic: &str,
        consumed: Consumed<K, V>,
        materialized: impl Into<Materialized>,
    ) -> GlobalKTable<K, V> {
        let Materialized { name, history, ttl, .. } = materialized.into();
        let store: Arc<str> = name.unwrap_or_else(|| self.plan.table_store_name(topic)).into();
        self.plan.refuse_versions(history, &store);
        self.plan.refuse_ttl(ttl, &store);
        let (key, value) = (SharedSerde::clone(&consumed.key), SharedSerde::clone(&consumed.value));
        let update = |key, value| Some((key, value));
        let serdes = GlobalSerdes { key, value };
        self.add_global_store(&store, topic, consumed.nullable(), serdes, update);
        GlobalKTable { plan: self.plan.clone(), store, rows: PhantomData }
    }

    /// Adds a global store: what `update` makes of the records of `topic`, by key, whole on every instance.
    ///
    /// A value of none deletes; a record of which it makes none changes nothing. Processors read it by
    /// [`InitContext::global_store`](headwater_engine::processor::InitContext::global_store), without being connected to it.
    ///
    /// ```
    /// use headwater_core::serde::for_type;
    /// use headwater_dsl::StreamsBuilder;
    /// use headwater_engine::topology::{Consumed, GlobalSerdes};
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// // Roads by their limits: the other way round.
    /// let turned = |road: String, limit: i64| Some((limit, Some(road)));
    /// let serdes = GlobalSerdes { key: for_type::<i64>(), value: for_type::<String>() };
    /// builder.add_global_store("roads", "limits", Consumed::<String, i64>::default(), serdes, turned);
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.input_topic::<String, i64>("limits").pipe_input("A7".into(), 120, 1)?;
    /// let roads = driver.key_value_store::<i64, String>("roads")?;
    /// assert_eq!(roads.get(&120)?.unwrap().value, "A7");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn add_global_store<K: Data, V: Data, K2: Data, V2: Data>(
        &self,
        name: &str,
        topic: &str,
        consumed: Consumed<K, V>,
        serdes: GlobalSerdes<K2, V2>,
        update: impl Fn(K, V) -> Option<(K2, Option<V2>)> + Send + Sync + 'static,
    ) {
        let (name, topic, update) = (name.to_owned(), topic.to_owned(), Arc::new(update));
        self.plan.add_global(move |topology| {
            let (key, value) = (SharedSerde::clone(&serdes.key), SharedSerde::clone(&serdes.value));
            let (serdes, update) = (GlobalSerdes { key, value }, Arc::clone(&update));
            let update = move |key, value| update(key, value);
            topology.add_global_store(&name, &topic, consumed.clone(), serdes, update).map(drop)
        });
    }

    /// Adds a global store that a processor of one's own fills from `topic`. See [`Topology::add_global_processor`].
    pub fn add_global_processor<K: Data, V: Data, P>(
        &self,
        store: StoreBuilder,
        topic: &str,
        consumed: Consumed<K, V>,
        supplier: impl Fn(&mut InitContext<'_>) -> Result<P, ProcessorError> + Send + Sync + 'static,
    ) where
        P: Processor<K, Option<V>, KOut = Infallible, VOut = Infallible> + 'static,
    {
        let (topic, supplier) = (topic.to_owned(), Arc::new(supplier));
        self.plan.add_global(move |topology| {
            let (store, consumed, supplier) =
                (store.clone(), consumed.clone(), Arc::clone(&supplier));
            let supplier = move |context: &mut InitContext<'_>| supplier(context);
            topology.add_global_processor(store, &topic, consumed, supplier).map(drop)
        });
    }

    /// Adds a store for processors of one's own, which [`KStream::process`] connects to it by its name.
    pub fn add_state_store(&self, store: StoreBuilder) {
        self.plan.add_store(store);
    }

    /// Adds a store that `supplier`'s processor fills from `topic`: the topic is what it is rebuilt from, and no changelog is made.
    /// See [`Topology::add_read_only_state_store`].
    pub fn add_read_only_state_store<K: Data, V: Data, P: Processor<K, Option<V>> + 'static>(
        &self,
        store: StoreBuilder,
        topic: &str,
        consumed: Consumed<K, V>,
        supplier: impl Fn(&mut InitContext<'_>) -> Result<P, ProcessorError> + Send + Sync + 'static,
    ) {
        let plan = &self.plan;
        let name = Arc::clone(&store.spec().name);
        plan.add_store(store);
        let source = plan.source_of_table(&Topics::One(topic.to_owned()), &consumed);
        let step = plan.step_called(OperatorKind::Process, source, &name).with_store(&name);
        plan.processor::<K, Option<V>, P>(step, supplier);
        let topic = topic.to_owned();
        plan.add_global(move |topology| {
            topology.reuse_source_topic(&name, &topic, consumed.clone()).map(drop)
        });
    }

    /// The kinds of all nodes drawn so far: what a test of every operator asks whether it has drawn them all.
    #[doc(hidden)]
    #[must_use]
    pub fn operators(&self) -> Vec<OperatorKind> {
        self.plan.operators()
    }

    /// The topology as drawn so far.
    ///
    /// ```
    /// use headwater_dsl::{StreamsBuilder, TimeWindows};
    /// use headwater_engine::topology::TopologyError;
    /// use std::time::Duration;
    ///
    /// let builder = StreamsBuilder::new();
    /// let empty = TimeWindows::of_size_with_no_grace(Duration::ZERO);
    /// let _counts = builder.stream::<String, i64>("in").group_by_key().windowed_by(empty).count("counts");
    /// assert!(matches!(builder.build(), Err(TopologyError::EmptyWindow { .. })));
    /// ```
    ///
    /// # Errors
    ///
    /// The first mistake that was made while drawing, such as [`TopologyError::TopicName`] for a name that cannot be
    /// a topic's, [`TopologyError::NameTaken`], [`TopologyError::TopicReadTwice`] or [`TopologyError::TypesDiffer`]
    /// for a topic or a name that is used twice, [`TopologyError::UnknownStore`] for a store that was not added,
    /// [`TopologyError::EmptyWindow`] or [`TopologyError::RetentionTooShort`] for windows that cannot be.
    pub fn build(&self) -> Result<Topology, TopologyError> {
        self.plan.build()
    }
}

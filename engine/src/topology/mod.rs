//! The graph of a streams application: sources, processors and sinks, and the stores that processors use.
//!
//! The typed builder of `headwater-dsl` makes topologies; they can also be put together by hand, as here.
//! [`plan`](crate::topology) cuts a topology into sub-topologies, the unit that tasks are made of.
//!
//! # Invariants
//!
//! - Names are unique over nodes and over stores, and a parent is added before its children: the graph has no cycles.
//! - The types at the two ends of an edge are equal.

mod describe;
mod diff;
mod dynamic;
mod edge;
mod error;
mod global;
mod mark;
mod max_ahead;
mod optimization;
mod partitioner;
mod pattern;
mod placed;
mod plan;
mod processors;
mod shared_rows;
mod sink;
mod spec;
mod state_stores;
mod store_source;
mod timestamp;
mod typed_decoder;
mod typed_encoder;

pub use diff::{Fate, TopologyDiff};
pub use dynamic::{RecordContext, TopicNameExtractor};
pub use edge::{Consumed, Decoded, Decoder, Encoder, Failure, OffsetReset, Produced, SourceMoment};
pub use error::TopologyError;
pub use global::GlobalSerdes;
pub use mark::TaskId;
pub use max_ahead::MaxAhead;
pub use optimization::{TopologyOptimization, UnknownOptimization};
pub use partitioner::{
    NamedPartitioner, PartitionerType, Partitions, Placement, StreamPartitioner,
};
pub use sink::{SinkRecords, SinkRow};
pub use spec::{Port, Topic};
pub use timestamp::{
    BuiltInExtractor, FailOnInvalidTimestamp, LogAndSkipOnInvalidTimestamp, SourceRecord,
    TimestampExtractor, UsePartitionTimeOnInvalidTimestamp, WallclockTimestampExtractor,
};

pub(crate) use diff::{Outline, PartitionCounts};
pub(crate) use dynamic::DynamicOutputs;
pub(crate) use global::{FillBy, GlobalEntries, GlobalSpec, RowDecoder, Take};
pub(crate) use mark::{InputState, Sender, TimeMark};
pub(crate) use max_ahead::AheadOf;
pub(crate) use plan::{Plan, SubTopology, ends_apart, meets_others, sources, topics_above};
pub(crate) use shared_rows::Records;
pub(crate) use sink::SinkForm;
pub(crate) use spec::{Kind, NodeSpec, Parent};
pub(crate) use store_source::StoreSource;

use crate::{
    broken::broken,
    node::{Node, OutputTime, Payload},
    processor::{BatchNode, BatchProcessor, InitContext, Ports, ProcessorError, Rows},
    store::StoreBuilder,
};
use headwater_core::{record::TopicName, serde::Data};
use pattern::PatternSource;
use std::{
    any::{TypeId, type_name},
    collections::BTreeMap,
    fmt,
    sync::Arc,
};
use typed_decoder::TypedDecoder;
use typed_encoder::TypedEncoder;

/// What a node takes at each of its ports, and what it forwards.
struct Types {
    input: Vec<TypeId>,
    output: Option<TypeId>,
}

const NODE_IS_THERE: &str = "a node that a plan or a node names is of its topology";

/// A graph of sources, processors and sinks.
///
/// ```
/// use headwater_engine::topology::{Consumed, Produced, Topology};
///
/// let mut topology = Topology::new();
/// topology.add_source("in", "cars", Consumed::<String, String>::default())?;
/// topology.add_sink("out", "cars-copy", Produced::<String, String>::default(), &["in"])?;
/// assert!(topology.describe().contains("Source: in (topics: [cars])"));
/// # Ok::<(), headwater_engine::topology::TopologyError>(())
/// ```
#[derive(Clone, Default)]
pub struct Topology {
    pub(crate) nodes: Vec<NodeSpec>,
    pub(crate) stores: Vec<StoreBuilder>,
    pub(crate) globals: Vec<GlobalSpec>,
    /// How many partitions repartition topics have for which that was asked.
    pub(crate) partition_counts: BTreeMap<Topic, u32>,
    /// Where topics are read from whose offsets were not committed, as far as their sources say so.
    pub(crate) offset_resets: BTreeMap<TopicName, OffsetReset>,
    /// What stores are rebuilt from that have no changelog, by their names.
    pub(crate) store_sources: BTreeMap<Arc<str>, StoreSource>,
    /// The sources that read topics by a pattern, by the names of their nodes.
    patterns: BTreeMap<Arc<str>, PatternSource>,
    /// The names of stores and repartition topics that were generated.
    generated_names: Vec<String>,
    /// What it was built with.
    pub(crate) optimization: TopologyOptimization,
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

impl Topology {
    /// A topology without nodes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The node at an index that a plan or another node has of it.
    pub(crate) fn node(&self, index: usize) -> &NodeSpec {
        self.nodes.get(index).unwrap_or_else(|| broken(NODE_IS_THERE))
    }

    fn node_mut(&mut self, index: usize) -> &mut NodeSpec {
        self.nodes.get_mut(index).unwrap_or_else(|| broken(NODE_IS_THERE))
    }

    /// The store at an index that a plan or a node has of it.
    pub(crate) fn store(&self, index: usize) -> &StoreBuilder {
        let store = self.stores.get(index);
        store.unwrap_or_else(|| broken("a store that a plan or a node names is of its topology"))
    }

    /// Adds a node that reads a topic.
    ///
    /// # Errors
    ///
    /// [`TopologyError::NameTaken`] if a node has the name, [`TopologyError::TopicName`] if the topic's name is not
    /// one, [`TopologyError::TopicReadTwice`] if another source reads it.
    pub fn add_source<K: Data, V: Data>(
        &mut self,
        name: &str,
        topic: &str,
        consumed: Consumed<K, V>,
    ) -> Result<&mut Self, TopologyError> {
        self.source(name, Topic::External(TopicName::new(topic)?), consumed)
    }

    /// Adds a node that reads the repartition topic `topic`, which a
    /// [repartition sink](Self::add_repartition_sink) of this topology fills.
    ///
    /// ```
    /// use headwater_engine::topology::{Consumed, Produced, Topology};
    ///
    /// let mut topology = Topology::new();
    /// topology.add_source("in", "cars", Consumed::<String, i64>::default())?;
    /// topology.add_repartition_sink("to", "by-car", Produced::<String, i64>::default(), &["in"])?;
    /// topology.add_repartition_source("from", "by-car", Consumed::<String, i64>::default())?;
    /// topology.add_sink("out", "copy", Produced::<String, i64>::default(), &["from"])?;
    /// assert!(topology.describe().contains("Sub-topology: 1"));
    /// let external: Vec<_> = topology.external_topics().iter().map(|t| t.to_string()).collect();
    /// assert_eq!(external, ["cars", "copy"]);
    /// # Ok::<(), headwater_engine::topology::TopologyError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TopologyError::NameTaken`] if a node has the name, [`TopologyError::TopicName`] if the topic's name is not
    /// one, [`TopologyError::TopicReadTwice`] if another source reads it.
    pub fn add_repartition_source<K: Data, V: Data>(
        &mut self,
        name: &str,
        topic: &str,
        consumed: Consumed<K, V>,
    ) -> Result<&mut Self, TopologyError> {
        self.source(name, Topic::Repartition(TopicName::new(topic)?), consumed)
    }

    /// Adds an operator; `supplier` makes one for each task, and `ports` names the parents of each of its ports. It keeps
    /// operator time.
    ///
    /// # Errors
    ///
    /// [`TopologyError::NameTaken`] if a node has the name, [`TopologyError::UnknownNode`] if there is no such
    /// parent, [`TopologyError::TypesDiffer`] if a parent forwards other types, [`TopologyError::PortsDiffer`] if the
    /// operator has another number of ports.
    pub fn add_operator<In, P>(
        &mut self,
        name: &str,
        supplier: impl Fn(&mut InitContext<'_>) -> Result<P, ProcessorError> + Send + Sync + 'static,
        ports: &[&[&str]],
    ) -> Result<&mut Self, TopologyError>
    where
        In: Ports,
        P: BatchProcessor<In> + 'static,
    {
        let make = move |context: &mut InitContext<'_>| {
            Ok(Box::new(BatchNode::<In, P>::new(&supplier, context)?) as Box<dyn Node>)
        };
        let (types, given) = (In::types(), ports.len());
        if types.len() != given {
            let (node, ports) = (name.to_owned(), types.len());
            return Err(TopologyError::PortsDiffer { node, ports, given });
        }
        let ports = types.into_iter().zip(ports);
        let ports: Vec<Port<'_>> =
            ports.map(|(payload, parents)| Port { payload, parents }).collect();
        let output = TypeId::of::<Rows<P::KOut, P::VOut>>();
        self.node_of(name, type_name::<P>(), make, (&ports, output))
    }

    /// Adds a node that reads a topic into payloads of type `P`, which a decoder that `make` makes gives.
    ///
    /// # Errors
    ///
    /// [`TopologyError::NameTaken`] if a node has the name, [`TopologyError::TopicReadTwice`] if another source reads
    /// the topic.
    pub fn add_payload_source<P: Payload>(
        &mut self,
        name: &str,
        topic: Topic,
        make: impl Fn() -> Box<dyn Decoder> + Send + Sync + 'static,
    ) -> Result<&mut Self, TopologyError> {
        let make = Arc::new(make);
        let (shares, max_ahead, placement, keys) = (None, None, None, None);
        let kind = Kind::Source { topic, make, shares, max_ahead, placement, keys };
        self.reader(name, kind, TypeId::of::<P>())
    }

    /// Adds a node that forwards payloads of type `Out`; `make` makes one for each task. It keeps operator time.
    ///
    /// # Errors
    ///
    /// [`TopologyError::NameTaken`] if a node has the name, [`TopologyError::UnknownNode`] if there is no such
    /// parent, [`TopologyError::TypesDiffer`] if a parent forwards other types.
    pub fn add_node<Out: Payload>(
        &mut self,
        name: &str,
        make: impl Fn(&mut InitContext<'_>) -> Result<Box<dyn Node>, ProcessorError>
        + Send
        + Sync
        + 'static,
        ports: &[Port<'_>],
    ) -> Result<&mut Self, TopologyError> {
        self.node_of(name, type_name::<Out>(), make, (ports, TypeId::of::<Out>()))
    }

    /// A node of the type called `what`; `edges` are its ports and what it forwards.
    fn node_of(
        &mut self,
        name: &str,
        what: &'static str,
        make: impl Fn(&mut InitContext<'_>) -> Result<Box<dyn Node>, ProcessorError>
        + Send
        + Sync
        + 'static,
        edges: (&[Port<'_>], TypeId),
    ) -> Result<&mut Self, TopologyError> {
        let ((ports, output), output_time) = (edges, OutputTime::Kept);
        let kind = Kind::Processor { make: Arc::new(make), what, stores: Vec::new(), output_time };
        let input = ports.iter().map(|port| port.payload).collect();
        let parents: Vec<&[&str]> = ports.iter().map(|port| port.parents).collect();
        self.add(name, kind, &parents, Types { input, output: Some(output) })
    }

    /// Adds a node that forwards nothing: a sink that finds its topics itself.
    fn add_sink_node(
        &mut self,
        name: &str,
        make: impl Fn(&mut InitContext<'_>) -> Result<Box<dyn Node>, ProcessorError>
        + Send
        + Sync
        + 'static,
        rows: TypeId,
        parents: &[&str],
    ) -> Result<&mut Self, TopologyError> {
        let output_time = OutputTime::Kept;
        let what = "a sink that chooses topics";
        let kind = Kind::Processor { make: Arc::new(make), what, stores: Vec::new(), output_time };
        self.add(name, kind, &[parents], Types { input: vec![rows], output: None })
    }

    /// Adds a node that writes payloads of type `P` to a topic, by an encoder that `make` makes.
    ///
    /// # Errors
    ///
    /// [`TopologyError::NameTaken`] if a node has the name, [`TopologyError::UnknownNode`] if there is no such
    /// parent, [`TopologyError::TypesDiffer`] if a parent forwards other types.
    pub fn add_payload_sink<P: Payload>(
        &mut self,
        name: &str,
        topic: Topic,
        make: impl Fn() -> Box<dyn Encoder> + Send + Sync + 'static,
        parents: &[&str],
    ) -> Result<&mut Self, TopologyError> {
        let types = Types { input: vec![TypeId::of::<P>()], output: None };
        let form = type_name::<P>().to_owned();
        let make = Arc::new(move |_| make());
        let placement = Placement::ByKey;
        let kind = Kind::Sink { topic, make, shares: None, form, placement, is_own: false };
        self.add(name, kind, &[parents], types)
    }

    /// Adds a child port to the processor or operator `parent`, which may forward records of these types to it beside its
    /// own output; a node takes them by naming the port as its parent.
    ///
    /// # Errors
    ///
    /// [`TopologyError::NameTaken`] if a node has the name, [`TopologyError::UnknownNode`] if `parent` is no
    /// processor or operator.
    pub fn add_child_port<K: Data, V: Data>(
        &mut self,
        name: &str,
        parent: &str,
    ) -> Result<&mut Self, TopologyError> {
        let spec = self.node(self.index_of(parent)?);
        let (Kind::Processor { output_time, .. }, Some(input)) = (&spec.kind, spec.output) else {
            return Err(TopologyError::UnknownNode { name: parent.to_owned() });
        };
        let kind = Kind::ChildPort { output_time: *output_time };
        let types = Types { input: vec![input], output: Some(TypeId::of::<Rows<K, V>>()) };
        self.add(name, kind, &[&[parent]], types)
    }

    /// Adds a node that writes a topic.
    ///
    /// # Errors
    ///
    /// [`TopologyError::NameTaken`] if a node has the name, [`TopologyError::UnknownNode`] if there is no such
    /// parent, [`TopologyError::TypesDiffer`] if a parent forwards other types, [`TopologyError::TopicName`] if the
    /// topic's name is not one, [`TopologyError::TypeRefused`] if no key or no value can be written
    /// and read.
    pub fn add_sink<K: Data, V: Data>(
        &mut self,
        name: &str,
        topic: &str,
        produced: Produced<K, V>,
        parents: &[&str],
    ) -> Result<&mut Self, TopologyError> {
        self.sink(name, Topic::External(TopicName::new(topic)?), produced, parents)
    }

    /// Adds a node that writes the repartition topic `topic`. Records without a key stay in the task's own partition;
    /// whatever keeps state below drops and counts them.
    ///
    /// # Errors
    ///
    /// [`TopologyError::NameTaken`] if a node has the name, [`TopologyError::UnknownNode`] if there is no such
    /// parent, [`TopologyError::TypesDiffer`] if a parent forwards other types, [`TopologyError::TopicName`] if the
    /// topic's name is not one, [`TopologyError::TypeRefused`] if no key or no value can be written
    /// and read back.
    pub fn add_repartition_sink<K: Data, V: Data>(
        &mut self,
        name: &str,
        topic: &str,
        produced: Produced<K, V>,
        parents: &[&str],
    ) -> Result<&mut Self, TopologyError> {
        self.sink(name, Topic::Repartition(TopicName::new(topic)?), produced, parents)
    }

    /// Gives a repartition topic so many partitions, in place of as many as it had, or else as what is written to it comes from.
    ///
    /// # Errors
    ///
    /// [`TopologyError::NoPartitions`] if there are to be none, [`TopologyError::TopicName`] if a topic can have no such
    /// name.
    pub fn set_partitions(&mut self, topic: &str, partitions: u32) -> Result<(), TopologyError> {
        if partitions == 0 {
            return Err(TopologyError::NoPartitions { topic: topic.to_owned() });
        }
        self.partition_counts.insert(Topic::Repartition(TopicName::new(topic)?), partitions);
        Ok(())
    }

    /// Notes which of the names of its stores and repartition topics were generated, for applications that
    /// [refuse](crate::runtime::StreamsConfig::with_explicit_names_ensured) these.
    pub fn set_generated_names(&mut self, names: Vec<String>) -> &mut Self {
        self.generated_names = names;
        self
    }

    /// Notes which optimizations it was built with.
    pub fn set_optimization(&mut self, optimization: TopologyOptimization) -> &mut Self {
        self.optimization = optimization;
        self
    }

    /// Refuses generated names.
    pub(crate) fn check_explicit_names(&self) -> Result<(), TopologyError> {
        match &*self.generated_names {
            [] => Ok(()),
            names => Err(TopologyError::GeneratedNames { names: names.to_vec() }),
        }
    }

    /// Demands that all topics above `node` have equally many partitions and are placed alike, as a join of them needs.
    ///
    /// # Errors
    ///
    /// [`TopologyError::UnknownNode`] if there is no such node.
    pub fn require_copartitioned(&mut self, node: &str) -> Result<(), TopologyError> {
        let index = self.index_of(node)?;
        self.node_mut(index).copartitioned = true;
        Ok(())
    }

    /// The topics of the user's that it reads or writes, by name.
    #[must_use]
    pub fn external_topics(&self) -> Vec<TopicName> {
        let written = self.nodes.iter().filter_map(|node| match &node.kind {
            Kind::Sink { topic: Topic::External(name), .. } => Some(name),
            Kind::Source { .. }
            | Kind::Sink { .. }
            | Kind::Processor { .. }
            | Kind::ChildPort { .. } => None,
        });
        let globals = self.globals.iter().map(|global| &global.topic);
        let read = self.topics_of_sources().chain(globals);
        let mut names: Vec<TopicName> = read.chain(written).cloned().collect();
        names.sort();
        names.dedup();
        names
    }

    /// The topics of the user's that its sources read; global stores read theirs beside them, at positions of their own.
    fn topics_of_sources(&self) -> impl Iterator<Item = &TopicName> {
        self.nodes.iter().filter_map(|node| match &node.kind {
            Kind::Source { topic: Topic::External(name), .. } => Some(name),
            Kind::Source { .. }
            | Kind::Sink { .. }
            | Kind::Processor { .. }
            | Kind::ChildPort { .. } => None,
        })
    }

    /// The graph as text, in Kafka's form: sub-topologies with their nodes, in the order they were added.
    ///
    /// A node that gets its records one by one, because paths below it meet again, says so.
    #[must_use]
    pub fn describe(&self) -> String {
        describe::describe(self)
    }

    fn source<K: Data, V: Data>(
        &mut self,
        name: &str,
        topic: Topic,
        consumed: Consumed<K, V>,
    ) -> Result<&mut Self, TopologyError> {
        let internal = matches!(topic, Topic::Repartition(_));
        let rows = TypeId::of::<Rows<K, V>>();
        let shares = (consumed.is_exact() && internal).then_some(rows);
        let (max_ahead, placement) = (consumed.max_ahead, consumed.placement.clone());
        if let Topic::External(name) = &topic {
            let reset = consumed.offset_reset.map(|reset| (name.clone(), reset));
            self.offset_resets.extend(reset);
        }
        let keys = Some(consumed.key.placed_by_schema());
        let make = Arc::new(move || {
            let consumed = consumed.clone();
            let make = if internal { TypedDecoder::internal } else { TypedDecoder::new };
            Box::new(make(consumed)) as Box<dyn Decoder>
        });
        let kind = Kind::Source { topic, make, shares, max_ahead: None, placement, keys };
        self.reader(name, kind, rows)?;
        max_ahead.map_or(Ok(()), |bound| self.bound_ahead(name, bound))?;
        Ok(self)
    }

    /// Adds a source whose topic no other reads.
    fn reader(
        &mut self,
        name: &str,
        kind: Kind,
        output: TypeId,
    ) -> Result<&mut Self, TopologyError> {
        if let Kind::Source { topic, .. } = &kind
            && (self
                .nodes
                .iter()
                .any(|node| matches!(&node.kind, Kind::Source { topic: t, .. } if t == topic))
                || matches!(topic, Topic::External(name) if self.is_matched(name)))
        {
            return Err(TopologyError::TopicReadTwice { topic: topic.to_string() });
        }
        self.add(name, kind, &[], Types { input: Vec::new(), output: Some(output) })
    }

    fn sink<K: Data, V: Data>(
        &mut self,
        name: &str,
        topic: Topic,
        produced: Produced<K, V>,
        parents: &[&str],
    ) -> Result<&mut Self, TopologyError> {
        match &topic {
            Topic::External(_) => produced.check_types(name)?,
            Topic::Repartition(_) => produced.check_types_read_back(name)?,
        }
        let rows = TypeId::of::<Rows<K, V>>();
        let is_exact = produced.key.is_exact_for_keys() && produced.value.is_exact();
        let form = format!("{} -> {}", produced.key.schema(), produced.value.schema());
        let placement = produced.partitioner.as_ref().map(|it| it.placement());
        let (is_own, placement) = (placement.is_some(), placement.unwrap_or(Placement::ByKey));
        let shares = is_exact.then_some(rows);
        let make = Arc::new(move |form| {
            Box::new(TypedEncoder::new(produced.clone(), form)) as Box<dyn Encoder>
        });
        let kind = Kind::Sink { topic, make, shares, form, placement, is_own };
        self.add(name, kind, &[parents], Types { input: vec![rows], output: None })
    }

    fn add(
        &mut self,
        name: &str,
        kind: Kind,
        ports: &[&[&str]],
        types: Types,
    ) -> Result<&mut Self, TopologyError> {
        if self.nodes.iter().any(|node| &*node.name == name) {
            return Err(TopologyError::NameTaken { name: name.to_owned() });
        }
        let mut parents = Vec::new();
        for (port, (names, wanted)) in ports.iter().zip(types.input).enumerate() {
            for parent in *names {
                let node = self.index_of(parent)?;
                if self.node(node).output != Some(wanted) {
                    let (parent, node) = ((*parent).to_owned(), name.to_owned());
                    return Err(TopologyError::TypesDiffer { parent, node });
                }
                parents.push(Parent { node, port });
            }
        }
        let index = self.nodes.len();
        for parent in &parents {
            self.node_mut(parent.node).children.push(index);
        }
        let name = name.into();
        self.nodes.push(NodeSpec {
            name,
            kind,
            parents,
            children: Vec::new(),
            output: types.output,
            copartitioned: false,
            settings: String::new(),
        });
        Ok(self)
    }

    /// Checks that `to` is a child of `from` and that such rows pass between them.
    pub(crate) fn check_edge<K: Data, V: Data>(
        &self,
        from: &str,
        to: &str,
    ) -> Result<(), TopologyError> {
        let (parent, child) = (self.index_of(from)?, self.index_of(to)?);
        let spec = self.node(parent);
        if !spec.children.contains(&child) {
            let (from, to) = (from.to_owned(), to.to_owned());
            return Err(TopologyError::NoEdge { from, to });
        }
        if spec.output != Some(TypeId::of::<Rows<K, V>>()) {
            let (parent, node) = (from.to_owned(), to.to_owned());
            return Err(TopologyError::TypesDiffer { parent, node });
        }
        Ok(())
    }

    fn index_of(&self, name: &str) -> Result<usize, TopologyError> {
        let found = self.nodes.iter().position(|node| &*node.name == name);
        found.ok_or_else(|| TopologyError::UnknownNode { name: name.to_owned() })
    }
}

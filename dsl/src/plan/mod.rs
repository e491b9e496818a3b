//! The logical graph that the typed builder draws, and how it becomes a topology.
//!
//! A node knows its name, its parents, the stores it uses, and a closure that adds it to a [`Topology`]; the closure
//! holds the types.
//!
//! # Names
//!
//! State, positions and times belong to names, so that another version of a topology goes on where the last one was. A
//! node that nobody named is counted among those of its kind and of its *home*: the topic that its records come from, by
//! the first parent of each node. A sink is counted by the topic that it writes, an aggregation whose store has a name is
//! called after the store, and what makes a repartition topic is called after the topic. What is drawn beside a node,
//! or is of another kind, changes its name in none of these cases.
//!
//! # Invariants
//!
//! - A parent is drawn before its children, but for a source that a stream shares with a table that was drawn later.
//! - Building changes nothing: a plan can be drawn further and built again.
//!
//! # Not here
//!
//! Where a repartition topic goes is decided in [`repartition`]; what runs record by record, by the engine.

mod closing;
mod graph;
mod kind;
mod merging;
mod processors;
mod repartition;
mod sources;
mod step;

use crate::{
    Materialized,
    table::{OldValues, TableNode},
};
use headwater_core::serde::{Data, SharedSerde};
use headwater_engine::{
    broken,
    node::{self, Payload},
    processor::{BatchProcessor, InitContext, Ports, ProcessorError, Rows},
    store::StoreBuilder,
    topology::{
        MaxAhead, Port, Produced, RecordContext, TopicNameExtractor, Topology, TopologyError,
        TopologyOptimization,
    },
};
use std::{cell::RefCell, collections::BTreeSet, rc::Rc, sync::Arc, time::Duration};

use graph::Graph;
pub use kind::OperatorKind;
use merging::Merged;
pub(crate) use repartition::Serdes;
pub(crate) use sources::Topics;
pub(crate) use step::Step;

/// A node's place in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeId(usize);

/// What is known of a node when it is added to a topology.
#[derive(Clone, Copy)]
struct Lowered<'a> {
    name: &'a str,
    /// The names of its parents.
    parents: &'a [&'a str],
    old_values: OldValues,
    /// Whether it may hold updates back.
    may_cache: bool,
}

/// Adds a node to a topology.
type Lower = dyn Fn(&mut Topology, Lowered<'_>) -> Result<(), TopologyError>;

/// Adds a global store to a topology.
type AddGlobal = dyn Fn(&mut Topology) -> Result<(), TopologyError>;

struct Node {
    step: Step,
    lower: Box<Lower>,
}

/// A shared handle to the graph under construction.
#[derive(Clone, Default)]
pub(crate) struct LogicalPlan(Rc<RefCell<Graph>>);

impl LogicalPlan {
    /// A node of this kind below `parents`, under the next of its counted names.
    pub(crate) fn step(&self, kind: OperatorKind, parents: &[NodeId]) -> Step {
        let mut graph = self.0.borrow_mut();
        let home = graph.home(parents);
        let name = graph.counted(kind.prefix(), &home);
        Step::new(kind, name, home, parents)
    }

    /// An operator below `parent` and the store of its results: it is called after the store, if that has a name. It keeps the newest
    /// value of each key, until that is deleted.
    pub(crate) fn step_of_store(
        &self,
        kind: OperatorKind,
        parent: NodeId,
        materialized: Materialized,
    ) -> (Arc<str>, Step) {
        let Materialized { name, logging, history, ttl, .. } = materialized;
        let (store, step) = match name {
            Some(store) => {
                let step = self.step_called(kind, parent, &store);
                (store, step)
            }
            None => (self.store_name(kind, parent), self.step(kind, &[parent])),
        };
        self.refuse_versions(history, &store);
        self.refuse_ttl(ttl, &store);
        if !logging {
            self.leave_unlogged(&store);
        }
        let step = step.with_store(&store);
        (store.into(), step)
    }

    /// Gives the store no changelog.
    pub(crate) fn leave_unlogged(&self, store: &str) {
        self.0.borrow_mut().unlogged.insert(store.to_owned());
    }

    /// Gives a store that goes with another one a changelog if that has one.
    pub(crate) fn log_as(&self, other: &str, store: &str) {
        let unlogged = &mut self.0.borrow_mut().unlogged;
        if unlogged.contains(other) {
            unlogged.insert(store.to_owned());
        }
    }

    /// Builds with these optimizations.
    pub(crate) fn optimize(&self, optimization: TopologyOptimization) {
        self.0.borrow_mut().optimization = optimization;
    }

    /// Whether tables of topics are rebuilt from those.
    pub(crate) fn reuses_source_topics(&self) -> bool {
        self.0.borrow().optimization.reuses_source_topics()
    }

    /// A node of this kind below `parent`, called by a name that follows from its store's.
    pub(crate) fn step_called(&self, kind: OperatorKind, parent: NodeId, name: &str) -> Step {
        let name = format!("{}{name}", kind.prefix());
        Step::new(kind, name, self.0.borrow().home(&[parent]), &[parent])
    }

    /// A sink below `parent`, counted among those that write `topic`.
    pub(crate) fn step_to(&self, topic: &str, parent: NodeId) -> Step {
        let mut graph = self.0.borrow_mut();
        let (kind, home) = (OperatorKind::Sink, graph.home(&[parent]));
        let name = graph.counted(kind.prefix(), topic);
        Step::new(kind, name, home, &[parent])
    }

    /// The kinds of all nodes, in the order they were drawn.
    pub(crate) fn operators(&self) -> Vec<OperatorKind> {
        self.0.borrow().nodes.iter().map(|node| node.step.kind).collect()
    }

    /// The name of a store that has none, of an operator of this kind below `parent`.
    pub(crate) fn store_name(&self, kind: OperatorKind, parent: NodeId) -> String {
        let mut graph = self.0.borrow_mut();
        let home = graph.home(&[parent]);
        let name = graph.counted(&format!("{}STATE-STORE-", kind.prefix()), &home);
        graph.generated.push(name.clone());
        name
    }

    /// The base of the name of a repartition topic that has none, below `parent`.
    pub(crate) fn repartition_name(&self, parent: NodeId) -> String {
        let mut graph = self.0.borrow_mut();
        let home = graph.home(&[parent]);
        let name = graph.counted("KSTREAM-REPARTITION-", &home);
        graph.generated.push(name.clone());
        name
    }

    /// Refuses at the build what has a generated name that outlives a version of the topology.
    pub(crate) fn refuse_generated_names(&self) {
        self.0.borrow_mut().refuses_generated = true;
    }

    /// Lets no aggregation that is drawn from now on hold updates back.
    pub(crate) fn disable_caching(&self) {
        self.0.borrow_mut().is_uncached = true;
    }

    /// Whether an aggregation may hold updates back.
    pub(crate) fn may_cache(&self) -> bool {
        !self.0.borrow().is_uncached
    }

    /// The name of a store that has none, of a table that is a topic.
    pub(crate) fn table_store_name(&self, topic: &str) -> String {
        let mut graph = self.0.borrow_mut();
        let name = graph.counted(&format!("{topic}-"), "STATE-STORE");
        graph.generated.push(name.clone());
        name
    }

    /// `node` and all that its records come from within its sub-topology.
    pub(crate) fn above_in_task(&self, node: NodeId) -> BTreeSet<NodeId> {
        self.0.borrow().above_in_task(node)
    }

    pub(crate) fn name_of(&self, node: NodeId) -> String {
        self.0.borrow().name(node).to_owned()
    }

    pub(crate) fn rename(&self, node: NodeId, name: &str) {
        match self.0.borrow_mut().nodes.get_mut(node.0) {
            Some(node) => {
                name.clone_into(&mut node.step.name);
                node.step.is_named = true;
            }
            None => broken("a node's number is its place in the plan"),
        }
    }

    /// Refuses to keep versions of what has none.
    pub(crate) fn refuse_versions(&self, history: Option<Duration>, store: &str) {
        if history.is_some() {
            self.fail(TopologyError::VersionsRefused { store: store.to_owned() });
        }
    }

    /// Refuses rows that live for some time only where no table of records is.
    pub(crate) fn refuse_ttl(&self, ttl: Option<Duration>, store: &str) {
        if ttl.is_some() {
            self.fail(TopologyError::TtlRefused { store: store.to_owned() });
        }
    }

    /// Keeps the first error for the build.
    pub(crate) fn fail(&self, error: TopologyError) {
        self.0.borrow_mut().failed.get_or_insert(error);
    }

    /// Bounds how far ahead the records of the sources above `step` may be.
    pub(crate) fn bound_ahead(&self, step: &Step, bound: MaxAhead) {
        let mut graph = self.0.borrow_mut();
        let above = step.parents.iter().flat_map(|parent| graph.sources_above(*parent));
        let sources: BTreeSet<NodeId> = above.collect();
        graph.bounds.extend(sources.into_iter().map(|source| (source, bound)));
    }

    pub(crate) fn add_store(&self, store: StoreBuilder) {
        self.0.borrow_mut().stores.push(store);
    }

    /// Says by which keys' bytes the entries of a store that was added lie in their partitions.
    pub(crate) fn place_store<K: Data>(&self, name: &str, keys: &SharedSerde<K>) {
        let stores = &mut self.0.borrow_mut().stores;
        for store in stores.iter_mut().filter(|store| &*store.spec().name == name) {
            *store = store.clone().placed_by(SharedSerde::clone(keys));
        }
    }

    pub(crate) fn add_global(
        &self,
        add: impl Fn(&mut Topology) -> Result<(), TopologyError> + 'static,
    ) {
        self.0.borrow_mut().globals.push(Box::new(add));
    }

    pub(crate) fn operator<K, V, P>(
        &self,
        step: Step,
        supplier: impl Fn(&mut InitContext<'_>) -> Result<P, ProcessorError> + Send + Sync + 'static,
    ) -> NodeId
    where
        K: Data,
        V: Data,
        P: BatchProcessor<Rows<K, V>> + 'static,
    {
        self.table_operator(step, move |context, _| supplier(context))
    }

    /// An operator that forwards the updates of a table; `supplier` is told whether with old values.
    pub(crate) fn table_operator<K, V, P>(
        &self,
        step: Step,
        supplier: impl Fn(&mut InitContext<'_>, OldValues) -> Result<P, ProcessorError>
        + Send
        + Sync
        + 'static,
    ) -> NodeId
    where
        K: Data,
        V: Data,
        P: BatchProcessor<Rows<K, V>> + 'static,
    {
        let supplier = Arc::new(supplier);
        let lower =
            move |topology: &mut Topology,
                  Lowered { name, parents, old_values, .. }: Lowered<'_>| {
                let supplier = Arc::clone(&supplier);
                let supplier = move |context: &mut InitContext<'_>| supplier(context, old_values);
                topology.add_operator(name, supplier, &[parents]).map(drop)
            };
        self.0.borrow_mut().add(step, Box::new(lower))
    }

    /// A node that takes rows of `In` and forwards rows of `Out`; `make` is told whether with old values.
    pub(crate) fn node<In: Payload, Out: Payload, N: node::Node + 'static>(
        &self,
        step: Step,
        make: impl Fn(&mut InitContext<'_>, OldValues) -> Result<N, ProcessorError>
        + Send
        + Sync
        + 'static,
    ) -> NodeId {
        let make = Arc::new(make);
        let lower =
            move |topology: &mut Topology,
                  Lowered { name, parents, old_values, .. }: Lowered<'_>| {
                let make = Arc::clone(&make);
                let make = move |context: &mut InitContext<'_>| {
                    Ok(Box::new(make(context, old_values)?) as Box<dyn node::Node>)
                };
                topology.add_node::<Out>(name, make, &[Port::of::<In>(parents)]).map(drop)
            };
        self.0.borrow_mut().add(step, Box::new(lower))
    }

    /// An operator with a port for each of its parents; `supplier` is told whether with old values.
    pub(crate) fn operator_of_ports<In: Ports, P: BatchProcessor<In> + 'static>(
        &self,
        step: Step,
        supplier: impl Fn(&mut InitContext<'_>, OldValues) -> Result<P, ProcessorError>
        + Send
        + Sync
        + 'static,
    ) -> NodeId {
        let supplier = Arc::new(supplier);
        let lower =
            move |topology: &mut Topology,
                  Lowered { name, parents, old_values, .. }: Lowered<'_>| {
                let supplier = Arc::clone(&supplier);
                let supplier = move |context: &mut InitContext<'_>| supplier(context, old_values);
                let ports: Vec<&[&str]> = parents.iter().map(std::slice::from_ref).collect();
                topology.add_operator(name, supplier, &ports).map(drop)
            };
        self.0.borrow_mut().add(step, Box::new(lower))
    }

    /// A stream of what the node above it forwards beside its own output.
    pub(crate) fn child_port<K: Data, V: Data>(&self, step: Step) -> NodeId {
        let lower = move |topology: &mut Topology, Lowered { name, parents, .. }: Lowered<'_>| {
            let parent = parents.first().copied().unwrap_or_default();
            topology.add_child_port::<K, V>(name, parent).map(drop)
        };
        self.0.borrow_mut().add(step, Box::new(lower))
    }

    /// A node with a port for each of its parents, of the types that `ports` tell, which forwards rows of `Out`.
    pub(crate) fn node_of_ports<Out: Payload, N: node::Node + 'static>(
        &self,
        step: Step,
        ports: Vec<TableNode>,
        make: impl Fn(&mut InitContext<'_>) -> Result<N, ProcessorError> + Send + Sync + 'static,
    ) -> NodeId {
        let make = Arc::new(make);
        let lower = move |topology: &mut Topology, Lowered { name, parents, .. }: Lowered<'_>| {
            let make = Arc::clone(&make);
            let make = move |context: &mut InitContext<'_>| {
                Ok(Box::new(make(context)?) as Box<dyn node::Node>)
            };
            let parents = parents.iter().map(std::slice::from_ref).zip(&ports);
            let ports: Vec<Port<'_>> = parents.map(|(parent, root)| (root.port)(parent)).collect();
            topology.add_node::<Out>(name, make, &ports).map(drop)
        };
        self.0.borrow_mut().add(step, Box::new(lower))
    }

    pub(crate) fn sink<K: Data, V: Data>(
        &self,
        step: Step,
        topic: String,
        produced: Produced<K, V>,
    ) -> NodeId {
        let lower = move |topology: &mut Topology, Lowered { name, parents, .. }: Lowered<'_>| {
            topology.add_sink(name, &topic, produced.clone(), parents).map(drop)
        };
        self.0.borrow_mut().add(step, Box::new(lower))
    }

    pub(crate) fn dynamic_sink<K: Data, V: Data>(
        &self,
        step: Step,
        extractor: impl TopicNameExtractor<K, V> + 'static,
        produced: Produced<K, V>,
    ) -> NodeId {
        let extractor = Arc::new(extractor);
        let lower = move |topology: &mut Topology, Lowered { name, parents, .. }: Lowered<'_>| {
            let extractor = Arc::clone(&extractor);
            let topic = move |key: &K, value: &V, context: &RecordContext<'_>| {
                extractor.topic(key, value, context)
            };
            topology.add_dynamic_sink(name, topic, produced.clone(), parents).map(drop)
        };
        self.0.borrow_mut().add(step, Box::new(lower))
    }

    /// The topology as drawn so far.
    pub(crate) fn build(&self) -> Result<Topology, TopologyError> {
        let graph = self.0.borrow();
        if let Some(error) = &graph.failed {
            return Err(error.clone());
        }
        if graph.refuses_generated && !graph.generated.is_empty() {
            return Err(TopologyError::GeneratedNames { names: graph.generated.clone() });
        }
        let mut topology = Topology::new();
        topology.set_generated_names(graph.generated.clone());
        topology.set_optimization(graph.optimization);
        for store in &graph.stores {
            let is_logged = !graph.unlogged.contains(&*store.spec().name);
            let store = store.clone();
            let store = if is_logged { store } else { store.with_logging_disabled() };
            topology.add_state_store(store, &[])?;
        }
        graph.globals.iter().try_for_each(|add| add(&mut topology))?;
        let (old_values, may_cache) = (graph.old_values(), graph.may_cache());
        let may_merge = graph.optimization.merges_repartition_topics();
        let merged = if may_merge { graph.merged() } else { Merged::default() };
        let order = merged.order(graph.nodes.len()).into_iter();
        let order = order.filter(|node| !graph.built_first.contains(node));
        for node in graph.built_first.iter().copied().chain(order) {
            let (Some(Node { step, lower }), Some(old_values), Some(may_cache)) =
                (graph.nodes.get(node.0), old_values.get(node.0), may_cache.get(node.0))
            else {
                continue;
            };
            let parents = step.parents.iter().map(|parent| merged.parent(node, *parent));
            let parents: Vec<&str> = parents.map(|parent| graph.name(parent)).collect();
            let (name, parents) = (&*step.name, &*parents);
            let (old_values, may_cache) = (*old_values, *may_cache);
            lower(&mut topology, Lowered { name, parents, old_values, may_cache })?;
            let stores: Vec<&str> = step.stores.iter().map(|store| &**store).collect();
            topology.connect_processor_and_state_stores(&step.name, &stores)?;
            topology.set_settings(&step.name, format!("{:?} {}", step.kind, step.settings))?;
            if let Some((store, lifetime)) = &step.folds_into {
                topology.set_folder(store, &step.name, *lifetime)?;
            }
            if step.copartitioned {
                topology.require_copartitioned(&step.name)?;
            }
        }
        for (source, bound) in &graph.bounds {
            topology.bound_ahead(graph.name(*source), *bound)?;
        }
        Ok(topology)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KTable, StreamsBuilder};

    fn old_values(table: &KTable<String, i64>) -> Vec<(OperatorKind, OldValues)> {
        let graph = table.plan.0.borrow();
        let kinds = graph.nodes.iter().map(|node| node.step.kind);
        kinds.zip(graph.old_values()).collect()
    }

    #[test]
    fn old_values_are_sent_where_a_filter_lies_below() {
        use OldValues::{Omitted, Sent};
        use OperatorKind::{Source, Table, TableFilter, TableMapValues, ToStream};
        let table = StreamsBuilder::new().table::<String, i64>("in");
        let mapped = table.map_values(|value| value + 1);
        let _ = mapped.to_stream();
        let expected =
            [(Source, Omitted), (Table, Omitted), (TableMapValues, Omitted), (ToStream, Omitted)];
        assert_eq!(old_values(&table), expected, "none");
        let _ = table.map_values(|value| value * 2).filter(|_, value| *value > 1).to_stream();
        let below = [(TableMapValues, Sent), (TableFilter, Omitted), (ToStream, Omitted)];
        let mut expected = expected.to_vec();
        expected[1].1 = Sent;
        expected.extend(below);
        assert_eq!(old_values(&table), expected, "of one path");
    }
}

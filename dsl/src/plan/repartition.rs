//! Where records are placed anew by their key: the decision and the pair of nodes.

use super::{LogicalPlan, Lowered, NodeId, OperatorKind, Step};
use headwater_core::serde::{Data, SharedSerde};
use headwater_engine::topology::{Consumed, Produced, Topology};
use std::sync::Arc;

/// How records lie in a repartition topic.
pub(crate) struct Serdes<K, V> {
    pub(crate) key: SharedSerde<K>,
    pub(crate) value: SharedSerde<V>,
}

impl<K, V> Clone for Serdes<K, V> {
    fn clone(&self) -> Self {
        Self { key: SharedSerde::clone(&self.key), value: SharedSerde::clone(&self.value) }
    }
}

/// A repartition that exists: of `parent`, under `base`, read by `source`.
pub(super) struct Repartition {
    pub(super) parent: NodeId,
    base: String,
    pub(super) source: NodeId,
}

impl LogicalPlan {
    /// The node under which the records of `parent` lie in their keys' partitions: `parent` itself, or, if their keys
    /// changed, the source of the repartition topic `<base>-repartition`. The same two again are the same topic.
    pub(crate) fn keyed<K: Data, V: Data>(
        &self,
        parent: NodeId,
        base: &str,
        serdes: &Serdes<K, V>,
    ) -> NodeId {
        let mut graph = self.0.borrow_mut();
        if !graph.is_marked(parent) {
            return parent;
        }
        if let Some(known) =
            graph.repartitions.iter().find(|r| r.parent == parent && r.base == base)
        {
            return known.source;
        }
        let kind = OperatorKind::Repartition;
        let home = graph.home(&[parent]);
        let name = format!("{base}-repartition-sink");
        let sink = Step::new(kind, name, Arc::clone(&home), &[parent]);
        let source = Step::new(kind, format!("{base}-repartition-source"), home, &[]);
        let (topic, written) = (base.to_owned(), serdes.clone());
        let lower = move |topology: &mut Topology, Lowered { name, parents, .. }: Lowered<'_>| {
            let Serdes { key, value } = written.clone();
            topology
                .add_repartition_sink(name, &topic, Produced::with(key, value), parents)
                .map(drop)
        };
        graph.add(sink, Box::new(lower));
        let (topic, read) = (base.to_owned(), serdes.clone());
        let lower = move |topology: &mut Topology, Lowered { name, .. }: Lowered<'_>| {
            let Serdes { key, value } = read.clone();
            topology.add_repartition_source(name, &topic, Consumed::with(key, value)).map(drop)
        };
        let source = graph.add(source, Box::new(lower));
        graph.repartitions.push(Repartition { parent, base: base.to_owned(), source });
        source
    }

    /// The base of the topic through which `parent` is repartitioned for a join: its own name, if it was given one, or that
    /// of the first join that needs the topic.
    pub(crate) fn base_for_join(&self, parent: NodeId, join: &Step) -> String {
        let mut graph = self.0.borrow_mut();
        match graph.nodes.get(parent.0) {
            Some(node) if node.step.is_named => node.step.name.clone(),
            _ => graph.join_bases.entry(parent).or_insert_with(|| join.name.clone()).clone(),
        }
    }
}

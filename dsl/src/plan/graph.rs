//! The graph under construction: its nodes, the names that were counted, and what lies above what.

use super::{AddGlobal, Lower, Node, NodeId, OperatorKind, Step, repartition, sources};
use crate::table::{NeedsOld, OldValues};
use headwater_core::serde::{Data, SharedSerde};
use headwater_engine::{
    store::StoreBuilder,
    topology::{MaxAhead, TopologyError, TopologyOptimization},
};
use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

#[derive(Default)]
pub(super) struct Graph {
    /// How many names were counted, by what they begin with.
    pub(super) counted: BTreeMap<String, u32>,
    pub(super) nodes: Vec<Node>,
    pub(super) stores: Vec<StoreBuilder>,
    /// What adds a global store each.
    pub(super) globals: Vec<Box<AddGlobal>>,
    pub(super) sources: Vec<sources::Shared>,
    /// Sources that were drawn after what lies below them.
    pub(super) built_first: Vec<NodeId>,
    pub(super) repartitions: Vec<repartition::Repartition>,
    /// The names of stores and repartition topics that were generated.
    pub(super) generated: Vec<String>,
    pub(super) refuses_generated: bool,
    /// Stores that have no changelog.
    pub(super) unlogged: BTreeSet<String>,
    /// Which optimizations it is built with; what concerns tables of topics, of those that are drawn from now on.
    pub(super) optimization: TopologyOptimization,
    /// Whether no store holds updates back, whatever was said of it.
    pub(super) is_uncached: bool,
    /// The first join that each node is repartitioned for in each form.
    pub(super) join_bases: BTreeMap<(NodeId, String), String>,
    /// How far ahead the records of sources may be, as windows below them ask for.
    pub(super) bounds: Vec<(NodeId, MaxAhead)>,
    /// By which keys' bytes the rows of nodes lie, where they may be written otherwise: each a `SharedSerde`.
    pub(super) placed: BTreeMap<NodeId, Box<dyn Any>>,
    pub(super) failed: Option<TopologyError>,
}

impl Graph {
    /// The next name of those that begin with `prefix` and `home`, in Kafka's form.
    pub(super) fn counted(&mut self, prefix: &str, home: &str) -> String {
        let prefix = format!("{prefix}{home}-");
        let number = self.counted.entry(prefix.clone()).or_default();
        let name = format!("{prefix}{number:010}");
        *number += 1;
        name
    }

    pub(super) fn home(&self, parents: &[NodeId]) -> Arc<str> {
        let first = parents.first().and_then(|parent| self.nodes.get(parent.0));
        first.map_or_else(|| "".into(), |node| Arc::clone(&node.step.home))
    }

    pub(super) fn name(&self, node: NodeId) -> &str {
        self.nodes.get(node.0).map_or("", |node| &node.step.name)
    }

    /// By which keys' bytes the rows of `node` lie, if the table above that they come of says so.
    pub(super) fn placed_above<K: Data>(&self, node: NodeId) -> Option<&SharedSerde<K>> {
        let mut open = Some(node);
        while let Some(node) = open {
            if let Some(placed) = self.placed.get(&node) {
                return placed.downcast_ref();
            }
            open = self.nodes.get(node.0).and_then(|node| node.step.parents.first().copied());
        }
        None
    }

    /// Whether a change of key above `node` was not followed by a repartition yet.
    pub(super) fn is_marked(&self, node: NodeId) -> bool {
        let mut open = vec![node];
        while let Some(node) = open.pop().and_then(|node| self.nodes.get(node.0)) {
            if node.step.marks {
                return true;
            }
            open.extend(&node.step.parents);
        }
        false
    }

    /// The sources of external topics above `node`, also above repartitions.
    pub(super) fn sources_above(&self, node: NodeId) -> BTreeSet<NodeId> {
        let (mut sources, mut seen, mut open) = (BTreeSet::new(), BTreeSet::new(), vec![node]);
        while let Some(id) = open.pop() {
            let Some(node) = self.nodes.get(id.0).filter(|_| seen.insert(id)) else { continue };
            if node.step.kind == OperatorKind::Source {
                sources.insert(id);
            }
            open.extend(self.above(id));
        }
        sources
    }

    /// `node` and all that its records come from within its sub-topology.
    pub(super) fn above_in_task(&self, node: NodeId) -> BTreeSet<NodeId> {
        let (mut seen, mut open) = (BTreeSet::new(), vec![node]);
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                open.extend(self.nodes.get(id.0).iter().flat_map(|node| &node.step.parents));
            }
        }
        seen
    }

    /// Which nodes send old values: the parents of those that need them.
    pub(super) fn old_values(&self) -> Vec<OldValues> {
        let mut sent = vec![OldValues::Omitted; self.nodes.len()];
        // A parent is drawn before its children.
        for (place, Node { step, .. }) in self.nodes.iter().enumerate().rev() {
            let sends = sent.get(place) == Some(&OldValues::Sent);
            for (parent, needs_old) in step.parents.iter().zip(&step.needs_old) {
                let needs = match needs_old {
                    NeedsOld::ToSend => sends,
                    NeedsOld::Always => true,
                };
                let parent = sent.get_mut(parent.0).filter(|_| needs);
                parent.into_iter().for_each(|sent| *sent = OldValues::Sent);
            }
        }
        sent
    }

    pub(super) fn add(&mut self, step: Step, lower: Box<Lower>) -> NodeId {
        self.nodes.push(Node { step, lower });
        NodeId(self.nodes.len() - 1)
    }
}

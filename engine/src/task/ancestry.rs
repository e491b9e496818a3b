//! What lies above each node of a task's sub-topology, and what that means for its time.

use crate::{
    node::OutputTime,
    topology::{Kind, Parent, SubTopology, Topic, Topology},
};
use hashbrown::HashMap;
use std::collections::BTreeSet;

/// What lies above a node, itself left out, as far as records come from there.
#[derive(Debug, Clone, Default)]
pub(super) struct Ancestors {
    sources: BTreeSet<usize>,
    has_external: bool,
    has_repartition: bool,
    /// A processor that forwards timestamps of its own choosing.
    begins_time: bool,
    /// A node with a store, which may hold rows back.
    holds_rows: bool,
}

impl Ancestors {
    /// Whether any record can ever come from there.
    pub(super) fn is_live(&self) -> bool {
        self.begins_time || !self.sources.is_empty()
    }

    /// Whether all time that comes from there is what repartition topics carry.
    pub(super) fn is_time_carried(&self) -> bool {
        self.has_repartition && !self.has_external && !self.begins_time
    }

    /// Whether the paths from there may differ in time. Sources of external topics do not: they all stand at the task's
    /// stream time.
    pub(super) fn differs_in_time(&self) -> bool {
        self.holds_rows || self.begins_time || (self.has_repartition && self.sources.len() > 1)
    }

    fn add(&mut self, other: &Self) {
        self.sources.extend(&other.sources);
        self.has_external |= other.has_external;
        self.has_repartition |= other.has_repartition;
        self.begins_time |= other.begins_time;
        self.holds_rows |= other.holds_rows;
    }
}

/// What lies above a node and its live parents, in the order they were added.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    pub(super) above: Ancestors,
    pub(super) parents: Vec<Parent>,
}

/// What lies above the nodes of a task's sub-topology.
#[derive(Debug, Default)]
pub(super) struct Ancestry {
    lineages: HashMap<usize, Lineage>,
    /// What lies above each node, and the node.
    with_itself: HashMap<usize, Ancestors>,
}

impl Ancestry {
    /// The ancestry of each node of `sub`. `has_input` tells whether the task reads a source node at all: of topics with
    /// fewer partitions than the widest, only some tasks do.
    pub(super) fn of(
        topology: &Topology,
        sub: &SubTopology,
        has_input: impl Fn(usize) -> bool,
    ) -> Self {
        let mut ancestry = Self::default();
        // Parents come before children.
        for index in &sub.nodes {
            let node = topology.node(*index);
            let mut own = Lineage::default();
            for parent in &node.parents {
                let above = ancestry.with_itself.get(&parent.node);
                if let Some(above) = above.filter(|above| above.is_live()) {
                    own.parents.push(*parent);
                    own.above.add(above);
                }
            }
            let itself = match &node.kind {
                Kind::Source { topic, .. } if has_input(*index) => Ancestors {
                    sources: BTreeSet::from([*index]),
                    has_external: matches!(topic, Topic::External(_)),
                    has_repartition: matches!(topic, Topic::Repartition(_)),
                    ..Ancestors::default()
                },
                Kind::Processor { output_time: OutputTime::Anew, .. } if own.above.is_live() => {
                    Ancestors { begins_time: true, ..Ancestors::default() }
                }
                Kind::Processor { stores, .. } => {
                    let holds_rows = own.above.holds_rows || !stores.is_empty();
                    Ancestors { holds_rows, ..own.above.clone() }
                }
                Kind::ChildPort { .. } => own.above.clone(),
                Kind::Source { .. } | Kind::Sink { .. } => Ancestors::default(),
            };
            ancestry.with_itself.insert(*index, itself);
            ancestry.lineages.insert(*index, own);
        }
        ancestry
    }

    pub(super) fn get(&self, node: usize) -> Option<&Lineage> {
        self.lineages.get(&node)
    }

    /// Whether no input comes to two of `parents`, nor does time begin anew above any: while rows come from one of them,
    /// nothing but time comes from the others.
    pub(super) fn are_apart(&self, parents: &[Parent]) -> bool {
        let mut seen = BTreeSet::new();
        parents.iter().filter_map(|parent| self.with_itself.get(&parent.node)).all(|above| {
            !above.begins_time && above.sources.iter().all(|source| seen.insert(*source))
        })
    }
}

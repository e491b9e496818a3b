//! Repartition topics that become one: Kafka's `merge.repartition.topics`.
//!
//! Steps that depend on the keys which one step has changed each have a repartition topic as they are drawn. Here the first of
//! these is moved right below the change, and the others are left out:
//!
//! | drawn | built |
//! |---|---|
//! | change → topic A → count | change → topic A → count |
//! | change → filter → topic B → sum | topic A → filter → sum |
//!
//! # Invariants
//!
//! - What lies between the change and a topic that is left out forwards the rows that it takes: their types, keys and values are
//!   those of the change.
//! - The graph stays as it is drawn: a merge is of one build.

use super::{Graph, NodeId, OperatorKind};
use std::collections::{BTreeMap, BTreeSet};

/// What a build makes of the graph's edges.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// Nodes that are left out: the sinks and sources of topics that others take the place of.
    left_out: BTreeSet<NodeId>,
    /// What takes the place of a source for those below it.
    replaced: BTreeMap<NodeId, NodeId>,
    /// Nodes right below a change of keys that come after the topic: each with its source.
    moved: BTreeMap<NodeId, NodeId>,
    /// The sink and the source that come right after a change of keys.
    raised: BTreeMap<NodeId, [NodeId; 2]>,
}

impl Merged {
    /// The parent that `node` has in place of `parent`.
    pub(super) fn parent(&self, node: NodeId, parent: NodeId) -> NodeId {
        let moved = self.moved.get(&node).copied();
        moved.or_else(|| self.replaced.get(&parent).copied()).unwrap_or(parent)
    }

    /// The nodes in the order in which they are built.
    pub(super) fn order(&self, count: usize) -> Vec<NodeId> {
        let raised: BTreeSet<NodeId> = self.raised.values().flatten().copied().collect();
        let mut order = Vec::with_capacity(count);
        for node in (0..count).map(NodeId) {
            if !self.left_out.contains(&node) && !raised.contains(&node) {
                order.push(node);
                order.extend(self.raised.get(&node).into_iter().flatten());
            }
        }
        order
    }
}

impl Graph {
    /// Merges the repartition topics below each change of keys.
    pub(super) fn merged(&self) -> Merged {
        let mut below: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        for (place, repartition) in self.repartitions.iter().enumerate() {
            let path = self.path_to_change(repartition.parent).filter(|_| repartition.may_merge);
            if let Some(change) = path.as_deref().and_then(|path| path.last()) {
                below.entry(*change).or_default().push(place);
            }
        }
        let mut merged = Merged::default();
        for (change, mut places) in below {
            // What is written otherwise has a topic of its own.
            let form = |place: &usize| self.repartitions.get(*place).map(|it| &it.form);
            let first = places.first().and_then(form);
            places.retain(|place| form(place) == first);
            if places.len() < 2 {
                continue;
            }
            self.merge(change, &places, &mut merged);
        }
        merged
    }

    fn merge(&self, change: NodeId, places: &[usize], merged: &mut Merged) {
        let mut repartitions = places.iter().filter_map(|place| self.repartitions.get(*place));
        let Some(first) = repartitions.clone().next() else { return };
        merged.raised.insert(change, [first.sink, first.source]);
        // The sink of the first is right below the change, wherever it was drawn.
        merged.moved.insert(first.sink, change);
        let others = repartitions.clone().skip(1);
        merged.left_out.extend(others.flat_map(|other| [other.sink, other.source]));
        repartitions.by_ref().for_each(|repartition| {
            let path = self.path_to_change(repartition.parent).unwrap_or_default();
            let last = if repartition.parent == change { first.source } else { repartition.parent };
            if repartition.source != last {
                merged.replaced.insert(repartition.source, last);
            }
            if let [.., top, _] = &*path {
                merged.moved.insert(*top, first.source);
            }
        });
    }

    /// The nodes from `node` up to the one that changed the keys, if all between them pass rows on as they are.
    fn path_to_change(&self, node: NodeId) -> Option<Vec<NodeId>> {
        use OperatorKind::{Branch, Filter, Peek, Split};
        let (mut path, mut at) = (vec![node], node);
        loop {
            let step = &self.nodes.get(at.0)?.step;
            if step.marks {
                return Some(path);
            }
            let passes_on = matches!(step.kind, Filter | Peek | Split | Branch);
            let [parent] = *step.parents else { return None };
            if !passes_on {
                return None;
            }
            path.push(parent);
            at = parent;
        }
    }
}

//! What lies above a node: where its windows close, and where updates may be held back on their way to it.

use super::{Graph, LogicalPlan, Lowered, Node, NodeId, Step};
use crate::{operator::WindowClose, settings::Caching};
use headwater_engine::{
    kernel::{Emit, headers_store},
    node::{self, Payload},
    processor::{InitContext, ProcessorError},
    topology::{Port, Topology},
};
use std::{collections::BTreeMap, sync::Arc};

impl Graph {
    /// Which nodes may hold updates back: but for those above one that needs each.
    pub(super) fn may_cache(&self) -> Vec<bool> {
        let mut may = vec![true; self.nodes.len()];
        for (place, Node { step, .. }) in self.nodes.iter().enumerate().rev() {
            let is_passed_on = may.get(place) == Some(&false) && step.closes.is_none();
            if step.needs_each || is_passed_on {
                for parent in self.above(NodeId(place)) {
                    may.get_mut(parent.0).into_iter().for_each(|may| *may = false);
                }
            }
        }
        may
    }

    /// Where the records of `node` come from, also through a repartition topic.
    pub(super) fn above(&self, node: NodeId) -> Vec<NodeId> {
        let parents = self.nodes.get(node.0).map(|node| node.step.parents.clone());
        let written = self.repartitions.iter().filter(|repartition| repartition.source == node);
        parents.into_iter().flatten().chain(written.map(|written| written.parent)).collect()
    }

    /// When the windows of `node` are closed; none unless all its records come from windowed aggregations.
    fn window_close(&self, node: NodeId) -> Option<WindowClose> {
        let (mut open, mut aggregations) = (vec![node], BTreeMap::new());
        let mut is_in_one_task = true;
        while let Some(node) = open.pop() {
            let step = &self.nodes.get(node.0)?.step;
            if let Some(close) = step.closes {
                aggregations.insert(node, close);
                continue;
            }
            let above = self.above(node);
            is_in_one_task &= !step.parents.is_empty();
            if above.is_empty() {
                return None;
            }
            open.extend(above);
        }
        let after_end_ms = aggregations.values().map(|close| close.after_end_ms).max()?;
        let mut reaches = aggregations.values().map(|close| close.reach_ms);
        let reach_ms = reaches.next().flatten().filter(|_| reaches.next().is_none());
        Some(WindowClose { after_end_ms, reach_ms: reach_ms.filter(|_| is_in_one_task) })
    }
}

impl LogicalPlan {
    /// Adds a store for the headers of the finals of windows in `store`; gives its name.
    pub(crate) fn add_headers_store(&self, store: &str) -> String {
        let headers = format!("{store}-headers");
        self.add_store(headers_store(&headers));
        self.log_as(store, &headers);
        headers
    }

    /// When the windows of `node` are closed; none unless all its records come from windowed aggregations.
    pub(crate) fn window_close(&self, node: NodeId) -> Option<WindowClose> {
        self.0.borrow().window_close(node)
    }

    /// As [`node`](Self::node), for one that holds updates back with caching, where nothing below needs each.
    pub(crate) fn cached_node<In: Payload, Out: Payload, N: node::Node + 'static>(
        &self,
        step: Step,
        caching: Caching,
        make: impl Fn(&mut InitContext<'_>, Emit) -> Result<N, ProcessorError> + Send + Sync + 'static,
    ) -> NodeId {
        let make = Arc::new(make);
        let is_cached = caching == Caching::On && self.may_cache();
        let lower = move |topology: &mut Topology, lowered: Lowered<'_>| {
            let Lowered { name, parents, old_values, may_cache } = lowered;
            let make = Arc::clone(&make);
            // Whoever needs each update of windows makes finals of them.
            let (is_cached, closes_at_end) = (is_cached && may_cache, !may_cache);
            let emit = Emit { is_cached, old_values, closes_at_end };
            let make = move |context: &mut InitContext<'_>| {
                Ok(Box::new(make(context, emit)?) as Box<dyn node::Node>)
            };
            topology.add_node::<Out>(name, make, &[Port::of::<In>(parents)]).map(drop)
        };
        self.0.borrow_mut().add(step, Box::new(lower))
    }
}

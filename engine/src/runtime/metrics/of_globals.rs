//! What processors that fill global stores have counted. No commit carries it: it is told as it is.

use crate::{processor::GlobalCounts, task::OwnCounted, topology::TaskId};
use headwater_core::metrics::NodeMetrics;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// What the processor of a part has counted.
#[derive(Debug, Clone)]
pub(super) struct CountedPart {
    /// The processor's name.
    pub(super) node: Arc<str>,
    pub(super) counts: GlobalCounts,
}

impl CountedPart {
    /// What it counts itself.
    pub(super) fn own(&self) -> Vec<OwnCounted> {
        let own = self.counts.own.iter().map(|it| OwnCounted {
            node: Arc::clone(&self.node),
            name: Arc::clone(&it.name),
            value: it.value,
        });
        own.collect()
    }
}

/// What the processors of all parts have counted since they were made, by the tasks that these would be.
#[derive(Debug, Default)]
pub(in crate::runtime) struct OfGlobals(Mutex<BTreeMap<TaskId, CountedPart>>);

impl OfGlobals {
    /// Notes what the processor called `node` has counted by now.
    pub(in crate::runtime) fn set(&self, id: TaskId, node: &Arc<str>, counts: GlobalCounts) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.insert(id, CountedPart { node: Arc::clone(node), counts });
    }

    /// Adds what they have counted by their names.
    pub(in crate::runtime) fn add_to(&self, nodes: &mut BTreeMap<Arc<str>, NodeMetrics>) {
        for CountedPart { node, counts } in self.parts().into_values() {
            *nodes.entry(node).or_default() += counts.metrics;
        }
    }

    pub(super) fn parts(&self) -> BTreeMap<TaskId, CountedPart> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

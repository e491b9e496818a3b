//! Whether topics that are joined are placed by one partitioner, and those by key by keys of one form.
//!
//! A topic is placed by what its source says, or else by the partitioners of the sinks that write it. Of a topic that other
//! applications fill, or a sink that chooses topics, nothing is known: it is taken to be placed by key, as Kafka does it.

use super::{Kind, Placement, Topic, Topology, TopologyError, topics_above};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// What records of a topic are placed by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Placed {
    placement: Placement,
    /// The form of the keys, where they are placed by what they are written as.
    keys: Option<String>,
}

impl fmt::Display for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.keys {
            Some(keys) => write!(f, "{} ({keys})", self.placement),
            None => write!(f, "{}", self.placement),
        }
    }
}

/// Refuses joins of topics that are placed differently. Whatever keys are written as, in one partition they meet.
pub(super) fn check_placements(
    topology: &Topology,
    counts: &BTreeMap<Topic, u32>,
) -> Result<(), TopologyError> {
    for (index, node) in topology.nodes.iter().enumerate().filter(|(_, node)| node.copartitioned) {
        let above = topics_above(topology, index).into_iter();
        let mut above: BTreeMap<&Topic, BTreeSet<Placed>> =
            above.map(|topic| (topic, placements(topology, topic))).collect();
        above.values_mut().for_each(|of| of.retain(|it| it.placement != Placement::Beside));
        above.retain(|_, placed| !placed.is_empty());
        let of_all = || above.values().flatten();
        let is_unknown = of_all().any(|it| matches!(it.placement, Placement::Unnamed(_)));
        let placements: BTreeSet<_> = of_all().map(|it| &it.placement).collect();
        let keys: BTreeSet<_> = of_all().filter_map(|it| it.keys.as_ref()).collect();
        let are_several = above.keys().any(|topic| counts.get(*topic).is_some_and(|it| *it > 1));
        let keys_differ = are_several && keys.len() > 1;
        if above.len() > 1 && (is_unknown || placements.len() > 1 || keys_differ) {
            // Of keys of one form it is not told.
            let told = |placed: &Placed| match keys.len() {
                0 | 1 => placed.placement.to_string(),
                _ => placed.to_string(),
            };
            let told = above.iter().flat_map(|(topic, placed)| {
                placed.iter().map(move |placed| format!("{topic}: {}", told(placed)))
            });
            return Err(TopologyError::PartitionersDiffer {
                node: node.name.to_string(),
                placements: told.collect::<Vec<_>>().join(", "),
            });
        }
    }
    Ok(())
}

/// What the records of a topic are placed by, as far as the topology knows.
fn placements(topology: &Topology, topic: &Topic) -> BTreeSet<Placed> {
    let said = topology.nodes.iter().find_map(|node| match &node.kind {
        Kind::Source { topic: read, placement, keys, .. } if read == topic => {
            Some((placement.clone(), keys.clone()))
        }
        Kind::Source { .. }
        | Kind::Processor { .. }
        | Kind::ChildPort { .. }
        | Kind::Sink { .. } => None,
    });
    let (said, keys) = said.unwrap_or_default();
    let written = topology.nodes.iter().filter_map(|node| match &node.kind {
        Kind::Sink { topic: written, placement, is_own, .. } if written == topic => {
            let keys = keys.clone().filter(|_| !is_own);
            Some(Placed { placement: placement.clone(), keys })
        }
        Kind::Source { .. }
        | Kind::Processor { .. }
        | Kind::ChildPort { .. }
        | Kind::Sink { .. } => None,
    });
    let known: BTreeSet<Placed> = match said {
        Some(placement) => [Placed { placement, keys: None }].into(),
        None => written.collect(),
    };
    if known.is_empty() { [Placed { placement: Placement::ByKey, keys }].into() } else { known }
}

//! Whether topics that are joined are placed by one partitioner.
//!
//! A topic is placed by what its source says, or else by the partitioners of the sinks that write it. Of a topic that other
//! applications fill, or a sink that chooses topics, nothing is known: it is taken to be placed by key, as Kafka does it.

use super::{Kind, Placement, Topic, Topology, TopologyError, topics_above};
use std::collections::{BTreeMap, BTreeSet};

/// Refuses joins of topics that are placed differently.
pub(super) fn check_placements(topology: &Topology) -> Result<(), TopologyError> {
    for (index, node) in topology.nodes.iter().enumerate().filter(|(_, node)| node.copartitioned) {
        let above = topics_above(topology, index).into_iter();
        let mut above: BTreeMap<&Topic, BTreeSet<Placement>> =
            above.map(|topic| (topic, placements(topology, topic))).collect();
        above.values_mut().for_each(|placed| placed.retain(|it| *it != Placement::Beside));
        above.retain(|_, placed| !placed.is_empty());
        let of_all: BTreeSet<&Placement> = above.values().flatten().collect();
        let is_unknown = of_all.iter().any(|placed| matches!(placed, Placement::Unnamed(_)));
        if above.len() > 1 && (is_unknown || of_all.len() > 1) {
            let told = above.iter().flat_map(|(topic, placed)| {
                placed.iter().map(move |placed| format!("{topic}: {placed}"))
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
fn placements(topology: &Topology, topic: &Topic) -> BTreeSet<Placement> {
    let said = topology.nodes.iter().find_map(|node| match &node.kind {
        Kind::Source { topic: read, placement, .. } if read == topic => placement.clone(),
        Kind::Source { .. }
        | Kind::Processor { .. }
        | Kind::ChildPort { .. }
        | Kind::Sink { .. } => None,
    });
    let written = topology.nodes.iter().filter_map(|node| match &node.kind {
        Kind::Sink { topic: written, placement, .. } if written == topic => Some(placement.clone()),
        Kind::Source { .. }
        | Kind::Processor { .. }
        | Kind::ChildPort { .. }
        | Kind::Sink { .. } => None,
    });
    let known: BTreeSet<Placement> = match said {
        Some(said) => [said].into(),
        None => written.collect(),
    };
    if known.is_empty() { [Placement::ByKey].into() } else { known }
}

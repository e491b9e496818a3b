//! Cuts a topology into sub-topologies and decides what runs record by record.
//!
//! A sub-topology is a connected component over edges and shared stores. Its *level* is one more than the highest
//! level of those that fill a repartition topic it reads, so that a commit can drain and flush level by level. Of those
//! that feed each other, the one that was drawn first is above.
//!
//! A node runs record by record where batching could show in a result: where two of its children reach a common node,
//! store or sink topic, or where a node below it uses one of its stores.

use super::{Kind, Topic, Topology, TopologyError, placed::check_placements};
use crate::{broken::broken, node::OutputTime};
use std::{
    any::TypeId,
    collections::{BTreeMap, BTreeSet},
};

/// One connected component.
#[derive(Debug, Clone, Default)]
pub(crate) struct SubTopology {
    /// Its nodes, in the order they were added: parents come before children.
    pub(crate) nodes: Vec<usize>,
    pub(crate) stores: Vec<usize>,
    pub(crate) level: usize,
    /// Of the repartition topics that it reads, those that come back to it: written by itself, or by one that it feeds.
    pub(crate) fed_back: BTreeSet<Topic>,
}

/// A topology, cut up.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) subs: Vec<SubTopology>,
    pub(crate) stepwise: BTreeSet<usize>,
    /// The repartition topics whose rows pass as they are, in memory.
    pub(crate) shared: BTreeSet<Topic>,
}

impl Plan {
    pub(crate) fn of(topology: &Topology) -> Self {
        let mut subs = components(topology);
        set_levels(topology, &mut subs);
        Self { subs, stepwise: stepwise(topology), shared: shared(topology) }
    }

    /// How many levels a commit goes through. Where sub-topologies feed each other, one of the last level sends too: a level
    /// without tasks follows, so that nobody has collected, and sends for the next commit, while others send for this one.
    pub(crate) fn levels(&self) -> usize {
        let levels = self.subs.iter().map(|sub| sub.level + 1).max().unwrap_or(1);
        levels + usize::from(self.subs.iter().any(|sub| !sub.fed_back.is_empty()))
    }

    /// Whether a sub-topology fills a repartition topic.
    pub(crate) fn repartitions(&self, topology: &Topology, sub: u32) -> bool {
        let sub = self.subs.get(sub as usize);
        sub.is_some_and(|sub| sinks(topology, sub).any(|at| matches!(at, Topic::Repartition(_))))
    }

    /// The number of partitions of every topic, given those that there are: a repartition topic has as many as it had, or else
    /// as the widest topic among the inputs of those that fill it, unless a number was asked or what it is joined with has
    /// another.
    pub(crate) fn partitions(
        &self,
        topology: &Topology,
        existing: impl Fn(&Topic) -> Option<u32>,
    ) -> Result<BTreeMap<Topic, u32>, TopologyError> {
        let mut counts = BTreeMap::new();
        for topic in topics(topology) {
            counts.extend(existing(topic).map(|count| (topic.clone(), count)));
        }
        let is_kept =
            |topic: &Topic| matches!(topic, Topic::Repartition(_)) && existing(topic).is_some();
        counts.extend(topology.partition_counts.clone());
        let is_asked = |topic: &Topic| topology.partition_counts.contains_key(topic);
        // A repartition topic's count follows from its writers' inputs, which may be repartition topics too, or from what it is
        // joined with: two rounds a hop.
        for _ in 0..=2 * self.subs.len() {
            let mut found = counts.clone();
            for sub in &self.subs {
                let widest =
                    sources(topology, sub).filter_map(|topic| counts.get(topic)).max().copied();
                let written = sinks(topology, sub).filter(|t| matches!(t, Topic::Repartition(_)));
                for topic in written.filter(|topic| !is_asked(topic) && !is_kept(topic)) {
                    found.extend(widest.map(|count| (topic.clone(), count)));
                }
            }
            adopt(topology, &is_asked, &is_kept, &mut found);
            counts = found;
        }
        for topic in topics(topology).filter(|t| matches!(t, Topic::Repartition(_))) {
            if !counts.contains_key(topic) {
                return Err(TopologyError::NoPartitions { topic: topic.to_string() });
            }
        }
        check_copartitioned(topology, &counts)?;
        check_placements(topology, &counts)?;
        Ok(counts)
    }
}

/// Topics read by a sub-topology, in the order of its sources.
pub(crate) fn sources<'t>(
    topology: &'t Topology,
    sub: &'t SubTopology,
) -> impl Iterator<Item = &'t Topic> {
    sub.nodes.iter().filter_map(|node| match &topology.node(*node).kind {
        Kind::Source { topic, .. } => Some(topic),
        Kind::Processor { .. } | Kind::ChildPort { .. } | Kind::Sink { .. } => None,
    })
}

/// The repartition topics whose writers and readers all take the same rows as they are.
fn shared(topology: &Topology) -> BTreeSet<Topic> {
    let mut ends: BTreeMap<&Topic, BTreeSet<Option<TypeId>>> = BTreeMap::new();
    for node in &topology.nodes {
        if let Kind::Source { topic, shares, .. } | Kind::Sink { topic, shares, .. } = &node.kind {
            ends.entry(topic).or_default().insert(*shares);
        }
    }
    let shared = ends.into_iter().filter(|(topic, rows)| {
        matches!(topic, Topic::Repartition(_)) && rows.len() == 1 && !rows.contains(&None)
    });
    shared.map(|(topic, _)| topic.clone()).collect()
}

fn sinks<'t>(topology: &'t Topology, sub: &'t SubTopology) -> impl Iterator<Item = &'t Topic> {
    sub.nodes.iter().filter_map(|node| match &topology.node(*node).kind {
        Kind::Sink { topic, .. } => Some(topic),
        Kind::Processor { .. } | Kind::ChildPort { .. } | Kind::Source { .. } => None,
    })
}

fn topics(topology: &Topology) -> impl Iterator<Item = &Topic> {
    topology.nodes.iter().filter_map(|node| match &node.kind {
        Kind::Source { topic, .. } | Kind::Sink { topic, .. } => Some(topic),
        Kind::Processor { .. } | Kind::ChildPort { .. } => None,
    })
}

fn components(topology: &Topology) -> Vec<SubTopology> {
    let mut group: Vec<usize> = (0..topology.nodes.len()).collect();
    let join = |group: &mut Vec<usize>, a: usize, b: usize| {
        let (Some(&a), Some(&b)) = (group.get(a), group.get(b)) else { return };
        group.iter_mut().filter(|g| **g == a.max(b)).for_each(|g| *g = a.min(b));
    };
    let mut store_user: BTreeMap<usize, usize> = BTreeMap::new();
    for (index, node) in topology.nodes.iter().enumerate() {
        node.parents.iter().for_each(|parent| join(&mut group, parent.node, index));
        if let Kind::Processor { stores, .. } = &node.kind {
            for store in stores {
                join(&mut group, *store_user.entry(*store).or_insert(index), index);
            }
        }
    }
    let mut subs: BTreeMap<usize, SubTopology> = BTreeMap::new();
    for (index, of) in group.iter().enumerate() {
        let sub = subs.entry(*of).or_default();
        sub.nodes.push(index);
        if let Kind::Processor { stores, .. } = &topology.node(index).kind {
            sub.stores.extend(stores);
        }
    }
    let mut subs: Vec<SubTopology> = subs.into_values().collect();
    for sub in &mut subs {
        sub.stores.sort_unstable();
        sub.stores.dedup();
    }
    subs
}

fn set_levels(topology: &Topology, subs: &mut [SubTopology]) {
    let internal = |topic: &&Topic| matches!(topic, Topic::Repartition(_));
    let reads: Vec<BTreeSet<Topic>> =
        subs.iter().map(|sub| sources(topology, sub).filter(internal).cloned().collect()).collect();
    let writes: Vec<BTreeSet<Topic>> =
        subs.iter().map(|sub| sinks(topology, sub).filter(internal).cloned().collect()).collect();
    let feeds = |from: usize, to: usize| match (writes.get(from), reads.get(to)) {
        (Some(writes), Some(reads)) => !writes.is_disjoint(reads),
        (None, _) | (_, None) => false,
    };
    let count = subs.len();
    let reach = fed_by_hops(count, &feeds);
    for (index, sub) in subs.iter_mut().enumerate() {
        let fed = reach.get(index).into_iter().flatten();
        let comes_back: BTreeSet<&Topic> = fed.filter_map(|to| writes.get(*to)).flatten().collect();
        let read = reads.get(index).into_iter().flatten();
        sub.fed_back = read.filter(|topic| comes_back.contains(topic)).cloned().collect();
    }
    // Of those that feed each other, what is fed by a later one is not below it.
    let is_above = |from: usize, to: usize| {
        let is_fed_back = reach.get(to).is_some_and(|reach| reach.contains(&from));
        feeds(from, to) && (from < to || !is_fed_back)
    };
    for _ in 0..count {
        for index in 0..count {
            let above = subs.iter().enumerate().filter(|(from, _)| is_above(*from, index));
            let level = above.map(|(_, sub)| sub.level + 1).max().unwrap_or(0);
            match subs.get_mut(index) {
                Some(sub) => sub.level = level,
                None => broken("as many sub-topologies are counted as there are"),
            }
        }
    }
}

/// Whom each feeds, directly or through others.
fn fed_by_hops(count: usize, feeds: &impl Fn(usize, usize) -> bool) -> Vec<BTreeSet<usize>> {
    let fed = |from: usize| (0..count).filter(move |to| feeds(from, *to));
    let mut reach: Vec<BTreeSet<usize>> = (0..count).map(|from| fed(from).collect()).collect();
    for _ in 0..count {
        for all in &mut reach {
            let next: BTreeSet<usize> = all.iter().flat_map(|to| fed(*to)).collect();
            all.extend(next);
        }
    }
    reach
}

/// What a node or something below it touches.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Reach {
    nodes: BTreeSet<usize>,
    stores: BTreeSet<usize>,
    topics: BTreeSet<Topic>,
    /// Whether a sink chooses among topics, which may be any.
    chooses: bool,
}

impl Reach {
    /// What a node touches itself.
    fn of(topology: &Topology, index: usize) -> Self {
        let mut own = Self { nodes: BTreeSet::from([index]), ..Self::default() };
        let node = topology.node(index);
        match &node.kind {
            Kind::Processor { .. } if node.output.is_none() => own.chooses = true,
            Kind::Processor { stores, .. } => own.stores.extend(stores),
            Kind::Sink { topic, .. } => drop(own.topics.insert(topic.clone())),
            Kind::Source { .. } | Kind::ChildPort { .. } => {}
        }
        own
    }

    fn meets(&self, other: &Self) -> bool {
        !self.nodes.is_disjoint(&other.nodes)
            || !self.stores.is_disjoint(&other.stores)
            || !self.topics.is_disjoint(&other.topics)
            || (self.chooses && other.is_external())
            || (other.chooses && self.is_external())
    }

    /// Whether it reaches a topic of the user's.
    fn is_external(&self) -> bool {
        self.chooses || self.topics.iter().any(|topic| matches!(topic, Topic::External(_)))
    }

    fn add(&mut self, other: &Self) {
        self.nodes.extend(&other.nodes);
        self.stores.extend(&other.stores);
        self.topics.extend(other.topics.iter().cloned());
        self.chooses |= other.chooses;
    }
}

fn stepwise(topology: &Topology) -> BTreeSet<usize> {
    let mut reach: BTreeMap<usize, Reach> = BTreeMap::new();
    let mut stepwise = BTreeSet::new();
    // Children come after their parents, so that going backwards sees them first.
    for (index, node) in topology.nodes.iter().enumerate().rev() {
        let mut own = Reach::of(topology, index);
        let mut below = Reach::default();
        for child in node.children.iter().filter_map(|child| reach.get(child)) {
            if below.meets(child) || !own.stores.is_disjoint(&child.stores) {
                stepwise.insert(index);
            }
            below.add(child);
        }
        own.add(&below);
        reach.insert(index, own);
    }
    stepwise
}

/// Whether what lies below a node of `sub` is touched on another way too: by rows that do not come through the node, in a store
/// or on the way to a repartition topic. What several sinks write to a topic of the user's is in the order of commits.
pub(crate) fn meets_others(topology: &Topology, sub: &SubTopology, node: usize) -> bool {
    let (mut from_here, mut below, mut others) =
        (BTreeSet::from([node]), Reach::default(), Reach::default());
    // Parents come before children.
    for index in sub.nodes.iter().copied().filter(|index| *index != node) {
        let mut parents = topology.node(index).parents.iter().map(|parent| parent.node);
        if !parents.clone().any(|parent| from_here.contains(&parent)) {
            others.add(&Reach::of(topology, index));
        } else if parents.all(|parent| from_here.contains(&parent)) {
            from_here.insert(index);
            below.add(&Reach::of(topology, index));
        } else {
            return true;
        }
    }
    let mut shared = below.topics.intersection(&others.topics);
    !below.stores.is_disjoint(&others.stores)
        || shared.any(|topic| matches!(topic, Topic::Repartition(_)))
}

/// Whether it shows in nothing but their order when a node of `sub` forwards rows: below it lie only nodes that keep nothing and
/// ask for no time, each below one other, and sinks into topics of the user's that no other writes to.
pub(crate) fn ends_apart(topology: &Topology, sub: &SubTopology, node: usize) -> bool {
    let (mut below, mut others) = (Reach::of(topology, node), Reach::default());
    for index in sub.nodes.iter().copied().filter(|index| *index != node) {
        let (spec, own) = (topology.node(index), Reach::of(topology, index));
        if !spec.parents.iter().any(|parent| below.nodes.contains(&parent.node)) {
            others.add(&own);
            continue;
        }
        let is_plain = match &spec.kind {
            Kind::Processor { output_time, .. } => *output_time == OutputTime::Kept,
            Kind::Sink { topic, .. } => matches!(topic, Topic::External(_)),
            Kind::Source { .. } | Kind::ChildPort { .. } => false,
        };
        let keeps_any = own.chooses || !own.stores.is_empty();
        if !is_plain || keeps_any || spec.parents.len() > 1 || own.meets(&below) {
            return false;
        }
        below.add(&own);
    }
    !below.meets(&others)
}

/// Gives repartition topics as many partitions as what they are joined with: a topic of the user's, one of which a number was
/// asked, one that is there, or the widest.
fn adopt(
    topology: &Topology,
    is_asked: &impl Fn(&Topic) -> bool,
    is_kept: &impl Fn(&Topic) -> bool,
    counts: &mut BTreeMap<Topic, u32>,
) {
    for (index, _) in topology.nodes.iter().enumerate().filter(|(_, node)| node.copartitioned) {
        let above = topics_above(topology, index);
        let is_given = |topic: &&&Topic| matches!(topic, Topic::External(_)) || is_asked(topic);
        let given = above.iter().filter(is_given).filter_map(|topic| counts.get(*topic)).max();
        let kept = above.iter().filter(|topic| is_kept(topic));
        let kept = kept.filter_map(|topic| counts.get(*topic)).max();
        let widest = above.iter().filter_map(|topic| counts.get(*topic)).max();
        if let Some(count) = given.or(kept).or(widest).copied() {
            let free = above.iter().filter(|topic| !is_given(topic));
            counts.extend(free.map(|topic| ((*topic).clone(), count)));
        }
    }
}

/// The topics whose records reach a node, within its sub-topology.
pub(crate) fn topics_above(topology: &Topology, node: usize) -> BTreeSet<&Topic> {
    let (mut above, mut seen, mut open) = (BTreeSet::new(), BTreeSet::new(), vec![node]);
    while let Some(index) = open.pop() {
        if !seen.insert(index) {
            continue;
        }
        let spec = topology.node(index);
        open.extend(spec.parents.iter().map(|parent| parent.node));
        // What writes a store that the node reads, such as a joined table's, is above it too.
        open.extend((0..index).filter(|other| share_a_store(topology, *other, index)));
        if let Kind::Source { topic, .. } = &spec.kind {
            above.insert(topic);
        }
    }
    above
}

fn check_copartitioned(
    topology: &Topology,
    counts: &BTreeMap<Topic, u32>,
) -> Result<(), TopologyError> {
    for (index, node) in topology.nodes.iter().enumerate().filter(|(_, node)| node.copartitioned) {
        let above = topics_above(topology, index).into_iter();
        let above: BTreeMap<&Topic, u32> =
            above.filter_map(|topic| Some((topic, *counts.get(topic)?))).collect();
        if above.values().collect::<BTreeSet<_>>().len() > 1 {
            let counts: Vec<String> =
                above.iter().map(|(topic, count)| format!("{topic}: {count}")).collect();
            return Err(TopologyError::NotCopartitioned {
                node: node.name.to_string(),
                counts: counts.join(", "),
            });
        }
    }
    Ok(())
}

fn share_a_store(topology: &Topology, one: usize, other: usize) -> bool {
    let stores = |node: usize| match &topology.node(node).kind {
        Kind::Processor { stores, .. } => &**stores,
        Kind::Source { .. } | Kind::ChildPort { .. } | Kind::Sink { .. } => &[],
    };
    stores(one).iter().any(|store| stores(other).contains(store))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        processor::{Context, InitContext, ProcessorError, Record, Rows},
        store::StoreBuilder,
        topology::{Consumed, Port, Produced, RecordContext},
    };

    type Row = Record<String, i64>;

    fn add_node(topology: &mut Topology, name: &str, parents: &[&[&str]]) {
        let ports = parents.iter().map(|parents| Port::of::<Rows<String, i64>>(parents));
        let ports: Vec<_> = ports.collect();
        // No task is made of it.
        let make = |_: &mut InitContext<'_>| Err(ProcessorError::NullKey);
        topology.add_node::<Rows<String, i64>>(name, make, &ports).unwrap();
    }

    fn add_processor(topology: &mut Topology, name: &str, parent: &str) {
        let process = |row: Row, context: &mut Context<'_, String, i64>| {
            context.forward(row);
            Ok(())
        };
        topology.add_processor_fn(name, process, &[parent]).unwrap();
    }

    fn add_sink(topology: &mut Topology, name: &str, topic: &str, parent: &str) {
        topology.add_sink(name, topic, Produced::<String, i64>::default(), &[parent]).unwrap();
    }

    fn add_dynamic_sink(topology: &mut Topology, parent: &str) {
        let extractor = |_: &String, _: &i64, _: &RecordContext<'_>| "any";
        let produced = Produced::<String, i64>::default();
        topology.add_dynamic_sink("chooses", extractor, produced, &[parent]).unwrap();
    }

    fn add_store(topology: &mut Topology, name: &str, processors: &[&str]) {
        let make = |_, _| broken("no task is made of it");
        let store = StoreBuilder::new(name, String::new(), make);
        topology.add_state_store(store, processors).unwrap();
    }

    /// Whether the window ends apart in `in` → window → map → `out`, with what is drawn beside.
    fn is_apart(draw: impl FnOnce(&mut Topology)) -> bool {
        is_apart_above(|topology| {
            add_sink(topology, "out", "out", "map");
            draw(topology);
        })
    }

    /// The same above something else than `out`.
    fn is_apart_above(draw: impl FnOnce(&mut Topology)) -> bool {
        let mut topology = Topology::new();
        topology.add_source("in", "in", Consumed::<String, i64>::default()).unwrap();
        add_node(&mut topology, "window", &[&["in"]]);
        add_store(&mut topology, "windows", &["window"]);
        add_node(&mut topology, "map", &[&["window"]]);
        draw(&mut topology);
        let window = topology.index_of("window").unwrap();
        let plan = Plan::of(&topology);
        let sub = plan.subs.iter().find(|sub| sub.nodes.contains(&window)).unwrap();
        ends_apart(&topology, sub, window)
    }

    #[test]
    fn what_ends_in_sinks_of_its_own_ends_apart() {
        assert!(is_apart(|_| {}));
        assert!(is_apart(|topology| add_sink(topology, "second", "other", "window")));
        assert!(is_apart(|topology| add_sink(topology, "raw", "copy", "in")));
        assert!(is_apart(|topology| add_processor(topology, "beside", "in")));
    }

    #[test]
    fn what_others_meet_or_what_keeps_anything_does_not() {
        assert!(!is_apart(|topology| add_processor(topology, "process", "map")), "a processor");
        assert!(!is_apart(|topology| add_sink(topology, "second", "out", "window")), "one topic");
        assert!(!is_apart(|topology| add_sink(topology, "raw", "out", "in")), "another writer");
        let join = |topology: &mut Topology| add_node(topology, "join", &[&["map"], &["in"]]);
        assert!(!is_apart(join), "a join with what lies elsewhere");
        let merge = |topology: &mut Topology| add_node(topology, "merge", &[&["map", "window"]]);
        assert!(!is_apart(merge), "two ways to one node");
        let repartition = |topology: &mut Topology| {
            let produced = Produced::<String, i64>::default();
            topology.add_repartition_sink("to", "by-key", produced, &["map"]).map(drop).unwrap();
        };
        assert!(!is_apart(repartition), "a repartition topic");
        assert!(!is_apart_above(|topology| add_dynamic_sink(topology, "map")), "any topic");
        assert!(!is_apart(|topology| add_dynamic_sink(topology, "in")), "so may this one");
        assert!(!is_apart(|topology| add_store(topology, "table", &["map"])), "a store");
        let reader = |topology: &mut Topology| {
            add_node(topology, "reader", &[&["in"]]);
            topology.connect_processor_and_state_stores("reader", &["windows"]).unwrap();
        };
        assert!(!is_apart(reader), "a reader of its store");
        let port = |topology: &mut Topology| {
            topology.add_child_port::<String, i64>("late", "window").map(drop).unwrap();
        };
        assert!(!is_apart(port), "a child port");
    }
}

//! The nodes that read topics.
//!
//! A topic is read once, so that it has one position: whoever reads it alike has the same source. A table needs to see nulls, which a
//! stream may not: where both read a topic, the table's source reads it, and a node below makes of its rows those of the stream,
//! whichever of the two was drawn first.

use super::{Graph, LogicalPlan, Lower, Lowered, Node, NodeId, OperatorKind, Step};
use crate::operator::ValuesOfTable;
use headwater_core::serde::{Data, SharedSerde};
use headwater_engine::{
    processor::{InitContext, Rows},
    topology::{Consumed, Topology},
};
use std::any::TypeId;

/// What a source reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Topics {
    /// The topic called so.
    One(String),
    /// Each topic whose name matches.
    Matching(String),
}

impl Topics {
    /// What nodes below are called after: of a pattern, what a topic's name may hold.
    fn home(&self) -> String {
        let may_be = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        match self {
            Self::One(topic) => topic.clone(),
            Self::Matching(pattern) => {
                pattern.chars().map(|letter| if may_be(letter) { letter } else { '_' }).collect()
            }
        }
    }
}

/// What a source forwards, and how it reads that.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reading {
    topics: Topics,
    rows: TypeId,
    reads: String,
}

impl Reading {
    /// None of one that may differ from any other.
    fn of<K: Data, V: Data>(topics: &Topics, consumed: &Consumed<K, V>) -> Option<Self> {
        let (topics, rows) = (topics.clone(), TypeId::of::<(K, V)>());
        consumed.reads().map(|reads| Self { topics, rows, reads })
    }
}

/// A node whose rows whoever reads alike shares: a source, or what makes rows of a table's source those of a stream.
pub(super) struct Shared {
    reading: Reading,
    node: NodeId,
    /// How a stream reads what this reads for a table.
    of_stream: Option<Reading>,
}

impl Graph {
    fn shared(&self, reading: Option<&Reading>) -> Option<&Shared> {
        self.sources.iter().find(|shared| Some(&shared.reading) == reading)
    }

    fn is_source(&self, node: NodeId) -> bool {
        self.nodes.get(node.0).is_some_and(|node| node.step.kind == OperatorKind::Source)
    }

    /// Has a stream's source become `lower`, which makes its rows of those of `source`: a node that was drawn after it and is
    /// built before it. A name that was given stays with whom it was given to; the source has the counted one that was the
    /// stream's.
    fn put_below(&mut self, stream: NodeId, source: NodeId, lower: Box<Lower>) {
        let home = self.home(&[stream]);
        let name = self.counted(OperatorKind::ValuesOfTable.prefix(), &home);
        let Some(node) = self.nodes.get_mut(stream.0) else { return };
        let step = Step::new(OperatorKind::ValuesOfTable, name, home, &[source]);
        let before = std::mem::replace(node, Node { step, lower });
        if before.step.is_named {
            (node.step.name, node.step.is_named) = (before.step.name, true);
        } else if let Some(Node { step, .. }) = self.nodes.get_mut(source.0)
            && !step.is_named
        {
            step.name = before.step.name;
        }
        let bounds = self.bounds.iter_mut().filter(|(bound, _)| *bound == stream);
        bounds.for_each(|(bound, _)| *bound = source);
        self.built_first.push(source);
    }
}

impl LogicalPlan {
    /// The node that reads `topics` so, made at the first call.
    pub(crate) fn source<K: Data, V: Data>(
        &self,
        topics: Topics,
        consumed: Consumed<K, V>,
    ) -> NodeId {
        let reading = Reading::of(&topics, &consumed);
        if let Some(shared) = self.0.borrow().shared(reading.as_ref()) {
            return shared.node;
        }
        let of_table = |shared: &&Shared| reading.is_some() && shared.of_stream == reading;
        let table = self.0.borrow().sources.iter().find(of_table).map(|shared| shared.node);
        let node = match table {
            Some(table) => {
                let step = self.step(OperatorKind::ValuesOfTable, &[table]);
                self.0.borrow_mut().add(step, values_of_table::<K, V>(&consumed))
            }
            None => self.new_source(topics, consumed),
        };
        self.share(reading, node, None);
        node
    }

    /// The node that reads `topics` so, nulls included, for a table; a stream that reads them alike is made of its rows.
    pub(crate) fn source_of_table<K: Data, V: Data>(
        &self,
        topics: &Topics,
        consumed: &Consumed<K, V>,
    ) -> NodeId {
        let of_stream = Reading::of(topics, consumed);
        let nullable = consumed.clone().nullable();
        let reading = Reading::of(topics, &nullable);
        let known = self.0.borrow().shared(reading.as_ref()).map(|shared| shared.node);
        let node = known.unwrap_or_else(|| self.new_source(topics.clone(), nullable));
        let mut graph = self.0.borrow_mut();
        let stream = graph.shared(of_stream.as_ref()).map(|shared| shared.node);
        if let Some(stream) = stream.filter(|stream| graph.is_source(*stream)) {
            graph.put_below(stream, node, values_of_table::<K, V>(consumed));
        }
        graph.sources.retain(|shared| shared.node != node);
        drop(graph);
        self.share(reading, node, of_stream);
        node
    }

    fn share(&self, reading: Option<Reading>, node: NodeId, of_stream: Option<Reading>) {
        let shared = reading.map(|reading| Shared { reading, node, of_stream });
        self.0.borrow_mut().sources.extend(shared);
    }

    fn new_source<K: Data, V: Data>(&self, topics: Topics, consumed: Consumed<K, V>) -> NodeId {
        let mut graph = self.0.borrow_mut();
        let home = topics.home();
        let name = graph.counted(OperatorKind::Source.prefix(), &home);
        let step = Step::new(OperatorKind::Source, name, home.into(), &[]);
        let lower = move |topology: &mut Topology, Lowered { name, .. }: Lowered<'_>| {
            let consumed = consumed.clone();
            match &topics {
                Topics::One(topic) => topology.add_source(name, topic, consumed).map(drop),
                Topics::Matching(pattern) => {
                    topology.add_pattern_source(name, pattern, consumed).map(drop)
                }
            }
        };
        graph.add(step, Box::new(lower))
    }
}

/// Adds the node that makes the rows of a stream of those of a table's source.
fn values_of_table<K: Data, V: Data>(consumed: &Consumed<K, V>) -> Box<Lower> {
    let values = SharedSerde::clone(&consumed.value);
    Box::new(move |topology: &mut Topology, Lowered { name, parents, .. }: Lowered<'_>| {
        let values = SharedSerde::clone(&values);
        let make = move |_: &mut InitContext<'_>| Ok(ValuesOfTable::new(&values));
        topology.add_operator::<Rows<K, Option<V>>, _>(name, make, &[parents]).map(drop)
    })
}

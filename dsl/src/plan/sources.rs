//! The nodes that read topics.

use super::{LogicalPlan, Lowered, NodeId, OperatorKind, Step};
use headwater_core::serde::Data;
use headwater_engine::topology::{Consumed, Topology};
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

/// A source that a stream was made of, so that the same one twice is one node.
pub(super) struct SharedSource {
    topics: Topics,
    rows: TypeId,
    node: NodeId,
}

impl LogicalPlan {
    pub(crate) fn source<K: Data, V: Data>(
        &self,
        topics: Topics,
        consumed: Consumed<K, V>,
    ) -> NodeId {
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

    /// The node that reads `topics` as `K` and `V` by their default serdes, made at the first call.
    pub(crate) fn shared_source<K: Data, V: Data>(
        &self,
        topics: Topics,
        consumed: Consumed<K, V>,
    ) -> NodeId {
        let rows = TypeId::of::<(K, V)>();
        let is_same = |it: &&SharedSource| it.topics == topics && it.rows == rows;
        let known = self.0.borrow().sources.iter().find(is_same).map(|it| it.node);
        known.unwrap_or_else(|| {
            let node = self.source(topics.clone(), consumed);
            self.0.borrow_mut().sources.push(SharedSource { topics, rows, node });
            node
        })
    }
}

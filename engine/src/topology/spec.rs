//! What a topology holds of a node: its kind, with the means to make a task's own copy, and what it is tied to.

use super::{Decoder, Encoder, MaxAhead, Placement, SinkForm};
use crate::node::{MakeNode, OutputTime, Payload};
use headwater_core::record::TopicName;
use std::{any::TypeId, fmt, sync::Arc};

/// A topic as a topology names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// A topic of the user's.
    External(TopicName),
    /// A repartition topic between two sub-topologies: `<application.id>-<name>-repartition`.
    Repartition(TopicName),
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::External(name) => write!(f, "{name}"),
            Self::Repartition(name) => write!(f, "{name}-repartition"),
        }
    }
}

/// What a node is, with the means to make a task's own copy of it.
#[derive(Clone)]
pub(crate) enum Kind {
    Source {
        topic: Topic,
        make: Arc<dyn Fn() -> Box<dyn Decoder> + Send + Sync>,
        /// The rows that it takes as they are, if it can.
        shares: Option<TypeId>,
        /// How far ahead its records may be.
        max_ahead: Option<MaxAhead>,
        /// What its records are said to be placed by.
        placement: Option<Placement>,
        /// The form of that of its records' keys which they are placed by, if they have keys.
        keys: Option<String>,
    },
    Processor {
        make: Arc<MakeNode>,
        /// The name of its type.
        what: &'static str,
        stores: Vec<usize>,
        output_time: OutputTime,
    },
    /// Hands on what a processor forwards to it beside its own output.
    ChildPort { output_time: OutputTime },
    Sink {
        topic: Topic,
        make: Arc<dyn Fn(SinkForm) -> Box<dyn Encoder> + Send + Sync>,
        /// The rows that it hands on as they are, if it can.
        shares: Option<TypeId>,
        /// The form of its records.
        form: String,
        placement: Placement,
        /// Whether a partitioner of its own places them, which may do so by another key than they are written with.
        is_own: bool,
    },
}

/// A parent of a node, and the port that its rows arrive at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parent {
    pub(crate) node: usize,
    pub(crate) port: usize,
}

#[derive(Clone)]
pub(crate) struct NodeSpec {
    pub(crate) name: Arc<str>,
    pub(crate) kind: Kind,
    pub(crate) parents: Vec<Parent>,
    pub(crate) children: Vec<usize>,
    pub(crate) output: Option<TypeId>,
    pub(crate) copartitioned: bool,
    /// What tells it from others of its type.
    pub(crate) settings: String,
}

/// A port of a node: the payload that it takes, and the nodes that it takes it from.
#[derive(Debug, Clone, Copy)]
pub struct Port<'a> {
    pub(super) payload: TypeId,
    pub(super) parents: &'a [&'a str],
}

impl<'a> Port<'a> {
    /// A port for payloads of type `P` that `parents` forward.
    #[must_use]
    pub fn of<P: Payload>(parents: &'a [&'a str]) -> Self {
        Self { payload: TypeId::of::<P>(), parents }
    }
}

//! A table's node, and the port that takes its updates.

use super::Change;
use crate::plan::NodeId;
use headwater_core::serde::Data;
use headwater_engine::{processor::Rows, topology::Port};

/// A node that forwards the updates of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TableNode {
    pub(crate) node: NodeId,
    /// The port of a child that takes them, given the node's name.
    pub(crate) port: for<'a> fn(&'a [&'a str]) -> Port<'a>,
}

impl TableNode {
    /// The node of a table of these types.
    pub(crate) fn of<K: Data, V: Data>(node: NodeId) -> Self {
        Self { node, port: |parents| Port::of::<Rows<K, Change<V>>>(parents) }
    }

    /// All of `left`, then those of `right` that are not among them.
    pub(crate) fn union(left: &[Self], right: &[Self]) -> Vec<Self> {
        let mut all = left.to_vec();
        all.extend(right.iter().filter(|node| !is_among(left, **node)));
        all
    }
}

fn is_among(nodes: &[TableNode], node: TableNode) -> bool {
    nodes.iter().any(|other| other.node == node.node)
}

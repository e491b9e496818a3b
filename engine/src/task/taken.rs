//! The run that was taken last, until all that it makes due has been done.

use super::{InputIndex, letters::Origin};
use crate::node::RunRecords;

/// A run that went through the graph.
pub(super) struct TakenRun {
    pub(super) input: InputIndex,
    pub(super) source: RunRecords,
    /// Whether nodes have been told the time after it.
    pub(super) is_told: bool,
    /// How many nodes, in the graph's order, have done what it makes due.
    pub(super) fired_to: usize,
}

impl TakenRun {
    pub(super) fn new(input: InputIndex, source: RunRecords) -> Self {
        Self { input, source, is_told: false, fired_to: 0 }
    }

    pub(super) fn origin(&self) -> Origin<'_> {
        Origin { input: self.input, source: &self.source }
    }
}

//! What nodes have left to forward: a chunk at a time, the deepest first.

use super::{super::stepping::CHUNK_ROWS_MAX, Graph, Handled};
use crate::{
    node::{Event, Moment, NodeIndex, Progress, Resources},
    processor::ProcessorError,
};

impl Graph {
    /// Whether any node has something left that it may forward now.
    pub(in crate::task) fn is_pending(&self) -> bool {
        self.deepest_pending().is_some()
    }

    /// The node that forwards next of what is left. Those above one that waits for calls wait with it: their rows come after
    /// what it holds.
    fn deepest_pending(&self) -> Option<NodeIndex> {
        let mut deepest_first = self.slots.iter().rev();
        let (node, slot) = deepest_first.find(|(_, slot)| slot.progress != Progress::Done)?;
        (slot.progress == Progress::More).then_some(node)
    }

    /// Has nodes forward a chunk of what is left, of at most about `rows_max` rows, the deepest first, so that none is
    /// handed rows while it has some left. Gives how many rows that were.
    pub(in crate::task) fn resume(
        &mut self,
        rows_max: usize,
        resources: &mut Resources,
        moment: Moment<'_>,
    ) -> Result<u64, ProcessorError> {
        let (mut left, mut forwarded) = (rows_max.min(CHUNK_ROWS_MAX), 0);
        let chunk_rows_max = self.chunk_rows_max();
        while left > 0
            && let Some(node) = self.deepest_pending()
        {
            let rows_max = left.min(chunk_rows_max);
            let Handled { rows, .. } =
                self.handle(node, Event::Resume(rows_max), resources, moment)?;
            self.pass_time(node, resources, moment)?;
            forwarded += rows as u64;
            left = left.saturating_sub(rows.max(1));
        }
        Ok(forwarded)
    }

    /// Has nodes below `node` forward all that they have left of a row, before the next one of its record comes: no commit falls
    /// between the two.
    pub(super) fn forward_below(
        &mut self,
        node: NodeIndex,
        resources: &mut Resources,
        moment: Moment<'_>,
    ) -> Result<(), ProcessorError> {
        while let Some(pending) = self.deepest_pending().filter(|pending| *pending > node) {
            // It follows from what was taken, and is no row of those on their way.
            let takes_run = std::mem::take(&mut self.takes_run);
            let forwarding = std::mem::take(&mut resources.forwarding);
            let rows_max = self.chunk_rows_max();
            self.handle(pending, Event::Resume(rows_max), resources, moment)?;
            self.pass_time(pending, resources, moment)?;
            (self.takes_run, resources.forwarding) = (takes_run, forwarding);
        }
        Ok(())
    }

    /// How many rows a node forwards at a time of what it has left.
    fn chunk_rows_max(&self) -> usize {
        if self.counts_calls() { 1 } else { self.stepping.chunk_rows_max }
    }
}

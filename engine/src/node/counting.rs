//! What a task's nodes count, and the batches that are timed.

use super::{NodeIndex, Payload, Resources};
use headwater_core::metrics::{TIMED_ONE_IN, Timed};
use std::time::Duration;

/// A batch that is timed: how many rows it has, and when it began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Started {
    pub(crate) rows: u64,
    pub(crate) at: Duration,
}

impl Resources {
    /// Counts a batch that a node takes, and reads the clock if it is to be timed.
    pub(crate) fn begin_batch(&mut self, node: NodeIndex, rows: usize) -> Option<Started> {
        let metrics = &mut self.metrics[node];
        let is_timed = metrics.batches.is_multiple_of(TIMED_ONE_IN);
        metrics.batches += 1;
        metrics.records += rows as u64;
        is_timed.then(|| Started { rows: rows as u64, at: self.clock.elapsed() })
    }

    /// Notes how old rows are that come in at a source, or go no further than this node.
    pub(crate) fn note_ages(&mut self, node: NodeIndex, rows: &dyn Payload) {
        self.ages[node] += rows.ages(self.clock.now());
    }

    /// Reads the clock if the batch that a source decodes next is to be timed.
    pub(crate) fn begin_decoding(&mut self, node: NodeIndex) -> Option<Duration> {
        let is_timed = self.metrics[node].batches.is_multiple_of(TIMED_ONE_IN);
        is_timed.then(|| self.clock.elapsed())
    }

    /// The node is done with a batch.
    pub(crate) fn end_batch(&mut self, node: NodeIndex, started: Option<Started>) {
        if let Some(Started { rows, at }) = started {
            let time = self.clock.elapsed().saturating_sub(at);
            self.metrics[node].timed += Timed { batches: 1, records: rows, time };
        }
    }
}

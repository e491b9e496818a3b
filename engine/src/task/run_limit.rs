//! How far a run of an input's rows may go.

use super::{Task, input::InputIndex};
use crate::{node::RunLimit, processor::ProcessorError};
use headwater_core::record::Timestamp;

impl Task {
    /// How far a run of rows of `first` may go: up to the head of a rival.
    pub(super) fn limit(
        &mut self,
        first: InputIndex,
        rival: Option<(Timestamp, InputIndex)>,
    ) -> Result<RunLimit, ProcessorError> {
        let timestamp_max = match rival {
            None => Timestamp::MAX,
            // At equal timestamps the earlier source goes first.
            Some((timestamp, rival)) if first < rival => timestamp,
            Some((timestamp, _)) => timestamp.saturating_sub(1),
        };
        let graph = &self.graph;
        let is_carried = self.inputs[first].vector.is_some();
        let rows_max = if is_carried { graph.carried_rows_max() } else { graph.rows_max() };
        let rows_max = rows_max.min(self.run_pace.rows_max());
        let limit = self.inputs[first].narrow(RunLimit { timestamp_max, rows_max }, self.now);
        self.before_crowds(first, limit)
    }

    /// Has a run end before a row that makes more timers due than fire at a time.
    ///
    /// Such a row is a run by itself, so that these may fire one chunk after the other before the next row is taken.
    fn before_crowds(
        &mut self,
        first: InputIndex,
        limit: RunLimit,
    ) -> Result<RunLimit, ProcessorError> {
        let Some(head) = self.inputs[first].head().filter(|_| self.graph.has_timers) else {
            return Ok(limit);
        };
        let mut first = None;
        for store in &mut self.resources.stores {
            first = first.into_iter().chain(store.crowded_from(head)?).min();
        }
        Ok(match first {
            None => limit,
            Some(from) if head >= from => RunLimit { rows_max: 1, ..limit },
            Some(from) => RunLimit { timestamp_max: limit.timestamp_max.min(from - 1), ..limit },
        })
    }
}

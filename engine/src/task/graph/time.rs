//! How time goes through a task's graph.
//!
//! # Operator time
//!
//! Every edge carries rows, each with the operator time before it, and then the time that holds after them. A node's
//! time is the minimum over its parents; it passes on that time, or less where it holds rows back. One-minute windows
//! with a minute of grace above one-hour windows, below a repartition:
//!
//! | what happens | minutes: time, passed on | hours: time |
//! |---|---|---|
//! | rows up to 10:58:30, time moves to 10:58:30 | 10:58:30, 10:57 (may still be open) | 10:57 |
//! | a row of 10:57:10, late but within the grace | 10:58:30, 10:57 | 10:57: its hour is open |
//! | time moves to 11:01:05 | 11:01:05; closes 10:57 … 10:59; passes on 11:00 | takes them, then closes 10:00 |

use super::{Action, Edge, Graph};
use crate::{
    node::{Event, Moment, NodeIndex, OutputTime, Resources},
    processor::ProcessorError,
    topology::Topic,
};
use headwater_core::record::Timestamp;

impl Graph {
    /// Tells a source that the time of its input stands at `time`.
    pub(in crate::task) fn advance(
        &mut self,
        source: NodeIndex,
        time: Timestamp,
        resources: &mut Resources,
        moment: Moment<'_>,
    ) -> Result<(), ProcessorError> {
        self.advance_from(Edge { child: source, parent: 0, port: 0 }, time, resources, moment)
    }

    /// A parent of a slot has passed `time` on.
    fn advance_from(
        &mut self,
        Edge { child: node, parent, .. }: Edge,
        time: Timestamp,
        resources: &mut Resources,
        moment: Moment<'_>,
    ) -> Result<(), ProcessorError> {
        let slot = &mut self.slots[node];
        let known = slot.time_of(parent);
        *known = time.max(*known);
        let time = slot.parent_times.iter().min().copied().unwrap_or(time);
        if time <= slot.time {
            return Ok(());
        }
        slot.time = time;
        if slot.is_told_time() {
            self.handle_all(node, Event::Advance(time), resources, moment)?;
        }
        self.pass_time(node, resources, moment)
    }

    /// Passes on what a node makes of the time of its input.
    pub(super) fn pass_time(
        &mut self,
        node: NodeIndex,
        resources: &mut Resources,
        moment: Moment<'_>,
    ) -> Result<(), ProcessorError> {
        let slot = &mut self.slots[node];
        let time = match &slot.action {
            Action::Process(processor, OutputTime::Kept) => processor.pass_time(slot.time),
            Action::Process(_, OutputTime::Anew) | Action::Port(OutputTime::Anew) => return Ok(()),
            Action::Port(OutputTime::Kept) | Action::Source | Action::Write(..) => slot.time,
        };
        self.advance_children(node, time, resources, moment)
    }

    /// Advances a node's children to `time`, if it has moved.
    pub(super) fn advance_children(
        &mut self,
        node: NodeIndex,
        time: Timestamp,
        resources: &mut Resources,
        moment: Moment<'_>,
    ) -> Result<(), ProcessorError> {
        if !self.keeps_time || time <= self.slots[node].passed_time {
            return Ok(());
        }
        let slot = &mut self.slots[node];
        slot.passed_time = time;
        for edge in slot.children.clone().into_iter().chain(slot.ports.clone()) {
            self.advance_from(edge, time, resources, moment)?;
        }
        Ok(())
    }

    /// Takes all times up again as they were at a commit: what `sources` stand at, and what nodes loaded.
    pub(in crate::task) fn restore_times(&mut self, sources: &[(NodeIndex, Timestamp)]) {
        if !self.keeps_time {
            return;
        }
        for (source, time) in sources {
            self.slots[*source].parent_times.fill(*time);
        }
        // Parents come before children.
        for node in self.slots.indexes() {
            let slot = &mut self.slots[node];
            slot.time = slot.parent_times.iter().min().copied().unwrap_or(slot.time);
            let passed = match &slot.action {
                // It was loaded.
                Action::Process(_, OutputTime::Anew) | Action::Port(OutputTime::Anew) => {
                    slot.passed_time
                }
                Action::Process(processor, OutputTime::Kept) => processor.pass_time(slot.time),
                Action::Port(OutputTime::Kept) | Action::Source | Action::Write(..) => slot.time,
            };
            slot.passed_time = passed;
            for Edge { child, parent, .. } in
                slot.children.clone().into_iter().chain(slot.ports.clone())
            {
                *self.slots[child].time_of(parent) = passed;
            }
        }
    }

    /// The least time that the other parents of a node have passed on when a row comes from `parent`. They were told
    /// where their sources stand with the last step; rows of the run at hand that lie before this one have moved that since.
    pub(super) fn time_of_others(
        &self,
        node: NodeIndex,
        parent: usize,
        origin: u32,
        moment: Moment<'_>,
    ) -> Timestamp {
        let slot = &self.slots[node];
        let run = moment.source.filter(|_| self.takes_run && slot.caps_by_row);
        let source_time = run.and_then(|run| run.source_time_before(origin));
        let others = slot.parent_nodes.iter().zip(&slot.parent_times).enumerate();
        let others = others.filter(|(other, _)| *other != parent);
        let time_of = |(_, (other, told)): (usize, (&NodeIndex, &Timestamp))| match source_time {
            Some(source_time) => self.passed_at(*other, source_time),
            None => *told,
        };
        others.map(time_of).min().unwrap_or(Timestamp::MAX)
    }

    /// What a node will have passed on once its external sources are told this time, no rows having come to it.
    fn passed_at(&self, node: NodeIndex, source_time: Timestamp) -> Timestamp {
        let slot = &self.slots[node];
        let parents = slot.parent_nodes.iter().map(|parent| self.passed_at(*parent, source_time));
        let told = match &slot.topic {
            Some(Topic::External(_)) => source_time,
            Some(Topic::Repartition(_)) | None => parents.min().unwrap_or(slot.time),
        };
        let time = told.max(slot.time);
        let passed = match &slot.action {
            Action::Process(processor, OutputTime::Kept) => processor.pass_time(time),
            Action::Process(_, OutputTime::Anew) | Action::Port(OutputTime::Anew) => {
                slot.passed_time
            }
            Action::Port(OutputTime::Kept) | Action::Source | Action::Write(..) => time,
        };
        passed.max(slot.passed_time)
    }
}

//! A task's own copy of its sub-topology, and how payloads and time go through it: depth first, batch by batch, or record
//! by record where the plan says so.
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

use crate::{
    processor::{
        Call, Context, Event, Moment, Node, Output, OutputTime, Payload, ProcessorError, Resources,
    },
    topology::{Encoder, SinkRecords, Topic},
};
use headwater_core::record::Timestamp;
use std::sync::Arc;

/// What a slot of the graph does with a payload.
pub(super) enum Action {
    /// Hands it on as it is: a source.
    Pass,
    /// Runs a processor.
    Process(Box<dyn Node>, OutputTime),
    /// Writes it.
    Write(Box<dyn Encoder>, SinkRecords),
}

/// An edge to a child: which slot, which of that slot's parents the edge comes from, and at which port it arrives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    pub(super) child: usize,
    pub(super) parent: usize,
    pub(super) port: usize,
}

pub(super) struct Slot {
    pub(super) name: Arc<str>,
    pub(super) action: Action,
    pub(super) topic: Option<Topic>,
    pub(super) children: Vec<Edge>,
    pub(super) stepwise: bool,
    /// Whether it lies below repartition topics alone, with no timestamps made up on the way: it then lives by the time
    /// that they carry.
    pub(super) is_time_carried: bool,
    /// Whether its parents may differ in time, so that a row of one is judged by the least of the others too.
    pub(super) caps_time: bool,
    /// What each of its parents passed on last; for a source, what the task told it.
    pub(super) parent_times: Vec<Timestamp>,
    /// The minimum of these: the operator time of what it has taken.
    pub(super) time: Timestamp,
    /// What it passed on last.
    pub(super) passed_time: Timestamp,
}

impl Slot {
    /// Whether it runs code of the user's.
    fn is_processor(&self) -> bool {
        matches!(self.action, Action::Process(_, OutputTime::Anew))
    }

    fn has_timers(&self) -> bool {
        matches!(&self.action, Action::Process(node, _) if node.has_timers())
    }
}

/// A sub-topology with its processors made.
pub(super) struct Graph {
    pub(super) slots: Vec<Slot>,
    /// Whether any node looks at operator time: one below a repartition, or a sink into one.
    pub(super) keeps_time: bool,
    /// Whether any node runs code of the user's, which may ask for the stream time at each record.
    pub(super) has_processors: bool,
}

impl Graph {
    pub(super) fn new(slots: Vec<Slot>) -> Self {
        let keeps_time = slots
            .iter()
            .any(|slot| slot.is_time_carried || matches!(slot.topic, Some(Topic::Repartition(_))));
        let has_processors = slots.iter().any(Slot::is_processor);
        Self { slots, keeps_time, has_processors }
    }

    /// Whether rows must be taken one a step, so that all nodes learn of time after each: where the order between what
    /// time makes a node forward and the rows of others shows (`carried` tells whether rows bring time), where rows of one
    /// path are judged by the time of another, or where timers live by time that rows bring.
    pub(super) fn takes_single_rows(&self, carried: bool) -> bool {
        let any = |wanted: fn(&Slot) -> bool| self.slots.iter().any(wanted);
        ((carried || self.has_processors) && any(|slot| slot.stepwise))
            || (self.keeps_time && any(|slot| slot.caps_time))
            || any(|slot| slot.is_time_carried && slot.has_timers())
    }

    /// Hands a source's batch to what lies below it.
    pub(super) fn push(
        &mut self,
        source: usize,
        payload: Box<dyn Payload>,
        resources: &mut Resources,
        moment: Moment<'_>,
    ) -> Result<(), ProcessorError> {
        self.emit(source, Output { payload, routes: None }, resources, moment)
    }

    /// Lets a node handle an event other than a batch.
    pub(super) fn raise(
        &mut self,
        node: usize,
        event: Event,
        resources: &mut Resources,
        moment: Moment<'_>,
    ) -> Result<(), ProcessorError> {
        self.handle(node, event, resources, moment)?;
        self.pass_time(node, resources, moment)
    }

    fn handle(
        &mut self,
        node: usize,
        event: Event,
        resources: &mut Resources,
        moment: Moment<'_>,
    ) -> Result<(), ProcessorError> {
        let Some(slot) = self.slots.get_mut(node) else { return Ok(()) };
        let (operator_time, passed_time) = (slot.time, slot.passed_time);
        let Action::Process(processor, output_time) = &mut slot.action else { return Ok(()) };
        let call = Call { node, moment, operator_time, passed_time };
        let Some(mut output) = processor.handle(event, resources, call)? else { return Ok(()) };
        if *output_time == OutputTime::Kept {
            return self.emit(node, output, resources, moment);
        }
        // Time begins anew: only what the node forwards moves it.
        let time = output.payload.begin_time(passed_time);
        self.emit(node, output, resources, moment)?;
        self.pass(node, time, resources, moment)
    }

    /// Has users' processors do what the run just taken makes due.
    pub(super) fn fire_due(
        &mut self,
        resources: &mut Resources,
        moment: Moment<'_>,
    ) -> Result<(), ProcessorError> {
        for node in 0..self.slots.len() {
            if self.slots.get(node).is_some_and(Slot::is_processor) {
                self.raise(node, Event::Due, resources, moment)?;
            }
        }
        Ok(())
    }

    /// Tells a source that the time of its input stands at `time`.
    pub(super) fn advance(
        &mut self,
        source: usize,
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
        let Some(slot) = self.slots.get_mut(node) else { return Ok(()) };
        if let Some(known) = slot.parent_times.get_mut(parent) {
            *known = time.max(*known);
        }
        let time = slot.parent_times.iter().min().copied().unwrap_or(time);
        if time <= slot.time {
            return Ok(());
        }
        slot.time = time;
        if slot.is_time_carried {
            self.handle(node, Event::Advance(time), resources, moment)?;
        }
        self.pass_time(node, resources, moment)
    }

    /// Passes on what a node makes of the time of its input.
    fn pass_time(
        &mut self,
        node: usize,
        resources: &mut Resources,
        moment: Moment<'_>,
    ) -> Result<(), ProcessorError> {
        let Some(slot) = self.slots.get(node) else { return Ok(()) };
        let time = match &slot.action {
            Action::Process(processor, OutputTime::Kept) => processor.pass_time(slot.time),
            Action::Process(_, OutputTime::Anew) => return Ok(()),
            Action::Pass | Action::Write(..) => slot.time,
        };
        self.pass(node, time, resources, moment)
    }

    /// Passes `time` on to a node's children, if it has moved.
    fn pass(
        &mut self,
        node: usize,
        time: Timestamp,
        resources: &mut Resources,
        moment: Moment<'_>,
    ) -> Result<(), ProcessorError> {
        let Some(slot) = self.slots.get_mut(node).filter(|_| self.keeps_time) else {
            return Ok(());
        };
        if time <= slot.passed_time {
            return Ok(());
        }
        slot.passed_time = time;
        for edge in slot.children.clone() {
            self.advance_from(edge, time, resources, moment)?;
        }
        Ok(())
    }

    /// Takes all times up again as they were at a commit: what `sources` stand at, and what nodes loaded.
    pub(super) fn restore_times(&mut self, sources: &[(usize, Timestamp)]) {
        for (source, time) in sources {
            if let Some(slot) = self.slots.get_mut(*source) {
                slot.parent_times.fill(*time);
            }
        }
        // Parents come before children.
        for node in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(node) else { continue };
            slot.time = slot.parent_times.iter().min().copied().unwrap_or(slot.time);
            let passed = match &slot.action {
                // It was loaded.
                Action::Process(_, OutputTime::Anew) => slot.passed_time,
                Action::Process(processor, OutputTime::Kept) => processor.pass_time(slot.time),
                Action::Pass | Action::Write(..) => slot.time,
            };
            slot.passed_time = passed;
            for Edge { child, parent, .. } in slot.children.clone() {
                let child = self.slots.get_mut(child);
                if let Some(known) = child.and_then(|child| child.parent_times.get_mut(parent)) {
                    *known = passed;
                }
            }
        }
    }

    fn deliver(
        &mut self,
        Edge { child: node, parent, port }: Edge,
        mut payload: Box<dyn Payload>,
        resources: &mut Resources,
        moment: Moment<'_>,
    ) -> Result<(), ProcessorError> {
        let Some(slot) = self.slots.get_mut(node) else { return Ok(()) };
        if slot.caps_time {
            let others = slot.parent_times.iter().enumerate().filter(|(other, _)| *other != parent);
            if let Some(limit) = others.map(|(_, time)| *time).min() {
                payload.cap_time(limit);
            }
        }
        match &mut slot.action {
            Action::Pass => Ok(()),
            Action::Write(encoder, records) => {
                let (operator_time, passed_time) = (slot.time, slot.passed_time);
                let call = Call { node, moment, operator_time, passed_time };
                encoder.encode(payload, records, &mut Context::new(resources, call))
            }
            Action::Process(..) if slot.stepwise && payload.len() > 1 => {
                let mut rows = payload.into_pending();
                while !rows.is_empty() {
                    self.handle(node, Event::Batch(port, rows.take(1)), resources, moment)?;
                }
                Ok(())
            }
            Action::Process(..) => {
                self.handle(node, Event::Batch(port, payload), resources, moment)
            }
        }
    }

    fn emit(
        &mut self,
        node: usize,
        output: Output,
        resources: &mut Resources,
        moment: Moment<'_>,
    ) -> Result<(), ProcessorError> {
        let Some(slot) = self.slots.get(node) else { return Ok(()) };
        let (stepwise, children) =
            (slot.stepwise && output.payload.len() > 1, slot.children.clone());
        if stepwise {
            return self.emit_stepwise(&children, output, resources, moment);
        }
        let Output { payload, routes } = output;
        let Some(routes) = routes else {
            return self.emit_all(&children, payload, resources, moment);
        };
        for (edge, number) in children.iter().zip(0_u16..) {
            let rows: Vec<u32> = (0..)
                .zip(&routes)
                .filter(|(_, to)| to.is_none_or(|to| to == number))
                .map(|(row, _)| row)
                .collect();
            if !rows.is_empty() {
                self.deliver(*edge, payload.select(&rows), resources, moment)?;
            }
        }
        Ok(())
    }

    fn emit_all(
        &mut self,
        children: &[Edge],
        payload: Box<dyn Payload>,
        resources: &mut Resources,
        moment: Moment<'_>,
    ) -> Result<(), ProcessorError> {
        let Some((last, others)) = children.split_last() else { return Ok(()) };
        for edge in others {
            self.deliver(*edge, payload.duplicate(), resources, moment)?;
        }
        self.deliver(*last, payload, resources, moment)
    }

    fn emit_stepwise(
        &mut self,
        children: &[Edge],
        Output { payload, routes }: Output,
        resources: &mut Resources,
        moment: Moment<'_>,
    ) -> Result<(), ProcessorError> {
        let mut rows = payload.into_pending();
        let mut route = routes.iter().flatten();
        while !rows.is_empty() {
            let row = rows.take(1);
            match route.next().copied().flatten() {
                None => self.emit_all(children, row, resources, moment)?,
                Some(to) => {
                    if let Some(edge) = children.get(usize::from(to)) {
                        self.deliver(*edge, row, resources, moment)?;
                    }
                }
            }
        }
        Ok(())
    }
}

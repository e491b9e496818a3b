//! A task's own copy of its sub-topology, and how payloads and time go through it: depth first, batch by batch, or record
//! by record where the plan says so.

mod left;
#[cfg(test)]
mod tests;
mod time;

use super::{stepping::Stepping, taps::Taps};
use crate::{
    broken::broken,
    by_index::{ByIndex, TypedIndex},
    node::{
        Call, Event, Forwarded, Forwarding, HeldBack, Moment, Node, NodeContext, NodeIndex, Output,
        OutputTime, Payload, Progress, Resources, Stamp,
    },
    processor::{MADE, ProcessorError},
    topology::{Encoder, SinkRecords, Topic},
};
use headwater_core::record::Timestamp;
use std::sync::Arc;

/// What a slot of the graph does with a payload.
pub(in crate::task) enum Action {
    /// Hands it on as it is: a source.
    Source,
    /// Hands on what its parent, which has such output time, forwards to it.
    Port(OutputTime),
    /// Runs a processor.
    Process(Box<dyn Node>, OutputTime),
    /// Writes it.
    Write(Box<dyn Encoder>, SinkRecords),
}

/// An edge to a child: which slot, which of that slot's parents the edge comes from, and at which port it arrives.
#[derive(Debug, Clone, Copy)]
pub(in crate::task) struct Edge {
    pub(in crate::task) child: NodeIndex,
    pub(in crate::task) parent: usize,
    pub(in crate::task) port: usize,
}

pub(in crate::task) struct NodeSlot {
    pub(in crate::task) name: Arc<str>,
    pub(in crate::task) action: Action,
    pub(in crate::task) topic: Option<Topic>,
    pub(in crate::task) children: Vec<Edge>,
    /// Its child ports.
    pub(in crate::task) ports: Vec<Edge>,
    pub(in crate::task) stepwise: bool,
    /// Whether it lies below repartition topics alone, with no timestamps made up on the way: it then lives by the time
    /// that they carry.
    pub(in crate::task) is_time_carried: bool,
    /// Whether it lies below a node that makes calls, so that its rows may come long after they were taken.
    pub(in crate::task) is_below_calls: bool,
    /// Whether its parents may differ in time, so that a row of one is judged by the least of the others too.
    pub(in crate::task) caps_time: bool,
    /// Whether what they pass on while rows of one are taken follows from where external sources stand alone.
    pub(in crate::task) caps_by_row: bool,
    /// The names of its parents.
    pub(in crate::task) parents: Vec<Arc<str>>,
    /// Which nodes they are.
    pub(in crate::task) parent_nodes: Vec<NodeIndex>,
    /// What each of its parents passed on last; for a source, what the task told it.
    pub(in crate::task) parent_times: Vec<Timestamp>,
    /// The minimum of these: the operator time of what it has taken.
    pub(in crate::task) time: Timestamp,
    /// What it passed on last.
    pub(in crate::task) passed_time: Timestamp,
    /// Whether it has anything left to forward.
    pub(in crate::task) progress: Progress,
}

impl NodeSlot {
    /// Whether time begins anew with what it forwards.
    pub(in crate::task) fn begins_time(&self) -> bool {
        matches!(self.action, Action::Process(_, OutputTime::Anew) | Action::Port(OutputTime::Anew))
    }

    /// Whether it runs code of the user's.
    pub(in crate::task) fn is_processor(&self) -> bool {
        matches!(self.action, Action::Process(_, OutputTime::Anew))
    }

    /// Whether it runs code of the user's below calls, which lives by the time of its rows in place of the task's.
    pub(in crate::task) fn lives_by_rows(&self) -> bool {
        self.is_below_calls && self.is_processor()
    }

    /// Whether it is told how its operator time moves.
    fn is_told_time(&self) -> bool {
        self.is_time_carried || self.lives_by_rows()
    }

    /// Whether its graph has to keep time because of it.
    pub(in crate::task) fn keeps_time(&self) -> bool {
        self.is_told_time() || matches!(self.topic, Some(Topic::Repartition(_)))
    }

    /// What the parent that an edge comes from passed on last.
    fn time_of(&mut self, parent: usize) -> &mut Timestamp {
        match self.parent_times.get_mut(parent) {
            Some(time) => time,
            None => broken(FROM_A_PARENT),
        }
    }

    pub(in crate::task) fn has_timers(&self) -> bool {
        matches!(&self.action, Action::Process(node, _) if node.has_timers())
    }

    /// Whether rows go no further in this task.
    fn is_terminal(&self) -> bool {
        self.children.is_empty() && self.ports.is_empty()
    }

    pub(in crate::task) fn makes_calls(&self) -> bool {
        matches!(&self.action, Action::Process(node, _) if node.makes_calls())
    }

    pub(in crate::task) fn may_answer_more(&self) -> bool {
        matches!(&self.action, Action::Process(node, _) if node.may_answer_more())
    }
}

const FROM_A_PARENT: &str = "an edge comes from a parent of its child";

/// What a node forwarded in one call.
#[derive(Debug, Clone, Copy, Default)]
struct Handled {
    rows: usize,
    /// Whether that was a part of what the node forwards at this event.
    is_part: bool,
}

fn no_child(name: &str, child: String, node: NodeIndex, resources: &Resources) -> ProcessorError {
    let children = resources.children.get(node.number()).cloned().unwrap_or_default();
    ProcessorError::NoChild { node: name.to_owned(), child, children: children.join("`, `") }
}

/// A sub-topology with its processors made.
pub(in crate::task) struct Graph {
    pub(in crate::task) slots: ByIndex<NodeIndex, NodeSlot>,
    /// Whether any node looks at operator time: one below a repartition, a user's processor below calls, or a sink into a
    /// repartition topic.
    pub(in crate::task) keeps_time: bool,
    /// Whether any node runs code of the user's, which may ask for the stream time at each record.
    pub(in crate::task) has_processors: bool,
    /// Whether any processor has timers that live by the task's stream time.
    pub(in crate::task) has_timers: bool,
    /// The nodes that make calls.
    callers: Vec<NodeIndex>,
    /// How much of the input a step takes.
    stepping: Stepping,
    /// Whether any node wants to know where other sources stand at each row of a run.
    pub(in crate::task) caps_by_row: bool,
    /// Whether the rows at hand are those of a run, on their way down from its source.
    takes_run: bool,
    /// Whether what goes through it is the last before a commit.
    pub(in crate::task) is_near_commit: bool,
    taps: Arc<Taps>,
}

impl Graph {
    /// `rows_max` bounds the rows of a chunk that a node forwards of what is left.
    pub(in crate::task) fn new(
        slots: ByIndex<NodeIndex, NodeSlot>,
        rows_max: usize,
        taps: Arc<Taps>,
    ) -> Self {
        let keeps_time = slots.values().any(NodeSlot::keeps_time);
        let has_processors = slots.values().any(NodeSlot::is_processor);
        let has_timers = slots.values().any(|slot| !slot.is_time_carried && slot.has_timers());
        let callers = slots.iter().filter(|(_, slot)| slot.makes_calls()).map(|(node, _)| node);
        let callers = callers.collect();
        let caps_by_row =
            keeps_time && slots.values().any(|slot| slot.caps_time && slot.caps_by_row);
        let stepping = Stepping::of(&slots, rows_max);
        Self {
            slots,
            keeps_time,
            has_processors,
            has_timers,
            callers,
            stepping,
            caps_by_row,
            takes_run: false,
            is_near_commit: false,
            taps,
        }
    }

    /// The most rows that a step may take.
    pub(in crate::task) fn rows_max(&self) -> usize {
        let is_single = self.stepping.single_rows || self.counts_calls();
        if is_single { 1 } else { usize::MAX }
    }

    /// The same of rows that bring time.
    pub(in crate::task) fn carried_rows_max(&self) -> usize {
        if self.stepping.single_carried_rows { 1 } else { self.rows_max() }
    }

    /// Whether rows go one by one because of calls. A commit does not wait for answers: it holds the rows up to the one with
    /// which a node has all the calls that it may make, which batches would run past, each size by another number.
    fn counts_calls(&self) -> bool {
        self.is_near_commit && !self.callers.is_empty()
    }

    /// Asks the nodes that make calls for their progress, which answers have changed.
    pub(in crate::task) fn look_for_answers(&mut self) {
        for node in &self.callers {
            let slot = &mut self.slots[*node];
            if let Action::Process(processor, _) = &slot.action {
                slot.progress = processor.progress();
            }
        }
    }

    /// Whether any node takes no more rows before calls are answered.
    pub(in crate::task) fn waits_for_calls(&self) -> bool {
        self.callers.iter().any(|node| self.slots[*node].progress == Progress::Waits)
    }

    /// Which nodes more may come to while it does to the slots of `sources`: those that lie below any of them.
    pub(in crate::task) fn below(
        &self,
        sources: impl IntoIterator<Item = NodeIndex>,
    ) -> ByIndex<NodeIndex, bool> {
        let mut open = ByIndex::filled(false, self.slots.len());
        for source in sources {
            open[source] = true;
        }
        self.spread(&mut open);
        open
    }

    /// Marks what lies below nodes that hold rows back or have some left to forward, beside what is marked already. Those that hold
    /// rows until their time moves are among them where `is_heard` says so.
    pub(in crate::task) fn mark_held(
        &self,
        open: &mut ByIndex<NodeIndex, bool>,
        is_heard: impl Fn(NodeIndex) -> bool,
    ) {
        for (index, slot) in self.slots.iter() {
            let counts = |node: &dyn Node| {
                let is_for_time = || matches!(node.held_back(), Some(HeldBack::Time { .. }));
                node.holds_rows() && (is_heard(index) || !is_for_time())
            };
            let holds = slot.progress != Progress::Done
                || matches!(&slot.action, Action::Process(node, _) if counts(&**node));
            open[index] |= holds;
        }
        self.spread(open);
    }

    fn spread(&self, open: &mut ByIndex<NodeIndex, bool>) {
        // Parents come before children.
        for (node, slot) in self.slots.iter() {
            if open[node] {
                let edges = slot.children.iter().chain(&slot.ports);
                edges.for_each(|edge| open[edge.child] = true);
            }
        }
    }

    /// Tells nodes once more what they may not have been told before the application ended.
    pub(in crate::task) fn catch_up(
        &mut self,
        resources: &mut Resources,
        moment: Moment<'_>,
    ) -> Result<(), ProcessorError> {
        for node in self.slots.indexes() {
            let slot = &mut self.slots[node];
            let (is_told_time, time) = (slot.is_told_time(), slot.time);
            if is_told_time {
                self.raise(node, Event::Advance(time), resources, moment)?;
            }
        }
        for node in self.slots.indexes() {
            if self.slots[node].is_processor() {
                self.raise(node, Event::Due, resources, moment)?;
            }
        }
        Ok(())
    }

    /// Hands a source's batch to what lies below it.
    pub(in crate::task) fn push(
        &mut self,
        source: NodeIndex,
        payload: Box<dyn Payload>,
        resources: &mut Resources,
        moment: Moment<'_>,
    ) -> Result<(), ProcessorError> {
        resources.begin_batch(source, payload.len());
        self.takes_run = true;
        let emitted = self.emit(source, Output { payload, routes: None }, resources, moment);
        self.takes_run = false;
        emitted
    }

    /// Lets a node handle an event other than a batch.
    pub(in crate::task) fn raise(
        &mut self,
        node: NodeIndex,
        event: Event,
        resources: &mut Resources,
        moment: Moment<'_>,
    ) -> Result<(), ProcessorError> {
        self.handle_all(node, event, resources, moment)?;
        self.pass_time(node, resources, moment)
    }

    /// Lets a node handle an event, in as many parts as it takes.
    fn handle_all(
        &mut self,
        node: NodeIndex,
        event: Event,
        resources: &mut Resources,
        moment: Moment<'_>,
    ) -> Result<(), ProcessorError> {
        let mut handled = self.handle(node, event, resources, moment)?;
        while handled.is_part {
            handled = self.handle(node, Event::Flush, resources, moment)?;
        }
        Ok(())
    }

    /// Lets a node handle an event.
    fn handle(
        &mut self,
        node: NodeIndex,
        event: Event,
        resources: &mut Resources,
        moment: Moment<'_>,
    ) -> Result<Handled, ProcessorError> {
        let slot = &mut self.slots[node];
        let (operator_time, passed_time) = (slot.time, slot.passed_time);
        let lives_by_rows = slot.lives_by_rows();
        let Action::Process(processor, _) = &mut slot.action else { return Ok(Handled::default()) };
        let parents = &slot.parent_nodes;
        let call = Call { node, moment, operator_time, passed_time, lives_by_rows, parents };
        let mut started = None;
        if let Event::Batch { payload, .. } = &event {
            started = resources.begin_batch(node, payload.len());
        }
        let emitting = resources.begin_emission(node, &event);
        let Forwarded { own, ports, is_part } =
            processor.handle(event, &mut NodeContext { resources, call })?;
        resources.end_batch(node, started);
        let emitted = own.as_ref().map_or(0, |own| own.payload.len());
        resources.end_emission(node, emitted, emitting);
        if let Some(child) = resources.no_child.take() {
            return Err(no_child(&slot.name, child, node, resources));
        }
        slot.progress = processor.progress();
        let edges = if ports.is_empty() { Vec::new() } else { slot.ports.clone() };
        let mut rows = 0;
        if let Some(output) = own {
            rows += output.payload.len();
            self.forward(node, output, resources, moment)?;
        }
        for (place, payload) in ports {
            rows += payload.len();
            let Some(edge) = edges.get(place) else { broken("a child port has an edge") };
            self.deliver(*edge, payload, resources, moment)?;
        }
        Ok(Handled { rows, is_part })
    }

    /// Hands on what a node forwards. Where time begins anew with the node, only that moves it.
    fn forward(
        &mut self,
        node: NodeIndex,
        mut output: Output,
        resources: &mut Resources,
        moment: Moment<'_>,
    ) -> Result<(), ProcessorError> {
        let slot = &mut self.slots[node];
        if !slot.begins_time() {
            return self.emit(node, output, resources, moment);
        }
        let time = output.payload.begin_time(slot.passed_time);
        self.emit(node, output, resources, moment)?;
        self.advance_children(node, time, resources, moment)?;
        // Also where nobody below keeps time: rows carry it.
        self.slots[node].passed_time = time;
        Ok(())
    }

    /// Has users' processors do what the run just taken makes due, `from` so many nodes on. What one has left to forward comes
    /// before the next: then it gives how far it has come.
    pub(in crate::task) fn fire_due(
        &mut self,
        from: usize,
        resources: &mut Resources,
        moment: Moment<'_>,
    ) -> Result<Option<usize>, ProcessorError> {
        for node in self.slots.indexes().skip(from) {
            if self.slots[node].is_processor() {
                self.raise(node, Event::Due, resources, moment)?;
                if self.is_pending() {
                    return Ok(Some(node.number() + 1));
                }
            }
        }
        Ok(None)
    }

    fn deliver(
        &mut self,
        Edge { child: node, parent, port }: Edge,
        mut payload: Box<dyn Payload>,
        resources: &mut Resources,
        moment: Moment<'_>,
    ) -> Result<(), ProcessorError> {
        let taps = self.taps.is_any().then(|| Arc::clone(&self.taps));
        if self.slots[node].caps_time {
            payload.cap_time(&|origin| self.time_of_others(node, parent, origin, moment));
        }
        let slot = &mut self.slots[node];
        if let Some(taps) = taps {
            let Some(from) = slot.parents.get(parent) else { broken(FROM_A_PARENT) };
            taps.show(from, &slot.name, &*payload);
        }
        if slot.is_terminal() {
            resources.note_ages(node, &*payload);
        }
        match &mut slot.action {
            Action::Source => Ok(()),
            Action::Port(_) => {
                resources.begin_batch(node, payload.len());
                self.forward(node, Output { payload, routes: None }, resources, moment)
            }
            Action::Write(encoder, records) => {
                let (operator_time, passed_time) = (slot.time, slot.passed_time);
                let (parents, lives_by_rows) = (&slot.parent_nodes, false);
                let call =
                    Call { node, moment, operator_time, passed_time, lives_by_rows, parents };
                let (started, bytes) = (resources.begin_batch(node, payload.len()), records.bytes);
                encoder.encode(payload, records, &mut NodeContext { resources, call })?;
                resources.metrics[node].bytes += (records.bytes - bytes) as u64;
                resources.end_batch(node, started);
                if let Some(child) = resources.no_child.take() {
                    return Err(no_child(&slot.name, child, node, resources));
                }
                Ok(())
            }
            Action::Process(..) if slot.stepwise && payload.len() > 1 => {
                let mut rows = payload.into_pending();
                while !rows.is_empty() {
                    self.handle_all(
                        node,
                        Event::Batch { port, payload: rows.take(1) },
                        resources,
                        moment,
                    )?;
                }
                Ok(())
            }
            Action::Process(..) => {
                self.handle_all(node, Event::Batch { port, payload }, resources, moment)
            }
        }
    }

    fn emit(
        &mut self,
        node: NodeIndex,
        output: Output,
        resources: &mut Resources,
        moment: Moment<'_>,
    ) -> Result<(), ProcessorError> {
        if !self.slots[node].stepwise {
            return self.emit_rows(node, output, resources, moment);
        }
        resources.forwarding.push(Forwarding { node, rows_left: 0 });
        let emitted = self.emit_rows(node, output, resources, moment);
        resources.forwarding.pop();
        emitted
    }

    fn emit_rows(
        &mut self,
        node: NodeIndex,
        output: Output,
        resources: &mut Resources,
        moment: Moment<'_>,
    ) -> Result<(), ProcessorError> {
        let slot = &self.slots[node];
        let (stepwise, children) =
            (slot.stepwise && output.payload.len() > 1, slot.children.clone());
        let mut routes = output.routes.iter().flatten().flatten();
        if let Some(child) = routes.find(|to| usize::from(**to) >= children.len()) {
            return Err(no_child(&slot.name, format!("number {child}"), node, resources));
        }
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
        let (node, mut stamps) = (resources.forwarding.last().map(|at| at.node), Vec::new());
        if self.stepping.more_below_stepwise {
            payload.stamps(&mut stamps);
        }
        let mut row_and_next = stamps.windows(2);
        let mut rows = payload.into_pending();
        let mut route = routes.iter().flatten();
        while !rows.is_empty() {
            let row = rows.take(1);
            resources
                .forwarding
                .iter_mut()
                .last()
                .into_iter()
                .for_each(|at| at.rows_left = rows.len());
            match route.next().copied().flatten() {
                None => self.emit_all(children, row, resources, moment)?,
                Some(to) => match children.get(usize::from(to)) {
                    Some(edge) => self.deliver(*edge, row, resources, moment)?,
                    None => broken("a route leads to a child"),
                },
            }
            let is_amid_record = |row: &[Stamp]| match row {
                [row, next] => row.origin & MADE == 0 && row.origin == next.origin,
                _ => false,
            };
            if let Some(node) = node
                && row_and_next.next().is_some_and(is_amid_record)
            {
                self.forward_below(node, resources, moment)?;
            }
        }
        Ok(())
    }
}

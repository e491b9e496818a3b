//! A task's own copy of its sub-topology, and how payloads go through it: depth first, batch by batch, or record by
//! record where the plan says so.

use crate::{
    processor::{Context, Env, Event, Node, Output, Payload, ProcessorError},
    topology::{Encoder, SinkRecords, Topic},
};
use headwater_core::record::Timestamp;
use std::sync::Arc;

/// What a slot of the graph does with a payload.
pub(super) enum Action {
    /// Hands it on as it is: a source.
    Pass,
    /// Runs a processor.
    Process(Box<dyn Node>),
    /// Writes it.
    Write(Box<dyn Encoder>, SinkRecords),
}

pub(super) struct Slot {
    pub(super) name: Arc<str>,
    pub(super) action: Action,
    pub(super) topic: Option<Topic>,
    pub(super) children: Vec<usize>,
    pub(super) stepwise: bool,
    /// The inputs above it, if all are managed topics: it then lives by the time they carry.
    pub(super) carried_by: Vec<usize>,
}

/// A sub-topology with its processors made.
pub(super) struct Graph {
    pub(super) slots: Vec<Slot>,
    /// The carried time of each input; the smallest timestamp where none is known.
    pub(super) times: Vec<Timestamp>,
}

impl Graph {
    /// Whether any node gets its records one by one.
    pub(super) fn has_stepwise(&self) -> bool {
        self.slots.iter().any(|slot| slot.stepwise)
    }

    /// Hands a source's batch to what lies below it.
    pub(super) fn push(
        &mut self,
        source: usize,
        payload: Box<dyn Payload>,
        env: &mut Env,
    ) -> Result<(), ProcessorError> {
        self.emit(source, Output { payload, routes: None }, env)
    }

    /// Lets a node handle an event other than a batch.
    pub(super) fn raise(
        &mut self,
        node: usize,
        event: Event,
        env: &mut Env,
    ) -> Result<(), ProcessorError> {
        let carried = self.carried(node);
        let Some(Slot { action: Action::Process(processor), .. }) = self.slots.get_mut(node) else {
            return Ok(());
        };
        (env.node, env.carried) = (node, carried);
        match processor.handle(event, env)? {
            Some(output) => self.emit(node, output, env),
            None => Ok(()),
        }
    }

    /// The time that a node lives by, if it lies below managed topics only.
    pub(super) fn carried(&self, node: usize) -> Option<Timestamp> {
        let inputs = &self.slots.get(node)?.carried_by;
        inputs.iter().filter_map(|input| self.times.get(*input)).min().copied()
    }

    fn deliver(
        &mut self,
        node: usize,
        payload: Box<dyn Payload>,
        env: &mut Env,
    ) -> Result<(), ProcessorError> {
        let Some(slot) = self.slots.get_mut(node) else { return Ok(()) };
        match &mut slot.action {
            Action::Pass => Ok(()),
            Action::Write(encoder, records) => {
                env.node = node;
                encoder.encode(payload, records, &mut Context::new(env))
            }
            Action::Process(_) if slot.stepwise && payload.len() > 1 => {
                let mut rows = payload.into_pending();
                while !rows.is_empty() {
                    self.raise(node, Event::Batch(rows.take(1)), env)?;
                }
                Ok(())
            }
            Action::Process(_) => self.raise(node, Event::Batch(payload), env),
        }
    }

    fn emit(&mut self, node: usize, output: Output, env: &mut Env) -> Result<(), ProcessorError> {
        let Some(slot) = self.slots.get(node) else { return Ok(()) };
        let (stepwise, children) =
            (slot.stepwise && output.payload.len() > 1, slot.children.clone());
        let Output { payload, routes } = output;
        if stepwise {
            return self.emit_stepwise(&children, payload, routes.as_deref(), env);
        }
        let Some(routes) = routes else { return self.emit_all(&children, payload, env) };
        for (child, number) in children.iter().zip(0_u16..) {
            let rows: Vec<u32> = (0..)
                .zip(&routes)
                .filter(|(_, to)| to.is_none_or(|to| to == number))
                .map(|(row, _)| row)
                .collect();
            if !rows.is_empty() {
                self.deliver(*child, payload.select(&rows), env)?;
            }
        }
        Ok(())
    }

    fn emit_all(
        &mut self,
        children: &[usize],
        payload: Box<dyn Payload>,
        env: &mut Env,
    ) -> Result<(), ProcessorError> {
        let Some((last, others)) = children.split_last() else { return Ok(()) };
        for child in others {
            self.deliver(*child, payload.duplicate(), env)?;
        }
        self.deliver(*last, payload, env)
    }

    fn emit_stepwise(
        &mut self,
        children: &[usize],
        payload: Box<dyn Payload>,
        routes: Option<&[Option<u16>]>,
        env: &mut Env,
    ) -> Result<(), ProcessorError> {
        let mut rows = payload.into_pending();
        let mut route = routes.unwrap_or_default().iter();
        while !rows.is_empty() {
            let row = rows.take(1);
            match route.next().copied().flatten() {
                None => self.emit_all(children, row, env)?,
                Some(to) => {
                    if let Some(child) = children.get(usize::from(to)) {
                        self.deliver(*child, row, env)?;
                    }
                }
            }
        }
        Ok(())
    }
}

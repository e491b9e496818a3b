//! A task: one partition of a sub-topology, as a state machine without I/O.
//!
//! Whoever drives it (a stream thread, the test driver) feeds it what was fetched, lets it step, and takes its part of
//! each commit. The task decides the order of records, runs them through its graph, and keeps its stores.
//!
//! # Invariants
//!
//! - Of several inputs, the record with the smallest timestamp goes next, at equal ones that of the earlier source.
//! - Whether a step takes one record or thousands never shows in outputs, stores or positions.
//!
//! # Not here
//!
//! Fetching, appending and waiting: [`runtime`](crate::runtime) does them.

mod build;
mod carried;
mod commit;
mod graph;
mod input;

pub(crate) use build::Blueprint;
pub(crate) use commit::{ChangelogPart, TaskCommit};

use crate::{
    processor::{
        Cancellable, DeadLetter, Env, Event, ProcessorError, Punctuation, PunctuationType, Raw,
    },
    store::{KeyValueStore, StoreKey},
    topology::{Failure, TaskId, TimeMark, Topic},
};
use carried::TimeVector;
use graph::{Action, Graph};
use hashbrown::HashMap;
use headwater_core::{
    dead_letter::dead_letter_headers,
    ports::log::Fetched,
    record::{Headers, RecordSet, RecordSetBuilder, SetFull, Timestamp, TopicPartition},
};
use input::{Input, Passed, Run};
use std::sync::Arc;

/// What to do with a record that cannot be read, processed or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BadRecord {
    /// Append it to `<application.id>-dead-letters`, in the same commit, and go on.
    #[default]
    DeadLetter,
    /// Count it as dropped and go on.
    Continue,
    /// Stop the application.
    Fail,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It took records.
    Ran,
    /// An input must be fetched before the next record can be chosen.
    Starved,
    /// Every input is read to its end.
    Idle,
}

/// A partition of a sub-topology.
pub(crate) struct Task {
    pub(crate) id: TaskId,
    pub(crate) level: usize,
    graph: Graph,
    env: Env,
    inputs: Vec<Input>,
    /// Operators' positions: node or topic → what it saved.
    positions: StoreKey<KeyValueStore<String, Vec<u8>>>,
    saved: HashMap<String, Vec<u8>>,
    changelogs: Vec<TopicPartition>,
    dead: RecordSetBuilder,
    bad_record: BadRecord,
    rows_max: usize,
    idle_told: bool,
    /// Whether all nodes have been told that the input is complete.
    finished: bool,
    pub(crate) records: u64,
}

impl Task {
    /// The inputs that must be fetched, each with the offset to fetch from. An input at its end is among them, for
    /// whoever knows that the end has moved.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = (usize, &Topic, &TopicPartition, i64)> {
        let empty = self.inputs.iter().enumerate().filter(|(_, input)| input.is_empty());
        empty.map(|(index, input)| (index, &input.topic, &input.partition, input.fetch_offset))
    }

    /// Takes in what was fetched for an input.
    pub(crate) fn feed(&mut self, input: usize, fetched: Fetched) {
        if let Some(input) = self.inputs.get_mut(input) {
            input.feed(fetched);
        }
    }

    /// Forgets where inputs ended: their ends must be fetched again.
    pub(crate) fn look_again(&mut self) {
        self.inputs.iter_mut().for_each(|input| input.at_end = false);
    }

    /// Where each input stands: partition, next offset to take, and the partition's end when last looked at.
    pub(crate) fn lags(&self) -> impl Iterator<Item = (&TopicPartition, i64, i64)> {
        self.inputs.iter().map(|input| (&input.partition, input.consumed, input.end))
    }

    /// Takes the next run of records through the graph.
    pub(crate) fn step(&mut self, wall_clock: Timestamp) -> Result<Step, ProcessorError> {
        self.env.wall_clock = wall_clock;
        self.punctuate(PunctuationType::WallClockTime, wall_clock)?;
        for index in 0..self.inputs.len() {
            self.pass(index)?;
        }
        if self.inputs.iter().any(|input| input.is_empty() && !input.at_end) {
            return Ok(Step::Starved);
        }
        let heads =
            self.inputs.iter().enumerate().filter_map(|(i, input)| Some((input.head()?, i)));
        let mut heads: Vec<(Timestamp, usize)> = heads.collect();
        heads.sort_unstable();
        let Some((_, first)) = heads.first().copied() else { return Ok(Step::Idle) };
        let rival = heads.get(1).copied();
        self.idle_told = false;
        let (mut time, due) = (self.env.stream_time, self.next_punctuation());
        // Where order between nodes shows, the nodes below a managed topic learn of time after each record.
        let single = self.inputs.get(first).is_some_and(|input| input.vector.is_some())
            && self.graph.has_stepwise();
        let mut taken = 0;
        let run = self.inputs.get_mut(first).and_then(|input| {
            input.take(|timestamp| {
                // A run ends behind the record that makes a punctuation due, and before a rival's head.
                let wanted = rival.is_none_or(|rival| (timestamp, first) < rival)
                    && due.is_none_or(|due| time < 0 || time < due);
                let wanted = wanted && !(single && taken > 0);
                taken += 1;
                time = time.max(timestamp);
                wanted
            })
        });
        if let Some(run) = run {
            self.run(first, run)?;
            self.pass(first)?;
        }
        self.punctuate(PunctuationType::StreamTime, self.env.stream_time)?;
        Ok(Step::Ran)
    }

    fn run(&mut self, index: usize, run: Run) -> Result<(), ProcessorError> {
        let Some(input) = self.inputs.get(index) else { return Ok(()) };
        let (node, partition) = (input.node, input.partition.clone());
        self.env.stream_time = self.env.stream_time.max(run.time);
        self.records += run.rows.as_ref().map_or(0, |rows| rows.len() as u64);
        let others = self.inputs.iter().enumerate().filter(|(other, _)| *other != index);
        let others =
            others.filter_map(|(_, input)| input.vector.as_ref()).map(TimeVector::time).min();
        self.env.raw =
            Some(Raw { times: run.times, others, ..Raw::new(partition, Arc::clone(&run.raw)) });
        let pushed = run.rows.map_or(Ok(()), |rows| self.graph.push(node, rows, &mut self.env));
        let settled = self.settle_dead_letters(run.failures, Some(&run.raw));
        self.env.raw = None;
        pushed.and(settled)?;
        self.tell_time(index)
    }

    /// Tells the nodes below a managed topic if its time has moved.
    fn tell_time(&mut self, index: usize) -> Result<(), ProcessorError> {
        let time =
            self.inputs.get(index).and_then(|input| input.vector.as_ref()).map(TimeVector::time);
        match (time, self.graph.times.get_mut(index)) {
            (Some(time), Some(told)) if time > *told => {
                *told = time;
                self.advance_below(index)
            }
            _ => Ok(()),
        }
    }

    /// Lets everything in front of an input's next row take effect: time marks, and records that cannot be read.
    fn pass(&mut self, index: usize) -> Result<(), ProcessorError> {
        while let Some(passed) =
            self.inputs.get_mut(index).and_then(|input| input.pass(self.rows_max))
        {
            if let Passed::Failures(failures, records) = passed {
                let partition = self.inputs.get(index).map(|input| input.partition.clone());
                self.env.raw = partition.map(|partition| Raw::new(partition, Arc::clone(&records)));
                self.settle_dead_letters(failures, Some(&records))?;
                self.env.raw = None;
            }
            self.tell_time(index)?;
        }
        Ok(())
    }

    fn advance_below(&mut self, input: usize) -> Result<(), ProcessorError> {
        for node in 0..self.graph.slots.len() {
            let below =
                self.graph.slots.get(node).is_some_and(|slot| slot.carried_by.contains(&input));
            if let Some(time) =
                self.graph.carried(node).filter(|time| below && *time > Timestamp::MIN)
            {
                self.graph.raise(node, Event::Advance(time), &mut self.env)?;
            }
        }
        self.settle_dead_letters(Vec::new(), None)
    }

    /// Tells every node that the input is complete, once it is: all inputs at their end, and the writers of managed
    /// topics complete too. True if it has been told, now or before.
    pub(crate) fn finish(&mut self) -> Result<bool, ProcessorError> {
        let complete = self.inputs.iter().all(|input| {
            input.is_empty()
                && input.at_end
                && input.vector.as_ref().is_none_or(|vector| vector.is_complete())
        });
        if !self.finished && complete {
            self.finished = true;
            self.idle_told = false;
            for node in 0..self.graph.slots.len() {
                self.graph.raise(node, Event::Advance(Timestamp::MAX), &mut self.env)?;
                self.graph.raise(node, Event::Flush, &mut self.env)?;
            }
            self.settle_dead_letters(Vec::new(), None)?;
        }
        Ok(self.finished)
    }

    fn next_punctuation(&self) -> Option<Timestamp> {
        let on_stream_time =
            |p: &&Punctuation| !p.cancelled && p.kind == PunctuationType::StreamTime;
        self.env.punctuations.iter().filter(on_stream_time).map(|p| p.due).min()
    }

    /// Fires what is due at `time`, once each, however many due points lie behind.
    fn punctuate(&mut self, kind: PunctuationType, time: Timestamp) -> Result<(), ProcessorError> {
        for index in 0..self.env.punctuations.len() {
            let Some(punctuation) = self.env.punctuations.get_mut(index) else { continue };
            if punctuation.cancelled
                || punctuation.kind != kind
                || time < punctuation.due
                || time < 0
            {
                continue;
            }
            let interval = punctuation.interval_ms;
            punctuation.due = match kind {
                PunctuationType::StreamTime => (time - time % interval).saturating_add(interval),
                PunctuationType::WallClockTime => {
                    let missed = (time - punctuation.due) / interval;
                    punctuation.due.saturating_add(interval.saturating_mul(missed + 1))
                }
            };
            let node = punctuation.node;
            self.graph.raise(node, Event::Punctuate(Cancellable(index), time), &mut self.env)?;
        }
        Ok(())
    }

    /// Applies the policy to what failed in a run, in the order of the source: by place, then by node.
    fn settle_dead_letters(
        &mut self,
        failures: Vec<Failure>,
        raw: Option<&RecordSet>,
    ) -> Result<(), ProcessorError> {
        if failures.is_empty() && self.env.dead.is_empty() {
            return Ok(());
        }
        let mut letters = std::mem::take(&mut self.env.dead);
        let failed = failures.into_iter().map(|Failure { origin, kind, cause }| DeadLetter {
            origin,
            node: 0,
            kind,
            cause,
        });
        letters.extend(failed);
        letters.sort_by_key(|letter| (letter.origin, letter.node));
        for letter in letters {
            match self.bad_record {
                BadRecord::DeadLetter => {
                    self.bury(&letter, raw).map_err(|e| ProcessorError::Topology(e.to_string()))?
                }
                BadRecord::Continue => {
                    if let Some(dropped) = self.env.dropped.get_mut(letter.node) {
                        *dropped += 1;
                    }
                }
                BadRecord::Fail => {
                    return Err(ProcessorError::Record {
                        kind: letter.kind,
                        cause: self.locate(&letter, raw),
                    });
                }
            }
        }
        Ok(())
    }

    fn locate(&self, letter: &DeadLetter, raw: Option<&RecordSet>) -> String {
        let node = self.graph.slots.get(letter.node).map_or("", |slot| &*slot.name);
        let source = self.env.raw.as_ref().map(|raw| raw.partition.to_string()).unwrap_or_default();
        let offset =
            raw.and_then(|raw| raw.get(letter.origin as usize)).map_or(-1, |record| record.offset);
        format!("node {node}, record at offset {offset} of {source}: {}", letter.cause)
    }

    fn bury(&mut self, letter: &DeadLetter, raw: Option<&RecordSet>) -> Result<(), SetFull> {
        let record = raw.and_then(|raw| raw.get(letter.origin as usize));
        let source = self.env.raw.as_ref().map(|raw| &raw.partition);
        let (topic, partition) = source.map_or(("", 0), |at| (at.topic.as_str(), at.partition));
        let offset = record.map_or(-1, |record| record.offset);
        let mut headers =
            record.and_then(|record| Headers::decode(record.headers).ok()).unwrap_or_default();
        for (name, value) in
            dead_letter_headers(letter.kind, &letter.cause, topic, partition, offset).iter()
        {
            headers.add(name, value.map(<[u8]>::to_vec));
        }
        let (key, value) = record.map_or((None, None), |record| (record.key, record.value));
        let timestamp = record.map_or(self.env.wall_clock, |record| record.timestamp);
        self.dead.push(timestamp, key, value, &headers)
    }

    /// The records on their way to managed topics, with a time mark behind them on every partition. `at_end` tells that
    /// nothing more can be taken for now, which is told once.
    pub(crate) fn sends(
        &mut self,
        at_end: bool,
    ) -> Result<Vec<(Topic, u32, RecordSet)>, ProcessorError> {
        let idle = at_end && !std::mem::replace(&mut self.idle_told, at_end);
        let mut sends = Vec::new();
        for slot in &mut self.graph.slots {
            let (Action::Write(_, records), Some(topic @ Topic::Repartition(_))) =
                (&mut slot.action, &slot.topic)
            else {
                continue;
            };
            if records.bytes == 0 && !idle {
                continue;
            }
            let time = if self.finished { Timestamp::MAX } else { records.time };
            let mark = TimeMark { sender: self.id, time, idle: at_end };
            for (partition, builder) in (0..).zip(&mut records.partitions) {
                let mut builder = std::mem::take(builder);
                mark.write(&mut builder).map_err(|e| ProcessorError::Topology(e.to_string()))?;
                sends.push((topic.clone(), partition, builder.build()));
            }
            records.bytes = 0;
        }
        Ok(sends)
    }

    /// About how many bytes the next commit will hold.
    pub(crate) fn uncommitted_bytes(&self) -> usize {
        let sinks = self.graph.slots.iter().map(|slot| match &slot.action {
            Action::Write(_, records) => records.bytes,
            Action::Pass | Action::Process(_) => 0,
        });
        let stores = self.env.stores.iter().map(|store| store.dirty_bytes());
        sinks.sum::<usize>() + stores.sum::<usize>() + self.dead.size_bytes()
    }

    /// Whether a processor asked for a commit.
    pub(crate) fn commit_requested(&self) -> bool {
        self.env.commit_requested
    }
}

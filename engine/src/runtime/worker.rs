//! Tasks and what they need: fetches from the log and the exchange, lets tasks step, passes on what they send.

use super::{error::StreamsError, exchange::Exchange};
use crate::{
    processor::ProcessorError,
    task::{Step, Task, TaskCommit},
    topology::{TaskId, Topic},
};
use headwater_core::{
    ports::log::{Log, LogError},
    time::Clock,
};
use std::sync::Arc;

/// How much one fetch asks for, in bytes.
const FETCH_BYTES: usize = 1 << 20;

/// About how many records on their way to a task a commit waits for; what is left is written. Counted in records, so that
/// the size of a batch does not show in what a commit holds.
const DRAIN_RECORDS_MAX: u64 = 1 << 17;

/// What workers share.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub(super) log: Arc<dyn Log>,
    pub(super) exchange: Exchange,
    pub(super) clock: Arc<dyn Clock>,
}

/// Some of an instance's tasks, driven by one thread.
pub(super) struct Worker {
    pub(super) tasks: Vec<Task>,
    around: Arc<Surroundings>,
}

fn failed(task: TaskId) -> impl Fn(ProcessorError) -> StreamsError {
    move |source| match source {
        ProcessorError::State(error) => StreamsError::State(error),
        source @ (ProcessorError::Record { .. } | ProcessorError::Topology(_)) => {
            StreamsError::Processor { task, source }
        }
    }
}

impl Worker {
    pub(super) fn new(tasks: Vec<Task>, around: Arc<Surroundings>) -> Self {
        Self { tasks, around }
    }

    /// Gives every task a turn; true if any took records.
    pub(super) fn pump(&mut self) -> Result<bool, StreamsError> {
        let mut ran = false;
        for index in 0..self.tasks.len() {
            ran |= self.turn(index, true)?;
        }
        Ok(ran)
    }

    /// One step of a task. `external` tells whether topics outside the exchange may be read.
    fn turn(&mut self, index: usize, external: bool) -> Result<bool, StreamsError> {
        let around = Arc::clone(&self.around);
        let Some(task) = self.tasks.get_mut(index) else { return Ok(false) };
        // Readers go on while the exchange is full, so that it empties.
        if task.level == 0 && around.exchange.is_full() {
            return Ok(false);
        }
        fetch(task, &around, external)?;
        let step = task.step(around.clock.now()).map_err(failed(task.id))?;
        pass_on(task, &around)?;
        Ok(step == Step::Ran)
    }

    /// Takes the records on their way to the tasks of `level` and has those tasks forward what they hold back.
    pub(super) fn settle_level(&mut self, level: usize) -> Result<(), StreamsError> {
        for index in 0..self.tasks.len() {
            if self.tasks.get(index).is_none_or(|task| task.level != level) {
                continue;
            }
            if level > 0 {
                self.drain(index)?;
            }
            let around = Arc::clone(&self.around);
            let Some(task) = self.tasks.get_mut(index) else { continue };
            task.flush().map_err(failed(task.id))?;
            pass_on(task, &around)?;
        }
        Ok(())
    }

    /// Takes what is on its way to a task, up to a bound.
    fn drain(&mut self, index: usize) -> Result<(), StreamsError> {
        let records = |this: &Self| this.tasks.get(index).map_or(0, |task| task.records);
        let bound = records(self) + DRAIN_RECORDS_MAX;
        while records(self) < bound && self.turn(index, false)? {}
        Ok(())
    }

    /// Has every input's end looked at again before it counts as reached: what was there when the input was declared
    /// complete must be taken.
    pub(super) fn look_again(&mut self) {
        self.tasks.iter_mut().for_each(Task::look_again);
    }

    /// Tells tasks whose input is complete; true once all have been told.
    pub(super) fn finish(&mut self) -> Result<bool, StreamsError> {
        let around = Arc::clone(&self.around);
        let mut all = true;
        for task in &mut self.tasks {
            let finished = task.finish().map_err(failed(task.id))?;
            if finished {
                pass_on(task, &around)?;
            }
            all &= finished;
        }
        Ok(all)
    }

    /// Every task's part of commit `epoch`.
    pub(super) fn collect(&mut self, epoch: u64) -> Result<Vec<TaskPart>, StreamsError> {
        let collect = |task: &mut Task| {
            let commit = task.collect(epoch).map_err(failed(task.id))?;
            let managed = task
                .managed_inputs()
                .map(|(topic, at, consumed)| (topic.clone(), at, consumed))
                .collect();
            let dropped = task.dropped().map(|(node, count)| (Arc::clone(node), count)).collect();
            let positions =
                task.lags().map(|(partition, next, _)| (partition.clone(), next)).collect();
            Ok(TaskPart {
                task: task.id,
                commit,
                managed,
                dropped,
                positions,
                records: task.records,
            })
        };
        self.tasks.iter_mut().map(collect).collect()
    }

    /// Commit `epoch` is durable and published.
    pub(super) fn published(&mut self, epoch: u64, cache_bytes: usize) {
        for task in &mut self.tasks {
            task.published(epoch, cache_bytes);
        }
    }

    pub(super) fn uncommitted_bytes(&self) -> usize {
        self.tasks.iter().map(Task::uncommitted_bytes).sum()
    }

    /// Whether anything has happened since the last commit that belongs to the next.
    pub(super) fn has_changed(&self) -> bool {
        self.tasks.iter().any(Task::has_changed)
    }

    pub(super) fn commit_requested(&self) -> bool {
        self.tasks.iter().any(Task::commit_requested)
    }
}

/// What one task gives to a commit, and what others want to know of it.
#[derive(Debug)]
pub(super) struct TaskPart {
    pub(super) task: TaskId,
    pub(super) commit: TaskCommit,
    /// Managed topics that it reads, with the offset it has consumed up to.
    pub(super) managed: Vec<(Topic, u32, i64)>,
    pub(super) dropped: Vec<(Arc<str>, u64)>,
    pub(super) positions: Vec<(headwater_core::record::TopicPartition, i64)>,
    pub(super) records: u64,
}

fn fetch(task: &mut Task, around: &Surroundings, external: bool) -> Result<(), LogError> {
    let wanted: Vec<_> = task
        .wanted()
        .map(|(input, topic, at, offset)| (input, topic.clone(), at.clone(), offset))
        .collect();
    for (input, topic, at, offset) in wanted {
        let fetched = match &topic {
            Topic::Repartition(_) => {
                around.exchange.fetch(&topic, at.partition, offset, &*around.log)?
            }
            Topic::External(_) if external => around.log.fetch(&at, offset, FETCH_BYTES)?,
            Topic::External(_) => continue,
        };
        // An empty answer below the end (only control records, say) still moves the position.
        task.feed(input, fetched);
    }
    Ok(())
}

fn pass_on(task: &mut Task, around: &Surroundings) -> Result<(), StreamsError> {
    for (topic, partition, records) in task.sends().map_err(failed(task.id))? {
        around.exchange.send(&topic, partition, records);
    }
    Ok(())
}

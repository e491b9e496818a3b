//! Tasks and what they need: fetches from the log and the exchange, lets tasks step, passes on what they send.

use crate::runtime::{
    error::StreamsError,
    tasks::exchange::{Exchange, ReaderPosition},
    tasks::feed::Feed,
    tasks::globals::Globals,
    tasks::resting::{Ends, Resting},
    tasks::setup::InputEnds,
};
use crate::{
    broken::broken,
    by_index::{ByIndex, TypedIndex},
    calls::CallWaker,
    node::Now,
    processor::ProcessorError,
    task::{Arrived, CacheMarks, Positions, Step, Take, Task, TaskCommit, Wanted},
    topology::{TaskId, Topic},
};
use hashbrown::HashMap;
use headwater_core::{
    memory::{Share, TaskShares},
    ports::log::{Log, LogError},
    record::TopicPartition,
    time::Clock,
};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

/// How much one fetch asks for, in bytes: its task's share of memory, between these. The larger one is what stays in a
/// core's own cache, with the rows made of it, until it has been taken.
const FETCH_BYTES_MIN: usize = 16 << 10;
const FETCH_BYTES_MAX: usize = 256 << 10;

/// About how many rows a commit waits for that are on their way to a task or that it has left to forward; what is left is
/// written, or resumed after the commit. Counted in rows, so that the size of a batch does not show in what a commit holds.
const DRAIN_RECORDS_MAX: u64 = 1 << 17;

/// What bounds the turn of a reader of repartition topics: about so many rows, so many steps (of which each may be a row),
/// and so many bytes for the next commit.
const READER_ROWS_MAX: u64 = 1 << 13;
const READER_STEPS_MAX: usize = 64;
const READER_BYTES_MAX: usize = 1 << 20;

/// What the tasks of an application share.
#[derive(Debug)]
pub(in crate::runtime) struct Surroundings {
    pub(in crate::runtime) log: Arc<dyn Log>,
    /// What its tasks read of external topics.
    pub(in crate::runtime) feeds: HashMap<TopicPartition, Arc<Feed>>,
    pub(in crate::runtime) exchange: Exchange,
    pub(in crate::runtime) resting: Resting,
    pub(in crate::runtime) globals: Globals,
    pub(in crate::runtime) positions: Positions,
    pub(in crate::runtime) clock: Arc<dyn Clock>,
    /// What its tasks may keep in memory.
    pub(in crate::runtime) shares: TaskShares,
    /// What may be on its way to a commit of the log.
    pub(in crate::runtime) commit_part_bytes: usize,
    /// Wakes whoever steps a task whose call was answered.
    pub(in crate::runtime) call_waker: Arc<CallWaker>,
}

/// Where in its group a task lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::runtime) struct TaskIndex(usize);

impl TypedIndex for TaskIndex {
    const IS_THERE: &'static str = "a task's index is that of a task of its group";

    fn new(number: usize) -> Self {
        Self(number)
    }

    fn number(self) -> usize {
        self.0
    }
}

impl Surroundings {
    /// Whether a task must wait for readers; those go on while the exchange is full, so that it empties. One to which
    /// others send what they make of its own records waits for these alone: what is on its way to itself it empties.
    fn holds_back(&self, task: &Task) -> bool {
        let share = || self.shares.share(Share::Exchange);
        if task.is_fed_back() {
            self.exchange.has_part_full(task.id, share())
        } else {
            task.level == 0 && self.exchange.is_full_for(task.id, share())
        }
    }

    fn ends(&self) -> Ends<'_> {
        Ends { exchange: &self.exchange, log: &*self.log }
    }
}

/// Some of an application's tasks, driven one after the other.
pub(in crate::runtime) struct TaskGroup {
    pub(in crate::runtime) tasks: ByIndex<TaskIndex, Task>,
    around: Arc<Surroundings>,
    /// The commit that what is done now belongs to.
    epoch: u64,
    /// Partitions whose readers were sent something since they were last woken.
    sent_to: BTreeSet<u32>,
    /// About how much one call of [`pump`](Self::pump) may add to the next commit.
    pump_bytes_max: usize,
    /// Where the next one begins.
    next: usize,
}

fn failed(task: TaskId) -> impl Fn(ProcessorError) -> StreamsError {
    move |source| StreamsError::of_task(task, source)
}

impl TaskGroup {
    /// One of so many groups; `epoch` is the number of the next commit.
    pub(in crate::runtime) fn new(
        tasks: Vec<Task>,
        around: Arc<Surroundings>,
        epoch: u64,
        groups: usize,
    ) -> Self {
        let pump_bytes_max = around.commit_part_bytes / groups.max(1);
        let (tasks, sent_to) = (tasks.into(), BTreeSet::new());
        Self { tasks, around, epoch, sent_to, pump_bytes_max, next: 0 }
    }

    /// Gives every task a turn, but where a commit is due before; true if any took records. Readers of repartition topics
    /// take what has been sent to them while it is still in the processor's caches: each writer sends them some in its turn.
    pub(in crate::runtime) fn pump(&mut self) -> Result<bool, StreamsError> {
        let Some(looked) = self.look_again()? else { return Ok(true) };
        let (mut ran, mut bytes, count) = (false, 0, self.tasks.len());
        for _ in 0..count {
            let index = TaskIndex::new(self.next);
            self.next = (self.next + 1) % count;
            let before = self.tasks[index].uncommitted_bytes();
            ran |= self.turn(
                index,
                if looked.contains(&index) { Inputs::Exchange } else { Inputs::All },
            )?;
            if self.tasks[index].level > 0 {
                ran |= self.read_on(index)?;
            }
            bytes += self.tasks[index].uncommitted_bytes().saturating_sub(before);
            if bytes > self.pump_bytes_max {
                return Ok(true);
            }
        }
        Ok(ran)
    }

    /// Has a reader take what else was sent to it; true if there was anything.
    fn read_on(&mut self, index: TaskIndex) -> Result<bool, StreamsError> {
        let task = &mut self.tasks[index];
        let (rows_before, bytes_before) = (task.records, task.uncommitted_bytes());
        let bytes_max = READER_BYTES_MAX.min(self.pump_bytes_max);
        for step in 0..READER_STEPS_MAX {
            let task = &mut self.tasks[index];
            let is_enough = task.records - rows_before >= READER_ROWS_MAX
                || task.uncommitted_bytes().saturating_sub(bytes_before) >= bytes_max
                || task.commit_requested();
            if is_enough || !self.turn(index, Inputs::Exchange)? {
                return Ok(step > 0);
            }
        }
        Ok(true)
    }

    /// One step of each task; true if any took records.
    pub(in crate::runtime) fn step(&mut self) -> Result<bool, StreamsError> {
        let Some(looked) = self.look_again()? else { return Ok(true) };
        let mut ran = false;
        for index in self.tasks.indexes() {
            ran |= self.turn(
                index,
                if looked.contains(&index) { Inputs::Exchange } else { Inputs::All },
            )?;
        }
        Ok(ran)
    }

    /// Has each task that was idle when it last told readers of its time look whether there is more, and tell them, before
    /// any other sends records that move their time. That more is to come it may know by marks alone. Gives those tasks, which
    /// have yet to fetch what is sent to them before their own turn; none
    /// if they have found nothing but records that cannot be read, and so many that a commit comes first.
    fn look_again(&mut self) -> Result<Option<BTreeSet<TaskIndex>>, StreamsError> {
        if self.tasks.len() == 0 {
            // An application may be nothing but global tables.
            self.around.globals.catch_up()?;
        }
        let idle = self.tasks.iter().filter(|(_, task)| task.has_told_rest());
        let idle: BTreeSet<TaskIndex> = idle.map(|(index, _)| index).collect();
        let mut bytes = 0;
        for index in &idle {
            let mut has_more = true;
            while has_more {
                let task = &mut self.tasks[*index];
                let before = task.uncommitted_bytes();
                fetch(task, &self.around, Inputs::All, self.epoch)?;
                has_more = task.take_to_rows().map_err(failed(task.id))?;
                bytes += task.uncommitted_bytes().saturating_sub(before);
                self.pass_on(*index)?;
                if bytes > self.pump_bytes_max {
                    return Ok(None);
                }
            }
        }
        // Tasks of other threads have not looked, nor those that what these have told comes to.
        self.end_outgrown_rests()?;
        Ok(Some(idle))
    }

    /// Says of each task that rests, on whatever thread, and whose input has grown that it holds time back again.
    fn end_outgrown_rests(&mut self) -> Result<(), StreamsError> {
        let told = self.around.resting.end_outgrown(self.around.ends(), self.epoch)?;
        self.sent_to.extend(told);
        Ok(())
    }

    /// One step of a task.
    fn turn(&mut self, index: TaskIndex, inputs: Inputs) -> Result<bool, StreamsError> {
        let around = Arc::clone(&self.around);
        let epoch = self.epoch;
        let task = &mut self.tasks[index];
        let take = match around.holds_back(task) {
            false => Take::All,
            true if task.is_fed_back() => Take::FedBack,
            true => return Ok(false),
        };
        let inputs = if take == Take::FedBack { Inputs::Exchange } else { inputs };
        let began = around.clock.elapsed();
        let has_new = fetch(task, &around, inputs, epoch)?;
        let fetched = around.clock.elapsed();
        task.note_polling(fetched.saturating_sub(began));
        if has_new {
            self.end_outgrown_rests()?;
        }
        // After the fetch: a record finds each row of a global table that was appended before it.
        around.globals.catch_up()?;
        let task = &mut self.tasks[index];
        let step = task.step(Now::on(&*around.clock), take).map_err(failed(task.id))?;
        self.pass_on(index)?;
        let (has_run, task) = (step == Step::Ran, &mut self.tasks[index]);
        let took = around.clock.elapsed().saturating_sub(fetched);
        if has_run {
            task.note_processing(took);
        } else {
            task.note_idle(took);
        }
        Ok(has_run)
    }

    /// Hands what a task sends to the exchange.
    fn pass_on(&mut self, index: TaskIndex) -> Result<(), StreamsError> {
        let task = &mut self.tasks[index];
        let id = task.id;
        let around = &self.around;
        let telling = match task.is_near_rest() {
            true => Some(around.resting.begin(task, around.ends())?),
            false => None,
        };
        for (topic, partition, records) in task.sends().map_err(failed(id))? {
            around.exchange.send(id, &topic, partition, records, self.epoch);
            self.sent_to.insert(partition);
        }
        telling.into_iter().for_each(|telling| telling.end(task));
        Ok(())
    }

    /// The partitions whose readers were sent something since the last call, and those whose writers waited for what has
    /// been read by now.
    pub(in crate::runtime) fn take_woken(&mut self) -> BTreeSet<u32> {
        let mut partitions = std::mem::take(&mut self.sent_to);
        partitions.extend(self.around.exchange.take_released());
        partitions
    }

    /// Takes the records on their way to the tasks of `level` and has those tasks forward what they hold back.
    pub(in crate::runtime) fn flush_level(&mut self, level: usize) -> Result<(), StreamsError> {
        for index in self.tasks.indexes() {
            if self.tasks[index].level != level {
                continue;
            }
            self.tasks[index].set_near_commit(true);
            if level > 0 && !self.around.exchange.is_through_topic() {
                self.drain(index)?;
            }
            let (task, began) = (&mut self.tasks[index], self.around.clock.elapsed());
            task.flush().map_err(failed(task.id))?;
            task.set_near_commit(false);
            self.pass_on(index)?;
            let took = self.around.clock.elapsed().saturating_sub(began);
            self.tasks[index].note_committing(took);
        }
        Ok(())
    }

    /// Takes what is on its way to a task, up to a bound.
    fn drain(&mut self, index: TaskIndex) -> Result<(), StreamsError> {
        let rows = |task: &Task| task.records + task.forwarded;
        let (bound, bytes_max) =
            (rows(&self.tasks[index]) + DRAIN_RECORDS_MAX, self.around.commit_part_bytes);
        while rows(&self.tasks[index]) < bound
            && self.tasks[index].uncommitted_bytes() <= bytes_max
            && self.turn(index, Inputs::Exchange)?
        {}
        Ok(())
    }

    /// Declares external inputs to end at `ends`: nothing past them is taken, nor anything of a partition that has none.
    pub(in crate::runtime) fn end_input(&mut self, ends: &InputEnds) {
        self.set_input_complete(true);
        for task in self.tasks.values_mut() {
            let external: Vec<TopicPartition> = task.external_inputs().cloned().collect();
            for partition in external {
                task.end_input(&partition, ends.get(&partition).copied().unwrap_or(0));
            }
        }
    }

    /// Says whether all input is there, so that no record waits for more.
    pub(in crate::runtime) fn set_input_complete(&mut self, is_complete: bool) {
        self.tasks.values_mut().for_each(|task| task.set_input_complete(is_complete));
    }

    /// Whether a task waits for calls and has no answer.
    pub(in crate::runtime) fn waits_for_calls(&self) -> bool {
        self.tasks.values().any(Task::waits_for_calls)
    }

    /// Tells tasks whose input is complete; true once all have been told.
    pub(in crate::runtime) fn finish(&mut self) -> Result<bool, StreamsError> {
        let mut all = true;
        for index in self.tasks.indexes() {
            let task = &mut self.tasks[index];
            all &= task.finish().map_err(failed(task.id))?;
            self.pass_on(index)?;
        }
        Ok(all)
    }

    /// Every task's part of commit `epoch`; what is done from now on belongs to the next.
    pub(in crate::runtime) fn collect(
        &mut self,
        epoch: u64,
    ) -> Result<Vec<TaskCommit>, StreamsError> {
        let clock = Arc::clone(&self.around.clock);
        let collect = |task: &mut Task| {
            let began = clock.elapsed();
            let collected = task.collect(epoch).map_err(failed(task.id));
            // What the next commit tells.
            task.note_committing(clock.elapsed().saturating_sub(began));
            collected
        };
        self.epoch = epoch + 1;
        self.tasks.values_mut().map(collect).collect()
    }

    /// Commit `epoch` is durable and published; caches may keep `bytes_a_task` for each task. Says what they hold then.
    pub(in crate::runtime) fn published(&mut self, epoch: u64, bytes_a_task: usize) -> usize {
        let bytes_max = bytes_a_task.saturating_mul(self.tasks.len());
        let uses: Vec<_> = self.tasks.values_mut().map(Task::cache_uses).collect();
        let marks = CacheMarks::of(uses.iter().flatten().copied(), bytes_max);
        let tasks = self.tasks.values_mut().zip(&uses);
        tasks.map(|(task, uses)| task.published(epoch, uses, marks)).sum()
    }

    /// What the caches of its tasks hold.
    pub(in crate::runtime) fn cached_bytes(&self) -> usize {
        self.tasks.values().map(Task::cached_bytes).sum()
    }

    pub(in crate::runtime) fn uncommitted_bytes(&self) -> usize {
        self.tasks.values().map(Task::uncommitted_bytes).sum()
    }

    /// Whether anything has happened since the last commit that belongs to the next.
    pub(in crate::runtime) fn has_changed(&self) -> bool {
        self.tasks.values().any(Task::has_changed)
    }

    pub(in crate::runtime) fn commit_requested(&self) -> bool {
        self.tasks.values().any(Task::commit_requested)
    }

    /// How long it is until the next wall-clock punctuation of any task; one that waits for readers has its own once it is
    /// woken.
    pub(in crate::runtime) fn next_timer(&self) -> Option<Duration> {
        let now = Now::on(&*self.around.clock);
        let tasks = self.tasks.values().filter(|task| !self.around.holds_back(task));
        tasks.filter_map(|task| task.next_timer(now)).min()
    }
}

/// Which inputs a step may fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inputs {
    All,
    /// What other tasks of the application send.
    Exchange,
}

/// Fetches what a task wants of its inputs. True if the log had records for it: what others are about to take may be there
/// with them.
///
/// An input that gave nothing is looked at again once another one has given records: what was appended before those, by
/// somebody who waited for it, is there by then, and goes first if it is older. So it is with external inputs where only what
/// tasks send was to be fetched.
fn fetch(
    task: &mut Task,
    around: &Surroundings,
    inputs: Inputs,
    epoch: u64,
) -> Result<bool, LogError> {
    let is_sent = |input: &Wanted| matches!(input.topic, Topic::Repartition(_));
    let (mut to_fetch, mut empty): (VecDeque<_>, VecDeque<_>) =
        task.wanted().partition(|input| inputs == Inputs::All || is_sent(input));
    // What was fetched is kept until it is taken; the other half is for what applications have of each other.
    let share = around.shares.share(Share::Batches) / 2 / around.shares.count().max(1);
    let count = to_fetch.len() + empty.len();
    let bytes_max = (share / count.max(1)).clamp(FETCH_BYTES_MIN, FETCH_BYTES_MAX);
    let bytes_max = bytes_max.min(around.commit_part_bytes);
    let mut has_new = false;
    while let Some(wanted) = to_fetch.pop_front() {
        let Wanted { input, topic, partition } = &wanted;
        let taken = ReaderPosition { consumed: task.fetch_offset(*input), epoch };
        let arrived = around.fetch(topic, partition, taken, bytes_max)?;
        let is_empty = arrived.records.is_empty();
        // An empty answer below the end (only control records, say) still moves the position.
        task.feed(*input, arrived);
        if is_empty {
            empty.push_back(wanted);
        } else {
            has_new |= around.exchange.is_through_topic() || !is_sent(&wanted);
            to_fetch.append(&mut empty);
        }
    }
    Ok(has_new)
}

impl Surroundings {
    /// What there is for a reader of a partition of `topic`.
    fn fetch(
        &self,
        topic: &Topic,
        at: &TopicPartition,
        taken: ReaderPosition,
        bytes_max: usize,
    ) -> Result<Arrived, LogError> {
        let offset = taken.consumed;
        match topic {
            Topic::Repartition(_) => {
                self.exchange.fetch(topic, at.partition, taken, &*self.log, bytes_max)
            }
            Topic::External(_) => match self.feeds.get(at) {
                Some(feed) => feed.read(offset, || self.log.fetch(at, offset, bytes_max)),
                None => broken("a task reads a partition that its application has a feed of"),
            },
        }
    }
}

//! A task: one partition of a sub-topology, as a state machine without I/O.
//!
//! Whoever drives it (a stream thread, the test driver) feeds it what was fetched, lets it step, and takes its part of
//! each commit. The task decides the order of records, runs them through its graph, and keeps its stores.
//!
//! # A step
//!
//! Of two sources, `a` has rows of 1, 2 and 7 ms, `b` of 4 and 5; both end there.
//!
//! | step | takes | because |
//! |---|---|---|
//! | 1 | 1 and 2 of `a` | the next row of `b` is of 4: a run goes up to its rival |
//! | 2 | 4 and 5 of `b` | the next row of `a` is of 7 |
//! | 3 | nothing: it is starved | what `b` has next may be of less than 7, so it is fetched first |
//! | 4 | 7 of `a` | `b` is at its end, and was waited for as long as [`idling`] says |
//! | 5 | nothing: it is idle, once `a` was fetched too | both are at their end |
//!
//! With each run, its rows go through the graph; nodes forward what they have left; they are told the time after it; and
//! what users' processors have scheduled up to then fires. Where a run could show in a result it is one row:
//! [`stepping`] says where.
//!
//! # Invariants
//!
//! - Of several inputs, the record with the smallest timestamp goes next, at equal ones that of the earlier source. One that
//!   is too far ahead is held, and keeps none that come after it waiting.
//! - Whether a step takes one record or thousands never shows in outputs, stores or positions.
//!
//! # Not here
//!
//! Fetching, appending and waiting: [`runtime`](crate::runtime) does them.

mod ahead;
mod ancestry;
mod build;
mod caches;
mod commit;
mod families;
mod graph;
mod held;
mod idling;
mod input;
mod letters;
mod measures;
mod nodes;
mod pace;
mod positions;
mod run_limit;
mod status;
mod stepping;
mod taken;
mod taps;
mod telling;
mod time_vector;

pub(crate) use build::{Blueprint, InputOffsets, Instruments, LastCommit};
pub(crate) use caches::CacheMarks;
pub(crate) use commit::{ChangelogKind, ChangelogPart, ConsumedOffset, PartPosition, TaskCommit};
pub(crate) use input::{Arrived, Wanted};
pub(crate) use measures::{Measure, Measured, OwnCounted, TaskCounts};
pub(crate) use positions::Positions;
pub(crate) use status::{CacheStatus, InputStatus, TaskStatus};
pub use taps::Tap;
pub(crate) use taps::Taps;
pub(crate) use telling::{AtRest, Looked};

use crate::{
    by_index::ByIndex,
    error_handlers::ErrorHandlers,
    node::{Event, Moment, NodeIndex, Now, Payload, Resources, RunRecords, Started},
    processor::{Cancellable, ProcessorError, PunctuationType},
    topology::TaskId,
};
use graph::{Action, Graph};
use hashbrown::HashMap;
use headwater_core::record::{Timestamp, TopicPartition};
use idling::Idling;
use input::{BetweenRows, Input, InputIndex, Run};
use letters::{Letters, Origin};
use measures::TaskTimes;
use pace::Pace;
use status::NotedTime;
use taken::TakenRun;
use telling::Teller;
use time_vector::TimeVector;

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It took records, be they time marks.
    Ran,
    /// An input must be fetched, or waited for, before the next record can be chosen, or a call answered.
    Starved,
    /// Every input is read to its end.
    Idle,
}

/// What a step may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Take {
    All,
    /// What comes back of what the task sent, whatever the timestamps of its other inputs: taking it makes room for more.
    FedBack,
}

/// A partition of a sub-topology.
pub(crate) struct Task {
    pub(crate) id: TaskId,
    pub(crate) level: usize,
    graph: Graph,
    resources: Resources,
    inputs: ByIndex<InputIndex, Input>,
    /// The largest timestamp taken.
    stream_time: Timestamp,
    now: Now,
    /// What was saved at the last commit, by the names of [`positions`]' entries.
    saved: HashMap<String, Vec<u8>>,
    changelogs: Vec<commit::Changelog>,
    letters: Letters,
    error_handlers: ErrorHandlers,
    rows_max: usize,
    run_pace: Pace,
    /// Of chunks of what nodes have left to forward.
    chunk_pace: Pace,
    /// What the readers of each repartition topic were told last, by the sink that writes it.
    tellers: Vec<Teller>,
    /// The run taken last, until what it makes due has been done.
    taken: Option<TakenRun>,
    /// Which nodes have been told that all that comes to them is complete, and nothing more has since.
    ended: ByIndex<NodeIndex, bool>,
    /// Whether what the last commit may have left undone has been done.
    is_caught_up: bool,
    /// Rows that nodes forwarded of what they had left.
    pub(crate) forwarded: u64,
    pub(crate) records: u64,
    /// How records wait for inputs that are at their end.
    idling: Idling,
    /// How long it takes over what.
    times: TaskTimes,
}

impl Task {
    /// The inputs that must be fetched. Those at their ends are among them: an end may have moved.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = Wanted> {
        let empty = self.inputs.iter().filter(|(_, input)| input.is_empty());
        empty.map(|(index, Input { topic, partition, .. })| Wanted {
            input: index,
            topic: topic.clone(),
            partition: partition.clone(),
        })
    }

    /// The offset to fetch an input from.
    pub(crate) fn fetch_offset(&self, input: InputIndex) -> i64 {
        self.inputs[input].fetch_offset
    }

    /// Takes in what was fetched for an input.
    pub(crate) fn feed(&mut self, input: InputIndex, arrived: Arrived) {
        let node = self.inputs[input].node;
        self.resources.metrics[node].bytes += arrived.records.size_bytes() as u64;
        self.note_fetched(arrived.records.len());
        self.inputs[input].feed(arrived);
        if self.inputs[input].vector.is_none() && !self.inputs[input].is_empty() {
            self.reopen(input);
        }
    }

    /// The partitions of external topics that it reads.
    pub(crate) fn external_inputs(&self) -> impl Iterator<Item = &TopicPartition> {
        let external = self.inputs.values().filter(|input| input.vector.is_none());
        external.map(|input| &input.partition)
    }

    /// Whether anything comes back of what it sends.
    pub(crate) fn is_fed_back(&self) -> bool {
        self.inputs.values().any(|input| input.is_fed_back)
    }

    /// Has an input end at `end`: what lies past it is not taken.
    pub(crate) fn end_input(&mut self, partition: &TopicPartition, end: i64) {
        for input in self.inputs.values_mut().filter(|input| input.partition == *partition) {
            input.end_at(end);
        }
    }

    /// Takes records through the graph: runs of them, until about as many rows were taken as a batch may have. Where rows go
    /// one by one, or runs end where another input goes on, what a step costs beside them is shared by as many.
    pub(crate) fn step(&mut self, now: Now, take: Take) -> Result<Step, ProcessorError> {
        self.now = now;
        self.graph.look_for_answers();
        self.fire_on_wall_clock()?;
        let before = self.records;
        let enough = before + self.rows_max.min(self.run_pace.rows_max()) as u64;
        loop {
            let taken = self.records;
            let step = self.take_run(take)?;
            let goes_on = step == Step::Ran && self.records > taken && self.records < enough;
            // A commit may fall between the chunks of what nodes have left.
            if !goes_on || self.graph.is_pending() || self.commit_requested() {
                return Ok(if self.records > before { Step::Ran } else { step });
            }
        }
    }

    /// Takes the next run of records through the graph, or a chunk of what nodes have left.
    fn take_run(&mut self, take: Take) -> Result<Step, ProcessorError> {
        let had_more = self.graph.is_pending();
        let mut took_any = had_more;
        self.idling.look_anew();
        if !self.proceed()? {
            let starves = !took_any && self.waits_for_calls();
            return Ok(if starves { Step::Starved } else { Step::Ran });
        }
        for index in self.inputs.indexes() {
            took_any |= self.take_between_rows(index)?;
            took_any |= self.judge(index)?;
            if !self.is_through() {
                return Ok(Step::Ran);
            }
        }
        // After the last chunk of what was left, what is to be fetched is known before the next step.
        let may_take = |input: &&Input| take == Take::All || input.is_fed_back;
        if had_more || self.inputs.values().filter(may_take).any(Input::is_starved) {
            return Ok(if took_any { Step::Ran } else { Step::Starved });
        }
        if take == Take::All && self.waits_for_inputs() {
            return Ok(if took_any { Step::Ran } else { Step::Starved });
        }
        let heads = self.inputs.iter().filter(|(_, input)| may_take(input));
        let heads = heads.filter_map(|(index, input)| Some((input.head()?, index)));
        let mut heads: Vec<(Timestamp, InputIndex)> = heads.collect();
        heads.sort_unstable();
        let Some((_, first)) = heads.first().copied() else {
            return Ok(match take {
                _ if took_any => Step::Ran,
                Take::All => Step::Idle,
                Take::FedBack => Step::Starved,
            });
        };
        // What the first row says of time holds before it, as if a mark had said it.
        let time = self.inputs[first].head_time();
        if let Some(time) = time.filter(|_| self.graph.keeps_time) {
            self.advance(first, time)?;
            if !self.forward_more()? {
                return Ok(Step::Ran);
            }
        }
        let limit = self.limit(first, heads.get(1).copied())?;
        if let Some(run) = self.inputs[first].take(limit) {
            self.resources.changed = true;
            self.reopen(first);
            self.run(first, run)?;
            if self.proceed()? {
                self.take_between_rows(first)?;
            }
        }
        Ok(Step::Ran)
    }

    /// Lets what lies in front of the next row of each input take effect, unless a node has something left to forward. True
    /// if there was anything.
    pub(crate) fn take_to_rows(&mut self) -> Result<bool, ProcessorError> {
        let mut took_any = false;
        for index in self.inputs.indexes() {
            if self.is_through() {
                took_any |= self.take_between_rows(index)?;
            }
        }
        Ok(took_any)
    }

    /// The present moment, for a call about the records of `source`.
    fn moment<'s>(&self, source: Option<&'s RunRecords>) -> Moment<'s> {
        Moment { stream_time: self.stream_time, now: self.now, source }
    }

    fn run(&mut self, index: InputIndex, run: Run) -> Result<(), ProcessorError> {
        let Run { rows, failures, raw, decided } = run;
        let input = &self.inputs[index];
        let (node, carried, source_time) = (input.node, input.vector.is_some(), input.source_time);
        let partition = input.partition.clone();
        let mut source = RunRecords::new(partition, raw);
        let (mut pushed, bytes_before) = (Ok(()), self.uncommitted_bytes());
        let count = rows.as_ref().map_or(0, |rows| rows.len());
        if let Some(mut rows) = rows {
            self.records += count as u64;
            self.idling.took(count);
            self.resources.note_ages(node, &*rows);
            self.resources.note_lateness(&*rows, self.stream_time);
            if self.graph.has_processors {
                (source.first, source.stream_times) = stream_times(&*rows, self.stream_time);
            }
            if self.graph.caps_by_row {
                (source.first, source.source_times) = stream_times(&*rows, source_time);
            }
            let time = if self.graph.keeps_time && !carried {
                rows.begin_time(source_time)
            } else {
                source_time.max(rows.largest_timestamp())
            };
            self.move_sources(index, time);
            let moment = self.moment(Some(&source));
            pushed = self.graph.push(node, rows, &mut self.resources, moment);
        }
        self.note_time(index);
        self.fail(index, failures);
        let written = self.write_dead_letters(Some(Origin { input: index, source: &source }));
        pushed.and(written)?;
        self.run_pace.ran(count, self.uncommitted_bytes().saturating_sub(bytes_before));
        self.apply(index, decided)?;
        self.taken = Some(TakenRun::new(index, source));
        Ok(())
    }

    /// Notes that an input has told its time.
    fn note_time(&mut self, index: InputIndex) {
        let input = &mut self.inputs[index];
        let time = input.vector.as_ref().map_or(input.source_time, TimeVector::time);
        input.noted_time = Some(NotedTime { time, at: self.now.wall_clock });
    }

    /// Does what the run taken last makes due: nodes forward what they have left, are told its time, and users' processors
    /// punctuate. False if that is not all yet: a step forwards a chunk, so that a commit may fall in between, and calls may have
    /// to be answered first.
    fn proceed(&mut self) -> Result<bool, ProcessorError> {
        if !self.forward_more()? {
            return Ok(false);
        }
        if !std::mem::replace(&mut self.is_caught_up, true) {
            let moment = self.moment(None);
            self.graph.catch_up(&mut self.resources, moment)?;
            self.write_dead_letters(None)?;
            return self.forward_more();
        }
        let Some(taken) = &mut self.taken else { return Ok(true) };
        let input = taken.input;
        if !std::mem::replace(&mut taken.is_told, true) {
            self.tell_time(input)?;
            if !self.forward_more()? {
                return Ok(false);
            }
        }
        while let Some(mut taken) = self.taken.take() {
            let moment = self.moment(Some(&taken.source));
            let left = self.graph.fire_due(taken.fired_to, &mut self.resources, moment)?;
            self.write_dead_letters(Some(taken.origin()))?;
            let Some(fired_to) = left else { break };
            taken.fired_to = fired_to;
            self.taken = Some(taken);
            if !self.forward_more()? {
                return Ok(false);
            }
        }
        self.forward_more()
    }

    /// Whether no node has anything left to forward, nor waits for calls before more may be taken.
    fn is_through(&self) -> bool {
        !self.graph.is_pending() && !self.graph.waits_for_calls()
    }

    /// Has nodes forward a chunk of what they have left; true if that was all, and none waits for calls.
    fn forward_more(&mut self) -> Result<bool, ProcessorError> {
        if !self.graph.is_pending() {
            return Ok(self.is_through());
        }
        self.resources.changed = true;
        // What is left may come of a record of the run taken last, which is then what its dead letters are about.
        let taken = self.taken.take();
        let moment = self.moment(taken.as_ref().map(|taken| &taken.source));
        let (bytes_before, rows_max) = (self.uncommitted_bytes(), self.chunk_pace.rows_max());
        let forwarded = self.graph.resume(rows_max, &mut self.resources, moment);
        let origin = taken.as_ref().map(TakenRun::origin);
        let written = forwarded.and_then(|rows| self.write_dead_letters(origin).map(|()| rows));
        self.taken = taken;
        let rows = written?;
        self.forwarded += rows;
        let bytes = self.uncommitted_bytes().saturating_sub(bytes_before);
        self.chunk_pace.ran(usize::try_from(rows).unwrap_or(usize::MAX), bytes);
        Ok(self.is_through())
    }

    /// Tells the nodes below an input what its time is now, if it is one that a repartition topic carries.
    ///
    /// Those below external inputs are told the time of their family, which stands where the largest timestamp from any of its
    /// inputs does.
    fn tell_time(&mut self, index: InputIndex) -> Result<(), ProcessorError> {
        if !self.graph.keeps_time {
            return Ok(());
        }
        if let Some(time) = self.inputs[index].vector.as_ref().map(TimeVector::time) {
            if self.inputs[index].noted_time.is_none_or(|noted| noted.time < time) {
                self.note_time(index);
            }
            self.advance(index, time)?;
        }
        for index in self.inputs.indexes() {
            let Input { vector, source_time, .. } = &self.inputs[index];
            if vector.is_none() {
                let source_time = *source_time;
                self.advance(index, source_time)?;
            }
        }
        Ok(())
    }

    fn advance(&mut self, index: InputIndex, time: Timestamp) -> Result<(), ProcessorError> {
        let node = self.inputs[index].node;
        let moment = self.moment(None);
        self.graph.advance(node, time, &mut self.resources, moment)?;
        self.write_dead_letters(None)
    }

    /// Has the graph take up its times again as they were at the last commit.
    fn restore_times(&mut self) {
        let time =
            |input: &Input| input.vector.as_ref().map_or(input.source_time, TimeVector::time);
        let sources: Vec<(NodeIndex, Timestamp)> =
            self.inputs.values().map(|input| (input.node, time(input))).collect();
        self.graph.restore_times(&sources);
        // What is scheduled anew goes by the time at which a processor stands.
        for punctuation in self.resources.punctuations.values_mut() {
            let slot = &self.graph.slots[punctuation.node];
            if punctuation.kind == PunctuationType::StreamTime && slot.lives_by_rows() {
                punctuation.begin_at(slot.time);
            }
        }
    }

    /// Lets everything in front of an input's next row take effect: time marks, and records that cannot be read. True if
    /// there was anything.
    fn take_between_rows(&mut self, index: InputIndex) -> Result<bool, ProcessorError> {
        let mut any = false;
        let rows_max = self.rows_max;
        while let Some(between) = self.decode(index, rows_max) {
            (any, self.resources.changed) = (true, true);
            if let BetweenRows::Failures(failures, records) = between {
                let partition = self.inputs[index].partition.clone();
                let source = RunRecords::new(partition, records);
                let origin = Origin { input: index, source: &source };
                self.fail(index, failures);
                self.write_dead_letters(Some(origin))?;
            }
            if self.inputs[index].vector.as_ref().is_some_and(|vector| !vector.is_complete()) {
                self.reopen(index);
            }
            self.tell_time(index)?;
            if !self.forward_more()? {
                break;
            }
        }
        Ok(any)
    }

    /// Decodes on until a row of an input is next, and gives what lies before it.
    fn decode(&mut self, index: InputIndex, rows_max: usize) -> Option<BetweenRows> {
        let node = self.inputs[index].node;
        let started = self.resources.begin_decoding(node);
        let between = self.inputs[index].decode_to_row(rows_max, self.now);
        let rows = std::mem::take(&mut self.inputs[index].rows_decoded);
        if rows > 0 {
            self.resources.end_batch(node, started.map(|at| Started { rows, at }));
        }
        between
    }

    /// More has come, or may come, from an input whose end nodes may have been told.
    fn reopen(&mut self, index: InputIndex) {
        if !self.ended.values().any(|ended| *ended) {
            return;
        }
        let below = self.graph.below([self.inputs[index].node]);
        for (node, ended) in self.ended.iter_mut() {
            *ended &= !below[node];
        }
    }

    /// Tells every node that all that comes to it is complete, once it is: the inputs above it at their end, and those of
    /// repartition topics declared complete by their writers. That may be the task itself, which then has told the nodes
    /// above the sink before. True if all have been told, and nothing has come since.
    pub(crate) fn finish(&mut self) -> Result<bool, ProcessorError> {
        self.graph.look_for_answers();
        if !self.end_held()? {
            return Ok(false);
        }
        let is_open = |input: &&Input| {
            let is_complete = input.vector.as_ref().is_none_or(TimeVector::is_complete);
            !input.is_at_end() || !is_complete
        };
        let open = self.inputs.values().filter(is_open).map(|input| input.node);
        let open = self.graph.below(open);
        for node in self.graph.slots.indexes() {
            if open[node] || self.ended[node] {
                continue;
            }
            if !self.proceed()? {
                return Ok(false);
            }
            self.ended[node] = true;
            self.resources.changed = true;
            for event in [Event::End, Event::Flush] {
                let moment = self.moment(None);
                self.graph.raise(node, event, &mut self.resources, moment)?;
            }
            self.write_dead_letters(None)?;
        }
        Ok(self.proceed()? && self.ended.values().all(|ended| *ended))
    }

    /// Fires the wall-clock punctuations that are due, once each, however many due points have gone by, in the order of the
    /// times at which they were due.
    fn fire_on_wall_clock(&mut self) -> Result<(), ProcessorError> {
        let elapsed = self.now.elapsed_ms;
        let due = self.resources.punctuations.iter().filter_map(|(number, punctuation)| {
            let is_of_it = punctuation.kind == PunctuationType::WallClockTime;
            let due = punctuation.due.filter(|due| is_of_it && *due <= elapsed)?;
            Some((due, *number))
        });
        let mut due: Vec<(i64, usize)> = due.collect();
        due.sort_unstable();
        for (_, number) in due {
            // The one before may have cancelled it.
            let Some(punctuation) = self.resources.punctuations.get_mut(&number) else { continue };
            punctuation.fired_at(elapsed);
            let node = punctuation.node;
            let began = self.resources.began_punctuation();
            let event = Event::Punctuate(Cancellable(number), self.now.wall_clock);
            let moment = self.moment(None);
            self.graph.raise(node, event, &mut self.resources, moment)?;
            self.resources.ended_punctuation(began);
            self.write_dead_letters(None)?;
        }
        Ok(())
    }

    /// About how many bytes the next commit will hold.
    pub(crate) fn uncommitted_bytes(&self) -> usize {
        let sinks = self.graph.slots.values().map(|slot| match &slot.action {
            Action::Write(_, records) => records.bytes,
            Action::Source | Action::Port(_) | Action::Process(..) => 0,
        });
        let stores = self.resources.stores.iter().map(|store| store.dirty_bytes());
        let held = self.inputs.values().filter_map(|input| input.held.as_ref());
        let held = held.map(|held| held.unsaved_bytes());
        sinks.sum::<usize>()
            + self.resources.dynamic_outputs.bytes()
            + stores.sum::<usize>()
            + held.sum::<usize>()
            + self.letters.size_bytes()
    }

    /// Whether anything has happened since the last commit that belongs to the next: something was taken, written,
    /// dropped or told, be it by a punctuation of an idle task.
    pub(crate) fn has_changed(&self) -> bool {
        self.resources.changed || self.uncommitted_bytes() > 0
    }

    /// Whether a node takes no more rows before calls are answered, and none has been.
    pub(crate) fn waits_for_calls(&self) -> bool {
        self.graph.waits_for_calls() && !self.graph.is_pending()
    }

    /// Whether a processor asked for a commit.
    pub(crate) fn commit_requested(&self) -> bool {
        self.resources.commit_requested
    }
}

/// The stream time with each row of a run counted in, by place, and the place of the first.
fn stream_times(rows: &dyn Payload, before: Timestamp) -> (u32, Vec<Timestamp>) {
    let (mut stamps, mut times, mut time) = (Vec::with_capacity(rows.len()), Vec::new(), before);
    rows.stamps(&mut stamps);
    let first = stamps.first().map_or(0, |stamp| stamp.origin);
    for stamp in stamps {
        // Places of records that could not be read stand at the time before them.
        times.resize(stamp.origin.saturating_sub(first) as usize, time);
        time = time.max(stamp.timestamp);
        times.push(time);
    }
    (first, times)
}

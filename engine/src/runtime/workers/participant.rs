//! The tasks of one application that one worker holds, and how they go through rounds.

use crate::runtime::{
    application::incarnation::Incarnation,
    commit::rounds::{Next, Request, Turn, View},
    config::ProcessingGuarantee,
    error::StreamsError,
    tasks::task_group::TaskGroup,
};
use crate::{broken::broken, caught::caught};
use headwater_core::{
    memory::CachedBytes,
    ports::log::{Append, Commit},
};
use std::{sync::Arc, time::Duration};

/// At-least-once, outputs go out when there is nothing more to take, and at least this often: a frame and a sync for
/// every batch of a busy thread would cost more than they bring.
const SEND_EVERY: Duration = Duration::from_millis(10);

/// What a participant wants after its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::runtime) enum Rest {
    /// Another turn.
    None,
    /// A turn at this moment, or when it is woken.
    Until(Option<Duration>),
    /// To be dropped.
    Over,
}

/// Where in a round a participant is.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// In none: it takes input.
    Running,
    /// About to take what is on its way to the tasks of a level, and to flush them.
    Level(usize),
    /// Done with a level, and waiting for the barrier to open.
    Barrier { level: usize, opening: u64 },
}

/// What became of the input in a turn.
#[derive(Debug, Clone, Copy, Default)]
struct Intake {
    /// Whether there was any.
    has_run: bool,
    /// Whether it is complete, and every task knows.
    has_finished: bool,
}

pub(in crate::runtime) struct Participant {
    incarnation: Arc<Incarnation>,
    tasks: TaskGroup,
    stage: Stage,
    /// Rounds that it has collected for.
    rounds: u64,
    last: Turn,
    published: u64,
    /// What the caches of one task may hold, as was last seen.
    cache_bytes: usize,
    /// What the caches may come to hold before they shrink again, whether or not a commit was published.
    cached_max: usize,
    cached: CachedBytes,
    /// When outputs were last sent ahead of a commit.
    sent: Duration,
    /// Whether its tasks know where their input ends.
    has_input_end: bool,
}

impl Participant {
    pub(in crate::runtime) fn new(incarnation: Arc<Incarnation>, tasks: TaskGroup) -> Self {
        let cached = CachedBytes::of(&incarnation.world.memory);
        Self {
            incarnation,
            tasks,
            stage: Stage::Running,
            rounds: 0,
            // Until it has had a turn it counts as busy.
            last: Turn { has_run: true, ..Turn::default() },
            published: 0,
            cache_bytes: usize::MAX,
            cached_max: 0,
            cached,
            sent: Duration::ZERO,
            has_input_end: false,
        }
    }

    /// Does what there is to do now.
    pub(in crate::runtime) fn turn(&mut self, now: Duration) -> Result<Rest, StreamsError> {
        self.incarnation.count_turn();
        let application = &self.incarnation.blueprint.application_id;
        let _span =
            tracing::trace_span!("step", %application, tasks = self.tasks.tasks.len()).entered();
        loop {
            let view = self.incarnation.rounds.view();
            if view.is_over {
                return Ok(Rest::Over);
            }
            match self.stage {
                Stage::Running if view.wanted_rounds > self.rounds => self.stage = Stage::Level(0),
                Stage::Running => {
                    if let Some(rest) = self.run(view, now)? {
                        return Ok(rest);
                    }
                }
                Stage::Level(level) => self.do_level(level)?,
                Stage::Barrier { level, opening } => {
                    if !self.incarnation.rounds.has_opened(opening) {
                        return Ok(Rest::Until(None));
                    }
                    self.stage = Stage::Level(level + 1);
                }
            }
        }
    }

    /// Takes input, and says whether a commit is due. Nothing, if a round was begun and must be gone through first.
    fn run(&mut self, view: View, now: Duration) -> Result<Option<Rest>, StreamsError> {
        self.shrink_caches(view);
        self.incarnation.check_assignment()?;
        // What comes after the last round would never be committed.
        let is_full = view.is_full || self.has_next_part(view) || self.has_log_to_wait_for();
        if is_full || view.request == Request::Close {
            return Ok(Some(Rest::Until(None)));
        }
        let Intake { has_run, has_finished } =
            if view.is_paused { Intake::default() } else { self.take(view.request)? };
        if !has_run || now.saturating_sub(self.sent) >= SEND_EVERY {
            self.send_ahead(view, now)?;
        }
        self.wake_others();
        let uncommitted_bytes = self.tasks.uncommitted_bytes();
        let turn = Turn {
            has_run,
            has_changed: self.tasks.has_changed(),
            asks_for_commit: self.tasks.commit_requested()
                || uncommitted_bytes > self.incarnation.uncommitted_bytes_max(),
            uncommitted_bytes,
            has_finished,
        };
        let next = self.incarnation.rounds.note(turn, self.last, self.rounds);
        self.last = turn;
        Ok(match next {
            Next::Begun => {
                self.incarnation.wake_all();
                None
            }
            Next::Wait(_) if has_run => Some(Rest::None),
            Next::Wait(due) => {
                let timer = self.tasks.next_timer().filter(|_| !view.is_paused);
                let timer = timer.map(|after| now + after);
                Some(Rest::Until(due.into_iter().chain(timer).min()))
            }
        })
    }

    /// Has caches keep to their share: once a commit is published, and before that where they have grown beyond it. What is only read
    /// makes no commit due, and a log may answer none for long.
    fn shrink_caches(&mut self, view: View) {
        let incarnation = &self.incarnation;
        let cache_bytes = incarnation.cache_bytes_a_task();
        let is_due = view.published != self.published || cache_bytes < self.cache_bytes;
        self.cache_bytes = cache_bytes;
        if !is_due && self.tasks.cached_bytes() <= self.cached_max {
            return;
        }
        self.published = view.published;
        let kept = self.tasks.published(view.published, cache_bytes);
        // What has changed and is not published stays whatever the share is, and is not looked at again for every row.
        let share = incarnation.cache_share_of(self.tasks.tasks.len());
        self.cached_max = share.max(kept + share / 8);
        self.cached.set(kept);
        incarnation.bound_caches();
    }

    /// Whether it has given its part of the round that is under way, and holds as much as may be for the next, which begins once
    /// the others have given theirs.
    fn has_next_part(&self, view: View) -> bool {
        let incarnation = &self.incarnation;
        let bytes_max = incarnation.rounds.bytes_max().min(incarnation.uncommitted_bytes_max());
        self.rounds > view.rounds && self.tasks.uncommitted_bytes() > bytes_max
    }

    /// Whether there is no room for more until the log has answered some of what it has.
    fn has_log_to_wait_for(&self) -> bool {
        self.incarnation.is_unanswered_full(|| self.tasks.uncommitted_bytes())
    }

    /// Gives the tasks a turn, in which they take input and find it complete where it is to be drained.
    fn take(&mut self, request: Request) -> Result<Intake, StreamsError> {
        let is_draining = request == Request::Drain;
        if is_draining && !self.has_input_end {
            let ends = self.incarnation.input_ends.get();
            self.tasks.end_input(
                ends.unwrap_or_else(|| broken("a drain has an end before it is asked for")),
            );
            self.has_input_end = true;
        }
        let has_run = self.tasks.pump()?;
        if has_run || !is_draining {
            return Ok(Intake { has_run, has_finished: false });
        }
        let has_finished = self.tasks.finish()?;
        let has_run = self.tasks.pump()?;
        Ok(Intake { has_run, has_finished: has_finished && !has_run })
    }

    /// At-least-once: outputs go out as soon as they are made; the commit that follows carries only the offsets. Outputs
    /// of a later round never go ahead of those of an earlier one, which leave when all have collected.
    fn send_ahead(&mut self, view: View, now: Duration) -> Result<(), StreamsError> {
        let incarnation = &self.incarnation;
        let is_wanted =
            incarnation.guarantee == ProcessingGuarantee::AtLeastOnce && view.rounds >= self.rounds;
        if !is_wanted {
            return Ok(());
        }
        self.sent = now;
        let tasks = self.tasks.tasks.values_mut();
        let appends: Vec<Append> = tasks.flat_map(|task| task.outputs()).collect();
        if !appends.is_empty() {
            let owner = Some(incarnation.owner.clone());
            let commit = Commit { owner, appends, offsets: Vec::new() };
            incarnation.send_ahead(commit);
        }
        Ok(())
    }

    /// Wakes who reads what was sent, and who waited for what was read.
    fn wake_others(&mut self) {
        for partition in self.tasks.take_woken() {
            self.incarnation.wake_owner(partition);
        }
    }

    /// Does one level of a round.
    fn do_level(&mut self, level: usize) -> Result<(), StreamsError> {
        self.tasks.flush_level(level)?;
        self.wake_others();
        if level + 1 < self.incarnation.rounds.levels() {
            let (opening, is_last) = self.incarnation.rounds.arrive();
            self.stage = Stage::Barrier { level, opening };
            if is_last {
                self.incarnation.wake_all();
            }
            return Ok(());
        }
        let epoch = self.incarnation.epoch_of_round(self.rounds);
        let parts = self.tasks.collect(epoch)?;
        self.rounds += 1;
        self.stage = Stage::Running;
        if let Some(parts) = self.incarnation.rounds.collect(parts) {
            self.incarnation.submit(epoch, parts)?;
        }
        Ok(())
    }

    /// Its tasks could not go on.
    pub(in crate::runtime) fn fail(&self, error: StreamsError) {
        self.incarnation.fail(error);
    }

    /// Its worker ends.
    pub(in crate::runtime) fn abandon(self) {
        self.fail(StreamsError::NotRunning);
        self.leave();
    }

    /// It is being dropped, with its tasks.
    pub(in crate::runtime) fn leave(self) {
        let Self { incarnation, tasks, .. } = self;
        // Processors are the user's, and so is what they do as they are dropped; there is nothing left that it could fail.
        if let Err(message) = caught(|| drop(tasks)) {
            let application = &incarnation.blueprint.application_id;
            tracing::error!(%application, message, "a task panicked as it was dropped");
        }
        incarnation.left();
    }
}

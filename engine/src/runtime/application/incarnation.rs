//! An application from one claim on: its tasks, and all that is lost when it resumes from its last commit.

use crate::runtime::{
    application::Shared,
    commit::assemble::EpochCommit,
    commit::committer::{CommitQueue, Handed},
    commit::rounds::{Request, Rounds},
    config::ProcessingGuarantee,
    error::StreamsError,
    metrics::Dealt,
    tasks::assignment::{AssignmentChange, Held, Watch},
    tasks::setup::{InputEnds, World, external_inputs, has_new_match, repartition_inputs},
    tasks::task_group::{Surroundings, TaskGroup},
    workers::mailbox::Seat,
    workers::participant::Participant,
};
use crate::{
    broken::broken,
    task::{Blueprint, Task, TaskCommit},
};
use headwater_core::{
    memory::Share,
    ports::{
        log::{Commit, Owner, Subscription, Waker},
        state::ApplicationState,
    },
};
use std::sync::{
    Arc, Mutex, OnceLock, PoisonError, Weak,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};
use std::time::Duration;

/// What was handed in and has no outcome yet: commits, and outputs that were sent ahead of theirs.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Unanswered {
    bytes: AtomicUsize,
    /// Whether a participant waits for room.
    has_waiting: AtomicBool,
}

/// An application from one claim on: its tasks, and all that is lost when it resumes from its last commit.
#[derive(Debug)]
pub(in crate::runtime) struct Incarnation {
    pub(in crate::runtime) blueprint: Arc<Blueprint>,
    pub(in crate::runtime) around: Arc<Surroundings>,
    pub(in crate::runtime) owner: Owner,
    /// Kept for as long as its owner commits.
    pub(in crate::runtime) held: Mutex<Option<Held>>,
    pub(in crate::runtime) watch: Arc<Watch>,
    /// The number of the commit before its first.
    pub(in crate::runtime) epoch: u64,
    /// Whether it ends so that tasks are dealt anew.
    pub(in crate::runtime) is_rebalancing: AtomicBool,
    pub(in crate::runtime) world: World,
    pub(in crate::runtime) state: Arc<dyn ApplicationState>,
    pub(in crate::runtime) rounds: Rounds,
    pub(in crate::runtime) guarantee: ProcessingGuarantee,
    /// What the caches of all tasks may hold, if there is memory enough.
    pub(in crate::runtime) cache_bytes_max: usize,
    pub(in crate::runtime) members: Vec<Seat>,
    /// How many tasks it has.
    pub(in crate::runtime) tasks: usize,
    pub(in crate::runtime) commits: Arc<CommitQueue>,
    pub(in crate::runtime) unanswered: Unanswered,
    pub(in crate::runtime) application: Weak<Shared>,
    pub(in crate::runtime) turns: Arc<AtomicU64>,
    /// Wake participants when an external input has grown.
    pub(in crate::runtime) subscriptions: Mutex<Vec<Subscription>>,
    pub(in crate::runtime) has_ended: AtomicBool,
    /// Since when its tasks are to be given up, so that others are made.
    pub(in crate::runtime) leaves_since: OnceLock<Duration>,
    /// See [`Shared`]; there once it is to drain.
    pub(in crate::runtime) input_ends: Arc<OnceLock<InputEnds>>,
}

impl Incarnation {
    /// The number of the commit that a round makes.
    pub(in crate::runtime) fn epoch_of_round(&self, round: u64) -> u64 {
        self.epoch + 1 + round
    }

    /// What the caches of a task may hold after a commit.
    pub(in crate::runtime) fn cache_bytes_a_task(&self) -> usize {
        let shares = &self.around.shares;
        shares.share(Share::Caches).min(self.cache_bytes_max) / shares.count().max(1)
    }

    /// What the caches of so many tasks have of the memory.
    pub(in crate::runtime) fn cache_share_of(&self, tasks: usize) -> usize {
        let shares = &self.around.shares;
        (shares.share(Share::Caches) / shares.count().max(1)).saturating_mul(tasks)
    }

    /// Has all applications keep to what their share is now, if caches hold more than theirs together.
    pub(in crate::runtime) fn bound_caches(&self) {
        let memory = &self.world.memory;
        if memory.cached() > memory.share(Share::Caches)
            && let Some(application) = self.application.upgrade()
        {
            application.parts.wake_all();
        }
    }

    /// The uncommitted bytes of a participant that make a commit due: half its share of memory, so that there is room for the
    /// next while the log is at this one.
    pub(in crate::runtime) fn uncommitted_bytes_max(&self) -> usize {
        self.around.shares.share(Share::Uncommitted) / 2 / self.members.len().max(1)
    }

    /// One of its participants is given a turn.
    pub(in crate::runtime) fn count_turn(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::runtime) fn wake_all(&self) {
        self.members.iter().for_each(Seat::wake);
    }

    /// The participant that holds the tasks of a partition, by number: what one sub-topology sends the next tends to stay
    /// on its worker.
    fn owner_of(&self, partition: u32) -> usize {
        partition as usize % self.members.len().max(1)
    }

    fn seat_of(&self, partition: u32) -> &Seat {
        match self.members.get(self.owner_of(partition)) {
            Some(seat) => seat,
            None => broken("an application has a participant"),
        }
    }

    /// Wakes the participant that holds the tasks of a partition.
    pub(in crate::runtime) fn wake_owner(&self, partition: u32) {
        self.seat_of(partition).wake();
    }

    /// Hands in outputs ahead of the next commit.
    pub(in crate::runtime) fn send_ahead(self: &Arc<Self>, commit: Commit) {
        let bytes = commit.appends.iter().map(|append| append.records.size_bytes()).sum();
        self.unanswered.bytes.fetch_add(bytes, Ordering::SeqCst);
        if let Err(refused) = self.commits.push(self, Handed::Outputs { commit, bytes }) {
            self.answered(&refused, None);
        }
    }

    /// Whether what the log has yet to answer uses up the share of memory of what is uncommitted, with what participants have for
    /// the next commit, each about as many bytes as the one that asks. If so, all are woken once the log has answered some.
    pub(in crate::runtime) fn is_unanswered_full(&self, uncommitted: impl Fn() -> usize) -> bool {
        let unanswered = || self.unanswered.bytes.load(Ordering::SeqCst);
        if unanswered() == 0 {
            return false;
        }
        let next = uncommitted().saturating_mul(self.members.len());
        let bytes_max = self.around.shares.share(Share::Uncommitted).saturating_sub(next);
        let exceeds = || unanswered() > bytes_max;
        if !exceeds() {
            return false;
        }
        self.unanswered.has_waiting.store(true, Ordering::SeqCst);
        // What was answered before that woke nobody.
        exceeds()
    }

    /// Puts the commit of a round together and hands it in.
    pub(in crate::runtime) fn submit(
        self: &Arc<Self>,
        epoch: u64,
        parts: Vec<TaskCommit>,
    ) -> Result<(), StreamsError> {
        let began = self.world.clock.elapsed();
        if let Some(application) = self.application.upgrade() {
            application.seen().note(&parts, began);
        }
        let commit = EpochCommit::new(epoch, parts, &self.blueprint, &self.around, &self.owner)?;
        let mut refused = None;
        let handed = (!commit.is_empty()).then(|| {
            let bytes = commit.size_bytes();
            self.unanswered.bytes.fetch_add(bytes, Ordering::SeqCst);
            Handed::Commit { commit: Box::new(commit), bytes, began }
        });
        let hand_in = handed.map(|handed| || refused = self.commits.push(self, handed).err());
        self.rounds.submitted(hand_in);
        if let Some(refused) = refused {
            self.answered(&refused, None);
        }
        self.wake_all();
        Ok(())
    }

    /// What was handed in has its outcome: `published`, if it is durable and, for a commit, can be read from the state.
    pub(in crate::runtime) fn answered(&self, handed: &Handed, published: Option<u64>) {
        match handed {
            Handed::Commit { bytes, began, .. } => {
                self.unanswered.bytes.fetch_sub(*bytes, Ordering::SeqCst);
                self.rounds.answered(published);
                if let (Some(_), Some(application)) = (published, self.application.upgrade()) {
                    application.seen().committed(self.world.clock.elapsed().saturating_sub(*began));
                }
                self.wake_all();
                self.check_end();
            }
            Handed::Outputs { bytes, .. } => {
                self.unanswered.bytes.fetch_sub(*bytes, Ordering::SeqCst);
                if self.unanswered.has_waiting.swap(false, Ordering::SeqCst) {
                    self.wake_all();
                }
            }
        }
    }

    /// Stops its tasks because of `error`.
    pub(in crate::runtime) fn fail(&self, error: StreamsError) {
        if self.rounds.fail(error) {
            self.wake_all();
        }
    }

    /// A participant has dropped its tasks.
    pub(in crate::runtime) fn left(&self) {
        self.rounds.leave();
        self.check_end();
    }

    /// Ends it with a last commit, so that tasks are dealt anew.
    pub(in crate::runtime) fn rebalance(&self) {
        self.leaves_since.get_or_init(|| self.world.clock.elapsed());
        self.is_rebalancing.store(true, Ordering::Release);
        self.rounds.ask(Request::Close);
        self.wake_all();
    }

    /// Asks the claim whether other partitions may be read from now on, if its log has said so.
    pub(in crate::runtime) fn check_assignment(&self) -> Result<(), StreamsError> {
        if !self.watch.take_changed() {
            return Ok(());
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match held.as_mut().map_or(Ok(AssignmentChange::None), Held::next)? {
            AssignmentChange::None if self.blueprint.topology.has_patterns() => {
                if has_new_match(&self.blueprint, &*self.world.log)? {
                    self.rebalance();
                }
            }
            AssignmentChange::None => {}
            AssignmentChange::Moved => self.rebalance(),
            AssignmentChange::Lost => {
                self.leaves_since.get_or_init(|| self.world.clock.elapsed());
                let group = Arc::clone(&self.owner.group);
                return Err(StreamsError::AssignmentLost { group });
            }
        }
        Ok(())
    }

    /// What the next incarnation goes on with, if this one has ended for it.
    fn take_held(&self) -> Option<Held> {
        if !self.is_rebalancing.load(Ordering::Acquire) {
            return None;
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        held.epoch = self.epoch + self.rounds.view().rounds;
        Some(held)
    }

    fn check_end(&self) {
        if self.rounds.has_ended() && !self.has_ended.swap(true, Ordering::AcqRel) {
            self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).clear();
            if let Some(application) = self.application.upgrade() {
                if let Some(since) = self.leaves_since.get() {
                    let now = self.world.clock.elapsed();
                    let dealt = self.rounds.failure().map_or(Dealt::Revoked, |_| Dealt::Lost);
                    application.seen().dealt(dealt, (*since, now));
                }
                application.incarnation_ended(self.rounds.failure(), self.take_held());
            }
        }
    }
}

/// Has each call that is answered wake the participant that made it.
pub(in crate::runtime) fn connect_calls(incarnation: &Arc<Incarnation>) {
    let made = Arc::downgrade(incarnation);
    incarnation.around.call_waker.connect(move |partition| {
        if let Some(incarnation) = made.upgrade() {
            incarnation.wake_owner(partition);
        }
    });
}

/// Has participants woken when the partitions that their tasks read have grown.
pub(in crate::runtime) fn subscribe(incarnation: &Incarnation) -> Result<(), StreamsError> {
    let mut subscriptions = Vec::new();
    let mut inputs = external_inputs(&incarnation.blueprint);
    if incarnation.around.exchange.is_through_topic() {
        inputs.extend(repartition_inputs(&incarnation.blueprint));
    }
    inputs.extend(incarnation.around.globals.inputs().cloned());
    for partition in inputs {
        let seat = incarnation.seat_of(partition.partition);
        let (mailbox, id) = (Arc::clone(&seat.mailbox), seat.id);
        let waker: Waker = Arc::new(move || mailbox.wake(id));
        subscriptions.push(incarnation.world.log.subscribe(&partition, waker)?);
    }
    if incarnation.blueprint.topology.has_patterns() {
        let waker = incarnation.watch.waker();
        subscriptions.push(incarnation.world.log.subscribe_to_topics(Arc::clone(&waker)));
        // What was created since the tasks were planned is looked for as well.
        waker();
    }
    *incarnation.subscriptions.lock().unwrap_or_else(PoisonError::into_inner) = subscriptions;
    Ok(())
}

/// Gives each member its tasks.
pub(in crate::runtime) fn assign(incarnation: &Arc<Incarnation>, tasks: Vec<Task>) {
    let mut groups: Vec<Vec<Task>> = incarnation.members.iter().map(|_| Vec::new()).collect();
    for task in tasks {
        match groups.get_mut(incarnation.owner_of(task.id.partition)) {
            Some(group) => group.push(task),
            None => broken("an application has a participant"),
        }
    }
    for (seat, group) in incarnation.members.iter().zip(groups) {
        let around = Arc::clone(&incarnation.around);
        let (epoch, groups) = (incarnation.epoch_of_round(0), incarnation.members.len());
        let group = TaskGroup::new(group, around, epoch, groups);
        seat.mailbox.assign(seat.id, Participant::new(Arc::clone(incarnation), group));
    }
}

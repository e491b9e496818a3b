//! An application: a topology with its id, running on a runtime beside others.

use super::{
    assemble::EpochCommit,
    assignment::{Change, Held, Watch},
    committer::{CommitQueue, Handed},
    config::{ProcessingGuarantee, StreamsConfig, UncaughtExceptionResponse},
    error::StreamsError,
    mailbox::Seat,
    metrics::{Seen, StreamsMetrics},
    participant::Participant,
    query::{ReadOnlyKeyValueStore, StateSnapshot},
    rounds::{Pace, Request, Rounds},
    setup::{Ready, World, external_inputs, prepare, repartition_inputs},
    task_group::{Surroundings, TaskGroup, TaskPart},
    threads::Parts,
};
use crate::{
    node::Payload,
    processor::{Record, Rows},
    task::{Blueprint, Tap, Taps, Task},
    topology::Topology,
};
use headwater_core::{
    memory::Share,
    metrics::NodeMetrics,
    ports::{
        log::{Owner, Subscription, Waker},
        state::ApplicationState,
    },
    record::TopicPartition,
    serde::Data,
};
use std::{
    any::Any,
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Where an application is in its life.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum StreamsState {
    /// Taking records.
    Running,
    /// Told to take no records for now.
    Paused,
    /// Stopped by a failure, and about to go on from its last commit.
    Restarting(StreamsError),
    /// Between two commits, while its tasks are dealt anew: other partitions are assigned to it, or the number of its
    /// threads has changed.
    Rebalancing,
    /// Told to end: taking what is left, if it is to drain, and making its last commit.
    PendingShutdown,
    /// Closed after its last commit.
    NotRunning,
    /// Stopped by a failure; what was not committed is forgotten and done again at the next start.
    Error(StreamsError),
}

/// How far an input is behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// The partition.
    pub partition: TopicPartition,
    /// The committed offset.
    pub committed: i64,
    /// The partition's end.
    pub end: i64,
}

/// Restarts after failures: at most so many within so long.
const RESTARTS_MAX: usize = 5;
const RESTARTS_WITHIN: Duration = Duration::from_secs(600);
/// The wait before the first of them; it doubles.
const RESTART_DELAY: Duration = Duration::from_millis(100);

/// An application from one claim on: its tasks, and all that is lost when it goes on from its last commit.
#[derive(Debug)]
pub(super) struct Incarnation {
    pub(super) blueprint: Arc<Blueprint>,
    pub(super) around: Arc<Surroundings>,
    pub(super) owner: Owner,
    /// Kept for as long as its owner commits.
    held: Mutex<Option<Held>>,
    watch: Arc<Watch>,
    /// The number of the commit before its first.
    epoch: u64,
    /// Whether it ends so that tasks are dealt anew.
    is_rebalancing: AtomicBool,
    pub(super) world: World,
    pub(super) state: Arc<dyn ApplicationState>,
    pub(super) rounds: Rounds,
    pub(super) guarantee: ProcessingGuarantee,
    /// What the caches of all tasks may hold, if there is memory enough.
    cache_bytes_max: usize,
    members: Vec<Seat>,
    /// How many tasks it has.
    tasks: usize,
    commits: Arc<CommitQueue>,
    application: Weak<Shared>,
    turns: Arc<AtomicU64>,
    /// Wake participants when an external input has grown.
    subscriptions: Mutex<Vec<Subscription>>,
    has_ended: AtomicBool,
}

impl Incarnation {
    /// The number of the commit that a round makes.
    pub(super) fn epoch_of_round(&self, round: u64) -> u64 {
        self.epoch + 1 + round
    }

    /// What the caches of a task may hold after a commit.
    pub(super) fn cache_bytes_a_task(&self) -> usize {
        let shares = &self.around.shares;
        shares.share(Share::Caches).min(self.cache_bytes_max) / shares.count().max(1)
    }

    /// Has all applications keep to what their share is now, if caches hold more than theirs together.
    pub(super) fn bound_caches(&self) {
        let memory = &self.world.memory;
        if memory.cached() > memory.share(Share::Caches)
            && let Some(application) = self.application.upgrade()
        {
            application.parts.wake_all();
        }
    }

    /// The uncommitted bytes of a participant that use up its share of memory.
    pub(super) fn uncommitted_bytes_max(&self) -> usize {
        self.around.shares.share(Share::Uncommitted) / self.members.len().max(1)
    }

    /// One of its participants is given a turn.
    pub(super) fn count_turn(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn wake_all(&self) {
        self.members.iter().for_each(Seat::wake);
    }

    /// Wakes the participant that holds the tasks of a partition.
    pub(super) fn wake_owner(&self, partition: u32) {
        if let Some(seat) = self.members.get(partition as usize % self.members.len().max(1)) {
            seat.wake();
        }
    }

    pub(super) fn hand_in(self: &Arc<Self>, handed: Handed) {
        self.commits.push(Arc::clone(self), handed);
    }

    /// Puts the commit of a round together and hands it in.
    pub(super) fn submit(
        self: &Arc<Self>,
        epoch: u64,
        parts: Vec<TaskPart>,
    ) -> Result<(), StreamsError> {
        let began = self.world.clock.elapsed();
        if let Some(application) = self.application.upgrade() {
            application.seen().note(&parts);
        }
        let commit = EpochCommit::new(epoch, parts, (&self.blueprint, &self.around, &self.owner))?;
        let is_commit = !commit.is_empty();
        self.rounds.submitted(is_commit);
        if is_commit {
            self.hand_in(Handed::Commit { commit: Box::new(commit), began });
        }
        self.wake_all();
        Ok(())
    }

    /// What was handed in has its outcome: `published`, if it is durable and, for a commit, can be read from the state.
    pub(super) fn answered(&self, handed: &Handed, published: Option<u64>) {
        if let Handed::Commit { began, .. } = handed {
            self.rounds.answered(published);
            if let (Some(_), Some(application)) = (published, self.application.upgrade()) {
                application.seen().committed(self.world.clock.elapsed().saturating_sub(*began));
            }
            self.wake_all();
            self.check_end();
        }
    }

    /// Stops its tasks because of `error`.
    pub(super) fn fail(&self, error: StreamsError) {
        if self.rounds.fail(error) {
            self.wake_all();
        }
    }

    /// A participant has dropped its tasks.
    pub(super) fn left(&self) {
        self.rounds.leave();
        self.check_end();
    }

    /// Ends it with a last commit, so that tasks are dealt anew.
    fn rebalance(&self) {
        self.is_rebalancing.store(true, Ordering::Release);
        self.rounds.ask(Request::Close);
        self.wake_all();
    }

    /// Asks the claim whether other partitions may be read from now on, if its log has said so.
    pub(super) fn check_assignment(&self) -> Result<(), StreamsError> {
        if !self.watch.take_changed() {
            return Ok(());
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match held.as_mut().map_or(Ok(Change::None), Held::next)? {
            Change::None => {}
            Change::Moved => self.rebalance(),
            Change::Lost => {
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
                application.incarnation_ended(self.rounds.failure(), self.take_held());
            }
        }
    }
}

/// Where an application stands between its incarnations.
#[derive(Debug)]
enum Life {
    Running(Arc<Incarnation>),
    /// It has failed, and goes on from its last commit at this moment.
    Restarting(StreamsError),
    /// It has made a commit, and its tasks are about to be dealt anew.
    Rebalancing,
    Ended(Result<(), StreamsError>),
}

#[derive(Debug)]
struct Current {
    life: Life,
    /// What was asked of it; each incarnation is told.
    request: Request,
    is_paused: bool,
    /// When it was last restarted, as far as it counts.
    restarts: VecDeque<Duration>,
}

/// An application as its handle, its incarnations and the supervisor share it.
pub(super) struct Shared {
    topology: Topology,
    config: StreamsConfig,
    blueprint: Mutex<Option<Arc<Blueprint>>>,
    parts: Arc<Parts>,
    state: Arc<dyn ApplicationState>,
    current: Mutex<Current>,
    /// The claim, between two incarnations that share it.
    held: Mutex<Option<Held>>,
    changed: Condvar,
    seen: Mutex<Seen>,
    /// See [`StreamsMetrics::turns`].
    turns: Arc<AtomicU64>,
    /// On how many threads its tasks may run.
    threads: AtomicUsize,
    taps: Arc<Taps>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Application")
            .field("id", &self.config.application_id)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Starts an application where its last commit left it.
    pub(super) fn start(
        topology: Topology,
        config: StreamsConfig,
        parts: &Arc<Parts>,
    ) -> Result<Arc<Self>, StreamsError> {
        let current = Current {
            life: Life::Ended(Ok(())),
            request: Request::Run,
            is_paused: false,
            restarts: VecDeque::new(),
        };
        let state = parts.world.state.application(&config.application_id)?;
        let this = Arc::new(Self {
            state,
            threads: AtomicUsize::new(config.num_stream_threads),
            topology,
            config,
            blueprint: Mutex::default(),
            parts: Arc::clone(parts),
            current: Mutex::new(current),
            held: Mutex::default(),
            changed: Condvar::new(),
            seen: Mutex::default(),
            turns: Arc::default(),
            taps: Arc::default(),
        });
        this.begin()?;
        Ok(this)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims the application's group and makes its tasks from its last commit.
    pub(super) fn begin(self: &Arc<Self>) -> Result<(), StreamsError> {
        let world = self.parts.world.clone();
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Ready { blueprint, around, held, owner, tasks, restored, state } =
            prepare(self.topology.clone(), &self.config, &world, &self.taps, held)?;
        self.seen().begin(&tasks, restored);
        let changes = self.parts.changes();
        let width = self.threads.load(Ordering::Acquire).clamp(1, tasks.len().max(1));
        let members = self.parts.members(width);
        held.watch.wake(members.first().map(|seat| (Arc::clone(&seat.mailbox), seat.id)));
        let levels = blueprint.plan.subs.iter().map(|sub| sub.level + 1).max().unwrap_or(1);
        let pace = Pace {
            interval: self.config.commit_interval,
            bytes_max: self.config.commit_bytes_max / members.len().max(1),
        };
        let clock = Arc::clone(&world.clock);
        let incarnation = Arc::new(Incarnation {
            rounds: Rounds::new(members.len(), levels, pace, clock),
            blueprint: Arc::clone(&blueprint),
            around,
            owner,
            watch: Arc::clone(&held.watch),
            epoch: held.epoch,
            held: Mutex::new(Some(held)),
            is_rebalancing: AtomicBool::new(false),
            guarantee: self.config.processing_guarantee,
            cache_bytes_max: self.config.statestore_cache_max_bytes,
            members,
            tasks: tasks.len(),
            commits: Arc::clone(&self.parts.commits),
            application: Arc::downgrade(self),
            turns: Arc::clone(&self.turns),
            subscriptions: Mutex::default(),
            has_ended: AtomicBool::new(false),
            state,
            world,
        });
        *self.blueprint.lock().unwrap_or_else(PoisonError::into_inner) = Some(blueprint);
        subscribe(&incarnation)?;
        let mut current = self.current();
        incarnation.rounds.set_paused(current.is_paused);
        incarnation.rounds.ask(current.request);
        current.life = Life::Running(Arc::clone(&incarnation));
        drop(current);
        self.changed.notify_all();
        assign(&incarnation, tasks);
        if self.parts.changes() != changes {
            // Workers came or went before anybody could tell it.
            self.rebalance();
        }
        Ok(())
    }

    /// No task is left and every commit is answered: the application has ended, or goes on from its last commit.
    fn incarnation_ended(self: &Arc<Self>, failure: Option<StreamsError>, held: Option<Held>) {
        match (failure, held) {
            (Some(error), _) => self.failed(error),
            (None, Some(held)) if self.current().request < Request::Close => self.deal_anew(held),
            (None, _) => self.end(Ok(())),
        }
    }

    /// Has the supervisor make its tasks anew, under the claim that it holds.
    fn deal_anew(self: &Arc<Self>, held: Held) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
        self.current().life = Life::Rebalancing;
        self.changed.notify_all();
        self.parts.restarts.push(Arc::clone(self), self.parts.world.clock.elapsed());
    }

    /// Decides what becomes of it after a failure.
    pub(super) fn failed(self: &Arc<Self>, error: StreamsError) {
        let response = self.config.uncaught_exception_handler.response(&error);
        tracing::error!(application = %self.config.application_id, %error, ?response, "application failed");
        match response {
            UncaughtExceptionResponse::StopApplication => self.end(Err(error)),
            UncaughtExceptionResponse::StopRuntime => {
                self.end(Err(error.clone()));
                self.parts.fail_all(&error);
            }
            UncaughtExceptionResponse::Replace => {
                let now = self.parts.world.clock.elapsed();
                let Some(delay) = self.next_restart(now, &error) else { return };
                self.seen().restarted();
                self.parts.restarts.push(Arc::clone(self), now + delay);
            }
        }
    }

    /// How long to wait before going on from the last commit; nothing if it has been tried too often, and it has ended.
    fn next_restart(self: &Arc<Self>, now: Duration, error: &StreamsError) -> Option<Duration> {
        let mut current = self.current();
        let is_recent = |at: &Duration| now.saturating_sub(*at) < RESTARTS_WITHIN;
        current.restarts.retain(is_recent);
        let tried = current.restarts.len();
        if tried >= RESTARTS_MAX {
            drop(current);
            self.end(Err(error.clone()));
            return None;
        }
        current.restarts.push_back(now);
        current.life = Life::Restarting(error.clone());
        drop(current);
        self.changed.notify_all();
        Some(RESTART_DELAY * 2_u32.pow(u32::try_from(tried).unwrap_or(0)))
    }

    pub(super) fn end(&self, outcome: Result<(), StreamsError>) {
        self.current().life = Life::Ended(outcome);
        self.parts.forget(&self.config.application_id);
        self.changed.notify_all();
    }

    /// Has its tasks dealt anew, after a commit, if they would lie elsewhere by now.
    pub(super) fn rebalance(&self) {
        let current = self.current();
        if let Life::Running(incarnation) = &current.life {
            let threads = self.threads.load(Ordering::Acquire).min(self.parts.mailboxes().len());
            let is_uneven = incarnation.members.len() != threads.clamp(1, incarnation.tasks.max(1));
            let is_leaving = incarnation.members.iter().any(|seat| seat.mailbox.is_retired());
            if is_uneven || is_leaving {
                incarnation.rebalance();
            }
        }
    }

    /// Stops it because of `error`, whatever its handler would say.
    pub(super) fn fail(&self, error: &StreamsError) {
        let current = self.current();
        if let Life::Running(incarnation) = &current.life {
            incarnation.fail(error.clone());
        }
    }

    /// Asks it for an end.
    fn ask(&self, request: Request) {
        let mut current = self.current();
        current.request = current.request.max(request);
        if let Life::Running(incarnation) = &current.life {
            incarnation.rounds.ask(request);
            incarnation.wake_all();
        }
    }

    /// Gives its participants a turn.
    pub(super) fn wake(&self) {
        if let Life::Running(incarnation) = &self.current().life {
            incarnation.wake_all();
        }
    }

    fn set_paused(&self, is_paused: bool) {
        let mut current = self.current();
        current.is_paused = is_paused;
        if let Life::Running(incarnation) = &current.life {
            incarnation.rounds.set_paused(is_paused);
            incarnation.wake_all();
        }
    }

    /// Waits until it has ended, at most for a time.
    fn wait_ended(&self, at_most: Option<Duration>) -> Result<(), StreamsError> {
        let is_alive = |current: &mut Current| !matches!(current.life, Life::Ended(_));
        let current = self.current();
        let current = match at_most {
            None => {
                self.changed.wait_while(current, is_alive).unwrap_or_else(PoisonError::into_inner)
            }
            Some(at_most) => {
                let waited = self.changed.wait_timeout_while(current, at_most, is_alive);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        match &current.life {
            Life::Ended(outcome) => outcome.clone(),
            Life::Running(_) | Life::Restarting(_) | Life::Rebalancing => {
                Err(StreamsError::StillEnding { waited: at_most.unwrap_or_default() })
            }
        }
    }

    fn blueprint(&self) -> Result<Arc<Blueprint>, StreamsError> {
        let blueprint = self.blueprint.lock().unwrap_or_else(PoisonError::into_inner).clone();
        blueprint.ok_or(StreamsError::NotRunning)
    }
}

/// Has participants woken when the partitions that their tasks read have grown.
fn subscribe(incarnation: &Incarnation) -> Result<(), StreamsError> {
    let mut subscriptions = Vec::new();
    let mut inputs = external_inputs(&incarnation.blueprint);
    if incarnation.around.exchange.is_through_topic() {
        inputs.extend(repartition_inputs(&incarnation.blueprint));
    }
    for partition in inputs {
        let place = partition.partition as usize % incarnation.members.len().max(1);
        let Some(seat) = incarnation.members.get(place) else { continue };
        let (mailbox, id) = (Arc::clone(&seat.mailbox), seat.id);
        let waker: Waker = Arc::new(move || mailbox.wake(id));
        subscriptions.push(incarnation.world.log.subscribe(&partition, waker)?);
    }
    *incarnation.subscriptions.lock().unwrap_or_else(PoisonError::into_inner) = subscriptions;
    Ok(())
}

/// Gives each member its tasks: by partition, so that what one sub-topology sends the next tends to stay on its worker.
fn assign(incarnation: &Arc<Incarnation>, tasks: Vec<Task>) {
    let mut groups: Vec<Vec<Task>> = incarnation.members.iter().map(|_| Vec::new()).collect();
    let width = groups.len().max(1);
    for task in tasks {
        if let Some(group) = groups.get_mut(task.id.partition as usize % width) {
            group.push(task);
        }
    }
    for (seat, group) in incarnation.members.iter().zip(groups) {
        let around = Arc::clone(&incarnation.around);
        let group = TaskGroup::new(group, around, incarnation.epoch_of_round(0));
        seat.mailbox.assign(seat.id, Participant::new(Arc::clone(incarnation), group));
    }
}

/// A running application: paused, queried, drained, closed. Dropping it closes it.
pub struct Application {
    shared: Arc<Shared>,
}

impl fmt::Debug for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Application")
            .field("id", &self.shared.config.application_id)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl Application {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Says where the application is in its life.
    #[must_use]
    pub fn state(&self) -> StreamsState {
        let current = self.shared.current();
        match &current.life {
            Life::Ended(Ok(())) => StreamsState::NotRunning,
            Life::Ended(Err(error)) => StreamsState::Error(error.clone()),
            Life::Restarting(error) => StreamsState::Restarting(error.clone()),
            Life::Rebalancing => StreamsState::Rebalancing,
            Life::Running(_) if current.request > Request::Run => StreamsState::PendingShutdown,
            Life::Running(_) if current.is_paused => StreamsState::Paused,
            Life::Running(_) => StreamsState::Running,
        }
    }

    /// Declares the input complete: takes everything its topics hold by now, closes every window, commits, and ends. What
    /// is appended later is left for the next start.
    ///
    /// # Errors
    ///
    /// What stopped the application instead.
    pub fn drain(&self) -> Result<(), StreamsError> {
        self.finish(Request::Drain, None)
    }

    /// Drains as [`drain`](Self::drain) does, but waits no longer than `at_most`.
    ///
    /// # Errors
    ///
    /// [`StreamsError::StillEnding`] if it has not ended by then; it goes on draining.
    pub fn drain_within(&self, at_most: Duration) -> Result<(), StreamsError> {
        self.finish(Request::Drain, Some(at_most))
    }

    /// Commits and ends.
    ///
    /// # Errors
    ///
    /// What stopped the application instead.
    pub fn close(&self) -> Result<(), StreamsError> {
        self.finish(Request::Close, None)
    }

    /// Closes as [`close`](Self::close) does, but waits no longer than `at_most`.
    ///
    /// # Errors
    ///
    /// [`StreamsError::StillEnding`] if it has not ended by then; it goes on closing.
    pub fn close_within(&self, at_most: Duration) -> Result<(), StreamsError> {
        self.finish(Request::Close, Some(at_most))
    }

    fn finish(&self, request: Request, at_most: Option<Duration>) -> Result<(), StreamsError> {
        self.shared.ask(request);
        self.shared.wait_ended(at_most)
    }

    /// Takes no records until it is resumed; what was taken is committed.
    pub fn pause(&self) {
        self.shared.set_paused(true);
    }

    /// Takes records again.
    pub fn resume(&self) {
        self.shared.set_paused(false);
    }

    /// Tells how far each external input is behind, by what is committed.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub fn lag(&self) -> Result<Vec<Lag>, StreamsError> {
        let (log, group) = (&self.shared.parts.world.log, &self.shared.config.application_id);
        let lag = |partition| {
            let held = log.offsets(&partition)?;
            let committed = log.committed(group, &partition)?;
            let committed = committed.map_or(held.start, |committed| committed.offset);
            Ok(Lag { committed, end: held.end, partition })
        };
        external_inputs(&*self.shared.blueprint()?).into_iter().map(lag).collect()
    }

    /// Counts the records that the node called `node` has dropped, as of the last commit and over all runs.
    #[must_use]
    pub fn dropped_records(&self, node: &str) -> u64 {
        self.shared.seen().dropped_by(node)
    }

    /// Counts and times since the start.
    #[must_use]
    pub fn metrics(&self) -> StreamsMetrics {
        let turns = self.shared.turns.load(Ordering::Relaxed);
        StreamsMetrics { turns, ..self.shared.seen().metrics() }
    }

    /// Lets its tasks run on so many threads of the runtime, at least one; they are dealt anew after a commit.
    pub fn set_num_stream_threads(&self, threads: usize) {
        self.shared.threads.store(threads.max(1), Ordering::Release);
        self.shared.rebalance();
    }

    /// Tells what each node has counted, by its name, as of the last commit.
    #[must_use]
    pub fn node_metrics(&self) -> BTreeMap<Arc<str>, NodeMetrics> {
        self.shared.seen().nodes()
    }

    /// Shows `look` the records that pass from the node `from` to its child `to`, until what is given back is dropped.
    ///
    /// Records are shown as they are processed, on the application's threads: `look` must be quick, sees what may not be
    /// committed, and sees it again after a failure.
    ///
    /// # Errors
    ///
    /// There is no such edge, or its records are of other types.
    pub fn tap<K: Data, V: Data>(
        &self,
        from: &str,
        to: &str,
        look: impl Fn(&Record<K, V>) + Send + Sync + 'static,
    ) -> Result<Tap, StreamsError> {
        self.shared.topology.check_edge::<K, V>(from, to)?;
        let look = move |payload: &dyn Payload| {
            let rows = (payload as &dyn Any).downcast_ref::<Rows<K, V>>();
            rows.into_iter().flatten().for_each(&look);
        };
        Ok(self.shared.taps.add(from, to, Arc::new(look)))
    }

    /// Gives the application's stores as of its last commit; it stays readable after the application has ended.
    ///
    /// # Errors
    ///
    /// [`StreamsError::NotRunning`] while the application is restarted, [`StreamsError::State`] if the state cannot be
    /// read.
    pub fn snapshot(&self) -> Result<StateSnapshot, StreamsError> {
        if matches!(self.shared.current().life, Life::Restarting(_)) {
            // Its stores are brought to their last commit one after the other.
            return Err(StreamsError::NotRunning);
        }
        StateSnapshot::of(&self.shared.blueprint()?, &*self.shared.state)
    }

    /// Opens the key-value store `name` as of the last commit, as
    /// [`StateSnapshot::key_value_store`] does.
    ///
    /// # Errors
    ///
    /// There is no such store, it holds other types, or there is no [`snapshot`](Self::snapshot).
    pub fn store<K: Data, V: Data>(
        &self,
        name: &str,
    ) -> Result<ReadOnlyKeyValueStore<K, V>, StreamsError> {
        self.snapshot()?.key_value_store(name)
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "application closed after a failure");
        }
    }
}

//! An application: a topology with its id, running on a runtime beside others.
//!
//! | part | does |
//! |---|---|
//! | here | its handle, and what becomes of it over its incarnations |
//! | `life` | where it is in its life, and who is told when that changes |
//! | `incarnation` | an application from one claim on: what is lost when it resumes from its last commit |
//! | `failures` | how often it may fail |
//! | `streams` | one application with a runtime of its own |
//! | `driver` | one application without threads: for tests |

pub(super) mod driver;
pub(super) mod failures;
pub(super) mod incarnation;
pub(super) mod life;
pub(super) mod streams;

use super::{
    application::incarnation::{Incarnation, Unanswered, assign, connect_calls, subscribe},
    application::life::{Beginning, Current, Life, StateAnnouncer, StreamsState},
    commit::rounds::{Pace, Request, Rounds},
    config::StreamsConfig,
    error::StreamsError,
    explain::{Facts, Lag},
    metrics::{Dealt, Seen, StreamsMetrics},
    query::{ReadOnlyKeyValueStore, StateSnapshot},
    restore::RestoreWatch,
    tasks::assignment::Held,
    tasks::globals::state_of_globals,
    tasks::setup::{Inherited, InputEnds, Ready, external_inputs, input_ends, prepare},
    workers::threads::RuntimeParts,
};
use crate::{
    broken::broken,
    caught::caught,
    node::Payload,
    processor::{Record, Rows},
    store::OpenIterators,
    task::{Blueprint, Tap, Taps},
    topology::{Topology, TopologyOptimization},
};
use headwater_core::{metrics::NodeMetrics, ports::state::ApplicationState, serde::Data};
use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// An application as its handle, its incarnations and the supervisor share it.
pub(super) struct Shared {
    topology: Topology,
    pub(super) config: StreamsConfig,
    blueprint: Mutex<Option<Arc<Blueprint>>>,
    pub(super) parts: Arc<RuntimeParts>,
    state: Arc<dyn ApplicationState>,
    /// That of its global stores, if it has any: they stay readable once it has ended.
    globals: Option<Arc<dyn ApplicationState>>,
    current: Mutex<Current>,
    announcer: StateAnnouncer,
    restoring: RestoreWatch,
    /// The claim, between two incarnations that share it.
    held: Mutex<Option<Held>>,
    changed: Condvar,
    seen: Mutex<Seen>,
    iterators: Arc<OpenIterators>,
    /// See [`StreamsMetrics::turns`].
    turns: Arc<AtomicU64>,
    /// On how many threads its tasks may run.
    threads: AtomicUsize,
    taps: Arc<Taps>,
    /// How far its inputs are read if it is to drain: for all participants and incarnations what they held when the first
    /// drain was asked for.
    input_ends: Arc<OnceLock<InputEnds>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Application")
            .field("id", &self.config.application_id)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// An application that is to [begin](Self::begin).
    pub(super) fn new(
        topology: Topology,
        config: StreamsConfig,
        parts: &Arc<RuntimeParts>,
    ) -> Result<Arc<Self>, StreamsError> {
        let (states, id) = (&*parts.world.state, &config.application_id);
        let state = states.application(id)?;
        let globals = state_of_globals(&topology, id, states)?;
        config.tell_what_has_no_effect();
        let (asked, built) = (config.topology_optimization, topology.optimization);
        if asked != TopologyOptimization::NONE && asked != built {
            tracing::warn!(?asked, ?built, "the topology was built with other optimizations");
        }
        let announcer = StateAnnouncer::new(config.state_listener.clone());
        let (listeners, clock) = (config.restore_listeners.clone(), &parts.world.clock);
        let restoring = RestoreWatch::new(listeners, Arc::clone(clock));
        Ok(Arc::new(Self {
            state,
            globals,
            threads: AtomicUsize::new(config.num_stream_threads),
            topology,
            config,
            blueprint: Mutex::default(),
            parts: Arc::clone(parts),
            current: Mutex::new(Current::created()),
            announcer,
            restoring,
            held: Mutex::default(),
            changed: Condvar::new(),
            seen: Mutex::default(),
            iterators: OpenIterators::new(&parts.world.clock),
            turns: Arc::default(),
            taps: Arc::default(),
            input_ends: Arc::default(),
        }))
    }

    pub(super) fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes where it stands, and tells whoever listens or waits.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Current) -> T) -> T {
        let mut current = self.current();
        let outcome = change(&mut current);
        self.announcer.note(current.state());
        drop(current);
        self.announcer.tell();
        self.changed.notify_all();
        outcome
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.look_at_globals();
        seen
    }

    /// Claims the application's group and makes its tasks from its last commit.
    ///
    /// # Errors
    ///
    /// [`StreamsError::Panicked`] if a supplier or a serde does, and what else [`prepare`] says.
    pub(super) fn begin(self: &Arc<Self>) -> Result<(), StreamsError> {
        let begun = caught(|| self.begin_or_panic());
        begun.unwrap_or_else(|message| Err(StreamsError::Panicked { message }))
    }

    fn begin_or_panic(self: &Arc<Self>) -> Result<(), StreamsError> {
        let beginning = self.change(Current::begin)?;
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        match beginning {
            Beginning::Begins => {}
            Beginning::None => return Ok(()),
            Beginning::Ends => {
                self.end(Ok(()));
                return Ok(());
            }
        }
        let world = self.parts.world.clone();
        let began = world.clock.elapsed();
        let Ready { blueprint, around, held, owner, tasks, restored, state } =
            prepare(self.topology.clone(), &self.config, &world, self.inherited(held))?;
        self.seen().begin(&tasks, around.globals.counts(), restored, &*world.clock);
        let changes = self.parts.workers.changes();
        let width = self.threads.load(Ordering::Acquire).clamp(1, tasks.len().max(1));
        let members = self.parts.workers.seats(width);
        held.watch.wake(members.first().map(|seat| (Arc::clone(&seat.mailbox), seat.id)));
        let levels = blueprint.plan.levels();
        let pace = Pace {
            interval: self.config.commit_interval,
            bytes_max: self.config.commit_bytes_max.min(blueprint.limits.commit_bytes_max / 8)
                / members.len().max(1),
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
            unanswered: Unanswered::default(),
            application: Arc::downgrade(self),
            turns: Arc::clone(&self.turns),
            subscriptions: Mutex::default(),
            has_ended: AtomicBool::new(false),
            leaves_since: OnceLock::new(),
            input_ends: Arc::clone(&self.input_ends),
            state,
            world,
        });
        *self.blueprint.lock().unwrap_or_else(PoisonError::into_inner) = Some(blueprint);
        connect_calls(&incarnation);
        subscribe(&incarnation)?;
        self.change(|current| match &current.stopped_by {
            Some(error) => Err(error.clone()),
            None => {
                incarnation.rounds.set_paused(current.is_paused);
                incarnation.rounds.ask(current.request);
                current.life = Life::Running(Arc::clone(&incarnation));
                Ok(())
            }
        })?;
        assign(&incarnation, tasks);
        let now = incarnation.world.clock.elapsed();
        self.seen().dealt(Dealt::Assigned, (began, now));
        if self.parts.workers.changes() != changes {
            // Workers came or went before anybody could tell it.
            self.rebalance();
        }
        Ok(())
    }

    /// What its next incarnation has of it.
    fn inherited(&self, held: Option<Held>) -> Inherited<'_> {
        let (taps, watch, iterators) = (&self.taps, &self.restoring, Some(&self.iterators));
        Inherited { taps, watch, iterators, held }
    }

    /// No task is left and every commit is answered: the application has ended, or resumes from its last commit.
    pub(super) fn incarnation_ended(
        self: &Arc<Self>,
        failure: Option<StreamsError>,
        held: Option<Held>,
    ) {
        match (failure, held) {
            (Some(error), _) => self.failed(error),
            (None, Some(held)) if self.current().request < Request::Close => self.deal_anew(held),
            (None, _) => self.end(Ok(())),
        }
    }

    /// Has the supervisor make its tasks anew, under the claim that it holds.
    fn deal_anew(self: &Arc<Self>, held: Held) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
        self.change(|current| current.life = Life::Rebalancing);
        self.begin_after(Duration::ZERO);
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.current().life, Life::Ended(_))
    }

    /// It has ended, unless it had before: its id is free.
    pub(super) fn end(&self, outcome: Result<(), StreamsError>) {
        if let Err(error) = &outcome {
            self.change(|current| {
                current.stopped_by.get_or_insert_with(|| error.clone());
            });
        }
        self.change(|current| {
            if !matches!(current.life, Life::Ended(_)) {
                current.life = Life::Ended(outcome);
                // Under the lock, so that whoever sees that it has ended can start another of its id.
                self.parts.forget(&self.config.application_id);
            }
        });
    }

    /// Has its tasks dealt anew, after a commit, if they would lie elsewhere by now.
    pub(super) fn rebalance(&self) {
        let current = self.current();
        if let Life::Running(incarnation) = &current.life {
            let threads = self.threads.load(Ordering::Acquire).min(self.parts.workers.count());
            let is_uneven = incarnation.members.len() != threads.clamp(1, incarnation.tasks.max(1));
            let is_leaving = incarnation.members.iter().any(|seat| seat.mailbox.is_retired());
            if is_uneven || is_leaving {
                incarnation.rebalance();
            }
        }
    }

    /// Asks it to take what its topics hold now, and to end.
    fn ask_to_drain(self: &Arc<Self>) -> Result<(), StreamsError> {
        if self.input_ends.get().is_none() && !self.has_ended() {
            let ends = input_ends(&*self.blueprint()?, &*self.parts.world.log)?;
            // Where another thread was faster, that one's hold.
            self.input_ends.get_or_init(|| ends);
        }
        self.ask(Request::Drain);
        Ok(())
    }

    /// Asks it for an end.
    fn ask(self: &Arc<Self>, request: Request) {
        let is_supervised = self.change(|current| {
            current.request = current.request.max(request);
            if let Life::Running(incarnation) = &current.life {
                incarnation.rounds.ask(request);
                incarnation.wake_all();
            }
            current.is_supervised()
        });
        if is_supervised && request == Request::Close {
            self.begin_after(Duration::ZERO);
        }
    }

    /// Gives its participants a turn.
    pub(super) fn wake(&self) {
        if let Life::Running(incarnation) = &self.current().life {
            incarnation.wake_all();
        }
    }

    fn set_paused(&self, is_paused: bool) {
        self.change(|current| {
            current.is_paused = is_paused;
            if let Life::Running(incarnation) = &current.life {
                incarnation.rounds.set_paused(is_paused);
                incarnation.wake_all();
            }
        });
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
            Life::Created
            | Life::Starting
            | Life::Running(_)
            | Life::Restarting(_)
            | Life::Rebalancing => {
                Err(StreamsError::StillEnding { waited: at_most.unwrap_or_default() })
            }
        }
    }

    fn blueprint(&self) -> Result<Arc<Blueprint>, StreamsError> {
        let blueprint = self.blueprint.lock().unwrap_or_else(PoisonError::into_inner).clone();
        blueprint.ok_or(StreamsError::NotRunning)
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

    /// `application.id`.
    pub(super) fn id(&self) -> &str {
        &self.shared.config.application_id
    }

    /// Says where the application is in its life.
    #[must_use]
    pub fn state(&self) -> StreamsState {
        self.shared.current().state()
    }

    /// Declares the input complete: takes everything its topics hold by now, closes every window, commits, and ends.
    ///
    /// What is appended later is left for the next start, also where a failure or a rebalance comes in between. One that is
    /// paused resumes for it.
    ///
    /// # Errors
    ///
    /// [`StreamsError::Log`] if the log cannot tell what they hold; the application then runs on. Otherwise the error that stopped the application instead, such as [`StreamsError::Processor`],
    /// [`StreamsError::Panicked`], [`StreamsError::Log`] or [`StreamsError::State`]; it is that of
    /// [`StreamsState::Error`].
    pub fn drain(&self) -> Result<(), StreamsError> {
        self.shared.ask_to_drain()?;
        self.shared.wait_ended(None)
    }

    /// Drains as [`drain`](Self::drain) does, but waits no longer than `at_most`.
    ///
    /// # Errors
    ///
    /// [`StreamsError::StillEnding`] if it has not ended by then; it is still draining. Otherwise as
    /// [`drain`](Self::drain).
    pub fn drain_within(&self, at_most: Duration) -> Result<(), StreamsError> {
        self.shared.ask_to_drain()?;
        self.shared.wait_ended(Some(at_most))
    }

    /// Commits and ends. One that waits for its restart after a failure has nothing to commit, and ends at once.
    ///
    /// # Errors
    ///
    /// The error that stopped the application instead, such as [`StreamsError::Processor`],
    /// [`StreamsError::Panicked`], [`StreamsError::Log`] or [`StreamsError::State`]; it is that of
    /// [`StreamsState::Error`].
    pub fn close(&self) -> Result<(), StreamsError> {
        self.shared.ask(Request::Close);
        self.shared.wait_ended(None)
    }

    /// Closes as [`close`](Self::close) does, but waits no longer than `at_most`.
    ///
    /// # Errors
    ///
    /// [`StreamsError::StillEnding`] if it has not ended by then; it is still closing. Otherwise as
    /// [`close`](Self::close).
    pub fn close_within(&self, at_most: Duration) -> Result<(), StreamsError> {
        self.shared.ask(Request::Close);
        self.shared.wait_ended(Some(at_most))
    }

    /// Asks it to commit and end, and does not wait for it: what a signal's handler does.
    pub fn request_close(&self) {
        self.shared.ask(Request::Close);
    }

    /// Waits until it has ended, asked to or not.
    ///
    /// # Errors
    ///
    /// The error that stopped it, as [`close`](Self::close).
    pub fn wait(&self) -> Result<(), StreamsError> {
        self.shared.wait_ended(None)
    }

    /// Takes no records until it is resumed; what was taken is committed.
    ///
    /// Wall-clock punctuations wait as well. An application that is told to drain or to close does so as if it had not been
    /// paused.
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
    /// [`StreamsError::Log`] if the log cannot be read.
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
        let (facts, clock) = (self.facts(), &self.shared.parts.world.clock);
        let stream_threads = self.shared.threads.load(Ordering::Acquire);
        let (iterators, now) = (&self.shared.iterators, clock.elapsed());
        StreamsMetrics {
            client_id: self.shared.config.client_id.as_deref().map(Into::into),
            turns: self.shared.turns.load(Ordering::Relaxed),
            client_state: facts.state.number(),
            stream_threads,
            sources: facts.sources(),
            state: self.shared.parts.world.state.figures(),
            restoring: self.shared.restoring.progress(),
            task_restores: self.shared.restoring.tasks(),
            now: facts.now,
            ..self.shared.seen().metrics(&facts.blueprint, stream_threads, iterators, now)
        }
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
    /// [`StreamsError::Topology`] with [`UnknownNode`](crate::topology::TopologyError::UnknownNode) or
    /// [`NoEdge`](crate::topology::TopologyError::NoEdge) if there is no such edge, or with
    /// [`TypesDiffer`](crate::topology::TopologyError::TypesDiffer) if its records are of other types.
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
    /// [`StreamsError::NotRunning`] while the application is restarted, [`StreamsError::State`] if the state cannot
    /// be read.
    pub fn snapshot(&self) -> Result<StateSnapshot, StreamsError> {
        if matches!(self.shared.current().life, Life::Restarting(_)) {
            // Its stores are brought to their last commit one after the other.
            return Err(StreamsError::NotRunning);
        }
        let blueprint = self.shared.blueprint()?;
        let globals = self.shared.globals.as_deref();
        let tasks = self.shared.seen().tasks().keys().copied().collect();
        let snapshot = StateSnapshot::of(&blueprint, &tasks, &*self.shared.state, globals)?;
        let host = self.shared.config.application_server.clone();
        Ok(snapshot.counted_in(&self.shared.iterators).at(host))
    }

    /// What is known of it, as of its last commit.
    pub(super) fn facts(&self) -> Facts {
        let Ok(blueprint) = self.shared.blueprint() else {
            broken("an application has its tasks planned before it has a handle")
        };
        let state = self.state();
        let (nodes, tasks, records) = {
            let seen = self.shared.seen();
            (seen.nodes(), seen.tasks().clone(), seen.counts().records)
        };
        let world = &self.shared.parts.world;
        let (log, now) = (Arc::clone(&world.log), world.clock.now());
        Facts { blueprint, tasks, nodes, log, state, now, records }
    }

    /// Opens the key-value store `name` as of the last commit, as
    /// [`StateSnapshot::key_value_store`] does.
    ///
    /// # Errors
    ///
    /// [`StreamsError::Topology`] with [`UnknownStore`](crate::topology::TopologyError::UnknownStore) if there is no
    /// such store or with [`StoreDiffers`](crate::topology::TopologyError::StoreDiffers) if it is of another kind or
    /// holds other types; [`StreamsError::NotRunning`] and [`StreamsError::State`] as [`snapshot`](Self::snapshot).
    pub fn store<K: Data, V: Data>(
        &self,
        name: &str,
    ) -> Result<ReadOnlyKeyValueStore<K, V>, StreamsError> {
        self.snapshot()?.key_value_store(name)
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        if !self.shared.parts.has_threads {
            // Whoever steps it may be the one that drops it: an assertion that fails must not wait for ever.
            return self.request_close();
        }
        if let Err(error) = self.close() {
            tracing::error!(%error, "application closed after a failure");
        }
    }
}

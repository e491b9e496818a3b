//! One runtime a process: worker threads, a committer and a supervisor, on which any number of applications run.

use crate::runtime::{
    application::{Application, Shared},
    backup::backup,
    commit::committer::{CommitQueue, Committer},
    config::{RuntimeConfig, StreamsConfig},
    error::StreamsError,
    restore::RESTORE_THREADS_MAX,
    standby::{Follower, RunningStandby, Standby},
    tasks::setup::World,
    workers::Workers,
    workers::mailbox::Mailbox,
    workers::supervisor::RestartQueue,
    workers::worker::{Wait, Worker},
};
use crate::topology::Topology;
use headwater_core::{
    ports::{
        log::{AddBeside, BackupReport, Log, TellProgress},
        state::State,
    },
    time::Clock,
};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

/// The most worker threads that a runtime is started with: more than machines have cores.
const THREADS_MAX: usize = 4_096;

/// What the applications of a runtime are made with.
#[derive(Debug)]
pub(in crate::runtime) struct RuntimeParts {
    pub(in crate::runtime) world: World,
    pub(in crate::runtime) commits: Arc<CommitQueue>,
    pub(in crate::runtime) restarts: Arc<RestartQueue>,
    pub(in crate::runtime) workers: Workers,
    /// Whether it has threads; otherwise somebody steps it.
    pub(in crate::runtime) has_threads: bool,
    applications: Mutex<BTreeMap<String, Weak<Shared>>>,
    /// Changed only while `applications` is held: of an id there is one or the other.
    standbys: Mutex<BTreeMap<String, Weak<Follower>>>,
}

impl RuntimeParts {
    pub(in crate::runtime) fn new(world: World, workers: usize) -> Self {
        Self {
            world,
            commits: Arc::default(),
            restarts: Arc::default(),
            workers: Workers::new(workers),
            has_threads: true,
            applications: Mutex::default(),
            standbys: Mutex::default(),
        }
    }

    /// The same without threads.
    pub(in crate::runtime) fn stepped(world: World, workers: usize) -> Self {
        Self { has_threads: false, ..Self::new(world, workers) }
    }

    /// Has each application whose tasks lie elsewhere than they would now deal them anew.
    fn rebalance(&self) {
        let running: Vec<_> = self.applications().values().filter_map(Weak::upgrade).collect();
        running.iter().for_each(|application| application.rebalance());
    }

    fn applications(&self) -> MutexGuard<'_, BTreeMap<String, Weak<Shared>>> {
        self.applications.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts an application beside the others.
    pub(in crate::runtime) fn start(
        self: &Arc<Self>,
        topology: Topology,
        config: StreamsConfig,
    ) -> Result<Arc<Shared>, StreamsError> {
        let id = config.application_id.clone();
        let shared = Shared::new(topology, config, self)?;
        let mut applications = self.applications();
        if applications.get(&id).is_some_and(|known| known.strong_count() > 0) {
            return Err(StreamsError::AlreadyRunning { application_id: id });
        }
        let standby = self.standbys().remove(&id);
        // Before it begins, so that a second start of the same id is refused meanwhile.
        applications.insert(id, Arc::downgrade(&shared));
        drop(applications);
        let standby = standby.as_ref().and_then(Weak::upgrade);
        // Kept until it has opened them.
        let _stores = standby.and_then(|standby| standby.promote());
        shared.begin().inspect_err(|error| shared.end(Err(error.clone())))?;
        Ok(shared)
    }

    fn standbys(&self) -> MutexGuard<'_, BTreeMap<String, Weak<Follower>>> {
        self.standbys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a standby.
    fn start_standby(
        &self,
        topology: Topology,
        config: &StreamsConfig,
    ) -> Result<RunningStandby, StreamsError> {
        let (world, id) = (&self.world, config.application_id.clone());
        let standby = Standby::within(topology, config, world)?;
        let follower = Follower::new(config, world, standby);
        let applications = self.applications();
        let mut standbys = self.standbys();
        let is_running = applications.get(&id).is_some_and(|known| known.strong_count() > 0);
        if is_running || standbys.get(&id).is_some_and(|known| known.strong_count() > 0) {
            return Err(StreamsError::AlreadyRunning { application_id: id });
        }
        follower.start()?;
        standbys.insert(id, Arc::downgrade(&follower));
        Ok(RunningStandby::new(follower))
    }

    /// An application has ended.
    pub(in crate::runtime) fn forget(&self, application_id: &str) {
        self.applications().remove(application_id);
    }

    /// Gives every application a turn, in which it keeps to its share of memory.
    pub(in crate::runtime) fn wake_all(&self) {
        let running: Vec<_> = self.applications().values().filter_map(Weak::upgrade).collect();
        running.iter().for_each(|application| application.wake());
    }

    /// Ends every application because of `error`.
    pub(in crate::runtime) fn stop_all(&self, error: &StreamsError) {
        let running: Vec<_> = self.applications().values().filter_map(Weak::upgrade).collect();
        running.iter().for_each(|application| application.stop(error));
    }
}

/// Worker threads, committer and supervisor of one process, over one log and one state.
///
/// Applications started on it share its threads and never a commit; one that fails, waits or commits holds no other up.
/// Dropping it ends the threads; applications that are still running then stop where their last commit left them.
#[derive(Debug)]
pub struct Runtime {
    parts: Arc<RuntimeParts>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    client_id: Option<String>,
    workers_started: AtomicUsize,
}

impl Runtime {
    /// Starts the threads. A number stands for a [`RuntimeConfig`] of so many workers.
    ///
    /// # Errors
    ///
    /// [`StreamsError::TooManyThreads`] above 4,096, [`StreamsError::Thread`] if the system gives none.
    pub fn start(
        config: impl Into<RuntimeConfig>,
        log: Arc<dyn Log>,
        state: Arc<dyn State>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StreamsError> {
        let RuntimeConfig { threads, memory, client_id } = config.into();
        if threads > THREADS_MAX {
            return Err(StreamsError::TooManyThreads { threads, threads_max: THREADS_MAX });
        }
        let restore_threads = threads.min(RESTORE_THREADS_MAX);
        let world = World { restore_threads, ..World::new(log, state, clock, memory) };
        let this = Self {
            parts: Arc::new(RuntimeParts::new(world, threads)),
            threads: Mutex::default(),
            client_id,
            workers_started: AtomicUsize::new(0),
        };
        let queue = Arc::clone(&this.parts.commits);
        this.spawn("committer".to_owned(), move || commit(&queue))?;
        let (restarts, clock) =
            (Arc::clone(&this.parts.restarts), Arc::clone(&this.parts.world.clock));
        this.spawn("supervisor".to_owned(), move || supervise(&restarts, &*clock))?;
        for mailbox in this.parts.workers.mailboxes() {
            this.start_worker(mailbox)?;
        }
        Ok(this)
    }

    /// The state that its applications' stores are kept by.
    pub(in crate::runtime) fn state(&self) -> Arc<dyn State> {
        Arc::clone(&self.parts.world.state)
    }

    fn start_worker(&self, mailbox: Arc<Mailbox>) -> Result<(), StreamsError> {
        let clock = Arc::clone(&self.parts.world.clock);
        let number = self.workers_started.fetch_add(1, Ordering::Relaxed) + 1;
        let client = self.client_id.as_ref();
        let name = client.map_or("stream".to_owned(), |id| thread_name(id, number));
        self.spawn(name, move || work(&mailbox, &*clock))
    }

    /// Adds a thread; applications that may run on more than they have are rebalanced over it.
    ///
    /// # Errors
    ///
    /// [`StreamsError::Thread`] if the system gives none.
    pub fn add_stream_thread(&self) -> Result<(), StreamsError> {
        self.parts.workers.add(|mailbox| self.start_worker(mailbox))?;
        self.parts.rebalance();
        Ok(())
    }

    /// Removes a thread: it ends once the tasks that it ran are elsewhere, each application's after a commit. False if it is
    /// the only one.
    pub fn remove_stream_thread(&self) -> bool {
        let is_removed = self.parts.workers.remove();
        self.parts.rebalance();
        is_removed
    }

    /// Counts the threads that tasks run on.
    #[must_use]
    pub fn stream_threads(&self) -> usize {
        self.parts.workers.count()
    }

    /// Makes a backup of its log and state, as [`backup`](crate::runtime::backup) does.
    pub(in crate::runtime) fn backup(
        &self,
        dir: &Path,
        beside: &mut dyn AddBeside,
        tell: &mut TellProgress<'_>,
    ) -> Result<BackupReport, StreamsError> {
        let World { log, state, .. } = &self.parts.world;
        backup(&**log, &**state, dir, beside, tell)
    }

    fn spawn(&self, name: String, run: impl FnOnce() + Send + 'static) -> Result<(), StreamsError> {
        let thread = Builder::new().name(name).spawn(run);
        let thread = thread.map_err(|error| StreamsError::Thread(Arc::new(error)))?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// Starts an application where its last commit left it: creates its internal topics, replays the tails of its
    /// changelogs, and runs. A [standby](Self::start_standby) of it that runs here ends in its favour.
    ///
    /// # Errors
    ///
    /// [`StreamsError::AlreadyRunning`] if one of this id runs here. [`StreamsError::ApplicationId`] if the id cannot
    /// be part of a topic's name, [`StreamsError::MissingTopic`] if a topic does not exist,
    /// [`StreamsError::Topology`] if the topology does not fit the topics; [`StreamsError::PartialAssignment`] if
    /// another process reads a part of them; [`StreamsError::Processor`] if a supplier fails, and
    /// [`StreamsError::Panicked`] if it panics; [`StreamsError::Log`] or [`StreamsError::State`] if one of them does.
    pub fn start_application(
        &self,
        topology: Topology,
        config: StreamsConfig,
    ) -> Result<Application, StreamsError> {
        Ok(Application::new(self.parts.start(topology, config)?))
    }

    /// Starts a standby of the application of this id, which runs elsewhere on the same log: it keeps the application's stores,
    /// global ones included, on this runtime's state, near what is committed.
    ///
    /// To take over, [start the application](Self::start_application) here, in whatever version: the standby ends, and what it
    /// has is not replayed. An owner that is there still commits nothing from then on.
    ///
    /// ```
    /// use headwater_core::ports::{log::Log, state::State};
    /// use headwater_core::time::Clock;
    /// # use headwater_engine::topology::Topology;
    /// use headwater_engine::runtime::{Application, Runtime, StreamsConfig, StreamsError};
    /// use std::sync::Arc;
    ///
    /// fn stand_by(
    ///     topology: &Topology,
    ///     log: Arc<dyn Log>,
    ///     state: Arc<dyn State>,
    ///     clock: Arc<dyn Clock>,
    ///     wait_until_the_owner_is_gone: impl FnOnce(),
    /// ) -> Result<(Runtime, Application), StreamsError> {
    ///     let runtime = Runtime::start(2, log, state, clock)?;
    ///     let config = StreamsConfig::new("fleet");
    ///     let standby = runtime.start_standby(topology.clone(), &config)?;
    ///     wait_until_the_owner_is_gone();
    ///     println!("{} offsets behind", standby.lag()?);
    ///     let fleet = runtime.start_application(topology.clone(), config)?;
    ///     Ok((runtime, fleet))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`StreamsError::AlreadyRunning`] if the application or a standby of it runs here; [`StreamsError::MissingTopic`] and
    /// [`StreamsError::Topology`] as of an application that starts; [`StreamsError::Thread`] if the system gives no thread;
    /// [`StreamsError::State`] if the state cannot be read.
    pub fn start_standby(
        &self,
        topology: Topology,
        config: &StreamsConfig,
    ) -> Result<RunningStandby, StreamsError> {
        self.parts.start_standby(topology, config)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let standbys = std::mem::take(&mut *self.parts.standbys());
        standbys.values().filter_map(Weak::upgrade).for_each(|standby| drop(standby.end()));
        self.parts.stop_all(&StreamsError::NotRunning);
        self.parts.restarts.stop();
        self.parts.workers.mailboxes().iter().for_each(|mailbox| mailbox.stop());
        self.parts.commits.stop();
        let threads =
            std::mem::take(self.threads.get_mut().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // What can panic in it was caught and is its application's failure.
            drop(thread.join());
        }
    }
}

/// The life of a worker thread.
fn work(mailbox: &Arc<Mailbox>, clock: &dyn Clock) {
    let mut worker = Worker::new(Arc::clone(mailbox));
    loop {
        let now = clock.elapsed();
        match worker.poll(now) {
            Wait::Ready => {}
            Wait::Until(moment) => mailbox.wait(Some(moment.saturating_sub(now).max(WAIT_MIN))),
            Wait::Woken => mailbox.wait(None),
            Wait::Stopped => return,
        }
    }
}

/// Timers are kept in whole milliseconds.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// How many bytes of a thread's name Linux keeps.
const THREAD_NAME_MAX: usize = 15;

/// What a worker of a client is called: the number, which tells it from others, with so much of the id as there is room for. An
/// id may have any characters; a thread's name has no NUL.
fn thread_name(client_id: &str, number: usize) -> String {
    let number = format!("-{number}");
    let mut name: String = client_id.chars().filter(|it| !it.is_control()).collect();
    name.truncate(name.floor_char_boundary(THREAD_NAME_MAX.saturating_sub(number.len())));
    name + &number
}

/// The life of the committer thread.
fn commit(queue: &Arc<CommitQueue>) {
    let mut committer = Committer::new(Arc::clone(queue));
    loop {
        match committer.poll() {
            Wait::Ready | Wait::Until(_) => {}
            Wait::Woken => queue.wait(),
            Wait::Stopped => return,
        }
    }
}

/// The life of the supervisor thread.
fn supervise(restarts: &RestartQueue, clock: &dyn Clock) {
    loop {
        let now = clock.elapsed();
        match restarts.poll(now) {
            Wait::Ready => {}
            Wait::Until(moment) => restarts.wait(Some(moment.saturating_sub(now).max(WAIT_MIN))),
            Wait::Woken => restarts.wait(None),
            Wait::Stopped => return,
        }
    }
}

//! A runtime without threads: the same state machines, stepped one at a time in an order that the caller chooses. What
//! simulations are made of.

use crate::runtime::{
    application::{Application, Shared},
    commit::committer::Committer,
    config::{RuntimeConfig, StreamsConfig},
    error::StreamsError,
    tasks::setup::World,
    workers::threads::RuntimeParts,
    workers::worker::{Wait, Worker},
};
use crate::{broken::broken, topology::Topology};
use headwater_core::{
    ports::{log::Log, state::State},
    time::Clock,
};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// A runtime that moves only when it is stepped.
///
/// Its actors are its workers, by number, then the committer, then the supervisor. An [`Application`] of it must not be
/// waited for while the stepper is there: nobody else would step it. One that is dropped is asked to close, and does so in later
/// steps. Dropped, the stepper ends them as [`crash`](Self::crash) does.
pub struct Stepper {
    parts: Arc<RuntimeParts>,
    workers: Vec<Worker>,
    committer: Committer,
    /// What each actor's last step ended with.
    waits: Vec<Wait>,
    /// Its applications, until they have ended: their handles may be gone before.
    applications: Mutex<Vec<Arc<Shared>>>,
}

impl fmt::Debug for Stepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stepper").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

impl Drop for Stepper {
    fn drop(&mut self) {
        let now = self.parts.world.clock.elapsed();
        self.parts.workers.mailboxes().iter().for_each(|mailbox| mailbox.stop());
        for worker in &mut self.workers {
            worker.poll(now);
        }
        self.parts.restarts.stop();
        self.parts.restarts.poll(now);
        self.committer.abandon();
    }
}

impl Stepper {
    /// Sets up a runtime of so many workers, at least one.
    #[must_use]
    pub fn new(
        config: impl Into<RuntimeConfig>,
        log: Arc<dyn Log>,
        state: Arc<dyn State>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let RuntimeConfig { threads, memory, client_id: _ } = config.into();
        let parts = Arc::new(RuntimeParts::stepped(World::new(log, state, clock, memory), threads));
        let workers: Vec<_> =
            parts.workers.mailboxes().iter().map(|it| Worker::new(Arc::clone(it))).collect();
        let committer = Committer::new(Arc::clone(&parts.commits));
        let waits = vec![Wait::Ready; workers.len() + 2];
        Self { parts, workers, committer, waits, applications: Mutex::default() }
    }

    /// Starts an application, as [`Runtime::start_application`](crate::runtime::Runtime::start_application) does.
    ///
    /// # Errors
    ///
    /// [`StreamsError::AlreadyRunning`], [`StreamsError::MissingTopic`] and what else is listed there.
    pub fn start_application(
        &self,
        topology: Topology,
        config: StreamsConfig,
    ) -> Result<Application, StreamsError> {
        let shared = self.parts.start(topology, config)?;
        let mut applications = self.applications.lock().unwrap_or_else(PoisonError::into_inner);
        applications.retain(|application| !application.has_ended());
        applications.push(Arc::clone(&shared));
        Ok(Application::new(shared))
    }

    /// Ends as a kill does: what was not committed is gone, and nobody learns what became of commits on their way.
    pub fn crash(self) {
        drop(self);
    }

    /// Counts the actors.
    #[must_use]
    pub fn actors(&self) -> usize {
        self.workers.len() + 2
    }

    /// Whether an actor's thread would run now: it has more to do, its moment has come, or it was woken.
    #[must_use]
    pub fn is_awake(&self, actor: usize) -> bool {
        let is_woken = match self.parts.workers.mailboxes().get(actor) {
            Some(mailbox) => mailbox.has_mail(),
            None if actor == self.workers.len() => self.parts.commits.has_work(),
            None => self.parts.restarts.is_woken(),
        };
        let now = self.parts.world.clock.elapsed();
        is_woken || self.waits.get(actor).is_some_and(|wait| wait.is_over(now))
    }

    /// The moment, by the clock's elapsed time, at which the first of the actors that sleep wakes by itself.
    #[must_use]
    pub fn next_timer(&self) -> Option<Duration> {
        let moments = self.waits.iter().filter_map(|wait| match wait {
            Wait::Until(moment) => Some(*moment),
            Wait::Ready | Wait::Woken | Wait::Stopped => None,
        });
        moments.min()
    }

    /// Steps an actor, whose number is below [`actors`](Self::actors), once. True if it wants another step at once, whatever happens elsewhere.
    pub fn step(&mut self, actor: usize) -> bool {
        let now = self.parts.world.clock.elapsed();
        let workers = self.workers.len();
        let wait = match self.workers.get_mut(actor) {
            Some(worker) => worker.poll(now),
            None if actor == workers => self.committer.poll(),
            None => self.parts.restarts.poll(now),
        };
        match self.waits.get_mut(actor) {
            Some(last) => *last = wait,
            None => broken("an actor's number is below their count"),
        }
        wait.is_over(now)
    }
}

//! A runtime without threads: the same state machines, stepped one at a time in an order that the caller chooses. What
//! simulations are made of.

use super::{
    application::Application,
    committer::Committer,
    config::StreamsConfig,
    error::StreamsError,
    setup::World,
    threads::Parts,
    worker::{Wait, Worker},
};
use crate::topology::Topology;
use headwater_core::{
    ports::{log::Log, state::State},
    time::Clock,
};
use std::{fmt, sync::Arc};

/// A runtime that moves only when it is stepped.
///
/// Its actors are its workers, by number, then the committer, then the supervisor. An [`Application`] of it must not be
/// waited for, nor dropped before it has ended: nobody else would step it.
pub struct Stepper {
    parts: Arc<Parts>,
    workers: Vec<Worker>,
    committer: Committer,
}

impl fmt::Debug for Stepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stepper").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

impl Stepper {
    /// Sets up a runtime of so many workers, at least one.
    #[must_use]
    pub fn new(
        workers: usize,
        log: Arc<dyn Log>,
        state: Arc<dyn State>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let parts = Arc::new(Parts::new(World { log, state, clock }, workers));
        let workers = parts.mailboxes().iter().map(|it| Worker::new(Arc::clone(it))).collect();
        let committer = Committer::new(Arc::clone(&parts.commits));
        Self { parts, workers, committer }
    }

    /// Starts an application, as [`Runtime::start_application`](super::Runtime::start_application) does.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn start_application(
        &self,
        topology: Topology,
        config: StreamsConfig,
    ) -> Result<Application, StreamsError> {
        Ok(Application::new(self.parts.start(topology, config)?))
    }

    /// Ends as a kill does: what was not committed is gone, and nobody learns what became of commits on their way.
    pub fn crash(self) {
        let Self { parts, workers, mut committer } = self;
        parts.mailboxes().iter().for_each(|mailbox| mailbox.stop());
        for mut worker in workers {
            worker.poll(parts.world.clock.elapsed());
        }
        parts.restarts.stop();
        parts.restarts.poll(parts.world.clock.elapsed());
        committer.abandon();
    }

    /// Counts the actors.
    #[must_use]
    pub fn actors(&self) -> usize {
        self.workers.len() + 2
    }

    /// Steps an actor once. True if it wants another step at once, whatever happens elsewhere.
    pub fn step(&mut self, actor: usize) -> bool {
        let now = self.parts.world.clock.elapsed();
        let workers = self.workers.len();
        let wait = match self.workers.get_mut(actor) {
            Some(worker) => worker.poll(now),
            None if actor == workers => self.committer.poll(),
            None => self.parts.restarts.poll(now),
        };
        match wait {
            Wait::Ready => true,
            Wait::Until(moment) => moment <= now,
            Wait::Woken | Wait::Stopped => false,
        }
    }
}

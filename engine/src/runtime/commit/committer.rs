//! Hands commits to the log and publishes them to the state when they are durable, as a state machine that a thread or a
//! test steps.
//!
//! # Invariants
//!
//! - Of one application, commits are handed in, and published, in the order in which they were made; those of others go on
//!   meanwhile. Any number may be unanswered.
//! - Nothing is published before the log has said that it is durable.

use crate::broken::broken;
use crate::runtime::{
    application::incarnation::Incarnation, commit::assemble::EpochCommit, error::StreamsError,
    workers::worker::Wait,
};
use hashbrown::HashSet;
use headwater_core::ports::log::{Commit, CommitOutcome};
use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// What a participant hands in.
#[derive(Debug)]
pub(in crate::runtime) enum Handed {
    /// A round's commit, of so many bytes.
    Commit { commit: Box<EpochCommit>, bytes: usize, began: Duration },
    /// Outputs ahead of the next commit, of so many bytes: at-least-once only.
    Outputs { commit: Commit, bytes: usize },
}

#[derive(Default)]
struct Inner {
    handed: VecDeque<(Arc<Incarnation>, Handed)>,
    is_woken: bool,
    is_stopped: bool,
    /// Whether the committer knows that it is to stop.
    is_stop_known: bool,
}

impl Inner {
    fn is_empty(&self) -> bool {
        self.handed.is_empty() && !self.is_woken && self.is_stopped == self.is_stop_known
    }
}

/// What waits for the committer.
#[derive(Default)]
pub(in crate::runtime) struct CommitQueue {
    inner: Mutex<Inner>,
    filled: Condvar,
}

impl fmt::Debug for CommitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitQueue").finish_non_exhaustive()
    }
}

impl CommitQueue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands something in.
    ///
    /// # Errors
    ///
    /// What is handed in once the queue was told to stop is given back: nobody may be there any more to give its outcome.
    pub(in crate::runtime) fn push(
        &self,
        by: &Arc<Incarnation>,
        handed: Handed,
    ) -> Result<(), Handed> {
        let mut inner = self.lock();
        if inner.is_stopped {
            return Err(handed);
        }
        inner.handed.push_back((Arc::clone(by), handed));
        drop(inner);
        self.filled.notify_all();
        Ok(())
    }

    fn wake(&self) {
        self.lock().is_woken = true;
        self.filled.notify_all();
    }

    pub(in crate::runtime) fn stop(&self) {
        self.lock().is_stopped = true;
        self.filled.notify_all();
    }

    /// Whether there is anything to do: whoever [waits](Self::wait) goes on.
    pub(in crate::runtime) fn has_work(&self) -> bool {
        !self.lock().is_empty()
    }

    /// Waits until there is something to do.
    pub(in crate::runtime) fn wait(&self) {
        let is_empty = |inner: &mut Inner| inner.is_empty();
        drop(self.filled.wait_while(self.lock(), is_empty).unwrap_or_else(PoisonError::into_inner));
    }
}

/// Where a ticket leaves its outcome.
type Answer = Arc<Mutex<Option<CommitOutcome>>>;

/// A commit that the log has.
struct PendingCommit {
    incarnation: Arc<Incarnation>,
    handed: Handed,
    answer: Answer,
}

pub(in crate::runtime) struct Committer {
    queue: Arc<CommitQueue>,
    /// In the order in which they were handed in.
    pending: VecDeque<PendingCommit>,
}

impl Committer {
    pub(in crate::runtime) fn new(queue: Arc<CommitQueue>) -> Self {
        Self { queue, pending: VecDeque::new() }
    }

    /// Hands in what is new and publishes one commit that is answered. It stops once it was told to and nothing is left.
    pub(in crate::runtime) fn poll(&mut self) -> Wait {
        let (handed, is_stopped) = {
            let mut inner = self.queue.lock();
            (inner.is_woken, inner.is_stop_known) = (false, inner.is_stopped);
            (std::mem::take(&mut inner.handed), inner.is_stopped)
        };
        for (incarnation, handed) in handed {
            self.hand_in(incarnation, handed);
        }
        if self.publish_first_answered() {
            return Wait::Ready;
        }
        if is_stopped && self.pending.is_empty() { Wait::Stopped } else { Wait::Woken }
    }

    /// Ends without the outcome of what is on its way.
    pub(in crate::runtime) fn abandon(&mut self) {
        let handed = std::mem::take(&mut self.queue.lock().handed);
        let pending = std::mem::take(&mut self.pending);
        let pending = pending.into_iter().map(|it| (it.incarnation, it.handed));
        for (incarnation, handed) in pending.chain(handed) {
            incarnation.answered(&handed, None);
        }
    }

    fn hand_in(&mut self, incarnation: Arc<Incarnation>, mut handed: Handed) {
        let commit = match &mut handed {
            Handed::Commit { commit, .. } => std::mem::take(&mut commit.log),
            Handed::Outputs { commit, .. } => std::mem::take(commit),
        };
        // After a failure the log may no longer hold what this one stands on.
        if incarnation.rounds.failure().is_some() {
            incarnation.answered(&handed, None);
            return;
        }
        match incarnation.world.log.commit(commit) {
            Ok(ticket) => {
                let answer = Answer::default();
                let (left, queue) = (Arc::clone(&answer), Arc::clone(&self.queue));
                ticket.on_completion(move |outcome| {
                    *left.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
                    queue.wake();
                });
                self.pending.push_back(PendingCommit { incarnation, handed, answer });
            }
            Err(error) => {
                incarnation.fail(StreamsError::Log(error));
                incarnation.answered(&handed, None);
            }
        }
    }

    /// Publishes the first commit that is answered and has none of its application before it; false if there is none.
    fn publish_first_answered(&mut self) -> bool {
        let mut waiting: HashSet<*const Incarnation> = HashSet::new();
        let first = self.pending.iter().enumerate().find_map(|(place, pending)| {
            let of = Arc::as_ptr(&pending.incarnation);
            if waiting.contains(&of) {
                return None;
            }
            // An answer is taken under one lock or left alone: another thread may leave it at any moment.
            let outcome = pending.take_answer();
            if outcome.is_none() {
                waiting.insert(of);
            }
            Some((place, outcome?))
        });
        let Some((place, outcome)) = first else { return false };
        match self.pending.remove(place) {
            Some(pending) => answered(pending, outcome),
            None => broken("a commit is pending until its answer is taken"),
        }
        true
    }
}

impl PendingCommit {
    fn take_answer(&self) -> Option<CommitOutcome> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn answered(PendingCommit { incarnation, mut handed, .. }: PendingCommit, outcome: CommitOutcome) {
    let application = &incarnation.blueprint.application_id;
    let _span = tracing::debug_span!("commit", %application).entered();
    let published = outcome.map_err(StreamsError::Log).and_then(|receipt| match &mut handed {
        Handed::Commit { commit, .. } => {
            let epoch = commit.epoch;
            let log = &*incarnation.world.log;
            let state = std::mem::take(&mut **commit).into_state(&receipt, log)?;
            incarnation.state.publish(state)?;
            Ok(epoch)
        }
        Handed::Outputs { .. } => Ok(0),
    });
    match published {
        Ok(epoch) => incarnation.answered(&handed, Some(epoch)),
        Err(error) => {
            incarnation.fail(error);
            incarnation.answered(&handed, None);
        }
    }
}

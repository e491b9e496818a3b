//! The outcome of a commit, before it is there: waited for, polled, or handed to a callback.

use super::{LogError, Receipt};
use std::{
    fmt, mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

/// What became of a commit.
///
/// [`LogError::UnknownOutcome`] if it may be durable all the same; with any other error nothing was written.
pub type CommitOutcome = Result<Receipt, LogError>;

type Callback = Box<dyn FnOnce(CommitOutcome) + Send>;

enum State {
    Pending,
    Subscribed(Callback),
    Complete(CommitOutcome),
    Taken,
}

struct Shared {
    state: Mutex<State>,
    completed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is replaced whole, and nothing that panics runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn complete(&self, outcome: CommitOutcome) {
        let mut state = self.lock();
        match mem::replace(&mut *state, State::Taken) {
            State::Pending => {
                *state = State::Complete(outcome);
                drop(state);
                self.completed.notify_one();
            }
            State::Subscribed(callback) => {
                drop(state);
                callback(outcome);
            }
            answered @ (State::Complete(_) | State::Taken) => *state = answered,
        }
    }
}

/// The claim on one commit's outcome, which is taken once: by [`wait`](Self::wait), [`poll`](Self::poll) or
/// [`on_completion`](Self::on_completion).
///
/// ```
/// use headwater_core::ports::log::{CommitTicket, Receipt};
///
/// let (completer, mut ticket) = CommitTicket::pending();
/// assert!(ticket.poll().is_none());
/// completer.complete(Ok(Receipt { base_offsets: vec![7] }));
/// assert_eq!(ticket.wait().unwrap().base_offsets, [7]);
/// ```
#[must_use = "a commit may still fail until its ticket says otherwise"]
pub struct CommitTicket(Arc<Shared>);

/// The log's end of a [`CommitTicket`]. Dropped without an answer, it says that the outcome is unknown.
///
/// ```
/// use headwater_core::ports::log::{CommitTicket, LogErrorKind};
///
/// let (completer, ticket) = CommitTicket::pending();
/// drop(completer);
/// assert_eq!(ticket.wait().unwrap_err().kind(), LogErrorKind::UnknownOutcome);
/// ```
pub struct Completer(Arc<Shared>);

/// The log ended before it could say what became of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log ended before it answered")]
pub struct Unanswered;

impl CommitTicket {
    /// A ticket whose outcome is not known yet, and the log's end of it.
    pub fn pending() -> (Completer, Self) {
        let shared = Shared { state: Mutex::new(State::Pending), completed: Condvar::new() };
        let shared = Arc::new(shared);
        (Completer(Arc::clone(&shared)), Self(shared))
    }

    /// A ticket of a log that knows the outcome at once.
    pub fn complete(outcome: CommitOutcome) -> Self {
        let (completer, ticket) = Self::pending();
        completer.complete(outcome);
        ticket
    }

    /// Blocks until the commit is acknowledged and visible to readers.
    ///
    /// # Errors
    ///
    /// [`LogError::UnknownOutcome`] if it may be durable all the same; with any other error nothing was written.
    pub fn wait(self) -> CommitOutcome {
        let pending = |state: &mut State| matches!(state, State::Pending);
        let waited = self.0.completed.wait_while(self.0.lock(), pending);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        Self::take(&mut state).unwrap_or_else(|| Err(unanswered()))
    }

    /// The outcome if it is there; `None` before, and after it was taken.
    pub fn poll(&mut self) -> Option<CommitOutcome> {
        Self::take(&mut self.0.lock())
    }

    /// Has `callback` called with the outcome: by the log's thread, where it must neither block nor panic, or at once
    /// by the caller if the outcome is there.
    ///
    /// ```
    /// use headwater_core::ports::log::{CommitTicket, Receipt};
    /// use std::sync::mpsc;
    ///
    /// let (completer, ticket) = CommitTicket::pending();
    /// let (tell, told) = mpsc::channel();
    /// ticket.on_completion(move |outcome| tell.send(outcome).unwrap());
    /// completer.complete(Ok(Receipt { base_offsets: vec![7] }));
    /// assert_eq!(told.recv().unwrap().unwrap().base_offsets, [7]);
    /// ```
    pub fn on_completion(self, callback: impl FnOnce(CommitOutcome) + Send + 'static) {
        let mut state = self.0.lock();
        match Self::take(&mut state) {
            Some(outcome) => {
                drop(state);
                callback(outcome);
            }
            None => *state = State::Subscribed(Box::new(callback)),
        }
    }

    fn take(state: &mut State) -> Option<CommitOutcome> {
        match mem::replace(state, State::Taken) {
            State::Complete(outcome) => Some(outcome),
            other @ (State::Pending | State::Subscribed(_) | State::Taken) => {
                *state = other;
                None
            }
        }
    }
}

impl Completer {
    /// Says what became of the commit.
    pub fn complete(self, outcome: CommitOutcome) {
        self.0.complete(outcome);
    }
}

impl Drop for Completer {
    fn drop(&mut self) {
        self.0.complete(Err(unanswered()));
    }
}

fn unanswered() -> LogError {
    LogError::UnknownOutcome { source: Arc::new(Unanswered) }
}

impl fmt::Debug for CommitTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitTicket").finish_non_exhaustive()
    }
}

impl fmt::Debug for Completer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::log::LogErrorKind;
    use std::{sync::mpsc::channel, thread};

    fn receipt(offset: i64) -> CommitOutcome {
        Ok(Receipt { base_offsets: vec![offset] })
    }

    fn offset(outcome: CommitOutcome) -> i64 {
        outcome.unwrap().base_offsets[0]
    }

    #[test]
    fn an_outcome_is_polled_once() {
        let (completer, mut ticket) = CommitTicket::pending();
        assert!(ticket.poll().is_none());
        completer.complete(receipt(3));
        assert_eq!(ticket.poll().map(offset), Some(3));
        assert!(ticket.poll().is_none());
    }

    #[test]
    fn many_pending_tickets_call_back_in_the_order_of_their_completion() {
        let (sender, outcomes) = channel();
        let completers: Vec<_> = (0..100)
            .map(|_| {
                let ((completer, ticket), sender) = (CommitTicket::pending(), sender.clone());
                ticket.on_completion(move |outcome| sender.send(offset(outcome)).unwrap());
                completer
            })
            .collect();
        let last_first = (0..).zip(completers).collect::<Vec<_>>().into_iter().rev();
        last_first.for_each(|(number, completer)| completer.complete(receipt(number)));
        CommitTicket::complete(receipt(-1))
            .on_completion(move |outcome| sender.send(offset(outcome)).unwrap());
        assert!(outcomes.into_iter().eq((-1..100).rev()));
    }

    #[test]
    fn a_waiter_is_woken() {
        let (completer, ticket) = CommitTicket::pending();
        let waiter = thread::spawn(|| offset(ticket.wait()));
        completer.complete(receipt(5));
        assert_eq!(waiter.join().unwrap(), 5);
    }

    #[test]
    fn a_log_that_ends_without_an_answer_leaves_the_outcome_unknown() {
        let (completer, ticket) = CommitTicket::pending();
        drop(completer);
        assert_eq!(ticket.wait().unwrap_err().kind(), LogErrorKind::UnknownOutcome);
    }

    #[test]
    fn nobody_has_to_take_an_outcome() {
        let (completer, ticket) = CommitTicket::pending();
        drop(ticket);
        completer.complete(receipt(0));
    }
}

//! What wakes a worker: participants assigned to it, and those for which something has happened.

use crate::runtime::workers::participant::Participant;
use hashbrown::HashSet;
use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Names a participant of a runtime.
pub(in crate::runtime) type ParticipantId = usize;

#[derive(Default)]
struct Inner {
    assigned: Vec<(ParticipantId, Participant)>,
    woken: HashSet<ParticipantId>,
    is_stopped: bool,
    /// Participants that have a place here, assigned already or not.
    seats: usize,
    /// Whether the worker ends once no participant has a place here.
    is_retired: bool,
}

impl Inner {
    fn is_over(&self) -> bool {
        self.is_stopped || (self.is_retired && self.seats == 0)
    }

    fn is_empty(&self) -> bool {
        self.assigned.is_empty() && self.woken.is_empty() && !self.is_over()
    }
}

/// A participant's place on a worker, for as long as it is kept.
pub(in crate::runtime) struct Seat {
    pub(in crate::runtime) mailbox: Arc<Mailbox>,
    pub(in crate::runtime) id: ParticipantId,
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seat({})", self.id)
    }
}

impl Seat {
    pub(in crate::runtime) fn new(mailbox: &Arc<Mailbox>, id: ParticipantId) -> Self {
        mailbox.lock().seats += 1;
        Self { mailbox: Arc::clone(mailbox), id }
    }

    pub(in crate::runtime) fn wake(&self) {
        self.mailbox.wake(self.id);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.mailbox.lock().seats -= 1;
        self.mailbox.filled.notify_all();
    }
}

/// A worker's mailbox.
#[derive(Default)]
pub(in crate::runtime) struct Mailbox {
    inner: Mutex<Inner>,
    filled: Condvar,
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

/// What a mailbox held.
pub(in crate::runtime) struct Mail {
    pub(in crate::runtime) assigned: Vec<(ParticipantId, Participant)>,
    pub(in crate::runtime) woken: HashSet<ParticipantId>,
    pub(in crate::runtime) is_stopped: bool,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the worker a participant.
    pub(in crate::runtime) fn assign(&self, id: ParticipantId, participant: Participant) {
        let mut inner = self.lock();
        if inner.is_stopped {
            drop(inner);
            participant.abandon();
            return;
        }
        inner.assigned.push((id, participant));
        drop(inner);
        self.filled.notify_all();
    }

    /// Gives a participant a turn soon.
    pub(in crate::runtime) fn wake(&self, id: ParticipantId) {
        let mut inner = self.lock();
        if inner.woken.insert(id) {
            drop(inner);
            self.filled.notify_all();
        }
    }

    /// Ends the worker once no participant has a place there.
    pub(in crate::runtime) fn retire(&self) {
        self.lock().is_retired = true;
        self.filled.notify_all();
    }

    pub(in crate::runtime) fn is_retired(&self) -> bool {
        self.lock().is_retired
    }

    /// Ends the worker.
    pub(in crate::runtime) fn stop(&self) {
        self.lock().is_stopped = true;
        self.filled.notify_all();
    }

    pub(in crate::runtime) fn take(&self) -> Mail {
        let mut inner = self.lock();
        let (assigned, woken) =
            (std::mem::take(&mut inner.assigned), std::mem::take(&mut inner.woken));
        Mail { assigned, woken, is_stopped: inner.is_over() }
    }

    /// Whether there is anything: whoever [waits](Self::wait) goes on.
    pub(in crate::runtime) fn has_mail(&self) -> bool {
        !self.lock().is_empty()
    }

    /// Waits until there is something, at most for a time.
    pub(in crate::runtime) fn wait(&self, at_most: Option<Duration>) {
        let is_empty = |inner: &mut Inner| inner.is_empty();
        let inner = self.lock();
        match at_most {
            None => {
                drop(
                    self.filled.wait_while(inner, is_empty).unwrap_or_else(PoisonError::into_inner),
                );
            }
            Some(at_most) => {
                let waited = self.filled.wait_timeout_while(inner, at_most, is_empty);
                drop(waited.unwrap_or_else(PoisonError::into_inner).0);
            }
        }
    }
}

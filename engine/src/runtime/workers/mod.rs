//! The workers of a runtime, as their mailboxes: they come and go, and participants have places with them.
//!
//! | part | does |
//! |---|---|
//! | here | which workers there are |
//! | `worker`, `mailbox` | gives participants their turns; what wakes them |
//! | `participant` | the tasks of one application that one worker holds, and how they go through rounds |
//! | `supervisor` | starts failed applications again |
//! | `threads` | threads around these state machines, and nothing else |
//! | `stepper` | a runtime without threads: for tests |

pub(super) mod mailbox;
pub(super) mod participant;
pub(super) mod stepper;
pub(super) mod supervisor;
pub(super) mod threads;
pub(super) mod worker;

use super::{
    error::StreamsError,
    workers::mailbox::{Mailbox, Seat},
};
use crate::broken::broken;
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// At least one worker, by mailbox.
#[derive(Debug)]
pub(super) struct Workers {
    mailboxes: Mutex<Vec<Arc<Mailbox>>>,
    /// How often workers were added or removed.
    changes: AtomicU64,
    next_id: AtomicUsize,
}

impl Workers {
    pub(super) fn new(count: usize) -> Self {
        Self {
            mailboxes: Mutex::new((0..count.max(1)).map(|_| Arc::default()).collect()),
            changes: AtomicU64::new(0),
            next_id: AtomicUsize::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Mailbox>>> {
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn mailboxes(&self) -> Vec<Arc<Mailbox>> {
        self.lock().clone()
    }

    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    /// A count that moves whenever workers are added or removed.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Places for `width` participants, one a worker at most, beginning where the last application ended.
    pub(super) fn seats(&self, width: usize) -> Vec<Seat> {
        // Held meanwhile, so that no worker retires in between.
        let mailboxes = self.lock();
        let seat = |_| {
            let id = self.next_id.fetch_add(1, Ordering::Relaxed);
            let mailbox = mailboxes.get(id % mailboxes.len().max(1));
            Seat::new(mailbox.unwrap_or_else(|| broken("a runtime has a worker")), id)
        };
        (0..width.min(mailboxes.len())).map(seat).collect()
    }

    /// Adds a worker once `start` has given it a thread: what has none is dealt no tasks.
    pub(super) fn add(
        &self,
        start: impl FnOnce(Arc<Mailbox>) -> Result<(), StreamsError>,
    ) -> Result<(), StreamsError> {
        let mailbox = Arc::default();
        start(Arc::clone(&mailbox))?;
        self.lock().push(mailbox);
        self.changes.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Has the worker that was added last end once its participants are elsewhere; false if it is the only one.
    pub(super) fn remove(&self) -> bool {
        let mut mailboxes = self.lock();
        if mailboxes.len() < 2 {
            return false;
        }
        mailboxes.pop().into_iter().for_each(|mailbox| mailbox.retire());
        drop(mailboxes);
        self.changes.fetch_add(1, Ordering::AcqRel);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Error, ErrorKind};

    #[test]
    fn a_worker_that_got_no_thread_is_given_no_seats() {
        let workers = Workers::new(1);
        let refused = || Err(StreamsError::Thread(Arc::new(Error::from(ErrorKind::OutOfMemory))));
        workers.add(|_| refused()).unwrap_err();
        assert_eq!((workers.count(), workers.changes(), workers.seats(9).len()), (1, 0, 1));
        workers.add(|_| Ok(())).unwrap();
        assert_eq!((workers.count(), workers.changes(), workers.seats(9).len()), (2, 1, 2));
    }
}

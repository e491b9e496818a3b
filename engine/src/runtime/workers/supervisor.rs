//! Starts failed applications again from their last commit, each when its moment has come, as a state machine that a
//! thread or a test steps.

use crate::runtime::{application::Shared, error::StreamsError, workers::worker::Wait};
use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

#[derive(Default)]
struct Inner {
    due: Vec<(Duration, Arc<Shared>)>,
    /// Whether anything has come since the last poll.
    is_woken: bool,
    is_stopped: bool,
}

/// Applications that wait for their restart.
#[derive(Default)]
pub(in crate::runtime) struct RestartQueue {
    inner: Mutex<Inner>,
    filled: Condvar,
}

impl fmt::Debug for RestartQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestartQueue").finish_non_exhaustive()
    }
}

impl RestartQueue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::runtime) fn push(&self, application: Arc<Shared>, moment: Duration) {
        let mut inner = self.lock();
        if inner.is_stopped {
            drop(inner);
            application.end(Err(StreamsError::NotRunning));
            return;
        }
        inner.due.push((moment, application));
        inner.is_woken = true;
        drop(inner);
        self.filled.notify_all();
    }

    pub(in crate::runtime) fn stop(&self) {
        let mut inner = self.lock();
        (inner.is_stopped, inner.is_woken) = (true, true);
        drop(inner);
        self.filled.notify_all();
    }

    /// Starts what is due.
    pub(in crate::runtime) fn poll(&self, now: Duration) -> Wait {
        let mut inner = self.lock();
        inner.is_woken = false;
        if inner.is_stopped {
            let due = std::mem::take(&mut inner.due);
            drop(inner);
            due.iter().for_each(|(_, application)| application.end(Err(StreamsError::NotRunning)));
            return Wait::Stopped;
        }
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut inner.due).into_iter().partition(|(moment, _)| *moment <= now);
        inner.due = later;
        drop(inner);
        for (_, application) in due {
            if let Err(error) = application.begin() {
                application.failed(error);
            }
        }
        let next = self.lock().due.iter().map(|(moment, _)| *moment).min();
        next.map_or(Wait::Woken, Wait::Until)
    }

    /// Whether anything has come since the last poll: whoever [waits](Self::wait) goes on.
    pub(in crate::runtime) fn is_woken(&self) -> bool {
        self.lock().is_woken
    }

    /// Waits until something new is there, at most for a time.
    pub(in crate::runtime) fn wait(&self, at_most: Option<Duration>) {
        let inner = self.lock();
        let is_same = |inner: &mut Inner| !inner.is_woken;
        match at_most {
            None => {
                let waited = self.filled.wait_while(inner, is_same);
                drop(waited.unwrap_or_else(PoisonError::into_inner));
            }
            Some(at_most) => {
                let waited = self.filled.wait_timeout_while(inner, at_most, is_same);
                drop(waited.unwrap_or_else(PoisonError::into_inner).0);
            }
        }
    }
}

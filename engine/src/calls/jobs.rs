//! Futures that are spawned, and those of them that can go on.

use crate::caught::caught;
use headwater_core::ports::spawn::Spawned;
use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Wake, Waker},
};

#[derive(Default)]
struct Inner {
    ready: VecDeque<Arc<Job>>,
    is_nudged: bool,
    is_stopped: bool,
}

/// Futures that can go on.
#[derive(Default)]
pub(super) struct Jobs {
    inner: Mutex<Inner>,
    filled: Condvar,
}

impl Jobs {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Arc<Job>) {
        let mut inner = self.lock();
        if !inner.is_stopped {
            inner.ready.push_back(job);
        }
        drop(inner);
        self.filled.notify_one();
    }

    pub(super) fn add(self: &Arc<Self>, future: Spawned) -> Arc<Job> {
        Arc::new(Job { future: Mutex::new(Some(future)), jobs: Arc::clone(self) })
    }

    pub(super) fn push_new(self: &Arc<Self>, future: Spawned) {
        self.push(self.add(future));
    }

    pub(super) fn next(&self) -> Option<Arc<Job>> {
        self.lock().ready.pop_front()
    }

    /// Waits for one; none once there will be no more.
    pub(super) fn wait_next(&self) -> Option<Arc<Job>> {
        let is_empty = |inner: &mut Inner| inner.ready.is_empty() && !inner.is_stopped;
        let waited = self.filled.wait_while(self.lock(), is_empty);
        waited.unwrap_or_else(PoisonError::into_inner).ready.pop_front()
    }

    /// Has whoever [waits](Self::wait) go on.
    pub(super) fn nudge(&self) {
        self.lock().is_nudged = true;
        self.filled.notify_all();
    }

    /// Waits until there is one, or a nudge.
    pub(super) fn wait(&self) {
        let is_empty = |inner: &mut Inner| inner.ready.is_empty() && !inner.is_nudged;
        let waited = self.filled.wait_while(self.lock(), is_empty);
        waited.unwrap_or_else(PoisonError::into_inner).is_nudged = false;
    }

    /// Drops what can go on, and whatever could later.
    pub(super) fn stop(&self) {
        let mut inner = self.lock();
        inner.is_stopped = true;
        let dropped = std::mem::take(&mut inner.ready);
        drop(inner);
        drop(dropped);
        self.filled.notify_all();
    }
}

/// A future, until it is done.
pub(super) struct Job {
    future: Mutex<Option<Spawned>>,
    jobs: Arc<Jobs>,
}

impl Wake for Job {
    fn wake(self: Arc<Self>) {
        let jobs = Arc::clone(&self.jobs);
        jobs.push(self);
    }
}

impl Job {
    pub(super) fn poll(self: &Arc<Self>) {
        let mut future = self.future.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = future.as_mut() else { return };
        let waker = Waker::from(Arc::clone(self));
        // A panic is that of the call, which is then without an answer.
        let polled = caught(|| running.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
        if polled.unwrap_or(true)
            && let Err(message) = caught(|| *future = None)
        {
            tracing::error!(message, "a call panicked as it was dropped");
        }
    }
}

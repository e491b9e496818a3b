//! Calls that operators make without waiting for them: who runs them, and how their answers wake the task.
//!
//! A future is spawned through the [port](headwater_core::ports::spawn); a [pool](ThreadPool) of this process runs it where
//! the application brings no executor. Its [`Answer`] is looked at by the operator that made the call, in its own turns, so
//! that stores, time and output stay with the worker's thread; all that happens elsewhere is that the answer is put down and
//! the worker woken.
//!
//! # Not here
//!
//! What waits for an answer, in which order, and what a restart does about it: the operator's.

mod jobs;
mod local;
mod pool;

pub use local::LocalExecutor;
pub(crate) use pool::PoolOfProcess;
pub use pool::ThreadPool;

use headwater_core::ports::spawn::Spawn;
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

/// Wakes whoever steps the task of a partition; nobody as long as it is not connected.
#[derive(Default)]
pub(crate) struct CallWaker(OnceLock<Box<dyn Fn(u32) + Send + Sync>>);

impl fmt::Debug for CallWaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallWaker")
    }
}

impl CallWaker {
    pub(crate) fn connect(&self, wake: impl Fn(u32) + Send + Sync + 'static) {
        // Whoever is connected stays so: there is one who steps.
        drop(self.0.set(Box::new(wake)));
    }

    fn wake(&self, partition: u32) {
        if let Some(wake) = self.0.get() {
            wake(partition);
        }
    }
}

/// What a task makes calls with.
#[derive(Clone)]
pub struct Caller {
    pub(crate) spawn: Arc<dyn Spawn>,
    pub(crate) waker: Arc<CallWaker>,
    pub(crate) partition: u32,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("partition", &self.partition).finish_non_exhaustive()
    }
}

impl Caller {
    /// Of an application whose calls `spawn` runs, before it is given to a task.
    pub(crate) fn new(spawn: Arc<dyn Spawn>) -> Self {
        Self { spawn, waker: Arc::default(), partition: 0 }
    }

    /// Has `call` run; the task is woken when it is done.
    pub fn call<T: Send + 'static>(
        &self,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Answer<T> {
        let state = Arc::new(Mutex::new(State::Awaited));
        let reply = Reply {
            state: Arc::clone(&state),
            waker: Arc::clone(&self.waker),
            partition: self.partition,
        };
        self.spawn.spawn(Box::pin(async move {
            let reply = reply;
            let answer = call.await;
            *lock(&reply.state) = State::Given(answer);
        }));
        Answer(state)
    }
}

enum State<T> {
    Awaited,
    Given(T),
    /// The call ended without one: it panicked, or the executor dropped it.
    Lost,
}

fn lock<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    // Nothing that can panic runs under the lock.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The answer to a [call](Caller::call).
pub struct Answer<T>(Arc<Mutex<State<T>>>);

opaque_debug!(Answer<T>);

impl<T> Answer<T> {
    /// Whether the call has ended.
    #[must_use]
    pub fn is_there(&self) -> bool {
        !matches!(*lock(&self.0), State::Awaited)
    }

    /// Takes the answer; none if the call ended without one.
    #[must_use]
    pub fn take(self) -> Option<T> {
        match std::mem::replace(&mut *lock(&self.0), State::Lost) {
            State::Given(answer) => Some(answer),
            State::Awaited | State::Lost => None,
        }
    }
}

/// Goes with the call; however that ends, the task is told.
struct Reply<T> {
    state: Arc<Mutex<State<T>>>,
    waker: Arc<CallWaker>,
    partition: u32,
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if matches!(*state, State::Awaited) {
            *state = State::Lost;
        }
        drop(state);
        self.waker.wake(self.partition);
    }
}

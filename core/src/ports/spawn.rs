//! The spawn port: who runs the calls that operators make without waiting for them.

use std::pin::Pin;

/// A call under way, which tells nobody of its end but itself.
pub type Spawned = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs futures: a pool of threads, or the runtime of an application that has one.
///
/// A closure is one. What is spawned is to be polled whenever it is woken, until it is done; what is dropped before that is
/// lost.
///
/// ```
/// use headwater_core::ports::spawn::{Spawn, Spawned};
/// use std::{sync::mpsc::channel, task::{Context, Poll, Waker}};
///
/// // With Tokio: `move |future: Spawned| drop(handle.spawn(future))`.
/// let (spawned, queue) = channel();
/// let later = move |future: Spawned| spawned.send(future).expect("somebody takes it");
/// later.spawn(Box::pin(async {}));
///
/// let mut future = queue.recv()?;
/// let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
/// assert_eq!(polled, Poll::Ready(()));
/// # Ok::<(), std::sync::mpsc::RecvError>(())
/// ```
pub trait Spawn: Send + Sync {
    /// Has `future` run until it is done, on another thread if it takes long.
    fn spawn(&self, future: Spawned);
}

impl<F: Fn(Spawned) + Send + Sync> Spawn for F {
    fn spawn(&self, future: Spawned) {
        self(future);
    }
}

//! How a connector's task is stopped, woken and awaited: one lock and one condition for each task.
//!
//! # Invariants
//!
//! - A request, once made, is seen by every later wait: no wake-up is lost between a check and a wait.
//! - While it is held, a task does nothing between the moment that it rests and that when nobody holds it.
//! - The outcome is set once, when the thread has ended.

use super::{ConnectError, Stopped};
use crate::caught::caught;
use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

/// How often who waits to hold a task is asked whether that is still wanted.
const ASKED_EVERY: Duration = Duration::from_millis(100);

/// Request of the owner to its task; a later one is stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StopRequest {
    Continue,
    Drain,
    Stop,
}

#[derive(Debug)]
struct Inner<P> {
    request: StopRequest,
    woken: bool,
    /// How many hold the task.
    holds: usize,
    /// Whether it does nothing, since somebody holds it.
    rests: bool,
    progress: P,
    outcome: Option<Result<(), Arc<ConnectError>>>,
}

/// State that a task and its handle share.
#[derive(Debug)]
pub(super) struct Signal<P> {
    inner: Mutex<Inner<P>>,
    changed: Condvar,
}

impl<P: Clone + Default> Signal<P> {
    pub(super) fn new() -> Self {
        let inner = Inner {
            request: StopRequest::Continue,
            woken: false,
            holds: 0,
            rests: false,
            progress: P::default(),
            outcome: None,
        };
        Self { inner: Mutex::new(inner), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<P>> {
        // Nothing between two changes of the state can panic, so a poisoned one is still whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Strongest request so far.
    pub(super) fn requested(&self) -> StopRequest {
        self.lock().request
    }

    /// Makes a request; one weaker than an earlier one changes nothing.
    pub(super) fn request(&self, request: StopRequest) {
        let mut inner = self.lock();
        inner.request = inner.request.max(request);
        self.changed.notify_all();
    }

    pub(super) fn wake(&self) {
        self.lock().woken = true;
        self.changed.notify_all();
    }

    /// Waits until woken or until there is a new request, at most `timeout`.
    pub(super) fn wait_woken(&self, timeout: Duration) {
        let inner = self.lock();
        let before = inner.request;
        let waited = self.changed.wait_timeout_while(inner, timeout, |inner| {
            !inner.woken && inner.request == before && inner.holds == 0
        });
        waited.unwrap_or_else(PoisonError::into_inner).0.woken = false;
    }

    /// Waits for `timeout`, or until the task is to stop.
    pub(super) fn wait(&self, timeout: Duration) -> Result<(), Stopped> {
        let inner = self.lock();
        let waited = self
            .changed
            .wait_timeout_while(inner, timeout, |inner| inner.request != StopRequest::Stop);
        let inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        if inner.request == StopRequest::Stop { Err(Stopped::OnRequest) } else { Ok(()) }
    }

    /// Holds the task: returns once it rests, or has ended, which takes a [`release`](Self::release). False, and it is not held, if
    /// that is wanted no more.
    pub(super) fn hold(&self, is_wanted: &dyn Fn() -> bool) -> bool {
        let mut inner = self.lock();
        inner.holds += 1;
        self.changed.notify_all();
        while !inner.rests && inner.outcome.is_none() {
            if !is_wanted() {
                inner.holds -= 1;
                self.changed.notify_all();
                return false;
            }
            let waited = self.changed.wait_timeout(inner, ASKED_EVERY);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Holds the task no longer.
    pub(super) fn release(&self) {
        self.lock().holds -= 1;
        self.changed.notify_all();
    }

    /// Rests for as long as somebody holds the task.
    pub(super) fn rest_while_held(&self) {
        let mut inner = self.lock();
        if inner.holds == 0 {
            return;
        }
        inner.rests = true;
        self.changed.notify_all();
        let waited = self.changed.wait_while(inner, |inner| inner.holds > 0);
        waited.unwrap_or_else(PoisonError::into_inner).rests = false;
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut P)) {
        change(&mut self.lock().progress);
    }

    pub(super) fn progress(&self) -> P {
        self.lock().progress.clone()
    }

    /// Failure that ended the task, if one has.
    pub(super) fn error(&self) -> Option<Arc<ConnectError>> {
        self.lock().outcome.clone().and_then(Result::err)
    }

    pub(super) fn wait_outcome(&self) -> Result<P, Arc<ConnectError>> {
        let waited = self.changed.wait_while(self.lock(), |inner| inner.outcome.is_none());
        let inner = waited.unwrap_or_else(PoisonError::into_inner);
        match &inner.outcome {
            Some(Err(error)) => Err(Arc::clone(error)),
            Some(Ok(())) | None => Ok(inner.progress.clone()),
        }
    }

    fn end(&self, outcome: Result<(), ConnectError>) {
        self.lock().outcome = Some(outcome.map_err(Arc::new));
        self.changed.notify_all();
    }
}

/// Runs `body` on a thread of its own, and sets the outcome however that ends.
pub(super) fn spawn<P: Clone + Default + Send + 'static>(
    name: &Arc<str>,
    signal: &Arc<Signal<P>>,
    body: impl FnOnce() -> Result<(), Stopped> + Send + 'static,
) -> Result<JoinHandle<()>, ConnectError> {
    let (task, signal) = (Arc::clone(name), Arc::clone(signal));
    let run = move || {
        let outcome = match caught(body) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(stopped)) => stopped.named(&task),
            Err(message) => Err(ConnectError::Panicked { name: task, message }),
        };
        signal.end(outcome);
    };
    thread::Builder::new()
        .name(format!("connect-{name}"))
        .spawn(run)
        .map_err(|source| ConnectError::Thread { name: Arc::clone(name), source: Arc::new(source) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::Cell, sync::mpsc};

    /// Longer than any test: what waits for so long has lost what it waited for.
    const FOREVER: Duration = Duration::from_secs(3_600);

    fn signal() -> Arc<Signal<u64>> {
        Arc::new(Signal::new())
    }

    #[test]
    fn a_weaker_request_changes_nothing() {
        let signal = signal();
        for (made, seen) in [
            (StopRequest::Continue, StopRequest::Continue),
            (StopRequest::Drain, StopRequest::Drain),
            (StopRequest::Continue, StopRequest::Drain),
            (StopRequest::Stop, StopRequest::Stop),
            (StopRequest::Drain, StopRequest::Stop),
        ] {
            signal.request(made);
            assert_eq!(signal.requested(), seen);
        }
    }

    #[test]
    fn who_was_woken_before_the_wait_does_not_wait() {
        let signal = signal();
        signal.wake();
        signal.wait_woken(FOREVER);
        assert!(!signal.lock().woken, "a wake-up is used up");
        signal.request(StopRequest::Stop);
        assert!(matches!(signal.wait(FOREVER), Err(Stopped::OnRequest)));
    }

    #[test]
    fn a_task_does_nothing_while_it_is_held() -> Result<(), ConnectError> {
        let (signal, (go_on, steps)) = (signal(), mpsc::channel::<()>());
        let in_task = Arc::clone(&signal);
        let thread = spawn(&"held".into(), &signal, move || {
            for () in steps {
                in_task.rest_while_held();
                in_task.update(|progress| *progress += 1);
            }
            Ok(())
        })?;
        let step = || go_on.send(()).expect("the task is there");
        thread::scope(|scope| {
            let held = scope.spawn(|| signal.hold(&|| true));
            // It rests once it takes a step, and not before.
            while !held.is_finished() {
                step();
                thread::yield_now();
            }
        });
        let before = signal.progress();
        (0..100).for_each(|_| step());
        assert_eq!(signal.progress(), before);
        signal.release();
        drop(go_on);
        let after = signal.wait_outcome().expect("it has ended well");
        assert!(after >= before + 100);
        assert!(signal.hold(&|| true));
        thread.join().expect("who holds a task that has ended does not wait");
        Ok(())
    }

    #[test]
    fn who_wants_to_hold_a_task_no_more_does_not_wait_for_it() {
        let (signal, asked) = (signal(), Cell::new(0));
        let is_wanted = || asked.replace(asked.get() + 1) < 2;
        // Its task never comes to rest.
        assert!(!signal.hold(&is_wanted));
        assert_eq!(asked.get(), 3);
        signal.rest_while_held();
    }

    #[test]
    fn a_panic_is_the_outcome_of_its_task() -> Result<(), ConnectError> {
        let signal = signal();
        let thread = spawn(&"broken".into(), &signal, || panic!("of the user's"))?;
        let outcome = signal.wait_outcome();
        assert!(matches!(&outcome, Err(error) if error.to_string().contains("of the user's")));
        assert!(signal.error().is_some() && thread.join().is_ok());
        Ok(())
    }
}

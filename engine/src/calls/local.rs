//! An executor without threads.

use super::jobs::Jobs;
use headwater_core::ports::spawn::{Spawn, Spawned};
use std::{fmt, sync::Arc};

/// Runs each call on the spot as far as it gets, and on when it was woken and is told to: what a test driver has, so that a
/// run of it is always the same.
///
/// ```
/// use headwater_core::ports::spawn::Spawn;
/// use headwater_engine::calls::LocalExecutor;
/// use std::sync::mpsc::channel;
///
/// let (executor, (done, is_done)) = (LocalExecutor::default(), channel());
/// executor.spawn(Box::pin(async move { done.send("at once").unwrap() }));
/// assert_eq!(is_done.try_recv(), Ok("at once"));
/// executor.run();
/// ```
#[derive(Clone, Default)]
pub struct LocalExecutor {
    jobs: Arc<Jobs>,
}

impl fmt::Debug for LocalExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalExecutor")
    }
}

impl Spawn for LocalExecutor {
    fn spawn(&self, future: Spawned) {
        self.jobs.add(future).poll();
    }
}

impl LocalExecutor {
    /// Runs the calls that were woken, as far as they get.
    pub fn run(&self) {
        self.run_woken();
    }

    /// The same; whether there were any.
    pub(crate) fn run_woken(&self) -> bool {
        let mut any = false;
        while let Some(job) = self.jobs.next() {
            job.poll();
            any = true;
        }
        any
    }

    /// Waits until a call was woken, or a task.
    pub(crate) fn wait(&self) {
        self.jobs.wait();
    }

    /// A task was woken.
    pub(crate) fn nudge(&self) {
        self.jobs.nudge();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        pin::Pin,
        sync::mpsc::channel,
        task::{Context, Poll},
    };

    struct PanicsAsItIsDropped;

    impl Future for PanicsAsItIsDropped {
        type Output = ();

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            Poll::Ready(())
        }
    }

    impl Drop for PanicsAsItIsDropped {
        fn drop(&mut self) {
            panic!("it is dropped");
        }
    }

    #[test]
    fn a_call_that_panics_as_it_is_dropped_takes_nobody_along() {
        let (executor, (done, is_done)) = (LocalExecutor::default(), channel());
        executor.spawn(Box::pin(PanicsAsItIsDropped));
        executor.spawn(Box::pin(async move { done.send("and the next").unwrap() }));
        assert_eq!(is_done.try_recv(), Ok("and the next"));
    }
}

//! A pool of threads that runs calls.

use super::jobs::Jobs;
use headwater_core::ports::spawn::{Spawn, Spawned};
use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    thread::Builder,
};

/// How many threads the pool of the process has: a call that blocks holds one.
const THREADS_OF_PROCESS: usize = 16;

static OF_PROCESS: Mutex<Option<Arc<ThreadPool>>> = Mutex::new(None);

/// Threads that run calls, whatever these wait for; a call that blocks its thread holds up others once all do.
///
/// Dropped, it drops the calls that are under way.
///
/// ```
/// use headwater_core::ports::spawn::Spawn;
/// use headwater_engine::calls::ThreadPool;
/// use std::sync::mpsc::channel;
///
/// let (pool, (done, is_done)) = (ThreadPool::new(2)?, channel());
/// pool.spawn(Box::pin(async move { done.send("elsewhere").unwrap() }));
/// assert_eq!(is_done.recv()?, "elsewhere");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ThreadPool {
    jobs: Arc<Jobs>,
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ThreadPool")
    }
}

impl ThreadPool {
    /// Starts so many threads, at least one.
    ///
    /// # Errors
    ///
    /// Those of the system, if it gives no thread.
    pub fn new(threads: usize) -> io::Result<Self> {
        let pool = Self { jobs: Arc::default() };
        for _ in 0..threads.max(1) {
            let jobs = Arc::clone(&pool.jobs);
            let run = move || {
                while let Some(job) = jobs.wait_next() {
                    job.poll();
                }
            };
            Builder::new().name("calls".to_owned()).spawn(run)?;
        }
        Ok(pool)
    }

    /// The one that applications share which bring no executor of their own.
    ///
    /// # Errors
    ///
    /// Those of the system, if it gives no thread.
    pub fn of_process() -> io::Result<Arc<Self>> {
        let mut pool = OF_PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = &*pool {
            return Ok(Arc::clone(pool));
        }
        let made = Arc::new(Self::new(THREADS_OF_PROCESS)?);
        *pool = Some(Arc::clone(&made));
        Ok(made)
    }
}

/// Runs calls on the pool of the process, which is started with the first.
#[derive(Debug)]
pub(crate) struct PoolOfProcess;

impl Spawn for PoolOfProcess {
    fn spawn(&self, future: Spawned) {
        match ThreadPool::of_process() {
            Ok(pool) => pool.spawn(future),
            // Dropped, the call has no answer, which stops the application.
            Err(error) => tracing::error!(%error, "there is no thread to make calls on"),
        }
    }
}

impl Spawn for ThreadPool {
    fn spawn(&self, future: Spawned) {
        self.jobs.push_new(future);
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.jobs.stop();
    }
}

//! Brings all workers to a stop and makes one commit of all their tasks.
//!
//! A commit goes through gates at which every worker waits for the others: first all stop taking input, then, level by
//! level, records on their way between sub-topologies are taken and caches forwarded, then each hands its parts over and
//! the last to arrive puts the commit together. Workers then go on; a thread of its own hands the commit to the log,
//! awaits it and publishes to the state.

use super::{
    error::StreamsError,
    worker::{TaskPart, Worker},
};
use headwater_core::time::Clock;
use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// How a run is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Ending {
    /// Not yet.
    #[default]
    Running,
    /// When the input is complete and every window has closed.
    Draining,
    /// After one more commit.
    Closing,
    /// It has.
    Ended,
}

#[derive(Debug, Default)]
struct Gate {
    ending: Ending,
    arrived: usize,
    passes: u64,
    parts: Vec<TaskPart>,
    /// Whether a commit is on its way to the disk.
    in_flight: bool,
    /// Whether the log does not have that commit in its queue yet.
    handing_in: bool,
    idle: usize,
    finished: usize,
    last_commit: Duration,
    failure: Option<StreamsError>,
    /// Counts everything that may give an idle worker something to do.
    wakes: u64,
}

/// What workers, the committer and the handle of an instance share.
#[derive(Debug)]
pub(super) struct Epochs {
    gate: Mutex<Gate>,
    changed: Condvar,
    requested: AtomicBool,
    dirty: AtomicBool,
    failed: AtomicBool,
    /// The newest published commit.
    published: AtomicU64,
    workers: usize,
    levels: usize,
    interval: Duration,
    bytes_max: usize,
    clock: Arc<dyn Clock>,
}

/// The instance has failed; why is kept with the gate.
#[derive(Debug)]
pub(super) struct Failed;

impl Epochs {
    pub(super) fn new(
        (workers, levels): (usize, usize),
        interval: Duration,
        bytes_max: usize,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let gate = Mutex::new(Gate { last_commit: clock.elapsed(), ..Gate::default() });
        Self {
            gate,
            changed: Condvar::new(),
            requested: AtomicBool::new(false),
            dirty: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            published: AtomicU64::new(0),
            workers,
            levels,
            interval,
            bytes_max: bytes_max / workers.max(1),
            clock,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'g>(&self, gate: MutexGuard<'g, Gate>, at_most: Duration) -> MutexGuard<'g, Gate> {
        self.changed.wait_timeout(gate, at_most).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Wakes idle workers: a topic's end has moved, or records are on their way to a task.
    pub(super) fn wake(&self) {
        self.lock().wakes += 1;
        self.changed.notify_all();
    }

    /// Stops the instance because of `failure`; the first one is kept.
    pub(super) fn fail(&self, failure: StreamsError) {
        let mut gate = self.lock();
        if gate.failure.is_none() {
            tracing::error!(error = %failure, "streams instance failed");
            gate.failure = Some(failure);
        }
        gate.ending = Ending::Ended;
        self.failed.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    pub(super) fn failure(&self) -> Option<StreamsError> {
        self.lock().failure.clone()
    }

    pub(super) fn ending(&self) -> Ending {
        self.lock().ending
    }

    /// Has the run end in the given way, unless it already does sooner.
    pub(super) fn end(&self, how: Ending) {
        let mut gate = self.lock();
        gate.ending = gate.ending.max(how);
        gate.wakes += 1;
        if how == Ending::Closing {
            self.requested.store(true, Ordering::Release);
        }
        self.changed.notify_all();
    }

    pub(super) fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    /// How often workers were woken so far: what [`idle`](Self::idle) compares with.
    pub(super) fn wakes(&self) -> u64 {
        self.lock().wakes
    }

    /// Whether a commit must be made now. `ran` tells whether the worker has just taken records.
    pub(super) fn is_due(&self, ran: bool, worker: &Worker) -> bool {
        if ran || worker.has_changed() {
            self.dirty.store(true, Ordering::Release);
        }
        if self.requested.load(Ordering::Acquire) {
            return true;
        }
        let dirty = self.dirty.load(Ordering::Acquire);
        let full =
            dirty && (worker.commit_requested() || worker.uncommitted_bytes() > self.bytes_max);
        let due = full
            || (dirty && ran && {
                let gate = self.lock();
                !gate.in_flight
                    && self.clock.elapsed().saturating_sub(gate.last_commit) >= self.interval
            });
        if due {
            self.request();
        }
        due
    }

    fn request(&self) {
        self.requested.store(true, Ordering::Release);
        self.wake();
    }

    /// Waits until there may be something to do; `seen` is what [`wakes`](Self::wakes) said before the worker looked.
    /// The last worker to become idle asks for a commit of what was done. `finished` tells that the worker's tasks know
    /// that their input is complete.
    pub(super) fn idle(&self, seen: u64, finished: bool) {
        let mut gate = self.lock();
        gate.idle += 1;
        gate.finished += usize::from(finished);
        if gate.finished == self.workers && gate.ending == Ending::Draining {
            gate.ending = Ending::Closing;
            self.requested.store(true, Ordering::Release);
            self.changed.notify_all();
        }
        if gate.wakes == seen
            && gate.ending != Ending::Ended
            && !self.requested.load(Ordering::Acquire)
        {
            let waited = self.clock.elapsed().saturating_sub(gate.last_commit) >= self.interval;
            let dirty = self.dirty.load(Ordering::Acquire) && !gate.in_flight;
            if dirty && (waited || gate.idle == self.workers) {
                self.requested.store(true, Ordering::Release);
                self.changed.notify_all();
            } else {
                // Not for longer than an interval, so that wall-clock punctuations are looked at.
                gate = self.wait(gate, self.interval.max(Duration::from_millis(1)));
            }
        }
        gate.idle -= 1;
        gate.finished -= usize::from(finished);
    }

    /// Waits for all workers; true for the one that arrived last.
    fn pass(&self) -> Result<bool, Failed> {
        let mut gate = self.lock();
        let pass = gate.passes;
        gate.arrived += 1;
        if gate.arrived == self.workers {
            gate.arrived = 0;
            gate.passes += 1;
            self.changed.notify_all();
            return if self.failed.load(Ordering::Acquire) { Err(Failed) } else { Ok(true) };
        }
        while gate.passes == pass {
            if self.failed.load(Ordering::Acquire) {
                return Err(Failed);
            }
            gate = self.wait(gate, Duration::from_secs(1));
        }
        if self.failed.load(Ordering::Acquire) { Err(Failed) } else { Ok(false) }
    }

    /// Takes part in a commit; `submit` is called by one worker with the parts of all. True once the run has ended.
    pub(super) fn take_part(
        &self,
        worker: &mut Worker,
        epoch: u64,
        submit: impl FnOnce(Vec<TaskPart>, bool) -> Result<(), StreamsError>,
    ) -> Result<bool, Failed> {
        self.pass()?;
        for level in 0..self.levels {
            worker.settle_level(level).map_err(|e| self.failed_by(e))?;
            self.pass()?;
        }
        let parts = worker.collect(epoch).map_err(|e| self.failed_by(e))?;
        self.lock().parts.extend(parts);
        if self.pass()? {
            let (parts, closing) = self.when_landed();
            submit(parts, closing).map_err(|e| self.failed_by(e))?;
            let mut gate = self.lock();
            gate.last_commit = self.clock.elapsed();
            self.dirty.store(false, Ordering::Release);
            self.requested.store(false, Ordering::Release);
            if closing {
                gate = self.landed(gate);
                gate.ending = Ending::Ended;
            }
        }
        self.pass()?;
        Ok(self.ending() == Ending::Ended)
    }

    fn failed_by(&self, error: StreamsError) -> Failed {
        self.fail(error);
        Failed
    }

    /// All parts, once the last commit has landed.
    fn when_landed(&self) -> (Vec<TaskPart>, bool) {
        let mut gate = self.landed(self.lock());
        let closing = gate.ending == Ending::Closing;
        (std::mem::take(&mut gate.parts), closing)
    }

    fn landed<'g>(&'g self, mut gate: MutexGuard<'g, Gate>) -> MutexGuard<'g, Gate> {
        while gate.in_flight && gate.failure.is_none() {
            gate = self.wait(gate, Duration::from_secs(1));
        }
        gate
    }

    /// A commit is on its way.
    pub(super) fn launched(&self) {
        let mut gate = self.lock();
        (gate.in_flight, gate.handing_in) = (true, true);
    }

    /// The commit on its way is in the log's queue: what is handed in from now on comes behind it.
    pub(super) fn handed_in(&self) {
        self.lock().handing_in = false;
        self.changed.notify_all();
    }

    /// Waits until no commit is on its way to the log's queue.
    pub(super) fn await_handed_in(&self) {
        let mut gate = self.lock();
        while gate.handing_in && gate.failure.is_none() {
            gate = self.wait(gate, Duration::from_secs(1));
        }
    }

    /// Commit `epoch` is durable and published.
    pub(super) fn has_landed(&self, epoch: u64) {
        self.published.store(epoch, Ordering::Release);
        let mut gate = self.lock();
        gate.in_flight = false;
        gate.wakes += 1;
        self.changed.notify_all();
    }
}

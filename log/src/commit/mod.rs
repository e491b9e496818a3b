//! The way of a commit: taken in and given offsets on the caller's thread, made durable and visible in stages.
//!
//! | part | thread | does |
//! |---|---|---|
//! | [`intake`] | the callers' | checks, encodes, assigns offsets, queues within a bound in bytes |
//! | [`committer`] | `log-commit` | takes all that is queued as a round and builds its frame |
//! | [`stages`] | `log-journal` | writes and syncs the frame before |
//! | [`stages`] | `log-apply` | applies the one before that: segments, high watermark, tickets, wakers |
//! | [`checkpointer`] | `log-checkpoint` | syncs the segments that full journal files cover, writes checkpoints, removes what was purged |
//!
//! A small round that nothing is in front of goes through all stages on `log-commit`.
//!
//! # Invariants
//!
//! - Frame, sync, segments, high watermarks with groups' positions, ticket: in this order.
//! - Readers see a round whole or not at all: its high watermarks and positions move at once.
//! - The first error of the file system fences the log: no commit is acknowledged after it.

pub(crate) mod checkpointer;
pub(crate) mod committer;
pub(crate) mod intake;
pub(crate) mod stages;

use crate::{
    disk::{lock, read},
    options::LogOptions,
    spare::SpareBuffers,
    store::Store,
};
use headwater_core::ports::log::LogError;
use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

/// How far checkpoints have come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    /// The frame that the current checkpoint covers.
    pub(crate) current: u64,
    /// The frame that the previous checkpoint covers: the journal keeps all after it.
    pub(crate) retained: u64,
    /// Checkpoints that were asked for and not yet made.
    pub(crate) asked: usize,
}

/// What the log's threads and its callers share.
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) options: LogOptions,
    pub(crate) store: Store,
    pub(crate) generation: u32,
    /// Whether a frame is on the disk that no other says to be there.
    pub(crate) unclaimed: AtomicBool,
    /// Bytes of disk that the journal's next file will take up.
    pub(crate) journal_growth: AtomicU64,
    intake: Mutex<intake::Intake>,
    arrived: Condvar,
    progress: Mutex<Progress>,
    progressed: Condvar,
    /// Memory of commits that are through, for the next ones.
    spare: SpareBuffers,
    fenced: OnceLock<LogError>,
    /// Backups that may still want the files of segments which were dropped since they began.
    holding_segments: AtomicUsize,
}

/// Keeps the files of segments that are dropped from now on.
#[derive(Debug)]
pub(crate) struct SegmentHold(Arc<Shared>);

impl Drop for SegmentHold {
    fn drop(&mut self) {
        self.0.holding_segments.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    pub(crate) fn new(
        dir: PathBuf,
        options: LogOptions,
        store: Store,
        (generation, journal_growth): (u32, u64),
        progress: Progress,
    ) -> Self {
        let intake = intake::Intake::new(read(&store.groups).epochs());
        Self {
            dir,
            options,
            store,
            generation,
            unclaimed: AtomicBool::new(false),
            journal_growth: journal_growth.into(),
            intake: Mutex::new(intake),
            arrived: Condvar::new(),
            progress: Mutex::new(progress),
            progressed: Condvar::new(),
            spare: SpareBuffers::default(),
            fenced: OnceLock::new(),
            holding_segments: AtomicUsize::new(0),
        }
    }

    /// Stops the log from taking writes: after a failed write or sync nothing that follows can be trusted.
    pub(crate) fn fence(&self, error: &LogError) {
        if self.fenced.set(error.clone()).is_ok() {
            tracing::error!(%error, "the log takes no more writes");
        }
        // Under the locks, so that nobody can check and then miss the wake-up.
        drop(lock(&self.progress));
        self.progressed.notify_all();
        lock(&self.intake).wake_all();
        self.arrived.notify_all();
    }

    /// Waits until no checkpoint is being made: what is on the disk then changes by commits only.
    #[cfg(test)]
    pub(crate) fn quiesce(&self) {
        let mut progress = lock(&self.progress);
        while progress.asked > 0 && self.check_fence().is_ok() {
            progress =
                self.progressed.wait(progress).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// Keeps the files of segments that are dropped from now on, until what is given back is dropped.
    pub(crate) fn hold_segments(self: &Arc<Self>) -> SegmentHold {
        self.holding_segments.fetch_add(1, Ordering::SeqCst);
        SegmentHold(Arc::clone(self))
    }

    /// Whether the files of segments that were dropped must stay.
    pub(crate) fn holds_segments(&self) -> bool {
        self.holding_segments.load(Ordering::SeqCst) > 0
    }

    /// The error that fenced the log, if one did.
    pub(crate) fn check_fence(&self) -> Result<(), LogError> {
        self.fenced.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Why there will be no answer: the log was fenced, or closed.
    pub(crate) fn closed(&self) -> LogError {
        let closed = || LogError::Closed { path: self.dir.clone() };
        self.fenced.get().cloned().unwrap_or_else(closed)
    }
}

/// However a thread ends, callers must not wait for it.
struct Leaving<'a> {
    shared: &'a Shared,
    thread: &'static str,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.fence(&LogError::Panicked { thread: self.thread });
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("dir", &self.dir)
            .field("fenced", &self.fenced)
            .finish_non_exhaustive()
    }
}

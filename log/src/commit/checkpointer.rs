//! The checkpointer: syncs segments and writes checkpoints beside the committer, so that a full journal file does not
//! stop commits.

use super::Shared;
use crate::{
    checkpoint,
    disk::{self, files::Exhausted, lock},
    segment::Segment,
};
use headwater_core::ports::log::LogError;
use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{Builder, JoinHandle},
};

const THREAD: &str = "log-checkpoint";

/// A checkpoint to make.
#[derive(Debug)]
pub(crate) struct Job {
    /// The frame that it covers.
    pub(crate) sequence: u64,
    pub(crate) payload: Vec<u8>,
    /// To be synced before it is written.
    pub(crate) dirty: Vec<Arc<Segment>>,
    /// Whether names of partitions' directories are to be synced before it is written.
    pub(crate) new_dirs: bool,
    /// No longer listed in it.
    pub(crate) dropped: Vec<Arc<Segment>>,
}

/// The committer's handle on the thread.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    /// Bounded by the journal: there are never more jobs than journal files.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(crate) fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        let (jobs, queue) = channel();
        let shared = Arc::clone(shared);
        let thread = Builder::new().name(THREAD.into()).spawn(move || run(&shared, &queue))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    pub(crate) fn submit(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // A thread that is gone has fenced the log.
            let _refused = jobs.send(job);
        }
    }

    /// Waits until all jobs are done.
    fn finish(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// However the committer ends, the directory is not given back while this thread still writes to it.
impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A panic here must not leave the committer waiting for progress.
struct Leaving<'a>(&'a Shared);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fence(&LogError::Panicked { thread: THREAD });
        }
    }
}

fn run(shared: &Shared, queue: &Receiver<Job>) {
    let _leaving = Leaving(shared);
    let mut pending_removal = Vec::new();
    for job in queue {
        if shared.check_fence().is_err() {
            return;
        }
        if let Err(error) = make(shared, job, &mut pending_removal) {
            shared.fence(&error);
            return;
        }
    }
}

fn make(
    shared: &Shared,
    job: Job,
    pending_removal: &mut Vec<Arc<Segment>>,
) -> Result<(), LogError> {
    for segment in &job.dirty {
        segment.flush()?;
    }
    let files = &*shared.store.files;
    if job.new_dirs {
        files.with_room(Exhausted::Wait, || disk::sync_dir(files.disk(), &shared.dir))?;
    }
    shared.check_fence()?;
    checkpoint::store(&shared.dir, files, &job.payload)?;
    // Neither this checkpoint nor the one before lists them.
    for segment in std::mem::replace(pending_removal, job.dropped) {
        segment.remove()?;
    }
    let mut progress = lock(&shared.progress);
    progress.retained = progress.current;
    progress.current = job.sequence;
    progress.asked -= 1;
    drop(progress);
    shared.progressed.notify_all();
    Ok(())
}

//! The checkpointer: syncs segments and writes checkpoints beside the committer, so that a full journal file does not
//! stop commits.

use super::{Leaving, Shared};
use crate::{
    checkpoint,
    disk::{self, files::Exhausted, lock},
    journal::file::Zeros,
    segment::Segment,
};
use headwater_core::ports::log::LogError;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, Builder, JoinHandle},
};

const THREAD: &str = "log-checkpoint";
/// How many segments are synced at once.
const FLUSHING_MAX: usize = 8;

/// What to do beside commits.
#[derive(Debug)]
pub(crate) enum Job {
    /// A checkpoint to make.
    Checkpoint(CheckpointJob),
    /// Zeros to write ahead of the journal's frames.
    Zeros(Zeros),
}

/// A checkpoint, and what comes before and after it.
#[derive(Debug)]
pub(crate) struct CheckpointJob {
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

/// Where jobs are handed in. Bounded by the journal: there are never more checkpoints than journal files, nor zeros asked
/// for twice.
#[derive(Debug, Clone)]
pub(crate) struct Jobs(Sender<Job>);

impl Jobs {
    pub(crate) fn submit(&self, job: Job) {
        // A thread that is gone has fenced the log.
        let _refused = self.0.send(job);
    }
}

/// The committer's handle on the thread.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(crate) fn start(shared: &Arc<Shared>) -> io::Result<(Self, Jobs)> {
        let (jobs, queue) = channel();
        let shared = Arc::clone(shared);
        let thread = Builder::new().name(THREAD.into()).spawn(move || run(&shared, &queue))?;
        Ok((Self { thread: Some(thread) }, Jobs(jobs)))
    }
}

/// However the committer ends, the directory is not given back while this thread still writes to it. Whoever hands jobs in
/// is dropped before.
impl Drop for Checkpointer {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn run(shared: &Shared, queue: &Receiver<Job>) {
    let _leaving = Leaving { shared, thread: THREAD };
    let mut pending_removal = Vec::new();
    for job in queue {
        if shared.check_fence().is_err() {
            return;
        }
        let checkpoint = match job {
            Job::Zeros(zeros) => {
                zeros.write(|| shared.takes_commits());
                continue;
            }
            Job::Checkpoint(checkpoint) => checkpoint,
        };
        if let Err(error) = make(shared, checkpoint, &mut pending_removal) {
            shared.fence(&error);
            return;
        }
    }
}

fn make(
    shared: &Shared,
    checkpoint: CheckpointJob,
    pending_removal: &mut Vec<Arc<Segment>>,
) -> Result<(), LogError> {
    let CheckpointJob { sequence, payload, dirty, new_dirs, dropped } = checkpoint;
    flush(&dirty)?;
    let files = &*shared.store.files;
    if new_dirs {
        files.with_room(Exhausted::Wait, || disk::sync_dir(files.disk(), &shared.dir))?;
    }
    shared.check_fence()?;
    checkpoint::store(&shared.dir, files, &payload)?;
    if shared.holds_segments() {
        // A backup may list what was dropped after it had begun.
        pending_removal.extend(dropped);
    } else {
        // Neither this checkpoint nor the one before lists them.
        for segment in std::mem::replace(pending_removal, dropped) {
            segment.remove()?;
        }
    }
    let mut progress = lock(&shared.progress);
    progress.retained = progress.current;
    progress.current = sequence;
    progress.asked -= 1;
    drop(progress);
    shared.progressed.notify_all();
    Ok(())
}

/// Puts the segments on the disk, several at once: a disk takes them together faster than one after the other.
pub(crate) fn flush(segments: &[Arc<Segment>]) -> Result<(), LogError> {
    let next = AtomicUsize::new(0);
    let flush_some = || -> Result<(), LogError> {
        while let Some(segment) = segments.get(next.fetch_add(1, Ordering::Relaxed)) {
            segment.flush()?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let helpers = FLUSHING_MAX.min(segments.len()).saturating_sub(1);
        let spawn = |_| Builder::new().name(THREAD.into()).spawn_scoped(scope, flush_some);
        // Without a helper's thread the others do its part.
        let helpers: Vec<_> = (0..helpers).map_while(|at| spawn(at).ok()).collect();
        let mut flushed = flush_some();
        for helper in helpers {
            let panicked = |_| Err(LogError::Panicked { thread: THREAD });
            flushed = flushed.and(helper.join().unwrap_or_else(panicked));
        }
        flushed
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        batch::tests::batches_of,
        disk::{
            files::Files,
            watched::{Cache, WatchedDisk},
        },
        partition::{Kept, LogFiles, Partition, PartitionMeta, Touched},
    };
    use headwater_core::{
        ports::log::Cleanup,
        record::{TopicName, TopicPartition},
    };
    use std::{sync::mpsc::RecvTimeoutError, time::Duration};

    /// Far more than a thread needs to come to its sync.
    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn segments_are_synced_at_the_same_time() {
        let dir = tempfile::tempdir().unwrap();
        let disk = WatchedDisk::new(Cache::Kept);
        let files = Files::new(Arc::new(disk.clone()), 8);
        let mut touched = Touched::default();
        for index in 0..2 {
            let id = TopicPartition::new(TopicName::new("t").unwrap(), index);
            let kept = Kept { cleanup: Cleanup::Keep, segment_bytes: 1 << 30 };
            let files = LogFiles { root: dir.path(), files: &files };
            let opened =
                Partition::open(files, id, kept, &PartitionMeta::default(), &Arc::default())
                    .unwrap();
            Arc::new(opened).append(&batches_of(100), &mut touched).unwrap();
        }
        // Each sync waits until the other has been begun.
        let ((met, all_met), ends) = (channel(), [channel(), channel()]);
        let [(to_first, at_first), (to_second, at_second)] = ends;
        for (index, to_other, at_own) in [(0, to_second, at_first), (1, to_first, at_second)] {
            let (path, met) = (dir.path().join(format!("t-{index}/{:020}.log", 0)), met.clone());
            disk.before_touching(&path, move || {
                to_other.send(()).unwrap();
                met.send(at_own.recv_timeout(PATIENCE)).unwrap();
            });
        }
        flush(&touched.dirty).unwrap();
        drop(met);
        let met: Vec<Result<(), RecvTimeoutError>> = all_met.iter().collect();
        assert_eq!(met, [Ok(()), Ok(())]);
    }
}

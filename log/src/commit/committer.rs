//! The committer: a thread that takes rounds, and two more that it hands them on to where that pays.

use super::{
    Leaving, Shared,
    checkpointer::Checkpointer,
    intake::Taken,
    stages::{Applier, Built, FrameWriter, Round, Step},
};
use crate::{checkpoint::Ending, disk::lock, journal::Journal, lock::DirLock, partition::Touched};
use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{Builder, JoinHandle, ThreadId},
};

/// A round takes at most about this.
const ROUND_BYTES_MAX: usize = 4 << 20;
/// Rounds between two stages.
const WAITING_MAX: usize = 1;

/// The committer's own.
#[derive(Debug)]
pub(crate) struct Committer {
    shared: Arc<Shared>,
    writer: Arc<Mutex<FrameWriter>>,
    applier: Arc<Mutex<Applier>>,
    pipeline: Pipeline,
    /// After the pipeline's threads, which still give it jobs.
    _checkpointer: Checkpointer,
    /// After the checkpointer, which still writes while it is dropped.
    _directory: HeldDirectory,
}

/// The directory's lock, given back once neither a thread nor a reader writes there.
#[derive(Debug)]
pub(crate) struct HeldDirectory {
    pub(crate) shared: Arc<Shared>,
    pub(crate) _lock: DirLock,
}

impl Drop for HeldDirectory {
    fn drop(&mut self) {
        self.shared.store.freeze();
    }
}

/// The threads that write and apply while the next frame is built.
#[derive(Debug)]
struct Pipeline {
    /// Rounds that were handed on and not answered yet.
    pending: Arc<AtomicUsize>,
    built: Option<SyncSender<Built>>,
    threads: Vec<JoinHandle<()>>,
}

impl Pipeline {
    fn start(writer: &Arc<Mutex<FrameWriter>>, applier: &Arc<Mutex<Applier>>) -> io::Result<Self> {
        let pending = Arc::new(AtomicUsize::new(0));
        let (built, to_write) = sync_channel(WAITING_MAX);
        let (written, to_apply) = sync_channel(WAITING_MAX);
        let mut pipeline =
            Self { pending: Arc::clone(&pending), built: Some(built), threads: Vec::new() };
        let writer = Arc::clone(writer);
        let thread = Builder::new().name("log-journal".into());
        pipeline.threads.push(thread.spawn(move || write(&writer, &to_write, &written))?);
        let applier = Arc::clone(applier);
        let thread = Builder::new().name("log-apply".into());
        pipeline.threads.push(thread.spawn(move || apply(&applier, &to_apply, &pending))?);
        Ok(pipeline)
    }

    fn is_idle(&self) -> bool {
        self.pending.load(Ordering::Acquire) == 0
    }

    fn hand_on(&self, built: Built) {
        self.pending.fetch_add(1, Ordering::AcqRel);
        if let Some(stage) = &self.built {
            // A thread that is gone has fenced the log; the round's callers are told when it is dropped.
            let _refused = stage.send(built);
        }
    }

    /// Waits until all that was handed on is through.
    fn finish(&mut self) {
        self.built = None;
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.finish();
    }
}

fn write(writer: &Mutex<FrameWriter>, rounds: &Receiver<Built>, written: &SyncSender<Step>) {
    let shared = Arc::clone(&lock(writer).shared);
    let _leaving = Leaving { shared: &shared, thread: "log-journal" };
    for built in rounds {
        // Refused by a thread that is gone, which has fenced the log.
        lock(writer).write(built, &mut |step| drop(written.send(step)));
    }
}

fn apply(applier: &Mutex<Applier>, steps: &Receiver<Step>, pending: &AtomicUsize) {
    let shared = Arc::clone(&lock(applier).shared);
    let _leaving = Leaving { shared: &shared, thread: "log-apply" };
    for step in steps {
        let ends_round = matches!(step, Step::Round(..));
        lock(applier).take(step);
        if ends_round {
            pending.fetch_sub(1, Ordering::AcqRel);
            // The committer may wait for a rest of which it can tell only now.
            shared.notify_committer();
        }
    }
}

impl Committer {
    pub(crate) fn start(
        shared: &Arc<Shared>,
        journal: Journal,
        touched: Touched,
        lock: DirLock,
    ) -> io::Result<Self> {
        let (checkpointer, jobs) = Checkpointer::start(shared)?;
        let directory = HeldDirectory { shared: Arc::clone(shared), _lock: lock };
        let writer = FrameWriter { shared: Arc::clone(shared), journal, jobs: jobs.clone() };
        let writer = Arc::new(Mutex::new(writer));
        let applier = Arc::new(Mutex::new(Applier { shared: Arc::clone(shared), jobs, touched }));
        let pipeline = Pipeline::start(&writer, &applier)?;
        let shared = Arc::clone(shared);
        Ok(Self {
            shared,
            writer,
            applier,
            pipeline,
            _checkpointer: checkpointer,
            _directory: directory,
        })
    }

    /// The threads that call wakers and callbacks, beside the committer's own.
    pub(crate) fn callers(&self) -> Vec<ThreadId> {
        self.pipeline.threads.iter().map(|thread| thread.thread().id()).collect()
    }

    /// Writes rounds until the log is closed or fails.
    pub(crate) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _refusing = Refusing(&shared);
        let _leaving = Leaving { shared: &shared, thread: "log-commit" };
        loop {
            match shared.take(ROUND_BYTES_MAX, || self.pipeline.is_idle()) {
                Taken::Round(queued) => self.write(Round::of(queued)),
                Taken::Rest => lock(&self.writer).claim(),
                Taken::Closed => break,
            }
        }
        self.pipeline.finish();
        if shared.check_fence().is_ok() {
            lock(&shared.progress).asked += 1;
            let journal_end = lock(&self.writer).journal.end();
            lock(&self.applier).checkpoint(journal_end, Ending::Clean);
        }
    }

    fn write(&self, round: Round) {
        let alone = self.pipeline.is_idle() && round.bytes() < self.shared.options.staged_bytes_min;
        let built = round.build(&self.shared.spare);
        if alone {
            lock(&self.writer).write(built, &mut |step| lock(&self.applier).take(step));
        } else {
            self.pipeline.hand_on(built);
        }
    }
}

/// What is still queued when the committer ends is answered, with why nobody will write it.
struct Refusing<'a>(&'a Shared);

impl Drop for Refusing<'_> {
    fn drop(&mut self) {
        self.0.close_intake();
        self.0.refuse_queued();
    }
}

//! The committer: one thread that writes rounds.

use super::{
    Shared,
    checkpointer::{Checkpointer, Job},
    intake::{Queued, Taken},
};
use crate::{
    disk::lock,
    journal::{Journal, entry::Entry},
    lock::DirLock,
    partition::Touched,
};
use headwater_core::ports::log::LogError;
use std::sync::{Arc, PoisonError, atomic::Ordering};

/// A round takes at most about this.
const ROUND_BYTES_MAX: usize = 16 << 20;

/// The committer's own.
#[derive(Debug)]
pub(crate) struct Committer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) journal: Journal,
    pub(crate) checkpointer: Checkpointer,
    pub(crate) touched: Touched,
    /// After the checkpointer, which still writes while it is dropped.
    pub(crate) _directory: HeldDirectory,
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

/// However the thread ends, callers must not wait for it.
struct Leaving<'a>(&'a Shared);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.close_intake();
        self.0.refuse_queued();
    }
}

/// Why a round was not written, and whether its frame was handed to the disk.
#[derive(Debug)]
enum Unwritten {
    /// It was not: nothing of the round is durable.
    NotHandedOver(LogError),
    /// It was: the round may be found when the log is opened again.
    HandedOver(LogError),
}

impl Unwritten {
    fn cause(&self) -> &LogError {
        match self {
            Self::NotHandedOver(cause) | Self::HandedOver(cause) => cause,
        }
    }

    /// What the caller that queued `entries` is told.
    fn answer(&self, entries: &[Entry<'_>]) -> LogError {
        match self {
            Self::HandedOver(cause) if !entries.is_empty() => {
                LogError::UnknownOutcome { source: Arc::new(cause.clone()) }
            }
            Self::HandedOver(cause) | Self::NotHandedOver(cause) => cause.clone(),
        }
    }
}

impl Committer {
    /// Writes rounds until the log is closed or fails.
    pub(crate) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _leaving = Leaving(&shared);
        loop {
            let rest = self.journal.has_unclaimed().then_some(shared.options.rest);
            let round = match shared.take(ROUND_BYTES_MAX, rest) {
                Taken::Round(round) => round,
                Taken::Rest => {
                    if let Err(error) = self.journal.claim() {
                        shared.fence(&error);
                        return;
                    }
                    continue;
                }
                Taken::Closed => break,
            };
            let bytes = round.iter().map(|queued| queued.bytes).sum();
            let written = shared.check_fence().map_err(Unwritten::NotHandedOver);
            let written = written.and_then(|()| self.write(&round));
            if let Err(unwritten) = &written {
                shared.fence(unwritten.cause());
            }
            shared.release(bytes);
            for queued in round {
                let outcome = match &written {
                    Ok(()) => Ok(queued.receipt),
                    Err(unwritten) => Err(unwritten.answer(&queued.entries)),
                };
                queued.completer.complete(outcome);
            }
            if written.is_err() {
                return;
            }
            self.touched.partitions.drain(..).for_each(|partition| partition.wakers.wake());
        }
        if shared.check_fence().is_ok() {
            self.hand_over(true);
        }
    }

    /// One frame, one sync, then the segments, then the high watermark.
    fn write(&mut self, round: &[Queued]) -> Result<(), Unwritten> {
        let sync = round.iter().any(|queued| queued.sync);
        let frame = self.journal.begin();
        let empty = frame.len();
        for entry in round.iter().flat_map(|queued| &queued.entries) {
            entry.put(frame);
        }
        if frame.len() > empty {
            if self.journal.is_full() {
                self.turn_over().map_err(Unwritten::NotHandedOver)?;
            }
            self.journal.write(sync).map_err(Unwritten::HandedOver)?;
        } else if sync {
            self.journal.sync().map_err(Unwritten::NotHandedOver)?;
        }
        for entry in round.iter().flat_map(|queued| &queued.entries) {
            let applied = self.shared.store.apply(entry, &mut self.touched);
            applied.map_err(Unwritten::HandedOver)?;
        }
        self.touched.partitions.retain(|partition| partition.publish());
        Ok(())
    }

    /// Switches to another journal file, and has what is in the full one covered by a checkpoint.
    fn turn_over(&mut self) -> Result<(), LogError> {
        self.hand_over(false);
        let shared = Arc::clone(&self.shared);
        let mut progress = lock(&shared.progress);
        while !self.journal.switch(progress.retained)? {
            shared.check_fence()?;
            progress = shared.progressed.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
        drop(progress);
        shared.journal_growth.store(self.journal.growth()?, Ordering::Release);
        Ok(())
    }

    /// Has a checkpoint made; `clean` if no frame will follow.
    fn hand_over(&mut self, clean: bool) {
        let sequence = self.journal.sequence();
        let payload = self.shared.store.checkpoint(&self.journal, clean);
        let Touched { dirty, dropped, new_dirs, .. } = std::mem::take(&mut self.touched);
        lock(&self.shared.progress).asked += 1;
        self.checkpointer.submit(Job { sequence, payload, dirty, new_dirs, dropped });
    }
}

//! What becomes of a round: its frame is built, written and synced, and then applied to what readers see.
//!
//! # Invariants
//!
//! - Rounds are written in the order in which they were built, and applied in the order in which they were written.
//! - A round is answered once it is applied, or once it is known that it will not be.

use super::{
    Shared,
    checkpointer::{CheckpointJob, Job, Jobs},
    intake::Queued,
};
use crate::{
    backup::Cut,
    checkpoint::Ending,
    disk::lock,
    journal::{Journal, JournalEnd, buffer::FrameBuffer, entry::Entry},
    partition::Touched,
    spare::SpareBuffers,
    wakers::guarded,
};
use headwater_core::ports::log::{Durability, LogError};
use std::{
    borrow::Cow,
    sync::{Arc, PoisonError, atomic::Ordering, mpsc::Sender},
};

/// Commits that share a frame.
#[derive(Debug)]
pub(crate) struct Round {
    queued: Vec<Queued>,
    bytes: usize,
}

/// A round with its frame, which is not written yet.
#[derive(Debug)]
pub(crate) struct Built {
    round: Round,
    frame: FrameBuffer,
    durability: Durability,
}

/// What to apply next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Make a checkpoint of all that was applied, which is as far as the journal goes.
    Checkpoint(JournalEnd),
    /// Tell what was applied, which is as far as the journal goes.
    Cut(JournalEnd, Vec<Sender<Cut>>),
    /// Apply a round that was written, or say why it was not.
    Round(Round, Result<(), Unwritten>),
}

/// Why a round was not written, and whether its frame was handed to the disk.
#[derive(Debug)]
pub(crate) enum Unwritten {
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

impl Round {
    pub(crate) fn of(queued: Vec<Queued>) -> Self {
        let bytes = queued.iter().map(|queued| queued.bytes).sum();
        Self { queued, bytes }
    }

    /// Bytes of its records, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn entries(&self) -> impl Iterator<Item = &Entry<'static>> {
        self.queued.iter().flat_map(|queued| &queued.entries)
    }

    /// The first stage.
    pub(crate) fn build(self, spare: &SpareBuffers) -> Built {
        let mut frame = FrameBuffer::over(spare.take(self.bytes + FrameBuffer::BESIDE_BYTES));
        frame.begin(self.bytes);
        self.entries().for_each(|entry| frame.push(entry));
        let is_synced = self.queued.iter().any(|queued| queued.durability == Durability::Fsync);
        let durability = if is_synced { Durability::Fsync } else { Durability::Os };
        Built { round: self, frame, durability }
    }
}

/// The second stage: frames are written and synced.
#[derive(Debug)]
pub(crate) struct FrameWriter {
    pub(crate) shared: Arc<Shared>,
    pub(crate) journal: Journal,
    pub(crate) jobs: Jobs,
}

impl FrameWriter {
    /// Writes the round's frame, and hands on what is to be applied, in order.
    pub(crate) fn write(&mut self, built: Built, apply: &mut dyn FnMut(Step)) {
        let Built { mut round, mut frame, durability } = built;
        let cuts: Vec<_> = round.queued.iter_mut().filter_map(|queued| queued.cut.take()).collect();
        if !cuts.is_empty() {
            // In front of the round that asks for it: what was answered before is in it.
            apply(Step::Cut(self.journal.end(), cuts));
        }
        let written = self.write_frame(&mut frame, durability, apply);
        if let Err(unwritten) = &written {
            self.shared.fence(unwritten.cause());
        }
        self.shared.spare.give_back(frame.into_bytes());
        apply(Step::Round(round, written));
    }

    fn write_frame(
        &mut self,
        frame: &mut FrameBuffer,
        durability: Durability,
        apply: &mut dyn FnMut(Step),
    ) -> Result<(), Unwritten> {
        self.shared.check_fence().map_err(Unwritten::NotHandedOver)?;
        if !frame.is_empty() {
            if self.journal.is_full(frame) {
                self.roll(apply).map_err(Unwritten::NotHandedOver)?;
            }
            let written = self.journal.write(frame, durability);
            self.shared.unclaimed.store(self.journal.has_unclaimed(), Ordering::Release);
            written.map_err(Unwritten::HandedOver)?;
            if let Some(zeros) = self.journal.zeros_due() {
                self.jobs.submit(Job::Zeros(zeros));
            }
        } else if durability == Durability::Fsync {
            self.journal.sync().map_err(Unwritten::NotHandedOver)?;
            self.shared.unclaimed.store(self.journal.has_unclaimed(), Ordering::Release);
        }
        Ok(())
    }

    /// Switches to another journal file, and has what is in the full one covered by a checkpoint.
    fn roll(&mut self, apply: &mut dyn FnMut(Step)) -> Result<(), LogError> {
        let shared = Arc::clone(&self.shared);
        lock(&shared.progress).asked += 1;
        apply(Step::Checkpoint(self.journal.end()));
        let mut progress = lock(&shared.progress);
        while !self.journal.switch(progress.retained)? {
            shared.check_fence()?;
            progress = shared.progressed.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
        drop(progress);
        shared.journal_growth.store(self.journal.growth()?, Ordering::Release);
        Ok(())
    }

    /// Has the journal say what is on the disk.
    pub(crate) fn claim(&mut self) {
        let mut frame = FrameBuffer::default();
        self.shared.unclaimed.store(false, Ordering::Release);
        if let Err(error) = self.journal.claim(&mut frame) {
            self.shared.fence(&error);
        }
    }
}

/// The third stage: what was written is applied to segments, groups and topics, shown to readers, and answered.
#[derive(Debug)]
pub(crate) struct Applier {
    pub(crate) shared: Arc<Shared>,
    pub(crate) jobs: Jobs,
    pub(crate) touched: Touched,
}

impl Applier {
    pub(crate) fn take(&mut self, step: Step) {
        match step {
            Step::Checkpoint(journal_end) => self.checkpoint(journal_end, Ending::Open),
            Step::Cut(journal_end, wanted) => self.cut(journal_end, &wanted),
            Step::Round(round, written) => {
                let applied = written.and_then(|()| {
                    self.apply(&round).map_err(|error| {
                        self.shared.fence(&error);
                        Unwritten::HandedOver(error)
                    })
                });
                self.answer(round, &applied);
            }
        }
    }

    fn apply(&mut self, round: &Round) -> Result<(), LogError> {
        self.shared.check_fence()?;
        self.shared.store.apply(round.entries(), &mut self.touched)
    }

    fn answer(&mut self, round: Round, applied: &Result<(), Unwritten>) {
        self.shared.release(round.bytes);
        for queued in round.queued {
            let outcome = match applied {
                Ok(()) => Ok(queued.receipt),
                Err(unwritten) => Err(unwritten.answer(&queued.entries)),
            };
            guarded(|| queued.completer.complete(outcome));
            self.keep_memory_of(queued.entries);
        }
        if applied.is_ok() {
            let moved = self.touched.partitions.drain(..);
            moved.for_each(|partition| partition.wakers.wake());
            let committed = self.touched.committed.drain(..);
            committed.for_each(|partition| partition.offset_wakers.wake());
        }
    }

    /// Has later commits write to where these were.
    fn keep_memory_of(&self, entries: Vec<Entry<'_>>) {
        for entry in entries {
            if let Entry::Append { batches: Cow::Owned(batches), .. } = entry {
                self.shared.spare.give_back(batches);
            }
        }
    }

    /// Tells what was applied, unless it may be a part of a round.
    fn cut(&self, journal_end: JournalEnd, wanted: &[Sender<Cut>]) {
        for sender in wanted {
            if self.shared.check_fence().is_ok() {
                // Who has gone away wants it no more.
                let _gone = sender.send(self.shared.store.cut(journal_end));
            }
        }
    }

    /// Has a checkpoint made of what was applied.
    pub(crate) fn checkpoint(&mut self, journal_end: JournalEnd, ending: Ending) {
        let payload = self.shared.store.checkpoint(journal_end, ending);
        let Touched { dirty, dropped, new_dirs, .. } = std::mem::take(&mut self.touched);
        let sequence = journal_end.sequence;
        let checkpoint = CheckpointJob { sequence, payload, dirty, new_dirs, dropped };
        self.jobs.submit(Job::Checkpoint(checkpoint));
    }
}

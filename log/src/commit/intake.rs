//! Taking commits in: checks, encoding, offsets, and a queue with a bound in bytes.
//!
//! Who waits for room is let in first come, first served: small commits do not keep a large one out.
//!
//! Records are encoded before the lock is taken, at offset 0; under the lock a batch only gets its offset and epoch.

use super::Shared;
use crate::{
    backup::Cut,
    batch::{encode, place},
    disk::{free_bytes, lock},
    identity::random,
    journal::entry::Entry,
    limits::{LIMITS, check_commit, check_group, check_offset, offsets_for},
    partition::Partition,
};
use hashbrown::HashMap;
use headwater_core::{
    ports::log::{
        Commit, CommitTicket, Completer, Durability, GroupOffset, LogError, Owner, Receipt,
        TopicSpec,
    },
    record::TopicPartition,
};
use std::{
    borrow::Cow,
    collections::VecDeque,
    ops::Range,
    sync::{
        Arc, Condvar, MutexGuard, PoisonError,
        atomic::Ordering,
        mpsc::{self, Sender},
    },
};

/// What a group's offset takes up beside its texts, in a frame and in the queue.
const OFFSET_BYTES: usize = 96;
/// Callers wait while more than this is queued.
const QUEUE_BYTES_MAX: usize = 64 << 20;

/// Commits that were taken in and not yet written, and what later ones are checked against.
#[derive(Debug)]
pub(crate) struct Intake {
    pub(crate) queue: VecDeque<Queued>,
    /// Bytes queued and being written.
    pub(crate) bytes: usize,
    pub(crate) closed: bool,
    /// Who waits for room, in the order in which they came; each waits for its own wake-up.
    waiting: VecDeque<Arc<Condvar>>,
    epochs: HashMap<Arc<str>, u64>,
}

/// One thing for the committer to do.
#[derive(Debug)]
pub(crate) struct Queued {
    /// What its frame says; nothing if it only waits for what is in front.
    pub(crate) entries: Vec<Entry<'static>>,
    pub(crate) bytes: usize,
    /// Where its frame must be before it is acknowledged.
    pub(crate) durability: Durability,
    pub(crate) receipt: Receipt,
    pub(crate) completer: Completer,
    /// Who wants to know what the log holds in front of it.
    pub(crate) cut: Option<Sender<Cut>>,
}

/// What the committer is to do next.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Write this, in this order.
    Round(Vec<Queued>),
    /// Nothing arrived for a while.
    Rest,
    /// Nothing will arrive any more.
    Closed,
}

/// An append, encoded and not yet placed.
struct Prepared {
    partition: Arc<Partition>,
    base_offset: Option<i64>,
    records: usize,
    batches: Vec<u8>,
}

impl Intake {
    pub(crate) fn new(epochs: HashMap<Arc<str>, u64>) -> Self {
        let (queue, waiting) = (VecDeque::new(), VecDeque::new());
        Self { queue, bytes: 0, closed: false, waiting, epochs }
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.bytes == 0 || self.bytes + bytes <= QUEUE_BYTES_MAX
    }

    /// Has the first of those who wait look again.
    fn wake_first(&self) {
        self.waiting.front().into_iter().for_each(|first| first.notify_one());
    }

    /// Has all who wait look whether the log still takes anything.
    pub(crate) fn wake_all(&self) {
        self.waiting.iter().for_each(|waiting| waiting.notify_one());
    }
}

impl Shared {
    pub(crate) fn create_topics(&self, specs: Vec<TopicSpec>) -> Result<CommitTicket, LogError> {
        let intake = self.enter(0)?;
        let create = |spec| Entry::CreateTopic { spec, id: random() };
        let entries = specs.into_iter().map(create).collect();
        Ok(self.push(intake, entries, 0, Durability::Fsync, Receipt::default()))
    }

    pub(crate) fn sync(&self) -> Result<CommitTicket, LogError> {
        let intake = self.enter(0)?;
        Ok(self.push(intake, Vec::new(), 0, Durability::Fsync, Receipt::default()))
    }

    /// What the log holds at one commit that covers all that was acknowledged before.
    pub(crate) fn cut(&self) -> Result<Cut, LogError> {
        let (sender, told) = mpsc::channel();
        let intake = self.enter(0)?;
        let (completer, ticket) = CommitTicket::pending();
        let (entries, receipt, cut) = (Vec::new(), Receipt::default(), Some(sender));
        let durability = Durability::Fsync;
        self.queue(intake, Queued { entries, bytes: 0, durability, receipt, completer, cut });
        ticket.wait()?;
        told.recv().map_err(|_| self.closed())
    }

    pub(crate) fn claim(&self, group: &str) -> Result<(CommitTicket, Owner), LogError> {
        check_group(group)?;
        let group: Arc<str> = group.into();
        let mut intake = self.enter(0)?;
        let latest = intake.epochs.entry(Arc::clone(&group)).or_insert(0);
        *latest += 1;
        let epoch = *latest;
        let claim = Entry::Claim { group: Arc::clone(&group), epoch };
        let ticket = self.push(intake, vec![claim], 0, Durability::Fsync, Receipt::default());
        Ok((ticket, Owner { group, epoch }))
    }

    /// Checks a commit and queues it.
    pub(crate) fn commit(&self, commit: Commit) -> Result<CommitTicket, LogError> {
        self.check_fence()?;
        let Commit { owner, appends, offsets } = commit;
        let mut durability = Durability::Os;
        let mut prepared = Vec::with_capacity(appends.len());
        let mut bytes = self.check_offsets(&offsets)?;
        for append in appends {
            let partition = self.store.partition(&append.partition)?;
            partition.damage().map_or(Ok(()), Err)?;
            self.raise(&mut durability, &append.partition);
            let room = self.spare.take(encode::bytes_of(&append.records));
            let batches = encode::encode(&append.partition, &append.records, &LIMITS, room)?;
            bytes += batches.len();
            check_commit(bytes, &LIMITS)?;
            let (base_offset, records) = (append.base_offset, append.records.len());
            prepared.push(Prepared { partition, base_offset, records, batches });
        }
        if prepared.is_empty() {
            offsets.iter().for_each(|offset| self.raise(&mut durability, &offset.partition));
        }

        let intake = self.enter(bytes)?;
        if !prepared.is_empty() {
            self.check_room(intake.bytes + bytes)?;
        }
        if let Some(owner) = &owner {
            check_owner(&intake, owner)?;
        }
        let assigned = assign_offsets(&prepared)?;
        let mut entries = Vec::with_capacity(prepared.len() + offsets.len());
        for (mut append, offsets) in prepared.into_iter().zip(&assigned) {
            if !offsets.is_empty() {
                place(&mut append.batches, offsets.start, self.generation);
                append.partition.pending_end.store(offsets.end, Ordering::Release);
                let partition = append.partition.id.clone();
                entries.push(Entry::Append { partition, batches: Cow::Owned(append.batches) });
            }
        }
        let base_offsets = assigned.into_iter().map(|offsets| offsets.start).collect();
        entries.extend(offsets.into_iter().map(Entry::GroupOffset));
        Ok(self.push(intake, entries, bytes, durability, Receipt { base_offsets }))
    }

    fn check_offsets(&self, offsets: &[GroupOffset]) -> Result<usize, LogError> {
        let mut bytes = 0;
        for offset in offsets {
            self.store.partition(&offset.partition)?;
            check_offset(offset, &LIMITS)?;
            bytes += offset_bytes(offset);
        }
        check_commit(bytes, &LIMITS)?;
        Ok(bytes)
    }

    fn raise(&self, durability: &mut Durability, partition: &TopicPartition) {
        if self
            .store
            .topic(&partition.topic)
            .is_none_or(|topic| topic.spec.durability == Durability::Fsync)
        {
            *durability = Durability::Fsync;
        }
    }

    /// Appends leave the reserve alone, so that offsets and claims can still be written on a full disk.
    ///
    /// `bytes`: this append's, and those in front of it that are not written yet.
    fn check_room(&self, bytes: usize) -> Result<(), LogError> {
        let available = free_bytes(&*self.options.disk, &self.dir)?;
        let growth = self.journal_growth.load(Ordering::Acquire);
        let reserved = self.options.reserve_bytes.saturating_add(growth);
        // Segments grow by what is appended, the journal by a file now and then or by a commit larger than a file.
        if available < reserved.saturating_add(2 * bytes as u64) {
            return Err(LogError::DiskFull { path: self.dir.clone(), available, reserved });
        }
        Ok(())
    }

    /// Waits for room in the queue, after those who wait already. What takes up none waits for nobody.
    fn enter(&self, bytes: usize) -> Result<MutexGuard<'_, Intake>, LogError> {
        let mut intake = lock(&self.intake);
        let mut place: Option<Arc<Condvar>> = None;
        loop {
            self.check_fence()?;
            if intake.closed {
                return Err(self.closed());
            }
            let first = intake.waiting.front();
            let is_next = match &place {
                Some(place) => first.is_some_and(|first| Arc::ptr_eq(first, place)),
                None => first.is_none(),
            };
            if bytes == 0 || is_next && intake.has_room(bytes) {
                if place.is_some() {
                    intake.waiting.pop_front();
                    // There may be room for that one too.
                    intake.wake_first();
                }
                return Ok(intake);
            }
            let place = place.get_or_insert_with(|| {
                let place = Arc::default();
                intake.waiting.push_back(Arc::clone(&place));
                place
            });
            intake = place.wait(intake).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn push(
        &self,
        intake: MutexGuard<'_, Intake>,
        entries: Vec<Entry<'static>>,
        bytes: usize,
        durability: Durability,
        receipt: Receipt,
    ) -> CommitTicket {
        let (completer, ticket) = CommitTicket::pending();
        self.queue(intake, Queued { entries, bytes, durability, receipt, completer, cut: None });
        ticket
    }

    fn queue(&self, mut intake: MutexGuard<'_, Intake>, queued: Queued) {
        intake.bytes += queued.bytes;
        intake.queue.push_back(queued);
        drop(intake);
        self.arrived.notify_one();
    }

    /// Takes what is queued, about `bytes_max` of it. Waits if there is nothing, but for a while only once a frame is on the
    /// disk that no other says to be there, and nothing is being written (`is_idle`).
    pub(crate) fn take(&self, bytes_max: usize, is_idle: impl Fn() -> bool) -> Taken {
        let mut intake = lock(&self.intake);
        while intake.queue.is_empty() {
            if intake.closed || self.check_fence().is_err() {
                return Taken::Closed;
            }
            if !is_idle() || !self.unclaimed.load(Ordering::Acquire) {
                intake = self.arrived.wait(intake).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let waited = self.arrived.wait_timeout(intake, self.options.rest);
            let (waited, timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
            intake = waited;
            if timed_out.timed_out() && intake.queue.is_empty() && !intake.closed {
                return Taken::Rest;
            }
        }
        let mut round = Vec::new();
        let mut bytes = 0;
        while let Some(next) =
            intake.queue.pop_front_if(|next| bytes == 0 || bytes + next.bytes <= bytes_max)
        {
            bytes += next.bytes;
            round.push(next);
        }
        Taken::Round(round)
    }

    /// Gives the bytes of a written round back to those who wait for room.
    pub(crate) fn release(&self, bytes: usize) {
        let mut intake = lock(&self.intake);
        intake.bytes -= bytes;
        intake.wake_first();
    }

    /// Takes nothing more in; what is queued is still written.
    pub(crate) fn close_intake(&self) {
        let mut intake = lock(&self.intake);
        intake.closed = true;
        intake.wake_all();
        drop(intake);
        self.arrived.notify_all();
    }

    /// Has the committer look whether it may rest.
    pub(crate) fn notify_committer(&self) {
        // Under the lock, so that it cannot look and then miss the wake-up.
        drop(lock(&self.intake));
        self.arrived.notify_one();
    }

    /// Whether more commits may come.
    pub(crate) fn takes_commits(&self) -> bool {
        !lock(&self.intake).closed && self.check_fence().is_ok()
    }

    /// How many commits wait for room.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.intake).waiting.len()
    }

    /// Answers all that is queued with why nobody will write it.
    pub(crate) fn refuse_queued(&self) {
        let queued = std::mem::take(&mut lock(&self.intake).queue);
        for waiting in queued {
            waiting.completer.complete(Err(self.closed()));
        }
    }
}

/// No less than what the offset takes up in a frame.
fn offset_bytes(offset: &GroupOffset) -> usize {
    let GroupOffset { group, partition, committed } = offset;
    group.len() + partition.topic.as_str().len() + committed.metadata.len() + OFFSET_BYTES
}

fn check_owner(intake: &Intake, owner: &Owner) -> Result<(), LogError> {
    let current = intake.epochs.get(&owner.group).copied().unwrap_or_default();
    if current != owner.epoch {
        return Err(LogError::Fenced {
            group: Arc::clone(&owner.group),
            epoch: owner.epoch,
            current,
        });
    }
    Ok(())
}

/// The offsets of each append's records; changes nothing, so that a refusal leaves no trace.
fn assign_offsets(prepared: &[Prepared]) -> Result<Vec<Range<i64>>, LogError> {
    let mut ends: HashMap<&TopicPartition, i64> = HashMap::new();
    let mut assigned = Vec::with_capacity(prepared.len());
    for append in prepared {
        let id = &append.partition.id;
        let end =
            ends.entry(id).or_insert_with(|| append.partition.pending_end.load(Ordering::Acquire));
        let offsets = offsets_for(id, append.base_offset, *end, append.records)?;
        if !offsets.is_empty() {
            *end = offsets.end;
        }
        assigned.push(offsets);
    }
    Ok(assigned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::buffer::FrameBuffer;
    use headwater_core::{ports::log::Committed, record::TopicName};

    #[test]
    fn offsets_are_counted_with_no_less_than_a_frame_holds_of_them() {
        for (texts, metadata) in [("g", ""), ("group", "metadata"), (&"g".repeat(200), "m")] {
            let partition = TopicPartition::new(TopicName::new(texts).unwrap(), u32::MAX);
            let committed = Committed { offset: i64::MAX, metadata: metadata.into() };
            let offset = GroupOffset { group: texts.into(), partition, committed };
            let mut frame = FrameBuffer::default();
            frame.begin(0);
            let counted = 1000 * offset_bytes(&offset);
            (0..1000).for_each(|_| frame.push(&Entry::GroupOffset(offset.clone())));
            assert!(frame.stride() <= counted as u64 + 4096, "{} of {counted}", frame.stride());
        }
    }
}

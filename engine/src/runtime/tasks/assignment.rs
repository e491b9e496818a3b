//! What an application may read: the partitions that its log has assigned to it, followed by events.
//!
//! | event | what happens |
//! |---|---|
//! | partitions are revoked | a last commit; once its outcome is known tasks are dropped, and the claim is polled, which gives them back |
//! | partitions are assigned | the same, and tasks are made of all partitions held, each from its last commit |
//! | partitions are lost | a failure: what was not committed is forgotten |
//! | a topic is created that a pattern matches | a last commit; the claim is given up for one of all topics, and tasks are made anew |
//!
//! A log in this process assigns everything at once, before the first task is made.

use crate::runtime::{
    error::StreamsError,
    workers::mailbox::{Mailbox, ParticipantId},
};
use headwater_core::{
    ports::log::{Assignment, Claim, LogError, Owner, Waker},
    record::{TopicName, TopicPartition},
};
use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// A claim, and what it may read.
#[derive(Debug)]
pub(in crate::runtime) struct Held {
    claim: Box<dyn Claim>,
    /// What it was claimed for, by name.
    pub(in crate::runtime) topics: Vec<TopicName>,
    assigned: BTreeSet<TopicPartition>,
    /// The number of the newest commit that was put together under it.
    pub(in crate::runtime) epoch: u64,
    pub(in crate::runtime) watch: Arc<Watch>,
}

/// What the events of a claim come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::runtime) enum AssignmentChange {
    None,
    /// Other partitions may be read, or some must be given back.
    Moved,
    /// Partitions may have another reader already.
    Lost,
}

impl Held {
    pub(in crate::runtime) fn new(claim: Box<dyn Claim>, topics: Vec<TopicName>) -> Self {
        let epoch = claim.owner().epoch << 32;
        Self { claim, topics, assigned: BTreeSet::new(), epoch, watch: Arc::default() }
    }

    pub(in crate::runtime) fn owner(&self) -> &Owner {
        self.claim.owner()
    }

    pub(in crate::runtime) fn may_read(&self, partition: &TopicPartition) -> bool {
        self.assigned.contains(partition)
    }

    /// Takes every event there is, while no task reads: polling gives back what was revoked.
    pub(in crate::runtime) fn take_events(&mut self) -> Result<(), StreamsError> {
        let mut last = AssignmentChange::None;
        loop {
            match self.next()? {
                AssignmentChange::None if last == AssignmentChange::Lost => {
                    let group = Arc::clone(&self.owner().group);
                    return Err(StreamsError::AssignmentLost { group });
                }
                AssignmentChange::None => return Ok(()),
                change @ (AssignmentChange::Moved | AssignmentChange::Lost) => last = change,
            }
        }
    }

    /// Takes the next events, up to one that has to be acted upon.
    pub(in crate::runtime) fn next(&mut self) -> Result<AssignmentChange, LogError> {
        let waker = self.watch.waker();
        let (change, partitions, is_held) = match self.claim.poll(&waker)? {
            None => return Ok(AssignmentChange::None),
            Some(Assignment::Assigned(partitions)) => (AssignmentChange::Moved, partitions, true),
            Some(Assignment::Revoked(partitions)) => (AssignmentChange::Moved, partitions, false),
            Some(Assignment::Lost(partitions)) => (AssignmentChange::Lost, partitions, false),
        };
        if is_held {
            self.assigned.extend(partitions);
        } else {
            self.assigned.retain(|held| !partitions.contains(held));
        }
        Ok(change)
    }
}

/// Wakes a participant when a claim has events, or topics were created that a pattern may match.
#[derive(Default)]
pub(in crate::runtime) struct Watch {
    has_changed: AtomicBool,
    wakes: Mutex<Option<(Arc<Mailbox>, ParticipantId)>>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("has_changed", &self.has_changed).finish_non_exhaustive()
    }
}

impl Watch {
    pub(in crate::runtime) fn waker(self: &Arc<Self>) -> Waker {
        let this = Arc::clone(self);
        Arc::new(move || {
            this.has_changed.store(true, Ordering::Release);
            let wakes = this.wakes.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some((mailbox, id)) = wakes {
                mailbox.wake(id);
            }
        })
    }

    /// Has this participant woken from now on.
    pub(in crate::runtime) fn wake(&self, participant: Option<(Arc<Mailbox>, ParticipantId)>) {
        *self.wakes.lock().unwrap_or_else(PoisonError::into_inner) = participant;
    }

    /// Whether there may be events that nobody has asked for yet.
    pub(in crate::runtime) fn take_changed(&self) -> bool {
        self.has_changed.load(Ordering::Acquire) && self.has_changed.swap(false, Ordering::AcqRel)
    }
}

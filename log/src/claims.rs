//! Claims of a log in this process: all partitions are assigned at once, and are lost to a later claim.

use crate::disk::lock;
use hashbrown::HashMap;
use headwater_core::{
    ports::log::{Assignment, Claim, LogError, Owner, Waker},
    record::TopicPartition,
};
use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, Weak},
};

/// The latest claim of each group.
#[derive(Debug, Default)]
pub(crate) struct Claims(Mutex<HashMap<Arc<str>, Latest>>);

#[derive(Debug)]
struct Latest {
    epoch: u64,
    /// Dead once its holder has dropped the claim.
    events: Weak<Events>,
}

struct Events {
    partitions: Vec<TopicPartition>,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    assignments: VecDeque<Assignment>,
    waker: Option<Waker>,
}

impl Claims {
    /// The claim of `owner`, which ends an earlier one of its group.
    pub(crate) fn add(&self, owner: Owner, partitions: Vec<TopicPartition>) -> Box<dyn Claim> {
        let events = Arc::new(Events { partitions, pending: Mutex::default() });
        events.tell(Assignment::Assigned);
        let latest = Latest { epoch: owner.epoch, events: Arc::downgrade(&events) };
        let mut claims = lock(&self.0);
        // Claims that are made at the same moment may come here in another order than they got their numbers.
        let ended = match claims.get(&owner.group) {
            Some(later) if later.epoch > owner.epoch => Some(latest),
            Some(_) | None => claims.insert(Arc::clone(&owner.group), latest),
        };
        drop(claims);
        if let Some(events) = ended.and_then(|ended| ended.events.upgrade()) {
            events.tell(Assignment::Lost);
        }
        Box::new(WholeClaim { owner, events })
    }
}

impl Events {
    fn tell(&self, assignment: fn(Vec<TopicPartition>) -> Assignment) {
        if self.partitions.is_empty() {
            return;
        }
        let mut pending = lock(&self.pending);
        pending.assignments.push_back(assignment(self.partitions.clone()));
        let waker = pending.waker.take();
        drop(pending);
        if let Some(waker) = waker {
            waker();
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("partitions", &self.partitions).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct WholeClaim {
    owner: Owner,
    events: Arc<Events>,
}

impl Claim for WholeClaim {
    fn owner(&self) -> &Owner {
        &self.owner
    }

    fn poll(&mut self, waker: &Waker) -> Result<Option<Assignment>, LogError> {
        let mut pending = lock(&self.events.pending);
        let next = pending.assignments.pop_front();
        // Dropped after the lock: it may own anything.
        let _before = next.is_none().then(|| pending.waker.replace(Arc::clone(waker)));
        drop(pending);
        Ok(next)
    }
}

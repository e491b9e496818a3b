//! Who wants to know that one partition's end has moved, that a position in it was committed, or that there are new topics.
//!
//! # Invariants
//!
//! - Wakers are called, and dropped, without a lock held: a waker may subscribe, end a subscription, or read.

use crate::disk::lock;
use headwater_core::ports::log::{Subscription, Waker};
use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
};

/// The wakers of one partition for one of these, or of all topics.
#[derive(Default)]
pub(crate) struct Wakers(Mutex<Subscribers>);

#[derive(Default)]
struct Subscribers {
    next: u64,
    /// By number, which rises. Shared with a call that is under way, which a change then leaves alone.
    wakers: Arc<Vec<(u64, Waker)>>,
}

impl Wakers {
    pub(crate) fn subscribe(self: &Arc<Self>, waker: Waker) -> Subscription {
        let mut subscribers = lock(&self.0);
        let number = subscribers.next;
        subscribers.next += 1;
        Arc::make_mut(&mut subscribers.wakers).push((number, waker));
        drop(subscribers);
        let wakers = Arc::downgrade(self);
        Subscription::new(move || {
            if let Some(wakers) = wakers.upgrade() {
                wakers.end(number);
            }
        })
    }

    fn end(&self, number: u64) {
        let mut subscribers = lock(&self.0);
        let wakers = Arc::make_mut(&mut subscribers.wakers);
        let place = wakers.binary_search_by_key(&number, |(number, _)| *number);
        let ended = place.ok().map(|place| wakers.remove(place));
        drop(subscribers);
        drop(ended);
    }

    pub(crate) fn wake(&self) {
        let wakers = Arc::clone(&lock(&self.0).wakers);
        wakers.iter().for_each(|(_, waker)| guarded(|| waker()));
    }
}

/// Calls what is not the log's own: should it panic, the log goes on.
pub(crate) fn guarded(call: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(call)).is_err() {
        tracing::error!("a waker or a ticket's callback panicked");
    }
}

impl fmt::Debug for Wakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wakers").field("count", &lock(&self.0).wakers.len()).finish()
    }
}

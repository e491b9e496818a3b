//! Taps: looking at what passes an edge of a running topology.

use crate::node::Payload;
use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

/// What looks at the batches of an edge.
type Look = dyn Fn(&dyn Payload) + Send + Sync;

struct Placed {
    number: u64,
    from: String,
    to: String,
    look: Arc<Look>,
}

#[derive(Default)]
struct Inner {
    added: u64,
    placed: Vec<Placed>,
}

/// The taps of an application.
#[derive(Default)]
pub(crate) struct Taps {
    /// Whether there are any: all that an edge asks where nobody looks.
    any: AtomicBool,
    inner: Mutex<Inner>,
}

impl fmt::Debug for Taps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taps").field("any", &self.any).finish_non_exhaustive()
    }
}

impl Taps {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No user's code runs under the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Places a tap on the edge between two nodes, until what is given back is dropped.
    pub(crate) fn add(self: &Arc<Self>, from: &str, to: &str, look: Arc<Look>) -> Tap {
        let mut inner = self.lock();
        inner.added += 1;
        let number = inner.added;
        inner.placed.push(Placed { number, from: from.to_owned(), to: to.to_owned(), look });
        self.any.store(true, Ordering::Relaxed);
        Tap { taps: Arc::downgrade(self), number }
    }

    pub(super) fn is_any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Shows a batch on its way from one node to another to whoever looks there.
    pub(super) fn show(&self, from: &str, to: &str, payload: &dyn Payload) {
        let inner = self.lock();
        let there = inner.placed.iter().filter(|tap| tap.from == from && tap.to == to);
        let looks: Vec<Arc<Look>> = there.map(|tap| Arc::clone(&tap.look)).collect();
        drop(inner);
        looks.iter().for_each(|look| look(payload));
    }
}

/// A tap on an edge; see [`Application::tap`](crate::runtime::Application::tap). Dropping it takes it off, though a batch
/// that is on its way may still be shown.
#[must_use = "a tap is taken off when it is dropped"]
pub struct Tap {
    taps: Weak<Taps>,
    number: u64,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").finish_non_exhaustive()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let Some(taps) = self.taps.upgrade() else { return };
        let mut inner = taps.lock();
        inner.placed.retain(|tap| tap.number != self.number);
        taps.any.store(!inner.placed.is_empty(), Ordering::Relaxed);
    }
}

//! A state in memory whose next publishing fails when a test says so, and which is published to in order alone.

use headwater_core::ports::state::{
    ApplicationState, Shard, Snapshot, State, StateCommit, StateError, StoreSpec,
};
use headwater_state::MemoryState;
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// What a test wants of one application's state.
#[derive(Debug, Default)]
struct Faults {
    is_next_failing: AtomicBool,
    /// How often it has failed.
    count: AtomicU64,
}

/// A [`MemoryState`] that fails on request.
///
/// A handle that has failed takes no more commits, as a database that failed takes none; the next handle of the
/// application does. What it holds stays as it was.
///
/// ```
/// use headwater_core::ports::state::{State, StateCommit};
/// use headwater_testkit::FaultyState;
///
/// let state = FaultyState::new();
/// let handle = state.application("orders").unwrap();
/// state.fail_next_publish("orders");
/// assert!(handle.publish(StateCommit::default()).is_err());
/// assert!(handle.publish(StateCommit::default()).is_err());
/// assert!(state.application("orders").unwrap().publish(StateCommit::default()).is_ok());
/// assert_eq!(state.failures("orders"), 1);
/// ```
///
/// # Panics
///
/// Publishing panics if a commit holds less of a store's changelog than the store does, unless the store begins anew: older
/// commits never follow newer ones.
#[derive(Debug, Default)]
pub struct FaultyState {
    inner: MemoryState,
    faults: Mutex<BTreeMap<String, Arc<Faults>>>,
}

#[derive(Debug)]
struct Handle {
    inner: Arc<dyn ApplicationState>,
    faults: Arc<Faults>,
    has_failed: AtomicBool,
}

impl FaultyState {
    /// An empty state without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn of(&self, application: &str) -> Arc<Faults> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(faults.entry(application.to_owned()).or_default())
    }

    /// Fails when the next commit of an application is published.
    pub fn fail_next_publish(&self, application: &str) {
        self.of(application).is_next_failing.store(true, Ordering::SeqCst);
    }

    /// Takes back [`fail_next_publish`](Self::fail_next_publish), if no commit has come since.
    pub fn cancel_failure(&self, application: &str) {
        self.of(application).is_next_failing.store(false, Ordering::SeqCst);
    }

    /// Counts the failures of an application's state; commits that a failed handle refuses are not counted.
    #[must_use]
    pub fn failures(&self, application: &str) -> u64 {
        self.of(application).count.load(Ordering::SeqCst)
    }
}

impl State for FaultyState {
    fn application(&self, id: &str) -> Result<Arc<dyn ApplicationState>, StateError> {
        let (inner, faults) = (self.inner.application(id)?, self.of(id));
        Ok(Arc::new(Handle { inner, faults, has_failed: AtomicBool::new(false) }))
    }

    fn forget(&self, id: &str) -> Result<(), StateError> {
        self.inner.forget(id)
    }

    fn flush(&self) -> Result<(), StateError> {
        self.inner.flush()
    }

    fn backup(&self, dir: &Path) -> Result<(), StateError> {
        self.inner.backup(dir)
    }
}

impl ApplicationState for Handle {
    fn open(&self, store: &StoreSpec, partition: u32) -> Result<Arc<dyn Shard>, StateError> {
        self.inner.open(store, partition)
    }

    fn publish(&self, commit: StateCommit) -> Result<(), StateError> {
        let fails = self.faults.is_next_failing.swap(false, Ordering::SeqCst);
        self.faults.count.fetch_add(u64::from(fails), Ordering::SeqCst);
        if fails || self.has_failed.load(Ordering::SeqCst) {
            self.has_failed.store(true, Ordering::SeqCst);
            let source = Arc::new(io::Error::other("the test has the state fail"));
            let path = PathBuf::from("memory");
            return Err(StateError::Io { action: "write to the state in", path, source });
        }
        let held = self.inner.snapshot()?.shards;
        for changes in &commit.changes {
            let shard = held.get(&(Arc::clone(&changes.store), changes.partition));
            let position = shard.and_then(|shard| shard.position());
            let is_newer = changes.begins_anew || position <= Some(changes.position);
            assert!(is_newer, "a commit is published over a newer one");
        }
        self.inner.publish(commit)
    }

    fn snapshot(&self) -> Result<Snapshot, StateError> {
        self.inner.snapshot()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_state::conformance;

    #[test]
    fn without_faults_it_is_a_state() {
        conformance::check(|| Arc::new(FaultyState::new()));
    }
}

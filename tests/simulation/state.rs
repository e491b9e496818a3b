//! A state in memory whose next publishing fails when the schedule says so, and which is published to in order alone.

use crate::topology::Shared;
use headwater::{
    ports::state::{ApplicationState, Shard, Snapshot, State, StateCommit, StateError, StoreSpec},
    state::MemoryState,
};
use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

#[derive(Debug)]
pub(crate) struct FaultyState {
    inner: MemoryState,
    shared: BTreeMap<&'static str, Arc<Shared>>,
}

/// A handle that takes no more changes once it has failed; another one does.
#[derive(Debug)]
struct Handle {
    inner: Arc<dyn ApplicationState>,
    shared: Option<Arc<Shared>>,
    has_failed: AtomicBool,
}

impl FaultyState {
    pub(crate) fn new(shared: BTreeMap<&'static str, Arc<Shared>>) -> Self {
        Self { inner: MemoryState::new(), shared }
    }
}

impl State for FaultyState {
    fn application(&self, id: &str) -> Result<Arc<dyn ApplicationState>, StateError> {
        let inner = self.inner.application(id)?;
        let shared = self.shared.get(id).map(Arc::clone);
        Ok(Arc::new(Handle { inner, shared, has_failed: AtomicBool::new(false) }))
    }

    fn flush(&self) -> Result<(), StateError> {
        self.inner.flush()
    }
}

impl ApplicationState for Handle {
    fn open(&self, store: &StoreSpec, partition: u32) -> Result<Arc<dyn Shard>, StateError> {
        self.inner.open(store, partition)
    }

    fn publish(&self, commit: StateCommit) -> Result<(), StateError> {
        let fails = self.shared.as_ref().is_some_and(|shared| shared.fail_publishing());
        if fails || self.has_failed.load(Ordering::SeqCst) {
            self.has_failed.store(true, Ordering::SeqCst);
            let source = Arc::new(io::Error::other("the schedule has the state fail"));
            let path = PathBuf::from("memory");
            return Err(StateError::Io { action: "write to the state in", path, source });
        }
        let held = self.inner.snapshot()?.shards;
        for changes in &commit.changes {
            let shard = held.get(&(Arc::clone(&changes.store), changes.partition));
            let position = shard.and_then(|shard| shard.position());
            assert!(position <= Some(changes.position), "a commit is published over a newer one");
        }
        self.inner.publish(commit)
    }

    fn snapshot(&self) -> Result<Snapshot, StateError> {
        self.inner.snapshot()
    }
}

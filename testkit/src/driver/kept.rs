//! What a crash leaves: the state of all that was opened.

use headwater_core::ports::state::{ApplicationState, State, StateError};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

type ById = BTreeMap<String, Arc<dyn ApplicationState>>;

/// A state that keeps what it holds while nobody has a handle, as a disk does, until a test loses it.
#[derive(Debug)]
pub(super) struct KeptState {
    state: Arc<dyn State>,
    opened: Mutex<ById>,
}

impl KeptState {
    pub(super) fn new(state: Arc<dyn State>) -> Self {
        Self { state, opened: Mutex::default() }
    }

    fn opened(&self) -> MutexGuard<'_, ById> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of all of it.
    pub(super) fn lose(&self) {
        self.opened().clear();
    }
}

impl State for KeptState {
    fn application(&self, id: &str) -> Result<Arc<dyn ApplicationState>, StateError> {
        let opened = self.state.application(id)?;
        self.opened().insert(id.to_owned(), Arc::clone(&opened));
        Ok(opened)
    }

    fn forget(&self, id: &str) -> Result<(), StateError> {
        self.opened().remove(id);
        self.state.forget(id)
    }

    fn flush(&self) -> Result<(), StateError> {
        self.state.flush()
    }
}

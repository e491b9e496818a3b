//! Why a processor could not go on.

use crate::store::StoreError;
use headwater_core::ports::state::StateError;

/// Why a processor could not go on.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessorError {
    /// The record is bad: it goes to the dead letters and the pipeline goes on.
    #[error("{cause}")]
    Record {
        /// The kind of failure, for the dead letter's `exception` header.
        kind: &'static str,
        /// What is wrong with it.
        cause: String,
    },

    /// The record's key is null where a store needs one: it is dropped and counted.
    #[error("a store needs a key, and the record's is null")]
    NullKey,

    /// A store failed; the application stops.
    #[error(transparent)]
    State(#[from] StateError),

    /// The topology is wired wrongly: a store that is missing or of another type.
    #[error("{0}")]
    Topology(String),
}

impl From<StoreError> for ProcessorError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NullKey => Self::NullKey,
            StoreError::State(error) => Self::State(error),
            error @ (StoreError::Key { .. } | StoreError::Value { .. }) => {
                Self::Record { kind: "SerializationError", cause: error.to_string() }
            }
        }
    }
}

impl ProcessorError {
    /// The record at hand is bad because of `cause`.
    #[must_use]
    pub fn record(cause: impl std::fmt::Display) -> Self {
        Self::Record { kind: "ProcessorError", cause: cause.to_string() }
    }
}

//! Why a processor could not go on.

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

    /// A store failed; the application stops.
    #[error(transparent)]
    State(#[from] StateError),

    /// The topology is wired wrongly: a store that is missing or of another type.
    #[error("{0}")]
    Topology(String),
}

impl ProcessorError {
    /// The record at hand is bad because of `cause`.
    #[must_use]
    pub fn record(cause: impl std::fmt::Display) -> Self {
        Self::Record { kind: "ProcessorError", cause: cause.to_string() }
    }
}

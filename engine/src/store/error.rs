//! Why a store did not take what a record holds.

use headwater_core::{ports::state::StateError, serde::SerdeError};
use std::sync::Arc;

/// Why a store did not take a key or a value, or could not answer.
///
/// A processor passes it on with `?`: a null key drops the record, which is counted; what cannot be kept makes it a dead
/// letter; a failed state stops the application.
///
/// ```
/// use headwater_engine::{processor::ProcessorError, store::StoreError};
///
/// let dropped = ProcessorError::from(StoreError::NullKey);
/// assert!(matches!(dropped, ProcessorError::NullKey), "the record is dropped and counted");
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The key is null, and a store has no place for it.
    #[error("the key is null")]
    NullKey,

    /// The key has no form in bytes that can be read back.
    #[error("store {store} cannot keep this key: {source}; give it another serde")]
    Key {
        /// The store.
        store: Arc<str>,
        /// What the serde says.
        source: SerdeError,
    },

    /// The value has no form in bytes that can be read back.
    #[error(
        "store {store} cannot keep this {value}: {source}; change the type, or give it another serde"
    )]
    Value {
        /// The store.
        store: Arc<str>,
        /// The value's type.
        value: &'static str,
        /// What the serde says.
        source: SerdeError,
    },

    /// The entry is larger than the log takes.
    #[error(
        "store {store} cannot keep this entry: key and value have {bytes} bytes, and at most {bytes_max} fit into the log"
    )]
    TooLarge {
        /// The store.
        store: Arc<str>,
        /// The bytes of its changelog record.
        bytes: usize,
        /// The most that a record of the log may have.
        bytes_max: usize,
    },

    /// The state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

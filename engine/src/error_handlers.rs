//! What becomes of bad records, by where they are found.

use headwater_core::dead_letter::{BadRecord, RECORD_TOO_LARGE};

/// What to do with bad records, by where they are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ErrorHandlers {
    /// `deserialization.exception.handler`: a record cannot be read, or has no time.
    pub deserialization: BadRecord,
    /// `processing.exception.handler`: an operator refuses it.
    pub processing: BadRecord,
    /// `production.exception.handler`: what became of it cannot be written, or is too large.
    pub production: BadRecord,
}

impl ErrorHandlers {
    /// What to do about a failure of a kind.
    pub(crate) fn of(&self, kind: &str) -> BadRecord {
        match kind {
            "DeserializationError" | "TimestampError" | "TimestampAheadError" => {
                self.deserialization
            }
            "SerializationError" | RECORD_TOO_LARGE => self.production,
            _ => self.processing,
        }
    }
}

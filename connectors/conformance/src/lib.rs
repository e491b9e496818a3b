//! The contract every connector must pass.
//!
//! | part | proves |
//! |---|---|
//! | [`source_resumes_everywhere`] | from each position that a source gives, a new one gives exactly what follows |
//! | [`sink_survives_kills`] | whenever a sink is killed, its guarantee holds after a restart |
//!
//! Each connector's tests call these on a target of their own; a [`Broken`] says what was seen.

mod sink;
mod source;

pub use sink::{SinkTarget, sink_survives_kills};
pub use source::source_resumes_everywhere;

use headwater_core::{ports::connector::ConnectorError, record::SetFull};

/// The contract is broken, or could not be tested.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Broken {
    /// The connector failed where it must not.
    #[error("the connector failed: {0}")]
    Failed(#[from] ConnectorError),

    /// It did something else than it promises.
    #[error("{0}")]
    Promise(String),
}

impl From<SetFull> for Broken {
    fn from(full: SetFull) -> Self {
        Self::Failed(full.into())
    }
}

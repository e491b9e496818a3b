//! The runtime of connectors: one thread for each, between the connector port and the log port.
//!
//! | part | does |
//! |---|---|
//! | [`SourceTask`] | polls a source; records, dead letters and position become durable in one commit |
//! | [`SinkTask`] | reads a topic into a sink; commits what it staged, then has it published |
//! | `attempt` | tries retriable failures again, with waits that a stop cuts short |
//! | `signal` | how a task is stopped, woken and awaited |
//!
//! # Invariants
//!
//! - A connector named `n` owns the group `connect-n`; a second task of that name fences the first.
//! - An error or a panic of a connector ends its task and is reported by its handle, never lost.
//!
//! # Not here
//!
//! What a connector reads or writes: [`headwater_core::ports::connector`] and the connector crates.

mod attempt;
mod dead_letter;
mod signal;
mod sink;
mod source;

pub use sink::{SinkHandle, SinkHold, SinkProgress, SinkTask};
pub use source::{SourceProgress, SourceTarget, SourceTask};

use headwater_core::{
    ports::{connector::ConnectorError, log::LogError},
    record::{InvalidTopicName, SetFull, TopicName},
};
use std::{error::Error, io, sync::Arc};

/// Failure that ended a connector's task before its work was done.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The connector failed.
    #[error("connector {name} failed: {source}")]
    Connector {
        /// The connector's name.
        name: Arc<str>,
        /// Why.
        source: ConnectorError,
    },

    /// The log failed.
    #[error("connector {name}: {source}")]
    Log {
        /// The connector's name.
        name: Arc<str>,
        /// Why.
        source: LogError,
    },

    /// The connector's code panicked.
    #[error("connector {name} panicked: {message}")]
    Panicked {
        /// The connector's name.
        name: Arc<str>,
        /// The panic's text.
        message: String,
    },

    /// The connector's name cannot be part of a topic's.
    #[error("connector {name} needs another name")]
    Name {
        /// The connector's name.
        name: Arc<str>,
        /// What is wrong with the name of its topic.
        source: InvalidTopicName,
    },

    /// The topic that the connector reads does not exist.
    #[error("connector {name}: there is no topic {topic}; create it first")]
    NoTopic {
        /// The connector's name.
        name: Arc<str>,
        /// The topic.
        topic: TopicName,
    },

    /// The position that the log has of the connector is not a source's: another connector has the name, or it is damaged.
    #[error("connector {name} cannot resume: its group's position is not a source's")]
    Position {
        /// The connector's name.
        name: Arc<str>,
        /// Why it cannot be read.
        source: Arc<dyn Error + Send + Sync>,
    },

    /// One commit holds more dead letters than a record set takes.
    #[error("connector {name} rejected too much at a time")]
    TooLarge {
        /// The connector's name.
        name: Arc<str>,
        /// What the record set says.
        source: SetFull,
    },

    /// The system gives no thread.
    #[error("could not start a thread for connector {name}")]
    Thread {
        /// The connector's name.
        name: Arc<str>,
        /// What the system said.
        source: Arc<io::Error>,
    },
}

/// Reason for which a task's loop ended early, before it is given the connector's name.
#[derive(Debug)]
enum Stopped {
    Connector(ConnectorError),
    Log(LogError),
    NoTopic(TopicName),
    Position(Arc<dyn Error + Send + Sync>),
    TooLarge(SetFull),
    /// Its owner requested it, or nobody reads its output any more.
    OnRequest,
}

impl From<ConnectorError> for Stopped {
    fn from(error: ConnectorError) -> Self {
        // Whoever read the output has gone, as in `… | head`: nothing failed.
        if matches!(error, ConnectorError::Closed(_)) {
            Self::OnRequest
        } else {
            Self::Connector(error)
        }
    }
}

impl From<LogError> for Stopped {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

impl From<SetFull> for Stopped {
    fn from(full: SetFull) -> Self {
        Self::TooLarge(full)
    }
}

impl Stopped {
    fn named(self, name: &Arc<str>) -> Result<(), ConnectError> {
        let name = Arc::clone(name);
        match self {
            Self::Connector(source) => Err(ConnectError::Connector { name, source }),
            Self::Log(source) => Err(ConnectError::Log { name, source }),
            Self::NoTopic(topic) => Err(ConnectError::NoTopic { name, topic }),
            Self::Position(source) => Err(ConnectError::Position { name, source }),
            Self::TooLarge(source) => Err(ConnectError::TooLarge { name, source }),
            Self::OnRequest => Ok(()),
        }
    }
}

/// Name of the group that holds a connector's positions.
fn group_of(name: &str) -> Arc<str> {
    format!("connect-{name}").into()
}

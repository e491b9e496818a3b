//! Why a test driver could not do what the test asked.

use headwater_core::{
    ports::log::LogError,
    record::{HeadersError, InvalidTopicName, SetFull},
    serde::SerdeError,
};
use headwater_engine::runtime::StreamsError;

/// Why a driver could not do what the test asked.
///
/// ```
/// use headwater_engine::topology::{Consumed, Topology};
/// use headwater_testkit::{TestDriverError, TopologyTestDriver};
///
/// let mut topology = Topology::new();
/// topology.add_source("in", "cars", Consumed::<String, i64>::default())?;
/// let driver = TopologyTestDriver::new(topology)?;
/// let unknown = driver.pipe::<String, i64>("carts", "a=1@5").unwrap_err();
/// assert!(matches!(unknown, TestDriverError::NoTopic { .. }));
/// assert_eq!(unknown.to_string(), "there is no topic carts");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TestDriverError {
    /// The application stopped.
    #[error(transparent)]
    Streams(#[from] StreamsError),
    /// The log refused.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A record has no form in bytes, or bytes are no record.
    #[error(transparent)]
    Serde(#[from] SerdeError),
    /// Too much for one append.
    #[error(transparent)]
    Full(#[from] SetFull),
    /// A record's headers cannot be read.
    #[error(transparent)]
    TopicName(#[from] InvalidTopicName),
    /// Headers could not be read.
    #[error(transparent)]
    Headers(#[from] HeadersError),
    /// A record is not written as `key=value@timestamp`, or its key or value not as their types are.
    #[error(
        "`{record}` is no record of these types: write `key=value@timestamp`, and what follows `@` in ms"
    )]
    Notation {
        /// What was written.
        record: String,
    },
    /// What came is not what was expected.
    #[error("of {topic} was expected\n  {expected}\nand came\n  {seen}")]
    Differs {
        /// The topic.
        topic: String,
        /// What was expected.
        expected: String,
        /// What came.
        seen: String,
    },
    /// There is no such topic.
    #[error("there is no topic {topic}")]
    NoTopic {
        /// Its name.
        topic: String,
    },
    /// There is no such node.
    #[error("there is no node `{node}`; there are {nodes}")]
    NoNode {
        /// Its name.
        node: String,
        /// Those that there are.
        nodes: String,
    },
    /// The driver has been crashed and not started again.
    #[error("the application has crashed; restart it first")]
    Crashed,
}

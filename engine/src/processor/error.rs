//! Why a processor failed.

use crate::store::StoreError;
use headwater_core::{
    dead_letter::RECORD_TOO_LARGE,
    ports::{log::LogError, state::StateError},
    record::{SetFull, TopicName},
    serde::SerdeError,
};

/// Why a processor failed.
///
/// Example: [`ProcessorError::record`].
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessorError {
    /// The record is bad: it goes to the dead letters and the pipeline continues.
    #[error("{cause}")]
    Record {
        /// The kind of failure, for the dead letter's `exception` header.
        kind: &'static str,
        /// What is wrong with it.
        cause: String,
    },

    /// A handler says that the record is to be taken again: the application goes on from its last commit.
    #[error("{cause}; it is taken again from the last commit on")]
    Retry {
        /// The kind of failure.
        kind: &'static str,
        /// What is wrong.
        cause: String,
    },

    /// A handler has written a dead letter to a topic that does not exist; the application stops.
    #[error(
        "an exception handler writes dead letters to topic {topic}, which does not exist; create it before the application starts"
    )]
    NoLetterTopic {
        /// The topic.
        topic: TopicName,
    },

    /// The record's key is null where a store needs one: it is dropped and counted.
    #[error("a store needs a key, and the record's is null")]
    NullKey,

    /// A store failed; the application stops.
    #[error(transparent)]
    State(#[from] StateError),

    /// The log does not say which topics there are.
    #[error(transparent)]
    Log(LogError),

    /// The topology did not connect this store to the processor.
    #[error(
        "store `{store}` is not connected to this processor; connect it when the processor is added"
    )]
    NotConnected {
        /// The store.
        store: String,
    },

    /// A store is of another type.
    #[error("store `{store}` is not a {wanted}")]
    OtherStore {
        /// The store.
        store: String,
        /// The type that was asked for.
        wanted: &'static str,
    },

    /// Timers belong to one processor alone, and to records of its keys.
    #[error(
        "the timers `{timers}` are another processor's, or have keys of another type; give each processor its own"
    )]
    OtherTimers {
        /// The timers' store.
        timers: String,
    },

    /// The processor has no such child port.
    #[error("this processor has no child port `{port}` for {rows}")]
    NoChildPort {
        /// The port.
        port: String,
        /// What was to be forwarded there.
        rows: String,
    },

    /// A record was forwarded to a child that the node has not.
    #[error("node `{node}` forwards to a child `{child}`; it has `{children}`")]
    NoChild {
        /// The node.
        node: String,
        /// The child.
        child: String,
        /// Those that it has.
        children: String,
    },

    /// The two ends of an edge differ in type; the typed builder cannot draw such an edge, the Processor API can.
    #[error("a node takes {wanted}, but its parent forwards others")]
    OtherRows {
        /// What the node takes.
        wanted: String,
    },

    /// A commit holds more for one partition than a record set takes; commit more often.
    #[error("a commit holds more than 4 GiB for one partition; commit more often")]
    TooLarge(#[from] SetFull),

    /// A row for a repartition topic is refused by its serde, which had promised to take every value.
    #[error(
        "a row for a repartition topic cannot be written, though its serde is exact: {0}; give it another serde"
    )]
    NotExact(SerdeError),

    /// A buffer that lets nothing out before its time would hold more than it may; the application stops.
    #[error(
        "buffer exceeded its max capacity: `{node}` holds {records} of {} records and {bytes} of {} bytes; raise the limit, hold rows for a shorter time, or let the buffer emit early when full",
        Limit(*records_max), Limit(*bytes_max)
    )]
    BufferFull {
        /// The node.
        node: String,
        /// How many rows it holds in the partition.
        records: u64,
        /// How many it may hold, if that is limited.
        records_max: Option<u64>,
        /// How many bytes these are.
        bytes: u64,
        /// How many they may be, if that is limited.
        bytes_max: Option<u64>,
    },

    /// The processor of a global store has scheduled a punctuation: nothing lets it fire, and the application stops.
    #[error(
        "the processor of a global store takes records and schedules nothing; have a processor of a task do what is to be done at a time"
    )]
    SchedulesInGlobal,

    /// A call ended without an answer: it panicked, or its executor dropped it. The application stops; it makes the call
    /// again when it goes on from its last commit.
    #[error("a call ended without an answer: it panicked, or its executor dropped it")]
    CallLost,

    /// A function that maps a batch must give a result for each of its rows; the application stops.
    #[error(
        "a function that maps batches gave {results} results for {rows} rows; give one for each, in their order"
    )]
    BatchLength {
        /// The rows.
        rows: usize,
        /// The results.
        results: usize,
    },

    /// What a node is given back is not what it saved with the last commit: the state is damaged, and the application stops. It
    /// is not restarted, nor is any handler asked, be it a processor of the user's that gives this: a restart would meet it again.
    #[error("what was saved with the last commit is damaged")]
    Damaged,
}

/// A limit in words.
struct Limit(Option<u64>);

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(max) => write!(f, "{max}"),
            None => f.write_str("any number of"),
        }
    }
}

impl From<StoreError> for ProcessorError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NullKey => Self::NullKey,
            StoreError::State(error) => Self::State(error),
            error @ (StoreError::Key { .. } | StoreError::Value { .. }) => {
                Self::Record { kind: "SerializationError", cause: error.to_string() }
            }
            error @ StoreError::TooLarge { .. } => Self::too_large(error),
        }
    }
}

impl ProcessorError {
    /// The record at hand, or what was made of it, is larger than the log takes.
    pub(crate) fn too_large(cause: impl std::fmt::Display) -> Self {
        Self::Record { kind: RECORD_TOO_LARGE, cause: cause.to_string() }
    }

    /// The record at hand is bad because of `cause`.
    ///
    /// ```
    /// use headwater_engine::processor::ProcessorError;
    ///
    /// let error = ProcessorError::record("a speed of -3 km/h");
    /// assert_eq!(error.to_string(), "a speed of -3 km/h");
    /// assert!(matches!(error, ProcessorError::Record { kind: "ProcessorError", .. }));
    /// ```
    #[must_use]
    pub fn record(cause: impl std::fmt::Display) -> Self {
        Self::Record { kind: "ProcessorError", cause: cause.to_string() }
    }
}

//! What becomes of bad records, by where they are found: a policy, or what a handler of the user's answers.

use crate::{
    processor::{ProcessorError, RecordMetadata},
    topology::TaskId,
};
use headwater_core::{
    dead_letter::{BadRecord, DeadLetterHeaders, RECORD_TOO_LARGE, UNKNOWN_TOPIC, is_retriable},
    record::{Headers, Timestamp, TopicName, TopicPartition, murmur2_partition},
};
use std::{fmt, sync::Arc};

/// Decides what becomes of a bad record. Any function of an [`ErrorHandlerContext`] will do.
///
/// It must answer alike for the same record, since a record may be taken again after a failure, and be quick: the task waits
/// for it. If it panics, the application does.
///
/// ```
/// use headwater_engine::runtime::{
///     ErrorHandlerContext, ExceptionHandler, ExceptionResponse, StreamsConfig,
/// };
///
/// /// Forgives what test devices send.
/// struct Forgiving;
///
/// impl ExceptionHandler for Forgiving {
///     fn handle(&self, error: &ErrorHandlerContext<'_>) -> ExceptionResponse {
///         match error.source_raw_key {
///             Some(key) if key.starts_with(b"test-") => ExceptionResponse::Continue(vec![]),
///             _ => ExceptionResponse::DeadLetter(vec![]),
///         }
///     }
/// }
///
/// let config = StreamsConfig::new("fleet").with_processing_exception_handler(Forgiving);
/// assert_eq!(format!("{:?}", config.error_handlers.processing), "the user's");
/// ```
pub trait ExceptionHandler: Send + Sync {
    /// What is to become of the record.
    fn handle(&self, error: &ErrorHandlerContext<'_>) -> ExceptionResponse;
}

impl<F: Fn(&ErrorHandlerContext<'_>) -> ExceptionResponse + Send + Sync> ExceptionHandler for F {
    fn handle(&self, error: &ErrorHandlerContext<'_>) -> ExceptionResponse {
        self(error)
    }
}

/// What is wrong with a record, and the record as it was read.
///
/// A row that descends from no one record (a flushed update, what a punctuation forwards) has no `metadata`, and no key or value
/// but those that are known.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ErrorHandlerContext<'a> {
    /// What kind of failure, such as `DeserializationError`.
    pub kind: &'static str,
    /// What was wrong, for a person.
    pub cause: &'a str,
    /// The node that could not take it (`processorNodeId`); for a global store, the store.
    pub node: &'a str,
    /// The task; none for a global store.
    pub task: Option<TaskId>,
    /// Where the record was read.
    pub metadata: Option<RecordMetadata>,
    /// The record's timestamp; that of the wall clock if there is no record.
    pub timestamp: Timestamp,
    /// The key's bytes.
    pub source_raw_key: Option<&'a [u8]>,
    /// The value's bytes.
    pub source_raw_value: Option<&'a [u8]>,
    /// The record's headers.
    pub headers: &'a Headers,
}

impl ErrorHandlerContext<'_> {
    /// Whether the same record may be taken later, with nothing changed in the topology: its topic may be created, its call
    /// answered.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        is_retriable(self.kind)
    }

    /// The dead letter that is written of it by itself: its bytes, its timestamp, its headers and the six that say why.
    #[must_use]
    pub fn dead_letter(&self) -> DeadLetterRecord {
        let mut headers = self.headers.clone();
        headers.extend(self.about().to_headers());
        DeadLetterRecord {
            topic: None,
            timestamp: self.timestamp,
            key: self.source_raw_key.map(<[u8]>::to_vec),
            value: self.source_raw_value.map(<[u8]>::to_vec),
            headers,
        }
    }

    /// What the headers of its dead letter say.
    pub(crate) fn about(&self) -> DeadLetterHeaders<'_> {
        let Self { kind, cause, metadata, .. } = self;
        let (topic, partition, offset) =
            metadata.as_ref().map_or(("", 0, -1), |RecordMetadata { partition, offset }| {
                (partition.topic.as_str(), partition.partition, *offset)
            });
        DeadLetterHeaders { kind, cause, topic, partition, offset }
    }
}

/// What is to become of a bad record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExceptionResponse {
    /// Drop it, write these letters and go on. It counts as a dead letter if there are any, and else as dropped.
    Continue(Vec<DeadLetterRecord>),
    /// Write the [dead letter](ErrorHandlerContext::dead_letter) of it, these beside it, and go on.
    DeadLetter(Vec<DeadLetterRecord>),
    /// Stop the application. No letter is written: what is not committed is taken again.
    Fail,
    /// Go on from the last commit, after a wait that doubles; after 5 times in 10 minutes the application stops. Where the failure
    /// is not [retriable](ErrorHandlerContext::is_retriable) this is [`Fail`](Self::Fail).
    Retry,
}

impl From<BadRecord> for ExceptionResponse {
    fn from(policy: BadRecord) -> Self {
        match policy {
            BadRecord::DeadLetter => Self::DeadLetter(Vec::new()),
            BadRecord::Continue => Self::Continue(Vec::new()),
            BadRecord::Fail => Self::Fail,
        }
    }
}

/// A record that a handler has written in the commit that goes past the bad one.
///
/// ```
/// use headwater_core::record::TopicName;
/// use headwater_engine::runtime::{ErrorHandlerContext, ExceptionResponse, StreamsConfig};
///
/// // The letter as it is, and a line for people in another topic.
/// let lines = TopicName::new("complaints")?;
/// let handler = move |error: &ErrorHandlerContext<'_>| {
///     let mut line = error.dead_letter();
///     line.topic = Some(lines.clone());
///     line.value = Some(format!("{} refused it: {}", error.node, error.cause).into_bytes());
///     ExceptionResponse::DeadLetter(vec![line])
/// };
/// let config = StreamsConfig::new("fleet").with_deserialization_exception_handler(handler);
/// assert_eq!(format!("{:?}", config.error_handlers.deserialization), "the user's");
/// # Ok::<(), headwater_core::record::InvalidTopicName>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterRecord {
    /// The topic, which has to exist, and where the key chooses the partition (none: the first); none for the application's dead-letter topic.
    pub topic: Option<TopicName>,
    /// Its timestamp; below 0 it is taken for 0.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Headers,
}

impl DeadLetterRecord {
    /// Its partition of a topic with so many.
    pub(crate) fn place(&self, (topic, partitions): (TopicName, u32)) -> TopicPartition {
        let keyed = |key: &Vec<u8>| murmur2_partition(key, partitions);
        TopicPartition::new(topic, self.key.as_ref().map_or(0, keyed))
    }
}

/// Who answers for bad records that are found at one kind of place.
#[derive(Clone)]
pub enum BadRecordHandler {
    /// The same becomes of all of them.
    Policy(BadRecord),
    /// A handler of the user's says.
    Own(Arc<dyn ExceptionHandler>),
}

impl fmt::Debug for BadRecordHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(policy) => policy.fmt(f),
            Self::Own(_) => f.write_str("the user's"),
        }
    }
}

impl Default for BadRecordHandler {
    fn default() -> Self {
        Self::Policy(BadRecord::default())
    }
}

impl From<BadRecord> for BadRecordHandler {
    fn from(policy: BadRecord) -> Self {
        Self::Policy(policy)
    }
}

/// Who answers for bad records, by where they are found.
#[derive(Debug, Clone, Default)]
pub struct ErrorHandlers {
    /// `deserialization.exception.handler`: a record cannot be read, or has no time.
    pub deserialization: BadRecordHandler,
    /// `processing.exception.handler`: an operator refuses it.
    pub processing: BadRecordHandler,
    /// `production.exception.handler`: what became of it cannot be written, is too large, or is for a topic that there is not.
    pub production: BadRecordHandler,
}

impl ErrorHandlers {
    /// Who answers for a failure of a kind.
    pub(crate) fn of(&self, kind: &str) -> &BadRecordHandler {
        match kind {
            "DeserializationError" | "TimestampError" | "TimestampAheadError" => {
                &self.deserialization
            }
            "SerializationError" | RECORD_TOO_LARGE | UNKNOWN_TOPIC => &self.production,
            _ => &self.processing,
        }
    }
}

/// The error that stops a task because of a record.
pub(crate) fn stopped(
    kind: &'static str,
    cause: String,
    response: &ExceptionResponse,
) -> ProcessorError {
    if *response == ExceptionResponse::Retry && is_retriable(kind) {
        ProcessorError::Retry { kind, cause }
    } else {
        ProcessorError::Record { kind, cause }
    }
}

//! Why an application did not start, or stopped.

use crate::{
    processor::ProcessorError,
    topology::{TaskId, TopologyError},
};
use headwater_core::{
    dead_letter::is_retriable,
    ports::{
        log::{LogError, LogErrorKind},
        state::{StateError, StateErrorKind},
    },
    record::{InvalidTopicName, SetFull, TopicName, TopicPartition},
};
use std::{sync::Arc, time::Duration};

/// Why an application did not start, or stopped.
///
/// ```
/// use headwater_core::record::TopicName;
/// use headwater_engine::runtime::StreamsError;
///
/// let error = StreamsError::MissingTopic { topic: TopicName::new("cars")? };
/// assert_eq!(
///     error.to_string(),
///     "topic cars does not exist; create it before the application starts"
/// );
/// # Ok::<(), headwater_core::record::InvalidTopicName>(())
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StreamsError {
    /// The topology cannot run.
    #[error(transparent)]
    Topology(#[from] TopologyError),

    /// The application id cannot be part of a topic's name.
    #[error("the application id is no good")]
    ApplicationId(#[from] InvalidTopicName),

    /// A topic that the topology names does not exist.
    #[error("topic {topic} does not exist; create it before the application starts")]
    MissingTopic {
        /// The topic.
        topic: TopicName,
    },

    /// What fed a store had another number of partitions, so that a key's records may come to another part of it than the one with
    /// its rows.
    #[error(
        "store `{store}` was filled from {was} partitions, and {topic} has {is} now: records of a key would not find its rows; repartition in front of it: into {was} partitions to go on with what it holds, into any number once the application was reset"
    )]
    PartitionsDiffer {
        /// The store.
        store: String,
        /// The topic that feeds it.
        topic: String,
        /// How many partitions what fed it had.
        was: u32,
        /// How many the topic has.
        is: u32,
    },

    /// A repartition topic exists with another number of partitions.
    #[error(
        "repartition topic {topic} has {was} partitions, and would have {is} now; ask for {was}, give it another name, or reset the application"
    )]
    RepartitionDiffers {
        /// The topic.
        topic: TopicName,
        /// How many it has.
        was: u32,
        /// How many it would have.
        is: u32,
    },

    /// The log failed.
    #[error("the log failed")]
    Log(#[from] LogError),

    /// The state failed.
    #[error("the state failed")]
    State(#[from] StateError),

    /// A source is to be read from a committed offset alone, and there is none.
    #[error(
        "no offset of {partition} is committed that the log still holds, and its source begins nowhere else; commit one, or choose another `OffsetReset`"
    )]
    NoOffset {
        /// The partition.
        partition: TopicPartition,
    },

    /// A record of a global store's topic cannot be taken, and bad records stop the application.
    #[error("a global store failed")]
    GlobalStore(#[source] ProcessorError),

    /// A processor failed.
    #[error("task {task} failed")]
    Processor {
        /// The task.
        task: TaskId,
        /// Why.
        source: ProcessorError,
    },

    /// The log takes no records as large as the application's own must be.
    #[error(
        "the log takes records of at most {bytes_max} bytes, and what the application keeps of its repartition topics and dead letters needs {needed}; use another log, or fewer partitions"
    )]
    RecordLimit {
        /// The largest record that the log takes.
        bytes_max: usize,
        /// How large one may have to be.
        needed: usize,
    },

    /// What one commit must not forget of all operators does not fit into a record set.
    #[error("the positions of all tasks do not fit into one commit")]
    Positions(#[from] SetFull),

    /// The log has given the partitions that the application read to another reader.
    #[error(
        "group {group} has lost its partitions to another reader; what was not committed is done there"
    )]
    AssignmentLost {
        /// The application's consumer group.
        group: Arc<str>,
    },

    /// The log has given the application some partitions alone, and what it repartitions passes in memory, where no other
    /// process reads it.
    #[error(
        "group {group} holds {held} of {all} tasks, and repartitions in memory, which takes all of them; set `Repartitioning::ThroughTopic`"
    )]
    PartialAssignment {
        /// The application's consumer group.
        group: Arc<str>,
        /// How many tasks it may run.
        held: usize,
        /// How many there are.
        all: usize,
    },

    /// User code panicked.
    #[error("a stream thread panicked: {message}")]
    Panicked {
        /// What it said.
        message: String,
    },

    /// A runtime of so many threads is asked for by mistake.
    #[error("`num.stream.threads` is {threads}; at most {threads_max} are started")]
    TooManyThreads {
        /// How many were asked for.
        threads: usize,
        /// How many there may be.
        threads_max: usize,
    },

    /// The system gave no thread.
    #[error("could not start a thread: {0}")]
    Thread(Arc<std::io::Error>),

    /// The application has been closed, or its runtime ended.
    #[error("the application is not running")]
    NotRunning,

    /// An application of this id runs on this runtime already.
    #[error(
        "application {application_id} is running here already; close it first, or give this one another id"
    )]
    AlreadyRunning {
        /// The id.
        application_id: String,
    },

    /// The application has not ended within the time given; it is still ending.
    #[error("the application has not ended within {waited:?}; it is still ending")]
    StillEnding {
        /// How long it was waited for.
        waited: Duration,
    },
}

impl StreamsError {
    /// What became of `task`: what its state says is the state's error, wherever it was met.
    pub(super) fn of_task(task: TaskId, source: ProcessorError) -> Self {
        if let ProcessorError::State(error) = source {
            Self::State(error)
        } else {
            Self::Processor { task, source }
        }
    }

    /// Whether a handler has asked that records since the last commit be taken again.
    pub(super) fn is_retry(&self) -> bool {
        matches!(self, Self::Processor { source: ProcessorError::Retry { .. }, .. })
    }

    /// Whether the same may succeed later with nothing changed by anybody here: a disk is full, or too many files are open.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        let Self::Log(error) = self else { return false };
        matches!(error.kind(), LogErrorKind::Retriable | LogErrorKind::UnknownOutcome)
    }

    /// Whether a restart meets it again: a bad record that is to fail, state that is damaged or another's, and topics that do not
    /// fit what is kept. Made again, a call may succeed, and a topic may be there by then.
    pub(super) fn returns(&self) -> bool {
        if matches!(self, Self::PartitionsDiffer { .. } | Self::RepartitionDiffers { .. }) {
            return true;
        }
        if let Self::State(error) = self {
            return error.kind() != StateErrorKind::Failed;
        }
        let (Self::Processor { source, .. } | Self::GlobalStore(source)) = self else {
            return false;
        };
        if let ProcessorError::Record { kind, .. } = source {
            return !is_retriable(kind);
        }
        matches!(source, ProcessorError::Damaged)
    }
}

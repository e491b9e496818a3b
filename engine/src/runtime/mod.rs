//! What drives tasks: a [`Runtime`] a process, and the [`Application`]s that run on it.
//!
//! | part | does |
//! |---|---|
//! | `threads` | threads around the state machines below, and nothing else |
//! | `application` | an application's handle, and what becomes of it over its incarnations |
//! | `life` | where it is in its life, and who is told when that changes |
//! | `incarnation` | an application from one claim on: what is lost when it resumes from its last commit |
//! | `workers`, `worker`, `mailbox` | which workers there are; gives participants their turns; what wakes them |
//! | `participant` | the tasks of one application that one worker holds, and how they go through rounds |
//! | `rounds` | what participants, committer and handle share: when a commit is wanted, where its round is, how it ends |
//! | `committer`, `assemble` | the commit of a round, handed to the log and published to the state |
//! | `supervisor` | starts failed applications again |
//! | `task_group`, `exchange` | lets tasks step; repartition topics between them, in memory |
//! | `feed` | what was fetched of an external partition, for all applications that read it |
//! | `globals` | global stores at the ends of their topics |
//! | `assignment` | which partitions the application may read, by events of the log |
//! | `setup`, `restore` | from a topology to tasks; stores at the end of their changelogs |
//! | `standby` | keeps the stores of an application that runs elsewhere ready |
//! | `reset` | has a stopped application begin anew |
//! | `properties` | Kafka's dotted keys |
//! | `prometheus` | the same as text |
//! | `periods` | what was measured within the last minute |
//! | `metrics` | what the handle knows of the tasks: counts and times |
//! | `explain` | why nothing comes out |
//! | `query` | what stores held at a commit, for others to read |
//! | `streams` | one application with a runtime of its own |
//! | `backup` | a log and its state at one commit, in a directory |
//! | `stepper`, `driver` | a runtime, or one application, without threads: for tests |
//!
//! # Invariants
//!
//! - All tasks of an application commit together or not at all: no task commits the effect of a record that another task
//!   sent it and has not committed. Applications never share a commit.
//! - Nothing here blocks a worker: what must wait goes back to it and is woken.
//! - Commits of one application are handed in, and published, in the order in which they were made.

mod application;
mod assemble;
mod assignment;
mod backup;
mod committer;
mod config;
mod driver;
mod error;
mod exchange;
mod explain;
mod failures;
mod feed;
mod globals;
mod incarnation;
mod life;
mod mailbox;
mod metrics;
mod participant;
mod partitions;
mod periods;
mod prometheus;
mod properties;
mod query;
mod reset;
mod resting;
mod restore;
mod rounds;
mod setup;
mod standby;
mod stepper;
mod streams;
mod supervisor;
mod task_group;
mod threads;
mod worker;
mod workers;

pub use application::{Application, Lag};
pub use backup::backup;
pub use config::{
    ProcessingGuarantee, Repartitioning, RuntimeConfig, StreamsConfig, UncaughtExceptionHandler,
    UncaughtExceptionResponse,
};
pub use driver::{CommitStep, Driver};
pub use error::StreamsError;
pub use explain::{
    DroppedAt, Explanation, HeldBy, IdlingSource, RecordsAt, SourceState, SourceStatus,
    WaitingNode, WaitsFor,
};
pub use headwater_core::dead_letter::BadRecord;
pub use life::{StateListener, StreamsState};
pub use metrics::{
    Latencies, NodeCounts, OperationMetrics, StoreMetrics, StreamsMetrics, TaskMetrics, TopicUse,
};
pub use properties::ConfigError;
pub use query::{
    FailureReason, InStore, KeyQuery, KeyQueryMetadata, MultiVersionedKeyQuery, Position,
    PositionBound, PrefixQuery, Query, QueryAnswer, QueryFailure, QueryIterator, QueryResult,
    RangeQuery, ReadOnlyKeyValueStore, ReadOnlySessionStore, ReadOnlyVersionedKeyValueStore,
    ReadOnlyWindowStore, SessionKeyQuery, StateQueryRequest, StateQueryResult, StateSnapshot,
    VersionedKeyQuery, WindowKeyQuery, WindowRangeQuery,
};
pub use reset::{ApplicationReset, ForgottenTopic, MovedInput, ResetError, ResetTo};
pub use restore::{
    RestoreListeners, RestoreProgress, StateRestoreListener, StoreRestore, TaskRestore,
};
pub use standby::{Standby, StandbyListeners, StandbyUpdate, StandbyUpdateListener, SuspendReason};
pub use stepper::Stepper;
pub use streams::Streams;
pub use threads::Runtime;

pub use crate::{
    error_handlers::{
        BadRecordHandler, DeadLetterRecord, ErrorHandlerContext, ErrorHandlers, ExceptionHandler,
        ExceptionResponse,
    },
    task::Tap,
};

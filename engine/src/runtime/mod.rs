//! What drives tasks: a [`Runtime`] a process, and the [`Application`]s that run on it.
//!
//! | part | does |
//! |---|---|
//! | `application` | an application: its handle, its life, and what is lost when it resumes from its last commit |
//! | `workers` | who gives it turns, on threads or, for tests, without |
//! | `tasks` | how its tasks are made, and what they take and give to each other |
//! | `commit` | when a commit is wanted, how it is put together, and its way to the log and the state |
//! | `restore`, `standby` | stores at the end of their changelogs; those of an application that runs elsewhere kept ready |
//! | `reset`, `backup` | has a stopped application begin anew; a log and its state at one commit, in a directory |
//! | `query` | what stores held at a commit, for others to read |
//! | `metrics`, `periods`, `prometheus` | what the handle knows of the tasks: counts and times, and the same as text |
//! | `explain` | why nothing comes out |
//! | `config`, `properties` | settings, and Kafka's dotted keys for them |
//!
//! # Invariants
//!
//! - All tasks of an application commit together or not at all: no task commits the effect of a record that another task
//!   sent it and has not committed. Applications never share a commit.
//! - Nothing here blocks a worker: what must wait goes back to it and is woken.
//! - Commits of one application are handed in, and published, in the order in which they were made.

mod application;
mod backup;
mod commit;
mod config;
mod error;
mod explain;
mod identity;
mod idling;
mod metrics;
mod prometheus;
mod properties;
mod query;
mod reset;
mod restore;
mod standby;
mod tasks;
mod workers;

pub use application::Application;
pub use application::driver::{CommitStep, Driver};
pub use application::life::{StateListener, StreamsState};
pub use application::streams::Streams;
pub use backup::backup;
pub use config::{
    ProcessingGuarantee, Repartitioning, RuntimeConfig, StreamsConfig, UncaughtExceptionHandler,
    UncaughtExceptionResponse,
};
pub use error::StreamsError;
pub use explain::{
    DroppedAt, Explanation, HeldBy, IdlingSource, Lag, RecordsAt, SourceState, SourceStatus,
    WaitingNode, WaitsFor,
};
pub use headwater_core::dead_letter::BadRecord;
pub use identity::{HostInfo, InvalidHostInfo};
pub use metrics::{
    IteratorMetrics, Latencies, NodeCounts, OperationMetrics, OwnMetric, OwnMetrics, StoreMetrics,
    StreamsMetrics, TaskMetrics, TopicUse,
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
pub use standby::{
    RunningStandby, Standby, StandbyListeners, StandbyStores, StandbyUpdate, StandbyUpdateListener,
    SuspendReason, TaskUpdate,
};
pub use workers::stepper::Stepper;
pub use workers::threads::Runtime;

pub use crate::{
    error_handlers::{
        BadRecordHandler, DeadLetterRecord, ErrorHandlerContext, ErrorHandlers, ExceptionHandler,
        ExceptionResponse,
    },
    task::Tap,
};

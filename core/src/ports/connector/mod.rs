//! The connector port: sources that fill a topic, and sinks that drain one.
//!
//! A connector is driven by one thread of the engine's connector runtime, which alone talks to the log. What a source
//! gives and the position after it become durable in one commit, and so do a sink's position and the list of what it
//! staged. A connector keeps no clock and does not wait: time comes in with the calls, and a call that can do nothing
//! now says so.
//!
//! | part | is |
//! |---|---|
//! | [`SourceConnector`], [`SourceBatch`] | what a source is, and what it gives |
//! | [`SinkConnector`], [`Prepared`] | what a sink is, and what it has to commit |
//! | [`Guarantee`], [`Retry`], [`RetryAfter`] | what either promises, and how its failures are tried again |
//! | [`ConnectorError`] | why one cannot continue |
//!
//! # Invariants of an implementation
//!
//! - A source that is opened with a position it gave resumes after the last record it gave before that position.
//! - A sink shows nothing that is not committed: [`SinkConnector::prepare`] stages or delivers, the runtime commits what
//!   it returns, and [`SinkConnector::publish`] makes it visible. An [exactly-once](Guarantee::ExactlyOnce) sink
//!   finishes or undoes from the committed metadata alone what a crash interrupted.
//!
//! # Not here
//!
//! Waiting, retries, commits and threads: the engine's connector runtime.

mod batch;
mod error;
mod retry;
mod sink;
mod source;

pub use batch::{SourceBatch, SourceBatchParts};
pub use error::{ConnectorError, ConnectorErrorKind};
pub use retry::{Retry, RetryAfter, Waits};
pub use sink::{Due, Prepared, SinkConnector, SinkCounts};
pub use source::{InputShare, Resume, SourceConnector, SourceStatus};

/// The directory, in that which a sink writes files to, of those that have no name yet. It is made as the sink starts, and stays: by it
/// a backup tells that a directory in an application's data directory is a sink's, and takes all of it along.
pub const STAGING: &str = "_staging";

/// Guarantee of a connector for each record when processes are killed and restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    /// It arrives exactly once.
    ExactlyOnce,
    /// It arrives, after a crash perhaps again.
    AtLeastOnce,
}

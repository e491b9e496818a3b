//! Threads that drive tasks: [`Streams`], one running instance of an application.
//!
//! | part | does |
//! |---|---|
//! | `worker` | owns tasks: fetches for them, lets them step, passes on what they repartition |
//! | `exchange` | the managed topics between sub-topologies, in memory |
//! | `epoch` | brings all workers to a stop and makes one commit of all their tasks |
//! | `restore` | brings stores to the end of their changelogs before the first record |
//! | `driver` | one worker without threads, for tests |
//!
//! # Invariants
//!
//! - All tasks commit together or not at all: no task commits the effect of a record that another task sent it and has
//!   not committed.
//! - The next commit is not handed to the log before the last one is durable and published; tasks process on meanwhile.

mod assemble;
mod config;
mod driver;
mod epoch;
mod error;
mod exchange;
mod query;
mod restore;
mod setup;
mod streams;
mod worker;

pub use config::{ProcessingGuarantee, StreamsConfig};
pub use driver::Driver;
pub use error::StreamsError;
pub use headwater_core::dead_letter::BadRecord;
pub use query::ReadOnlyKeyValueStore;
pub use streams::{Lag, Streams, StreamsMetrics, StreamsState};

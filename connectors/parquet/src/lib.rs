//! Parquet sink: typed rows in files by event time, each record in them exactly once.
//!
//! | part | does |
//! |---|---|
//! | [`ParquetSink`] | the connector: rows to files by partition and event time, rolled by size, rows and time |
//! | [`Columns`] | how a row becomes columns |
//! | [`ParquetSinkConfig`] | where and when; unknown keys are refused |
//! | `bucket` | directories by event time |
//! | `open_file` | one file being written |
//! | `part` | what one topic partition has under way |
//! | `table` | what a directory holds already, and whether that goes with the position |
//! | `staging` | names, what is committed about staged files, publishing and recovery |
//!
//! # Guarantee
//!
//! Exactly-once. Files are written under `_staging/` and synced, their list is committed with the offsets in one step,
//! and only then are they given their final names. A restart renames what was committed and deletes what was not.
//!
//! # Not here
//!
//! When to commit: the engine's connector runtime decides.

mod bucket;
mod columns;
mod config;
mod open_file;
mod part;
mod sink;
mod staging;
mod table;
#[cfg(test)]
mod tests;

pub use bucket::PartitionBy;
pub use columns::Columns;
pub use config::{ParquetSinkBuilder, ParquetSinkConfig};
pub use sink::ParquetSink;

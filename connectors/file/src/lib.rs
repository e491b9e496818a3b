//! File source: NDJSON lines, plain or gzip, from a file or standard input.
//!
//! | part | does |
//! |---|---|
//! | [`FileSource`] | the connector: lines to records and dead letters, at a rate |
//! | [`FileSourceConfig`] | its settings, also from text; unknown keys are refused |
//! | `input` | opens a file or stream and reads ahead on a thread of its own, decompressed |
//! | `gzip` | members of gzip data, and how they end |
//! | `packed` | how an input is compressed, and what is refused |
//! | `lines` | cuts chunks into lines of bounded length |
//! | `keyed` | finds key and timestamp in a line |
//! | `position` | what is committed, and whether an input is the one that it belongs to |
//!
//! # Guarantee
//!
//! Exactly-once into the log: position and records are one commit, and a position is a byte of the decompressed input.
//!
//! # Not here
//!
//! Decoding of values: a line is taken as it is, and is a dead letter only if it cannot be keyed.

mod config;
mod gzip;
mod input;
mod keyed;
mod lines;
mod packed;
mod position;
mod source;

#[cfg(test)]
mod tests;

pub use config::{FileSourceBuilder, FileSourceConfig, Rate};
pub use source::FileSource;

//! HTTP webhook sink: batches of JSON values as POST requests.
//!
//! | part | does |
//! |---|---|
//! | [`HttpSink`] | the connector: batches, sends, dead letters |
//! | [`HttpSinkConfig`] | its settings; unknown keys are refused |
//! | `batch` | which values are sent together, and how they are written |
//! | `receiver` | the URL, requests, and what answers mean |
//!
//! # Guarantee
//!
//! At-least-once. Each request carries `Idempotency-Key: TOPIC-PARTITION-FIRST-LAST`; a request that is tried again has
//! the same one. After a crash, batches that were cut by their size have the same keys again; those cut by time may not.
//!
//! # Not here
//!
//! Waiting between tries: the engine's connector runtime calls again, after the waits of [`HttpSinkConfig::retry`].

mod batch;
mod config;
mod receiver;
mod sink;
#[cfg(test)]
mod tests;

pub use config::{BodyFormat, HttpSinkConfig};
pub use sink::HttpSink;

//! What flows: records as bytes in sets, and their headers.
//!
//! | type | form | used by |
//! |---|---|---|
//! | [`RecordSet`] | bytes: one arena, one entry a record | the log port, stores, sources and sinks |
//! | [`Headers`] | decoded name/value pairs | dead letters, connectors, user code |
//!
//! Typed records (`Record<K, V>`) live with the processors that see them.

mod headers;
mod lent;
mod partitioner;
mod set;
mod topic;

pub use headers::{Headers, HeadersError};
pub use partitioner::murmur2_partition;
pub use set::{RecordRef, RecordSet, RecordSetBuilder, RecordSetOver, SetFull, Span};
pub use topic::{InvalidTopicName, TopicName, TopicPartition};

/// Milliseconds since the Unix epoch.
pub type Timestamp = i64;

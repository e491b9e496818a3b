//! The integrated partitioned log: Kafka record batches on local disk with one commit journal.
//!
//! | module | holds |
//! |---|---|
//! | `embedded`, `options` | [`EmbeddedLog`], the log port's implementation, and how it is opened |
//! | `commit` | taking commits in, the committer's rounds, checkpoints beside them |
//! | `journal` | frames in recycled files; what makes a commit atomic and durable |
//! | `partition`, `segment`, `batch` | Kafka's files and format, derived from the journal |
//! | `backup` | a directory with the log at one commit, and the way back: [`restore`] |
//! | `limits` | what both logs refuse for its size or form |
//! | `memory` | [`MemoryLog`], the same port without a disk: for tests, and the reference |
//! | [`conformance`] | what every log must do, as a suite |
//! | `simulated` | [`SimulatedDisk`], the disk port in memory, whose power can be cut: for tests |
//! | `claims` | who holds a group, and what the holder may read |
//! | `wakers` | who is told that a partition's end has moved, or a position in it |
//! | `group`, `checkpoint`, `recovery`, `evidence`, `store` | positions and epochs, the state up to a frame, and the way back to it |
//!
//! # Invariants
//!
//! - Journal frame, `fdatasync`, segments, high watermark, acknowledgement: in this order.
//! - The journal is the evidence, segments are synced lazily before it is used again, indexes are hints:
//!   they say where to look, and what is read is checked.
//! - Damage is reported with file, byte and offset, and never stepped over.
//!
//! # Not here
//!
//! Compaction and retention by time, transactions of foreign producers, and the wire protocol.

mod backup;
mod batch;
mod checkpoint;
mod claims;
mod commit;
pub mod conformance;
mod cursor;
mod disk;
mod embedded;
mod evidence;
mod group;
mod identity;
mod journal;
mod limits;
mod lock;
mod memory;
mod options;
mod partition;
mod recovery;
mod segment;
mod simulated;
mod spare;
mod store;
mod wakers;

#[cfg(test)]
mod tests;

pub use backup::{RestoreError, restore};
pub use embedded::EmbeddedLog;
pub use memory::MemoryLog;
pub use options::{LogOptions, OpenError};
pub use simulated::{SimulatedDisk, SyncClass};

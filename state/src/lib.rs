//! Stores that implement the engine's store port: in memory, and on disk in RocksDB.
//!
//! | implementation | keeps | after a restart |
//! |---|---|---|
//! | [`MemoryState`] | everything in memory | empty: the changelog is replayed from its start |
//! | [`RocksDbState`] (feature `rocksdb`) | the newest commits in memory, the rest on disk | a prefix: at most about the last 32 MiB or 30 s of changes are replayed |
//!
//! [`MemoryState`] is the reference: one suite, [`conformance`], holds for both and for the states of others.
//!
//! # Not here
//!
//! Typed caches, windows, sessions and the changelog itself are the engine's; a state sees bytes and commits.

pub mod conformance;
mod memory;
mod registry;
#[cfg(feature = "rocksdb")]
mod rocks;
mod span;

pub use memory::MemoryState;
#[cfg(feature = "rocksdb")]
pub use rocks::{BeforeFlush, RocksDbOptions, RocksDbState};

//! What the engine needs from the world, as traits: log, state, disk, connectors, an executor.
//!
//! The clock is a port too and lives in [`crate::time`]. Implementations are joined to the engine by the facade only.

pub mod connector;
pub mod disk;
pub mod log;
pub mod spawn;
pub mod state;

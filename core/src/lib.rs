//! The words and the ports: what whoever implements a log, a store, a serde or a connector sees, and no more.
//!
//! | module | holds |
//! |---|---|
//! | [`record`] | records as bytes, headers, names of topics |
//! | [`serde`] | types to bytes and back |
//! | [`time`] | the clock port |
//! | [`metrics`] | what an application counts |
//! | [`memory`] | the budget of what a process keeps in memory |
//! | [`descriptors`] | how many files a process may have open, and who has which share |
//! | [`text`] | foreign text, shown without steering a terminal |
//! | [`broken`] | what ends the process |
//! | [`dead_letter`] | what is kept of a record that could not be taken |
//! | [`ports`] | traits for the log, the state and the connectors |
//!
//! # Not here
//!
//! What runs a topology is `headwater-engine`; it is built on this crate, as every implementation of a port is.

pub mod broken;
pub mod dead_letter;
pub mod descriptors;
pub mod memory;
pub mod metrics;
pub mod ports;
pub mod record;
pub mod serde;
pub mod text;
pub mod time;

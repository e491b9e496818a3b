//! What runs a topology: the graph, its processors and stores, tasks, the runtime, and the runtime of connectors.
//!
//! | module | holds |
//! |---|---|
//! | [`topology`] | nodes, sub-topologies, the ends where bytes become rows |
//! | [`processor`] | what an operator's author sees |
//! | [`node`] | what the graph is made of, and the batches between: for a second form of rows |
//! | [`kernel`] | tables, windows and aggregations, over the bytes of keys, for any form of rows |
//! | [`store`] | typed stores: cached, written behind |
//! | `task` | one partition of a sub-topology, as a state machine without I/O |
//! | [`runtime`] | threads that drive tasks, and the commit of all of them |
//! | [`connect`] | threads that drive sources and sinks |
//!
//! # Not here
//!
//! No disk, no network, no Arrow: the log, the state and the connectors come in through [`headwater_core::ports`].

/// `Debug` for a type whose parts have none: its name.
macro_rules! opaque_debug {
    ($name:ident < $($parameter:tt),+ >) => {
        impl<$($parameter),+> std::fmt::Debug for $name<$($parameter),+> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}

mod by_index;
pub mod calls;
mod caught;
pub mod connect;
mod default_serde;
mod error_handlers;
mod fitted_letter;
pub mod kernel;
pub mod node;
mod periods;
pub mod processor;
pub mod runtime;
pub mod store;
mod task;
pub mod topology;

use headwater_core::broken;

pub use broken::broken;
pub use default_serde::DefaultSerde;

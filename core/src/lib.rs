//! The words and the engine: records, serdes, topologies, tasks, and the ports they run on.
//!
//! # Not here
//!
//! No disk, no network, no Arrow: the log, the state and the connectors come in through [`ports`].

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

pub mod connect;
pub mod ports;
pub mod processor;
pub mod record;
pub mod runtime;
pub mod serde;
pub mod store;

pub mod task;
pub mod time;
pub mod topology;

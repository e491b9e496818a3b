//! Headwater: stream processing over an integrated partitioned log.
//!
//! This crate joins the engine to its implementations and re-exports, by name, what an application needs. It holds no
//! logic of its own.
//!
//! | module | holds |
//! |---|---|
//! | [`prelude`] | what most applications import |
//! | [`dsl`] | the typed builder: streams, tables, windows |
//! | [`topology`], [`processor`], [`store`] | the Processor API underneath |
//! | [`runtime`] | running an application: [`Streams`](runtime::Streams) and its configuration |
//! | [`connect`] | running source and sink connectors against the log |
//! | [`log`], [`state`] | the embedded log, and where stores live |
//! | [`memory`] | the budget of what a process keeps in memory |
//! | [`record`], [`serde`], [`time`] | records, types to bytes, clocks |

pub use headwater_core::{dead_letter, memory, metrics, ports, record, serde, time};
pub use headwater_dsl as dsl;
pub use headwater_engine::{connect, processor, runtime, store, topology};

/// The embedded log.
pub mod log {
    pub use headwater_log::{EmbeddedLog, LogOptions, OpenError};
}

/// Where stores live.
pub mod state {
    pub use headwater_state::MemoryState;
    #[cfg(feature = "rocksdb")]
    pub use headwater_state::{RocksDbOptions, RocksDbState};
}

/// What most applications import.
pub mod prelude {
    pub use headwater_core::{
        ports::log::{Durability, Log, TopicSpec},
        record::{Timestamp, TopicName, TopicPartition},
        time::{Clock, SystemClock},
    };
    pub use headwater_dsl::{
        EmitStrategy, KStream, KTable, Materialized, StreamsBuilder, TimeWindows,
    };
    pub use headwater_engine::{
        processor::{Context, InitContext, Processor, ProcessorError, Record},
        runtime::{ProcessingGuarantee, Streams, StreamsConfig, StreamsError},
        store::{KeyValueStore, Window, Windowed},
        topology::{Consumed, Produced, Topology, TopologyError},
    };
    pub use headwater_log::{EmbeddedLog, LogOptions};
    #[cfg(feature = "rocksdb")]
    pub use headwater_state::{RocksDbOptions, RocksDbState};
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

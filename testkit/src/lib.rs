//! Test kit for topologies: a driver without threads or disk, a clock moved by hand, and a log in memory.
//!
//! | part | for |
//! |---|---|
//! | [`TopologyTestDriver`] | piping records through a whole topology, with several partitions and injected crashes |
//! | [`ManualClock`] | time that moves when the test says so |
//! | [`MemoryLog`] | the log port in memory |

mod clock;
mod driver;
mod memory_log;

pub use clock::ManualClock;
pub use driver::{
    TestDriverError, TestInputTopic, TestOutputTopic, TestRecord, TopologyTestDriver,
};
pub use memory_log::MemoryLog;

//! Test kit for topologies: a driver without threads or disk, a clock moved by hand, and a log in memory.
//!
//! | part | for |
//! |---|---|
//! | [`TopologyTestDriver`] | piping records through a whole topology, with several partitions and injected crashes |
//! | [`MockProcessorContext`] | calling a single processor by hand |
//! | [`TestStandby`] | a second instance, which takes over |
//! | [`Notation`] | records as text: `a=1@5` |
//! | [`ManualClock`] | time that moves when the test says so |
//! | [`MemoryLog`] | the log port in memory |
//! | [`FaultyLog`] | the same, slow and failing as the test says |
//! | [`MemoryState`] | the state port in memory |
//! | [`FaultyState`] | the same, failing as the test says |

mod driver;
mod driver_error;
mod faulty_log;
mod faulty_state;
mod mock_context;
mod notation;

pub use driver::{
    TestDeadLetter, TestInputTopic, TestOutputTopic, TestRecord, TestStandby, TopologyTestDriver,
};
pub use driver_error::TestDriverError;
pub use faulty_log::FaultyLog;
pub use faulty_state::FaultyState;
pub use headwater_core::time::ManualClock;
pub use headwater_engine::processor::{CapturedForward, CapturedPunctuator};
pub use headwater_log::MemoryLog;
pub use headwater_state::MemoryState;
pub use mock_context::MockProcessorContext;
pub use notation::Notation;

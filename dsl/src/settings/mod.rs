//! What an operator can be told: names, serdes, windows, when to emit.

mod branched;
mod calls;
mod chosen;
mod grouped;
mod join_windows;
mod joined;
mod materialized;
mod materialized_with;
mod printed;
mod repartitioned;
mod session_windows;
mod sliding_windows;
mod suppressed;
mod table_joined;
mod windows;

pub(crate) use branched::Below;
pub use branched::Branched;
pub use calls::{AsyncCalls, AsyncCallsWith};
pub(crate) use chosen::ChosenSerde;
pub use grouped::Grouped;
pub use join_windows::{JoinWindows, StreamJoined, TimeDifference};
pub use joined::{Joined, JoinedWith};
pub(crate) use materialized::Caching;
pub use materialized::Materialized;
pub use materialized_with::{MaterializedGiven, MaterializedWith};
pub use printed::{Printed, PrintedWith};
pub(crate) use repartitioned::Placing;
pub use repartitioned::Repartitioned;
pub use session_windows::SessionWindows;
pub use sliding_windows::SlidingWindows;
pub use suppressed::{BufferConfig, Eager, Strict, Suppressed};
pub(crate) use suppressed::{Limits, Until, WhenFull};
pub use table_joined::{TableJoined, TableJoinedWith};
pub(crate) use windows::{Cut, Emit, Private, whole_ms};
pub use windows::{EmitStrategy, TimeWindows, UnlimitedWindows, Windows};

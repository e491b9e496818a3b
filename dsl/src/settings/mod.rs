//! What an operator can be told: names, serdes, windows, when to emit.

mod grouped;
mod materialized;
mod windows;

pub use grouped::Grouped;
pub use materialized::Materialized;
pub(crate) use windows::{Emit, whole_ms};
pub use windows::{EmitStrategy, TimeWindows};

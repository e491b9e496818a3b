//! Tables, windows and aggregations, written once: over the bytes of keys, timestamps, operator time, and a value that only its
//! skin knows.
//!
//! | module | holds |
//! |---|---|
//! | [`skin`](Skin) | how a form of rows gives the kernel its keys, folds a row, and takes results |
//! | `fold` | the rows of a batch into the entries of a store |
//! | `table` | the newest value of each key |
//! | `aggregate` | one value of each key, folded |
//! | `window_state`, `updates`, `finals` | one value of each key and window: each update, or one final |
//! | `kept_headers` | the headers of finals, until they come out |
//! | `intervals` | the same where the rows say where windows begin and end: sessions, sliding windows |
//! | `ahead` | which records may move a partition's time: tells a wrong clock from a silence; used where records are read |
//! | `window_time` | which windows are open, which close, and what time is passed on |
//!
//! # A batch, from its rows to its results
//!
//! | who | does |
//! |---|---|
//! | kernel | takes the rows' stamps from the payload, and has the skin write their keys |
//! | kernel | moves the operator's time row by row, which says what is late, and looks all keys up at once |
//! | skin | folds row *i* into the value so far |
//! | kernel | refuses what the store cannot keep, and hands the skin the update of row *i*, or at a flush and a close that of a key |
//!
//! # Invariants
//!
//! - Nothing here knows the type of a key, nor the form that rows have.
//! - A key's bytes are those that the store's serde writes: equal keys are one key, however the log wrote them.

mod aggregate;
pub(crate) mod ahead;
mod finals;
mod fold;
mod intervals;
mod kept_headers;
mod skin;
mod table;
mod updates;
mod window_state;
mod window_time;

pub use aggregate::Aggregate;
pub use finals::WindowedFinals;
pub use intervals::{
    IntervalFinals, IntervalUpdates, Lifetime, Row, Rule, Sessions, SlidingWindows, Taking,
};
pub use kept_headers::headers_store;
pub use skin::{CopySkin, Emit, Late, Place, SessionSkin, Skin, Update};
pub use table::Table;
pub use updates::WindowedUpdates;
pub use window_state::Windows;

//! A toy columnar form of rows: a struct of vectors, its two ends, a few nodes, and its skin of the kernel's windowed count.
//!
//! It shows that a crate outside the engine can bring a second payload, and what that takes:
//!
//! | module | brings |
//! |---|---|
//! | `columns` | the payload, and how it is taken from the front |
//! | `ends` | a decoder and an encoder |
//! | `nodes` | a filter and a mapping of keys, a column at a time |
//! | `count` | keys to the kernel, and its results to columns |
//!
//! # Not here
//!
//! No window, no fold of rows into a store, no lateness, no flush: they are the kernel's.

mod columns;
mod count;
mod ends;
mod nodes;

pub use columns::Columns;
pub use count::CountSkin;
pub use ends::{ColumnDecoder, ColumnEncoder};
pub use nodes::{Filter, SelectKey};

//! A toy columnar form of rows: a struct of vectors, its two ends, a few nodes, and its skin of the kernel's tables,
//! aggregations and windows.
//!
//! It shows that a crate outside the engine can bring a second payload, and what that takes:
//!
//! | module | brings |
//! |---|---|
//! | `columns` | the payload, and how it is taken from the front |
//! | `ends` | a decoder and an encoder |
//! | `nodes` | a filter and a mapping of keys, a column at a time |
//! | `fold` | keys and values to the kernel, and its results to columns |
//!
//! # Not here
//!
//! No window, no store, no lateness, no flush: they are the kernel's.

mod columns;
mod ends;
mod fold;
mod nodes;

pub use columns::Columns;
pub use ends::{ColumnDecoder, ColumnEncoder};
pub use fold::FoldSkin;
pub use nodes::{Filter, SelectKey};

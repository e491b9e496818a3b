//! Streams: where they come from and go to, what operators do to a record, and how two of them are joined.

mod calls;
mod copartitioning;
mod late_answers;
mod nodes;
mod optimizations;
mod read_twice;
mod repartitioning;
mod semantics;
mod shared_input;
mod sinks;
mod sources;
mod stream_join_model;
mod stream_joins;
mod timestamps;

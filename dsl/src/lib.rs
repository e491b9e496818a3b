//! The typed builder over topologies: draw a pipeline with [`StreamsBuilder`], [`KStream`] and [`KTable`], and build the
//! topology that the engine runs.
//!
//! | type | what it is |
//! |---|---|
//! | [`KStream`] | records, each an event of its own |
//! | [`KTable`] | the newest value of each key |
//! | [`GlobalKTable`] | the same, whole on every instance |
//! | [`KGroupedStream`], [`CogroupedKStream`], [`TimeWindowedKStream`], [`SessionWindowedKStream`] | records on their way into an aggregation |
//! | [`KGroupedTable`] | rows of a table on their way into an aggregation |
//! | [`BranchedKStream`] | a stream being split |
//!
//! | module | holds |
//! |---|---|
//! | `builder` | where topologies begin: topics as streams and tables, stores, the build |
//! | `stream`, `table` | what can be done with each; a file for each kind of step |
//! | `grouped` | aggregations: of streams, of tables, in windows, of several streams at once |
//! | `settings` | how a step is to be done: names, serdes, windows, what is kept |
//! | `plan` | the graph as it is drawn, names, repartitions, and its translation to a topology |
//! | `operator` | what a step does to a record: a file for each, made once a task |
//!
//! # Nulls
//!
//! A type says whether there may be one: `KStream<String, f64>` has neither null keys nor null values, and a record that
//! does goes to the dead letters of its source. `KStream<Option<String>, Option<f64>>` takes both, and
//! [`drop_null_keys`](KStream::drop_null_keys) and [`drop_null_values`](KStream::drop_null_values) lead from one to the
//! other. `docs/nulls.md` has the rule of each operator.
//!
//! # Keys and partitions
//!
//! What changes a key *marks* the stream. The next operator that depends on keys gets a repartition topic,
//! `<application.id>-<name>-repartition`, which places the records anew.
//!
//! # Not here
//!
//! Nothing runs here: no threads, no log, no state. Operators are processors of `headwater-engine`, made once a task.

mod builder;
mod grouped;
mod operator;
mod plan;
mod put_at;
mod settings;
mod stream;
mod table;

pub use builder::StreamsBuilder;
pub use grouped::{
    CogroupedKStream, KGroupedStream, KGroupedTable, LateRecord, SessionWindowedCogroupedKStream,
    SessionWindowedKStream, TimeWindowedCogroupedKStream, TimeWindowedKStream,
};
pub use headwater_engine::DefaultSerde;
pub use operator::BatchOutput;
#[doc(hidden)]
pub use plan::OperatorKind;
pub use settings::{
    AsyncCalls, AsyncCallsWith, Branched, BufferConfig, Eager, EmitStrategy, Grouped, JoinWindows,
    Joined, JoinedWith, Materialized, MaterializedGiven, MaterializedWith, Printed, PrintedWith,
    Repartitioned, SessionWindows, SlidingWindows, StreamJoined, Strict, Suppressed, TableJoined,
    TableJoinedWith, TimeDifference, TimeWindows, UnlimitedWindows, Windows,
};
pub use stream::{BranchedKStream, JoinWith, JoinedTable, KStream, StreamWithin, Terminal};
pub use table::{GlobalKTable, KTable};

pub(crate) use stream::resolve;

//! The processors that the typed builder draws, one file each.
//!
//! # Invariants
//!
//! - No operator knows how it is scheduled: the same records in batches of any size give the same results.
//! - A null is in the types: an operator drops what its type lets through and its rule excludes, and counts it.

mod backlog;
mod batch;
mod branch;
mod calls;
mod drop_null;
mod expire;
mod filter;
mod first;
mod flat_map;
mod flat_map_values;
mod fold;
mod for_each;
mod foreign_key;
mod global_join;
mod headers;
mod join_of_related;
mod join_of_tables;
mod map;
mod map_values;
mod pass_through;
mod peek;
mod regroup;
mod results;
mod select_key;
mod sendable;
mod stream_join;
mod suppress;
mod table_join;
mod table_values;
mod to_stream;
mod transform_values;
mod values_of_table;
mod versioned_fold;
mod versioned_table;

pub(crate) use backlog::WaitsSerde;
pub use batch::BatchOutput;
pub(crate) use batch::Batches;
pub(crate) use branch::{Branch, Predicates};
pub(crate) use calls::{CallResult, CallSettings, HeldCallSerde, MakeCalls};
pub(crate) use drop_null::{DropNullKeys, DropNullValues};
pub(crate) use expire::{Expire, Expiry};
pub(crate) use filter::Filter;
pub(crate) use first::First;
pub(crate) use flat_map::FlatMap;
pub(crate) use flat_map_values::FlatMapValues;
pub(crate) use fold::{Deletion, Fold};
pub(crate) use for_each::ForEach;
pub(crate) use foreign_key::{
    Combine, ForeignJoinKind, ForeignKey, ForeignKeys, Hashes, Registration, RegistrationSerde,
    Respond, Response, ResponseSerde, RightInput, RightStores, Subscribe, Subscriber,
    SubscriberSerde,
};
pub(crate) use global_join::{GlobalJoin, Keyless};
pub(crate) use join_of_related::JoinOfRelated;
pub(crate) use join_of_tables::{JoinKind, JoinOfTables};
pub(crate) use map::Map;
pub(crate) use map_values::MapValues;
pub(crate) use pass_through::PassThrough;
pub(crate) use peek::Peek;
pub(crate) use regroup::Regroup;
pub(crate) use results::{Results, ResultsKept};
pub(crate) use select_key::SelectKey;
pub(crate) use sendable::{Sendable, refused};
pub(crate) use stream_join::{
    EitherSerde, Graced, GracedTableJoin, Joining, Kept, KeptSerde, SelfJoin, SideStores,
    StreamJoin, endless_wait_ms,
};
pub(crate) use suppress::{
    Config, Held, HeldSerde, Names, NewestSerde, Rule, Suppress, WindowClose,
};
pub(crate) use table_join::{LeftTableJoin, NullKeys, TableJoin};
pub(crate) use table_values::{Needless, TableValues};
pub(crate) use to_stream::ToStream;
pub(crate) use transform_values::TransformValues;
pub(crate) use values_of_table::ValuesOfTable;
pub(crate) use versioned_fold::VersionedFold;
pub(crate) use versioned_table::VersionedTable;

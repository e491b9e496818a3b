//! The steps that pipelines are made of.

use crate::{
    calls::Calls,
    cogroup::{Cogroup, Second},
    folds::{Caching, Emit, Fold, Window},
    foreign_keys::ForeignKeys,
    forms::Form,
    held::Held,
    joins::{AsOf, Joined, Near},
    processors::Deed,
    stateless::Stateless,
    tables::Tables,
};
use headwater_core::serde::Data;
use headwater_dsl::KTable;
use proptest::prelude::*;

/// A step of a pipeline over `KStream<String, i64>`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Op {
    Stateless(Stateless),
    /// A repartition topic of its own, or one with a partitioner that sends some records nowhere and some
    /// twice.
    Repartition,
    Scattered(i64),
    /// The pipeline's own topic with a bound of so many ms on how far ahead its records may be; the first such step counts.
    MaxAhead(u64),
    /// The records of a second topic beside those of the pipeline.
    Other,
    Process(Deed),
    /// Calls that are not waited for.
    Calls(Calls),
    ProcessValues(Deed),
    Join(View),
    LeftJoin(View),
    /// The table of the pipeline's own topic.
    JoinOwn(View),
    /// A table that is whole in each task, by a key made of the value; some records name none.
    JoinGlobal(i64),
    LeftJoinGlobal(i64),
    /// A table that keeps versions; the history of the first such step counts.
    AsOf(AsOf),
    /// The records of the pipeline joined with those of another stream.
    JoinStream(Joined),
    /// The records of the pipeline joined with themselves.
    SelfJoin(Near),
    /// What windows of the pipeline hold when records of a second topic ask for them.
    LookUp(Window),
    /// The updates of the table beside the records of the pipeline.
    Updates(View),
    /// Tables made of streams, joined and grouped.
    Tables(Tables),
    /// A table of the pipeline whose rows live for so many ms.
    Live(u64),
    /// A reduction by another key, whose records cross a repartition topic with keys in the first form and values in the
    /// second.
    Regroup(i64, Form, Form),
    Fold(Fold, Caching, View),
    Windows(Fold, Window, View),
    /// One window without an end, from this time on.
    Unlimited(i64, Caching),
    /// All records in the same windows.
    WindowedAll(Window),
    Cogroup(Cogroup),
    /// The first record of each key and window.
    Distinct(Window),
    /// Windows with what comes too late for them.
    Late(Window),
    /// Sessions with a gap of so many ms.
    Sessions(u64, Fold, Window, View),
    /// Sliding windows with a difference of so many ms.
    Sliding(u64, Fold, Window, View),
    /// Windows whose results go into windows of twice the size, with nothing in between.
    WindowsOfWindows(Window, Window),
    Held(Held),
    /// Sums of the pipeline joined with the table by a foreign key.
    ForeignKeys(ForeignKeys),
}

impl Op {
    /// Whether it holds updates back until a commit.
    pub(crate) fn caches(&self) -> bool {
        let holds = |window: &Window| window.emit == Emit::Updates && window.caching == Caching::On;
        match self {
            Self::Fold(_, caching, _) | Self::Unlimited(_, caching) => *caching == Caching::On,
            Self::Windows(_, window, _)
            | Self::WindowedAll(window)
            | Self::LookUp(window)
            | Self::Late(window) => holds(window),
            Self::Cogroup(cogroup) => cogroup.caches(),
            Self::Held(held) => held.caches(),
            Self::Tables(tables) => tables.caches(),
            Self::Sessions(_, _, window, _) | Self::Sliding(_, _, window, _) => holds(window),
            Self::WindowsOfWindows(inner, outer) => holds(inner) || holds(outer),
            Self::Stateless(_)
            | Self::Repartition
            | Self::Scattered(_)
            | Self::MaxAhead(_)
            | Self::Other
            | Self::Process(_)
            | Self::Calls(_)
            | Self::ProcessValues(_)
            | Self::Join(_)
            | Self::LeftJoin(_)
            | Self::JoinOwn(_)
            | Self::JoinGlobal(_)
            | Self::LeftJoinGlobal(_)
            | Self::AsOf(_)
            | Self::JoinStream(_)
            | Self::SelfJoin(_)
            | Self::Updates(_)
            | Self::Live(_)
            | Self::Regroup(..)
            | Self::Distinct(_)
            | Self::ForeignKeys(_) => false,
        }
    }
}

impl Op {
    /// How far ahead the records of the pipeline's own topic may be, in ms, if it bounds that.
    pub(crate) fn max_ahead(&self) -> Option<u64> {
        if let Self::MaxAhead(ms) = self { Some(*ms) } else { None }
    }

    /// Whether it reads a topic of its own.
    pub(crate) fn reads_another_topic(&self) -> bool {
        matches!(
            self,
            Self::Other
                | Self::Join(_)
                | Self::LeftJoin(_)
                | Self::AsOf(_)
                | Self::JoinGlobal(_)
                | Self::LeftJoinGlobal(_)
                | Self::LookUp(_)
                | Self::Updates(_)
                | Self::Cogroup(Cogroup { second: Second::Other, .. })
                | Self::Held(Held::Join(..))
                | Self::Tables(
                    Tables::Materialize(_)
                        | Tables::Transform(..)
                        | Tables::Group(..)
                        | Tables::Join(..)
                )
                | Self::ForeignKeys(_)
        ) || matches!(self, Self::JoinStream(joined) if joined.reads_another_topic())
    }
}

/// A table as it is joined, or as its updates are forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    Stored,
    Filtered,
    Mapped,
    /// Filtered, mapped and filtered again.
    Chained,
}

impl View {
    pub(crate) fn of<K: Data>(self, table: &KTable<K, i64>) -> KTable<K, i64> {
        match self {
            Self::Stored => table.clone(),
            Self::Filtered => table.filter(|_, value| value % 2 == 0),
            Self::Mapped => table.map_values(|value| value.wrapping_mul(100)),
            Self::Chained => {
                let some = table.filter(|_, value| value % 3 != 0);
                some.map_values(|value| value.wrapping_add(1)).filter_not(|_, value| value % 3 == 0)
            }
        }
    }
}

pub(crate) fn view() -> impl Strategy<Value = View> {
    let derived = prop_oneof![Just(View::Filtered), Just(View::Mapped), Just(View::Chained)];
    prop_oneof![Just(View::Stored), derived]
}

pub(crate) fn rekeyed(value: i64, n: i64) -> String {
    format!("r{}", value.rem_euclid(n))
}

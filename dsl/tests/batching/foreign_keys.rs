//! Sums of the pipeline joined with the table by a foreign key.

use crate::{
    folds::{history, or_gone, reduced, with_history},
    ops::{Op, View, view},
};
use headwater_dsl::{KStream, KTable, Materialized, TableJoined};
use proptest::prelude::*;

/// Which rows have the keys of which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ForeignKeys {
    pub(crate) is_left: bool,
    /// How many foreign keys there are; rows with other values have none.
    pub(crate) count: i64,
    pub(crate) view: View,
    /// How far back versions of the results are kept, in ms, if they are.
    pub(crate) history: Option<u64>,
}

impl ForeignKeys {
    /// The pipeline's stream from here on.
    pub(crate) fn draw(
        self,
        stream: &KStream<String, i64>,
        table: &KTable<String, i64>,
        store: &str,
    ) -> KStream<String, i64> {
        let Self { is_left, count, view, history } = self;
        let kept = Materialized::named(store).with_caching_disabled();
        let sums = stream.group_by_key().reduce(reduced, kept);
        let key = move |_: &String, value: &i64| {
            (value % 5 != 0).then(|| format!("k{}", value.rem_euclid(count)))
        };
        let (joined, kept) =
            (TableJoined::default(), with_history(Materialized::default(), history));
        let rows = if is_left {
            let join = |value, other: Option<i64>| reduced(value, or_gone(other));
            sums.left_join_on_with(table, key, join, joined, kept)
        } else {
            sums.join_on_with(table, key, reduced, joined, kept)
        };
        stream.merge(&view.of(&rows).to_stream().map_values(or_gone))
    }
}

pub(crate) fn any_foreign_keys(is_left: bool) -> BoxedStrategy<Op> {
    (1..4_i64, view(), history())
        .prop_map(move |(count, view, history)| {
            Op::ForeignKeys(ForeignKeys { is_left, count, view, history })
        })
        .boxed()
}

//! Sums of the pipeline joined with the table by a foreign key.

use crate::{
    folds::{or_gone, reduced},
    ops::{Op, View, view},
};
use headwater_dsl::{KStream, KTable, Materialized};
use proptest::prelude::*;

/// Which rows have the keys of which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ForeignKeys {
    pub(crate) is_left: bool,
    /// How many foreign keys there are; rows with other values have none.
    pub(crate) count: i64,
    pub(crate) view: View,
}

impl ForeignKeys {
    /// The pipeline's stream from here on.
    pub(crate) fn draw(
        self,
        stream: &KStream<String, i64>,
        table: &KTable<String, i64>,
        store: &str,
    ) -> KStream<String, i64> {
        let Self { is_left, count, view } = self;
        let kept = Materialized::named(store).with_caching_disabled();
        let sums = stream.group_by_key().reduce(reduced, kept);
        let key = move |_: &String, value: &i64| {
            (value % 5 != 0).then(|| format!("k{}", value.rem_euclid(count)))
        };
        let rows = if is_left {
            let join = |value, other: Option<i64>| reduced(value, or_gone(other));
            sums.left_join_on(table, key, join)
        } else {
            sums.join_on(table, key, reduced)
        };
        stream.merge(&view.of(&rows).to_stream().map_values(or_gone))
    }
}

pub(crate) fn any_foreign_keys(is_left: bool) -> BoxedStrategy<Op> {
    (1..4_i64, view())
        .prop_map(move |(count, view)| Op::ForeignKeys(ForeignKeys { is_left, count, view }))
        .boxed()
}

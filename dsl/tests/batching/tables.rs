//! Tables that are made of streams, kept, joined with others and grouped by other keys.

use crate::{
    folds::{
        Caching, Fold, cached, ending, folded, grouped_for, or_gone, picky_if, reduced,
        with_history,
    },
    forms::{Form, in_forms},
    held::Hold,
    ops::{View, rekeyed},
};
use headwater_core::serde::for_type;
use headwater_dsl::{KGroupedTable, KStream, KTable, Materialized, StreamsBuilder};
use headwater_engine::{
    processor::{ProcessorError, Stores},
    store::KeyValueStore,
};
use proptest::prelude::*;

type Table = KTable<String, i64>;

/// What becomes of tables, as they are viewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tables {
    /// The newest values of the pipeline, of which every so many deletes its row.
    Made(i64, View),
    /// The rows of the table, kept; their updates are filtered, and the records of the pipeline are joined with them.
    Materialize(View),
    /// The table, transformed by how often each row has changed: of every so many there is none. The rows are joined with
    /// themselves. Perhaps their versions are kept, as far back as so many ms.
    Transform(i64, View, Option<u64>),
    /// The table, grouped by another key and aggregated, its updates beside the records of the pipeline.
    Group(i64, Fold, Caching, View),
    /// The table, joined with what becomes of the pipeline, and perhaps with one of them again.
    Join(How, Shape, Caching, View),
}

/// How two tables are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Inner,
    Left,
    Outer,
}

/// Which tables a join is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Two.
    Two,
    /// Two, of which one is held back.
    Held,
    /// Two, and the second again.
    Again,
    /// The first, and both.
    Before,
    /// One, and what is made of it.
    Itself,
}

impl Tables {
    pub(crate) fn caches(self) -> bool {
        match self {
            Self::Made(..) | Self::Materialize(_) | Self::Transform(..) => false,
            Self::Group(_, _, caching, _) | Self::Join(_, _, caching, _) => caching == Caching::On,
        }
    }

    /// The pipeline's stream from here on.
    pub(crate) fn draw(
        self,
        builder: &StreamsBuilder,
        stream: &KStream<String, i64>,
        table: impl FnOnce() -> Table,
        store: &str,
    ) -> KStream<String, i64> {
        let updates = |table: &Table| table.to_stream().map_values(or_gone);
        match self {
            Self::Made(n, view) => {
                let some = stream.map_values(move |value| (value % n != 0).then_some(value));
                updates(&view.of(&some.to_table::<i64>(store)))
            }
            Self::Materialize(view) => {
                let kept = view.of(&table()).materialized(store);
                let joined = stream.left_join(&kept, |value, row| reduced(value, or_gone(row)));
                joined.merge(&updates(&kept.filter(|_, value| value % 5 != 0)))
            }
            Self::Transform(n, view, history) => {
                let table = view.of(&table());
                let kept = with_history(Materialized::named(store), history);
                let counted = join(How::Outer, &counted(builder, &table, n, store, kept), &table);
                stream.merge(&updates(&counted.filter(|_, value| value % 5 != 0)))
            }
            Self::Group(n, fold, caching, view) => {
                let kept = cached(Materialized::named(store), caching);
                stream.merge(&updates(&grouped(&view.of(&table()), n, fold, kept)))
            }
            Self::Join(how, shape, caching, view) => {
                let made = made(stream, caching, Materialized::named(store));
                let joined = joined(how, shape, &view.of(&table()), &made, view);
                let some = joined.filter(|_, value| value % 7 != 0);
                updates(&joined).merge(&updates(&some))
            }
        }
    }
}

pub(crate) fn any_shape() -> impl Strategy<Value = Shape> {
    prop::sample::select(&[Shape::Two, Shape::Held, Shape::Again, Shape::Before, Shape::Itself][..])
}

/// A table of the pipeline's records, some of which delete their rows.
fn made(stream: &KStream<String, i64>, caching: Caching, kept: Materialized) -> Table {
    match caching {
        Caching::On => folded(&grouped_for(stream, Fold::Aggregate), Fold::Aggregate, kept),
        Caching::Off => {
            let some = stream.map_values(|value| (value % 3 != 0).then_some(value));
            some.to_table::<i64>(kept)
        }
    }
}

fn joined(how: How, shape: Shape, table: &Table, made: &Table, view: View) -> Table {
    match shape {
        Shape::Two => join(how, table, made),
        Shape::Held => join(how, made, &Hold { limit: 30, records_max: Some(2) }.of(table)),
        Shape::Again => join(how, &join(how, made, table), table),
        Shape::Before => join(how, made, &join(How::Outer, made, table)),
        Shape::Itself => join(how, &view.of(made), made),
    }
}

fn join(how: How, left: &Table, right: &Table) -> Table {
    match how {
        How::Inner => left.join(right, reduced),
        How::Left => left.left_join(right, |left, right| reduced(left, or_gone(right))),
        How::Outer => left.outer_join(right, |left, right| reduced(or_gone(left), or_gone(right))),
    }
}

/// The table with how often each row has changed.
fn counted(
    builder: &StreamsBuilder,
    table: &Table,
    n: i64,
    store: &str,
    kept: Materialized,
) -> Table {
    let counts = format!("{store}-counts");
    let serdes = (for_type::<String>(), for_type::<i64>());
    builder.add_state_store(KeyValueStore::builder(&counts, serdes.0, serdes.1));
    let name = counts.clone();
    table.transform_values(
        move |context| {
            let counts = context.store::<KeyValueStore<String, i64>>(&name)?;
            Ok(move |key: &String, value: Option<i64>, stores: &mut Stores<'_>| {
                let count = stores
                    .get(counts)
                    .update(key, |count, _| *count.insert(count.unwrap_or(0) + 1))?;
                if value == Some(-3) {
                    return Err(ProcessorError::record("no -3"));
                }
                Ok((count % n != 0).then(|| reduced(or_gone(value), count)))
            })
        },
        &[&counts],
        kept,
    )
}

/// What a table's groups come to, filtered.
fn grouped(table: &Table, n: i64, fold: Fold, kept: Materialized) -> Table {
    let grouped = table.group_by_with(
        move |key, value| (rekeyed(key.len() as i64 + value, n), *value),
        in_forms(Form::Plain, picky_if(fold)),
    );
    folded_table(&grouped, fold, kept).filter(|_, v| v % 7 != 0)
}

fn folded_table(grouped: &KGroupedTable<String, i64>, fold: Fold, kept: Materialized) -> Table {
    let unending = |value: i64, so_far: i64| so_far.wrapping_mul(17).wrapping_sub(value);
    match fold {
        Fold::Count => grouped.count(kept),
        Fold::Reduce => grouped.reduce(reduced, move |so_far, value| unending(value, so_far), kept),
        Fold::Aggregate | Fold::Picky | Fold::Top => {
            let subtract = move |_: &String, value: i64, so_far: i64| {
                (value.rem_euclid(5) != 4).then(|| unending(value, so_far))
            };
            grouped.aggregate_or_delete(|| 7, ending, subtract, kept)
        }
    }
}

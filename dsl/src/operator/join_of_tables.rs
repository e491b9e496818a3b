//! Joins the rows that two tables have under one key.
//!
//! # Guarantees
//!
//! - An update of either side is joined with what the other has forwarded of its row last, whatever their timestamps, and
//!   stands at the later of both times.
//! - Where no row can have been nor be, nothing is forwarded: an inner join needs the other side, a left join the left one.
//! - An update that is not the newest of its row is dropped and counted.

use crate::table::{Change, Lookup, OldValues, joined_row};
use headwater_core::{metrics::DropReason, record::Timestamp, serde::Data};
use headwater_engine::processor::{BatchProcessor, Context, Either, ProcessorError, Record, Rows};
use std::{marker::PhantomData, sync::Arc};

/// Which sides must have a row for there to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JoinKind {
    /// Both.
    Inner,
    /// The left one.
    Left,
    /// Either.
    Outer,
}

/// A side of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// Forwards the join of each update with the other side's row.
pub(crate) struct JoinOfTables<K, L, R, V, F> {
    pub(crate) kind: JoinKind,
    pub(crate) left: Box<dyn Lookup<K, L>>,
    pub(crate) right: Box<dyn Lookup<K, R>>,
    pub(crate) join: Arc<F>,
    pub(crate) old_values: OldValues,
    pub(crate) joined: PhantomData<fn() -> V>,
}

/// Joins updates of one side with the rows `found` of the other by `join`.
fn joined<K: Data, S: Data, O: Data, V: Data>(
    kind: JoinKind,
    side: Side,
    old_values: OldValues,
    rows: Rows<K, Change<S>>,
    other: &dyn Lookup<K, O>,
    join: impl Fn(Option<S>, Option<O>) -> Option<V>,
    context: &mut Context<'_, K, Change<V>>,
) -> Result<(), ProcessorError> {
    let keys: Vec<&K> = rows.iter().map(|row| &row.key).collect();
    let found = other.get_all(&keys, &mut context.stores())?;
    let mut results = Vec::with_capacity(rows.len());
    for (record, found) in rows.into_iter().zip(found) {
        context.begin(&record);
        let other = match found {
            Ok(other) => other,
            Err(why) => {
                context.check(Err(why.into()))?;
                continue;
            }
        };
        if !record.value.is_latest {
            context.drop_record(DropReason::Late);
            continue;
        }
        let (frame, key, Change { new, old, .. }) = record.split();
        let is_forwarded = match (kind, side) {
            (JoinKind::Inner, _) | (JoinKind::Left, Side::Right) => other.is_some(),
            (JoinKind::Left, Side::Left) | (JoinKind::Outer, _) => {
                new.is_some() || old.is_some() || other.is_some()
            }
        };
        if is_forwarded {
            let frame = no_earlier_than(frame, other.as_ref().map(|row| row.timestamp));
            let old = match old_values {
                OldValues::Sent => joined_row(old, other.clone(), &join),
                OldValues::Omitted => None,
            };
            let change = Change::latest(join(new, other.map(|row| row.value)), old);
            results.push(frame.map(|(), ()| (key, change)));
        }
    }
    context.forward_all(results);
    Ok(())
}

/// The same record, at that time if it is later.
fn no_earlier_than<K, V>(record: Record<K, V>, time: Option<Timestamp>) -> Record<K, V> {
    let timestamp = time.map_or(record.timestamp, |time| record.timestamp.max(time));
    record.with_timestamp(timestamp)
}

impl<K, L, R, V, F> BatchProcessor<Either<Rows<K, Change<L>>, Rows<K, Change<R>>>>
    for JoinOfTables<K, L, R, V, F>
where
    K: Data,
    L: Data,
    R: Data,
    V: Data,
    F: Fn(Option<L>, Option<R>) -> Option<V> + Send + Sync,
{
    type KOut = K;
    type VOut = Change<V>;

    fn process_batch(
        &mut self,
        input: Either<Rows<K, Change<L>>, Rows<K, Change<R>>>,
        context: &mut Context<'_, K, Change<V>>,
    ) -> Result<(), ProcessorError> {
        let Self { kind, left, right, join, old_values, .. } = self;
        match input {
            Either::Left(rows) => {
                let join = |left, right| join(left, right);
                joined(*kind, Side::Left, *old_values, rows, &**right, join, context)
            }
            Either::Right(rows) => {
                let join = |right, left| join(left, right);
                joined(*kind, Side::Right, *old_values, rows, &**left, join, context)
            }
        }
    }
}

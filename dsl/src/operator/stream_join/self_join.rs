//! Joins the records of a stream with each other, as if it were two streams, in one store.
//!
//! # Guarantees
//!
//! - A record comes first as a left one with those that were there, and then as a right one with them and itself: both times by
//!   the time of the other.
//! - Otherwise as the join of two streams; what is dropped is counted once.

use super::{
    Kept, Stored,
    input::{Given, Input, KeyAtHand},
    time::{Both, JoinTime, Side},
};
use crate::JoinWindows;
use headwater_core::{
    ports::state::Order,
    record::Timestamp,
    serde::{Data, SharedSerde},
};
use headwater_engine::{
    broken,
    node::Stamp,
    processor::{BatchProcessor, Context, InitContext, ProcessorError, Record, Rows},
    store::Timed,
};
use std::{any::Any, marker::PhantomData, ops::RangeInclusive, sync::Arc};

/// Joins a stream with itself: the values of both sides, `V` and `VO`, are of one type.
pub(crate) struct SelfJoin<K, V, VO, F> {
    join: Arc<F>,
    key: KeyAtHand<K>,
    rows: Input<K, V>,
    time: JoinTime,
    others: PhantomData<fn() -> VO>,
}

/// The value as that of the other side.
fn as_other<V: Data, VO: Data>(value: V) -> VO {
    let mut value = Some(value);
    let other = (&mut value as &mut dyn Any).downcast_mut::<Option<VO>>();
    other
        .and_then(Option::take)
        .unwrap_or_else(|| broken("both sides of a self-join have one type"))
}

impl<K: Data, V: Data, VO: Data, F> SelfJoin<K, V, VO, F> {
    pub(crate) fn open(
        join: &Arc<F>,
        windows: JoinWindows,
        (keys, stored): (&SharedSerde<K>, &Stored<V>),
        context: &mut InitContext<'_>,
    ) -> Result<Self, ProcessorError> {
        let defers = Both { left: false, right: false };
        Ok(Self {
            join: Arc::clone(join),
            key: KeyAtHand::new(keys),
            rows: Input::open(stored, context)?,
            time: JoinTime::new(windows, defers, context.is_time_carried()),
            others: PhantomData,
        })
    }

    /// What is there of the key at hand within `times`.
    fn fetch<V2: Data>(
        &self,
        times: RangeInclusive<Timestamp>,
        context: &mut Context<'_, K, V2>,
    ) -> Result<Vec<(V, Timestamp)>, ProcessorError> {
        let rows = context.store(self.rows.rows).by_bytes();
        let found = rows.fetch(&self.key.bytes, times, Order::Ascending)?;
        let found = found.map(|row| row.map(|Timed { time, value, .. }| (value.value, time)));
        Ok(found.collect::<Result<_, _>>()?)
    }

    fn join_row<V2: Data>(
        &mut self,
        record: Record<K, V>,
        out: &mut Rows<K, V2>,
        context: &mut Context<'_, K, V2>,
    ) -> Result<(), ProcessorError>
    where
        F: Fn(&K, Option<V>, Option<VO>) -> Option<V2>,
    {
        let Stamp { origin, timestamp, at } = record.stamp();
        let Record { key, value, headers, .. } = record;
        // As two streams would have it: the left side keeps the record before it looks at the right one.
        self.time.keep(Side::Left, timestamp);
        let rights = self.fetch(self.time.joined_by(Side::Left, timestamp), context)?;
        let is_kept = self.time.keep(Side::Right, timestamp);
        let times = self.time.joined_by(Side::Right, timestamp);
        let joins_itself = self.time.joins_at_once();
        let mut lefts = self.fetch(times, context)?;
        if joins_itself {
            let later = lefts.partition_point(|(_, time)| *time <= timestamp);
            lefts.insert(later, (value.clone(), timestamp));
        }
        if is_kept {
            let kept = Kept { value: value.clone(), deferred: None };
            if let Err(refused) = context.store(self.rows.rows).add(&key, timestamp, kept) {
                return context.check(Err(refused.into()));
            }
        }
        let mut push = |(left, right): (V, V), time: Timestamp| {
            let value = (self.join)(&key, Some(left), Some(as_other(right)));
            let stamp = Stamp { origin, timestamp: timestamp.max(time), at };
            let row = |value| Record::made(key.clone(), value, headers.clone(), stamp);
            out.extend(value.map(row));
        };
        rights.into_iter().for_each(|(right, time)| push((value.clone(), right), time));
        lefts.into_iter().for_each(|(left, time)| push((left, value.clone()), time));
        Ok(())
    }

    fn expire<V2: Data>(&self, context: &mut Context<'_, K, V2>) {
        let floor = self.time.kept_from(Side::Left);
        context.store(self.rows.rows).expire_below(floor);
    }
}

impl<K, V, VO, V2, F> BatchProcessor<Rows<K, V>> for SelfJoin<K, V, VO, F>
where
    K: Data,
    V: Data,
    VO: Data,
    V2: Data,
    F: Fn(&K, Option<V>, Option<VO>) -> Option<V2> + Send + Sync,
{
    type KOut = K;
    type VOut = V2;

    fn process_batch(
        &mut self,
        rows: Rows<K, V>,
        context: &mut Context<'_, K, V2>,
    ) -> Result<(), ProcessorError> {
        let mut out = Vec::with_capacity(rows.len());
        for record in rows {
            context.begin(&record);
            if self.time.is_carried() {
                self.time.advance(record.stamp().at);
            }
            if let Given::Keyed =
                self.key.take(&self.rows, (&record.key, &record.value), context)?
            {
                self.join_row(record, &mut out, context)?;
            }
        }
        self.expire(context);
        context.forward_all(out);
        Ok(())
    }

    fn advance(
        &mut self,
        time: Timestamp,
        context: &mut Context<'_, K, V2>,
    ) -> Result<(), ProcessorError> {
        self.time.advance(time);
        self.expire(context);
        Ok(())
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.time.save(out);
    }

    fn load(&mut self, saved: &[u8], _: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        let rest = self.time.load(saved)?;
        if rest.is_empty() { Ok(()) } else { Err(ProcessorError::Damaged) }
    }
}

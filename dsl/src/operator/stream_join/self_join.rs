//! Joins the records of a stream with each other, as if it were two streams, in one store.
//!
//! # Guarantees
//!
//! - A record comes first as a left one with those that were there, and then as a right one with them and itself: both times by
//!   the time of the other.
//! - Otherwise as the join of two streams; what is dropped is counted once.

use super::{
    Kept, SideStores,
    input::{Given, Input, KeyAtHand},
    matches,
    time::{Both, JoinTime, Side},
};
use crate::{
    JoinWindows,
    operator::backlog::{Backlog, Chunked, Output},
};
use headwater_core::{
    record::Timestamp,
    serde::{Data, SharedSerde},
};
use headwater_engine::{
    broken,
    node::{Progress, Stamp},
    processor::{BatchProcessor, Context, InitContext, ProcessorError, Record, Rows},
};
use std::{any::Any, marker::PhantomData, sync::Arc};

/// Joins a stream with itself: the values of both sides, `V` and `VO`, are of one type.
pub(crate) struct SelfJoin<K, V, VO, F> {
    join: Arc<F>,
    key: KeyAtHand<K>,
    rows: Input<K, V>,
    time: JoinTime,
    backlog: Backlog<K, V>,
    /// How far the first record that waits has been paired.
    pairing: Option<Pairing>,
    others: PhantomData<fn() -> VO>,
}

/// How far a record has been paired.
#[derive(Debug, Clone, Copy)]
struct Pairing {
    /// The side that it is of in this pass.
    side: Side,
    /// Time and sequence of the last row that it was paired with in this pass.
    after: (Timestamp, u32),
    /// Its own sequence, unless it was too old to be kept.
    own: Option<u32>,
}

/// Before all rows.
const NONE_YET: (Timestamp, u32) = (Timestamp::MIN, 0);

impl Pairing {
    fn save(self, out: &mut Vec<u8>) {
        let Self { side, after: (time, sequence), own } = self;
        out.push(u8::from(side == Side::Right));
        out.extend_from_slice(&time.to_be_bytes());
        out.extend_from_slice(&sequence.to_be_bytes());
        out.extend_from_slice(&own.map_or(-1, i64::from).to_be_bytes());
    }

    /// What was saved; nothing if nothing was left.
    fn load(saved: &[u8]) -> Option<Option<Self>> {
        let Some((is_right, rest)) = saved.split_first() else { return Some(None) };
        let (time, rest) = rest.split_first_chunk()?;
        let (sequence, own) = rest.split_first_chunk()?;
        let side = if *is_right == 1 { Side::Right } else { Side::Left };
        let after = (Timestamp::from_be_bytes(*time), u32::from_be_bytes(*sequence));
        let own = u32::try_from(i64::from_be_bytes(own.try_into().ok()?)).ok();
        Some(Some(Self { side, after, own }))
    }
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
        keys: &SharedSerde<K>,
        stored: &SideStores<V>,
        waiting: &str,
        context: &mut InitContext<'_>,
    ) -> Result<Self, ProcessorError> {
        let defers = Both { left: false, right: false };
        Ok(Self {
            join: Arc::clone(join),
            key: KeyAtHand::new(keys),
            rows: Input::open(stored, context)?,
            time: JoinTime::new(windows, defers, context),
            backlog: Backlog::open(waiting, context)?,
            pairing: None,
            others: PhantomData,
        })
    }

    /// Keeps the record at hand, if it is not too old for that: how far it has been paired, unless the store refuses it.
    fn keep<V2: Data>(
        &mut self,
        record: &Record<K, V>,
        context: &mut Context<'_, K, V2>,
    ) -> Result<Option<Pairing>, ProcessorError> {
        let timestamp = record.stamp().timestamp;
        self.time.keep(Side::Left, timestamp);
        let mut own = None;
        if self.time.keep(Side::Right, timestamp) {
            let kept = Kept { value: record.value.clone(), deferred: None };
            match context.store(self.rows.rows).add(&record.key, timestamp, kept) {
                Ok(sequence) => own = Some(sequence),
                Err(refused) => return context.check(Err(refused.into())).map(|()| None),
            }
        }
        Ok(Some(Pairing { side: Side::Left, after: NONE_YET, own }))
    }

    /// Pairs the record at hand, as far as there is room: where to go on, if that was not all.
    fn pair<V2: Data>(
        &self,
        record: &Record<K, V>,
        mut at: Pairing,
        out: &mut Output<K, V2>,
        context: &mut Context<'_, K, V2>,
    ) -> Result<Option<Pairing>, ProcessorError>
    where
        F: Fn(&K, Option<V>, Option<VO>) -> Option<V2>,
    {
        let Stamp { origin, timestamp, at: passed } = record.stamp();
        let Record { key, value, headers, .. } = record;
        let push = |left: V, right: V, time: Timestamp, out: &mut Output<K, V2>| {
            let made = (self.join)(key, Some(left), Some(as_other(right)));
            let stamp = Stamp { origin, timestamp: timestamp.max(time), at: passed };
            out.push_some(Record::made(key.clone(), (), headers.clone(), stamp), made);
        };
        loop {
            if out.is_full() {
                return Ok(Some(at));
            }
            // A record that is kept finds itself at its place; another one is older than all that are.
            let is_first = at.side == Side::Right && at.after == NONE_YET;
            if is_first && at.own.is_none() && self.time.joins_at_once() {
                push(value.clone(), value.clone(), timestamp, out);
                at.after = (timestamp, u32::MAX);
                continue;
            }
            let (room, times) = (out.room(), self.time.joined_by(at.side, timestamp));
            let rows = context.store(self.rows.rows).by_bytes();
            let found = matches(rows, &self.key.bytes, times, Some(at.after), room)?;
            let is_all = found.len() < room;
            for row in found {
                at.after = (row.time, row.sequence);
                let is_itself = row.time == timestamp && at.own == Some(row.sequence);
                match at.side {
                    Side::Left if is_itself => {}
                    Side::Left => push(value.clone(), row.value.value, row.time, out),
                    Side::Right => push(row.value.value, value.clone(), row.time, out),
                }
            }
            match (is_all, at.side) {
                (true, Side::Left) => at = Pairing { side: Side::Right, after: NONE_YET, ..at },
                (true, Side::Right) => return Ok(None),
                (false, _) => {}
            }
        }
    }
}

impl<K, V, VO, V2, F> Chunked<K, V, V2> for SelfJoin<K, V, VO, F>
where
    K: Data,
    V: Data,
    VO: Data,
    V2: Data,
    F: Fn(&K, Option<V>, Option<VO>) -> Option<V2>,
{
    fn backlog(&mut self) -> &mut Backlog<K, V> {
        &mut self.backlog
    }

    fn forward_due(
        &mut self,
        _: u32,
        _: &mut Output<K, V2>,
        _: &mut Context<'_, K, V2>,
    ) -> Result<bool, ProcessorError> {
        Ok(true)
    }

    fn take_record(
        &mut self,
        record: Record<K, V>,
        out: &mut Output<K, V2>,
        context: &mut Context<'_, K, V2>,
    ) -> Result<Option<Record<K, V>>, ProcessorError> {
        let before = self.pairing.take();
        if before.is_none() && self.time.is_carried() {
            self.time.advance(record.stamp().at);
        }
        let given = self.key.take(&self.rows, &record.key, &record.value, context)?;
        if given != Given::Keyed {
            return Ok(None);
        }
        let at = match before {
            Some(at) => Some(at),
            None => self.keep(&record, context)?,
        };
        let Some(at) = at else { return Ok(None) };
        self.pairing = self.pair(&record, at, out, context)?;
        Ok(self.pairing.is_some().then_some(record))
    }

    fn move_time(
        &mut self,
        time: Timestamp,
        _: &mut Context<'_, K, V2>,
    ) -> Result<(), ProcessorError> {
        self.time.advance(time);
        Ok(())
    }

    fn expire(&mut self, context: &mut Context<'_, K, V2>) -> Result<(), ProcessorError> {
        let floor = self.time.kept_from(Side::Left);
        context.store(self.rows.rows).expire_below(floor);
        Ok(())
    }

    fn goes_on_at_once(&self) -> bool {
        self.pairing.is_some()
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

    const MAY_ANSWER_MORE: bool = true;

    fn process_batch(
        &mut self,
        rows: Rows<K, V>,
        context: &mut Context<'_, K, V2>,
    ) -> Result<(), ProcessorError> {
        self.take_batch(rows.into_iter(), context)
    }

    fn advance(
        &mut self,
        time: Timestamp,
        context: &mut Context<'_, K, V2>,
    ) -> Result<(), ProcessorError> {
        self.advance_to(time, context)
    }

    fn progress(&self) -> Progress {
        self.backlog.progress()
    }

    fn resume(
        &mut self,
        rows_max: usize,
        context: &mut Context<'_, K, V2>,
    ) -> Result<(), ProcessorError> {
        self.go_on(rows_max, context)
    }

    fn pass_time(&self, time: Timestamp) -> Timestamp {
        self.backlog.first_at().map_or(time, |at| time.min(at))
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.time.save(out);
        if let Some(pairing) = self.pairing {
            pairing.save(out);
        }
    }

    fn load(&mut self, saved: &[u8], context: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        let pairing = Pairing::load(self.time.load(saved)?);
        self.pairing = pairing.ok_or(ProcessorError::Damaged)?;
        self.backlog.load(context)
    }
}

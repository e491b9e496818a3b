//! Keeps which left rows have which foreign key, and answers with the right row: when they register, and when it changes.
//!
//! # Guarantees
//!
//! - A registration is answered with the larger of both timestamps, and its own headers; a change of the right row with the
//!   change's timestamp and headers.
//! - A change is told to all subscribers of its key, in the order of their keys' bytes. At most [`TOLD_MAX`] are told with a
//!   batch; where there are more, it and the changes after it wait in a store, and are told in chunks.

use super::message::{Found, Instruction, Registration, Response, Subscriber};
use crate::{
    operator::Held,
    table::{Change, Lookup},
};
use headwater_core::{
    metrics::DropReason,
    ports::state::{Order, StateError},
    record::Timestamp,
    serde::{Data, SharedSerde},
};
use headwater_engine::{
    broken,
    node::{NO_ORIGIN, Progress, Stamp},
    processor::{BatchProcessor, Context, Either, InitContext, ProcessorError, Record, Rows},
    store::{KeyValueStore, Scanned, StoreKey, ValueAndTimestamp},
};
use std::{ops::Bound, sync::Arc};

/// The most subscribers that are told with a batch.
const TOLD_MAX: usize = 1_024;

/// The stores of the right side.
#[derive(Clone)]
pub(crate) struct RightStores {
    /// Subscribers by foreign key and left key.
    pub(crate) subscribers: Arc<str>,
    /// Changes of right rows that wait, by a number and their key.
    pub(crate) waiting: Arc<str>,
}

/// Registrations at the first port, changes of right rows at the second.
pub(crate) type RightInput<FK, FV> = Either<Rows<Option<FK>, Registration>, Rows<FK, Change<FV>>>;

type Responses<'a, FV> = Context<'a, Vec<u8>, Response<FV>>;

/// Answers left rows.
pub(crate) struct Respond<FK, FV> {
    right: Box<dyn Lookup<FK, FV>>,
    foreign_keys: SharedSerde<FK>,
    subscribers: StoreKey<KeyValueStore<Vec<u8>, Subscriber>>,
    waiting: StoreKey<KeyValueStore<Vec<u8>, Held<FV>>>,
    /// How many changes were ever put into the store of those that wait, and how many of them were sent to all their subscribers.
    put: i64,
    sent: i64,
    /// The last subscriber that was told of the first change that waits.
    after: Option<Vec<u8>>,
    /// The operator time of that change.
    at: Timestamp,
}

/// A change on its way to subscribers.
struct ChangedRow<FV> {
    frame: Record<(), ()>,
    new: Option<FV>,
}

impl<FK: Data, FV: Data> Respond<FK, FV> {
    pub(crate) fn open(
        right: Box<dyn Lookup<FK, FV>>,
        foreign_keys: &SharedSerde<FK>,
        stores: &RightStores,
        context: &InitContext<'_>,
    ) -> Result<Self, ProcessorError> {
        Ok(Self {
            right,
            foreign_keys: SharedSerde::clone(foreign_keys),
            subscribers: context.store(&stores.subscribers)?,
            waiting: context.store(&stores.waiting)?,
            put: 0,
            sent: 0,
            after: None,
            at: Timestamp::MIN,
        })
    }

    /// Takes registrations.
    fn register(
        &mut self,
        rows: Rows<Option<FK>, Registration>,
        context: &mut Responses<'_, FV>,
    ) -> Result<(), ProcessorError> {
        let keys: Vec<&FK> = rows.iter().filter_map(|row| row.key.as_ref()).collect();
        let mut found = self.right.get_all(&keys, &mut context.stores())?.into_iter();
        for row in rows {
            context.begin(&row);
            let right = if row.key.is_some() { found.next() } else { None };
            let kept = self.keep(&row, context);
            match (right.transpose(), kept) {
                (Ok(right), Ok(())) => answer(row, right.flatten(), context),
                (Err(why), _) => context.check(Err(why.into()))?,
                (_, Err(why)) => context.check(Err(why))?,
            }
        }
        Ok(())
    }

    /// Keeps a subscription, or no longer.
    fn keep(
        &self,
        row: &Record<Option<FK>, Registration>,
        context: &mut Responses<'_, FV>,
    ) -> Result<(), ProcessorError> {
        let Some(foreign_key) = &row.key else { return Ok(()) };
        let Registration { instruction, left_key, subscriber } = &row.value;
        let key = [&self.prefix(foreign_key)?[..], left_key].concat();
        let subscriber = match instruction {
            Instruction::Delete | Instruction::DeleteAndPropagate => None,
            Instruction::PropagateIfFound | Instruction::Propagate => Some(*subscriber),
        };
        Ok(context.store(self.subscribers).put(&key, subscriber, row.timestamp)?)
    }

    /// What the keys of a right row's subscribers begin with: the length of its key, and the key.
    fn prefix(&self, foreign_key: &FK) -> Result<Vec<u8>, ProcessorError> {
        let mut bytes = vec![0; 4];
        let written = self.foreign_keys.serialize_key(foreign_key, &mut bytes);
        let is_key = written.map_err(|why| ProcessorError::Record {
            kind: "SerializationError",
            cause: why.to_string(),
        })?;
        let length = u32::try_from(bytes.len() - 4).ok().filter(|_| is_key);
        let length = length.ok_or(ProcessorError::NullKey)?.to_be_bytes();
        bytes.iter_mut().zip(length).for_each(|(byte, length)| *byte = length);
        Ok(bytes)
    }

    /// Takes changes of right rows.
    fn change(
        &mut self,
        rows: Rows<FK, Change<FV>>,
        context: &mut Responses<'_, FV>,
    ) -> Result<(), ProcessorError> {
        let mut left = TOLD_MAX;
        for row in rows {
            context.begin(&row);
            let (frame, key, change) = row.split();
            if !change.is_latest {
                context.drop_record(DropReason::Late);
                continue;
            }
            let row = ChangedRow { frame, new: change.new };
            let taken = self.prefix(&key).map(|prefix| (prefix, row));
            match taken {
                Err(why) => context.check(Err(why))?,
                Ok((prefix, row)) => {
                    if self.progress() == Progress::More
                        || !self.tell(&prefix, &row, &mut left, context)?
                    {
                        let waits = self.wait(&prefix, row, context);
                        context.check(waits)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Tells the subscribers of a change, after the last that was told, at most `left`. Whether that were all.
    fn tell(
        &mut self,
        prefix: &[u8],
        ChangedRow { frame, new }: &ChangedRow<FV>,
        left: &mut usize,
        context: &mut Responses<'_, FV>,
    ) -> Result<bool, ProcessorError> {
        let from = match &self.after {
            Some(after) => Bound::Excluded(&after[..]),
            None => Bound::Included(prefix),
        };
        let store = context.store(self.subscribers).by_bytes();
        let found = store.scan((from, Bound::Unbounded), Order::Ascending)?;
        let is_subscriber = |entry: &Result<Scanned<Subscriber>, StateError>| {
            entry.as_ref().map_or(true, |entry| entry.key.starts_with(prefix))
        };
        let found: Vec<_> =
            found.take_while(is_subscriber).take(*left).collect::<Result<_, _>>()?;
        let is_all = found.len() < *left;
        *left -= found.len();
        self.after = found.last().map(|last| last.key.clone()).or_else(|| self.after.take());
        self.after = self.after.take().filter(|_| !is_all);
        for Scanned { key, value: ValueAndTimestamp { value: subscriber, .. } } in found {
            let left_key = key.get(prefix.len()..).unwrap_or_default().to_vec();
            let response = Response { subscriber, row: new.clone().into() };
            context.forward(frame.clone().map(|(), ()| (left_key, response)));
        }
        Ok(is_all)
    }

    /// Puts a change into the store of those that wait.
    fn wait(
        &mut self,
        prefix: &[u8],
        ChangedRow { frame, new }: ChangedRow<FV>,
        context: &mut Responses<'_, FV>,
    ) -> Result<(), ProcessorError> {
        let Stamp { timestamp, at, .. } = frame.stamp();
        let numbered = [&self.put.to_be_bytes(), prefix].concat();
        let held = Held::new(new, frame.headers, at);
        context.store(self.waiting).put(&numbered, Some(held), timestamp)?;
        self.at = if self.put == self.sent { at } else { self.at };
        self.put += 1;
        Ok(())
    }

    /// Tells of the changes that wait, at most `left` subscribers.
    fn tell_waiting(
        &mut self,
        mut left: usize,
        context: &mut Responses<'_, FV>,
    ) -> Result<(), ProcessorError> {
        while left > 0 && self.sent < self.put {
            let from = self.sent.to_be_bytes();
            let store = context.store(self.waiting).by_bytes();
            let range = (Bound::Included(&from[..]), Bound::Unbounded);
            let Some(first) = store.scan(range, Order::Ascending)?.next().transpose()? else {
                broken("changes that wait are in their store")
            };
            let Scanned { key: numbered, value: ValueAndTimestamp { value: held, timestamp } } =
                first;
            let prefix = numbered.get(size_of_val(&from)..).unwrap_or_default();
            self.at = held.at();
            let (new, headers) = held.into_parts();
            let stamp = Stamp { origin: NO_ORIGIN, timestamp, at: self.at };
            let row = ChangedRow { frame: Record::made((), (), headers, stamp), new };
            if self.tell(prefix, &row, &mut left, context)? {
                context.store(self.waiting).put(&numbered, None, timestamp)?;
                self.sent += 1;
            }
        }
        Ok(())
    }
}

/// Answers a registration, as it asks for.
fn answer<FK, FV: Data>(
    row: Record<Option<FK>, Registration>,
    right: Option<ValueAndTimestamp<FV>>,
    context: &mut Responses<'_, FV>,
) {
    let timestamp =
        right.as_ref().map_or(row.timestamp, |right| right.timestamp.max(row.timestamp));
    let (frame, _, Registration { instruction, left_key, subscriber }) = row.split();
    let row = match (instruction, right) {
        (Instruction::Delete, _) => return,
        (Instruction::DeleteAndPropagate, _) | (Instruction::Propagate, None) => Found::None,
        (Instruction::PropagateIfFound, None) => Found::StillNone,
        (_, Some(right)) => Found::Row(right.value),
    };
    let response = Response { subscriber, row };
    context.forward(frame.map(|(), ()| (left_key, response)).with_timestamp(timestamp));
}

impl<FK: Data, FV: Data> BatchProcessor<RightInput<FK, FV>> for Respond<FK, FV> {
    type KOut = Vec<u8>;
    type VOut = Response<FV>;

    const MAY_ANSWER_MORE: bool = true;

    fn process_batch(
        &mut self,
        input: RightInput<FK, FV>,
        context: &mut Responses<'_, FV>,
    ) -> Result<(), ProcessorError> {
        match input {
            Either::Left(rows) => self.register(rows, context),
            Either::Right(rows) => self.change(rows, context),
        }
    }

    fn resume(
        &mut self,
        rows_max: usize,
        context: &mut Responses<'_, FV>,
    ) -> Result<(), ProcessorError> {
        self.tell_waiting(rows_max, context)
    }

    fn progress(&self) -> Progress {
        if self.sent < self.put { Progress::More } else { Progress::Done }
    }

    fn pass_time(&self, time: Timestamp) -> Timestamp {
        if self.sent < self.put { time.min(self.at) } else { time }
    }

    fn holds_rows(&self) -> bool {
        self.sent < self.put
    }

    fn save(&self, out: &mut Vec<u8>) {
        let numbers = [self.put, self.sent, self.at];
        numbers.iter().for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
        out.extend(self.after.iter().flatten());
    }

    fn load(&mut self, saved: &[u8], _: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        let mut saved = saved;
        for number in [&mut self.put, &mut self.sent, &mut self.at] {
            let (first, rest) = saved.split_first_chunk().ok_or(ProcessorError::Damaged)?;
            (*number, saved) = (i64::from_be_bytes(*first), rest);
        }
        // A subscriber's key is never empty.
        self.after = (!saved.is_empty()).then(|| saved.to_vec());
        Ok(())
    }
}

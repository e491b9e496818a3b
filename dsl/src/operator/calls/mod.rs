//! Makes a call for each row, several at a time, and forwards what they answer in the order of the rows.
//!
//! # Guarantees
//!
//! - A row lies in a store from when it is taken until what its call answered is forwarded; both belong to one commit. After
//!   a crash its call is made again.
//! - Rows come out in the order in which they came in, with their time: how long a call takes never shows in a result.
//! - At most so many calls are under way; rows above that wait in the store, and no more are taken before there are fewer.
//! - Where what lies below is touched on another way too, say a table that is joined there, a row comes out after all else that
//!   the rows taken with it lead to, however soon it is answered, and no more are taken before it is out.

mod held;

pub(crate) use held::HeldCallSerde;

use headwater_core::{
    dead_letter::CALL_ERROR,
    record::Timestamp,
    serde::{Data, SharedSerde},
};
use headwater_engine::{
    calls::{Answer, Caller},
    node::{HeldBack, HeldRecord, NO_ORIGIN, Progress, Stamp},
    processor::{BatchProcessor, Context, InitContext, ProcessorError, Record, Rows},
    store::{KeyValueStore, StoreKey},
};
use held::HeldCall;
use std::{collections::VecDeque, sync::Arc};

/// What a call answers: rows, or why there are none.
pub(crate) type CallResult<K, V> = Result<Rows<K, V>, String>;

/// What such an operator is made from.
pub(crate) struct CallSettings<K, V> {
    pub(crate) store: Arc<str>,
    pub(crate) calls_max: usize,
    pub(crate) keys: SharedSerde<K>,
    pub(crate) values: SharedSerde<V>,
}

/// Makes calls; `call` gives the future of one, which answers rows.
pub(crate) struct MakeCalls<K, V, K2, V2, F> {
    call: Arc<F>,
    settings: Arc<CallSettings<K, V>>,
    rows: StoreKey<KeyValueStore<i64, HeldCall<K, V>>>,
    caller: Caller,
    /// The calls under way and those answered, in the order of their rows: the first is of the row `first`.
    calls: VecDeque<Answer<CallResult<K2, V2>>>,
    /// The oldest row that is held, by its number.
    first: i64,
    /// The number of the next row.
    next: i64,
    /// The operator time that the oldest row carries.
    first_at: Timestamp,
    /// The places of the rows that are held in the run at hand, as far as they come from that.
    places: VecDeque<u32>,
    /// Whether it shows below when a row comes out.
    meets_others: bool,
    /// Whether its input is complete for now.
    has_ended: bool,
}

impl<K, V, K2, V2, F, Fut> MakeCalls<K, V, K2, V2, F>
where
    K: Data,
    V: Data,
    K2: Data,
    V2: Data,
    F: Fn(Record<K, V>) -> Fut,
    Fut: Future<Output = CallResult<K2, V2>> + Send + 'static,
{
    pub(crate) fn open(
        call: &Arc<F>,
        settings: &Arc<CallSettings<K, V>>,
        context: &mut InitContext<'_>,
    ) -> Result<Self, ProcessorError> {
        let rows: StoreKey<KeyValueStore<i64, HeldCall<K, V>>> = context.store(&settings.store)?;
        // Those of the last commit: there are no more than calls and what came with one batch.
        let held = context.store_mut(rows).all()?.collect::<Result<Vec<_>, _>>()?;
        let first = held.first().map_or(0, |(number, _)| *number);
        let next = held.last().map_or(first, |(number, _)| number + 1);
        Ok(Self {
            call: Arc::clone(call),
            settings: Arc::clone(settings),
            rows,
            caller: context.caller(),
            calls: VecDeque::new(),
            first,
            next,
            first_at: held.first().map_or(Timestamp::MAX, |(_, row)| row.value.at),
            places: (first..next).map(|_| NO_ORIGIN).collect(),
            meets_others: context.meets_others(),
            has_ended: false,
        })
    }

    fn holds_any(&self) -> bool {
        self.first < self.next
    }

    fn calls_end(&self) -> i64 {
        self.first + i64::try_from(self.calls.len()).unwrap_or(i64::MAX)
    }

    fn may_call(&self) -> bool {
        self.calls.len() < self.settings.calls_max && self.calls_end() < self.next
    }

    /// Keeps a row, unless there is no place for it.
    fn keep(
        &mut self,
        row: Record<K, V>,
        context: &mut Context<'_, K2, V2>,
    ) -> Result<(), ProcessorError> {
        context.begin(&row);
        let metadata = context.record_metadata();
        let Stamp { origin, timestamp, at } = row.stamp();
        let Record { key, value, headers, .. } = row;
        let headers = headers.map(|headers| *headers).unwrap_or_default();
        let held = HeldCall { key, value, headers, at, metadata };
        match context.store(self.rows).put(&self.next, Some(held), timestamp) {
            Ok(()) => {
                if !self.holds_any() {
                    self.first_at = at;
                }
                self.next += 1;
                self.places.push_back(origin);
                Ok(())
            }
            Err(refused) => context.check(Err(refused.into())),
        }
    }

    /// The row of this number, which is held.
    fn row(
        &self,
        number: i64,
        context: &mut Context<'_, K2, V2>,
    ) -> Result<(HeldCall<K, V>, Timestamp), ProcessorError> {
        let held = context.store(self.rows).get(&number)?.ok_or(ProcessorError::Damaged)?;
        Ok((held.value, held.timestamp))
    }

    /// Makes the calls that may be under way.
    fn make_calls(&mut self, context: &mut Context<'_, K2, V2>) -> Result<(), ProcessorError> {
        while self.may_call() {
            let (HeldCall { key, value, headers, at, .. }, timestamp) =
                self.row(self.calls_end(), context)?;
            let headers = (!headers.is_empty()).then(|| Box::new(headers));
            let stamp = Stamp { origin: NO_ORIGIN, timestamp, at };
            let call = (self.call)(Record::made(key, value, headers, stamp));
            self.calls.push_back(self.caller.call(call));
        }
        Ok(())
    }

    /// Takes the answer to the oldest call, and its row out of the store.
    fn take_answer(
        &mut self,
        answer: Answer<CallResult<K2, V2>>,
        out: &mut Rows<K2, V2>,
        context: &mut Context<'_, K2, V2>,
    ) -> Result<(), ProcessorError> {
        match answer.take().ok_or(ProcessorError::CallLost)? {
            Ok(rows) => {
                let origin = self.places.front().copied().unwrap_or(NO_ORIGIN);
                let placed = |row: Record<K2, V2>| {
                    let stamp = Stamp { origin, ..row.stamp() };
                    let Record { key, value, headers, .. } = row;
                    Record::made(key, value, headers, stamp)
                };
                out.extend(rows.into_iter().map(placed));
            }
            Err(cause) => {
                let (row, timestamp) = self.row(self.first, context)?;
                let held = self.letter(row, timestamp);
                context.reject_held(held, CALL_ERROR, cause);
            }
        }
        context.store(self.rows).put(&self.first, None, 0)?;
        self.places.pop_front();
        self.first += 1;
        if self.holds_any() {
            self.first_at = self.row(self.first, context)?.0.at;
        } else {
            // Numbers begin anew, so that keys are used again.
            (self.first, self.next, self.first_at) = (0, 0, Timestamp::MAX);
        }
        Ok(())
    }

    fn letter(&self, row: HeldCall<K, V>, timestamp: Timestamp) -> HeldRecord {
        let HeldCall { key, value, headers, metadata, .. } = row;
        let (mut key_bytes, mut value_bytes) = (Vec::new(), Vec::new());
        // They were written to the store: what cannot be written here is left out.
        let has_key = self.settings.keys.serialize_key(&key, &mut key_bytes).unwrap_or(false);
        let has_value = self.settings.values.serialize(&value, &mut value_bytes).unwrap_or(false);
        HeldRecord {
            metadata,
            timestamp,
            key: has_key.then_some(key_bytes),
            value: has_value.then_some(value_bytes),
            headers,
        }
    }

    /// Forwards what has been answered, up to about `rows_max` rows, and makes the calls that may be made then.
    ///
    /// One that was answered without a row is the last: what lies below is told its time before the next comes out, as if that
    /// had been answered later. But the rows of the run at hand, which tell their place in it, come out with that.
    fn go_on(
        &mut self,
        rows_max: usize,
        context: &mut Context<'_, K2, V2>,
    ) -> Result<(), ProcessorError> {
        let mut out = Vec::new();
        self.make_calls(context)?;
        while out.len() < rows_max
            && let Some(answer) = self.calls.pop_front_if(|answer| answer.is_there())
        {
            let is_of_run = self.places.front().is_some_and(|place| *place != NO_ORIGIN);
            let before = out.len();
            self.take_answer(answer, &mut out, context)?;
            self.make_calls(context)?;
            if out.len() == before && (self.meets_others || !is_of_run) {
                break;
            }
        }
        context.forward_all(out);
        Ok(())
    }
}

impl<K, V, K2, V2, F, Fut> BatchProcessor<Rows<K, V>> for MakeCalls<K, V, K2, V2, F>
where
    K: Data,
    V: Data,
    K2: Data,
    V2: Data,
    F: Fn(Record<K, V>) -> Fut + Send + Sync,
    Fut: Future<Output = CallResult<K2, V2>> + Send + 'static,
{
    type KOut = K2;
    type VOut = V2;

    const MAKES_CALLS: bool = true;
    const MAY_ANSWER_MORE: bool = true;

    fn process_batch(
        &mut self,
        rows: Rows<K, V>,
        context: &mut Context<'_, K2, V2>,
    ) -> Result<(), ProcessorError> {
        self.has_ended = false;
        rows.into_iter().try_for_each(|row| self.keep(row, context))?;
        if self.meets_others {
            return self.make_calls(context);
        }
        self.go_on(usize::MAX, context)?;
        // What is left comes out with another run, or none.
        self.places.iter_mut().for_each(|place| *place = NO_ORIGIN);
        Ok(())
    }

    fn end(&mut self, _: &mut Context<'_, K2, V2>) -> Result<(), ProcessorError> {
        self.has_ended = true;
        Ok(())
    }

    fn progress(&self) -> Progress {
        let is_answered = self.calls.front().is_some_and(Answer::is_there);
        if is_answered || self.may_call() {
            Progress::More
        } else if self.calls.len() >= self.settings.calls_max
            || (self.holds_any() && (self.has_ended || self.meets_others))
        {
            Progress::Waits
        } else {
            Progress::Done
        }
    }

    fn resume(
        &mut self,
        rows_max: usize,
        context: &mut Context<'_, K2, V2>,
    ) -> Result<(), ProcessorError> {
        self.go_on(rows_max, context)
    }

    fn pass_time(&self, time: Timestamp) -> Timestamp {
        time.min(self.first_at)
    }

    fn holds_rows(&self) -> bool {
        self.holds_any()
    }

    fn held_back(&self) -> Option<HeldBack> {
        let rows = u64::try_from(self.next - self.first).unwrap_or_default();
        (rows > 0).then_some(HeldBack::Calls { rows })
    }
}

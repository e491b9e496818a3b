//! Processors as a user writes them: the ones whose results could show how large a batch was.

use headwater_core::{record::Timestamp, serde::Data};
use headwater_engine::{
    processor::{
        Cancellable, ChildPort, Context, FixedKey, FixedKeyContext, FixedKeyProcessor,
        FixedKeyRecord, InitContext, Processor, ProcessorError, PunctuationType, Record,
    },
    store::{KeyValueStore, StoreKey, Timers},
};
use proptest::prelude::*;
use std::time::Duration;

/// What a pipeline's processor does with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Writes the task's stream time into the value.
    StreamTime,
    /// Refuses every value that can be divided by this.
    Fail(i64),
    /// Takes event time from the value.
    Retime,
    /// Forwards a value that differs from its key's last one.
    Last,
    /// Counts, and tells the count whenever this many ms of stream time have passed.
    Tell(u64),
    /// Counts, and tells the count every 10 ms.
    TellByClock,
    /// Has a timer of the record's key fire so many ms after it, or takes back one that would then, by the value.
    Remind(u64),
    /// Forwards values that can be divided by this to a child port.
    Aside(i64),
}

pub(crate) struct Doer {
    deed: Deed,
    last: StoreKey<KeyValueStore<String, i64>>,
    timers: Option<Timers<String>>,
    aside: Option<ChildPort<String, i64>>,
}

/// What a processor's parts are called.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) store: String,
    pub(crate) timers: String,
    pub(crate) port: String,
}

impl Doer {
    pub(crate) fn new(
        deed: Deed,
        names: &Names,
        context: &mut InitContext<'_>,
    ) -> Result<Self, ProcessorError> {
        let (mut timers, mut aside) = (None, None);
        match deed {
            Deed::Remind(_) => timers = Some(context.timers(&names.timers)?),
            Deed::Aside(_) => aside = Some(context.child_port(&names.port)?),
            Deed::Tell(ms) => {
                context.schedule(Duration::from_millis(ms), PunctuationType::StreamTime);
            }
            Deed::TellByClock => {
                context.schedule(Duration::from_millis(10), PunctuationType::WallClockTime);
            }
            Deed::StreamTime | Deed::Fail(_) | Deed::Retime | Deed::Last => {}
        }
        Ok(Self { deed, last: context.store(&names.store)?, timers, aside })
    }

    /// Adds one to what the store holds under the key of counts, and gives it.
    fn count(
        &self,
        by: i64,
        context: &mut Context<'_, impl Data, i64>,
    ) -> Result<i64, ProcessorError> {
        let store = context.store(self.last);
        let key = "count".to_owned();
        let count = store.get(&key)?.map_or(0, |stored| stored.value) + by;
        store.put(&key, Some(count), 0)?;
        Ok(count)
    }
}

impl Doer {
    /// Takes a record under `key`, whatever form of it the record has.
    fn take<K: Data>(
        &self,
        key: String,
        record: Record<K, i64>,
        context: &mut Context<'_, K, i64>,
    ) -> Result<(), ProcessorError> {
        let (value, timestamp) = (record.value, record.timestamp);
        match self.deed {
            Deed::StreamTime => {
                let time = context.current_stream_time();
                context.forward(record.with_value(time.wrapping_mul(10).wrapping_add(value % 10)));
            }
            Deed::Fail(n) if value.rem_euclid(n) == 0 => {
                return Err(ProcessorError::record(format!("refused {value}")));
            }
            Deed::Fail(_) => context.forward(record),
            Deed::Retime => context.forward(record.with_timestamp(value.rem_euclid(120))),
            Deed::Last => {
                let store = context.store(self.last);
                if store.get(&key)?.map(|stored| stored.value) != Some(value) {
                    store.put(&key, Some(value), timestamp)?;
                    context.forward(record);
                }
            }
            Deed::Tell(_) | Deed::TellByClock => {
                self.count(1, context)?;
                context.forward(record);
            }
            Deed::Remind(ms) => {
                let timers = self.timers.expect("they are there for it");
                let time = timestamp.saturating_add_unsigned(ms);
                if value % 3 == 0 {
                    context.cancel_timer(timers, &key, time)?;
                } else {
                    context.schedule_timer(timers, &key, time)?;
                }
                context.forward(record);
            }
            Deed::Aside(n) if value.rem_euclid(n) == 0 => {
                let port = self.aside.expect("it is there for it");
                context.forward_to_port(port, record.with_key(key));
            }
            Deed::Aside(_) => context.forward(record),
        }
        Ok(())
    }
}

/// The same for records that keep their keys; what is told by time is then told to the store alone.
pub(crate) struct FixedDoer(pub(crate) Doer);

impl FixedKeyProcessor<String, i64> for FixedDoer {
    type VOut = i64;

    fn process(
        &mut self,
        record: FixedKeyRecord<String, i64>,
        context: &mut FixedKeyContext<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        self.0.take((*record.key).clone(), record, context)
    }

    fn on_timer(
        &mut self,
        key: FixedKey<String>,
        time: Timestamp,
        context: &mut FixedKeyContext<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        let now = context.current_stream_time();
        context.forward(Record::new(key, now, time));
        Ok(())
    }

    fn punctuate(
        &mut self,
        _: Cancellable,
        _: Timestamp,
        context: &mut FixedKeyContext<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        self.0.count(1, context).map(drop)
    }
}

impl Processor<String, i64> for Doer {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        self.take(record.key.clone(), record, context)
    }

    fn on_timer(
        &mut self,
        key: String,
        time: Timestamp,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        let now = context.current_stream_time();
        context.forward(Record::new(key, now, time));
        Ok(())
    }

    fn punctuate(
        &mut self,
        _: Cancellable,
        time: Timestamp,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        let count = self.count(0, context)?;
        context.forward(Record::new("told".to_owned(), count, time));
        Ok(())
    }
}

pub(crate) fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        Just(Deed::StreamTime),
        (2..5_i64).prop_map(Deed::Fail),
        Just(Deed::Retime),
        Just(Deed::Last),
        (1..60_u64).prop_map(Deed::Tell),
        Just(Deed::TellByClock),
        (1..60_u64).prop_map(Deed::Remind),
        (2..4_i64).prop_map(Deed::Aside),
    ]
}

//! A processor called by hand: all that it does with its context can be looked at.

use headwater_core::{metrics::DropReason, serde::for_type};
use headwater_engine::{
    processor::{
        Cancellable, Context, InitContext, Processor, ProcessorError, PunctuationType, Record,
    },
    store::{KeyValueStore, SessionStore, StoreKey, WindowStore},
};
use headwater_testkit::{CapturedPunctuator, MockProcessorContext};
use std::time::Duration;

type Counts = KeyValueStore<String, i64>;

/// Counts by key; every tenth goes to `tenth`; two punctuations, of which the first is cancelled by a record called `stop`.
struct Count {
    counts: StoreKey<Counts>,
    flush: Cancellable,
}

impl Count {
    fn new(context: &mut InitContext<'_>) -> Result<Self, ProcessorError> {
        let flush = context.schedule(Duration::from_millis(10), PunctuationType::StreamTime);
        context.schedule(Duration::from_secs(1), PunctuationType::WallClockTime);
        Ok(Self { counts: context.store("counts")?, flush })
    }
}

impl Processor<String, i64> for Count {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        match record.key.as_str() {
            "stop" => context.cancel(self.flush),
            "drop" => context.drop_record(DropReason::Other),
            _ => {
                let counts = context.store(self.counts);
                let count = counts.get(&record.key)?.map_or(0, |it| it.value) + record.value;
                counts.put(&record.key, Some(count), record.timestamp)?;
                let record = record.with_value(count);
                if count % 10 == 0 {
                    context.forward_to("tenth", record);
                } else {
                    context.forward(record);
                }
            }
        }
        Ok(())
    }
}

fn call(
    mock: &mut MockProcessorContext<String, i64>,
    count: &mut Count,
    key: &str,
    value: i64,
) -> Result<(), ProcessorError> {
    mock.call(|context| count.process(Record::new(key.into(), value, 5), context))
}

#[test]
fn forwards_stores_drops_and_punctuators_are_seen_and_reset() {
    let mut mock = MockProcessorContext::with_children(&["all", "tenth"]);
    mock.add_state_store(&Counts::builder("counts", for_type(), for_type())).unwrap();
    let mut count = mock.init(Count::new).unwrap();
    for (key, value) in [("a", 4), ("a", 6), ("b", 1), ("drop", 1)] {
        call(&mut mock, &mut count, key, value).unwrap();
    }
    let seen: Vec<_> = mock
        .forwarded()
        .iter()
        .map(|it| (it.record.key.as_str(), it.record.value, it.child_name.as_deref()))
        .collect();
    assert_eq!(seen, [("a", 4, None), ("a", 10, Some("tenth")), ("b", 1, None)]);
    assert_eq!(mock.forwarded_to("all").count(), 2);
    assert_eq!(mock.forwarded_to("tenth").count(), 3);
    assert_eq!(mock.dropped_records(), 1);
    mock.reset_forwards();
    assert!(mock.forwarded().is_empty());
    let counts = mock.state_store::<Counts>("counts").unwrap();
    assert_eq!(counts.get(&"a".to_owned()).unwrap().unwrap().value, 10);

    let [flush, wall] = mock.scheduled_punctuators()[..] else { panic!("it scheduled two") };
    assert_eq!(flush.kind, PunctuationType::StreamTime);
    let (interval, kind) = (Duration::from_secs(1), PunctuationType::WallClockTime);
    assert_eq!(wall, CapturedPunctuator { which: wall.which, interval, kind });
    call(&mut mock, &mut count, "stop", 0).unwrap();
    assert_eq!(mock.scheduled_punctuators(), [wall], "the other is cancelled");

    assert!(!mock.committed());
    let commit = |context: &mut Context<'_, String, i64>| {
        context.commit();
        Ok(())
    };
    mock.call(commit).unwrap();
    assert!(mock.committed());
    mock.reset_commit();
    assert!(!mock.committed());
}

#[test]
fn what_the_processor_asks_of_its_surroundings_is_what_the_test_says() {
    let mut mock = MockProcessorContext::<String, i64>::new();
    let told =
        mock.call(|it| Ok((it.task_id().to_string(), it.application_id().to_owned()))).unwrap();
    assert_eq!(told, ("0_0".to_owned(), "test".to_owned()));
    let stores = [
        WindowStore::<String, i64>::builder("windows", for_type(), for_type()),
        SessionStore::<String, i64>::builder(
            "sessions",
            for_type(),
            for_type(),
            Duration::from_secs(1),
        ),
    ];
    for store in &stores {
        mock.add_state_store(store).unwrap();
    }
    assert!(mock.state_store::<WindowStore<String, i64>>("windows").is_some());
    assert!(mock.state_store::<SessionStore<String, i64>>("sessions").is_some());
    assert!(mock.state_store::<Counts>("windows").is_none(), "of another type");
    let missing = mock.call(|it| it.state_store::<Counts>("counts").map(|_| ()));
    assert!(matches!(missing, Err(ProcessorError::NotConnected { .. })));
    assert!(mock.init(Count::new).is_err(), "its store is not connected");
}

//! Global stores that a processor of the user's fills: what it finds there, and what is there once a part is built again.

use headwater_core::{
    memory::{MemoryBudget, Share},
    metrics::DropReason,
    ports::log::{Append, Commit, CommitTicket, Log, TopicSpec},
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition, murmur2_partition},
    serde::for_type,
};
use headwater_dsl::StreamsBuilder;
use headwater_engine::{
    processor::{
        Context, Counter, InitContext, Processor, ProcessorError, PunctuationType, Record,
    },
    runtime::{OwnMetric, RuntimeConfig, Stepper, StreamsConfig, StreamsError},
    store::{Duplicates, GlobalStore, KeyValueStore, StoreBuilder, StoreKey, WindowStore},
    topology::{Consumed, Topology, TopologyError},
};
use headwater_testkit::{
    ManualClock, MemoryLog, MemoryState, TestDriverError, TestStandby, TopologyTestDriver,
};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    error::Error,
    sync::{Arc, Mutex},
    time::Duration,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;
type Sums = KeyValueStore<String, i64>;

/// Adds up the values of each key, and of all keys under `all`; a null has the key begin anew. Values below 0 are refused.
struct Sum(StoreKey<Sums>);

impl Processor<String, Option<i64>> for Sum {
    type KOut = Infallible;
    type VOut = Infallible;

    fn process(
        &mut self,
        record: Record<String, Option<i64>>,
        context: &mut Context<'_, Infallible, Infallible>,
    ) -> Result<(), ProcessorError> {
        assert!(context.record_metadata().is_some_and(|at| at.partition.topic.as_str() == "in"));
        assert_eq!(context.current_stream_time(), record.timestamp);
        let sums = context.store(self.0);
        let Some(value) = record.value else {
            return Ok(sums.put(&record.key, None, record.timestamp)?);
        };
        if value < 0 {
            return Err(ProcessorError::record(format!("{value} is below 0")));
        }
        for key in [record.key, "all".to_owned()] {
            let sum = sums.get(&key)?.map_or(0, |sum| sum.value) + value;
            sums.put(&key, Some(sum), record.timestamp)?;
        }
        Ok(())
    }
}

/// Forwards what the store has under the record's key.
struct LookUp(GlobalStore<String, i64>);

impl Processor<String, i64> for LookUp {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        let found = self.0.get(&record.key)?.map_or(-1, |sum| sum.value);
        context.forward(record.with_value(found));
        Ok(())
    }
}

fn sums() -> StoreBuilder {
    Sums::builder("sums", for_type(), for_type())
}

fn topology() -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    let make = |context: &mut InitContext<'_>| Ok(Sum(context.store("sums")?));
    builder.add_global_processor(sums(), "in", Consumed::<String, i64>::default(), make);
    let asked = builder.stream::<String, i64>("ask");
    asked.process(|context| Ok(LookUp(context.global_store("sums")?)), &[]).to("out");
    Ok(builder.build()?)
}

fn driver(partitions: u32) -> Outcome<TopologyTestDriver> {
    let partitions = BTreeMap::from([("in", partitions)]);
    Ok(TopologyTestDriver::with(topology()?, StreamsConfig::new("app"), &partitions)?)
}

/// What the store has under each of these keys.
fn held(driver: &TopologyTestDriver, keys: &[&str]) -> Outcome<Vec<Option<(i64, i64)>>> {
    let store = driver.key_value_store::<String, i64>("sums")?;
    let sum = |key: &&str| -> Outcome<_> {
        Ok(store.get(&(*key).to_owned())?.map(|sum| (sum.value, sum.timestamp)))
    };
    keys.iter().map(sum).collect()
}

const RECORDS: &str = "a=1@1 b=2@2 a=3@9 c=4@4 b=∅@5 a=5@3 b=6@6 d=7@7 e=8@8 c=∅@9";
const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "all"];

#[test]
fn a_processor_finds_what_it_has_put_and_others_read_it() -> Outcome {
    let driver = driver(1)?;
    driver.pipe::<String, Option<i64>>("in", RECORDS)?;
    let expected = [Some((9, 3)), Some((6, 6)), None, Some((7, 7)), Some((8, 8)), Some((36, 8))];
    assert_eq!(held(&driver, &KEYS)?, expected);
    driver.pipe::<String, i64>("ask", "a=0@1 c=0@2 all=0@3")?;
    assert_eq!(driver.read::<String, i64>("out")?, "a=9@1 c=-1@2 all=36@3");
    Ok(())
}

/// In any number of batches, over a restart, and built again: record by record it is the same.
#[test]
fn what_is_built_again_is_what_was_there() -> Outcome {
    for partitions in [1, 3] {
        let at_once = driver(partitions)?.by_hand();
        at_once.pipe::<String, Option<i64>>("in", RECORDS)?;
        at_once.run_until_idle()?;
        at_once.pipe::<String, i64>("ask", "a=0@1")?;
        at_once.run_until_idle()?;
        let expected = held(&at_once, &KEYS)?;
        assert_eq!(expected[0], Some((9, 3)));
        for state_is_lost in [false, true] {
            let driver = driver(partitions)?;
            for record in RECORDS.split(' ') {
                driver.pipe::<String, Option<i64>>("in", record)?;
                if state_is_lost {
                    driver.lose_state();
                } else {
                    driver.crash();
                }
                driver.restart()?;
            }
            assert_eq!(held(&driver, &KEYS)?, expected, "{partitions}, {state_is_lost}");
        }
    }
    Ok(())
}

/// As [`Sum`], and appends to partition 1 with the first record of partition 0: all parts are opened by then, and none of the others
/// is filled.
struct SumAndAppend {
    sum: Sum,
    log: Arc<dyn Log>,
    late: Arc<Mutex<Option<Commit>>>,
}

impl Processor<String, Option<i64>> for SumAndAppend {
    type KOut = Infallible;
    type VOut = Infallible;

    fn process(
        &mut self,
        record: Record<String, Option<i64>>,
        context: &mut Context<'_, Infallible, Infallible>,
    ) -> Result<(), ProcessorError> {
        let is_first = context.record_metadata().is_some_and(|at| at.partition.partition == 0);
        if is_first && let Some(commit) = self.late.lock().expect("nobody has panicked").take() {
            let committed = self.log.commit(commit).and_then(CommitTicket::wait);
            committed.expect("a log in memory takes it");
        }
        self.sum.process(record, context)
    }
}

/// What came after a part was opened is in it, so that it is not handed out once more.
#[test]
fn a_record_that_comes_while_a_part_is_filled_is_processed_once() -> Outcome {
    let (log, late) = (Arc::new(MemoryLog::new()), Arc::new(Mutex::new(None)));
    let shared: Arc<dyn Log> = log;
    let builder = StreamsBuilder::new();
    let (of_processors, to_append) = (Arc::clone(&shared), Arc::clone(&late));
    let make = move |context: &mut InitContext<'_>| {
        let (log, late) = (Arc::clone(&of_processors), Arc::clone(&to_append));
        Ok(SumAndAppend { sum: Sum(context.store("sums")?), log, late })
    };
    builder.add_global_processor(sums(), "in", Consumed::<String, i64>::default(), make);
    let (config, partitions) = (StreamsConfig::new("app"), BTreeMap::from([("in", 2)]));
    let built = builder.build()?;
    let driver = TopologyTestDriver::with_log(built, config, &partitions, Arc::clone(&shared))?;
    let mut keys = ["a", "b", "c", "d"].into_iter();
    let of = |partition| move |key: &&str| murmur2_partition(key.as_bytes(), 2) == partition;
    let (first, second) = (keys.clone().find(of(0)), keys.find(of(1)));
    let (first, second) = (first.ok_or("no key")?, second.ok_or("no key")?);
    let driver = driver.by_hand();
    driver.pipe::<String, Option<i64>>("in", &format!("{first}=1@1 {second}=2@2"))?;
    driver.crash();
    let mut records = RecordSetBuilder::default();
    let (key, value) = (second.as_bytes(), 40_i64.to_be_bytes());
    records.push(3, Some(key), Some(&value), &Headers::new())?;
    let partition = TopicPartition::new(TopicName::new("in")?, 1);
    let append = Append { partition, base_offset: None, records: Arc::new(records.build()) };
    *late.lock().unwrap() = Some(Commit { appends: vec![append], ..Commit::default() });
    driver.restart()?;
    assert!(late.lock().unwrap().is_none(), "it was appended");
    let expected = [Some((1, 1)), Some((42, 3))];
    driver.run_until_idle()?;
    assert_eq!(held(&driver, &[first, second])?, expected);
    driver.crash();
    driver.restart()?;
    driver.run_until_idle()?;
    assert_eq!(held(&driver, &[first, second])?, expected, "after a restart");
    Ok(())
}

/// Each partition has a part of its own: the one counts where the key would be put.
#[test]
fn of_a_key_in_several_parts_that_of_its_own_partition_counts() -> Outcome {
    let driver = driver(3)?;
    driver.pipe::<String, Option<i64>>("in", "a=1@1 b=2@2 c=3@3 d=4@4 e=5@5 f=6@6 all=0@7")?;
    let own = held(&driver, &["all"])?;
    driver.pipe::<String, Option<i64>>("in", "all=100@8")?;
    // It is there twice: as the record's key and as what it is added up under.
    let (before, after) = (own[0].unwrap_or_default().0, held(&driver, &["all"])?);
    assert_eq!(after, [Some((before + 200, 8))]);
    assert!(before < 21, "the others have parts of their own");
    Ok(())
}

#[test]
fn a_refused_record_is_a_dead_letter_once() -> Outcome {
    let driver = driver(1)?;
    driver.pipe::<String, Option<i64>>("in", "a=1@1 a=-2@2 a=3@3")?;
    driver.lose_state();
    driver.restart()?;
    driver.pipe::<String, Option<i64>>("in", "b=-1@4 b=1@5")?;
    let letters = driver.dead_letters()?.into_iter().map(|letter| (letter.key, letter.cause));
    let expected = [("a", "-2 is below 0"), ("b", "-1 is below 0")];
    let expected = expected.map(|(key, cause)| (key.to_owned(), cause.to_owned()));
    assert_eq!(letters.collect::<Vec<_>>(), expected);
    assert_eq!(held(&driver, &["a", "b"])?, [Some((4, 3)), Some((1, 5))]);
    Ok(())
}

/// It has seen what comes after the record in its batch, and forgets that until the owner has answered.
#[test]
fn a_standby_stops_at_a_refused_record_until_its_owner_has_answered_for_it() -> Outcome {
    let active = driver(1)?.by_hand();
    let mut standby = active.standby()?;
    let found = |standby: &TestStandby| -> Outcome<_> {
        let sums = standby.snapshot()?.key_value_store::<String, i64>("sums")?;
        Ok((sums.get(&"a".to_owned())?.map(|sum| sum.value), standby.lag()?))
    };
    active.pipe::<String, Option<i64>>("in", "a=1@1 a=-2@2 a=3@3")?;
    for _ in 0..2 {
        standby.update()?;
        assert_eq!(found(&standby)?, (Some(1), 2));
    }
    active.pipe::<String, i64>("ask", "a=0@1")?;
    active.run_until_idle()?;
    active.commit()?;
    standby.update()?;
    assert_eq!(found(&standby)?, (Some(4), 0));
    active.crash();
    let next = standby.promote()?;
    assert_eq!((next.dead_letters()?.len(), held(&next, &["a"])?), (1, vec![Some((4, 3))]));
    Ok(())
}

/// Schedules what would never fire.
struct Schedule;

impl Processor<String, Option<i64>> for Schedule {
    type KOut = Infallible;
    type VOut = Infallible;

    fn process(
        &mut self,
        _: Record<String, Option<i64>>,
        context: &mut Context<'_, Infallible, Infallible>,
    ) -> Result<(), ProcessorError> {
        let _which = context.schedule(Duration::from_secs(1), PunctuationType::WallClockTime);
        Ok(())
    }
}

#[test]
fn a_processor_that_schedules_stops_the_application() -> Outcome {
    let builder = StreamsBuilder::new();
    let consumed = Consumed::<String, i64>::default();
    builder.add_global_processor(sums(), "in", consumed, |_| Ok(Schedule));
    let driver = TopologyTestDriver::new(builder.build()?)?;
    let refused = driver.pipe::<String, i64>("in", "a=1@1");
    let is_so = matches!(
        &refused,
        Err(TestDriverError::Streams(StreamsError::GlobalStore(ProcessorError::SchedulesInGlobal)))
    );
    assert!(is_so, "{refused:?}");
    Ok(())
}

#[test]
fn a_global_store_has_values_by_key() {
    let builder = StreamsBuilder::new();
    let (day, duplicates) = (Duration::from_secs(86_400), Duplicates::Replaced);
    let windows =
        WindowStore::<String, i64>::with_retention("sums", for_type(), for_type(), day, duplicates);
    let consumed = Consumed::<String, i64>::default();
    builder.add_global_processor(windows, "in", consumed, |_| Ok(Schedule));
    assert!(matches!(builder.build(), Err(TopologyError::StoreDiffers { name }) if name == "sums"));
}

/// Drops what has a value of 0, and counts the others.
struct DropZeros(Counter);

impl Processor<String, Option<i64>> for DropZeros {
    type KOut = Infallible;
    type VOut = Infallible;

    fn process(
        &mut self,
        record: Record<String, Option<i64>>,
        context: &mut Context<'_, Infallible, Infallible>,
    ) -> Result<(), ProcessorError> {
        let at = context.record_metadata().map(|at| at.partition.partition);
        assert_eq!((context.task_id().sub, Some(context.task_id().partition)), (1, at));
        if record.value == Some(0) {
            context.drop_record(DropReason::Other);
        } else {
            context.count(self.0, 1);
        }
        Ok(())
    }
}

/// Under the name and the number that the description has for it.
#[test]
fn what_a_processor_counts_and_drops_is_told() -> Outcome {
    let builder = StreamsBuilder::new();
    let consumed = Consumed::<String, i64>::default();
    let make = |context: &mut InitContext<'_>| Ok(DropZeros(context.counter("others")));
    builder.add_global_processor(sums(), "in", consumed, make);
    builder.stream::<String, i64>("ask").to("out");
    let log = Arc::new(MemoryLog::new());
    log.create_topics(&[
        TopicSpec::new(TopicName::new("in")?, 2),
        TopicSpec::new(TopicName::new("ask")?, 1),
        TopicSpec::new(TopicName::new("out")?, 1),
    ])?;
    let mut records = RecordSetBuilder::default();
    for value in [1_i64, 0, 2, 0, 3] {
        records.push(0, Some(b"a"), Some(&value.to_be_bytes()), &Headers::new())?;
    }
    let partition = TopicPartition::new(TopicName::new("in")?, 1);
    let append = Append { partition, base_offset: None, records: Arc::new(records.build()) };
    log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
    let (state, clock) = (Arc::new(MemoryState::new()), Arc::new(ManualClock::at(0)));
    let stepper = Stepper::new(1, log, state, clock);
    let application = stepper.start_application(builder.build()?, StreamsConfig::new("app"))?;
    let counted = application.node_metrics().get("sums-update").copied().ok_or("it is not told")?;
    assert_eq!((counted.records, counted.dropped.total()), (5, 2));
    assert_eq!(application.dropped_records("sums-update"), 2);
    let task = application.metrics().tasks.pop().ok_or("no task")?;
    assert_eq!((&*task.task, task.records), ("1_1", 5));
    let own = &task.nodes[0].own[0];
    assert_eq!((&*own.name, &own.value), ("others", &OwnMetric::Counter { total: 3, rate: 0.0 }));
    Ok(())
}

/// A part counts as a task does, and what its processor has put there before is not all kept in memory.
#[test]
fn what_parts_keep_in_memory_is_held_to_the_share_of_caches() -> Outcome {
    let log = Arc::new(MemoryLog::new());
    let topics = [("in", 2), ("ask", 1), ("out", 1)];
    for (name, partitions) in topics {
        log.create_topics(&[TopicSpec::new(TopicName::new(name)?, partitions)])?;
    }
    let keys: Vec<_> = (0..10_000).map(|number| format!("key-{number}")).collect();
    for (keys, partition) in keys.chunks(200).zip((0..2).cycle()) {
        let mut records = RecordSetBuilder::default();
        for key in keys {
            records.push(0, Some(key.as_bytes()), Some(&1_i64.to_be_bytes()), &Headers::new())?;
        }
        let partition = TopicPartition::new(TopicName::new("in")?, partition);
        let append = Append { partition, base_offset: None, records: Arc::new(records.build()) };
        log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
    }
    let memory = Arc::new(MemoryBudget::new(1 << 20));
    let runtime = RuntimeConfig::new(1).with_memory(Arc::clone(&memory));
    let (state, clock) = (Arc::new(MemoryState::new()), Arc::new(ManualClock::at(0)));
    let mut stepper = Stepper::new(runtime, log, state, clock);
    let application = stepper.start_application(topology()?, StreamsConfig::new("app"))?;
    let sums = application.snapshot()?.key_value_store::<String, i64>("sums")?;
    assert_eq!(sums.get(&"all".to_owned())?.map(|sum| sum.value), Some(5_000));
    // The parts were filled before there was a task.
    while let Some(actor) = (0..stepper.actors()).find(|actor| stepper.is_awake(*actor)) {
        stepper.step(actor);
    }
    let (cached, share) = (memory.cached(), memory.share(Share::Caches) / 3 * 2);
    assert!((share / 4..=share).contains(&cached), "{cached} of {share}");
    stepper.crash();
    drop((application, sums));
    assert_eq!(memory.cached(), 0);
    Ok(())
}

//! What the driver promises beyond one instance that nothing befalls.

use headwater_core::{
    ports::log::Log,
    record::{Headers, TopicName, TopicPartition, murmur2_partition},
    serde::for_type,
};
use headwater_engine::{
    DefaultSerde,
    processor::{Context, InitContext, Processor, ProcessorError, Record},
    runtime::{CommitStep, StreamsConfig},
    store::{KeyValueStore, StoreKey, Window, Windowed},
    topology::{Consumed, Produced, Topology},
};
use headwater_testkit::{FaultyState, MemoryLog, TestDriverError, TopologyTestDriver};
use std::{collections::BTreeMap, error::Error, sync::Arc};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Counts by key.
struct Count(StoreKey<KeyValueStore<String, i64>>);

impl Processor<String, i64> for Count {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        let store = context.store(self.0);
        let count = store.get(&record.key)?.map_or(0, |count| count.value) + 1;
        store.put(&record.key, Some(count), record.timestamp)?;
        context.forward(record.with_value(count));
        Ok(())
    }
}

fn topology() -> Outcome<Topology> {
    let mut topology = Topology::new();
    topology.add_source("in", "in", Consumed::<String, i64>::default())?;
    let count = |context: &mut InitContext<'_>| Ok(Count(context.store("counts")?));
    topology.add_processor("count", count, &["in"])?;
    let counts = KeyValueStore::<String, i64>::builder("counts", for_type(), for_type());
    topology.add_state_store(counts, &["count"])?;
    topology.add_sink("out", "out", Produced::<String, i64>::default(), &["count"])?;
    Ok(topology)
}

fn on(log: &Arc<MemoryLog>) -> Outcome<TopologyTestDriver> {
    let config = StreamsConfig::new("app");
    let (none, log) = (BTreeMap::new(), Arc::clone(log) as Arc<dyn Log>);
    Ok(TopologyTestDriver::with_log(topology()?, config, &none, log)?)
}

const RESULTS: &str = "a=1@1 b=1@2 a=2@3 a=3@4";

#[test]
fn a_crash_at_any_step_of_a_commit_changes_no_result() -> Outcome {
    type Crash = fn(&TopologyTestDriver, CommitStep) -> Result<(), TestDriverError>;
    for step in CommitStep::ALL {
        for crash in [TopologyTestDriver::crash_before as Crash, TopologyTestDriver::crash_after] {
            let driver = TopologyTestDriver::new(topology()?)?.by_hand();
            driver.pipe::<String, i64>("in", "a=0@1 b=0@2 a=0@3")?;
            driver.run_until_idle()?;
            crash(&driver, step)?;
            assert!(matches!(driver.commit(), Err(TestDriverError::Crashed)));
            driver.pipe::<String, i64>("in", "a=0@4")?;
            driver.restart()?;
            driver.run_until_idle()?;
            driver.commit()?;
            assert_eq!(driver.read::<String, i64>("out")?, RESULTS, "{step:?}");
            let counts = driver.key_value_store::<String, i64>("counts")?;
            assert_eq!(counts.get(&"a".to_owned())?.map(|count| count.value), Some(3), "{step:?}");
        }
    }
    Ok(())
}

#[test]
fn a_windowed_key_is_piped_where_the_engine_has_its_inner_key() -> Outcome {
    let mut topology = Topology::new();
    topology.add_source("in", "in", Consumed::<Windowed<String>, i64>::default())?;
    let partitions = [("in", 8)].into();
    let driver = TopologyTestDriver::with(topology, StreamsConfig::new("app"), &partitions)?;
    let topic = driver.input_topic::<Windowed<String>, i64>("in");
    let key = |start| Windowed { key: "car".to_owned(), window: Window { start, end: start + 10 } };
    for start in 0..20 {
        topic.pipe_input(key(start), 1, start)?;
        let mut bytes = Vec::new();
        <Windowed<String>>::default_serde().serialize_key(&key(start), &mut bytes)?;
        topic.pipe_bytes(Some(&bytes), Some(&1_i64.to_be_bytes()), start)?;
    }
    let (log, name) = (driver.log(), TopicName::new("in")?);
    let ends = (0..8).map(|partition| log.offsets(&TopicPartition::new(name.clone(), partition)));
    let ends: Vec<_> = ends.map(|held| held.map(|held| held.end)).collect::<Result<_, _>>()?;
    let mut expected = vec![0; 8];
    expected[usize::try_from(murmur2_partition(b"car", 8))?] = 40;
    assert_eq!(ends, expected);
    Ok(())
}

#[test]
fn a_dead_letter_is_told_by_its_own_headers_and_not_by_its_records() -> Outcome {
    let driver = TopologyTestDriver::new(topology()?)?;
    let mut headers = Headers::new();
    for name in ["topic", "__streams.errors.topic", "exception", "message"] {
        headers.add(name, Some(b"of the record".to_vec()));
    }
    driver.input_topic::<String, i64>("in").pipe_bytes_with(Some(b"a"), Some(b"x"), 1, &headers)?;
    let letters = driver.dead_letters()?;
    let told = (letters[0].topic.as_str(), letters[0].kind.as_str());
    assert_eq!(told, ("in", "DeserializationError"));
    assert!(!letters[0].cause.contains("of the record"));
    Ok(())
}

#[test]
fn an_instance_that_was_replaced_commits_nothing() -> Outcome {
    let log = Arc::new(MemoryLog::new());
    let first = on(&log)?.by_hand();
    first.pipe::<String, i64>("in", "a=0@1 b=0@2")?;
    first.run_until_idle()?;
    let second = on(&log)?;
    second.pipe::<String, i64>("in", "a=0@3")?;
    assert!(first.commit().is_err(), "another holds its group");
    second.pipe::<String, i64>("in", "a=0@4")?;
    assert_eq!(second.read::<String, i64>("out")?, RESULTS);
    Ok(())
}

#[test]
fn a_state_of_ones_own_outlives_the_driver_and_fails_on_request() -> Outcome {
    let (log, state) = (Arc::new(MemoryLog::new()), Arc::new(FaultyState::new()));
    let start = || {
        let (config, none) = (StreamsConfig::new("app"), BTreeMap::new());
        let (log, state) = (Arc::clone(&log) as Arc<dyn Log>, Arc::clone(&state));
        Outcome::Ok(TopologyTestDriver::with_log_and_state(topology()?, config, &none, log, state)?)
    };
    let driver = start()?;
    driver.pipe::<String, i64>("in", "a=0@1 b=0@2")?;
    state.fail_next_publish("app");
    assert!(driver.pipe::<String, i64>("in", "a=0@3").is_err(), "it is in the log alone");
    driver.restart()?;
    driver.pipe::<String, i64>("in", "a=0@4")?;
    assert_eq!(driver.read::<String, i64>("out")?, RESULTS);
    Ok(())
}

#[test]
fn only_what_the_application_wrote_was_produced() -> Outcome {
    let driver = TopologyTestDriver::new(topology()?)?;
    driver.pipe::<String, i64>("in", "a=0@1")?;
    let produced = ["out", "test-counts-changelog"].map(str::to_owned);
    assert_eq!(driver.produced_topic_names()?, produced.into());
    driver.input_topic::<String, i64>("in").pipe_bytes(Some(b"a"), Some(b"x"), 2)?;
    assert!(driver.produced_topic_names()?.contains("test-dead-letters"));
    Ok(())
}

#[test]
fn a_value_alone_has_no_key() -> Outcome {
    let mut topology = Topology::new();
    topology.add_source("in", "in", Consumed::<Option<String>, i64>::default())?;
    topology.add_sink("out", "out", Produced::<Option<String>, i64>::default(), &["in"])?;
    let driver = TopologyTestDriver::new(topology)?;
    let input = driver.input_topic::<Option<String>, i64>("in");
    input.advance_time(std::time::Duration::from_millis(7));
    input.pipe_value_list([1, 2])?;
    let mut output = driver.output_topic::<Option<String>, i64>("out");
    assert_eq!(output.queue_size()?, 2);
    output.check("∅=1@7 ∅=2@7")?;
    assert!(output.is_empty()? && output.read_value()?.is_none());
    Ok(())
}

#[test]
fn what_is_not_there_is_an_error() -> Outcome {
    let driver = TopologyTestDriver::new(topology()?)?;
    assert!(matches!(driver.dropped_records("cuont"), Err(TestDriverError::NoNode { .. })));
    assert_eq!(driver.dropped_records("count")?, 0);
    driver.crash();
    assert!(matches!(driver.dropped_records("count"), Err(TestDriverError::Crashed)));
    assert!(matches!(driver.total_dropped_records(), Err(TestDriverError::Crashed)));
    Ok(())
}

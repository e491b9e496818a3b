//! What interactive queries show of a running application.

use headwater_core::serde::{I64, ReadBack, Serde, SerdeError, for_type};
use headwater_engine::{
    processor::{Context, InitContext, Processor, ProcessorError, Record},
    runtime::{StreamsConfig, StreamsError},
    store::{KeyValueStore, StoreKey, WindowStore},
    topology::{Consumed, Topology, TopologyError},
};
use headwater_testkit::{TestDriverError, TopologyTestDriver};
use std::{collections::BTreeMap, error::Error, sync::Arc};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// A form of numbers that is not the default one of its type.
#[derive(Debug)]
struct Negated;

impl Serde<i64> for Negated {
    fn serialize(&self, value: &i64, out: &mut Vec<u8>) -> Result<bool, SerdeError> {
        I64.serialize(&-value, out)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<i64, SerdeError> {
        Ok(-I64.deserialize(bytes)?)
    }

    fn check(&self, value: &i64, known: &mut ReadBack) -> Result<usize, SerdeError> {
        I64.check(value, known)
    }

    fn schema(&self) -> String {
        "negated i64".into()
    }
}

/// Counts by key and window of 10 ms, and by key.
struct Count {
    windows: StoreKey<WindowStore<String, i64>>,
    counts: StoreKey<KeyValueStore<String, i64>>,
}

impl Count {
    fn new(context: &mut InitContext<'_>) -> Result<Self, ProcessorError> {
        Ok(Self { windows: context.store("windows")?, counts: context.store("counts")? })
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
        let add = |entry: &mut Option<i64>, _: &mut i64| *entry = Some(entry.unwrap_or(0) + 1);
        context.store(self.windows).update(&record.key, record.timestamp / 10 * 10, add)?;
        context.store(self.counts).update(&record.key, add)?;
        Ok(())
    }
}

fn driver() -> Outcome<TopologyTestDriver> {
    let mut topology = Topology::new();
    topology.add_source("in", "in", Consumed::<String, i64>::default())?;
    topology.add_processor::<String, i64, Count>("count", Count::new, &["in"])?;
    let windows = WindowStore::<String, i64>::builder("windows", for_type(), Arc::new(Negated));
    let counts = KeyValueStore::<String, i64>::builder("counts", for_type(), Arc::new(Negated));
    topology.add_state_store(windows, &["count"])?.add_state_store(counts, &["count"])?;
    let partitions = BTreeMap::from([("in", 3)]);
    Ok(TopologyTestDriver::with(topology, StreamsConfig::new("app"), &partitions)?)
}

fn pipe(driver: &TopologyTestDriver, records: &[(&str, i64)]) -> Outcome {
    let input = driver.input_topic::<String, i64>("in");
    for (key, at) in records {
        input.pipe_input((*key).to_owned(), 1, *at)?;
    }
    Ok(())
}

#[test]
fn a_snapshot_stays_at_its_commit_and_position_while_commits_go_on() -> Outcome {
    let driver = driver()?;
    pipe(&driver, &[("a", 1), ("a", 12), ("b", 2)])?;
    let snapshot = driver.snapshot()?;
    let (counts, windows) = (
        snapshot.key_value_store::<String, i64>("counts")?,
        snapshot.window_store::<String, i64>("windows")?,
    );
    let taken = |position: &[_]| position.iter().map(|(_, offset): &(_, i64)| offset).sum::<i64>();
    for more in 0..5 {
        let value = |key: &str| Outcome::Ok(counts.get(&key.to_owned())?.map(|entry| entry.value));
        assert_eq!((value("a")?, value("b")?, value("c")?), (Some(2), Some(1), None));
        let a = windows.fetch_range(&"a".to_owned(), 0..=100)?;
        let a: Vec<_> = a.into_iter().map(|(start, entry)| (start, entry.value)).collect();
        assert_eq!(a, [(0, 1), (10, 1)]);
        assert_eq!((taken(snapshot.position()), taken(windows.position())), (3, 3));
        pipe(&driver, &[("a", 13), ("c", 20 + more)])?;
    }
    let newest = driver.snapshot()?;
    assert_eq!(taken(newest.position()), 13);
    let windows = newest.window_store::<String, i64>("windows")?;
    let value = |key: &str, start| {
        Outcome::Ok(windows.fetch(&key.to_owned(), start)?.map(|entry| entry.value))
    };
    assert_eq!((value("a", 10)?, value("c", 20)?, value("c", 0)?), (Some(6), Some(5), None));
    let mut later: Vec<_> =
        windows.fetch_all(10..=20)?.into_iter().map(|(key, start, _)| (key, start)).collect();
    later.sort();
    assert_eq!(later, [("a".to_owned(), 10), ("c".to_owned(), 20)]);
    Ok(())
}

#[test]
fn a_snapshot_has_its_position_after_a_rebuild() -> Outcome {
    let driver = driver()?;
    pipe(&driver, &[("a", 1), ("b", 2)])?;
    let before = driver.snapshot()?.position().to_vec();
    driver.lose_state();
    driver.restart()?;
    let snapshot = driver.snapshot()?;
    assert_eq!(snapshot.position(), before);
    assert_eq!(snapshot.key_value_store::<String, i64>("counts")?.all()?.len(), 2);
    Ok(())
}

#[test]
fn a_store_is_opened_as_what_it_is() -> Outcome {
    let driver = driver()?;
    let snapshot = driver.snapshot()?;
    let differs = |error: StreamsError| {
        matches!(error, StreamsError::Topology(TopologyError::StoreDiffers { .. }))
    };
    assert!(snapshot.key_value_store::<String, i32>("counts").is_err_and(differs));
    assert!(snapshot.key_value_store::<String, i64>("windows").is_err_and(differs));
    assert!(snapshot.window_store::<String, i64>("counts").is_err_and(differs));
    let unknown = snapshot.key_value_store::<String, i64>("nothing");
    assert!(matches!(unknown, Err(StreamsError::Topology(TopologyError::UnknownStore { .. }))));
    driver.crash();
    assert!(matches!(driver.snapshot(), Err(TestDriverError::Crashed)));
    Ok(())
}

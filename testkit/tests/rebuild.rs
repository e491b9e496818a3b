//! What a rebuild from the changelog ends with.

use headwater_core::{
    ports::{
        log::{Append, Commit, Log, TopicSpec},
        state::{Order, State, StoreSpec},
    },
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition},
    serde::for_type,
    time::Clock,
};
use headwater_engine::{
    processor::{Context, InitContext, Processor, ProcessorError, Record},
    runtime::{Driver, StreamsConfig},
    store::{KeyValueStore, StoreKey, WindowStore},
    topology::{Consumed, Topology},
};
use headwater_state::MemoryState;
use headwater_testkit::{ManualClock, MemoryLog};
use std::{error::Error, ops::Bound, sync::Arc};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Counts by key and window of 10 ms, of which it keeps those of the last 20 ms; and counts by key.
struct Keep {
    windows: StoreKey<WindowStore<String, i64>>,
    counts: StoreKey<KeyValueStore<String, i64>>,
}

impl Keep {
    fn new(context: &mut InitContext<'_>) -> Result<Self, ProcessorError> {
        Ok(Self { windows: context.store("windows")?, counts: context.store("counts")? })
    }
}

impl Processor<String, i64> for Keep {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        let (start, floor) = (record.timestamp / 10 * 10, context.current_stream_time() - 20);
        let add = |entry: &mut Option<i64>, _: &mut i64| *entry = Some(entry.unwrap_or(0) + 1);
        let store = context.store(self.windows);
        store.update(&record.key, start, add)?;
        store.expire_below(floor);
        context.store(self.counts).update(&record.key, add)?;
        Ok(())
    }
}

fn topology() -> Outcome<Topology> {
    let mut topology = Topology::new();
    topology.add_source("in", "in", Consumed::<String, i64>::default())?;
    topology.add_processor::<String, i64, Keep>("keep", Keep::new, &["in"])?;
    let windows = WindowStore::<String, i64>::builder("windows", for_type(), for_type());
    let counts = KeyValueStore::<String, i64>::builder("counts", for_type(), for_type());
    topology.add_state_store(windows, &["keep"])?.add_state_store(counts, &["keep"])?;
    Ok(topology)
}

fn pipe(log: &MemoryLog, key: &str, timestamp: i64) -> Outcome {
    let mut records = RecordSetBuilder::default();
    let value = 1_i64.to_be_bytes();
    records.push(timestamp, Some(key.as_bytes()), Some(&value), &Headers::new())?;
    let partition = TopicPartition::new(TopicName::new("in")?, 0);
    let append = Append { partition, base_offset: None, records: Arc::new(records.build()) };
    log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
    Ok(())
}

fn start(log: &Arc<MemoryLog>, state: &Arc<MemoryState>) -> Outcome<Driver> {
    let (log, state) = (Arc::clone(log) as Arc<dyn Log>, Arc::clone(state) as Arc<dyn State>);
    let clock = Arc::new(ManualClock::at(0)) as Arc<dyn Clock>;
    Ok(Driver::new(topology()?, &StreamsConfig::new("app"), log, state, clock)?)
}

/// Entries of a store, with the changelog position.
fn contents(state: &MemoryState, store: &str, schema: &str) -> Outcome<String> {
    let store = StoreSpec { name: store.into(), schema: schema.into() };
    let shard = state.application("app")?.open(&store, 0)?;
    let mut text = format!("at {:?}:", shard.position());
    for entry in shard.scan((Bound::Unbounded, Bound::Unbounded), Order::Ascending)? {
        let (key, stored) = entry?;
        text += &format!(" {:?}={:?}@{}", key, stored.value.last(), stored.timestamp);
    }
    Ok(text)
}

#[test]
fn a_rebuild_ends_with_the_windows_that_are_open() -> Outcome {
    let log = Arc::new(MemoryLog::new());
    log.create_topics(&[TopicSpec::new(TopicName::new("in")?, 1)])?;
    let state = Arc::new(MemoryState::new());
    let mut driver = start(&log, &state)?;
    for at in (0..1_000).step_by(5) {
        for key in ["a", "floor"] {
            pipe(&log, key, at)?;
        }
        driver.run_until_idle()?;
        driver.commit()?;
    }
    // Keeps what the state holds.
    let _kept = state.application("app")?;
    drop(driver);
    let rebuilt = Arc::new(MemoryState::new());
    let _driver = start(&log, &rebuilt)?;
    for (store, schema) in [("windows", "window start, utf8 -> i64"), ("counts", "utf8 -> i64")] {
        assert_eq!(contents(&rebuilt, store, schema)?, contents(&state, store, schema)?);
    }
    let windows = contents(&rebuilt, "windows", "window start, utf8 -> i64")?;
    assert_eq!(windows.matches('@').count(), 4, "of 100 windows, two are open: {windows}");
    // Each floor is a record of its own, and there is one only when windows go.
    let changelog = TopicPartition::new(TopicName::new("app-windows-changelog")?, 0);
    assert_eq!(log.offsets(&changelog)?.end, 400 + 98);
    Ok(())
}

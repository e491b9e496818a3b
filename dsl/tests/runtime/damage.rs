//! Damage of what an application stored is reported with its place, never taken for nothing.

use headwater_core::{
    ports::{
        log::{Append, Commit, Log, TopicSpec},
        state::{ApplicationState, Order, ShardChanges, State, StateCommit, StateError, StoreSpec},
    },
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition},
    time::SystemClock,
};
use headwater_dsl::{EmitStrategy, StreamsBuilder, TimeWindows};
use headwater_engine::{
    runtime::{Streams, StreamsConfig, StreamsError},
    store::StoreError,
    topology::Topology,
};
use headwater_testkit::{MemoryLog, MemoryState};
use std::{error::Error, ops::Bound, sync::Arc, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// What an application stands on from one run to the next.
struct Ground {
    log: Arc<MemoryLog>,
    state: Arc<MemoryState>,
    /// The application's, which are kept as long as somebody has them.
    stores: Arc<dyn ApplicationState>,
}

impl Ground {
    fn start(&self) -> Outcome<Result<Streams, StreamsError>> {
        let (log, state) = (Arc::clone(&self.log), Arc::clone(&self.state));
        let config = StreamsConfig::new("test");
        Ok(Streams::start(topology()?, config, log, state, Arc::new(SystemClock::new())))
    }

    /// The entries of what tasks must not forget.
    fn positions(&self) -> Outcome<Vec<(Vec<u8>, Vec<u8>)>> {
        let shard = self.stores.open(&positions(), 0)?;
        let entries = shard.scan((Bound::Unbounded, Bound::Unbounded), Order::Ascending)?;
        entries.map(|entry| entry.map(|(key, it)| (key, it.value)).map_err(Into::into)).collect()
    }

    /// Changes an entry of a store.
    fn put(&self, store: &str, key: &[u8], value: Option<&[u8]>) -> Outcome {
        let mut records = RecordSetBuilder::default();
        records.push(0, Some(key), value, &Headers::new())?;
        let snapshot = self.stores.snapshot()?;
        let shard = snapshot.shards.get(&(store.into(), 0)).ok_or("it is not open")?;
        let changes = ShardChanges {
            store: store.into(),
            partition: 0,
            records: vec![Arc::new(records.build())],
            position: shard.position().ok_or("it is empty")?,
            record_epoch: shard.record_epoch(),
            begins_anew: false,
            expire_below: None,
        };
        let (epoch, changes) = (snapshot.epoch, vec![changes]);
        Ok(self.stores.publish(StateCommit { epoch, changes, ..StateCommit::default() })?)
    }
}

fn positions() -> StoreSpec {
    StoreSpec { name: "/positions".into(), schema: "partition and entry -> bytes".into() }
}

/// Finals below a repartition, and windows that are kept.
fn topology() -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    let grouped = builder.stream::<String, i64>("in").group_by(|key, _| key.clone());
    let windows = TimeWindows::of_size_with_no_grace(Duration::from_millis(10));
    let windows = grouped.windowed_by(windows).emit_strategy(EmitStrategy::on_window_close());
    windows.count("counts").to_stream().drop_null_values().to("out");
    Ok(builder.build()?)
}

/// After a run.
fn ground() -> Outcome<Ground> {
    let state = Arc::new(MemoryState::new());
    let stores = state.application("test")?;
    let ground = Ground { log: Arc::new(MemoryLog::new()), state, stores };
    let topics = ["in", "out"].map(|name| TopicName::new(name).map(|name| TopicSpec::new(name, 1)));
    ground.log.create_topics(&topics.into_iter().collect::<Result<Vec<_>, _>>()?)?;
    let mut records = RecordSetBuilder::default();
    for timestamp in 0..25 {
        records.push(timestamp, Some(b"a"), Some(&1_i64.to_be_bytes()), &Headers::new())?;
    }
    let partition = TopicPartition::new(TopicName::new("in")?, 0);
    let append = Append { partition, base_offset: None, records: Arc::new(records.build()) };
    ground.log.commit(Commit { appends: vec![append], ..Commit::default() })?.wait()?;
    ground.start()??.drain()?;
    Ok(ground)
}

#[test]
fn a_damaged_position_stops_the_application_and_is_named() -> Outcome {
    let ground = ground()?;
    let entries = ground.positions()?;
    assert_eq!(entries.len(), 6, "{entries:?}");
    let cuts = entries.iter().flat_map(|it| [(it, 3), (it, it.1.len() - 1)]);
    for ((key, value), cut) in cuts {
        let name = String::from_utf8_lossy(&key[4..]).into_owned();
        ground.put("/positions", key, Some(&value[..cut]))?;
        match ground.start()? {
            Err(StreamsError::State(StateError::Corrupt { store, partition: 0, detail }))
                if *store == *"/positions" && detail.contains(&name) => {}
            // What the last version was like decides nothing: it is told, and one that cannot be read tells nothing.
            Ok(streams) if name == "topology" => streams.drain()?,
            other => return Err(format!("{name}: {:?}", other.map(drop)).into()),
        }
        ground.put("/positions", key, Some(value))?;
    }
    for key in [&b"abc"[..], b"\0\0\0\0node \xff"] {
        ground.put("/positions", key, Some(b""))?;
        let started = ground.start()?.map(drop);
        assert!(matches!(started, Err(StreamsError::State(StateError::Corrupt { .. }))));
        ground.put("/positions", key, None)?;
    }
    Ok(ground.start()??.drain()?)
}

#[test]
fn a_damaged_window_is_reported_to_who_reads_it() -> Outcome {
    let ground = ground()?;
    let streams = ground.start()??;
    ground.put("counts", b"\x7f", Some(b"?"))?;
    let store = streams.snapshot()?.window_store::<String, i64>("counts")?;
    let is_damage = |error: &StateError| matches!(error, StateError::Corrupt { store, .. } if **store == *"counts");
    assert!(store.fetch_all(0..=i64::MAX).is_err_and(|error| is_damage(&error)));
    let ranged = store.fetch_range(&"a".to_owned(), 0..=i64::MAX);
    assert!(ranged.is_err_and(|e| matches!(e, StoreError::State(error) if is_damage(&error))));
    Ok(streams.close()?)
}

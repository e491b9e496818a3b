//! What stores tell of what they are asked for: each call counts, and some are timed.

use super::metrics::{Run, Ticking};
use headwater_core::serde::for_type;
use headwater_dsl::StreamsBuilder;
use headwater_engine::{
    processor::{Context, Processor, ProcessorError, Record},
    runtime::{IteratorMetrics, OperationMetrics, RangeQuery, StateQueryRequest, StreamsConfig},
    store::{
        Duplicates, KeyValueStore, LruMap, SessionStore, Stores, VersionedKeyValueStore, Window,
        WindowStore, Windowed,
    },
    topology::Topology,
};
use headwater_testkit::{ManualClock, MemoryLog};
use std::{error::Error, sync::Arc, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Asks each kind of store for what it has.
fn ask(
    record: Record<String, i64>,
    context: &mut Context<'_, String, i64>,
) -> Result<(), ProcessorError> {
    let (key, other) = (record.key, "other".to_owned());
    let pairs = context.state_store::<KeyValueStore<String, i64>>("pairs")?;
    pairs.get(&key)?;
    for value in 0..3 {
        pairs.put(&key, Some(value), 1)?;
    }
    pairs.put_if_absent(&other, 1, 1)?;
    pairs.put_if_absent(&key, 1, 1)?;
    pairs.delete(&other)?;
    assert_eq!(pairs.range("a".to_owned()..)?.count(), 1);
    assert_eq!(pairs.prefix_scan("a")?.count(), 1);
    assert_eq!(pairs.all()?.count(), 1);
    let windows = context.state_store::<WindowStore<String, i64>>("windows")?;
    windows.put(&key, Some(1), 10)?;
    windows.get(&key, 10)?;
    assert_eq!(windows.fetch(&key, 0, 20)?.count(), 1);
    assert_eq!(windows.all()?.count(), 1);
    let sessions = context.state_store::<SessionStore<String, i64>>("sessions")?;
    let window = Window { start: 1, end: 2 };
    sessions.put(&Windowed { key: key.clone(), window }, Some(1))?;
    assert_eq!(sessions.fetch(&key)?.count(), 1);
    let versions = context.state_store::<VersionedKeyValueStore<String, i64>>("versions")?;
    versions.put(&key, Some(1), 10)?;
    versions.get(&key)?;
    versions.get_as_of(&key, 10)?;
    let used = context.state_store::<LruMap<String, i64>>("used")?;
    used.put(&key, Some(1), 1)?;
    used.get(&key)?;
    Ok(())
}

const STORES: [&str; 5] = ["pairs", "windows", "sessions", "versions", "used"];

fn topology() -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    let (second, day) = (Duration::from_secs(1), Duration::from_secs(86_400));
    type Pairs = KeyValueStore<String, i64>;
    builder.add_state_store(Pairs::builder("pairs", for_type(), for_type()));
    type Windows = WindowStore<String, i64>;
    builder.add_state_store(Windows::with_retention(
        "windows",
        for_type(),
        for_type(),
        day,
        Duplicates::Replaced,
    ));
    type Sessions = SessionStore<String, i64>;
    builder.add_state_store(Sessions::builder("sessions", for_type(), for_type(), second));
    type Versions = VersionedKeyValueStore<String, i64>;
    builder.add_state_store(Versions::builder("versions", for_type(), for_type(), day));
    builder.add_state_store(Stores::lru_map("used", 10, for_type::<String>(), for_type::<i64>()));
    builder.stream::<String, i64>("in").process_fn(ask, &STORES).to("out");
    Ok(builder.build()?)
}

fn asked(run: &Run, store: &str) -> Vec<OperationMetrics> {
    let tasks = run.application().metrics().tasks;
    let stores = tasks.into_iter().flat_map(|task| task.stores);
    stores.filter(|it| &*it.store == store).flat_map(|it| it.operations).collect()
}

fn totals(run: &Run, store: &str) -> String {
    let operations = asked(run, store);
    let text = |it: &OperationMetrics| format!("{} {}", it.operation.name(), it.total);
    operations.iter().map(text).collect::<Vec<_>>().join(", ")
}

#[test]
fn each_call_of_a_store_counts_by_its_kind() -> Outcome {
    let log = Arc::new(MemoryLog::new());
    let config = StreamsConfig::new("test");
    let mut run = Run::of(topology()?, config, log, Arc::new(Ticking::default()))?;
    run.take(&[(Some("a"), &1_i64.to_be_bytes(), 1)])?;
    for (store, expected) in [
        (
            "pairs",
            "get 1, put 3, put-if-absent 2, delete 1, range 1, prefix-scan 1, all 1, flush 1",
        ),
        ("windows", "put 1, fetch 2, all 1, flush 1"),
        ("sessions", "put 1, fetch 1, flush 1"),
        ("versions", "get 2, put 1, flush 1"),
        ("used", "get 1, put 1, flush 1"),
    ] {
        assert_eq!(totals(&run, store), expected, "{store}");
    }
    // The first of each kind is timed, between two looks at the clock; what puts an entry in order reads it no more.
    let pairs = asked(&run, "pairs");
    assert!(pairs.iter().all(|it| it.latency.max() == Some(1_000.0)), "{pairs:?}");
    let text = run.application().metrics().to_prometheus();
    let labels = "{application_id=\"test\",task_id=\"0_0\",rocksdb_state_id=\"pairs\"}";
    for name in ["put_latency_avg", "put_latency_max", "prefix_scan_latency_avg"] {
        let line = format!("\nkafka_streams_stream_state_metrics_{name}{labels} 1000\n");
        assert!(text.contains(&line), "{line} in {text}");
    }
    assert!(text.contains(&format!("kafka_streams_stream_state_metrics_put_rate{labels} ")));
    Ok(())
}

#[test]
fn rates_of_stores_are_of_the_last_minute_and_operators_count_each_key_of_a_batch() -> Outcome {
    let builder = StreamsBuilder::new();
    builder.stream::<String, i64>("in").group_by_key().count("counts").to_stream().to("out");
    let clock = Arc::new(ManualClock::at(0));
    let (log, config) = (Arc::new(MemoryLog::new()), StreamsConfig::new("test"));
    let mut run = Run::of(builder.build()?, config, log, Arc::clone(&clock) as _)?;
    let value = 1_i64.to_be_bytes();
    run.take(&[(Some("a"), &value, 1), (Some("b"), &value, 1), (Some("a"), &value, 1)])?;
    assert_eq!(totals(&run, "counts"), "get 3, put 3, flush 1");
    clock.advance(Duration::from_secs(10));
    let rates = |run: &Run| asked(run, "counts").iter().map(|it| it.rate).collect::<Vec<_>>();
    assert_eq!(rates(&run), [0.3, 0.3, 0.1]);
    clock.advance(Duration::from_secs(90));
    assert_eq!(rates(&run), [0.0; 3]);
    assert!(asked(&run, "counts").iter().all(|it| it.latency.mean().is_none()));
    Ok(())
}

#[test]
fn iterators_over_queries_are_told_while_they_are_open_and_how_long_they_were() -> Outcome {
    let builder = StreamsBuilder::new();
    builder.stream::<String, i64>("in").group_by_key().count("counts").to_stream().to("out");
    let clock = Arc::new(ManualClock::at(5_000));
    let (log, config) = (Arc::new(MemoryLog::new()), StreamsConfig::new("test"));
    let mut run = Run::of(builder.build()?, config, log, Arc::clone(&clock) as _)?;
    let value = 1_i64.to_be_bytes();
    run.take(&[(Some("a"), &value, 1), (Some("b"), &value, 1)])?;
    let seen = |run: &Run| {
        let tasks = run.application().metrics().tasks.into_iter();
        let mut stores = tasks.flat_map(|task| task.stores);
        let iterators = stores.find(|it| &*it.store == "counts").map(|it| it.iterators);
        let IteratorMetrics { open, oldest_open_since, duration } = iterators.unwrap_or_default();
        (open, oldest_open_since, duration.mean(), duration.max())
    };
    assert_eq!(seen(&run), (0, None, None, None));

    let counts = run.application().store::<String, i64>("counts")?;
    let scanned = counts.prefix_scan(b"a");
    clock.advance(Duration::from_secs(2));
    let query = RangeQuery::<String, i64>::with_no_bounds();
    let asked = run.application().query(&StateQueryRequest::in_store("counts").with_query(query));
    clock.advance(Duration::from_secs(1));
    assert_eq!(seen(&run), (2, Some(5_000), None, None));
    let text = run.application().metrics().to_prometheus();
    let labels = "{application_id=\"test\",task_id=\"0_0\",rocksdb_state_id=\"counts\"}";
    let open = format!("\nkafka_streams_stream_state_metrics_num_open_iterators{labels} 2\n");
    let oldest = format!("\nheadwater_oldest_iterator_open_since_seconds{labels} 5\n");
    assert!(text.contains(&open) && text.contains(&oldest), "{text}");

    // Rows that are read to the end are open until they are dropped.
    assert_eq!(scanned.count(), 1);
    assert_eq!(seen(&run), (1, Some(7_000), Some(3e9), Some(3e9)));
    drop(asked);
    assert_eq!(counts.all()?.len(), 2);
    assert_eq!(seen(&run), (0, None, Some(4e9 / 3.0), Some(3e9)));
    let text = run.application().metrics().to_prometheus();
    let longest = format!("\nkafka_streams_stream_state_metrics_iterator_duration_max{labels} 3");
    assert!(text.contains(&longest), "{text}");
    clock.advance(Duration::from_secs(90));
    assert_eq!(seen(&run), (0, None, None, None));
    Ok(())
}

/// Tells how many iterators are open while it has one.
struct Walk(Arc<ManualClock>);

impl Processor<String, i64> for Walk {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        let kept = context.state_store::<KeyValueStore<String, i64>>("kept")?;
        kept.put(&record.key, Some(record.value), record.timestamp)?;
        let all = kept.all()?.count();
        let some = kept.range("b".to_owned()..)?;
        self.0.advance(Duration::from_secs(2));
        let rows = all + some.count();
        context.forward(record.with_value(i64::try_from(rows).unwrap_or(0)));
        Ok(())
    }
}

#[test]
fn iterators_of_processors_are_told_and_how_long_they_were() -> Outcome {
    let clock = Arc::new(ManualClock::at(5_000));
    let builder = StreamsBuilder::new();
    builder.add_state_store(KeyValueStore::<String, i64>::builder("kept", for_type(), for_type()));
    let walked = Arc::clone(&clock);
    let stream = builder.stream::<String, i64>("in");
    stream.process(move |_| Ok(Walk(Arc::clone(&walked))), &["kept"]).to("out");
    let (log, config) = (Arc::new(MemoryLog::new()), StreamsConfig::new("test"));
    let mut run = Run::of(builder.build()?, config, log, Arc::clone(&clock) as _)?;
    run.take(&[(Some("a"), &1_i64.to_be_bytes(), 1)])?;
    let tasks = run.application().metrics().tasks.into_iter();
    let mut stores = tasks.flat_map(|task| task.stores);
    let iterators = stores.find(|it| &*it.store == "kept").map(|it| it.iterators);
    let IteratorMetrics { open, oldest_open_since, duration } = iterators.unwrap_or_default();
    assert_eq!((open, oldest_open_since), (0, None));
    assert_eq!((duration.mean(), duration.max()), (Some(1e9), Some(2e9)), "of all and of a range");
    Ok(())
}

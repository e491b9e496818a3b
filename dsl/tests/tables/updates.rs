//! What a table forwards of its rows, new values and old ones: seen through filters, which delete only what they have
//! forwarded.
//!
//! A model holds what was forwarded of each row last and folds the same records; the application is killed at every
//! commit, after every number of steps, with its state kept and lost.

use headwater_core::{record::Headers, serde::for_type};
use headwater_dsl::{KTable, Materialized, StreamsBuilder, TimeWindows};
use headwater_engine::{
    processor::{Context, Processor, ProcessorError, Record},
    runtime::StreamsConfig,
    store::{KeyValueStore, StoreKey, Window, Windowed},
    topology::Topology,
};
use headwater_testkit::TopologyTestDriver;
use std::{
    collections::BTreeMap,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// How records become a table.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Table {
    Source,
    Aggregate(Caching),
    Windowed(Caching),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Caching {
    On,
    Off,
}

const TABLES: [Table; 5] = [
    Table::Source,
    Table::Aggregate(Caching::Off),
    Table::Aggregate(Caching::On),
    Table::Windowed(Caching::Off),
    Table::Windowed(Caching::On),
];

/// A commit follows each line.
const RECORDS: [&str; 4] = [
    "a=2 b=1 a=1 a=3 c=1 c=-",
    "a=- b=5 b=5 d=- a=9 a=1",
    "c=7 a=1 a=- b=- c=9 d=2",
    "d=2 d=- d=4 c=0 b=1 b=4 a=-",
];

fn kept(name: &str, caching: Caching) -> Materialized {
    match caching {
        Caching::On => Materialized::named(name),
        Caching::Off => Materialized::named(name).with_caching_disabled(),
    }
}

/// Writes a table's updates as they are, and below filters and maps of several depths.
fn draw<K: Clone + Send + Sync + 'static>(table: &KTable<K, i64>, key: fn(K) -> String) {
    let to = |table: KTable<K, i64>, topic: &str| {
        let rows = table.to_stream().map(move |k, value| (key(k), value));
        rows.to(topic);
    };
    to(table.clone(), "all");
    to(table.filter(|_, v| *v > 1), "filtered");
    to(table.map_values(|v| v * 10).filter(|_, v| *v < 40), "mapped");
    let twice = table.filter(|_, v| v % 2 == 1).map_values(|v| v + 1);
    to(twice.filter_not(|_, v| *v <= 2), "twice");
}

/// What each topic's rows are made of.
fn mapped(topic: &str, value: i64) -> Option<i64> {
    match topic {
        "filtered" => Some(value).filter(|v| *v > 1),
        "mapped" => Some(value * 10).filter(|v| *v < 40),
        "twice" => Some(value).filter(|v| v % 2 == 1).map(|v| v + 1).filter(|v| *v > 2),
        _ => Some(value),
    }
}

const TOPICS: [&str; 4] = ["all", "filtered", "mapped", "twice"];

fn topology(table: Table) -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    let records = || builder.stream::<String, Option<i64>>("in").group_by_key();
    let last = |_: &String, value: Option<i64>, _: i64| value;
    match table {
        Table::Source => draw(&builder.table::<String, i64>("in"), |key| key),
        Table::Aggregate(caching) => {
            draw(&records().aggregate_or_delete(|| 0, last, kept("t", caching)), |key| key);
        }
        Table::Windowed(caching) => {
            let second = TimeWindows::of_size_with_no_grace(Duration::from_secs(1));
            let windows = records().windowed_by(second);
            draw(&windows.aggregate_or_delete(|| 0, last, kept("t", caching)), |key| key.key);
        }
    }
    Ok(builder.build()?)
}

/// Splits lines into records, each a ms after the one before.
fn records() -> Vec<Vec<(&'static str, Option<i64>, i64)>> {
    let mut at = 0;
    let lines = RECORDS.iter().map(|line| {
        let records = line.split(' ').map(|record| {
            at += 1;
            let (key, value) = record.split_once('=').expect("=");
            (key, value.parse().ok(), at)
        });
        records.collect()
    });
    lines.collect()
}

/// What must come out.
fn expected(table: Table) -> BTreeMap<&'static str, Vec<String>> {
    let caches = matches!(table, Table::Aggregate(Caching::On) | Table::Windowed(Caching::On));
    let mut forwarded: BTreeMap<&str, Option<i64>> = BTreeMap::new();
    let mut out: BTreeMap<_, _> = TOPICS.map(|topic| (topic, Vec::new())).into();
    for mut records in records() {
        if caches {
            // The last update of each key, in the order of their first.
            let mut last: Vec<(&str, Option<i64>, i64)> = Vec::new();
            for record in records {
                match last.iter_mut().find(|(key, ..)| *key == record.0) {
                    Some(known) => *known = record,
                    None => last.push(record),
                }
            }
            records = last;
        }
        for (key, new, at) in records {
            let old = forwarded.insert(key, new).flatten();
            for (topic, rows) in &mut out {
                let [new, old] = [new, old].map(|value| mapped(topic, value?));
                let text = new.map_or("-".to_owned(), |value| value.to_string());
                if *topic == "all" || new.is_some() || old.is_some() {
                    rows.push(format!("{key}={text}@{at}"));
                }
            }
        }
    }
    out
}

fn read(driver: &TopologyTestDriver, topic: &str) -> Outcome<Vec<String>> {
    let rows = driver.output_topic::<String, Option<i64>>(topic).read_records_to_list()?;
    let text = |value: Option<i64>| value.map_or("-".to_owned(), |value| value.to_string());
    Ok(rows.into_iter().map(|r| format!("{}={}@{}", r.key, text(r.value), r.timestamp)).collect())
}

/// When an application is killed: before the records of a line are committed, having taken so many steps.
#[derive(Debug, Clone, Copy)]
struct Kill {
    line: usize,
    steps: usize,
    state_is_lost: bool,
}

fn run(table: Table, rows_max: usize, kill: Option<Kill>) -> Outcome<TopologyTestDriver> {
    let config = StreamsConfig::new("app").with_batch_rows_max(rows_max);
    let driver = TopologyTestDriver::with(topology(table)?, config, &BTreeMap::new())?.by_hand();
    let input = driver.input_topic::<String, Option<i64>>("in");
    for (line, records) in records().into_iter().enumerate() {
        for (key, value, at) in records {
            input.pipe_input(key.to_owned(), value, at)?;
        }
        if let Some(Kill { steps, state_is_lost, .. }) = kill.filter(|kill| kill.line == line) {
            for _ in 0..steps {
                driver.step()?;
            }
            if state_is_lost {
                driver.lose_state()
            } else {
                driver.crash()
            }
            driver.restart()?;
        }
        driver.run_until_idle()?;
        driver.commit()?;
    }
    Ok(driver)
}

fn check(table: Table, rows_max: usize, kill: Option<Kill>) -> Outcome {
    let driver = run(table, rows_max, kill)?;
    for (topic, rows) in expected(table) {
        assert_eq!(read(&driver, topic)?, rows, "{topic} of {table:?}, {rows_max} rows, {kill:?}");
    }
    Ok(())
}

#[test]
fn old_values_are_what_was_forwarded_last() -> Outcome {
    for table in TABLES {
        for rows_max in [1, 2, 8_192] {
            check(table, rows_max, None)?;
        }
    }
    Ok(())
}

#[test]
fn old_values_are_right_after_a_kill_at_any_point() -> Outcome {
    for table in TABLES {
        for line in 0..RECORDS.len() {
            for steps in 0..7 {
                for state_is_lost in [false, true] {
                    check(table, 1, Some(Kill { line, steps, state_is_lost }))?;
                }
            }
        }
    }
    Ok(())
}

/// Deletes the row of each key it is given.
struct Delete {
    rows: StoreKey<KeyValueStore<String, i64>>,
}

impl Processor<String, Option<i64>> for Delete {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, Option<i64>>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        Ok(context.store(self.rows).put(&record.key, None, record.timestamp)?)
    }
}

/// What a processor writes into an aggregate's store is told at the flush, with the right old value, be the row cached or not.
#[test]
fn a_row_that_a_processor_deletes_was_forwarded_before() -> Outcome {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, Option<i64>>("in");
    let last = |_: &String, value: Option<i64>, _: i64| value;
    let table = stream.group_by_key().aggregate_or_delete(|| 0, last, "t");
    let other = builder.stream::<String, Option<i64>>("delete");
    let _ = other.process(|context| Ok(Delete { rows: context.store("t")? }), &["t"]);
    table.filter(|_, v| *v > 1).to_stream().to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?.by_hand();
    let pipe = |topic: &str, key: &str, value, at| {
        driver.input_topic::<String, Option<i64>>(topic).pipe_input(key.to_owned(), value, at)?;
        driver.run_until_idle()?;
        driver.commit()
    };
    pipe("in", "a", Some(2), 1)?;
    pipe("in", "b", Some(1), 2)?;
    driver.crash();
    driver.restart()?;
    pipe("delete", "a", None, 3)?;
    pipe("delete", "b", None, 4)?;
    assert_eq!(read(&driver, "out")?, ["a=2@1", "a=-@3"]);
    Ok(())
}

/// The headers of the last record, with caching and without, also if it has none.
#[test]
fn an_update_has_the_headers_of_the_last_record() -> Outcome {
    for table in TABLES {
        let driver = TopologyTestDriver::new(topology(table)?)?.by_hand();
        let input = driver.input_topic::<String, Option<i64>>("in");
        for (key, at, traced) in
            [("a", 1, true), ("b", 2, true), ("a", 3, true), ("b", 4, false), ("c", 5, false)]
        {
            let mut headers = Headers::new();
            if traced {
                headers.add("at", Some(vec![at]));
            }
            let (value, mut bytes) = (Some(i64::from(at)), Vec::new());
            for_type::<Option<i64>>().serialize(&value, &mut bytes)?;
            let (key, at) = (Some(key.as_bytes()), i64::from(at));
            input.pipe_bytes_with(key, Some(&bytes), at, &headers)?;
        }
        driver.run_until_idle()?;
        driver.commit()?;
        let rows = driver.output_topic::<String, Option<i64>>("all").read_records_to_list()?;
        let last: BTreeMap<_, _> = rows.into_iter().map(|row| (row.key, row.headers)).collect();
        let told = last.values().map(|headers| headers.last("at").flatten().map(<[u8]>::to_vec));
        assert_eq!(told.collect::<Vec<_>>(), [Some(vec![3]), None, None], "{table:?}");
    }
    Ok(())
}

/// What `to` writes of windows can be a table, each row in the partition of its key; a window's end is not written.
#[test]
fn a_topic_of_windowed_keys_can_be_a_table() -> Outcome {
    let builder = StreamsBuilder::new();
    let second = TimeWindows::of_size_with_no_grace(Duration::from_secs(1));
    let counts = builder.stream::<String, i64>("in").group_by_key().windowed_by(second).count("n");
    counts.to_stream().to("windows");
    let _ = builder.table_with::<Windowed<String>, i64>("windows", Default::default(), "table");
    let partitions = BTreeMap::from([("in", 3), ("windows", 3)]);
    let config = StreamsConfig::new("app");
    let driver = TopologyTestDriver::with(builder.build()?, config, &partitions)?;
    let keys = ["a", "b", "c", "d", "e"];
    for (at, key) in [5, 6, 1_005].into_iter().flat_map(|at| keys.map(|key| (at, key))) {
        driver.input_topic::<String, i64>("in").pipe_input(key.to_owned(), 0, at)?;
    }
    driver.run_until_idle()?;
    driver.commit()?;
    let rows = driver.key_value_store::<Windowed<String>, i64>("table")?;
    for (key, (start, count)) in keys.into_iter().flat_map(|key| [(key, (0, 2)), (key, (1_000, 1))])
    {
        let window = Window { start, end: i64::MAX };
        let row = rows.get(&Windowed { key: key.to_owned(), window })?;
        assert_eq!(row.map(|row| row.value), Some(count), "{key} at {start}");
    }
    Ok(())
}

/// Lets so many records through as are left, and fails at the next.
struct FailsAfter {
    left: Arc<AtomicI64>,
}

impl Processor<String, Option<i64>> for FailsAfter {
    type KOut = String;
    type VOut = Option<i64>;

    fn process(
        &mut self,
        record: Record<String, Option<i64>>,
        context: &mut Context<'_, String, Option<i64>>,
    ) -> Result<(), ProcessorError> {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            return Err(ProcessorError::NotConnected { store: "none".to_owned() });
        }
        context.forward(record);
        Ok(())
    }
}

type Update = (String, Option<i64>, Headers);

/// What 2,500 rows are changed to, three parts of a flush, in the order of their first change; then every other one.
fn many_updates(round: i64) -> Vec<Update> {
    const KEYS: i64 = 2_500;
    let (stride, every) = match round {
        0 => (1_003, 1),
        1 => (701, 1),
        _ => (3, 2),
    };
    let keys = (0..KEYS).step_by(every).map(|place| place * stride % KEYS);
    let update = |key: i64| {
        let value = match (round, key % 3) {
            (0, _) => Some(5),
            (1, 1) => None,
            (1, 2) => Some(7),
            _ => Some(0),
        };
        let mut headers = Headers::new();
        if key % 2 == round % 2 {
            headers.add("key", Some(key.to_be_bytes().to_vec()));
        }
        (format!("{key:04}"), value, headers)
    };
    keys.map(update).collect()
}

/// Changes each row to 9, then each, in reverse, to what it is to be.
fn pipe_many(driver: &TopologyTestDriver, updates: &[Update]) -> Outcome {
    let input = driver.input_topic::<String, Option<i64>>("in");
    let mut traced = Headers::new();
    traced.add("first", None);
    let first = updates.iter().map(|(key, ..)| (key, &Some(9), &traced));
    let last = updates.iter().rev().map(|(key, value, headers)| (key, value, headers));
    for (key, value, headers) in first.chain(last) {
        let mut bytes = Vec::new();
        let is_there = for_type::<Option<i64>>().serialize(value, &mut bytes)?;
        let value = is_there.then_some(&bytes[..]);
        input.pipe_bytes_with(Some(key.as_bytes()), value, 5, headers)?;
    }
    Ok(driver.run_until_idle()?)
}

fn read_updates(driver: &TopologyTestDriver, topic: &str) -> Outcome<Vec<Update>> {
    let rows = driver.output_topic::<String, Option<i64>>(topic).read_records_to_list()?;
    Ok(rows.into_iter().map(|row| (row.key, row.value, row.headers)).collect())
}

/// Three commits of more updates than a flush forwards at a time. In the second, the application is killed after the flush
/// has forwarded `killed_after`.
fn check_many(table: Table, killed_after: Option<i64>, state_is_lost: bool) -> Outcome {
    let left = Arc::new(AtomicI64::new(-1));
    let (builder, fails) = (StreamsBuilder::new(), FailsAfter { left: Arc::clone(&left) });
    let records = builder.stream::<String, Option<i64>>("in").group_by_key();
    let last = |_: &String, value: Option<i64>, _: i64| value;
    if matches!(table, Table::Windowed(_)) {
        let second = TimeWindows::of_size_with_no_grace(Duration::from_secs(1));
        let windows = records.windowed_by(second);
        draw_many(&windows.aggregate_or_delete(|| 0, last, "t"), |key| key.key, fails);
    } else {
        draw_many(&records.aggregate_or_delete(|| 0, last, "t"), |key| key, fails);
    }
    let driver = TopologyTestDriver::new(builder.build()?)?.by_hand();
    let mut rows: BTreeMap<String, Option<i64>> = BTreeMap::new();
    let (mut all, mut filtered) = (Vec::new(), Vec::new());
    for round in 0..3 {
        let updates = many_updates(round);
        pipe_many(&driver, &updates)?;
        if let Some(forwarded) = killed_after.filter(|_| round == 1) {
            left.store(forwarded, Ordering::SeqCst);
            assert!(driver.commit().is_err(), "{table:?}, {killed_after:?}");
            if state_is_lost {
                driver.lose_state()
            } else {
                driver.crash()
            }
            driver.restart()?;
            driver.run_until_idle()?;
        }
        let is_kept = |value: &i64| *value > 1;
        for (key, new, headers) in updates {
            let old = rows.insert(key.clone(), new).flatten().filter(is_kept);
            all.push((key.clone(), new, headers.clone()));
            if new.filter(is_kept).is_some() || old.is_some() {
                filtered.push((key, new.filter(is_kept), headers));
            }
        }
        driver.commit()?;
    }
    for (topic, expected) in [("all", all), ("filtered", filtered)] {
        let rows = read_updates(&driver, topic)?;
        let first = rows.iter().zip(&expected).find(|(row, expected)| row != expected);
        let what = format!("{topic} of {table:?}, {killed_after:?}, {state_is_lost}");
        assert_eq!((first, rows.len()), (None, expected.len()), "{what}");
    }
    Ok(())
}

/// Writes a table's updates as they are, past what may fail, and below a filter.
fn draw_many<K: Clone + Send + Sync + 'static>(
    table: &KTable<K, i64>,
    key: fn(K) -> String,
    FailsAfter { left }: FailsAfter,
) {
    let all = table.to_stream().map(move |k, value| (key(k), value));
    all.process(move |_| Ok(FailsAfter { left: Arc::clone(&left) }), &[]).to("all");
    let filtered = table.filter(|_, v| *v > 1).to_stream();
    filtered.map(move |k, value| (key(k), value)).to("filtered");
}

/// More updates than a flush forwards at a time come out once each, in the order of their first change, each with what it
/// replaces and the headers of its last record; what changes between two commits is of the second.
#[test]
fn a_flush_of_many_updates_forwards_each_once() -> Outcome {
    for table in [Table::Aggregate(Caching::On), Table::Windowed(Caching::On)] {
        check_many(table, None, false)?;
    }
    Ok(())
}

/// The same where the application is killed within a part of a flush, or between two.
#[test]
fn a_flush_of_many_updates_forwards_each_once_after_a_kill_in_it() -> Outcome {
    for table in [Table::Aggregate(Caching::On), Table::Windowed(Caching::On)] {
        for killed_after in [0, 1_024, 1_500, 2_048, 2_499] {
            for state_is_lost in [false, true] {
                check_many(table, Some(killed_after), state_is_lost)?;
            }
        }
    }
    Ok(())
}

//! Equal keys are one key, wherever a key is written: in repartition topics, stores, windows, tables, joins, a processor's
//! own stores and the partitions of a topic, cached or not, one by one or in batches, and after the state was lost.

#![expect(clippy::disallowed_types, reason = "users' keys may have them")]

use headwater_dsl::{DefaultSerde, Materialized, StreamsBuilder, TimeWindows};
use headwater_engine::{
    processor::{FixedKeyContext, FixedKeyProcessor, FixedKeyRecord, InitContext, ProcessorError},
    runtime::{Repartitioning, StreamsConfig},
    store::{KeyValueStore, StoreKey, Windowed},
    topology::Topology,
};
use headwater_testkit::TopologyTestDriver;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    error::Error,
    fmt::Debug,
    time::Duration,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const PARTITIONS: u32 = 3;
const RECORDS: i64 = 24;

/// Counts each key in a store of its own.
struct Tally<K: 'static>(StoreKey<KeyValueStore<K, i64>>);

impl<K: DefaultSerde> FixedKeyProcessor<K, i64> for Tally<K> {
    type VOut = i64;

    fn process(
        &mut self,
        record: FixedKeyRecord<K, i64>,
        context: &mut FixedKeyContext<'_, K, i64>,
    ) -> Result<(), ProcessorError> {
        let counted = context.store(self.0).update(&record.key, |count, at| {
            *at = record.timestamp;
            *count.insert(count.unwrap_or(0) + 1)
        })?;
        context.forward(record.with_value(counted));
        Ok(())
    }
}

fn topology<K: DefaultSerde>(key: fn(i64) -> K, caching: bool) -> Outcome<Topology> {
    let materialized = |name| {
        let named = Materialized::named(name);
        if caching { named } else { named.with_caching_disabled() }
    };
    let builder = StreamsBuilder::new();
    let input = builder.stream::<String, i64>("in");
    input.group_by(move |_, n| key(*n)).count(materialized("counts")).to_stream().to("counts");
    let keyed = input.select_key(move |_, n| key(*n));
    let windows = TimeWindows::of_size_with_no_grace(Duration::from_secs(1));
    let counts = keyed.group_by_key().windowed_by(windows).count(materialized("windows"));
    counts.to_stream().to("windows");
    let table = builder.table_with::<K, i64>("table", Default::default(), materialized("table"));
    keyed.join(&table, |n, side| n + side).to("joined");
    keyed.left_join(&table, |n, side| side.map_or(-1, |side| n + side)).to("left-joined");
    keyed.to("keyed");
    builder.add_state_store(KeyValueStore::builder(
        "tally",
        K::default_serde(),
        i64::default_serde(),
    ));
    let regrouped = keyed.group_by_key().reduce(|_, n| n, materialized("last")).to_stream();
    let tallied = regrouped.drop_null_values();
    let tally = |context: &mut InitContext<'_>| Ok(Tally::<K>(context.store("tally")?));
    tallied.process_values(tally, &["tally"]).to("tallied");
    Ok(builder.build()?)
}

/// The one key and the one partition of what a topic holds, and its last value.
fn one_key<K: DefaultSerde + Debug + PartialEq>(
    driver: &TopologyTestDriver,
    topic: &str,
    expected: &K,
) -> Outcome<i64> {
    let rows = driver.output_topic::<K, i64>(topic).read_records_to_list()?;
    assert!(rows.iter().all(|row| row.key == *expected), "{topic}: {rows:?}");
    let partitions: BTreeSet<u32> = rows.iter().map(|row| row.partition).collect();
    assert_eq!(partitions.len(), 1, "{topic}: {rows:?}");
    let bytes = driver.output_topic::<Vec<u8>, i64>(topic).read_records_to_list()?;
    assert_eq!(bytes.iter().map(|row| &row.key).collect::<BTreeSet<_>>().len(), 1, "{topic}");
    Ok(rows.last().map_or(0, |row| row.value))
}

/// `key` gives keys that are equal, and came to be in different ways.
fn check<K: DefaultSerde + Debug + PartialEq>(key: fn(i64) -> K) -> Outcome {
    let through = Repartitioning::ThroughTopic;
    for (caching, rows_max, repartitioning, lost) in
        [(false, 1, through, false), (true, 8_192, Repartitioning::default(), true)]
    {
        let topics =
            ["in", "table", "counts", "windows", "joined", "left-joined", "keyed", "tallied"];
        let partitions = topics.map(|topic| (topic, PARTITIONS)).into();
        let config = StreamsConfig::new("test")
            .with_batch_rows_max(rows_max)
            .with_repartitioning(repartitioning);
        let driver = TopologyTestDriver::with(topology(key, caching)?, config, &partitions)?;
        let driver = driver.by_hand();
        let table = driver.input_topic::<K, i64>("table");
        let input = driver.input_topic::<String, i64>("in");
        table.pipe_input(key(-1), 7, 0)?;
        table.pipe_input(key(-2), 100, 0)?;
        driver.run_until_idle()?;
        driver.commit()?;
        for n in 0..RECORDS {
            input.pipe_input(format!("from {n}"), n, n)?;
            if n % 8 == 5 {
                driver.run_until_idle()?;
                driver.commit()?;
                if lost {
                    driver.lose_state();
                    driver.restart()?;
                }
            }
        }
        driver.run_until_idle()?;
        driver.commit()?;
        driver.run_until_idle()?;
        driver.commit()?;
        let mut dead = driver.output_topic::<Option<Vec<u8>>, Option<Vec<u8>>>("test-dead-letters");
        let dead = dead.read_records_to_list()?.into_iter().map(|letter| letter.headers);
        assert_eq!(dead.collect::<Vec<_>>(), []);
        let expected = key(0);
        assert_eq!(one_key(&driver, "counts", &expected)?, RECORDS);
        for joined in ["joined", "left-joined"] {
            let rows = driver.output_topic::<K, i64>(joined).read_records_to_list()?;
            assert_eq!(rows.len(), usize::try_from(RECORDS)?);
            assert!(rows.iter().all(|row| row.value >= 100), "{rows:?}");
            one_key(&driver, joined, &expected)?;
        }
        one_key(&driver, "keyed", &expected)?;
        let tallied = one_key(&driver, "tallied", &expected)?;
        assert!(if caching { tallied > 0 } else { tallied == RECORDS });
        let windowed = driver.output_topic::<Windowed<K>, i64>("windows").read_records_to_list()?;
        assert!(windowed.iter().all(|row| row.key.key == expected));
        assert_eq!(windowed.last().map(|row| row.value), Some(RECORDS));
        for store in ["counts", "table", "last", "tally"] {
            let store = driver.key_value_store::<K, i64>(store)?;
            assert_eq!(store.all()?.len(), 1, "{store:?}");
            assert!(store.get(&key(5))?.is_some());
        }
        let windows = driver.snapshot()?.window_store::<K, i64>("windows")?;
        assert_eq!(windows.fetch(&key(3), 0)?.map(|found| found.value), Some(RECORDS));
        assert_eq!(windows.fetch_all(0..=0)?.len(), 1);
    }
    Ok(())
}

/// Four names, in an order that differs from call to call.
fn names(turn: i64) -> Vec<String> {
    let mut names = ["vin", "model", "region", "é\"\\"].map(str::to_owned).to_vec();
    names.rotate_left(usize::try_from(turn.rem_euclid(4)).unwrap_or(0));
    names
}

fn map(turn: i64) -> HashMap<String, i64> {
    names(turn).into_iter().map(|name| (name.clone(), name.bytes().map(i64::from).sum())).collect()
}

fn set(turn: i64) -> HashSet<String> {
    names(turn).into_iter().collect()
}

#[test]
fn maps_and_sets_are_keys() -> Outcome {
    check(map)?;
    check(|turn| Some(set(turn)))
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct Labels(HashMap<String, i64>);

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
struct Tags {
    tags: HashSet<String>,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
enum Part {
    Set(HashSet<String>),
    Both { maps: Vec<HashMap<String, HashSet<String>>>, tags: Box<Tags> },
    Pair(Labels, Option<(u8, Tags)>),
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
enum Untagged {
    Numbers(HashSet<i64>),
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct Deep {
    zone: String,
    at: (f64, f32),
    parts: [Option<Part>; 3],
    numbers: Untagged,
    #[serde(flatten)]
    rest: HashMap<String, i64>,
}

fn deep(turn: i64) -> Deep {
    let tags = || Tags { tags: set(turn) };
    let nested = names(turn).into_iter().map(|name| (name, set(turn + 1))).collect();
    let sign = if turn % 2 == 0 { 1.0 } else { -1.0 };
    Deep {
        zone: "z".to_owned(),
        at: (0.0 * sign, if sign > 0.0 { 0.0 } else { -0.0 }),
        parts: [
            Some(Part::Set(set(turn))),
            Some(Part::Both { maps: vec![nested], tags: Box::new(tags()) }),
            Some(Part::Pair(Labels(map(turn)), Some((1, tags())))),
        ],
        numbers: Untagged::Numbers(if turn % 2 == 0 {
            (0..9).collect()
        } else {
            (0..9).rev().collect()
        }),
        rest: map(turn),
    }
}

#[test]
fn whatever_holds_them_is_a_key() -> Outcome {
    check(deep)
}

#[test]
fn zero_is_one_key_whatever_its_sign() -> Outcome {
    fn zero(turn: i64) -> f64 {
        if turn % 2 == 0 { 0.0 } else { -0.0 }
    }
    check(zero)
}

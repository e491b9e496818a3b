//! Chains of table operators end with the table that a model computes from the final rows of the inputs, whatever the caches,
//! the size of a batch, the number of partitions, and kills at any step.
//!
//! What lies below a chain checks its old values: a filter must delete exactly what it forwarded, and an aggregation of all
//! rows, which is no linear function of their values, must come to what the final rows come to.

use headwater_dsl::{KTable, Materialized, StreamsBuilder};
use headwater_engine::runtime::{Repartitioning, StreamsConfig};
use headwater_testkit::TopologyTestDriver;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Table = KTable<String, i64>;
type Rows = BTreeMap<String, i64>;

/// A table, of the tables of two topics.
#[derive(Debug, Clone)]
enum Chain {
    Left,
    Right,
    Filter(i64, Box<Self>),
    Map(i64, Box<Self>),
    Kept(Box<Self>),
    /// Through a cache.
    Cached(Box<Self>),
    /// Through a stream.
    Streamed(Box<Self>),
    Join(How, Box<Self>, Box<Self>),
    /// The sums of those whose values are alike.
    Sums(i64, Caching, Box<Self>),
}

#[derive(Debug, Clone, Copy)]
enum How {
    Inner,
    Left,
    Outer,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Caching {
    On,
    Off,
}

fn joined(left: i64, right: i64) -> i64 {
    left.wrapping_mul(31).wrapping_add(right)
}

/// Tells rows from others that have the same sum.
fn weight(value: i64) -> i64 {
    value.wrapping_mul(value).wrapping_mul(17).wrapping_add(value).wrapping_add(1)
}

impl Chain {
    fn any() -> impl Strategy<Value = Self> {
        let leaf = prop_oneof![Just(Self::Left), Just(Self::Right)];
        let how = || prop_oneof![Just(How::Inner), Just(How::Left), Just(How::Outer)];
        let caching = prop_oneof![Just(Caching::On), Just(Caching::Off)];
        leaf.prop_recursive(4, 10, 2, move |inner| {
            let one = || inner.clone().prop_map(Box::new);
            prop_oneof![
                2 => (2..4_i64, one()).prop_map(|(n, of)| Self::Filter(n, of)),
                1 => (2..4_i64, one()).prop_map(|(n, of)| Self::Map(n, of)),
                1 => one().prop_map(Self::Kept),
                1 => one().prop_map(Self::Cached),
                2 => one().prop_map(Self::Streamed),
                5 => (how(), one(), one()).prop_map(|(how, l, r)| Self::Join(how, l, r)),
                1 => (1..4_i64, caching.clone(), one()).prop_map(|(n, c, of)| Self::Sums(n, c, of)),
            ]
        })
    }

    fn draw(&self, sides: &[Table; 2], stores: &mut usize) -> Table {
        *stores += 1;
        let store = format!("store-{stores}");
        match self {
            Self::Left => sides[0].clone(),
            Self::Right => sides[1].clone(),
            Self::Filter(n, of) => {
                let n = *n;
                of.draw(sides, stores).filter(move |_, value| value.rem_euclid(n) != 0)
            }
            Self::Map(n, of) => {
                let n = *n;
                of.draw(sides, stores).map_values(move |value| value.wrapping_mul(n))
            }
            Self::Kept(of) => of.draw(sides, stores).materialized(&*store),
            Self::Cached(of) => {
                let last = |_: &String, value: Option<i64>, _: i64| value;
                let updates = of.draw(sides, stores).to_stream().group_by_key();
                updates.aggregate_or_delete(|| 0, last, &*store)
            }
            Self::Streamed(of) => of.draw(sides, stores).to_stream().to_table(&*store),
            Self::Join(how, left, right) => {
                let (left, right) = (left.draw(sides, stores), right.draw(sides, stores));
                match how {
                    How::Inner => left.join(&right, joined),
                    How::Left => left.left_join(&right, |l, r| joined(l, r.unwrap_or(7))),
                    How::Outer => {
                        left.outer_join(&right, |l, r| joined(l.unwrap_or(5), r.unwrap_or(7)))
                    }
                }
            }
            Self::Sums(n, caching, of) => {
                let (n, kept) = (*n, Materialized::named(store));
                let kept = match caching {
                    Caching::On => kept,
                    Caching::Off => kept.with_caching_disabled(),
                };
                let grouped = of
                    .draw(sides, stores)
                    .group_by(move |_, value| (group(*value, n), weight(*value)));
                // A group without rows has none: weights are never 0 together, but by chance.
                grouped.reduce_or_delete(
                    |sum, weight| Some(sum.wrapping_add(weight)),
                    |sum, weight| Some(sum.wrapping_sub(weight)).filter(|sum| *sum != 0),
                    kept,
                )
            }
        }
    }

    /// The final rows, of those of the two topics.
    fn rows(&self, sides: &[Rows; 2]) -> Rows {
        match self {
            Self::Left => sides[0].clone(),
            Self::Right => sides[1].clone(),
            Self::Filter(n, of) => {
                let rows = of.rows(sides).into_iter();
                rows.filter(|(_, value)| value.rem_euclid(*n) != 0).collect()
            }
            Self::Map(n, of) => {
                let rows = of.rows(sides).into_iter();
                rows.map(|(key, value)| (key, value.wrapping_mul(*n))).collect()
            }
            Self::Kept(of) | Self::Cached(of) | Self::Streamed(of) => of.rows(sides),
            Self::Join(how, left, right) => {
                let (left, right) = (left.rows(sides), right.rows(sides));
                let keys = left.keys().chain(right.keys()).cloned();
                let row = |key: String| {
                    let row = match (how, left.get(&key), right.get(&key)) {
                        (_, Some(left), Some(right)) => joined(*left, *right),
                        (How::Left | How::Outer, Some(left), None) => joined(*left, 7),
                        (How::Outer, None, Some(right)) => joined(5, *right),
                        _ => return None,
                    };
                    Some((key, row))
                };
                keys.filter_map(row).collect()
            }
            Self::Sums(n, _, of) => {
                let mut sums = Rows::new();
                for value in of.rows(sides).into_values() {
                    let sum = sums.entry(group(value, *n)).or_default();
                    *sum = sum.wrapping_add(weight(value));
                }
                sums.retain(|_, sum| *sum != 0);
                sums
            }
        }
    }
}

/// Keys of groups are keys of the topics too, so that both can be joined.
fn group(value: i64, n: i64) -> String {
    format!("k{}", value.rem_euclid(n))
}

/// What happens between two commits.
#[derive(Debug, Clone)]
struct Round {
    /// Records: whether for the right table, the key, and the value.
    records: Vec<(bool, u8, Option<i64>)>,
    /// The steps that are taken and lost, and whether the state is lost too.
    kill: Option<(u8, bool)>,
}

fn round() -> impl Strategy<Value = Round> {
    let value = prop::option::weighted(0.7, -4..5_i64);
    let records = prop::collection::vec((any::<bool>(), 0..4_u8, value), 1..12);
    let kill = prop::option::weighted(0.3, (0..6_u8, any::<bool>()));
    (records, kill).prop_map(|(records, kill)| Round { records, kill })
}

#[derive(Debug, Clone)]
struct Case {
    chain: Chain,
    rounds: Vec<Round>,
    partitions: u32,
    rows_max: usize,
    repartitioning: Repartitioning,
}

fn case() -> impl Strategy<Value = Case> {
    let repartitioning =
        prop_oneof![Just(Repartitioning::default()), Just(Repartitioning::ThroughTopic)];
    let rows_max = prop::sample::select(&[1, 2, 7, 8_192][..]);
    let rounds = prop::collection::vec(round(), 1..5);
    (Chain::any(), rounds, 1..4_u32, rows_max, repartitioning).prop_map(
        |(chain, rounds, partitions, rows_max, repartitioning)| Case {
            chain,
            rounds,
            partitions,
            rows_max,
            repartitioning,
        },
    )
}

/// The application of a case, and the final rows of its inputs.
fn run(case: &Case) -> (TopologyTestDriver, [Rows; 2]) {
    let builder = StreamsBuilder::new();
    let sides = [builder.table("l"), builder.table("r")];
    let table = case.chain.draw(&sides, &mut 0);
    table.to("out");
    table.filter(|_, value| value % 2 == 0).to("even");
    let all = table.group_by(|_, value| ("all".to_owned(), weight(*value)));
    let kept = Materialized::named("all").with_caching_disabled();
    all.reduce(i64::wrapping_add, i64::wrapping_sub, kept).to("all");
    let partitions = BTreeMap::from([("l", case.partitions), ("r", case.partitions)]);
    let config = StreamsConfig::new("app")
        .with_batch_rows_max(case.rows_max)
        .with_repartitioning(case.repartitioning);
    let topology = builder.build().expect("it can be built");
    let driver = TopologyTestDriver::with(topology, config, &partitions).expect("it starts");
    let (driver, mut rows) = (driver.by_hand(), [Rows::new(), Rows::new()]);
    let mut at = 0;
    for Round { records, kill } in &case.rounds {
        for (is_right, key, value) in records {
            at += 1;
            let key = format!("k{key}");
            let (topic, rows) = match (is_right, &mut rows) {
                (false, [left, _]) => ("l", left),
                (true, [_, right]) => ("r", right),
            };
            match value {
                Some(value) => drop(rows.insert(key.clone(), *value)),
                None => drop(rows.remove(&key)),
            }
            let input = driver.input_topic::<String, Option<i64>>(topic);
            input.pipe_input(key, *value, at).expect("it is taken");
        }
        if let Some((steps, state_is_lost)) = kill {
            for _ in 0..*steps {
                driver.step().expect("it goes on");
            }
            if *state_is_lost {
                driver.lose_state();
            } else {
                driver.crash();
            }
            driver.restart().expect("it starts again");
        }
        driver.run_until_idle().expect("it goes on");
        driver.commit().expect("it goes on");
    }
    // Each cache and each topic between takes a commit.
    for _ in 0..24 {
        driver.run_until_idle().expect("it goes on");
        driver.commit().expect("it goes on");
    }
    (driver, rows)
}

/// The updates of a topic.
fn updates(driver: &TopologyTestDriver, topic: &str) -> Vec<(String, Option<i64>)> {
    let rows = driver.output_topic::<String, Option<i64>>(topic).read_records_to_list();
    rows.expect("they can be read").into_iter().map(|row| (row.key, row.value)).collect()
}

/// The rows that updates lead to.
fn folded(updates: &[(String, Option<i64>)]) -> Rows {
    let mut rows = Rows::new();
    for (key, value) in updates {
        match value {
            Some(value) => drop(rows.insert(key.clone(), *value)),
            None => drop(rows.remove(key)),
        }
    }
    rows
}

fn ends_as_the_model(case: &Case) -> Result<(), TestCaseError> {
    let (driver, inputs) = run(case);
    let expected = case.chain.rows(&inputs);
    prop_assert_eq!(&folded(&updates(&driver, "out")), &expected, "the table");
    let even = updates(&driver, "even");
    let mut rows = Rows::new();
    for (place, (key, value)) in even.iter().enumerate() {
        match value {
            Some(value) => drop(rows.insert(key.clone(), *value)),
            None => prop_assert!(rows.remove(key).is_some(), "{place}: {key} was not there"),
        }
    }
    let some = expected.iter().filter(|(_, value)| **value % 2 == 0);
    let some: Rows = some.map(|(key, value)| (key.clone(), *value)).collect();
    prop_assert_eq!(rows, some, "below a filter");
    let all = expected.values().fold(0, |all: i64, value| all.wrapping_add(weight(*value)));
    let sum = folded(&updates(&driver, "all")).get("all").copied().unwrap_or(0);
    prop_assert_eq!(sum, all, "below an aggregation");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(400),
        max_shrink_iters: 4_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn chains_of_table_operators_end_as_the_model(case in case()) {
        ends_as_the_model(&case)?;
    }
}

//! Batching never changes a result: random topologies over random records give the same outputs, changelogs, positions
//! and dead letters, byte for byte, whether a batch has 1, 2, 7 or 8,192 rows. Commit points are pinned: a commit
//! follows each group of piped records.

#![expect(clippy::indexing_slicing, reason = "what fails here fails its test")]

use headwater_core::{ports::log::Log, record::TopicPartition};
use headwater_dsl::{EmitStrategy, KStream, Materialized, StreamsBuilder, TimeWindows};
use headwater_engine::{runtime::StreamsConfig, topology::Topology};
use headwater_testkit::TopologyTestDriver;
use proptest::prelude::*;
use std::{collections::BTreeMap, time::Duration};

/// A step of a random pipeline over `KStream<String, i64>`.
#[derive(Debug, Clone)]
enum Op {
    Filter(i64),
    Twice,
    Rekey(i64),
    FanOut,
    /// Two paths that meet again in one sink.
    Fork,
    /// Two paths that meet again in the stream that goes on.
    ForkAndMerge(i64),
    Split,
    Count {
        caching: bool,
    },
    Window {
        finals: bool,
        caching: bool,
        grace: u64,
    },
    JoinTable,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (2..5_i64).prop_map(Op::Filter),
        Just(Op::Twice),
        (1..4_i64).prop_map(Op::Rekey),
        Just(Op::FanOut),
        Just(Op::Fork),
        (2..5_i64).prop_map(Op::ForkAndMerge),
        Just(Op::Split),
        any::<bool>().prop_map(|caching| Op::Count { caching }),
        (any::<bool>(), any::<bool>(), 0..40_u64).prop_map(|(finals, caching, grace)| Op::Window {
            finals,
            caching,
            grace
        }),
        Just(Op::JoinTable),
    ]
}

/// A record: topic, key, value (`None`: bytes that are no number) and timestamp.
type Input = (bool, u8, Option<i64>, i64);

fn inputs() -> impl Strategy<Value = Vec<Vec<Input>>> {
    let record =
        (prop::bool::weighted(0.2), 0..6_u8, prop::option::weighted(0.93, -9..9_i64), 0..200_i64);
    prop::collection::vec(prop::collection::vec(record, 1..40), 1..4)
}

fn materialized(name: &str, caching: bool) -> Materialized {
    let named = Materialized::named(name);
    if caching { named } else { named.with_caching_disabled() }
}

fn apply(
    builder: &StreamsBuilder,
    stream: KStream<String, i64>,
    op: &Op,
    at: usize,
) -> KStream<String, i64> {
    match *op {
        Op::Filter(n) => stream.filter(move |_, value| value.rem_euclid(n) != 0),
        Op::Twice => stream.map_values(|value| value.wrapping_mul(2)),
        Op::Rekey(n) => stream.select_key(move |_, value| format!("r{}", value.rem_euclid(n))),
        Op::FanOut => stream.flat_map_values(|value| vec![value, value.wrapping_add(1)]),
        Op::Fork => {
            stream.filter(|_, value| value % 2 == 0).to("side");
            stream.map_values(|value| -value).to("side");
            stream
        }
        Op::ForkAndMerge(n) => {
            let left = stream
                .filter(move |_, value| value.rem_euclid(n) == 0)
                .map_values(|value| value + 100);
            let right = stream.flat_map_values(|value| vec![value; 2]);
            left.merge(&right)
        }
        Op::Split => {
            let branches = stream.split();
            let negative = branches.branch(|_, value| *value < 0);
            let rest = branches.default_branch();
            negative.map_values(|value| value - 1).merge(&rest)
        }
        Op::Count { caching } => {
            let counts = stream.group_by_key().count(materialized(&format!("count-{at}"), caching));
            counts.to_stream().drop_null_values()
        }
        Op::Window { finals, caching, grace } => {
            let windows = TimeWindows::of_size_and_grace(
                Duration::from_millis(20),
                Duration::from_millis(grace),
            );
            let emit = if finals {
                EmitStrategy::on_window_close()
            } else {
                EmitStrategy::on_window_update()
            };
            let grouped = stream.group_by_key().windowed_by(windows).emit_strategy(emit);
            let sums =
                grouped.reduce(i64::wrapping_add, materialized(&format!("window-{at}"), caching));
            sums.to_stream()
                .drop_null_values()
                .map(|key, value| (format!("{}@{}", key.key, key.window.start), value))
        }
        Op::JoinTable => {
            // A topic can be read as a table once a topology.
            let table = builder.table::<String, i64>("table");
            stream.left_join(&table, |value, side| value + side.unwrap_or(1_000))
        }
    }
}

fn draw(ops: &[Op]) -> Topology {
    let builder = StreamsBuilder::new();
    let mut stream = builder.stream::<String, i64>("in");
    let mut joined = false;
    for (at, op) in ops.iter().enumerate() {
        if !(joined && matches!(op, Op::JoinTable)) {
            stream = apply(&builder, stream, op, at);
        }
        joined |= matches!(op, Op::JoinTable);
    }
    stream.to("out");
    builder.build().expect("the driver does as it is told")
}

/// Everything the log holds but what is on its way through repartition topics, by partition: offset, timestamp, key, value, headers of each record.
type Dump = BTreeMap<String, Vec<(i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<u8>)>>;

fn dump(driver: &TopologyTestDriver) -> Dump {
    let log = driver.log();
    let mut dump = Dump::new();
    let topics = log.topics().expect("the driver does as it is told");
    for spec in topics.iter().filter(|spec| !spec.name.as_str().ends_with("-repartition")) {
        for partition in 0..spec.partitions {
            let at = TopicPartition::new(spec.name.clone(), partition);
            let mut rows = Vec::new();
            let mut offset = log.offsets(&at).expect("the driver does as it is told").start;
            while offset < log.offsets(&at).expect("the driver does as it is told").end {
                let fetched =
                    log.fetch(&at, offset, 1 << 20).expect("the driver does as it is told");
                let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
                rows.extend(fetched.records.iter().map(|r| {
                    (r.offset, r.timestamp, owned(r.key), owned(r.value), r.headers.to_vec())
                }));
                offset = fetched.next_offset;
            }
            dump.insert(at.to_string(), rows);
        }
    }
    dump
}

fn run(ops: &[Op], groups: &[Vec<Input>], rows_max: usize, partitions: u32) -> Dump {
    let config = StreamsConfig::new("app").with_batch_rows_max(rows_max);
    let partitions = BTreeMap::from([("in", partitions), ("table", partitions)]);
    let driver = TopologyTestDriver::with(draw(ops), config, &partitions)
        .expect("the driver does as it is told")
        .by_hand();
    let known = driver
        .log()
        .topics()
        .expect("the driver does as it is told")
        .iter()
        .any(|spec| spec.name.as_str() == "table");
    let (input, table) =
        (driver.input_topic::<String, i64>("in"), driver.input_topic::<String, i64>("table"));
    for group in groups {
        for (to_table, key, value, timestamp) in group {
            let to = if *to_table && known { &table } else { &input };
            let bytes = value.map_or(b"bad".to_vec(), |value| value.to_be_bytes().to_vec());
            to.pipe_bytes(Some(format!("k{key}").as_bytes()), Some(&bytes), *timestamp)
                .expect("the driver does as it is told");
        }
        driver.run_until_idle().expect("the driver does as it is told");
        driver.commit().expect("the driver does as it is told");
    }
    driver.finish_input().expect("the driver does as it is told");
    dump(&driver)
}

fn same_at_every_size(ops: &[Op], groups: &[Vec<Input>], partitions: u32) {
    let expected = run(ops, groups, 1, partitions);
    for rows_max in [2, 7, 8_192] {
        let seen = run(ops, groups, rows_max, partitions);
        for (partition, rows) in &expected {
            assert_eq!(rows, &seen[partition], "{partition} at {rows_max} rows a batch, {ops:?}");
        }
    }
}

/// Runs some steps before each commit; `crashes` tells after which commits the application is killed, and whether its
/// state is lost with it.
fn run_in_steps(ops: &[Op], groups: &[Vec<Input>], steps: &[u8], crashes: &[Option<bool>]) -> Dump {
    let config = StreamsConfig::new("app").with_batch_rows_max(3);
    let driver = TopologyTestDriver::with(draw(ops), config, &BTreeMap::new())
        .expect("the driver does as it is told")
        .by_hand();
    let input = driver.input_topic::<String, i64>("in");
    for ((group, steps), crash) in
        groups.iter().zip(steps.iter().cycle()).zip(crashes.iter().cycle())
    {
        for (_, key, value, timestamp) in group {
            let bytes = value.map_or(b"bad".to_vec(), |value| value.to_be_bytes().to_vec());
            input
                .pipe_bytes(Some(format!("k{key}").as_bytes()), Some(&bytes), *timestamp)
                .expect("the driver does as it is told");
        }
        for _ in 0..*steps {
            driver.step().expect("the driver does as it is told");
        }
        driver.commit().expect("the driver does as it is told");
        if let Some(state_is_lost) = crash {
            // What is done from here on was never committed.
            driver.step().expect("the driver does as it is told");
            if *state_is_lost {
                driver.lose_state()
            } else {
                driver.crash()
            }
            driver.restart().expect("the driver does as it is told");
        }
    }
    driver.finish_input().expect("the driver does as it is told");
    dump(&driver)
}

/// The records of a topic without their offsets; sorted where several tasks write it.
fn contents(dump: &Dump, topic: &str, sorted: bool) -> Vec<String> {
    let rows = dump.get(&format!("{topic}-0")).into_iter().flatten();
    let mut rows: Vec<String> =
        rows.map(|(_, at, key, value, _)| format!("{at} {key:?} {value:?}")).collect();
    if sorted {
        rows.sort();
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Kills lose nothing and repeat nothing, also of what was on its way between sub-topologies, and with the state gone.
    #[test]
    fn a_killed_application_gives_the_same_results(
        ops in prop::collection::vec(op(), 0..6),
        groups in inputs(),
        steps in prop::collection::vec(0..6_u8, 1..4),
        crashes in prop::collection::vec(prop::option::of(any::<bool>()), 1..4),
    ) {
        // Which updates a cache folds together depends on where commits fall among a task's records.
        let uncached = |mut op: Op| {
            if let Op::Count { caching } | Op::Window { caching, .. } = &mut op {
                *caching = false;
            }
            op
        };
        let ops: Vec<Op> = ops.into_iter().filter(|op| !matches!(op, Op::JoinTable)).map(uncached).collect();
        let expected = run_in_steps(&ops, &groups, &steps, &[None]);
        let seen = run_in_steps(&ops, &groups, &steps, &crashes);
        for (topic, sorted) in [("out", false), ("side", true), ("app-dead-letters", true)] {
            prop_assert_eq!(contents(&expected, topic, sorted), contents(&seen, topic, sorted), "{} {:?}", topic, ops);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_topology_over_one_partition(ops in prop::collection::vec(op(), 0..6), groups in inputs()) {
        same_at_every_size(&ops, &groups, 1);
    }

    /// Which of two tasks sends first to a third is nobody's promise, so what repartitions is left out here.
    #[test]
    fn any_topology_without_a_repartition_over_three(ops in prop::collection::vec(op(), 0..5), groups in inputs()) {
        let keeps_keys = |op: &Op| !matches!(op, Op::Rekey(_) | Op::Window { .. });
        let ops: Vec<Op> = ops.into_iter().filter(keeps_keys).collect();
        same_at_every_size(&ops, &groups, 3);
    }
}

//! The kernel under columns gives what it gives under the typed builder: a windowed count, its updates with caching or
//! without and its finals, above and below a repartition, over several partitions, batches of any size and kills. Outputs,
//! dead letters and the store's changelog are compared byte for byte, and what was dropped by number.

use headwater_core::{
    ports::log::{Append, Commit, Log},
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition, murmur2_partition},
    serde::{SharedSerde, for_type},
};
use headwater_dsl::{EmitStrategy, Materialized, StreamsBuilder, TimeWindows};
use headwater_engine::{
    kernel::{Emit, WindowedFinals, WindowedUpdates, Windows},
    node::Node,
    runtime::StreamsConfig,
    store::{WindowStore, Windowed, WindowedSerde},
    topology::{Port, Topic, Topology, TopologyError},
};
use headwater_testkit::TopologyTestDriver;
use headwater_tests_columnar::{
    ColumnDecoder, ColumnEncoder, Columns, CountSkin, Filter, SelectKey,
};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

type Key = Option<String>;
type Taken = Columns<Key, i64>;
type Counts = Columns<Windowed<Key>, Option<i64>>;

const SIZE_MS: u64 = 10;

/// When counts come out.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Out {
    Updates,
    CachedUpdates,
    Finals,
}

/// A windowed count.
#[derive(Debug, Clone, Copy)]
struct Shape {
    out: Out,
    grace_ms: u64,
    repartitions: bool,
}

/// A record: its key, its value (`None` for bytes that are no number) and its timestamp.
type Input = (Option<u8>, Option<i64>, i64);

/// What happens between two commits.
#[derive(Debug, Clone)]
struct Group {
    records: Vec<Input>,
    /// After so many steps the application is killed, and its state may be lost.
    kill: Option<(u8, bool)>,
    ends: bool,
}

fn keeps(value: &i64) -> bool {
    value % 5 != 0
}

fn key_of(value: &i64) -> Key {
    (value % 7 != 0).then(|| format!("n{}", value.rem_euclid(4)))
}

fn typed(shape: Shape) -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    let mut stream = builder.stream::<Key, i64>("in").filter(|_, value| keeps(value));
    if shape.repartitions {
        stream = stream.select_key(|_, value| key_of(value));
    }
    let (size, grace) = (Duration::from_millis(SIZE_MS), Duration::from_millis(shape.grace_ms));
    let store = Materialized::named("counts");
    let (emit, store) = match shape.out {
        Out::Updates => (EmitStrategy::on_window_update(), store.with_caching_disabled()),
        Out::CachedUpdates => (EmitStrategy::on_window_update(), store),
        Out::Finals => (EmitStrategy::on_window_close(), store),
    };
    let windows = TimeWindows::of_size_and_grace(size, grace);
    let counts = stream.group_by_key().windowed_by(windows).emit_strategy(emit).count(store);
    counts.named("count").to_stream().to("out");
    builder.build()
}

fn columnar(shape: Shape) -> Result<Topology, TopologyError> {
    let (keys, values): (SharedSerde<Key>, SharedSerde<i64>) = (for_type(), for_type());
    let (read, write) = (ColumnDecoder::new(&keys, &values), ColumnEncoder::new(&keys, &values));
    let mut topology = Topology::new();
    let external = |name| Ok::<_, TopologyError>(Topic::External(TopicName::new(name)?));
    topology.add_payload_source::<Taken>("in", external("in")?, move || Box::new(read.clone()))?;
    topology.add_node::<Taken>(
        "filter",
        |_| Ok(Box::new(Filter::<Key, i64>::new(keeps))),
        &[Port::of::<Taken>(&["in"])],
    )?;
    let mut last = "filter";
    if shape.repartitions {
        let topic = Topic::Repartition(TopicName::new("counts")?);
        topology.add_node::<Taken>(
            "key",
            |_| Ok(Box::new(SelectKey::<Key, i64, Key>::new(key_of))),
            &[Port::of::<Taken>(&["filter"])],
        )?;
        topology.add_payload_sink::<Taken>(
            "sink",
            topic.clone(),
            move || Box::new(write.clone()),
            &["key"],
        )?;
        let read = ColumnDecoder::new(&keys, &values);
        topology.add_payload_source::<Taken>("source", topic, move || Box::new(read.clone()))?;
        last = "source";
    }
    let windows = Windows {
        size_ms: SIZE_MS.cast_signed(),
        grace_ms: shape.grace_ms.cast_signed(),
        retention_ms: 0,
    };
    let skin_keys = SharedSerde::clone(&keys);
    topology.add_node::<Counts>(
        "count",
        move |context| {
            let skin = CountSkin::<Key, i64>::new(&skin_keys);
            let emit = Emit { is_cached: shape.out == Out::CachedUpdates, with_old: false };
            Ok(match shape.out {
                Out::Finals => Box::new(WindowedFinals::open(skin, "counts", windows, context)?)
                    as Box<dyn Node>,
                Out::Updates | Out::CachedUpdates => {
                    Box::new(WindowedUpdates::open(skin, "counts", windows, emit, context)?)
                }
            })
        },
        &[Port::of::<Taken>(&[last])],
    )?;
    let store = WindowStore::builder("counts", SharedSerde::clone(&keys), values);
    topology.add_state_store(store, &["count"])?;
    let windowed: SharedSerde<Windowed<Key>> =
        Arc::new(WindowedSerde::new(keys, SIZE_MS.cast_signed()));
    let write = ColumnEncoder::new(&windowed, &for_type::<Option<i64>>());
    topology.add_payload_sink::<Counts>(
        "out",
        external("out")?,
        move || Box::new(write.clone()),
        &["count"],
    )?;
    Ok(topology)
}

/// A record as the log holds it: timestamp, key, value, headers.
type Row = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<u8>);

/// What a run leaves: records by partition, and how many were dropped at the count.
type Left = (BTreeMap<String, Vec<Row>>, u64);

struct Run {
    driver: TopologyTestDriver,
    partitions: u32,
}

impl Run {
    fn start(topology: Topology, partitions: u32, rows_max: usize) -> Self {
        let config = StreamsConfig::new("app").with_batch_rows_max(rows_max);
        let topics = [("in", partitions), ("out", partitions)].into();
        let driver = TopologyTestDriver::with(topology, config, &topics).expect("it starts");
        Self { driver: driver.by_hand(), partitions }
    }

    fn append(&self, records: &[Input]) {
        let mut sets: BTreeMap<u32, RecordSetBuilder> = BTreeMap::new();
        for (key, value, at) in records {
            let key = key.map(|key| format!("k{key}").into_bytes());
            let value = value.map_or(b"bad".to_vec(), |value| value.to_be_bytes().to_vec());
            let partition = key.as_ref().map_or(0, |key| murmur2_partition(key, self.partitions));
            let set = sets.entry(partition).or_default();
            set.push(*at, key.as_deref(), Some(&value), &Headers::new()).expect("it fits");
        }
        let append = |(partition, records): (u32, RecordSetBuilder)| Append {
            partition: TopicPartition::new(TopicName::new("in").expect("a name"), partition),
            base_offset: None,
            records: Arc::new(records.build()),
        };
        let appends = sets.into_iter().map(append).collect();
        let commit = Commit { appends, ..Commit::default() };
        let ticket = self.driver.log().commit(commit).expect("the log takes it");
        ticket.wait().expect("the log takes it");
    }

    fn take(&self, group: &Group) {
        self.append(&group.records);
        if let Some((steps, state_is_lost)) = group.kill {
            for _ in 0..steps {
                self.driver.step().expect("it goes on");
            }
            if state_is_lost {
                self.driver.lose_state();
            } else {
                self.driver.crash();
            }
            self.driver.restart().expect("it starts again");
        }
        self.driver.run_until_idle().expect("it goes on");
        self.driver.commit().expect("it goes on");
        if group.ends {
            self.driver.finish_input().expect("it goes on");
        }
    }

    fn finish(&self) -> Left {
        self.driver.finish_input().expect("it goes on");
        let log = self.driver.log();
        let is_compared =
            |name: &str| !name.contains("-repartition") && !name.contains("-positions-");
        let mut left = BTreeMap::new();
        for topic in log.topics().expect("the log answers") {
            let name = topic.name.as_str();
            for partition in 0..if is_compared(name) { topic.partitions } else { 0 } {
                let at = TopicPartition::new(topic.name.clone(), partition);
                let fetched = log.fetch(&at, 0, usize::MAX).expect("the log answers");
                let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
                let rows = fetched.records.iter().map(|record| {
                    let headers = record.headers.to_vec();
                    (record.timestamp, owned(record.key), owned(record.value), headers)
                });
                left.insert(at.to_string(), rows.collect());
            }
        }
        (left, self.driver.dropped_records("count"))
    }
}

fn run(topology: Topology, partitions: u32, groups: &[Group], rows_max: usize) -> Left {
    let run = Run::start(topology, partitions, rows_max);
    groups.iter().for_each(|group| run.take(group));
    run.finish()
}

fn shape() -> impl Strategy<Value = Shape> {
    let out = prop_oneof![Just(Out::Updates), Just(Out::CachedUpdates), Just(Out::Finals)];
    (out, 0..30_u64, any::<bool>()).prop_map(|(out, grace_ms, repartitions)| Shape {
        out,
        grace_ms,
        repartitions,
    })
}

fn group() -> impl Strategy<Value = Group> {
    let key = prop::option::weighted(0.95, 0..5_u8);
    let value = prop::option::weighted(0.95, -20..20_i64);
    let records = prop::collection::vec((key, value, 0..120_i64), 1..30);
    let kill = prop::option::of((0..6_u8, any::<bool>()));
    (records, kill, prop::bool::weighted(0.2)).prop_map(|(records, kill, ends)| Group {
        records,
        kill,
        ends,
    })
}

fn rows_max() -> impl Strategy<Value = usize> {
    prop::sample::select(&[1_usize, 2, 7, 8_192][..])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn columns_count_as_typed_rows_do(
        shape in shape(),
        partitions in 1..4_u32,
        groups in prop::collection::vec(group(), 1..4),
        (rows_max, other) in (rows_max(), rows_max()),
    ) {
        // Which of two tasks sends first to a third is nobody's promise: that depends on the size of a batch.
        let other = if shape.repartitions && partitions > 1 { rows_max } else { other };
        let typed = run(typed(shape).expect("it can be built"), partitions, &groups, rows_max);
        let columnar = run(columnar(shape).expect("it can be built"), partitions, &groups, other);
        prop_assert_eq!(typed, columnar);
    }
}

/// Counts, late rows, bad records and rows without a key: nothing is compared that is never there.
#[test]
fn what_is_compared_is_there() {
    let shape = Shape { out: Out::Finals, grace_ms: 0, repartitions: true };
    let records = vec![
        (Some(1), Some(1), 5),
        (Some(2), Some(2), 25),
        (Some(1), Some(1), 26),
        (Some(1), Some(1), 7),
        (Some(1), Some(7), 27),
        (None, Some(3), 28),
        (Some(1), Some(5), 29),
        (Some(1), None, 29),
    ];
    let groups = [Group { records, kill: Some((2, true)), ends: false }];
    let (left, dropped) = run(columnar(shape).unwrap(), 1, &groups, 8_192);
    let out: Vec<_> = left["out-0"].iter().map(|(at, key, value, _)| (*at, key, value)).collect();
    assert_eq!(out.len(), 4, "{out:?}");
    assert_eq!(dropped, 2, "one is late, one has no key");
    assert_eq!(left["app-dead-letters-0"].len(), 1);
    assert_eq!(left["app-counts-changelog-0"].len(), 5, "three counts and two floors");
}

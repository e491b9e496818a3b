//! The kernel under columns gives what it gives under the typed builder: a table, sums, and sums in windows, their updates
//! with caching or without and their finals, above and below a repartition, over several partitions, batches of any size
//! and kills. Outputs, dead letters and the store's changelog are compared byte for byte, and what was dropped by number.

use headwater_core::{
    ports::log::{Append, Commit},
    record::{Headers, RecordSetBuilder, TopicName, TopicPartition, murmur2_partition},
    serde::{Data, SharedSerde, for_type},
};
use headwater_dsl::{EmitStrategy, Materialized, StreamsBuilder, TimeWindows};
use headwater_engine::{
    kernel::{Aggregate, Emit, Table, WindowedFinals, WindowedUpdates, Windows, headers_store},
    node::Node,
    runtime::StreamsConfig,
    store::{KeyValueStore, OldValues, Window, WindowStore, Windowed, WindowedSerde},
    topology::{Consumed, Decoder, Encoder, Port, Topic, Topology, TopologyError},
};
use headwater_testkit::TopologyTestDriver;
use headwater_tests_columnar::{
    ColumnDecoder, ColumnEncoder, Columns, Filter, FoldSkin, SelectKey,
};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

type Key = Option<String>;
type Taken = Columns<Key, i64>;

/// What is kept of each key, and when it comes out.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kept {
    /// The newest value.
    Newest,
    /// The sum, or that of each window.
    Sums { windows: Option<Windows>, out: Out },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Out {
    Updates,
    CachedUpdates,
    /// Of windows alone.
    Finals,
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    kept: Kept,
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

fn add(value: &i64, so_far: Option<i64>) -> Option<i64> {
    Some(so_far.unwrap_or(0) + value)
}

fn typed(shape: Shape) -> Result<Topology, TopologyError> {
    let (builder, store) = (StreamsBuilder::new(), Materialized::named("kept"));
    let Kept::Sums { windows, out } = shape.kept else {
        builder
            .table_with::<Key, i64>("in", Consumed::default(), store)
            .named("keep")
            .to_stream()
            .to("out");
        return builder.build();
    };
    let mut stream = builder.stream::<Key, i64>("in").filter(|_, value| keeps(value));
    if shape.repartitions {
        stream = stream.select_key(|_, value| key_of(value));
    }
    let store = if out == Out::Updates { store.with_caching_disabled() } else { store };
    let (grouped, sum) = (stream.group_by_key(), |so_far: i64, value: i64| so_far + value);
    if let Some(Windows { size_ms, advance_ms, grace_ms, .. }) = windows {
        let ms = |ms: i64| Duration::from_millis(ms.cast_unsigned());
        let emit = match out {
            Out::Updates | Out::CachedUpdates => EmitStrategy::on_window_update(),
            Out::Finals => EmitStrategy::on_window_close(),
        };
        let windows = TimeWindows::of_size_and_grace(ms(size_ms), ms(grace_ms));
        let windows = windows.advance_by(ms(advance_ms));
        let sums = grouped.windowed_by(windows).emit_strategy(emit).reduce(sum, store);
        sums.named("keep").to_stream().to("out");
    } else {
        grouped.reduce(sum, store).named("keep").to_stream().to("out");
    }
    builder.build()
}

/// The same, columnar.
struct Columnar {
    topology: Topology,
    keys: SharedSerde<Key>,
}

impl Columnar {
    fn of(shape: Shape) -> Result<Topology, TopologyError> {
        let mut drawn = Self { topology: Topology::new(), keys: for_type() };
        match shape.kept {
            Kept::Newest => drawn.newest()?,
            Kept::Sums { windows, out } => {
                let above = drawn.above(shape.repartitions)?;
                match windows {
                    Some(windows) => drawn.windowed(above, windows, out)?,
                    None => drawn.sums(above, out == Out::CachedUpdates)?,
                }
            }
        }
        Ok(drawn.topology)
    }

    /// Reads a topic.
    fn source<V: Data>(
        &mut self,
        name: &str,
        topic: Topic,
        values: &SharedSerde<V>,
    ) -> Result<(), TopologyError> {
        let decoder = ColumnDecoder::new(&self.keys, values);
        let make = move || Box::new(decoder.clone()) as Box<dyn Decoder>;
        self.topology.add_payload_source::<Columns<Key, V>>(name, topic, make).map(drop)
    }

    /// Writes a topic.
    fn sink<K: Data, V: Data>(
        &mut self,
        name: &str,
        topic: Topic,
        (keys, values): (&SharedSerde<K>, &SharedSerde<V>),
        parent: &str,
    ) -> Result<(), TopologyError> {
        let encoder = ColumnEncoder::new(keys, values);
        let make = move || Box::new(encoder.clone()) as Box<dyn Encoder>;
        self.topology.add_payload_sink::<Columns<K, V>>(name, topic, make, &[parent]).map(drop)
    }

    /// A filter, and another key where there is a repartition; gives the last node.
    fn above(&mut self, repartitions: bool) -> Result<&'static str, TopologyError> {
        let (keys, values) = (SharedSerde::clone(&self.keys), for_type::<i64>());
        self.source("in", external("in")?, &values)?;
        self.topology.add_node::<Taken>(
            "filter",
            |_| Ok(Box::new(Filter::<Key, i64>::new(keeps))),
            &[Port::of::<Taken>(&["in"])],
        )?;
        if !repartitions {
            return Ok("filter");
        }
        self.topology.add_node::<Taken>(
            "key",
            |_| Ok(Box::new(SelectKey::<Key, i64, Key>::new(key_of))),
            &[Port::of::<Taken>(&["filter"])],
        )?;
        let topic = Topic::Repartition(TopicName::new("kept")?);
        self.sink("sink", topic.clone(), (&keys, &values), "key")?;
        self.source("source", topic, &values)?;
        Ok("source")
    }

    fn newest(&mut self) -> Result<(), TopologyError> {
        type Updates = Columns<Key, Option<i64>>;
        let keys = SharedSerde::clone(&self.keys);
        self.source::<Option<i64>>("in", external("in")?, &for_type())?;
        self.topology.add_node::<Updates>(
            "keep",
            move |context| {
                let skin = FoldSkin::<Key, Option<i64>, i64, ()>::new(&keys, |value, _| *value);
                Ok(Box::new(Table::open(skin, "kept", OldValues::Omitted, context)?))
            },
            &[Port::of::<Updates>(&["in"])],
        )?;
        self.keep()
    }

    fn sums(&mut self, above: &str, is_cached: bool) -> Result<(), TopologyError> {
        let keys = SharedSerde::clone(&self.keys);
        self.topology.add_node::<Columns<Key, Option<i64>>>(
            "keep",
            move |context| {
                let skin = FoldSkin::<Key, i64, i64, ()>::new(&keys, add);
                let emit = Emit { is_cached, old_values: OldValues::Omitted, closes_at_end: false };
                Ok(Box::new(Aggregate::open(skin, "kept", emit, context)?))
            },
            &[Port::of::<Taken>(&[above])],
        )?;
        self.keep()
    }

    /// The store of what is not windowed, and the sink below.
    fn keep(&mut self) -> Result<(), TopologyError> {
        let keys = SharedSerde::clone(&self.keys);
        let store = KeyValueStore::builder("kept", SharedSerde::clone(&keys), for_type::<i64>());
        self.topology.add_state_store(store, &["keep"])?;
        self.sink("out", external("out")?, (&keys, &for_type::<Option<i64>>()), "keep")
    }

    fn windowed(&mut self, above: &str, windows: Windows, out: Out) -> Result<(), TopologyError> {
        let keys = SharedSerde::clone(&self.keys);
        self.topology.add_node::<Columns<Windowed<Key>, Option<i64>>>(
            "keep",
            move |context| {
                let skin = FoldSkin::<Key, i64, i64, Window>::new(&keys, add);
                let emit = Emit {
                    is_cached: out == Out::CachedUpdates,
                    old_values: OldValues::Omitted,
                    closes_at_end: false,
                };
                Ok(match out {
                    Out::Finals => {
                        let node = WindowedFinals::open(skin, "kept", windows, context)?;
                        Box::new(node.keeping_headers(HEADERS, context)?) as Box<dyn Node>
                    }
                    Out::Updates | Out::CachedUpdates => {
                        Box::new(WindowedUpdates::open(skin, "kept", windows, emit, context)?)
                    }
                })
            },
            &[Port::of::<Taken>(&[above])],
        )?;
        let keys = SharedSerde::clone(&self.keys);
        let store = WindowStore::builder("kept", SharedSerde::clone(&keys), for_type::<i64>());
        self.topology.add_state_store(store, &["keep"])?;
        if out == Out::Finals {
            self.topology.add_state_store(headers_store(HEADERS), &["keep"])?;
        }
        let windowed: SharedSerde<Windowed<Key>> =
            Arc::new(WindowedSerde::new(keys, windows.size_ms));
        self.sink("out", external("out")?, (&windowed, &for_type::<Option<i64>>()), "keep")
    }
}

fn external(name: &str) -> Result<Topic, TopologyError> {
    Ok(Topic::External(TopicName::new(name)?))
}

/// The store for the headers of finals.
const HEADERS: &str = "kept-headers";

/// A record as the log holds it: timestamp, key, value, headers.
type Row = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<u8>);

/// What a run leaves: records by partition, and how many were dropped where they are kept.
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
            // Null deletes a row of a table, and is no number.
            let value = Some(&value[..]).filter(|_| at % 11 > 0);
            set.push(*at, key.as_deref(), value, &Headers::new()).expect("it fits");
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
            |name: &str| !name.contains("-repartition") && !name.ends_with("-positions");
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
        (left, self.driver.dropped_records("keep").expect("there is such a node"))
    }
}

fn run(topology: Topology, partitions: u32, groups: &[Group], rows_max: usize) -> Left {
    let run = Run::start(topology, partitions, rows_max);
    groups.iter().for_each(|group| run.take(group));
    run.finish()
}

fn shape() -> impl Strategy<Value = Shape> {
    let windows = (1..30_i64, 1..=30_i64, 0..30_i64).prop_map(|(size_ms, advance_ms, grace_ms)| {
        let advance_ms = advance_ms.min(size_ms);
        Some(Windows { advance_ms, ..Windows::tumbling(size_ms, grace_ms) })
    });
    let updates = || prop_oneof![Just(Out::Updates), Just(Out::CachedUpdates)];
    let outs = prop_oneof![2 => updates(), 1 => Just(Out::Finals)];
    let kept = prop_oneof![
        1 => Just(Kept::Newest),
        2 => updates().prop_map(|out| Kept::Sums { windows: None, out }),
        5 => (windows, outs).prop_map(|(windows, out)| Kept::Sums { windows, out }),
    ];
    (kept, any::<bool>()).prop_map(|(kept, repartitions)| Shape {
        repartitions: repartitions && kept != Kept::Newest,
        kept,
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
    fn columns_are_kept_as_typed_rows_are(
        shape in shape(),
        partitions in 1..4_u32,
        groups in prop::collection::vec(group(), 1..4),
        (rows_max, other) in (rows_max(), rows_max()),
    ) {
        // Which of two tasks sends first to a third is nobody's promise: that depends on the size of a batch.
        let other = if shape.repartitions && partitions > 1 { rows_max } else { other };
        let typed = run(typed(shape).expect("it can be built"), partitions, &groups, rows_max);
        let columnar = run(Columnar::of(shape).expect("it can be built"), partitions, &groups, other);
        prop_assert_eq!(typed, columnar);
    }
}

/// Sums, late rows, bad records and rows without a key: nothing is compared that is never there.
#[test]
fn what_is_compared_is_there() {
    let windows = Some(Windows::tumbling(10, 0));
    let shape = Shape { kept: Kept::Sums { windows, out: Out::Finals }, repartitions: true };
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
    let (left, dropped) = run(Columnar::of(shape).unwrap(), 1, &groups, 8_192);
    let out: Vec<_> = left["out-0"].iter().map(|(at, key, value, _)| (*at, key, value)).collect();
    assert_eq!(out.len(), 4, "{out:?}");
    assert_eq!(dropped, 2, "one is late, one has no key");
    assert_eq!(left["app-dead-letters-0"].len(), 1);
    assert_eq!(left["app-kept-changelog-0"].len(), 5, "three sums and two floors");
}

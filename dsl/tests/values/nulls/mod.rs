//! The rule of each operator for null keys and null values, as `docs/nulls.md` has it: the same with and without a
//! repartition, in memory and through its topic, cached or not, one by one and all at once.
//!
//! Records are written `key=value@timestamp`, `∅` for null.

mod called;
mod joins;
mod tables;
mod windows;

use headwater_dsl::{
    BufferConfig, CogroupedKStream, DefaultSerde, EmitStrategy, KGroupedTable, KStream, KTable,
    Materialized, OperatorKind, Printed, StreamsBuilder, Suppressed, TimeWindowedKStream,
    TimeWindows,
};
use headwater_engine::{
    processor::{
        Context, FixedKeyContext, FixedKeyProcessor, FixedKeyRecord, InitContext, Processor,
        ProcessorError, Record,
    },
    runtime::{Repartitioning, StreamsConfig},
    store::{KeyValueStore, StoreKey},
    topology::RecordContext,
};
use headwater_testkit::TopologyTestDriver;
use std::{collections::BTreeMap, error::Error, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;
type Key = Option<String>;
type Value = Option<i64>;

/// What every rule is tried on.
const RECORDS: &str = "∅=1@1 =2@2 ∅=∅@3 a=∅@4";
/// What the table has that is joined with.
const ROWS: &str = "=10@0 a=20@0 ∅=30@0";

/// Which way the records take.
#[derive(Debug, Clone, Copy)]
struct Way {
    below_repartition: bool,
    caching: bool,
    all_at_once: bool,
    repartitioning: Repartitioning,
}

fn ways() -> Vec<Way> {
    let mut ways = Vec::new();
    for way in 0..8 {
        let bit = |place: u32| way & (1 << place) != 0;
        let (below_repartition, caching, all_at_once) = (bit(0), bit(1), bit(2));
        let repartitioning = Repartitioning::default();
        ways.push(Way { below_repartition, caching, all_at_once, repartitioning });
        if below_repartition {
            let repartitioning = Repartitioning::ThroughTopic;
            ways.push(Way { below_repartition, caching, all_at_once, repartitioning });
        }
    }
    ways
}

impl Way {
    fn stream(self, builder: &StreamsBuilder) -> KStream<Key, Value> {
        let stream = builder.stream::<Key, Value>("in");
        if self.below_repartition { stream.select_key(|key, _| key.clone()) } else { stream }
    }

    fn windows(self, builder: &StreamsBuilder) -> TimeWindowedKStream<Key, Value> {
        let windows = TimeWindows::of_size_with_no_grace(Duration::from_millis(10));
        self.stream(builder).group_by_key().windowed_by(windows)
    }

    fn cogrouped(self, builder: &StreamsBuilder) -> CogroupedKStream<Key, i64> {
        let add = |_: &Key, value: Value, sum: i64| sum + value.unwrap_or(5);
        self.stream(builder).group_by_key().cogroup(add)
    }

    fn store(self) -> Materialized {
        let named = Materialized::named("store");
        if self.caching { named } else { named.with_caching_disabled() }
    }
}

/// Puts into a store of its own and forwards.
struct Keep(StoreKey<KeyValueStore<Key, i64>>);

impl Processor<Key, Value> for Keep {
    type KOut = Key;
    type VOut = Value;

    fn process(
        &mut self,
        record: Record<Key, Value>,
        context: &mut Context<'_, Key, Value>,
    ) -> Result<(), ProcessorError> {
        context.store(self.0).put(&record.key, record.value, record.timestamp)?;
        context.forward(record);
        Ok(())
    }
}

/// The same, by a fixed key.
struct KeepValues(StoreKey<KeyValueStore<Key, i64>>);

impl FixedKeyProcessor<Key, Value> for KeepValues {
    type VOut = Value;

    fn process(
        &mut self,
        record: FixedKeyRecord<Key, Value>,
        context: &mut FixedKeyContext<'_, Key, Value>,
    ) -> Result<(), ProcessorError> {
        context.store(self.0).put(&record.key, record.value, record.timestamp)?;
        context.forward(record);
        Ok(())
    }
}

/// Turns time round, so that the last record comes too late.
struct Turn;

impl FixedKeyProcessor<Key, Value> for Turn {
    type VOut = Value;

    fn process(
        &mut self,
        record: FixedKeyRecord<Key, Value>,
        context: &mut FixedKeyContext<'_, Key, Value>,
    ) -> Result<(), ProcessorError> {
        let timestamp = 10 - record.timestamp;
        context.forward(record.with_timestamp(timestamp));
        Ok(())
    }
}

fn keep(builder: &StreamsBuilder) -> fn(&mut InitContext<'_>) -> Result<Keep, ProcessorError> {
    let (keys, values) = (Key::default_serde(), i64::default_serde());
    builder.add_state_store(KeyValueStore::builder("own", keys, values));
    |context| Ok(Keep(context.store("own")?))
}

/// One row of the table.
struct Rule {
    kinds: &'static [OperatorKind],
    names: &'static str,
    keys: &'static str,
    values: &'static str,
    /// What becomes of [`RECORDS`] on their way through `node` to `out`.
    draw: fn(&StreamsBuilder, Way),
    expected: &'static str,
    dropped: u64,
}

const ALL: &str = RECORDS;
const KEYED: &str = "=2@2 a=∅@4";
const PASSES: &str = "passes";
const SEEN: &str = "seen as `None`";
const DROPPED: &str = "dropped and counted";
const FOLDED: &str = "folded as `None`";
const NO_KEY: &str = "there is none";
const WINDOWED: &str = "dropped and counted; moves no window's time";

fn rule(
    (kinds, names): (&'static [OperatorKind], &'static str),
    (keys, values): (&'static str, &'static str),
    (expected, dropped): (&'static str, u64),
    draw: fn(&StreamsBuilder, Way),
) -> Rule {
    Rule { kinds, names, keys, values, draw, expected, dropped }
}

fn text(value: Value) -> Key {
    value.map(|value| value.to_string())
}

fn mapped() -> Vec<Rule> {
    use OperatorKind as Kind;
    vec![
        rule((&[Kind::Source], "`stream`"), (PASSES, PASSES), (ALL, 0), |builder, _| {
            builder.stream::<Key, Value>("in").named("node").to("out");
        }),
        rule(
            (&[Kind::ValuesOfTable], "`stream`, of a topic that is a table too"),
            (PASSES, PASSES),
            (ALL, 0),
            |builder, _| {
                let _table = builder.table::<Key, Value>("in");
                builder.stream::<Key, Value>("in").named("node").to("out");
            },
        ),
        rule((&[Kind::Sink], "`to`"), ("written", "written"), (ALL, 0), |builder, way| {
            way.stream(builder).to("out").named("node");
        }),
        rule((&[Kind::DynamicSink], "`to_dynamic`"), ("written", "written"), (ALL, 0), |b, way| {
            way.stream(b)
                .to_dynamic(|_: &Key, _: &Value, _: &RecordContext<'_>| "out")
                .named("node");
        }),
        rule(
            (&[Kind::Filter], "`filter`, `filter_not`"),
            (SEEN, SEEN),
            ("∅=1@1 ∅=∅@3 a=∅@4", 0),
            |builder, way| {
                let kept = |key: &Key, value: &Value| key.is_none() || value.is_none();
                way.stream(builder).filter(kept).named("node").to("out");
            },
        ),
        rule(
            (&[Kind::Map, Kind::FlatMap], "`map`, `flat_map`"),
            (SEEN, SEEN),
            ("1=∅@1 2=0@2 ∅=∅@3 ∅=1@4", 0),
            |builder, way| {
                let swap = |key: Key, value| (text(value), key.map(|key| i64::from(key == "a")));
                let mapped = way.stream(builder).map(swap).named("node");
                mapped.flat_map(|key, value| [(key, value)]).to("out");
            },
        ),
        rule(
            (
                &[Kind::MapValues, Kind::FlatMapValues],
                "`map_values`, `map_values_with_key`, `flat_map_values`",
            ),
            (SEEN, SEEN),
            ("∅=1@1 =2@2 ∅=9@3 a=9@4", 0),
            |builder, way| {
                let mapped = way.stream(builder).map_values(|value| value.or(Some(9)));
                mapped.named("node").flat_map_values(|value| [value]).to("out");
            },
        ),
        rule(
            (&[Kind::SelectKey], "`select_key`"),
            ("seen as `None`, and may be selected", SEEN),
            ("1=1@1 2=2@2 ∅=∅@3 ∅=∅@4", 0),
            |builder, way| {
                way.stream(builder).select_key(|_, value| text(*value)).named("node").to("out");
            },
        ),
    ]
}

fn passing() -> Vec<Rule> {
    use OperatorKind as Kind;
    vec![
        rule(
            (&[Kind::Peek, Kind::ForEach, Kind::Print], "`peek`, `for_each`, `print`"),
            (SEEN, SEEN),
            (ALL, 0),
            |b, way| {
                let stream = way.stream(b);
                stream.for_each(|_, _| ());
                stream.print(Printed::to_writer(std::io::sink()));
                stream.peek(|_, _| ()).named("node").to("out");
            },
        ),
        rule((&[Kind::Merge], "`merge`"), (PASSES, PASSES), (ALL, 0), |builder, way| {
            way.stream(builder).merge(&builder.stream("other")).named("node").to("out");
        }),
        rule(
            (&[Kind::Split, Kind::Branch], "`split`, `branch`"),
            (SEEN, SEEN),
            ("∅=1@1 ∅=∅@3", 0),
            |builder, way| {
                let split = way.stream(builder).split();
                split.branch(|key, _| key.is_none()).to("out");
            },
        ),
        rule(
            (&[Kind::DropNullKeys], "`drop_null_keys`"),
            (DROPPED, PASSES),
            (KEYED, 2),
            |builder, way| {
                way.stream(builder).drop_null_keys().named("node").to("out").named("sink")
            },
        ),
        rule(
            (&[Kind::DropNullValues], "`drop_null_values`"),
            (PASSES, DROPPED),
            ("∅=1@1 =2@2", 2),
            |builder, way| {
                way.stream(builder).drop_null_values().named("node").to("out");
            },
        ),
        rule(
            (&[Kind::Process, Kind::ProcessValues], "`process`, `process_values`"),
            ("seen as `None`; dropped and counted where a store refuses it and `?` says so", SEEN),
            (KEYED, 2),
            |builder, way| {
                let kept = way.stream(builder).process(keep(builder), &["own"]).named("node");
                kept.process_values(|context| Ok(KeepValues(context.store("own")?)), &["own"])
                    .to("out");
            },
        ),
    ]
}

fn placed() -> Vec<Rule> {
    use OperatorKind as Kind;
    vec![
        rule(
            (&[Kind::Join], "`join` with a table"),
            (DROPPED, "joined as `None`"),
            ("=12@2 a=20@4", 2),
            |builder, way| {
                let table = builder.table::<Key, i64>("table");
                let joined = way.stream(builder).join(&table, |v, row| Some(v.unwrap_or(0) + row));
                joined.named("node").to("out");
            },
        ),
        rule(
            (&[Kind::LeftJoin], "`left_join` with a table"),
            ("joined with no row", "joined as `None`"),
            ("∅=1@1 =12@2 ∅=∅@3 a=20@4", 0),
            |builder, way| {
                let table = builder.table::<Key, i64>("table");
                let join = |v: Value, row: Value| v.map(|v| v + row.unwrap_or(0)).or(row);
                way.stream(builder).left_join(&table, join).named("node").to("out");
            },
        ),
        rule(
            (&[Kind::GlobalJoin], "`join_global` with a table"),
            ("a selected one: dropped and counted", "joined as `None`"),
            ("=12@2 a=20@4", 2),
            |builder, way| {
                let table = builder.global_table::<Key, i64>("table");
                let join = |v: Value, row: i64| v.map(|v| v + row).or(Some(row));
                let select = |key: &Key, _: &Value| key.clone().map(Some);
                way.stream(builder).join_global(&table, select, join).named("node").to("out");
            },
        ),
        rule(
            (&[Kind::LeftGlobalJoin], "`left_join_global` with a table"),
            ("a selected one: joined with no row", "joined as `None`"),
            ("∅=1@1 =12@2 ∅=∅@3 a=20@4", 0),
            |builder, way| {
                let table = builder.global_table::<Key, i64>("table");
                let join = |v: Value, row: Value| v.map(|v| v + row.unwrap_or(0)).or(row);
                let select = |key: &Key, _: &Value| key.clone().map(Some);
                way.stream(builder).left_join_global(&table, select, join).named("node").to("out");
            },
        ),
        rule((&[], "`repartition`"), (DROPPED, PASSES), (KEYED, 2), |builder, way| {
            way.stream(builder).repartition("node").to("out");
        }),
        rule(
            (&[Kind::Repartition], "a repartition"),
            ("passes; what is below decides", PASSES),
            ("=1@2 a=1@4", 2),
            |builder, way| {
                let grouped = way.stream(builder).group_by(|key, _| key.clone());
                grouped.count(way.store()).named("node").to_stream().to("out");
            },
        ),
    ]
}

fn aggregated() -> Vec<Rule> {
    use OperatorKind as Kind;
    vec![
        rule(
            (&[Kind::Count], "`count`"),
            (DROPPED, "counted"),
            ("=1@2 a=1@4", 2),
            |builder, way| {
                let counts = way.stream(builder).group_by_key().count(way.store());
                counts.named("node").to_stream().to("out");
            },
        ),
        rule(
            (&[Kind::Reduce], "`reduce`"),
            (DROPPED, FOLDED),
            ("=2@2 a=-1@4", 2),
            |builder, way| {
                let last = way.stream(builder).group_by_key().reduce(|_, new| new, way.store());
                last.named("node").map_values(|value| value.unwrap_or(-1)).to_stream().to("out");
            },
        ),
        rule(
            (&[Kind::Aggregate], "`aggregate`, `aggregate_or_delete`, `top_n`"),
            (DROPPED, FOLDED),
            ("=3@2 a=6@4", 2),
            |builder, way| {
                let add = |_: &Key, value: Value, sum: i64| sum + value.unwrap_or(5);
                let sums = way.stream(builder).group_by_key().aggregate(|| 1, add, way.store());
                sums.named("node").to_stream().to("out");
            },
        ),
        rule(
            (&[Kind::CogroupInput, Kind::Cogroup], "`cogroup`, `cogroup_or_delete`"),
            (DROPPED, FOLDED),
            ("=3@2 a=6@4", 2),
            |builder, way| {
                let sums = way.cogrouped(builder).aggregate(|| 1, way.store());
                sums.named("node").to_stream().to("out");
            },
        ),
    ]
}

fn windowed() -> Vec<Rule> {
    use OperatorKind as Kind;
    vec![
        rule(
            (&[Kind::WindowedCount], "`count` in windows"),
            (WINDOWED, "counted"),
            ("=1@2 a=1@4", 2),
            |builder, way| {
                let counts = way.windows(builder).count(way.store()).named("node").to_stream();
                counts.map(|at, n| (at.key, n)).to("out");
            },
        ),
        rule(
            (&[Kind::WindowedReduce], "`reduce` in windows"),
            (WINDOWED, FOLDED),
            ("=2@2 a=-1@4", 2),
            |builder, way| {
                let last = way.windows(builder).reduce(|_, new| new, way.store()).named("node");
                let last = last.map_values(|value| value.unwrap_or(-1)).to_stream();
                last.map(|at, value| (at.key, value)).to("out");
            },
        ),
        rule(
            (&[Kind::WindowedAggregate], "`aggregate`, `aggregate_or_delete`, `top_n` in windows"),
            (WINDOWED, FOLDED),
            ("=3@2 a=6@4", 2),
            |builder, way| {
                let add = |_: &Key, value: Value, sum: i64| sum + value.unwrap_or(5);
                let sums = way.windows(builder).aggregate(|| 1, add, way.store()).named("node");
                sums.to_stream().map(|at, sum| (at.key, sum)).to("out");
            },
        ),
        rule(
            (&[Kind::Distinct], "`distinct` in windows"),
            (WINDOWED, PASSES),
            // They are counted at the reduction.
            (KEYED, 0),
            |builder, way| {
                let first = way.windows(builder).distinct(way.store());
                first.named("node").to("out");
            },
        ),
        rule(
            (&[Kind::LateRecords], "`late_records` of windows"),
            ("there is none", PASSES),
            ("a=∅@6", 3),
            |builder, way| {
                let turned = way.stream(builder).process_values(|_| Ok(Turn), &[]);
                let windows = TimeWindows::of_size_with_no_grace(Duration::from_millis(2));
                let windowed = turned.group_by_key().windowed_by(windows);
                let windowed = windowed.late_records(|late| late.map_values(|l| l.value).to("out"));
                let _counts = windowed.count(way.store()).named("node");
            },
        ),
        rule(
            (&[Kind::WindowedCogroup], "`cogroup`, `cogroup_or_delete` in windows"),
            (WINDOWED, FOLDED),
            ("=3@2 a=6@4", 2),
            |builder, way| {
                let windows = TimeWindows::of_size_with_no_grace(Duration::from_millis(10));
                let sums = way.cogrouped(builder).windowed_by(windows);
                let sums = sums.aggregate(|| 1, way.store()).named("node");
                sums.to_stream().map(|at, sum| (at.key, sum)).to("out");
            },
        ),
    ]
}

fn rules() -> Vec<Rule> {
    [
        mapped(),
        called::rules(),
        passing(),
        placed(),
        joins::joined(),
        aggregated(),
        windowed(),
        windows::in_sliding(),
        windows::in_sessions(),
        tables::rules(),
        joins::by_foreign_key(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn pipe(driver: &TopologyTestDriver, topic: &str, records: &str) -> Outcome {
    let input = driver.input_topic::<Key, Value>(topic);
    for record in records.split_whitespace() {
        let (key, rest) = record.split_once('=').ok_or("no =")?;
        let (value, timestamp) = rest.split_once('@').ok_or("no @")?;
        let value = if value == "∅" { None } else { Some(value.parse()?) };
        input.pipe_input((key != "∅").then(|| key.to_owned()), value, timestamp.parse()?)?;
    }
    Ok(())
}

/// What comes out, and how many records `node` drops.
fn outcome(rule: &Rule, way: Way) -> Outcome<(String, u64)> {
    let builder = StreamsBuilder::new();
    (rule.draw)(&builder, way);
    let config = StreamsConfig::new("test").with_repartitioning(way.repartitioning);
    let driver = TopologyTestDriver::with(builder.build()?, config, &BTreeMap::new())?;
    if rule.kinds == [OperatorKind::DynamicSink] {
        driver.create_topic("out", 1)?;
    }
    if rule.names.contains("with a table") {
        pipe(&driver, "table", ROWS)?;
    }
    let driver = if way.all_at_once { driver.by_hand() } else { driver };
    pipe(&driver, "in", RECORDS)?;
    // What passes through a topic is read after a commit, and a join by a foreign key has two.
    for _ in 0..3 {
        driver.run_until_idle()?;
        driver.commit()?;
    }
    let nodes = ["node", "node-repartition-sink"];
    let metrics = driver.metrics()?;
    let of = metrics.iter().filter(|(node, _)| nodes.contains(&&***node));
    let dropped = of.map(|(_, metrics)| metrics.dropped.total()).sum();
    Ok((rows(&driver)?, dropped))
}

fn rows(driver: &TopologyTestDriver) -> Outcome<String> {
    let rows = driver.output_topic::<Key, Value>("out").read_records_to_list()?;
    let rows = rows.into_iter().map(|row| {
        let value = row.value.map_or("∅".to_owned(), |value| value.to_string());
        format!("{}={value}@{}", row.key.as_deref().unwrap_or("∅"), row.timestamp)
    });
    Ok(rows.collect::<Vec<_>>().join(" "))
}

#[test]
fn each_operator_keeps_its_rule_on_every_way() -> Outcome {
    for rule in &rules() {
        for way in ways() {
            let (out, dropped) = outcome(rule, way)?;
            assert_eq!(out, rule.expected, "{} {way:?}", rule.names);
            assert_eq!(dropped, rule.dropped, "{} {way:?}", rule.names);
        }
    }
    Ok(())
}

#[test]
fn the_table_of_the_documentation_has_each_operator_with_its_rule() {
    let rules = rules();
    for kind in OperatorKind::ALL {
        let has = |rule: &&Rule| rule.kinds.contains(kind);
        assert_eq!(rules.iter().filter(has).count(), 1, "{kind:?}");
    }
    let written = rules.iter().map(|it| format!("| {} | {} | {} |", it.names, it.keys, it.values));
    let documented = include_str!("../../../../docs/nulls.md").lines();
    let documented = documented.filter(|line| line.starts_with("| ") && !line.contains("operator"));
    assert_eq!(documented.collect::<Vec<_>>(), written.collect::<Vec<_>>());
}

/// The null key at 50 would close the window of the empty key at 3, which is in time.
#[test]
fn a_null_key_moves_no_window() -> Outcome {
    for (emit, expected) in
        [(EmitStrategy::on_window_close(), "=2@3"), (EmitStrategy::on_window_update(), "=1@1 =2@3")]
    {
        let way = Way { below_repartition: false, caching: false, ..ways()[0] };
        for all_at_once in [false, true] {
            let builder = StreamsBuilder::new();
            let counts = way.windows(&builder).emit_strategy(emit).count(way.store());
            counts.named("node").to_stream().map(|at, n| (at.key, n)).to("out");
            let driver = TopologyTestDriver::new(builder.build()?)?;
            let driver = if all_at_once { driver.by_hand() } else { driver };
            pipe(&driver, "in", "=1@1 ∅=1@50 =1@3 ∅=1@4")?;
            driver.run_until_idle()?;
            driver.commit()?;
            driver.finish_input()?;
            assert_eq!(rows(&driver)?, expected, "all at once: {all_at_once}");
            assert_eq!(driver.dropped_records("node")?, 2);
        }
    }
    Ok(())
}

#[test]
fn a_query_finds_nothing_under_a_null_key() -> Outcome {
    let way = ways()[0];
    let builder = StreamsBuilder::new();
    let _ = way.stream(&builder).group_by_key().count("counts");
    let _ = way.windows(&builder).count("windows");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    pipe(&driver, "in", RECORDS)?;
    let (counts, empty) = (driver.key_value_store::<Key, i64>("counts")?, Some(String::new()));
    assert_eq!(counts.get(&None)?, None);
    assert_eq!(counts.get(&empty)?.map(|count| count.value), Some(1));
    let keys = counts.all()?.into_iter().map(|(key, _)| key);
    assert_eq!(keys.collect::<Vec<_>>(), [empty.clone(), Some("a".to_owned())]);
    let windows = driver.snapshot()?.window_store::<Key, i64>("windows")?;
    assert_eq!((windows.fetch(&None, 0)?, windows.fetch_range(&None, 0..=9)?), (None, Vec::new()));
    assert_eq!(windows.fetch(&empty, 0)?.map(|count| count.value), Some(1));
    assert_eq!(windows.fetch_all(0..=9)?.len(), 2);
    Ok(())
}

#[test]
fn a_type_that_is_no_option_has_no_null_key() -> Outcome {
    for below_repartition in [false, true] {
        let builder = StreamsBuilder::new();
        let keyed = builder.stream::<(), i64>("in");
        let keyed = if below_repartition { keyed.select_key(|(), _| ()) } else { keyed };
        keyed.group_by_key().count("counts").named("node").to_stream().to("out");
        let driver = TopologyTestDriver::new(builder.build()?)?;
        let input = driver.input_topic::<(), i64>("in");
        for n in 0..3 {
            input.pipe_input((), n, n)?;
            input.pipe_bytes(None, Some(&n.to_be_bytes()), n)?;
        }
        assert_eq!(driver.dropped_records("node")?, 0);
        let counts = driver.key_value_store::<(), i64>("counts")?;
        assert_eq!(counts.get(&())?.map(|count| count.value), Some(6));
        assert_eq!(counts.all()?.len(), 1);
    }
    Ok(())
}

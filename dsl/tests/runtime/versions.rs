//! Another version of a topology goes on where the last one was: random topologies, restarted with a source, a stateless
//! operator or a branch more or less, end with the same results, stores and counts as if nothing had changed.

use headwater_core::{
    ports::log::TopicSpec,
    record::{Headers, TopicName, TopicPartition},
    serde::for_type,
};
use headwater_dsl::{EmitStrategy, KStream, Materialized, StreamsBuilder, TimeWindows};
use headwater_engine::{
    processor::{
        Context, FixedKeyContext, FixedKeyProcessor, FixedKeyRecord, InitContext, Processor,
        ProcessorError, Record,
    },
    runtime::StreamsConfig,
    store::Timers,
    topology::{Consumed, Produced, Topology},
};
use headwater_testkit::TopologyTestDriver;
use proptest::prelude::*;
use std::{collections::BTreeMap, error::Error, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;
type Stream = KStream<String, i64>;

/// What both versions do.
#[derive(Debug, Clone, Copy)]
enum Op {
    Filter,
    SelectKey,
    Process,
    Join,
    Count { is_cached: bool },
    Updates { is_cached: bool },
    Finals { size: u64, grace: u64 },
}

/// What one version does besides.
#[derive(Debug, Clone, Copy)]
enum Extra {
    /// A source of its own, in front of all others.
    Source,
    /// A source whose records join the stream, at its beginning: below a repartition, windows would live by other times.
    Merged,
    Filter,
    Peek,
    MapValues,
    /// A sink.
    Sink,
    /// A branch that ends in a sink; the others go on.
    Split,
    /// A branch with state.
    Count,
}

#[derive(Debug, Clone)]
struct Case {
    ops: Vec<Op>,
    /// What is added, each in front of an operator.
    extras: Vec<(usize, Extra)>,
    /// Whether it is there first and is removed.
    is_removed: bool,
    partitions: u32,
    groups: Vec<Vec<Input>>,
    /// After which group the versions change, and how many steps are taken on the way and lost.
    change_at: usize,
    lost_steps: u8,
    state_is_lost: bool,
}

#[derive(Debug, Clone, Copy)]
struct Input {
    to: &'static str,
    key: u8,
    value: i64,
    at: i64,
}

/// Forwards each value with what it knows of stream time, and tells keys that it has seen.
struct Tell;

impl FixedKeyProcessor<String, i64> for Tell {
    type VOut = i64;

    fn process(
        &mut self,
        record: FixedKeyRecord<String, i64>,
        context: &mut FixedKeyContext<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        let value = record.value + context.current_stream_time() % 7;
        context.forward(record.with_value(value));
        Ok(())
    }
}

fn store(caching: bool) -> Materialized {
    if caching { Materialized::default() } else { Materialized::default().with_caching_disabled() }
}

fn draw_op(builder: &StreamsBuilder, stream: &Stream, op: Op) -> Stream {
    let windowed = |size: u64, grace: u64, emit: EmitStrategy, kept: Materialized| {
        let (size, grace) = (Duration::from_millis(size), Duration::from_millis(grace));
        let windows = TimeWindows::of_size_and_grace(size, grace);
        let grouped = stream.group_by_key().windowed_by(windows).emit_strategy(emit);
        let folded = grouped.reduce(|a, b| a + b, kept).to_stream().drop_null_values();
        folded.map(|at, sum| (at.key, sum))
    };
    match op {
        Op::Filter => stream.filter(|_, value| value % 5 != 0),
        Op::SelectKey => stream.select_key(|key, value| format!("{key}{}", value % 2)),
        Op::Process => stream.process_values(|_| Ok(Tell), &[]),
        Op::Join => {
            // A topic is read once.
            let table = builder.table::<String, i64>("table");
            stream.left_join(&table, |value, side| value + side.unwrap_or(0))
        }
        Op::Count { is_cached } => {
            stream.group_by_key().count(store(is_cached)).to_stream().drop_null_values()
        }
        Op::Updates { is_cached } => {
            windowed(20, 10, EmitStrategy::on_window_update(), store(is_cached))
        }
        Op::Finals { size, grace } => {
            windowed(size, grace, EmitStrategy::on_window_close(), Materialized::default())
        }
    }
}

fn draw_extra(builder: &StreamsBuilder, stream: &Stream, number: usize, extra: Extra) -> Stream {
    let to = format!("extra-{number}");
    let other = || builder.stream::<String, i64>(&format!("other-{number}"));
    match extra {
        Extra::Source => {
            other().filter(|_, _| true).to(to);
            stream.clone()
        }
        Extra::Merged => stream.merge(&other()),
        Extra::Filter => stream.filter(|_, _| true),
        Extra::Peek => stream.peek(|_, _| ()),
        Extra::MapValues => stream.map_values(|value| value),
        Extra::Sink => {
            stream.filter(|_, value| value % 2 == 0).to(to);
            stream.clone()
        }
        Extra::Split => {
            let split = stream.split();
            split.branch(|_, _| false).to(to);
            split.default_branch()
        }
        Extra::Count => {
            let _ = stream.group_by_key().count(to.as_str());
            stream.clone()
        }
    }
}

fn draw(case: &Case, with_extras: bool) -> Topology {
    let builder = StreamsBuilder::new();
    let extras: Vec<_> = case.extras.iter().enumerate().filter(|_| with_extras).collect();
    for (number, _) in extras.iter().filter(|(_, (_, extra))| matches!(extra, Extra::Source)) {
        builder.stream::<String, i64>(&format!("front-{number}")).to("copies");
    }
    let mut stream = builder.stream::<String, i64>("in");
    for (place, op) in case.ops.iter().enumerate() {
        for (number, (_, extra)) in extras.iter().filter(|(_, (at, _))| *at == place) {
            stream = draw_extra(&builder, &stream, *number, *extra);
        }
        stream = draw_op(&builder, &stream, *op);
        stream.to(format!("out-{place}"));
    }
    builder.build().expect("it can be built")
}

/// What a run left: user topics, stores as a rebuild finds them, counts of what was dropped.
type Left = BTreeMap<String, Vec<String>>;

fn run(case: &Case, changes: bool) -> Outcome<Left> {
    let (first, then) = match changes {
        true => (draw(case, case.is_removed), draw(case, !case.is_removed)),
        false => (draw(case, false), draw(case, false)),
    };
    let base = draw(case, false);
    // Other sources are as wide, so that they can be merged above a join.
    let names: Vec<_> = [&first, &then].iter().flat_map(|it| it.external_topics()).collect();
    let partitions = names.iter().map(|name| (name.as_str(), case.partitions)).collect();
    let config = StreamsConfig::new("app");
    let driver = TopologyTestDriver::with(first, config, &partitions)?.by_hand();
    for (number, group) in case.groups.iter().enumerate() {
        for Input { to, key, value, at } in group {
            let to = if base.external_topics().iter().any(|topic| topic.as_str() == *to) {
                *to
            } else {
                "in"
            };
            driver.input_topic::<String, i64>(to).pipe_input(format!("k{key}"), *value, *at)?;
        }
        if number == case.change_at {
            for _ in 0..case.lost_steps {
                driver.step()?;
            }
            if case.state_is_lost {
                driver.lose_state();
            }
            let exists = |name: &TopicName| {
                driver.log().topics().is_ok_and(|all| all.iter().any(|spec| spec.name == *name))
            };
            let missing = names.iter().filter(|name| !exists(name)).cloned();
            let specs: Vec<_> = missing.map(|name| TopicSpec::new(name, case.partitions)).collect();
            driver.log().create_topics(&specs)?;
            driver.upgrade(then.clone())?;
        }
        driver.run_until_idle()?;
        driver.commit()?;
    }
    driver.finish_input()?;
    left(&driver, &base)
}

/// What is left of all that `base` has.
fn left(driver: &TopologyTestDriver, base: &Topology) -> Outcome<Left> {
    let mut left = Left::new();
    let described = base.describe();
    let words: Vec<&str> = described.split([' ', '[', ']', ',', '\n', ':', '(', ')']).collect();
    for spec in driver.log().topics()? {
        let name = spec.name.as_str();
        let store = name.strip_prefix("app-").and_then(|name| name.strip_suffix("-changelog"));
        if !words.contains(&store.unwrap_or(name)) {
            continue;
        }
        for partition in 0..spec.partitions {
            let at = TopicPartition::new(TopicName::new(name)?, partition);
            let rows = rows(driver, &at)?;
            let mut left_of = if store.is_some() { rebuilt(rows) } else { texts(rows) };
            // Several tasks write a topic, in no order between them.
            left_of.sort();
            left.insert(at.to_string(), left_of);
        }
    }
    for (node, metrics) in driver.metrics()?.iter().filter(|(node, _)| words.contains(&&***node)) {
        left.insert(node.to_string(), vec![metrics.dropped.total().to_string()]);
    }
    Ok(left)
}

type Row = (Vec<u8>, Option<Vec<u8>>, i64, Vec<u8>);

fn rows(driver: &TopologyTestDriver, at: &TopicPartition) -> Outcome<Vec<Row>> {
    let fetched = driver.log().fetch(at, 0, usize::MAX)?;
    let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    let row = |record: headwater_core::record::RecordRef<'_>| {
        let key = owned(record.key).unwrap_or_default();
        (key, owned(record.value), record.timestamp, record.headers.to_vec())
    };
    Ok(fetched.records.iter().map(row).collect())
}

fn texts(rows: Vec<Row>) -> Vec<String> {
    rows.into_iter().map(|row| format!("{row:?}")).collect()
}

/// What a rebuild ends with: the last value of each key, above the floor.
fn rebuilt(changelog: Vec<Row>) -> Vec<String> {
    let (mut kept, mut below) = (BTreeMap::new(), Vec::new());
    for (key, value, at, headers) in changelog {
        let headers = Headers::decode(&headers).unwrap_or_default();
        if headers.last("__headwater.floor").is_some() {
            below = value.unwrap_or_default();
        } else {
            kept.insert(key, (value, at));
        }
    }
    kept.retain(|key, (value, _)| value.is_some() && *key >= below);
    kept.into_iter().map(|entry| format!("{entry:?}")).collect()
}

/// What does not depend on the order in which records of several partitions arrive: nothing is later than the grace.
fn any_op_in_any_order() -> impl Strategy<Value = Op> {
    let finals = (1..4_u64).prop_map(|size| Op::Finals { size: size * 10, grace: 45 });
    prop_oneof![1 => Just(Op::Filter), 2 => Just(Op::SelectKey), 3 => finals]
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => Just(Op::Filter),
        2 => Just(Op::SelectKey),
        1 => Just(Op::Process),
        1 => Just(Op::Join),
        1 => any::<bool>().prop_map(|is_cached| Op::Count { is_cached }),
        1 => any::<bool>().prop_map(|is_cached| Op::Updates { is_cached }),
        3 => (1..4_u64, 0..3_u64)
            .prop_map(|(size, grace)| Op::Finals { size: size * 10, grace: grace * 15 }),
    ]
}

fn any_extra() -> impl Strategy<Value = Extra> {
    prop_oneof![
        Just(Extra::Source),
        Just(Extra::Merged),
        Just(Extra::Filter),
        Just(Extra::Peek),
        Just(Extra::MapValues),
        Just(Extra::Sink),
        Just(Extra::Split),
        Just(Extra::Count),
    ]
}

fn any_case(partitions: u32, op: impl Strategy<Value = Op>) -> impl Strategy<Value = Case> {
    let ops = prop::collection::vec(op, 1..5).prop_map(|mut ops| {
        // A topic can be read once.
        let mut joins = 0;
        ops.retain(|op| !matches!(op, Op::Join) || std::mem::replace(&mut joins, 1) == 0);
        ops
    });
    let extras = prop::collection::vec((0..5_usize, any_extra()), 1..4);
    let to = prop_oneof![4 => Just("in"), 1 => Just("table")];
    let input = (to, 0..5_u8, -9..9_i64, 0..40_i64);
    let group = prop::collection::vec(input, 1..15);
    let groups = prop::collection::vec(group, 2..5).prop_map(|groups| {
        let shifted = |(number, group): (usize, Vec<_>)| {
            let begin = 25 * i64::try_from(number).unwrap_or(0);
            let input = |(to, key, value, at)| Input { to, key, value, at: begin + at };
            group.into_iter().map(input).collect()
        };
        groups.into_iter().enumerate().map(shifted).collect::<Vec<Vec<Input>>>()
    });
    let change = (0..5_usize, 0..6_u8, any::<bool>());
    (ops, extras, any::<bool>(), groups, change).prop_map(
        move |(ops, extras, is_removed, groups, (change_at, lost_steps, state_is_lost))| {
            let place = |at, extra: &Extra| match extra {
                Extra::Merged => 0,
                Extra::Source
                | Extra::Filter
                | Extra::Peek
                | Extra::MapValues
                | Extra::Sink
                | Extra::Split
                | Extra::Count => at % ops.len(),
            };
            let extras = extras.into_iter().map(|(at, extra)| (place(at, &extra), extra)).collect();
            let change_at = change_at % groups.len();
            Case {
                ops,
                extras,
                is_removed,
                partitions,
                groups,
                change_at,
                lost_steps,
                state_is_lost,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(600),
        max_shrink_iters: 4_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_comes_or_goes_beside_an_operator_changes_nothing_about_it(
        case in prop_oneof![any_case(1, any_op()), any_case(2, any_op_in_any_order())],
    ) {
        let run = |changes| run(&case, changes).map_err(|e| TestCaseError::fail(format!("{e:?}")));
        let (as_before, changed) = (run(false)?, run(true)?);
        for (name, rows) in &as_before {
            prop_assert_eq!(Some(rows), changed.get(name), "{}", name);
        }
    }
}

/// Tells each key once ten ms of time have passed.
struct Later {
    timers: Timers<String>,
}

impl Processor<String, i64> for Later {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        context.schedule_timer(self.timers, &record.key, record.timestamp + 10)?;
        Ok(())
    }

    fn on_timer(
        &mut self,
        key: String,
        time: i64,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        context.forward(Record::new(key, 0, time));
        Ok(())
    }
}

/// A topic that several sinks write, each of a sub-topology of its own.
fn written_by(sources: &[&str]) -> Outcome<Topology> {
    let mut topology = Topology::new();
    for source in sources {
        topology.add_source(source, source, Consumed::<String, i64>::default())?;
        let sink = format!("{source}-sink");
        topology.add_repartition_sink(&sink, "r", Produced::<String, i64>::default(), &[source])?;
    }
    topology.add_repartition_source("read", "r", Consumed::<String, i64>::default())?;
    let supplier = |context: &mut InitContext<'_>| Ok(Later { timers: context.timers("timers")? });
    topology.add_processor::<String, i64, _>("later", supplier, &["read"])?;
    topology.add_state_store(Timers::<String>::builder("timers", for_type()), &["later"])?;
    topology.add_sink("out", "out", Produced::<String, i64>::default(), &["later"])?;
    Ok(topology)
}

#[test]
fn a_writer_that_is_gone_holds_time_back_no_more() -> Outcome {
    let config = StreamsConfig::new("test").with_batch_rows_max(1);
    let topology = written_by(&["a", "b"])?;
    let driver = TopologyTestDriver::with(topology, config, &BTreeMap::new())?.by_hand();
    let pipe = |topic: &str, at: i64| {
        driver.input_topic::<String, i64>(topic).pipe_input(format!("k{at}"), 0, at)
    };
    let told = || -> Outcome<Vec<String>> {
        driver.run_until_idle()?;
        driver.commit()?;
        let records = driver.output_topic::<String, i64>("out").read_records_to_list()?;
        Ok(records.into_iter().map(|record| record.key).collect())
    };
    pipe("a", 30)?;
    pipe("b", 3)?;
    pipe("b", 4)?;
    driver.step()?;
    driver.commit()?;
    // It is in the midst of its input.
    driver.upgrade(written_by(&["other", "a"])?)?;
    pipe("a", 50)?;
    pipe("a", 100)?;
    assert_eq!(told()?, ["k3", "k30", "k50"]);
    Ok(())
}

#[test]
fn what_is_kept_of_a_node_goes_with_it() -> Outcome {
    let version = |counted: bool| {
        let builder = StreamsBuilder::new();
        let stream = builder.stream::<Option<String>, i64>("in");
        if counted {
            let _ = stream.group_by_key().count("counts").named("counting");
        }
        stream.to("out");
        builder.build()
    };
    let driver = TopologyTestDriver::new(version(true)?)?;
    let pipe = || driver.input_topic::<Option<String>, i64>("in").pipe_input(None, 1, 1);
    let kept = || -> Outcome<bool> {
        let at = TopicPartition::new(TopicName::new("test-positions")?, 0);
        let entries = rebuilt(rows(&driver, &at)?);
        Ok(entries.iter().any(|entry| entry.contains(&format!("{:?}", b"counting")[1..20])))
    };
    pipe()?;
    assert_eq!((driver.dropped_records("counting")?, kept()?), (1, true));
    driver.upgrade(version(false)?)?;
    pipe()?;
    assert!(!kept()?);
    driver.upgrade(version(true)?)?;
    assert_eq!(driver.dropped_records("counting")?, 0);
    Ok(())
}

//! `topology.optimization`: what each changes of a topology, and that none changes a result.

use expect_test::{Expect, expect};
use headwater_dsl::{JoinWindows, KStream, Materialized, StreamsBuilder};
use headwater_engine::{
    runtime::StreamsConfig,
    topology::{Consumed, Topology, TopologyOptimization as Optimization},
};
use headwater_testkit::TopologyTestDriver;
use std::{collections::BTreeSet, error::Error, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn built(
    optimization: Optimization,
    draw: impl FnOnce(&StreamsBuilder),
) -> Result<Topology, Box<dyn Error>> {
    let builder = StreamsBuilder::new().with_topology_optimization(optimization);
    draw(&builder);
    Ok(builder.build()?)
}

fn kept(store: &str) -> Materialized {
    Materialized::named(store).with_caching_disabled()
}

fn rekeyed(builder: &StreamsBuilder) -> KStream<String, i64> {
    builder.stream::<String, i64>("in").select_key(|_, value| format!("k{}", value % 3))
}

/// Five steps that depend on one change of keys, one of them through a filter, two through branches; one whose values change
/// before it, and a filter that depends on nothing.
fn shared(builder: &StreamsBuilder) {
    let rekeyed = rekeyed(builder);
    rekeyed.filter(|_, value| *value > 9).to("large");
    rekeyed
        .filter(|_, value| value % 2 == 0)
        .group_by_key()
        .count(kept("even"))
        .to_stream()
        .to("a");
    rekeyed.group_by_key().count(kept("all")).to_stream().to("b");
    let split = rekeyed.peek(|_, _| ()).split();
    let low = split.branch(|_, value| *value < 5);
    low.group_by_key().reduce(|sum, value| sum + value, kept("low")).to_stream().to("c");
    split.default_branch().group_by_key().count(kept("rest")).to_stream().to("d");
    let mapped = rekeyed.map_values(|value| value * 100);
    mapped.group_by_key().reduce(|sum, value| sum + value, kept("mapped")).to_stream().to("e");
}

fn topics_of(topology: &Topology) -> BTreeSet<String> {
    let described = topology.describe();
    let topics =
        described.lines().filter_map(|line| line.split_once("(topics: [")?.1.split_once(']'));
    topics.map(|(topic, _)| topic.to_owned()).collect()
}

#[test]
fn steps_that_depend_on_one_change_of_keys_share_its_topic_where_merged() -> Outcome {
    let topics = |optimization| -> Outcome<Vec<String>> {
        Ok(topics_of(&built(optimization, shared)?).into_iter().collect())
    };
    let apart = ["all", "even", "low", "mapped", "rest"].map(|base| format!("{base}-repartition"));
    let apart: Vec<_> =
        apart.into_iter().chain(["in".to_owned()]).collect::<BTreeSet<_>>().into_iter().collect();
    assert_eq!(topics(Optimization::NONE)?, apart);
    assert_eq!(topics(Optimization::SINGLE_STORE_SELF_JOIN)?, apart);
    let merged = ["even-repartition", "in", "mapped-repartition"];
    assert_eq!(topics(Optimization::MERGE_REPARTITION_TOPICS)?, merged);
    assert_eq!(topics(Optimization::ALL)?, merged);
    Ok(())
}

fn check_described(topology: &Topology, expected: &Expect) {
    expected.assert_eq(&topology.describe());
}

#[test]
fn a_merged_topic_lies_right_below_the_change_of_keys() -> Outcome {
    let draw = |builder: &StreamsBuilder| {
        let rekeyed = rekeyed(builder);
        rekeyed.filter(|_, value| *value > 0).group_by_key().count("some");
        rekeyed.group_by_key().count("all");
    };
    check_described(
        &built(Optimization::NONE, draw)?,
        &expect![[r#"
        Topologies:
           Sub-topology: 0
            Source: KSTREAM-SOURCE-in-0000000000 (topics: [in])
              --> KSTREAM-KEY-SELECT-in-0000000000
            Processor: KSTREAM-KEY-SELECT-in-0000000000 (stores: [])
              --> KSTREAM-FILTER-in-0000000000, all-repartition-sink
              <-- KSTREAM-SOURCE-in-0000000000
            Processor: KSTREAM-FILTER-in-0000000000 (stores: [])
              --> some-repartition-sink
              <-- KSTREAM-KEY-SELECT-in-0000000000
            Sink: some-repartition-sink (topic: some-repartition)
              <-- KSTREAM-FILTER-in-0000000000
            Sink: all-repartition-sink (topic: all-repartition)
              <-- KSTREAM-KEY-SELECT-in-0000000000

           Sub-topology: 1
            Source: some-repartition-source (topics: [some-repartition])
              --> KSTREAM-AGGREGATE-some
            Processor: KSTREAM-AGGREGATE-some (stores: [some])
              --> none
              <-- some-repartition-source

           Sub-topology: 2
            Source: all-repartition-source (topics: [all-repartition])
              --> KSTREAM-AGGREGATE-all
            Processor: KSTREAM-AGGREGATE-all (stores: [all])
              --> none
              <-- all-repartition-source

    "#]],
    );
    check_described(
        &built(Optimization::MERGE_REPARTITION_TOPICS, draw)?,
        &expect![[r#"
        Topologies:
           Sub-topology: 0
            Source: KSTREAM-SOURCE-in-0000000000 (topics: [in])
              --> KSTREAM-KEY-SELECT-in-0000000000
            Processor: KSTREAM-KEY-SELECT-in-0000000000 (stores: [])
              --> some-repartition-sink
              <-- KSTREAM-SOURCE-in-0000000000
            Sink: some-repartition-sink (topic: some-repartition)
              <-- KSTREAM-KEY-SELECT-in-0000000000

           Sub-topology: 1
            Source: some-repartition-source (topics: [some-repartition])
              --> KSTREAM-FILTER-in-0000000000, KSTREAM-AGGREGATE-all
            Processor: KSTREAM-FILTER-in-0000000000 (stores: [])
              --> KSTREAM-AGGREGATE-some
              <-- some-repartition-source
            Processor: KSTREAM-AGGREGATE-some (stores: [some])
              --> none
              <-- KSTREAM-FILTER-in-0000000000
            Processor: KSTREAM-AGGREGATE-all (stores: [all])
              --> none
              <-- some-repartition-source

    "#]],
    );
    // One alone stays where it is.
    let alone = |builder: &StreamsBuilder| {
        let _ = rekeyed(builder).filter(|_, value| *value > 0).group_by_key().count("some");
    };
    let (none, merged) = (built(Optimization::NONE, alone)?, built(Optimization::ALL, alone)?);
    assert_eq!(none.describe(), merged.describe());
    Ok(())
}

#[test]
fn a_self_join_keeps_its_records_once_with_and_without() -> Outcome {
    let draw = |builder: &StreamsBuilder| {
        let stream = builder.stream::<String, i64>("in");
        let windows = JoinWindows::of_time_difference_with_no_grace(Duration::from_millis(5));
        stream.join(stream.within(windows), |left, right| left + right).to("out");
    };
    let single = built(Optimization::SINGLE_STORE_SELF_JOIN, draw)?;
    assert_eq!(single.describe(), built(Optimization::NONE, draw)?.describe());
    check_described(
        &single,
        &expect![[r#"
        Topologies:
           Sub-topology: 0
            Source: KSTREAM-SOURCE-in-0000000000 (topics: [in])
              --> KSTREAM-SELFJOIN-in-0000000000
            Processor: KSTREAM-SELFJOIN-in-0000000000 (stores: [KSTREAM-SELFJOIN-in-0000000000-this-join-store, KSTREAM-SELFJOIN-in-0000000000-waiting-join-store])
              --> KSTREAM-SINK-out-0000000000
              <-- KSTREAM-SOURCE-in-0000000000
            Sink: KSTREAM-SINK-out-0000000000 (topic: out)
              <-- KSTREAM-SELFJOIN-in-0000000000

    "#]],
    );
    Ok(())
}

#[test]
fn a_table_whose_topic_is_reused_has_no_changelog() -> Outcome {
    let draw = |builder: &StreamsBuilder| {
        let consumed = Consumed::<String, i64>::default();
        builder
            .table_with("in", consumed, "rows")
            .filter(|_, value| *value > 0)
            .to_stream()
            .to("out");
    };
    let reused = built(Optimization::REUSE_KTABLE_SOURCE_TOPICS, draw)?;
    check_described(
        &reused,
        &expect![[r#"
        Topologies:
           Sub-topology: 0
            Source: KSTREAM-SOURCE-in-0000000000 (topics: [in])
              --> KTABLE-SOURCE-in-0000000000
            Processor: KTABLE-SOURCE-in-0000000000 (stores: [rows])
              --> KTABLE-FILTER-in-0000000000
              <-- KSTREAM-SOURCE-in-0000000000
            Processor: KTABLE-FILTER-in-0000000000 (stores: [])
              --> KTABLE-TOSTREAM-in-0000000000
              <-- KTABLE-SOURCE-in-0000000000
            Processor: KTABLE-TOSTREAM-in-0000000000 (stores: [])
              --> KSTREAM-SINK-out-0000000000
              <-- KTABLE-FILTER-in-0000000000
            Sink: KSTREAM-SINK-out-0000000000 (topic: out)
              <-- KTABLE-TOSTREAM-in-0000000000

    "#]],
    );
    for (topology, has_changelog) in [(built(Optimization::NONE, draw)?, true), (reused, false)] {
        let driver = TopologyTestDriver::new(topology)?;
        driver.pipe::<String, i64>("in", "a=1@1 b=-1@2")?;
        let topics = driver.log().topics()?;
        let mut names = topics.iter().map(|topic| topic.name.as_str());
        assert_eq!(names.any(|name| name == "test-rows-changelog"), has_changelog);
    }
    Ok(())
}

/// What the last row of each key is in each topic, after a crash in between.
fn results(optimization: Optimization, partitions: u32, rows_max: usize) -> Outcome<Vec<String>> {
    let config = StreamsConfig::new("test").with_batch_rows_max(rows_max);
    let partitions = [("in", partitions)].into();
    let topology = built(optimization, shared)?;
    let driver = TopologyTestDriver::with(topology, config, &partitions)?.by_hand();
    for half in 0..2 {
        for number in half * 20..half * 20 + 20 {
            let text = format!("x{}={}@{number}", number % 7, number % 12);
            driver.pipe::<String, i64>("in", &text)?;
        }
        driver.run_until_idle()?;
        driver.commit()?;
        driver.crash();
        driver.restart()?;
    }
    let mut results = Vec::new();
    for topic in ["a", "b", "c", "d", "e"] {
        let rows = driver.output_topic::<String, Option<i64>>(topic).read_key_values_to_map()?;
        results.push(format!("{topic}: {rows:?}"));
    }
    let mut large: Vec<String> =
        driver.read::<String, i64>("large")?.split(' ').map(str::to_owned).collect();
    large.sort();
    results.push(large.join(" "));
    Ok(results)
}

#[test]
fn no_optimization_changes_a_result() -> Outcome {
    let expected = results(Optimization::NONE, 1, 1)?;
    for optimization in [Optimization::NONE, Optimization::ALL] {
        for (partitions, rows_max) in [(1, 1), (1, 1_024), (3, 2), (3, 1_024)] {
            let found = results(optimization, partitions, rows_max)?;
            assert_eq!(found, expected, "{optimization:?}, {partitions}, {rows_max}");
        }
    }
    Ok(())
}

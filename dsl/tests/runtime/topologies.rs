//! Golden topologies: what each operator draws.

use expect_test::{Expect, expect};
use headwater_core::serde::{Utf8, for_type};
use headwater_dsl::{EmitStrategy, Grouped, KStream, Materialized, StreamsBuilder, TimeWindows};
use headwater_engine::{
    processor::{
        Context, FixedKeyContext, FixedKeyProcessor, FixedKeyRecord, Processor, ProcessorError,
        Record,
    },
    store::KeyValueStore,
    topology::{Consumed, Produced, TopologyError},
};
use std::{sync::Arc, time::Duration};

/// Draws on a stream of `in`, and compares the topology.
fn check(draw: impl Fn(&StreamsBuilder, KStream<String, i64>), expected: &Expect) {
    let builder = StreamsBuilder::new();
    draw(&builder, builder.stream("in"));
    expected.assert_eq(&builder.build().expect("the topology is sound").describe());
}

fn error(draw: impl Fn(&StreamsBuilder, KStream<String, i64>)) -> TopologyError {
    let builder = StreamsBuilder::new();
    draw(&builder, builder.stream("in"));
    builder.build().expect_err("the topology is not sound")
}

fn minutes() -> TimeWindows {
    TimeWindows::of_size_with_no_grace(Duration::from_secs(60))
}

struct Forward;

impl Processor<String, i64> for Forward {
    type KOut = String;
    type VOut = i64;

    fn process(
        &mut self,
        record: Record<String, i64>,
        context: &mut Context<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        context.forward(record);
        Ok(())
    }
}

struct Keep;

impl FixedKeyProcessor<String, i64> for Keep {
    type VOut = i64;

    fn process(
        &mut self,
        record: FixedKeyRecord<String, i64>,
        context: &mut FixedKeyContext<'_, String, i64>,
    ) -> Result<(), ProcessorError> {
        context.forward(record);
        Ok(())
    }
}

#[test]
fn stateless_operators_are_a_node_each() {
    check(
        |_, stream| {
            let mapped = stream
                .filter(|_, v| *v > 0)
                .filter_not(|_, v| *v > 9)
                .map_values(|v| v + 1)
                .map_values_with_key(|k, v| k.len() + usize::try_from(v).unwrap_or(0))
                .flat_map_values(|v| [v, v])
                .peek(|_, _| ());
            mapped
                .map(|k, v| (v.to_string(), k))
                .flat_map(|k, v| vec![(k, v)])
                .select_key(|_, v| v.clone())
                .to("out");
            mapped.for_each(|_, _| ());
        },
        &expect![[r#"
            Topologies:
               Sub-topology: 0
                Source: KSTREAM-SOURCE-in-0000000000 (topics: [in])
                  --> KSTREAM-FILTER-in-0000000000
                Processor: KSTREAM-FILTER-in-0000000000 (stores: [])
                  --> KSTREAM-FILTER-in-0000000001
                  <-- KSTREAM-SOURCE-in-0000000000
                Processor: KSTREAM-FILTER-in-0000000001 (stores: [])
                  --> KSTREAM-MAPVALUES-in-0000000000
                  <-- KSTREAM-FILTER-in-0000000000
                Processor: KSTREAM-MAPVALUES-in-0000000000 (stores: [])
                  --> KSTREAM-MAPVALUES-in-0000000001
                  <-- KSTREAM-FILTER-in-0000000001
                Processor: KSTREAM-MAPVALUES-in-0000000001 (stores: [])
                  --> KSTREAM-FLATMAPVALUES-in-0000000000
                  <-- KSTREAM-MAPVALUES-in-0000000000
                Processor: KSTREAM-FLATMAPVALUES-in-0000000000 (stores: [])
                  --> KSTREAM-PEEK-in-0000000000
                  <-- KSTREAM-MAPVALUES-in-0000000001
                Processor: KSTREAM-PEEK-in-0000000000 (stores: [])
                  --> KSTREAM-MAP-in-0000000000, KSTREAM-FOREACH-in-0000000000
                  <-- KSTREAM-FLATMAPVALUES-in-0000000000
                Processor: KSTREAM-MAP-in-0000000000 (stores: [])
                  --> KSTREAM-FLATMAP-in-0000000000
                  <-- KSTREAM-PEEK-in-0000000000
                Processor: KSTREAM-FLATMAP-in-0000000000 (stores: [])
                  --> KSTREAM-KEY-SELECT-in-0000000000
                  <-- KSTREAM-MAP-in-0000000000
                Processor: KSTREAM-KEY-SELECT-in-0000000000 (stores: [])
                  --> KSTREAM-SINK-out-0000000000
                  <-- KSTREAM-FLATMAP-in-0000000000
                Sink: KSTREAM-SINK-out-0000000000 (topic: out)
                  <-- KSTREAM-KEY-SELECT-in-0000000000
                Processor: KSTREAM-FOREACH-in-0000000000 (stores: [])
                  --> none
                  <-- KSTREAM-PEEK-in-0000000000

        "#]],
    );
}

#[test]
fn nulls_are_dropped_by_a_node_that_changes_the_types() {
    let builder = StreamsBuilder::new();
    let stream: KStream<String, i64> =
        builder.stream::<Option<String>, Option<i64>>("in").drop_null_keys().drop_null_values();
    stream.to("out");
    expect![[r#"
        Topologies:
           Sub-topology: 0
            Source: KSTREAM-SOURCE-in-0000000000 (topics: [in])
              --> KSTREAM-FILTER-in-0000000000
            Processor: KSTREAM-FILTER-in-0000000000 (stores: [])
              --> KSTREAM-FILTER-in-0000000001
              <-- KSTREAM-SOURCE-in-0000000000
            Processor: KSTREAM-FILTER-in-0000000001 (stores: [])
              --> KSTREAM-SINK-out-0000000000
              <-- KSTREAM-FILTER-in-0000000000
            Sink: KSTREAM-SINK-out-0000000000 (topic: out)
              <-- KSTREAM-FILTER-in-0000000001

    "#]]
    .assert_eq(&builder.build().expect("the topology is sound").describe());
}

#[test]
fn a_split_has_a_child_a_branch() {
    check(
        |_, stream| {
            let split = stream.split();
            let high = split.branch(|_, v| *v > 100);
            let low = split.branch(|_, v| *v < 0).named("low");
            split.default_branch().to("rest");
            high.merge(&low).to("odd");
        },
        &expect![[r#"
            Topologies:
               Sub-topology: 0
                Source: KSTREAM-SOURCE-in-0000000000 (topics: [in])
                  --> KSTREAM-BRANCH-in-0000000000
                Processor: KSTREAM-BRANCH-in-0000000000 (stores: []) (record by record)
                  --> KSTREAM-BRANCHCHILD-in-0000000000, low, KSTREAM-BRANCHCHILD-in-0000000002
                  <-- KSTREAM-SOURCE-in-0000000000
                Processor: KSTREAM-BRANCHCHILD-in-0000000000 (stores: [])
                  --> KSTREAM-MERGE-in-0000000000
                  <-- KSTREAM-BRANCH-in-0000000000
                Processor: low (stores: [])
                  --> KSTREAM-MERGE-in-0000000000
                  <-- KSTREAM-BRANCH-in-0000000000
                Processor: KSTREAM-BRANCHCHILD-in-0000000002 (stores: [])
                  --> KSTREAM-SINK-rest-0000000000
                  <-- KSTREAM-BRANCH-in-0000000000
                Sink: KSTREAM-SINK-rest-0000000000 (topic: rest)
                  <-- KSTREAM-BRANCHCHILD-in-0000000002
                Processor: KSTREAM-MERGE-in-0000000000 (stores: [])
                  --> KSTREAM-SINK-odd-0000000000
                  <-- KSTREAM-BRANCHCHILD-in-0000000000, low
                Sink: KSTREAM-SINK-odd-0000000000 (topic: odd)
                  <-- KSTREAM-MERGE-in-0000000000

        "#]],
    );
}

#[test]
fn a_group_by_key_of_unchanged_keys_needs_no_repartition() {
    check(
        |_, stream| {
            let grouped = stream.filter(|_, _| true).map_values(|v| v * 2).group_by_key();
            grouped.count("counts").to_stream().to("out");
            let _sums = grouped.reduce(|a, b| a + b, Materialized::default());
        },
        &expect![[r#"
            Topologies:
               Sub-topology: 0
                Source: KSTREAM-SOURCE-in-0000000000 (topics: [in])
                  --> KSTREAM-FILTER-in-0000000000
                Processor: KSTREAM-FILTER-in-0000000000 (stores: [])
                  --> KSTREAM-MAPVALUES-in-0000000000
                  <-- KSTREAM-SOURCE-in-0000000000
                Processor: KSTREAM-MAPVALUES-in-0000000000 (stores: [])
                  --> KSTREAM-AGGREGATE-counts, KSTREAM-REDUCE-in-0000000000
                  <-- KSTREAM-FILTER-in-0000000000
                Processor: KSTREAM-AGGREGATE-counts (stores: [counts])
                  --> KTABLE-TOSTREAM-in-0000000000
                  <-- KSTREAM-MAPVALUES-in-0000000000
                Processor: KTABLE-TOSTREAM-in-0000000000 (stores: [])
                  --> KSTREAM-SINK-out-0000000000
                  <-- KSTREAM-AGGREGATE-counts
                Sink: KSTREAM-SINK-out-0000000000 (topic: out)
                  <-- KTABLE-TOSTREAM-in-0000000000
                Processor: KSTREAM-REDUCE-in-0000000000 (stores: [KSTREAM-REDUCE-STATE-STORE-in-0000000000])
                  --> none
                  <-- KSTREAM-MAPVALUES-in-0000000000

        "#]],
    );
}

#[test]
fn a_changed_key_is_repartitioned_once_an_aggregation() {
    check(
        |_, stream| {
            let grouped =
                stream.select_key(|_, v| *v).merge(&stream.map(|_, v| (v, v))).group_by_key();
            let _counts = grouped.count(Materialized::default());
            let _sums = grouped.aggregate(|| 0.0, |_, v, sum| sum + v as f64, "sums");
        },
        &expect![[r#"
            Topologies:
               Sub-topology: 0
                Source: KSTREAM-SOURCE-in-0000000000 (topics: [in]) (record by record)
                  --> KSTREAM-KEY-SELECT-in-0000000000, KSTREAM-MAP-in-0000000000
                Processor: KSTREAM-KEY-SELECT-in-0000000000 (stores: [])
                  --> KSTREAM-MERGE-in-0000000000
                  <-- KSTREAM-SOURCE-in-0000000000
                Processor: KSTREAM-MAP-in-0000000000 (stores: [])
                  --> KSTREAM-MERGE-in-0000000000
                  <-- KSTREAM-SOURCE-in-0000000000
                Processor: KSTREAM-MERGE-in-0000000000 (stores: [])
                  --> KSTREAM-AGGREGATE-STATE-STORE-in-0000000000-repartition-sink, sums-repartition-sink
                  <-- KSTREAM-KEY-SELECT-in-0000000000, KSTREAM-MAP-in-0000000000
                Sink: KSTREAM-AGGREGATE-STATE-STORE-in-0000000000-repartition-sink (topic: KSTREAM-AGGREGATE-STATE-STORE-in-0000000000-repartition)
                  <-- KSTREAM-MERGE-in-0000000000
                Sink: sums-repartition-sink (topic: sums-repartition)
                  <-- KSTREAM-MERGE-in-0000000000

               Sub-topology: 1
                Source: KSTREAM-AGGREGATE-STATE-STORE-in-0000000000-repartition-source (topics: [KSTREAM-AGGREGATE-STATE-STORE-in-0000000000-repartition])
                  --> KSTREAM-AGGREGATE-in-0000000000
                Processor: KSTREAM-AGGREGATE-in-0000000000 (stores: [KSTREAM-AGGREGATE-STATE-STORE-in-0000000000])
                  --> none
                  <-- KSTREAM-AGGREGATE-STATE-STORE-in-0000000000-repartition-source

               Sub-topology: 2
                Source: sums-repartition-source (topics: [sums-repartition])
                  --> KSTREAM-AGGREGATE-sums
                Processor: KSTREAM-AGGREGATE-sums (stores: [sums])
                  --> none
                  <-- sums-repartition-source

        "#]],
    );
}

#[test]
fn aggregations_of_a_named_grouping_share_its_repartition() {
    check(
        |_, stream| {
            let grouped = stream.group_by(|_, v| *v).named("by-value");
            let _counts = grouped.count("counts").named("counting");
            let _sums = grouped.reduce(|a, b| a + b, "sums");
        },
        &expect![[r#"
            Topologies:
               Sub-topology: 0
                Source: KSTREAM-SOURCE-in-0000000000 (topics: [in])
                  --> KSTREAM-KEY-SELECT-in-0000000000
                Processor: KSTREAM-KEY-SELECT-in-0000000000 (stores: [])
                  --> by-value-repartition-sink
                  <-- KSTREAM-SOURCE-in-0000000000
                Sink: by-value-repartition-sink (topic: by-value-repartition)
                  <-- KSTREAM-KEY-SELECT-in-0000000000

               Sub-topology: 1
                Source: by-value-repartition-source (topics: [by-value-repartition])
                  --> counting, KSTREAM-REDUCE-sums
                Processor: counting (stores: [counts])
                  --> none
                  <-- by-value-repartition-source
                Processor: KSTREAM-REDUCE-sums (stores: [sums])
                  --> none
                  <-- by-value-repartition-source

        "#]],
    );
}

#[test]
fn a_windowed_aggregation_keeps_its_windows_in_a_store_and_writes_windowed_keys() {
    check(
        |_, stream| {
            let windows = stream.group_by_key().windowed_by(minutes());
            windows.count("counts").to_stream().to("out");
            let finals =
                windows.emit_strategy(EmitStrategy::on_window_close()).reduce(i64::max, "finals");
            finals
                .to_stream()
                .drop_null_values()
                .select_key(|key, _| key.window.start)
                .group_by_key()
                .count("again");
        },
        &expect![[r#"
            Topologies:
               Sub-topology: 0
                Source: KSTREAM-SOURCE-in-0000000000 (topics: [in])
                  --> KSTREAM-AGGREGATE-counts, KSTREAM-REDUCE-finals
                Processor: KSTREAM-AGGREGATE-counts (stores: [counts])
                  --> KTABLE-TOSTREAM-in-0000000000
                  <-- KSTREAM-SOURCE-in-0000000000
                Processor: KTABLE-TOSTREAM-in-0000000000 (stores: [])
                  --> KSTREAM-SINK-out-0000000000
                  <-- KSTREAM-AGGREGATE-counts
                Sink: KSTREAM-SINK-out-0000000000 (topic: out)
                  <-- KTABLE-TOSTREAM-in-0000000000
                Processor: KSTREAM-REDUCE-finals (stores: [finals, finals-headers])
                  --> KTABLE-TOSTREAM-in-0000000001
                  <-- KSTREAM-SOURCE-in-0000000000
                Processor: KTABLE-TOSTREAM-in-0000000001 (stores: [])
                  --> KSTREAM-FILTER-in-0000000000
                  <-- KSTREAM-REDUCE-finals
                Processor: KSTREAM-FILTER-in-0000000000 (stores: [])
                  --> KSTREAM-KEY-SELECT-in-0000000000
                  <-- KTABLE-TOSTREAM-in-0000000001
                Processor: KSTREAM-KEY-SELECT-in-0000000000 (stores: [])
                  --> again-repartition-sink
                  <-- KSTREAM-FILTER-in-0000000000
                Sink: again-repartition-sink (topic: again-repartition)
                  <-- KSTREAM-KEY-SELECT-in-0000000000

               Sub-topology: 1
                Source: again-repartition-source (topics: [again-repartition])
                  --> KSTREAM-AGGREGATE-again
                Processor: KSTREAM-AGGREGATE-again (stores: [again])
                  --> none
                  <-- again-repartition-source

        "#]],
    );
}

#[test]
fn a_table_is_a_source_with_a_store_and_derived_tables_are_not_kept() {
    check(
        |builder, _| {
            let table = builder.table::<String, i64>("prices");
            let derived =
                table.filter(|_, v| *v > 0).filter_not(|_, v| *v > 9).map_values(|v| v.to_string());
            assert_eq!(table.queryable_store_name(), Some("prices-STATE-STORE-0000000000"));
            assert_eq!(derived.queryable_store_name(), None);
            derived.to_stream().to("out");
        },
        &expect![[r#"
            Topologies:
               Sub-topology: 0
                Source: KSTREAM-SOURCE-in-0000000000 (topics: [in])
                  --> none

               Sub-topology: 1
                Source: KSTREAM-SOURCE-prices-0000000000 (topics: [prices])
                  --> KTABLE-SOURCE-prices-0000000000
                Processor: KTABLE-SOURCE-prices-0000000000 (stores: [prices-STATE-STORE-0000000000])
                  --> KTABLE-FILTER-prices-0000000000
                  <-- KSTREAM-SOURCE-prices-0000000000
                Processor: KTABLE-FILTER-prices-0000000000 (stores: [])
                  --> KTABLE-FILTER-prices-0000000001
                  <-- KTABLE-SOURCE-prices-0000000000
                Processor: KTABLE-FILTER-prices-0000000001 (stores: [])
                  --> KTABLE-MAPVALUES-prices-0000000000
                  <-- KTABLE-FILTER-prices-0000000000
                Processor: KTABLE-MAPVALUES-prices-0000000000 (stores: [])
                  --> KTABLE-TOSTREAM-prices-0000000000
                  <-- KTABLE-FILTER-prices-0000000001
                Processor: KTABLE-TOSTREAM-prices-0000000000 (stores: [])
                  --> KSTREAM-SINK-out-0000000000
                  <-- KTABLE-MAPVALUES-prices-0000000000
                Sink: KSTREAM-SINK-out-0000000000 (topic: out)
                  <-- KTABLE-TOSTREAM-prices-0000000000

        "#]],
    );
}

#[test]
fn a_join_uses_the_tables_store_and_repartitions_a_marked_stream_once() {
    check(
        |builder, stream| {
            let table = builder.table_with("names", Consumed::default(), "names");
            let marked = stream.select_key(|k, _| k.to_uppercase()).named("upper");
            marked.join(&table, |v, name: String| format!("{name}: {v}")).to("joined");
            marked
                .left_join(&table.map_values(|name| name.len()), |v, length| (v, length))
                .to("left");
            stream.join(&table, |_, name| name).to("direct");
        },
        &expect![[r#"
            Topologies:
               Sub-topology: 0
                Source: KSTREAM-SOURCE-in-0000000000 (topics: [in])
                  --> upper, KSTREAM-JOIN-in-0000000001
                Source: KSTREAM-SOURCE-names-0000000000 (topics: [names])
                  --> KTABLE-SOURCE-names-0000000000
                Processor: KTABLE-SOURCE-names-0000000000 (stores: [names])
                  --> KTABLE-MAPVALUES-names-0000000000
                  <-- KSTREAM-SOURCE-names-0000000000
                Processor: upper (stores: [])
                  --> upper-repartition-sink
                  <-- KSTREAM-SOURCE-in-0000000000
                Sink: upper-repartition-sink (topic: upper-repartition)
                  <-- upper
                Source: upper-repartition-source (topics: [upper-repartition]) (record by record)
                  --> KSTREAM-JOIN-in-0000000000, KSTREAM-LEFTJOIN-in-0000000000
                Processor: KSTREAM-JOIN-in-0000000000 (stores: [names])
                  --> KSTREAM-SINK-joined-0000000000
                  <-- upper-repartition-source
                Sink: KSTREAM-SINK-joined-0000000000 (topic: joined)
                  <-- KSTREAM-JOIN-in-0000000000
                Processor: KTABLE-MAPVALUES-names-0000000000 (stores: [])
                  --> none
                  <-- KTABLE-SOURCE-names-0000000000
                Processor: KSTREAM-LEFTJOIN-in-0000000000 (stores: [names])
                  --> KSTREAM-SINK-left-0000000000
                  <-- upper-repartition-source
                Sink: KSTREAM-SINK-left-0000000000 (topic: left)
                  <-- KSTREAM-LEFTJOIN-in-0000000000
                Processor: KSTREAM-JOIN-in-0000000001 (stores: [names])
                  --> KSTREAM-SINK-direct-0000000000
                  <-- KSTREAM-SOURCE-in-0000000000
                Sink: KSTREAM-SINK-direct-0000000000 (topic: direct)
                  <-- KSTREAM-JOIN-in-0000000001

        "#]],
    );
}

#[test]
fn a_processor_marks_unless_it_only_changes_values() {
    check(
        |builder, stream| {
            builder.add_state_store(KeyValueStore::<String, i64>::builder(
                "mine",
                for_type(),
                for_type(),
            ));
            let _kept = stream.process_values(|_| Ok(Keep), &["mine"]).group_by_key().count("kept");
            let _moved = stream.process(|_| Ok(Forward), &["mine"]).group_by_key().count("moved");
        },
        &expect![[r#"
            Topologies:
               Sub-topology: 0
                Source: KSTREAM-SOURCE-in-0000000000 (topics: [in]) (record by record)
                  --> KSTREAM-PROCESSVALUES-in-0000000000, KSTREAM-PROCESSOR-in-0000000000
                Processor: KSTREAM-PROCESSVALUES-in-0000000000 (stores: [mine])
                  --> KSTREAM-AGGREGATE-kept
                  <-- KSTREAM-SOURCE-in-0000000000
                Processor: KSTREAM-AGGREGATE-kept (stores: [kept])
                  --> none
                  <-- KSTREAM-PROCESSVALUES-in-0000000000
                Processor: KSTREAM-PROCESSOR-in-0000000000 (stores: [mine])
                  --> moved-repartition-sink
                  <-- KSTREAM-SOURCE-in-0000000000
                Sink: moved-repartition-sink (topic: moved-repartition)
                  <-- KSTREAM-PROCESSOR-in-0000000000

               Sub-topology: 1
                Source: moved-repartition-source (topics: [moved-repartition])
                  --> KSTREAM-AGGREGATE-moved
                Processor: KSTREAM-AGGREGATE-moved (stores: [moved])
                  --> none
                  <-- moved-repartition-source

        "#]],
    );
}

#[test]
fn a_topic_read_twice_with_the_same_types_is_one_source() {
    check(
        |builder, stream| {
            stream.to("a");
            builder.stream::<String, i64>("in").to("b");
        },
        &expect![[r#"
            Topologies:
               Sub-topology: 0
                Source: KSTREAM-SOURCE-in-0000000000 (topics: [in])
                  --> KSTREAM-SINK-a-0000000000, KSTREAM-SINK-b-0000000000
                Sink: KSTREAM-SINK-a-0000000000 (topic: a)
                  <-- KSTREAM-SOURCE-in-0000000000
                Sink: KSTREAM-SINK-b-0000000000 (topic: b)
                  <-- KSTREAM-SOURCE-in-0000000000

        "#]],
    );
}

/// A type without serde's traits.
#[derive(Clone)]
struct Opaque;

impl headwater_core::serde::Serde<Opaque> for Forward {
    fn serialize(
        &self,
        _: &Opaque,
        _: &mut Vec<u8>,
    ) -> Result<bool, headwater_core::serde::SerdeError> {
        Ok(true)
    }

    fn deserialize(&self, _: Option<&[u8]>) -> Result<Opaque, headwater_core::serde::SerdeError> {
        Ok(Opaque)
    }

    fn schema(&self) -> String {
        "opaque".into()
    }
}

#[test]
fn types_without_a_default_serde_go_through_with_one_given() {
    let builder = StreamsBuilder::new();
    let stream = builder
        .stream_with("in", Consumed::<String, Opaque>::with(Arc::new(Utf8), Arc::new(Forward)));
    stream.to_with("copy", Produced::with(Arc::new(Utf8), Arc::new(Forward))).named("copy");
    let grouped =
        stream.group_by_with(|k, _| k.clone(), Grouped::with(Arc::new(Utf8), Arc::new(Forward)));
    let _counts = grouped.windowed_by(minutes()).count("counts");
    assert!(builder.build().unwrap().describe().contains("Sink: copy (topic: copy)"));
}

#[test]
fn a_builder_can_be_built_drawn_further_and_built_again() {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, i64>("in");
    stream.to("a");
    let first = builder.build().unwrap().describe();
    assert_eq!(builder.build().unwrap().describe(), first);
    stream.to("b");
    assert!(builder.build().unwrap().describe().contains("(topic: b)"));
}

#[test]
fn mistakes_come_out_at_the_build() {
    let taken = error(|_, stream| {
        let _both = (stream.filter(|_, _| true).named("x"), stream.peek(|_, _| ()).named("x"));
    });
    assert_eq!(taken, TopologyError::NameTaken { name: "x".into() });
    let store_taken = error(|_, stream| {
        let grouped = stream.group_by_key();
        let _both = (grouped.count("x"), grouped.count("x"));
    });
    assert_eq!(store_taken, TopologyError::NameTaken { name: "x".into() });
    let unknown = error(|_, stream| {
        let _processed = stream.process(|_| Ok(Forward), &["nowhere"]);
    });
    assert_eq!(unknown, TopologyError::UnknownStore { name: "nowhere".into() });
    let topic = error(|_, stream| {
        stream.to("not a topic");
    });
    assert!(matches!(topic, TopologyError::TopicName(_)));
    let empty = error(|_, stream| {
        let none = TimeWindows::of_size_with_no_grace(Duration::from_micros(900));
        let _counts = stream.group_by_key().windowed_by(none).count("x");
    });
    assert_eq!(empty, TopologyError::EmptyWindow { node: "x".into() });
}

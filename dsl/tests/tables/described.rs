//! What operators on tables and windows are drawn as: nodes, stores and repartition topics, one topology each.

use expect_test::{Expect, expect};
use headwater_dsl::{
    BufferConfig, EmitStrategy, JoinWindows, KStream, KTable, Materialized, SessionWindows,
    SlidingWindows, StreamsBuilder, Suppressed, TimeWindows,
};
use headwater_engine::topology::Consumed;
use std::time::Duration;

const MS: Duration = Duration::from_millis(10);

#[expect(clippy::needless_pass_by_value, reason = "it stands at the end of what it describes")]
fn check(draw: impl FnOnce(&StreamsBuilder, KStream<String, i64>), expected: Expect) {
    let builder = StreamsBuilder::new();
    let stream = builder.stream("in");
    draw(&builder, stream);
    expected.assert_eq(&builder.build().expect("it is a topology").describe());
}

fn tables(builder: &StreamsBuilder) -> (KTable<String, i64>, KTable<String, i64>) {
    let table = |topic, store| {
        builder.table_with(topic, Consumed::<String, i64>::default(), Materialized::named(store))
    };
    (table("left", "lefts"), table("right", "rights"))
}

#[test]
fn a_join_of_tables() {
    let draw = |builder: &StreamsBuilder, _| {
        let (left, right) = tables(builder);
        left.join(&right, |left, right| left + right).to_stream().to("inner");
        left.left_join(&right, |left, right| left + right.unwrap_or(0)).to_stream().to("left-out");
    };
    check(
        draw,
        expect![[r#"
        Topologies:
           Sub-topology: 0
            Source: KSTREAM-SOURCE-in-0000000000 (topics: [in])
              --> none

           Sub-topology: 1
            Source: KSTREAM-SOURCE-left-0000000000 (topics: [left])
              --> KTABLE-SOURCE-left-0000000000
            Processor: KTABLE-SOURCE-left-0000000000 (stores: [lefts]) (record by record)
              --> KTABLE-JOIN-left-0000000000, KTABLE-LEFTJOIN-left-0000000000
              <-- KSTREAM-SOURCE-left-0000000000
            Source: KSTREAM-SOURCE-right-0000000000 (topics: [right])
              --> KTABLE-SOURCE-right-0000000000
            Processor: KTABLE-SOURCE-right-0000000000 (stores: [rights]) (record by record)
              --> KTABLE-JOIN-left-0000000000, KTABLE-LEFTJOIN-left-0000000000
              <-- KSTREAM-SOURCE-right-0000000000
            Processor: KTABLE-JOIN-left-0000000000 (stores: [lefts, rights])
              --> KTABLE-TOSTREAM-left-0000000000
              <-- KTABLE-SOURCE-left-0000000000, KTABLE-SOURCE-right-0000000000
            Processor: KTABLE-TOSTREAM-left-0000000000 (stores: [])
              --> KSTREAM-SINK-inner-0000000000
              <-- KTABLE-JOIN-left-0000000000
            Sink: KSTREAM-SINK-inner-0000000000 (topic: inner)
              <-- KTABLE-TOSTREAM-left-0000000000
            Processor: KTABLE-LEFTJOIN-left-0000000000 (stores: [lefts, rights])
              --> KTABLE-TOSTREAM-left-0000000001
              <-- KTABLE-SOURCE-left-0000000000, KTABLE-SOURCE-right-0000000000
            Processor: KTABLE-TOSTREAM-left-0000000001 (stores: [])
              --> KSTREAM-SINK-left-out-0000000000
              <-- KTABLE-LEFTJOIN-left-0000000000
            Sink: KSTREAM-SINK-left-out-0000000000 (topic: left-out)
              <-- KTABLE-TOSTREAM-left-0000000001

    "#]],
    );
}

#[test]
fn a_foreign_key_join() {
    let draw = |builder: &StreamsBuilder, _| {
        let (left, right) = tables(builder);
        let joined = left.join_on(&right, |_, value| value.to_string(), |left, right| left + right);
        joined.to_stream().to("out");
    };
    check(
        draw,
        expect![[r#"
        Topologies:
           Sub-topology: 0
            Source: KSTREAM-SOURCE-in-0000000000 (topics: [in])
              --> none

           Sub-topology: 1
            Source: KSTREAM-SOURCE-left-0000000000 (topics: [left])
              --> KTABLE-SOURCE-left-0000000000
            Processor: KTABLE-SOURCE-left-0000000000 (stores: [lefts])
              --> KTABLE-FK-JOIN-OUTPUT-left-0000000000-subscription-registration
              <-- KSTREAM-SOURCE-left-0000000000
            Processor: KTABLE-FK-JOIN-OUTPUT-left-0000000000-subscription-registration (stores: [])
              --> KTABLE-FK-JOIN-OUTPUT-left-0000000000-subscription-registration-repartition-sink
              <-- KTABLE-SOURCE-left-0000000000
            Sink: KTABLE-FK-JOIN-OUTPUT-left-0000000000-subscription-registration-repartition-sink (topic: KTABLE-FK-JOIN-OUTPUT-left-0000000000-subscription-registration-repartition)
              <-- KTABLE-FK-JOIN-OUTPUT-left-0000000000-subscription-registration
            Source: KTABLE-FK-JOIN-OUTPUT-left-0000000000-subscription-response-repartition-source (topics: [KTABLE-FK-JOIN-OUTPUT-left-0000000000-subscription-response-repartition])
              --> KTABLE-FK-JOIN-OUTPUT-left-0000000000
            Processor: KTABLE-FK-JOIN-OUTPUT-left-0000000000 (stores: [KTABLE-FK-JOIN-OUTPUT-STATE-STORE-left-0000000000, lefts])
              --> KTABLE-TOSTREAM-left-0000000000
              <-- KTABLE-FK-JOIN-OUTPUT-left-0000000000-subscription-response-repartition-source
            Processor: KTABLE-TOSTREAM-left-0000000000 (stores: [])
              --> KSTREAM-SINK-out-0000000000
              <-- KTABLE-FK-JOIN-OUTPUT-left-0000000000
            Sink: KSTREAM-SINK-out-0000000000 (topic: out)
              <-- KTABLE-TOSTREAM-left-0000000000

           Sub-topology: 2
            Source: KSTREAM-SOURCE-right-0000000000 (topics: [right])
              --> KTABLE-SOURCE-right-0000000000
            Processor: KTABLE-SOURCE-right-0000000000 (stores: [rights]) (record by record)
              --> KTABLE-FK-JOIN-OUTPUT-left-0000000000-subscription
              <-- KSTREAM-SOURCE-right-0000000000
            Source: KTABLE-FK-JOIN-OUTPUT-left-0000000000-subscription-registration-repartition-source (topics: [KTABLE-FK-JOIN-OUTPUT-left-0000000000-subscription-registration-repartition])
              --> KTABLE-FK-JOIN-OUTPUT-left-0000000000-subscription
            Processor: KTABLE-FK-JOIN-OUTPUT-left-0000000000-subscription (stores: [rights, KTABLE-FK-JOIN-OUTPUT-left-0000000000-subscription-store, KTABLE-FK-JOIN-OUTPUT-left-0000000000-waiting-store])
              --> KTABLE-FK-JOIN-OUTPUT-left-0000000000-subscription-response-repartition-sink
              <-- KTABLE-FK-JOIN-OUTPUT-left-0000000000-subscription-registration-repartition-source, KTABLE-SOURCE-right-0000000000
            Sink: KTABLE-FK-JOIN-OUTPUT-left-0000000000-subscription-response-repartition-sink (topic: KTABLE-FK-JOIN-OUTPUT-left-0000000000-subscription-response-repartition)
              <-- KTABLE-FK-JOIN-OUTPUT-left-0000000000-subscription

    "#]],
    );
}

#[test]
fn an_aggregation_of_a_table() {
    let draw = |builder: &StreamsBuilder, _| {
        let (left, _) = tables(builder);
        let grouped = left.group_by(|_, value| (value.to_string(), *value));
        grouped
            .reduce(|sum, value| sum + value, |sum, value| sum - value, "sums")
            .to_stream()
            .to("out");
    };
    check(
        draw,
        expect![[r#"
        Topologies:
           Sub-topology: 0
            Source: KSTREAM-SOURCE-in-0000000000 (topics: [in])
              --> none

           Sub-topology: 1
            Source: KSTREAM-SOURCE-left-0000000000 (topics: [left])
              --> KTABLE-SOURCE-left-0000000000
            Processor: KTABLE-SOURCE-left-0000000000 (stores: [lefts])
              --> KTABLE-SELECT-left-0000000000
              <-- KSTREAM-SOURCE-left-0000000000
            Processor: KTABLE-SELECT-left-0000000000 (stores: [])
              --> sums-repartition-sink
              <-- KTABLE-SOURCE-left-0000000000
            Sink: sums-repartition-sink (topic: sums-repartition)
              <-- KTABLE-SELECT-left-0000000000

           Sub-topology: 2
            Source: KSTREAM-SOURCE-right-0000000000 (topics: [right])
              --> KTABLE-SOURCE-right-0000000000
            Processor: KTABLE-SOURCE-right-0000000000 (stores: [rights])
              --> none
              <-- KSTREAM-SOURCE-right-0000000000

           Sub-topology: 3
            Source: sums-repartition-source (topics: [sums-repartition])
              --> KTABLE-REDUCE-sums
            Processor: KTABLE-REDUCE-sums (stores: [sums])
              --> KTABLE-TOSTREAM-left-0000000000
              <-- sums-repartition-source
            Processor: KTABLE-TOSTREAM-left-0000000000 (stores: [])
              --> KSTREAM-SINK-out-0000000000
              <-- KTABLE-REDUCE-sums
            Sink: KSTREAM-SINK-out-0000000000 (topic: out)
              <-- KTABLE-TOSTREAM-left-0000000000

    "#]],
    );
}

#[test]
fn a_join_with_a_global_table() {
    let draw = |builder: &StreamsBuilder, stream: KStream<String, i64>| {
        let everywhere = builder.global_table::<String, i64>("everywhere");
        stream.join_global(&everywhere, |key, _| key.clone(), |value, row| value + row).to("out");
    };
    check(
        draw,
        expect![[r#"
        Topologies:
           Sub-topology: 0
            Source: KSTREAM-SOURCE-in-0000000000 (topics: [in])
              --> KSTREAM-JOIN-in-0000000000
            Processor: KSTREAM-JOIN-in-0000000000 (stores: [])
              --> KSTREAM-SINK-out-0000000000
              <-- KSTREAM-SOURCE-in-0000000000
            Sink: KSTREAM-SINK-out-0000000000 (topic: out)
              <-- KSTREAM-JOIN-in-0000000000

           Sub-topology: 1 for global store (will not generate tasks)
            Source: everywhere-STATE-STORE-0000000000-source (topics: [everywhere])
              --> everywhere-STATE-STORE-0000000000-update
            Processor: everywhere-STATE-STORE-0000000000-update (stores: [everywhere-STATE-STORE-0000000000])
              --> none
              <-- everywhere-STATE-STORE-0000000000-source

    "#]],
    );
}

#[test]
fn a_join_of_streams() {
    let draw = |builder: &StreamsBuilder, stream: KStream<String, i64>| {
        let other = builder.stream::<String, i64>("other");
        let windows = JoinWindows::of_time_difference_with_no_grace(MS);
        stream.join(other.within(windows), |left, right| left + right).to("out");
    };
    check(
        draw,
        expect![[r#"
        Topologies:
           Sub-topology: 0
            Source: KSTREAM-SOURCE-in-0000000000 (topics: [in])
              --> KSTREAM-JOINTHIS-in-0000000000
            Source: KSTREAM-SOURCE-other-0000000000 (topics: [other])
              --> KSTREAM-JOINTHIS-in-0000000000
            Processor: KSTREAM-JOINTHIS-in-0000000000 (stores: [KSTREAM-JOINTHIS-in-0000000000-this-join-store, KSTREAM-JOINTHIS-in-0000000000-other-join-store, KSTREAM-JOINTHIS-in-0000000000-waiting-join-store])
              --> KSTREAM-SINK-out-0000000000
              <-- KSTREAM-SOURCE-in-0000000000, KSTREAM-SOURCE-other-0000000000
            Sink: KSTREAM-SINK-out-0000000000 (topic: out)
              <-- KSTREAM-JOINTHIS-in-0000000000

    "#]],
    );
}

#[test]
fn a_stream_that_becomes_a_table() {
    let draw = |_: &StreamsBuilder, stream: KStream<String, i64>| {
        stream.select_key(|_, value| value.to_string()).to_table("rows").to_stream().to("out");
    };
    check(
        draw,
        expect![[r#"
        Topologies:
           Sub-topology: 0
            Source: KSTREAM-SOURCE-in-0000000000 (topics: [in])
              --> KSTREAM-KEY-SELECT-in-0000000000
            Processor: KSTREAM-KEY-SELECT-in-0000000000 (stores: [])
              --> rows-repartition-sink
              <-- KSTREAM-SOURCE-in-0000000000
            Sink: rows-repartition-sink (topic: rows-repartition)
              <-- KSTREAM-KEY-SELECT-in-0000000000

           Sub-topology: 1
            Source: rows-repartition-source (topics: [rows-repartition])
              --> KSTREAM-TOTABLE-rows
            Processor: KSTREAM-TOTABLE-rows (stores: [rows])
              --> KTABLE-TOSTREAM-in-0000000000
              <-- rows-repartition-source
            Processor: KTABLE-TOSTREAM-in-0000000000 (stores: [])
              --> KSTREAM-SINK-out-0000000000
              <-- KSTREAM-TOTABLE-rows
            Sink: KSTREAM-SINK-out-0000000000 (topic: out)
              <-- KTABLE-TOSTREAM-in-0000000000

    "#]],
    );
}

#[test]
fn windows_of_each_kind() {
    let draw = |_: &StreamsBuilder, stream: KStream<String, i64>| {
        let grouped = stream.group_by_key();
        let hopping = TimeWindows::of_size_with_no_grace(MS).advance_by(MS / 2);
        let _ = grouped.windowed_by(hopping).count("hopping");
        let sliding = SlidingWindows::of_time_difference_with_no_grace(MS);
        let _ = grouped.windowed_by(sliding).count("sliding");
        let sessions = SessionWindows::of_inactivity_gap_with_no_grace(MS);
        let _ = grouped.windowed_by(sessions).count("sessions");
    };
    check(
        draw,
        expect![[r#"
        Topologies:
           Sub-topology: 0
            Source: KSTREAM-SOURCE-in-0000000000 (topics: [in])
              --> KSTREAM-AGGREGATE-hopping, KSTREAM-AGGREGATE-sliding, KSTREAM-AGGREGATE-sessions
            Processor: KSTREAM-AGGREGATE-hopping (stores: [hopping])
              --> none
              <-- KSTREAM-SOURCE-in-0000000000
            Processor: KSTREAM-AGGREGATE-sliding (stores: [sliding])
              --> none
              <-- KSTREAM-SOURCE-in-0000000000
            Processor: KSTREAM-AGGREGATE-sessions (stores: [sessions])
              --> none
              <-- KSTREAM-SOURCE-in-0000000000

    "#]],
    );
}

#[test]
fn finals_at_the_close_and_by_suppression() {
    let draw = |_: &StreamsBuilder, stream: KStream<String, i64>| {
        let windowed = || stream.group_by_key().windowed_by(TimeWindows::of_size_with_no_grace(MS));
        let closing = windowed().emit_strategy(EmitStrategy::on_window_close());
        let _ = closing.count("closing");
        let held = Suppressed::until_window_closes(BufferConfig::unbounded());
        let _ = windowed().count("counts").suppress(held.with_name("finals"));
    };
    check(
        draw,
        expect![[r#"
        Topologies:
           Sub-topology: 0
            Source: KSTREAM-SOURCE-in-0000000000 (topics: [in])
              --> KSTREAM-AGGREGATE-closing, KSTREAM-AGGREGATE-counts
            Processor: KSTREAM-AGGREGATE-closing (stores: [closing, closing-headers])
              --> none
              <-- KSTREAM-SOURCE-in-0000000000
            Processor: KSTREAM-AGGREGATE-counts (stores: [counts])
              --> finals
              <-- KSTREAM-SOURCE-in-0000000000
            Processor: finals (stores: [finals-store, finals-store-times, finals-store-aside])
              --> none
              <-- KSTREAM-AGGREGATE-counts

    "#]],
    );
}

#[test]
fn several_groupings_in_one_aggregate() {
    let draw = |builder: &StreamsBuilder, stream: KStream<String, i64>| {
        let other = builder.stream::<String, i64>("other").group_by_key();
        let both = stream.group_by_key().cogroup(|_, value, sum: i64| sum + value);
        let both = both.cogroup(&other, |_, value, sum| sum - value);
        both.aggregate(|| 0, "sums").to_stream().to("out");
    };
    check(
        draw,
        expect![[r#"
        Topologies:
           Sub-topology: 0
            Source: KSTREAM-SOURCE-in-0000000000 (topics: [in])
              --> COGROUPKSTREAM-INPUT-sums-0
            Source: KSTREAM-SOURCE-other-0000000000 (topics: [other])
              --> COGROUPKSTREAM-INPUT-sums-1
            Processor: COGROUPKSTREAM-INPUT-sums-0 (stores: [])
              --> COGROUPKSTREAM-AGGREGATE-sums
              <-- KSTREAM-SOURCE-in-0000000000
            Processor: COGROUPKSTREAM-INPUT-sums-1 (stores: [])
              --> COGROUPKSTREAM-AGGREGATE-sums
              <-- KSTREAM-SOURCE-other-0000000000
            Processor: COGROUPKSTREAM-AGGREGATE-sums (stores: [sums])
              --> KTABLE-TOSTREAM-in-0000000000
              <-- COGROUPKSTREAM-INPUT-sums-0, COGROUPKSTREAM-INPUT-sums-1
            Processor: KTABLE-TOSTREAM-in-0000000000 (stores: [])
              --> KSTREAM-SINK-out-0000000000
              <-- COGROUPKSTREAM-AGGREGATE-sums
            Sink: KSTREAM-SINK-out-0000000000 (topic: out)
              <-- KTABLE-TOSTREAM-in-0000000000

    "#]],
    );
}

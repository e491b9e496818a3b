//! What a table's store cannot do is refused at the build, whatever the table is made by.

use headwater_dsl::{
    Materialized, SessionWindows, SlidingWindows, StreamsBuilder, TableJoined, TimeWindows,
};
use headwater_engine::{
    processor::Stores,
    topology::{Consumed, TopologyError},
};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

type Draw = fn(&StreamsBuilder, Materialized);

fn transformed(builder: &StreamsBuilder, kept: Materialized) {
    let same = |_: &String, value: Option<i64>, _: &mut Stores<'_>| Ok(value);
    let _ = builder.table::<String, i64>("in").transform_values(move |_| Ok(same), &[], kept);
}

fn joined_on(builder: &StreamsBuilder, kept: Materialized) {
    let (left, right) = (builder.table::<String, i64>("in"), builder.table("other"));
    let joined = TableJoined::default();
    let _ = left.join_on_with(&right, |_, n| *n, |a, b: i64| a + b, joined, kept);
}

fn left_joined_on(builder: &StreamsBuilder, kept: Materialized) {
    let (left, right) = (builder.table::<String, i64>("in"), builder.table::<i64, i64>("other"));
    let joined = TableJoined::default();
    let _ = left.left_join_on_with(&right, |_, n| *n, |a, _| a, joined, kept);
}

/// Tables that are made of others, or of groups, and global ones.
const DRAWN: [(&str, Draw); 11] = [
    ("count", |builder, kept| {
        let _ = builder.stream::<String, i64>("in").group_by_key().count(kept);
    }),
    ("windowed count", |builder, kept| {
        let windows = TimeWindows::of_size_with_no_grace(SECOND);
        let groups = builder.stream::<String, i64>("in").group_by_key();
        let _ = groups.windowed_by(windows).count(kept);
    }),
    ("sliding count", |builder, kept| {
        let windows = SlidingWindows::of_time_difference_with_no_grace(SECOND);
        let groups = builder.stream::<String, i64>("in").group_by_key();
        let _ = groups.windowed_by(windows).count(kept);
    }),
    ("session count", |builder, kept| {
        let windows = SessionWindows::of_inactivity_gap_with_no_grace(SECOND);
        let groups = builder.stream::<String, i64>("in").group_by_key();
        let _ = groups.windowed_by(windows).count(kept);
    }),
    ("cogroup", |builder, kept| {
        let groups = builder.stream::<String, i64>("in").group_by_key();
        let _ = groups.cogroup(|_, n, sum: i64| n + sum).aggregate(|| 0, kept);
    }),
    ("grouped table", |builder, kept| {
        let table = builder.table::<String, i64>("in");
        let _ = table.group_by(|key, n| (key.clone(), *n)).count(kept);
    }),
    ("materialized", |builder, kept| {
        let _ = builder.table::<String, i64>("in").materialized(kept);
    }),
    ("transform_values", transformed),
    ("join_on_with", joined_on),
    ("left_join_on_with", left_joined_on),
    ("global table", |builder, kept| {
        let _ = builder.global_table_with("in", Consumed::<String, i64>::default(), kept);
    }),
];

fn refused(draw: Draw, kept: Materialized) -> Option<TopologyError> {
    let builder = StreamsBuilder::new();
    draw(&builder, kept);
    builder.build().err()
}

/// Those of [`DRAWN`] that keep versions.
const VERSIONED: [&str; 7] = [
    "count",
    "cogroup",
    "grouped table",
    "materialized",
    "transform_values",
    "join_on_with",
    "left_join_on_with",
];

#[test]
fn windows_and_global_tables_keep_no_versions() {
    for (name, draw) in DRAWN.into_iter().filter(|(name, _)| !VERSIONED.contains(name)) {
        let refused = refused(draw, Materialized::named("s").versioned(SECOND));
        let is_told =
            matches!(&refused, Some(TopologyError::VersionsRefused { store }) if store == "s");
        assert!(is_told, "{name}: {refused:?}");
    }
}

#[test]
fn only_tables_of_records_have_a_time_to_live() {
    let versioned: (&str, Draw) = ("versioned", |builder, kept| {
        let kept = kept.versioned(SECOND);
        let _ = builder.table_with("in", Consumed::<String, i64>::default(), kept);
    });
    for (name, draw) in DRAWN.into_iter().chain([versioned]) {
        let refused = refused(draw, Materialized::named("s").with_ttl(SECOND));
        let is_told = matches!(&refused, Some(TopologyError::TtlRefused { store }) if store == "s");
        assert!(is_told, "{name}: {refused:?}");
    }
}

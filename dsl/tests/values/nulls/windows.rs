//! The rules of aggregations in sessions and sliding windows.

use super::{FOLDED, Key, Rule, Value, WINDOWED, Way, rule};
use headwater_dsl::{
    OperatorKind, SessionWindowedKStream, SessionWindows, SlidingWindows, StreamsBuilder,
    TimeWindowedKStream,
};
use std::time::Duration;

/// Windows of records that are 10 ms apart at most.
fn within() -> SlidingWindows {
    SlidingWindows::of_time_difference_with_no_grace(Duration::from_millis(10))
}

impl Way {
    fn sliding(self, builder: &StreamsBuilder) -> TimeWindowedKStream<Key, Value> {
        self.stream(builder).group_by_key().windowed_by(within())
    }

    fn sessions(self, builder: &StreamsBuilder) -> SessionWindowedKStream<Key, Value> {
        let gap = SessionWindows::of_inactivity_gap_with_no_grace(Duration::from_millis(10));
        self.stream(builder).group_by_key().windowed_by(gap)
    }
}

/// In sessions.
pub(crate) fn in_sessions() -> Vec<Rule> {
    use OperatorKind as Kind;
    vec![
        rule(
            (&[Kind::SessionCount], "`count` in sessions"),
            (WINDOWED, "counted"),
            ("=1@2 a=1@4", 2),
            |builder, way| {
                let counts = way.sessions(builder).count(way.store()).named("node").to_stream();
                counts.map(|at, n| (at.key, n)).to("out");
            },
        ),
        rule(
            (&[Kind::SessionReduce], "`reduce` in sessions"),
            (WINDOWED, FOLDED),
            ("=2@2 a=-1@4", 2),
            |builder, way| {
                let last = way.sessions(builder).reduce(|_, new| new, way.store()).named("node");
                let last = last.map_values(|value| value.unwrap_or(-1)).to_stream();
                last.map(|at, value| (at.key, value)).to("out");
            },
        ),
        rule(
            (&[Kind::SessionAggregate], "`aggregate`, `aggregate_or_delete` in sessions"),
            (WINDOWED, FOLDED),
            ("=3@2 a=6@4", 2),
            |builder, way| {
                let add = |_: &Key, value: Value, sum: i64| sum + value.unwrap_or(5);
                let merge = |_: &Key, sum: i64, session: i64| sum + session;
                let sums = way.sessions(builder).aggregate(|| 1, add, merge, way.store());
                sums.named("node").to_stream().map(|at, sum| (at.key, sum)).to("out");
            },
        ),
        rule(
            (&[Kind::SessionCogroup], "`cogroup`, `cogroup_or_delete` in sessions"),
            (WINDOWED, FOLDED),
            ("=3@2 a=6@4", 2),
            |builder, way| {
                let gap =
                    SessionWindows::of_inactivity_gap_with_no_grace(Duration::from_millis(10));
                let merge = |_: &Key, sum: i64, session: i64| sum + session;
                let sums =
                    way.cogrouped(builder).windowed_by(gap).aggregate(|| 1, merge, way.store());
                sums.named("node").to_stream().map(|at, sum| (at.key, sum)).to("out");
            },
        ),
    ]
}

/// In sliding windows.
pub(crate) fn in_sliding() -> Vec<Rule> {
    use OperatorKind as Kind;
    vec![
        rule(
            (&[Kind::SlidingCount], "`count` in sliding windows"),
            (WINDOWED, WINDOWED),
            ("=1@2", 3),
            |builder, way| {
                let counts = way.sliding(builder).count(way.store()).named("node").to_stream();
                counts.map(|at, n| (at.key, n)).to("out");
            },
        ),
        rule(
            (&[Kind::SlidingReduce], "`reduce` in sliding windows"),
            (WINDOWED, WINDOWED),
            ("=2@2", 3),
            |builder, way| {
                let last = way.sliding(builder).reduce(|_, new| new, way.store()).named("node");
                let last = last.map_values(|value| value.unwrap_or(-1)).to_stream();
                last.map(|at, value| (at.key, value)).to("out");
            },
        ),
        rule(
            (&[Kind::SlidingAggregate], "`aggregate`, `aggregate_or_delete` in sliding windows"),
            (WINDOWED, WINDOWED),
            ("=3@2", 3),
            |builder, way| {
                let add = |_: &Key, value: Value, sum: i64| sum + value.unwrap_or(5);
                let sums = way.sliding(builder).aggregate(|| 1, add, way.store()).named("node");
                sums.to_stream().map(|at, sum| (at.key, sum)).to("out");
            },
        ),
        rule(
            (&[Kind::SlidingCogroup], "`cogroup`, `cogroup_or_delete` in sliding windows"),
            (WINDOWED, FOLDED),
            ("=3@2 a=6@4", 2),
            |builder, way| {
                let sums =
                    way.cogrouped(builder).windowed_by(within()).aggregate(|| 1, way.store());
                sums.named("node").to_stream().map(|at, sum| (at.key, sum)).to("out");
            },
        ),
    ]
}

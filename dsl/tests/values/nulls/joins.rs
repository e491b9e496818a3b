//! The rules of joins of two streams, of tables by a foreign key, and of tables with versions.

use super::{DROPPED, Key, Rule, Value, Way, rule};
use headwater_dsl::{
    JoinWindows, Joined, KStream, KTable, Materialized, OperatorKind, StreamWithin, StreamsBuilder,
};
use headwater_engine::topology::Consumed;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

impl Way {
    /// The stream, and a copy of it as it is joined with that.
    fn with_copy(
        self,
        builder: &StreamsBuilder,
    ) -> (KStream<Key, Value>, StreamWithin<Key, Value, Value>) {
        let stream = self.stream(builder);
        let (left, right) = (stream.peek(|_, _| ()), stream.peek(|_, _| ()));
        (left, right.within(JoinWindows::of_time_difference_with_no_grace(MS)))
    }
}

const NONE: Duration = Duration::ZERO;

fn versions(builder: &StreamsBuilder, topic: &str) -> KTable<Key, i64> {
    let kept = Materialized::named("store").versioned(Duration::from_millis(100));
    builder.table_with(topic, Consumed::default(), kept)
}

fn sum(left: Option<Value>, right: Option<Value>) -> Value {
    Some(left.flatten().unwrap_or(0) + right.flatten().unwrap_or(0))
}

pub(crate) fn joined() -> Vec<Rule> {
    versioned().into_iter().chain(with_streams()).collect()
}

fn versioned() -> Vec<Rule> {
    use OperatorKind as Kind;
    vec![
        rule(
            (&[Kind::GracedJoin], "`join` with a table, after a grace"),
            (DROPPED, "joined as `None`"),
            ("=12@2 a=20@4", 2),
            |builder, way| {
                let table = versions(builder, "table").joined(Joined::with_grace_period(NONE));
                let join = |v: Value, row: i64| Some(v.unwrap_or(0) + row);
                way.stream(builder).join(table, join).named("node").to("out");
            },
        ),
        rule(
            (&[Kind::GracedLeftJoin], "`left_join` with a table, after a grace"),
            ("joined with no row", "joined as `None`"),
            ("∅=1@1 =12@2 ∅=∅@3 a=20@4", 0),
            |builder, way| {
                let table = versions(builder, "table").joined(Joined::with_grace_period(NONE));
                let join = |v: Value, row: Value| v.map(|v| v + row.unwrap_or(0)).or(row);
                way.stream(builder).left_join(table, join).named("node").to("out");
            },
        ),
        rule(
            (&[Kind::VersionedTable], "`table` with versions"),
            (DROPPED, "deletes the row"),
            ("=2@2 a=∅@4", 2),
            |builder, _| {
                versions(builder, "in").named("node").to_stream().to("out");
            },
        ),
    ]
}

fn with_streams() -> Vec<Rule> {
    use OperatorKind as Kind;
    vec![
        rule(
            (&[Kind::StreamJoin], "`join` with a stream"),
            (DROPPED, DROPPED),
            ("=4@2", 6),
            |builder, way| {
                let (stream, copy) = way.with_copy(builder);
                let joined = stream.join(copy, |left, right| sum(Some(left), Some(right)));
                joined.named("node").to("out");
            },
        ),
        rule(
            (&[Kind::StreamLeftJoin], "`left_join` with a stream"),
            ("joined with no record on the left, dropped and counted on the right", DROPPED),
            ("∅=1@1 =4@2", 5),
            |builder, way| {
                let (stream, copy) = way.with_copy(builder);
                let joined = stream.left_join(copy, |left, right| sum(Some(left), right));
                joined.named("node").to("out");
            },
        ),
        rule(
            (&[Kind::StreamOuterJoin], "`outer_join` with a stream"),
            ("joined with no record", DROPPED),
            ("∅=1@1 ∅=1@1 =4@2", 4),
            |builder, way| {
                let (stream, copy) = way.with_copy(builder);
                stream.outer_join(copy, sum).named("node").to("out");
            },
        ),
        rule(
            (&[Kind::SelfJoin], "`join` of a stream with itself"),
            (DROPPED, DROPPED),
            ("=4@2", 3),
            |builder, way| {
                let stream = way.stream(builder);
                let itself = stream.within(JoinWindows::of_time_difference_with_no_grace(MS));
                let joined = stream.join(itself, |left, right| sum(Some(left), Some(right)));
                joined.named("node").to("out");
            },
        ),
    ]
}

/// Tables whose rows have no foreign key.
pub(crate) fn by_foreign_key() -> Vec<Rule> {
    use OperatorKind as Kind;
    vec![
        rule(
            (
                &[Kind::ForeignKeySubscribe, Kind::ForeignKeyRespond, Kind::ForeignKeyJoin],
                "`join_on` of a table",
            ),
            (
                "there is none; a null foreign key: dropped and counted, and a deletion if the row had one",
                "a deletion",
            ),
            ("", 2),
            |builder, way| {
                let left = builder.table_with::<Key, i64>("in", Default::default(), way.store());
                let right = builder.table::<Key, Option<i64>>("table");
                let none = |_: &Key, _: &i64| None::<Key>;
                left.named("node").join_on(&right, none, |value, _| value).to_stream().to("out");
            },
        ),
        rule(
            (&[Kind::ForeignKeyLeftJoin], "`left_join_on` of a table"),
            ("there is none; a null foreign key: joined with no row", "a deletion"),
            ("=2@2", 2),
            |builder, way| {
                let left = builder.table_with::<Key, i64>("in", Default::default(), way.store());
                let right = builder.table::<Key, Option<i64>>("table");
                let none = |_: &Key, _: &i64| None::<Key>;
                left.named("node")
                    .left_join_on(&right, none, |value, _| value)
                    .to_stream()
                    .to("out");
            },
        ),
    ]
}

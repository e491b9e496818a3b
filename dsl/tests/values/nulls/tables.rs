//! The rules of tables.

use super::*;
use headwater_engine::processor::Stores;

pub(super) fn rules() -> Vec<Rule> {
    [single(), made(), joined_tables(), grouped_tables()].into_iter().flatten().collect()
}

fn single() -> Vec<Rule> {
    use OperatorKind as Kind;
    vec![
        rule(
            (&[Kind::Table, Kind::ToStream], "`table`, `to_stream`"),
            (DROPPED, "deletes the row"),
            (KEYED, 2),
            |builder, way| {
                let table = builder.table_with::<Key, i64>("in", Default::default(), way.store());
                table.named("node").to_stream().to("out");
            },
        ),
        rule(
            (&[Kind::TableFilter], "`filter`, `filter_not` of a table"),
            ("there is none", "a deletion; passes if the row had passed"),
            ("=2@2", 2),
            |builder, way| {
                let table = builder.table_with::<Key, i64>("in", Default::default(), way.store());
                table.named("node").filter(|_, value| *value > 0).to_stream().to("out");
            },
        ),
        rule(
            (&[Kind::TableMapValues], "`map_values` of a table"),
            ("there is none", "a deletion; passes unmapped"),
            ("=3@2 a=∅@4", 2),
            |builder, way| {
                let table = builder.table_with::<Key, i64>("in", Default::default(), way.store());
                table.named("node").map_values(|value| value + 1).to_stream().to("out");
            },
        ),
        rule(
            (&[Kind::Suppress], "`suppress` of a table"),
            (
                "there is none",
                "a deletion; held back, passes when it is due; none is made of a window's",
            ),
            ("=2@2 a=∅@4", 2),
            |builder, way| {
                let table = builder.table_with::<Key, i64>("in", Default::default(), way.store());
                let at_once =
                    Suppressed::until_time_limit(Duration::ZERO, BufferConfig::unbounded());
                table.named("node").suppress(at_once).to_stream().to("out");
            },
        ),
    ]
}

/// The group is the row's key and its value, so that each row is alone; a null makes it none.
fn group_of_table(builder: &StreamsBuilder, way: Way) -> KGroupedTable<Key, Value> {
    let table = way.stream(builder).to_table::<i64>("rows");
    table.group_by(|key, value| {
        let key = key.clone().filter(|_| *value != 3);
        (key, (*value != 4).then_some(*value))
    })
}

fn made() -> Vec<Rule> {
    use OperatorKind as Kind;
    vec![
        rule(
            (&[Kind::ToTable], "`to_table`"),
            (DROPPED, "deletes the row"),
            (KEYED, 2),
            |builder, way| {
                let table = way.stream(builder).to_table::<i64>(way.store());
                table.named("node").to("out");
            },
        ),
        rule(
            (&[Kind::Expire], "`table`, `to_table` with a time to live"),
            (DROPPED, "deletes the row"),
            (KEYED, 2),
            |builder, way| {
                let kept = way.store().with_ttl(Duration::from_secs(1));
                way.stream(builder).to_table::<i64>(kept).named("node").to("out");
            },
        ),
        rule(
            (&[Kind::TableMaterialize], "`materialized` of a table"),
            ("there is none", "a deletion; passes, and deletes the row"),
            (KEYED, 2),
            |builder, way| {
                let table = builder.table::<Key, i64>("in").named("node");
                table.materialized(way.store()).to("out");
            },
        ),
        rule(
            (&[Kind::TableTransformValues], "`transform_values` of a table"),
            (NO_KEY, "seen as `None`, a deletion"),
            ("=2@2 a=7@4", 2),
            |builder, way| {
                let table = builder.table::<Key, i64>("in").named("node");
                let make = |_: &mut InitContext<'_>| {
                    Ok(|_: &Key, value: Value, _: &mut Stores<'_>| Ok(value.or(Some(7))))
                };
                table.transform_values(make, &[], way.store()).to("out");
            },
        ),
    ]
}

fn joined_tables() -> Vec<Rule> {
    use OperatorKind as Kind;
    fn tables(builder: &StreamsBuilder, way: Way) -> [KTable<Key, i64>; 2] {
        let table = way.stream(builder).to_table::<i64>("rows");
        let other = table.map_values(|value| value * 10);
        [table, other]
    }
    vec![
        rule(
            (&[Kind::TableJoin], "`join` of tables"),
            (NO_KEY, "a deletion of the row, if the other side has it"),
            ("=22@2", 0),
            |builder, way| {
                let [one, other] = tables(builder, way);
                one.join(&other, |one, other| one + other).named("node").to("out");
            },
        ),
        rule(
            (&[Kind::TableLeftJoin], "`left_join` of tables"),
            (NO_KEY, "a deletion of the row, or of its right side"),
            ("=22@2", 0),
            |builder, way| {
                let [one, other] = tables(builder, way);
                let joined = one.left_join(&other, |one, other| one + other.unwrap_or(0));
                joined.named("node").to("out");
            },
        ),
        rule(
            (&[Kind::TableOuterJoin], "`outer_join` of tables"),
            (NO_KEY, "a deletion of one side, and of the row if it is of both"),
            ("=22@2", 0),
            |builder, way| {
                let [one, other] = tables(builder, way);
                let add = |one: Value, other: Value| one.unwrap_or(0) + other.unwrap_or(0);
                one.outer_join(&other, add).named("node").to("out");
            },
        ),
    ]
}

fn grouped_tables() -> Vec<Rule> {
    use OperatorKind as Kind;
    const NO_ROW: &str = "where selected, there is no row";
    vec![
        rule(
            (&[Kind::TableSelect, Kind::TableCount], "`group_by` and `count` of a table"),
            (NO_ROW, NO_ROW),
            ("=1@2", 0),
            |builder, way| {
                group_of_table(builder, way).count(way.store()).named("node").to("out");
            },
        ),
        rule(
            (&[Kind::TableReduce], "`reduce`, `reduce_or_delete` of a grouped table"),
            (NO_ROW, NO_ROW),
            ("=2@2", 0),
            |builder, way| {
                let last = group_of_table(builder, way).reduce(
                    |_, new| new,
                    |so_far, _| so_far,
                    way.store(),
                );
                last.named("node").map_values(|value| value.unwrap_or(-1)).to("out");
            },
        ),
        rule(
            (&[Kind::TableAggregate], "`aggregate`, `aggregate_or_delete` of a grouped table"),
            (NO_ROW, NO_ROW),
            ("=3@2", 0),
            |builder, way| {
                let add = |_: &Key, value: Value, sum: i64| sum + value.unwrap_or(5);
                let subtract = |_: &Key, value: Value, sum: i64| sum - value.unwrap_or(5);
                let sums = group_of_table(builder, way).aggregate(|| 1, add, subtract, way.store());
                sums.named("node").to("out");
            },
        ),
    ]
}

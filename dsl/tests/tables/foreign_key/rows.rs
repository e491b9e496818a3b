//! What comes out of each change.

use super::{Join, Outcome, join, joined, pipe, read, topology};
use headwater_dsl::{Materialized, StreamsBuilder, TableJoined};
use headwater_engine::runtime::StreamsConfig;
use headwater_testkit::TopologyTestDriver;
use std::collections::BTreeMap;

/// Takes the lines one after the other, `<` in front of left rows and `>` of right ones, each with what comes out of it.
fn check(kind: Join, lines: &[(&str, &[&str])]) -> Outcome {
    for partitions in [1, 3] {
        let counts = BTreeMap::from([("left", partitions), ("right", partitions)]);
        let config = StreamsConfig::new("app");
        let driver = TopologyTestDriver::with(topology(kind)?, config, &counts)?;
        let mut before: Vec<String> = Vec::new();
        for (line, expected) in lines {
            let (side, records) = line.split_at(1);
            pipe(&driver, if side == "<" { "left" } else { "right" }, records)?;
            let out = read(&driver, "out")?;
            let mut new = out.clone();
            for row in &before {
                new.remove(new.iter().position(|new| new == row).expect("it is still there"));
            }
            before = out;
            let mut expected = expected.to_vec();
            if partitions > 1 {
                // Which task writes first is nobody's promise.
                new.sort();
                expected.sort_unstable();
            }
            assert_eq!(new, expected, "{line}, {partitions} partitions");
        }
    }
    Ok(())
}

#[test]
fn a_new_left_row() -> Outcome {
    check(
        Join::Inner,
        &[
            ("<a=x.1@5", &[]),
            (">x=r@3", &["a=x.1+r@3 right3"]),
            ("<b=x.2@1", &["b=x.2+r@3 left1"]),
            ("<c=x.3@9", &["c=x.3+r@9 left9"]),
            ("<d=y.1@9", &[]),
        ],
    )?;
    check(
        Join::Left,
        &[
            ("<a=x.1@5", &["a=x.1+none@5 left5"]),
            (">x=r@3", &["a=x.1+r@3 right3"]),
            ("<b=x.2@1", &["b=x.2+r@3 left1"]),
        ],
    )
}

#[test]
fn a_left_row_that_keeps_its_foreign_key() -> Outcome {
    check(
        Join::Inner,
        &[
            (">x=r@3", &[]),
            ("<a=x.1@5", &["a=x.1+r@5 left5"]),
            ("<a=x.2@2", &["a=x.2+r@3 left2"]),
            ("<b=y.1@5", &[]),
            ("<b=y.2@6", &[]),
        ],
    )?;
    check(
        Join::Left,
        &[("<b=y.1@5", &["b=y.1+none@5 left5"]), ("<b=y.2@6", &["b=y.2+none@6 left6"])],
    )
}

#[test]
fn a_left_row_that_changes_its_foreign_key() -> Outcome {
    check(
        Join::Inner,
        &[
            (">x=r@1 y=s@9", &[]),
            ("<a=x.1@5", &["a=x.1+r@5 left5"]),
            ("<a=y.1@6", &["a=y.1+s@9 left6"]),
            ("<a=z.1@7", &["a=~@7 left7"]),
            (">x=r2@8 y=s2@8", &[]),
            (">z=t@2", &["a=z.1+t@2 right2"]),
        ],
    )?;
    check(
        Join::Left,
        &[
            (">x=r@1", &[]),
            ("<a=x.1@5", &["a=x.1+r@5 left5"]),
            ("<a=z.1@7", &["a=z.1+none@7 left7"]),
            (">x=r2@8", &[]),
        ],
    )
}

#[test]
fn a_left_row_without_a_foreign_key() -> Outcome {
    let lines: &[(&str, &[&str])] = &[
        (">x=r@1", &[]),
        ("<b=-.1@4", &[]),
        ("<a=x.1@5", &["a=x.1+r@5 left5"]),
        ("<a=-.1@6", &["a=~@6 left6"]),
        (">x=r2@8", &[]),
        ("<c=y.1@5", &[]),
        ("<c=-.1@6", &["c=~@6 left6"]),
        ("<b=~@7", &[]),
    ];
    check(Join::Inner, lines)?;
    let driver = TopologyTestDriver::new(topology(Join::Inner)?)?;
    pipe(&driver, "left", "b=-.1@4 a=x.1@5 a=-.1@6 a=-.2@7 a=~@8")?;
    assert_eq!(driver.dropped_records("fk-subscription-registration")?, 3);
    check(
        Join::Left,
        &[
            (">x=r@1", &[]),
            ("<b=-.1@4", &["b=-.1+none@4 left4"]),
            ("<a=x.1@5", &["a=x.1+r@5 left5"]),
            ("<a=-.1@6", &["a=-.1+none@6 left6"]),
            (">x=r2@8", &[]),
            ("<b=~@9", &["b=~@9 left9"]),
        ],
    )
}

#[test]
fn a_left_row_that_is_deleted() -> Outcome {
    check(
        Join::Inner,
        &[
            (">x=r@9", &[]),
            ("<a=x.1@5 b=y.1@5", &["a=x.1+r@9 left5"]),
            ("<a=~@6", &["a=~@9 left6"]),
            ("<b=~@7", &["b=~@7 left7"]),
            ("<a=~@8 c=~@8", &[]),
            (">x=r2@10 y=s@10", &[]),
        ],
    )?;
    check(
        Join::Left,
        &[
            (">x=r@9", &[]),
            ("<a=x.1@5", &["a=x.1+r@9 left5"]),
            ("<a=~@6", &["a=~@6 left6"]),
            ("<a=~@8 c=~@8", &[]),
            (">x=r2@10", &[]),
        ],
    )
}

#[test]
fn a_right_row_that_changes_or_is_deleted() -> Outcome {
    check(
        Join::Inner,
        &[
            ("<b=x.1@20 a=x.2@5 ab=x.3@5 c=y.1@5", &[]),
            (">x=r@9", &["a=x.2+r@9 right9", "ab=x.3+r@9 right9", "b=x.1+r@9 right9"]),
            (">x=s@2", &["a=x.2+s@2 right2", "ab=x.3+s@2 right2", "b=x.1+s@2 right2"]),
            (">x=~@4", &["a=~@4 right4", "ab=~@4 right4", "b=~@4 right4"]),
        ],
    )?;
    check(
        Join::Left,
        &[
            ("<a=x.2@5", &["a=x.2+none@5 left5"]),
            (">x=r@9", &["a=x.2+r@9 right9"]),
            (">x=~@4", &["a=x.2+none@4 right4"]),
        ],
    )
}

#[test]
fn rows_without_a_key_are_dropped_and_counted() -> Outcome {
    for kind in [Join::Inner, Join::Left] {
        let builder = StreamsBuilder::new();
        let left = builder.table::<Option<String>, String>("left").named("left");
        let right = builder.table::<Option<String>, String>("right").named("right");
        let key = |_: &Option<String>, value: &String| super::foreign_key(&String::new(), value);
        match kind {
            Join::Inner => left.join_on(&right, key, |left, _| left).to_stream().to("out"),
            Join::Left => left.left_join_on(&right, key, |left, _| left).to_stream().to("out"),
        };
        let driver = TopologyTestDriver::new(builder.build()?)?;
        pipe(&driver, "left", "null=x.1@1")?;
        pipe(&driver, "right", "null=r@2")?;
        assert_eq!(read(&driver, "out")?, [""; 0]);
        assert_eq!((driver.dropped_records("left")?, driver.dropped_records("right")?), (1, 1));
    }
    Ok(())
}

/// The right row is told about a left value that is no longer there.
#[test]
fn a_stale_response_is_discarded() -> Outcome {
    let config = StreamsConfig::new("app").with_batch_rows_max(1);
    let driver = TopologyTestDriver::with(topology(Join::Inner)?, config, &BTreeMap::new())?;
    let driver = driver.by_hand();
    pipe(&driver, "right", "x=r@1 y=s@2")?;
    driver.run_until_idle()?;
    pipe(&driver, "left", "a=x.1@5 a=y.2@6")?;
    // Both registrations are sent before the first is answered.
    driver.run_until_idle()?;
    driver.commit()?;
    let out = read(&driver, "out")?;
    assert_eq!(out.last().map(String::as_str), Some("a=y.2+s@6 left6"));
    let rows = driver.key_value_store::<String, String>("joined")?;
    assert_eq!(rows.get(&"a".into())?.expect("it is there").value, joined("y.2", Some("s")));
    Ok(())
}

#[test]
fn the_tables_need_not_have_equally_many_partitions() -> Outcome {
    for (left, right) in [(1, 4), (4, 1), (3, 2)] {
        let counts = BTreeMap::from([("left", left), ("right", right)]);
        let config = StreamsConfig::new("app");
        let driver = TopologyTestDriver::with(topology(Join::Left)?, config, &counts)?;
        for (at, key) in (1..).zip(["a", "b", "c", "d", "e", "f"]) {
            pipe(&driver, "left", &format!("{key}=x{at}.1@{at}"))?;
            pipe(&driver, "right", &format!("x{at}=r{at}@{at}"))?;
        }
        let rows = driver.key_value_store::<String, String>("joined")?;
        for (at, key) in (1..).zip(["a", "b", "c", "d", "e", "f"]) {
            let expected = format!("x{at}.1+r{at}");
            assert_eq!(rows.get(&key.to_owned())?.expect("it is there").value, expected);
        }
    }
    Ok(())
}

#[test]
fn partitioners_say_where_rows_lie() -> Outcome {
    let builder = StreamsBuilder::new();
    let last = |_: &String, _: &(), count: u32| count - 1;
    let joined = TableJoined::named("fk").with_partitioner(last).with_other_partitioner(last);
    // Both tables have all their rows in the last partition.
    let placed = |topic: &str| {
        let asked = headwater_dsl::Repartitioned::named(format!("{topic}-placed"))
            .with_stream_partitioner(|_: &String, _: &String, count: u32| count - 1);
        builder.stream::<String, String>(topic).repartition(asked).group_by_key()
    };
    let newest = |_: String, new: String| new;
    let left = placed("left").reduce(newest, Materialized::named("left-rows"));
    let right = placed("right").reduce(newest, Materialized::named("right-rows"));
    let each = |left: String, right: String| super::joined(&left, Some(&right));
    left.join_on_with(&right, super::foreign_key, each, joined, "joined").to_stream().to("out");
    let counts = BTreeMap::from([("left", 3), ("right", 3)]);
    let driver = TopologyTestDriver::with(builder.build()?, StreamsConfig::new("app"), &counts)?;
    pipe(&driver, "left", "a=x.1@1 b=y.1@2 c=x.2@3")?;
    pipe(&driver, "right", "x=r@4 y=s@5")?;
    let mut out = read(&driver, "out")?;
    out.sort();
    assert_eq!(out, ["a=x.1+r@4 right4", "b=y.1+s@5 right5", "c=x.2+r@4 right4"]);
    Ok(())
}

/// A filter deletes what it has forwarded, and so tells which old values it got.
#[test]
fn an_old_value_is_the_result_before() -> Outcome {
    let builder = StreamsBuilder::new();
    let rows = join(&builder.table("left"), &builder.table("right"), Join::Left);
    rows.filter(|_, row| row.ends_with('r')).to_stream().to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    pipe(&driver, "left", "a=x.1@1")?;
    pipe(&driver, "right", "x=s@2 x=r@3 x=q@4 x=q@5")?;
    assert_eq!(read(&driver, "out")?, ["a=x.1+r@3 right3", "a=~@4 right4"]);
    Ok(())
}

/// Employees have the key of another row of the same table.
#[test]
fn a_table_joins_itself() -> Outcome {
    let builder = StreamsBuilder::new();
    let rows = builder.table("left");
    join(&rows, &rows, Join::Inner).to_stream().to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    pipe(&driver, "left", "a=b.1@1 b=-.1@2 b=a.2@3")?;
    let rows = driver.key_value_store::<String, String>("joined")?;
    let row = |key: &str| {
        Ok::<_, Box<dyn std::error::Error>>(rows.get(&key.to_owned())?.map(|row| row.value))
    };
    assert_eq!(row("a")?, Some("b.1+a.2".into()));
    assert_eq!(row("b")?, Some("a.2+b.1".into()));
    Ok(())
}

/// A right row has more subscribers than are told with a batch, and changes again right after.
#[test]
fn very_many_left_rows_are_told_in_order() -> Outcome {
    let results = |rows_max: usize| -> Outcome<Vec<String>> {
        let config = StreamsConfig::new("app").with_batch_rows_max(rows_max);
        let driver = TopologyTestDriver::with(topology(Join::Inner)?, config, &BTreeMap::new())?;
        let driver = driver.by_hand();
        let left: Vec<String> = (0..2_500).map(|n| format!("k{n}=x.{n}@1")).collect();
        pipe(&driver, "left", &left.join(" "))?;
        driver.run_until_idle()?;
        driver.commit()?;
        pipe(&driver, "right", "x=r@2 y=s@3 x=q@4")?;
        driver.step()?;
        driver.step()?;
        driver.commit()?;
        driver.crash();
        driver.restart()?;
        driver.run_until_idle()?;
        driver.commit()?;
        read(&driver, "out")
    };
    let expected = results(1)?;
    assert_eq!(expected.len(), 5_000);
    let keys: Vec<&str> = expected.iter().filter_map(|row| row.split('=').next()).collect();
    let (first, second) = keys.split_at(2_500);
    assert!(first.is_sorted() && second.is_sorted());
    for rows_max in [2, 8_192] {
        assert!(results(rows_max)? == expected, "{rows_max} rows a batch");
    }
    Ok(())
}

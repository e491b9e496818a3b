//! Versions of what is made of streams, groups and other tables: what they are, and who finds them.

use headwater_core::ports::state::Order;
use headwater_dsl::{KTable, Materialized, StreamsBuilder, TableJoined};
use headwater_engine::{
    processor::Stores,
    topology::{Consumed, Topology},
};
use headwater_testkit::TopologyTestDriver;
use std::{error::Error, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// In the store `kept`, with a history of 20 ms.
fn kept() -> Materialized {
    Materialized::named("kept").versioned(Duration::from_millis(20))
}

/// Joins the stream `asked` with what `draw` draws of the topic `in`: results go to `found`, the table's updates to `updates`.
fn topology(draw: impl FnOnce(&StreamsBuilder) -> KTable<String, i64>) -> Outcome<Topology> {
    let builder = StreamsBuilder::new();
    let table = draw(&builder);
    table.to_stream().to("updates");
    builder.stream::<String, i64>("asked").join(&table, |_, row| row).to("found");
    Ok(builder.build()?)
}

/// The versions of `a`, `value@from`.
fn versions(driver: &TopologyTestDriver) -> Outcome<String> {
    let store = driver.versioned_key_value_store::<String, i64>("kept")?;
    let versions = store.versions(&"a".to_owned(), 0..=i64::MAX, Order::Ascending)?;
    let shown = versions.map(|version| version.map(|it| format!("{}@{}", it.value, it.timestamp)));
    Ok(shown.collect::<Result<Vec<_>, _>>()?.join(" "))
}

/// What came, and the versions that are left of it, now and after each way to start again.
fn check(
    draw: fn(&StreamsBuilder) -> KTable<String, i64>,
    (records, asked): (&str, &str),
    (updates, found): (&str, &str),
    left: &str,
) -> Outcome<TopologyTestDriver> {
    let driver = TopologyTestDriver::new(topology(draw)?)?;
    driver.pipe::<String, Option<i64>>("in", records)?;
    assert_eq!(driver.read::<String, Option<i64>>("updates")?, updates, "of {records}");
    check_versions(&driver, (asked, found), left)?;
    Ok(driver)
}

/// What is found, and the versions that are left, now and after each way to start again.
fn check_versions(
    driver: &TopologyTestDriver,
    (asked, found): (&str, &str),
    left: &str,
) -> Outcome {
    driver.check::<String, i64, String, i64>("asked", asked, "found", found)?;
    assert_eq!(versions(driver)?, left, "of {asked}");
    driver.crash();
    driver.restart()?;
    assert_eq!(versions(driver)?, left, "after a kill");
    driver.lose_state();
    driver.restart()?;
    assert_eq!(versions(driver)?, left, "rebuilt");
    let again = driver.read::<String, i64>("found")?;
    driver.pipe::<String, i64>("asked", asked)?;
    assert_eq!(driver.read::<String, i64>("found")?, format!("{again} {again}"));
    Ok(())
}

#[test]
fn a_stream_becomes_a_table_with_versions() -> Outcome {
    let draw = |builder: &StreamsBuilder| {
        builder.stream::<String, Option<i64>>("in").to_table::<i64>(kept())
    };
    let records = "a=1@10 a=3@30 a=2@20 a=9@5";
    // The last one is older than the history.
    let driver = check(
        draw,
        (records, "a=0@12 a=0@25 a=0@40"),
        ("a=1@10 a=3@30 a=2@20", "a=1@12 a=2@25 a=3@40"),
        "1@10 2@20 3@30",
    )?;
    assert_eq!(driver.total_dropped_records()?, 1);
    check(
        draw,
        ("a=1@10 a=∅@15 a=2@20", "a=0@12 a=0@17 a=0@22"),
        ("a=1@10 a=∅@15 a=2@20", "a=1@12 a=2@22"),
        "1@10 2@20",
    )?;
    Ok(())
}

#[test]
fn a_stream_whose_keys_changed_is_repartitioned_into_versions() -> Outcome {
    let draw = |builder: &StreamsBuilder| {
        let rekeyed = builder.stream::<String, Option<i64>>("in").select_key(|key, _| key.clone());
        rekeyed.to_table::<i64>(kept())
    };
    let driver = TopologyTestDriver::new(topology(draw)?)?;
    driver.pipe::<String, Option<i64>>("in", "a=1@10 a=3@30 a=2@20")?;
    assert_eq!(versions(&driver)?, "1@10 2@20 3@30");
    Ok(())
}

#[test]
fn an_aggregate_is_found_as_it_was() -> Outcome {
    // A record that comes out of order changes the newest version: an aggregate stands at the largest time in it.
    let sums = |builder: &StreamsBuilder| {
        let grouped = builder.stream::<String, Option<i64>>("in").group_by_key();
        grouped.aggregate(|| 0, |_, value, sum: i64| sum + value.unwrap_or(0), kept())
    };
    check(
        sums,
        ("a=1@10 a=2@20 a=4@15 a=8@30", "a=0@9 a=0@12 a=0@22 a=0@31"),
        ("a=1@10 a=3@20 a=7@20 a=15@30", "a=1@12 a=7@22 a=15@31"),
        "1@10 7@20 15@30",
    )?;
    let counts = |builder: &StreamsBuilder| {
        builder.stream::<String, Option<i64>>("in").group_by_key().count(kept())
    };
    check(
        counts,
        ("a=5@10 a=5@20", "a=0@12 a=0@22"),
        ("a=1@10 a=2@20", "a=1@12 a=2@22"),
        "1@10 2@20",
    )?;
    Ok(())
}

#[test]
fn a_deleted_aggregate_has_no_version_until_it_begins_anew() -> Outcome {
    let sums = |builder: &StreamsBuilder| {
        let grouped = builder.stream::<String, Option<i64>>("in").group_by_key();
        let add = |_: &String, value: Option<i64>, sum: i64| value.map(|value| sum + value);
        grouped.aggregate_or_delete(|| 0, add, kept())
    };
    check(
        sums,
        ("a=1@10 a=∅@20 a=4@25", "a=0@12 a=0@22 a=0@26"),
        ("a=1@10 a=∅@20 a=4@25", "a=1@12 a=4@26"),
        "1@10 4@25",
    )?;
    // What comes first after the deletion and is older is an older version, which joins find, and is forwarded as such.
    check(
        sums,
        ("a=1@10 a=∅@20 a=4@15", "a=0@12 a=0@17 a=0@26"),
        ("a=1@10 a=∅@20 a=4@15", "a=1@12 a=4@17"),
        "1@10 4@15",
    )?;
    Ok(())
}

#[test]
fn a_grouped_table_is_added_up_with_versions() -> Outcome {
    let sums = |builder: &StreamsBuilder| {
        let grouped = builder.table::<String, i64>("in").group_by(|_, n| ("a".to_owned(), *n));
        grouped.reduce(|sum, n| sum + n, |sum, n| sum - n, kept())
    };
    let driver = TopologyTestDriver::new(topology(sums)?)?;
    driver.pipe::<String, Option<i64>>("in", "x=1@10 y=2@20 x=5@25")?;
    assert_eq!(driver.read::<String, i64>("updates")?, "a=1@10 a=3@20 a=7@25");
    assert_eq!(versions(&driver)?, "1@10 3@20 7@25");
    Ok(())
}

#[test]
fn a_filtered_or_mapped_table_is_kept_with_versions() -> Outcome {
    let mapped = |builder: &StreamsBuilder| {
        let table = builder.table::<String, i64>("in");
        table.filter(|_, n| *n % 2 == 1).map_values(|n| n * 10).materialized(kept())
    };
    check(
        mapped,
        ("a=1@10 a=2@20 a=3@25", "a=0@12 a=0@22 a=0@26"),
        ("a=10@10 a=∅@20 a=30@25", "a=10@12 a=30@26"),
        "10@10 30@25",
    )?;
    Ok(())
}

/// The rows of `in` times ten, where they are not negative.
fn tenfold(table: &KTable<String, i64>, kept: Materialized) -> KTable<String, i64> {
    let tenfold =
        |_: &String, n: Option<i64>, _: &mut Stores<'_>| Ok(n.filter(|n| *n >= 0).map(|n| n * 10));
    table.transform_values(move |_| Ok(tenfold), &[], kept)
}

/// What comes out of order makes an older version; what is older than the history is dropped.
#[test]
fn transformed_values_are_kept_with_versions() -> Outcome {
    let of_plain = |builder: &StreamsBuilder| tenfold(&builder.table("in"), kept());
    let asked = "a=0@12 a=0@22 a=0@31";
    let driver = check(
        of_plain,
        ("a=1@10 a=3@30 a=-2@20 a=9@5", asked),
        ("a=10@10 a=30@30 a=∅@20", "a=10@12 a=30@31"),
        "10@10 30@30",
    )?;
    assert_eq!(driver.total_dropped_records()?, 1, "what is older than the history");
    let of_versions = |builder: &StreamsBuilder| {
        let kept_above = Materialized::named("above").versioned(Duration::from_millis(20));
        tenfold(&builder.table_with("in", Consumed::default(), kept_above), kept())
    };
    check(
        of_versions,
        ("a=1@10 a=3@30 a=2@20 a=9@5", asked),
        ("a=10@10 a=30@30 a=20@20", "a=10@12 a=20@22 a=30@31"),
        "10@10 20@20 30@30",
    )?;
    Ok(())
}

/// The rows of `in`, each joined with the row of `others` that its last digit is the key of.
fn inner(builder: &StreamsBuilder) -> KTable<String, i64> {
    let rows = builder.stream::<String, Option<i64>>("in").to_table::<i64>("rows");
    let (others, named) = (builder.table::<i64, i64>("others"), TableJoined::named("fk"));
    rows.join_on_with(&others, |_, n| n % 10, |n, other| n + other, named, kept())
}

fn left(builder: &StreamsBuilder) -> KTable<String, i64> {
    let rows = builder.stream::<String, Option<i64>>("in").to_table::<i64>("rows");
    let (others, named) = (builder.table::<i64, i64>("others"), TableJoined::named("fk"));
    let join = |n, other: Option<i64>| n + other.unwrap_or(0);
    rows.left_join_on_with(&others, |_, n| n % 10, join, named, kept())
}

/// A result of the left side stands at the later of both times, one of the right side at the right row's, as without versions: one
/// that is older than the newest result is an older version.
#[test]
fn results_of_foreign_keys_are_kept_with_versions() -> Outcome {
    type Draw = fn(&StreamsBuilder) -> KTable<String, i64>;
    let asked = "a=0@12 a=0@17 a=0@22 a=0@31 a=0@33";
    let (updates, found) =
        ("a=1001@10 a=2001@20 a=3001@15 a=3011@30", "a=1001@12 a=3001@17 a=2001@22 a=3011@31");
    let (last, left_over) = ("a=11@32", "1001@10 3001@15 2001@20 3011@30");
    let inner_too = (inner as Draw, "a=∅@32", found.to_owned(), left_over.to_owned());
    let left_too = (left as Draw, last, format!("{found} a=11@33"), format!("{left_over} 11@32"));
    for (draw, last, found, left_over) in [inner_too, left_too] {
        let driver = TopologyTestDriver::new(topology(draw)?)?;
        let others = |records| driver.pipe::<i64, Option<i64>>("others", records);
        let rows = |records| driver.pipe::<String, Option<i64>>("in", records);
        others("1=1000@5")?;
        rows("a=1@10")?;
        others("1=2000@20 1=3000@15")?;
        rows("a=11@30")?;
        others("1=∅@32 1=4000@11")?;
        let came = driver.read::<String, Option<i64>>("updates")?;
        assert_eq!(came, format!("{updates} {last}"));
        assert_eq!(driver.total_dropped_records()?, 1, "a result that is older than the history");
        check_versions(&driver, (asked, &found), &left_over)?;
    }
    Ok(())
}

/// A row that is joined with none any more ends the result that it replaces, whichever of its answer and that of the other row's
/// deletion, which is newer, comes first.
#[test]
fn versions_of_foreign_keys_do_not_depend_on_which_answer_comes_first() -> Outcome {
    for deletion_first in [true, false] {
        let driver = TopologyTestDriver::new(topology(inner)?)?;
        let others = |records| driver.pipe::<i64, Option<i64>>("others", records);
        let rows = |records| driver.pipe::<String, Option<i64>>("in", records);
        others("1=1000@1")?;
        rows("a=1@5")?;
        if deletion_first {
            others("1=∅@20")?;
            rows("a=11@10")?;
        } else {
            // Of a key that has no row, as the deletion would have it.
            rows("a=12@10")?;
            others("1=∅@20")?;
        }
        driver.check::<String, i64, String, i64>("asked", "a=0@7 a=0@15", "found", "a=1001@7")?;
        assert_eq!(versions(&driver)?, "1001@5");
    }
    Ok(())
}

#[test]
fn a_filter_of_versions_deletes_also_what_it_never_forwarded() -> Outcome {
    let builder = StreamsBuilder::new();
    let table = builder.table_with("in", Consumed::<String, i64>::default(), kept());
    table.filter(|_, n| *n > 10).to_stream().to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    let expected = "a=∅@5 a=11@6 a=∅@7 a=∅@8";
    driver.check::<String, Option<i64>, String, Option<i64>>(
        "in",
        "a=1@5 a=11@6 a=2@7 a=∅@8",
        "out",
        expected,
    )?;
    Ok(())
}

//! Joins of a table with one that is made of its own stream: one update for each update of the first, deletions included.

use headwater_dsl::{BufferConfig, KTable, Materialized, StreamsBuilder, Suppressed};
use headwater_testkit::TopologyTestDriver;
use std::{error::Error, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;
type Table = KTable<String, i64>;

fn uncached(store: &str) -> Materialized {
    Materialized::named(store).with_caching_disabled()
}

/// What `draw` makes of the table of `in` for the records of each commit, and below it the sum of all its rows.
fn check(draw: impl Fn(&Table) -> Table, commits: &[&str], expected: &str, sums: &str) -> Outcome {
    let builder = StreamsBuilder::new();
    let joined = draw(&builder.table("in"));
    joined.to("out");
    let all = joined.group_by(|_, value| ("all".to_owned(), *value));
    all.reduce(|sum, value| sum + value, |sum, value| sum - value, uncached("sum")).to("sums");
    let driver = TopologyTestDriver::new(builder.build()?)?.by_hand();
    for records in commits {
        driver.pipe::<String, Option<i64>>("in", records)?;
        for _ in 0..3 {
            driver.run_until_idle()?;
            driver.commit()?;
        }
    }
    assert_eq!(driver.read::<String, Option<i64>>("out")?, expected, "{commits:?}");
    assert_eq!(driver.read::<String, i64>("sums")?, sums, "{commits:?}");
    Ok(())
}

fn pair(left: i64, right: i64) -> i64 {
    left * 100 + right
}

const COMMITS: [&str; 3] = ["a=1@1 b=2@2 a=3@3", "a=∅@4 a=∅@5", "a=4@6 b=∅@7"];

#[test]
fn a_table_of_its_own_stream_is_told_of_with_it() -> Outcome {
    let draw = |a: &Table| {
        let b = a.to_stream().map_values(|v| v.map(|v| v + 1)).to_table::<i64>("b");
        a.join(&b, pair)
    };
    let expected = "a=102@1 b=203@2 a=304@3 a=∅@4 a=405@6 b=∅@7";
    check(draw, &COMMITS, expected, "all=102@1 all=305@2 all=507@3 all=203@4 all=608@6 all=405@7")
}

#[test]
fn so_is_an_aggregation_that_is_not_cached() -> Outcome {
    let draw = |a: &Table| {
        let updates = a.to_stream().group_by_key();
        let last = |_: &String, value: Option<i64>, _: i64| value.map(|value| value + 1);
        updates
            .aggregate_or_delete(|| 0, last, uncached("b"))
            .outer_join(a, |b, a| pair(b.unwrap_or_default(), a.unwrap_or_default()))
    };
    let expected = "a=201@1 b=302@2 a=403@3 a=∅@4 a=504@6 b=∅@7";
    check(draw, &COMMITS, expected, "all=201@1 all=503@2 all=705@3 all=302@4 all=806@6 all=504@7")
}

/// The table that both are made of holds updates back itself: several rows come at a flush.
#[test]
fn so_is_a_table_of_the_stream_of_a_cached_one() -> Outcome {
    let draw = |input: &Table| {
        let last = |_: &String, value: Option<i64>, _: i64| value;
        let a = input.to_stream().group_by_key().aggregate_or_delete(|| 0, last, "a");
        let b = a.to_stream().to_table::<i64>("b");
        a.left_join(&b, |a, b| pair(a, b.unwrap_or_default()))
    };
    let expected = "a=303@3 b=202@2 a=∅@5 a=404@6 b=∅@7";
    check(draw, &COMMITS, expected, "all=303@3 all=505@3 all=202@5 all=606@6 all=404@7")
}

/// Where other records come to the second table too, each of them is an update of its own.
#[test]
fn what_else_comes_to_the_table_below_is_told_of_by_itself() -> Outcome {
    let builder = StreamsBuilder::new();
    let (a, other) = (builder.table::<String, i64>("a"), builder.stream("other"));
    let b = a.to_stream().merge(&other).to_table::<i64>("b");
    a.join(&b, pair).to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    for (topic, records) in [("a", "a=1@1"), ("other", "a=7@2 b=8@3"), ("a", "a=∅@4 a=2@5")] {
        driver.pipe::<String, Option<i64>>(topic, records)?;
    }
    driver.pipe::<String, Option<i64>>("other", "a=∅@6")?;
    let out = driver.read::<String, Option<i64>>("out")?;
    assert_eq!(out, "a=101@1 a=107@2 a=∅@4 a=202@5 a=∅@6");
    Ok(())
}

/// One record of `a` makes rows of other keys come to the second table: each is an update of its own key.
#[test]
fn rows_of_several_keys_that_one_record_leads_to_are_told_apart() -> Outcome {
    let draw = |a: &Table| {
        let lives = Materialized::named("b").with_ttl(Duration::from_millis(10));
        let b = a.to_stream().to_table::<i64>(lives);
        a.left_join(&b, |a, b| pair(a, b.unwrap_or_default()))
    };
    let commits = ["a=1@1 b=2@2 c=3@20", "c=∅@21"];
    let expected = "a=101@1 b=202@2 a=100@11 b=200@12 c=303@20 c=∅@21";
    let sums = "all=101@1 all=303@2 all=302@11 all=300@12 all=603@20 all=300@21";
    check(draw, &commits, expected, sums)
}

/// What is held back of a table has not come out: a join with it, or below it, goes by what has.
#[test]
fn a_table_is_joined_with_what_a_suppression_lets_out_of_it() -> Outcome {
    let ten_ms =
        || Suppressed::until_time_limit(Duration::from_millis(10), BufferConfig::unbounded());
    let draw = |a: &Table| a.join(&a.suppress(ten_ms()), pair);
    let commits = ["a=1@1 b=2@2", "a=3@12 b=4@13", "a=∅@14", "c=9@30"];
    let expected = "a=303@12 b=202@2 b=402@13 a=∅@14 b=404@13";
    let sums = "all=303@12 all=505@12 all=705@13 all=402@14 all=404@14";
    check(draw, &commits, expected, sums)?;
    let below = |a: &Table| {
        let b = a.to_stream().to_table::<i64>("b");
        a.suppress(ten_ms()).join(&b, pair)
    };
    let expected = "a=303@12 b=202@2 b=204@13 a=∅@14 b=404@13";
    let sums = "all=303@12 all=505@12 all=507@13 all=204@14 all=404@14";
    check(below, &commits, expected, sums)
}

/// The same where a cache lets several rows out at once: those that come after are still as they were, and each key has one
/// update of all that came at the flush.
#[test]
fn a_cached_table_is_joined_with_what_a_suppression_lets_out_of_it() -> Outcome {
    let draw = |input: &Table| {
        let last = |_: &String, value: Option<i64>, _: i64| value;
        let a = input.to_stream().group_by_key().aggregate_or_delete(|| 0, last, "a");
        let ten_ms = Duration::from_millis(10);
        let held = a.suppress(Suppressed::until_time_limit(ten_ms, BufferConfig::unbounded()));
        a.left_join(&held, |a, held| pair(a, held.unwrap_or_default()))
    };
    let expected = "a=100@1 b=200@2 a=303@20 b=402@21";
    let sums = "all=100@1 all=300@2 all=503@20 all=705@21";
    check(draw, &["a=1@1 b=2@2", "a=3@20 b=4@21"], expected, sums)
}

//! Tables whose rows live for some time: [`Materialized::with_ttl`].

use headwater_dsl::{Materialized, Repartitioned, StreamsBuilder};
use headwater_engine::{
    runtime::{CommitStep, StreamsConfig},
    topology::Consumed,
};
use headwater_testkit::TopologyTestDriver;
use std::{error::Error, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn ten_ms(store: &str) -> Materialized {
    Materialized::named(store).with_ttl(Duration::from_millis(10))
}

/// A table of `in` whose rows live for 10 ms, to `out`.
fn driver() -> Outcome<TopologyTestDriver> {
    let builder = StreamsBuilder::new();
    let table = builder.table_with("in", Consumed::<String, i64>::default(), ten_ms("table"));
    table.to_stream().to("out");
    Ok(TopologyTestDriver::new(builder.build()?)?)
}

fn check(driver: &TopologyTestDriver, records: &str, expected: &str) -> Outcome {
    Ok(driver.check::<String, Option<i64>, String, Option<i64>>("in", records, "out", expected)?)
}

#[test]
fn a_row_is_deleted_at_its_time_to_live_and_not_before() -> Outcome {
    check(&driver()?, "a=1@5 b=2@14", "a=1@5 b=2@14")?;
    let driver = driver()?;
    check(&driver, "a=1@5 b=2@15", "a=1@5 a=∅@15 b=2@15")?;
    let store = driver.key_value_store::<String, i64>("table")?;
    assert_eq!(store.get(&"a".to_owned())?, None);
    assert_eq!(driver.read::<String, Option<i64>>("out")?, "a=1@5 a=∅@15 b=2@15");
    check(&driver, "b=3@16 b=4@24", "a=1@5 a=∅@15 b=2@15 b=3@16 b=4@24")
}

#[test]
fn a_newer_record_of_the_key_lets_it_live_anew() -> Outcome {
    check(&driver()?, "a=1@0 a=2@9 b=3@18 b=4@19", "a=1@0 a=2@9 b=3@18 a=∅@19 b=4@19")
}

#[test]
fn the_record_that_comes_after_begins_a_new_row() -> Outcome {
    check(&driver()?, "a=1@0 a=2@10", "a=1@0 a=∅@10 a=2@10")
}

#[test]
fn a_deleted_row_does_not_expire() -> Outcome {
    check(&driver()?, "a=1@0 a=∅@5 b=2@30", "a=1@0 a=∅@5 b=2@30")
}

#[test]
fn rows_expire_by_time_and_then_by_key() -> Outcome {
    let expected = "b=1@1 a=2@1 c=3@0 c=∅@10 a=∅@11 b=∅@11 d=4@90";
    check(&driver()?, "b=1@1 a=2@1 c=3@0 d=4@90", expected)
}

#[test]
fn a_record_that_is_too_old_is_dropped_and_counted_and_a_deletion_is_not() -> Outcome {
    let driver = driver()?;
    check(&driver, "a=1@20 b=2@10 b=3@11 a=∅@1", "a=1@20 b=3@11 a=∅@1")?;
    assert_eq!(driver.total_dropped_records()?, 1);
    Ok(())
}

#[test]
fn an_older_record_makes_the_row_as_old_as_itself() -> Outcome {
    check(&driver()?, "a=1@20 a=2@15 b=3@25", "a=1@20 a=2@15 a=∅@25 b=3@25")
}

/// No time is past the last timestamp there is: what lives so long is neither late nor deleted, and a newer record counts.
#[test]
fn a_row_that_lives_past_the_last_timestamp_stays() -> Outcome {
    let (driver, last) = (driver()?, i64::MAX);
    let [edge, over] = [last - 10, last - 9];
    let early = format!("a=1@{edge} b=2@{over} c=3@{over} c=4@{edge}");
    let expected = format!("{early} a=∅@{last} c=∅@{last} d=5@{last}");
    check(&driver, &format!("{early} d=5@{last}"), &expected)?;
    assert_eq!(driver.total_dropped_records()?, 0);
    driver.finish_input()?;
    driver.crash();
    driver.restart()?;
    let store = driver.key_value_store::<String, i64>("table")?;
    for (key, value) in [("a", None), ("b", Some(2)), ("c", None), ("d", Some(5))] {
        assert_eq!(store.get(&key.to_owned())?.map(|row| row.value), value, "{key}");
    }
    check(&driver, &format!("b=∅@{last}"), &format!("{expected} b=∅@{last}"))
}

/// A value that the table refuses, since JSON has no infinity, is a dead letter, and lets no row live longer, or begin to live.
#[test]
fn a_refused_record_moves_no_deadline() -> Outcome {
    let builder = StreamsBuilder::new();
    let inverses = builder.stream::<String, f64>("in").map_values(|number| (1.0 / number,));
    let table = inverses.to_table::<(f64,)>(ten_ms("table"));
    table.to_stream().map_values(|row| row.map(|(inverse,)| inverse)).to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    let mut out = driver.output_topic::<String, Option<f64>>("out");
    driver.pipe::<String, f64>("in", "a=2@0 a=0@5 b=1@12")?;
    out.check("a=0.5@0 a=∅@10 b=1@12")?;
    driver.pipe::<String, f64>("in", "c=0@13 d=1@30")?;
    out.check("b=∅@22 d=1@30")?;
    assert_eq!(driver.dead_letters()?.len(), 2);
    Ok(())
}

#[test]
fn a_null_key_moves_no_time() -> Outcome {
    let builder = StreamsBuilder::new();
    let consumed = Consumed::<Option<String>, i64>::default();
    builder.table_with("in", consumed, ten_ms("table")).to_stream().to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    driver.check::<Option<String>, i64, Option<String>, Option<i64>>(
        "in",
        "a=1@0 ∅=1@50 b=1@5",
        "out",
        "a=1@0 b=1@5",
    )?;
    assert_eq!(driver.total_dropped_records()?, 1);
    Ok(())
}

fn unlogged() -> Outcome<TopologyTestDriver> {
    let builder = StreamsBuilder::new();
    let kept = ten_ms("table").with_logging_disabled();
    builder.table_with("in", Consumed::<String, i64>::default(), kept).to_stream().to("out");
    Ok(TopologyTestDriver::new(builder.build()?)?)
}

#[test]
fn rows_without_a_changelog_that_are_lost_do_not_expire() -> Outcome {
    let driver = unlogged()?;
    check(&driver, "a=1@0", "a=1@0")?;
    driver.crash();
    driver.lose_state();
    driver.restart()?;
    check(&driver, "b=1@20", "a=1@0 b=1@20")?;
    // In a commit that changes the table, and no time of a deadline.
    let driver = unlogged()?.by_hand();
    for (record, is_last) in [("a=1@0", false), ("c=∅@1", true)] {
        driver.pipe::<String, Option<i64>>("in", record)?;
        driver.run_until_idle()?;
        if is_last { driver.crash_before(CommitStep::State)? } else { driver.commit()? }
    }
    driver.restart()?;
    driver.pipe::<String, i64>("in", "b=1@20")?;
    driver.run_until_idle()?;
    driver.commit()?;
    assert_eq!(driver.read::<String, Option<i64>>("out")?, "a=1@0 c=∅@1 b=1@20");
    Ok(())
}

#[test]
fn time_and_deadlines_outlive_restarts_and_lost_state() -> Outcome {
    for is_state_lost in [false, true] {
        let driver = driver()?;
        check(&driver, "a=1@5 b=2@14", "a=1@5 b=2@14")?;
        driver.crash();
        if is_state_lost {
            driver.lose_state();
        }
        driver.restart()?;
        check(&driver, "c=9@4", "a=1@5 b=2@14")?;
        assert_eq!(driver.total_dropped_records()?, 1, "late stays late");
        check(&driver, "c=3@15", "a=1@5 b=2@14 a=∅@15 c=3@15")?;
        driver.restart()?;
        check(&driver, "c=4@16", "a=1@5 b=2@14 a=∅@15 c=3@15 c=4@16")?;
    }
    Ok(())
}

#[test]
fn joins_and_aggregations_below_lose_what_has_expired() -> Outcome {
    let builder = StreamsBuilder::new();
    let table = builder.table_with("in", Consumed::<String, i64>::default(), ten_ms("table"));
    let kept = Materialized::named("sums").with_caching_disabled();
    let sums = table.group_by(|_, value| ("all".to_owned(), *value));
    let sums = sums.reduce(|sum, value| sum + value, |sum, value| sum - value, kept);
    sums.to_stream().to("sums");
    let other = builder.table::<String, i64>("other");
    table.join(&other, |left, right| left * right).to_stream().to("joined");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    driver.pipe::<String, i64>("other", "a=100@0 b=100@0")?;
    driver.pipe::<String, i64>("in", "a=1@0 b=2@5 b=4@12")?;
    assert_eq!(driver.read::<String, Option<i64>>("joined")?, "a=100@0 b=200@5 a=∅@10 b=400@12");
    let sums = driver.read::<String, Option<i64>>("sums")?;
    assert_eq!(sums, "all=1@0 all=3@5 all=2@10 all=4@12");
    Ok(())
}

#[test]
fn below_a_repartition_time_is_that_of_all_partitions() -> Outcome {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, i64>("in");
    let placed = stream.repartition(Repartitioned::named("placed").with_number_of_partitions(1));
    placed.to_table::<i64>(ten_ms("table")).to_stream().to("out");
    let config = StreamsConfig::new("test");
    let driver = TopologyTestDriver::with(builder.build()?, config, &[("in", 3)].into())?;
    // `a` to `f` lie in all three partitions.
    driver.pipe::<String, i64>("in", "a=1@0 b=1@90 c=1@90 d=1@90 e=1@90 f=1@90")?;
    let out = driver.read::<String, Option<i64>>("out")?;
    assert_eq!(out.matches("a=∅@10").count(), 1, "{out}");
    assert_eq!(out.matches('∅').count(), 1, "{out}");
    Ok(())
}

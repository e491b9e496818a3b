//! Tables whose rows live for some time: [`Materialized::with_ttl`].

use headwater_dsl::{Materialized, Repartitioned, StreamsBuilder};
use headwater_engine::{runtime::StreamsConfig, topology::Consumed};
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

//! Aggregates over all records, whatever their keys: `group_all` and `windowed_all`, over three partitions.

use headwater_dsl::{EmitStrategy, Materialized, SessionWindows, StreamsBuilder, TimeWindows};
use headwater_engine::runtime::StreamsConfig;
use headwater_testkit::TopologyTestDriver;
use std::{error::Error, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn driver(builder: &StreamsBuilder) -> Outcome<TopologyTestDriver> {
    let partitions = [("in", 3)].into();
    Ok(TopologyTestDriver::with(builder.build()?, StreamsConfig::new("test"), &partitions)?)
}

#[test]
fn all_records_are_one_row_also_those_without_a_key() -> Outcome {
    for caching in [true, false] {
        let builder = StreamsBuilder::new();
        let named = Materialized::named("sum");
        let kept = if caching { named } else { named.with_caching_disabled() };
        let records = builder.stream::<Option<String>, i64>("in");
        let sum = records.group_all().named("all").reduce(|sum, value| sum + value, kept);
        sum.to_stream().map(|(), sum| ("all".to_owned(), sum.unwrap_or_default())).to("out");
        let text = builder.build()?.describe();
        assert!(text.contains("all-repartition"), "{text}");
        let driver = driver(&builder)?;
        let (records, expected) = ("a=1@1 b=2@9 c=3@3 ∅=4@4 d=5@5", "all=15@9");
        driver.pipe::<Option<String>, i64>("in", records)?;
        let out = driver.read::<String, i64>("out")?;
        assert_eq!(out.split(' ').next_back(), Some(expected), "{out}");
        driver.lose_state();
        driver.restart()?;
        driver.pipe::<Option<String>, i64>("in", "e=1@1")?;
        let out = driver.read::<String, i64>("out")?;
        assert_eq!(out.split(' ').next_back(), Some("all=16@9"));
    }
    Ok(())
}

#[test]
fn a_window_of_all_has_one_final_once_each_partition_is_past_it() -> Outcome {
    let builder = StreamsBuilder::new();
    let windows = TimeWindows::of_size_with_no_grace(ms(10));
    let counts = builder.stream::<String, i64>("in").windowed_all(windows);
    let counts = counts.emit_strategy(EmitStrategy::on_window_close()).count("counts");
    let rows = counts.to_stream();
    rows.map(|at, count| (at.window.start.to_string(), count.unwrap_or_default())).to("out");
    let driver = driver(&builder)?;
    // `a` to `f` lie in all three partitions.
    driver.check::<String, i64, String, i64>(
        "in",
        "a=1@1 b=1@2 c=1@3 d=1@4 e=1@5 f=1@9 a=1@10 b=1@11 c=1@12 d=1@13 e=1@14 f=1@15",
        "out",
        "0=6@9",
    )?;
    driver.finish_input()?;
    assert_eq!(driver.read::<String, i64>("out")?, "0=6@9 10=6@15");
    assert_eq!(driver.total_dropped_records()?, 0);
    Ok(())
}

#[test]
fn sessions_of_all_merge_across_keys() -> Outcome {
    let builder = StreamsBuilder::new();
    let gap = SessionWindows::of_inactivity_gap_with_no_grace(ms(5));
    let sessions = builder.stream::<String, i64>("in").windowed_all(gap);
    let sessions = sessions.emit_strategy(EmitStrategy::on_window_close()).count("sessions");
    let rows = sessions.to_stream();
    rows.map(|at, count| (at.window.start.to_string(), count.unwrap_or_default())).to("out");
    let driver = driver(&builder)?;
    driver.pipe::<String, i64>("in", "a=1@1 b=1@5 c=1@10 d=1@30")?;
    driver.finish_input()?;
    assert_eq!(driver.read::<String, i64>("out")?, "1=3@10 30=1@30");
    Ok(())
}

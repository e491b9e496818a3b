//! What Kafka's keys do that say how an application runs: each has the effect that it has there.

use super::lifecycle::{Outcome, Run, counting};
use headwater_dsl::{Materialized, StreamsBuilder};
use headwater_engine::{
    runtime::{StreamsConfig, StreamsError, StreamsState, UncaughtExceptionResponse::Replace},
    topology::{Consumed, OffsetReset, Topology, TopologyError, TopologyOptimization},
};
use headwater_testkit::{TestDriverError, TopologyTestDriver};
use std::time::Duration;

fn copied(consumed: Consumed<String, i64>) -> Topology {
    let builder = StreamsBuilder::new();
    builder.stream_with("in", consumed).to("out");
    builder.build().expect("it is a topology")
}

#[test]
fn no_more_records_of_a_partition_are_held_than_are_told() -> Outcome {
    for (records, taken) in [(None, 10), (Some("4"), 4), (Some("10"), 10)] {
        let mut config = StreamsConfig::new("test");
        if let Some(records) = records {
            config.set("buffered.records.per.partition", records)?;
        }
        let topology = copied(Consumed::default());
        let driver = TopologyTestDriver::with(topology, config, &[].into())?.by_hand();
        let all: Vec<_> = (0..10).map(|number| format!("a={number}@{number}")).collect();
        driver.pipe::<String, i64>("in", &all.join(" "))?;
        driver.step()?;
        driver.commit()?;
        assert_eq!(driver.read::<String, i64>("out")?, all[..taken].join(" "), "{records:?}");
        driver.run_until_idle()?;
        driver.commit()?;
        assert_eq!(driver.read::<String, i64>("out")?, all.join(" "));
    }
    Ok(())
}

#[test]
fn what_passes_between_sub_topologies_is_all_taken_however_few_records_are_held() -> Outcome {
    for records in [None, Some(1), Some(2), Some(7)] {
        let mut config = StreamsConfig::new("test");
        config.buffered_records_per_partition = records;
        let builder = StreamsBuilder::new();
        let twice = builder.stream::<String, i64>("in").flat_map_values(|value| [value; 2]);
        // Numbers with a fraction are written to be keys, so that what is sent at once is one set of records.
        let counts = twice.group_by(|_, value| *value as f64 / 2.0).count("counts");
        let counts = counts.to_stream().drop_null_values();
        counts.map(|key, count| (key.to_string(), count)).to("out");
        let driver = TopologyTestDriver::with(builder.build()?, config, &[].into())?.by_hand();
        driver.pipe::<String, i64>("in", "a=1@1 a=2@2 a=1@3")?;
        driver.run_until_idle()?;
        driver.commit()?;
        assert_eq!(driver.read::<String, i64>("out")?, "0.5=4@3 1=2@2", "{records:?}");
    }
    Ok(())
}

#[test]
fn sources_that_do_not_say_where_they_begin_begin_where_the_application_says() -> Outcome {
    let of = |topology: Topology| -> Outcome<TopologyTestDriver> {
        let mut config = StreamsConfig::new("test");
        config.set("consumer.auto.offset.reset", "latest")?;
        let before = StreamsBuilder::new();
        before.stream::<String, i64>("other").to("others");
        let driver = TopologyTestDriver::with(before.build()?, config, &[].into())?;
        driver.create_topic("in", 1)?;
        driver.create_topic("out", 1)?;
        driver.pipe::<String, i64>("in", "a=1@1")?;
        driver.upgrade(topology)?;
        driver.pipe::<String, i64>("in", "a=2@2")?;
        Ok(driver)
    };
    let driver = of(copied(Consumed::default()))?;
    assert_eq!(driver.read::<String, i64>("out")?, "a=2@2");
    let driver = of(copied(Consumed::default().offset_reset(OffsetReset::Earliest)))?;
    assert_eq!(driver.read::<String, i64>("out")?, "a=1@1 a=2@2");
    // What a store is rebuilt from is read from its start.
    let builder = StreamsBuilder::new()
        .with_topology_optimization(TopologyOptimization::REUSE_KTABLE_SOURCE_TOPICS);
    builder.table_with("in", Consumed::<String, i64>::default(), "rows").to_stream().to("out");
    let driver = of(builder.build()?)?;
    assert_eq!(driver.read::<String, i64>("out")?, "a=1@1 a=2@2");
    // A repartition topic as well: what waits in it was taken from its source.
    let driver = of(counting()?)?;
    assert_eq!(driver.read::<String, i64>("out")?, "of a=1@2");
    Ok(())
}

#[test]
fn generated_names_are_refused_at_the_start() -> Outcome {
    let topology = |materialized: Materialized| {
        let builder = StreamsBuilder::new();
        builder.stream::<String, i64>("in").group_by_key().count(materialized);
        builder.build()
    };
    let mut config = StreamsConfig::new("test");
    config.set("ensure.explicit.internal.resource.naming", "true")?;
    let start = |topology| TopologyTestDriver::with(topology, config.clone(), &[].into()).map(drop);
    start(topology(Materialized::named("counts"))?)?;
    let refused = start(topology(Materialized::default())?);
    let Err(TestDriverError::Streams(StreamsError::Topology(why))) = refused else {
        return Err(format!("{refused:?}").into());
    };
    assert!(matches!(&why, TopologyError::GeneratedNames { names } if names.len() == 1), "{why}");
    TopologyTestDriver::new(topology(Materialized::default())?)?;
    Ok(())
}

/// An application on a log that has no room, with this `task.timeout.ms`.
fn on_a_full_log(timeout_ms: &str) -> Outcome<Run> {
    let mut config = StreamsConfig::new("test");
    config.set("task.timeout.ms", timeout_ms)?;
    running_on_a_full_log(config)
}

fn running_on_a_full_log(config: StreamsConfig) -> Outcome<Run> {
    let mut run = Run::new()?;
    run.start(counting()?, config)?;
    run.after(Duration::from_millis(1))?;
    run.append("a")?;
    run.log.fill();
    run.rest()?;
    run.after(Duration::from_millis(100))?;
    Ok(run)
}

#[test]
fn what_may_succeed_is_tried_again_until_the_tasks_timeout() -> Outcome {
    // Without one, the handler is asked at once.
    let run = on_a_full_log("0")?;
    assert!(matches!(run.of("test").state(), StreamsState::Error(StreamsError::Log(_))));

    let mut run = on_a_full_log("60000")?;
    for _ in 0..50 {
        run.after(Duration::from_secs(1))?;
        let state = run.of("test").state();
        assert!(!matches!(state, StreamsState::Error(_)), "{state:?}");
    }
    let restarts = run.of("test").metrics().restarts;
    assert!((8..20).contains(&restarts), "the waits double up to 10 s: {restarts}");
    run.log.repair();
    run.after(Duration::from_secs(10))?;
    run.after(Duration::from_secs(1))?;
    assert_eq!(run.committed("test")?, (1, 1));
    // A commit begins the time anew.
    run.append("a")?;
    run.log.fill();
    run.rest()?;
    for _ in 0..59 {
        run.after(Duration::from_secs(1))?;
    }
    assert!(!matches!(run.of("test").state(), StreamsState::Error(_)));
    for _ in 0..15 {
        run.after(Duration::from_secs(1))?;
    }
    assert!(matches!(run.of("test").state(), StreamsState::Error(StreamsError::Log(_))));
    Ok(())
}

#[test]
fn what_may_succeed_is_tried_for_ever_where_the_tasks_timeout_never_ends() -> Outcome {
    for timeout in [Duration::MAX, Duration::MAX - Duration::from_nanos(1)] {
        let config = StreamsConfig::new("test").with_task_timeout(timeout);
        let mut run = running_on_a_full_log(config)?;
        for _ in 0..20 {
            run.after(Duration::from_secs(3_600))?;
            let state = run.of("test").state();
            assert!(!matches!(state, StreamsState::Error(_)), "{state:?}");
        }
        run.log.repair();
        run.after(Duration::from_secs(10))?;
        run.after(Duration::from_secs(1))?;
        assert_eq!(run.committed("test")?, (1, 1));
    }
    Ok(())
}

#[test]
fn what_cannot_succeed_by_itself_is_the_handlers_at_once() -> Outcome {
    let mut run = Run::new()?;
    let config = StreamsConfig::new("test").with_task_timeout(Duration::from_secs(60));
    run.start(counting()?, config.with_uncaught_exception_handler(|_| Replace))?;
    run.rest()?;
    run.append("a")?;
    run.log.fail();
    run.rest()?;
    for _ in 0..30 {
        run.after(Duration::from_secs(1))?;
    }
    let state = run.of("test").state();
    assert!(matches!(state, StreamsState::Error(StreamsError::Log(_))), "5 times, {state:?}");
    Ok(())
}

//! Until a time limit: the newest value of each row, a limit after the first update that is held of it.

use super::{Outcome, Run, check, ms};
use headwater_dsl::{BufferConfig, KTable, Materialized, StreamsBuilder, Suppressed};
use headwater_engine::topology::{Topology, TopologyError};
use headwater_testkit::TopologyTestDriver;

fn ten() -> Suppressed<String> {
    Suppressed::until_time_limit(ms(10), BufferConfig::unbounded()).with_name("calm")
}

fn table(builder: &StreamsBuilder) -> KTable<String, i64> {
    builder.table::<String, i64>("in").suppress(ten())
}

/// A table whose rows are held for 10 ms.
fn held() -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    table(&builder).to_stream().to("out");
    builder.build()
}

#[test]
fn the_newest_value_comes_out_a_limit_after_the_first_update() -> Outcome {
    check(held()?, "a=1@1 a=2@9 b=3@10", "")?;
    check(held()?, "a=1@1 a=2@9 b=3@11", "a=2@9")?;
    check(held()?, "a=1@1 a=2@9 a=4@11", "a=4@11")?;
    check(held()?, "a=1@1 a=2@11 a=3@20 a=4@21 a=5@31", "a=2@11 a=5@31")
}

#[test]
fn the_limit_begins_anew_with_the_next_update() -> Outcome {
    check(held()?, "a=1@1 b=1@11 a=2@12 b=2@21", "a=1@1 b=2@21")?;
    check(held()?, "a=1@1 b=1@11 a=2@12 z=1@22", "a=1@1 b=1@11 a=2@12")
}

#[test]
fn rows_come_out_by_the_time_they_were_held_from_and_then_by_key() -> Outcome {
    check(held()?, "c=1@3 b=1@2 d=1@2 a=1@5 b=2@6 z=1@15", "b=2@6 d=1@2 c=1@3 a=1@5")
}

#[test]
fn a_row_older_than_the_limit_comes_out_at_once() -> Outcome {
    check(held()?, "a=1@30 b=1@20 c=1@21", "b=1@20")
}

#[test]
fn deletions_are_held_and_come_out() -> Outcome {
    check(held()?, "a=1@1 a=-@2 z=1@11", "a=-@2")
}

#[test]
fn a_limit_of_nothing_holds_nothing() -> Outcome {
    let builder = StreamsBuilder::new();
    let at_once = Suppressed::until_time_limit(ms(0), BufferConfig::unbounded());
    builder.table::<String, i64>("in").suppress(at_once).to_stream().to("out");
    check(builder.build()?, "a=1@5 b=1@3 a=2@6", "a=1@5 b=1@3 a=2@6")
}

/// A filter deletes what it has forwarded, and so tells which old values it got.
#[test]
fn an_old_value_is_what_came_out_before() -> Outcome {
    let builder = StreamsBuilder::new();
    table(&builder).filter(|_, value| value % 2 == 1).to_stream().to("out");
    let topology = builder.build()?;
    check(topology.clone(), "a=1@1 a=2@2 z=2@11", "")?;
    check(topology.clone(), "a=1@1 z=2@11 a=3@12 a=2@13 z=2@22", "a=1@1 a=-@13")?;
    check(topology, "a=2@1 z=2@11 a=3@12 a=2@13 z=2@22", "")
}

/// A table of some kind of `in`.
type Draw = fn(&StreamsBuilder) -> KTable<String, i64>;

const DRAWN: [Draw; 7] = [
    |builder| builder.table("in"),
    |builder| builder.table("in").map_values(|value: i64| value),
    |builder| builder.table("in").materialized("kept"),
    |builder| builder.stream("in").group_by_key().reduce(|_, new: i64| new, "newest"),
    |builder| {
        let kept = Materialized::named("newest").with_caching_disabled();
        builder.stream("in").group_by_key().reduce(|_, new: i64| new, kept)
    },
    |builder| {
        let none = builder.table::<String, i64>("none");
        builder.table("in").left_join(&none, |value: i64, _| value)
    },
    |builder| {
        let none = builder.table::<String, i64>("none");
        let key = |key: &String, _: &i64| key.clone();
        builder.table("in").left_join_on(&none, key, |value: i64, _| value)
    },
];

/// Of a row that is held, what came out before stands at its own time, also after its state is lost.
#[test]
fn a_join_of_tables_stands_no_earlier_than_what_came_out_last() -> Outcome {
    for (number, draw) in DRAWN.into_iter().enumerate() {
        for is_lost in [false, true] {
            let builder = StreamsBuilder::new();
            let other = builder.table::<String, i64>("other");
            draw(&builder).suppress(ten()).join(&other, |a, b| a * 10 + b).to_stream().to("out");
            let driver = TopologyTestDriver::new(builder.build()?)?;
            driver.pipe::<String, i64>("in", "a=1@100 b=0@110 a=2@130")?;
            if is_lost {
                driver.crash();
                driver.lose_state();
                driver.restart()?;
            }
            driver.pipe::<String, i64>("other", "a=5@5")?;
            let out = driver.read::<String, Option<i64>>("out")?;
            assert_eq!(out, "a=15@100", "table {number}, lost: {is_lost}");
        }
    }
    Ok(())
}

#[test]
fn a_join_looks_up_what_came_out_last() -> Outcome {
    let builder = StreamsBuilder::new();
    let asked = builder.stream::<String, i64>("ask");
    asked.left_join(&table(&builder), |_, found| found.unwrap_or(-1)).to("out");
    let run = Run::of(builder.build()?)?;
    let ask = |at| run.0.input_topic::<String, i64>("ask").pipe_input("a".into(), 0, at);
    ask(0)?;
    run.pipe("a=1@1")?;
    ask(2)?;
    run.pipe("b=1@11")?;
    ask(12)?;
    run.pipe("a=2@13 a=3@14")?;
    ask(15)?;
    run.pipe("b=1@23")?;
    ask(24)?;
    run.pipe("a=-@25")?;
    ask(26)?;
    run.pipe("b=1@35")?;
    ask(36)?;
    let found = run.read("out")?;
    let found: Vec<&str> =
        found.split(' ').map(|row| row.split(['=', '@']).nth(1).unwrap_or("")).collect();
    assert_eq!(found, ["-1", "-1", "1", "1", "3", "3", "-1"]);
    Ok(())
}

#[test]
fn the_limit_goes_on_over_a_restart() -> Outcome {
    for state_is_lost in [false, true] {
        let run = Run::of(held()?)?;
        run.pipe("a=1@1 b=1@5 a=2@6")?;
        if state_is_lost {
            run.0.lose_state();
        } else {
            run.0.crash();
        }
        run.0.restart()?;
        run.pipe("a=3@10")?;
        assert_eq!(run.read("out")?, "");
        run.pipe("z=1@11")?;
        assert_eq!(run.read("out")?, "a=3@10");
        run.0.crash();
        run.0.restart()?;
        run.pipe("y=1@2")?;
        assert_eq!(run.read("out")?, "a=3@10", "older, and held from 2 on, as time stands at 11");
        run.pipe("z=2@15")?;
        assert_eq!(run.read("out")?, "a=3@10 y=1@2 b=1@5");
    }
    Ok(())
}

#[test]
fn what_is_held_comes_out_when_the_input_is_complete() -> Outcome {
    let run = Run::of(held()?)?;
    run.pipe("b=1@1 a=1@2")?;
    run.0.finish_input()?;
    assert_eq!(run.read("out")?, "b=1@1 a=1@2");
    run.pipe("a=2@3")?;
    assert_eq!(run.read("out")?, "b=1@1 a=1@2", "it is held from 3 on");
    run.0.finish_input()?;
    assert_eq!(run.read("out")?, "b=1@1 a=1@2 a=2@3");
    Ok(())
}

/// A jump of time makes more rows due than come out with a batch, and the rows after it are of the same keys.
#[test]
fn batches_do_not_show_where_very_many_rows_are_due() -> Outcome {
    let records = |from: i64| {
        let keys = (0..3_000).map(|key| format!("k{key}={key}@{}", from + key % 7));
        keys.collect::<Vec<_>>().join(" ")
    };
    let results = |rows_max: usize| -> Outcome<String> {
        let run = Run::by_hand(held()?, rows_max)?;
        run.pipe(&format!("{} z=1@100 {} y=1@200 k1=-1@150", records(1), records(95)))?;
        run.0.step()?;
        run.0.step()?;
        run.0.commit()?;
        run.0.crash();
        run.0.restart()?;
        run.take()?;
        run.read("out")
    };
    let expected = results(1)?;
    assert_eq!(expected.split(' ').count(), 6_002);
    assert!(expected.ends_with("y=1@200 k1=-1@150") || expected.ends_with("k1=-1@150"));
    for rows_max in [7, 1_000, 8_192] {
        let results = results(rows_max)?;
        let mut pairs = results.split(' ').zip(expected.split(' ')).enumerate();
        let other = pairs.find(|(_, (row, expected))| row != expected);
        assert_eq!(other, None, "{rows_max} rows a batch");
        assert_eq!(results.len(), expected.len(), "{rows_max} rows a batch");
    }
    Ok(())
}

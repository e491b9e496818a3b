//! How much a buffer may hold, and what it shows.

use super::{Outcome, Run, check, ms, sums, write};
use headwater_dsl::{BufferConfig, StreamsBuilder, Suppressed};
use headwater_engine::topology::{Topology, TopologyError};

/// A table whose rows are held for as long as the buffer holds them.
fn held<F>(buffer: BufferConfig<F>) -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    let long = Suppressed::until_time_limit(ms(1_000_000), buffer).with_name("held");
    builder.table::<String, i64>("in").suppress(long).to_stream().to("out");
    builder.build()
}

#[test]
fn the_oldest_rows_come_out_of_a_full_buffer() -> Outcome {
    let two = BufferConfig::max_records(2);
    check(held(two)?, "a=1@1 b=1@2 a=2@3 a=3@4", "")?;
    check(held(two)?, "a=1@5 b=1@2 a=2@3 c=1@4 d=1@1", "b=1@2 d=1@1")
}

#[test]
fn bytes_are_those_of_keys_values_and_headers() -> Outcome {
    // A key of one byte and a value of 8; the headers take more than that.
    check(held(BufferConfig::max_bytes(9))?, "a=1@1", "a=1@1")?;
    let run = Run::of(held(BufferConfig::max_bytes(300))?)?;
    let topic = run.0.input_topic::<String, i64>("in");
    for (at, key) in (1..).zip(["a", "b", "c"]) {
        topic.pipe_input(key.repeat(91), 1, at)?;
    }
    assert_eq!(run.read("out")?, "", "three times 99 bytes");
    topic.pipe_input("d".into(), 1, 4)?;
    assert!(run.read("out")?.starts_with("aaa"));
    assert!(!run.read("out")?.contains("bbb"));
    Ok(())
}

/// All that a failure says.
fn told(outcome: Outcome) -> String {
    let failure = outcome.expect_err("it stops");
    let mut causes = vec![failure.to_string()];
    let mut cause = failure.source();
    while let Some(known) = cause {
        causes.push(known.to_string());
        cause = known.source();
    }
    causes.join(": ")
}

#[test]
fn a_strict_buffer_stops_the_application_when_it_is_full() -> Outcome {
    let run = Run::of(held(BufferConfig::max_records(1).shut_down_when_full())?)?;
    run.pipe("a=1@1 a=2@2")?;
    let text = told(run.pipe("b=1@3"));
    for part in ["buffer exceeded its max capacity", "`held`", "2 of 1 records", "raise the limit"]
    {
        assert!(text.contains(part), "{text}");
    }
    Ok(())
}

#[test]
fn windows_never_come_out_early() -> Outcome {
    let builder = StreamsBuilder::new();
    let two = BufferConfig::unbounded().with_max_records(2).shut_down_when_full();
    let finals = Suppressed::until_window_closes(two).with_name("finals");
    write(&sums(&builder, 0, "sums").suppress(finals), "out");
    let run = Run::of(builder.build()?)?;
    run.pipe("a=1@1 b=1@2 a=1@3 c=1@12 d=1@13")?;
    assert_eq!(run.read("out")?, "a[0]=2@3 b[0]=1@2");
    let text = told(run.pipe("e=1@14"));
    assert!(text.contains("3 of 2 records"), "{text}");
    Ok(())
}

#[test]
fn counts_survive_a_restart() -> Outcome {
    let run = Run::of(held(BufferConfig::max_records(2))?)?;
    run.pipe("a=1@1 b=1@2")?;
    run.0.lose_state();
    run.0.restart()?;
    run.pipe("b=2@3 c=1@4")?;
    assert_eq!(run.read("out")?, "a=1@1");
    Ok(())
}

#[test]
fn what_is_held_can_be_queried() -> Outcome {
    let run = Run::of(held(BufferConfig::max_records(2))?)?;
    run.pipe("a=1@1 b=1@2 b=-@3")?;
    let store = run.0.key_value_store::<String, Option<i64>>("held-store")?;
    let rows = store.all()?.into_iter().map(|(key, row)| (key, row.value, row.timestamp));
    let expected = [("a".to_owned(), Some(1), 1), ("b".to_owned(), None, 3)];
    assert_eq!(rows.collect::<Vec<_>>(), expected);
    run.pipe("c=1@4")?;
    let store = run.0.key_value_store::<String, Option<i64>>("held-store")?;
    assert_eq!(store.get(&"a".into())?, None);
    Ok(())
}

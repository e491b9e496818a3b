//! Until the window closes: one final of each key and window.

use super::{Outcome, Run, check, ms, sums, write};
use headwater_dsl::{
    BufferConfig, EmitStrategy, KTable, SessionWindows, SlidingWindows, StreamsBuilder, Suppressed,
    TimeWindows,
};
use headwater_engine::{
    store::Windowed,
    topology::{Topology, TopologyError},
};
use std::time::Duration;

fn closed() -> Suppressed<Windowed<String>> {
    Suppressed::until_window_closes(BufferConfig::unbounded()).with_name("finals")
}

/// Sums in windows of 10 ms with this grace, when their windows close.
fn finals(grace: u64) -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    write(&sums(&builder, grace, "sums").suppress(closed()), "out");
    builder.build()
}

#[test]
fn a_final_comes_out_when_time_reaches_the_end_plus_the_grace() -> Outcome {
    check(finals(0)?, "a=1@1 a=2@2 b=5@9", "")?;
    check(finals(0)?, "a=1@1 a=2@2 b=5@10", "a[0]=3@2")?;
    check(finals(5)?, "a=1@1 b=5@14", "")?;
    check(finals(5)?, "a=1@1 b=5@15", "a[0]=1@1")
}

/// The last ms of a session and of a sliding window belongs to it: a window is open as long as that is within the grace.
#[test]
fn windows_with_an_inclusive_end_close_once_time_is_past_it() -> Outcome {
    let of = |draw: fn(&StreamsBuilder) -> KTable<Windowed<String>, i64>| {
        let builder = StreamsBuilder::new();
        write(&draw(&builder).suppress(closed()), "out");
        builder.build()
    };
    let sessions = of(|builder| {
        let windows = SessionWindows::of_inactivity_gap_and_grace(ms(10), ms(5));
        builder.stream::<String, i64>("in").group_by_key().windowed_by(windows).count("n")
    })?;
    check(sessions.clone(), "a=1@1 a=1@11 z=1@26", "")?;
    check(sessions.clone(), "a=1@1 a=1@11 z=1@27", "a[1]=2@11")?;
    check(sessions, "a=1@1 a=1@11 z=1@26 a=1@21 z=1@37", "a[1]=3@21")?;
    let sliding = of(|builder| {
        let windows = SlidingWindows::of_time_difference_and_grace(ms(10), ms(5));
        builder.stream::<String, i64>("in").group_by_key().windowed_by(windows).count("n")
    })?;
    check(sliding.clone(), "a=1@12 z=1@17", "")?;
    check(sliding, "a=1@12 z=1@18", "a[2]=1@12")?;
    Ok(())
}

#[test]
fn finals_come_out_by_window_and_then_by_key() -> Outcome {
    check(
        finals(5)?,
        "b=1@11 c=1@2 a=1@12 a=1@3 z=1@100",
        "a[0]=1@3 c[0]=1@2 a[10]=1@12 b[10]=1@11",
    )
}

#[test]
fn a_final_has_the_largest_timestamp_and_the_headers_of_its_last_update() -> Outcome {
    check(finals(5)?, "a=1@7 a=2@3 z=1@15", "a[0]=3@7(3)")
}

#[test]
fn a_window_that_was_deleted_emits_nothing_unless_it_comes_to_be_again() -> Outcome {
    check(finals(5)?, "a=1@1 a=-@2 b=1@3 z=1@15", "b[0]=1@3")?;
    check(finals(5)?, "a=1@1 a=-@2 a=4@3 z=1@15", "a[0]=4@3")
}

#[test]
fn a_closed_window_takes_nothing_more() -> Outcome {
    let run = Run::of(finals(0)?)?;
    run.pipe("a=1@1 z=1@10 a=1@2 z=1@20")?;
    assert_eq!(run.read("out")?, "a[0]=1@1 z[10]=1@10");
    assert_eq!(run.0.dropped_records("KSTREAM-AGGREGATE-sums")?, 1);
    assert_eq!(run.0.dropped_records("finals")?, 0);
    Ok(())
}

/// Cached updates would come in another order than their records, and a window's last one after its final.
#[test]
fn updates_above_are_not_cached() -> Outcome {
    let run = Run::by_hand(finals(320)?, 8_192)?;
    run.pipe("a=1@1")?;
    run.take()?;
    run.pipe("p=1@300 a=1@5 p=1@309 q=1@330")?;
    run.take()?;
    assert_eq!(run.read("out")?, "a[0]=2@5");
    assert_eq!(run.0.dropped_records("finals")?, 0);
    Ok(())
}

/// Two tables in one, whose windows stay open for 5 ms and for 20.
fn merged() -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    let long = TimeWindows::of_size_and_grace(ms(10), ms(20));
    let counts = builder.stream::<String, Option<i64>>("in").group_by_key().windowed_by(long);
    let rows = counts.count("counts").to_stream().merge(&sums(&builder, 5, "sums").to_stream());
    let largest = rows.drop_null_values().group_by_key().reduce(i64::max, "largest");
    write(&largest.suppress(closed()), "out");
    builder.build()
}

#[test]
fn the_grace_is_the_largest_of_the_windows_above() -> Outcome {
    check(merged()?, "a=7@1 z=1@29", "")?;
    check(merged()?, "a=7@1 z=1@30", "a[0]=7@1")
}

#[test]
fn time_and_what_is_held_survive_a_restart() -> Outcome {
    for state_is_lost in [false, true] {
        let run = Run::of(finals(5)?)?;
        run.pipe("a=1@1 b=2@12")?;
        if state_is_lost {
            run.0.lose_state();
        } else {
            run.0.crash();
        }
        run.0.restart()?;
        run.pipe("a=1@2")?;
        assert_eq!(run.read("out")?, "", "12 is all the time there was");
        run.pipe("z=1@15")?;
        assert_eq!(run.read("out")?, "a[0]=2@2");
        run.0.crash();
        run.0.restart()?;
        run.pipe("a=1@3 z=1@25")?;
        assert_eq!(run.read("out")?, "a[0]=2@2 b[10]=2@12 z[10]=1@15");
    }
    Ok(())
}

#[test]
fn what_is_held_comes_out_when_the_input_is_complete_and_its_windows_are_closed_then() -> Outcome {
    let run = Run::of(finals(5)?)?;
    run.pipe("a=1@1 b=2@12")?;
    run.0.finish_input()?;
    assert_eq!(run.read("out")?, "a[0]=1@1 b[10]=2@12");
    run.pipe("a=1@2 b=1@13 z=1@50")?;
    assert_eq!(run.read("out")?, "a[0]=1@1 b[10]=2@12");
    // By the aggregation, as where it emits on close: it has no window any more to take them.
    assert_eq!((run.0.total_dropped_records()?, run.0.dropped_records("finals")?), (2, 0));
    Ok(())
}

#[test]
fn only_a_table_of_windows_that_close_can_wait_for_them() {
    let refused = |draw: fn(&StreamsBuilder) -> KTable<Windowed<String>, i64>| {
        let builder = StreamsBuilder::new();
        write(&draw(&builder).suppress(closed()), "out");
        builder.build().unwrap_err()
    };
    let of_a_topic = refused(|builder| builder.table("in"));
    assert_eq!(of_a_topic, TopologyError::NoWindows { node: "finals".into() });
    let also_of_a_topic = refused(|builder| {
        let rows = builder.stream("other").merge(&sums(builder, 0, "sums").to_stream());
        rows.drop_null_values().group_by_key().reduce(i64::max, "largest")
    });
    assert_eq!(also_of_a_topic, TopologyError::NoWindows { node: "finals".into() });
    let open = refused(|builder| {
        let windows = TimeWindows::of_size_and_grace(ms(10), Duration::MAX);
        builder.stream::<String, i64>("in").group_by_key().windowed_by(windows).count("counts")
    });
    assert!(matches!(open, TopologyError::NeverClose { .. }), "{open}");
}

/// Sums in windows of this kind, under the names `sums` and `finals`.
fn summed(
    builder: &StreamsBuilder,
    kind: usize,
    emit: Option<EmitStrategy>,
) -> KTable<Windowed<String>, i64> {
    let grouped = builder.stream::<String, i64>("in").group_by_key();
    let (add, span, grace) = (|sum: i64, value: i64| sum + value, ms(10), ms(2));
    match kind {
        0 => {
            let windows = grouped.windowed_by(TimeWindows::of_size_and_grace(span, grace));
            emit.into_iter()
                .fold(windows, |windows, emit| windows.emit_strategy(emit))
                .reduce(add, "sums")
        }
        1 => {
            let windows = SlidingWindows::of_time_difference_and_grace(span, grace);
            let windows = grouped.windowed_by(windows);
            emit.into_iter()
                .fold(windows, |windows, emit| windows.emit_strategy(emit))
                .reduce(add, "sums")
        }
        _ => {
            let windows = SessionWindows::of_inactivity_gap_and_grace(span, grace);
            let windows = grouped.windowed_by(windows);
            emit.into_iter()
                .fold(windows, |windows, emit| windows.emit_strategy(emit))
                .reduce(add, "sums")
        }
    }
}

/// What closed a window at an end of the input that was none after all is the same for both forms of finals.
#[test]
fn what_comes_after_the_end_of_input_is_late_for_both_kinds_of_finals() -> Outcome {
    for kind in 0..3 {
        let run = |on_close: bool| -> Outcome<(String, u64)> {
            let builder = StreamsBuilder::new();
            let emit = on_close.then(EmitStrategy::on_window_close);
            let sums = summed(&builder, kind, emit).named("windows");
            let finals = if on_close { sums } else { sums.suppress(closed()) };
            let key = |key: Windowed<String>| {
                format!("{}[{}-{}]", key.key, key.window.start, key.window.end)
            };
            finals.to_stream().map(move |windowed, value| (key(windowed), value)).to("out");
            let run = Run::of(builder.build()?)?;
            for records in ["a=1@1 b=2@12 a=4@13", "a=8@14 b=16@3 c=32@24", "a=64@26 b=128@90"] {
                run.pipe(records)?;
                run.0.finish_input()?;
            }
            let mut rows: Vec<String> = run.read("out")?.split(' ').map(str::to_owned).collect();
            rows.iter_mut().for_each(|row| row.truncate(row.find('(').unwrap_or(row.len())));
            Ok((rows.join(" "), run.0.dropped_records("windows")?))
        };
        let (on_close, suppressed) = (run(true)?, run(false)?);
        assert!(on_close.1 > 0, "{on_close:?}");
        assert_eq!(suppressed, on_close, "windows of kind {kind}");
    }
    Ok(())
}

//! How long windows are kept: closed ones can be looked up until they are older than the retention, and take no records.

use headwater_dsl::{EmitStrategy, Materialized, StreamsBuilder, TimeWindows};
use headwater_engine::{
    store::{Window, Windowed},
    topology::{Topology, TopologyError},
};
use headwater_testkit::TopologyTestDriver;
use std::{error::Error, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Emit {
    Updates,
    CachedUpdates,
    Finals,
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Counts in windows of 10 ms with a grace of 5, forwards them to `out`, and answers `lookups`, whose values are the starts
/// of windows, in `found`.
fn topology(emit: Emit, retention_ms: Option<u64>) -> Result<Topology, TopologyError> {
    let mut kept = Materialized::named("n");
    if let Some(retention_ms) = retention_ms {
        kept = kept.with_retention(ms(retention_ms));
    }
    if emit == Emit::Updates {
        kept = kept.with_caching_disabled();
    }
    let strategy = match emit {
        Emit::Finals => EmitStrategy::on_window_close(),
        Emit::Updates | Emit::CachedUpdates => EmitStrategy::on_window_update(),
    };
    let builder = StreamsBuilder::new();
    let windows = TimeWindows::of_size_and_grace(ms(10), ms(5));
    let grouped = builder.stream::<String, i64>("in").group_by_key().windowed_by(windows);
    let counts = grouped.emit_strategy(strategy).count(kept).named("count");
    let rows = counts.to_stream().drop_null_values();
    rows.map(|key, count| (format!("{}[{}]", key.key, key.window.start), count)).to("out");
    let lookups = builder.stream::<String, i64>("lookups").map(|key, start| {
        let window = Window { start, end: start + 10 };
        (Windowed { key, window }, start)
    });
    let found = lookups.left_join(&counts, |_, count| count.unwrap_or(-1));
    found.map(|key, count| (format!("{}[{}]", key.key, key.window.start), count)).to("found");
    builder.build()
}

struct Run(TopologyTestDriver);

impl Run {
    fn start(emit: Emit, retention_ms: Option<u64>) -> Outcome<Self> {
        Ok(Self(TopologyTestDriver::new(topology(emit, retention_ms)?)?.by_hand()))
    }

    /// Takes a record of `a` at each of these times.
    fn take(&self, times: &[i64]) -> Outcome {
        for at in times {
            self.0.input_topic::<String, i64>("in").pipe_input("a".to_owned(), 0, *at)?;
        }
        self.commit()
    }

    fn commit(&self) -> Outcome {
        self.0.run_until_idle()?;
        self.0.commit()?;
        self.0.run_until_idle()?;
        Ok(self.0.commit()?)
    }

    /// The counts of `a` in the windows that start there, -1 for none.
    fn look_up<const N: usize>(&self, starts: [i64; N]) -> Outcome<Vec<i64>> {
        let before = self.read("found")?.len();
        for start in starts {
            self.0.input_topic::<String, i64>("lookups").pipe_input("a".to_owned(), start, 0)?;
        }
        self.commit()?;
        Ok(self.read("found")?.into_iter().skip(before).map(|(_, count)| count).collect())
    }

    fn read(&self, topic: &str) -> Outcome<Vec<(String, i64)>> {
        let rows = self.0.output_topic::<String, i64>(topic).read_records_to_list()?;
        Ok(rows.into_iter().map(|row| (row.key, row.value)).collect())
    }

    fn restart(&self, state_is_lost: bool) -> Outcome {
        if state_is_lost {
            self.0.lose_state()
        } else {
            self.0.crash()
        }
        Ok(self.0.restart()?)
    }
}

const EMITS: [Emit; 3] = [Emit::Updates, Emit::CachedUpdates, Emit::Finals];

#[test]
fn a_window_is_kept_until_it_is_older_than_the_retention() -> Outcome {
    for emit in EMITS {
        let run = Run::start(emit, Some(40))?;
        run.take(&[1, 2, 11, 39])?;
        assert_eq!(run.look_up([0, 10, 20, 30])?, [2, 1, -1, 1], "{emit:?}");
        for state_is_lost in [false, true] {
            run.restart(state_is_lost)?;
            assert_eq!(run.look_up([0, 10, 30])?, [2, 1, 1], "{emit:?}, {state_is_lost}");
        }
        run.take(&[40])?;
        for state_is_lost in [false, true] {
            assert_eq!(run.look_up([0, 10, 30, 40])?, [-1, 1, 1, 1], "{emit:?}, {state_is_lost}");
            run.restart(state_is_lost)?;
        }
    }
    Ok(())
}

/// When a window is removed depends on commits; when it is no longer found does not.
#[test]
fn a_window_that_is_older_is_not_found_even_before_a_commit() -> Outcome {
    for emit in EMITS {
        let run = Run::start(emit, Some(40))?;
        run.take(&[1, 11, 39])?;
        let pipe = |topic: &str, value, at| {
            run.0.input_topic::<String, i64>(topic).pipe_input("a".to_owned(), value, at)?;
            run.0.run_until_idle()
        };
        pipe("lookups", 0, 39)?;
        pipe("in", 0, 40)?;
        pipe("lookups", 0, 40)?;
        pipe("lookups", 10, 40)?;
        run.commit()?;
        let found = run.read("found")?.into_iter().map(|(_, count)| count);
        assert_eq!(found.collect::<Vec<_>>(), [1, -1, 1], "{emit:?}");
    }
    Ok(())
}

#[test]
fn windows_are_kept_until_they_close_unless_told_otherwise() -> Outcome {
    for emit in EMITS {
        let run = Run::start(emit, None)?;
        run.take(&[1, 14])?;
        assert_eq!(run.look_up([0, 10])?, [1, 1], "{emit:?}");
        run.take(&[15])?;
        assert_eq!(run.look_up([0, 10])?, [-1, 2], "{emit:?}");
    }
    Ok(())
}

#[test]
fn a_closed_window_takes_no_record_though_it_is_kept() -> Outcome {
    for emit in EMITS {
        let run = Run::start(emit, Some(1_000))?;
        run.take(&[1, 39])?;
        run.restart(true)?;
        run.take(&[2])?;
        assert_eq!(run.look_up([0])?, [1], "{emit:?}");
        assert_eq!(run.0.dropped_records("count")?, 1, "{emit:?}");
    }
    Ok(())
}

#[test]
fn each_final_comes_out_once_though_its_window_is_kept() -> Outcome {
    let run = Run::start(Emit::Finals, Some(1_000))?;
    run.take(&[1, 2, 15])?;
    run.look_up([0, 10, 500])?;
    for (at, state_is_lost) in [(26, false), (40, true), (41, true), (60, false)] {
        run.restart(state_is_lost)?;
        run.take(&[at])?;
    }
    let finals = [("a[0]", 2), ("a[10]", 1), ("a[20]", 1), ("a[40]", 2)];
    let owned = |(key, count): (&str, i64)| (key.to_owned(), count);
    assert_eq!(run.read("out")?, finals.map(owned));
    run.0.finish_input()?;
    let all = [("a[0]", 2), ("a[10]", 1), ("a[20]", 1), ("a[40]", 2), ("a[60]", 1)];
    assert_eq!(run.read("out")?, all.map(owned));
    assert_eq!(run.look_up([0, 60])?, [2, 1]);
    Ok(())
}

#[test]
fn a_retention_shorter_than_size_and_grace_is_refused() {
    let refused = topology(Emit::Updates, Some(14)).err();
    let expected =
        TopologyError::RetentionTooShort { node: "n".to_owned(), retention_ms: 14, needed_ms: 15 };
    assert_eq!(refused, Some(expected));
    assert!(topology(Emit::Updates, Some(15)).is_ok());
}

//! Session windows, rule by rule.

use headwater_core::{
    record::Headers,
    serde::{SharedSerde, for_type},
};
use headwater_dsl::{
    BufferConfig, EmitStrategy, KTable, LateRecord, Materialized, SessionWindowedKStream,
    SessionWindows, StreamsBuilder, Suppressed,
};
use headwater_engine::{
    runtime::StreamsConfig,
    store::{SessionWindowedSerde, Windowed},
    topology::{Topology, TopologyError},
};
use headwater_testkit::TopologyTestDriver;
use std::{error::Error, sync::Arc, time::Duration};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Emit {
    Updates,
    CachedUpdates,
    Finals,
}

const EMITS: [Emit; 3] = [Emit::Updates, Emit::CachedUpdates, Emit::Finals];

/// Sessions with a gap of 10 and such a grace.
#[derive(Debug, Clone, Copy)]
struct Shape {
    grace_ms: u64,
    retention_ms: Option<u64>,
    emit: Emit,
    repartitions: bool,
}

fn shape(grace_ms: u64, emit: Emit) -> Shape {
    Shape { grace_ms, retention_ms: None, emit, repartitions: false }
}

type Paths = KTable<Windowed<String>, String>;

/// The values of each session in a row, `+` where they were added and `(...)` around what was merged.
fn paths(sessions: &SessionWindowedKStream<String, String>, kept: Materialized) -> Paths {
    let add = |_: &String, value: String, so_far: String| so_far + "+" + &value;
    let merge = |key: &String, so_far: String, session: String| {
        assert!(!key.is_empty());
        format!("{so_far}({session})")
    };
    sessions.aggregate(|| "0".to_owned(), add, merge, kept)
}

impl Shape {
    fn windows(self) -> SessionWindows {
        let (gap, grace) = (Duration::from_millis(10), Duration::from_millis(self.grace_ms));
        SessionWindows::of_inactivity_gap_and_grace(gap, grace)
    }

    fn kept(self) -> Materialized {
        let mut kept = Materialized::named("sessions");
        if self.emit == Emit::Updates {
            kept = kept.with_caching_disabled();
        }
        match self.retention_ms {
            Some(retention_ms) => kept.with_retention(Duration::from_millis(retention_ms)),
            None => kept,
        }
    }

    fn strategy(self) -> EmitStrategy {
        match self.emit {
            Emit::Finals => EmitStrategy::on_window_close(),
            Emit::Updates | Emit::CachedUpdates => EmitStrategy::on_window_update(),
        }
    }

    fn topology(self) -> Result<Topology, TopologyError> {
        let builder = StreamsBuilder::new();
        let stream = builder.stream::<String, String>("in");
        let stream =
            if self.repartitions { stream.select_key(|key, _| key.clone()) } else { stream };
        let sessions = stream.group_by_key().windowed_by(self.windows());
        let table = paths(&sessions.emit_strategy(self.strategy()), self.kept()).named("sessions");
        table.to_stream().to("out");
        builder.build()
    }

    fn start(self) -> Outcome<Run> {
        let config = StreamsConfig::new("test");
        let partitions = if self.repartitions { 3 } else { 1 };
        let driver =
            TopologyTestDriver::with(self.topology()?, config, &[("in", partitions)].into())?;
        Ok(Run { driver, read: 0 })
    }
}

struct Run {
    driver: TopologyTestDriver,
    /// How many results were read.
    read: usize,
}

fn keys() -> SharedSerde<Windowed<String>> {
    Arc::new(SessionWindowedSerde::new(for_type::<String>()))
}

impl Run {
    /// Takes records such as `a=x@5`, each in a commit of its own, and gives what comes out.
    fn take(&mut self, records: &str) -> Outcome<Vec<String>> {
        for record in records.split_whitespace() {
            let (key, rest) = record.split_once('=').ok_or("no key")?;
            let (value, at) = rest.split_once('@').ok_or("no time")?;
            let input = self.driver.input_topic::<String, String>("in");
            input.pipe_input(key.into(), value.into(), at.parse()?)?;
        }
        self.results()
    }

    /// The same in one commit.
    fn take_at_once(&mut self, records: &str) -> Outcome<Vec<String>> {
        let eager = std::mem::replace(&mut self.driver, TopologyTestDriver::new(Topology::new())?);
        self.driver = eager.by_hand();
        self.take(records)?;
        self.driver.run_until_idle()?;
        self.driver.commit()?;
        self.results()
    }

    fn results(&mut self) -> Outcome<Vec<String>> {
        let values = for_type::<Option<String>>();
        let rows = self.driver.output_topic_with("out", keys(), values).read_records_to_list()?;
        let new = rows.iter().skip(self.read).map(|row| {
            let (window, value) = (row.key.window, row.value.as_deref().unwrap_or("∅"));
            format!("{}[{},{}]={value}@{}", row.key.key, window.start, window.end, row.timestamp)
        });
        let new = new.collect();
        self.read = rows.len();
        Ok(new)
    }

    fn dropped(&self) -> u64 {
        self.driver.dropped_records("sessions").expect("there is such a node")
    }

    fn restart(&self, state_is_lost: bool) -> Outcome {
        if state_is_lost {
            self.driver.lose_state()
        } else {
            self.driver.crash()
        }
        Ok(self.driver.restart()?)
    }
}

#[test]
fn a_record_within_the_gap_prolongs_a_session_and_ends_the_one_that_was() -> Outcome {
    let mut run = shape(0, Emit::Updates).start()?;
    assert_eq!(run.take("a=x@5")?, ["a[5,5]=0+x@5"]);
    assert_eq!(run.take("a=y@15")?, ["a[5,5]=∅@5", "a[5,15]=0(0+x)+y@15"], "the gap is inclusive");
    assert_eq!(run.take("a=z@26")?, ["a[26,26]=0+z@26"], "and no longer than that");
    assert_eq!(run.take("b=z@26")?, ["b[26,26]=0+z@26"], "each key has its own");
    Ok(())
}

#[test]
fn a_record_between_two_sessions_makes_them_one() -> Outcome {
    let mut run = shape(100, Emit::Updates).start()?;
    run.take("a=x@5 a=y@25")?;
    let merged = ["a[5,5]=∅@5", "a[25,25]=∅@25", "a[5,25]=0(0+x)(0+y)+z@25"];
    assert_eq!(
        run.take("a=z@15")?,
        merged,
        "deletions by start, then the session; its end is its time"
    );
    Ok(())
}

#[test]
fn a_record_within_a_session_ends_it_and_begins_it_anew() -> Outcome {
    let mut run = shape(100, Emit::Updates).start()?;
    run.take("a=x@5 a=y@10")?;
    assert_eq!(run.take("a=z@7")?, ["a[5,10]=∅@10", "a[5,10]=0(0(0+x)+y)+z@10"]);
    Ok(())
}

#[test]
fn a_repeat_at_one_instant_updates_in_place() -> Outcome {
    let mut run = shape(0, Emit::Updates).start()?;
    run.take("a=x@5")?;
    assert_eq!(run.take("a=y@5")?, ["a[5,5]=0(0+x)+y@5"], "no deletion");
    run.take("a=z@6")?;
    assert_eq!(run.take("a=w@6")?.len(), 2, "it is no longer one instant");
    Ok(())
}

#[test]
fn an_early_record_moves_the_start_alone() -> Outcome {
    let mut run = shape(100, Emit::Updates).start()?;
    run.take("a=x@15")?;
    assert_eq!(run.take("a=y@5")?, ["a[15,15]=∅@15", "a[5,15]=0(0+x)+y@15"]);
    assert_eq!(run.take("a=z@0")?, ["a[5,15]=∅@15", "a[0,15]=0(0(0+x)+y)+z@15"]);
    Ok(())
}

#[test]
fn what_is_late_is_judged_on_the_merged_session() -> Outcome {
    for emit in EMITS {
        let mut run = shape(5, emit).start()?;
        // Stream time 30: sessions that end before 15 are closed.
        run.take("a=x@20 b=x@30")?;
        run.take("a=y@14 a=z@9")?;
        assert_eq!(run.dropped(), 0, "{emit:?}: they join [20, 20], and then [14, 20]");
        run.take("c=y@14")?;
        assert_eq!(run.dropped(), 1, "{emit:?}: alone it is late");
        run.take("c=y@15")?;
        assert_eq!(run.dropped(), 1, "{emit:?}: at the boundary it is not");
        let finals = run.take("b=z@36")?;
        if emit == Emit::Finals {
            let expected = ["c[15,15]=0+y@15", "a[9,20]=0(0(0+x)+y)+z@20"];
            assert_eq!(finals, expected);
        }
    }
    Ok(())
}

#[test]
fn a_session_at_its_close_boundary_keeps_its_state() -> Outcome {
    for emit in EMITS {
        let mut run = shape(5, emit).start()?;
        run.take("a=x@20 b=x@35")?;
        let results = run.take("a=y@30")?;
        match emit {
            Emit::Finals => assert_eq!(results, [""; 0]),
            Emit::Updates => assert_eq!(results, ["a[20,20]=∅@20", "a[20,30]=0(0+x)+y@30"]),
            Emit::CachedUpdates => {
                assert_eq!(results, ["a[20,20]=∅@20", "a[20,30]=0(0+x)+y@30"]);
            }
        }
        let results = run.take("c=x@46")?;
        if emit == Emit::Finals {
            assert_eq!(results, ["a[20,30]=0(0+x)+y@30"], "once, and complete");
        }
    }
    Ok(())
}

#[test]
fn a_closed_session_takes_no_more_however_long_it_is_kept() -> Outcome {
    for retention_ms in [None, Some(1_000)] {
        for emit in EMITS {
            let mut run = Shape { retention_ms, ..shape(5, emit) }.start()?;
            run.take("a=x@20 b=x@36")?;
            let results = run.take("a=y@30")?;
            if emit != Emit::Finals {
                assert_eq!(results, ["a[30,30]=0+y@30"], "{retention_ms:?}");
            }
            assert_eq!(run.dropped(), 0);
            if emit == Emit::Finals {
                assert_eq!(run.take("c=x@100")?, ["a[30,30]=0+y@30", "b[36,36]=0+x@36"]);
            }
        }
    }
    Ok(())
}

#[test]
fn finals_are_ordered_by_end_start_and_key() -> Outcome {
    let mut run = shape(0, Emit::Finals).start()?;
    assert_eq!(run.take("b=x@1 a=x@3 b=y@5 c=x@5 a=y@5")?, [""; 0]);
    assert_eq!(run.take("d=x@15")?, [""; 0], "at the boundary all are open");
    let finals = ["b[1,5]=0(0+x)+y@5", "a[3,5]=0(0+x)+y@5", "c[5,5]=0+x@5"];
    assert_eq!(run.take("d=y@16")?, finals);
    assert_eq!(run.take("d=z@17 e=x@18")?, [""; 0], "once");
    Ok(())
}

#[test]
fn no_final_is_lost_over_jumps_of_time_and_restarts() -> Outcome {
    for state_is_lost in [false, true] {
        let mut run = shape(5, Emit::Finals).start()?;
        let day = 86_400_000;
        let mut finals = run.take("a=x@1 a=y@5 b=x@7")?;
        run.restart(state_is_lost)?;
        finals.extend(run.take(&format!("c=x@{day}"))?);
        run.restart(state_is_lost)?;
        finals.extend(run.take(&format!("a=z@{} c=y@{}", 10, day + 1))?);
        assert_eq!(run.dropped(), 1, "late stays late");
        run.restart(state_is_lost)?;
        finals.extend(run.take(&format!("d=x@{}", 2 * day))?);
        let c = format!("c[{day},{}]=0(0+x)+y@{}", day + 1, day + 1);
        assert_eq!(finals, ["a[1,5]=0(0+x)+y@5", "b[7,7]=0+x@7", &c], "{state_is_lost}");
    }
    Ok(())
}

#[test]
fn the_end_of_the_input_closes_what_is_open() -> Outcome {
    let mut run = shape(5, Emit::Finals).start()?;
    assert_eq!(run.take("a=x@1 b=x@7")?, [""; 0]);
    run.driver.finish_input()?;
    assert_eq!(run.results()?, ["a[1,1]=0+x@1", "b[7,7]=0+x@7"]);
    Ok(())
}

#[test]
fn with_caching_the_last_row_of_each_session_comes_at_the_commit() -> Outcome {
    let mut run = shape(100, Emit::CachedUpdates).start()?;
    assert_eq!(run.take_at_once("a=x@5 a=y@10 b=x@7")?, ["a[5,10]=0(0+x)+y@10", "b[7,7]=0+x@7"]);
    // [5, 10] and [5, 15] came and went or only went; [5, 20] is there.
    let rows = run.take_at_once("a=z@15 a=w@20")?;
    assert_eq!(rows, ["a[5,10]=∅@10", "a[5,20]=0(0(0(0+x)+y)+z)+w@20"]);
    Ok(())
}

#[test]
fn the_rows_that_are_left_are_the_same_with_caching_and_without() -> Outcome {
    let records = "a=1@5 a=2@40 b=3@7 a=4@15 a=5@25 a=6@33 b=6@9 b=7@9 c=8@0 a=9@1 b=1@60 a=2@70";
    let mut left = Vec::new();
    for emit in [Emit::Updates, Emit::CachedUpdates] {
        for at_once in [false, true] {
            let mut run = shape(100, emit).start()?;
            let rows = if at_once { run.take_at_once(records)? } else { run.take(records)? };
            let mut table = std::collections::BTreeMap::new();
            for row in rows {
                let (key, value) = row.split_once('=').ok_or("a row has a value")?;
                if value.starts_with('∅') {
                    table.remove(key);
                } else {
                    table.insert(key.to_owned(), value.to_owned());
                }
            }
            left.push(table);
        }
    }
    assert!(left.len() == 4 && left.iter().all(|table| *table == left[0]), "{left:?}");
    assert_eq!(left[0].len(), 5);
    Ok(())
}

#[test]
fn rows_have_the_headers_of_the_record_that_made_them() -> Outcome {
    for emit in [Emit::Updates, Emit::CachedUpdates] {
        let run = shape(100, emit).start()?;
        let input = run.driver.input_topic::<String, String>("in");
        for (value, at) in [("x", 5), ("y", 25), ("z", 15)] {
            let mut headers = Headers::new();
            headers.add("from", Some(value.as_bytes().to_vec()));
            input.pipe_bytes_with(Some(b"a"), Some(value.as_bytes()), at, &headers)?;
        }
        let values = for_type::<Option<String>>();
        let rows = run.driver.output_topic_with("out", keys(), values).read_records_to_list()?;
        let from = rows.iter().map(|row| row.headers.iter().map(|(_, value)| value).collect());
        let from: Vec<Vec<_>> = from.collect();
        let expected: [&[u8]; 5] = [b"x", b"y", b"z", b"z", b"z"];
        assert_eq!(from, expected.map(|value| vec![Some(value)]), "{emit:?}");
    }
    Ok(())
}

#[test]
fn below_a_repartition_no_task_closes_what_another_still_feeds() -> Outcome {
    let mut run = Shape { repartitions: true, ..shape(0, Emit::Finals) }.start()?;
    let keys = ["a", "b", "c", "d", "e"];
    let mut finals = Vec::new();
    for at in [0, 5, 10] {
        for key in keys {
            finals.extend(run.take(&format!("{key}=x@{at}"))?);
        }
    }
    for key in keys {
        finals.extend(run.take(&format!("{key}=y@100"))?);
    }
    run.driver.finish_input()?;
    finals.extend(run.results()?);
    finals.sort();
    let first = keys.map(|key| format!("{key}[0,10]=0(0(0+x)+x)+x@10"));
    let last = keys.map(|key| format!("{key}[100,100]=0+y@100"));
    let mut expected = [first, last].concat();
    expected.sort();
    assert_eq!(finals, expected);
    assert_eq!(run.dropped(), 0);
    Ok(())
}

#[test]
fn counts_and_reductions_are_merged_too() -> Outcome {
    let builder = StreamsBuilder::new();
    let sessions = builder.stream::<String, i64>("in").group_by_key();
    let sessions = sessions.windowed_by(shape(100, Emit::Updates).windows());
    let kept = |name: &str| Materialized::named(name).with_caching_disabled();
    sessions.count(kept("counts")).to_stream().to("counts");
    sessions.reduce(|a, b| a * 10 + b, kept("reduced")).to_stream().to("reduced");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    for (value, at) in [(1, 5), (2, 25), (3, 15)] {
        driver.input_topic::<String, i64>("in").pipe_input("a".into(), value, at)?;
    }
    for (topic, expected) in [("counts", [1, 1, 3]), ("reduced", [1, 2, 123])] {
        let mut out = driver.output_topic_with(topic, keys(), for_type::<Option<i64>>());
        let rows = out.read_records_to_list()?;
        let values: Vec<i64> = rows.into_iter().filter_map(|row| row.value).collect();
        assert_eq!(values, expected, "{topic}");
    }
    Ok(())
}

#[test]
fn an_aggregate_that_ends_deletes_its_session() -> Outcome {
    for emit in EMITS {
        let builder = StreamsBuilder::new();
        let sessions = builder.stream::<String, i64>("in").group_by_key();
        let shape = shape(0, emit);
        let sessions = sessions.windowed_by(shape.windows()).emit_strategy(shape.strategy());
        let add = |_: &String, value: i64, so_far: i64| (value > 0).then_some(so_far + value);
        let sums = sessions.aggregate_or_delete(|| 0, add, |_, a, b| a + b, shape.kept());
        sums.to_stream().to("out");
        let driver = TopologyTestDriver::new(builder.build()?)?;
        for (value, at) in [(1, 5), (2, 6), (0, 7), (4, 8), (9, 30)] {
            driver.input_topic::<String, i64>("in").pipe_input("a".into(), value, at)?;
        }
        let mut out = driver.output_topic_with("out", keys(), for_type::<Option<i64>>());
        let rows = out.read_records_to_list()?;
        let rows = rows.iter().map(|row| (row.key.window.start, row.key.window.end, row.value));
        let rows: Vec<_> = rows.collect();
        let expected = [
            (5, 5, Some(1)),
            (5, 5, None),
            (5, 6, Some(3)),
            (5, 6, None),
            (5, 7, None),
            (8, 8, Some(4)),
            (30, 30, Some(9)),
        ];
        match emit {
            Emit::Updates => assert_eq!(rows, expected),
            Emit::CachedUpdates => {
                let some = expected.iter().filter(|row| (row.0, row.1) != (5, 7));
                assert_eq!(rows, some.copied().collect::<Vec<_>>(), "[5, 7] never came");
            }
            Emit::Finals => assert_eq!(rows, [(8, 8, Some(4))]),
        }
    }
    Ok(())
}

#[test]
fn sessions_that_cannot_be_are_refused() {
    let refused = |windows: SessionWindows, kept: Materialized, emit| {
        let builder = StreamsBuilder::new();
        let grouped = builder.stream::<String, i64>("in").group_by_key();
        let _ = grouped.windowed_by(windows).emit_strategy(emit).count(kept);
        builder.build().unwrap_err()
    };
    let ms = Duration::from_millis;
    let update = EmitStrategy::on_window_update();
    let none = SessionWindows::of_inactivity_gap_with_no_grace(Duration::ZERO);
    let why = refused(none, Materialized::named("n"), update);
    assert_eq!(why, TopologyError::NoGap { node: "n".into() });
    let short = Materialized::named("n").with_retention(ms(14));
    let windows = SessionWindows::of_inactivity_gap_and_grace(ms(10), ms(5));
    let why = refused(windows, short, update);
    let (node, retention_ms, needed_ms) = ("n".into(), 14, 15);
    assert_eq!(why, TopologyError::RetentionTooShort { node, retention_ms, needed_ms });
    let windows = SessionWindows::of_inactivity_gap_and_grace(ms(10), Duration::MAX);
    let why = refused(windows, Materialized::named("n"), EmitStrategy::on_window_close());
    assert!(matches!(why, TopologyError::NeverClose { .. }), "{why}");
}

#[test]
fn what_a_store_holds_can_be_read() -> Outcome {
    for emit in EMITS {
        let mut run = shape(100, emit).start()?;
        run.take("a=x@5 a=y@15 a=z@40 b=x@7")?;
        let store = run.driver.snapshot()?.session_store::<String, String>("sessions")?;
        let found = |from, to| -> Outcome<Vec<(i64, i64)>> {
            let found = store.find_sessions(&"a".to_owned(), from, to)?;
            Ok(found.iter().map(|it| (it.window.start, it.window.end)).collect())
        };
        assert_eq!(found(15, 40)?, [(5, 15), (40, 40)], "{emit:?}: both ends are inclusive");
        assert_eq!((found(16, 40)?, found(0, 39)?), (vec![(40, 40)], vec![(5, 15)]));
        assert_eq!(store.fetch(&"b".to_owned())?.len(), 1);
        let session = store.fetch_session(&"a".to_owned(), 5, 15)?.ok_or("it is there")?;
        assert_eq!((session.value.as_str(), session.timestamp), ("0(0+x)+y", 15));
        assert_eq!(store.fetch_session(&"a".to_owned(), 5, 5)?, None);
    }
    Ok(())
}

#[test]
fn late_records_tell_the_session_that_they_missed() -> Outcome {
    let builder = StreamsBuilder::new();
    let sessions = builder.stream::<String, String>("in").group_by_key();
    let sessions = sessions.windowed_by(shape(5, Emit::Updates).windows()).late_records(|late| {
        let told = |late: LateRecord<String>| {
            format!("{}[{},{}] {}", late.value, late.window.start, late.window.end, late.late_by_ms)
        };
        late.map_values(told).to("late");
    });
    let _table = paths(&sessions, Materialized::named("sessions"));
    let driver = TopologyTestDriver::new(builder.build()?)?;
    for (value, at) in [("x", 30), ("y", 14), ("z", 15), ("w", 10), ("v", 4)] {
        driver.input_topic::<String, String>("in").pipe_input("a".into(), value.into(), at)?;
    }
    let late = driver.output_topic::<String, String>("late").read_records_to_list()?;
    let late: Vec<_> = late.iter().map(|row| (row.value.as_str(), row.timestamp)).collect();
    assert_eq!(late, [("y[14,14] 0", 14)], "the others join a session that is open");
    Ok(())
}

#[test]
fn suppressed_until_they_close_sessions_come_as_their_finals_do() -> Outcome {
    let records = "a=1@5 a=2@40 b=3@7 a=4@15 a=5@25 c=8@20 a=9@35 b=1@60 a=2@70 d=1@91 d=2@200";
    let mut finals = shape(5, Emit::Finals).start()?;
    let expected = finals.take(records)?;
    let shape = shape(5, Emit::Updates);
    let builder = StreamsBuilder::new();
    let sessions = builder.stream::<String, String>("in").group_by_key();
    let table = paths(&sessions.windowed_by(shape.windows()), Materialized::named("w"));
    let buffer = BufferConfig::unbounded();
    table.suppress(Suppressed::until_window_closes(buffer)).to_stream().to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    let mut run = Run { driver, read: 0 };
    let sorted = |mut rows: Vec<String>| {
        rows.sort();
        rows
    };
    let suppressed = run.take(records)?;
    assert!(expected.len() > 4);
    assert_eq!(sorted(suppressed), sorted(expected), "a session that was merged away has none");
    Ok(())
}

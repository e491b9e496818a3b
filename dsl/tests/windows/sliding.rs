//! Sliding windows, rule by rule.

use headwater_core::{
    record::Headers,
    serde::{SharedSerde, for_type},
};
use headwater_dsl::{
    BufferConfig, EmitStrategy, Materialized, SlidingWindows, StreamsBuilder, Suppressed,
};
use headwater_engine::{
    runtime::StreamsConfig,
    store::{Windowed, WindowedSerde},
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

/// Windows with a difference of 10 and such a grace, of text that is put in a row.
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

impl Shape {
    fn windows(self) -> SlidingWindows {
        let (difference, grace) = (Duration::from_millis(10), Duration::from_millis(self.grace_ms));
        SlidingWindows::of_time_difference_and_grace(difference, grace)
    }

    fn kept(self) -> Materialized {
        let mut kept = Materialized::named("sliding");
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
        let windowed = stream.group_by_key().windowed_by(self.windows());
        let add = |_: &String, value: String, so_far: String| so_far + &value;
        let table =
            windowed.emit_strategy(self.strategy()).aggregate(String::new, add, self.kept());
        table.named("sliding").to_stream().to("out");
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
    Arc::new(WindowedSerde::new(for_type::<String>(), 10))
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
        self.driver.dropped_records("sliding").expect("there is such a node")
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
fn a_record_has_a_left_window_and_makes_the_right_one_of_the_record_before() -> Outcome {
    let mut run = shape(0, Emit::Updates).start()?;
    assert_eq!(run.take("a=x@20")?, ["a[10,20]=x@20"], "both ends belong to it");
    assert_eq!(run.take("a=y@25")?, ["a[21,31]=y@25", "a[15,25]=xy@25"]);
    assert_eq!(
        run.take("a=z@31")?,
        ["a[21,31]=yz@31", "a[26,36]=z@31"],
        "[21, 31] is its left one"
    );
    assert_eq!(run.take("b=z@31")?, ["b[21,31]=z@31"], "each key has its own");
    Ok(())
}

#[test]
fn a_record_just_beyond_the_difference_makes_one_window_once() -> Outcome {
    let mut run = shape(100, Emit::Updates).start()?;
    run.take("a=w@15 a=x@20")?;
    // The right window of x, [21, 31], is the left one of y.
    assert_eq!(run.take("a=y@31")?, ["a[21,31]=y@31"]);
    assert_eq!(run.take("a=z@43")?, ["a[33,43]=z@43"], "and here nothing is near");
    Ok(())
}

#[test]
fn a_repeat_at_one_instant_updates_what_is_there_newest_first() -> Outcome {
    let mut run = shape(100, Emit::Updates).start()?;
    run.take("a=x@20 a=y@25 a=z@27")?;
    let expected = ["a[21,31]=yzw@27", "a[17,27]=xyzw@27", "a[15,25]=xyw@25"];
    assert_eq!(run.take("a=w@25")?, expected);
    Ok(())
}

#[test]
fn a_record_out_of_order_patches_and_creates_windows() -> Outcome {
    let mut run = shape(100, Emit::Updates).start()?;
    run.take("a=x@20 a=z@28")?;
    // [18, 28] and [21, 31] hold it, newest first; [20 + 1] is there; then its left and its right window.
    let expected = ["a[21,31]=zy@28", "a[18,28]=xzy@28", "a[14,24]=xy@24", "a[25,35]=z@28"];
    assert_eq!(run.take("a=y@24")?, expected);
    Ok(())
}

#[test]
fn a_record_out_of_order_may_make_the_right_window_of_the_one_before() -> Outcome {
    let mut run = shape(100, Emit::Updates).start()?;
    run.take("a=x@20 a=z@40")?;
    let expected = ["a[30,40]=zy@40", "a[21,31]=y@30", "a[20,30]=xy@30", "a[31,41]=z@40"];
    assert_eq!(run.take("a=y@30")?, expected);
    Ok(())
}

#[test]
fn records_earlier_than_the_difference_share_the_window_from_zero() -> Outcome {
    let mut run = shape(100, Emit::Updates).start()?;
    assert_eq!(run.take("a=x@3")?, ["a[0,10]=x@3"]);
    assert_eq!(run.take("a=z@8")?, ["a[4,14]=z@8", "a[0,10]=xz@8"], "the right one of x first");
    // [4, 14] holds it; then its own right window; that of x is there; last the window from 0.
    let expected = ["a[4,14]=zy@8", "a[6,16]=z@8", "a[0,10]=xzy@8"];
    assert_eq!(run.take("a=y@5")?, expected);
    let expected = ["a[4,14]=zyw@8", "a[6,16]=zw@8", "a[0,10]=xzyw@8"];
    assert_eq!(run.take("a=w@8")?, expected, "oldest first, and what begins at 0 last");
    assert_eq!(run.take("a=v@0")?, ["a[1,11]=xzyw@8", "a[0,10]=xzywv@8"]);
    let expected = [
        "a[6,16]=zwu@10",
        "a[4,14]=zywu@10",
        "a[1,11]=xzywu@10",
        "a[0,10]=xzywvu@10",
        "a[9,19]=u@10",
    ];
    assert_eq!(run.take("a=u@10")?, expected, "one at the difference is not early");
    Ok(())
}

#[test]
fn a_window_is_closed_once_time_is_past_its_end_and_the_grace() -> Outcome {
    for emit in EMITS {
        let mut run = shape(5, emit).start()?;
        run.take("a=x@20 b=x@35")?;
        // Windows that end below 30 are closed.
        run.take("a=y@20")?;
        assert_eq!(run.dropped(), 1, "{emit:?}: [10, 20] is closed, and no other is there");
        run.take("a=y@19")?;
        assert_eq!(run.dropped(), 2, "{emit:?}: all that could hold it are, and it counts once");
        let finals = run.take("b=z@36")?;
        if emit == Emit::Finals {
            assert_eq!(finals, [""; 0]);
        }
    }
    let mut run = shape(5, Emit::Updates).start()?;
    run.take("a=x@28 b=x@35")?;
    // At 25: its left window is closed; [18, 28] is too; its right one, with x, is open.
    assert_eq!(run.take("a=y@25")?, ["a[26,36]=x@28"]);
    assert_eq!(run.dropped(), 2, "a refusal is a drop of its own");
    assert_eq!(run.take("a=w@30")?.len(), 3, "an end at the boundary is open");
    Ok(())
}

#[test]
fn finals_come_once_ordered_by_start_and_key() -> Outcome {
    for state_is_lost in [None, Some(false), Some(true)] {
        let mut run = shape(5, Emit::Finals).start()?;
        let mut finals = run.take("b=x@20 a=x@20 a=y@25 b=y@40")?;
        if let Some(state_is_lost) = state_is_lost {
            run.restart(state_is_lost)?;
        }
        finals.extend(run.take("c=x@100000")?);
        let expected =
            ["a[10,20]=x@20", "b[10,20]=x@20", "a[15,25]=xy@25", "a[21,31]=y@25", "b[30,40]=y@40"];
        assert_eq!(finals, expected, "{state_is_lost:?}");
        run.driver.finish_input()?;
        assert_eq!(run.results()?, ["c[99990,100000]=x@100000"]);
    }
    Ok(())
}

#[test]
fn how_long_windows_are_kept_does_not_show_in_results() -> Outcome {
    let records = "a=1@20 a=2@25 b=0@45 a=3@36 a=4@30 a=5@40 b=0@60 a=6@45 a=7@50 a=8@61 a=9@49";
    let mut results = Vec::new();
    for retention_ms in [Some(15), None, Some(10_000)] {
        let mut run = Shape { retention_ms, ..shape(5, Emit::Updates) }.start()?;
        results.push((run.take(records)?, run.dropped()));
    }
    assert!(results.iter().all(|result| *result == results[0]), "{results:?}");
    Ok(())
}

#[test]
fn rows_have_the_headers_of_the_record_that_made_them() -> Outcome {
    for emit in [Emit::Updates, Emit::CachedUpdates] {
        let run = shape(100, emit).start()?;
        let input = run.driver.input_topic::<String, String>("in");
        for (value, at) in [("x", 20), ("z", 28), ("y", 24)] {
            let mut headers = Headers::new();
            headers.add("from", Some(value.as_bytes().to_vec()));
            input.pipe_bytes_with(Some(b"a"), Some(value.as_bytes()), at, &headers)?;
        }
        let values = for_type::<Option<String>>();
        let rows = run.driver.output_topic_with("out", keys(), values).read_records_to_list()?;
        let from = rows.iter().flat_map(|row| row.headers.iter().map(|(_, value)| value));
        let from: Vec<_> = from.flatten().collect();
        assert_eq!(from, b"xzzyyyy".each_ref().map(std::slice::from_ref), "{emit:?}");
    }
    Ok(())
}

#[test]
fn null_values_are_dropped_and_move_no_time() -> Outcome {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<Option<String>, Option<i64>>("in");
    let windowed = stream.group_by_key().windowed_by(shape(0, Emit::Updates).windows());
    let kept = Materialized::named("n").with_caching_disabled();
    windowed.count(kept).named("count").to_stream().to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    let input = driver.input_topic::<Option<String>, Option<i64>>("in");
    let a = || Some("a".to_owned());
    input.pipe_input(a(), Some(1), 20)?;
    input.pipe_input(a(), None, 500)?;
    input.pipe_input(None, Some(1), 500)?;
    input.pipe_input(a(), Some(1), 20)?;
    assert_eq!(driver.dropped_records("count")?, 2);
    let mut out = driver.output_topic::<Windowed<Option<String>>, i64>("out");
    let counts = out.read_records_to_list()?;
    assert_eq!(counts.iter().map(|row| row.value).collect::<Vec<_>>(), [1, 2]);
    Ok(())
}

#[test]
fn windows_that_cannot_be_are_refused() {
    let refused = |windows: SlidingWindows, kept: Materialized, emit| {
        let builder = StreamsBuilder::new();
        let grouped = builder.stream::<String, i64>("in").group_by_key();
        let _ = grouped.windowed_by(windows).emit_strategy(emit).count(kept);
        builder.build().unwrap_err()
    };
    let ms = Duration::from_millis;
    let short = Materialized::named("n").with_retention(ms(14));
    let windows = shape(5, Emit::Updates).windows();
    let why = refused(windows, short, EmitStrategy::on_window_update());
    let (node, retention_ms, needed_ms) = ("n".into(), 14, 15);
    assert_eq!(why, TopologyError::RetentionTooShort { node, retention_ms, needed_ms });
    let windows = SlidingWindows::of_time_difference_and_grace(ms(10), Duration::MAX);
    let why = refused(windows, Materialized::named("n"), EmitStrategy::on_window_close());
    assert!(matches!(why, TopologyError::NeverClose { .. }), "{why}");
}

#[test]
fn below_a_repartition_each_window_has_one_final() -> Outcome {
    let mut run = Shape { repartitions: true, ..shape(0, Emit::Finals) }.start()?;
    let mut finals = Vec::new();
    for (at, value) in [(20, "x"), (25, "y"), (100, "z")] {
        for key in ["a", "b", "c", "d"] {
            finals.extend(run.take(&format!("{key}={value}@{at}"))?);
        }
    }
    run.driver.finish_input()?;
    finals.extend(run.results()?);
    finals.sort();
    let of = |key| {
        ["[10,20]=x@20", "[15,25]=xy@25", "[21,31]=y@25", "[90,100]=z@100"]
            .map(|row| format!("{key}{row}"))
    };
    assert_eq!(finals, ["a", "b", "c", "d"].map(of).concat());
    assert_eq!(run.dropped(), 0);
    Ok(())
}

#[test]
fn a_difference_of_zero_holds_what_happens_at_one_instant() -> Outcome {
    let builder = StreamsBuilder::new();
    let windows = SlidingWindows::of_time_difference_with_no_grace(Duration::ZERO);
    let windowed = builder.stream::<String, i64>("in").group_by_key().windowed_by(windows);
    windowed.count(Materialized::named("n").with_caching_disabled()).to_stream().to("out");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    for at in [0, 0, 1, 2, 2, 9] {
        driver.input_topic::<String, i64>("in").pipe_input("a".into(), 0, at)?;
    }
    let mut out = driver.output_topic::<Windowed<String>, i64>("out");
    let rows = out.read_records_to_list()?;
    let rows: Vec<_> = rows.iter().map(|row| (row.key.window.start, row.value)).collect();
    assert_eq!(rows, [(0, 1), (0, 2), (1, 1), (2, 1), (2, 2), (9, 1)]);
    Ok(())
}

#[test]
fn late_records_tell_each_window_that_they_missed() -> Outcome {
    let builder = StreamsBuilder::new();
    let windowed = builder.stream::<String, i64>("in").group_by_key();
    let windowed = windowed.windowed_by(shape(5, Emit::Updates).windows()).late_records(|late| {
        late.map_values(|late| (late.window.start, late.window.end, late.late_by_ms)).to("late");
    });
    let _counts = windowed.count("counts");
    let driver = TopologyTestDriver::new(builder.build()?)?;
    for at in [28, 35, 25, 19] {
        driver.input_topic::<String, i64>("in").pipe_input("a".into(), 0, at)?;
    }
    let late = driver.output_topic::<String, (i64, i64, i64)>("late").read_records_to_list()?;
    let late: Vec<_> = late.iter().map(|row| (row.timestamp, row.value)).collect();
    assert_eq!(late, [(25, (18, 28, 1)), (25, (15, 25, 4)), (19, (19, 29, 0))]);
    Ok(())
}

#[test]
fn suppressed_until_they_close_windows_come_as_their_finals_do() -> Outcome {
    let records = "a=1@5 a=2@40 b=3@38 a=4@35 a=5@45 b=6@50 a=7@50 b=1@61 a=2@70 d=1@71 d=2@200";
    let mut finals = shape(5, Emit::Finals).start()?;
    let mut expected = finals.take(records)?;
    let builder = StreamsBuilder::new();
    let windowed = builder.stream::<String, String>("in").group_by_key();
    let windowed = windowed.windowed_by(shape(5, Emit::Updates).windows());
    let add = |_: &String, value: String, so_far: String| so_far + &value;
    let table = windowed.aggregate(String::new, add, Materialized::named("w"));
    let buffer = BufferConfig::unbounded();
    table.suppress(Suppressed::until_window_closes(buffer)).to_stream().to("out");
    let mut run = Run { driver: TopologyTestDriver::new(builder.build()?)?, read: 0 };
    let mut suppressed = run.take(records)?;
    expected.sort();
    suppressed.sort();
    assert!(expected.len() > 10);
    assert_eq!(suppressed, expected);
    Ok(())
}

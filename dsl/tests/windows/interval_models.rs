//! Sessions and sliding windows against models that know all records: any records in any order, in batches of any size, with
//! kills in between and state that is lost.

use headwater_core::{
    record::Timestamp,
    serde::{SharedSerde, for_type},
};
use headwater_dsl::{
    EmitStrategy, KTable, Materialized, SessionWindows, SlidingWindows, StreamsBuilder,
};
use headwater_engine::{
    runtime::StreamsConfig,
    store::{SessionWindowedSerde, Window, Windowed},
    topology::{Produced, Topology},
};
use headwater_testkit::TopologyTestDriver;
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Emit {
    Updates,
    CachedUpdates,
    Finals,
}

#[derive(Debug, Clone)]
struct Input {
    key: u8,
    at: Timestamp,
    /// What comes after it: nothing, a commit, or a commit and a kill, after which the state may be gone.
    then: u8,
}

#[derive(Debug, Clone)]
struct Case {
    inputs: Vec<Input>,
    /// The gap of sessions, or the difference of sliding windows.
    by: i64,
    grace: i64,
    /// How much longer windows are kept than they are open.
    kept: i64,
    rows_max: usize,
}

fn case(graces: impl Strategy<Value = i64>) -> impl Strategy<Value = Case> {
    let input = (0..3_u8, 0..80_i64, 0..12_u8).prop_map(|(key, at, then)| Input { key, at, then });
    let rows_max = prop::sample::select(&[1_usize, 2, 7, 8_192][..]);
    let kept = prop_oneof![Just(0), 1..90_i64];
    (prop::collection::vec(input, 0..40), 1..25_i64, graces, kept, rows_max)
        .prop_map(|(inputs, by, grace, kept, rows_max)| Case { inputs, by, grace, kept, rows_max })
}

/// Key, window, the records of its value in the order of their numbers, and its timestamp.
type Row = (String, (Timestamp, Timestamp), Option<Vec<i64>>, Timestamp);

fn ms(ms: i64) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

/// The numbers of records in a row: each record's value is its number.
fn add(_: &String, number: i64, mut so_far: Vec<i64>) -> Vec<i64> {
    so_far.push(number);
    so_far
}

fn topology(
    case: &Case,
    emit: Emit,
    draw: impl Fn(&StreamsBuilder, EmitStrategy, Materialized) -> Rows,
) -> Topology {
    let builder = StreamsBuilder::new();
    let strategy = match emit {
        Emit::Finals => EmitStrategy::on_window_close(),
        Emit::Updates | Emit::CachedUpdates => EmitStrategy::on_window_update(),
    };
    let kept = Materialized::named("w").with_retention(ms(case.by + case.grace + case.kept));
    let kept = if emit == Emit::Updates { kept.with_caching_disabled() } else { kept };
    let rows = draw(&builder, strategy, kept).named("w").to_stream();
    rows.to_with("out", Produced::with(keys(), for_type()));
    builder.build().expect("it can be built")
}

type Rows = KTable<Windowed<String>, Vec<i64>>;

/// Tells the ends of windows of both kinds.
fn keys() -> SharedSerde<Windowed<String>> {
    Arc::new(SessionWindowedSerde::new(for_type::<String>()))
}

fn in_sessions(case: &Case, emit: Emit) -> Topology {
    let windows = SessionWindows::of_inactivity_gap_and_grace(ms(case.by), ms(case.grace));
    topology(case, emit, move |builder, strategy, kept| {
        let grouped = builder.stream::<String, i64>("in").group_by_key();
        let merge = |_: &String, so_far: Vec<i64>, session: Vec<i64>| [so_far, session].concat();
        let windowed = grouped.windowed_by(windows).emit_strategy(strategy);
        windowed.aggregate(Vec::new, add, merge, kept)
    })
}

fn in_sliding(case: &Case, emit: Emit) -> Topology {
    let windows = SlidingWindows::of_time_difference_and_grace(ms(case.by), ms(case.grace));
    topology(case, emit, move |builder, strategy, kept| {
        let grouped = builder.stream::<String, i64>("in").group_by_key();
        grouped.windowed_by(windows).emit_strategy(strategy).aggregate(Vec::new, add, kept)
    })
}

/// What comes out, before the end of the input and after it, and how many records and windows were late.
struct Outcome {
    rows: Vec<Row>,
    last: Vec<Row>,
    dropped: u64,
}

fn run(case: &Case, topology: Topology) -> Outcome {
    let config = StreamsConfig::new("test").with_batch_rows_max(case.rows_max);
    let driver = TopologyTestDriver::with(topology, config, &BTreeMap::new());
    let driver = driver.expect("it starts").by_hand();
    let commit = || {
        driver.run_until_idle().expect("it runs");
        driver.commit().expect("it commits");
    };
    for (number, Input { key, at, then }) in (0..).zip(&case.inputs) {
        let input = driver.input_topic::<String, i64>("in");
        input.pipe_input(key.to_string(), number, *at).expect("it is taken");
        match then {
            0..=2 => commit(),
            3 | 4 => {
                commit();
                if *then == 3 {
                    driver.crash()
                } else {
                    driver.lose_state()
                }
                driver.restart().expect("it starts again");
            }
            5 => {
                // What is not committed is done again.
                driver.step().expect("it runs");
                driver.crash();
                driver.restart().expect("it starts again");
            }
            _ => {}
        }
    }
    commit();
    let read = || {
        let mut out = driver.output_topic_with::<_, Option<Vec<i64>>>("out", keys(), for_type());
        let rows = out.read_records_to_list().expect("it can be read").into_iter();
        let rows = rows.map(|row| {
            let (Windowed { key, window }, numbers) = (row.key, row.value);
            (key, (window.start, window.end), numbers, row.timestamp)
        });
        rows.collect::<Vec<Row>>()
    };
    let rows = read();
    driver.finish_input().expect("it ends");
    let last = read().split_off(rows.len());
    Outcome { rows, last, dropped: driver.dropped_records("w").expect("there is such a node") }
}

/// The rows that a table ends with.
fn table(rows: &[Row]) -> BTreeMap<(String, Timestamp, Timestamp), (Vec<i64>, Timestamp)> {
    let mut table = BTreeMap::new();
    for (key, (start, end), value, at) in rows {
        match value {
            Some(value) => table.insert((key.clone(), *start, *end), (value.clone(), *at)),
            None => table.remove(&(key.clone(), *start, *end)),
        };
    }
    table
}

/// The sessions of all keys, as records come.
#[derive(Default)]
struct Sessions {
    open: Vec<Row>,
    updates: Vec<Row>,
    finals: Vec<Row>,
    late: u64,
}

impl Sessions {
    fn of(case: &Case) -> Self {
        let (mut sessions, mut now) = (Self::default(), 0);
        for (number, Input { key, at, .. }) in (0..).zip(&case.inputs) {
            now = now.max(*at);
            sessions.close(|end| end < now - case.by - case.grace);
            let (key, at) = (key.to_string(), *at);
            let near =
                |row: &Row| row.0 == key && row.1.0 <= at + case.by && row.1.1 >= at - case.by;
            let (mut old, open): (Vec<Row>, _) = sessions.open.drain(..).partition(near);
            sessions.open = open;
            old.sort_by_key(|row| row.1);
            let start = old.iter().map(|row| row.1.0).chain([at]).min().unwrap_or(at);
            let end = old.iter().map(|row| row.1.1).chain([at]).max().unwrap_or(at);
            if end < now - case.by - case.grace {
                sessions.late += 1;
                continue;
            }
            let mut numbers: Vec<i64> =
                old.iter().flat_map(|row| row.2.iter().flatten().copied()).collect();
            numbers.push(number);
            if start < end {
                let deletions = old.iter().map(|row| (row.0.clone(), row.1, None, row.1.1));
                sessions.updates.extend(deletions);
            }
            let row = (key, (start, end), Some(numbers), end);
            sessions.updates.push(row.clone());
            sessions.open.push(row);
        }
        sessions
    }

    fn close(&mut self, is_closed: impl Fn(Timestamp) -> bool) {
        let (mut closed, open): (Vec<Row>, _) =
            self.open.drain(..).partition(|row| is_closed(row.1.1));
        self.open = open;
        closed.sort_by_key(|row| (row.1.1, row.1.0, row.0.clone()));
        self.finals.extend(closed);
    }
}

/// The sliding windows of all keys, of all records.
fn sliding(case: &Case) -> BTreeMap<(String, Timestamp, Timestamp), (Vec<i64>, Timestamp)> {
    let mut windows = BTreeMap::new();
    for Input { key, at, .. } in &case.inputs {
        for start in [(at - case.by).max(0), at + 1] {
            let window = Window { start, end: start + case.by };
            let held = (0..).zip(&case.inputs).filter(|(_, other)| {
                other.key == *key && (window.start..=window.end).contains(&other.at)
            });
            let held: Vec<(i64, &Input)> = held.collect();
            if let Some(latest) = held.iter().map(|(_, other)| other.at).max() {
                let numbers = held.iter().map(|(number, _)| *number).collect();
                windows.insert((key.to_string(), window.start, window.end), (numbers, latest));
            }
        }
    }
    windows
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(ProptestConfig::default().cases.max(250)) })]

    #[test]
    fn sessions_are_those_of_the_model(case in case(0..40_i64)) {
        let model = Sessions::of(&case);
        let updates = run(&case, in_sessions(&case, Emit::Updates));
        prop_assert_eq!(&updates.rows, &model.updates);
        let cached = run(&case, in_sessions(&case, Emit::CachedUpdates));
        prop_assert_eq!(table(&cached.rows), table(&model.updates));
        for (place, row) in cached.rows.iter().enumerate().filter(|(_, row)| row.2.is_none()) {
            let (key, (start, end), ..) = row;
            let before = table(&cached.rows[..place]);
            prop_assert!(before.contains_key(&(key.clone(), *start, *end)), "{:?} was there", row);
        }
        prop_assert_eq!((updates.dropped, cached.dropped), (model.late, model.late));
    }

    #[test]
    fn each_session_has_one_final(case in case(0..40_i64)) {
        let mut model = Sessions::of(&case);
        let finals = run(&case, in_sessions(&case, Emit::Finals));
        prop_assert_eq!(&finals.rows, &model.finals);
        model.close(|_| true);
        prop_assert_eq!([finals.rows, finals.last].concat(), model.finals);
        prop_assert_eq!(finals.dropped, model.late);
    }

    #[test]
    fn a_sliding_window_holds_what_lies_in_it(case in case(Just(80))) {
        let model = sliding(&case);
        for emit in [Emit::Updates, Emit::CachedUpdates, Emit::Finals] {
            let Outcome { rows, last, dropped } = run(&case, in_sliding(&case, emit));
            let rows = [rows, last].concat();
            prop_assert_eq!(dropped, 0);
            prop_assert_eq!(&table(&rows), &model, "{:?}", emit);
            if emit == Emit::Finals {
                prop_assert_eq!(rows.len(), model.len(), "each once");
            }
        }
    }

    /// Whatever is late, a window's final is its last update, and comes once it is closed and no sooner.
    #[test]
    fn finals_of_sliding_windows_are_their_last_updates(case in case(0..30_i64)) {
        let updates = run(&case, in_sliding(&case, Emit::Updates));
        let finals = run(&case, in_sliding(&case, Emit::Finals));
        prop_assert_eq!(updates.dropped, finals.dropped);
        let now = case.inputs.iter().map(|input| input.at).max().unwrap_or(0);
        let (closed, open): (BTreeMap<_, _>, BTreeMap<_, _>) = table(&updates.rows)
            .into_iter()
            .partition(|((_, _, end), _)| end + case.grace < now);
        prop_assert_eq!((finals.rows.len(), finals.last.len()), (closed.len(), open.len()));
        prop_assert_eq!(table(&finals.rows), closed);
        prop_assert_eq!(table(&finals.last), open);
        let cached = run(&case, in_sliding(&case, Emit::CachedUpdates));
        prop_assert_eq!(table(&cached.rows), table(&updates.rows));
    }
}

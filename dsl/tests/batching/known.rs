//! Cases that were drawn once and showed a defect, by what they show.

use crate::{
    calls::{Calls, Maker},
    folds::{Caching, Emit, Fold, Window},
    forms::Form,
    held::{Held, Hold},
    joins::{AsOf, AsOfKind, Beside, JoinKind, Joined, Near},
    ops::{Op, View},
    processors::Deed,
    run::{Case, Group, Input},
    same_at_every_size,
    stateless::Stateless,
};

/// A window, as cases are printed with it.
fn window(emit: Emit, caching: Caching, grace: u64, hop: u64, kept: u64) -> Window {
    Window { emit, caching, grace, hop, kept }
}

/// Over one partition or several, so many records, each a topic, a key, a value and a time, in one commit.
fn check(partitions: u32, ops: Vec<Op>, records: &[(&'static str, u8, i64, i64)]) {
    let input = |(to, key, value, at): (&'static str, u8, i64, i64)| Input {
        to,
        key: Some(key),
        value: Some(value),
        at,
    };
    let records = records.iter().copied().map(input).collect();
    let groups = vec![Group { records, kill: None, clock: 0, end: false }];
    same_at_every_size(&Case { ops, partitions, groups }).expect("batching shows in no result");
}

/// Of what a flush forwards, a commit has what calls can be made for, which is counted in rows.
#[test]
fn what_a_flush_brings_to_calls_is_bounded_by_them() {
    let calls = Calls { maker: Maker::Process, fails: 7, at_most: 3, waits: true };
    let inner = window(Emit::Updates, Caching::On, 32, 8, 0);
    let outer = window(Emit::Finals, Caching::Off, 1, 8, 13);
    let ops = vec![Op::WindowsOfWindows(inner, outer), Op::Calls(calls)];
    check(3, ops, &[("in", 2, 2, 12), ("in", 2, 8, 49), ("other", 5, 2, 2), ("in", 2, -5, 102)]);
}

/// The same below a repartition.
#[test]
fn what_a_commit_takes_to_calls_below_a_repartition_is_bounded_by_them() {
    let calls = Calls { maker: Maker::Map, fails: 6, at_most: 2, waits: true };
    let ops = vec![
        Op::Unlimited(41, Caching::On),
        Op::Regroup(3, Form::Picky, Form::Picky),
        Op::Calls(calls),
    ];
    let records = [("table", 3, 5, 51), ("global", 1, 7, 51), ("in", 2, -3, 103), ("in", 3, 8, 41)];
    check(1, ops, &records);
}

/// Of which record a letter tells whose row was made before it.
#[test]
fn a_letter_of_a_row_that_waited_tells_the_same_record() {
    let windows = window(Emit::Finals, Caching::Off, 36, 2, 0);
    let sliding = window(Emit::Updates, Caching::Off, 17, 4, 0);
    let join = AsOf { kind: AsOfKind::Left, grace: Some(15), history: 34 };
    let ops = vec![
        Op::Windows(Fold::Count, windows, View::Mapped),
        Op::Sliding(6, Fold::Reduce, sliding, View::Chained),
        Op::AsOf(join),
        Op::Regroup(2, Form::Plain, Form::Picky),
    ];
    check(1, ops, &[("in", 5, -5, 86), ("in", 4, 7, 54), ("table", 2, -6, 102)]);
}

/// A row that the grace is over for as it comes waits for no other.
#[test]
fn a_row_that_is_due_as_it_comes_is_joined_then() {
    let join = AsOf { kind: AsOfKind::Inner, grace: Some(2), history: 56 };
    let ops = vec![Op::Stateless(Stateless::DropNullKeys(3)), Op::AsOf(join)];
    check(1, ops, &[("in", 5, 1, 99), ("in", 0, 0, 107), ("in", 3, 8, 105)]);
}

/// A row that was held back tells no place in the run that has it come out.
#[test]
fn a_row_that_was_held_is_judged_by_the_time_of_others_as_it_comes_out() {
    let hold = Hold { limit: 55, records_max: Some(3) };
    let near = Near { before: 19, after: 13, grace: 5 };
    let ops = vec![
        Op::Sessions(6, Fold::Count, window(Emit::Updates, Caching::Off, 29, 8, 32), View::Stored),
        Op::Held(Held::Fold(hold, Caching::Off, View::Stored)),
        Op::JoinStream(Joined { kind: JoinKind::Outer, with: Beside::Other, near }),
    ];
    check(1, ops, &[("in", 0, 4, 73), ("in", 1, 0, 59), ("in", 2, -8, 106), ("in", 2, 2, 113)]);
}

/// A row brings its operator time, and what that makes due comes before it, wherever the batch was cut.
#[test]
fn a_timer_fires_before_the_row_whose_time_makes_it_due() {
    let counts = |grace, emit, kept| Window { emit, caching: Caching::On, grace, hop: 8, kept };
    let record = |key, at| Input { to: "in", key: Some(key), value: Some(1), at };
    let records = vec![record(3, 27), record(4, 71), record(1, 115), record(0, 118)];
    let case = Case {
        ops: vec![
            Op::Windows(Fold::Count, counts(33, Emit::Updates, 0), View::Stored),
            Op::WindowsOfWindows(counts(32, Emit::Finals, 10), counts(33, Emit::Finals, 30)),
            Op::ProcessValues(Deed::Remind(45)),
        ],
        partitions: 1,
        groups: vec![Group { records, kill: None, clock: 0, end: false }],
    };
    same_at_every_size(&case).expect("batching shows in no result");
}

/// Windows forward a chunk of what they have left, and where paths meet below them each row is judged by the time of the
/// one before, as if it had come alone.
#[test]
fn rows_of_a_chunk_meet_others_one_by_one() {
    let window = |grace, emit, caching, kept| Window { emit, caching, grace, hop: 8, kept };
    let record = |key, at| Input { to: "in", key: Some(key), value: Some(0), at };
    let case = Case {
        ops: vec![
            Op::WindowsOfWindows(
                window(11, Emit::Updates, Caching::On, 0),
                window(31, Emit::Finals, Caching::On, 0),
            ),
            Op::ProcessValues(Deed::StreamTime),
            Op::Stateless(Stateless::Split),
            Op::Windows(Fold::Count, window(4, Emit::Updates, Caching::Off, 21), View::Stored),
        ],
        partitions: 1,
        groups: vec![Group {
            records: vec![record(3, 83), record(2, 114)],
            kill: None,
            clock: 0,
            end: false,
        }],
    };
    same_at_every_size(&case).expect("batching shows in no result");
}

/// What a user's processor below sees of time does not tell when a window's updates were forwarded.
#[test]
fn a_processor_asks_for_the_time_at_which_updates_of_closed_windows_come() {
    let ops = vec![
        Op::Windows(Fold::Count, window(Emit::Updates, Caching::On, 22, 8, 37), View::Chained),
        Op::ProcessValues(Deed::StreamTime),
    ];
    check(3, ops, &[("in", 5, -2, 70), ("in", 5, 3, 112), ("in", 5, -5, 119)]);
}

/// What a join cancels again is written once, whether or not the state has been read up to there.
#[test]
fn a_row_that_is_joined_twice_is_no_longer_due_once() {
    let record = |to, key, value, at| Input { to, key: Some(key), value: Some(value), at };
    let group = |records| Group { records, kill: None, clock: 0, end: false };
    let near = Near { before: 4, after: 28, grace: 16 };
    let joined = Joined { kind: JoinKind::Outer, with: Beside::Other, near };
    let case = Case {
        ops: vec![Op::JoinStream(joined)],
        partitions: 3,
        groups: vec![
            group(vec![record("in", 2, 4, 102), record("in", 5, -6, 80)]),
            group(vec![record("in", 5, -6, 111), record("other", 2, -4, 104)]),
            group(vec![record("other", 5, 7, 100), record("other", 2, -2, 102)]),
        ],
    };
    same_at_every_size(&case).expect("batching shows in no result");
}

/// A call that fails brings its record's time to what lies below, before that of the next.
#[test]
fn time_passes_with_each_call_that_fails() {
    let calls = Calls { maker: Maker::Map, fails: 3, at_most: 3, waits: true };
    let ops = vec![Op::Calls(calls), Op::ProcessValues(Deed::Tell(44))];
    check(3, ops, &[("in", 5, 3, 28), ("in", 5, -3, 104)]);
}

/// What a sink below calls writes to a topic that another one chooses too comes after that in a commit.
#[test]
fn sinks_above_and_below_calls_choose_one_topic() {
    let calls = Calls { maker: Maker::Process, fails: 7, at_most: 3, waits: true };
    let sink = || Op::Stateless(Stateless::Dynamic(4));
    let ops = vec![sink(), Op::Calls(calls), sink()];
    check(1, ops, &[("in", 5, 2, 29), ("in", 4, -9, 97)]);
}

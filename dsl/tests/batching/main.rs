//! Batching never changes a result: random topologies over random records give the same outputs, stores and dead
//! letters, byte for byte, whether a batch has 1, 2, 7 or 8,192 rows. Commit points are pinned: a commit follows each
//! group of records.
//!
//! A case that fails is printed as Rust text, to be pasted into a test that hands it to `same_at_every_size`.

#![expect(clippy::indexing_slicing, reason = "what fails here fails its test")]

mod calls;
mod cogroup;
mod drawing;
mod folds;
mod foreign_keys;
mod forms;
mod held;
mod joins;
mod kinds;
mod known;
mod late;
mod ops;
mod processors;
mod run;
mod stateless;
mod tables;
mod windows;

use drawing::Drawing;
use folds::{Caching, Emit, Fold, Window, caching};
use headwater_dsl::OperatorKind;
use kinds::{any_op, op};
use ops::{Op, View};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use run::{Case, Dump, Group, Input, Kill, contents, difference, rebuilt, run, run_in_steps};
use stateless::Stateless;
use std::collections::BTreeMap;

const SIZES: [usize; 4] = [1, 2, 7, 8_192];

fn config() -> ProptestConfig {
    ProptestConfig {
        // More with `PROPTEST_CASES`, and others with `PROPTEST_RNG_SEED`.
        cases: ProptestConfig::default().cases.max(1_000),
        max_shrink_iters: 4_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn input() -> impl Strategy<Value = Input> {
    let to =
        prop_oneof![8 => Just("in"), 1 => Just("other"), 2 => Just("table"), 1 => Just("global")];
    let key = prop::option::weighted(0.97, 0..6_u8);
    let value = prop::option::weighted(0.93, -9..9_i64);
    (to, key, value, 0..120_i64).prop_map(|(to, key, value, at)| Input { to, key, value, at })
}

fn group() -> impl Strategy<Value = Group> {
    let records = prop::collection::vec(input().no_shrink(), 1..30);
    // Of a group of 30 records, one a batch, a task takes up to 30 steps.
    let steps = prop_oneof![0..6_u8, 0..64_u8];
    let kill =
        (steps, any::<bool>()).prop_map(|(steps, state_is_lost)| Kill { steps, state_is_lost });
    let clock = prop_oneof![2 => Just(0), 1 => 1..4_u64];
    let end = prop::bool::weighted(0.15);
    (records, prop::option::of(kill), clock, end).prop_map(|(records, kill, clock, end)| Group {
        records,
        kill,
        clock,
        end,
    })
}

/// Whether the application is killed now and then.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kills {
    None,
    Some,
}

/// How many operators make a row of each pair of rows: a few of them one below the other make millions of a hundred.
fn pairs(ops: &[Op]) -> usize {
    ops.iter().filter(|op| matches!(op, Op::JoinStream(_) | Op::SelfJoin(_))).count()
}

/// Any topology, over any records.
fn case(partitions: u32, kills: Kills) -> impl Strategy<Value = Case> {
    (prop::collection::vec(any_op().no_shrink(), 0..6), prop::collection::vec(group(), 1..4))
        .prop_map(move |(ops, groups)| {
            let case = Case { ops, partitions, groups };
            let case = if kills == Kills::None { case.unharmed() } else { case };
            case.pruned(|case| Drawing::of(&case.ops).is_a_line() && pairs(&case.ops) <= 1)
        })
}

/// The same without repartitions.
fn case_of_one_sub_topology(partitions: u32, kills: Kills) -> impl Strategy<Value = Case> {
    let single = |case: &Case| Drawing::of(&case.ops).repartitions() == 0;
    case(partitions, kills).prop_map(move |case| case.pruned(single))
}

/// Counts in windows, repartitioned once or twice and forwarded when they close, and at times counted by key below that,
/// over partitions in order of time each: which of two tasks sends first to a third is nobody's promise, and does not show
/// in finals and in the last count of each key.
fn case_of_finals(partitions: u32, kills: Kills) -> impl Strategy<Value = Case> {
    let above = prop_oneof![
        (2..5_i64).prop_map(Stateless::Filter),
        Just(Stateless::MapValues),
        Just(Stateless::FlatMapValues),
        Just(Stateless::Split),
        Just(Stateless::Peek),
    ];
    let above = prop::collection::vec(above.prop_map(Op::Stateless).no_shrink(), 0..3);
    let hop = prop_oneof![Just(8), 1..8_u64];
    let kind = prop_oneof![3 => Just(0), 1 => Just(1), 1 => Just(2)];
    let below = prop::collection::vec((1..4_i64, 0..40_u64, hop, (kind, 1..30_u64)), 1..3);
    let last = prop::option::of((1..4_i64, caching()));
    let bound = prop::option::of((10..90_u64).prop_map(Op::MaxAhead));
    (bound, above, below, last, prop::collection::vec(group(), 1..4)).prop_map(
        move |(bound, mut ops, below, last, mut groups)| {
            ops.extend(bound);
            for (place, group) in (0..).zip(&mut groups) {
                group.records.sort_by_key(|record| record.at);
                group.records.iter_mut().for_each(|record| record.at += 120 * place);
            }
            if below.iter().any(|(.., (kind, _))| *kind != 0)
                && let Some((_, before)) = groups.split_last_mut()
            {
                // Whether a record too late to stand alone joins a session, and what a sliding window is made of that it is
                // in time for, depends on what came before it: nothing may be late.
                before.iter_mut().for_each(|group| group.end = false);
            }
            for (n, grace, hop, (kind, by)) in below {
                // A task whose input has ended goes on after others do: they may be ahead by a whole group.
                let grace = if groups.len() > 1 { 120 } else { grace };
                let window =
                    Window { emit: Emit::Finals, caching: Caching::Off, grace, hop, kept: 0 };
                ops.push(Op::Stateless(Stateless::SelectKey(n)));
                ops.push(match kind {
                    0 => Op::Windows(Fold::Count, window, View::Stored),
                    1 => Op::Sessions(by, Fold::Count, window, View::Stored),
                    _ => Op::Sliding(by, Fold::Count, window, View::Stored),
                });
            }
            if let Some((n, caching)) = last {
                let count = Op::Fold(Fold::Count, caching, View::Stored);
                ops.extend([Op::Stateless(Stateless::SelectKey(n)), count]);
            }
            let case = Case { ops, partitions, groups };
            if kills == Kills::None { case.unharmed() } else { case }
        },
    )
}

/// What a case of finals leaves in the topics of its user, sorted; where it ends with counts by key, the last of each.
///
/// A final has the headers of its window's last record, and which of several that is nobody promises where several tasks send them:
/// in `out`, headers are compared of finals of one record, if these come from the pipeline's own topic.
fn left_by(case: &Case, mut dump: Dump) -> BTreeMap<String, Vec<String>> {
    let counts_by_key = matches!(case.ops.last(), Some(Op::Fold(..)));
    if counts_by_key {
        for (_, rows) in dump.iter_mut().filter(|(name, _)| name.starts_with("out-")) {
            *rows = rebuilt(std::mem::take(rows));
        }
    }
    let is_window = |op: &&Op| matches!(op, Op::Windows(..) | Op::Sessions(..) | Op::Sliding(..));
    let windows: Vec<_> = case.ops.iter().filter(is_window).collect();
    let of_records = windows.len() == 1 && !counts_by_key;
    contents(dump, |name, row| !name.starts_with("out-") || (of_records && row.is_count_of_one()))
}

fn same_at_every_size(case: &Case) -> Result<(), TestCaseError> {
    let expected = run(case, SIZES[0]);
    for rows_max in &SIZES[1..] {
        if let Some(difference) = difference(&expected, &run(case, *rows_max)) {
            let text = format!("1 and {rows_max} rows a batch: {difference}");
            return Err(TestCaseError::fail(text));
        }
    }
    Ok(())
}

/// A case in which no clock moves while records are held: how long they were, a restart does not know.
fn without_waits(case: Case) -> Case {
    let mut case = case;
    if case.ops.iter().any(|op| op.max_ahead().is_some()) {
        case.groups.iter_mut().for_each(|group| group.clock = 0);
    }
    case
}

fn same_if_killed(case: &Case, rows_max: usize) -> Result<(), TestCaseError> {
    // What a task knows of the time of others, and whether it has told its own, is nobody's result.
    let results = |mut dump: Dump| {
        dump.retain(|name, _| !name.contains("-positions-"));
        for (_, rows) in dump.iter_mut().filter(|(name, _)| name.contains("-changelog-")) {
            *rows = rebuilt(std::mem::take(rows));
        }
        dump
    };
    let (expected, seen) = (run(&case.unharmed(), rows_max), run(case, rows_max));
    let difference = difference(&results(expected), &results(seen));
    difference.map_or(Ok(()), |difference| {
        Err(TestCaseError::fail(format!("without kills and with them: {difference}")))
    })
}

#[test]
fn each_kind_of_operator_is_drawn() {
    let mut runner = TestRunner::deterministic();
    for kind in OperatorKind::ALL {
        let op = op(*kind).new_tree(&mut runner).expect("it can be made").current();
        let drawn = Drawing::of(std::slice::from_ref(&op)).builder.operators();
        assert!(drawn.contains(kind), "{op:?} draws no {kind:?}: {drawn:?}");
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_topology_over_one_partition(case in case(1, Kills::None)) {
        same_at_every_size(&case)?;
    }

    /// Which of two tasks sends first to a third is nobody's promise, so what repartitions is left out here.
    #[test]
    fn any_topology_without_a_repartition_over_three(case in case_of_one_sub_topology(3, Kills::None)) {
        same_at_every_size(&case)?;
    }

    #[test]
    fn finals_below_repartitions_of_three(case in case_of_finals(3, Kills::None)) {
        let expected = left_by(&case, run(&case, SIZES[0]));
        for rows_max in &SIZES[1..] {
            prop_assert_eq!(&expected, &left_by(&case, run(&case, *rows_max)), "{} rows a batch", rows_max);
        }
    }

    /// Kills change none of them, with records on their way between sub-topologies at the commit or without.
    #[test]
    fn kills_change_no_finals_below_repartitions_of_three(
        case in case_of_finals(3, Kills::Some),
        rows_max in prop::sample::select(&SIZES[..]),
        steps in prop::collection::vec(1..24_u8, 1..4),
    ) {
        let case = without_waits(case);
        let in_steps = |case: &Case| left_by(case, run_in_steps(case, &steps));
        prop_assert_eq!(in_steps(&case.unharmed()), in_steps(&case), "in steps");
        let expected = left_by(&case, run(&case.unharmed(), rows_max));
        prop_assert_eq!(&expected, &left_by(&case, run(&case, rows_max)));
    }

    /// Kills lose nothing and repeat nothing, also with the state gone.
    #[test]
    fn kills_change_nothing_over_one_partition(case in case(1, Kills::Some), rows_max in prop::sample::select(&SIZES[..])) {
        same_if_killed(&without_waits(case), rows_max)?;
    }

    #[test]
    fn kills_change_nothing_over_three(case in case_of_one_sub_topology(3, Kills::Some), rows_max in prop::sample::select(&SIZES[..])) {
        same_if_killed(&without_waits(case), rows_max)?;
    }

    /// Nor do they with records on their way between sub-topologies at the commit. Which updates a cache folds together
    /// then depends on the kill, and so does what a task takes first if it reads other topics too.
    #[test]
    fn kills_lose_nothing_that_is_on_its_way(case in case(1, Kills::Some), steps in prop::collection::vec(0..24_u8, 1..4)) {
        let case = case.pruned(|case| !case.ops.iter().any(|op| op.caches() || op.reads_another_topic()));
        let all_in_steps = |case: &Case| contents(run_in_steps(case, &steps), |_, _| true);
        prop_assert_eq!(all_in_steps(&case.unharmed()), all_in_steps(&case));
    }
}

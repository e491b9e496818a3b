//! Windows that pipelines are cut into, of each kind.

#![expect(clippy::wildcard_enum_match_arm, reason = "the other kinds of nodes have no windows")]

use crate::{
    cogroup::{session_cogroup, sliding_cogroup, windowed_cogroup},
    folds::{
        Fold, Window, caching, ending, ending_picked, grouped_for, in_windows, or_gone, picked,
        reduced, window,
    },
    forms::Picked,
    ops::{Op, view},
};
use headwater_dsl::{KStream, KTable, Materialized, OperatorKind, SessionWindows, SlidingWindows};
use headwater_engine::store::Windowed;
use proptest::prelude::*;
use std::time::Duration;

/// The operators that draw a node of this kind, which has windows.
pub(crate) fn op(kind: OperatorKind) -> BoxedStrategy<Op> {
    let windows =
        |fold| (window(), view()).prop_map(move |(window, view)| Op::Windows(fold, window, view));
    let in_sessions = |fold| {
        (1..30_u64, window(), view())
            .prop_map(move |(gap, window, view)| Op::Sessions(gap, fold, window, view))
    };
    let in_sliding = |fold| {
        (0..30_u64, window(), view())
            .prop_map(move |(by, window, view)| Op::Sliding(by, fold, window, view))
    };
    match kind {
        OperatorKind::WindowedCount => windows(Fold::Count).boxed(),
        OperatorKind::WindowedReduce => prop_oneof![
            windows(Fold::Reduce),
            (window(), window()).prop_map(|(inner, outer)| Op::WindowsOfWindows(inner, outer)),
            (0..100_i64, caching()).prop_map(|(start, caching)| Op::Unlimited(start, caching)),
        ]
        .boxed(),
        OperatorKind::WindowedAggregate => {
            prop_oneof![windows(Fold::Aggregate), windows(Fold::Top), windows(Fold::Picky)].boxed()
        }
        OperatorKind::WindowedCogroup => windowed_cogroup().prop_map(Op::Cogroup).boxed(),
        OperatorKind::SlidingCount => in_sliding(Fold::Count).boxed(),
        OperatorKind::SlidingReduce => in_sliding(Fold::Reduce).boxed(),
        OperatorKind::SlidingAggregate => {
            prop_oneof![in_sliding(Fold::Aggregate), in_sliding(Fold::Top), in_sliding(Fold::Picky)]
                .boxed()
        }
        OperatorKind::SlidingCogroup => sliding_cogroup().prop_map(Op::Cogroup).boxed(),
        OperatorKind::SessionCount => in_sessions(Fold::Count).boxed(),
        OperatorKind::SessionReduce => in_sessions(Fold::Reduce).boxed(),
        OperatorKind::SessionAggregate => {
            prop_oneof![in_sessions(Fold::Aggregate), in_sessions(Fold::Picky)].boxed()
        }
        OperatorKind::SessionCogroup => session_cogroup().prop_map(Op::Cogroup).boxed(),
        _ => unreachable!("{kind:?} has no windows"),
    }
}

/// What becomes of a pipeline in sessions with a gap of `gap` ms.
pub(crate) fn sessions(
    stream: &KStream<String, i64>,
    gap: u64,
    fold: Fold,
    window: Window,
    kept: Materialized,
) -> KTable<Windowed<String>, i64> {
    let ms = Duration::from_millis;
    let sessions = SessionWindows::of_inactivity_gap_and_grace(ms(gap), ms(window.grace));
    let sessions = grouped_for(stream, fold).windowed_by(sessions);
    let sessions = sessions.emit_strategy(window.strategy());
    let merge = |_: &String, so_far, session| reduced(so_far, session);
    let merge_picked =
        |_: &String, so_far: Picked, session: Picked| Picked(reduced(so_far.0, session.0));
    match fold {
        Fold::Count => sessions.count(kept),
        Fold::Reduce => sessions.reduce(reduced, kept),
        Fold::Aggregate | Fold::Top => sessions.aggregate_or_delete(|| 7, ending, merge, kept),
        Fold::Picky => sessions
            .aggregate_or_delete(|| Picked(7), ending_picked, merge_picked, kept)
            .map_values(picked),
    }
}

/// What becomes of a pipeline in sliding windows with a difference of `difference` ms.
pub(crate) fn sliding(
    stream: &KStream<String, i64>,
    difference: u64,
    fold: Fold,
    window: Window,
    kept: Materialized,
) -> KTable<Windowed<String>, i64> {
    let ms = Duration::from_millis;
    let windows = SlidingWindows::of_time_difference_and_grace(ms(difference), ms(window.grace));
    let windowed = grouped_for(stream, fold).windowed_by(windows);
    in_windows(&windowed.emit_strategy(window.strategy()), fold, kept)
}

/// The rows of such, their windows in their keys.
pub(crate) fn in_keys(table: &KTable<Windowed<String>, i64>) -> KStream<String, i64> {
    table.to_stream().map(|key, value| {
        let Windowed { key, window } = key;
        (format!("{key}@{}-{}", window.start, window.end), or_gone(value))
    })
}

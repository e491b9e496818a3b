//! Windows that pipelines are cut into, of each kind.

use crate::{
    folds::{
        Fold, Window, ending, ending_picked, grouped_for, in_windows, or_gone, picked, reduced,
    },
    forms::Picked,
};
use headwater_dsl::{KStream, KTable, Materialized, SessionWindows, SlidingWindows};
use headwater_engine::store::Windowed;
use std::time::Duration;

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

//! Aggregations that pipelines hold, with and without windows.

use crate::forms::{Form, Picked, in_forms};
use headwater_dsl::{
    DefaultSerde, EmitStrategy, KGroupedStream, KStream, KTable, Materialized, TimeWindowedKStream,
    TimeWindows,
};
use headwater_engine::store::Windowed;
use proptest::prelude::*;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caching {
    On,
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fold {
    Count,
    Reduce,
    /// Ends now and then.
    Aggregate,
    /// The two largest by a rank that some share.
    Top,
    /// Ends now and then; a store refuses some of its keys and values, and does not give the other keys back equal.
    Picky,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) emit: Emit,
    pub(crate) caching: Caching,
    pub(crate) grace: u64,
    /// The part of its size by which it advances, of eight.
    pub(crate) hop: u64,
    /// How much longer it is kept than it is open.
    pub(crate) kept: u64,
}

impl Window {
    pub(crate) fn windows(self, size: u64) -> TimeWindows {
        let ms = Duration::from_millis;
        TimeWindows::of_size_and_grace(ms(size), ms(self.grace)).advance_by(ms(size * self.hop / 8))
    }

    pub(crate) fn strategy(self) -> EmitStrategy {
        match self.emit {
            Emit::Updates => EmitStrategy::on_window_update(),
            Emit::Finals => EmitStrategy::on_window_close(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Emit {
    Updates,
    Finals,
}

pub(crate) fn caching() -> impl Strategy<Value = Caching> {
    prop_oneof![Just(Caching::On), Just(Caching::Off)]
}

pub(crate) fn window() -> impl Strategy<Value = Window> {
    let emit = prop_oneof![Just(Emit::Updates), Just(Emit::Finals)];
    let hop = prop_oneof![Just(8), 1..8_u64];
    let kept = prop_oneof![Just(0), 1..80_u64];
    (emit, caching(), 0..40_u64, hop, kept).prop_map(|(emit, caching, grace, hop, kept)| Window {
        emit,
        caching,
        grace,
        hop,
        kept,
    })
}

pub(crate) fn cached(named: Materialized, caching: Caching) -> Materialized {
    match caching {
        Caching::On => named,
        Caching::Off => named.with_caching_disabled(),
    }
}

/// How far back versions are kept, in ms, if they are.
pub(crate) fn history() -> impl Strategy<Value = Option<u64>> {
    prop::option::of(0..60_u64)
}

pub(crate) fn with_history(named: Materialized, history: Option<u64>) -> Materialized {
    match history {
        Some(history) => named.versioned(Duration::from_millis(history)),
        None => named,
    }
}

pub(crate) fn for_longer(named: Materialized, window: Window, size: u64) -> Materialized {
    named.with_retention(Duration::from_millis(size + window.grace + window.kept))
}

/// Grouped by key, which some folds have the store write in another form.
pub(crate) fn grouped_for(
    stream: &KStream<String, i64>,
    fold: Fold,
) -> KGroupedStream<String, i64> {
    stream.group_by_key_with(in_forms(picky_if(fold), Form::Plain))
}

pub(crate) fn picky_if(fold: Fold) -> Form {
    if fold == Fold::Picky { Form::Picky } else { Form::Plain }
}

pub(crate) fn folded(
    grouped: &KGroupedStream<String, i64>,
    fold: Fold,
    kept: Materialized,
) -> KTable<String, i64> {
    match fold {
        Fold::Count => grouped.count(kept),
        Fold::Reduce => grouped.reduce(reduced, kept),
        Fold::Aggregate => grouped.aggregate_or_delete(|| 7, ending, kept),
        Fold::Top => grouped.top_n(2, |value| value % 5, kept).map_values(in_order),
        Fold::Picky => {
            grouped.aggregate_or_delete(|| Picked(7), ending_picked, kept).map_values(picked)
        }
    }
}

pub(crate) fn windowed<K: DefaultSerde>(
    grouped: &KGroupedStream<K, i64>,
    window: Window,
    size: u64,
) -> TimeWindowedKStream<K, i64> {
    grouped.windowed_by(window.windows(size)).emit_strategy(window.strategy())
}

pub(crate) fn in_windows(
    grouped: &TimeWindowedKStream<String, i64>,
    fold: Fold,
    kept: Materialized,
) -> KTable<Windowed<String>, i64> {
    match fold {
        Fold::Count => grouped.count(kept),
        Fold::Reduce => grouped.reduce(reduced, kept),
        Fold::Aggregate => grouped.aggregate_or_delete(|| 7, ending, kept),
        Fold::Top => grouped.top_n(2, |value| value % 5, kept).map_values(in_order),
        Fold::Picky => {
            grouped.aggregate_or_delete(|| Picked(7), ending_picked, kept).map_values(picked)
        }
    }
}

/// Tells one order of its values from another.
pub(crate) fn reduced(so_far: i64, value: i64) -> i64 {
    so_far.wrapping_mul(31).wrapping_add(value)
}

pub(crate) fn ending<K>(_: &K, value: i64, so_far: i64) -> Option<i64> {
    (value.rem_euclid(4) != 3).then(|| reduced(so_far, value))
}

pub(crate) fn ending_picked<K>(key: &K, value: i64, so_far: Picked) -> Option<Picked> {
    ending(key, value, so_far.0).map(Picked)
}

fn in_order(values: Vec<i64>) -> i64 {
    values.into_iter().fold(0, reduced)
}

pub(crate) fn picked(value: Picked) -> i64 {
    value.0
}

pub(crate) fn or_gone(value: Option<i64>) -> i64 {
    value.unwrap_or(-77)
}

//! Joins of two streams, as pipelines draw them.

use crate::folds::{or_gone, reduced};
use headwater_dsl::{JoinWindows, Joined as Told, KStream, KTable};
use proptest::prelude::*;
use std::{ops::Range, time::Duration};

/// How the records of two streams are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) kind: JoinKind,
    pub(crate) with: Beside,
    pub(crate) near: Near,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JoinKind {
    Inner,
    Left,
    Outer,
}

/// What the records of the pipeline are joined with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    /// A second topic.
    Other,
    /// Some of themselves, twice.
    Copy,
}

/// How far apart they may be, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Near {
    pub(crate) before: i64,
    pub(crate) after: i64,
    pub(crate) grace: u64,
}

impl Near {
    pub(crate) fn windows(self) -> JoinWindows {
        let ms = Duration::from_millis;
        let windows = JoinWindows::of_time_difference_and_grace(ms(0), ms(self.grace));
        windows.before(self.before).after(self.after)
    }
}

pub(crate) fn near() -> impl Strategy<Value = Near> {
    (-8..30_i64, 0..40_i64, 0..20_u64).prop_map(|(before, span, grace)| Near {
        before,
        after: span - before,
        grace,
    })
}

pub(crate) fn join_of(kind: JoinKind) -> impl Strategy<Value = Joined> {
    let with = prop_oneof![Just(Beside::Other), Just(Beside::Copy)];
    (with, near()).prop_map(move |(with, near)| Joined { kind, with, near })
}

impl Joined {
    pub(crate) fn reads_another_topic(self) -> bool {
        self.with == Beside::Other
    }

    /// The join of `left`, maybe with `other`.
    pub(crate) fn of(
        self,
        left: &KStream<String, i64>,
        other: impl FnOnce() -> KStream<String, i64>,
    ) -> KStream<String, i64> {
        let right = match self.with {
            Beside::Other => other(),
            Beside::Copy => {
                left.filter(|_, value| value % 3 != 0).flat_map_values(|value| [value, -value])
            }
        };
        let right = right.within(self.near.windows());
        match self.kind {
            JoinKind::Inner => left.join(right, reduced),
            JoinKind::Left => left.left_join(right, |left, right| reduced(left, or_gone(right))),
            JoinKind::Outer => {
                left.outer_join(right, |left, right| reduced(or_gone(left), or_gone(right)))
            }
        }
    }
}

/// The records of the pipeline joined with what was valid in a table at their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AsOf {
    pub(crate) kind: AsOfKind,
    /// For how long records wait, in ms, if they do.
    pub(crate) grace: Option<u64>,
    /// How far back versions are kept, in ms.
    pub(crate) history: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AsOfKind {
    Inner,
    Left,
}

/// After a grace of so many ms.
pub(crate) fn as_of(kind: AsOfKind, grace: Range<u64>) -> impl Strategy<Value = AsOf> {
    (grace, 0..60_u64).prop_map(move |(grace, history)| AsOf { kind, grace: Some(grace), history })
}

pub(crate) fn as_of_at_once() -> impl Strategy<Value = AsOf> {
    let kind = prop_oneof![Just(AsOfKind::Inner), Just(AsOfKind::Left)];
    (kind, 0..60_u64).prop_map(|(kind, history)| AsOf { kind, grace: None, history })
}

impl AsOf {
    pub(crate) fn of(
        self,
        stream: &KStream<String, i64>,
        table: &KTable<String, i64>,
    ) -> KStream<String, i64> {
        let told = |ms| table.joined(Told::with_grace_period(Duration::from_millis(ms)));
        let inner = |value: i64, row: i64| reduced(value, row);
        let left = |value: i64, row: Option<i64>| reduced(value, or_gone(row));
        match (self.kind, self.grace) {
            (AsOfKind::Inner, Some(grace)) => stream.join(told(grace), inner),
            (AsOfKind::Left, Some(grace)) => stream.left_join(told(grace), left),
            (AsOfKind::Inner, None) => stream.join(table, inner),
            (AsOfKind::Left, None) => stream.left_join(table, left),
        }
    }
}

//! Joins of two streams, as pipelines draw them.

use crate::folds::{or_gone, reduced};
use headwater_dsl::{JoinWindows, KStream};
use proptest::prelude::*;
use std::time::Duration;

/// How the records of two streams are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Joined {
    kind: JoinKind,
    with: Beside,
    near: Near,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JoinKind {
    Inner,
    Left,
    Outer,
}

/// What the records of the pipeline are joined with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    /// A second topic.
    Other,
    /// Some of themselves, twice.
    Copy,
}

/// How far apart they may be, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Near {
    before: i64,
    after: i64,
    grace: u64,
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

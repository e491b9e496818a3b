//! What is left out because it is known to fail.

use crate::{
    ops::{Drawing, Op},
    run::Case,
};

/// What a case can have in it.
#[derive(Debug, Clone, Copy)]
enum Axis {
    /// The end of input, more of it, and windows below windows with a repartition between.
    EndsAboveWindowsOfWindows,
    /// Windows below windows with a repartition between, several partitions, and pauses.
    PausesAboveWindowsOfWindows,
    /// A kill, and a task that reads a repartition topic and another.
    KillBesideARepartition,
}

/// What no case has in it today, each with the defect that makes it fail. Whoever mends the defect removes its lines.
const RED: &[(&str, Axis)] = &[
    (
        "16: a task that was told of an end and has taken no record since is not told of the next",
        Axis::EndsAboveWindowsOfWindows,
    ),
    (
        "new: with all writers idle time is the largest sent, also if one of them still holds windows open",
        Axis::PausesAboveWindowsOfWindows,
    ),
    (
        "new: a source that has given no record has no time, and after a restart the task's",
        Axis::KillBesideARepartition,
    ),
];

impl Axis {
    fn is_in(self, case: &Case) -> bool {
        let ops = &case.ops;
        match self {
            Self::EndsAboveWindowsOfWindows => {
                case.groups.iter().any(|group| group.end)
                    && ops.iter().any(Op::makes_rows)
                    && Drawing::of(ops).repartitions() > 0
            }
            Self::PausesAboveWindowsOfWindows => {
                let windows = ops.iter().filter(|op| matches!(op, Op::Windows(..)));
                case.partitions > 1 && case.groups.len() > 1 && windows.count() > 1
            }
            Self::KillBesideARepartition => {
                case.groups.iter().any(|group| group.kill.is_some())
                    && ops.iter().any(Op::reads_another_topic)
                    && Drawing::of(ops).repartitions() > 0
            }
        }
    }
}

/// Whether a case has in it what is known to fail.
pub(crate) fn is_red(case: &Case) -> bool {
    RED.iter().any(|(_, axis)| axis.is_in(case))
}

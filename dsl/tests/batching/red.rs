//! What is left out because it is known to fail.

use crate::{
    ops::{Drawing, Op},
    processors::Deed,
    run::Case,
};

/// What a case can have in it.
#[derive(Debug, Clone, Copy)]
enum Axis {
    /// A processor that writes stream time, for records which an operator above it has made.
    StreamTimeOfMadeRows,
    /// A punctuation on stream time, for records which windows below a repartition have made.
    PunctuationBelowWindows,
    /// The end of input, more of it, and windows below windows with a repartition between.
    EndsAboveWindowsOfWindows,
    /// Windows below windows with a repartition between, several partitions, and pauses.
    PausesAboveWindowsOfWindows,
}

/// What no case has in it today, each with the defect that makes it fail. Whoever mends the defect removes its lines.
const RED: &[(&str, Axis)] = &[
    (
        "5: `Context::stream_time()` is that of the run at records which an operator has made",
        Axis::StreamTimeOfMadeRows,
    ),
    (
        "new: a punctuation is fired only after the time marks which follow the record that makes it due",
        Axis::PunctuationBelowWindows,
    ),
    (
        "16: a task that was told of an end and has taken no record since is not told of the next",
        Axis::EndsAboveWindowsOfWindows,
    ),
    (
        "new: with all writers idle time is the largest sent, also if one of them still holds windows open",
        Axis::PausesAboveWindowsOfWindows,
    ),
];

impl Axis {
    fn is_in(self, case: &Case) -> bool {
        let ops = &case.ops;
        let below_made = |deed: fn(&Deed) -> bool| {
            let below = ops.iter().skip_while(|op| !op.makes_rows());
            below.filter_map(Op::deed).any(deed)
        };
        match self {
            Self::StreamTimeOfMadeRows => below_made(|deed| *deed == Deed::StreamTime),
            Self::PunctuationBelowWindows => {
                below_made(|deed| matches!(deed, Deed::Tell(_)))
                    && Drawing::of(ops).repartitions() > 0
            }
            Self::EndsAboveWindowsOfWindows => {
                case.groups.iter().any(|group| group.end)
                    && ops.iter().any(Op::makes_rows)
                    && Drawing::of(ops).repartitions() > 0
            }
            Self::PausesAboveWindowsOfWindows => {
                let windows = ops.iter().filter(|op| matches!(op, Op::Windows(..)));
                case.partitions > 1 && case.groups.len() > 1 && windows.count() > 1
            }
        }
    }
}

/// Whether a case has in it what is known to fail.
pub(crate) fn is_red(case: &Case) -> bool {
    RED.iter().any(|(_, axis)| axis.is_in(case))
}

//! How much of its input a task takes at a time, so that it never shows in a result.
//!
//! | rows go one a step | because |
//! |---|---|
//! | where parents differ in time that share an input | a row of one is judged by the times of the others, which move with it |
//! | where parents differ in time below a node that may answer `More`, also one a chunk | so is a row that it has left, which tells no place in the run |
//! | where a user's processor has timers below another one, one a chunk | more than fire at a time fire before the next row |
//! | where time comes with rows, above a stretch that runs record by record | what time makes a node forward is ordered with the rows of others |
//! | where a user's processor lies beside such a stretch or another source | so is what it scheduled |
//! | where a user's processor has timers and time comes with rows | they fire between rows, as time moves |
//! | where a node that may answer `More` lies below such a stretch | what it has left must be out before the next row |
//! | where a user's processor lies below a node that may answer `More` | it asks for the time at which its rows were made |
//! | likewise below calls, also one a chunk | what it scheduled fires between rows, as their time moves |

use super::graph::{Action, NodeSlot};
use crate::{by_index::ByIndex, node::NodeIndex};

/// How many rows a node forwards at a time of what it has left.
pub(super) const CHUNK_ROWS_MAX: usize = 1_024;

/// How much of its input a task takes at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stepping {
    /// Rows go one a step.
    pub(super) single_rows: bool,
    /// Rows that bring time do.
    pub(super) single_carried_rows: bool,
    /// The most rows of a chunk.
    pub(super) chunk_rows_max: usize,
    /// Whether a node that may answer `More` lies below a stretch that runs record by record: what it has left of one row comes
    /// before the next.
    pub(super) more_below_stepwise: bool,
}

/// What lies above a node.
#[derive(Debug, Clone, Copy, Default)]
struct Above {
    /// A stretch that runs record by record.
    is_stepwise: bool,
    /// A node that may answer `More`.
    has_more: bool,
    /// A user's processor that has timers.
    has_timers: bool,
}

impl Stepping {
    pub(super) fn of(slots: &ByIndex<NodeIndex, NodeSlot>, rows_max: usize) -> Self {
        let any = |wanted: fn(&NodeSlot) -> bool| slots.values().any(wanted);
        let keeps_time = any(NodeSlot::keeps_time);
        let is_stepwise = any(|slot| slot.stepwise);
        let Below {
            more_below_stepwise,
            processor_below_more,
            meeting_below_more,
            timers_below_timers,
        } = below(slots);
        let sources = slots.values().filter(|slot| matches!(slot.action, Action::Source)).count();
        let single_rows = ((is_stepwise || sources > 1) && any(NodeSlot::is_processor))
            || (keeps_time && any(|slot| slot.caps_time && !slot.caps_by_row))
            || (keeps_time && meeting_below_more)
            || any(|slot| slot.is_time_carried && slot.has_timers())
            || more_below_stepwise
            || processor_below_more;
        let single_chunks = more_below_stepwise
            || timers_below_timers
            || (keeps_time && meeting_below_more)
            || any(NodeSlot::lives_by_rows);
        let chunk_rows_max = if single_chunks { 1 } else { rows_max.clamp(1, CHUNK_ROWS_MAX) };
        let single_carried_rows = is_stepwise;
        Self { single_rows, single_carried_rows, chunk_rows_max, more_below_stepwise }
    }
}

/// What lies below what.
#[derive(Debug, Clone, Copy, Default)]
struct Below {
    /// A node that may answer `More`, below a stretch that runs record by record.
    more_below_stepwise: bool,
    /// A user's processor, below a node that may answer `More`.
    processor_below_more: bool,
    /// A node whose parents may differ in time, likewise.
    meeting_below_more: bool,
    /// A user's processor that has timers, below another one.
    timers_below_timers: bool,
}

fn below(slots: &ByIndex<NodeIndex, NodeSlot>) -> Below {
    let mut above = ByIndex::filled(Above::default(), slots.len());
    let mut found = Below::default();
    // Parents come before children.
    for (node, slot) in slots.iter() {
        let Above { is_stepwise, has_more, has_timers } = above[node];
        let is_stepwise = is_stepwise || slot.stepwise;
        found.more_below_stepwise |= is_stepwise && slot.may_answer_more();
        found.processor_below_more |= has_more && slot.is_processor();
        found.meeting_below_more |= has_more && slot.caps_time;
        found.timers_below_timers |= (has_more || has_timers) && slot.has_timers();
        for edge in slot.children.iter().chain(&slot.ports) {
            let child = &mut above[edge.child];
            child.is_stepwise |= is_stepwise;
            child.has_more |= has_more || slot.may_answer_more();
            child.has_timers |= has_timers || slot.has_timers();
        }
    }
    found
}

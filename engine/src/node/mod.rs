//! What the engine's graph is made of: nodes, what happens to them, and the batches between them.
//!
//! A node takes a [`Payload`], whose type only the two ends of an edge know, and forwards others. The engine decides when:
//! it hands it rows, moves its operator time, and has it flush before a commit. Most users never see a node; they write a
//! [`Processor`](crate::processor::Processor) over typed rows. A second form of rows, such as columns, brings its own
//! payload, [decoders and encoders](crate::topology::Decoder), and nodes: often no more than a
//! [skin](crate::kernel::Skin) of the kernel's.
//!
//! # Invariants
//!
//! - What a node forwards reaches its children when the call returns.
//! - The same rows in batches of any size give the same results: a node that looks further than a row at a time must see
//!   to that itself.

mod context;
mod counting;
mod payload;

pub use context::NodeContext;
pub use payload::{NO_ORIGIN, Payload, Pending, RunLimit, Stamp};
pub(crate) use payload::{ages, lateness};

pub use context::HeldRecord;
pub(crate) use context::{
    Call, Forwarding, Moment, Now, Rejection, Resources, RunRecords, TIMESTAMP_ERROR,
    TIMESTAMP_SKIPPED,
};
pub(crate) use counting::{Measures, Started, Timing};

use crate::{
    by_index::TypedIndex,
    processor::{Cancellable, InitContext, ProcessorError},
};
use headwater_core::{metrics::Emission, record::Timestamp};
use std::fmt;

/// Which node of its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeIndex(usize);

impl TypedIndex for NodeIndex {
    const IS_THERE: &'static str = "a node's index is that of a node of its task";

    fn new(number: usize) -> Self {
        Self(number)
    }

    fn number(self) -> usize {
        self.0
    }
}

/// What a node forwarded in one call.
#[derive(Default)]
pub struct Forwarded {
    /// To its own children.
    pub(crate) own: Option<Output>,
    /// To its child ports, by their places.
    pub(crate) ports: Vec<(usize, Box<dyn Payload>)>,
    /// Whether the node has more to forward at this event.
    pub(crate) is_part: bool,
}

impl Forwarded {
    /// Rows, if there are any, for every child.
    #[must_use]
    pub fn all(payload: Option<Box<dyn Payload>>) -> Self {
        let payload = payload.filter(|payload| !payload.is_empty());
        let own = payload.map(|payload| Output { payload, routes: None });
        Self { own, ..Self::default() }
    }

    /// The same, and rows for the first child port.
    pub(crate) fn beside(self, payload: Option<Box<dyn Payload>>) -> Self {
        let ports = payload.map(|payload| (0, payload)).into_iter().collect();
        Self { ports, ..self }
    }

    /// A part of what an event has a node forward: it is told to flush until that is all, with nothing in between.
    #[must_use]
    pub fn part(payload: Option<Box<dyn Payload>>) -> Self {
        Self { is_part: true, ..Self::all(payload) }
    }
}

impl fmt::Debug for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.own.as_ref().map_or(0, |own| own.payload.len());
        f.debug_struct("Forwarded").field("rows", &rows).finish_non_exhaustive()
    }
}

/// What goes to a node's own children.
pub(crate) struct Output {
    pub(crate) payload: Box<dyn Payload>,
    /// Which child each row is for; `None` as a whole, or for a row: all of them.
    pub(crate) routes: Option<Vec<Option<u16>>>,
}

/// Something that happens to a node.
#[non_exhaustive]
pub enum Event {
    /// A batch arrived at a port.
    Batch {
        /// Of the node's ports, counted from 0.
        port: usize,
        /// The rows.
        payload: Box<dyn Payload>,
    },
    /// The operator time of its input has moved.
    Advance(Timestamp),
    /// A wall-clock punctuation that the node scheduled is due.
    Punctuate(Cancellable, Timestamp),
    /// A run has been taken: what it makes due by stream time is.
    Due,
    /// A commit is near: what is held back goes out. A node that has more than fits one payload answers with a
    /// [part](Forwarded::part), and is told again.
    Flush,
    /// The input is complete for now.
    End,
    /// Of what is left to forward, so many rows may go now.
    Resume(usize),
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch { port, payload } => write!(f, "Batch({port}, {} rows)", payload.len()),
            Self::Advance(time) => write!(f, "Advance({time})"),
            Self::Punctuate(which, time) => write!(f, "Punctuate({which:?}, {time})"),
            Self::Due => f.write_str("Due"),
            Self::Flush => f.write_str("Flush"),
            Self::End => f.write_str("End"),
            Self::Resume(rows) => write!(f, "Resume({rows})"),
        }
    }
}

/// Whether a node has forwarded all that follows from what it has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All of it.
    Done,
    /// Not yet: what is left is output alone.
    More,
    /// All that it can now: it waits for answers to its calls, and takes no more rows before it has some.
    Waits,
}

/// What a node holds rows back for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldBack {
    /// Its time must come to where the first of them is due.
    Time {
        /// The node's time; none before its first row.
        time: Option<Timestamp>,
        /// The time at which the first row comes out; none if time alone never brings it out.
        until: Option<Timestamp>,
    },
    /// Calls that were made for them must be answered.
    Calls {
        /// How many it holds.
        rows: u64,
    },
}

/// What a node holds in a buffer of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffered {
    /// How many rows.
    pub rows: u64,
    /// How many bytes; none where nobody limits them, since they are then not counted.
    pub bytes: Option<u64>,
}

/// Whose time the rows that a node forwards carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputTime {
    /// That of its input, or less where it holds rows back.
    Kept,
    /// Their own: the node forwards timestamps of its choosing, and below it time begins anew from its rows.
    Anew,
}

/// Makes a task's own copy of a node.
pub(crate) type MakeNode =
    dyn Fn(&mut InitContext<'_>) -> Result<Box<dyn Node>, ProcessorError> + Send + Sync;

/// A step of the engine's graph: takes payloads at its ports, forwards others, and keeps operator time.
///
/// # Invariants of an implementation
///
/// - What it forwards it makes from the rows it has taken, each with its row's time, or it holds rows back and says so by
///   [`pass_time`](Self::pass_time): nothing that it forwards later is older than what it passed on.
/// - Rows that it holds back lie in a store that the topology connects to it: from that the planner knows that its time may
///   differ from that of other paths.
/// - A step that may be huge takes all its rows, forwards nothing and answers [`Progress::More`]. What is left follows from
///   its stores and what it [saves](Self::save), so that a commit may fall between two chunks.
pub trait Node: Send {
    /// Takes an event and gives what it forwards.
    ///
    /// # Errors
    ///
    /// Any error stops the application, such as [`ProcessorError::State`] for a store that failed or
    /// [`ProcessorError::OtherRows`] for a payload of another type; a bad row is [rejected](NodeContext::reject)
    /// instead.
    fn handle(
        &mut self,
        event: Event,
        context: &mut NodeContext<'_>,
    ) -> Result<Forwarded, ProcessorError>;

    /// Whether anything is left to forward, asked after each event and after [`load`](Self::load).
    fn progress(&self) -> Progress {
        Progress::Done
    }

    /// Whether it ever answers [`Progress::More`].
    fn may_answer_more(&self) -> bool {
        false
    }

    /// Whether it makes calls: its progress may then change between two events.
    fn makes_calls(&self) -> bool {
        false
    }

    /// Whether it has timers.
    fn has_timers(&self) -> bool {
        false
    }

    /// The operator time to pass on when that of the input stands at `time`: less, where rows are held back.
    fn pass_time(&self, time: Timestamp) -> Timestamp {
        time
    }

    /// Whether it holds rows back that come out without another row: as time moves, or at a flush. A task whose input is
    /// read to its end holds no time back below it, unless a node of it says so.
    fn holds_rows(&self) -> bool {
        false
    }

    /// What it holds back and what for, for whoever asks why nothing comes out.
    fn held_back(&self) -> Option<HeldBack> {
        None
    }

    /// What it lets out of what it holds back, where metrics have a name for that: all that it forwards counts.
    fn emission(&self) -> Option<Emission> {
        None
    }

    /// What its buffer holds now, where it is one that metrics tell of.
    fn buffered(&self) -> Option<Buffered> {
        None
    }

    /// Appends what must survive with the commit beside the stores, such as the node's own stream time.
    fn save(&self, out: &mut Vec<u8>) {
        let _ = out;
    }

    /// Takes back what [`save`](Self::save) wrote at the last commit; called before the first row.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::Damaged`] if the bytes are not its own.
    fn load(&mut self, saved: &[u8], context: &mut InitContext<'_>) -> Result<(), ProcessorError> {
        let _ = (saved, context);
        Ok(())
    }
}

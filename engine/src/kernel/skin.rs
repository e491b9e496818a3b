//! What makes the kernel's operators those of one form of rows.

use crate::{
    node::{Payload, Stamp},
    processor::ProcessorError,
    store::{KeyBatch, OldValues, ValueAndTimestamp, Window, Windowed},
};
use headwater_core::{
    record::{Headers, Timestamp},
    serde::{Data, SerdeError},
};

/// A form of rows as the kernel sees it: gives keys, folds values, and gathers results.
///
/// The kernel calls [`begin`](Self::begin) once a batch, [`fold`](Self::fold) for its rows in ascending order, leaving out
/// those that are [late](Self::late) or have no key, and [`push`](Self::push) right after the fold of the row that it is about.
pub trait Skin: Send + 'static {
    /// Where a result lies beside its key: a [`Window`], or `()`.
    type Place;
    /// What is kept of a key.
    type Value: Data;

    /// Takes a batch in, and adds the key of each of its rows to `keys`, as the store's serde writes it.
    ///
    /// # Errors
    ///
    /// [`ProcessorError::OtherRows`] if it is not the payload that this skin reads.
    fn begin(
        &mut self,
        payload: Box<dyn Payload>,
        keys: &mut KeyBatch,
    ) -> Result<(), ProcessorError>;

    /// Folds a row of the batch into the value so far, if there is one; none deletes it.
    fn fold(&mut self, row: usize, so_far: Option<Self::Value>) -> Option<Self::Value>;

    /// The timestamp of a value's deletion by a row: the row's own, unless a skin knows better.
    fn deletion_time(&self, row: Timestamp, value: Timestamp) -> Timestamp {
        let _ = value;
        row
    }

    /// Gives the headers of the row that was folded last, for an update that is held back.
    fn headers(&mut self) -> Option<Box<Headers>> {
        None
    }

    /// Makes room for so many results.
    fn reserve(&mut self, results: usize) {
        let _ = results;
    }

    /// Adds an update of the key of the row that was folded last to the results; it has the row's headers.
    fn push(&mut self, row: usize, update: Update<Self::Place, Self::Value>);

    /// Adds an update of a key to the results, with the headers that were [kept](Self::headers) for it.
    ///
    /// # Errors
    ///
    /// [`SerdeError::Null`] or [`SerdeError::Malformed`] if the key cannot be read back.
    fn push_entry(
        &mut self,
        key: &[u8],
        update: Update<Self::Place, Self::Value>,
        headers: Option<Box<Headers>>,
    ) -> Result<(), SerdeError>;

    /// Gives the results, if there are any.
    fn take(&mut self) -> Option<Box<dyn Payload>>;

    /// Is told of a row that is not folded, because it came too late.
    fn late(&mut self, row: usize, late: Late) {
        let _ = (row, late);
    }

    /// Gives the rows that came too late, if they are asked for, to be forwarded to the node's first child port.
    fn take_late(&mut self) -> Option<Box<dyn Payload>> {
        None
    }
}

/// A row that came too late for a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late {
    /// The window that had closed.
    pub window: Window,
    /// How long before the row it had, in ms of the operator's time.
    pub by_ms: i64,
    /// The row's own origin and timestamp, and the operator time that it carries on.
    pub stamp: Stamp,
}

/// A form of rows of which one may be folded, and have results, more than once.
pub trait CopySkin: Skin {
    /// Folds a copy of a row of the batch, as [`fold`](Skin::fold) would.
    fn fold_copy(&mut self, row: usize, so_far: Option<Self::Value>) -> Option<Self::Value>;

    /// Adds an update of the key of a row to the results, with its headers, to which more of that row may come.
    fn push_copy(&mut self, row: usize, update: Update<Self::Place, Self::Value>);

    /// Whether the value of a row is null, where such rows are dropped.
    fn is_null(&self, row: usize) -> bool {
        let _ = row;
        false
    }

    /// Gives the headers of a row, for one of the updates of it that are held back.
    fn headers_copy(&self, row: usize) -> Option<Box<Headers>>;
}

/// A form of rows whose values can be merged.
pub trait SessionSkin: CopySkin {
    /// Merges the value of a session with what was merged before it, if anything was; of the sessions that a row of the
    /// batch makes one.
    fn merge(&self, row: usize, so_far: Option<Self::Value>, session: Self::Value) -> Self::Value;
}

/// Where a result lies beside its key, which makes its key of that of the rows.
pub trait Place<K>: Send + 'static {
    /// The key of results.
    type Key: Data;

    /// The key of a result here.
    fn place(self, key: K) -> Self::Key;
}

impl<K: Data> Place<K> for () {
    type Key = K;

    fn place(self, key: K) -> K {
        key
    }
}

impl<K: Data> Place<K> for Window {
    type Key = Windowed<K>;

    fn place(self, key: K) -> Windowed<K> {
        Windowed { key, window: self }
    }
}

/// When updates come out, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Emit {
    /// Whether they are held back: at a flush, the last one of each key is forwarded.
    pub is_cached: bool,
    /// What they carry.
    pub old_values: OldValues,
    /// Whether finals are made of them below: windows are then closed where the input is declared complete.
    pub closes_at_end: bool,
}

/// What has become of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update<P, A> {
    /// Where it lies beside its key.
    pub place: P,
    /// Its value from now on; none if it was deleted.
    pub new: Option<A>,
    /// What was forwarded of it last, where that is asked for; none if that was nothing or a deletion.
    pub old: Option<ValueAndTimestamp<A>>,
    /// The value's timestamp.
    pub timestamp: Timestamp,
    /// The operator time that the result carries.
    pub at: Timestamp,
    /// The record that it descends from, for dead letters: that of its row, or the one that closed its window;
    /// [`NO_ORIGIN`](crate::node::NO_ORIGIN) if there is none.
    pub origin: u32,
}

//! What travels on the edges of a table.

use headwater_engine::store::ValueAndTimestamp;

/// An update of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change<V> {
    /// The row's value from now on; none if the row is deleted.
    pub(crate) new: Option<V>,
    /// What was forwarded of the row last, and at which time; none if that was nothing or a deletion, or if nobody below needs it.
    pub(crate) old: Option<ValueAndTimestamp<V>>,
    /// Whether no newer update of the row was forwarded before.
    pub(crate) is_latest: bool,
}

impl<V> Change<V> {
    /// The newest update of a row.
    pub(crate) fn latest(new: Option<V>, old: Option<ValueAndTimestamp<V>>) -> Self {
        Self { new, old, is_latest: true }
    }
}

/// Which old values an operator needs of its parents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NeedsOld {
    /// Those from which it makes the ones that it sends itself, if it does.
    ToSend,
    /// All.
    Always,
}

//! What tells those who ask a store from outside which of its entries have expired before they are removed.

use crate::kernel::Lifetime;
use std::sync::Arc;

/// What tells from when on the entries of a store are kept.
#[derive(Debug, Clone)]
pub(crate) enum Expiry {
    /// The time of the node that folds windows into it, as it was saved with a commit.
    OfNode {
        /// The node's name.
        node: Arc<str>,
        /// How long the windows live.
        lifetime: Lifetime,
    },
    /// The store's own time, which it keeps with its entries; these lie in segments.
    OwnTime {
        /// How long entries are kept.
        retention_ms: i64,
        /// How many ms a segment has.
        segment_ms: i64,
    },
}

impl Expiry {
    /// How long each of its windows is, in ms, if all are equally long and begin anywhere: sliding windows.
    pub(crate) fn sliding_ms(&self) -> Option<i64> {
        match self {
            Self::OfNode { lifetime, .. } => Some(lifetime.reach_ms).filter(|ms| *ms > 0),
            Self::OwnTime { .. } => None,
        }
    }
}

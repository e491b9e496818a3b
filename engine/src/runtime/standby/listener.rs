//! Who is told how a standby follows.

use headwater_core::record::TopicPartition;
use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// A part of a store that a standby keeps ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandbyUpdate {
    /// The store.
    pub store: Arc<str>,
    /// The partition of its changelog, or of the topic that it is filled from.
    pub partition: TopicPartition,
    /// The task that has it, written `sub-topology_partition`; none of a global store.
    pub task: Option<String>,
    /// The offset that it is at: one past the last that was applied.
    pub at: i64,
    /// The offset at which its changelog ended when it was looked at.
    pub end: i64,
}

/// Why a standby follows no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuspendReason {
    /// It has ended, or is elsewhere.
    Migrated,
    /// The instance is about to run the application itself.
    Promoted,
}

/// Is told how a standby follows an application: Kafka's `StandbyUpdateListener`.
///
/// It is called by whoever updates the standby, and must be quick.
///
/// ```
/// use headwater_engine::runtime::{StandbyUpdate, StandbyUpdateListener, StreamsConfig};
/// use std::sync::Arc;
///
/// struct Lines;
///
/// impl StandbyUpdateListener for Lines {
///     fn on_batch_loaded(&self, part: &StandbyUpdate, records: u64) {
///         eprintln!("{}: {records} records, at {}", part.store, part.at);
///     }
/// }
///
/// let config = StreamsConfig::new("fleet").with_standby_listener(Arc::new(Lines));
/// assert_eq!(format!("{:?}", config.standby_listeners), "1 listeners");
/// ```
pub trait StandbyUpdateListener: Send + Sync {
    /// A part of a store is followed from where it is.
    fn on_update_start(&self, part: &StandbyUpdate) {
        let _ = part;
    }

    /// So many records were applied by an update.
    fn on_batch_loaded(&self, part: &StandbyUpdate, records: u64) {
        let _ = (part, records);
    }

    /// It is followed no more.
    fn on_update_suspended(&self, part: &StandbyUpdate, reason: SuspendReason) {
        let _ = (part, reason);
    }
}

/// Who is told how standbys follow.
#[derive(Clone, Default)]
pub struct StandbyListeners(Vec<Arc<dyn StandbyUpdateListener>>);

impl fmt::Debug for StandbyListeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} listeners", self.0.len())
    }
}

impl StandbyListeners {
    pub(in super::super) fn add(&mut self, listener: Arc<dyn StandbyUpdateListener>) {
        self.0.push(listener);
    }

    pub(super) fn tell(&self, tell: impl Fn(&dyn StandbyUpdateListener)) {
        for listener in &self.0 {
            // Its panic is no failure of the standby.
            if catch_unwind(AssertUnwindSafe(|| tell(&**listener))).is_err() {
                tracing::error!("a standby listener panicked");
            }
        }
    }
}

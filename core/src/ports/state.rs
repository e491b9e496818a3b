//! The state port: byte-keyed stores of applications, cut into shards by partition, committed together.
//!
//! A *shard* is one store's part for one partition. The engine keeps what it is changing in typed caches of its own,
//! hands each commit's changes over once the log has acknowledged them, and reads back what it no longer caches.
//! What can be read is therefore always committed.
//!
//! # Invariants of an implementation
//!
//! - [`ApplicationState::publish`] is atomic over all shards it names: after a crash each shard of the application is at
//!   the [`Shard::position`] of one and the same or an earlier published commit, never between two.
//! - Applications share nothing but the state's resources: names, epochs and positions are each one's own.
//! - The epochs of an application's commits never decrease, but where one replaces those of another history of the log: an
//!   owner of the application that was replaced changes nothing.
//! - State is never ahead of the log: before anything reaches the disk for good, the log is synced to that position.
//! - Keys order by their bytes.

use super::log::{LogError, LogId, RecordEpoch};
use crate::record::{RecordSet, Timestamp, TopicPartition};
use std::{
    collections::BTreeMap,
    fmt, io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSpec {
    /// Its name, unique in the application.
    pub name: Arc<str>,
    /// The form of its keys and values, such as `utf8 -> json:CarTotals`; a store is refused under another one.
    pub schema: String,
}

/// A stored value and the timestamp that it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// In ms.
    pub timestamp: Timestamp,
    /// The value's bytes.
    pub value: Vec<u8>,
}

/// A range of keys, by their bytes.
pub type KeyRange<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Which end of a range comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Ascending keys.
    Ascending,
    /// Descending keys.
    Descending,
}

/// Entries of a scan, in order; a snapshot taken when the scan began.
pub type Scan<'a> = Box<dyn Iterator<Item = Result<(Vec<u8>, Stored), StateError>> + Send + 'a>;

/// The stores of all applications of a process.
///
/// `MemoryState` and `RocksDbState` of the crate `headwater-state` implement it; the example of the first publishes a
/// commit and reads it.
pub trait State: Send + Sync + fmt::Debug {
    /// Gives the stores of the application `id`. What they take in memory is freed when all handles are dropped.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] if what the state holds of the application cannot be read.
    fn application(&self, id: &str) -> Result<Arc<dyn ApplicationState>, StateError>;

    /// Deletes all that is held of the application `id`, durable on return: opened again, it is new.
    ///
    /// # Errors
    ///
    /// [`StateError::InUse`] while there is a handle of it; [`StateError::Io`] if the disk or the database refused,
    /// [`StateError::Log`] if the log could not be synced before.
    fn forget(&self, id: &str) -> Result<(), StateError>;

    /// What the state tells of itself now, for those who watch it; nothing, if it has nothing to tell.
    fn figures(&self) -> Vec<StateFigure> {
        Vec::new()
    }

    /// Puts all that is published on the disk.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] if the disk or the database refused, [`StateError::Log`] if the log could not be synced
    /// before.
    fn flush(&self) -> Result<(), StateError>;

    /// Puts a copy of all that is published into the directory `dir`, which is not there yet; commits go on meanwhile.
    ///
    /// Unless implemented, nothing is put there: state that is kept in memory alone is rebuilt from its changelogs.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] if the disk or the database refused, [`StateError::Log`] if the log could not be synced
    /// before.
    fn backup(&self, dir: &Path) -> Result<(), StateError> {
        let _ = dir;
        Ok(())
    }
}

/// A number that a state tells of itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StateFigure {
    /// Its name, as Kafka Streams has it for RocksDB's.
    pub name: &'static str,
    /// Whether it only grows.
    pub is_total: bool,
    /// What it is, in one sentence.
    pub help: &'static str,
    /// Its value.
    pub value: f64,
}

/// All stores of one application.
pub trait ApplicationState: Send + Sync + fmt::Debug {
    /// Opens the part of a store that belongs to `partition`, empty if it is new. Twice gives two handles of one shard.
    ///
    /// # Errors
    ///
    /// [`StateError::SchemaDiffers`] if it was written under another schema, [`StateError::Io`] if it cannot be read.
    fn open(&self, store: &StoreSpec, partition: u32) -> Result<Arc<dyn Shard>, StateError>;

    /// Makes a commit's changes readable, and durable some time later, in the order of the calls. The cost is in
    /// proportion to what changed.
    ///
    /// # Errors
    ///
    /// [`StateError::Fenced`] if a commit with a greater epoch was published, before or after a restart: nothing has
    /// changed. [`StateError::Io`]: the state takes no more changes until reopened.
    fn publish(&self, commit: StateCommit) -> Result<(), StateError>;

    /// Gives the newest published commit over all open shards, for as long as it is kept.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] if the database refused.
    fn snapshot(&self) -> Result<Snapshot, StateError>;
}

/// One commit of an application, over all shards that were open; later commits do not change it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The commit's number; 0 before the first.
    pub epoch: u64,
    /// Where the sources stood after it.
    pub sources: Vec<(TopicPartition, i64)>,
    /// The parts of the stores, by store and partition.
    pub shards: BTreeMap<(Arc<str>, u32), Arc<dyn Shard>>,
}

/// One store's part for one partition, at the newest published commit, or at that of its [`Snapshot`].
pub trait Shard: Send + Sync + fmt::Debug {
    /// The values of `keys`, in their order.
    ///
    /// # Errors
    ///
    /// [`StateError::Io`] if they cannot be read, [`StateError::Corrupt`] if what was read is damaged.
    fn multi_get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Stored>>, StateError>;

    /// The value of `key`.
    ///
    /// # Errors
    ///
    /// As [`multi_get`](Self::multi_get).
    fn get(&self, key: &[u8]) -> Result<Option<Stored>, StateError> {
        Ok(self.multi_get(&[key])?.pop().flatten())
    }

    /// The entries within `range`.
    ///
    /// # Errors
    ///
    /// As [`multi_get`](Self::multi_get), here or while the scan goes on.
    fn scan(&self, range: KeyRange<'_>, order: Order) -> Result<Scan<'_>, StateError>;

    /// The changelog offset one past the last change it holds; `None` before the first.
    fn position(&self) -> Option<i64>;

    /// What was published with that position about the record in front of it.
    fn record_epoch(&self) -> Option<RecordEpoch>;
}

/// The changes of one commit of an application.
#[derive(Debug, Default)]
pub struct StateCommit {
    /// The commit's number; never decreases within the application. What is replayed has that of the newest commit.
    pub epoch: u64,
    /// The application's newest commit where that is of another history of the log, so that its number says nothing about
    /// this one: a smaller one is taken then.
    pub replaces: Option<u64>,
    /// Where the sources stand after it.
    pub sources: Vec<(TopicPartition, i64)>,
    /// What changed, at most one element a shard.
    pub changes: Vec<ShardChanges>,
}

/// What one commit changes in one shard.
#[derive(Debug)]
pub struct ShardChanges {
    /// The store.
    pub store: Arc<str>,
    /// The partition; the shard is open.
    pub partition: u32,
    /// Its changelog records: a null value deletes; of several records of one key the last counts.
    pub records: Vec<Arc<RecordSet>>,
    /// The changelog offset one past the last of them.
    pub position: i64,
    /// The history of the record in front of that offset, as far as the log knows it.
    pub record_epoch: Option<RecordEpoch>,
    /// Whether the shard begins anew with them: all that earlier commits left in it is deleted.
    pub begins_anew: bool,
    /// Deletes all keys below this one, of this commit or an earlier one: expired windows.
    pub expire_below: Option<Vec<u8>>,
}

/// What a caller can do about a [`StateError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StateErrorKind {
    /// The same call fails again: change the request.
    Refused,
    /// What was stored is damaged.
    Damaged,
    /// The state takes no more changes until it is opened again.
    Failed,
}

/// Why an operation on the state failed.
///
/// ```
/// use headwater_core::ports::state::{StateError, StateErrorKind};
///
/// let error = StateError::SchemaDiffers {
///     store: "counts".into(),
///     existing: "utf8 -> i64".into(),
///     wanted: "utf8 -> f64".into(),
/// };
/// assert_eq!(error.kind(), StateErrorKind::Refused);
/// assert_eq!(
///     error.to_string(),
///     "store counts holds `utf8 -> i64`, not `utf8 -> f64`; give it a new name, or the types it was written with"
/// );
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The store holds keys or values of another form; give it a new name or the old types.
    #[error(
        "store {store} holds `{existing}`, not `{wanted}`; give it a new name, or the types it was written with"
    )]
    SchemaDiffers {
        /// The store.
        store: Arc<str>,
        /// What it was written with.
        existing: String,
        /// What was asked for.
        wanted: String,
    },

    /// A value has no form in bytes, though its serde had promised one; give the store another serde.
    #[error("store {store}, partition {partition}: a value cannot be written: {detail}")]
    Unwritable {
        /// The store.
        store: Arc<str>,
        /// The partition.
        partition: u32,
        /// What the serde says.
        detail: String,
    },

    /// The bytes are whole, but not of the store's types, which have changed; give it a new name, or the old types.
    #[error(
        "store {store}, partition {partition}, holds what its types cannot read: {detail}; give it a new name, or the types it was written with"
    )]
    Unreadable {
        /// The store.
        store: Arc<str>,
        /// The partition.
        partition: u32,
        /// What the serde says.
        detail: String,
    },

    /// Stored bytes are damaged.
    #[error("store {store}, partition {partition}, is damaged: {detail}")]
    Corrupt {
        /// The store.
        store: Arc<str>,
        /// The partition.
        partition: u32,
        /// What is wrong.
        detail: String,
    },

    /// The disk or the database refused; the state takes no more changes until reopened.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },

    /// The stores were made from another log; open that log, or remove the directory if this is the right one.
    #[error(
        "the state in {} belongs to log {existing}, not to log {wanted}: its positions mean nothing there; if log {existing} was lost, restore it, because log {wanted} does not know what was written from it; if log {wanted} is the right one, remove this directory, and it is rebuilt from the changelogs there",
        path.display()
    )]
    OtherLog {
        /// The state's directory.
        path: PathBuf,
        /// The log that it was made from.
        existing: LogId,
        /// The log that it was opened with.
        wanted: LogId,
    },

    /// A later owner of the application has published; this one must close.
    #[error(
        "application {application} was taken over: commit {epoch} is fenced by commit {newest} in its state"
    )]
    Fenced {
        /// The application.
        application: Arc<str>,
        /// The refused commit.
        epoch: u64,
        /// The newest commit that the state holds.
        newest: u64,
    },

    /// It is to be deleted, and there are handles of it; close what uses it first.
    #[error("the state of application {application} is in use; close the application first")]
    InUse {
        /// The application.
        application: Arc<str>,
    },

    /// The log could not be synced ahead of a flush.
    #[error("the log could not be synced before the state was flushed")]
    Log(#[from] LogError),
}

impl StateError {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> StateErrorKind {
        match self {
            Self::SchemaDiffers { .. }
            | Self::Unwritable { .. }
            | Self::Unreadable { .. }
            | Self::OtherLog { .. }
            | Self::InUse { .. }
            | Self::Fenced { .. } => StateErrorKind::Refused,
            Self::Corrupt { .. } => StateErrorKind::Damaged,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::InvalidData => {
                StateErrorKind::Damaged
            }
            Self::Io { .. } | Self::Log(_) => StateErrorKind::Failed,
        }
    }
}

//! The log port: topics of partitions, and one atomic commit over them.
//!
//! | of the port | in this process | with Apache Kafka |
//! |---|---|---|
//! | [`Log::claim`] | the group's next epoch; all partitions at once | a member of the group and `init_transactions`; partitions as they are moved |
//! | [`Log::commit`] | one frame of the journal | one transaction, offsets with the group's metadata |
//! | [`LogError::UnknownOutcome`] | the frame was handed to a disk that failed | ending the transaction timed out |
//! | [`Log::subscribe`] | the end has moved | the consumer's queue is no longer empty |
//! | [`Log::subscribe_to_offsets`] | a position was committed | the group's positions, read as they are committed |
//! | a commit is seen at once | ends and positions move under one lock | markers reach partitions one by one: ends are held back until all have |
//! | [`Log::sync`] | all frames are on the disk | nothing to do: what is acknowledged is replicated |
//!
//! All calls are synchronous; [`Log::commit`] returns before the commit is durable, and its [`CommitTicket`] tells the
//! outcome.

mod backup;
mod claim;
mod error;
mod id;
mod subscription;
mod ticket;

pub use backup::{AddBeside, Backup, BackupProgress, BackupReport, TellProgress};
pub use claim::{Assignment, Claim, Owner};
pub use error::{LogError, LogErrorKind};
pub use id::{LogId, RecordEpoch};
pub use subscription::{Subscription, Waker};
pub use ticket::{CommitOutcome, CommitTicket, Completer, Unanswered};

use crate::record::{RecordSet, Timestamp, TopicName, TopicPartition};
use std::{fmt, path::Path, sync::Arc};

/// What a topic is: its name, its partitions and how it is kept.
///
/// ```
/// use headwater_core::{
///     ports::log::{Cleanup, Durability, TopicSpec},
///     record::TopicName,
/// };
///
/// let cars = TopicSpec::new(TopicName::new("cars")?, 4);
/// assert_eq!((cars.durability, cars.cleanup), (Durability::Fsync, Cleanup::Keep));
/// let newest = TopicSpec { cleanup: Cleanup::Compact, ..cars };
/// assert_eq!(newest.partitions, 4);
/// # Ok::<(), headwater_core::record::InvalidTopicName>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: TopicName,
    /// How many partitions it has, at least 1.
    pub partitions: u32,
    /// When an append to it counts as acknowledged.
    pub durability: Durability,
    /// What may be removed from it.
    pub cleanup: Cleanup,
}

impl TopicSpec {
    /// A durable topic that keeps everything.
    #[must_use]
    pub fn new(name: TopicName, partitions: u32) -> Self {
        Self { name, partitions, durability: Durability::default(), cleanup: Cleanup::default() }
    }
}

/// When an append is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Durability {
    /// When it is on the disk: `fdatasync` has returned.
    #[default]
    Fsync,
    /// When the operating system has it: a power cut may lose it, the end of the process not.
    Os,
}

/// What may be removed from a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Cleanup {
    /// Nothing.
    #[default]
    Keep,
    /// All but the last record of each key, some time later.
    Compact,
    /// What lies below the offset its only reader has committed: repartition topics.
    Purge,
}

/// Records and offsets that become durable together or not at all.
#[derive(Debug, Default)]
pub struct Commit {
    /// Who commits; a commit of an owner whose epoch is no longer the latest is refused.
    pub owner: Option<Owner>,
    /// Records to append, in order; a partition may occur several times.
    pub appends: Vec<Append>,
    /// Positions of consumer groups.
    pub offsets: Vec<GroupOffset>,
}

/// Records for one partition.
#[derive(Debug, Clone)]
pub struct Append {
    /// Where to.
    pub partition: TopicPartition,
    /// The offset of the first record, at least the partition's end (what lies between stays empty); `None`: the end.
    pub base_offset: Option<i64>,
    /// The records; their own offsets are ignored.
    pub records: Arc<RecordSet>,
}

/// A consumer group's position in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOffset {
    /// The group.
    pub group: Arc<str>,
    /// The partition; connectors use the partition they fill or drain.
    pub partition: TopicPartition,
    /// The offset to resume from.
    pub committed: Committed,
}

/// A committed position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The offset to resume from.
    pub offset: i64,
    /// A text of the committer's own, see [`Limits::metadata_bytes_max`].
    pub metadata: String,
}

/// How large things may be; what is larger is refused before anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest record: key, value and headers together.
    pub record_bytes_max: usize,
    /// The largest commit, in bytes as the log holds it.
    pub commit_bytes_max: usize,
    /// The longest [`Committed::metadata`].
    pub metadata_bytes_max: usize,
}

/// The offsets that a partition holds: `start` is the first, `end` is one past the last acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets {
    /// The first offset kept.
    pub start: i64,
    /// The high watermark: the offset that the next record gets, as far as readers may see.
    pub end: i64,
}

/// What a fetch found.
#[derive(Debug, Clone, Default)]
pub struct Fetched {
    /// The records from the wanted offset on; control records are left out.
    pub records: RecordSet,
    /// Where to read next: one past the last record looked at, left out ones included.
    pub next_offset: i64,
    /// The partition's end when this was read.
    pub end: i64,
}

/// What a commit gave its appends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipt {
    /// The offset of the first record of each append, in the commit's order.
    pub base_offsets: Vec<i64>,
}

/// Topics of partitions, consumer groups, and one atomic commit over them.
///
/// `EmbeddedLog` and `MemoryLog` of the crate `headwater-log` implement it; their examples append and fetch.
pub trait Log: Send + Sync + fmt::Debug {
    /// Which log this is.
    fn id(&self) -> LogId;

    /// How large records, commits and metadata may be.
    fn limits(&self) -> Limits;

    /// Creates those of the topics that do not exist, all or none, in one step that is durable on return.
    ///
    /// A topic that exists with the same number of partitions stays as it is.
    ///
    /// # Errors
    ///
    /// [`LogError::TopicDiffers`] if one exists with another number of partitions, [`LogError::PartitionCount`] for a
    /// number that no topic can have, [`LogError::Io`] if they could not be made durable.
    fn create_topics(&self, specs: &[TopicSpec]) -> Result<(), LogError>;

    /// Gives a topic more partitions, up to `partitions` in all; those that it has, and their records, stay as they are. Unless
    /// implemented, a log adds none.
    ///
    /// # Errors
    ///
    /// [`LogError::UnknownTopic`]; [`LogError::TopicDiffers`] if it has more than that, or the log adds none;
    /// [`LogError::PartitionCount`] for a number that no topic can have.
    fn add_partitions(&self, topic: &TopicName, partitions: u32) -> Result<(), LogError> {
        let spec = self.topics()?.into_iter().find(|spec| spec.name == *topic);
        let spec = spec.ok_or_else(|| LogError::UnknownTopic { topic: topic.clone() })?;
        self.create_topics(&[TopicSpec { partitions, ..spec }])
    }

    /// All topics, by name.
    ///
    /// # Errors
    ///
    /// [`LogError::Io`] if the log has to ask for them and cannot be reached.
    fn topics(&self) -> Result<Vec<TopicSpec>, LogError>;

    /// Records from `offset` on, up to about `bytes_max` (but at least one, if there is one).
    ///
    /// # Errors
    ///
    /// [`LogError::UnknownPartition`]; [`LogError::OffsetOutOfRange`] outside `[start, end]`; [`LogError::Corrupt`]
    /// if what lies there is damaged, [`LogError::Unreadable`] if it is whole and malformed;
    /// [`LogError::TooManyOpenFiles`] or [`LogError::Io`] if it cannot be read now.
    fn fetch(
        &self,
        partition: &TopicPartition,
        offset: i64,
        bytes_max: usize,
    ) -> Result<Fetched, LogError>;

    /// What the partition holds.
    ///
    /// # Errors
    ///
    /// [`LogError::UnknownPartition`] if there is no such partition.
    fn offsets(&self, partition: &TopicPartition) -> Result<Offsets, LogError>;

    /// Identifies the history of the record at `offset`, or of the last one in front of it; `None` if the log does not know,
    /// or there is none.
    ///
    /// # Errors
    ///
    /// [`LogError::UnknownPartition`] if there is no such partition.
    fn record_epoch(
        &self,
        partition: &TopicPartition,
        offset: i64,
    ) -> Result<Option<RecordEpoch>, LogError>;

    /// The first offset whose record's timestamp is at least `timestamp`, or `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`LogError::UnknownPartition`] if there is no such partition; [`LogError::Corrupt`] if what lies there is
    /// damaged, [`LogError::Unreadable`] if it is whole and malformed.
    fn offset_for_timestamp(
        &self,
        partition: &TopicPartition,
        timestamp: Timestamp,
    ) -> Result<Option<i64>, LogError>;

    /// Claims a group, to read `topics` and to commit: commits of all earlier owners are refused from now on.
    ///
    /// What of the topics may be read is told by polling the claim.
    ///
    /// # Errors
    ///
    /// [`LogError::UnknownTopic`], [`LogError::GroupNameTooLong`], or the claim could not be made durable.
    fn claim(&self, group: &str, topics: &[TopicName]) -> Result<Box<dyn Claim>, LogError>;

    /// Hands a commit in; commits become durable and visible in the order of their calls.
    ///
    /// A commit becomes visible at once: whoever has seen one of its records or positions, by whichever call, finds all of them
    /// from then on, in all partitions and groups.
    ///
    /// # Errors
    ///
    /// It was refused before anything was written: [`LogError::Fenced`], [`LogError::UnknownPartition`],
    /// [`LogError::OffsetBelowEnd`], a size beyond the [`Limits`], or a log that takes no more writes.
    fn commit(&self, commit: Commit) -> Result<CommitTicket, LogError>;

    /// The group's position in a partition, if it has one.
    ///
    /// # Errors
    ///
    /// [`LogError::Io`] if the log has to ask for it and cannot be reached.
    fn committed(
        &self,
        group: &str,
        partition: &TopicPartition,
    ) -> Result<Option<Committed>, LogError>;

    /// Puts all that is acknowledged on the disk, whatever the durability of its topic.
    ///
    /// # Errors
    ///
    /// [`LogError::Io`]: the log takes no more writes.
    fn sync(&self) -> Result<(), LogError>;

    /// Has `waker` called whenever the partition's end has moved, until the subscription is dropped.
    ///
    /// Commits to other partitions call nobody here. What was committed before the call is not told: subscribe, then
    /// read.
    ///
    /// # Errors
    ///
    /// [`LogError::UnknownPartition`].
    fn subscribe(&self, partition: &TopicPartition, waker: Waker)
    -> Result<Subscription, LogError>;

    /// Has `waker` called whenever a group's position in the partition was committed, whichever group it is, until the
    /// subscription is dropped.
    ///
    /// Appends alone call nobody here. What was committed before the call is not told: subscribe, then ask.
    ///
    /// # Errors
    ///
    /// [`LogError::UnknownPartition`].
    fn subscribe_to_offsets(
        &self,
        partition: &TopicPartition,
        waker: Waker,
    ) -> Result<Subscription, LogError>;

    /// Has `waker` called whenever topics were created, until the subscription is dropped.
    ///
    /// What was created before the call is not told: subscribe, then list.
    fn subscribe_to_topics(&self, waker: Waker) -> Subscription;

    /// Begins a backup, which will be the directory `dir`; commits go on meanwhile. Unless implemented, a log has none.
    ///
    /// # Errors
    ///
    /// [`LogError::BackupRefused`] if `dir` is taken or lies in the log, or the log has no backups;
    /// [`LogError::BackupFailed`] if nothing can be written there.
    fn begin_backup(&self, dir: &Path) -> Result<Box<dyn Backup>, LogError> {
        let detail = "this log keeps nothing in a directory of its own";
        Err(LogError::BackupRefused { path: dir.to_owned(), detail: detail.to_owned() })
    }
}

//! Why an operation on the log failed, and what a caller can do about it.

use crate::record::{TopicName, TopicPartition};
use std::{error::Error, io, path::PathBuf, sync::Arc};

/// What a caller can do about a [`LogError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogErrorKind {
    /// Nothing was written, and the same call fails again: change the request.
    Refused,
    /// Nothing was written, and nothing of this owner will be: another owner has taken over.
    Fenced,
    /// Nothing was written, and the same call may succeed later with nothing changed by the caller.
    Retriable,
    /// Nothing of this call was written; the log takes no more writes until it is opened again.
    Failed,
    /// What was acknowledged is damaged; nothing was skipped.
    Damaged,
    /// The commit is durable as a whole or absent as a whole: claim the group anew, then read its committed offsets.
    UnknownOutcome,
}

/// Why an operation on the log failed.
///
/// ```
/// use headwater_core::ports::log::{LogError, LogErrorKind};
///
/// let error = LogError::CommitTooLarge { bytes: 700, bytes_max: 512 };
/// assert_eq!(error.kind(), LogErrorKind::Refused);
/// assert_eq!(error.to_string(), "a commit of at least 700 bytes is too large: 512 fit; split it");
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// There is no such topic; create it first.
    #[error("there is no topic {topic}; create it first")]
    UnknownTopic {
        /// The topic asked for.
        topic: TopicName,
    },

    /// There is no such partition; create the topic first.
    #[error("there is no partition {partition}; create the topic first")]
    UnknownPartition {
        /// The partition asked for.
        partition: TopicPartition,
    },

    /// The topic exists with another number of partitions.
    #[error(
        "topic {topic} has {existing} partitions, not {wanted}; use that number or another topic"
    )]
    TopicDiffers {
        /// The topic.
        topic: TopicName,
        /// How many it has.
        existing: u32,
        /// How many were asked for.
        wanted: u32,
    },

    /// A topic cannot have this many partitions.
    #[error("topic {topic} needs 1 to {partitions_max} partitions, not {wanted}")]
    PartitionCount {
        /// The topic.
        topic: TopicName,
        /// How many were asked for.
        wanted: u32,
        /// The most that a topic may have.
        partitions_max: u32,
    },

    /// The offset lies outside what the partition holds; seek, then read again.
    #[error("offset {offset} of {partition} is outside [{start}, {end}]")]
    OffsetOutOfRange {
        /// The partition.
        partition: TopicPartition,
        /// The offset asked for.
        offset: i64,
        /// The first offset kept.
        start: i64,
        /// One past the last.
        end: i64,
    },

    /// An append names an offset that the partition has passed.
    #[error("offset {offset} of {partition} is below its end {end}; append at the end")]
    OffsetBelowEnd {
        /// The partition.
        partition: TopicPartition,
        /// The offset that the append names.
        offset: i64,
        /// The partition's end, commits that are not yet acknowledged included.
        end: i64,
    },

    /// The partition has no offsets left for the append.
    #[error("offset {offset} of {partition} leaves too few offsets for {records} records")]
    OffsetsExhausted {
        /// The partition.
        partition: TopicPartition,
        /// The offset of the append's first record.
        offset: i64,
        /// The append's records.
        records: usize,
    },

    /// A record is larger than the log takes; see [`Limits`](super::Limits).
    #[error(
        "record {index} of an append to {partition} has {bytes} bytes; at most {bytes_max} fit"
    )]
    RecordTooLarge {
        /// The partition.
        partition: TopicPartition,
        /// The record's place in its append.
        index: usize,
        /// Its key, value and headers together.
        bytes: usize,
        /// The most that a record may have.
        bytes_max: usize,
    },

    /// A record's headers are not in the v2 form.
    #[error("the headers of record {index} of an append to {partition} are not in the v2 form")]
    InvalidHeaders {
        /// The partition.
        partition: TopicPartition,
        /// The record's place in its append.
        index: usize,
    },

    /// The commit is larger than the log takes; split it.
    #[error("a commit of at least {bytes} bytes is too large: {bytes_max} fit; split it")]
    CommitTooLarge {
        /// What was counted when the commit was refused.
        bytes: usize,
        /// The most that a commit may have.
        bytes_max: usize,
    },

    /// The text of a committed position is longer than the log takes.
    #[error(
        "the metadata of group {group} for {partition} has {bytes} bytes; at most {bytes_max} fit"
    )]
    MetadataTooLong {
        /// The group.
        group: Arc<str>,
        /// The partition.
        partition: TopicPartition,
        /// The text's length.
        bytes: usize,
        /// The longest that is taken.
        bytes_max: usize,
    },

    /// A group's name is longer than the log takes.
    #[error("a group's name has at most {bytes_max} bytes, not {bytes}")]
    GroupNameTooLong {
        /// The name's length.
        bytes: usize,
        /// The longest that is taken.
        bytes_max: usize,
    },

    /// The log holds as many bytes as it was made for.
    #[error("the log has no room for {bytes} bytes more: it holds at most {bytes_max}")]
    Full {
        /// The commit's bytes.
        bytes: usize,
        /// What the log holds at most.
        bytes_max: usize,
    },

    /// Acknowledged data is damaged; nothing was skipped. Restore the file from a backup.
    #[error("{} is damaged at byte {position} (offset {offset} of {partition}): {detail}", path.display())]
    Corrupt {
        /// The partition.
        partition: TopicPartition,
        /// The damaged file.
        path: PathBuf,
        /// Where in the file.
        position: u64,
        /// The offset of the first record that cannot be read.
        offset: i64,
        /// What is wrong.
        detail: String,
    },

    /// What lies there is whole, and is not what this version reads; seek past it, or use the version that wrote it.
    #[error("the records from offset {offset} of {partition} on cannot be read: {detail}")]
    Unreadable {
        /// The partition.
        partition: TopicPartition,
        /// The first offset of the batch.
        offset: i64,
        /// Why not.
        detail: String,
    },

    /// A later claim holds the group; this owner must close.
    #[error("group {group} was taken over: epoch {epoch} is fenced by epoch {current}")]
    Fenced {
        /// The group.
        group: Arc<str>,
        /// The refused owner's epoch.
        epoch: u64,
        /// The epoch that holds the group.
        current: u64,
    },

    /// The disk has too little room; what was written before stays readable. Free some.
    #[error("no room on the disk for {}: {available} bytes are free, {reserved} are held back; free some", path.display())]
    DiskFull {
        /// The log's directory.
        path: PathBuf,
        /// Free bytes.
        available: u64,
        /// Bytes held back for commits and metadata.
        reserved: u64,
    },

    /// The log was opened on a full disk, and can only be read since; make room and open it again.
    #[error("the log in {} is open read-only, since its disk was full; make room and open it again", path.display())]
    ReadOnly {
        /// The log's directory.
        path: PathBuf,
        /// What there was no room for.
        source: Arc<dyn Error + Send + Sync>,
    },

    /// The process or the system has no file descriptor left for this read; raise the limit (`ulimit -n`).
    #[error("no descriptor is left to open {}; raise the limit on open files (`ulimit -n`)", path.display())]
    TooManyOpenFiles {
        /// The file that was to be opened.
        path: PathBuf,
    },

    /// The log was closed; open it again.
    #[error("the log in {} is closed; open it again", path.display())]
    Closed {
        /// The log's directory.
        path: PathBuf,
    },

    /// A thread of the log panicked; open the log again.
    #[error("the log's thread `{thread}` panicked; open the log again")]
    Panicked {
        /// The thread.
        thread: &'static str,
    },

    /// The file system refused; a log that was writing takes no more writes until it is opened again.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },

    /// No backup goes there, or none of this log; nothing was written.
    #[error("no backup is made in {}: {detail}", path.display())]
    BackupRefused {
        /// Where it was to go.
        path: PathBuf,
        /// Why not, and what to do.
        detail: String,
    },

    /// A backup was not finished, and is removed as far as that goes; the log is none the worse.
    #[error("could not make a backup in {}", path.display())]
    BackupFailed {
        /// Where it was to go.
        path: PathBuf,
        /// What kept it.
        source: Arc<dyn Error + Send + Sync>,
    },

    /// The log cannot tell whether the commit is durable.
    #[error("the commit may or may not be durable; claim the group anew and read its offsets")]
    UnknownOutcome {
        /// What kept the log from learning it.
        source: Arc<dyn Error + Send + Sync>,
    },
}

impl LogError {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> LogErrorKind {
        match self {
            Self::UnknownTopic { .. }
            | Self::UnknownPartition { .. }
            | Self::TopicDiffers { .. }
            | Self::PartitionCount { .. }
            | Self::OffsetOutOfRange { .. }
            | Self::OffsetBelowEnd { .. }
            | Self::OffsetsExhausted { .. }
            | Self::RecordTooLarge { .. }
            | Self::InvalidHeaders { .. }
            | Self::CommitTooLarge { .. }
            | Self::MetadataTooLong { .. }
            | Self::GroupNameTooLong { .. }
            | Self::Unreadable { .. }
            | Self::BackupRefused { .. }
            | Self::Full { .. } => LogErrorKind::Refused,
            Self::Fenced { .. } => LogErrorKind::Fenced,
            Self::DiskFull { .. } | Self::TooManyOpenFiles { .. } | Self::BackupFailed { .. } => {
                LogErrorKind::Retriable
            }
            Self::Closed { .. }
            | Self::ReadOnly { .. }
            | Self::Panicked { .. }
            | Self::Io { .. } => LogErrorKind::Failed,
            Self::Corrupt { .. } => LogErrorKind::Damaged,
            Self::UnknownOutcome { .. } => LogErrorKind::UnknownOutcome,
        }
    }
}

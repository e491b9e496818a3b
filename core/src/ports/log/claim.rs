//! Holding a consumer group: who may commit for it, and which partitions its holder may read.

use super::{LogError, Waker};
use crate::record::TopicPartition;
use std::{fmt, sync::Arc};

/// By what a log knows who commits: a [`Claim`]'s group and number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The group; for a streams application its `application.id`.
    pub group: Arc<str>,
    /// The claim's number: a later claim has a higher one and fences this one.
    pub epoch: u64,
}

/// A change of what the holder of a claim may read.
///
/// A log in this process assigns everything at once, and takes it away when the group is claimed anew. Apache Kafka moves
/// partitions between the members of a group whenever one joins or leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assignment {
    /// These may be read from now on, from their committed offsets.
    Assigned(Vec<TopicPartition>),
    /// These are to be given back, which the next poll does: commit what was taken from them before.
    Revoked(Vec<TopicPartition>),
    /// These are gone and may have another reader: forget what was taken from them and is not committed.
    Lost(Vec<TopicPartition>),
}

/// A group that is held; see [`Log::claim`](super::Log::claim). Keep it for as long as its owner reads and commits.
pub trait Claim: Send + Sync + fmt::Debug {
    /// By what the log knows the holder.
    fn owner(&self) -> &Owner;

    /// The next change of what may be read, in order; `None` if there is none, and `waker` is called once there may be.
    ///
    /// To poll says that the change before was acted upon, and that the holder is alive.
    ///
    /// # Errors
    ///
    /// [`LogError::Io`] if the log has to ask for it and cannot be reached.
    fn poll(&mut self, waker: &Waker) -> Result<Option<Assignment>, LogError>;
}

//! Which partitions of its topic a record goes to.

use std::sync::Arc;

/// Where a record goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Partitions {
    /// Where Kafka's partitioner puts its key: by murmur2 of the key's bytes.
    Default,
    /// To this one.
    One(u32),
    /// To each of these; to none, and it is dropped.
    Each(Vec<u32>),
}

impl Partitions {
    /// The partitions themselves, where the default is `default`.
    pub(super) fn into_iter(self, default: u32) -> impl DoubleEndedIterator<Item = u32> {
        let (one, each) = match self {
            Self::Default => (Some(default), Vec::new()),
            Self::One(partition) => (Some(partition), Vec::new()),
            Self::Each(partitions) => (None, partitions),
        };
        one.into_iter().chain(each)
    }
}

impl From<u32> for Partitions {
    fn from(partition: u32) -> Self {
        Self::One(partition)
    }
}

/// Chooses partitions by key, value and the number of partitions that the topic has. Any function of these will do.
///
/// ```
/// use headwater_engine::topology::{Partitions, StreamPartitioner};
///
/// let by_region = |_: &String, region: &u32, partitions: u32| region % partitions;
/// assert_eq!(by_region.partitions(&"car".to_owned(), &7, 4), Partitions::One(3));
/// ```
pub trait StreamPartitioner<K, V>: Send + Sync {
    /// Where the record goes, of a topic with `partitions` partitions. A record for one that there is not is a dead letter.
    fn partitions(&self, key: &K, value: &V, partitions: u32) -> Partitions;
}

impl<K, V, P: Into<Partitions>, F: Fn(&K, &V, u32) -> P + Send + Sync> StreamPartitioner<K, V>
    for F
{
    fn partitions(&self, key: &K, value: &V, partitions: u32) -> Partitions {
        self(key, value, partitions).into()
    }
}

pub(crate) type SharedPartitioner<K, V> = Arc<dyn StreamPartitioner<K, V>>;

//! Which partitions of its topic a record goes to.

use std::{
    any::{TypeId, type_name},
    fmt,
    sync::Arc,
};

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
pub trait StreamPartitioner<K, V>: Send + Sync + 'static {
    /// Where the record goes, of a topic with `partitions` partitions. A record for one that there is not is a dead letter.
    fn partitions(&self, key: &K, value: &V, partitions: u32) -> Partitions;

    /// What tells it from other partitioners: topics that are joined must be placed by equal ones. Its type, unless
    /// implemented.
    fn placement(&self) -> Placement {
        Placement::of_value(self)
    }
}

impl<K, V, P: Into<Partitions>, F: Fn(&K, &V, u32) -> P + Send + Sync + 'static>
    StreamPartitioner<K, V> for F
{
    fn partitions(&self, key: &K, value: &V, partitions: u32) -> Partitions {
        self(key, value, partitions).into()
    }
}

/// By what the records of a topic are placed, so that the topics of a join can be compared.
///
/// Example: [`NamedPartitioner`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Placement {
    /// By murmur2 of their keys' bytes, as Kafka's partitioner does it.
    ByKey,
    /// By what goes by this name.
    Named(String),
    /// By functions of a type that holds nothing, so that they all do the same.
    OfType(PartitionerType),
    /// By what holds something and has no name: two such may be of one type and place differently. It is equal to none.
    Unnamed(&'static str),
    /// Where what they are joined with lies, whatever that is placed by, or in every partition: nothing is checked.
    Beside,
}

/// The type of a partitioner.
///
/// Example: [`NamedPartitioner`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionerType {
    id: TypeId,
    name: &'static str,
}

impl Placement {
    fn of_value<P: ?Sized + 'static>(partitioner: &P) -> Self {
        let name = type_name::<P>();
        match size_of_val(partitioner) {
            0 => Self::OfType(PartitionerType { id: TypeId::of::<P>(), name }),
            _ => Self::Unnamed(name),
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByKey => f.write_str("by key"),
            Self::Named(name) => write!(f, "by `{name}`"),
            Self::OfType(PartitionerType { name, .. }) | Self::Unnamed(name) => {
                write!(f, "by `{name}`, which has no name")
            }
            Self::Beside => f.write_str("beside what it is joined with"),
        }
    }
}

/// A partitioner with a name, under which those of other types of rows are known to place alike.
///
/// Topics that are joined must be placed alike. Functions that hold nothing are compared by their types; since each has one
/// type of values, and a closure may hold something, others are compared by name.
///
/// ```
/// use headwater_engine::topology::{NamedPartitioner, Placement, StreamPartitioner};
///
/// fn by_region<V>(region: &u32, _: &V, partitions: u32) -> u32 {
///     region % partitions
/// }
/// let cars = NamedPartitioner::new("by-region", by_region::<String>);
/// let roads = NamedPartitioner::new("by-region", by_region::<i64>);
/// let placed_alike = StreamPartitioner::<u32, String>::placement(&cars);
/// assert_eq!(placed_alike, StreamPartitioner::<u32, i64>::placement(&roads));
/// assert_eq!(placed_alike, Placement::Named("by-region".into()));
/// ```
#[derive(Clone)]
pub struct NamedPartitioner<P> {
    name: String,
    partitioner: P,
}

impl<P> NamedPartitioner<P> {
    /// `partitioner` under this name. Who gives one name to two promises that they place equal keys alike.
    #[must_use]
    pub fn new(name: impl Into<String>, partitioner: P) -> Self {
        Self { name: name.into(), partitioner }
    }
}

impl<P> fmt::Debug for NamedPartitioner<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NamedPartitioner").field(&self.name).finish()
    }
}

impl<K, V, P: StreamPartitioner<K, V>> StreamPartitioner<K, V> for NamedPartitioner<P> {
    fn partitions(&self, key: &K, value: &V, partitions: u32) -> Partitions {
        self.partitioner.partitions(key, value, partitions)
    }

    fn placement(&self) -> Placement {
        Placement::Named(self.name.clone())
    }
}

pub(crate) type SharedPartitioner<K, V> = Arc<dyn StreamPartitioner<K, V>>;

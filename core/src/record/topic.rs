//! Names of topics and partitions, checked once at this boundary.

use std::{fmt, sync::Arc};

/// The name of a topic: 1 to 249 characters of `[a-zA-Z0-9._-]`, and neither `.` nor `..` (Kafka's rule).
///
/// ```
/// use headwater_core::record::TopicName;
///
/// assert!(TopicName::new("car-telemetry").is_ok());
/// assert!(TopicName::new("../etc").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(Arc<str>);

/// A text that cannot name a topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a topic name: use 1 to 249 characters of a-z, A-Z, 0-9, `.`, `_` and `-`, and not `.` or `..`"
)]
pub struct InvalidTopicName(pub String);

impl TopicName {
    /// Checks `name`.
    ///
    /// # Errors
    ///
    /// [`InvalidTopicName`] if it breaks Kafka's rule.
    pub fn new(name: impl AsRef<str>) -> Result<Self, InvalidTopicName> {
        let name = name.as_ref();
        let legal =
            name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if !legal || name.is_empty() || name.len() > 249 || name == "." || name == ".." {
            return Err(InvalidTopicName(name.chars().take(260).collect()));
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// One partition of a topic; displayed as `topic-partition`.
///
/// ```
/// use headwater_core::record::{TopicName, TopicPartition};
///
/// let partition = TopicPartition::new(TopicName::new("cars")?, 3);
/// assert_eq!(partition.to_string(), "cars-3");
/// # Ok::<(), headwater_core::record::InvalidTopicName>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// The partition, from 0.
    pub partition: u32,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    #[must_use]
    pub fn new(topic: TopicName, partition: u32) -> Self {
        Self { topic, partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

//! The serdes of a grouping.

use headwater_core::serde::SharedSerde;

/// The serdes with which a grouping keeps keys and, where it repartitions, writes values.
#[derive(Clone)]
pub struct Grouped<K, V> {
    /// The key's serde.
    pub key: SharedSerde<K>,
    /// The value's serde.
    pub value: SharedSerde<V>,
}

impl<K, V> Grouped<K, V> {
    /// With these serdes.
    #[must_use]
    pub fn with(key: SharedSerde<K>, value: SharedSerde<V>) -> Self {
        Self { key, value }
    }
}

impl<K, V> std::fmt::Debug for Grouped<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Grouped({}, {})", self.key.schema(), self.value.schema())
    }
}

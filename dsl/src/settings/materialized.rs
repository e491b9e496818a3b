//! The store behind a table.

/// How a table is kept: the name of its store, and whether updates are held back until the commit.
///
/// Wherever one is taken, a name alone will do:
///
/// ```
/// use headwater_dsl::{Materialized, StreamsBuilder};
///
/// let builder = StreamsBuilder::new();
/// let trips = builder.stream::<String, f64>("trips").group_by_key();
/// let _count = trips.count("trips-by-car");
/// let _total = trips.reduce(|a, b| a + b, Materialized::named("distance-by-car").with_caching_disabled());
/// assert!(builder.build().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Materialized {
    pub(crate) name: Option<String>,
    pub(crate) caching: bool,
}

impl Materialized {
    /// In the store `name`, with updates held back: at each commit, the last one per key is forwarded.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    /// Forwards every update at once.
    #[must_use]
    pub fn with_caching_disabled(self) -> Self {
        Self { caching: false, ..self }
    }
}

impl Default for Materialized {
    /// In a store with a counted name, with updates held back until the commit.
    fn default() -> Self {
        Self { name: None, caching: true }
    }
}

impl From<&str> for Materialized {
    fn from(name: &str) -> Self {
        Self::named(name)
    }
}

//! What a join of a stream with a table is told.

use std::time::Duration;

/// The name and the grace of a join of a stream with a table; see [`KTable::joined`](crate::KTable::joined).
///
/// ```
/// use headwater_dsl::Joined;
/// use std::time::Duration;
///
/// let minute = Joined::with_grace_period(Duration::from_secs(60)).with_name("priced");
/// assert_eq!(minute, Joined::named("priced").grace_period(Duration::from_secs(60)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Joined {
    pub(crate) name: Option<String>,
    pub(crate) grace: Option<Duration>,
}

impl Joined {
    /// A join of this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::default().with_name(name)
    }

    /// A join whose records wait until time is so far past them, cut to whole ms, so that versions of the table that come late
    /// are found too.
    ///
    /// The table must keep [versions](crate::Materialized::versioned).
    #[must_use]
    pub fn with_grace_period(grace: Duration) -> Self {
        Self::default().grace_period(grace)
    }

    /// The same under this name.
    #[must_use]
    pub fn with_name(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }

    /// The same with a grace; see [`with_grace_period`](Self::with_grace_period).
    #[must_use]
    pub fn grace_period(self, grace: Duration) -> Self {
        Self { grace: Some(grace), ..self }
    }
}

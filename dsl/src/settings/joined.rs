//! What a join of a stream with a table is told.

use super::ChosenSerde;
use crate::DefaultSerde;
use headwater_core::serde::SharedSerde;
use std::{fmt, time::Duration};

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

    /// Has the stream's records written so, in the repartition topic above the join if it has one, and where they wait for a grace,
    /// instead of as the stream is known to be written or by the defaults of its types, which there need not be. It is told last.
    ///
    /// ```
    /// use headwater_core::serde::{Json, for_type};
    /// use headwater_dsl::{Joined, StreamsBuilder};
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::sync::Arc;
    ///
    /// let builder = StreamsBuilder::new();
    /// let owners = builder.table::<String, String>("owners");
    /// let fines = builder.stream::<i64, i64>("fines").map(|car, fine| (format!("car-{car}"), fine));
    /// let as_text = Joined::named("fined").with_serdes(for_type(), Arc::new(Json));
    /// fines.join(owners.joined(as_text), |fine, owner| format!("{owner} owes {fine}")).to("letters");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.pipe::<String, String>("owners", "car-7=Ada@1")?;
    /// driver.pipe::<i64, i64>("fines", "7=30@2")?;
    /// assert_eq!(driver.output_topic::<String, String>("letters").read_value()?.unwrap(), "Ada owes 30");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_serdes<K, V>(
        self,
        keys: SharedSerde<K>,
        values: SharedSerde<V>,
    ) -> JoinedWith<K, V> {
        let (keys, values) = (ChosenSerde::given(keys), ChosenSerde::given(values));
        JoinedWith { settings: self, keys, values }
    }
}

/// A [`Joined`] and how the stream's records are written: by serdes that were given, or by the defaults of their types, where a
/// `Joined` was.
///
/// Example: [`Joined::with_serdes`].
pub struct JoinedWith<K, V> {
    pub(crate) settings: Joined,
    pub(crate) keys: ChosenSerde<K>,
    pub(crate) values: ChosenSerde<V>,
}

impl<K, V> fmt::Debug for JoinedWith<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (keys, values) = (self.keys.schema(), self.values.schema());
        write!(f, "JoinedWith({:?}, {keys}, {values})", self.settings)
    }
}

impl<K: DefaultSerde, V: DefaultSerde> From<Joined> for JoinedWith<K, V> {
    fn from(settings: Joined) -> Self {
        Self { settings, keys: ChosenSerde::default(), values: ChosenSerde::default() }
    }
}

//! The store of a table.

use std::time::Duration;

/// How a table is kept: the name of its store, and whether updates are held back until the commit.
///
/// Wherever one is taken, a name alone will do:
///
/// ```
/// use headwater_dsl::{Materialized, StreamsBuilder};
/// use headwater_testkit::TopologyTestDriver;
///
/// let builder = StreamsBuilder::new();
/// let speeds = builder.stream::<String, i64>("speeds").group_by_key();
/// let uncached = Materialized::named("sums").with_caching_disabled();
/// let _counts = speeds.count("counts");
/// speeds.reduce(|a, b| a + b, uncached).to_stream().to("out");
///
/// let driver = TopologyTestDriver::new(builder.build()?)?;
/// let speeds = driver.input_topic::<String, i64>("speeds");
/// speeds.pipe_input("car".into(), 120, 1)?;
/// speeds.pipe_input("car".into(), 150, 2)?;
/// let read = driver.output_topic::<String, i64>("out").read_records_to_list()?;
/// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
/// assert_eq!(read, [120, 270]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Materialized {
    pub(crate) name: Option<String>,
    pub(crate) caching: Caching,
    pub(crate) retention: Option<Duration>,
    /// How far back versions are kept, if they are.
    pub(crate) history: Option<Duration>,
    pub(crate) logging: bool,
    /// How long a row lives, if not until it is deleted.
    pub(crate) ttl: Option<Duration>,
}

/// Whether updates of a store are held back until the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caching {
    On,
    Off,
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
        Self { caching: Caching::Off, ..self }
    }

    /// Gives the store no changelog: it commits as others do, but is empty once its state is lost, or is of an earlier commit
    /// than the log's last one, as after a kill.
    ///
    /// All stores of a task that have no changelog are empty then.
    ///
    /// ```
    /// use headwater_dsl::{Materialized, StreamsBuilder};
    /// use headwater_testkit::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let unlogged = Materialized::named("counts").with_logging_disabled();
    /// builder.stream::<String, i64>("in").group_by_key().count(unlogged).to_stream().to("out");
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.pipe::<String, i64>("in", "a=1@1")?;
    /// driver.restart()?;
    /// driver.pipe::<String, i64>("in", "a=1@2")?;
    /// driver.crash();
    /// driver.lose_state();
    /// driver.restart()?;
    /// driver.pipe::<String, i64>("in", "a=1@3")?;
    /// assert_eq!(driver.read::<String, i64>("out")?, "a=1@1 a=2@2 a=1@3");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_logging_disabled(self) -> Self {
        Self { logging: false, ..self }
    }

    /// Keeps each window for `retention` after its start, cut to whole ms: closed ones can then be looked up for longer.
    ///
    /// They take no more records than they would. Without it, and at the least, windows are kept until they close, their size and
    /// grace after their start.
    ///
    /// Tables without windows keep their rows until they are deleted.
    #[must_use]
    pub fn with_retention(self, retention: Duration) -> Self {
        Self { retention: Some(retention), ..self }
    }
}

impl Materialized {
    /// Keeps the versions of each key as far back as `history`, cut to whole ms and counted from the largest timestamp of any
    /// key.
    ///
    /// A stream that is joined with such a table finds what was valid at the time of its record. Tables of topics and of streams
    /// ([`to_table`](crate::KStream::to_table)), aggregations without windows, what is
    /// [`materialized`](crate::KTable::materialized), and results of [`transform_values`](crate::KTable::transform_values) and of
    /// foreign-key joins keep versions; updates are then forwarded at once, with caching or without.
    ///
    /// ```
    /// use headwater_dsl::{Materialized, StreamsBuilder};
    /// use headwater_engine::topology::Consumed;
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::time::Duration;
    ///
    /// let builder = StreamsBuilder::new();
    /// let hour = Materialized::named("prices").versioned(Duration::from_secs(3_600));
    /// let prices = builder.table_with("prices", Consumed::<String, i64>::default(), hour);
    /// let orders = builder.stream::<String, i64>("orders");
    /// orders.join(&prices, |count, price| count * price).to("sums");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// let prices = driver.input_topic::<String, i64>("prices");
    /// prices.pipe_input("tea".into(), 3, 10)?;
    /// prices.pipe_input("tea".into(), 4, 20)?;
    /// let orders = driver.input_topic::<String, i64>("orders");
    /// orders.pipe_input("tea".into(), 2, 15)?;
    /// orders.pipe_input("tea".into(), 2, 25)?;
    /// let read = driver.output_topic::<String, i64>("sums").read_records_to_list()?;
    /// let read: Vec<_> = read.into_iter().map(|r| r.value).collect();
    /// assert_eq!(read, [6, 8]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn versioned(self, history: Duration) -> Self {
        Self { history: Some(history), ..self }
    }

    /// Deletes a row once time is `ttl` past it, unless a newer record of its key comes before.
    ///
    /// `ttl` is cut to whole ms, and is at least one. The deletion is forwarded, once, with the moment that the row was to live
    /// to as its timestamp, so that joins and aggregations below take it like any other.
    ///
    /// Time is that of the records: the largest timestamp of any key in the partition, or below a repartition the time that is
    /// carried there. It is committed, so that a restart makes nothing live longer. A record that is so old when it comes is
    /// dropped and counted as late; one that the table refuses lets nothing live longer.
    ///
    /// Where a later version of a topology has a time to live that its store did not have before, rows that are there by then
    /// are deleted only once they have been refreshed. Tables of topics and of streams ([`to_table`](crate::KStream::to_table))
    /// have it.
    ///
    /// ```
    /// use headwater_dsl::{Materialized, StreamsBuilder};
    /// use headwater_engine::topology::Consumed;
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::time::Duration;
    ///
    /// let builder = StreamsBuilder::new();
    /// let kept = Materialized::named("online").with_ttl(Duration::from_millis(10));
    /// let online = builder.table_with("seen", Consumed::<String, i64>::default(), kept);
    /// online.to_stream().to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.check::<String, i64, String, Option<i64>>(
    ///     "seen",
    ///     "a=1@0 b=1@5 a=2@8 b=3@16",
    ///     "out",
    ///     "a=1@0 b=1@5 a=2@8 b=∅@15 b=3@16",
    /// )?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_ttl(self, ttl: Duration) -> Self {
        Self { ttl: Some(ttl), ..self }
    }
}

impl Default for Materialized {
    /// In a store with a counted name, with updates held back until the commit.
    fn default() -> Self {
        Self {
            name: None,
            caching: Caching::On,
            retention: None,
            history: None,
            logging: true,
            ttl: None,
        }
    }
}

impl From<&str> for Materialized {
    fn from(name: &str) -> Self {
        Self::named(name)
    }
}

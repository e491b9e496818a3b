//! What an operator that makes calls is told.

use super::ChosenSerde;
use crate::DefaultSerde;
use headwater_core::serde::SharedSerde;
use std::fmt;

/// How many calls may be under way at once in each task, and what the operator is called; a number alone will do. See
/// [`KStream::map_async`](crate::KStream::map_async).
///
/// ```
/// use headwater_dsl::AsyncCalls;
///
/// assert_eq!(AsyncCalls::at_most(16), 16.into());
/// assert_ne!(AsyncCalls::at_most(16).with_name("lookups"), 16.into());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsyncCalls {
    pub(crate) calls_max: usize,
    pub(crate) name: Option<String>,
}

impl AsyncCalls {
    /// So many, at least one.
    #[must_use]
    pub fn at_most(calls: usize) -> Self {
        Self { calls_max: calls.max(1), name: None }
    }

    /// The same under this name, which its store, `<name>-calls-store`, has its own from.
    #[must_use]
    pub fn with_name(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }

    /// Has the rows that wait for their calls written so in its store, instead of as the stream is known to be written or by the
    /// defaults of their types, which there need not be. It is told last.
    ///
    /// ```
    /// use headwater_core::serde::{Json, for_type};
    /// use headwater_dsl::{AsyncCalls, StreamsBuilder};
    /// use headwater_testkit::TopologyTestDriver;
    /// use std::sync::Arc;
    ///
    /// let builder = StreamsBuilder::new();
    /// let speeds = builder.stream::<String, i64>("speeds");
    /// let as_text = AsyncCalls::at_most(16).with_serdes(for_type(), Arc::new(Json));
    /// let refused = |_: String, _: i64| async move { Err::<i64, _>("too fast") };
    /// speeds.map_values_async(as_text, refused).to("out");
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?)?;
    /// driver.pipe::<String, i64>("speeds", "a=500@1")?;
    /// // The letter has the row as it was kept.
    /// assert_eq!(driver.dead_letters()?[0].value, "500");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_serdes<K, V>(
        self,
        keys: SharedSerde<K>,
        values: SharedSerde<V>,
    ) -> AsyncCallsWith<K, V> {
        let (keys, values) = (ChosenSerde::given(keys), ChosenSerde::given(values));
        AsyncCallsWith { settings: self, keys, values }
    }
}

impl From<usize> for AsyncCalls {
    fn from(calls: usize) -> Self {
        Self::at_most(calls)
    }
}

/// An [`AsyncCalls`] and how the rows that wait are written: by serdes that were given, or by the defaults of their types, where an
/// `AsyncCalls` or a number was.
///
/// Example: [`AsyncCalls::with_serdes`].
pub struct AsyncCallsWith<K, V> {
    pub(crate) settings: AsyncCalls,
    pub(crate) keys: ChosenSerde<K>,
    pub(crate) values: ChosenSerde<V>,
}

impl<K, V> fmt::Debug for AsyncCallsWith<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (keys, values) = (self.keys.schema(), self.values.schema());
        write!(f, "AsyncCallsWith({:?}, {keys}, {values})", self.settings)
    }
}

impl<K: DefaultSerde, V: DefaultSerde> From<AsyncCalls> for AsyncCallsWith<K, V> {
    fn from(settings: AsyncCalls) -> Self {
        Self { settings, keys: ChosenSerde::default(), values: ChosenSerde::default() }
    }
}

impl<K: DefaultSerde, V: DefaultSerde> From<usize> for AsyncCallsWith<K, V> {
    fn from(calls: usize) -> Self {
        AsyncCalls::at_most(calls).into()
    }
}

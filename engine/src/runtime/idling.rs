//! How long is waited for partitions that are read to their end: settings.

use super::config::StreamsConfig;
use std::time::Duration;

impl StreamsConfig {
    /// Sets how long the records of a task that reads several partitions wait for one that is read to its end: what comes there
    /// meanwhile is taken in the order of timestamps.
    ///
    /// None is Kafka's -1.
    ///
    /// ```
    /// use headwater_engine::runtime::StreamsConfig;
    /// use std::time::Duration;
    ///
    /// let config = StreamsConfig::new("fleet").with_max_task_idle(Duration::from_millis(500));
    /// assert_eq!(config.max_task_idle, Some(Duration::from_millis(500)));
    /// assert_eq!(config.with_max_task_idle(None).max_task_idle, None);
    /// ```
    #[must_use]
    pub fn with_max_task_idle(mut self, at_most: impl Into<Option<Duration>>) -> Self {
        self.max_task_idle = at_most.into();
        self
    }

    /// Has a partition that has had no records for `timeout` hold no time back below a repartition, whatever is held of it.
    ///
    /// A partition that is read to its end holds no time back anyway, unless an operator above the repartition holds rows of it until
    /// its time moves: a window that is open, or a suppression. For as long as it is silent these rows hold the windows below the
    /// repartition open. With a timeout they do so no longer; what comes of them once the partition has records again, or has ended,
    /// is late there if time has passed it, and is dropped and counted as such. The time goes by the monotonic clock.
    ///
    /// ```
    /// use headwater_engine::runtime::StreamsConfig;
    /// use std::time::Duration;
    ///
    /// let config = StreamsConfig::new("fleet").with_source_idle_timeout(Duration::from_secs(60));
    /// assert_eq!(config.source_idle_timeout, Some(Duration::from_secs(60)));
    /// ```
    #[must_use]
    pub fn with_source_idle_timeout(mut self, timeout: Duration) -> Self {
        self.source_idle_timeout = Some(timeout);
        self
    }
}

//! How an application runs.

use headwater_core::dead_letter::BadRecord;
use std::time::Duration;

/// What a failure may do to results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProcessingGuarantee {
    /// Each record takes effect once: outputs, stores and offsets become visible in one atomic commit.
    #[default]
    ExactlyOnce,
    /// Outputs become visible as soon as they are made; after a failure some are made again.
    AtLeastOnce,
}

/// How an application runs; Kafka's names, safe defaults.
///
/// ```
/// use headwater_engine::runtime::StreamsConfig;
///
/// let config = StreamsConfig::new("fleet").with_num_stream_threads(4);
/// assert_eq!(config.application_id, "fleet");
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StreamsConfig {
    /// `application.id`: the consumer group, and the prefix of internal topics.
    pub application_id: String,
    /// `num.stream.threads`: 2 by default.
    pub num_stream_threads: usize,
    /// `processing.guarantee`: exactly-once by default.
    pub processing_guarantee: ProcessingGuarantee,
    /// `commit.interval.ms`: the longest time between commits, 100 ms by default.
    pub commit_interval: Duration,
    /// `statestore.cache.max.bytes`: what the stores' caches may hold after a commit, 50 MiB by default.
    pub statestore_cache_max_bytes: usize,
    /// The size of uncommitted output and state that makes a commit due, 32 MiB by default.
    pub commit_bytes_max: usize,
    /// What to do with bad records: dead letters by default.
    pub bad_record: BadRecord,
    /// The most rows in a batch: 2,048 by default.
    pub batch_rows_max: usize,
    /// Whether internal topics are synced before they are acknowledged; on by default.
    pub internal_durability: headwater_core::ports::log::Durability,
}

impl StreamsConfig {
    /// The defaults, for the application `application_id`.
    pub fn new(application_id: impl Into<String>) -> Self {
        Self {
            application_id: application_id.into(),
            num_stream_threads: 2,
            processing_guarantee: ProcessingGuarantee::default(),
            commit_interval: Duration::from_millis(100),
            statestore_cache_max_bytes: 50 << 20,
            commit_bytes_max: 32 << 20,
            bad_record: BadRecord::default(),
            batch_rows_max: 2048,
            internal_durability: headwater_core::ports::log::Durability::default(),
        }
    }

    /// Runs `threads` threads, at least one.
    #[must_use]
    pub fn with_num_stream_threads(mut self, threads: usize) -> Self {
        self.num_stream_threads = threads.max(1);
        self
    }

    /// Sets what a failure may do to results.
    #[must_use]
    pub fn with_processing_guarantee(mut self, guarantee: ProcessingGuarantee) -> Self {
        self.processing_guarantee = guarantee;
        self
    }

    /// Commits at least this often.
    #[must_use]
    pub fn with_commit_interval(mut self, interval: Duration) -> Self {
        self.commit_interval = interval;
        self
    }

    /// Lets the stores' caches hold this much after a commit.
    #[must_use]
    pub fn with_statestore_cache_max_bytes(mut self, bytes: usize) -> Self {
        self.statestore_cache_max_bytes = bytes;
        self
    }

    /// Sets what to do with bad records.
    #[must_use]
    pub fn with_bad_record(mut self, policy: BadRecord) -> Self {
        self.bad_record = policy;
        self
    }

    /// Takes at most this many rows in one batch, at least one.
    #[must_use]
    pub fn with_batch_rows_max(mut self, rows: usize) -> Self {
        self.batch_rows_max = rows.max(1);
        self
    }

    /// Sets when appends to changelogs, repartition topics and dead letters are acknowledged.
    #[must_use]
    pub fn with_internal_durability(
        mut self,
        durability: headwater_core::ports::log::Durability,
    ) -> Self {
        self.internal_durability = durability;
        self
    }
}

//! How a [`RocksDbState`](super::RocksDbState) is set up, and what that makes of RocksDB's own settings.

use headwater_core::{
    descriptors::share,
    memory::{MemoryBudget, Share},
    ports::log::{Log, LogError, LogId},
    time::{Clock, SystemClock},
};
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType,
    LogLevel, Options, WriteBufferManager, statistics::StatsLevel,
};
use std::{fmt, sync::Arc, time::Duration};

/// Puts the log on the disk; called before state goes there.
pub type BeforeFlush = Arc<dyn Fn() -> Result<(), LogError> + Send + Sync>;

/// The column family of the stores' entries; `default` holds the meta entries.
pub(super) const DATA: &str = "data";

const MIB: usize = 1 << 20;
/// A second's work or so to replay, in files large enough that few of them pile up.
const FLUSH_BYTES: usize = 32 * MIB;

/// How a [`RocksDbState`](super::RocksDbState) is set up.
///
/// ```
/// use headwater_state::RocksDbOptions;
/// use std::time::Duration;
///
/// let options = RocksDbOptions::default().memory_bytes(64 << 20).flush_interval(Duration::from_millis(500));
/// ```
#[derive(Clone)]
#[must_use = "options do nothing until a state is opened with them"]
pub struct RocksDbOptions {
    pub(super) log: Option<LogId>,
    pub(super) before_flush: Option<BeforeFlush>,
    pub(super) memory_bytes: usize,
    pub(super) spill_bytes: usize,
    pub(super) flush_bytes: usize,
    pub(super) flush_interval: Duration,
    pub(super) clock: Arc<dyn Clock>,
}

impl Default for RocksDbOptions {
    /// Within the budget of the process, on the machine's clock, flushed at 32 MiB or after 30 s; nothing is synced before.
    fn default() -> Self {
        let options = Self {
            log: None,
            before_flush: None,
            memory_bytes: 0,
            spill_bytes: 1,
            flush_bytes: 1,
            flush_interval: Duration::from_secs(30),
            clock: Arc::new(SystemClock::new()),
        };
        options.memory(&MemoryBudget::of_process())
    }
}

impl RocksDbOptions {
    /// Ties the state to `log`: another one is refused from now on, and it is synced before state reaches the disk, so that state
    /// is never ahead of it.
    ///
    /// Default: nothing is asked, and nothing synced.
    pub fn log(mut self, log: Arc<dyn Log>) -> Self {
        self.log = Some(log.id());
        self.before_flush(Arc::new(move || log.sync()))
    }

    /// Calls `before_flush` before state reaches the disk, in place of a log's sync.
    pub fn before_flush(mut self, before_flush: BeforeFlush) -> Self {
        self.before_flush = Some(before_flush);
        self
    }

    /// Keeps to its shares of a budget, by default of the [process's](MemoryBudget::of_process): caches and write buffers to
    /// one, commits not spilled yet to another.
    pub fn memory(self, budget: &MemoryBudget) -> Self {
        // Publishing waits at twice as many.
        let spill_bytes = (budget.share(Share::Unspilled) / 2).min(64 * MIB);
        self.memory_bytes(budget.share(Share::Database)).spill_bytes(spill_bytes)
    }

    /// The bytes for RocksDB's cache and write buffers together; default: a budget's share.
    ///
    /// Commits not spilled yet come on top. Sets [`flush_bytes`](Self::flush_bytes) to a quarter of them, at most 32 MiB.
    pub fn memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self.flush_bytes((bytes / 4).min(FLUSH_BYTES))
    }

    /// Spills when the commits in memory reach this many bytes; default: half a budget's share, at most 64 MiB.
    /// Publishing waits at twice as many.
    pub fn spill_bytes(mut self, bytes: usize) -> Self {
        self.spill_bytes = bytes.max(1);
        self
    }

    /// Puts commits on the disk when those that are not there reach this many bytes, over all applications: about what a restart
    /// after a crash replays from the changelogs.
    ///
    /// Default: 32 MiB, less where memory is short.
    pub fn flush_bytes(mut self, bytes: usize) -> Self {
        self.flush_bytes = bytes.max(1);
        self
    }

    /// Puts a commit on the disk at most about this long after it was published; default 30 s.
    pub fn flush_interval(mut self, interval: Duration) -> Self {
        self.flush_interval = interval;
        self
    }

    /// The clock that times the flushes; default: the machine's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The database's options and those of its column families.
    pub(super) fn rocksdb(&self) -> Result<(Options, [ColumnFamilyDescriptor; 2]), rocksdb::Error> {
        let cache = Cache::new_lru_cache(self.memory_bytes);
        // A commit that is not flushed is replayed from the changelog: closing is no time for a write of its own.
        let mut database =
            Options::default().get_options_from_string("avoid_flush_during_shutdown=true")?;
        database.create_if_missing(true);
        database.create_missing_column_families(true);
        database.set_atomic_flush(true);
        database.set_max_background_jobs(2);
        database.set_max_open_files(i32::try_from(share(4, 512)).unwrap_or(512));
        database.set_log_level(LogLevel::Warn);
        database.set_keep_log_file_num(2);
        database.set_max_log_file_size(MIB);
        database.set_stats_dump_period_sec(0);
        database.set_stats_persist_period_sec(0);
        // Counters alone: times and distributions would cost each read a look at the clock.
        database.enable_statistics();
        database.set_statistics_level(StatsLevel::ExceptHistogramOrTimers);
        // Never stalls a writer: the spill thread bounds what is unflushed, this only counts it against the cache.
        let buffers = WriteBufferManager::new_write_buffer_manager_with_cache(
            self.memory_bytes.max(self.write_buffer_bytes()),
            false,
            cache.clone(),
        );
        database.set_write_buffer_manager(&buffers);
        let meta =
            ColumnFamilyDescriptor::new(rocksdb::DEFAULT_COLUMN_FAMILY_NAME, self.family(&cache));
        let data = ColumnFamilyDescriptor::new(DATA, self.family(&cache));
        Ok((database, [meta, data]))
    }

    /// What a flush finds at most: spills up to the bound, one more, and what RocksDB adds to each entry.
    fn write_buffer_bytes(&self) -> usize {
        self.spill_bytes.max(self.flush_bytes).saturating_mul(4)
    }

    fn family(&self, cache: &Cache) -> Options {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(cache);
        table.set_block_size(8 << 10);
        table.set_bloom_filter(10.0, false);
        table.set_whole_key_filtering(true);
        table.set_optimize_filters_for_memory(true);
        // Indexes and filters count against the budget too, in pieces: the filter of a whole file of small keys is as large
        // as a shard of the cache, and would be read and checked anew for almost every batch of look-ups.
        table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        table.set_partition_filters(true);
        table.set_metadata_block_size(8 << 10);
        table.set_cache_index_and_filter_blocks(true);
        table.set_cache_index_and_filter_blocks_with_high_priority(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        let mut family = Options::default();
        family.set_block_based_table_factory(&table);
        family.set_compression_type(DBCompressionType::Lz4);
        // Large enough that only the spill thread flushes; a flush of RocksDB's own would do no harm, see `spill`.
        family.set_write_buffer_size(self.write_buffer_bytes().max(16 * MIB));
        family.set_arena_block_size(MIB / 4);
        family.set_max_write_buffer_number(4);
        family
    }
}

impl fmt::Debug for RocksDbOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksDbOptions")
            .field("log", &self.log)
            .field("syncs_log", &self.before_flush.is_some())
            .field("memory_bytes", &self.memory_bytes)
            .field("spill_bytes", &self.spill_bytes)
            .field("flush_bytes", &self.flush_bytes)
            .field("flush_interval", &self.flush_interval)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_it_keeps_to_the_budget_of_the_process() {
        let budget = MemoryBudget::of_process();
        let options = RocksDbOptions::default();
        assert_eq!(options.memory_bytes, budget.share(Share::Database));
        assert!(2 * options.spill_bytes <= budget.share(Share::Unspilled));
    }

    #[test]
    fn a_state_of_any_size_and_interval_opens() {
        for size in [0, 1, usize::MAX - 1, usize::MAX] {
            for interval in [Duration::ZERO, Duration::MAX] {
                let directory = tempfile::TempDir::new().unwrap();
                let options = RocksDbOptions::default().memory_bytes(size).spill_bytes(size);
                let options = options.flush_bytes(size).flush_interval(interval);
                let state = super::super::RocksDbState::open(directory.path(), options);
                let state = state.unwrap_or_else(|e| panic!("{size}, {interval:?}: {e}"));
                headwater_core::ports::state::State::flush(&state).unwrap();
            }
        }
    }

    #[test]
    fn a_small_budget_flushes_sooner() {
        let flush_bytes = |memory| RocksDbOptions::default().memory_bytes(memory).flush_bytes;
        assert_eq!(flush_bytes(1 << 30), 32 * MIB);
        assert_eq!(flush_bytes(8 * MIB), 2 * MIB);
    }
}

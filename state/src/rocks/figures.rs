//! What the database tells of itself, under the names that Kafka Streams has for RocksDB's figures.

use super::core::Core;
use headwater_core::ports::state::StateFigure;
use rocksdb::{Options, properties, statistics::Ticker};

/// Properties of the stores' column family: Kafka's name, RocksDB's, what it is.
const PROPERTIES: &[(&str, &properties::PropName, &str)] = &[
    (
        "live_sst_files_size",
        properties::LIVE_SST_FILES_SIZE,
        "Bytes of the files that hold the newest version of the stores.",
    ),
    (
        "total_sst_files_size",
        properties::TOTAL_SST_FILES_SIZE,
        "Bytes of all files of the stores on the disk.",
    ),
    ("estimate_num_keys", properties::ESTIMATE_NUM_KEYS, "About how many keys the stores have."),
    (
        "cur_size_active_mem_table",
        properties::CUR_SIZE_ACTIVE_MEM_TABLE,
        "Bytes of the write buffer that is being filled.",
    ),
    (
        "cur_size_all_mem_tables",
        properties::CUR_SIZE_ALL_MEM_TABLES,
        "Bytes of the write buffers that are not flushed.",
    ),
    (
        "size_all_mem_tables",
        properties::SIZE_ALL_MEM_TABLES,
        "Bytes of all write buffers, pinned ones among them.",
    ),
    (
        "num_immutable_mem_table",
        properties::NUM_IMMUTABLE_MEM_TABLE,
        "Write buffers that wait for their flush.",
    ),
    ("mem_table_flush_pending", properties::MEM_TABLE_FLUSH_PENDING, "Whether a flush waits."),
    ("num_running_flushes", properties::NUM_RUNNING_FLUSHES, "Flushes that run."),
    ("compaction_pending", properties::COMPACTION_PENDING, "Whether a compaction waits."),
    ("num_running_compactions", properties::NUM_RUNNING_COMPACTIONS, "Compactions that run."),
    (
        "estimate_pending_compaction_bytes",
        properties::ESTIMATE_PENDING_COMPACTION_BYTES,
        "About how many bytes compactions have to rewrite.",
    ),
    (
        "num_live_versions",
        properties::NUM_LIVE_VERSIONS,
        "Versions of the set of files that are in use.",
    ),
    (
        "estimate_table_readers_mem",
        properties::ESTIMATE_TABLE_READERS_MEM,
        "Bytes that open files take beside the block cache.",
    ),
    (
        "block_cache_capacity",
        properties::BLOCK_CACHE_CAPACITY,
        "Bytes that the block cache may hold.",
    ),
    ("block_cache_usage", properties::BLOCK_CACHE_USAGE, "Bytes that the block cache holds."),
    (
        "block_cache_pinned_usage",
        properties::BLOCK_CACHE_PINNED_USAGE,
        "Bytes of the block cache that are in use.",
    ),
    ("background_errors", properties::BACKGROUND_ERRORS, "Errors of flushes and compactions."),
];

/// Counters: Kafka's name, RocksDB's, which are added up, and what they count.
const COUNTERS: &[(&str, &[Ticker], &str)] = &[
    ("bytes_written_total", &[Ticker::BytesWritten], "Bytes written to the stores."),
    (
        "bytes_read_total",
        &[Ticker::BytesRead, Ticker::NumberMultigetBytesRead, Ticker::IterBytesRead],
        "Bytes read from the stores.",
    ),
    (
        "memtable_bytes_flushed_total",
        &[Ticker::FlushWriteBytes],
        "Bytes that flushes have written to the disk.",
    ),
    (
        "write_stall_duration_total",
        &[Ticker::StallMicros],
        "For how long writes were stalled, in microseconds.",
    ),
    ("number_file_errors_total", &[Ticker::NoFileErrors], "Errors of files."),
];

/// Shares of what was found: Kafka's name, RocksDB's counters of hits and misses, and what it is a share of.
const RATIOS: &[(&str, Ticker, Ticker, &str)] = &[
    (
        "memtable_hit_ratio",
        Ticker::MemtableHit,
        Ticker::MemtableMiss,
        "The share of reads that write buffers answered.",
    ),
    (
        "block_cache_data_hit_ratio",
        Ticker::BlockCacheDataHit,
        Ticker::BlockCacheDataMiss,
        "The share of data blocks that the block cache had.",
    ),
    (
        "block_cache_index_hit_ratio",
        Ticker::BlockCacheIndexHit,
        Ticker::BlockCacheIndexMiss,
        "The share of index blocks that the block cache had.",
    ),
    (
        "block_cache_filter_hit_ratio",
        Ticker::BlockCacheFilterHit,
        Ticker::BlockCacheFilterMiss,
        "The share of filter blocks that the block cache had.",
    ),
];

#[expect(clippy::cast_precision_loss, reason = "figures are shown as they are")]
fn number(count: u64) -> f64 {
    count as f64
}

impl Core {
    /// All that can be had now.
    pub(super) fn figures(&self) -> Vec<StateFigure> {
        let property =
            |(name, property, help): &(&'static str, &properties::PropName, &'static str)| {
                let value = self.db.property_int_value_cf(self.data(), *property).ok().flatten()?;
                Some(StateFigure { name, is_total: false, help, value: number(value) })
            };
        let of = |settings: &Options, ticker: Ticker| number(settings.get_ticker_count(ticker));
        let counters = COUNTERS.iter().map(|(name, tickers, help)| {
            let value = tickers.iter().map(|ticker| of(&self.settings, *ticker)).sum();
            StateFigure { name, is_total: true, help, value }
        });
        let ratios = RATIOS.iter().filter_map(|(name, hits, misses, help)| {
            let (hits, misses) = (of(&self.settings, *hits), of(&self.settings, *misses));
            let all = hits + misses;
            (all > 0.0).then(|| StateFigure { name, is_total: false, help, value: hits / all })
        });
        PROPERTIES.iter().filter_map(property).chain(counters).chain(ratios).collect()
    }
}

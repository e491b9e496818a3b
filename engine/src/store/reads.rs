//! How often a store's cache had what it was asked for.

/// How often a store was asked for a key, by who could answer.
///
/// ```
/// use headwater_engine::store::CacheReads;
///
/// let reads = CacheReads { hits: 90, misses: 10 };
/// assert_eq!(reads.hits * 100 / (reads.hits + reads.misses), 90, "the hit ratio, in percent");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheReads {
    /// Its cache.
    pub hits: u64,
    /// The state.
    pub misses: u64,
}

impl CacheReads {
    /// So many keys were asked for, and so many of them were looked up in the state.
    pub(super) fn count(&mut self, asked: usize, misses: usize) {
        self.misses += misses as u64;
        self.hits += asked.saturating_sub(misses) as u64;
    }
}

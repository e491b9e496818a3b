//! One budget for what a process keeps in memory, handed out in shares.
//!
//! Runtimes and databases that are given no other keep to [the process's](MemoryBudget::of_process).
//!
//! | share | of 16 | who keeps to it |
//! |---|--:|---|
//! | [`Database`](Share::Database) | 6 | the database's cache and write buffers |
//! | [`Unspilled`](Share::Unspilled) | 2 | commits that the state has and its database has not |
//! | [`Caches`](Share::Caches) | 4 | operators' caches |
//! | [`Uncommitted`](Share::Uncommitted) | 2 | outputs and changes until the log has taken them; half of it makes a commit due |
//! | [`Exchange`](Share::Exchange) | 1 | records between sub-topologies, whose writers wait when they reach it |
//! | [`Batches`](Share::Batches) | 1 | records fetched and not yet taken |
//!
//! What tasks keep is divided by the number of tasks that exist; a part of a global store that a processor fills is one. With 4 GiB and 1,024 tasks:
//!
//! ```
//! use headwater_core::memory::{MemoryBudget, Share};
//!
//! let budget = std::sync::Arc::new(MemoryBudget::new(4 << 30));
//! let tasks = budget.add_tasks(1_024);
//! assert_eq!(budget.share(Share::Caches), 1 << 30);
//! assert_eq!(tasks.share(Share::Caches), 1 << 30);
//! let more = budget.add_tasks(1_024);
//! assert_eq!(tasks.share(Share::Caches), 1 << 29);
//! drop(more);
//! assert_eq!(tasks.share(Share::Caches), 1 << 30);
//! ```

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The budget of a machine that does not say how much memory it has.
const UNKNOWN_MACHINE: usize = 1 << 30;

/// What a part of a budget is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Share {
    /// The database's cache and write buffers.
    Database,
    /// Commits that the state has and its database has not.
    Unspilled,
    /// Operators' caches.
    Caches,
    /// Outputs and changes until the log has taken them.
    Uncommitted,
    /// Records between sub-topologies.
    Exchange,
    /// Records fetched and not yet taken.
    Batches,
}

impl Share {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Database,
        Self::Unspilled,
        Self::Caches,
        Self::Uncommitted,
        Self::Exchange,
        Self::Batches,
    ];

    const fn sixteenths(self) -> usize {
        match self {
            Self::Database => 6,
            Self::Unspilled | Self::Uncommitted => 2,
            Self::Caches => 4,
            Self::Exchange | Self::Batches => 1,
        }
    }
}

/// How much memory a process may keep: `memory.max`, by default a quarter of the machine.
#[derive(Debug)]
pub struct MemoryBudget {
    max: usize,
    /// Tasks that exist.
    tasks: AtomicUsize,
    /// What the caches of tasks hold, as last told.
    cached: AtomicUsize,
}

impl Default for MemoryBudget {
    /// A quarter of the machine's memory, or of what its control group allows.
    fn default() -> Self {
        Self::new(machine_bytes().map_or(UNKNOWN_MACHINE, |bytes| bytes / 4))
    }
}

impl MemoryBudget {
    /// Gives the budget of this process, with the default size: the same one each time.
    ///
    /// ```
    /// use headwater_core::memory::MemoryBudget;
    /// use std::sync::Arc;
    ///
    /// assert!(Arc::ptr_eq(&MemoryBudget::of_process(), &MemoryBudget::of_process()));
    /// ```
    #[must_use]
    pub fn of_process() -> Arc<Self> {
        static BUDGET: LazyLock<Arc<MemoryBudget>> = LazyLock::new(Arc::default);
        Arc::clone(&BUDGET)
    }

    /// A budget of `max` bytes.
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self { max, tasks: AtomicUsize::new(0), cached: AtomicUsize::new(0) }
    }

    /// Says how many bytes it has in all.
    #[must_use]
    pub const fn max(&self) -> usize {
        self.max
    }

    /// Says how many bytes a share has, over all tasks.
    #[must_use]
    pub const fn share(&self, share: Share) -> usize {
        self.max / 16 * share.sixteenths()
    }

    /// Says how many bytes the caches of all tasks hold, as last told by [`CachedBytes::set`].
    #[must_use]
    pub fn cached(&self) -> usize {
        self.cached.load(Relaxed)
    }

    /// Takes note of so many more tasks, until what is returned is dropped.
    #[must_use]
    pub fn add_tasks(self: &Arc<Self>, count: usize) -> TaskShares {
        self.tasks.fetch_add(count, Relaxed);
        TaskShares { budget: Arc::clone(self), count }
    }
}

/// What some tasks have of a budget.
#[derive(Debug)]
pub struct TaskShares {
    budget: Arc<MemoryBudget>,
    count: usize,
}

impl TaskShares {
    /// Says how many bytes these tasks have of a share now: it is divided evenly by all tasks that exist.
    #[must_use]
    pub fn share(&self, share: Share) -> usize {
        self.budget.share(share) / self.budget.tasks.load(Relaxed).max(1) * self.count
    }

    /// Says how many tasks they are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }
}

/// What some caches hold, counted in their budget until it is dropped.
#[derive(Debug)]
pub struct CachedBytes {
    budget: Arc<MemoryBudget>,
    bytes: usize,
}

impl CachedBytes {
    /// Nothing yet.
    #[must_use]
    pub fn of(budget: &Arc<MemoryBudget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Says how many bytes they held when that was last told.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Tells how many bytes they hold now.
    pub fn set(&mut self, bytes: usize) {
        self.budget.cached.fetch_add(bytes, Relaxed);
        self.budget.cached.fetch_sub(std::mem::replace(&mut self.bytes, bytes), Relaxed);
    }
}

impl Drop for CachedBytes {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Drop for TaskShares {
    fn drop(&mut self) {
        self.budget.tasks.fetch_sub(self.count, Relaxed);
    }
}

/// The memory of the machine, or of the control group that holds the process, if that is less.
fn machine_bytes() -> Option<usize> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let machine = line.trim().trim_end_matches(" kB").parse::<usize>().ok()?.checked_mul(1024)?;
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|max| max.trim().parse::<usize>().ok());
    Some(group.map_or(machine, |group| group.min(machine)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_together_never_exceed_the_budget() {
        for max in [0, 1, 15, 1 << 20, (4 << 30) + 17, usize::MAX] {
            let budget = MemoryBudget::new(max);
            let total: usize = Share::ALL.iter().map(|share| budget.share(*share)).sum();
            assert!(total <= max, "{total} of {max}");
        }
    }

    #[test]
    fn shares_of_tasks_never_exceed_that_of_all() {
        let budget = Arc::new(MemoryBudget::new(1 << 30));
        let tasks: Vec<_> = (1..40).map(|count| budget.add_tasks(count)).collect();
        for share in Share::ALL {
            let total: usize = tasks.iter().map(|tasks| tasks.share(share)).sum();
            assert!(total <= budget.share(share) && total > budget.share(share) * 9 / 10);
        }
    }

    #[test]
    fn the_default_is_a_part_of_the_machine() {
        let max = MemoryBudget::default().max();
        assert!(max >= 1 << 20, "{max}");
    }
}

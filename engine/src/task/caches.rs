//! How much each cache of some tasks may keep after a commit.
//!
//! Together they have so many bytes. As long as they hold no more, all keep what they have. After that, caches that were read since
//! the last commit come first, and no cache may keep more than a mark which leaves the rest to those that hold less. With 16 MiB:
//!
//! | store | holds, MiB | read | keeps, of 14 |
//! |---|--:|---|--:|
//! | a | 2 | yes | 2 |
//! | b | 8 | yes | 8: the mark is above |
//! | c | 9 | no, only written | 4 |
//!
//! An eighth is left free, so that there is room for some commits to come.

use super::Task;

/// What one cache holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CacheUse {
    bytes: usize,
    was_read: bool,
}

/// The most that a cache may keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CacheMarks {
    read: usize,
    unread: usize,
}

impl CacheMarks {
    /// For caches that may keep `bytes_max` together.
    pub(crate) fn of(caches: impl Iterator<Item = CacheUse>, bytes_max: usize) -> Self {
        let (read, unread): (Vec<_>, Vec<_>) = caches.partition(|cache| cache.was_read);
        let bytes = |caches: Vec<CacheUse>| -> Vec<usize> {
            caches.into_iter().map(|cache| cache.bytes).collect()
        };
        let (read, unread) = (bytes(read), bytes(unread));
        if read.iter().chain(&unread).sum::<usize>() <= bytes_max {
            return Self { read: usize::MAX, unread: usize::MAX };
        }
        let (read, left) = mark(read, bytes_max - bytes_max / 8);
        let (unread, _) = mark(unread, left);
        Self { read, unread }
    }

    fn of_cache(self, CacheUse { was_read, .. }: CacheUse) -> usize {
        if was_read { self.read } else { self.unread }
    }
}

/// The mark up to which all may keep what they hold, so that they keep `bytes_max` together, and what is left of that.
fn mark(mut bytes: Vec<usize>, bytes_max: usize) -> (usize, usize) {
    bytes.sort_unstable();
    let (mut left, mut caches) = (bytes_max, bytes.len());
    for bytes in bytes {
        let share = left / caches;
        if bytes > share {
            return (share, 0);
        }
        (left, caches) = (left - bytes, caches - 1);
    }
    (usize::MAX, left)
}

impl Task {
    /// What its caches hold, and which of them were read since the last call.
    pub(crate) fn cache_uses(&mut self) -> Vec<CacheUse> {
        let stores = self.resources.stores.iter_mut();
        let uses = stores
            .map(|store| CacheUse { bytes: store.size_bytes(), was_read: store.take_was_read() });
        uses.collect()
    }

    /// What its caches hold.
    pub(crate) fn cached_bytes(&self) -> usize {
        self.resources.stores.iter().map(|store| store.size_bytes()).sum()
    }

    /// Commit `epoch` can be read from the state: caches, which hold what `uses` says, may shrink to `marks`. Says what they hold then.
    pub(crate) fn published(&mut self, epoch: u64, uses: &[CacheUse], marks: CacheMarks) -> usize {
        for (store, cache) in self.resources.stores.iter_mut().zip(uses) {
            store.published(epoch, marks.of_cache(*cache));
        }
        self.cached_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(caches: &[(usize, bool)], bytes_max: usize) -> (usize, usize) {
        let caches =
            caches.iter().map(|(bytes, was_read)| CacheUse { bytes: *bytes, was_read: *was_read });
        let CacheMarks { read, unread } = CacheMarks::of(caches, bytes_max);
        (read, unread)
    }

    #[test]
    fn all_is_kept_that_has_room() {
        assert_eq!(marks(&[], 0), (usize::MAX, usize::MAX));
        assert_eq!(marks(&[(10, true), (6, false)], 16), (usize::MAX, usize::MAX));
    }

    #[test]
    fn those_that_hold_little_leave_the_rest_to_others() {
        assert_eq!(marks(&[(20, true), (2, true), (30, true)], 16).0, 6);
        assert_eq!(marks(&[(20, true), (20, true)], 16).0, 7);
        assert_eq!(marks(&[(20, true), (20, true)], 0).0, 0);
    }

    #[test]
    fn those_that_nobody_reads_go_first() {
        assert_eq!(marks(&[(2, true), (8, true), (9, false)], 16), (usize::MAX, 4));
        assert_eq!(marks(&[(20, true), (9, false)], 16), (14, 0));
        assert_eq!(marks(&[(20, false)], 16), (usize::MAX, 14));
    }
}

//! How many files a process may have open, of which each part takes a share.
//!
//! | part | of 16 | at most |
//! |---|--:|--:|
//! | segments of a log | 4 | 256 |
//! | tables of a database | 4 | 512 |
//! | files that a sink writes, each sink | 1 | 64 |
//! | clients that read an application's metrics | 1 | 64 |
//!
//! What is left is for journals, directories that are synced, sockets and the program itself.

use rustix::process::{Resource, getrlimit};

/// Says how many files this process may have open: the soft limit, as `ulimit -n` shows it.
#[must_use]
pub fn open_max() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX)
}

/// Says how many files a part may have open that has `sixteenths` of the limit and needs no more than `at_most`.
///
/// ```
/// use headwater_core::descriptors::{open_max, share};
///
/// assert_eq!(share(4, 1), 1);
/// assert!(share(4, 256) <= open_max().max(1));
/// ```
#[must_use]
pub fn share(sixteenths: usize, at_most: usize) -> usize {
    (open_max() / 16).saturating_mul(sixteenths).min(at_most).max(1)
}
